//! `sh6bench`: batches of many small sizes, freed in changing orders by the thread that made them.
//!
//! A third of each batch outlives it and is freed in the middle of the next, so that free memory is never in one piece.

use super::{ANY_THREADS, About, Workload, ladder};
use crate::command::Hooks;
use crate::handover::Batch;
use crate::harness::{Outcome, Stop, run_threads};
use crate::options::Params;

/// The workload.
#[derive(Debug)]
pub struct Sh6bench;

impl Workload for Sh6bench {
    fn about(&self) -> About {
        About {
            name: "sh6bench",
            summary: "each thread fills batches of 1 to 1,000 bytes and frees them in three orders",
            operation: "one block allocated and freed",
            threads: ANY_THREADS,
            defaults: Params {
                min: 1,
                max: 1_000,
                ..Params::BASE
            },
            options: &["min", "max"],
        }
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        run_threads(
            params.threads,
            params.seconds,
            |_| Batches::new(params),
            Batches::work,
        )
    }
}

struct Batches {
    sizes: Box<[u32]>,
    current: Batch,
    /// What outlived the batch before.
    survivors: Batch,
}

impl Batches {
    fn new(params: &Params) -> Self {
        let sizes = ladder::sizes(params);
        let room = sizes.len();
        Self {
            sizes,
            current: Batch::with_capacity(room),
            survivors: Batch::with_capacity(room),
        }
    }

    fn work(&mut self, stop: &Stop) -> u64 {
        let mut ops = 0;
        let mut turn = 0;
        while !stop.reached() {
            let (lower, upper) = self.sizes.split_at(self.sizes.len() / 2);
            ladder::fill(&mut self.current, lower, turn % 2 == 1);
            ops += ladder::free_in_turn(&mut self.survivors, turn + 1);
            ladder::fill(&mut self.current, upper, turn % 2 == 1);
            // Every third block, taken from all over the batch, stays for the next turn.
            let mut next = 0;
            while next < self.current.len() {
                self.survivors.push(self.current.swap_remove(next));
                next += 2;
            }
            ops += ladder::free_in_turn(&mut self.current, turn);
            turn += 1;
        }
        ops
    }
}
