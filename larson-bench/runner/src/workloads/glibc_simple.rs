//! `glibc-simple`: one thread, one size at a time: some blocks allocated, then freed in the same order.

use super::{About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::harness::{Outcome, Stop, run_threads};
use crate::options::Params;

/// How many blocks are alive at most, in turn: from what fits any cache of an allocator to what fits none.
const COUNTS: [usize; 4] = [25, 100, 400, 1_600];

/// The workload.
#[derive(Debug)]
pub struct GlibcSimple;

impl Workload for GlibcSimple {
    fn about(&self) -> About {
        About {
            name: "glibc-simple",
            summary: "one thread allocates 25 to 1,600 blocks of one size and frees them in the same order",
            operation: "one block allocated and freed",
            threads: 1..=1,
            defaults: Params {
                threads: 1,
                min: 16,
                max: 1_024,
                ..Params::BASE
            },
            options: &["min", "max"],
        }
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let sizes: Vec<usize> = std::iter::successors(Some(params.min), |size| Some(size * 2))
            .take_while(|size| *size <= params.max)
            .collect();
        let prepare = |_| Vec::with_capacity(COUNTS[COUNTS.len() - 1]);
        let work = |blocks: &mut Vec<Block>, stop: &Stop| {
            let mut ops = 0;
            while !stop.reached() {
                for size in &sizes {
                    for count in COUNTS {
                        ops += allocate_and_free(blocks, *size, count);
                    }
                }
            }
            ops
        };
        run_threads(params.threads, params.seconds, prepare, work)
    }
}

/// As many passes as it takes for every count to have the same share of the operations.
fn allocate_and_free(blocks: &mut Vec<Block>, size: usize, count: usize) -> u64 {
    let passes = COUNTS[COUNTS.len() - 1] / count;
    for _ in 0..passes {
        blocks.extend((0..count).map(|_| Block::new(size)));
        blocks.clear();
    }
    (passes * count) as u64
}
