//! Data parallelism: loops, reductions and slices over the workers of a runtime.
//!
//! All of them run on one engine ([`split`]): a loop that hands half of what is left to a thief whenever thieves find
//! nothing on its worker, and otherwise goes on in blocks whose size follows the clock ([`pace`]).

mod detached;
mod loops;
mod pace;
mod reduce;
mod slices;
mod split;

pub use detached::{
    ParallelHandle, spawn_parallel_for, spawn_parallel_for_chunks, spawn_parallel_reduce,
};
pub use loops::{parallel_for, parallel_for_chunks};
pub use reduce::{parallel_reduce, parallel_reduce_chunks};
pub use slices::{parallel_chunks, parallel_chunks_mut, parallel_map};

use std::ops::Range;

/// How much of a loop's range one call of its body gets.
///
/// A plain number is [`Granularity::Exactly`] so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    /// Blocks that take some microseconds each: they start with one item and follow the clock.
    #[default]
    Auto,
    /// As `Auto`, but no block is smaller (except the last one of a part): for bodies that have a cost per call, and for
    /// loops that are too short to be worth a second worker.
    AtLeast(usize),
    /// Blocks of this size, of which the last may be smaller.
    Exactly(usize),
}

impl From<usize> for Granularity {
    fn from(batch: usize) -> Self {
        Self::Exactly(batch)
    }
}

impl Granularity {
    /// # Panics
    /// For blocks of no items.
    fn check(self) -> Self {
        let empty = matches!(self, Self::AtLeast(0) | Self::Exactly(0));
        assert!(!empty, "a block of a parallel loop has one item at least");
        self
    }
}

/// A range in blocks: what the engine divides are units, each an item, or a block of exact size.
struct Units {
    range: Range<usize>,
    /// Items in a unit.
    size: usize,
    /// Items before the first boundary between units: all of a unit, unless boundaries were shifted.
    first: usize,
    /// A body gets this many units at least.
    least: usize,
    /// A body gets one unit at a time.
    one_by_one: bool,
}

impl Units {
    fn new(range: Range<usize>, granularity: Granularity) -> Self {
        let (size, least, one_by_one) = match granularity.check() {
            Granularity::Auto => (1, 1, false),
            Granularity::AtLeast(least) => (1, least, false),
            Granularity::Exactly(batch) => (batch, 1, true),
        };
        Self {
            range,
            size,
            first: size,
            least,
            one_by_one,
        }
    }

    /// How many units there are.
    fn count(&self) -> usize {
        match self.range.len() {
            0 => 0,
            items => 1 + items.saturating_sub(self.first).div_ceil(self.size),
        }
    }

    /// The items before a unit.
    fn boundary(&self, unit: usize) -> usize {
        if unit == 0 {
            return self.range.start;
        }
        let items = (unit - 1)
            .saturating_mul(self.size)
            .saturating_add(self.first);
        self.range.start + items.min(self.range.len())
    }

    /// The items of some units.
    fn items(&self, units: Range<usize>) -> Range<usize> {
        self.boundary(units.start)..self.boundary(units.end)
    }

    /// Calls `body` with the items of some units, as the granularity says.
    #[inline]
    fn each<T>(
        &self,
        units: Range<usize>,
        mut state: T,
        mut body: impl FnMut(T, Range<usize>) -> T,
    ) -> T {
        if !self.one_by_one {
            return body(state, self.items(units));
        }
        for unit in units {
            state = body(state, self.items(unit..unit + 1));
        }
        state
    }
}

#[cfg(all(test, not(fiber_loom)))]
mod tests {
    use super::*;

    #[test]
    fn units_cover_the_range() {
        for len in 0..40 {
            for size in 1..10 {
                for first in 1..=size {
                    let units = Units {
                        range: 7..7 + len,
                        size,
                        first,
                        least: 1,
                        one_by_one: true,
                    };
                    let count = units.count();
                    let mut next = 7;
                    for unit in 0..count {
                        let items = units.items(unit..unit + 1);
                        assert_eq!(items.start, next);
                        assert!(!items.is_empty() && items.len() <= size);
                        next = items.end;
                    }
                    assert_eq!(next, 7 + len);
                }
            }
        }
    }

    #[test]
    fn units_at_the_end_of_the_numbers() {
        let units = Units::new(usize::MAX - 10..usize::MAX, 4.into());
        assert_eq!(units.count(), 3);
        assert_eq!(units.items(2..3), usize::MAX - 2..usize::MAX);
        let units = Units::new(0..usize::MAX, usize::MAX.into());
        assert_eq!((units.count(), units.items(0..1)), (1, 0..usize::MAX));
    }
}
