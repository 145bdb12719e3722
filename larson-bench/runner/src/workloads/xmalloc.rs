//! `xmalloc`: half of the threads allocate batches, the other half free them.
//!
//! No thread ever frees a block of its own, and none that frees ever allocates; what an allocator does about memory
//! that flows one way is all that counts here.

use super::{About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::fail;
use crate::handover::BatchQueue;
use crate::harness::{Outcome, Stop, random_for, run_threads_then};
use crate::options::{Params, SizeRange};

/// Batches in flight per thread.
const BATCHES_PER_THREAD: usize = 4;

/// The workload.
#[derive(Debug)]
pub struct Xmalloc;

impl Workload for Xmalloc {
    fn about(&self) -> About {
        About {
            name: "xmalloc",
            summary: "half of the threads allocate batches of 64-byte blocks, the other half free them",
            operation: "one block allocated by one thread and freed by another",
            threads: 2..=1_024,
            defaults: Params {
                min: 64,
                max: 64,
                batch: 4_096,
                ..Params::BASE
            },
            options: &["min", "max", "batch", "seed"],
        }
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let producers = params.threads / 2;
        let queue = BatchQueue::new(BATCHES_PER_THREAD * params.threads, params.batch, producers);
        let prepare = |number| match number < producers {
            true => Role::Allocate(SizeRange::of(params), random_for(params.seed, number)),
            false => Role::Free,
        };
        let work = |role: &mut Role, stop: &Stop| match role {
            Role::Allocate(sizes, random) => allocate(&queue, *sizes, random, params.batch, stop),
            Role::Free => free(&queue, params.batch),
        };
        let outcome = run_threads_then(params.threads, params.seconds, prepare, work, |_| {
            queue.close()
        });
        // Producers count nothing, so the sum is what was freed; every batch is full, and so must the sum be.
        if outcome.ops % params.batch as u64 != 0 {
            fail::corrupted("xmalloc lost a block on the way");
        }
        outcome
    }
}

enum Role {
    Allocate(SizeRange, fastrand::Rng),
    Free,
}

fn allocate(
    queue: &BatchQueue,
    sizes: SizeRange,
    random: &mut fastrand::Rng,
    count: usize,
    stop: &Stop,
) -> u64 {
    while !stop.reached() {
        let Some(mut batch) = queue.take_empty() else {
            break;
        };
        batch.extend((0..count).map(|_| Block::new(sizes.pick(random))));
        queue.put_full(batch);
    }
    queue.producer_leaves();
    0
}

fn free(queue: &BatchQueue, count: usize) -> u64 {
    let mut freed = 0;
    while let Some(mut batch) = queue.take_full() {
        if batch.len() != count {
            fail::corrupted("a batch of xmalloc changed its length on the way");
        }
        batch.clear();
        freed += count as u64;
        queue.put_empty(batch);
    }
    freed
}
