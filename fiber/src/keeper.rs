//! Who looks after the timers of workers that don't get to them, where fibers may move. One of the workers that sleep is the
//! keeper: it sleeps no longer than until shortly after the first deadline of all workers, fires what its worker should
//! have fired by then, and goes on with those fibers itself.
//!
//! A fiber that starts a timer looks for a keeper that would wake too late, after the timer is there; the keeper says that
//! any deadline is news before it looks at the timers, and when it will wake after that. Both have a full fence between
//! their write and their look, so one of them sees the other.

use crate::atomics::{AtomicU64, AtomicUsize, Ordering, fence};
use std::time::Instant;

/// Not before it is told.
const NEVER: u64 = u64::MAX;

/// The keeper's place.
pub struct Keeper {
    /// The worker that has the place, plus one; 0 for none.
    worker: AtomicUsize,
    /// Nanoseconds from `start` to when it looks again.
    until: AtomicU64,
    start: Instant,
}

impl Keeper {
    /// Nobody's.
    pub fn new() -> Self {
        Self {
            worker: AtomicUsize::new(0),
            until: AtomicU64::new(NEVER),
            start: Instant::now(),
        }
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        let nanoseconds = at.saturating_duration_since(self.start).as_nanos();
        nanoseconds.min(u128::from(NEVER - 1)) as u64
    }

    /// Takes the place, unless another worker has it.
    pub fn take(&self, worker: usize) -> bool {
        self.worker.load(Ordering::Relaxed) == worker + 1
            || self
                .worker
                .compare_exchange(0, worker + 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Leaves the place: `false` if the worker doesn't have it.
    pub fn leave(&self, worker: usize) -> bool {
        let mine = self.worker.load(Ordering::Relaxed) == worker + 1;
        if mine {
            self.worker.store(0, Ordering::Relaxed);
        }
        mine
    }

    /// The keeper's: when to wake, by what `first` finds to ask for.
    pub fn plan(&self, first: impl FnOnce() -> Option<Instant>) -> Option<Instant> {
        self.until.store(NEVER, Ordering::Relaxed);
        // Pairs with the fence of `whom_to_tell`: the timer is seen here, or this place and time there.
        fence(Ordering::SeqCst);
        let at = first()?;
        self.until.store(self.nanoseconds(at), Ordering::Relaxed);
        Some(at)
    }

    /// After a timer was started: the keeper, if it means to wake later than at the deadline. It is unparked then.
    pub fn whom_to_tell(&self, deadline: Instant) -> Option<usize> {
        fence(Ordering::SeqCst);
        let keeper = self.worker.load(Ordering::Relaxed).checked_sub(1)?;
        (self.nanoseconds(deadline) < self.until.load(Ordering::Relaxed)).then_some(keeper)
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;
    use loom::thread;
    use std::time::Duration;

    /// A timer is started while a sleeper becomes the keeper: the keeper sees it, or is told.
    #[test]
    fn no_deadline_is_overlooked() {
        loom::model(|| {
            let shared = Arc::new((Keeper::new(), AtomicBool::new(false)));
            let sleeper = shared.clone();
            let keeps = thread::spawn(move || {
                let (keeper, timer) = &*sleeper;
                assert!(keeper.take(0));
                let sees = || {
                    timer
                        .load(Ordering::Relaxed)
                        .then(|| Instant::now() + Duration::from_secs(1))
                };
                keeper.plan(sees).is_some()
            });
            let (keeper, timer) = &*shared;
            timer.store(true, Ordering::Relaxed);
            let told = keeper.whom_to_tell(Instant::now());
            let sees = keeps.join().unwrap();
            assert!(sees || told == Some(0), "nobody looks after the timer");
        });
    }
}
