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
use super::prefetch::prefetch_for_write;
use crate::size_class::SizeClass;
use std::ptr::{self, NonNull};

/// Blocks in a page, at most (8 bytes each in 64 KiB).
const MOST: usize = 8192;
/// Up to so many blocks need a small bitmap only, which is cheaper to clear.
const FEW: usize = 512;

/// How many blocks ahead a walk prefetches.
const AHEAD: usize = 4;
/// Bytes of a cache line.
const LINE: usize = 64;

/// The blocks of a page, as far as its lists go.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    /// The page's first block.
    pub start: *mut u8,
    /// The distance between two blocks.
    pub bytes: usize,
    capacity: usize,
}

/// An entry of a list that can't be there: twice, or no block of the page. Whatever wrote the link, it wasn't us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupted {
    /// The address that was found.
    pub address: usize,
}

/// What a program did wrong where a list is found [`Corrupted`].
pub const CORRUPTED: &str = "this address is on the free list of its page where it can't be: a block was freed twice, \
     or something wrote to it after it was freed";

/// One bit for each block of a page.
pub struct Marks<const WORDS: usize = { MOST / 64 }>([u64; WORDS]);

impl<const WORDS: usize> Marks<WORDS> {
    /// No block.
    pub fn none() -> Self {
        Self([0; WORDS])
    }

    /// Adds a block; false if it is there already, or has no bit.
    #[inline]
    fn add(&mut self, index: usize) -> bool {
        let bit = 1 << (index % 64);
        match self.0.get_mut(index / 64) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Takes a block out.
    pub fn remove(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word &= !(1 << (index % 64));
        }
    }

    /// Whether a block is in.
    pub fn has(&self, index: usize) -> bool {
        self.0
            .get(index / 64)
            .is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

impl Blocks {
    /// Those of a page that starts at `start`.
    pub fn of(start: *mut u8, class: SizeClass) -> Self {
        Self {
            start,
            bytes: class.bytes(),
            capacity: class.capacity() as usize,
        }
    }

    /// Asks for the first `blocks` blocks' lines all at once, for a walk over most of them in an order that no prefetch follows.
    pub fn prefetch(self, blocks: u32) {
        for offset in (0..blocks as usize * self.bytes).step_by(LINE) {
            prefetch_for_write(self.start.wrapping_add(offset));
        }
    }

    /// Sorts the list of `count` blocks that starts with `first`; the new first one. The last one's link is null.
    ///
    /// # Errors
    /// When an entry is no block of the page, or comes twice. The list is as it was then.
    ///
    /// # Safety
    /// The caller owns the list and the blocks on it.
    pub unsafe fn sort(self, first: NonNull<Block>, count: u32) -> Result<*mut Block, Corrupted> {
        if self.capacity <= FEW {
            let mut marks = Marks::<{ FEW / 64 }>::none();
            // SAFETY: passed on; what is marked was on the list.
            unsafe {
                self.mark(first, count, &mut marks)
                    .map(|()| self.link(&marks))
            }
        } else {
            let mut marks = Marks::<{ MOST / 64 }>::none();
            // SAFETY: as above.
            unsafe {
                self.mark(first, count, &mut marks)
                    .map(|()| self.link(&marks))
            }
        }
    }

    /// Marks the `count` blocks of the list that starts with `first`.
    ///
    /// # Errors
    /// As for [`Blocks::sort`].
    ///
    /// # Safety
    /// As for [`Blocks::sort`].
    #[inline]
    pub unsafe fn mark<const WORDS: usize>(
        self,
        first: NonNull<Block>,
        count: u32,
        marks: &mut Marks<WORDS>,
    ) -> Result<(), Corrupted> {
        // Rounded up: exact as long as an offset times a block's bytes stays below 2^32, which the test goes through.
        let reciprocal = (1_u64 << 32) / self.bytes as u64 + 1;
        // Frees often come in order, and each block is written soon. Smaller ones share their lines with blocks that others use.
        let prefetched = match self.bytes < LINE {
            true => 0,
            false => self.capacity * self.bytes,
        };
        let mut at = first.as_ptr();
        for _ in 0..count {
            let offset = at.addr().wrapping_sub(self.start.addr());
            let index = (offset as u64).wrapping_mul(reciprocal) as usize >> 32;
            let fits = index < self.capacity && index * self.bytes == offset;
            if !fits || !marks.add(index) {
                return Err(Corrupted { address: at.addr() });
            }
            // SAFETY: a block of the page, which is on the caller's list.
            let next = unsafe { Block::next(NonNull::new_unchecked(at)) };
            let step = next.addr().wrapping_sub(at.addr());
            let ahead = next.wrapping_byte_add(step.wrapping_mul(AHEAD));
            if ahead.addr().wrapping_sub(self.start.addr()) < prefetched {
                prefetch_for_write(ahead.cast());
            }
            at = next;
        }
        Ok(())
    }

    /// The last of the marked blocks.
    pub fn last<const WORDS: usize>(self, marks: &Marks<WORDS>) -> Option<NonNull<Block>> {
        let (word, bits) = marks.0.iter().enumerate().rfind(|(_, bits)| **bits != 0)?;
        let index = word * 64 + bits.ilog2() as usize;
        NonNull::new(self.start.wrapping_add(index * self.bytes).cast())
    }

    /// Links the marked blocks in address order: the first one, null if there is none.
    ///
    /// # Safety
    /// The caller owns the marked blocks.
    #[inline]
    pub unsafe fn link<const WORDS: usize>(self, marks: &Marks<WORDS>) -> *mut Block {
        let mut next = ptr::null_mut();
        for (word, bits) in marks.0.iter().enumerate().rev() {
            let mut left = *bits;
            while left != 0 {
                let bit = left.ilog2() as usize;
                left ^= 1 << bit;
                let block = self.start.wrapping_add((word * 64 + bit) * self.bytes);
                // SAFETY: the block is the caller's; pages lie above address 0.
                unsafe { Block::link(NonNull::new_unchecked(block.cast()), next) };
                next = block.cast();
            }
        }
        next
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::size_class::SizeClass;
    use proptest::prelude::*;

    const MAX_BYTES: usize = 256 * 1024;

    /// Memory for a page, aligned as blocks are.
    fn page() -> Vec<u64> {
        vec![0; MAX_BYTES / 8]
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

    /// The classes whose lists are sorted.
    fn dense() -> impl Iterator<Item = SizeClass> {
        let classes = SizeClass::all().take_while(|class| class.is_dense());
        classes.inspect(|class| {
            let page = class.page_slices().bytes();
            assert!(class.capacity() as usize <= MOST && page <= MAX_BYTES);
            assert!((page * class.bytes()) < 1 << 32);
        })
    }

    #[test]
    fn a_whole_page_of_every_class_backwards() {
        let mut memory = page();
        for class in dense() {
            let blocks = Blocks::of(memory.as_mut_ptr().cast(), class);
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
            let class = SizeClass::of(bytes, 1).unwrap();
            let blocks = Blocks::of(start, class);
            let below = start.wrapping_sub(bytes);
            let above = start.wrapping_add(class.page_slices().bytes());
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
            class in 0..dense().count(),
            order in Just((0..64_usize).collect::<Vec<_>>()).prop_shuffle(),
            count in 1..=16_usize,
            stride in 1..=4_usize,
        ) {
            let class = SizeClass(class as u8);
            let mut memory = page();
            let blocks = Blocks::of(memory.as_mut_ptr().cast(), class);
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
