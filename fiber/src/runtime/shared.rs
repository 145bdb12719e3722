//! What the workers of a runtime share.

use super::builder::{Config, Migration, Victims};
use crate::blocking::BlockingPool;
use crate::global::Global;
use crate::idle::Idle;
use crate::keeper::Keeper;
use crate::report::Report;
use crate::stack::Roster;
use crate::task::Header;
use crate::worker::{Counts, FEW, Remote, Work};
use crossbeam_utils::CachePadded;
use millpond::stack::StackError;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// The end of a runtime, as far as it is asked for.
pub(super) mod phase {
    pub const RUNNING: u8 = 0;
    pub const FINISHING: u8 = 1;
    pub const CANCELLING: u8 = 2;
}

/// What all workers of a runtime share.
pub(crate) struct Shared {
    pub config: Config,
    pub workers: Box<[Remote]>,
    pub global: Global,
    pub idle: Idle,
    /// Used where fibers may move.
    pub keeper: Keeper,
    pub roster: Roster,
    /// How many workers may search at a time.
    pub most_searchers: usize,
    pub blocking: BlockingPool,
    pub(super) phase: AtomicU8,
    pub(super) over: AtomicBool,
    /// Fibers spawned by plain threads and by fibers of other runtimes, and those for a worker that was named.
    pub(super) spawned_outside: CachePadded<AtomicU64>,
}

impl Shared {
    /// Wakes a worker for work that was just made.
    #[inline]
    pub fn wake_one(&self, few: bool) {
        if let Some(worker) = self.idle.wake_one(few) {
            self.unpark(worker);
        }
    }

    /// Wakes a worker if it sleeps.
    pub fn wake(&self, worker: usize) {
        if self.idle.wake(worker) {
            self.unpark(worker);
        }
    }

    /// Lets a sleeper, if there is one, look once more how long it may sleep.
    pub fn unpark_sleeper(&self) {
        if let Some(worker) = self.idle.any_sleeper() {
            self.unpark(worker);
        }
    }

    /// Lets a worker's thread go on if it is parked; the worker goes back to sleep if it is to.
    pub fn unpark(&self, worker: usize) {
        if let Some(thread) = self.workers[worker].thread.get() {
            thread.unpark();
        }
    }

    /// Leaves a chain of fibers for their worker.
    pub fn post(&self, worker: usize, first: NonNull<Header>, last: NonNull<Header>) {
        self.workers[worker].inbox.push(first, last);
        self.wake(worker);
    }

    /// Queues a fiber that a plain thread, or a fiber of another runtime, woke.
    pub fn queue_from_outside(&self, fiber: NonNull<Header>) {
        // SAFETY: ASSIGNED by the caller, so it is the caller's until it is queued.
        let header = unsafe { fiber.as_ref() };
        if self.may_move(header) {
            self.global.push(fiber);
            self.wake_one(false);
        } else {
            self.post(header.home.get() as usize, fiber, fiber);
        }
    }

    /// Whether a fiber that has started may go on on another worker.
    pub fn may_move(&self, fiber: &Header) -> bool {
        self.config.migration == Migration::Free && !fiber.unwinds.get()
    }

    /// Queues a new task of a plain thread.
    pub(super) fn queue_fresh(&self, task: NonNull<Header>) {
        // SAFETY: the spawner's until it is queued.
        unsafe { task.as_ref() }.control.assign();
        self.spawned_outside.fetch_add(1, Ordering::Relaxed);
        self.global.push(task);
        self.wake_one(false);
    }

    /// Queues a new task where no other worker finds it.
    pub(super) fn queue_fresh_at(&self, task: NonNull<Header>, worker: usize) {
        // SAFETY: the spawner's until it is queued.
        unsafe { task.as_ref() }.control.assign();
        self.spawned_outside.fetch_add(1, Ordering::Relaxed);
        self.post(worker, task, task);
    }

    /// What there is to do for a worker that has announced its sleep.
    pub fn work_for(&self, worker: usize) -> Work {
        if self.is_over() || !self.workers[worker].inbox.is_empty() {
            return Work::Some;
        }
        // What any worker could do is left to those that are awake, if they have all cores.
        let much = if self.idle.is_busy() {
            Work::Few
        } else {
            Work::Some
        };
        if !self.global.is_empty() {
            return much;
        }
        let mut work = Work::None;
        if self.config.victims != Victims::None {
            for other in &self.workers {
                match other.stealer.len() {
                    0 => {}
                    1..=FEW => work = Work::Few,
                    _ => return much,
                }
            }
        }
        work
    }

    /// Whether tasks that haven't started are to be dropped.
    pub fn cancels_queued(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == phase::CANCELLING
    }

    /// Whether the workers may end: for a worker that found nothing to do.
    pub fn is_over(&self) -> bool {
        if self.phase.load(Ordering::Relaxed) == phase::RUNNING {
            return false;
        }
        if self.over.load(Ordering::Acquire) {
            return true;
        }
        if self.live() != 0 || self.over.swap(true, Ordering::AcqRel) {
            return self.over.load(Ordering::Acquire);
        }
        for worker in 0..self.workers.len() {
            self.wake(worker);
        }
        true
    }

    /// Fibers that have been spawned and not completed. Never 0 while there is one: completions are summed first, so
    /// that a fiber counted as completed is counted as spawned, too, and so are all that it spawned.
    pub fn live(&self) -> u64 {
        let sum = |counter: fn(&Counts) -> &AtomicU64| -> u64 {
            let counts = self.workers.iter().map(|worker| counter(&worker.counts));
            counts.map(|counter| counter.load(Ordering::SeqCst)).sum()
        };
        let completed = sum(|counts| &counts.completed);
        std::sync::atomic::fence(Ordering::SeqCst);
        let spawned = sum(|counts| &counts.spawned) + self.spawned_outside.load(Ordering::SeqCst);
        spawned - completed
    }

    /// Writes a report if no fiber can go on by itself: for a worker that has announced its sleep.
    #[cold]
    pub fn report_deadlock(&self) {
        let asleep = self.idle.sleepers() == self.workers.len();
        let idle = self
            .workers
            .iter()
            .all(|worker| worker.inbox.is_empty() && worker.timers.is_empty());
        if asleep && idle && self.global.is_empty() && self.live() != 0 {
            eprint!(
                "millpond-fiber: every fiber waits, and no fiber can wake one:\n{}",
                Report(self)
            );
        }
    }

    /// There is no stack for a fiber that must run.
    #[cold]
    pub fn out_of_stacks(&self, error: &StackError) -> ! {
        eprintln!("millpond-fiber: no stack for a fiber: {error}");
        std::process::abort();
    }
}
