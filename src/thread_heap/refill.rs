//! Refilling a bin: the order in which a heap looks for blocks before it takes a fresh page.
//!
//! ```text
//! 1  the bin's page: blocks freed to its local list          reused
//! 2  the bin's page: its remote list, drained in place       reused   (active)
//! 3  pages with news: each is drained and moves to its place          (active, partial and full alike)
//! 4  partly used pages of the bin                            reused
//! 5  uncarved blocks of the bin's pages                      carved
//! 6  an empty page that the heap kept                        reused
//! 7  a page of a heap without a thread                       reused
//! 8  a fresh page from an arena                              fresh
//! ```
//!
//! The work is proportional to the pages with news; no list is scanned in the hope of finding some.

use super::{Bin, Heap, VACANT, background, check, fork, idle, recycle, settle, slot};
use crate::arena::{self, registry, reserve};
use crate::free_list::Block;
use crate::free_list::news::Leased;
use crate::page::descriptor::{OwnedLine, PageRef, Place};
use crate::page::shared_line::{Identity, Kind};
use crate::size_class::{BinOffset, SizeClass};
use crate::units::{KIB, SliceCount};
use std::ptr::{self, NonNull};

/// How many pages of news one refill settles at most, unless it is about to take a fresh page.
const NEWS_LIMIT: usize = 64;
/// How often a refill goes back because news arrived just before it would take a fresh page.
const ROUNDS: u32 = 3;
/// About how many bytes of blocks are linked at a time.
const CARVE_BYTES: usize = 4 * KIB;

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
    let mut rounds = 0;
    let mut limit = NEWS_LIMIT;
    loop {
        if let Some(block) = reuse(heap, bin, class, limit) {
            recycle::note_reuse(heap);
            heap.counters.reused_pages.add(1);
            return Refill::used(block);
        }
        if let Some(carved) = carve_any(heap, bin, class) {
            heap.counters.carved_refills.add(1);
            return carved;
        }
        if let Some(page) = settle::take_warm(heap, class) {
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
    fresh(heap, bin, class)
}

fn pop(bin: &Bin) -> Option<NonNull<Block>> {
    let block = NonNull::new(bin.free.get())?;
    // SAFETY: the bin's list is the lease holder's.
    bin.free.set(unsafe { Block::next(block) });
    Some(block)
}

/// Steps 1 to 4: freed blocks of the bin's pages.
fn reuse(heap: &'static Heap, bin: &Bin, class: SizeClass, limit: usize) -> Option<*mut Block> {
    if let Some(page) = bin.page.get() {
        if let Some(block) = take_local(heap, bin, page) {
            return Some(block);
        }
        if let Some(block) = drain_active(heap, bin, page) {
            return Some(block);
        }
    }
    if !check::news_is_off() {
        settle::settle_some(heap, limit);
        if let Some(block) = bin.page.get().and_then(|page| take_local(heap, bin, page)) {
            return Some(block);
        }
    }
    let page = heap.queues(class).partial.pop()?;
    make_current(heap, bin, page);
    take_local(heap, bin, page)
}

fn owned(page: PageRef) -> &'static OwnedLine {
    // SAFETY: only called with pages of the heap that is being refilled, whose lease the caller holds.
    unsafe { page.owned() }
}

/// Step 1: moves the local list of the current page into the bin.
fn take_local(heap: &Heap, bin: &Bin, page: PageRef) -> Option<*mut Block> {
    let owned = owned(page);
    let head = NonNull::new(owned.local.replace(ptr::null_mut()))?;
    settle::count_local(heap, owned);
    let count = owned.local_count.replace(0);
    owned.counted.set(0);
    count_allocated(heap, owned.class.get(), count);
    // SAFETY: the list was the page's, and now is the bin's.
    bin.free.set(unsafe { Block::next(head) });
    Some(head.as_ptr())
}

/// Step 2: moves the remote list of the current page into the bin. The token, if it is out, stays out.
fn drain_active(heap: &Heap, bin: &Bin, page: PageRef) -> Option<*mut Block> {
    if check::active_drain_is_off() {
        return None;
    }
    let chain = page.shared().remote().drain(page.shared().start())?;
    let owned = owned(page);
    settle::count_drained(heap, owned, chain.count);
    if chain.count == owned.capacity.get() {
        reserve::unpin(page.slices().bytes());
    }
    count_allocated(heap, owned.class.get(), chain.count);
    owned.overlooked.set(false);
    // SAFETY: the chain was just drained; its last link is null, since its last block was pushed onto an empty list.
    bin.free.set(unsafe { Block::next(chain.head) });
    Some(chain.head.as_ptr())
}

/// Replaces the bin's page, whose list in the bin is empty.
fn make_current(heap: &'static Heap, bin: &Bin, page: PageRef) {
    debug_assert!(bin.free.get().is_null());
    if let Some(old) = bin.page.replace(Some(page)) {
        owned(old).stand(Place::Full);
        settle::replace(heap, old);
    }
    owned(page).stand(Place::Current);
    bin.start.set(page.shared().start().addr());
    bin.bytes.set(owned(page).class.get().page_slices().bytes());
}

/// Step 5: the current page's uncarved blocks, or another page's.
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

/// Links a few KiB of never used blocks of the current page into the bin, and takes the first.
fn carve(heap: &Heap, bin: &Bin, page: PageRef) -> Refill {
    let owned = owned(page);
    let class = owned.class.get();
    let bytes = class.bytes();
    let from = owned.carved.get();
    let count = (owned.capacity.get() - from).min((CARVE_BYTES / bytes).max(1) as u32);
    let block = |index: u32| {
        let address = page.shared().start().wrapping_add(index as usize * bytes);
        // SAFETY: the block lies in the page, above address 0.
        unsafe { NonNull::new_unchecked(address.cast::<Block>()) }
    };
    let mut next = bin.free.get();
    for index in (from + 1..from + count).rev() {
        // SAFETY: the block was never handed out.
        unsafe { Block::link(block(index), next) };
        next = block(index).as_ptr();
    }
    bin.free.set(next);
    owned.carved.set(from + count);
    count_allocated(heap, class, count);
    Refill {
        block: block(from).as_ptr().cast(),
        zero: owned.clean.get(),
    }
}

/// Step 6: an empty page of the right size, with its list if it was of this class.
fn open_warm(heap: &'static Heap, bin: &Bin, class: SizeClass, page: PageRef) -> Refill {
    let line = owned(page);
    if line.class.get() == class {
        make_current(heap, bin, page);
        if let Some(block) = take_local(heap, bin, page) {
            return Refill::used(block);
        }
    } else {
        settle::note_touched(line);
        let clean = line.clean.get() && line.touched.get() == 0;
        line.init(class, clean);
        identify(
            page,
            class,
            page.shared().start(),
            page.shared().arena(),
            heap,
        );
        make_current(heap, bin, page);
    }
    carve(heap, bin, page)
}

/// Step 8: a page from an arena.
fn fresh(heap: &'static Heap, bin: &Bin, class: SizeClass) -> Refill {
    check::before_fresh_page(heap, class);
    background::ensure();
    idle::age();
    let slices = class.page_slices();
    let Some(run) = arena::claim(slices, slices.0) else {
        return Refill::NONE;
    };
    // A signal handler that interrupted the claim may have refilled the bin.
    if let Some(block) = pop(bin) {
        arena::release(run.start, run.arena, slices, SliceCount(0));
        return Refill::used(block.as_ptr());
    }
    let Some(page) = registry::slice_descriptor(run.start.addr().get()) else {
        return Refill::NONE;
    };
    // SAFETY: the slices were just claimed, so nobody else can reach the page.
    let line = unsafe { page.owned() };
    line.touched.set(0);
    line.init(class, run.clean);
    identify(page, class, run.start.as_ptr(), run.arena, heap);
    heap.pages.set(heap.pages.get() + 1);
    heap.counters.fresh_pages.add(1);
    heap.counters.fresh_page_bytes.add(slices.bytes() as u64);
    make_current(heap, bin, page);
    carve(heap, bin, page)
}

fn identify(page: PageRef, class: SizeClass, start: *mut u8, arena: u32, heap: &'static Heap) {
    let identity = Identity {
        kind: Kind::Binned,
        // SAFETY: pages lie above address 0.
        start: unsafe { NonNull::new_unchecked(start) },
        block_bytes: class.bytes(),
        capacity: class.capacity(),
        bin: class.bin(),
        arena,
    };
    page.shared().register(identity, heap.as_owner());
    registry::mark(page, class.page_slices(), Some(class.bin()));
}

fn count_allocated(heap: &Heap, class: SizeClass, blocks: u32) {
    heap.counters.allocations.add(u64::from(blocks));
    heap.counters
        .allocated_bytes
        .add(u64::from(blocks) * class.bytes() as u64);
}
