//! Which heaps are probably without a holder.
//!
//! A heap's bit is written by the holder of its lease only: set before the lease is given up, cleared by a thread that
//! means to keep it, and left alone by who takes the lease of a parked heap for a moment. So a heap without a holder is
//! always in the set, and the plain look before a write is exact; that a heap in the set is held for the moment does no harm. (Were the bit set after the lease is given up, and cleared by
//! a seeker before it tries to get the lease, each could miss the other's write, and the heap would be lost.)

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

const WORD_BITS: usize = 64;

/// A bit per heap. Lowest first, so that few heaps see most of the work.
pub struct IdleSet<const WORDS: usize> {
    bits: [AtomicU64; WORDS],
    count: AtomicUsize,
}

impl<const WORDS: usize> IdleSet<WORDS> {
    /// No heap.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            bits: [const { AtomicU64::new(0) }; WORDS],
            count: AtomicUsize::new(0),
        }
    }

    /// No heap.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            bits: std::array::from_fn(|_| AtomicU64::new(0)),
            count: AtomicUsize::new(0),
        }
    }

    /// How many heaps there are in the set, about.
    pub fn count(&self) -> usize {
        // Relaxed: a hint.
        self.count.load(Ordering::Relaxed)
    }

    fn place(&self, id: usize) -> (&AtomicU64, u64) {
        (&self.bits[id / WORD_BITS], 1 << (id % WORD_BITS))
    }

    /// Adds a heap whose lease the caller is about to give up.
    pub fn insert(&self, id: usize) {
        let (bits, bit) = self.place(id);
        // A plain look first: a heap that is served again and again has its bit set already. Relaxed, here and in
        // `remove`: the bit changes under the heap's lease only, which hands its last value on; seekers take it as a
        // hint.
        if bits.load(Ordering::Relaxed) & bit == 0 {
            bits.fetch_or(bit, Ordering::Relaxed);
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes out a heap whose lease the caller holds and keeps.
    pub fn remove(&self, id: usize) {
        let (bits, bit) = self.place(id);
        if bits.load(Ordering::Relaxed) & bit != 0 {
            bits.fetch_and(!bit, Ordering::Relaxed);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The first heap below `below` that is in the set and that `lease` takes the lease of.
    pub fn find<T>(&self, below: usize, mut lease: impl FnMut(usize) -> Option<T>) -> Option<T> {
        if self.count() == 0 {
            return None;
        }
        let words = below.div_ceil(WORD_BITS);
        self.bits
            .iter()
            .enumerate()
            .take(words)
            .find_map(|(word, bits)| {
                // Relaxed: hints; the lease decides and synchronises.
                let mut seen = bits.load(Ordering::Relaxed);
                while seen != 0 {
                    let id = word * WORD_BITS + seen.trailing_zeros() as usize;
                    if let Some(leased) = lease(id) {
                        return Some(leased);
                    }
                    seen &= seen - 1;
                }
                None
            })
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::free_list::news::Leased;
    use crate::page::model::{Heap, check};
    use std::sync::Arc;

    struct World {
        idle: IdleSet<1>,
        heap: Heap,
    }

    // SAFETY: as for `page::model::World`.
    unsafe impl Send for World {}
    // SAFETY: as above.
    unsafe impl Sync for World {}

    impl World {
        /// A parked heap.
        fn new() -> Arc<Self> {
            let world = Self {
                idle: IdleSet::new(),
                heap: Heap::new(),
            };
            world.park();
            Arc::new(world)
        }

        /// As `idle::park`.
        fn park(&self) {
            self.idle.insert(0);
            self.heap.unlease();
        }

        /// As `idle::lease_or_make` and `slot::install`.
        fn seek(&self) -> bool {
            let lease = |_| self.heap.news().try_lease().then_some(());
            let found = self.idle.find(1, lease).is_some();
            if found {
                self.idle.remove(0);
            }
            found
        }
    }

    /// While another thread holds a parked heap for a moment and gives it up by `leave`, this one looks for a heap: if it doesn't
    /// get this one, the next does.
    fn a_heap_held_for_a_moment_is_not_lost(leave: fn(&World)) {
        loom::model(move || {
            let world = World::new();
            let theirs = world.clone();
            let other = loom::thread::spawn(move || {
                if theirs.heap.news().try_lease() {
                    leave(&theirs);
                }
            });
            let found = world.seek();
            other.join().unwrap();
            assert_ne!(found, world.seek());
            assert_eq!(world.idle.count(), 0);
        });
    }

    #[test]
    fn a_heap_that_is_served_is_not_lost() {
        a_heap_held_for_a_moment_is_not_lost(World::park);
    }

    /// Without a look at the set, as `exit::give_back` does.
    #[test]
    fn a_heap_whose_lease_is_given_back_is_not_lost() {
        a_heap_held_for_a_moment_is_not_lost(|world| world.heap.unlease());
    }

    /// Two threads look for a heap while its holder parks it: at most one gets it, and if none did, the next does.
    #[test]
    fn a_parked_heap_has_one_finder() {
        check(4, || {
            let world = World::new();
            assert!(world.seek() && !world.seek());
            let (a, b) = (world.clone(), world.clone());
            let first = loom::thread::spawn(move || a.seek());
            let second = loom::thread::spawn(move || b.seek());
            world.park();
            let found = u32::from(first.join().unwrap()) + u32::from(second.join().unwrap());
            assert!(found <= 1);
            assert_eq!(world.seek(), found == 0);
            assert_eq!(world.idle.count(), 0);
        });
    }

    /// Heaps whose bits share a word come and go independently.
    #[test]
    fn heaps_do_not_lose_each_others_bits() {
        loom::model(|| {
            let idle = Arc::new(IdleSet::<1>::new());
            idle.insert(2);
            let theirs = idle.clone();
            let other = loom::thread::spawn(move || {
                theirs.insert(0);
                theirs.remove(2);
            });
            idle.insert(1);
            other.join().unwrap();
            let mut found = Vec::new();
            assert_eq!(
                idle.find(3, |id| {
                    found.push(id);
                    None::<()>
                }),
                None
            );
            assert_eq!((found, idle.count()), (vec![0, 1], 2));
        });
    }
}
