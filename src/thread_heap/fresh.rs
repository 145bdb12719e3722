//! Fresh pages: what a refill takes when there is nothing else.

use super::Heap;
use crate::arena::{self, Run, Usage, registry};
use crate::page::descriptor::PageRef;
use crate::page::shared_line::{Identity, Kind};
use crate::size_class::{self, SizeClass};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

/// The slices for a page, `first` for the first one of its class in a heap. `None` when the system has no more address
/// space or memory.
pub fn claim(class: SizeClass, first: bool) -> Option<Run> {
    if !decide_page_sizes() {
        return None;
    }
    let slices = class.page_slices();
    let usage = match class.is_dense() {
        _ if first => Usage::Little,
        true => Usage::Whole,
        false => Usage::Part,
    };
    arena::claim(slices, slices.0, usage)
}

/// Decides, before there is a page, how large pages are; false while there is no memory at all.
fn decide_page_sizes() -> bool {
    static DECIDED: AtomicBool = AtomicBool::new(false);
    // Acquire and Release: whoever makes a page knows the decision.
    if DECIDED.load(Ordering::Acquire) {
        return true;
    }
    let Some(scarce) = arena::is_scarce() else {
        return false;
    };
    // Threads that get here together decide the same.
    if scarce {
        size_class::use_small_pages();
    }
    DECIDED.store(true, Ordering::Release);
    true
}

/// Makes claimed slices a page of the heap.
pub fn page(heap: &'static Heap, class: SizeClass, run: &Run) -> Option<PageRef> {
    let page = registry::slice_descriptor(run.start.addr().get())?;
    // SAFETY: the slices were just claimed, so nobody else can reach the page.
    let line = unsafe { page.owned() };
    let bytes = class.page_slices().bytes();
    line.touched
        .set(if run.resident { bytes as u32 } else { 0 });
    line.init(class, run.clean);
    identify(page, class, run.start.as_ptr(), run.arena, heap);
    heap.pages.set(heap.pages.get() + 1);
    heap.counters.fresh_pages.add(1);
    heap.counters.fresh_page_bytes.add(bytes as u64);
    Some(page)
}

/// Tells other threads what the page is now.
pub fn identify(page: PageRef, class: SizeClass, start: *mut u8, arena: u32, heap: &'static Heap) {
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
