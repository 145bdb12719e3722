//! The end of a task, in one word: PENDING at first; a joiner that has to wait puts its waiter there, a handle that is
//! dropped puts DETACHED, and the worker swaps DONE in. Whoever comes second frees the record, so a spawn and its join
//! count no references.

use crate::atomics::{AtomicUsize, Ordering};
use crate::wait::Waiter;
use std::ptr;

const PENDING: usize = 0;
const DETACHED: usize = 1;
const DONE: usize = 2;

/// The word.
pub struct Completion(AtomicUsize);

/// Whom the worker found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A handle that nobody waits with yet; it will take the outcome.
    Handle,
    /// Nobody will take the outcome.
    Nobody,
    /// Somebody waits.
    Waiter(*const Waiter),
}

impl Completion {
    /// Not done; without a handle if it is detached from the start.
    pub fn new(detached: bool) -> Self {
        Self(AtomicUsize::new(if detached { DETACHED } else { PENDING }))
    }

    /// The task is done, its outcome stored: by its worker, once.
    pub fn complete(&self) -> Found {
        // AcqRel: the joiner sees the outcome, and this thread the joiner's waiter.
        match self.0.swap(DONE, Ordering::AcqRel) {
            PENDING => Found::Handle,
            DETACHED => Found::Nobody,
            waiter => Found::Waiter(ptr::with_exposed_provenance(waiter)),
        }
    }

    /// Whether the outcome is there.
    pub fn is_done(&self) -> bool {
        self.0.load(Ordering::Acquire) == DONE
    }

    /// Puts a waiter where the completion will find it: `false` if the task is done.
    pub fn register(&self, waiter: &Waiter) -> bool {
        let waiter = ptr::from_ref(waiter).expose_provenance();
        // Release: the worker follows the pointer. Acquire: the joiner goes on to the outcome.
        self.0
            .compare_exchange(PENDING, waiter, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Takes the waiter back: `false` if the task is done, and its worker has found the waiter.
    pub fn unregister(&self, waiter: &Waiter) -> bool {
        let waiter = ptr::from_ref(waiter).expose_provenance();
        // Acquire: as above.
        self.0
            .compare_exchange(waiter, PENDING, Ordering::Acquire, Ordering::Acquire)
            .is_ok()
    }

    /// Gives the right to the outcome up: `false` if the task is done, and the outcome is the caller's to drop.
    pub fn detach(&self) -> bool {
        // Release: the worker that finds DETACHED frees the record. Acquire: as above.
        self.0
            .compare_exchange(PENDING, DETACHED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use crate::wait::{FIRED, TIMED_OUT};
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    struct Record {
        completion: Completion,
        outcome: UnsafeCell<u32>,
    }

    fn record() -> (Arc<Record>, thread::JoinHandle<bool>) {
        let record = Arc::new(Record {
            completion: Completion::new(false),
            outcome: UnsafeCell::new(0),
        });
        let worker = record.clone();
        let thread = thread::spawn(move || {
            worker.outcome.with_mut(|outcome| unsafe { *outcome = 7 });
            match worker.completion.complete() {
                Found::Handle => false,
                Found::Nobody => {
                    assert_eq!(worker.outcome.with(|outcome| unsafe { *outcome }), 7);
                    true
                }
                Found::Waiter(waiter) => {
                    unsafe { Waiter::finish(waiter) };
                    false
                }
            }
        });
        (record, thread)
    }

    /// A joiner that waits sees the outcome, and its frame isn't touched once it has gone on.
    #[test]
    fn a_joiner_sees_the_outcome() {
        loom::model(|| {
            let (record, worker) = record();
            {
                let waiter = Waiter::new();
                if record.completion.register(&waiter) {
                    assert_eq!(waiter.wait(), FIRED);
                }
            }
            assert_eq!(record.outcome.with(|outcome| unsafe { *outcome }), 7);
            assert!(!worker.join().unwrap());
        });
    }

    /// A joiner whose time ends at the same moment: either it has its waiter back and may wait again, or it sees the
    /// outcome.
    #[test]
    fn the_time_ends_as_the_task_does() {
        loom::model(|| {
            let (record, worker) = record();
            let waiter = Waiter::new();
            let done = if record.completion.register(&waiter) {
                // The end of the time, as `Waiter::wait_until` sees it.
                if waiter.claim(TIMED_OUT) {
                    let back = record.completion.unregister(&waiter);
                    if !back {
                        waiter.await_finish();
                    }
                    !back
                } else {
                    waiter.wait();
                    true
                }
            } else {
                true
            };
            drop(waiter);
            if done {
                assert_eq!(record.outcome.with(|outcome| unsafe { *outcome }), 7);
            }
            assert!(!worker.join().unwrap());
        });
    }

    /// Of a worker and a handle that is dropped, one drops the outcome.
    #[test]
    fn one_drops_the_outcome() {
        loom::model(|| {
            let (record, worker) = record();
            let dropped_here = !record.completion.detach();
            if dropped_here {
                assert_eq!(record.outcome.with(|outcome| unsafe { *outcome }), 7);
            }
            assert!(dropped_here != worker.join().unwrap());
        });
    }
}
