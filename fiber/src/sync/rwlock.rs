//! A readers-writer lock. Its word holds the number of readers, whether a writer has it, and whether anybody stands in
//! the list. While somebody does, the lock goes to those in the list only, in their order: to a writer, or to all readers
//! before the next writer. So neither writers nor readers starve.

use super::{GaveUp, Patience, certain, unless_cancelled};
use crate::atomics::{AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::fiber::Cancelled;
use crate::wait::{FIRED, Waiter};
use crate::wait_list::{Node, WaitList};
use crate::worker::WakeBatch;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// Somebody stands in the list. Set and cleared under the list's lock; while it is set, the lock is taken under the
/// list's lock only.
const WAITED: usize = 1;
const WRITER: usize = 2;
const READER: usize = 4;

/// The lock without its data. A node's `wants` is READER or WRITER.
struct Raw {
    word: AtomicUsize,
    waiters: Mutex<WaitList>,
}

impl Raw {
    crate::atomics::const_unless_model! {
        const fn new() -> Self {
            Self {
                word: AtomicUsize::new(0),
                waiters: Mutex::new(WaitList::new()),
            }
        }
    }

    fn waiters(&self) -> MutexGuard<'_, WaitList> {
        self.waiters.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether somebody who wants the lock so can have it beside those who have it.
    fn fits(word: usize, wants: usize) -> bool {
        match wants {
            READER => word & WRITER == 0,
            _ => word & !WAITED == 0,
        }
    }

    #[inline]
    fn try_take(&self, wants: usize) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & WAITED == 0 && Self::fits(word, wants) {
            assert!(word < isize::MAX as usize, "too many readers");
            // Acquire: pairs with `give_back`.
            match self.word.compare_exchange_weak(
                word,
                word + wants,
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
    fn take(&self, wants: usize, patience: Patience) -> Result<(), GaveUp> {
        if self.try_take(wants) {
            return Ok(());
        }
        self.wait(wants, patience)
    }

    #[cold]
    fn wait(&self, wants: usize, patience: Patience) -> Result<(), GaveUp> {
        let label = if wants == READER {
            &"a lock, to read"
        } else {
            &"a lock, to write"
        };
        let node = Node::new(wants, label);
        {
            let mut waiters = self.waiters();
            // From now on whoever gives the lock back comes for the list's lock.
            self.word.fetch_or(WAITED, Ordering::Relaxed);
            // SAFETY: taken out by `serve`, or below.
            unsafe { waiters.push_back(&node) };
            // The lock may be free already: given back before WAITED was set.
            self.serve(&mut waiters);
        }
        let result = patience.wait(&node.waiter);
        if result.is_err() {
            let mut waiters = self.waiters();
            waiters.remove(&node);
            // Readers behind a writer that gave up go on beside other readers.
            self.serve(&mut waiters);
        }
        result.map(|_| ())
    }

    /// Gives the lock to those in the list, as far as they fit.
    fn serve(&self, waiters: &mut WaitList) {
        let mut batch = WakeBatch::new();
        while let Some(first) = waiters.first() {
            let wants = first.wants;
            // Acquire: the lock that is passed on here was given back by others; the signal passes that on. With WAITED
            // set, whoever has the lock can only give it back, but for what is taken below.
            if !Self::fits(self.word.load(Ordering::Acquire), wants) {
                return;
            }
            let node = waiters.pop_front().expect("there was a first");
            // SAFETY: the node lives until the signal; or, if another has claimed it, until it has had the list's lock.
            let waiter = unsafe { &raw const (*node.as_ptr()).waiter };
            // SAFETY: as above.
            if unsafe { (*waiter).claim(FIRED) } {
                self.word.fetch_add(wants, Ordering::Acquire);
                // SAFETY: claimed.
                unsafe { Waiter::signal_in(waiter, &mut batch) };
            }
        }
        self.word.fetch_and(!WAITED, Ordering::Relaxed);
    }

    #[inline]
    fn give_back(&self, had: usize) {
        // Release: the next holder sees what this one did. Acquire: so does whom this caller gives the lock that others
        // had with it.
        let before = self.word.fetch_sub(had, Ordering::AcqRel);
        // Readers that remain serve the list when the last of them goes.
        if before == had + WAITED {
            self.serve(&mut self.waiters());
        }
    }

    /// A writer stays as a reader.
    fn downgrade(&self) {
        // Release: as in `give_back`.
        let before = self.word.fetch_add(READER - WRITER, Ordering::AcqRel);
        if before & WAITED != 0 {
            self.serve(&mut self.waiters());
        }
    }
}

/// A lock that one writer or any number of readers have.
///
/// First come, first served: a reader that comes while a writer waits, waits behind it. So a fiber that reads already must
/// not lock it to read again. See [`crate::sync`] for what all locks have in common.
///
/// ```
/// use millpond_fiber::sync::RwLock;
///
/// let settings = RwLock::new(vec![1]);
/// assert_eq!(settings.read().len() + settings.read().len(), 2);
/// settings.write().push(2);
/// assert_eq!(*settings.read(), [1, 2]);
/// ```
pub struct RwLock<T: ?Sized> {
    raw: Raw,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached by one writer, or by readers, on whatever thread.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: as above; readers share it.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

/// The right to read what a lock guards, until it is dropped; on whatever thread.
#[must_use = "the lock is given back at once if the guard isn't kept"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
}

/// The right to write what a lock guards, until it is dropped; on whatever thread.
#[must_use = "the lock is given back at once if the guard isn't kept"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    // The compiler would make a guard `Sync` for any data that is `Send`.
    data: PhantomData<&'a mut T>,
}

// SAFETY: as good as a shared reference.
unsafe impl<T: ?Sized + Sync> Send for RwLockReadGuard<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: as good as a unique reference; nothing depends on the thread.
unsafe impl<T: ?Sized + Send> Send for RwLockWriteGuard<'_, T> {}
// SAFETY: shared, it only reads.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T> RwLock<T> {
    crate::atomics::const_unless_model! {
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

impl<T: ?Sized> RwLock<T> {
    fn reader(&self) -> RwLockReadGuard<'_, T> {
        RwLockReadGuard { lock: self }
    }

    fn writer(&self) -> RwLockWriteGuard<'_, T> {
        RwLockWriteGuard {
            lock: self,
            data: PhantomData,
        }
    }

    /// Locks it to read; waits while a writer has it, or waits.
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        certain(self.raw.take(READER, Patience::Endless));
        self.reader()
    }

    /// Locks it to write; waits while anybody has it.
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        certain(self.raw.take(WRITER, Patience::Endless));
        self.writer()
    }

    /// Locks it to read if no writer has it and nobody waits.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.raw.try_take(READER).then(|| self.reader())
    }

    /// Locks it to write if nobody has it.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.raw.try_take(WRITER).then(|| self.writer())
    }

    /// As [`RwLock::read`], for a time at most; `None` if the time was over first.
    pub fn read_timeout(&self, timeout: Duration) -> Option<RwLockReadGuard<'_, T>> {
        let taken = self.raw.take(READER, Patience::timeout(timeout));
        taken.is_ok().then(|| self.reader())
    }

    /// As [`RwLock::write`], for a time at most; `None` if the time was over first.
    pub fn write_timeout(&self, timeout: Duration) -> Option<RwLockWriteGuard<'_, T>> {
        let taken = self.raw.take(WRITER, Patience::timeout(timeout));
        taken.is_ok().then(|| self.writer())
    }

    /// As [`RwLock::read`], unless the fiber is cancelled.
    ///
    /// # Errors
    /// When the calling fiber's token is cancelled while it waits.
    pub fn read_cancellable(&self) -> Result<RwLockReadGuard<'_, T>, Cancelled> {
        unless_cancelled(self.raw.take(READER, Patience::Cancellable)).map(|()| self.reader())
    }

    /// As [`RwLock::write`], unless the fiber is cancelled.
    ///
    /// # Errors
    /// When the calling fiber's token is cancelled while it waits.
    pub fn write_cancellable(&self) -> Result<RwLockWriteGuard<'_, T>, Cancelled> {
        unless_cancelled(self.raw.take(WRITER, Patience::Cancellable)).map(|()| self.writer())
    }

    /// The data, which nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Goes on as a reader, beside others; no writer comes between.
    pub fn downgrade(self) -> RwLockReadGuard<'a, T> {
        let lock = self.lock;
        std::mem::forget(self);
        lock.raw.downgrade();
        lock.reader()
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: there is no writer beside the guard.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard has the data alone.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.give_back(READER);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.give_back(WRITER);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_read() {
            Some(data) => f.debug_tuple("RwLock").field(&&*data).finish(),
            None => f.write_str("RwLock(locked)"),
        }
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Two writers and a reader: each writer is alone, and all get the lock.
    #[test]
    fn writers_are_alone() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(|| {
            let shared = Arc::new((Raw::new(), loom::cell::UnsafeCell::new(0u32)));
            let with = |shared: &(Raw, loom::cell::UnsafeCell<u32>), wants| {
                certain(shared.0.take(wants, Patience::Endless));
                if wants == READER {
                    shared.1.with(|count| unsafe { *count });
                } else {
                    shared.1.with_mut(|count| unsafe { *count += 1 });
                }
                shared.0.give_back(wants);
            };
            let threads = [READER, WRITER].map(|wants| {
                let shared = shared.clone();
                thread::spawn(move || with(&shared, wants))
            });
            with(&shared, WRITER);
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(shared.1.with(|count| unsafe { *count }), 2);
            assert_eq!(shared.0.word.load(Ordering::Relaxed), 0);
        });
    }
}
