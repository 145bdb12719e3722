//! Leaving a heap, serving heaps without a thread, and taking pages over from them.

use super::news::Leased;
use super::{Heap, idle, settle, slot};
use crate::free_list::measure;
use crate::page::descriptor::Place;
use crate::page::shared_line::RemotePage;
use crate::size_class::SizeClass;
use std::ptr::{self, NonNull};

/// After so many frees into heaps without a thread, a thread exchanges its heap for the one it frees into: it was
/// probably handed the work of the thread that ended.
const EXCHANGE_AFTER: u32 = 64;
/// Heaps without a thread keep their empty pages as long as there are at most so many.
const KEEP_WARM_HEAPS: usize = 4;

/// The thread that held `heap` ends or exchanges it: everything goes back to the pages, and the lease is given up.
pub fn leave(heap: &'static Heap) {
    settle::settle_all(heap);
    flush(heap);
    if idle::idle() >= KEEP_WARM_HEAPS {
        settle::release_warm(heap);
    }
    heap.uncounted.set(true);
    idle::publish_classes(heap);
    idle::park(heap);
}

/// Moves what lies in the bins back to the pages. Walks the lists, to know their lengths.
pub fn flush(heap: &'static Heap) {
    for class in SizeClass::all() {
        flush_class(heap, class);
    }
}

/// As [`flush`], for one class.
pub fn flush_class(heap: &'static Heap, class: SizeClass) {
    let bin = heap.bin(class);
    let Some(page) = bin.page.take() else { return };
    bin.start.set(0);
    bin.bytes.set(0);
    // SAFETY: the caller holds the heap of this page.
    let owned = unsafe { page.owned() };
    if let Some(head) = NonNull::new(bin.free.replace(ptr::null_mut())) {
        // SAFETY: the bin's list holds blocks of its page only, and ends with null.
        let chain = unsafe { measure(head) };
        heap.counters.allocations.sub(u64::from(chain.count));
        heap.counters.allocated_bytes.sub(u64::from(chain.count) * class.bytes() as u64);
        // SAFETY: the list was just taken out of the bin.
        unsafe { owned.attach(chain) };
        owned.counted.set(owned.counted.get() + chain.count);
    }
    owned.stand(Place::Full);
    settle::replace(heap, page);
}

/// A remote free found its owner without a holder, so this thread holds the owner now. It serves it and gives it up,
/// unless it is better off keeping it.
#[cold]
#[inline(never)]
pub fn serve_abandoned(own: &'static Heap, owner: &'static Heap) {
    settle::settle_all(owner);
    match slot::state() {
        // The first thing this thread does is to free a block of a thread that ended: it takes over the whole heap.
        slot::State::Uninit => {
            owner.counters.adopted_heaps.add(1);
            slot::install(owner);
        }
        slot::State::Live if slot::count_abandoned_free() >= EXCHANGE_AFTER => {
            debug_assert!(!ptr::eq(own, owner));
            owner.counters.adopted_heaps.add(1);
            slot::exchange(owner);
        }
        slot::State::Live | slot::State::Exited => {
            owner.uncounted.set(true);
            idle::park(owner);
        }
    }
}

/// Runs `work` with a heap leased for the moment.
pub fn with_borrowed<T>(work: impl FnOnce(&'static Heap) -> T) -> Option<T> {
    let heap = idle::lease_or_make()?;
    settle::settle_all(heap);
    let done = work(heap);
    heap.uncounted.set(true);
    idle::park(heap);
    Some(done)
}

/// Moves a page of the class with free blocks from one heap to another, where it is settled like news; the caller
/// holds both. False if there is none to be had.
pub fn hand_over(from: &'static Heap, to: &'static Heap, class: SizeClass) -> bool {
    settle::settle_all(from);
    let queues = from.queues(class);
    let Some(page) = queues.partial.first().or(queues.uncarved.first()) else { return false };
    // The token, so that nobody announces the page to either heap meanwhile. A first pusher that is quicker has
    // announced it to `from`, or will: the page stays there.
    if !page.shared().remote().claim() {
        return false;
    }
    // SAFETY: the caller holds the page's heap.
    let owned = unsafe { page.owned() };
    match owned.place.get() {
        Place::Partial => queues.partial.remove(page),
        _ => queues.uncarved.remove(page),
    }
    settle::count_local(from, owned);
    owned.stand(Place::Full);
    page.shared().set_owner(to.as_owner());
    // As if it had been popped from the new owner's news: settling gives the token back, with what was pushed
    // meanwhile.
    settle::add_pending(to, page);
    settle::settle_all(to);
    to.counters.adopted_pages.add(1);
    if queues.partial.first().is_some() || queues.uncarved.first().is_some() {
        idle::publish(from, class);
    }
    true
}

/// Counts the pages that still have blocks for the statistics.
pub fn count_queued(heap: &'static Heap) {
    for class in SizeClass::all() {
        for page in heap.queues(class).partial.iter() {
            // SAFETY: the caller holds the heap.
            settle::count_local(heap, unsafe { page.owned() });
        }
    }
    heap.uncounted.set(false);
}
