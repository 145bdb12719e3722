//! A barrier: those who arrive wait in a list until as many are there as it is for.

use crate::atomics::Mutex;
use crate::wait::{FIRED, Waiter};
use crate::wait_list::{Node, WaitList};
use crate::worker::WakeBatch;
use std::fmt;

/// Lets a number of fibers or threads go on when all of them have arrived; again and again.
///
/// A wait can't be given up, since the others count on it.
///
/// ```
/// use millpond_fiber::sync::Barrier;
///
/// let barrier = Barrier::new(3);
/// let leaders = std::sync::atomic::AtomicUsize::new(0);
/// millpond_fiber::nursery(|n| {
///     for _ in 0..3 {
///         n.spawn(|| {
///             if barrier.wait() {
///                 leaders.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
///             }
///         });
///     }
/// });
/// assert_eq!(leaders.into_inner(), 1);
/// ```
pub struct Barrier {
    size: usize,
    arrived: Mutex<Arrived>,
}

struct Arrived {
    count: usize,
    list: WaitList,
}

impl Barrier {
    crate::atomics::const_unless_model! {
        /// For so many at a time. With 0 or 1 nobody waits.
        pub const fn new(size: usize) -> Self {
            Self {
                size,
                arrived: Mutex::new(Arrived {
                    count: 0,
                    list: WaitList::new(),
                }),
            }
        }
    }

    /// Waits until all have arrived, and goes on with them; `true` for one of them, the last to arrive.
    pub fn wait(&self) -> bool {
        let node = Node::new(0, &"a barrier");
        {
            // Delivered when the lock is given up.
            let mut batch = WakeBatch::new();
            let mut arrived = self.arrived.lock().unwrap_or_else(|e| e.into_inner());
            if arrived.count + 1 >= self.size {
                arrived.count = 0;
                while let Some(node) = arrived.list.pop_front() {
                    // SAFETY: the node lives until the signal, and nobody else claims its waiter.
                    unsafe {
                        let claimed = node.as_ref().waiter.claim(FIRED);
                        debug_assert!(claimed);
                        Waiter::signal_in(&raw const (*node.as_ptr()).waiter, &mut batch);
                    }
                }
                return true;
            }
            arrived.count += 1;
            // SAFETY: taken out by the last to arrive, before the wait ends.
            unsafe { arrived.list.push_back(&node) };
        }
        node.waiter.wait();
        false
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    /// Two meet twice: each sees what the other did before, and one of them leads each time.
    #[test]
    fn all_have_arrived() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let cells = [UnsafeCell::new(0), UnsafeCell::new(0)];
            let shared = Arc::new((Barrier::new(2), cells));
            let meet = |(barrier, cells): &(Barrier, [UnsafeCell<u32>; 2]), own: usize| {
                let mut led = [false; 2];
                for (round, led) in led.iter_mut().enumerate() {
                    cells[own].with_mut(|cell| unsafe { *cell += 1 });
                    *led = barrier.wait();
                    let other = cells[1 - own].with(|cell| unsafe { *cell });
                    assert_eq!(other, round as u32 + 1);
                    // The other may go on to write when this one has read.
                    barrier.wait();
                }
                led
            };
            let other = shared.clone();
            let thread = thread::spawn(move || meet(&other, 1));
            let led = meet(&shared, 0);
            let other_led = thread.join().unwrap();
            for round in 0..2 {
                assert_ne!(led[round], other_led[round]);
            }
        });
    }
}
