//! `cache-scratch` and `cache-thrash`: does the allocator put two threads' objects on one cache line?
//!
//! Each thread allocates one small object, writes it many times and frees it, again and again. If objects of two
//! threads share a line, the writes slow each other down, many times over. `cache-thrash` starts from nothing:
//! it shows an allocator that serves several threads from one line. `cache-scratch` first gives each thread an object
//! that the main thread allocated next to the others'; each frees its own, and an allocator that hands that memory to
//! the thread that freed it goes on sharing lines.

use std::sync::Mutex;

use super::{ANY_THREADS, About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::harness::{Outcome, Stop, run_threads};
use crate::options::Params;

/// Both variants.
#[derive(Debug)]
pub struct Cache {
    name: &'static str,
    summary: &'static str,
    /// Whether the threads first free neighbouring objects of the main thread.
    neighbours_first: bool,
}

/// Passive false sharing.
pub static CACHE_SCRATCH: Cache = Cache {
    name: "cache-scratch",
    summary: "threads free neighbouring objects, then write to objects of their own",
    neighbours_first: true,
};

/// Active false sharing.
pub static CACHE_THRASH: Cache = Cache {
    name: "cache-thrash",
    summary: "threads allocate a small object each, write to it many times and free it",
    neighbours_first: false,
};

impl Workload for Cache {
    fn about(&self) -> About {
        About {
            name: self.name,
            summary: self.summary,
            operation: "one object allocated, written in all the rounds and freed",
            threads: ANY_THREADS,
            defaults: Params {
                min: 8,
                max: 8,
                rounds: 10_000,
                ..Params::BASE
            },
            options: &["min", "max", "rounds"],
        }
    }

    fn check(&self, params: &Params) -> Result<(), String> {
        if params.min != params.max {
            return Err(format!("{} has one size: --min is --max.", self.name));
        }
        // Of other sizes some bytes are neither stamped nor filled, and what was never written must not be read.
        if params.min != 8 && params.min < 16 {
            return Err(format!(
                "The objects of {} have 8 bytes, or 16 or more.",
                self.name
            ));
        }
        Ok(())
    }

    fn run(&self, params: &Params, _hooks: &Hooks) -> Outcome {
        let count = if self.neighbours_first {
            params.threads
        } else {
            0
        };
        let neighbours: Vec<_> = (0..count)
            .map(|_| Mutex::new(Some(Block::new(params.min))))
            .collect();
        let prepare = |number: usize| {
            let slot = neighbours.get(number)?;
            slot.lock().expect("a panic ends the process").take()
        };
        let work = |given: &mut Option<Block>, stop: &Stop| {
            drop(given.take());
            write_objects(params, stop)
        };
        run_threads(params.threads, params.seconds, prepare, work)
    }
}

fn write_objects(params: &Params, stop: &Stop) -> u64 {
    let mut ops = 0;
    while !stop.reached() {
        let object = Block::new_filled(params.min, 0);
        for _ in 0..params.rounds {
            flip_every_byte(&object);
            // Twice, so that the stamps are themselves again.
            flip_every_byte(&object);
        }
        ops += 1;
    }
    ops
}

#[inline]
fn flip_every_byte(object: &Block) {
    for offset in 0..object.size() {
        // SAFETY: the offset lies inside the block, which is alive and ours alone; its bytes are all initialised, by
        // the stamp where it has 8 of them and by stamps and filling where it has 16 or more.
        unsafe {
            let byte = object.as_ptr().add(offset);
            byte.write_volatile(!byte.read_volatile());
        }
    }
}
