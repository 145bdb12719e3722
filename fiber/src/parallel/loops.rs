//! Loops without a result.

use super::{Granularity, Units, split};
use std::ops::Range;

/// Calls `body` with each number of a range, on all workers that are free, and returns when all calls have ended.
///
/// The body may borrow, wait, and call parallel loops itself. How the range is divided follows the clock and the
/// thieves: see [`Granularity::Auto`]; [`parallel_for_chunks`] lets the caller choose. The order of the calls isn't
/// defined. A call that nobody steals from costs some forks (about 50 ns each) and a look at the clock every few
/// microseconds. On a plain thread the loop runs on the process's own runtime.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let sum = AtomicUsize::new(0);
/// millpond_fiber::parallel_for(0..1000, |i| {
///     sum.fetch_add(i, Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 499_500);
/// ```
///
/// # Panics
/// With the panic of a call, when all calls that were begun have ended; what isn't begun then may be left out.
pub fn parallel_for<F>(range: Range<usize>, body: F)
where
    F: Fn(usize) + Sync,
{
    parallel_for_chunks(range, Granularity::Auto, |part| part.for_each(&body));
}

/// As [`parallel_for`]; the body gets a part of the range at a time: with a number as `batch`, parts of so many items
/// (the last may be smaller), which start at multiples of it from the range's start.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let sum = AtomicUsize::new(0);
/// millpond_fiber::parallel_for_chunks(0..1000, 64, |part| {
///     sum.fetch_add(part.sum(), Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 499_500);
/// ```
///
/// # Panics
/// As [`parallel_for`]; and if the batch is 0.
pub fn parallel_for_chunks<F>(range: Range<usize>, batch: impl Into<Granularity>, body: F)
where
    F: Fn(Range<usize>) + Sync,
{
    for_units(&Units::new(range, batch.into()), &body);
}

/// The loop over a divided range.
pub(super) fn for_units<F>(units: &Units, body: &F)
where
    F: Fn(Range<usize>) + Sync,
{
    split::run(
        units.count(),
        units.least,
        &|| (),
        &|(), part| units.each(part, (), |(), items| body(items)),
        &|(), ()| (),
    );
}
