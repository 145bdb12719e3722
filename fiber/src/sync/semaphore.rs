//! A counting semaphore. Its word holds the free permits and whether anybody stands in the list. While somebody does,
//! permits go to those in the list only, in their order: whoever needs many isn't overtaken by those who need few.

use super::{GaveUp, Patience, certain, unless_cancelled};
use crate::atomics::{AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::fiber::Cancelled;
use crate::wait::{FIRED, Waiter};
use crate::wait_list::{Node, WaitList};
use crate::worker::WakeBatch;
use std::fmt;
use std::time::Duration;

/// Beside the permits: somebody stands in the list. Set and cleared under the list's lock; while it is set, permits are
/// taken under that lock only.
const WAITED: usize = 1;
const ONE: usize = 2;

/// Permits to be taken and given back: bounds how many do something at once.
///
/// First come, first served. See [`crate::sync`] for what all locks have in common.
///
/// ```
/// use millpond_fiber::sync::Semaphore;
///
/// let connections = Semaphore::new(2);
/// millpond_fiber::nursery(|n| {
///     for _ in 0..10 {
///         n.spawn(|| {
///             let _one = connections.acquire();
///             // At most two are here at once.
///         });
///     }
/// });
/// assert_eq!(connections.available(), 2);
/// ```
pub struct Semaphore {
    /// `2 * permits + WAITED`
    word: AtomicUsize,
    waiters: Mutex<WaitList>,
}

/// Permits taken from a semaphore; dropping them gives them back, on whatever thread.
#[must_use = "the permits are given back at once if they aren't kept"]
#[derive(Debug)]
pub struct Permits<'a> {
    semaphore: &'a Semaphore,
    count: usize,
}

impl Semaphore {
    /// The most permits.
    pub const MAX: usize = usize::MAX / 4;

    crate::atomics::const_unless_model! {
        /// With so many permits.
        ///
        /// # Panics
        /// If there are more than [`Semaphore::MAX`].
        pub const fn new(permits: usize) -> Self {
            assert!(permits <= Self::MAX, "a semaphore can't have so many permits");
            Self {
                word: AtomicUsize::new(permits * ONE),
                waiters: Mutex::new(WaitList::new()),
            }
        }
    }

    /// How many permits are free; anything else may be true a moment later.
    pub fn available(&self) -> usize {
        self.word.load(Ordering::Relaxed) / ONE
    }

    fn permits(&self, count: usize) -> Permits<'_> {
        Permits {
            semaphore: self,
            count,
        }
    }

    /// Takes one permit; waits until there is one.
    pub fn acquire(&self) -> Permits<'_> {
        self.acquire_many(1)
    }

    /// Takes permits; waits until there are so many. Those who come later wait behind, however few they need.
    pub fn acquire_many(&self, count: usize) -> Permits<'_> {
        certain(self.take(count, Patience::Endless));
        self.permits(count)
    }

    /// Takes permits if there are so many and nobody waits.
    pub fn try_acquire_many(&self, count: usize) -> Option<Permits<'_>> {
        self.try_take(count).then(|| self.permits(count))
    }

    /// Takes one permit if there is one and nobody waits.
    pub fn try_acquire(&self) -> Option<Permits<'_>> {
        self.try_acquire_many(1)
    }

    /// As [`Semaphore::acquire_many`], for a time at most; `None` if the time was over first.
    pub fn acquire_timeout(&self, count: usize, timeout: Duration) -> Option<Permits<'_>> {
        let taken = self.try_take(count) || self.take(count, Patience::timeout(timeout)).is_ok();
        taken.then(|| self.permits(count))
    }

    /// As [`Semaphore::acquire_many`], unless the fiber is cancelled.
    ///
    /// # Errors
    /// When the calling fiber's token is cancelled while it waits.
    pub fn acquire_cancellable(&self, count: usize) -> Result<Permits<'_>, Cancelled> {
        unless_cancelled(self.take(count, Patience::Cancellable)).map(|()| self.permits(count))
    }

    /// Adds permits, and wakes those who can go on with them.
    ///
    /// # Panics
    /// If there would be more than [`Semaphore::MAX`]; they are not added then.
    pub fn release(&self, count: usize) {
        assert!(count <= Self::MAX, "a semaphore can't have {count} permits");
        // Release: whoever takes them sees what this caller did. Acquire: so does whom this caller wakes with permits
        // of others.
        let before = self.word.fetch_add(count * ONE, Ordering::AcqRel);
        if before / ONE + count > Self::MAX {
            self.word.fetch_sub(count * ONE, Ordering::Relaxed);
            panic!("a semaphore can't have {} permits", before / ONE + count);
        }
        if before & WAITED != 0 {
            self.serve(&mut self.waiters());
        }
    }

    fn waiters(&self) -> MutexGuard<'_, WaitList> {
        self.waiters.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn try_take(&self, count: usize) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & WAITED == 0 && word / ONE >= count {
            // Acquire: pairs with `release`.
            match self.word.compare_exchange_weak(
                word,
                word - count * ONE,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    fn take(&self, count: usize, patience: Patience) -> Result<(), GaveUp> {
        if self.try_take(count) {
            return Ok(());
        }
        self.wait(count, patience)
    }

    #[cold]
    fn wait(&self, count: usize, patience: Patience) -> Result<(), GaveUp> {
        let node = Node::new(count, &"a semaphore");
        {
            let mut waiters = self.waiters();
            // From now on whoever gives permits back comes for the list's lock.
            self.word.fetch_or(WAITED, Ordering::Relaxed);
            // SAFETY: taken out by `serve`, or below.
            unsafe { waiters.push_back(&node) };
            // There may be enough already: given back before WAITED was set.
            self.serve(&mut waiters);
        }
        let result = patience.wait(&node.waiter);
        if result.is_err() {
            let mut waiters = self.waiters();
            waiters.remove(&node);
            // Those behind may need fewer.
            self.serve(&mut waiters);
        }
        result.map(|_| ())
    }

    /// Gives permits to those in the list, as far as they go.
    fn serve(&self, waiters: &mut WaitList) {
        let mut batch = WakeBatch::new();
        while let Some(first) = waiters.first() {
            let needs = first.wants;
            // Acquire: the permits that are passed on here were given back by others; the signal passes that on.
            // With WAITED set the permits only grow but for what is taken below.
            if self.word.load(Ordering::Acquire) / ONE < needs {
                return;
            }
            let node = waiters.pop_front().expect("there was a first");
            // SAFETY: the node lives until the signal; or, if another has claimed it, until it has had the list's lock.
            let waiter = unsafe { &raw const (*node.as_ptr()).waiter };
            // SAFETY: as above.
            if unsafe { (*waiter).claim(FIRED) } {
                self.word.fetch_sub(needs * ONE, Ordering::Acquire);
                // SAFETY: claimed.
                unsafe { Waiter::signal_in(waiter, &mut batch) };
            }
        }
        self.word.fetch_and(!WAITED, Ordering::Relaxed);
    }
}

impl Permits<'_> {
    /// Keeps the permits for good: the semaphore has fewer from now on, until [`Semaphore::release`].
    pub fn forget(self) {
        std::mem::forget(self);
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        self.semaphore.release(self.count);
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.available())
            .finish()
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// One needs both permits, two need one each: nobody waits for ever, and all permits come back.
    #[test]
    fn no_permit_is_lost() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(|| {
            let shared = Arc::new((Semaphore::new(2), loom::cell::UnsafeCell::new(0u32)));
            let threads = [(); 2].map(|()| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let _one = shared.0.acquire();
                    shared.1.with(|count| unsafe { *count });
                })
            });
            let both = shared.0.acquire_many(2);
            shared.1.with_mut(|count| unsafe { *count += 1 });
            drop(both);
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(shared.0.word.load(Ordering::Relaxed), 2 * ONE);
        });
    }
}
