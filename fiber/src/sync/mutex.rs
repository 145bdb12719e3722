//! A mutex. Its word says whether it is locked and whether anybody stands in the list; the list is used under a lock of
//! its own, for some instructions at a time.
//!
//! Whoever comes while the lock is free takes it, also when others wait (barging): handing it to a fiber that must first
//! be scheduled would leave it unused meanwhile, and all who share a busy lock would go at the pace of the scheduler. But
//! a waiter that was woken and found the lock taken again goes back to the front of the list, and the next unlock hands
//! it the lock. So a waiter is woken in vain once at most. (The idea is that of WebKit's ParkingLot, by Filip Pizlo, which
//! is fair by the clock.)

use super::{Patience, certain, unless_cancelled};
use crate::atomics::{self, AtomicU32, Ordering};
use crate::fiber::Cancelled;
use crate::sync::GaveUp;
use crate::wait::{FIRED, Waiter};
use crate::wait_list::{Node, WaitList};
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

const LOCKED: u32 = 1;
/// Somebody stands in the list. Set and cleared under the list's lock.
const WAITED: u32 = 2;

/// A waiter's node: it was woken once and found the lock taken.
const OVERTAKEN: usize = 1;
/// The lock is free, perhaps: try.
const RETRY: usize = FIRED;
/// The lock is the waiter's.
const HANDED: usize = FIRED + 1;

/// How often to look at a taken lock before standing in line: its holder may be on another worker, about to let go.
const LOOKS: u32 = if cfg!(fiber_loom) { 0 } else { 30 };

/// The lock without its data.
struct Raw {
    word: AtomicU32,
    waiters: atomics::Mutex<WaitList>,
}

impl Raw {
    atomics::const_unless_model! {
        const fn new() -> Self {
            Self {
                word: AtomicU32::new(0),
                waiters: atomics::Mutex::new(WaitList::new()),
            }
        }
    }

    fn waiters(&self) -> atomics::MutexGuard<'_, WaitList> {
        self.waiters.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Takes a free lock.
    fn try_lock(&self) -> bool {
        // Acquire: what the last holder did; pairs with `unlock`.
        self.word
            .compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            || self.try_barge()
    }

    /// Takes a free lock that others wait for.
    fn try_barge(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & LOCKED == 0 {
            // Acquire: as in `try_lock`.
            match self.word.compare_exchange_weak(
                word,
                word | LOCKED,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    #[inline]
    fn lock(&self, patience: Patience) -> Result<(), GaveUp> {
        // Acquire: as in `try_lock`.
        if self
            .word
            .compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            return Ok(());
        }
        self.lock_slowly(patience)
    }

    #[cold]
    fn lock_slowly(&self, patience: Patience) -> Result<(), GaveUp> {
        for _ in 0..LOOKS {
            if self.try_barge() {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let mut history = 0;
        loop {
            let node = Node::new(history, &"a mutex");
            if !self.stand_in_line(&node) {
                return Ok(());
            }
            match patience.wait(&node.waiter) {
                Ok(HANDED) => return Ok(()),
                Ok(_) if self.try_barge() => return Ok(()),
                Ok(_) => history = OVERTAKEN,
                Err(gave_up) => {
                    let mut waiters = self.waiters();
                    if waiters.remove(&node) && waiters.is_empty() {
                        self.word.fetch_and(!WAITED, Ordering::Relaxed);
                    }
                    return Err(gave_up);
                }
            }
        }
    }

    /// Puts the node in the list, at its end the first time, at its front later; `false` if the lock was free and is the
    /// caller's now.
    fn stand_in_line(&self, node: &Node) -> bool {
        let mut waiters = self.waiters();
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let next = word | if word & LOCKED == 0 { LOCKED } else { WAITED };
            if next == word {
                break;
            }
            // Acquire: as in `try_lock`, if it was free. Otherwise the holder sees WAITED when it unlocks, and comes for
            // the list's lock, which publishes the node.
            match self
                .word
                .compare_exchange_weak(word, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) if word & LOCKED == 0 => return false,
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        // SAFETY: taken out by `unlock`, or by its owner when that gives up.
        unsafe {
            if node.wants == OVERTAKEN {
                waiters.push_front(node);
            } else {
                waiters.push_back(node);
            }
        }
        true
    }

    /// Gives the lock back, by its holder.
    #[inline]
    fn unlock(&self) {
        // Release: the next holder sees what this one did.
        if self
            .word
            .compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            self.unlock_slowly();
        }
    }

    #[cold]
    fn unlock_slowly(&self) {
        let mut waiters = self.waiters();
        loop {
            let Some(node) = waiters.pop_front() else {
                // All have given up. Release: as in `unlock`.
                self.word.fetch_and(!(LOCKED | WAITED), Ordering::Release);
                return;
            };
            // SAFETY: the node lives until the signal; or, if another has claimed it, until it has had the list's lock.
            let waiter = unsafe { &raw const (*node.as_ptr()).waiter };
            // SAFETY: as above.
            let overtaken = unsafe { node.as_ref() }.wants == OVERTAKEN;
            // SAFETY: as above.
            if !unsafe { (*waiter).claim(if overtaken { HANDED } else { RETRY }) } {
                continue;
            }
            let gone = if waiters.is_empty() { WAITED } else { 0 };
            let freed = if overtaken { 0 } else { LOCKED };
            // Release: as in `unlock`; a lock that is handed over is published by the signal.
            self.word.fetch_and(!(gone | freed), Ordering::Release);
            drop(waiters);
            // SAFETY: claimed above.
            unsafe { Waiter::signal(waiter) };
            return;
        }
    }
}

/// Mutual exclusion for data. Uncontended, a lock and its unlock are one atomic operation each.
///
/// Waiters are woken first in, first out. Whoever comes meanwhile may take the lock before the woken one gets to it; but
/// that one is woken in vain at most once, and is handed the lock the next time. See [`crate::sync`] for what all locks have in common.
///
/// ```
/// use millpond_fiber::sync::Mutex;
///
/// let total = Mutex::new(0);
/// millpond_fiber::nursery(|n| {
///     for i in 0..10 {
///         let total = &total;
///         n.spawn(move || *total.lock() += i);
///     }
/// });
/// assert_eq!(total.into_inner(), 45);
/// ```
pub struct Mutex<T: ?Sized> {
    raw: Raw,
    data: UnsafeCell<T>,
}

// SAFETY: a guard is as good as a unique reference; shared, it only reads. Nothing depends on the thread.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Send for MutexGuard<'_, T> {}
// SAFETY: the data is reached by one holder at a time, on whatever thread.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

/// The right to a mutex's data, until it is dropped; on whatever thread.
#[must_use = "the mutex is unlocked at once if the guard isn't kept"]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    // The compiler would make a guard `Sync` for any data that is `Send`.
    data: std::marker::PhantomData<&'a mut T>,
}

impl<T> Mutex<T> {
    atomics::const_unless_model! {
        /// Unlocked.
        pub const fn new(data: T) -> Self {
            Self {
                raw: Raw::new(),
                data: UnsafeCell::new(data),
            }
        }
    }

    /// The data.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            mutex: self,
            data: std::marker::PhantomData,
        }
    }

    /// Locks it; waits while another holds it. Whoever locks it twice waits for himself.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        certain(self.raw.lock(Patience::Endless));
        self.guard()
    }

    /// Locks it if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.raw.try_lock().then(|| self.guard())
    }

    /// As [`Mutex::lock`], for a time at most; `None` if the time was over first.
    pub fn lock_timeout(&self, timeout: Duration) -> Option<MutexGuard<'_, T>> {
        let locked = self.try_lock();
        locked.or_else(|| {
            let locked = self.raw.lock(Patience::timeout(timeout));
            locked.is_ok().then(|| self.guard())
        })
    }

    /// As [`Mutex::lock`], unless the fiber is cancelled.
    ///
    /// # Errors
    /// When the calling fiber's token is cancelled while another holds the lock.
    pub fn lock_cancellable(&self) -> Result<MutexGuard<'_, T>, Cancelled> {
        unless_cancelled(self.raw.lock(Patience::Cancellable)).map(|()| self.guard())
    }

    /// The data, which nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// What it guards, for waits that give it back meanwhile.
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard has the data alone.
        unsafe { &*self.mutex.data.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.mutex.data.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.mutex.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(data) => f.debug_tuple("Mutex").field(&&*data).finish(),
            None => f.write_str("Mutex(locked)"),
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Three lock it, twice one of them: each has it alone, and all get it.
    #[test]
    fn one_holder_and_no_lost_waiter() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(|| {
            let shared = Arc::new((Raw::new(), loom::cell::UnsafeCell::new(0u32)));
            let add = |shared: &(Raw, loom::cell::UnsafeCell<u32>)| {
                certain(shared.0.lock(Patience::Endless));
                shared.1.with_mut(|count| unsafe { *count += 1 });
                shared.0.unlock();
            };
            let threads = [(); 2].map(|()| {
                let shared = shared.clone();
                thread::spawn(move || add(&shared))
            });
            add(&shared);
            add(&shared);
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(shared.1.with(|count| unsafe { *count }), 4);
            assert_eq!(shared.0.word.load(Ordering::Relaxed), 0);
        });
    }
}
