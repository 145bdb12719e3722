//! Waiting for a fiber's end.

use crate::task::{Header, Outcome, Payload};
use crate::wait::{FIRED, Waiter};
use crate::worker;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::panic;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Why there is no result.
pub enum JoinError {
    /// The fiber panicked, with this payload.
    Panic(Payload),
    /// The runtime ended before the fiber started.
    Cancelled,
}

impl JoinError {
    /// Goes on with the fiber's panic in the caller.
    pub fn resume(self) -> ! {
        match self {
            Self::Panic(payload) => panic::resume_unwind(payload),
            Self::Cancelled => panic!("the fiber was cancelled before it started"),
        }
    }

    /// Whether the fiber panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self, Self::Panic(_))
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(_) => f.write_str("Panic(..)"),
            Self::Cancelled => f.write_str("Cancelled"),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Cancelled => "the runtime ended before the fiber started",
            Self::Panic(payload) => {
                let message = payload
                    .downcast_ref::<&str>()
                    .copied()
                    .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
                return match message {
                    Some(message) => write!(f, "the fiber panicked: {message}"),
                    None => f.write_str("the fiber panicked"),
                };
            }
        };
        f.write_str(text)
    }
}

impl std::error::Error for JoinError {}

/// The right to a fiber's result. Dropping it lets the fiber go on without anybody waiting for it.
pub struct JoinHandle<T> {
    task: NonNull<Header>,
    result: PhantomData<T>,
}

// SAFETY: all that the handle does to the record is atomic, and the result may be sent.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: a shared handle only tells whether the fiber has ended.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

/// How many looks it took plain threads to see their fibers end, on average: a thread that joins looks twice as often
/// before it blocks. Estimates: lost updates do no harm.
static LOOKS: AtomicU32 = AtomicU32::new(MIN_LOOKS);
const MIN_LOOKS: u32 = 64;
const MAX_LOOKS: u32 = 2000;

impl<T> JoinHandle<T> {
    /// # Safety
    /// The record's result is a `T`, and nobody else has the right to it.
    pub(crate) unsafe fn new(task: NonNull<Header>) -> Self {
        Self {
            task,
            result: PhantomData,
        }
    }

    fn header(&self) -> &Header {
        // SAFETY: the handle keeps the record alive.
        unsafe { self.task.as_ref() }
    }

    /// Whether the fiber has ended; [`JoinHandle::join`] returns at once then.
    pub fn is_finished(&self) -> bool {
        self.header().completion.is_done()
    }

    /// Waits until the fiber ends: a fiber parks, a plain thread looks for a while and then blocks.
    pub fn join(self) -> Result<T, JoinError> {
        self.wait();
        self.take()
    }

    /// As [`JoinHandle::join`], until a time at most; the handle is given back when the time is over.
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<T, JoinError>, Self> {
        let deadline = Instant::now().checked_add(timeout);
        if self.wait_until(deadline) {
            Ok(self.take())
        } else {
            Err(self)
        }
    }

    /// As [`JoinHandle::join`]; but if the task stands where the calling fiber's worker put its latest, it is taken from
    /// there and run on the caller's stack.
    pub(crate) fn run_or_join(self) -> Result<T, JoinError> {
        if worker::current().is_some_and(|worker| worker.take_back(self.task)) {
            // SAFETY: taken out of its queue, so the caller's, and it hasn't run.
            unsafe { Header::run(self.task) };
            worker::count_inline();
            return self.take();
        }
        self.join()
    }

    fn take(self) -> Result<T, JoinError> {
        // SAFETY: the outcome is there; the handle isn't used again.
        match unsafe { Header::take::<T>(ManuallyDrop::new(self).task) } {
            Outcome::Value(value) => Ok(value),
            Outcome::Panic(payload) => Err(JoinError::Panic(payload)),
            Outcome::Cancelled => Err(JoinError::Cancelled),
        }
    }

    fn wait(&self) {
        if !self.header().completion.is_done() {
            self.wait_until(None);
        }
    }

    /// `false` when the time is over.
    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let header = self.header();
        let waiter = Waiter::new();
        if !waiter.is_fiber() && look(header) {
            return true;
        }
        waiter.set_spins(0);
        waiter.set_label(&"the end of a fiber");
        if deadline.is_none() {
            waiter.set_sole();
        }
        if !header.completion.register(&waiter) {
            return true;
        }
        if waiter.wait_until(deadline) == FIRED {
            return true;
        }
        if header.completion.unregister(&waiter) {
            return false;
        }
        // The fiber has ended at this moment, and its worker found the waiter.
        waiter.await_finish();
        true
    }
}

/// Looks for the end of a fiber; by a plain thread.
fn look(header: &Header) -> bool {
    let average = LOOKS.load(Ordering::Relaxed);
    let most = (average * 2).clamp(MIN_LOOKS, MAX_LOOKS);
    for looks in 0..most {
        if header.completion.is_done() {
            note(average, looks);
            return true;
        }
        std::hint::spin_loop();
    }
    // What takes longer isn't worth looking for.
    note(average, 0);
    false
}

fn note(average: u32, looks: u32) {
    LOOKS.store(average - average / 8 + looks / 8, Ordering::Relaxed);
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        // SAFETY: the handle had the right to the result.
        unsafe { Header::detach(self.task) };
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("is_finished", &self.is_finished())
            .finish()
    }
}
