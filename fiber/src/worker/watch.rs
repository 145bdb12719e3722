//! The watch: of the workers that sleep beside work, one looks now and then whether those that are awake get on with it.

use super::Worker;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Who has neither picked nor spawned anything for so long, at least, doesn't get on.
const WATCH: Duration = Duration::from_millis(1);

impl Worker {
    /// Takes the watch, if nobody has it.
    pub(super) fn take_watch(&self) {
        if !self.watching.get() && self.shared().idle.take_watch() {
            self.watching.set(true);
            self.watched.set(None);
        }
    }

    /// Hands the watch on: this worker has work of its own now.
    pub(super) fn end_watch(&self) {
        if self.watching.replace(false) {
            self.shared().idle.end_watch();
            self.shared().wake_one(false);
        }
    }

    /// Whether this worker is awake for the watch only, and isn't needed.
    pub(super) fn is_aloof(&self) -> bool {
        self.watching.get() && self.shared().idle.is_crowded() && !self.is_needed()
    }

    /// Whether fewer workers than there are cores have got on since the last look: then the watch is to help.
    fn is_needed(&self) -> bool {
        let now = Instant::now();
        let first = match self.watched.get() {
            Some(last) if now - last < WATCH => return false,
            last => last.is_none(),
        };
        self.watched.set(Some(now));
        let mut moving = 0;
        let workers = self.shared().workers.iter().enumerate();
        for ((index, worker), seen) in workers.zip(&mut *self.seen.borrow_mut()) {
            // A fiber that forks and joins is picked once, and spawns.
            let counts = &worker.counts;
            let done =
                counts.picks.load(Ordering::Relaxed) + counts.spawned.load(Ordering::Relaxed);
            let before = std::mem::replace(&mut seen.done, done);
            moving += usize::from(index != self.index && done != before);
        }
        !first && moving < self.shared().idle.cores()
    }
}
