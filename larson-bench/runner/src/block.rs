//! One allocation that checks itself.
//!
//! A [`Block`] is stamped when it is made and checked when it is freed: its first word holds its address mixed with
//! its size, its last word the complement. A block handed out twice, moved, cut short or overrun by a neighbour
//! shows. Two words are enough to see overlap and cheap enough that the allocator dominates the time.
//!
//! Of blocks larger than 4 KiB only every sixteenth size has the second stamp. Its last word lies on a page that
//! nothing else touches: stamped on every block it would cost more cache and TLB misses than the allocator does, and
//! bring memory into the resident set that the published programs leave untouched.

use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::fail;

/// Set to have the next block that is made damaged behind its owner's back; proves that a damaged block fails a run.
static DAMAGE_NEXT: AtomicBool = AtomicBool::new(false);

/// Asks for one damaged block, to test the checks themselves.
pub fn damage_one_block() {
    DAMAGE_NEXT.store(true, Relaxed);
}

/// A live allocation, straight from the global allocator, freed and checked on drop.
pub struct Block {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: a Block is the only handle to its memory, and the global allocator takes a block back on any thread.
unsafe impl Send for Block {}

/// Blocks up to this size have stamps at both ends.
const BOTH_ENDS_UP_TO: usize = 4_096;
/// Of larger blocks, those whose size is a multiple of this.
const BOTH_ENDS_EVERY: usize = 16;

impl Block {
    /// Allocates and stamps `size` bytes; `size` is 1 or more.
    #[inline]
    pub fn new(size: usize) -> Self {
        debug_assert!(size > 0);
        let layout = Self::layout(size);
        // SAFETY: the layout's size is not zero: every workload's smallest size is 1 or more (checked when the
        // options are resolved).
        let start = unsafe { alloc(layout) };
        // The compiler knows what allocation functions do and may drop or merge a pair; a pointer that went through
        // black_box may be used anywhere, so the pair stays.
        let Some(start) = NonNull::new(black_box(start)) else {
            fail::out_of_resources(&format!("the allocator has no {size} bytes"));
        };
        let block = Self { start, size };
        block.stamp();
        // Relaxed: a flag for tests; which thread's block is damaged doesn't matter. In a measured run this is a load
        // of a line that nobody writes.
        if DAMAGE_NEXT.load(Relaxed) {
            block.damage();
        }
        block
    }

    /// Allocates `size` bytes and writes every one of them.
    #[inline]
    pub fn new_filled(size: usize, byte: u8) -> Self {
        let block = Self::new(size);
        block.fill(byte);
        block
    }

    /// Size in bytes, as asked for.
    #[inline]
    pub fn size(&self) -> usize {
        self.size
    }

    /// First byte; valid for [`Self::size`] bytes as long as the block lives.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Writes every byte between the two stamped words.
    #[inline]
    pub fn fill(&self, byte: u8) {
        if self.size > 16 {
            // SAFETY: 8 + (size - 16) bytes end 8 before the block's end, and the block is ours alone.
            unsafe { self.as_ptr().add(8).write_bytes(byte, self.size - 16) };
        }
    }

    /// Ends the run if a byte between the stamps is not `byte`.
    #[inline]
    pub fn check_filled(&self, byte: u8) {
        if self.size <= 16 {
            return;
        }
        // SAFETY: `fill` initialised exactly these bytes, and nobody else has access to them.
        let inside = unsafe { std::slice::from_raw_parts(self.as_ptr().add(8), self.size - 16) };
        // A fold without an early exit compiles to vector code.
        if inside.iter().fold(0, |seen, found| seen | (found ^ byte)) != 0 {
            fail::corrupted(&format!(
                "a block of {} bytes at {:p} lost its filling",
                self.size, self.start
            ));
        }
    }

    /// The alignment that most Rust types ask for; sizes below it can't have it as their natural one.
    #[inline]
    fn layout(size: usize) -> Layout {
        let align = if size >= 8 { 8 } else { 1 };
        // SAFETY: both alignments are powers of two, and sizes are far below isize::MAX (options are checked).
        unsafe { Layout::from_size_align_unchecked(size, align) }
    }

    /// Whether the last word is stamped too; follows from the size alone, so that the check knows.
    #[inline]
    fn has_both_stamps(&self) -> bool {
        self.size >= 16
            && (self.size <= BOTH_ENDS_UP_TO || self.size.is_multiple_of(BOTH_ENDS_EVERY))
    }

    #[inline]
    fn expected(&self) -> u64 {
        // The address gives each live block its own value; the size, in the bits that addresses leave free, makes
        // a block known by another's size show.
        (self.start.as_ptr() as u64) ^ ((self.size as u64) << 40) ^ 0x5bd1_e995_9d1b_58d5
    }

    #[inline]
    fn stamp(&self) {
        let expected = self.expected();
        let start = self.as_ptr();
        // SAFETY: each write stays inside the block by the comparison that guards it; write_unaligned because
        // the last word ends where the block ends.
        unsafe {
            if self.has_both_stamps() {
                start.cast::<u64>().write_unaligned(expected);
                start
                    .add(self.size - 8)
                    .cast::<u64>()
                    .write_unaligned(!expected);
            } else if self.size >= 8 {
                start.cast::<u64>().write_unaligned(expected);
            } else {
                start.write(expected as u8);
            }
        }
    }

    /// Ends the run if the stamps are not what [`Self::new`] wrote.
    #[inline]
    pub fn check(&self) {
        let expected = self.expected();
        let start = self.as_ptr();
        // SAFETY: reads the very bytes that `stamp` initialised, by the same comparisons.
        let intact = unsafe {
            if self.has_both_stamps() {
                let first = start.cast::<u64>().read_unaligned();
                let last = start.add(self.size - 8).cast::<u64>().read_unaligned();
                first == expected && last == !expected
            } else if self.size >= 8 {
                start.cast::<u64>().read_unaligned() == expected
            } else {
                start.read() == expected as u8
            }
        };
        if !intact {
            self.report_damage();
        }
    }

    #[cold]
    #[inline(never)]
    fn report_damage(&self) -> ! {
        fail::corrupted(&format!(
            "a block of {} bytes at {:p} is corrupted",
            self.size, self.start
        ))
    }

    #[cold]
    #[inline(never)]
    fn damage(&self) {
        if DAMAGE_NEXT.swap(false, Relaxed) {
            // SAFETY: the first byte is ours and initialised.
            unsafe { *self.as_ptr() ^= 0x40 };
        }
    }
}

impl Drop for Block {
    /// Checks and frees.
    #[inline]
    fn drop(&mut self) {
        self.check();
        // SAFETY: `start` came from `alloc` with this very layout, and this is the only handle to it.
        unsafe { dealloc(self.as_ptr(), Self::layout(self.size)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_small_size_survives_its_own_check() {
        let blocks: Vec<Block> = (1..200).map(Block::new).collect();
        for block in &blocks {
            block.check();
        }
    }

    #[test]
    fn filling_leaves_the_stamps_alone() {
        for size in [1, 8, 15, 16, 17, 100, 5_000] {
            let block = Block::new_filled(size, 0xa5);
            block.check();
            block.check_filled(0xa5);
        }
    }

    #[test]
    fn an_empty_slot_costs_no_extra_word() {
        assert_eq!(size_of::<Option<Block>>(), 2 * size_of::<usize>());
    }
}
