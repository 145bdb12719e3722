//! How many units a loop does between two looks at whether a thief is hungry: so many that a look costs little, and so
//! few that no thief starves for long.

use std::time::{Duration, Instant};

/// Blocks that took less are followed by larger ones.
const SHORT: Duration = Duration::from_micros(3);
/// Blocks that took more are followed by smaller ones.
const LONG: Duration = Duration::from_micros(12);

/// A loop that ends sooner isn't worth a second worker, who takes some microseconds to come.
const WORTH_SHARING: Duration = Duration::from_micros(4);
/// A loop with fewer units is shared at once: who calls a loop for so few, expects each to be long, and to wait for the
/// first one would cost too much.
const FEW: usize = 64;

/// The size of blocks, and whether the loop is worth sharing.
#[derive(Clone, Copy)]
pub struct Pace {
    block: usize,
    least: usize,
    shares: bool,
    began: Instant,
    since: Instant,
}

impl Pace {
    /// A loop begins, with the smallest blocks.
    pub fn new(units: usize, least: usize) -> Self {
        let now = Instant::now();
        Self {
            block: least,
            least,
            shares: units < FEW,
            began: now,
            since: now,
        }
    }

    /// How many units the next block has.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Whether the loop is worth sharing: it has taken some time already.
    pub fn shares(&self) -> bool {
        self.shares
    }

    /// For a part of the loop that begins now.
    pub fn split_off(self) -> Self {
        Self {
            since: Instant::now(),
            ..self
        }
    }

    /// A block is done.
    pub fn note(&mut self) {
        let now = Instant::now();
        let took = now - self.since;
        self.since = now;
        self.shares = self.shares || now - self.began >= WORTH_SHARING;
        if took < SHORT {
            self.block = self.block.saturating_mul(2);
        } else if took > LONG {
            self.block = (self.block / 2).max(self.least);
        }
    }
}
