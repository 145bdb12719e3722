//! The engine of all parallel loops: lazy binary splitting (Tzannes, Caragea, Barua and Vishkin, "Lazy
//! binary-splitting", PPoPP 2010) on fork and join.
//!
//! A loop does its range in blocks. Before each it looks whether thieves would find anything on its worker. If not, it
//! forks the upper half of what is left and goes on with the lower one. So a loop that nobody steals from forks about as
//! often as its range can be halved, and one that is stolen from forks again as soon as the half is gone: the division
//! follows the work that is really left, whatever single items cost. A fork that nobody stole is run by the loop itself,
//! without a switch.
//!
//! The results of two halves are combined in the order of the range, so the operator need not be commutative.

use super::pace::Pace;
use crate::Runtime;
use crate::fork_join;
use crate::worker;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is done with a range.
struct Loop<'a, I, F, R> {
    identity: &'a I,
    fold: &'a F,
    reduce: &'a R,
    /// A part has panicked: what isn't begun need not be.
    stop: AtomicBool,
}

/// Folds the units `0..units` in parts, of blocks with `least` units or more, and reduces the results of the parts in
/// order. On a plain thread it runs on the process's own runtime.
///
/// # Panics
/// With the panic of a part, when all parts that were begun have ended.
pub fn run<T, I, F, R>(units: usize, least: usize, identity: &I, fold: &F, reduce: &R) -> T
where
    T: Send,
    I: Fn() -> T + Sync,
    F: Fn(T, Range<usize>) -> T + Sync,
    R: Fn(T, T) -> T + Sync,
{
    let all = Loop {
        identity,
        fold,
        reduce,
        stop: AtomicBool::new(false),
    };
    let whole = || all.part(identity(), 0..units, Pace::new(least));
    match worker::current_fiber() {
        Some(_) => whole(),
        None => Runtime::global().block_on(whole),
    }
}

/// Tells the other parts that one unwinds.
struct StopOthers<'a>(&'a AtomicBool);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<T, I, F, R> Loop<'_, I, F, R>
where
    T: Send,
    I: Fn() -> T + Sync,
    F: Fn(T, Range<usize>) -> T + Sync,
    R: Fn(T, T) -> T + Sync,
{
    /// Goes on from `state` with a range.
    fn part(&self, mut state: T, mut units: Range<usize>, mut pace: Pace) -> T {
        let stop = StopOthers(&self.stop);
        pace.start();
        // Relaxed: only saves work.
        while !units.is_empty() && !self.stop.load(Ordering::Relaxed) {
            if units.len() >= 2 * pace.block() && is_hungry() {
                state = self.halves(state, units, pace);
                break;
            }
            let block = units.start..units.start + pace.block().min(units.len());
            units.start = block.end;
            state = (self.fold)(state, block);
            pace.note();
        }
        std::mem::forget(stop);
        state
    }

    /// Not inlined: the loop in `part` keeps its registers.
    #[inline(never)]
    fn halves(&self, state: T, units: Range<usize>, pace: Pace) -> T {
        let middle = units.start + units.len() / 2;
        let (left, right) = (units.start..middle, middle..units.end);
        let (left, right) = fork_join::join_in_fiber(
            || self.part(state, left, pace),
            || self.part((self.identity)(), right, pace),
        );
        (self.reduce)(left, right)
    }
}

/// Whether thieves would find nothing on the calling worker.
fn is_hungry() -> bool {
    worker::current()
        .is_some_and(|worker| worker.shared().workers.len() > 1 && worker.has_no_spare())
}
