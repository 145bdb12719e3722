//! Which slots of a span are free, and how many of a class are: a bit for each slot, and a count of all.
//!
//! Who wants slots first reserves a number of them in the [`Available`] count, then clears so many bits, wherever
//! they are; who gives slots back first sets the bits, then raises the count. So there are never fewer bits than
//! reservations, a reservation always finds its bits, and a class whose count is 0 has no slot to spare: only then is a
//! new span mapped. Nothing is linked, so there is no ABA: a bit that is set says that its slot is free, whatever
//! happened to it meanwhile, and whoever clears it holds the slot.

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// The bits of a word.
pub const WORD_BITS: usize = 64;

/// A set bit for each free slot of a span.
pub struct FreeSlots<const WORDS: usize> {
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> FreeSlots<WORDS> {
    /// No free slot. (A span's is zeroed memory.)
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// The free slots of a word, as a hint.
    pub fn peek(&self, word: usize) -> u64 {
        // Relaxed: a hint.
        self.words[word].load(Ordering::Relaxed)
    }

    /// Takes up to `most` slots of a word, the lowest first, for as many reservations of the caller's.
    pub fn claim(&self, word: usize, most: usize) -> u64 {
        // Acquire, here and on failure: who sees a bit gone knows of the one that its taker had reserved (see `find` in
        // `depot.rs`): pairs with the Release of the compare-and-swap below.
        let mut seen = self.words[word].load(Ordering::Acquire);
        loop {
            let chosen = lowest(seen, most);
            if chosen == 0 {
                return 0;
            }
            // Acquire pairs with the Release of `give`: what was done to the slots. Release: see above.
            match self.words[word].compare_exchange_weak(
                seen,
                seen & !chosen,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return chosen,
                Err(now) => seen = now,
            }
        }
    }

    /// Takes those of certain slots that are free, for as many reservations of the caller's; what it gets may be fewer.
    pub fn claim_these(&self, word: usize, slots: u64) -> u64 {
        // Orderings as in `claim`.
        self.words[word].fetch_and(!slots, Ordering::AcqRel) & slots
    }

    /// Gives slots that the caller holds back; false when one of them was free already. The caller raises the count
    /// afterwards.
    #[must_use]
    pub fn give(&self, word: usize, slots: u64) -> bool {
        // Release hands over what was done to the slots.
        self.words[word].fetch_or(slots, Ordering::Release) & slots == 0
    }

    /// Makes a span's slots free, before others know of the span.
    pub fn fill(&self, word: usize, slots: u64) {
        self.words[word].store(slots, Ordering::Relaxed);
    }
}

/// The lowest `most` set bits.
pub fn lowest(bits: u64, most: usize) -> u64 {
    if bits.count_ones() as usize <= most {
        return bits;
    }
    let mut rest = bits;
    for _ in 0..most {
        rest &= rest - 1;
    }
    bits & !rest
}

/// How many free slots of a class are not spoken for; and whether the pool's owner has let go of it.
#[derive(Debug)]
pub struct Available(AtomicUsize);

const CLOSED: usize = 1 << (usize::BITS - 1);

impl Available {
    /// None.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// None.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// How many, about.
    pub fn get(&self) -> usize {
        // Relaxed: a hint.
        self.0.load(Ordering::Relaxed) & !CLOSED
    }

    /// Speaks for up to `most` slots, and says for how many: none where there are none, or where the class is closed.
    pub fn reserve(&self, most: usize) -> usize {
        // Acquire pairs with the Release of `add`: the bits of what it counted are there.
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            let count = if seen & CLOSED == 0 {
                seen.min(most)
            } else {
                0
            };
            if count == 0 {
                return 0;
            }
            match self.0.compare_exchange_weak(
                seen,
                seen - count,
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return count,
                Err(now) => seen = now,
            }
        }
    }

    /// Counts slots whose bits are set. True when the class is closed and these were the last that were missing of
    /// `total`: then the caller is alone with it.
    #[must_use]
    pub fn add(&self, count: usize, total: impl FnOnce() -> usize) -> bool {
        // Release publishes the bits, and the end of what the caller does to the class; Acquire makes all others' such
        // ends visible to the last.
        let now = self.0.fetch_add(count, Ordering::AcqRel) + count;
        now & CLOSED != 0 && now & !CLOSED == total()
    }

    /// Closes the class. True when no slot is missing of `total`: as for [`Available::add`].
    #[must_use]
    pub fn close(&self, total: usize) -> bool {
        // As in `add`.
        self.0.fetch_or(CLOSED, Ordering::AcqRel) == total
    }

    /// Starts again, for a new pool: the caller is alone with the class.
    #[cfg(not(loom))]
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn lowest_bits() {
        assert_eq!(lowest(0, 3), 0);
        assert_eq!(lowest(0b1011_0100, 2), 0b1_0100);
        assert_eq!(lowest(0b1011_0100, 4), 0b1011_0100);
        assert_eq!(lowest(u64::MAX, 63), u64::MAX >> 1);
        assert_eq!(lowest(u64::MAX, 64), u64::MAX);
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::page::model::check;
    use crate::sync::OwnedCell;
    use std::sync::Arc;

    const SLOTS: usize = 2;

    /// A class with one slot in each of two words.
    struct World {
        available: Available,
        free: FreeSlots<SLOTS>,
        /// Touched by a slot's holder only: loom reports two holders.
        used: [OwnedCell<u32>; SLOTS],
        /// What the last to leave does.
        unmapped: OwnedCell<u32>,
    }

    // SAFETY: the cells are the holders', which is what the models check.
    unsafe impl Send for World {}
    // SAFETY: as above.
    unsafe impl Sync for World {}

    impl World {
        fn new() -> Arc<Self> {
            let world = Self {
                available: Available::new(),
                free: FreeSlots::new(),
                used: [OwnedCell::new(0), OwnedCell::new(0)],
                unmapped: OwnedCell::new(0),
            };
            for word in 0..SLOTS {
                world.free.fill(word, 1);
            }
            assert!(!world.available.add(SLOTS, || SLOTS));
            Arc::new(world)
        }

        /// As `Depot::find`: a reservation finds its bit, and a second look shows what the first one missed.
        fn take(&self) -> Option<usize> {
            if self.available.reserve(1) == 0 {
                return None;
            }
            let mut rounds = 0;
            loop {
                for word in 0..SLOTS {
                    if self.free.claim(word, 1) != 0 {
                        self.touch(word);
                        return Some(word);
                    }
                }
                rounds += 1;
                assert!(rounds < 4, "a reservation found no slot");
            }
        }

        fn touch(&self, slot: usize) {
            // SAFETY: loom checks that the caller is alone with the slot.
            unsafe { self.used[slot].set(self.used[slot].get() + 1) };
        }

        fn give(&self, slot: usize) {
            self.touch(slot);
            assert!(self.free.give(slot, 1), "given twice");
            if self.available.add(1, || SLOTS) {
                self.unmap();
            }
        }

        fn unmap(&self) {
            for slot in 0..SLOTS {
                self.touch(slot);
            }
            // SAFETY: loom checks that the caller is alone.
            unsafe { self.unmapped.set(self.unmapped.get() + 1) };
        }
    }

    /// Three threads, two slots: a slot has one holder, none is lost, and a thread finds none only while both are held.
    #[test]
    fn a_slot_has_one_holder() {
        check(3, || {
            let world = World::new();
            let others = [0, 1].map(|_| {
                let world = world.clone();
                loom::thread::spawn(move || {
                    if let Some(slot) = world.take() {
                        world.give(slot);
                    }
                })
            });
            if let Some(slot) = world.take() {
                world.give(slot);
            }
            for other in others {
                other.join().unwrap();
            }
            let both = [world.take().unwrap(), world.take().unwrap()];
            assert_ne!(both[0], both[1]);
            assert_eq!(world.take(), None);
        });
    }

    /// As many threads as slots, each taking and giving twice: no one of them ever finds the class empty, so no span
    /// is mapped beside those that are needed.
    #[test]
    fn none_is_missed() {
        check(3, || {
            let world = World::new();
            let theirs = world.clone();
            let other = loom::thread::spawn(move || {
                for _ in 0..2 {
                    let slot = theirs.take().expect("one of two is free");
                    theirs.give(slot);
                }
            });
            for _ in 0..2 {
                let slot = world.take().expect("one of two is free");
                world.give(slot);
            }
            other.join().unwrap();
        });
    }

    /// The pool's owner lets go while two stacks are out, one of them on another thread that trims a free slot first:
    /// exactly one of the three is the last.
    #[test]
    fn a_closed_class_has_one_last_user() {
        check(3, || {
            let world = World::new();
            let (first, second) = (world.take().unwrap(), world.take().unwrap());
            let (a, b) = (world.clone(), world.clone());
            let one = loom::thread::spawn(move || a.give(first));
            let two = loom::thread::spawn(move || {
                // As `decay`: a slot that is free for the moment is held, while the caller's own is out.
                if b.available.reserve(1) == 1 {
                    if b.free.claim_these(first, 1) == 1 {
                        b.give(first);
                    } else if b.available.add(1, || SLOTS) {
                        b.unmap();
                    }
                }
                b.give(second);
            });
            if world.available.close(SLOTS) {
                world.unmap();
            }
            one.join().unwrap();
            two.join().unwrap();
            // SAFETY: the threads have ended.
            assert_eq!(unsafe { world.unmapped.get() }, 1);
        });
    }
}
