//! The half of a page's descriptor that any thread may read and that freeing threads write.

use crate::free_list::Block;
use crate::free_list::news::{Announced, Leased, News};
use crate::free_list::remote::{DoubleFree, Pushed, RemoteList, RemoteWord};
use crate::page::in_flight::{self, InFlight};
use crate::size_class::BinOffset;
use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::ptr::{self, NonNull};

/// What a slice is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Free, not ours, or not the first slice of what it belongs to.
    None = 0,
    /// The head of a page of blocks of one size class, owned by a heap.
    Binned = 1,
    /// One block in slices of an arena. Nobody's: whoever frees it releases the slices.
    Large = 2,
    /// One block in a mapping of its own.
    Huge = 3,
}

impl Kind {
    fn from_bits(bits: u32) -> Self {
        match bits {
            1 => Self::Binned,
            2 => Self::Large,
            3 => Self::Huge,
            _ => Self::None,
        }
    }
}

/// One cache line per slice. All zero is a slice that isn't in use.
#[repr(C, align(64))]
pub struct SharedLine<P: RemotePage> {
    /// The heap whose lease is needed for the owner's line; null unless `Binned`.
    /// Written under the source heap's lease and the page's token.
    owner: AtomicPtr<P::Heap>,
    /// Any thread.
    remote: RemoteList,
    /// The holder of the page's token.
    news_next: AtomicPtr<P>,
    /// Const after init: the first byte of the page.
    start: AtomicPtr<u8>,
    /// Const after init, except for the holder of a large or huge block that grows: the bytes of one block.
    block_bytes: AtomicUsize,
    /// Const after init: blocks in the page.
    capacity: AtomicU32,
    /// Const after init, in the page's other slices: the distance back to the head's descriptor in bytes.
    head_distance: AtomicU32,
    /// Const after init; written with Release, so that who reads it with Acquire may trust the fields above.
    kind: AtomicU32,
    /// Const after init: the arena that the slices belong to.
    arena: AtomicU32,
    /// Const after init, in all slices of a page: where the bin of its class lies in any heap.
    bin: AtomicU32,
    /// Any thread. Debug builds only.
    in_flight: InFlight,
}

/// A page that other threads free into.
pub trait RemotePage: Announced + Sized {
    /// The heaps that own such pages.
    type Heap: Leased<Page = Self>;

    /// The page's shared line.
    fn shared(&self) -> &SharedLine<Self>;
}

/// What makes a slice the head of a page.
#[derive(Clone, Copy)]
pub struct Identity {
    /// The use.
    pub kind: Kind,
    /// The page's first byte.
    pub start: NonNull<u8>,
    /// Bytes of one block.
    pub block_bytes: usize,
    /// Blocks in the page.
    pub capacity: u32,
    /// The bin of the class, or none.
    pub bin: BinOffset,
    /// The arena's number.
    pub arena: u32,
}

impl<P: RemotePage> SharedLine<P> {
    /// A line as zeroed memory has it.
    #[cfg(loom)]
    pub fn unused() -> Self {
        Self {
            owner: AtomicPtr::new(ptr::null_mut()),
            remote: RemoteList::new(),
            news_next: AtomicPtr::new(ptr::null_mut()),
            start: AtomicPtr::new(ptr::null_mut()),
            block_bytes: AtomicUsize::new(0),
            capacity: AtomicU32::new(0),
            head_distance: AtomicU32::new(0),
            kind: AtomicU32::new(0),
            arena: AtomicU32::new(0),
            bin: AtomicU32::new(0),
            in_flight: InFlight::new(),
        }
    }

    /// Makes this the head of a page, owned by `owner` (null for blocks that nobody owns).
    pub fn register(&self, identity: Identity, owner: *mut P::Heap) {
        // Relaxed throughout: published by the Release at the end to whoever looks the kind up, and by the program's
        // own synchronisation to whoever is handed a block.
        self.remote.reset();
        self.start.store(identity.start.as_ptr(), Ordering::Relaxed);
        self.block_bytes
            .store(identity.block_bytes, Ordering::Relaxed);
        self.capacity.store(identity.capacity, Ordering::Relaxed);
        self.arena.store(identity.arena, Ordering::Relaxed);
        self.bin.store(identity.bin.bits(), Ordering::Relaxed);
        self.owner.store(owner, Ordering::Relaxed);
        // Pairs with the Acquire of `kind`.
        self.kind.store(identity.kind as u32, Ordering::Release);
    }

    /// Ends the page's life, before its slices are released or its mapping goes.
    pub fn unregister(&self) {
        // Relaxed: nobody has a block of the page, so only look-ups of stray addresses race with this.
        self.owner.store(ptr::null_mut(), Ordering::Relaxed);
        self.bin.store(BinOffset::NONE.bits(), Ordering::Relaxed);
        // Pairs with the Acquire of `kind`: a look-up that sees it has nothing to trust.
        self.kind.store(Kind::None as u32, Ordering::Release);
    }

    /// Marks a slice as `distance` bytes of descriptors behind the head of its page, whose class has this bin; 0 and
    /// none take the mark back.
    #[inline]
    pub fn mark(&self, distance: u32, bin: BinOffset) {
        // Relaxed: as in `register`.
        self.head_distance.store(distance, Ordering::Relaxed);
        self.bin.store(bin.bits(), Ordering::Relaxed);
    }

    /// The distance back to the head's descriptor in bytes.
    #[inline(always)]
    pub fn head_distance(&self) -> u32 {
        // Relaxed: whoever has a block of the page was handed it after `register`.
        self.head_distance.load(Ordering::Relaxed)
    }

    /// The owning heap; null for what nobody owns. It can change at any time unless the caller holds the owner's
    /// lease or the page's token, but never from or to a heap whose lease the caller holds.
    #[inline(always)]
    pub fn owner(&self) -> *mut P::Heap {
        // Relaxed: compared with one's own heap, whose pages only oneself re-owns; a first pusher reads it after its
        // Acquire of the word.
        self.owner.load(Ordering::Relaxed)
    }

    /// Gives the page to another heap. The caller holds the old owner's lease and the page's token.
    pub fn set_owner(&self, owner: *mut P::Heap) {
        // Relaxed: `RemoteList::settle` publishes it with Release before the token is back.
        self.owner.store(owner, Ordering::Relaxed);
    }

    /// The use of the slice.
    #[inline]
    pub fn kind(&self) -> Kind {
        // Pairs with the Release of `register` and `unregister`.
        Kind::from_bits(self.kind.load(Ordering::Acquire))
    }

    /// The remote list.
    #[inline(always)]
    pub fn remote(&self) -> &RemoteList {
        &self.remote
    }

    /// Who is freeing into the page remotely right now.
    #[cfg(all(debug_assertions, not(loom)))]
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Before a push onto the remote list; [`conclude`] ends it.
    pub(super) fn enter(&self) {
        self.in_flight.enter();
    }

    /// The link of the news stack.
    #[inline(always)]
    pub fn news_next(&self) -> &AtomicPtr<P> {
        &self.news_next
    }

    /// The page's first byte.
    #[inline(always)]
    pub fn start(&self) -> *mut u8 {
        // Relaxed, as the fields below: const while anyone has a block of the page.
        self.start.load(Ordering::Relaxed)
    }

    /// The bytes of one block.
    #[inline(always)]
    pub fn block_bytes(&self) -> usize {
        self.block_bytes.load(Ordering::Relaxed)
    }

    /// Notes that the only block of a large or huge page has another size. Only by the block's owner.
    pub fn set_block_bytes(&self, bytes: usize) {
        self.block_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The number of blocks.
    #[inline(always)]
    pub fn capacity(&self) -> u32 {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Where the bin of the page's class lies in any heap; [`BinOffset::NONE`] for large and huge blocks, and for what
    /// is no page any more.
    #[inline(always)]
    pub fn bin(&self) -> BinOffset {
        BinOffset::from_bits(self.bin.load(Ordering::Relaxed))
    }

    /// The arena's number.
    pub fn arena(&self) -> u32 {
        self.arena.load(Ordering::Relaxed)
    }
}

/// Moves a page from one heap to another, where it is settled like news; the caller holds both. False, with nothing
/// changed, if a first pusher was quicker: it has announced the page to the old owner, or will, and there it stays.
///
/// `detach` takes the page out of the old owner's queues.
pub fn hand_over<P: RemotePage>(page: &P, to: &P::Heap, detach: impl FnOnce()) -> bool {
    // The token, so that nobody announces the page to either heap meanwhile.
    if !page.shared().remote.claim() {
        return false;
    }
    detach();
    page.shared().set_owner(ptr::from_ref(to).cast_mut());
    // As if it had been popped from the new owner's news: settling gives the token back, with what was pushed
    // meanwhile.
    // SAFETY: the caller holds the new owner's lease, and the token; a page in use is valid.
    unsafe { to.pending().add(ptr::from_ref(page).cast_mut()) };
    to.serve();
    true
}

/// Takes the lease of a page's heap, if nobody holds it: then a free into the page is cheaper as its holder's than announced.
/// Never waits.
///
/// # Safety
/// The caller has a live block of the page, and doesn't hold its heap.
pub unsafe fn lease_owner<P: RemotePage>(page: &P) -> Option<NonNull<P::Heap>> {
    let owner = NonNull::new(page.shared().owner())?;
    // SAFETY: heaps are never unmapped.
    let heap = unsafe { owner.as_ref() };
    if heap.news().is_leased() || !heap.news().try_lease() {
        return None;
    }
    // Whoever gave the page to another heap held this one's lease then, so the lease tells what it is now.
    if page.shared().owner() != owner.as_ptr() {
        heap.unlease();
        return None;
    }
    Some(owner)
}

/// What a remote free did.
#[derive(Debug)]
pub struct RemoteFree<H> {
    /// Nobody held the page's owner: the caller holds its lease now and must serve it and give the lease up.
    /// Otherwise the owner knows of the page, or will be told by another thread.
    pub serve: Option<NonNull<H>>,
    /// Every block of the page is free now.
    pub filled: bool,
    /// It is, and its contents are still there.
    pub pinned: bool,
    /// With this block an eighth of the page's are in use, or on other lists; not fewer yet.
    pub sparse: bool,
}

/// What [`remote_free`] does in most cases, in as few instructions: for a page into which others freed before and that isn't
/// wholly free by this. The page's word after it; none, with nothing done, in other cases.
///
/// # Safety
/// As for [`remote_free`]; after none, the block is the caller's still.
#[inline(always)]
pub unsafe fn remote_free_among<P: RemotePage>(
    page: &P,
    block: NonNull<Block>,
) -> Option<RemoteWord> {
    let mut seen = page.shared().remote.peek();
    loop {
        // SAFETY: passed on.
        match unsafe { remote_free_onto(page, seen, block) } {
            Ok(word) => return Some(word),
            Err(Some(now)) => seen = now,
            Err(None) => return None,
        }
    }
}

/// As [`remote_free_among`], if `seen` is the page's word still.
///
/// # Errors
/// As for [`RemoteList::push_onto`].
///
/// # Safety
/// As for [`remote_free_among`]; after an error, the block is the caller's still.
#[inline(always)]
pub unsafe fn remote_free_onto<P: RemotePage>(
    page: &P,
    seen: RemoteWord,
    block: NonNull<Block>,
) -> Result<RemoteWord, Option<RemoteWord>> {
    let shared = page.shared();
    shared.in_flight.enter();
    let (start, capacity) = (shared.start(), shared.capacity());
    // SAFETY: passed on.
    let word = unsafe { shared.remote.push_onto(seen, start, block, capacity) };
    shared.in_flight.leave();
    word
}

/// Frees `block` into a page of a heap that the caller doesn't hold: one compare-and-swap, and one more where the
/// page has had no remote free since its last drain.
///
/// `wants_purge` decides whether the caller, if it frees the page's last block, discards the contents by `discard`.
///
/// # Safety
/// `block` is a live block of `page`, and the caller gives it up.
#[inline(always)]
pub unsafe fn remote_free<P: RemotePage>(
    page: &P,
    block: NonNull<Block>,
    wants_purge: impl Fn() -> bool,
    discard: impl FnOnce(),
) -> Result<RemoteFree<P::Heap>, DoubleFree> {
    let shared = page.shared();
    shared.in_flight.enter();
    let capacity = shared.capacity();
    // SAFETY: passed on.
    let pushed = unsafe {
        shared
            .remote
            .push(shared.start(), block, capacity, wants_purge)
    }?;
    let filled = pushed.count == capacity;
    let pinned = filled && !pushed.purge;
    let sparse = pushed.count == sparse_from(capacity);
    // SAFETY: the page is live until its token is announced, if that is ours to do.
    let serve = unsafe { conclude(page, pushed, discard) };
    Ok(RemoteFree {
        serve,
        filled,
        pinned,
        sparse,
    })
}

/// How many free blocks leave an eighth of a page's in use.
pub const fn sparse_from(capacity: u32) -> u32 {
    capacity - capacity / 8
}

/// What is left to do after a push: to discard the page, and to announce it.
///
/// # Safety
/// The push was the caller's, and this is called once for it.
#[inline(always)]
pub(super) unsafe fn conclude<P: RemotePage>(
    page: &P,
    pushed: Pushed,
    discard: impl FnOnce(),
) -> Option<NonNull<P::Heap>> {
    let shared = page.shared();
    if pushed.purge {
        // PURGING keeps everyone out: the owner leaves the page alone until it is EMPTY.
        discard();
        shared.remote.finish_purge();
    }
    if !pushed.announce || in_flight::is_lost() {
        shared.in_flight.leave();
        return None;
    }
    // The token is ours, so the owner can't change until the page is popped from the stack that we push it on.
    // SAFETY: a page with its token out has an owner.
    let owner = unsafe { NonNull::new_unchecked(shared.owner()) };
    // SAFETY: heaps are never unmapped.
    let news: &News<P> = unsafe { owner.as_ref() }.news();
    // SAFETY: the page is live and its token is ours.
    let serve = unsafe { news.push(ptr::from_ref(page).cast_mut()) };
    shared.in_flight.leave();
    serve.then_some(owner)
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::free_list::remote::RemoteWord;
    use crate::page::model::{Heap, Page, World, check, walk};
    use std::sync::Arc;

    fn spawn<T: 'static>(
        world: &Arc<World>,
        work: impl FnOnce(&World) -> T + 'static,
    ) -> loom::thread::JoinHandle<T> {
        let world = world.clone();
        loom::thread::spawn(move || work(&world))
    }

    /// In the end nobody holds the page's heap, no news is left, and both blocks are on its local list.
    fn check_settled(world: &World, owner: &Heap) {
        assert!(ptr::eq(world.page.shared().owner(), owner));
        assert!(owner.news().is_empty());
        assert!(world.page.shared().remote().peek() == RemoteWord::IDLE);
        // SAFETY: the caller holds the heap; loom checks.
        assert!(unsafe { owner.pending().first() }.is_null());
        let mut local = world.page.local();
        local.sort();
        assert_eq!(local, [world.page.block(0), world.page.block(1)]);
    }

    #[test]
    fn a_first_push_meets_the_exit_of_the_owner() {
        check(3, || {
            let world = World::new();
            let freers = [0, 1].map(|index| spawn(&world, move |w| w.page.free(index, false)));
            let heap = &world.heaps[0];
            heap.serve_and_leave();
            for freer in freers {
                freer.join().unwrap();
            }
            assert!(heap.news().try_lease());
            check_settled(&world, heap);
        });
    }

    #[test]
    fn two_first_pushes_onto_a_heap_without_a_thread() {
        check(4, || {
            let world = World::new();
            let heap = &world.heaps[0];
            assert!(heap.news().try_unlease());
            let other = spawn(&world, |w| w.page.free(0, false));
            world.page.free(1, false);
            other.join().unwrap();
            assert!(heap.news().try_lease());
            check_settled(&world, heap);
        });
    }

    /// One block of the page lies on its local list, the other one is live, and its heap has no thread.
    fn abandoned_world() -> Arc<World> {
        let world = World::new();
        world.page.free(0, false);
        world.heaps[0].serve();
        assert!(world.heaps[0].news().try_unlease());
        world
    }

    /// Takes the page over from a heap without a thread, as `idle::adopt` does, and looks at its blocks.
    fn adopt(world: &World, from: usize, to: usize) -> bool {
        let from = &world.heaps[from];
        if !from.news().try_lease() {
            return false;
        }
        let adopted = world.hand_over(from, &world.heaps[to]);
        from.unlease();
        if adopted {
            assert!(!world.page.local().is_empty());
        }
        adopted
    }

    #[test]
    fn an_adoption_meets_a_first_push() {
        check(4, || {
            let world = abandoned_world();
            let freer = spawn(&world, |w| w.page.free(1, false));
            let adopted = adopt(&world, 0, 1);
            freer.join().unwrap();
            let owner = &world.heaps[usize::from(adopted)];
            if !adopted {
                assert!(owner.news().try_lease());
            }
            owner.serve();
            check_settled(&world, owner);
        });
    }

    /// The second adopter takes from the first one too, which leaves its heap at once.
    #[test]
    fn two_adopters_meet_a_first_push() {
        check(3, || {
            let world = abandoned_world();
            let freer = spawn(&world, |w| w.page.free(1, false));
            let other = spawn(&world, |w| adopt(w, 0, 2) || adopt(w, 1, 2));
            adopt(&world, 0, 1);
            world.heaps[1].serve_and_leave();
            other.join().unwrap();
            freer.join().unwrap();
            world.heaps[2].serve_and_leave();
            for heap in &world.heaps {
                assert!(heap.news().is_empty() && heap.news().try_lease());
            }
            // SAFETY: the leases were taken just now, and owners are heaps of this world.
            check_settled(&world, unsafe { &*world.page.shared().owner() });
        });
    }

    /// In the end the page is discarded and empty, or both its blocks are on its local list or in `drained`.
    fn check_finished(world: &World, discarded: [bool; 2], drained: usize) {
        let owned = world.page.owned();
        assert!(world.heaps[0].news().is_empty());
        assert!(world.page.shared().remote().peek() == RemoteWord::IDLE);
        // SAFETY: the caller holds the heap; loom checks.
        let (pending, carved) = unsafe { (world.heaps[0].pending().first(), owned.carved.get()) };
        assert!(pending.is_null());
        let free = world.page.local().len() + drained;
        match discarded {
            [true, true] => panic!("discarded twice"),
            [false, false] => assert_eq!((carved, free), (2, 2)),
            _ => assert_eq!((carved, free), (0, 0)),
        }
        world.page.write_blocks();
    }

    #[test]
    fn the_last_freer_discards_while_the_owner_settles() {
        check(4, || {
            let world = World::new();
            let freers = [0, 1].map(|index| spawn(&world, move |w| w.page.free(index, true)));
            let heap = &world.heaps[0];
            heap.serve();
            // SAFETY: this thread holds the heap; loom checks.
            if unsafe { world.page.owned().carved.get() } == 0 {
                world.page.write_blocks();
            }
            let discarded = freers.map(|freer| freer.join().unwrap());
            heap.serve();
            check_finished(&world, discarded, 0);
        });
    }

    #[test]
    fn the_last_freer_discards_while_the_owner_drains_in_place() {
        check(4, || {
            let world = World::new();
            let freers = [0, 1].map(|index| spawn(&world, move |w| w.page.free(index, true)));
            let drained = world
                .page
                .shared()
                .remote()
                .drain(world.page.shared().start());
            let drained = drained.map_or(0, |list| walk(list).len());
            let discarded = freers.map(|freer| freer.join().unwrap());
            world.heaps[0].serve();
            check_finished(&world, discarded, drained);
        });
    }

    /// A page whose last freer is still at it when its heap is left waits among the heap's pending news.
    #[test]
    fn the_last_freer_discards_while_the_owner_leaves() {
        check(3, || {
            let world = World::new();
            let freers = [0, 1].map(|index| spawn(&world, move |w| w.page.free(index, true)));
            let heap = &world.heaps[0];
            heap.serve_and_leave();
            let discarded = freers.map(|freer| freer.join().unwrap());
            assert!(heap.news().try_lease());
            heap.serve();
            check_finished(&world, discarded, 0);
        });
    }

    /// The first freer of a page of one block is its last one, too: it discards and announces, unless the owner has left the heap
    /// by then, and the freer puts the block on the page's list.
    #[test]
    fn a_page_of_one_block_is_discarded_and_announced() {
        check(4, || {
            let world = World::with_blocks(1);
            let freer = spawn(&world, |w| w.page.free(0, true));
            let heap = &world.heaps[0];
            heap.serve_and_leave();
            let discarded = freer.join().unwrap();
            assert!(heap.news().is_empty() && heap.news().try_lease());
            // SAFETY: this thread holds the heap; loom checks.
            let carved = unsafe { world.page.owned().carved.get() };
            let local = world.page.local();
            match discarded {
                true => assert_eq!((carved, local.len()), (0, 0)),
                false => assert_eq!((carved, local), (1, vec![world.page.block(0)])),
            }
            world.page.write_blocks();
        });
    }

    /// A look-up of a stray address, while the slice is in use twice. Who sees a use sees its fields or those of a
    /// later one, never those of an earlier one.
    #[test]
    fn a_look_up_sees_the_fields_of_the_use_it_finds() {
        loom::model(|| {
            let start = NonNull::<u64>::dangling().cast();
            let line = Arc::new(SharedLine::<Page>::unused());
            let theirs = line.clone();
            let reader = loom::thread::spawn(move || {
                let kind = theirs.kind();
                if kind == Kind::None {
                    return;
                }
                assert_eq!(theirs.start().addr(), align_of::<u64>());
                let bytes = theirs.block_bytes();
                assert!(bytes == 64 || kind == Kind::Binned && bytes == 16);
            });
            let identity = |kind, block_bytes| Identity {
                kind,
                start,
                block_bytes,
                capacity: 1,
                bin: BinOffset::NONE,
                arena: 0,
            };
            line.register(identity(Kind::Binned, 16), ptr::null_mut());
            line.unregister();
            line.register(identity(Kind::Large, 64), ptr::null_mut());
            reader.join().unwrap();
        });
    }
}
