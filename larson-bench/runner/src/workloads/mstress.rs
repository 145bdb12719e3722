//! `mstress`: generations of threads with lives of different length, that keep, drop and swap blocks of all sizes.
//!
//! All threads of a generation share a table of transfer slots. A thread leaves blocks there and takes others away,
//! so blocks outlive the threads that made them and are freed by others, often in a later generation.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use super::{ANY_THREADS, About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::harness::{Outcome, Stopwatch, random_for};
use crate::options::Params;

/// Slots through which the threads exchange blocks.
const TRANSFER_SLOTS: usize = 1_000;
/// What a block's bytes hold besides its stamps.
const FILLING: u8 = 0x6d;

/// The workload.
#[derive(Debug)]
pub struct Mstress;

impl Workload for Mstress {
    fn about(&self) -> About {
        About {
            name: "mstress",
            summary: "generations of threads keep, drop and swap blocks of 8 bytes to 1.28 MB",
            operation: "one block allocated and, by whichever thread, freed",
            threads: ANY_THREADS,
            defaults: Params {
                min: 8,
                max: 1_280_000,
                blocks: 10_000,
                ..Params::BASE
            },
            options: &["min", "max", "blocks", "seed"],
        }
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let transfer: Vec<Slot> = (0..TRANSFER_SLOTS).map(|_| Slot::default()).collect();
        let mut random = random_for(params.seed, 0);
        let mut generations = 0_u64;
        let ops = AtomicU64::new(0);
        let stopwatch = Stopwatch::start();
        while stopwatch.seconds() < params.seconds {
            generations += 1;
            thread::scope(|scope| {
                for _ in 0..params.threads {
                    let life = Life::new(params, random.fork(), &transfer);
                    // Relaxed: read after the scope has joined every thread.
                    scope.spawn(|| ops.fetch_add(life.live(), Relaxed));
                }
            });
            // Half of what was left behind goes between the generations.
            for slot in &transfer {
                if random.bool() {
                    free(slot.take());
                }
            }
        }
        // Relaxed: the threads are joined.
        let outcome = stopwatch.stop(ops.load(Relaxed));
        transfer.iter().for_each(|slot| free(slot.take()));
        outcome.with("generations", generations)
    }
}

/// A place where a block waits for another thread.
#[derive(Default)]
struct Slot(Mutex<Option<Block>>);

impl Slot {
    /// Exchanges contents.
    fn swap(&self, block: &mut Option<Block>) {
        std::mem::swap(
            &mut *self.0.lock().expect("a panic ends the process"),
            block,
        );
    }

    fn take(&self) -> Option<Block> {
        self.0.lock().expect("a panic ends the process").take()
    }
}

/// One thread's life.
struct Life<'a> {
    params: &'a Params,
    random: fastrand::Rng,
    transfer: &'a [Slot],
    steps: usize,
}

impl<'a> Life<'a> {
    /// Lives differ in length up to four times.
    fn new(params: &'a Params, mut random: fastrand::Rng, transfer: &'a [Slot]) -> Self {
        let steps = params.blocks * random.usize(1..=4);
        Self {
            params,
            random,
            transfer,
            steps,
        }
    }

    /// Returns the number of blocks made.
    fn live(mut self) -> u64 {
        // Both grow as they need to: reallocation is part of the workload.
        let mut current: Vec<Option<Block>> = Vec::new();
        let mut kept: Vec<Block> = Vec::new();
        for _ in 0..self.steps {
            let block = self.block();
            if self.random.u8(..4) == 0 {
                kept.push(block);
            } else {
                current.push(Some(block));
            }
            if current.is_empty() {
                continue;
            }
            if self.random.u8(..3) > 0 {
                let victim = self.random.usize(..current.len());
                free(current[victim].take());
            }
            if self.random.u8(..4) == 0 {
                let mine = self.random.usize(..current.len());
                let slot = self.random.usize(..self.transfer.len());
                self.transfer[slot].swap(&mut current[mine]);
            }
        }
        current.into_iter().for_each(free);
        kept.into_iter().map(Some).for_each(free);
        self.steps as u64
    }

    /// Powers of two from the smallest size to 16 times as much; one in 100 is 100 times larger, one in 1,000 1,000
    /// times, one in 10,000 10,000 times.
    fn block(&mut self) -> Block {
        let base = self.params.min << self.random.u8(..5);
        let factor = match self.random.u32(..10_000) {
            0 => 10_000,
            1..10 => 1_000,
            10..100 => 100,
            _ => 1,
        };
        Block::new_filled((base * factor).min(self.params.max), FILLING)
    }
}

fn free(block: Option<Block>) {
    if let Some(block) = block {
        block.check_filled(FILLING);
    }
}
