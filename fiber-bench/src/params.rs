//! What a run is told.

/// Settings of one run.
#[derive(Clone, Debug)]
pub struct Params {
    /// Name of the benchmark.
    pub benchmark: &'static str,
    /// Threads that run tasks.
    pub workers: usize,
    /// Length of the measured part; whole rounds are run until it is over.
    pub seconds: f64,
    /// Factor on the sizes of rounds: below 1 for tests.
    pub scale: f64,
}

impl Params {
    /// A size, scaled; at least `least`.
    pub fn scaled(&self, size: usize, least: usize) -> usize {
        ((size as f64 * self.scale) as usize).max(least)
    }

    /// The number behind the last underscore of the benchmark's name.
    pub fn number(&self) -> usize {
        let digits = self.benchmark.rsplit('_').next();
        digits
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("{} ends in a number", self.benchmark))
    }

    /// How long the benchmarks that idle do so.
    pub fn idle_seconds(&self) -> f64 {
        match self.seconds {
            long if long >= 1.0 => 10.0,
            short => (short * 4.0).min(1.0),
        }
    }
}
