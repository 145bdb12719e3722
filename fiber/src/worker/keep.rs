//! Keeping: where fibers may move, a sleeper sees to the timers of workers that are busy with a fiber that computes.

use super::Worker;
use crate::runtime::Migration;
use std::time::{Duration, Instant};

/// How late a timer must be before another worker than its own fires it: its own would keep the fiber where its stack is
/// warm.
const LATE: Duration = Duration::from_micros(50);

impl Worker {
    /// As the keeper, or to become it: when to look at all timers, if that is before `end`.
    pub(super) fn keep_until(&self, end: Option<Instant>) -> Option<Instant> {
        let shared = self.shared();
        if shared.config.migration == Migration::Pinned || !shared.keeper.take(self.index) {
            return end;
        }
        let deadlines = || shared.workers.iter().filter_map(|w| w.timers.deadline());
        let look = shared.keeper.plan(|| deadlines().min()?.checked_add(LATE));
        match (look, end) {
            (Some(look), Some(end)) => Some(look.min(end)),
            (look, end) => look.or(end),
        }
    }

    /// Awake again: fires what is late, if this was the keeper, and lets another sleeper take the place.
    pub(super) fn end_keeping(&self) {
        let shared = self.shared();
        if shared.config.migration == Migration::Pinned || !shared.keeper.leave(self.index) {
            return;
        }
        for worker in &shared.workers {
            if worker.timers.is_late(LATE) {
                worker.timers.fire();
            }
        }
        if shared
            .workers
            .iter()
            .any(|worker| !worker.timers.is_empty())
        {
            shared.unpark_sleeper();
        }
    }
}
