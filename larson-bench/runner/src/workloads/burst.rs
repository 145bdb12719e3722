//! `burst`: 1 GiB of small objects made, written and freed; then the question is what the process still holds.

use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{About, Workload};
use crate::block::Block;
use crate::command::Hooks;
use crate::harness::{Outcome, Stopwatch, random_for};
use crate::options::{FreeBy, Params, SizeRange};
use crate::process::resident_bytes;

/// What an object's bytes hold besides its stamps.
const FILLING: u8 = 0xb5;
/// Seconds of idling after which the memory is read, as far as `--idle-seconds` goes.
const READINGS: [u64; 2] = [1, 10];

/// The workload.
#[derive(Debug)]
pub struct Burst;

impl Workload for Burst {
    fn about(&self) -> About {
        About {
            name: "burst",
            summary: "1 GiB of 8 to 1,031 bytes is made, written and freed; what does the process keep?",
            operation: "one object allocated, written and freed",
            threads: 1..=1,
            defaults: Params {
                threads: 1,
                min: 8,
                max: 1_031,
                bytes: 1 << 30,
                ..Params::BASE
            },
            options: &[
                "min",
                "max",
                "bytes",
                "seed",
                "keep-every",
                "free-by",
                "idle-seconds",
            ],
        }
    }

    fn check(&self, params: &Params) -> Result<(), String> {
        if params.bytes < params.max as u64 {
            return Err(
                "burst needs room for one object: --bytes is below the largest size.".to_owned(),
            );
        }
        Ok(())
    }

    fn run(&self, params: &Params, hooks: &Hooks) -> Outcome {
        let heap = Mutex::new(Heap::prepare(params));
        match params.free_by {
            FreeBy::Same => {
                let mut heap = heap.into_inner().expect("a panic ends the process");
                let made = heap.fill(params);
                heap.free_and_watch(params, hooks, made)
            }
            FreeBy::AfterExit => {
                let made = thread::scope(|scope| {
                    let maker =
                        scope.spawn(|| heap.lock().expect("a panic ends the process").fill(params));
                    maker.join().expect("a panic ends the process")
                });
                heap.into_inner()
                    .expect("a panic ends the process")
                    .free_and_watch(params, hooks, made)
            }
            FreeBy::Other => free_while_the_maker_sleeps(&heap, params, hooks),
        }
    }
}

/// The maker lives on, blocked, until everything is measured.
fn free_while_the_maker_sleeps(heap: &Mutex<Heap>, params: &Params, hooks: &Hooks) -> Outcome {
    let (filled, measured) = (Barrier::new(2), Barrier::new(2));
    let made = Mutex::new(0.0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let seconds = heap.lock().expect("a panic ends the process").fill(params);
            *made.lock().expect("a panic ends the process") = seconds;
            filled.wait();
            measured.wait();
        });
        filled.wait();
        let made = *made.lock().expect("a panic ends the process");
        let outcome = heap
            .lock()
            .expect("a panic ends the process")
            .free_and_watch(params, hooks, made);
        measured.wait();
        outcome
    })
}

/// All objects and the memory figures before them.
struct Heap {
    /// Sized and touched in advance, so that it belongs to the baseline.
    slots: Vec<Option<Block>>,
    count: usize,
    baseline: u64,
}

impl Heap {
    fn prepare(params: &Params) -> Self {
        let average = (params.min + params.max) as u64 / 2;
        // A little more than needed on average; filling stops at the wanted number of bytes.
        let room = params.bytes / average.max(1) * 11 / 10 + 64;
        let slots: Vec<_> = (0..room).map(|_| None).collect();
        Self {
            slots,
            count: 0,
            baseline: resident_bytes(),
        }
    }

    /// Makes and writes the objects; returns the seconds that it took.
    fn fill(&mut self, params: &Params) -> f64 {
        let mut random = random_for(params.seed, 0);
        let sizes = SizeRange::of(params);
        let stopwatch = Stopwatch::start();
        let mut bytes = 0;
        for slot in &mut self.slots {
            let size = sizes.pick(&mut random);
            bytes += size as u64;
            if bytes > params.bytes {
                break;
            }
            *slot = Some(Block::new_filled(size, FILLING));
            self.count += 1;
        }
        stopwatch.seconds()
    }

    /// Frees, idles and collects, and reads the resident memory all along the way.
    fn free_and_watch(&mut self, params: &Params, hooks: &Hooks, seconds_made: f64) -> Outcome {
        let peak = resident_bytes();
        let live_bytes = self.live_bytes();
        let stopwatch = Stopwatch::start();
        let freed_objects = self.free(params.keep_every);
        let mut outcome = stopwatch.stop(freed_objects);
        outcome.seconds += seconds_made;
        let freed_at = Instant::now();
        let freed_bytes = live_bytes - self.live_bytes();
        outcome = outcome
            .with("resident_baseline_bytes", self.baseline)
            .with("resident_peak_bytes", peak)
            .with("freed_bytes", freed_bytes);
        let read = |outcome: Outcome, when: &str| {
            let now = resident_bytes();
            let returned = peak.saturating_sub(now) as f64 / freed_bytes.max(1) as f64;
            outcome
                .with(&format!("resident_after_{when}_bytes"), now)
                .with(
                    &format!("returned_share_after_{when}"),
                    (returned * 1e4).round() / 1e4,
                )
        };
        outcome = read(outcome, "0s");
        for seconds in READINGS
            .into_iter()
            .filter(|seconds| *seconds as f64 <= params.idle_seconds)
        {
            sleep_until(freed_at, seconds as f64);
            outcome = read(outcome, &format!("{seconds}s"));
        }
        sleep_until(freed_at, params.idle_seconds);
        if let Some(collect) = hooks.collect {
            collect();
            outcome = read(outcome, "collect");
        }
        self.slots
            .iter()
            .flatten()
            .for_each(|kept| kept.check_filled(FILLING));
        self.slots.clear();
        outcome
    }

    fn free(&mut self, keep_every: usize) -> u64 {
        let mut freed = 0;
        for (number, slot) in self.slots.iter_mut().take(self.count).enumerate() {
            if keep_every > 0 && number % keep_every == 0 {
                continue;
            }
            drop(slot.take());
            freed += 1;
        }
        freed
    }

    fn live_bytes(&self) -> u64 {
        self.slots
            .iter()
            .flatten()
            .map(|block| block.size() as u64)
            .sum()
    }
}

fn sleep_until(start: Instant, seconds: f64) {
    thread::sleep(Duration::from_secs_f64(seconds).saturating_sub(start.elapsed()));
}
