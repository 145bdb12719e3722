//! `pipeline`: producers allocate, one consumer only frees, and a bounded number of objects is in flight.
//!
//! However long it runs, the live memory stays bounded; an allocator whose memory doesn't has lost sight of what the
//! consumer gave back. The consumer starts once as many are in flight as may be: who is quicker then decides how many are
//! later, but the peak to hold is the same for every allocator. Extra figures say how much was live at most.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::fail;
use crate::handover::{Batch, BatchQueue};
use crate::harness::{Outcome, Stop, random_for, run_threads_then};
use crate::options::{Params, SizeRange};

/// The workload.
#[derive(Debug)]
pub struct Pipeline;

impl Workload for Pipeline {
    fn about(&self) -> About {
        About {
            name: "pipeline",
            summary: "all threads but one allocate, one only frees once 100,000 objects are in flight, the most there are",
            operation: "one object allocated by a producer and freed by the consumer",
            threads: 2..=1_024,
            defaults: Params {
                min: 16,
                max: 512,
                blocks: 100_000,
                batch: 250,
                ..Params::BASE
            },
            options: &["min", "max", "blocks", "batch", "seed"],
        }
    }

    fn check(&self, params: &Params) -> Result<(), String> {
        if params.blocks / params.batch < params.threads {
            return Err("pipeline needs room in flight for a batch per thread: more blocks or smaller batches.".into());
        }
        Ok(())
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        // All vectors together hold what may be in flight, those in the threads' hands included.
        let queue = BatchQueue::new(
            params.blocks / params.batch,
            params.batch,
            params.threads - 1,
        );
        let live = Live::default();
        let prepare =
            |number| (number + 1 < params.threads).then(|| random_for(params.seed, number));
        let work = |random: &mut Option<fastrand::Rng>, stop: &Stop| match random {
            Some(random) => produce(&queue, &live, params, random, stop),
            None => {
                queue.wait_until_full();
                consume(&queue, &live)
            }
        };
        let outcome = run_threads_then(params.threads, params.seconds, prepare, work, |_| {
            queue.close()
        });
        // Relaxed, here and in Live: counters that are read after the threads are joined.
        if live.objects.load(Relaxed) != 0 || live.bytes.load(Relaxed) != 0 {
            fail::corrupted("pipeline lost an object on the way");
        }
        outcome
            .with("live_max_bytes", live.max_bytes.load(Relaxed))
            .with("in_flight_max_objects", live.max_objects.load(Relaxed))
    }
}

/// What is in flight, counted batch by batch.
#[derive(Default)]
struct Live {
    bytes: AtomicU64,
    max_bytes: AtomicU64,
    objects: AtomicU64,
    max_objects: AtomicU64,
}

impl Live {
    fn add(&self, batch: &Batch) {
        let bytes = bytes_in(batch);
        let objects = batch.len() as u64;
        self.max_bytes
            .fetch_max(self.bytes.fetch_add(bytes, Relaxed) + bytes, Relaxed);
        self.max_objects
            .fetch_max(self.objects.fetch_add(objects, Relaxed) + objects, Relaxed);
    }

    fn subtract(&self, bytes: u64, objects: u64) {
        self.bytes.fetch_sub(bytes, Relaxed);
        self.objects.fetch_sub(objects, Relaxed);
    }
}

fn bytes_in(batch: &Batch) -> u64 {
    batch.iter().map(|block| block.size() as u64).sum()
}

fn produce(
    queue: &BatchQueue,
    live: &Live,
    params: &Params,
    random: &mut fastrand::Rng,
    stop: &Stop,
) -> u64 {
    let sizes = SizeRange::of(params);
    while !stop.reached() {
        let Some(mut batch) = queue.take_empty() else {
            break;
        };
        batch.extend((0..params.batch).map(|_| Block::new(sizes.pick(random))));
        live.add(&batch);
        queue.put_full(batch);
    }
    queue.producer_leaves();
    0
}

fn consume(queue: &BatchQueue, live: &Live) -> u64 {
    let mut freed = 0;
    while let Some(mut batch) = queue.take_full() {
        let (bytes, objects) = (bytes_in(&batch), batch.len() as u64);
        batch.clear();
        live.subtract(bytes, objects);
        freed += objects;
        queue.put_empty(batch);
    }
    freed
}
