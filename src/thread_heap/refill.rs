//! Refilling a bin: the order in which a heap looks for blocks before it takes a fresh page.
//!
//! ```text
//!  1  the bin's page: blocks on its local list                               reused
//!  2  the bin's page: the next blocks, if their memory was in use before     carved
//!  3  the bin's page: its remote list, drained in place, if ripe             reused   (active)
//!  4  pages with news: each is drained and moves to its place                         (active, partial and full alike)
//!  5  the first of the bin's partly used pages, if ripe                      reused
//!  6  an empty page of the class that the heap kept, carved anew             reused
//!  7  the bin's page and partly used ones with however few blocks            reused   (active)
//!  8  uncarved blocks of the bin's pages                                     carved
//!  9  an empty page of any class that the heap kept, or put on its shelf     reused
//! 10  a page of a heap without a thread                                      reused
//! 11  above 17 KiB, unless the class is in demand: a block without a page    large
//! 12  an empty page from another heap's shelf, where an arena has none       reused
//!     that is resident; a fresh page from an arena                           fresh
//! ```
//!
//! The first page of a class, if it is larger than a slice, is a fresh one, and one without old contents: see [`is_first`].
//!
//! A page is ripe when all of its blocks are free, of those above 4 KiB a quarter. One that other threads are still freeing
//! into gives few blocks now and more later; left alone while there is something better at no cost in memory, it often
//! becomes wholly free, and is then carved anew, in order and without reading a link.
//! `docs/decisions/015-order-of-reuse.md` has the figures.
//!
//! The work is proportional to the pages with news; no list is scanned in the hope of finding some.

use super::alloc::pop;
use super::{
    Bin, Heap, VACANT, background, check, fork, fresh, idle, prefault, recycle, settle, single,
    slot,
};
use crate::abort;
use crate::arena::{self, reserve, shelves};
use crate::free_list::Block;
use crate::free_list::address_order::{Blocks, CORRUPTED};
use crate::free_list::news::Leased;
use crate::page::descriptor::{OwnedLine, PageRef, Place};
use crate::size_class::{BinOffset, SizeClass};
use crate::units::{KIB, SliceCount};
use std::ptr::{self, NonNull};

/// How many pages of news one refill settles at most, unless it is about to take a fresh page.
const NEWS_LIMIT: usize = 64;
/// How often a refill goes back because news arrived just before it would take a fresh page.
const ROUNDS: u32 = 3;
/// A page of large blocks is ripe when its free blocks times this are at least the carved ones.
const RIPE: u32 = 4;
/// Fewer blocks than this aren't worth sorting.
const SORT_FROM: u32 = 16;
/// Nor is a list whose blocks times this are less than the page's carved ones.
const SORT_DENSITY: u32 = 4;
/// About how many bytes of blocks are linked at a time.
const CARVE_BYTES: usize = 4 * KIB;
/// But so many blocks, if there are, where that probably costs no page fault.
const CARVE_RESIDENT: u32 = 16;

/// What a refill gives: a block, with the rest of what it found in the bin.
#[derive(Clone, Copy)]
pub struct Refill {
    /// The block; null when the system has no memory left.
    pub block: *mut u8,
    /// It reads as zero.
    pub zero: bool,
}

impl Refill {
    /// No memory.
    pub const NONE: Self = Self {
        block: ptr::null_mut(),
        zero: false,
    };

    fn used(block: *mut Block) -> Self {
        Self {
            block: block.cast(),
            zero: false,
        }
    }
}

/// Refills the bin of a class and allocates a block from it.
#[cold]
#[inline(never)]
pub fn allocate(offset: BinOffset, heap: &'static Heap) -> Refill {
    let class = offset.class();
    if ptr::eq(heap, &VACANT) {
        return slot::allocate_without_heap(class);
    }
    refill(heap, class)
}

/// As [`allocate`], for a heap whose lease the caller holds.
pub fn refill(heap: &'static Heap, class: SizeClass) -> Refill {
    if heap.needs_repair.get() {
        fork::repair(heap);
    }
    let bin = heap.bin(class);
    // Only for a heap that was left with its bins, or when a signal handler refilled the bin meanwhile.
    if let Some(block) = pop(bin) {
        return Refill::used(block.as_ptr());
    }
    if let Some(block) = recycle::take_batch(heap, bin, class) {
        heap.counters.reused_pages.add(1);
        return Refill::used(block.as_ptr());
    }
    check::at_refill(heap, class);
    match at_once(heap, bin, class) {
        Some(found) => found,
        None => search(heap, bin, class),
    }
}

/// A refill by all steps.
#[cold]
#[inline(never)]
fn search(heap: &'static Heap, bin: &Bin, class: SizeClass) -> Refill {
    let mut rounds = 0;
    let mut limit = NEWS_LIMIT;
    loop {
        let found = from_ripe(heap, bin, class, limit).or_else(|| from_any(heap, bin, class));
        if let Some(found) = found {
            return found;
        }
        if !is_first(bin, class)
            && let Some(page) = settle::take_warm(heap, class)
        {
            heap.counters.reused_pages.add(1);
            return open_warm(heap, bin, class, page);
        }
        if idle::adopt(heap, class) {
            if let Some(block) = pop(bin) {
                heap.counters.reused_pages.add(1);
                return Refill::used(block.as_ptr());
            }
            continue;
        }
        // All news is settled before a fresh page is taken; what it brought may do instead.
        limit = usize::MAX;
        if check::news_is_off() || (settle::settle_some(heap, limit) == 0 && heap.news().is_empty())
        {
            break;
        }
        rounds += 1;
        if rounds > ROUNDS {
            if !heap.news().is_empty() {
                heap.counters.fresh_pages_with_news_pending.add(1);
            }
            break;
        }
    }
    open_fresh(heap, bin, class)
}

/// Step 5, 6 or 9, where one look shows that no step before gives blocks: where pages come and go, that is most refills.
#[inline]
fn at_once(heap: &'static Heap, bin: &Bin, class: SizeClass) -> Option<Refill> {
    let current = bin.page.get()?;
    let line = owned(current);
    let is_used_up = line.local.get().is_null()
        && is_carved(current)
        && current.shared().remote().peek().count() == 0;
    // SAFETY: the caller holds the lease.
    let is_settled = unsafe { heap.pending.first() }.is_null() && heap.news().is_empty();
    if !is_used_up || !is_settled {
        return None;
    }
    let queues = heap.queues(class);
    if let Some(page) = queues.partial.first() {
        if !is_ripe(page, owned(page).local_count()) {
            return None;
        }
        return take_partial(heap, bin, class);
    }
    if queues.uncarved.first().is_some() {
        return None;
    }
    let page = settle::take_at_once(heap, class)?;
    heap.counters.reused_pages.add(1);
    Some(open_warm(heap, bin, class, page))
}

/// No block of the page is uncarved.
fn is_carved(page: PageRef) -> bool {
    let line = owned(page);
    line.carved.get() == page.shared().capacity() && line.holes.get() == 0
}

/// Steps 1 to 6.
fn from_ripe(heap: &'static Heap, bin: &Bin, class: SizeClass, limit: usize) -> Option<Refill> {
    if let Some(page) = bin.page.get() {
        if let Some(block) = take_local(heap, bin, page) {
            return Some(reused(heap, block));
        }
        if owned(page).has_resident_uncarved() {
            heap.counters.carved_refills.add(1);
            return Some(carve(heap, bin, page));
        }
        if is_ripe(page, page.shared().remote().peek().count())
            && let Some(block) = drain_active(heap, bin, page)
        {
            return Some(reused(heap, block));
        }
    }
    if !check::news_is_off() {
        let settled = settle::settle_some(heap, limit);
        if settled > 0
            && let Some(page) = bin.page.get()
            && is_ripe(page, owned(page).local_count())
            && let Some(block) = take_local(heap, bin, page)
        {
            return Some(reused(heap, block));
        }
    }
    if let Some(page) = heap.queues(class).partial.first()
        && is_ripe(page, owned(page).local_count())
    {
        return take_partial(heap, bin, class);
    }
    let page = settle::take_warm_of_class(heap, class)?;
    heap.counters.reused_pages.add(1);
    Some(open_warm(heap, bin, class, page))
}

/// Steps 7 and 8.
fn from_any(heap: &'static Heap, bin: &Bin, class: SizeClass) -> Option<Refill> {
    if let Some(page) = bin.page.get() {
        let freed = take_local(heap, bin, page).or_else(|| drain_active(heap, bin, page));
        if let Some(block) = freed {
            return Some(reused(heap, block));
        }
    }
    if let Some(found) = take_partial(heap, bin, class) {
        return Some(found);
    }
    let carved = carve_any(heap, bin, class)?;
    heap.counters.carved_refills.add(1);
    Some(carved)
}

/// Notes a refill by freed blocks.
fn reused(heap: &'static Heap, block: *mut Block) -> Refill {
    recycle::note_reuse(heap);
    heap.counters.reused_pages.add(1);
    Refill::used(block)
}

/// Whether so many free blocks of a page are worth more now than the page would be later.
fn is_ripe(page: PageRef, free: u32) -> bool {
    let line = owned(page);
    let times = match line.class.get().is_dense() {
        true => 1,
        false => RIPE,
    };
    free > 0 && free * times >= line.carved.get()
}

/// The blocks of the first partly used page.
fn take_partial(heap: &'static Heap, bin: &Bin, class: SizeClass) -> Option<Refill> {
    let page = heap.queues(class).partial.pop()?;
    make_current(heap, bin, page);
    take_local(heap, bin, page).map(|block| reused(heap, block))
}

fn owned(page: PageRef) -> &'static OwnedLine {
    // SAFETY: only called with pages of the heap that is being refilled, whose lease the caller holds.
    unsafe { page.owned() }
}

/// Moves the local list of the current page into the bin.
fn take_local(heap: &Heap, bin: &Bin, page: PageRef) -> Option<*mut Block> {
    let owned = owned(page);
    let head = NonNull::new(owned.local.replace(ptr::null_mut()))?;
    settle::count_local(heap, owned);
    let count = owned.local_count();
    owned.set_local_count(0);
    owned.counted.set(0);
    count_allocated(heap, owned.class.get(), count);
    let head = if owned.shuffled.replace(false) {
        // SAFETY: the list is the whole local one of the page.
        unsafe { sort(page, head, count) }
    } else {
        head
    };
    // SAFETY: the list was the page's, and now is the bin's.
    bin.free.set(unsafe { Block::next(head) });
    Some(head.as_ptr())
}

/// As [`take_local`], for a page that was empty and kept: its frees are counted, and its list needn't be sorted.
fn take_whole(heap: &Heap, bin: &Bin, owned: &OwnedLine) -> Option<*mut Block> {
    debug_assert!(owned.counted.get() == owned.local_count() && !owned.shuffled.get());
    let head = NonNull::new(owned.local.replace(ptr::null_mut()))?;
    count_allocated(heap, owned.class.get(), owned.local_count());
    owned.set_local_count(0);
    owned.counted.set(0);
    // SAFETY: the list was the page's, and now is the bin's.
    bin.free.set(unsafe { Block::next(head) });
    Some(head.as_ptr())
}

/// Sorts a list of the page that other threads' frees have shuffled, if it is dense enough for neighbours to meet.
///
/// # Safety
/// The caller owns the list of `count` blocks that starts with `head`.
unsafe fn sort(page: PageRef, head: NonNull<Block>, count: u32) -> NonNull<Block> {
    let class = owned(page).class.get();
    let sparse = count * SORT_DENSITY < owned(page).carved.get();
    if count < SORT_FROM || sparse || !class.is_dense() {
        return head;
    }
    let blocks = Blocks::of(page.shared().start(), class);
    // SAFETY: passed on.
    match unsafe { blocks.sort(head, count) } {
        // SAFETY: the list has blocks, and so has the sorted one.
        Ok(first) => unsafe { NonNull::new_unchecked(first) },
        Err(corrupted) => abort::misuse(corrupted.address, CORRUPTED),
    }
}

/// Moves the remote list of the current page into the bin. The token, if it is out, stays out.
fn drain_active(heap: &Heap, bin: &Bin, page: PageRef) -> Option<*mut Block> {
    if check::active_drain_is_off() {
        return None;
    }
    let owned = owned(page);
    // Whether or not somebody has taken it back just now.
    owned.overlooked.set(false);
    let drained = page.shared().remote().drain(page.shared().start())?;
    settle::count_drained(heap, owned, drained.count);
    if drained.count == owned.class.get().capacity() {
        reserve::unpin(page.slices().bytes());
    }
    let Some(chain) = owned.linked(drained) else {
        abort::misuse(drained.head.as_ptr().addr(), CORRUPTED)
    };
    count_allocated(heap, owned.class.get(), chain.count);
    // SAFETY: the chain was just drained; its last link is null.
    unsafe {
        let head = sort(page, chain.head, chain.count);
        bin.free.set(Block::next(head));
        Some(head.as_ptr())
    }
}

/// Replaces the bin's page, whose list in the bin is empty.
fn make_current(heap: &'static Heap, bin: &Bin, page: PageRef) {
    debug_assert!(bin.free.get().is_null());
    if let Some(old) = bin.page.replace(Some(page)) {
        let line = owned(old);
        line.stand(Place::Full);
        // Nothing else to be done for one that was used up.
        if line.local_count() > 0 || !is_carved(old) {
            settle::replace(heap, old);
        }
    } else {
        let class = owned(page).class.get();
        bin.bytes.set(class.page_slices().bytes());
        begin(heap, class);
    }
    owned(page).stand(Place::Current);
    bin.start.set(page.shared().start().addr());
}

/// Notes that a bin has a page now, which it hadn't.
#[cold]
#[inline(never)]
fn begin(heap: &Heap, class: SizeClass) {
    heap.used.insert(class);
    heap.recycling.open(class);
}

/// The current page's uncarved blocks, or another page's.
fn carve_any(heap: &'static Heap, bin: &Bin, class: SizeClass) -> Option<Refill> {
    let current = bin.page.get().filter(|page| owned(page).has_uncarved());
    let page = match current {
        Some(page) => page,
        None => {
            let page = heap.queues(class).uncarved.pop()?;
            make_current(heap, bin, page);
            page
        }
    };
    Some(carve(heap, bin, page))
}

/// Links a few KiB of uncarved blocks of the current page into the bin, and takes the first.
fn carve(heap: &Heap, bin: &Bin, page: PageRef) -> Refill {
    let owned = owned(page);
    let class = owned.class.get();
    let bytes = class.bytes();
    let holes = owned.holes.get();
    let clean = owned.clean.get() && holes == 0;
    prefault::before_carving(heap, page, owned, CARVE_BYTES);
    let least = owned.resident_uncarved().clamp(1, CARVE_RESIDENT);
    let blocks = owned.take_uncarved(((CARVE_BYTES / bytes) as u32).max(least));
    if owned.holes.get() != holes {
        heap.sparse.regret();
    }
    let block = |index: u32| {
        let address = page.shared().start().wrapping_add(index as usize * bytes);
        // SAFETY: the block lies in the page, above address 0.
        unsafe { NonNull::new_unchecked(address.cast::<Block>()) }
    };
    let mut next = bin.free.get();
    for index in (blocks.start + 1..blocks.end).rev() {
        // SAFETY: the block was never handed out, or lay in a hole: it is free and on no list.
        unsafe { Block::link(block(index), next) };
        next = block(index).as_ptr();
    }
    bin.free.set(next);
    count_allocated(heap, class, blocks.len() as u32);
    Refill {
        block: block(blocks.start).as_ptr().cast(),
        zero: clean,
    }
}

/// An empty page of the right size. Its list is kept if it is of this class and in the order of the thread's own frees.
/// Otherwise it is forgotten: carving the page anew costs no cache miss for each block, and restores the order.
fn open_warm(heap: &'static Heap, bin: &Bin, class: SizeClass, page: PageRef) -> Refill {
    let line = owned(page);
    if line.class.get() == class && !line.shuffled.get() {
        make_current(heap, bin, page);
        return match take_whole(heap, bin, line) {
            Some(block) => Refill::used(block),
            None => carve(heap, bin, page),
        };
    }
    let other_class = line.class.get() != class;
    line.note_touched();
    let clean = line.clean.get() && line.touched.get() == 0;
    line.init(class, clean);
    if other_class {
        fresh::identify(
            page,
            class,
            page.shared().start(),
            page.shared().arena(),
            heap,
        );
    }
    make_current(heap, bin, page);
    carve(heap, bin, page)
}

fn open_fresh(heap: &'static Heap, bin: &Bin, class: SizeClass) -> Refill {
    check::before_fresh_page(heap, class);
    background::ensure();
    // The only heap is this one. (Not even the clock is asked.)
    if idle::made() > 1 {
        idle::age(false);
    }
    // Without a page, too, the bin has credit from now on, and so perhaps a list before long.
    heap.used.insert(class);
    if let Some(single) = single::allocate(heap, class) {
        return single;
    }
    // Where memory would be taken that isn't resident, while empty pages of other heaps are.
    let first = is_first(bin, class);
    if !first && let Some(page) = shelves::take_any(class) {
        // A signal handler that came before may have refilled the bin.
        if let Some(block) = pop(bin) {
            shelves::release(page);
            return Refill::used(block.as_ptr());
        }
        settle::adopt_shelved(heap, page);
        heap.counters.reused_pages.add(1);
        return open_warm(heap, bin, class, page);
    }
    let claimed = fresh::claim(class, first);
    // A signal handler that interrupted the claim may have refilled the bin.
    if let Some(block) = pop(bin) {
        if let Some(run) = claimed {
            arena::release(run.start, run.arena, class.page_slices(), SliceCount(0));
        }
        return Refill::used(block.as_ptr());
    }
    let Some(run) = claimed else {
        // What a first page left alone.
        return settle::take_warm(heap, class).map_or(Refill::NONE, |page| {
            heap.counters.reused_pages.add(1);
            open_warm(heap, bin, class, page)
        });
    };
    let Some(page) = fresh::page(heap, class, &run) else {
        return Refill::NONE;
    };
    make_current(heap, bin, page);
    carve(heap, bin, page)
}

/// Whether a page would be the first of its class, and large. It may never have more than a few blocks: one that is resident, or
/// memory that is, would be pinned by them, and serves others better.
fn is_first(bin: &Bin, class: SizeClass) -> bool {
    bin.page.get().is_none() && class.page_slices().0 > 1
}

fn count_allocated(heap: &Heap, class: SizeClass, blocks: u32) {
    heap.counters.allocations.add(u64::from(blocks));
    heap.counters
        .allocated_bytes
        .add(u64::from(blocks) * class.bytes() as u64);
}
