//! Thread heaps: per size class a bin with the current page's free list, and queues of other pages.
//!
//! A heap is held through its lease: by a live thread, or by whoever serves it for a moment. Heaps are never unmade;
//! an exiting thread leaves its heap with all pages to whoever needs it next.

pub mod alloc;
pub mod background;
mod batches;
pub mod check;
mod class_set;
pub mod collect;
pub mod exit;
pub mod follow;
pub mod foreign;
pub mod fork;
pub mod free;
mod free_remote;
pub mod fresh;
pub mod idle;
#[cfg(preload)]
pub mod initial_exec;
mod keep;
mod last_remote;
pub mod prefault;
pub mod recycle;
pub mod refill;
pub mod settle;
pub mod single;
pub mod slot;
pub mod sparse;
pub mod taken_back;
pub mod unclassed;

use crate::arena::shelves::Shelves;
use crate::free_list::Block;
use crate::free_list::news::{Leased, News};
use crate::free_list::pending::Pending;
use crate::page::descriptor::{Descriptor, PageRef};
use crate::page::queue::PageQueue;
use crate::page::shared_line::{RemotePage, SharedLine};
use crate::size_class::{BIN_BYTES, BinOffset, BinTable, CLASSES, PAGE_SIZES, SizeClass};
use crate::stats::Counters;
use class_set::ClassSet;
use last_remote::LastRemote;
use recycle::Recycling;
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU8;

/// The part of a bin that the fast paths touch: 32 bytes.
#[repr(C)]
pub struct Bin {
    /// The list in use: blocks of the current page, and recycled ones of others.
    pub free: Cell<*mut Block>,
    /// The address of the current page's first block; 0 without a page.
    pub start: Cell<usize>,
    /// The bytes of the current page, 0 without one: what lies `bytes` or more behind `start` is elsewhere.
    pub bytes: Cell<usize>,
    /// The current page.
    pub page: Cell<Option<PageRef>>,
}

static_assertions::const_assert_eq!(size_of::<Bin>(), BIN_BYTES);
static_assertions::const_assert_eq!(std::mem::offset_of!(Heap, bins), 0);

impl Bin {
    /// Whether the address lies in the current page.
    #[inline(always)]
    pub fn holds(&self, address: usize) -> bool {
        address.wrapping_sub(self.start.get()) < self.bytes.get()
    }

    /// Pushes a block onto the list.
    ///
    /// # Safety
    /// The caller holds the bin's heap and gives the block up.
    #[inline(always)]
    pub unsafe fn push(&self, block: NonNull<Block>) {
        // SAFETY: the block is the caller's.
        unsafe { Block::link(block, self.free.get()) };
        self.free.set(block.as_ptr());
    }
}

/// A bin's other pages, for the slow paths.
pub struct Queues {
    /// Pages with blocks on their local lists, the longest waiting first: by its turn a page has gathered more
    /// frees, so that a refill gets more.
    pub partial: PageQueue,
    /// Pages whose only free blocks are uncarved.
    pub uncarved: PageQueue,
    /// Whether frees come page by page.
    pub order: follow::Order,
}

/// A heap. Everything but `news`, `id`, `below` and the counters belongs to the lease holder.
#[repr(C, align(128))]
pub struct Heap {
    /// One for each class, and one that never has a page: see [`BinOffset::NONE`].
    bins: [Bin; CLASSES + 1],
    /// Const.
    pub table: BinTable,
    queues: [Queues; CLASSES],
    /// Recycled blocks that were set aside.
    pub recycling: Recycling,
    /// Empty pages by size, kept for the next class that needs one.
    pub warm: [PageQueue; PAGE_SIZES],
    /// More of them, within the reserve's bound: any thread may take these away.
    pub shelves: Shelves,
    /// The classes whose bins were ever refilled: no other has pages here, or a list.
    used: ClassSet,
    /// Its pages, empty ones that it keeps not counted.
    pub pages: Cell<u32>,
    /// The bytes of the warm pages.
    pub warm_bytes: Cell<usize>,
    /// Pages that became sparse.
    pub sparse: sparse::Candidates,
    /// Blocks that it took without a page.
    pub singles: single::Singles,
    /// News taken and not settled yet.
    pub pending: Pending<Descriptor>,
    /// Partly used pages may hold frees that the statistics have not counted.
    pub uncounted: Cell<bool>,
    /// What the holder's last free into another heap's page left there.
    last_remote: LastRemote,
    /// Whether its next free into that page may be kept.
    run: keep::Run,
    /// Held by a live thread, not for a moment; decides how drained blocks are counted.
    pub tenanted: Cell<bool>,
    /// How many walks of [`idle::age`] it has been without a thread. Lease holder writes, anyone reads.
    pub waited: AtomicU8,
    /// Whether its holder sleeps. The background thread's.
    pub rest: taken_back::Rest,
    /// In a forked child: tokens of vanished threads may be out on this heap's pages.
    pub needs_repair: Cell<bool>,
    /// Const after init: the number of the heap.
    pub id: Cell<u32>,
    /// Const after init: the heap made before this one.
    pub below: Cell<Option<&'static Heap>>,
    /// Lease holder writes, anyone reads.
    pub counters: Counters,
    /// Any thread.
    news: NewsLine,
}

/// The news on a cache line pair of its own: every first remote free of a page writes it.
#[repr(C, align(128))]
struct NewsLine(News<Descriptor>);

// SAFETY: the cells are touched by the lease holder only, and the lease is handed on with Release and Acquire;
// `id` and `below` are written before the heap is published; counters, regrets and news are atomic. The vacant heap has
// no lease to take and is never written: its lists and pages are empty for ever.
unsafe impl Sync for Heap {}

impl Heap {
    /// A heap without pages, its lease taken.
    pub const fn new() -> Self {
        Self {
            bins: [const {
                Bin {
                    free: Cell::new(ptr::null_mut()),
                    start: Cell::new(0),
                    bytes: Cell::new(0),
                    page: Cell::new(None),
                }
            }; CLASSES + 1],
            table: BinTable::new(),
            queues: [const {
                Queues {
                    partial: PageQueue::new(),
                    uncarved: PageQueue::new(),
                    order: follow::Order::new(),
                }
            }; CLASSES],
            recycling: Recycling::new(),
            warm: [const { PageQueue::new() }; PAGE_SIZES],
            shelves: Shelves::new(),
            used: ClassSet::new(),
            pages: Cell::new(0),
            warm_bytes: Cell::new(0),
            sparse: sparse::Candidates::new(),
            singles: single::Singles::new(),
            pending: Pending::new(),
            uncounted: Cell::new(false),
            last_remote: LastRemote::new(),
            run: keep::Run::new(),
            tenanted: Cell::new(false),
            waited: AtomicU8::new(0),
            rest: taken_back::Rest::new(),
            needs_repair: Cell::new(false),
            id: Cell::new(0),
            below: Cell::new(None),
            counters: Counters::new(),
            news: NewsLine(News::new_leased()),
        }
    }

    /// The bin of a class.
    #[inline]
    pub fn bin(&self, class: SizeClass) -> &Bin {
        &self.bins[class.0 as usize]
    }

    /// The bin at an offset.
    #[inline(always)]
    pub fn bin_at(&self, offset: BinOffset) -> &Bin {
        // SAFETY: an offset is that of a class or `NONE`, there is a bin for each, and they lie at the start of the heap.
        unsafe {
            NonNull::from(&self.bins)
                .cast::<Bin>()
                .byte_add(offset.bytes())
                .as_ref()
        }
    }

    /// The other pages of a class.
    #[inline]
    pub fn queues(&self, class: SizeClass) -> &Queues {
        &self.queues[class.0 as usize]
    }

    /// The pointer that pages of this heap have as their owner.
    #[inline(always)]
    pub fn as_owner(&'static self) -> *mut Heap {
        ptr::from_ref(self).cast_mut()
    }
}

impl Leased for Heap {
    type Page = Descriptor;

    #[inline(always)]
    fn news(&self) -> &News<Descriptor> {
        &self.news.0
    }

    fn pending(&self) -> &Pending<Descriptor> {
        &self.pending
    }

    fn serve(&self) {
        // Heaps live in static or metadata memory only, for the life of the process.
        // SAFETY: see above; the reference is as good for ever as it is now.
        let heap = unsafe { &*ptr::from_ref(self) };
        settle::settle_all(heap);
    }
}

impl RemotePage for Descriptor {
    type Heap = Heap;

    #[inline(always)]
    fn shared(&self) -> &SharedLine<Self> {
        Descriptor::shared(self)
    }
}

/// The heap of threads that have none: all its lists are empty, it owns no page, and so nothing ever writes to
/// it. It saves the fast paths the question whether the thread has a heap.
pub static VACANT: Heap = Heap::new();
