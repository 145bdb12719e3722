//! `alloc-test`: random slots of a working set are filled and emptied; sizes follow a Pareto distribution.

use super::{ANY_THREADS, About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::harness::{Outcome, Stop, random_for, run_threads};
use crate::options::Params;

/// What a block's bytes hold besides its stamps.
const FILLING: u8 = 0xa1;

/// The workload.
#[derive(Debug)]
pub struct AllocTest;

impl Workload for AllocTest {
    fn about(&self) -> About {
        About {
            name: "alloc-test",
            summary: "random slots of a working set are filled and emptied, sizes up to 1 KiB",
            operation: "one block allocated, or one read and freed",
            threads: ANY_THREADS,
            defaults: Params {
                min: 16,
                max: 1_024,
                blocks: 32_768,
                ..Params::BASE
            },
            options: &["min", "max", "blocks", "seed"],
        }
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let prepare = |number| {
            let mut random = random_for(params.seed, number);
            let slots = (0..params.blocks)
                .map(|_| {
                    random
                        .bool()
                        .then(|| Block::new_filled(pareto_size(params, &mut random), FILLING))
                })
                .collect();
            WorkingSet {
                params,
                random,
                slots,
            }
        };
        run_threads(params.threads, params.seconds, prepare, WorkingSet::work)
    }
}

/// Half of the blocks are below twice the smallest size, half of the rest below four times, and so on.
fn pareto_size(params: &Params, random: &mut fastrand::Rng) -> usize {
    let size = (params.min << 16) / (usize::from(random.u16(..)) + 1);
    size.min(params.max)
}

struct WorkingSet<'a> {
    params: &'a Params,
    random: fastrand::Rng,
    slots: Box<[Option<Block>]>,
}

impl WorkingSet<'_> {
    fn work(&mut self, stop: &Stop) -> u64 {
        let count = self.slots.len() as u32;
        let mut ops = 0;
        while !stop.reached() {
            let slot = &mut self.slots[self.random.u32(..count) as usize];
            match slot.take() {
                Some(block) => block.check_filled(FILLING),
                None => {
                    *slot = Some(Block::new_filled(
                        pareto_size(self.params, &mut self.random),
                        FILLING,
                    ))
                }
            }
            ops += 1;
        }
        ops
    }
}
