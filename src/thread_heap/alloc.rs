//! Allocation. The fast path is [`allocate_small`]: the thread's heap, the bin of the class, the head of its list.

use super::{Bin, Heap, refill, slot, unclassed};
use crate::free_list::Block;
use crate::size_class::{BinOffset, SizeClass};
#[cfg(preload)]
use crate::size_class::{MAX_BINNED, MAX_SMALL};
use std::ptr::NonNull;

/// A block of a size and alignment that the heap's table covers; null when the system has no memory left.
#[inline(always)]
pub fn allocate_small(size: usize) -> *mut u8 {
    let heap = slot::heap();
    allocate(heap, heap.table.small(size))
}

/// The first free block of the bin for a size, for entry points that do what else there is to do themselves: `None`
/// where the list is empty, or the size has no class.
#[cfg(preload)]
#[inline(always)]
pub fn pop_unaligned(size: usize) -> Option<NonNull<Block>> {
    let heap = slot::heap();
    if size > MAX_SMALL {
        return (size <= MAX_BINNED).then(|| pop(heap.bin_at(heap.table.medium(size))))?;
    }
    pop(heap.bin_at(heap.table.small(size)))
}

/// The first block of the bin's list.
#[inline(always)]
pub fn pop(bin: &Bin) -> Option<NonNull<Block>> {
    let block = NonNull::new(bin.free.get())?;
    // SAFETY: the list of a bin belongs to the thread that holds its heap.
    bin.free.set(unsafe { Block::next(block) });
    Some(block)
}

/// A block from a bin of the thread's heap.
#[inline(always)]
fn allocate(heap: &'static Heap, offset: BinOffset) -> *mut u8 {
    match pop(heap.bin_at(offset)) {
        Some(block) => block.as_ptr().cast(),
        None => allocate_from_refill(offset, heap),
    }
}

/// A function of its own because what it returns is all of a return value, so that the fast path ends with a jump to it
/// and needs no frame.
#[cold]
#[inline(never)]
fn allocate_from_refill(offset: BinOffset, heap: &'static Heap) -> *mut u8 {
    refill::allocate(offset, heap).block
}

/// A block from the bin of a class that the caller knows; null when the system has no memory left.
#[cfg(not(preload))]
#[inline(always)]
pub fn allocate_in_bin(offset: BinOffset) -> *mut u8 {
    allocate(slot::heap(), offset)
}

/// As [`allocate_small`], for sizes and alignments that `BinTable::medium` covers.
#[inline(always)]
pub fn allocate_medium(size: usize) -> *mut u8 {
    let heap = slot::heap();
    allocate(heap, heap.table.medium(size))
}

/// As [`allocate_small`], zeroed.
#[inline]
pub fn allocate_small_zeroed(size: usize) -> *mut u8 {
    let heap = slot::heap();
    allocate_zeroed(heap, heap.table.small(size), size)
}

/// As [`allocate`], with the first `size` bytes zero. Blocks that were never handed out are zero already, except for
/// those that wait in a list and carry its links.
#[inline(always)]
fn allocate_zeroed(heap: &'static Heap, offset: BinOffset, size: usize) -> *mut u8 {
    let Some(block) = pop(heap.bin_at(offset)) else {
        let fresh = refill::allocate(offset, heap);
        if !fresh.block.is_null() && !fresh.zero {
            // SAFETY: the block is live and has `size` bytes.
            unsafe { fresh.block.write_bytes(0, size) };
        }
        return fresh.block;
    };
    // SAFETY: the block has `size` bytes.
    unsafe { block.as_ptr().cast::<u8>().write_bytes(0, size) };
    block.as_ptr().cast()
}

/// A block for any layout.
#[inline(never)]
pub fn allocate_any(size: usize, align: usize) -> *mut u8 {
    match SizeClass::of(size, align) {
        Some(class) => allocate(slot::heap(), class.bin()),
        None => unclassed::allocate(size, align, false),
    }
}

/// [`allocate_any`] for alignments beyond those of the fast paths. A function of its own because LLVM otherwise
/// computes the two conditions of a fast path into one, which takes two instructions more than two branches.
#[inline(never)]
pub fn allocate_aligned(size: usize, align: usize) -> *mut u8 {
    allocate_any(size, align)
}

/// As [`allocate_any`], zeroed.
#[inline(never)]
pub fn allocate_any_zeroed(size: usize, align: usize) -> *mut u8 {
    match SizeClass::of(size, align) {
        Some(class) => allocate_zeroed(slot::heap(), class.bin(), size),
        None => unclassed::allocate(size, align, true),
    }
}
