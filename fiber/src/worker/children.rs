//! The ends of a nursery's children, counted down several at a time.

use super::Worker;
use crate::tally::Tally;
use crate::task::{self, Header};
use std::ptr::{self, NonNull};

/// Whether it is a nursery's child that hasn't run yet.
pub(super) fn is_fresh_child(task: NonNull<Header>) -> bool {
    // SAFETY: what was picked is the worker's.
    unsafe { task.as_ref() }.home.get() == task::FRESH_CHILD
}

impl Worker {
    /// A child of a nursery begins; ends of another nursery's children must not wait for it.
    pub fn begin_child(&self, tally: *const Tally) {
        if !ptr::eq(self.ended.get(), tally) {
            self.report_ends();
        }
    }

    /// A child of a nursery has ended. Several ends are counted together, in one write to the line that all workers
    /// share: as long as this worker runs children of that nursery only, since it waits for them anyway.
    ///
    /// # Safety
    /// As for [`Tally::finish`].
    pub unsafe fn end_child(&self, tally: *const Tally) {
        if !ptr::eq(self.ended.get(), tally) {
            self.report_ends();
            self.ended.set(tally);
        }
        self.ends.set(self.ends.get() + 1);
    }

    /// Counts the ended children down.
    pub(super) fn report_ends(&self) {
        let tally = self.ended.replace(ptr::null());
        let ends = self.ends.take();
        if !tally.is_null() {
            // SAFETY: these children have ended and were not counted down, so the nursery's frame is there.
            unsafe { Tally::finish(tally, ends) };
        }
    }
}
