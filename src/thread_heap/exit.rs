//! Leaving a heap, serving heaps without a thread, and taking pages over from them.

use super::{Heap, free, idle, recycle, settle, slot};
use crate::free_list::Block;
use crate::free_list::news::Leased;
use crate::page::descriptor::Place;
use crate::page::shared_line;
use crate::size_class::SizeClass;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Relaxed;

/// Heaps without a thread keep their empty pages as long as there are at most so many.
const KEEP_WARM_HEAPS: usize = 16;

/// The thread that held `heap` ends or exchanges it, and the lease is given up. The heap keeps its bins and empty
/// pages as they are, for the thread that takes it over next, unless too much is kept already.
pub fn leave(heap: &'static Heap) {
    settle::settle_all(heap);
    if !heap.recycling.may_idle() {
        flush(heap);
    }
    if idle::idle() >= KEEP_WARM_HEAPS {
        settle::release_warm(heap);
    } else {
        // As free slices they serve every size.
        heap.shelves.release();
    }
    heap.counters
        .abandoned_pages
        .add(u64::from(heap.pages.get()));
    heap.uncounted.set(true);
    heap.waited.store(0, Relaxed);
    idle::publish_classes(heap);
    idle::park(heap);
    idle::age(false);
}

/// Moves what lies in the bins back to the pages. Walks the lists, to know their lengths.
pub fn flush(heap: &'static Heap) {
    for class in SizeClass::all() {
        flush_class(heap, class);
    }
    heap.recycling.close();
}

/// As [`flush`], for one class.
pub fn flush_class(heap: &'static Heap, class: SizeClass) {
    let bin = heap.bin(class);
    // None if all that lies in the bin are recycled blocks.
    let page = bin.page.take();
    let start = bin.start.replace(0);
    let bytes = bin.bytes.replace(0);
    let mut list = bin.free.replace(ptr::null_mut());
    heap.recycling.stop(class);
    if page.is_some() {
        heap.recycling.leave(class);
    }
    let mut own = 0;
    loop {
        let Some(block) = NonNull::new(list) else {
            match recycle::pop(heap, class) {
                Some(batch) => list = batch.as_ptr(),
                None => break,
            }
            continue;
        };
        // SAFETY: the list was just taken out of the bin, and ends with null.
        list = unsafe { Block::next(block) };
        if let Some(page) = page
            && block.addr().get().wrapping_sub(start) < bytes
        {
            own += 1;
            // SAFETY: the caller holds the heap of this page.
            let owned = unsafe { page.owned() };
            // Nothing happens at an event: the page is current still.
            // SAFETY: the block is free and on no list any more.
            unsafe { owned.push_local(block) };
        } else {
            // SAFETY: as above; it came to the bin through a free with this class.
            unsafe { return_recycled(heap, block) };
        }
    }
    let Some(page) = page else { return };
    // SAFETY: the caller holds the heap of this page.
    let owned = unsafe { page.owned() };
    heap.counters.allocations.sub(own);
    heap.counters
        .allocated_bytes
        .sub(own * class.bytes() as u64);
    owned.counted.set(owned.counted.get() + own as u32);
    owned.stand(Place::Full);
    settle::replace(heap, page);
}

/// Returns a list of recycled blocks to their pages; the caller holds `heap`, and gives the list up.
pub fn return_list(heap: &'static Heap, list: NonNull<Block>) {
    let mut next = Some(list);
    while let Some(block) = next {
        // SAFETY: the list is the caller's, and ends with null.
        unsafe {
            next = NonNull::new(Block::next(block));
            return_recycled(heap, block);
        }
    }
}

/// Returns a recycled block, live to its page until now.
///
/// # Safety
/// The caller holds `heap`, and gives the block up.
unsafe fn return_recycled(heap: &'static Heap, block: NonNull<Block>) {
    // SAFETY: passed on.
    if let Some(owner) = unsafe { free::return_block(heap, block.cast()) } {
        give_back(owner);
    }
}

/// A remote free found its owner without a holder, so this thread holds the owner now. It gives it back, unless it is better off
/// keeping it.
#[cold]
#[inline(never)]
pub fn serve_abandoned(owner: &'static Heap) {
    match slot::state() {
        // The first thing this thread does is to free a block of a thread that ended: it takes over the whole heap.
        slot::State::Uninit => {
            owner.counters.adopted_heaps.add(1);
            slot::install(owner);
        }
        slot::State::Live if slot::belongs_to(owner) => {
            owner.counters.adopted_heaps.add(1);
            slot::exchange(owner);
        }
        slot::State::Live | slot::State::Exited => give_back(owner),
    }
}

/// Settles what is pending or new, and gives up the lease of a heap that was parked when the caller took it for the moment, and so is
/// in the set of idle ones still.
fn give_back(heap: &'static Heap) {
    // SAFETY: the caller holds the lease.
    if !unsafe { heap.pending.first() }.is_null() {
        settle::settle_all(heap);
    }
    heap.uncounted.set(true);
    // With what is new, if that is how the lease came.
    heap.unlease();
}

/// Serves a heap whose lease the caller holds for the moment, and gives it up.
pub fn settle_and_park(heap: &'static Heap) {
    settle::settle_all(heap);
    heap.uncounted.set(true);
    idle::park(heap);
}

/// Runs `work` with a heap leased for the moment.
pub fn with_borrowed<T>(work: impl FnOnce(&'static Heap) -> T) -> Option<T> {
    let heap = idle::lease_or_make()?;
    settle::settle_all(heap);
    let done = work(heap);
    settle_and_park(heap);
    Some(done)
}

/// Moves free blocks of the class from one heap to another, whose bin is empty; the caller holds both. Recycled blocks
/// come as a list; otherwise it is a page, which is settled like news. False if there is nothing to be had.
pub fn hand_over(from: &'static Heap, to: &'static Heap, class: SizeClass) -> bool {
    if recycle::transfer(from, to, class) {
        to.used.insert(class);
        idle::publish(from, class);
        return true;
    }
    settle::settle_all(from);
    flush_class(from, class);
    let queues = from.queues(class);
    let Some(page) = queues.partial.first().or(queues.uncarved.first()) else {
        return false;
    };
    let detach = || {
        // SAFETY: the caller holds the page's heap.
        let owned = unsafe { page.owned() };
        match owned.place.get() {
            Place::Partial => queues.partial.remove(page),
            _ => queues.uncarved.remove(page),
        }
        settle::count_local(from, owned);
        owned.stand(Place::Waiting);
        from.pages.set(from.pages.get() - 1);
        to.pages.set(to.pages.get() + 1);
    };
    if !shared_line::hand_over(page, to, detach) {
        return false;
    }
    to.counters.adopted_pages.add(1);
    if queues.partial.first().is_some() || queues.uncarved.first().is_some() {
        idle::publish(from, class);
    }
    true
}

/// Makes the counters of a heap exact: empties its bins, and counts the frees of its partly used pages.
pub fn count_queued(heap: &'static Heap) {
    flush(heap);
    for class in SizeClass::all() {
        for page in heap.queues(class).partial.iter() {
            // SAFETY: the caller holds the heap.
            settle::count_local(heap, unsafe { page.owned() });
        }
    }
    heap.uncounted.set(false);
}
