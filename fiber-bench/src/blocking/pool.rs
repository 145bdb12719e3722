//! Records that are made on one worker and given back on another.

use std::hint::spin_loop;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Blocking;
use crate::fail::cannot_run;
use crate::measure::{Outcome, Rounds};
use crate::memory;
use crate::params::Params;
use crate::rules::*;
use crate::work::thread_id;

/// The spawner gives its worker away only when nobody has taken a task for so long.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the spawner lets others run then, and at the end. A sleep: may's yield comes back before any other task.
const REST: Duration = Duration::from_micros(100);
/// After so many times without a task that was completed elsewhere there is nothing to measure.
const PATIENT_FOR: u32 = 3;

pub fn cross<R: Blocking>(params: &Params) -> Outcome {
    let tasks = params.scaled(100_000, 100) as u64;
    let shared: &'static Crossing = Box::leak(Box::default());
    let home = thread_id();
    let (mut spawned, mut yields) = (0_u64, 0);
    let mut rounds = Rounds::new(params);
    let mut early = 0;
    while rounds.more() {
        if early == 0 && spawned > 0 {
            early = memory::resident_bytes();
        }
        for _ in 0..tasks {
            let value = spawned;
            spawned += 1;
            R::detach(move || shared.complete(value, home));
            let mut since = None;
            while spawned - shared.completed.load(Ordering::Acquire) > BACKLOG {
                spin_loop();
                if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    yields += 1;
                    if yields >= PATIENT_FOR && !shared.any_elsewhere() {
                        cannot_run("no worker takes the tasks of one that is busy");
                    }
                    since = None;
                    R::sleep(REST);
                }
            }
        }
        rounds.done(tasks);
    }
    let outcome = rounds.finish();
    while shared.completed.load(Ordering::Acquire) < spawned {
        R::sleep(REST);
    }
    shared
        .finish(outcome, spawned, early)
        .with("spawner_yields", yields)
}
