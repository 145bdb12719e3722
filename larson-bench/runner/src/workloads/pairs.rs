//! `pairs-ORDER-SIZE`: one thread, one size: what an allocation with its free costs by itself, in each order that
//! matters. The instruction counts of Millpond's tests are those of the same loops.

use super::{About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::harness::{Outcome, Stop, random_for, run_threads};
use crate::options::Params;

/// Blocks that are allocated before they are freed, except for those freed at once.
const BATCH: usize = 1_000;

/// Which blocks are freed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Each at once, before the next is allocated.
    AtOnce,
    /// The last allocated first.
    Lifo,
    /// The first allocated first.
    Fifo,
    /// A shuffle, the same in every round.
    Random,
}

/// One of the workloads.
#[derive(Debug)]
pub struct Pairs {
    name: &'static str,
    order: Order,
    size: usize,
}

macro_rules! pairs {
    ($($label:literal $order:ident),*; $sizes:tt) => {
        pairs! { each [$($label $order),*] $sizes [] }
    };
    (each [] $sizes:tt [$($done:tt)*]) => {
        &[$($done)*]
    };
    (each [$label:literal $order:ident $(, $labels:literal $orders:ident)*] [$($size:literal),*] [$($done:tt)*]) => {
        pairs! { each [$($labels $orders),*] [$($size),*] [$($done)* $(
            Pairs { name: concat!("pairs-", $label, "-", $size), order: Order::$order, size: $size },
        )*] }
    };
}

/// All of them.
pub static PAIRS: &[Pairs] = pairs!(
    "at-once" AtOnce, "lifo" Lifo, "fifo" Fifo, "random" Random;
    [16, 64, 256, 1024, 8192, 32768]
);

impl Workload for Pairs {
    fn about(&self) -> About {
        About {
            name: self.name,
            summary: "one thread allocates blocks of one size and frees them",
            operation: "one block allocated and freed",
            threads: 1..=1,
            defaults: Params {
                threads: 1,
                seconds: 0.3,
                ..Params::BASE
            },
            options: &["seed"],
        }
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let mut order: Vec<usize> = (0..BATCH).collect();
        match self.order {
            Order::AtOnce | Order::Fifo => {}
            Order::Lifo => order.reverse(),
            Order::Random => random_for(params.seed, 0).shuffle(&mut order),
        }
        let prepare = |_| Vec::with_capacity(BATCH);
        let work = |blocks: &mut Vec<Option<Block>>, stop: &Stop| {
            let mut ops = 0;
            while !stop.reached() {
                if self.order == Order::AtOnce {
                    for _ in 0..BATCH {
                        drop(Block::new(self.size));
                    }
                } else {
                    blocks.extend((0..BATCH).map(|_| Some(Block::new(self.size))));
                    for &index in &order {
                        drop(blocks[index].take());
                    }
                    blocks.clear();
                }
                ops += BATCH as u64;
            }
            ops
        };
        run_threads(params.threads, params.seconds, prepare, work)
    }
}
