//! Loops with a result.

use super::{Granularity, Units, split};
use std::ops::Range;

/// Folds a range in parts with `op`, each from `identity()`, and combines the parts' results with `reducer`, in the order
/// of the range.
///
/// So with an associative `reducer`, and `op` and `identity` that fit it, the result is the sequential fold's, also if
/// the operator isn't commutative. How the range is divided isn't the same from run to run: a sum of floating-point
/// numbers may differ in its last bits. Parts accumulate locally; nothing is shared before they are combined. For the
/// rest see [`crate::parallel_for`].
///
/// ```
/// let text = millpond_fiber::parallel_reduce(
///     0..100,
///     String::new,
///     |text, i| text + &i.to_string(),
///     |left, right| left + &right,
/// );
/// assert_eq!(text, (0..100).map(|i| i.to_string()).collect::<String>());
/// ```
///
/// # Panics
/// With the panic of a call, when all calls that were begun have ended.
pub fn parallel_reduce<T, I, F, R>(range: Range<usize>, identity: I, op: F, reducer: R) -> T
where
    T: Send,
    I: Fn() -> T + Sync,
    F: Fn(T, usize) -> T + Sync,
    R: Fn(T, T) -> T + Sync,
{
    parallel_reduce_chunks(
        range,
        Granularity::Auto,
        identity,
        |state, part| part.fold(state, &op),
        reducer,
    )
}

/// As [`parallel_reduce`]; `op` gets a part of the range at a time, as [`crate::parallel_for_chunks`]'s body does.
///
/// ```
/// let sum = millpond_fiber::parallel_reduce_chunks(
///     0..1000,
///     64,
///     || 0,
///     |sum, part| sum + part.sum::<usize>(),
///     |left, right| left + right,
/// );
/// assert_eq!(sum, 499_500);
/// ```
///
/// # Panics
/// As [`parallel_reduce`]; and if the batch is 0.
pub fn parallel_reduce_chunks<T, I, F, R>(
    range: Range<usize>,
    batch: impl Into<Granularity>,
    identity: I,
    op: F,
    reducer: R,
) -> T
where
    T: Send,
    I: Fn() -> T + Sync,
    F: Fn(T, Range<usize>) -> T + Sync,
    R: Fn(T, T) -> T + Sync,
{
    let units = Units::new(range, batch.into());
    split::run(
        units.count(),
        units.least,
        &identity,
        &|state, part| units.each(part, state, &op),
        &reducer,
    )
}
