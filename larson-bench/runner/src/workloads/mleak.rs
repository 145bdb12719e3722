//! `mleak`: many short threads, each of which leaves some of its blocks behind.
//!
//! An allocator that loses a little with each thread shows it here: extra figures give the resident memory early and
//! late in the run.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use super::{ANY_THREADS, About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::fail;
use crate::harness::{Outcome, Stop, random_for, run_threads};
use crate::options::{Params, SizeRange};
use crate::process;

/// Lives after which the early reading is taken.
const EARLY_LIVES: u64 = 500;

/// The workload.
#[derive(Debug)]
pub struct Mleak;

impl Workload for Mleak {
    fn about(&self) -> About {
        About {
            name: "mleak",
            summary: "many short threads, each leaving half of its blocks to the thread that started it",
            operation: "one thread's life, with all its blocks allocated and freed",
            threads: ANY_THREADS,
            defaults: Params {
                min: 16,
                max: 1_024,
                blocks: 100,
                ..Params::BASE
            },
            options: &["min", "max", "blocks", "seed"],
        }
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let early = AtomicU64::new(0);
        let work = |random: &mut fastrand::Rng, stop: &Stop| {
            let mut lives = 0;
            while !stop.reached() {
                let left = live_and_die(params, random.fork());
                drop(left);
                lives += 1;
                if lives == EARLY_LIVES {
                    // Relaxed: read after all threads are joined; any thread's reading will do.
                    early.store(process::resident_bytes(), Relaxed);
                }
            }
            lives
        };
        let prepare = |number| random_for(params.seed, number);
        let outcome = run_threads(params.threads, params.seconds, prepare, work);
        // Relaxed: the threads are joined. Zero means that the run was too short for an early reading.
        outcome
            .with("resident_early_bytes", early.load(Relaxed))
            .with("resident_late_bytes", process::resident_bytes())
    }
}

/// Starts a thread that allocates all its blocks and frees every other one, newest first; returns the others.
fn live_and_die(params: &Params, mut random: fastrand::Rng) -> Vec<Option<Block>> {
    let sizes = SizeRange::of(params);
    let count = params.blocks;
    let life = move || {
        let mut blocks: Vec<Option<Block>> = (0..count)
            .map(|_| Some(Block::new(sizes.pick(&mut random))))
            .collect();
        for slot in blocks.iter_mut().rev().step_by(2) {
            drop(slot.take());
        }
        blocks
    };
    match thread::Builder::new().spawn(life) {
        Ok(thread) => thread.join().expect("a panic ends the process"),
        Err(error) => fail::out_of_resources(&format!("mleak could not start a thread: {error}")),
    }
}
