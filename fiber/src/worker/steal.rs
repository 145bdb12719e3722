//! Searching: a worker without work looks at the others' fresh tasks for a while.

use super::{FEW, Queued, Worker, count};
use crate::runtime::{IdlePolicy, Victims};
use crate::task::Header;
use crossbeam_deque::Steal;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A worker whose count of picks has stood still for so long doesn't get on with its work.
const GRACE: Duration = Duration::from_micros(10);
/// A worker that has had tasks waiting at every look for so long, and never fewer, doesn't get to them.
const STARVED: Duration = Duration::from_micros(20);
/// How long a worker looks before it counts as a searcher, which it writes where all write.
const GLANCE: Duration = Duration::from_micros(2);
/// How long a worker searches before it sleeps: at least, and at most, by how its last searches went.
pub(super) const SEARCH_MIN: Duration = Duration::from_micros(5);
const SEARCH_MAX: Duration = Duration::from_micros(80);

/// What a thief has seen of another worker.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    /// Its count of picks, and since when it has been the same.
    picks: u64,
    still_since: Option<Instant>,
    /// How many tasks it had at the last look, and since when it has had tasks at every look and no fewer than before.
    waiting: usize,
    waiting_since: Option<Instant>,
    /// What it had picked and spawned when the watch looked last.
    pub(super) done: u64,
}

impl Worker {
    /// Looks for work elsewhere, for a while.
    pub(super) fn search(&self) -> Option<NonNull<Header>> {
        let shared = self.shared();
        if shared.workers.len() == 1 || self.aloof.get() || shared.idle.is_crowded() {
            self.remote().timers.fire();
            return self.pick();
        }
        if !self.searching.get() && shared.idle.searchers() >= shared.most_searchers {
            // More would take time from those that work.
            self.remote().timers.fire();
            return self.pick().or_else(|| self.steal());
        }
        if !self.searching.get() {
            // An answer from a partner on another worker mostly comes at once. Until then nobody needs to know that this
            // worker has nothing to do: work that is made meanwhile wakes somebody else.
            let glanced = self.search_until(Instant::now() + GLANCE);
            if glanced.is_some() {
                return glanced;
            }
            self.searching.set(true);
            shared.idle.start_search();
        }
        let patience = match shared.config.idle {
            IdlePolicy::Adaptive => self.search.get(),
            IdlePolicy::Spin(time) => time,
            IdlePolicy::Sleep => Duration::ZERO,
        };
        let found = self.search_until(Instant::now() + patience);
        // A search that pays is worth more patience the next time.
        let search = self.search.get();
        self.search.set(if found.is_some() {
            (search * 2).min(SEARCH_MAX)
        } else {
            (search / 2).max(SEARCH_MIN)
        });
        found
    }

    /// Ends a search. The last of the searchers, if it found something, wakes another worker: there may be more.
    pub(super) fn end_search(&self, found: bool) {
        if self.searching.replace(false) && self.shared().idle.end_search() && found {
            self.shared().wake_one(false);
        }
    }

    fn search_until(&self, end: Instant) -> Option<NonNull<Header>> {
        let mut pause = 1;
        loop {
            self.remote().timers.fire();
            if let Some(task) = self.pick() {
                return Some(task);
            }
            if let Some(task) = self.steal() {
                return Some(task);
            }
            if Instant::now() >= end || self.shared().is_over() {
                return None;
            }
            for _ in 0..pause {
                std::hint::spin_loop();
                // A pause takes up to 50 ns: a partner's wake isn't to wait for all of them.
                if !self.remote().inbox.is_empty() {
                    break;
                }
            }
            pause = (pause * 2).min(64);
        }
    }

    /// Takes a fresh task from another worker.
    fn steal(&self) -> Option<NonNull<Header>> {
        let shared = self.shared();
        let workers = shared.workers.len();
        let start = match shared.config.victims {
            Victims::Random => self.next_random() as usize % workers,
            Victims::Neighbours => self.index + 1,
            Victims::None => return None,
        };
        (start..start + workers)
            .map(|index| index % workers)
            .filter(|&index| index != self.index)
            .find_map(|index| self.steal_from(index))
    }

    fn steal_from(&self, index: usize) -> Option<NonNull<Header>> {
        let victim = &self.shared().workers[index];
        let waiting = victim.stealer.len();
        if waiting <= FEW && !self.must_be_helped(index, waiting) {
            return None;
        }
        loop {
            match victim
                .stealer
                .steal_batch_with_limit_and_pop(&self.deque, waiting.div_ceil(2).min(32))
            {
                Steal::Success(Queued(task)) => {
                    count(&self.remote().counts.stolen);
                    return Some(task);
                }
                Steal::Empty => return None,
                Steal::Retry => std::hint::spin_loop(),
            }
        }
    }

    /// Whether a worker with few tasks waiting doesn't get to them.
    fn must_be_helped(&self, index: usize, waiting: usize) -> bool {
        let seen = &mut self.seen.borrow_mut()[index];
        if waiting < std::mem::replace(&mut seen.waiting, waiting) {
            seen.waiting_since = None;
        }
        if waiting == 0 {
            return false;
        }
        let counts = &self.shared().workers[index].counts;
        let picks = counts.picks.load(Ordering::Relaxed);
        let now = Instant::now();
        if seen.picks != picks {
            seen.picks = picks;
            seen.still_since = None;
        }
        let still_since = *seen.still_since.get_or_insert(now);
        let waiting_since = *seen.waiting_since.get_or_insert(now);
        now - still_since >= GRACE || now - waiting_since >= STARVED
    }
}
