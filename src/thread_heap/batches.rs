//! Lists of recycled blocks that were set aside whole, one stack of them for each bin.

use crate::free_list::Block;
use crate::size_class::BIN_BYTES;
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// The batches of a bin: as large as the bin, so that its offset leads here, too.
#[repr(align(32))]
pub struct Batches {
    /// The first block of the batch set aside last; its second word leads to the next batch.
    top: Cell<*mut Batch>,
    /// How many there are, and the fewest there were since [`Batches::unneeded`] was asked last.
    count: Cell<u32>,
    lowest: Cell<u32>,
    /// How many blocks of other pages may still go onto the bin's list, or [`SHUT`].
    pub credit: Cell<i32>,
}

/// The credit of a bin that gets no new one for now: where it wasn't refilled since its heap was last flushed, the heap may
/// not allocate blocks of the class at all; where it asked in vain, the answer is the same until the heap reuses blocks.
pub const SHUT: i32 = -1;
/// Shut, and the bin's list has blocks of its current page only: see [`super::follow`] and [`super::keep`].
pub const PURE: i32 = -2;

/// The first block of a batch.
#[repr(C)]
struct Batch {
    block: Block,
    below: Cell<*mut Batch>,
}

/// The least that a block needs to be the first of a batch.
pub const MIN_BATCHED: usize = size_of::<Batch>();

static_assertions::const_assert_eq!(size_of::<Batches>(), BIN_BYTES);

impl Batches {
    /// None.
    pub const fn new() -> Self {
        Self {
            top: Cell::new(ptr::null_mut()),
            count: Cell::new(0),
            lowest: Cell::new(0),
            credit: Cell::new(SHUT),
        }
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.top.get().is_null()
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count.get()
    }

    /// Sets a list aside.
    ///
    /// # Safety
    /// The list is the caller's, who gives it up and holds the heap; its blocks have at least [`MIN_BATCHED`] bytes.
    #[inline(always)]
    pub unsafe fn push(&self, list: NonNull<Block>) {
        let batch = list.cast::<Batch>();
        // SAFETY: the block is free, long enough, and the heap's holder's.
        unsafe { batch.as_ref() }
            .below
            .set(self.top.replace(batch.as_ptr()));
        self.count.set(self.count.get() + 1);
    }

    /// Takes the list that was set aside last.
    #[inline(always)]
    pub fn pop(&self) -> Option<NonNull<Block>> {
        let batch = NonNull::new(self.top.get())?;
        // SAFETY: what stands here was pushed, and is the heap's holder's.
        self.top.set(unsafe { batch.as_ref() }.below.get());
        let count = self.count.get() - 1;
        self.count.set(count);
        self.lowest.set(self.lowest.get().min(count));
        Some(batch.cast())
    }

    /// How many were there all the time since this was last asked.
    pub fn unneeded(&self) -> u32 {
        self.lowest.replace(self.count.get()).min(self.count.get())
    }
}
