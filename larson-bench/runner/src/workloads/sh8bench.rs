//! `sh8bench`: the batches of `sh6bench`, each freed by another thread than the one that made it.
//!
//! The threads stand in a ring. Each fills a batch, leaves it in the next thread's mailbox and frees one that lies in its
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
        let prepare = |number: usize| Station::new(&sizes, &mailboxes, number);
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

impl<'a> Station<'a> {
    /// The place of this number in a ring of as many as there are mailboxes.
    fn new(sizes: &'a [u32], mailboxes: &'a [Mailbox], number: usize) -> Self {
        Self {
            sizes,
            own: &mailboxes[number],
            next: &mailboxes[(number + 1) % mailboxes.len()],
            made: Batch::with_capacity(sizes.len()),
            received: Batch::with_capacity(sizes.len()),
            turn: number as u64,
            ops: 0,
        }
    }

    fn work(&mut self, stop: &Stop) -> u64 {
        while !stop.reached() && self.make_and_free(|| stop.reached()) {}
        self.ops
    }

    /// Makes a batch and frees one, if there is one. One for one: a thread that emptied its mailbox would never make another
    /// batch as long as the one before it makes them faster than it can free them. False if there was no room until the end.
    fn make_and_free(&mut self, is_over: impl Fn() -> bool) -> bool {
        ladder::fill(&mut self.made, self.sizes, self.turn % 2 == 1);
        // Emptying the own mailbox while waiting for room keeps the ring from blocking itself.
        while !self.next.give(&mut self.made) {
            if is_over() {
                return false;
            }
            if !self.free_a_batch() {
                std::thread::yield_now();
            }
        }
        self.free_a_batch();
        true
    }

    fn free_a_batch(&mut self) -> bool {
        let any = self.own.take(&mut self.received);
        if any {
            self.ops += ladder::free_in_turn(&mut self.received, self.turn);
            self.turn += 1;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_much_to_free_makes_as_much_as_it_frees() {
        let sizes = ladder::sizes(&Params {
            min: 1,
            max: 100,
            ..Params::BASE
        });
        let mailboxes = [(); 2].map(|()| Mailbox::new(MAILBOX_BATCHES, sizes.len()));
        let station = |number| Station::new(&sizes, &mailboxes, number);
        let (mut busy, mut slow) = (station(0), station(1));
        for _ in 0..3 {
            assert!(busy.make_and_free(|| false));
        }
        assert_eq!(busy.ops, 0);
        for freed in 1..=3 {
            assert!(slow.make_and_free(|| false));
            assert_eq!(slow.ops, freed * sizes.len() as u64);
        }
        for freed in 1..=3 {
            assert!(busy.free_a_batch());
            assert_eq!(busy.ops, freed * sizes.len() as u64);
        }
        assert!(!busy.free_a_batch() && !slow.free_a_batch());
    }

    #[test]
    fn nobody_waits_for_room_beyond_the_end() {
        let sizes = [8; 10];
        let mailboxes = [(); 2].map(|()| Mailbox::new(1, sizes.len()));
        let mut alone = Station::new(&sizes, &mailboxes, 0);
        assert!(alone.make_and_free(|| false));
        assert!(!alone.make_and_free(|| true));
    }
}
