//! Blocks without a page of a size class: `large` makes them, and here they are counted in the thread's heap.

use super::slot;
use crate::large::{self, LargeBlock};
use crate::page::descriptor::PageRef;
use crate::size_class::SizeClass;
use std::ptr::{self, NonNull};

/// A block of `size` bytes at a multiple of `align`; zero where `zeroed` asks for it. Null when the system refuses.
#[cold]
#[inline(never)]
pub fn allocate(size: usize, align: usize, zeroed: bool) -> *mut u8 {
    let Some(block) = large::allocate(size, align, zeroed) else {
        return ptr::null_mut();
    };
    count_allocated(block.bytes);
    block.start.as_ptr()
}

/// A block of a class without a page; `None` when the system refuses.
pub fn allocate_single(class: SizeClass) -> Option<LargeBlock> {
    let block = large::single(class.bytes())?;
    count_allocated(block.bytes);
    Some(block)
}

/// Frees the block of a large or huge page.
///
/// # Safety
/// The caller gives the page's only block up.
#[cold]
#[inline(never)]
pub unsafe fn free(page: PageRef) {
    // SAFETY: passed on.
    count_freed(unsafe { large::free(page) });
}

/// Changes the size of a large or huge block without copying; `None` when the contents have to be copied.
///
/// # Safety
/// As for [`large::resize`].
pub unsafe fn resize(page: PageRef, size: usize, align: usize) -> Option<NonNull<u8>> {
    let before = page.shared().block_bytes();
    // SAFETY: passed on.
    let block = unsafe { large::resize(page, size, align) }?;
    if block.bytes != before {
        count_allocated(block.bytes);
        count_freed(before);
    }
    Some(block.start)
}

fn count_allocated(bytes: usize) {
    let heap = slot::heap();
    slot::count(heap, |counters| &counters.allocations, 1);
    slot::count(heap, |counters| &counters.allocated_bytes, bytes as u64);
}

fn count_freed(bytes: usize) {
    let heap = slot::heap();
    slot::count(heap, |counters| &counters.frees, 1);
    slot::count(heap, |counters| &counters.freed_bytes, bytes as u64);
}
