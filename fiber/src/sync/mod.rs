//! Locks and their kin for fibers: whoever waits parks the fiber, and other fibers run on; a plain thread blocks. Fibers
//! and threads may share one.
//!
//! Unlike the standard library's, these may be held over a wait, and given back on another thread than they were taken
//! on: nothing in them depends on a thread. So their guards are `Send` where the data is, and a fiber that moves to
//! another worker with a guard does no harm. They are *not poisoned*: a panic gives the lock back as any other end of the
//! guard's scope does, and whoever must not see what a panic left half done has to see to that himself. No lock is
//! reentrant.
//!
//! Each wait comes in four forms: for as long as it takes; not at all (`try_`); for a time (`_timeout`); and until the
//! fiber's token is cancelled (`_cancellable`). The first and the third don't mind a cancelled token.
//!
//! A wait allocates nothing.

mod barrier;
mod condvar;
mod mutex;
mod rwlock;
mod semaphore;

pub use barrier::Barrier;
pub use condvar::Condvar;
pub use mutex::{Mutex, MutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permits, Semaphore};

use crate::fiber::Cancelled;
use crate::wait::{CANCELLED, TIMED_OUT, Waiter};
use std::time::{Duration, Instant};

/// How long to wait.
#[derive(Clone, Copy)]
enum Patience {
    Endless,
    Until(Option<Instant>),
    Cancellable,
}

/// Why a wait ended without what it was for.
enum GaveUp {
    TimedOut,
    Cancelled,
}

impl Patience {
    fn timeout(timeout: Duration) -> Self {
        // Longer than any clock runs is no limit.
        Self::Until(Instant::now().checked_add(timeout))
    }

    /// Waits; the reason that the waker gave.
    fn wait(self, waiter: &Waiter) -> Result<usize, GaveUp> {
        let reason = match self {
            Self::Endless => waiter.wait(),
            Self::Until(deadline) => waiter.wait_until(deadline),
            Self::Cancellable => waiter.wait_interruptibly(None),
        };
        match reason {
            TIMED_OUT => Err(GaveUp::TimedOut),
            CANCELLED => Err(GaveUp::Cancelled),
            reason => Ok(reason),
        }
    }
}

/// For waits that nothing ends but what they are for.
fn certain<T>(result: Result<T, GaveUp>) -> T {
    match result {
        Ok(value) => value,
        Err(GaveUp::TimedOut | GaveUp::Cancelled) => unreachable!("an endless wait gave up"),
    }
}

/// For waits that only a token ends.
fn unless_cancelled<T>(result: Result<T, GaveUp>) -> Result<T, Cancelled> {
    result.map_err(|_| Cancelled)
}
