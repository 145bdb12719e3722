//! The times at which fibers of one worker want to be woken.

use crate::wait::{TIMED_OUT, Waiter};
use std::collections::BTreeMap;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When, and a number that tells those of one time apart.
type Key = (Instant, u64);

struct Entry(*const Waiter);
// SAFETY: an entry is removed before its waiter's frame goes, under the same lock that it is fired under.
unsafe impl Send for Entry {}

/// A worker's timers. Its own fibers start them and its own loop fires them; a fiber that has moved may stop one from
/// elsewhere, and where fibers may move another worker may fire what is late, hence the lock, which nobody holds for
/// longer than a step in the tree.
pub struct Timers {
    entries: Mutex<(BTreeMap<Key, Entry>, u64)>,
    /// Nanoseconds from `start` to the first deadline; the maximum when there is none.
    next: AtomicU64,
    start: Instant,
    coarse_start: u64,
}

/// A clock that the system advances at its ticks.
fn coarse_nanoseconds() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the structure. The clock is there on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Timers {
    /// None.
    pub fn new() -> Self {
        Self {
            entries: Mutex::new((BTreeMap::new(), 0)),
            next: AtomicU64::new(u64::MAX),
            start: Instant::now(),
            coarse_start: coarse_nanoseconds(),
        }
    }

    fn note_next(&self, entries: &BTreeMap<Key, Entry>) {
        let next = entries.first_key_value().map_or(u64::MAX, |((at, _), _)| {
            let nanoseconds = at.saturating_duration_since(self.start).as_nanos();
            nanoseconds.min(u128::from(u64::MAX - 1)) as u64
        });
        self.next.store(next, Ordering::Relaxed);
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<Key, Entry>, &mut u64) -> T) -> T {
        let mut entries = self.entries.lock().unwrap_or_else(|e| e.into_inner());
        let (tree, count) = &mut *entries;
        let result = work(tree, count);
        self.note_next(tree);
        result
    }

    /// Starts a timer for a waiter, which must be stopped before the waiter's frame goes.
    pub fn start(&self, deadline: Instant, waiter: &Waiter) -> Timer<'_> {
        let key = self.with(|entries, count| {
            *count += 1;
            let key = (deadline, *count);
            entries.insert(key, Entry(ptr::from_ref(waiter)));
            key
        });
        Timer { timers: self, key }
    }

    /// Whether no timer runs.
    pub fn is_empty(&self) -> bool {
        self.next.load(Ordering::Relaxed) == u64::MAX
    }

    /// How long it is to the first deadline, if there is one.
    pub fn time_left(&self) -> Option<Duration> {
        match self.next.load(Ordering::Relaxed) {
            u64::MAX => None,
            next => Some(Duration::from_nanos(next).saturating_sub(self.start.elapsed())),
        }
    }

    /// The first deadline, if there is one.
    pub fn deadline(&self) -> Option<Instant> {
        match self.next.load(Ordering::Relaxed) {
            u64::MAX => None,
            next => self.start.checked_add(Duration::from_nanos(next)),
        }
    }

    /// Whether the first deadline has been over for so long.
    pub fn is_late(&self, by: Duration) -> bool {
        self.deadline()
            .is_some_and(|deadline| deadline.elapsed() >= by)
    }

    /// Wakes all whose time is over, unless a look at a coarse clock, which is a few nanoseconds, says that there are
    /// none. The coarse clock is some milliseconds late; `exact` asks the other one.
    #[inline]
    pub fn fire_if_due(&self, exact: bool) {
        if !self.is_empty() && (exact || self.is_nearly_due()) {
            self.fire();
        }
    }

    #[cold]
    fn is_nearly_due(&self) -> bool {
        coarse_nanoseconds() - self.coarse_start >= self.next.load(Ordering::Relaxed)
    }

    /// Wakes all whose time is over; how many.
    pub fn fire(&self) -> usize {
        if self.time_left().is_none_or(|left| !left.is_zero()) {
            return 0;
        }
        let now = Instant::now();
        self.with(|entries, _| {
            let mut fired = 0;
            while let Some(entry) = entries.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                let Entry(waiter) = entry.remove();
                // SAFETY: the frame is there as long as the entry is, and if this claims the waiter, until the signal.
                unsafe {
                    if (*waiter).claim(TIMED_OUT) {
                        Waiter::signal(waiter);
                        fired += 1;
                    }
                }
            }
            fired
        })
    }
}

/// A timer that runs.
pub struct Timer<'timers> {
    timers: &'timers Timers,
    key: Key,
}

impl Timer<'_> {
    /// Stops it; nothing of it is left, whether it fired or not.
    pub fn stop(self) {
        self.timers.with(|entries, _| entries.remove(&self.key));
    }
}
