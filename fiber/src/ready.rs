//! The started fibers of one worker that can go on, first in, first out: a list through the records' links.

use crate::atomics::Ordering;
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
        if next.is_null() {
            self.last.set(ptr::null_mut());
        }
        Some(first)
    }
}
