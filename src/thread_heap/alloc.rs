//! Allocation. The fast path is [`allocate`]: the thread's heap, the bin of the class, the head of its list.

use super::refill;
use super::slot;
use crate::free_list::Block;
use crate::size_class::SizeClass;
use std::ptr::NonNull;

/// A block of the class; null when the system has no memory left.
#[inline(always)]
pub fn allocate(class: SizeClass) -> *mut u8 {
    let heap = slot::heap();
    let bin = heap.bin(class);
    let Some(block) = NonNull::new(bin.free.get()) else {
        return refill::allocate(heap, class).block;
    };
    // SAFETY: the list of a bin belongs to the thread that holds its heap.
    bin.free.set(unsafe { Block::next(block) });
    block.as_ptr().cast()
}

/// As [`allocate`], with the first `size` bytes zero. Blocks that were never handed out are zero already, except for
/// those that wait in a list and carry its links.
#[inline]
pub fn allocate_zeroed(class: SizeClass, size: usize) -> *mut u8 {
    let heap = slot::heap();
    let bin = heap.bin(class);
    let Some(block) = NonNull::new(bin.free.get()) else {
        let fresh = refill::allocate(heap, class);
        if !fresh.block.is_null() && !fresh.zero {
            // SAFETY: the block is live and has `size` bytes.
            unsafe { fresh.block.write_bytes(0, size) };
        }
        return fresh.block;
    };
    // SAFETY: as in `allocate`; the block has `size` bytes.
    unsafe {
        bin.free.set(Block::next(block));
        block.as_ptr().cast::<u8>().write_bytes(0, size);
    }
    block.as_ptr().cast()
}
