//! A condition variable: waiters stand in a list, and enter it before they give the mutex back. So whoever changes what
//! they wait for under the mutex finds them there.

use super::mutex::MutexGuard;
use super::{GaveUp, Patience, certain, unless_cancelled};
use crate::atomics::{AtomicUsize, Mutex, Ordering};
use crate::fiber::Cancelled;
use crate::wait::{FIRED, Waiter};
use crate::wait_list::{Node, WaitList};
use crate::worker::WakeBatch;
use std::fmt;
use std::time::{Duration, Instant};

/// Where those stand who wait until somebody has changed what a [`crate::sync::Mutex`] guards.
///
/// First in, first out; a notification that finds nobody is lost. A wait ends by a notification only, never by itself;
/// but by the time the mutex is locked again, others may have changed the data once more, so ask in a loop, as
/// [`Condvar::wait_while`] does.
///
/// ```
/// use millpond_fiber::sync::{Condvar, Mutex};
///
/// let (ready, changed) = (Mutex::new(false), Condvar::new());
/// millpond_fiber::nursery(|n| {
///     n.spawn(|| {
///         let guard = changed.wait_while(ready.lock(), |ready| !*ready);
///         assert!(*guard);
///     });
///     *ready.lock() = true;
///     changed.notify_one();
/// });
/// ```
pub struct Condvar {
    /// How many stand in the list. Written under its lock.
    count: AtomicUsize,
    waiters: Mutex<WaitList>,
}

impl Condvar {
    crate::atomics::const_unless_model! {
        /// Nobody waits.
        pub const fn new() -> Self {
            Self {
                count: AtomicUsize::new(0),
                waiters: Mutex::new(WaitList::new()),
            }
        }
    }

    /// Gives the mutex back, waits for a notification, and locks the mutex again.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        let (guard, result) = self.wait_with(guard, Patience::Endless);
        certain(result);
        guard
    }

    /// Waits as long as the condition is true of the data.
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        while condition(&mut guard) {
            guard = self.wait(guard);
        }
        guard
    }

    /// As [`Condvar::wait`], for a time at most; `false` if the time was over first. The mutex is locked in any case,
    /// however long that takes.
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        let (guard, result) = self.wait_with(guard, Patience::timeout(timeout));
        (guard, result.is_ok())
    }

    /// As [`Condvar::wait_while`], for a time at most; `false` if the condition is still true then.
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> (MutexGuard<'a, T>, bool) {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if !condition(&mut guard) {
                return (guard, true);
            }
            let result;
            (guard, result) = self.wait_with(guard, Patience::Until(deadline));
            if result.is_err() {
                let ended = !condition(&mut guard);
                return (guard, ended);
            }
        }
    }

    /// As [`Condvar::wait`], unless the fiber is cancelled. The mutex is locked in any case.
    pub fn wait_cancellable<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
    ) -> (MutexGuard<'a, T>, Result<(), Cancelled>) {
        let (guard, result) = self.wait_with(guard, Patience::Cancellable);
        (guard, unless_cancelled(result))
    }

    fn wait_with<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        patience: Patience,
    ) -> (MutexGuard<'a, T>, Result<(), GaveUp>) {
        let node = Node::new(0, &"a condition");
        {
            let mut waiters = self.lock_list();
            // SAFETY: taken out by a notification, or below.
            unsafe { waiters.push_back(&node) };
            // Relaxed: whoever notifies after he changed what the mutex guards has had the mutex after this.
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        let mutex = guard.mutex();
        drop(guard);
        let result = patience.wait(&node.waiter);
        if result.is_err() && self.lock_list().remove(&node) {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        (mutex.lock(), result.map(|_| ()))
    }

    fn lock_list(&self) -> crate::atomics::MutexGuard<'_, WaitList> {
        self.waiters.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Wakes the one that has waited longest, if anybody waits. Costs a load if nobody does. Fibers call it best after
    /// they have given the mutex back, or the woken one waits for that.
    pub fn notify_one(&self) {
        self.notify(1);
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        self.notify(usize::MAX);
    }

    fn notify(&self, most: usize) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut batch = WakeBatch::new();
        let mut waiters = self.lock_list();
        let mut woken = 0;
        while woken < most
            && let Some(node) = waiters.pop_front()
        {
            self.count.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: the node lives until the signal; or, if another has claimed it, until it has had the list's lock.
            unsafe {
                if node.as_ref().waiter.claim(FIRED) {
                    Waiter::signal_in(&raw const (*node.as_ptr()).waiter, &mut batch);
                    woken += 1;
                }
            }
        }
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar")
            .field("waiting", &self.count.load(Ordering::Relaxed))
            .finish()
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use crate::sync::Mutex;
    use loom::sync::Arc;
    use loom::thread;

    /// What is changed under the mutex before the notification is seen by all who waited for it: nobody stays behind.
    #[test]
    fn no_notification_is_lost() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(|| {
            let shared = Arc::new((Mutex::new(0), Condvar::new()));
            let threads = [(); 2].map(|()| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let (value, changed) = &*shared;
                    let mut guard = changed.wait_while(value.lock(), |value| *value == 0);
                    *guard += 1;
                })
            });
            let (value, changed) = &*shared;
            *value.lock() = 1;
            changed.notify_all();
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(*value.lock(), 3);
            assert_eq!(changed.count.load(Ordering::Relaxed), 0);
        });
    }

    /// One notification wakes one, who passes it on.
    #[test]
    fn one_wakes_the_next() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(|| {
            let shared = Arc::new((Mutex::new(0), Condvar::new()));
            let take = |(tokens, changed): &(Mutex<u32>, Condvar)| {
                let mut guard = changed.wait_while(tokens.lock(), |tokens| *tokens == 0);
                *guard -= 1;
            };
            let threads = [(); 2].map(|()| {
                let shared = shared.clone();
                thread::spawn(move || take(&shared))
            });
            for _ in 0..2 {
                *shared.0.lock() += 1;
                shared.1.notify_one();
            }
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(*shared.0.lock(), 0);
        });
    }
}
