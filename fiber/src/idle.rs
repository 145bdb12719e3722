//! Which workers sleep, and who wakes them. A worker that finds nothing searches for a while, then announces its sleep,
//! looks once more, and parks its thread: one futex each. Whoever makes work looks for sleepers after it has published
//! the work. Both sides have a full fence between their write and their look, so one of them sees the other.
//!
//! While a worker searches, nobody is woken: the searcher will find the work, and a worker that finds some while it is
//! the last searcher wakes the next (as in Go's scheduler).

use crate::atomics::{AtomicU64, AtomicUsize, Ordering, fence};

/// The most workers a runtime has.
pub const MAX_WORKERS: usize = 256;
const WORDS: usize = MAX_WORKERS / 64;

/// The sleepers of a runtime.
pub struct Idle {
    /// A bit for each worker that sleeps, or is about to.
    asleep: [AtomicU64; WORDS],
    /// A bit for each that was woken by `wake_one`, and so counts as a searcher.
    granted: [AtomicU64; WORDS],
    /// A bit for each sleeper that isn't to be woken for few tasks.
    dozing: [AtomicU64; WORDS],
    sleepers: AtomicUsize,
    dozers: AtomicUsize,
    searchers: AtomicUsize,
}

impl Idle {
    /// Nobody sleeps.
    pub fn new() -> Self {
        Self {
            asleep: std::array::from_fn(|_| AtomicU64::new(0)),
            granted: std::array::from_fn(|_| AtomicU64::new(0)),
            dozing: std::array::from_fn(|_| AtomicU64::new(0)),
            sleepers: AtomicUsize::new(0),
            dozers: AtomicUsize::new(0),
            searchers: AtomicUsize::new(0),
        }
    }

    /// How many search.
    pub fn searchers(&self) -> usize {
        self.searchers.load(Ordering::Relaxed)
    }

    /// Whether somebody dozes.
    pub fn has_dozer(&self) -> bool {
        self.dozers.load(Ordering::Relaxed) > 0
    }

    /// A worker begins to search.
    pub fn start_search(&self) {
        self.searchers.fetch_add(1, Ordering::SeqCst);
    }

    /// A worker ends its search; `true` if it was the last to search.
    pub fn end_search(&self) -> bool {
        self.searchers.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// A worker will sleep, unless it finds something in the look that must follow.
    pub fn announce(&self, worker: usize) {
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        self.go_to_sleep(worker);
    }

    /// As [`Idle::announce`], for a short sleep while all there is are few tasks of workers that get on: another of
    /// those is no reason to wake it.
    pub fn announce_doze(&self, worker: usize) {
        self.dozers.fetch_add(1, Ordering::Relaxed);
        self.dozing[worker / 64].fetch_or(1 << (worker % 64), Ordering::Relaxed);
        self.go_to_sleep(worker);
    }

    fn go_to_sleep(&self, worker: usize) {
        // Release: whoever clears the bit sees whether it is a doze.
        self.asleep[worker / 64].fetch_or(1 << (worker % 64), Ordering::Release);
        // Pairs with the fence of `wake_one` and `wake`.
        fence(Ordering::SeqCst);
    }

    /// A worker won't sleep after all, or its time is over: `false` if somebody has woken it meanwhile.
    pub fn withdraw(&self, worker: usize) -> bool {
        self.remove(worker)
    }

    fn remove(&self, worker: usize) -> bool {
        let bit = 1 << (worker % 64);
        let was = self.asleep[worker / 64].fetch_and(!bit, Ordering::AcqRel) & bit != 0;
        if was {
            let dozing = &self.dozing[worker / 64];
            if dozing.load(Ordering::Relaxed) & bit == 0 {
                self.sleepers.fetch_sub(1, Ordering::Relaxed);
            } else {
                dozing.fetch_and(!bit, Ordering::Relaxed);
                self.dozers.fetch_sub(1, Ordering::Relaxed);
            }
        }
        was
    }

    /// Whether the worker announced a doze; by itself.
    pub fn is_dozing(&self, worker: usize) -> bool {
        self.dozing[worker / 64].load(Ordering::Relaxed) & 1 << (worker % 64) != 0
    }

    /// Whether the worker, awake now, was made a searcher by its waker.
    pub fn take_grant(&self, worker: usize) -> bool {
        let bit = 1 << (worker % 64);
        let granted = &self.granted[worker / 64];
        // Acquire, by `is_asleep` or here: the grant came before the bit went.
        granted.load(Ordering::Acquire) & bit != 0
            && granted.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// Whether nobody has woken the worker since its announcement.
    pub fn is_asleep(&self, worker: usize) -> bool {
        // Acquire: what its waker did.
        self.asleep[worker / 64].load(Ordering::Acquire) & 1 << (worker % 64) != 0
    }

    /// Chooses a worker to wake for work that was just made, if one sleeps and nobody searches. The caller unparks its
    /// thread. It counts as a searcher from now on. A worker's `few` tasks wake none that dozes.
    #[inline]
    pub fn wake_one(&self, few: bool) -> Option<usize> {
        // Pairs with the fence of `announce`: this thread sees the sleeper, or the sleeper the work.
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) == 0
            && (few || self.dozers.load(Ordering::Relaxed) == 0)
        {
            return None;
        }
        self.choose()
    }

    #[cold]
    fn choose(&self) -> Option<usize> {
        if self
            .searchers
            .compare_exchange(0, 1, Ordering::SeqCst, Ordering::Relaxed)
            .is_err()
        {
            return None;
        }
        for (index, word) in self.asleep.iter().enumerate() {
            let mut bits = word.load(Ordering::Relaxed);
            while bits != 0 {
                let worker = index * 64 + bits.trailing_zeros() as usize;
                // Before the worker can see that it is awake.
                self.granted[index].fetch_or(1 << (worker % 64), Ordering::Relaxed);
                if self.remove(worker) {
                    return Some(worker);
                }
                // Woken by another: its search is its own affair, unless it has taken the grant for its own.
                if !self.take_grant(worker) {
                    return None;
                }
                bits &= bits - 1;
            }
        }
        self.searchers.fetch_sub(1, Ordering::SeqCst);
        None
    }

    /// Whether the worker, for whom work was just left, sleeps; the caller unparks its thread then. It doesn't count as
    /// a searcher.
    pub fn wake(&self, worker: usize) -> bool {
        fence(Ordering::SeqCst);
        let bit = 1 << (worker % 64);
        self.asleep[worker / 64].load(Ordering::Relaxed) & bit != 0 && self.remove(worker)
    }

    /// How many sleep.
    pub fn sleepers(&self) -> usize {
        self.sleepers.load(Ordering::Relaxed) + self.dozers.load(Ordering::Relaxed)
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicBool;
    use loom::thread;

    /// Work that is published while a worker goes to sleep: the worker sees it, or is woken.
    #[test]
    fn no_work_sleeps() {
        loom::model(|| {
            let shared = Arc::new((Idle::new(), AtomicBool::new(false)));
            let worker = shared.clone();
            let thread = thread::spawn(move || {
                let (idle, work) = &*worker;
                idle.announce(0);
                if work.load(Ordering::Relaxed) {
                    idle.withdraw(0);
                    return true;
                }
                false
            });
            let (idle, work) = &*shared;
            work.store(true, Ordering::Relaxed);
            let woken = idle.wake_one(false);
            let seen = thread.join().unwrap();
            assert!(
                seen || woken == Some(0),
                "the worker sleeps beside its work"
            );
        });
    }

    /// The same for work that one worker must do, with another waker beside it: one of the two wakes it.
    #[test]
    fn an_inbox_wakes_its_worker() {
        loom::model(|| {
            let shared = Arc::new((Idle::new(), AtomicBool::new(false)));
            let other = shared.clone();
            let thread = thread::spawn(move || other.0.wake_one(false).is_some());
            let (idle, inbox) = &*shared;
            idle.announce(0);
            let waker = shared.clone();
            let second = thread::spawn(move || {
                waker.1.store(true, Ordering::Relaxed);
                waker.0.wake(0)
            });
            let sees = inbox.load(Ordering::Relaxed);
            let a = thread.join().unwrap();
            let b = second.join().unwrap();
            assert!(!(a && b), "woken twice");
            assert!(a || b || sees);
        });
    }
}
