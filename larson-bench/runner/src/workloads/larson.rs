//! `larson` and `larson-small`: a server whose threads come and go, each handing its memory to the next.
//!
//! A *lane* is an array of blocks with the thread that currently works on it. The thread replaces random blocks;
//! after `blocks x rounds` replacements it starts its own successor, gives it the lane and ends, so that the
//! successor already works while its predecessor's exit is still running. Most frees thus hit blocks of threads that
//! are gone or going.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::{ANY_THREADS, About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::fail;
use crate::harness::{Outcome, Stop, Stopwatch, random_for};
use crate::options::{Params, SizeRange};

/// Both variants differ in their defaults only.
#[derive(Debug)]
pub struct Larson {
    name: &'static str,
    summary: &'static str,
    defaults: Params,
}

/// The classic run: 2 to 32 KiB.
pub static LARSON: Larson = Larson {
    name: "larson",
    summary: "server threads replace random blocks of 2 to 32 KiB and hand them to their successors",
    defaults: Params {
        seconds: 2.0,
        min: 2_048,
        max: 32_768,
        blocks: 10_000,
        rounds: 1,
        ..Params::BASE
    },
};

/// The same with small blocks and longer lives.
pub static LARSON_SMALL: Larson = Larson {
    name: "larson-small",
    summary: "larson with blocks of 8 to 1,000 bytes and longer-lived threads",
    defaults: Params {
        seconds: 2.0,
        min: 8,
        max: 1_000,
        blocks: 5_000,
        rounds: 100,
        ..Params::BASE
    },
};

impl Workload for Larson {
    fn about(&self) -> About {
        About {
            name: self.name,
            summary: self.summary,
            operation: "one block freed and one allocated in its place",
            threads: ANY_THREADS,
            defaults: self.defaults.clone(),
            options: &["min", "max", "blocks", "rounds", "seed"],
        }
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let lanes = warm_up(params);
        let run = Arc::new(Run {
            stop: Stop::default(),
            replacements: params.blocks as u64 * params.rounds,
            finished: Mutex::new(Vec::with_capacity(params.threads)),
            lane_finished: Condvar::new(),
        });
        let stopwatch = Stopwatch::start();
        for lane in lanes {
            start_thread(Arc::clone(&run), lane);
        }
        run.stop.announce_after(params.seconds);
        let finished = run.wait_for_lanes(params.threads);
        let ops = finished.iter().map(|lane| lane.ops).sum();
        let outcome = stopwatch.stop(ops);
        let generations: u64 = finished.iter().map(|lane| lane.generations).sum();
        drop(finished);
        outcome.with("threads_started", generations)
    }
}

/// What all threads of a run share.
struct Run {
    stop: Stop,
    /// How many replacements a thread lives for.
    replacements: u64,
    finished: Mutex<Vec<Lane>>,
    lane_finished: Condvar,
}

impl Run {
    fn wait_for_lanes(&self, count: usize) -> Vec<Lane> {
        let finished = self.finished.lock().expect("a panic ends the process");
        let mut finished = self
            .lane_finished
            .wait_while(finished, |finished| finished.len() < count)
            .expect("a panic ends the process");
        std::mem::take(&mut *finished)
    }

    fn finish(&self, lane: Lane) {
        self.finished
            .lock()
            .expect("a panic ends the process")
            .push(lane);
        self.lane_finished.notify_one();
    }
}

/// What a thread hands to its successor.
struct Lane {
    blocks: Box<[Option<Block>]>,
    sizes: SizeRange,
    random: fastrand::Rng,
    ops: u64,
    generations: u64,
}

impl Lane {
    /// Frees a random block and allocates one of a random size in its place, until the thread's life or time is up.
    fn replace_blocks(&mut self, run: &Run) {
        self.generations += 1;
        let count = self.blocks.len() as u32;
        let mut done = 0;
        while done < run.replacements && !run.stop.reached() {
            let slot = &mut self.blocks[self.random.u32(..count) as usize];
            let size = self.sizes.pick(&mut self.random);
            // In two steps: a plain assignment would allocate before it frees.
            drop(slot.take());
            *slot = Some(Block::new(size));
            done += 1;
        }
        self.ops += done;
    }
}

/// Detached on purpose: nobody waits for a thread that has handed its lane on.
fn start_thread(run: Arc<Run>, lane: Lane) {
    let life = move || {
        let mut lane = lane;
        lane.replace_blocks(&run);
        if run.stop.reached() {
            run.finish(lane);
        } else {
            start_thread(run, lane);
        }
    };
    if let Err(error) = thread::Builder::new().spawn(life) {
        fail::out_of_resources(&format!("larson could not start a thread: {error}"));
    }
}

/// Fills all lanes from the main thread, so that the first generation starts with blocks of another thread, in an
/// order that doesn't follow their addresses, with the holes that random replacement leaves.
fn warm_up(params: &Params) -> Vec<Lane> {
    let sizes = SizeRange::of(params);
    let mut lanes: Vec<Lane> = (0..params.threads)
        .map(|number| {
            let mut random = random_for(params.seed, number);
            let blocks = (0..params.blocks)
                .map(|_| Some(Block::new(sizes.pick(&mut random))))
                .collect();
            Lane {
                blocks,
                sizes,
                random,
                ops: 0,
                generations: 0,
            }
        })
        .collect();
    for lane in &mut lanes {
        let Lane { blocks, random, .. } = lane;
        random.shuffle(blocks);
        for _ in 0..params.blocks {
            let slot = &mut blocks[random.usize(..params.blocks)];
            drop(slot.take());
            *slot = Some(Block::new(sizes.pick(random)));
        }
    }
    lanes
}
