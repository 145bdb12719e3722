//! Blocks above 17 KiB without a page: each has slices of its own, like a large block, unless its class is in demand.
//!
//! A page of such a class has up to a MiB. A heap that takes a few blocks of each would fill one for each class in time,
//! with the blocks that it recycles on top, and so would the next heap. Slices serve every heap and every size as soon as
//! they are freed, but take half a microsecond a block, where a page takes a few nanoseconds. So a class gets pages
//! while a heap takes more than a thousand blocks of it (option `single_blocks`) within half a second, or a longer purge
//! delay, that its pages don't have: the others cost a heap at most a thousandth of the time for each class.
//! `docs/decisions/018-single-blocks.md` has the figures.

use super::refill::Refill;
use super::{Heap, unclassed};
use crate::config;
use crate::os;
use crate::size_class::{self, CLASSES, SizeClass};
use crate::units::KIB;
use std::cell::Cell;

/// The largest block that always has a page.
pub const MAX_PAGED: usize = 17 * KIB;
/// The least that a window takes.
const WINDOW_MS: u64 = 500;
/// The most where address space is scarce: a slice is up to four times as large as its block.
const IF_SCARCE: u16 = 16;
/// Marks a class that got a page in the window.
const PAGED: u16 = u16::MAX;

/// What a heap took lately.
pub struct Singles {
    /// How many blocks of each class in this window, or [`PAGED`].
    taken: [Cell<u16>; CLASSES],
    /// Since when, in milliseconds.
    since: Cell<u64>,
}

impl Singles {
    /// Nothing.
    pub const fn new() -> Self {
        Self {
            taken: [const { Cell::new(0) }; CLASSES],
            since: Cell::new(0),
        }
    }

    /// Whether a class is in demand, at the time `now`, when one more block is wanted and no page has one. `limit`: as many may
    /// be taken without.
    fn is_in_demand(&self, class: SizeClass, now: u64, limit: u16) -> bool {
        if now.wrapping_sub(self.since.get()) >= config::purge_delay_ms().max(WINDOW_MS) {
            self.since.set(now);
            for taken in &self.taken {
                // A class that got a page stays in demand for the next window.
                let still = taken.get() == PAGED;
                taken.set(if still { limit } else { 0 });
            }
        }
        let taken = &self.taken[class.0 as usize];
        if taken.get() >= limit {
            taken.set(PAGED);
            return true;
        }
        taken.set(taken.get() + 1);
        false
    }
}

/// A block with slices of its own, in place of a fresh page. `None` where the class is to have a page, or there is no memory.
#[inline]
pub fn allocate(heap: &Heap, class: SizeClass) -> Option<Refill> {
    if class.bytes() <= MAX_PAGED {
        return None;
    }
    let mut limit = config::single_blocks();
    if size_class::are_pages_small() {
        limit = limit.min(IF_SCARCE);
    }
    if heap.singles.is_in_demand(class, os::now_ms(), limit) {
        return None;
    }
    // (Slices have the alignment of every class.)
    let single = unclassed::allocate_single(class)?;
    Some(Refill {
        block: single.start.as_ptr(),
        zero: single.zero,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASS: SizeClass = SizeClass(80);

    fn asks(singles: &Singles, times: u32, now: u64) -> u32 {
        (0..times)
            .map(|_| u32::from(singles.is_in_demand(CLASS, now, 1_000)))
            .sum()
    }

    #[test]
    fn a_class_is_in_demand_after_many_blocks_of_it() {
        let singles = Singles::new();
        assert_eq!(asks(&singles, 1_500, 1_000), 500);
        assert!(!singles.is_in_demand(SizeClass(81), 1_000, 1_000));
    }

    #[test]
    fn it_stays_so_while_it_gets_pages() {
        let singles = Singles::new();
        asks(&singles, 1_001, 1_000);
        for window in 3..10 {
            assert_eq!(asks(&singles, 1, window * WINDOW_MS), 1);
        }
        // A window in which no page was wanted.
        assert!(!singles.is_in_demand(SizeClass(81), 10 * WINDOW_MS, 1_000));
        assert_eq!(asks(&singles, 1, 11 * WINDOW_MS), 0);
    }

    #[test]
    fn few_blocks_at_a_time_never_are() {
        let singles = Singles::new();
        for window in 1..10 {
            assert_eq!(asks(&singles, 900, window * WINDOW_MS), 0);
        }
    }
}
