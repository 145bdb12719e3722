//! Frees once more what was taken back from a page's remote list: any thread may look for memory to give back there, and the
//! page's owner need not wake for it.

use super::shared_line::{RemotePage, conclude};
use crate::free_list::remote::{DoubleFree, Drained};
use std::ptr::NonNull;

/// Puts back what the caller took back from a page by [`RemoteList::take_back`]: as if all of it were freed just now. Where every
/// block of the page is free by it, the caller discards the contents by `discard`. What this returns is
/// [`super::shared_line::RemoteFree::serve`].
///
/// # Safety
/// The blocks are the caller's, who gives them up; with holes, they have 16 bytes or more.
pub unsafe fn put_back<P: RemotePage>(
    page: &P,
    blocks: Drained,
    discard: impl FnOnce(),
) -> Result<Option<NonNull<P::Heap>>, DoubleFree> {
    let shared = page.shared();
    shared.enter();
    // SAFETY: passed on.
    let pushed = unsafe {
        shared
            .remote()
            .put_back(shared.start(), blocks, shared.capacity())
    }?;
    // SAFETY: as in `remote_free`.
    Ok(unsafe { conclude(page, pushed, discard) })
}

#[cfg(all(test, loom))]
mod model {
    use crate::free_list::news::Leased;
    use crate::free_list::remote::RemoteWord;
    use crate::page::model::{World, check};
    use crate::page::shared_line::RemotePage;
    use std::sync::Arc;

    /// Two of three blocks are freed and not drained.
    fn sparse_world() -> Arc<World> {
        let world = World::with_blocks(3);
        world.page.free(0, false);
        world.page.free(1, false);
        world
    }

    fn thin(world: &Arc<World>) -> loom::thread::JoinHandle<()> {
        let world = world.clone();
        loom::thread::spawn(move || world.page.thin())
    }

    /// The first two blocks are on the local list or in holes, each once, and nothing is left to settle.
    fn check_sparse(world: &World) {
        assert!(world.heaps[0].news().is_empty());
        assert!(world.page.shared().remote().peek() == RemoteWord::IDLE);
        // SAFETY: the caller holds the heap; loom checks.
        let sunk = unsafe { world.page.owned().holes.get() };
        let mut free = world.page.local();
        free.extend(
            (0..3)
                .filter(|index| sunk >> index & 1 == 1)
                .map(|index| world.page.block(index)),
        );
        free.sort();
        assert_eq!(free, [world.page.block(0), world.page.block(1)]);
    }

    #[test]
    fn a_page_is_thinned_while_its_owner_settles() {
        check(4, || {
            let world = sparse_world();
            let thinner = thin(&world);
            world.heaps[0].serve();
            thinner.join().unwrap();
            world.heaps[0].serve();
            check_sparse(&world);
        });
    }

    #[test]
    fn a_page_is_thinned_while_its_owner_leaves() {
        check(4, || {
            let world = sparse_world();
            let thinner = thin(&world);
            world.heaps[0].serve_and_leave();
            thinner.join().unwrap();
            assert!(world.heaps[0].news().try_lease());
            check_sparse(&world);
        });
    }

    #[test]
    fn two_threads_thin_a_page() {
        check(4, || {
            let world = sparse_world();
            let other = thin(&world);
            world.page.thin();
            other.join().unwrap();
            world.heaps[0].serve();
            check_sparse(&world);
        });
    }

    /// Whoever is last finds all of the page free, and discards it.
    #[test]
    fn the_last_block_is_freed_while_the_page_is_thinned() {
        check(4, || {
            let world = sparse_world();
            let thinner = thin(&world);
            world.page.free(2, true);
            thinner.join().unwrap();
            world.heaps[0].serve();
            assert!(world.heaps[0].news().is_empty());
            // SAFETY: this thread holds the heap; loom checks.
            let carved = unsafe { world.page.owned().carved.get() };
            assert_eq!((carved, world.page.local().len()), (0, 0));
            world.page.write_blocks();
        });
    }

    /// The owner drains its current page in place, and hands a block out that comes back.
    #[test]
    fn a_page_is_thinned_while_its_owner_drains_in_place() {
        check(4, || {
            let world = sparse_world();
            let thinner = thin(&world);
            if let Some(list) = world.page.drain() {
                world.page.settle_list(list);
            }
            thinner.join().unwrap();
            world.heaps[0].serve();
            check_sparse(&world);
        });
    }
}
