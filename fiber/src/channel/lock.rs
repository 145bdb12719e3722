//! The lock around a channel. It is held for some tens of instructions, never over a suspension, and no code of the
//! channel's users runs under it; so a waiter spins, and leaves the processor to others when that takes long, since
//! there may be more workers than cores.

use crate::atomics::{AtomicU32, Ordering};
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

const FREE: u32 = 0;
const HELD: u32 = 1;

/// A value that one thread at a time has.
pub struct SpinLock<T> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value from thread to thread.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// Free.
    pub fn new(value: T) -> Self {
        Self {
            word: AtomicU32::new(FREE),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits until the lock is the caller's.
    #[inline]
    pub fn lock(&self) -> Guard<'_, T> {
        if !self.try_acquire() {
            self.acquire_slowly();
        }
        Guard { lock: self }
    }

    #[inline]
    fn try_acquire(&self) -> bool {
        // Acquire: pairs with the store of `release`.
        self.word
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[cold]
    fn acquire_slowly(&self) {
        let backoff = Backoff::new();
        loop {
            // Looks before it writes, so that the cache line stays with the holder.
            if self.word.load(Ordering::Relaxed) == FREE && self.try_acquire() {
                return;
            }
            backoff.snooze();
        }
    }

    /// Takes the lock without a guard, for who holds several; [`SpinLock::release`] must follow.
    pub fn acquire(&self) {
        std::mem::forget(self.lock());
    }

    /// Gives the lock back.
    ///
    /// # Safety
    /// The caller holds it, and uses no reference to the value any more.
    #[inline]
    pub unsafe fn release(&self) {
        // Release: the next holder sees the value as it is left.
        self.word.store(FREE, Ordering::Release);
    }

    /// The value, for who holds the lock without a guard.
    ///
    /// # Safety
    /// The caller holds the lock, and has no other reference to the value.
    #[expect(clippy::mut_from_ref, reason = "the lock makes it the caller's alone")]
    pub unsafe fn held(&self) -> &mut T {
        // SAFETY: passed on.
        unsafe { &mut *self.value.get() }
    }

    /// The value, for who has the lock itself alone.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// The right to the value.
pub struct Guard<'lock, T> {
    lock: &'lock SpinLock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard is the right to it.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is borrowed alone.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the guard held the lock, and references through it have ended.
        unsafe { self.lock.release() };
    }
}

#[cfg(not(loom))]
use crossbeam_utils::Backoff;

/// Under the model checker, another thread must get its turn.
#[cfg(loom)]
struct Backoff;

#[cfg(loom)]
impl Backoff {
    fn new() -> Self {
        Self
    }

    fn snooze(&self) {
        loom::thread::yield_now();
    }
}
