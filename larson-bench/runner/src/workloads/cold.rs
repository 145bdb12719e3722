//! `cold`: blocks replaced in random order, spread over twice the last-level cache.
//!
//! Nothing that is touched is in a cache: not the block, not its neighbours, not what the allocator keeps about it.
//! What counts is how many lines the allocator has to load to free one block and find another.

use super::{ANY_THREADS, About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::harness::{Outcome, Stop, random_for, run_threads};
use crate::options::{Params, SizeRange};
use crate::process;

/// The workload.
#[derive(Debug)]
pub struct Cold;

impl Workload for Cold {
    fn about(&self) -> About {
        About {
            name: "cold",
            summary: "blocks are replaced in random order, spread over twice the last-level cache",
            operation: "one block freed and one allocated in its place",
            threads: ANY_THREADS,
            defaults: Params {
                min: 16,
                max: 1_024,
                bytes: 0,
                ..Params::BASE
            },
            options: &["min", "max", "bytes", "seed"],
        }
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let bytes = if params.bytes > 0 {
            params.bytes
        } else {
            2 * process::last_level_cache_bytes()
        };
        let average = (params.min + params.max) as u64 / 2;
        let blocks = (bytes / params.threads as u64 / average.max(1)).clamp(1, u64::from(u32::MAX));
        let sizes = SizeRange::of(params);
        let prepare = |number| {
            let mut random = random_for(params.seed, number);
            let mut slots: Box<[Block]> = (0..blocks)
                .map(|_| Block::new(sizes.pick(&mut random)))
                .collect();
            random.shuffle(&mut slots);
            let slots: Box<[Option<Block>]> = slots.into_iter().map(Some).collect();
            (slots, random)
        };
        let work = |(slots, random): &mut (Box<[Option<Block>]>, fastrand::Rng), stop: &Stop| {
            let mut ops = 0;
            while !stop.reached() {
                let slot = &mut slots[random.u32(..blocks as u32) as usize];
                drop(slot.take());
                *slot = Some(Block::new(sizes.pick(random)));
                ops += 1;
            }
            ops
        };
        run_threads(params.threads, params.seconds, prepare, work).with("working_set_bytes", bytes)
    }
}
