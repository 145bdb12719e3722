//! What a fiber does to itself and to others: park, unpark, sleep.

use crate::control::Event;
use crate::task::FiberRef;
use crate::wait::{CANCELLED, Waiter};
use crate::worker;
use std::fmt;
use std::time::{Duration, Instant};

/// A fiber, to unpark. Clones are the same fiber; the record stays as long as there is one.
#[derive(Clone)]
pub struct Fiber(FiberRef);

impl Fiber {
    /// Gives the fiber its permit: it goes on from [`park`], or doesn't stop at the next one. A second permit before the
    /// fiber has taken the first changes nothing. Any thread may call it; a fiber that has ended doesn't mind.
    pub fn unpark(&self) {
        // SAFETY: the handle keeps the record.
        unsafe { worker::wake(self.0.header().into(), Event::Permit) };
    }
}

impl fmt::Debug for Fiber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fiber")
            .field(&self.0.header().control.state())
            .finish()
    }
}

/// The calling fiber; `None` on a plain thread.
pub fn current() -> Option<Fiber> {
    let fiber = worker::current_fiber()?;
    // SAFETY: the calling fiber's record lives.
    Some(Fiber(FiberRef::new(unsafe { fiber.as_ref() })))
}

/// Waits for the calling fiber's permit ([`Fiber::unpark`]), and takes it.
///
/// # Panics
/// On a plain thread, which has [`std::thread::park`].
pub fn park() {
    assert!(worker::current_fiber().is_some(), "only fibers park");
    worker::park(Event::Permit, &"unpark");
}

/// Lets the other fibers of the worker that can run go first. On a plain thread, [`std::thread::yield_now`].
pub fn yield_now() {
    worker::yield_now();
}

/// The fiber's token was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fiber was cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// Waits for a time at least. Other fibers run meanwhile; a plain thread blocks.
///
/// # Errors
/// When the fiber's token is cancelled, at once.
pub fn sleep(duration: Duration) -> Result<(), Cancelled> {
    let Some(deadline) = Instant::now().checked_add(duration) else {
        // Longer than any clock runs.
        return sleep(Duration::from_secs(u64::from(u32::MAX)));
    };
    sleep_until(deadline)
}

/// As [`sleep`], up to a time.
///
/// # Errors
/// When the fiber's token is cancelled, at once.
pub fn sleep_until(deadline: Instant) -> Result<(), Cancelled> {
    let waiter = Waiter::new();
    waiter.set_spins(0);
    waiter.set_label(&"a time");
    match waiter.wait_interruptibly(Some(deadline)) {
        CANCELLED => Err(Cancelled),
        _ => Ok(()),
    }
}
