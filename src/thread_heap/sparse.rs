//! Gives back the system pages inside sparse pages, so that one live object doesn't pin its page.
//!
//! - Where blocks are at most 4 KiB, a system page whose every block is free becomes a **hole**: the blocks that start in
//!   it lose their links with the contents, so they leave the list, and are carved anew when nothing else is free
//!   (`OwnedLine::sunk`, `OwnedLine::holes`).
//! - Larger blocks contain system pages: a free one keeps its first, with the link, and loses the others.
//!
//! Done by `collect(true)`, by the background thread for heaps without a thread, and in passing: a page that became
//! sparse (`SizeClass::sparse_live`) and still is 32 such pages later, in a phase that frees a lot: few bins were refilled
//! meanwhile, few holes were carved again lately, the reserve is full, and at least 64 MiB are in use. What such pages
//! hold counts as if it lay in the reserve: where a live block or two pin every page, nothing else does. In such a phase
//! a page is noted again whenever three quarters of its live blocks were freed. Pages of other heaps, whose threads may
//! sleep, are thinned by those who free into them: see `taken_back`.
//!
//! Costs a walk over the page's list, and page faults for whoever allocates there again.

use super::{Heap, VACANT, settle, taken_back};
use crate::abort;
use crate::arena::{self, reserve};
use crate::config;
use crate::free_list::Block;
use crate::free_list::address_order::{Blocks, CORRUPTED, Marks};
use crate::os;
use crate::page::descriptor::{OwnedLine, PageRef, Place};
use crate::page::holes::{self, HOLE};
use crate::page::shared_line;
use crate::size_class::{MAX_DENSE, SizeClass};
use crate::units::MIB;
use std::cell::Cell;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// How many pages become sparse before one that did is looked at again: most are wholly free by then.
const LAG: usize = 32;
/// A heap that refilled its bins more often meanwhile is not in a phase that frees: it will use the page again.
const FEW_REFILLS: u64 = LAG as u64;
/// As `FEW_REFILLS`, of the heap of another thread that these free into: a thread that sleeps.
const FEW_REFILLS_OF_OTHERS: u64 = 4;
/// In a page that became sparse by frees in random order, there is to be one live block for so many system pages: it costs a
/// call to discard what lies on either side of it, and the page probably becomes free before long.
const SYSTEM_PAGES_A_BLOCK: usize = 8;
/// A process that uses less has little to gain.
const FROM_BYTES: usize = 64 * MIB;
/// How many holes may be carved again within two purge delays, about, before no more are made in passing.
const FEW_REGRETS: u32 = 64;

/// The pages that became sparse last by frees of a heap's holder, its own and others'. Some belong to other heaps since, or are
/// no pages any more.
pub struct Candidates {
    noted: [Cell<Option<Noted>>; LAG],
    count: Cell<usize>,
    /// Holes that were carved again, halved by a look, at most once in a purge delay; and when that was done
    /// last, in milliseconds. By the heap's holder, and by those who free into its pages.
    regrets: AtomicU32,
    halved: AtomicU64,
}

#[derive(Clone, Copy)]
struct Noted {
    page: PageRef,
    owner: *const Heap,
    /// How many of its blocks weren't free by then.
    live: u32,
    /// How often its heap had refilled a bin by then.
    refills: u64,
}

impl Noted {
    /// Whether the page belongs to the heap still that it was noted for, and that heap refilled few bins since: it only frees,
    /// or sleeps.
    fn is_unused(self, few: u64) -> bool {
        if !owner(self.page).is_some_and(|owner| ptr::eq(owner, self.owner)) {
            return false;
        }
        // SAFETY: heaps are never unmapped.
        let refills = refills(unsafe { &*self.owner });
        let is_unused = refills.wrapping_sub(self.refills) <= few;
        if !is_unused {
            reserve::use_sparse(self.bytes());
        }
        is_unused
    }

    /// Whether it is worth it, with so many live blocks now: a few, or more than an eighth fewer than when the page was noted.
    /// Where a phase frees page after page, that is what it leaves. Where it frees in random order, nothing has changed much
    /// meanwhile, and the page will be noted again, or become free.
    fn is_thin(self, live: u32) -> bool {
        let few = self.bytes() / HOLE / SYSTEM_PAGES_A_BLOCK;
        live as usize <= few || live < self.live - self.live / 8
    }

    /// Whether what is free inside the page, which has been sparse for long, is to go back; if not, it counts as left.
    fn is_to_go(self) -> bool {
        let is_to_go = much_is_freed(self.bytes());
        if !is_to_go && reserve::claimed_bytes() >= FROM_BYTES {
            reserve::leave_sparse(self.bytes());
        }
        is_to_go
    }

    fn bytes(self) -> usize {
        bytes(self.page)
    }
}

/// The bytes of a page's blocks, by words that anyone may read: it may be another heap's.
fn bytes(page: PageRef) -> usize {
    page.shared().capacity() as usize * page.shared().block_bytes()
}

/// How often a heap has refilled a bin.
pub fn refills(heap: &Heap) -> u64 {
    let counters = &heap.counters;
    counters.reused_pages.get() + counters.carved_refills.get() + counters.fresh_pages.get()
}

impl Candidates {
    /// None.
    pub const fn new() -> Self {
        Self {
            noted: [const { Cell::new(None) }; LAG],
            count: Cell::new(0),
            regrets: AtomicU32::new(0),
            halved: AtomicU64::new(0),
        }
    }

    /// Adds a page of this owner; what was added `LAG` pages ago. A page that was added last isn't added again.
    fn push(&self, page: PageRef, owner: &Heap, live: u32) -> Option<Noted> {
        let count = self.count.get();
        let last = self.noted[count.wrapping_sub(1) % LAG].get();
        if last.is_some_and(|last| ptr::eq(last.page, page)) {
            return None;
        }
        let new = Noted {
            page,
            owner,
            live,
            refills: refills(owner),
        };
        self.count.set(count.wrapping_add(1));
        self.noted[count % LAG].replace(Some(new))
    }

    /// Notes that a hole is carved again.
    pub fn regret(&self) {
        // Relaxed here and below: estimates, of which a lost update costs a little time.
        let regrets = self.regrets.load(Relaxed);
        self.regrets.store(regrets.saturating_add(1), Relaxed);
    }

    fn regrets_little(&self) -> bool {
        let now = os::now_ms();
        if now.wrapping_sub(self.halved.load(Relaxed)) >= config::purge_delay_ms() {
            self.halved.store(now, Relaxed);
            self.regrets.store(self.regrets.load(Relaxed) / 2, Relaxed);
        }
        self.regrets.load(Relaxed) <= FEW_REGRETS
    }
}

/// Notes that a page of a heap that the caller holds may have become sparse, and gives back what is free inside one that
/// has been for long.
pub fn note(heap: &'static Heap, page: PageRef) {
    if let Some(live) = sparse_live(heap, page)
        && let Some(old) = heap.sparse.push(page, heap, live)
        && old.is_unused(FEW_REFILLS)
        && let Some(live) = sparse_live(heap, old.page)
        && old.is_to_go()
        && old.is_thin(live)
        && heap.sparse.regrets_little()
    {
        thin(heap, old.page);
    }
}

/// As [`note`], where the last local free made the page sparse, or more so.
#[cold]
#[inline(never)]
pub fn note_by_free(heap: &'static Heap, page: PageRef) {
    // SAFETY: the page is of the heap that the caller holds.
    let owned = unsafe { page.owned() };
    if much_is_freed(bytes(page)) {
        owned.arm_for_fewer();
    } else {
        owned.arm();
    }
    note(heap, page);
}

/// As [`note`], for a page of another heap, into which the caller, who holds `heap`, freed. What this returns is a heap
/// without a thread whose lease the caller holds now, and which it must serve and park.
pub fn note_others(heap: &'static Heap, page: PageRef) -> Option<&'static Heap> {
    if ptr::eq(heap, &VACANT) || page.shared().block_bytes() > MAX_DENSE {
        return None;
    }
    let old = heap.sparse.push(page, owner(page)?, others_live(page))?;
    let of_others = owner_of_others(heap, old.page)?;
    // Who still refills its bins will have the page's blocks back before long.
    if !old.is_unused(FEW_REFILLS_OF_OTHERS) {
        return None;
    }
    let live = others_live(old.page);
    let capacity = old.page.shared().capacity();
    let sparse_from = shared_line::sparse_from(capacity);
    // A page that is wholly free waits for its owner, and is counted as such.
    if live == 0
        || live > capacity - sparse_from
        || !old.is_to_go()
        || !old.is_thin(live)
        || !of_others.sparse.regrets_little()
    {
        return None;
    }
    taken_back::thin(old.page, sparse_from)
}

/// The blocks of another heap's page that weren't freed by others, as far as anyone can tell: it may be any page by now, and
/// what its owner freed itself nobody else knows.
fn others_live(page: PageRef) -> u32 {
    let shared = page.shared();
    shared
        .capacity()
        .saturating_sub(shared.remote().peek().count())
}

/// So much was freed lately that what is freed now goes back, if a sparse page of so many bytes is counted as well, and there is
/// something to gain.
fn much_is_freed(sparse: usize) -> bool {
    reserve::is_full_with_sparse(sparse) && reserve::claimed_bytes() >= FROM_BYTES
}

/// The heap that a page belongs to right now.
pub fn owner(page: PageRef) -> Option<&'static Heap> {
    // SAFETY: heaps are never unmapped; null is none.
    unsafe { page.shared().owner().as_ref() }
}

fn owner_of_others(heap: &'static Heap, page: PageRef) -> Option<&'static Heap> {
    owner(page).filter(|owner| !ptr::eq(*owner, heap))
}

/// The live blocks of a page of the heap that is sparse.
fn sparse_live(heap: &'static Heap, page: PageRef) -> Option<u32> {
    if !ptr::eq(page.shared().owner(), heap) {
        return None;
    }
    // SAFETY: the page is of the heap that the caller holds.
    let owned = unsafe { page.owned() };
    (owned.place.get() == Place::Partial && owned.is_sparse())
        .then(|| owned.carved.get().saturating_sub(owned.free_count()))
}

/// Gives back what is free inside the partly used pages of a heap whose lease the caller holds.
pub fn discard_all(heap: &'static Heap) {
    for class in SizeClass::all() {
        for page in heap.queues(class).partial.iter() {
            thin(heap, page);
        }
    }
}

/// Gives back what is free inside a partly used page of a heap that the caller holds.
#[cold]
#[inline(never)]
fn thin(heap: &'static Heap, page: PageRef) {
    // SAFETY: the page is of the heap that the caller holds.
    let owned = unsafe { page.owned() };
    settle::count_local(heap, owned);
    let discarded = if !owned.class.get().is_dense() {
        inside_blocks(page, owned)
    } else if os::page_size() == HOLE {
        make_holes(page, owned)
    } else {
        0
    };
    if discarded > 0 {
        reserve::count_discarded_inside(discarded);
        settle::replace(heap, page);
    }
}

fn before_discard(page: PageRef) {
    // SAFETY: pages lie above address 0.
    let start = unsafe { NonNull::new_unchecked(page.shared().start()) };
    arena::before_discard(start, page.shared().arena(), page.slices());
}

/// Discards a part of a page, in bytes from its start.
fn discard(page: PageRef, part: Range<usize>) -> usize {
    let bytes = part.len();
    // SAFETY: pages lie above address 0, and the part lies in the page.
    let start = unsafe { NonNull::new_unchecked(page.shared().start()).add(part.start) };
    // SAFETY: the callers pass system pages of which nothing is in use.
    unsafe { os::discard(start, bytes) };
    bytes
}

/// Discards all but the first system page of each free block, and what lies behind the carved ones. The bytes discarded.
fn inside_blocks(page: PageRef, owned: &OwnedLine) -> usize {
    let unit = os::page_size();
    let mut discarded = 0;
    let tail = (owned.carved_bytes() as usize).next_multiple_of(unit)
        ..(owned.touched.get() as usize).next_multiple_of(unit);
    if !tail.is_empty() {
        before_discard(page);
        discarded += discard(page, tail);
    }
    forget_tail(owned);
    // SAFETY: the list is that of a page that the caller holds.
    discarded + unsafe { inside_list(page, owned.local.get(), owned.local_count()) }
}

/// Discards all but the first system page of each block on a list of blocks above 4 KiB. The bytes discarded.
///
/// # Safety
/// The caller owns the list, which has so many blocks of the page.
pub unsafe fn inside_list(page: PageRef, first: *mut Block, count: u32) -> usize {
    let unit = os::page_size();
    let bytes = page.shared().block_bytes();
    let start = page.shared().start().addr();
    let mut discarded = 0;
    let mut at = first;
    for _ in 0..count {
        let Some(block) = NonNull::new(at) else { break };
        let offset = at.addr() - start;
        let from = (offset + size_of::<Block>()).next_multiple_of(unit);
        let to = (offset + bytes) / unit * unit;
        if from < to {
            if discarded == 0 {
                before_discard(page);
            }
            discarded += discard(page, from..to);
        }
        // SAFETY: the block is on the caller's list.
        at = unsafe { Block::next(block) };
    }
    discarded
}

/// Makes holes of all system pages without a live block. The bytes discarded.
fn make_holes(page: PageRef, owned: &OwnedLine) -> usize {
    let blocks = Blocks::of(page.shared().start(), owned.class.get());
    let Some(first) = NonNull::new(owned.local.get()) else {
        return 0;
    };
    if owned.local_count() >= owned.carved.get() / 2 {
        // Most of the page is on the list, and long out of the caches.
        blocks.prefetch(owned.carved.get());
    }
    let mut free: Marks = Marks::none();
    // SAFETY: the list is the page's, and the caller holds it.
    if let Err(corrupted) = unsafe { blocks.mark(first, owned.local_count(), &mut free) } {
        abort::misuse(corrupted.address, CORRUPTED);
    }
    // What was never touched isn't there to be given back.
    let touched = owned.touched.get().max(owned.carved_bytes()) as usize;
    let (carved, old) = (owned.carved.get(), owned.holes.get());
    let new = holes::wholly_free(blocks, &free, carved, old, touched);
    if new == 0 {
        return 0;
    }
    discard_holes(page, new);
    sink(owned, blocks, &mut free, new);
    forget_tail(owned);
    new.count_ones() as usize * HOLE
}

/// Gives new holes' contents back.
pub fn discard_holes(page: PageRef, new: u64) {
    before_discard(page);
    for run in holes::runs(new) {
        discard(page, run.start * HOLE..run.end * HOLE);
    }
}

/// Notes that nothing behind the carved blocks is resident any more.
fn forget_tail(owned: &OwnedLine) {
    owned
        .touched
        .set(owned.touched.get().min(owned.carved_bytes()));
}

/// Takes the blocks that start in new holes off the page's list.
fn sink(owned: &OwnedLine, blocks: Blocks, free: &mut Marks, new: u64) {
    let mut taken = 0;
    // From the end, where blocks become uncarved again.
    for number in holes::numbers(new).rev() {
        let carved = owned.carved.get();
        let starting = owned.starting_in(number);
        if starting.is_empty() {
            // All of it is uncarved.
            continue;
        }
        for index in starting.clone() {
            free.remove(index as usize);
        }
        taken += starting.len() as u32;
        if starting.end == carved {
            owned.carved.set(starting.start);
        } else {
            owned.holes.set(owned.holes.get() | 1 << number);
            owned.sunk.set(owned.sunk.get() + starting.len() as u16);
        }
    }
    owned.set_local_count(owned.local_count() - taken);
    owned.counted.set(owned.local_count());
    owned.shuffled.set(false);
    // SAFETY: what is marked was on the page's list, which the caller holds.
    owned.local.set(unsafe { blocks.link(free) });
}
