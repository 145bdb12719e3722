//! A few slots for things that live for ever: whoever swaps one out of its slot holds it. Nothing is linked and nobody
//! waits; who finds a slot empty, because somebody else holds its thing for a moment, does without.

use crate::sync::{AtomicPtr, AtomicUsize, Ordering};
use std::ptr::{self, NonNull};

/// At most `N` things.
pub struct Slots<T: 'static, const N: usize> {
    slots: [AtomicPtr<T>; N],
    /// The slot whose thing makes room next.
    turn: AtomicUsize,
}

impl<T, const N: usize> Slots<T, N> {
    /// Nothing.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            slots: [const { AtomicPtr::new(ptr::null_mut()) }; N],
            turn: AtomicUsize::new(0),
        }
    }

    /// Nothing.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            turn: AtomicUsize::new(0),
        }
    }

    /// Puts a thing that the caller holds into a slot. Where none is empty another thing makes room, which the caller
    /// holds then.
    #[must_use]
    pub fn put(&self, thing: &'static T) -> Option<&'static T> {
        let thing = ptr::from_ref(thing).cast_mut();
        for slot in &self.slots {
            // Release hands what the caller did to the thing to whoever takes it. Relaxed: a hint, and a full slot
            // tells nothing.
            if slot.load(Ordering::Relaxed).is_null()
                && slot
                    .compare_exchange(ptr::null_mut(), thing, Ordering::Release, Ordering::Relaxed)
                    .is_ok()
            {
                return None;
            }
        }
        // Relaxed: any slot will do.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % N;
        // Release as above; Acquire pairs with the Release of the `put` that is replaced.
        let other = self.slots[turn].swap(thing, Ordering::AcqRel);
        // SAFETY: only references were put in.
        unsafe { other.as_ref() }
    }

    /// Takes a thing that `fits`, which is asked while others may take it, use it and put it back: what it looks at is
    /// atomic, and the caller has to ask again.
    pub fn take(&self, fits: impl Fn(&T) -> bool) -> Option<&'static T> {
        self.slots.iter().find_map(|slot| {
            // Acquire pairs with the Release of `put`: `fits` looks into the thing.
            let seen = NonNull::new(slot.load(Ordering::Acquire))?;
            // SAFETY: only references were put in.
            let thing = unsafe { seen.as_ref() };
            // Acquire likewise: it may have been taken and put back since.
            (fits(thing)
                && slot
                    .compare_exchange(
                        seen.as_ptr(),
                        ptr::null_mut(),
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    )
                    .is_ok())
            .then_some(thing)
        })
    }

    /// Takes one thing after the other and hands it to `each`, which may put it back: every slot is looked at once.
    pub fn take_each(&self, mut each: impl FnMut(&'static T)) {
        for slot in &self.slots {
            // Relaxed: a hint, to spare empty slots the swap.
            if slot.load(Ordering::Relaxed).is_null() {
                continue;
            }
            // Acquire pairs with the Release of `put`.
            let taken = slot.swap(ptr::null_mut(), Ordering::Acquire);
            // SAFETY: only references were put in.
            if let Some(thing) = unsafe { taken.as_ref() } {
                each(thing);
            }
        }
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::page::model::check;
    use crate::sync::OwnedCell;
    use std::sync::Arc;

    /// A thing whose `uses` only its holder touches: loom reports two holders.
    struct Thing {
        size: AtomicUsize,
        uses: OwnedCell<u32>,
    }

    // SAFETY: the cell is the holder's, which is what the models check.
    unsafe impl Send for Thing {}
    // SAFETY: as above.
    unsafe impl Sync for Thing {}

    struct World<const N: usize> {
        slots: Slots<Thing, N>,
        things: [Thing; 3],
    }

    impl<const N: usize> World<N> {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                slots: Slots::new(),
                things: [0, 1, 2].map(|size| Thing {
                    size: AtomicUsize::new(size),
                    uses: OwnedCell::new(0),
                }),
            })
        }

        fn thing(&self, index: usize) -> &'static Thing {
            // SAFETY: the model's threads end before the world does.
            unsafe { &*ptr::from_ref(&self.things[index]) }
        }

        /// Uses a thing that the caller holds.
        fn touch(thing: &Thing) {
            // SAFETY: loom checks that the caller is alone with it.
            unsafe { thing.uses.set(thing.uses.get() + 1) };
        }

        /// Uses a thing and puts it away; how many made room for it.
        fn put(&self, thing: &'static Thing) -> usize {
            Self::touch(thing);
            self.slots.put(thing).map_or(0, |other| {
                Self::touch(other);
                1
            })
        }

        fn take(&self, size: usize) -> Option<&'static Thing> {
            let thing = self
                .slots
                .take(|thing| thing.size.load(Ordering::Relaxed) == size)?;
            Self::touch(thing);
            Some(thing)
        }

        fn count(&self) -> usize {
            let mut count = 0;
            self.slots.take_each(|thing| {
                Self::touch(thing);
                count += 1;
            });
            count
        }
    }

    /// Two threads take the thing that is there, use it and put it back, while a third one goes through all slots. It
    /// never has two holders, and is there in the end.
    #[test]
    fn a_thing_has_one_holder() {
        check(3, || {
            let world = World::<2>::new();
            assert_eq!(world.put(world.thing(1)), 0);
            let takers = [0, 1].map(|_| {
                let world = world.clone();
                loom::thread::spawn(move || {
                    if let Some(thing) = world.take(1) {
                        assert_eq!(world.put(thing), 0);
                    }
                })
            });
            world.slots.take_each(|thing| {
                World::<2>::touch(thing);
                assert!(world.slots.put(thing).is_none());
            });
            for taker in takers {
                taker.join().unwrap();
            }
            assert_eq!(world.count(), 1);
        });
    }

    /// Three things for one slot, and a thread that looks for one of them: each is taken, makes room, or stays.
    #[test]
    fn what_makes_room_is_not_lost() {
        check(3, || {
            let world = World::<1>::new();
            let made_room = world.put(world.thing(0));
            let putters = [1, 2].map(|index| {
                let world = world.clone();
                loom::thread::spawn(move || world.put(world.thing(index)))
            });
            let taken = usize::from(world.take(1).is_some());
            let made_room = putters
                .into_iter()
                .fold(made_room, |sum, putter| sum + putter.join().unwrap());
            assert_eq!(taken + made_room + world.count(), 3);
        });
    }
}
