//! Sets of size classes.

use crate::size_class::{CLASSES, SizeClass};
use std::cell::Cell;

const WORDS: usize = CLASSES.div_ceil(u64::BITS as usize);

/// A set of size classes.
pub struct ClassSet {
    /// The bits aren't all zero.
    any: Cell<bool>,
    bits: [Cell<u64>; WORDS],
}

impl ClassSet {
    /// None.
    pub const fn new() -> Self {
        Self {
            any: Cell::new(false),
            bits: [const { Cell::new(0) }; WORDS],
        }
    }

    /// Whether there is none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        !self.any.get()
    }

    /// Adds one.
    pub fn insert(&self, class: SizeClass) {
        let word = &self.bits[class.0 as usize / u64::BITS as usize];
        word.set(word.get() | 1 << (class.0 % u64::BITS as u8));
        self.any.set(true);
    }

    /// Visits each of them.
    pub fn each(&self, visit: impl FnMut(SizeClass)) {
        Self::visit(self.bits.iter().map(Cell::get), visit);
    }

    /// Takes all out.
    #[inline(always)]
    pub fn take_each(&self, visit: impl FnMut(SizeClass)) {
        self.any.set(false);
        Self::visit(self.bits.iter().map(Cell::take), visit);
    }

    #[inline(always)]
    fn visit(words: impl Iterator<Item = u64>, mut visit: impl FnMut(SizeClass)) {
        for (at, mut bits) in words.enumerate() {
            while bits != 0 {
                let class = at as u8 * u64::BITS as u8 + bits.trailing_zeros() as u8;
                visit(SizeClass(class));
                bits &= bits - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_went_in_comes_out_once() {
        let set = ClassSet::new();
        for step in 1..CLASSES {
            assert!(set.is_empty());
            let some = || SizeClass::all().step_by(step);
            some().chain(some()).for_each(|class| set.insert(class));
            assert!(!set.is_empty());
            let mut expected = some();
            set.each(|class| assert_eq!(Some(class), expected.next()));
            assert_eq!(expected.next(), None);
            let mut expected = some();
            set.take_each(|class| assert_eq!(Some(class), expected.next()));
            assert_eq!(expected.next(), None);
        }
        assert!(set.is_empty());
        set.take_each(|class| panic!("{class:?} of an empty set"));
    }
}
