//! Sets of size classes.

use crate::size_class::{CLASSES, SizeClass};
use std::cell::Cell;

const WORDS: usize = CLASSES.div_ceil(u64::BITS as usize);

/// A set of size classes, that is most often empty.
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

    /// Takes all out.
    #[inline(always)]
    pub fn take_each(&self, mut visit: impl FnMut(SizeClass)) {
        self.any.set(false);
        for (at, word) in self.bits.iter().enumerate() {
            let mut bits = word.take();
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
            set.take_each(|class| assert_eq!(Some(class), expected.next()));
            assert_eq!(expected.next(), None);
        }
        assert!(set.is_empty());
        set.take_each(|class| panic!("{class:?} of an empty set"));
    }
}
