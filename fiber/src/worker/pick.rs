//! Picking: which of the fibers in a worker's own queues and the global one goes next.

use super::children::is_fresh_child;
use super::{Queued, Worker, count};
use crate::task::Header;
use crossbeam_deque::Steal;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

/// Every so many picks a worker looks at the global queue, the oldest task and the timers first.
const FAIRNESS: u32 = 61;
/// A fiber that was woken by the running one goes next this many times in a row at most.
const HAND_OFFS: u32 = 16;
/// And so many times while tasks wait that haven't started: thieves are to see that the worker gets to them.
const HAND_OFFS_BESIDE_FRESH: u32 = 4;

impl Worker {
    /// The next fiber from this worker's own queues and the global one.
    pub(super) fn pick(&self) -> Option<NonNull<Header>> {
        let next = self.choose();
        if self.ended.get().is_null() || next.is_some_and(is_fresh_child) {
            return next;
        }
        self.report_ends();
        // Whoever waited for the last of them may be next.
        next.or_else(|| self.choose())
    }

    fn choose(&self) -> Option<NonNull<Header>> {
        if self.shared().config.seed.is_some() {
            return self.pick_seeded();
        }
        let picks = self.picks.get().wrapping_add(1);
        self.picks.set(picks);
        count(&self.remote().counts.picks);
        self.remote().timers.fire_if_due(picks.is_multiple_of(8));
        if picks.is_multiple_of(FAIRNESS)
            && let Some(task) = self.pick_fairly()
        {
            return Some(task);
        }
        if let Some(fiber) = NonNull::new(self.hand_off.replace(ptr::null_mut())) {
            let before = self.hand_offs.get();
            if before < HAND_OFFS_BESIDE_FRESH || (before < HAND_OFFS && self.deque.is_empty()) {
                self.hand_offs.set(before + 1);
                return Some(fiber);
            }
            self.ready.push(fiber);
        }
        self.hand_offs.set(0);
        self.empty_inbox();
        // Started and fresh ones in turn, so that neither starves, and new ones start before a thief comes for them.
        if picks.is_multiple_of(2)
            && let Some(fiber) = self.ready.pop()
        {
            return Some(fiber);
        }
        if let Some(Queued(task)) = self.deque.pop() {
            return Some(task);
        }
        if let Some(fiber) = self.ready.pop() {
            return Some(fiber);
        }
        self.pick_global()
    }

    fn pick_global(&self) -> Option<NonNull<Header>> {
        if self.aloof.get() {
            return None;
        }
        self.shared().global.pop()
    }

    /// What waits longest: a global task, or the oldest task of the deque.
    #[cold]
    fn pick_fairly(&self) -> Option<NonNull<Header>> {
        if let Some(task) = self.pick_global() {
            return Some(task);
        }
        match self.remote().stealer.steal() {
            Steal::Success(Queued(task)) => Some(task),
            _ => None,
        }
    }

    /// Takes what others left for this worker.
    fn empty_inbox(&self) {
        let inbox = &self.remote().inbox;
        if !inbox.is_empty() {
            // Turned round: a list of what came first at its front.
            let mut list: *mut Header = ptr::null_mut();
            inbox.take(|fiber| {
                // SAFETY: taken, so this worker's.
                unsafe { fiber.as_ref() }
                    .next
                    .store(list, Ordering::Relaxed);
                list = fiber.as_ptr();
            });
            while let Some(fiber) = NonNull::new(list) {
                // SAFETY: as above.
                list = unsafe { fiber.as_ref() }.next.load(Ordering::Relaxed);
                self.ready.push(fiber);
            }
        }
    }

    /// Any of those that can run, chosen by the seed.
    #[cold]
    fn pick_seeded(&self) -> Option<NonNull<Header>> {
        let mut runnable = self.runnable.borrow_mut();
        self.remote().timers.fire();
        self.empty_inbox();
        runnable.extend(NonNull::new(self.hand_off.replace(ptr::null_mut())));
        runnable.extend(std::iter::from_fn(|| self.ready.pop()));
        runnable.extend(std::iter::from_fn(|| self.deque.pop().map(|task| task.0)));
        runnable.extend(std::iter::from_fn(|| self.shared().global.pop()));
        if runnable.is_empty() {
            return None;
        }
        let chosen = self.next_random() as usize % runnable.len();
        // The others stay in their order, so that a run depends on nothing but the seed.
        Some(runnable.remove(chosen))
    }

    pub(super) fn next_random(&self) -> u64 {
        // Xorshift, Marsaglia 2003.
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x
    }
}
