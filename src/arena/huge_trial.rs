//! Whether huge pages pay on this machine, by trial: the first touch of a region that is to have them is timed.
//!
//! Mostly a huge page is cleared in a fifth of a millisecond, less than the 512 faults that it saves. On a virtual machine
//! whose host takes free memory back, it took 8 ms: the host puts its 512 pages together again one by one, where small
//! pages come from what the guest freed last. `burst` then took five times as long with huge pages as without.
//!
//! After a slow touch a number of regions does without, twice as many after each further one; then another is tried. A quick
//! one halves that number: where one in a few is slow, as on that machine while its host had just some memory left for the
//! guest, each costs more than the quick ones save.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The regions that do without after the first slow touch, 256 MiB, and between two trials at the most, 4 GiB.
const SHORTEST_PAUSE: u32 = 16;
const LONGEST_PAUSE: u32 = 256;

/// What the trials have shown so far. A guess: threads that try at the same time may both count or both not.
pub struct Trial {
    /// So many regions do without from now on.
    left: AtomicU32,
    /// How many there were after the last slow touch, halved by each quick one since.
    pause: AtomicU32,
}

impl Trial {
    /// Nothing tried yet.
    pub const fn new() -> Self {
        Self {
            left: AtomicU32::new(0),
            pause: AtomicU32::new(0),
        }
    }

    /// Whether one more region is to have huge pages.
    pub fn is_due(&self) -> bool {
        let left = self.left.load(Relaxed);
        if left > 0 {
            self.left.store(left - 1, Relaxed);
        }
        left == 0
    }

    /// Notes how long a first touch took; whether that was quick enough.
    pub fn judge(&self, took_us: u64, limit_us: u64) -> bool {
        if took_us < limit_us {
            self.pause.store(self.pause.load(Relaxed) / 2, Relaxed);
            return true;
        }
        let pause = (self.pause.load(Relaxed) * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.pause.store(pause, Relaxed);
        self.left.store(pause, Relaxed);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The regions that have huge pages, of so many whose first touches are as slow as `slow` says.
    fn tried(trial: &Trial, slow: impl Fn(usize) -> bool, regions: usize) -> Vec<usize> {
        (0..regions)
            .filter(|&region| {
                trial.is_due() && trial.judge(if slow(region) { 8000 } else { 200 }, 1000)
            })
            .collect()
    }

    #[test]
    fn quick_ones_go_on() {
        let trial = Trial::new();
        assert_eq!(tried(&trial, |_| false, 100).len(), 100);
    }

    #[test]
    fn slow_ones_are_tried_ever_less_often() {
        let trial = Trial::new();
        let trials = (0..1000)
            .filter(|_| {
                let due = trial.is_due();
                if due {
                    assert!(!trial.judge(8000, 1000));
                }
                due
            })
            .count();
        assert!((6..=8).contains(&trials), "{trials} trials");
    }

    #[test]
    fn a_machine_that_becomes_quick_is_noticed() {
        let trial = Trial::new();
        let with = tried(&trial, |region| region < 100, 300);
        // 16, 32 and 64 regions do without, so that one at 115 is tried.
        assert!(with[0] < 120 && with.len() == 300 - with[0], "{with:?}");
    }

    #[test]
    fn where_one_in_three_is_slow_few_are_tried() {
        let trial = Trial::new();
        let with = tried(&trial, |region| region % 3 == 0, 1000);
        assert!(with.len() < 100, "{} regions", with.len());
    }
}
