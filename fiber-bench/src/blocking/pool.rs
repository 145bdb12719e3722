//! Records that are made on one worker and given back on another.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Blocking;
use crate::fail::check;
use crate::measure::{Outcome, Rounds};
use crate::memory;
use crate::params::Params;
use crate::work::thread_id;

/// Tasks that may be under way.
pub const BACKLOG: u64 = 1_024;
/// The spawner gives its worker away only when nobody has taken a task for so long.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Shared {
    completed: AtomicU64,
    elsewhere: AtomicU64,
    sum: AtomicU64,
}

pub fn cross<R: Blocking>(params: &Params) -> Outcome {
    let tasks = params.scaled(100_000, 100) as u64;
    let shared: &'static Shared = Box::leak(Box::default());
    let home = thread_id();
    let (mut spawned, mut yields) = (0_u64, 0_u64);
    let mut rounds = Rounds::new(params);
    let mut early = 0;
    while rounds.more() {
        if early == 0 && spawned > 0 {
            early = memory::resident_bytes();
        }
        for _ in 0..tasks {
            let value = spawned;
            spawned += 1;
            R::detach(move || {
                // Only the worker that isn't the spawner's writes here, so the adds don't contend.
                if thread_id() != home {
                    shared.elsewhere.fetch_add(1, Ordering::Relaxed);
                }
                shared.sum.fetch_add(value, Ordering::Relaxed);
                shared.completed.fetch_add(1, Ordering::Release);
            });
            let mut since = None;
            while spawned - shared.completed.load(Ordering::Acquire) > BACKLOG {
                spin_loop();
                if since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    yields += 1;
                    since = None;
                    R::yield_now();
                }
            }
        }
        rounds.done(tasks);
    }
    let outcome = rounds.finish();
    while shared.completed.load(Ordering::Acquire) < spawned {
        R::yield_now();
    }
    let end = memory::resident_bytes();
    let sum = shared.sum.load(Ordering::Relaxed);
    let right = (u128::from(spawned) * u128::from(spawned - 1) / 2) as u64;
    check(sum == right, || format!("the tasks' sum is {sum} and not {right}"));
    let share = shared.elsewhere.load(Ordering::Relaxed) as f64 / spawned as f64;
    outcome
        .with("tasks", spawned)
        .with("completed_elsewhere", share)
        .with("spawner_yields", yields)
        .with("rss_bytes_early", early)
        .with("rss_bytes_end", end)
}
