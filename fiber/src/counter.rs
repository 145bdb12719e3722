//! Counters to wait on (wait groups, latches). One word holds the value and whether anybody waits; the waiters stand in
//! a list on cache lines of its own, which a count doesn't touch unless it is the last and somebody waits.

use crate::atomics::{AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::fiber::Cancelled;
use crate::wait::{CANCELLED, FIRED, TIMED_OUT, Waiter};
use crate::wait_list::{Node, WaitList};
use crate::worker::WakeBatch;
use crossbeam_utils::CachePadded;
use std::fmt;
use std::time::{Duration, Instant};

/// Beside the value: somebody stands in the list. Set and cleared under the list's lock.
const WAITED: usize = 1;
const ONE: usize = 2;

/// Counts what is to be done, down to zero, where those who wait for it go on.
///
/// It can be used again: a wait ends when the value was zero at one moment during it at least. Fibers park, plain threads
/// block; any number may wait. Counting is one atomic operation. A counter takes 256 bytes: the value and the list of
/// waiters have 128 bytes (two cache lines, which processors fetch together) each, so that neither two neighbouring
/// counters nor the counts and the waits of one disturb each other. A wait allocates nothing.
///
/// ```
/// use millpond_fiber::Counter;
///
/// let loaded = Counter::new(0);
/// millpond_fiber::nursery(|n| {
///     let loaded = &loaded;
///     for part in 0..3 {
///         loaded.add(1);
///         n.spawn(move || {
///             let _ = part;
///             loaded.done();
///         });
///     }
///     loaded.wait();
///     assert_eq!(loaded.value(), 0);
/// });
/// ```
#[repr(C)]
pub struct Counter {
    /// `2 * value + WAITED`. any thread
    word: CachePadded<AtomicUsize>,
    /// any thread, under its lock
    waiters: CachePadded<Mutex<WaitList>>,
}

#[cfg(not(fiber_loom))]
const _: () = {
    static_assertions::const_assert!(
        align_of::<Counter>() >= 128 || cfg!(not(target_arch = "x86_64"))
    );
    static_assertions::const_assert_eq!(std::mem::offset_of!(Counter, word), 0);
    static_assertions::const_assert_eq!(
        std::mem::offset_of!(Counter, waiters),
        align_of::<CachePadded<u8>>()
    );
    static_assertions::const_assert_eq!(size_of::<Counter>(), 2 * align_of::<CachePadded<u8>>());
};

impl Counter {
    /// The highest value.
    pub const MAX: usize = usize::MAX / 4;

    crate::atomics::const_unless_model! {
        /// With a value.
        ///
        /// # Panics
        /// If the value is higher than [`Counter::MAX`].
        pub const fn new(value: usize) -> Self {
            assert!(value <= Self::MAX, "a counter can't count so high");
            Self {
                word: CachePadded::new(AtomicUsize::new(value * ONE)),
                waiters: CachePadded::new(Mutex::new(WaitList::new())),
            }
        }
    }

    /// The value; anything else may be true a moment later.
    pub fn value(&self) -> usize {
        // Acquire: whoever sees zero sees what was counted, as after a wait.
        self.word.load(Ordering::Acquire) / ONE
    }

    /// Counts up.
    ///
    /// # Panics
    /// If the value would be higher than [`Counter::MAX`].
    pub fn add(&self, count: usize) {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word == WAITED && count != 0 {
                // Whoever took it to zero hasn't woken the waiters yet. They must be out of the list before the value
                // rises, or they couldn't be told from those who come now.
                self.wake();
                word = self.word.load(Ordering::Relaxed);
                continue;
            }
            let value = (word / ONE).saturating_add(count);
            assert!(
                value <= Self::MAX,
                "a counter can't count to {value}: were there more `done` than `add`?"
            );
            // Relaxed: a count up publishes nothing; what is to be done, is published by how it is handed on.
            match self.word.compare_exchange_weak(
                word,
                (value * ONE) | (word & WAITED),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Counts down by one: something is done. Those who see zero see all that was done before.
    ///
    /// # Panics
    /// If the value is zero; it stays so.
    pub fn done(&self) {
        self.done_many(1);
    }

    /// Counts down by a number; see [`Counter::done`].
    ///
    /// # Panics
    /// If the value is lower than that; it stays as it is.
    pub fn done_many(&self, count: usize) {
        assert!(count <= Self::MAX, "a counter never holds {count}");
        // AcqRel: the waiters see what this caller did, and what those did who counted down before.
        let before = self.word.fetch_sub(count * ONE, Ordering::AcqRel);
        if before / ONE <= count {
            self.at_most_zero(before, count);
        }
    }

    #[cold]
    fn at_most_zero(&self, before: usize, count: usize) {
        if before / ONE < count {
            self.word.fetch_add(count * ONE, Ordering::Relaxed);
            panic!(
                "a counter at {} can't count {count} down: there were more `done` than `add`",
                before / ONE
            );
        }
        if before & WAITED != 0 {
            self.wake();
        }
    }

    /// Wakes all that wait, if the value is zero still. If it isn't, whoever raised it has woken them.
    #[cold]
    fn wake(&self) {
        // Delivered after the lock is given up.
        let mut batch = WakeBatch::new();
        let mut waiters = self.waiters();
        // With the value at zero nobody enters the list, and the value can't rise as long as WAITED is set. Acquire,
        // Release: this may be another thread than the one that took the value to zero.
        if self
            .word
            .compare_exchange(WAITED, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return;
        }
        while let Some(node) = waiters.pop_front() {
            // SAFETY: the node lives until the signal; or, if another has claimed it, until it has had the lock.
            unsafe {
                if node.as_ref().waiter.claim(FIRED) {
                    Waiter::signal_in(&raw const (*node.as_ptr()).waiter, &mut batch);
                }
            }
        }
    }

    /// Waits until the value is zero.
    pub fn wait(&self) {
        self.wait_with(|waiter| waiter.wait());
    }

    /// As [`Counter::wait`], for a time at most; `false` if the time was over first.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        // Longer than any clock runs is no limit.
        let deadline = Instant::now().checked_add(timeout);
        self.wait_with(|waiter| waiter.wait_until(deadline)) != TIMED_OUT
    }

    /// As [`Counter::wait`], unless the calling fiber is cancelled.
    ///
    /// # Errors
    /// When the fiber's token is cancelled before the value is zero.
    pub fn wait_cancellable(&self) -> Result<(), Cancelled> {
        match self.wait_with(|waiter| waiter.wait_interruptibly(None)) {
            CANCELLED => Err(Cancelled),
            _ => Ok(()),
        }
    }

    fn wait_with(&self, wait: impl FnOnce(&Waiter) -> usize) -> usize {
        if self.value() == 0 {
            return FIRED;
        }
        self.wait_in_list(wait)
    }

    #[cold]
    fn wait_in_list(&self, wait: impl FnOnce(&Waiter) -> usize) -> usize {
        let node = Node::new(0, &"a counter");
        {
            let mut waiters = self.waiters();
            // Relaxed: nothing was counted that matters here. Acquire: as in `value`. From now on whoever takes the
            // value to zero sees WAITED, and then comes for the lock.
            let mut word = self.word.load(Ordering::Acquire);
            while word & WAITED == 0 {
                if word == 0 {
                    return FIRED;
                }
                match self.word.compare_exchange_weak(
                    word,
                    word | WAITED,
                    Ordering::Relaxed,
                    Ordering::Acquire,
                ) {
                    Ok(_) => break,
                    Err(now) => word = now,
                }
            }
            if word / ONE == 0 {
                return FIRED;
            }
            // SAFETY: taken out by `wake`, or below.
            unsafe { waiters.push_back(&node) };
        }
        let reason = wait(&node.waiter);
        if reason != FIRED {
            let mut waiters = self.waiters();
            if waiters.remove(&node) && waiters.is_empty() {
                self.word.fetch_and(!WAITED, Ordering::Relaxed);
            }
        }
        reason
    }

    fn waiters(&self) -> MutexGuard<'_, WaitList> {
        self.waiters.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counter").field(&self.value()).finish()
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        debug_assert!(self.waiters().is_empty(), "a waiter borrows its counter");
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    /// Two count down, one waits: it goes on, and sees what both did.
    #[test]
    fn no_zero_is_missed() {
        loom::model(|| {
            let shared = Arc::new((
                Counter::new(2),
                [UnsafeCell::new(0u32), UnsafeCell::new(0u32)],
            ));
            let threads = [0, 1].map(|index| {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.1[index].with_mut(|done| unsafe { *done = 1 });
                    shared.0.done();
                })
            });
            shared.0.wait();
            for done in &shared.1 {
                assert_eq!(done.with(|done| unsafe { *done }), 1);
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    /// Used again while the waiters of the first round have not been woken: each waits for its own round.
    #[test]
    fn rounds_are_told_apart() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(|| {
            let shared = Arc::new((Counter::new(1), UnsafeCell::new(0u32)));
            let other = shared.clone();
            let thread = thread::spawn(move || other.0.done());
            let third = shared.clone();
            let waiter = thread::spawn(move || third.0.wait());
            shared.0.wait();
            shared.0.add(1);
            let fourth = shared.clone();
            let second = thread::spawn(move || {
                fourth.1.with_mut(|done| unsafe { *done = 1 });
                fourth.0.done();
            });
            shared.0.wait();
            assert_eq!(shared.1.with(|done| unsafe { *done }), 1);
            thread.join().unwrap();
            second.join().unwrap();
            waiter.join().unwrap();
        });
    }
}
