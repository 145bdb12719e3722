//! `fork`. The allocator has no locks, so there is no lock order to keep, and the handler before `fork` has nothing to
//! do. In the child one thread is left:
//!
//! - Its own heap is whole, because `fork` was called from outside the allocator. Remote frees that a vanished thread
//!   had pushed but not announced are found by one walk over the claimed slices, at the child's first refill.
//! - Heaps without a thread are whole too and can be leased.
//! - Heaps of vanished threads stay leased for ever: what the child frees into them is accepted and kept, a leak that
//!   ends with the child. Slices that a vanished thread had just claimed, a mapping that it had just taken from the
//!   cache, and the blocks that it had just taken back from a page's remote list, are lost to the child likewise.

use super::{Heap, VACANT, background, settle, slot};
use crate::arena;
use crate::free_list::remote::State;
use crate::page::descriptor::PageRef;
use crate::stats::counters;
use std::ptr;

/// Registers the handler, once.
pub fn watch() {
    // SAFETY: the handler is a function of the right type. On failure (no memory) a child may leak a little more.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

unsafe extern "C" fn in_child() {
    let heap = slot::heap();
    let live = !ptr::eq(heap, &VACANT);
    if live {
        heap.needs_repair.set(true);
    }
    counters::reset_threads(usize::from(live));
    background::vanished();
}

/// Settles pages of the heap whose token a vanished thread took along. Runs in the child while it has one thread, or
/// at worst beside threads that it made since: then a token may be one of theirs, and is left to them.
pub fn repair(heap: &'static Heap) {
    heap.needs_repair.set(false);
    if counters::threads() > 1 {
        settle::settle_all(heap);
        return;
    }
    // First, so that the news can be settled whole: a page that stands there already must not be added again below.
    each_page_of(heap, |page| {
        if page.shared().remote().peek().state() == State::Purging {
            // The thread that was discarding the contents is gone; that they are discarded in part is no matter, but
            // they can't be relied on to be zero, so the page is finished here.
            settle::discard(page);
            page.shared().remote().finish_purge();
        }
    });
    settle::settle_all(heap);
    // What still has its token out was never announced.
    each_page_of(heap, |page| {
        if page.shared().remote().peek().state() != State::Idle {
            settle::add_pending(heap, page);
        }
    });
    settle::settle_all(heap);
}

/// Visits the pages that the heap owns.
fn each_page_of(heap: &'static Heap, mut visit: impl FnMut(PageRef)) {
    arena::each_claimed_slice(|start| {
        if let Some(page) = arena::registry::find_start(start.addr().get())
            && ptr::eq(page.shared().owner(), heap)
        {
            visit(page);
        }
    });
}
