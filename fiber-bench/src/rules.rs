//! What all versions of a benchmark share: sizes, results, checks.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::blocking::Slot;
use crate::fail::check;
use crate::measure::Outcome;
use crate::memory;
use crate::params::Params;
use crate::work::{thread_id, work_sum};

/// Items of a loop.
pub fn items(params: &Params) -> usize {
    params.scaled(1_000_000, 1_000)
}

/// Items of a chunk where the benchmark chooses.
pub const CHUNK: usize = 4_096;

/// Units of work in an item where the name doesn't say.
pub const UNITS: u32 = 15;

/// Where a loop stores.
pub fn stores(len: usize) -> &'static [AtomicU32] {
    (0..len)
        .map(|_| AtomicU32::new(0))
        .collect::<Vec<_>>()
        .leak()
}

/// Checks what a loop stored.
pub fn check_stores(stores: &[AtomicU32], right: u64) {
    // Relaxed: the loop's end published the stores.
    let sum: u64 = stores
        .iter()
        .map(|place| u64::from(place.load(Relaxed)))
        .sum();
    check(sum == right, || {
        format!("the items' sum is {sum} and not {right}")
    });
}

/// Checks that each place holds its index and the round's number.
pub fn check_places(places: &[Slot], round: u64) {
    let sum: u64 = places.iter().map(Slot::get).sum();
    let n = places.len() as u64;
    check(sum == n * round + n * (n - 1) / 2, || {
        format!("the tasks' sum is {sum}")
    });
}

/// Checks what trivial_task's tasks left.
pub fn check_trivial(places: &[Slot], round: u64) {
    let sum: u64 = places.iter().map(Slot::get).sum();
    let right = work_sum(1..places.len() + 1, 1) + places.len() as u64 * round;
    check(sum == right, || {
        format!("the tasks' sum is {sum} and not {right}")
    });
}

/// Checks that each place holds the number of yields, and clears it.
pub fn check_yields(places: &[Slot], yields: usize) {
    for place in places {
        let done = place.get();
        check(done == yields as u64, || {
            format!("a fiber yielded {done} times and not {yields}")
        });
        place.set(0);
    }
}

/// Checks what came by two channels: the even and the odd numbers below `count`.
pub fn check_select(got: [(u64, u64); 2], count: u64) {
    let counts = (got[0].0, got[1].0);
    check(counts == (count / 2, count / 2), || {
        format!("{counts:?} messages came by the channels")
    });
    check_sum(got[0].1 + got[1].1, count);
}

/// Waits, without giving the worker away, until as many tasks have come here.
pub fn meet(arrived: &AtomicUsize, all: usize) {
    arrived.fetch_add(1, Ordering::SeqCst);
    while arrived.load(Ordering::SeqCst) < all {
        std::hint::spin_loop();
    }
}

/// Checks the sum of all numbers below `count`.
pub fn check_sum(sum: u64, count: u64) {
    let right = (u128::from(count) * u128::from(count.saturating_sub(1)) / 2) as u64;
    check(sum == right, || format!("the sum is {sum} and not {right}"));
}

/// A million, or the power of ten that the scale leaves.
pub fn leaves(params: &Params) -> u64 {
    10_u64.pow(params.scaled(1_000_000, 100).ilog10())
}

/// 30, or less with a scale.
pub fn fib_of(params: &Params) -> u32 {
    if params.scale < 1.0 { 12 } else { 30 }
}

/// The Fibonacci number, counted up.
fn fib_number(n: u32) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

/// Calls that the plain recursion makes.
pub fn fib_calls(n: u32) -> u64 {
    2 * fib_number(n + 1) - 1
}

/// Checks a Fibonacci number.
pub fn check_fib(n: u32, result: u64) {
    check(result == fib_number(n), || format!("fib({n}) is {result}"));
}

/// Messages in a round.
pub fn messages(params: &Params) -> u64 {
    params.scaled(20_000, 400) as u64 / SIDES * SIDES
}

/// Senders, and receivers where there are several.
pub const SIDES: u64 = 4;

/// The capacity of the channels that are selected from.
pub const SELECT_CAPACITY: usize = 64;

/// The time in which blocking_pressure must be over.
pub const PRESSURE_LIMIT: f64 = 4.0;

/// hog_and_ticker: the ticker's interval.
pub const TICK: Duration = Duration::from_millis(1);

/// hog_and_ticker: how long the hog computes before it yields.
pub const SLICE: Duration = Duration::from_millis(100);

/// hog_and_ticker: how much longer than the run the hog stays at most, should the ticker never get a turn.
pub const HOG_STAYS: Duration = Duration::from_secs(1);

/// Computes for a slice.
pub fn hog_slice() {
    let end = Instant::now() + SLICE;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// task_pool_cross: tasks that may be under way.
pub const BACKLOG: u64 = 1_024;

/// What the tasks of task_pool_cross write.
#[derive(Debug, Default)]
pub struct Crossing {
    /// How many have ended.
    pub completed: AtomicU64,
    elsewhere: AtomicU64,
    sum: AtomicU64,
}

impl Crossing {
    /// A task's work.
    #[inline]
    pub fn complete(&self, value: u64, home: usize) {
        // As good as always one worker writes here, the one that isn't the spawner's, so the adds don't contend.
        if thread_id() != home {
            self.elsewhere.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(value, Relaxed);
        // Release: the spawner sees the sum when it has seen all ends.
        self.completed.fetch_add(1, Ordering::Release);
    }

    /// Whether any task was completed by another worker than the spawner's.
    pub fn any_elsewhere(&self) -> bool {
        self.elsewhere.load(Relaxed) > 0
    }

    /// Checks the sum, and that memory is bounded; all tasks have ended.
    pub fn finish(&self, outcome: Outcome, spawned: u64, early: u64) -> Outcome {
        check_sum(self.sum.load(Relaxed), spawned);
        let end = memory::resident_bytes();
        check(end < early * 2 + (64 << 20), || {
            format!("resident memory grew from {early} to {end} bytes")
        });
        let share = self.elsewhere.load(Relaxed) as f64 / spawned as f64;
        outcome
            .with("tasks", spawned)
            .with("completed_elsewhere", share)
            .with("rss_bytes_early", early)
            .with("rss_bytes_end", end)
    }
}
