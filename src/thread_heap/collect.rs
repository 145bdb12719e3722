//! Giving back what can be given back, on request; and the sums of all counters.

use super::{Heap, VACANT, exit, idle, settle, slot, sparse, taken_back};
use crate::arena::{self, reserve};
use crate::free_list::news::Leased;
use crate::stats::{Counters, Stats, counters};
use std::ptr;

/// See [`crate::collect`].
pub fn collect(force: bool) {
    slot::add_gathered();
    #[cfg(not(preload))]
    crate::stack::collect(force);
    for heap in idle::all() {
        if heap.news().try_lease() {
            tidy(heap, force);
            idle::publish_classes(heap);
            idle::park(heap);
        }
    }
    // Last, since what lay in the bins of the others may be this heap's.
    let own = slot::heap();
    if !ptr::eq(own, &VACANT) {
        tidy(own, force);
    }
    if force {
        // What threads that sleep have not taken back.
        taken_back::thin_all();
        reserve::purge_all();
    } else {
        reserve::tick();
    }
}

/// Settles everything of a heap whose lease the caller holds.
fn tidy(heap: &'static Heap, force: bool) {
    settle::settle_all(heap);
    exit::count_queued(heap);
    if force {
        settle::release_warm(heap);
        sparse::discard_all(heap);
    }
}

/// Serves heaps without a thread: for the background thread.
pub fn serve_idle() {
    for heap in idle::all() {
        if heap.news().try_lease() {
            settle::settle_all(heap);
            settle::release_warm(heap);
            idle::park(heap);
        }
    }
}

/// See [`crate::stats`].
pub fn stats() -> Stats {
    slot::add_gathered();
    let sum = Counters::new();
    counters::absorb_shards(&sum);
    for heap in idle::all() {
        // What an exiting thread left uncounted is counted by whoever asks first.
        if !heap.news().is_leased() && heap.news().try_lease() {
            if heap.uncounted.get() {
                exit::count_queued(heap);
            }
            idle::park(heap);
        }
    }
    let own = slot::heap();
    if !ptr::eq(own, &VACANT) {
        settle::settle_all(own);
    }
    idle::all().for_each(|heap| sum.absorb(&heap.counters));
    let totals = arena::totals();
    Stats {
        allocations: sum.allocations.get() + sum.recycled.get(),
        frees: sum.frees.get() + sum.recycled.get(),
        recycled: sum.recycled.get(),
        fresh_pages: sum.fresh_pages.get(),
        fresh_page_bytes: sum.fresh_page_bytes.get(),
        reused_pages: sum.reused_pages.get(),
        carved_refills: sum.carved_refills.get(),
        remote_frees: sum.remote_frees.get(),
        drained_active: sum.drained_active.get(),
        drained_partial: sum.drained_partial.get(),
        drained_full: sum.drained_full.get(),
        drained_abandoned: sum.drained_abandoned.get(),
        fresh_pages_with_news_pending: sum.fresh_pages_with_news_pending.get(),
        pages_scanned_in_vain: sum.pages_scanned_in_vain.get(),
        adopted_pages: sum.adopted_pages.get(),
        adopted_heaps: sum.adopted_heaps.get(),
        abandoned_pages: sum.abandoned_pages.get(),
        misaligned_pages: totals.misaligned,
        registry_misses: sum.registry_misses.get(),
        purged_bytes: reserve::purged_bytes(),
        reserved_bytes: totals.reserved as u64,
        committed_bytes: totals.committed as u64,
        // A reader may catch a free before its allocation; the difference is never shown below zero.
        live_bytes: sum
            .allocated_bytes
            .get()
            .saturating_sub(sum.freed_bytes.get()),
        reserve_bytes: reserve::held_bytes() as u64,
        arenas: totals.arenas as u64,
        threads: counters::threads() as u64,
        heaps: idle::made() as u64,
    }
}
