//! Lists of free blocks, linked through the blocks themselves, and the lists of pages that were freed into remotely.

pub mod address_order;
pub mod news;
pub mod pending;
mod prefetch;
pub mod remote;

use crate::sync::OwnedCell;
use std::ptr::NonNull;

/// A free block: its first word links to the next one. Whoever holds the list that a block is on owns this word.
#[repr(C)]
pub struct Block {
    next: OwnedCell<*mut Block>,
    /// See [`Block::holes`]; elsewhere the word behind the block's first.
    #[cfg(loom)]
    holes: OwnedCell<u64>,
}

/// The first two words of a free block of 16 bytes or more.
#[cfg(not(loom))]
#[repr(C)]
struct Marker {
    next: OwnedCell<*mut Block>,
    holes: OwnedCell<u64>,
}

#[cfg(not(loom))]
static_assertions::assert_eq_size!(Block, usize);

impl Block {
    /// A block outside any list, for models that have no memory of their own.
    #[cfg(loom)]
    pub fn unlinked() -> Self {
        Self {
            next: OwnedCell::new(std::ptr::null_mut()),
            holes: OwnedCell::new(0),
        }
    }

    /// The next block of the list.
    ///
    /// # Safety
    /// `block` is free memory of 8 bytes or more, on a list that the caller holds.
    #[inline(always)]
    pub unsafe fn next(block: NonNull<Block>) -> *mut Block {
        // SAFETY: the caller owns the block's memory, so nobody else writes it.
        unsafe { block.as_ref().next.get() }
    }

    /// Links `block` to `next`.
    ///
    /// # Safety
    /// `block` is free memory of 8 bytes or more, aligned to 8, that the caller owns.
    #[inline(always)]
    pub unsafe fn link(block: NonNull<Block>, next: *mut Block) {
        // SAFETY: the caller owns the block's memory, so nobody else touches it.
        unsafe { block.as_ref().next.set(next) };
    }

    /// What [`Block::set_holes`] wrote.
    ///
    /// # Safety
    /// As for [`Block::set_holes`], which was called since the block was last in use.
    #[cold]
    pub unsafe fn holes(block: NonNull<Block>) -> u64 {
        // SAFETY: the caller owns the block's memory, so nobody else writes it.
        unsafe { Self::holes_cell(&block).get() }
    }

    /// Notes which system pages of its page are holes in the last block of a list: see `remote`.
    ///
    /// # Safety
    /// `block` is free memory of 16 bytes or more, aligned to 8, that the caller owns.
    pub unsafe fn set_holes(block: NonNull<Block>, holes: u64) {
        // SAFETY: the caller owns the block's memory, so nobody else touches it.
        unsafe { Self::holes_cell(&block).set(holes) };
    }

    /// # Safety
    /// `block` has 16 bytes or more.
    #[cfg(not(loom))]
    unsafe fn holes_cell(block: &NonNull<Block>) -> &OwnedCell<u64> {
        // SAFETY: the block is as large as a marker, and cells may be written through shared references.
        unsafe { &block.cast::<Marker>().as_ref().holes }
    }

    #[cfg(loom)]
    unsafe fn holes_cell(block: &NonNull<Block>) -> &OwnedCell<u64> {
        // SAFETY: the model's blocks live as long as the model.
        unsafe { &block.as_ref().holes }
    }
}

/// A linked run of free blocks of one page, with its last block and its length known: joining two needs no walk.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// The first block.
    pub head: NonNull<Block>,
    /// The last block; its link means nothing.
    pub tail: NonNull<Block>,
    /// How many blocks, at least one.
    pub count: u32,
}

impl Chain {
    /// Puts the chain in front of the list that starts with `rest`, and returns the new first block.
    ///
    /// # Safety
    /// The caller owns the chain and the list.
    #[inline]
    pub unsafe fn join(self, rest: *mut Block) -> *mut Block {
        // SAFETY: the tail is a block of the chain, which the caller owns.
        unsafe { Block::link(self.tail, rest) };
        self.head.as_ptr()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn join_puts_a_chain_in_front() {
        let mut memory = [[0_usize; 2]; 4];
        let blocks: Vec<NonNull<Block>> = memory
            .iter_mut()
            .map(|block| NonNull::from(block).cast::<Block>())
            .collect();
        // SAFETY: the blocks are distinct, live for the whole test, and on no other list.
        unsafe {
            Block::link(blocks[0], blocks[1].as_ptr());
            Block::link(blocks[1], std::ptr::null_mut());
            Block::link(blocks[2], blocks[3].as_ptr());
            let chain = Chain {
                head: blocks[2],
                tail: blocks[3],
                count: 2,
            };
            let mut at = chain.join(blocks[0].as_ptr());
            for index in [2, 3, 0, 1] {
                assert_eq!(at, blocks[index].as_ptr());
                at = Block::next(blocks[index]);
            }
            assert!(at.is_null());
        }
    }
}
