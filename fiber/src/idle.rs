//! Which workers sleep, and who wakes them. A worker that finds nothing searches for a while, then announces its sleep,
//! looks once more, and parks its thread: one futex each. Whoever makes work looks for sleepers after it has published
//! the work. Both sides have a full fence between their write and their look, so one of them sees the other.
//!
//! While a worker searches, nobody is woken: the searcher will find the work, and a worker that finds some while it is
//! the last searcher wakes the next (as in Go's scheduler).
//!
//! Nor is anybody woken while as many workers are awake as the process has cores: they would wait for a core with work in
//! their hands. A worker that is awake beyond that takes no work from others and lies down again. One of the sleepers has
//! the watch then: it dozes, and looks now and then whether as many get on as there are cores, since a fiber may block its
//! thread.

use crate::atomics::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

/// The most workers a runtime has.
pub const MAX_WORKERS: usize = 256;
const WORDS: usize = MAX_WORKERS / 64;

/// The sleepers of a runtime.
pub struct Idle {
    /// A bit for each worker that sleeps, or is about to.
    asleep: [AtomicU64; WORDS],
    /// A bit for each that was woken by `wake_one`, and so counts as a searcher.
    granted: [AtomicU64; WORDS],
    sleepers: AtomicUsize,
    searchers: AtomicUsize,
    /// Somebody has the watch.
    watched: AtomicBool,
    workers: usize,
    /// The cores that they share.
    cores: usize,
}

impl Idle {
    /// So many workers, none of which sleeps.
    pub fn new(workers: usize, cores: usize) -> Self {
        Self {
            workers,
            cores,
            asleep: std::array::from_fn(|_| AtomicU64::new(0)),
            granted: std::array::from_fn(|_| AtomicU64::new(0)),
            sleepers: AtomicUsize::new(0),
            searchers: AtomicUsize::new(0),
            watched: AtomicBool::new(false),
        }
    }

    /// How many search.
    pub fn searchers(&self) -> usize {
        self.searchers.load(Ordering::Relaxed)
    }

    /// Whether as many workers are awake as there are cores, without the calling one if that has announced its sleep.
    pub fn is_busy(&self) -> bool {
        self.awake() >= self.cores
    }

    /// Whether more workers are awake than there are cores: for one that is, and has no work.
    pub fn is_crowded(&self) -> bool {
        self.awake() > self.cores
    }

    /// The cores that the workers share.
    pub fn cores(&self) -> usize {
        self.cores
    }

    fn awake(&self) -> usize {
        self.workers.saturating_sub(self.sleepers())
    }

    /// Takes the watch, if nobody has it.
    pub fn take_watch(&self) -> bool {
        !self.watched.load(Ordering::Relaxed) && !self.watched.swap(true, Ordering::SeqCst)
    }

    /// Gives the watch up. The caller looks for work once more, or wakes another for it.
    pub fn end_watch(&self) {
        self.watched.store(false, Ordering::SeqCst);
        fence(Ordering::SeqCst);
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
        // Release: whoever clears the bit counts the worker as awake after this.
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
            self.sleepers.fetch_sub(1, Ordering::Relaxed);
        }
        was
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
    /// thread. It counts as a searcher from now on. A worker's `few` tasks wake nobody while somebody has
    /// the watch.
    #[inline]
    pub fn wake_one(&self, few: bool) -> Option<usize> {
        // Pairs with the fence of `announce`: this thread sees the sleeper, or the sleeper the work.
        fence(Ordering::SeqCst);
        let sleepers = self.sleepers();
        if sleepers == 0 {
            return None;
        }
        // All that are awake look for work before they sleep; and who has the watch sees if they don't get to it.
        let others_will = few || self.workers.saturating_sub(sleepers) >= self.cores;
        if others_will && self.watched.load(Ordering::Relaxed) {
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

    /// One that sleeps, unless somebody wakes it now.
    pub fn any_sleeper(&self) -> Option<usize> {
        self.asleep.iter().enumerate().find_map(|(index, word)| {
            let bits = word.load(Ordering::Relaxed);
            (bits != 0).then(|| index * 64 + bits.trailing_zeros() as usize)
        })
    }

    /// How many sleep.
    pub fn sleepers(&self) -> usize {
        self.sleepers.load(Ordering::Relaxed)
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
            let shared = Arc::new((Idle::new(1, 1), AtomicBool::new(false)));
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
            let shared = Arc::new((Idle::new(1, 1), AtomicBool::new(false)));
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

    /// Work that is left to whoever has the watch, while it gives the watch up and goes to sleep: it sees the work, or
    /// is woken.
    #[test]
    fn a_watch_ends_with_a_look() {
        loom::model(|| {
            let shared = Arc::new((Idle::new(2, 1), AtomicBool::new(false)));
            assert!(shared.0.take_watch());
            let watch = shared.clone();
            let thread = thread::spawn(move || {
                let (idle, work) = &*watch;
                idle.announce(1);
                idle.end_watch();
                work.load(Ordering::Relaxed)
            });
            let (idle, work) = &*shared;
            work.store(true, Ordering::Relaxed);
            let woken = idle.wake_one(false);
            let seen = thread.join().unwrap();
            assert!(seen || woken == Some(1), "nobody looks after the work");
        });
    }
}
