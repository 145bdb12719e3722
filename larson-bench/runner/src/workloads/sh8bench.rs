//! `sh8bench`: the batches of `sh6bench`, each freed by another thread than the one that made it.
//!
//! The threads stand in a ring. Each fills a batch, leaves it in the next thread's mailbox and frees what lies in its
//! own, so that all threads allocate and all free, and no block goes back to the thread that it came from.

use super::{About, Workload, ladder};
use crate::command::Hooks;
use crate::handover::{Batch, Mailbox};
use crate::harness::{Outcome, Stop, run_threads};
use crate::options::Params;

/// Batches that may wait for one thread.
const MAILBOX_BATCHES: usize = 4;

/// The workload.
#[derive(Debug)]
pub struct Sh8bench;

impl Workload for Sh8bench {
    fn about(&self) -> About {
        About {
            name: "sh8bench",
            summary: "the batches of sh6bench, each freed by the next thread in a ring",
            operation: "one block allocated by one thread and freed by another",
            threads: 2..=1_024,
            defaults: Params {
                min: 1,
                max: 1_000,
                ..Params::BASE
            },
            options: &["min", "max"],
        }
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let sizes = ladder::sizes(params);
        let mailboxes: Vec<Mailbox> = (0..params.threads)
            .map(|_| Mailbox::new(MAILBOX_BATCHES, sizes.len()))
            .collect();
        let prepare = |number: usize| Station {
            sizes: &sizes,
            own: &mailboxes[number],
            next: &mailboxes[(number + 1) % params.threads],
            made: Batch::with_capacity(sizes.len()),
            received: Batch::with_capacity(sizes.len()),
            turn: number as u64,
            ops: 0,
        };
        run_threads(params.threads, params.seconds, prepare, Station::work)
    }
}

/// One thread's place in the ring.
struct Station<'a> {
    sizes: &'a [u32],
    own: &'a Mailbox,
    next: &'a Mailbox,
    made: Batch,
    received: Batch,
    turn: u64,
    ops: u64,
}

impl Station<'_> {
    fn work(&mut self, stop: &Stop) -> u64 {
        while !stop.reached() {
            ladder::fill(&mut self.made, self.sizes, self.turn % 2 == 1);
            // Emptying the own mailbox while waiting for room keeps the ring from blocking itself.
            while !self.next.give(&mut self.made) {
                if stop.reached() {
                    return self.ops;
                }
                if !self.free_what_came() {
                    std::thread::yield_now();
                }
            }
            self.free_what_came();
        }
        self.ops
    }

    fn free_what_came(&mut self) -> bool {
        let mut any = false;
        while self.own.take(&mut self.received) {
            self.ops += ladder::free_in_turn(&mut self.received, self.turn);
            self.turn += 1;
            any = true;
        }
        any
    }
}
