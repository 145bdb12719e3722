//! A set of fibers whose results come in the order in which they end.

use crate::Runtime;
use crate::atomics::{AtomicPtr, Ordering, fence};
use crate::join::JoinError;
use crate::runtime::{self, Shared};
use crate::wait::{FIRED, TIMED_OUT, Waiter};
use crossbeam_queue::SegQueue;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fibers whose results are taken in the order in which they end.
///
/// Dropping the set lets the fibers that are left go on without anybody waiting for them, as dropping a
/// [`crate::JoinHandle`] does; fibers that must end with their starter, or borrow from it, belong in a
/// [`crate::nursery`].
///
/// ```
/// let mut squares = millpond_fiber::JoinSet::new();
/// for i in 0..10u64 {
///     squares.spawn(move || i * i);
/// }
/// let mut sum = 0;
/// while let Some(square) = squares.join_next() {
///     sum += square.unwrap();
/// }
/// assert_eq!(sum, 285);
/// ```
pub struct JoinSet<T> {
    ended: Arc<Ended<T>>,
    /// Spawned, and not joined.
    left: usize,
}

/// What the fibers of a set share with it.
struct Ended<T> {
    results: SegQueue<Result<T, JoinError>>,
    /// The set's owner, while it waits.
    waiter: AtomicPtr<Waiter>,
}

impl<T> Ended<T> {
    /// Leaves a result, and wakes the owner if it waits.
    fn push(&self, result: Result<T, JoinError>) {
        self.results.push(result);
        // Pairs with the fence of `wait_until`: the owner sees the result, or this the waiter.
        fence(Ordering::SeqCst);
        if !self.waiter.load(Ordering::Relaxed).is_null() {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        // Acquire: pairs with the owner's store. Only one takes the waiter out, and so may touch it.
        let waiter = self.waiter.swap(ptr::null_mut(), Ordering::Acquire);
        if !waiter.is_null() {
            // SAFETY: the owner waits for whoever took the waiter out.
            unsafe { Waiter::finish(waiter) };
        }
    }
}

/// A fiber's right to leave its result; dropped, it says that the fiber never ran.
struct Place<T>(Arc<Ended<T>>);

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        self.0.push(Err(JoinError::Cancelled));
    }
}

impl<T> Place<T> {
    fn leave(self, result: Result<T, JoinError>) {
        self.0.push(result);
        // SAFETY: forgotten below, so the count is dropped once.
        let ended = unsafe { ptr::read(&self.0) };
        std::mem::forget(self);
        drop(ended);
    }
}

impl<T: Send + 'static> JoinSet<T> {
    /// Empty.
    pub fn new() -> Self {
        Self {
            ended: Arc::new(Ended {
                results: SegQueue::new(),
                waiter: AtomicPtr::new(ptr::null_mut()),
            }),
            left: 0,
        }
    }

    /// Starts a fiber of the set, as [`crate::spawn`] does.
    pub fn spawn<F>(&mut self, closure: F)
    where
        F: FnOnce() -> T + Send + 'static,
    {
        self.spawn_in(runtime::current_shared(), closure);
    }

    /// Starts a fiber of the set on a runtime.
    pub fn spawn_on<F>(&mut self, runtime: &Runtime, closure: F)
    where
        F: FnOnce() -> T + Send + 'static,
    {
        self.spawn_in(runtime.shared(), closure);
    }

    fn spawn_in<F>(&mut self, shared: &Shared, closure: F)
    where
        F: FnOnce() -> T + Send + 'static,
    {
        self.left += 1;
        let place = Place(self.ended.clone());
        let work = move || {
            // What the panic leaves half done is behind its own boundary: the result says `Panic`.
            let result = panic::catch_unwind(AssertUnwindSafe(closure));
            place.leave(result.map_err(JoinError::Panic));
        };
        // SAFETY: the closure owns what it uses.
        unsafe { runtime::spawn_detached_on(shared, work) };
    }

    /// How many fibers are left that haven't been joined, ended ones included.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether all have been joined.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The result of the next fiber to end; waits for it. `None` when all have been joined.
    pub fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.next_until(None).expect("no time limit was given")
    }

    /// The result of a fiber that has ended, if one has.
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        let result = self.ended.results.pop()?;
        self.left -= 1;
        Some(result)
    }

    /// As [`JoinSet::join_next`], for a time at most.
    ///
    /// # Errors
    /// If the time is over before a fiber ends.
    pub fn join_next_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Result<T, JoinError>>, TimedOut> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.next_until(Some(deadline)),
            // Longer than any clock runs is no limit.
            None => Ok(self.join_next()),
        }
    }

    fn next_until(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<Result<T, JoinError>>, TimedOut> {
        if self.left == 0 {
            return Ok(None);
        }
        loop {
            if let Some(result) = self.try_join_next() {
                return Ok(Some(result));
            }
            if self.wait_until(deadline) == TIMED_OUT {
                return self.try_join_next().map(Some).ok_or(TimedOut);
            }
        }
    }

    /// Waits until a result is there.
    fn wait_until(&self, deadline: Option<Instant>) -> usize {
        let waiter = Waiter::new();
        waiter.set_label(&"the fibers of a join set");
        let pointer = ptr::from_ref(&waiter).cast_mut();
        // Release: whoever takes the waiter out follows the pointer. A swap, though the place is empty: a fiber that ends
        // late may swap in its null at the same time, and loom knows the order of the two only if both read what they
        // replace.
        let before = self.ended.waiter.swap(pointer, Ordering::Release);
        debug_assert!(before.is_null(), "a set has one owner");
        // Pairs with the fence of `push`.
        fence(Ordering::SeqCst);
        let take_out = || {
            let mine = self.ended.waiter.swap(ptr::null_mut(), Ordering::Relaxed);
            !mine.is_null()
        };
        if !self.ended.results.is_empty() {
            if !take_out() {
                // A fiber that has ended is about to wake it.
                waiter.wait();
            }
            return FIRED;
        }
        let reason = waiter.wait_until(deadline);
        if reason != FIRED && !take_out() {
            waiter.await_finish();
        }
        reason
    }

    /// Waits for all that are left; their results in the order in which they ended.
    ///
    /// # Panics
    /// With the first panic among them, when it comes; the others go on. And if the runtime was shut down so that one
    /// was dropped before it ran.
    pub fn join_all(mut self) -> Vec<T> {
        let mut values = Vec::with_capacity(self.left);
        while let Some(result) = self.join_next() {
            values.push(result.unwrap_or_else(|error| error.resume()));
        }
        values
    }
}

/// The time was over before a fiber ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time was over before a fiber ended")
    }
}

impl std::error::Error for TimedOut {}

impl<T: Send + 'static> Default for JoinSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.left).finish()
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use loom::thread;

    /// Two fibers of a set end, one of them without having run, while the owner waits for both.
    #[test]
    fn no_end_is_overlooked() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let mut set = JoinSet::<u32>::new();
            set.left = 2;
            let place = Place(set.ended.clone());
            let ends = thread::spawn(move || place.leave(Ok(7)));
            let place = Place(set.ended.clone());
            let never_runs = thread::spawn(move || drop(place));
            let (mut sum, mut dropped) = (0, 0);
            while let Some(result) = set.join_next() {
                match result {
                    Ok(value) => sum += value,
                    Err(_) => dropped += 1,
                }
            }
            assert_eq!((sum, dropped), (7, 1));
            ends.join().unwrap();
            never_runs.join().unwrap();
            assert!(set.ended.waiter.load(Ordering::Relaxed).is_null());
        });
    }
}
