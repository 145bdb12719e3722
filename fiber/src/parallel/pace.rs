//! How many units a loop does between two looks at whether a thief is hungry: so many that a look costs little, and so
//! few that no thief starves for long.

use std::time::{Duration, Instant};

/// Blocks that took less are followed by larger ones.
const SHORT: Duration = Duration::from_micros(3);
/// Blocks that took more are followed by smaller ones.
const LONG: Duration = Duration::from_micros(12);

/// The size of blocks.
#[derive(Clone, Copy)]
pub struct Pace {
    block: usize,
    least: usize,
    since: Option<Instant>,
}

impl Pace {
    /// Starts with the smallest blocks.
    pub fn new(least: usize) -> Self {
        Self {
            block: least,
            least,
            since: None,
        }
    }

    /// How many units the next block has.
    pub fn block(&self) -> usize {
        self.block
    }

    /// A part begins, or goes on after something else than a block.
    pub fn start(&mut self) {
        self.since = Some(Instant::now());
    }

    /// A full block is done.
    pub fn note(&mut self) {
        let now = Instant::now();
        let took = self
            .since
            .replace(now)
            .map_or(SHORT, |since| now.duration_since(since));
        if took < SHORT {
            self.block = self.block.saturating_mul(2);
        } else if took > LONG {
            self.block = (self.block / 2).max(self.least);
        }
    }
}
