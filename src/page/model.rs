//! A page and a heap for the models: the shipping lines, lists and leases around blocks that loom tracks.

use super::put_back::put_back;
use super::shared_line::{
    Identity, Kind, RemotePage, SharedLine, hand_over, lease_owner, remote_free, remote_free_among,
};
use crate::free_list::Block;
use crate::free_list::news::{Announced, Leased, News};
use crate::free_list::pending::Pending;
use crate::free_list::remote::{Drained, Settled};
use crate::sync::{AtomicPtr, OwnedCell};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// The blocks of a page.
pub const CAPACITY: usize = 2;
/// At most.
const MOST: usize = 3;

/// Checks a model with at most so many preemptions: with three threads, all of them would take hours.
pub fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// What only the holder of the owner's lease touches, as in `page/descriptor.rs`; loom reports whoever else does.
pub struct Owned {
    /// Freed blocks.
    pub local: OwnedCell<*mut Block>,
    /// The length of `local`.
    pub local_count: OwnedCell<u32>,
    /// Blocks that are not as fresh from the system.
    pub carved: OwnedCell<u32>,
    /// Blocks whose memory was given back by threads that don't hold the heap: here a system page is a block.
    pub holes: OwnedCell<u64>,
    /// How often the page was settled.
    pub settled: OwnedCell<u32>,
}

/// A page.
pub struct Page {
    shared: SharedLine<Page>,
    owned: Owned,
    blocks: [Block; MOST],
    /// It has all of these blocks.
    of_three: bool,
}

/// A heap with room for one partly used page.
pub struct Heap {
    news: News<Page>,
    pending: Pending<Page>,
    /// The page with free blocks, if there is one.
    pub partial: OwnedCell<*const Page>,
}

impl Announced for Page {
    fn news_next(&self) -> &AtomicPtr<Self> {
        self.shared.news_next()
    }
}

impl RemotePage for Page {
    type Heap = Heap;

    fn shared(&self) -> &SharedLine<Self> {
        &self.shared
    }
}

/// The linked blocks of a list, in its order.
pub fn walk(chain: Drained) -> Vec<NonNull<Block>> {
    let mut blocks = vec![chain.head];
    // SAFETY: the chain was just taken by the caller; its last link is null.
    while let Some(next) = NonNull::new(unsafe { Block::next(blocks[blocks.len() - 1]) }) {
        blocks.push(next);
    }
    assert_eq!(blocks.len() as u32, chain.count - chain.holes.count_ones());
    assert_eq!(blocks.last(), Some(&chain.tail));
    blocks
}

impl Page {
    /// A page of so many blocks that nobody owns yet, all of them handed out.
    pub fn new(capacity: usize) -> Self {
        Self {
            shared: SharedLine::unused(),
            owned: Owned {
                local: OwnedCell::new(ptr::null_mut()),
                local_count: OwnedCell::new(0),
                carved: OwnedCell::new(capacity as u32),
                holes: OwnedCell::new(0),
                settled: OwnedCell::new(0),
            },
            blocks: std::array::from_fn(|_| Block::unlinked()),
            of_three: capacity == MOST,
        }
    }

    /// The first byte.
    pub fn start(&self) -> NonNull<u8> {
        NonNull::from(&self.blocks).cast()
    }

    /// A block.
    pub fn block(&self, index: usize) -> NonNull<Block> {
        NonNull::from(&self.blocks[index])
    }

    fn register(&self, capacity: usize, owner: &Heap) {
        let identity = Identity {
            kind: Kind::Binned,
            start: self.start(),
            block_bytes: size_of::<Block>(),
            capacity: capacity as u32,
            bin: crate::size_class::BinOffset::NONE,
            arena: 0,
        };
        self.shared
            .register(identity, ptr::from_ref(owner).cast_mut());
    }

    /// The part of the lease holder.
    pub fn owned(&self) -> &Owned {
        &self.owned
    }

    /// Frees a block that was handed out, as a thread that doesn't hold the page's heap. True if the page was
    /// discarded.
    pub fn free(&self, index: usize, wants_purge: bool) -> bool {
        // In pages of two blocks no free is among others: the models of those needn't look.
        // SAFETY: the caller gives the block up.
        if self.of_three && unsafe { remote_free_among(self, self.block(index)) }.is_some() {
            return false;
        }
        // SAFETY: the block is a live one of this page.
        if let Some(owner) = unsafe { lease_owner(self) } {
            // SAFETY: heaps outlive the model's threads.
            let owner = unsafe { owner.as_ref() };
            // SAFETY: the caller gives the block up.
            unsafe { owner.settle_one(self, self.block(index)) };
            owner.unlease();
            return false;
        }
        let mut discarded = false;
        let discard = || {
            self.write_blocks();
            discarded = true;
        };
        // SAFETY: the caller gives the block up.
        let done = unsafe { remote_free(self, self.block(index), || wants_purge, discard) }
            .expect("no block is freed twice");
        if let Some(owner) = done.serve {
            // SAFETY: heaps outlive the model's threads.
            unsafe { owner.as_ref() }.serve_and_leave();
        }
        discarded
    }

    /// Gives back what is free on the remote list, but for the block at its end, as a thread that doesn't hold the page's
    /// heap.
    pub fn thin(&self) {
        let Some(taken) = self.shared.remote().take_back(1) else {
            return;
        };
        let list = taken.blocks(self.start().as_ptr()).expect("it has blocks");
        let mut holes = list.holes;
        for index in (0..MOST).filter(|index| walk(list).contains(&self.block(*index))) {
            if self.block(index) != list.tail {
                holes |= 1 << index;
            }
        }
        self.write_holes(holes);
        let left = Drained {
            head: list.tail,
            holes,
            ..list
        };
        // SAFETY: the blocks were taken back just now.
        let serve = unsafe { put_back(self, left, || self.write_blocks()) };
        if let Some(owner) = serve.expect("no block is freed twice") {
            // SAFETY: heaps outlive the model's threads.
            unsafe { owner.as_ref() }.serve_and_leave();
        }
    }

    /// Drains the page in place.
    pub fn drain(&self) -> Option<Drained> {
        self.shared.remote().drain(self.start().as_ptr())
    }

    /// Puts a drained list on the local one, and uses what lies in its holes.
    pub fn settle_list(&self, list: Drained) {
        self.write_holes(list.holes);
        let chain = list.chain(list.holes.count_ones());
        let owned = &self.owned;
        // SAFETY: loom checks that the caller is alone with the owner's line, and with the blocks.
        unsafe {
            assert_eq!(owned.holes.get() & list.holes, 0);
            owned.holes.set(owned.holes.get() | list.holes);
            owned.local.set(chain.join(owned.local.get()));
            owned.local_count.set(owned.local_count.get() + chain.count);
        }
    }

    fn write_holes(&self, holes: u64) {
        for index in (0..MOST).filter(|index| holes >> index & 1 == 1) {
            // SAFETY: loom checks that nobody else touches the block.
            unsafe { Block::link(self.block(index), ptr::null_mut()) };
        }
    }

    /// Writes all of the page, as the system does when it discards it and a thread that uses it anew.
    pub fn write_blocks(&self) {
        for index in 0..MOST {
            // SAFETY: loom checks that nobody else touches the block.
            unsafe { Block::link(self.block(index), ptr::null_mut()) };
        }
    }

    /// The blocks of the local list.
    pub fn local(&self) -> Vec<NonNull<Block>> {
        let mut blocks = Vec::new();
        // SAFETY: as for every use of the owner's line here, loom checks that the caller is alone.
        let mut at = unsafe { self.owned.local.get() };
        while let Some(block) = NonNull::new(at) {
            blocks.push(block);
            // SAFETY: as above.
            at = unsafe { Block::next(block) };
        }
        blocks
    }
}

impl Heap {
    /// A heap, its lease taken.
    pub fn new() -> Self {
        Self {
            news: News::new_leased(),
            pending: Pending::new(),
            partial: OwnedCell::new(ptr::null()),
        }
    }

    /// Ends the use of a heap: a thread's exit, or the end of a service.
    pub fn serve_and_leave(&self) {
        self.serve();
        self.unlease();
    }

    /// As `settle::settle_one`.
    ///
    /// # Safety
    /// As there.
    unsafe fn settle_one(&self, page: &Page, block: NonNull<Block>) {
        assert!(ptr::eq(page.shared.owner(), self));
        // SAFETY: passed on.
        page.settle_list(unsafe { Drained::single(block) });
        // SAFETY: loom checks that the caller is alone with the owner's line.
        unsafe {
            page.owned.settled.set(page.owned.settled.get() + 1);
            self.partial.set(page);
        }
    }

    fn settle(&self, page: &Page) -> bool {
        assert!(ptr::eq(page.shared.owner(), self));
        let owned = &page.owned;
        // SAFETY: loom checks that the caller is alone with the owner's line.
        unsafe {
            match page.shared.remote().settle(page.shared.start()) {
                Settled::Purging => return false,
                Settled::Frees(None) => {}
                Settled::Frees(Some(list)) => page.settle_list(list),
                Settled::Empty => owned.carved.set(0),
            }
            owned.settled.set(owned.settled.get() + 1);
            self.partial.set(page);
        }
        true
    }
}

impl Leased for Heap {
    type Page = Page;

    fn news(&self) -> &News<Page> {
        &self.news
    }

    fn pending(&self) -> &Pending<Page> {
        &self.pending
    }

    fn serve(&self) {
        // SAFETY: the caller holds the lease; pages outlive the model's threads.
        unsafe {
            self.pending
                .settle(&self.news, usize::MAX, |page| self.settle(&*page))
        };
    }
}

/// The page and the heaps of one model.
pub struct World {
    /// Owned by the first heap, all its blocks handed out.
    pub page: Page,
    /// All leased.
    pub heaps: [Heap; 3],
}

// SAFETY: pages and heaps are shared as in the allocator; that each is touched by one thread at a time where it has
// to be is what the models check.
unsafe impl Send for World {}
// SAFETY: as above.
unsafe impl Sync for World {}

impl World {
    /// A world whose page has two blocks.
    pub fn new() -> Arc<Self> {
        Self::with_blocks(CAPACITY)
    }

    /// A world whose page has so many blocks.
    pub fn with_blocks(capacity: usize) -> Arc<Self> {
        let world = Arc::new(Self {
            page: Page::new(capacity),
            heaps: std::array::from_fn(|_| Heap::new()),
        });
        world.page.register(capacity, &world.heaps[0]);
        world
    }

    /// As `exit::hand_over`: takes the page over from one heap, whose lease the caller holds, to another.
    pub fn hand_over(&self, from: &Heap, to: &Heap) -> bool {
        from.serve();
        // SAFETY: loom checks that the caller is alone with the heap; the page outlives the model's threads.
        let Some(page) = (unsafe { from.partial.get().as_ref() }) else {
            return false;
        };
        hand_over(page, to, || {
            // SAFETY: as above.
            unsafe { from.partial.set(ptr::null()) };
        })
    }
}
