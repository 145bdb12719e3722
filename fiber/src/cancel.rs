//! Cancellation by token: asked for from anywhere, observed by fibers where they wait, as an error.

use crate::wait::{CANCELLED, Waiter};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Asks fibers to stop. Clones are the same token.
///
/// A fiber that was given a token ([`crate::Builder::cancel_token`]) sees it in every wait that can fail: the call
/// returns an error that says so, at once if the token is cancelled already. Nothing is unwound, and a fiber that computes
/// is not interrupted; it may ask [`CancelToken::is_cancelled`].
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Inner>);

#[derive(Default)]
struct Inner {
    cancelled: AtomicBool,
    waiters: Mutex<Vec<Entry>>,
}

struct Entry(*const Waiter);
// SAFETY: an entry is removed before its waiter's frame goes, under the lock that it is claimed under.
unsafe impl Send for Entry {}

impl CancelToken {
    /// Not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels it, for good: all waits that observe it end.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        // Under the lock: a waiter's frame stays until its owner has had the lock to leave.
        for Entry(waiter) in self.waiters().drain(..) {
            // SAFETY: the frame is there as long as the entry is, and if this claims the waiter, until the signal.
            unsafe {
                if (*waiter).claim(CANCELLED) {
                    Waiter::signal(waiter);
                }
            }
        }
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Registers a waiter, which must leave again: `false` if the token is cancelled.
    pub(crate) fn enter(&self, waiter: &Waiter) -> bool {
        let mut waiters = self.waiters();
        if self.is_cancelled() {
            return false;
        }
        waiters.push(Entry(std::ptr::from_ref(waiter)));
        true
    }

    /// Takes the waiter out; the token doesn't know it any more.
    pub(crate) fn leave(&self, waiter: &Waiter) {
        let mut waiters = self.waiters();
        if let Some(place) = waiters
            .iter()
            .position(|entry| std::ptr::eq(entry.0, waiter))
        {
            waiters.swap_remove(place);
        }
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.waiters.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("is_cancelled", &self.is_cancelled())
            .finish()
    }
}
