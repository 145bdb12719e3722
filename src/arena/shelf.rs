//! A stack of things that one thread puts down and takes up again, and that anyone may take away meanwhile: each lies in
//! a slot, and whoever swaps it out holds it. Nothing is linked, nobody waits, and it costs the one thread a swap for
//! each.

use crate::sync::{AtomicPtr, AtomicU32, Ordering};
use std::ptr;

/// At most `N` things. They live for ever.
pub struct Shelf<T: 'static, const N: usize> {
    /// Its keeper puts into those that are empty, anyone takes.
    slots: [AtomicPtr<T>; N],
    /// All slots from here on are empty. The keeper writes it, for others it is a hint.
    top: AtomicU32,
}

impl<T, const N: usize> Shelf<T, N> {
    /// Nothing.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            slots: [const { AtomicPtr::new(ptr::null_mut()) }; N],
            top: AtomicU32::new(0),
        }
    }

    /// Nothing.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            slots: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            top: AtomicU32::new(0),
        }
    }

    /// The keeper puts a thing down that it holds; false where there is no room.
    #[must_use]
    pub fn put(&self, thing: &'static T) -> bool {
        let top = self.level();
        let Some(slot) = self.slots.get(top) else {
            return false;
        };
        // Release hands what the caller did to the thing to whoever takes it. A swap, though the slot is empty and nobody else
        // fills it: loom has no order between a plain store and somebody's late swap of nothing for nothing.
        let there = slot.swap(ptr::from_ref(thing).cast_mut(), Ordering::Release);
        debug_assert!(there.is_null());
        self.top.store(top as u32 + 1, Ordering::Relaxed);
        true
    }

    /// The keeper takes what it put down last of what is still there.
    pub fn take(&self) -> Option<&'static T> {
        // Relaxed: as in `put`.
        let mut top = self.top.load(Ordering::Relaxed) as usize;
        while top > 0 {
            top -= 1;
            if let Some(thing) = self.take_from(top) {
                self.top.store(top as u32, Ordering::Relaxed);
                return Some(thing);
            }
        }
        self.top.store(0, Ordering::Relaxed);
        None
    }

    /// How high the stack is, with the gaps that others left in it; for the keeper.
    #[inline(always)]
    pub fn level(&self) -> usize {
        // Relaxed: the caller is the only one to write it.
        let mut top = self.top.load(Ordering::Relaxed) as usize;
        // Relaxed: an empty slot stays empty, but for what the caller puts there.
        while top > 0 && self.slots[top - 1].load(Ordering::Relaxed).is_null() {
            top -= 1;
        }
        top
    }

    /// Anyone takes what was put down first of what is still there.
    pub fn take_away(&self) -> Option<&'static T> {
        // Relaxed: what is put down meanwhile needn't be seen.
        let top = self.top.load(Ordering::Relaxed) as usize;
        (0..top.min(N)).find_map(|slot| self.take_from(slot))
    }

    fn take_from(&self, slot: usize) -> Option<&'static T> {
        let slot = &self.slots[slot];
        // Relaxed: a hint, to spare empty slots the swap.
        if slot.load(Ordering::Relaxed).is_null() {
            return None;
        }
        // Acquire pairs with the Release of `put`.
        let taken = slot.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: only references were put in.
        unsafe { taken.as_ref() }
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::page::model::check;
    use crate::sync::OwnedCell;
    use std::sync::Arc;

    /// What only its holder touches: loom reports two holders.
    struct Thing(OwnedCell<u32>);

    // SAFETY: the cell is the holder's, which is what the model checks.
    unsafe impl Send for Thing {}
    // SAFETY: as above.
    unsafe impl Sync for Thing {}

    struct World {
        shelf: Shelf<Thing, 2>,
        things: [Thing; 2],
    }

    impl World {
        fn thing(&self, index: usize) -> &'static Thing {
            // SAFETY: the model's threads end before the world does.
            unsafe { &*ptr::from_ref(&self.things[index]) }
        }
    }

    fn touch(thing: &Thing) {
        // SAFETY: loom checks that the caller is alone with it.
        unsafe { thing.0.set(thing.0.get() + 1) };
    }

    /// The keeper puts two things down, takes one up and puts it down again, while two threads take things away. Each
    /// thing has one holder at a time, and none is lost.
    #[test]
    fn a_thing_on_a_shelf_has_one_holder() {
        check(2, || {
            let world = Arc::new(World {
                shelf: Shelf::new(),
                things: [0, 1].map(|uses| Thing(OwnedCell::new(uses))),
            });
            let thieves = [0, 1].map(|_| {
                let world = world.clone();
                loom::thread::spawn(move || {
                    let taken = world.shelf.take_away();
                    taken.map_or(0, |thing| {
                        touch(thing);
                        1
                    })
                })
            });
            for index in [0, 1] {
                touch(world.thing(index));
                assert!(world.shelf.put(world.thing(index)));
            }
            if let Some(thing) = world.shelf.take() {
                touch(thing);
                assert!(world.shelf.put(thing));
            }
            let taken = thieves
                .into_iter()
                .fold(0, |sum, thief| sum + thief.join().unwrap());
            let mut left = 0;
            while let Some(thing) = world.shelf.take() {
                touch(thing);
                left += 1;
            }
            assert_eq!(taken + left, 2);
        });
    }
}
