//! `rptest`: groups of random sizes replaced in steps, every other group freed by a neighbour.

use super::{ANY_THREADS, About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::handover::{Batch, Mailbox};
use crate::harness::{Outcome, Stop, random_for, run_threads};
use crate::options::Params;

/// Groups that may wait for one thread.
const MAILBOX_BATCHES: usize = 8;
/// The step through the slots; a prime, so that it visits all of them whatever their number (unless a multiple of it).
const STRIDE: usize = 7_919;

/// The workload.
#[derive(Debug)]
pub struct Rptest;

impl Workload for Rptest {
    fn about(&self) -> About {
        About {
            name: "rptest",
            summary: "groups of 8 to 16,000 bytes are replaced, every other group is freed by a neighbour",
            operation: "one block allocated and freed",
            threads: ANY_THREADS,
            defaults: Params {
                min: 8,
                max: 16_000,
                blocks: 1_000,
                batch: 100,
                rounds: 500,
                ..Params::BASE
            },
            options: &["min", "max", "blocks", "batch", "rounds", "seed"],
        }
    }

    fn check(&self, params: &Params) -> Result<(), String> {
        if params.batch > params.blocks {
            return Err("The batch of rptest must not exceed its blocks.".to_owned());
        }
        Ok(())
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let mailboxes: Vec<Mailbox> = (0..params.threads)
            .map(|_| Mailbox::new(MAILBOX_BATCHES, params.batch))
            .collect();
        let prepare = |number: usize| Table {
            params,
            own: &mailboxes[number],
            next: &mailboxes[(number + 1) % params.threads],
            random: random_for(params.seed, number),
            slots: (0..params.blocks).map(|_| None).collect(),
            position: number,
            group: Batch::with_capacity(params.batch),
            ops: 0,
        };
        run_threads(params.threads, params.seconds, prepare, Table::work)
    }
}

/// One thread's blocks.
struct Table<'a> {
    params: &'a Params,
    own: &'a Mailbox,
    next: &'a Mailbox,
    random: fastrand::Rng,
    slots: Box<[Option<Block>]>,
    position: usize,
    /// Blocks made for the neighbour; empty in between.
    group: Batch,
    /// Blocks that this thread freed, its own and others'.
    ops: u64,
}

impl Table<'_> {
    fn work(&mut self, stop: &Stop) -> u64 {
        while !stop.reached() {
            for round in 0..self.params.rounds {
                self.replace_group();
                if round % 2 == 1 {
                    self.exchange_groups();
                }
                if stop.reached() {
                    return self.ops;
                }
            }
            self.free_everything();
        }
        self.ops
    }

    /// Small sizes are likelier, falling off linearly: the smaller of two equally distributed numbers.
    fn block(&mut self) -> Block {
        let span = (self.params.max - self.params.min) as u32 + 1;
        let (one, other) = (self.random.u32(..span), self.random.u32(..span));
        Block::new(self.params.min + one.min(other) as usize)
    }

    fn replace_group(&mut self) {
        let first = self.position;
        for step in 0..self.params.batch {
            let slot = (first + step * STRIDE) % self.slots.len();
            self.ops += u64::from(self.slots[slot].take().is_some());
        }
        for step in 0..self.params.batch {
            let slot = (first + step * STRIDE) % self.slots.len();
            let block = self.block();
            // Strides that coincide (a number of slots that STRIDE divides) meet a block just made.
            self.ops += u64::from(self.slots[slot].replace(block).is_some());
        }
        self.position = (first + self.params.batch * STRIDE) % self.slots.len();
    }

    fn exchange_groups(&mut self) {
        for _ in 0..self.params.batch {
            let block = self.block();
            self.group.push(block);
        }
        if !self.next.give(&mut self.group) {
            // The neighbour is behind; what it doesn't take is ours to free.
            self.ops += self.group.len() as u64;
            self.group.clear();
        }
        while self.own.take(&mut self.group) {
            self.ops += self.group.len() as u64;
            self.group.clear();
        }
    }

    fn free_everything(&mut self) {
        for slot in &mut self.slots {
            self.ops += u64::from(slot.take().is_some());
        }
    }
}
