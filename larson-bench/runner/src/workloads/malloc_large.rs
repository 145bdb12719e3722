//! `malloc-large`: a few buffers of 5 to 25 MB, replaced at random, every byte of each written once.
//!
//! The program that this answers to value-initialises its buffers, which zeroes every byte, and makes the new buffer
//! before it lets go of the old one. Both are kept: page faults, and memory that is not yet free when more is wanted,
//! are what this is about.

use super::{ANY_THREADS, About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::harness::{Outcome, Stop, random_for, run_threads};
use crate::options::{Params, SizeRange};

/// The workload.
#[derive(Debug)]
pub struct MallocLarge;

impl Workload for MallocLarge {
    fn about(&self) -> About {
        About {
            name: "malloc-large",
            summary: "20 buffers of 5 to 25 MB are replaced at random, every byte written",
            operation: "one buffer allocated, zeroed and put in the place of another, which is freed",
            threads: ANY_THREADS,
            defaults: Params {
                threads: 1,
                seconds: 2.0,
                min: 5 << 20,
                max: 25 << 20,
                blocks: 20,
                ..Params::BASE
            },
            options: &["min", "max", "blocks", "seed"],
        }
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let sizes = SizeRange::of(params);
        let prepare = |number| {
            let buffers: Box<[Option<Block>]> = (0..params.blocks).map(|_| None).collect();
            (buffers, random_for(params.seed, number))
        };
        let work = |(buffers, random): &mut (Box<[Option<Block>]>, fastrand::Rng), stop: &Stop| {
            let mut ops = 0;
            while !stop.reached() {
                let slot = random.usize(..buffers.len());
                // The assignment frees the old buffer after the new one is there.
                buffers[slot] = Some(Block::new_filled(sizes.pick(random), 0));
                ops += 1;
            }
            ops
        };
        run_threads(params.threads, params.seconds, prepare, work)
    }
}
