//! Where there is no OS layer of ours: the system allocator, and no counters.

use crate::{Millpond, Stats};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;

// SAFETY: all four calls are the system allocator's.
unsafe impl GlobalAlloc for Millpond {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

pub fn collect(_force: bool) {}

pub fn stats() -> Stats {
    Stats::default()
}

/// The system allocator doesn't say; a lower bound that is always true.
pub fn usable_size(_: NonNull<u8>) -> usize {
    0
}
