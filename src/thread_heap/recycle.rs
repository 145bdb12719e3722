//! Recycling: larger blocks of other pages, own or foreign, that go straight back into use.
//!
//! A bin with credit takes a block that is freed outside its current page onto its own list: no descriptor is written,
//! no compare-and-swap done, no page enters or leaves a queue. To its page the block stays live. With frees in random
//! order each page has a free block now and then, and without recycling almost every allocation would open another
//! page for it; and a thread that was handed another's blocks would need pages of its own while theirs lie idle.
//!
//! When the credit is used up, the list is set aside whole, as a batch, and a new one is begun; a bin that runs empty
//! takes a batch back before it is refilled. Nobody counts or walks a list: a batch has as many blocks as credit was
//! spent on it, less what was allocated meanwhile. This is Bonwick's magazine, as in his vmem paper, with the lists
//! that are there already.
//!
//! - Only for classes of 1 KiB and more: below, the other path is cheap, and recycling foreign blocks would invite
//!   false sharing.
//! - Only in bins that allocate: the first refill gives credit, so a thread that only frees hoards nothing.
//! - A bin may set one batch (256 KiB) aside, and more only while the heap allocates what it frees: each takes a refill
//!   by freed blocks as evidence, of which 64 are remembered. A phase that frees everything thus keeps a batch per class,
//!   and at most 16 MiB more.
//! - All batches of a heap together are at most a quarter of the other memory in use, and 64 MiB.
//!
//! Flushing a bin returns each block to its page.

use super::{Bin, Heap};
use crate::arena::reserve;
use crate::free_list::Block;
use crate::size_class::{CLASSES, SizeClass};
use crate::units::{KIB, MIB};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// The bytes of blocks in a batch, about.
const BATCH_BYTES: usize = 256 * KIB;
/// The most that a heap may set aside, whatever is in use.
const MAX_BATCHES: usize = 64 * MIB / BATCH_BYTES;
/// The refills that are remembered as evidence of allocation.
const MAX_EVIDENCE: u32 = 64;
/// All batches of a heap are at most the other memory in use divided by this.
const SHARE: usize = 4;
/// The smallest class that is recycled.
const FROM: SizeClass = SizeClass::KIB;

/// The batches of a bin.
pub struct Batches {
    /// The first block of the batch set aside last; its second word leads to the next batch.
    top: Cell<*mut Batch>,
    /// How many blocks of other pages may still go onto the bin's list.
    credit: Cell<u32>,
}

/// The first block of a batch. Blocks of recycled classes are large enough.
#[repr(C)]
struct Batch {
    block: Block,
    below: Cell<*mut Batch>,
}

static_assertions::const_assert!(size_of::<Batch>() <= KIB);

impl Batches {
    /// None.
    pub const fn new() -> Self {
        Self {
            top: Cell::new(ptr::null_mut()),
            credit: Cell::new(0),
        }
    }

    fn push(&self, list: NonNull<Block>) {
        let batch = list.cast::<Batch>();
        // SAFETY: the block is free, at least 1 KiB long, and the heap's holder's.
        unsafe { batch.as_ref() }
            .below
            .set(self.top.replace(batch.as_ptr()));
    }

    fn pop(&self) -> Option<NonNull<Block>> {
        let batch = NonNull::new(self.top.get())?;
        // SAFETY: what stands here was pushed, and is the heap's holder's.
        self.top.set(unsafe { batch.as_ref() }.below.get());
        Some(batch.cast())
    }
}

/// What a heap knows of its batches.
pub struct Recycling {
    batches: [Batches; CLASSES],
    /// How many batches there are.
    count: Cell<usize>,
    /// Refills by freed blocks that were not yet matched by a batch set aside, up to `MAX_EVIDENCE`.
    refills: Cell<u32>,
}

impl Recycling {
    /// No batches.
    pub const fn new() -> Self {
        Self {
            batches: [const { Batches::new() }; CLASSES],
            count: Cell::new(0),
            refills: Cell::new(0),
        }
    }

    fn of(&self, class: SizeClass) -> &Batches {
        &self.batches[class.0 as usize]
    }

    /// Takes the batch of the class that was set aside last; the caller has the whole list.
    pub fn pop(&self, class: SizeClass) -> Option<NonNull<Block>> {
        let list = self.of(class).pop()?;
        self.count.set(self.count.get() - 1);
        Some(list)
    }

    /// Ends recycling in a bin that is being flushed.
    pub fn stop(&self, class: SizeClass) {
        self.of(class).credit.set(0);
    }

    fn may_push(&self, class: SizeClass) -> bool {
        let count = self.count.get();
        // Without what is set aside already, or the bound would grow with what it bounds.
        let others = reserve::claimed_bytes().saturating_sub(count * BATCH_BYTES);
        let most = (others / SHARE / BATCH_BYTES).min(MAX_BATCHES);
        let first = self.of(class).top.get().is_null();
        (first || self.refills.get() > 0) && count < most.max(1)
    }
}

fn credit(class: SizeClass) -> u32 {
    (BATCH_BYTES / class.bytes()) as u32
}

/// Whether blocks of the class are recycled at all.
#[inline(always)]
pub fn applies(class: SizeClass) -> bool {
    class >= FROM
}

/// Whether a block of such a class may be put onto the bin's list; spends one credit.
#[inline(always)]
pub fn spend(heap: &Heap, class: SizeClass) -> bool {
    let credit = &heap.recycling.of(class).credit;
    match credit.get() {
        0 => false,
        left => {
            credit.set(left - 1);
            true
        }
    }
}

/// Sets the bin's list aside as a batch, if it may, and spends one of the new credit.
pub fn set_aside(heap: &Heap, bin: &Bin, class: SizeClass) -> bool {
    // A bin without a page has never allocated (or was flushed), and the vacant heap's never do.
    if bin.page.get().is_none() || !heap.recycling.may_push(class) {
        return false;
    }
    let recycling = &heap.recycling;
    if let Some(list) = NonNull::new(bin.free.replace(ptr::null_mut())) {
        recycling.of(class).push(list);
        recycling.count.set(recycling.count.get() + 1);
        recycling
            .refills
            .set(recycling.refills.get().saturating_sub(1));
    }
    recycling.of(class).credit.set(credit(class) - 1);
    true
}

/// For a bin that ran empty: a batch, the first block of it to be handed out. Otherwise new credit for what the refill
/// will bring.
#[inline]
pub fn take_batch(heap: &Heap, bin: &Bin, class: SizeClass) -> Option<NonNull<Block>> {
    if !applies(class) {
        return None;
    }
    heap.recycling.of(class).credit.set(credit(class));
    let list = heap.recycling.pop(class)?;
    note_reuse(heap);
    // SAFETY: the batch is the heap's holder's.
    bin.free.set(unsafe { Block::next(list) });
    Some(list)
}

/// Notes a refill by freed blocks: the heap allocates what it frees. (A refill by blocks never used before is no
/// evidence of that: a burst is made of those, and everything is to go back after it.)
#[inline]
pub fn note_reuse(heap: &Heap) {
    let refills = &heap.recycling.refills;
    refills.set((refills.get() + 1).min(MAX_EVIDENCE));
}

/// Moves a batch of the class, or the bin's list, into the empty bin of another heap; the caller holds both. The blocks
/// are recycled ones there, whichever pages they are from.
pub fn transfer(from: &Heap, to: &Heap, class: SizeClass) -> bool {
    if !applies(class) {
        return false;
    }
    let list = from
        .recycling
        .pop(class)
        .or_else(|| NonNull::new(from.bin(class).free.replace(ptr::null_mut())));
    if let Some(list) = list {
        debug_assert!(to.bin(class).free.get().is_null());
        to.bin(class).free.set(list.as_ptr());
    }
    list.is_some()
}
