//! Counts the children of a nursery that haven't ended, in the nursery's frame. The owner counts what it spawns itself
//! and adds that once, when it begins to wait; only what others spawn, and each end, is a read-modify-write.

use crate::atomics::{AtomicPtr, AtomicUsize, Ordering};
use crate::wait::{FIRED, Waiter};
use crossbeam_utils::CachePadded;
use std::ptr;

/// In the word until the owner waits, so that no end of a child takes it to zero before. More children than this need
/// more memory than there is address space.
const OPEN: usize = 1 << (usize::BITS - 2);

/// The count.
///
/// `word == children spawned by others - children ended + (OPEN before the owner waits, its own children after)`
pub struct Tally {
    /// Any thread.
    word: CachePadded<AtomicUsize>,
    /// Owner, before it takes OPEN out of the word; the child that ends last reads it.
    waiter: AtomicPtr<Waiter>,
}

impl Tally {
    /// No children.
    pub fn new() -> Self {
        Self {
            word: CachePadded::new(AtomicUsize::new(OPEN)),
            waiter: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// One more child that the owner doesn't count: by somebody whom the owner waits for.
    pub fn add(&self) {
        // Relaxed: the caller is counted itself, so the word doesn't reach zero before its own end.
        self.word.fetch_add(1, Ordering::Relaxed);
    }

    /// Children have ended; nothing of what they borrowed is touched any more.
    ///
    /// # Safety
    /// The children were counted, and are counted down once. The owner may leave the frame at once.
    pub unsafe fn finish(this: *const Self, children: usize) {
        // SAFETY: the frame stays until the count is zero.
        let tally = unsafe { &*this };
        // Through pointers only: after the subtraction the frame may be gone.
        let (word, waiter) = (ptr::from_ref(&*tally.word), ptr::from_ref(&tally.waiter));
        // Release: the owner sees what the children did. Acquire: the last one sees the waiter, and its signal passes on
        // what the children before it did.
        // SAFETY: as above.
        if unsafe { (*word).fetch_sub(children, Ordering::AcqRel) } == children {
            // SAFETY: the owner waits until it is signalled; nobody else claims its waiter.
            unsafe {
                let waiter = (*waiter).load(Ordering::Relaxed);
                let claimed = (*waiter).claim(FIRED);
                debug_assert!(claimed);
                Waiter::signal(waiter);
            }
        }
    }

    /// Waits until all have ended: by the owner, with the number of children that it counted itself, once.
    pub fn wait(&self, own: usize) {
        // All have ended: nobody else knows the tally. Acquire: what they did.
        if self.word.load(Ordering::Acquire).wrapping_add(own) == OPEN {
            return;
        }
        let waiter = Waiter::new();
        waiter.set_label(&"the children of a nursery");
        self.waiter
            .store(ptr::from_ref(&waiter).cast_mut(), Ordering::Relaxed);
        // Release: the last child finds the waiter. Acquire: as above.
        let before = self
            .word
            .fetch_sub(OPEN.wrapping_sub(own), Ordering::AcqRel);
        if before.wrapping_add(own) != OPEN {
            waiter.wait();
        }
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    struct Frame {
        tally: Tally,
        results: [UnsafeCell<u32>; 3],
    }

    /// A child, and one that it spawns on its way, end while the owner waits: the owner goes on when both have, and sees
    /// what they did.
    #[test]
    fn the_owner_waits_for_all() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let frame = Arc::new(Frame {
                tally: Tally::new(),
                results: Default::default(),
            });
            let end = |frame: &Frame, child: usize| {
                frame.results[child].with_mut(|result| unsafe { *result = 1 });
                unsafe { Tally::finish(&frame.tally, 1) };
            };
            let (one, two) = (frame.clone(), frame.clone());
            let first = thread::spawn(move || end(&one, 0));
            let second = thread::spawn(move || {
                two.tally.add();
                let three = two.clone();
                let third = thread::spawn(move || end(&three, 2));
                end(&two, 1);
                third
            });
            frame.tally.wait(2);
            for result in &frame.results {
                assert_eq!(result.with(|result| unsafe { *result }), 1);
            }
            first.join().unwrap();
            second.join().unwrap().join().unwrap();
        });
    }
}
