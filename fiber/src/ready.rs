//! The started fibers of one worker that can go on, first in, first out: a list through the records' links.

use crate::atomics::Ordering;
use crate::prefetch;
use crate::stack::Runner;
use crate::task::Header;
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// A queue that one worker has for itself.
pub struct Ready {
    first: Cell<*mut Header>,
    last: Cell<*mut Header>,
}

impl Ready {
    /// Empty.
    pub fn new() -> Self {
        Self {
            first: Cell::new(ptr::null_mut()),
            last: Cell::new(ptr::null_mut()),
        }
    }

    /// Puts a fiber at the end.
    pub fn push(&self, fiber: NonNull<Header>) {
        // SAFETY: a record in a queue is its queue's, and lives.
        unsafe { fiber.as_ref() }
            .next
            .store(ptr::null_mut(), Ordering::Relaxed);
        match NonNull::new(self.last.replace(fiber.as_ptr())) {
            // SAFETY: as above.
            Some(last) => unsafe { last.as_ref() }
                .next
                .store(fiber.as_ptr(), Ordering::Relaxed),
            None => self.first.set(fiber.as_ptr()),
        }
    }

    /// Takes the first.
    pub fn pop(&self) -> Option<NonNull<Header>> {
        let first = NonNull::new(self.first.get())?;
        // SAFETY: as in `push`.
        let next = unsafe { first.as_ref() }.next.load(Ordering::Relaxed);
        self.first.set(next);
        match NonNull::new(next) {
            // SAFETY: as in `push`.
            Some(next) => bring_closer(unsafe { next.as_ref() }),
            None => self.last.set(ptr::null_mut()),
        }
        Some(first)
    }
}

/// Brings closer what the fibers in the queue will touch when their turn comes, a step with each that is taken: first the
/// record, then the runner, then the stack. A step needs what the one before has brought.
#[inline]
fn bring_closer(next: &Header) {
    // SAFETY: as in `push`; a started fiber keeps its runner until it ends.
    let (runner, after) = unsafe {
        let after = next.next.load(Ordering::Relaxed);
        (next.runner.get().as_ref(), after.as_ref())
    };
    if let Some(runner) = runner {
        runner.prefetch_stack();
    }
    if let Some(after) = after {
        Runner::prefetch(after.runner.get());
        prefetch::line(after.next.load(Ordering::Relaxed));
    }
}
