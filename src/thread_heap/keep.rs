//! Keeping small blocks of others: a thread that allocates what it frees needn't send each block back to whoever made it.
//!
//! Up to 1 KiB a free into an own page is cheap, and only those into other heaps' pages are recycled: they go onto the bin's
//! list, for a compare-and-swap less now and a drain less later. Credit and batches are those of `recycle.rs`, and so are the
//! bounds of a heap, which small batches alone may use up where less than 4 MiB are in use. But:
//!
//! - The first two frees of a run into one page go to the page. Blocks that come one by one from many pages lie beside blocks of
//!   other threads, which would share their lines; blocks of a run are neighbours, more often than not.
//! - A batch has 16 KiB, and a class four of them at most. Nobody asks for evidence of reuse before they are set aside, and
//!   large classes' allowance doesn't change with them.
//! - Blocks of 8 bytes have no room for a batch's link, and so no batches.
//!
//! `docs/decisions/015-order-of-reuse.md` has the figures.

use super::batches::{MIN_BATCHED, PURE};
use super::{Bin, Heap, exit, follow, recycle};
use crate::free_list::Block;
use crate::size_class::{BinOffset, SizeClass};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// The bytes of blocks in a batch, about.
const BATCH_BYTES: usize = recycle::UNIT;
/// The most batches of a class.
const MOST: u32 = 4;

/// How far a run of frees into one page of another heap has come.
pub struct Run(Cell<Stage>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The page had one.
    Begun,
    /// It had another: further ones may be kept.
    Goes,
    /// None may, until the owner has drained the page or another begins: so that not each of them asks.
    Over,
}

impl Run {
    /// None.
    pub const fn new() -> Self {
        Self(Cell::new(Stage::Begun))
    }

    /// Notes a first free into a page, or since it was drained.
    #[inline(always)]
    pub fn begin(&self) {
        self.0.set(Stage::Begun);
    }

    /// Notes one more; whether it may be kept.
    #[inline(always)]
    pub fn goes_on(&self) -> bool {
        if self.0.get() == Stage::Begun {
            self.0.set(Stage::Goes);
            return false;
        }
        self.0.get() == Stage::Goes
    }

    /// Notes that no more of this run are kept.
    pub fn end(&self) {
        self.0.set(Stage::Over);
    }
}

/// Puts a block of another heap's page onto its bin's list, if it is small and the bin has credit; false if not.
/// (`BinOffset::NONE` may be asked for, and is.)
///
/// # Safety
/// The caller holds the heap and gives the block up if this is true; the block is of the bin's class.
#[inline(always)]
pub unsafe fn keep(heap: &'static Heap, block: NonNull<Block>, offset: BinOffset) -> bool {
    if recycle::applies(offset) || !recycle::spend(heap, offset) {
        return false;
    }
    heap.counters.recycled.add(1);
    // SAFETY: passed on.
    unsafe { heap.bin_at(offset).push(block) };
    true
}

/// Gives a bin whose credit is used up new one, its list being set aside as a batch. False where the bin is shut, its class isn't
/// small, or it has enough batches, and is shut then.
pub fn renew(heap: &'static Heap, offset: BinOffset) -> bool {
    if recycle::applies(offset) || recycle::is_shut(heap, offset) {
        return false;
    }
    let recycling = &heap.recycling;
    let class = offset.class();
    let batches = recycling.at(offset);
    let may = class.bytes() >= MIN_BATCHED
        && batches.count() < MOST
        && !recycling.ebbs()
        && recycling.has_room();
    if !may {
        recycling.refuse(class);
        return false;
    }
    if let Some(list) = NonNull::new(heap.bin_at(offset).free.replace(ptr::null_mut())) {
        // SAFETY: the list was the bin's, and the blocks are large enough.
        unsafe { batches.push(list) };
        recycling.add(1);
    }
    recycling.give_small_credit(class, full_credit(class));
    recycle::age(heap);
    true
}

fn full_credit(class: SizeClass) -> i32 {
    (BATCH_BYTES / class.bytes()) as i32
}

/// For a bin of a small class that ran empty: as [`recycle::take_batch`].
#[inline(never)]
pub fn take_batch(heap: &Heap, bin: &Bin, class: SizeClass) -> Option<NonNull<Block>> {
    let recycling = &heap.recycling;
    let list = recycle::pop_counted(heap, class, 1);
    // Full credit is that of a list without others' blocks, which a batch isn't.
    let spent = i32::from(list.is_some());
    recycling.give_small_credit(class, full_credit(class) - spent);
    let list = list?;
    recycle::note_reuse(heap);
    // SAFETY: the batch is the heap's holder's.
    bin.free.set(unsafe { Block::next(list) });
    Some(list)
}

/// Returns what lies on the bins' lists of small classes and was kept to its pages, and shuts the bins until the next refill by
/// freed blocks, or their own.
pub fn return_lists(heap: &'static Heap) {
    for class in recycle::small_classes() {
        let bin = heap.bin(class);
        let credit = heap.recycling.of(class).credit.get();
        // It has none, and was never refilled, perhaps; or is known to have none of others.
        if credit < 0 && bin.free.get().is_null() || recycle::is_pure(heap, class.bin()) {
            continue;
        }
        heap.recycling.refuse(class);
        recycle::note_pure(heap, class.bin());
        if credit == full_credit(class) {
            // Nothing was kept since the list was empty.
            continue;
        }
        let others = match bin.page.get() {
            // SAFETY: the page is of the heap that the caller holds.
            Some(page) => follow::part(bin, unsafe { page.owned() }, class),
            None => NonNull::new(bin.free.replace(ptr::null_mut())),
        };
        if let Some(others) = others {
            exit::return_list(heap, others);
        }
    }
}

/// The credit of a shut bin that may ask again: a list without others' blocks has none to set aside first.
pub fn credit_again(class: SizeClass, credit: i32) -> i32 {
    match credit {
        PURE => full_credit(class),
        // It may have got new credit with its own refill.
        credit => credit.max(0),
    }
}
