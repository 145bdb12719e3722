//! `glibc-thread`: each thread replaces random blocks of a small working set; small sizes are likelier.

use super::{ANY_THREADS, About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::harness::{Outcome, Stop, random_for, run_threads};
use crate::options::Params;

/// Sizes drawn in advance, so that drawing costs one load in the measured part.
const DRAWN_SIZES: usize = 8_192;

/// The workload.
#[derive(Debug)]
pub struct GlibcThread;

impl Workload for GlibcThread {
    fn about(&self) -> About {
        About {
            name: "glibc-thread",
            summary: "each thread replaces random blocks of a small set, 4 bytes to 32 KiB, small ones likelier",
            operation: "one block freed and one allocated in its place",
            threads: ANY_THREADS,
            defaults: Params {
                min: 4,
                max: 32_768,
                blocks: 1_024,
                ..Params::BASE
            },
            options: &["min", "max", "blocks", "seed"],
        }
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let prepare = |number| {
            let mut random = random_for(params.seed, number);
            let sizes: Box<[u32]> = (0..DRAWN_SIZES)
                .map(|_| draw_size(params, &mut random))
                .collect();
            let slots = (0..params.blocks).map(|_| None).collect();
            WorkingSet {
                random,
                sizes,
                slots,
            }
        };
        run_threads(params.threads, params.seconds, prepare, WorkingSet::work)
    }
}

/// A size's probability is inverse to it: as many blocks between 4 and 8 bytes as between 16 and 32 KiB.
fn draw_size(params: &Params, random: &mut fastrand::Rng) -> u32 {
    let ratio = params.max as f64 / params.min as f64;
    (params.min as f64 * ratio.powf(random.f64())) as u32
}

struct WorkingSet {
    random: fastrand::Rng,
    sizes: Box<[u32]>,
    slots: Box<[Option<Block>]>,
}

impl WorkingSet {
    fn work(&mut self, stop: &Stop) -> u64 {
        let count = self.slots.len() as u32;
        let mut ops = 0;
        while !stop.reached() {
            let slot = &mut self.slots[self.random.u32(..count) as usize];
            let size = self.sizes[ops as usize % DRAWN_SIZES] as usize;
            drop(slot.take());
            *slot = Some(Block::new(size));
            ops += 1;
        }
        ops
    }
}
