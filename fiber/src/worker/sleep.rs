//! Sleeping: a worker that found nothing.

use super::{Worker, count};
use millpond::stack::StackPool;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// How long the watch sleeps: at first, and at most.
pub(super) const DOZE: Duration = Duration::from_micros(50);
const DOZE_MAX: Duration = Duration::from_millis(1);
/// A worker that has slept for so long puts its stacks in order.
const RESTED: Duration = Duration::from_millis(500);
/// Vacant runners that a worker keeps then.
const RESTED_RUNNERS: usize = 2;

impl Worker {
    /// Sleeps until somebody has work for the first time: the worker was announced when its thread was made.
    pub(super) fn await_work(&self) {
        let idle = &self.shared().idle;
        while idle.is_asleep(self.index) {
            std::thread::park();
        }
        self.searching.set(idle.take_grant(self.index));
    }

    /// Sleeps until somebody has work, or a timer is due.
    pub(super) fn sleep(&self) {
        let shared = self.shared();
        shared.idle.announce(self.index);
        let mut work = shared.work_for(self.index);
        if work == Work::None && self.watching.replace(false) {
            shared.idle.end_watch();
            work = shared.work_for(self.index);
        }
        if work == Work::Few {
            // Left to workers that get on; but they may stop to.
            self.take_watch();
        }
        let mut limit = match work {
            Work::Some => {
                shared.idle.withdraw(self.index);
                self.searching.set(shared.idle.take_grant(self.index));
                return;
            }
            Work::Few | Work::None if self.watching.get() => {
                let doze = self.doze.get();
                self.doze.set((doze * 2).min(DOZE_MAX));
                Some(doze)
            }
            Work::Few | Work::None if self.rested.get() => None,
            Work::Few | Work::None => Some(RESTED),
        };
        if work == Work::None && self.shared().config.reports_deadlocks {
            self.shared().report_deadlock();
        }
        count(&self.remote().counts.sleeps);
        if let Some(left) = self.remote().timers.time_left() {
            limit = Some(limit.map_or(left, |limit| limit.min(left)));
        }
        let end = limit.map(|limit| Instant::now() + limit);
        while shared.idle.is_asleep(self.index) {
            let Some(next) = self.keep_until(end) else {
                std::thread::park();
                continue;
            };
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let rests = limit == Some(RESTED) && end == Some(next);
                if shared.idle.withdraw(self.index) && rests {
                    self.rest();
                }
                break;
            }
            std::thread::park_timeout(left);
        }
        self.end_keeping();
        self.searching.set(shared.idle.take_grant(self.index));
    }

    /// Gives up what a worker without work doesn't need: most of its vacant runners, and, if all workers sleep, what the
    /// pool of stacks keeps.
    #[cold]
    fn rest(&self) {
        self.rested.set(true);
        while self.vacant_count.get() > RESTED_RUNNERS
            && let Some(runner) = NonNull::new(self.vacant.get())
        {
            // SAFETY: a vacant runner of this worker.
            self.vacant.set(unsafe { runner.as_ref() }.below.get());
            self.vacant_count.set(self.vacant_count.get() - 1);
            self.end_runner(runner);
        }
        if self.shared().idle.sleepers() + 1 >= self.shared().workers.len() {
            StackPool::global().trim();
        }
    }
}

/// What there is to do for a worker that found nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    None,
    /// Few fresh tasks, of workers that will get to them.
    Few,
    /// Something.
    Some,
}
