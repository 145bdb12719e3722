//! How far a comparison is, on a terminal as a bar, elsewhere as a line per finished row.

use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Progress over a known number of runs.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    /// Nothing done yet.
    pub fn new(runs: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} runs, {eta} left  {msg}");
        let bar =
            ProgressBar::new(runs as u64).with_style(style.expect("the template is well formed"));
        // No steady tick: a thread that wakes up ten times a second would run beside what is measured.
        Self {
            bar,
            started: Instant::now(),
        }
    }

    /// Names the run that begins.
    pub fn show(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// Says something that stays on the screen.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// One run is over.
    pub fn advance(&self) {
        self.bar.inc(1);
    }

    /// One row is over.
    pub fn row_done(&self, label: &str) {
        if self.bar.is_hidden() {
            let (done, all) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let left = time_left(self.started.elapsed(), done, all);
            eprintln!(
                "{label}: done ({done} of {all} runs, about {} left)",
                HumanDuration(left)
            );
        }
    }

    /// All runs are over.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// As long for each run to come as for those done, on average.
fn time_left(elapsed: Duration, done: u64, all: u64) -> Duration {
    if done == 0 {
        Duration::ZERO
    } else {
        elapsed.mul_f64((all - done) as f64 / done as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_the_pace() {
        assert_eq!(
            time_left(Duration::from_secs(10), 5, 20),
            Duration::from_secs(30)
        );
        assert_eq!(time_left(Duration::from_secs(10), 0, 20), Duration::ZERO);
    }
}
