//! Puts a list of free blocks of one page into address order, with a bitmap on the stack.
//!
//! Frees by other threads come back in whatever order those threads freed in. Handed out again in that order, the
//! blocks of one cache line end up far apart in the program's data, each of them brings the line over from another
//! core once more, and every round shuffles the page further. In address order a line comes over once, neighbours are
//! handed out together, and the hardware fetches ahead. jemalloc's slabs get the same from bitmaps, at each allocation.
//!
//! Walking the list costs the cache misses that handing the blocks out would have cost; the rest is about three
//! nanoseconds a block. `docs/decisions/015-order-of-reuse.md` has the figures.

use super::Block;
use crate::units::SLICE_SIZE;
use std::ptr::{self, NonNull};

/// Blocks in a page of one slice, at most.
const MOST: usize = SLICE_SIZE / 8;
/// Up to so many blocks need a small bitmap only, which is cheaper to clear.
const FEW: usize = 512;

/// A page of one slice, as far as its lists go.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    /// The page's first block.
    pub start: *mut u8,
    /// The distance between two blocks; 8 bytes or more, and at most a slice.
    pub bytes: usize,
}

/// An entry of a list that can't be there: twice, or no block of the page. Whatever wrote the link, it wasn't us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupted {
    /// The address that was found.
    pub address: usize,
}

impl Blocks {
    /// Sorts the list of `count` blocks that starts with `first`; the new first one. The last one's link is null.
    ///
    /// # Errors
    /// When an entry is no block of the page, or comes twice. The list is as it was then.
    ///
    /// # Safety
    /// The caller owns the list and the blocks on it, and the page has one slice.
    pub unsafe fn sort(self, first: NonNull<Block>, count: u32) -> Result<*mut Block, Corrupted> {
        if SLICE_SIZE / self.bytes <= FEW {
            // SAFETY: passed on; the page's blocks have bits.
            unsafe { self.sort_with(first, count, &mut [0_u64; FEW / 64]) }
        } else {
            // SAFETY: passed on; the page's blocks have bits, since none is smaller than 8 bytes.
            unsafe { self.sort_with(first, count, &mut [0_u64; MOST / 64]) }
        }
    }

    /// # Safety
    /// As for [`Blocks::sort`]; `bits` are clear.
    #[inline]
    unsafe fn sort_with<const WORDS: usize>(
        self,
        first: NonNull<Block>,
        count: u32,
        bits: &mut [u64; WORDS],
    ) -> Result<*mut Block, Corrupted> {
        // Rounded up, exact for all offsets within a slice (the test goes through all of them).
        let reciprocal = (1_u64 << 32) / self.bytes as u64 + 1;
        let mut at = first.as_ptr();
        for _ in 0..count {
            let offset = at.addr().wrapping_sub(self.start.addr());
            let index = (offset as u64).wrapping_mul(reciprocal) as usize >> 32;
            let (word, bit) = (index / 64, 1 << (index % 64));
            let fits = offset < SLICE_SIZE && index * self.bytes == offset && word < WORDS;
            if !fits || bits[word] & bit != 0 {
                return Err(Corrupted { address: at.addr() });
            }
            bits[word] |= bit;
            // SAFETY: a block of the page, which is on the caller's list.
            at = unsafe { Block::next(NonNull::new_unchecked(at)) };
        }
        let mut next = ptr::null_mut();
        for word in (0..WORDS).rev() {
            let mut left = bits[word];
            while left != 0 {
                let bit = left.ilog2() as usize;
                left ^= 1 << bit;
                let block = self.start.wrapping_add((word * 64 + bit) * self.bytes);
                // SAFETY: the block was found on the caller's list; pages lie above address 0.
                unsafe { Block::link(NonNull::new_unchecked(block.cast()), next) };
                next = block.cast();
            }
        }
        Ok(next)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::size_class::SizeClass;
    use proptest::prelude::*;

    /// Memory for a page, aligned as blocks are.
    fn page() -> Box<[u64; SLICE_SIZE / 8]> {
        Box::new([0; SLICE_SIZE / 8])
    }

    /// Links the blocks with these indices, in this order; the first.
    fn link(blocks: Blocks, indices: &[usize]) -> NonNull<Block> {
        let block = |index: usize| {
            let address = blocks.start.wrapping_add(index * blocks.bytes);
            NonNull::new(address.cast::<Block>()).unwrap()
        };
        let mut next = ptr::null_mut();
        for index in indices.iter().rev() {
            // SAFETY: the block lies in the test's memory.
            unsafe { Block::link(block(*index), next) };
            next = block(*index).as_ptr();
        }
        NonNull::new(next).unwrap()
    }

    fn walk(blocks: Blocks, mut at: *mut Block) -> Vec<usize> {
        let mut indices = Vec::new();
        while let Some(block) = NonNull::new(at) {
            indices.push((at.addr() - blocks.start.addr()) / blocks.bytes);
            // SAFETY: linked by the sort.
            at = unsafe { Block::next(block) };
        }
        indices
    }

    fn one_slice() -> impl Iterator<Item = SizeClass> {
        SizeClass::all().filter(|class| class.page_slices().0 == 1)
    }

    #[test]
    fn a_whole_page_of_every_class_backwards() {
        let mut memory = page();
        for class in one_slice() {
            let blocks = Blocks {
                start: memory.as_mut_ptr().cast(),
                bytes: class.bytes(),
            };
            let indices: Vec<usize> = (0..class.capacity() as usize).rev().collect();
            let first = link(blocks, &indices);
            // SAFETY: the list was just made, in the test's memory.
            let sorted = unsafe { blocks.sort(first, class.capacity()) }.unwrap();
            assert!(
                walk(blocks, sorted)
                    .into_iter()
                    .eq(0..class.capacity() as usize)
            );
        }
    }

    #[test]
    fn what_is_no_block_or_comes_twice_is_told() {
        let mut memory = page();
        let start = memory.as_mut_ptr().cast::<u8>();
        for bytes in [8, 48, 512, 4096] {
            let blocks = Blocks { start, bytes };
            let below = start.wrapping_sub(bytes);
            let above = start.wrapping_add(SLICE_SIZE);
            let inside = start.wrapping_add(bytes + 1);
            let twice = start.wrapping_add(2 * bytes);
            for wrong in [below, above, inside, twice, ptr::null_mut()] {
                let first = link(blocks, &[2, 1, 3]);
                let second = start.wrapping_add(bytes).cast::<Block>();
                // SAFETY: as in `link`: the second of the list leads astray.
                unsafe { Block::link(NonNull::new(second).unwrap(), wrong.cast()) };
                // SAFETY: refused before an address outside the test's memory is followed.
                let told = unsafe { blocks.sort(first, 3) }.unwrap_err();
                assert_eq!(told.address, wrong.addr());
            }
        }
    }

    proptest! {
        #[test]
        fn any_order_becomes_the_one(
            class in 0..one_slice().count(),
            order in Just((0..64_usize).collect::<Vec<_>>()).prop_shuffle(),
            count in 1..=16_usize,
            stride in 1..=4_usize,
        ) {
            let class = SizeClass(class as u8);
            let mut memory = page();
            let blocks = Blocks { start: memory.as_mut_ptr().cast(), bytes: class.bytes() };
            let most = class.capacity() as usize / stride;
            let mut indices: Vec<usize> =
                order.into_iter().filter(|index| *index < most).take(count).map(|i| i * stride).collect();
            let first = link(blocks, &indices);
            // SAFETY: the list was just made, in the test's memory.
            let sorted = unsafe { blocks.sort(first, indices.len() as u32) }.unwrap();
            indices.sort_unstable();
            prop_assert_eq!(walk(blocks, sorted), indices);
        }
    }
}
