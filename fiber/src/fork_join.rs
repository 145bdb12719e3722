//! Fork and join: two closures at once, of which the caller runs at least one. The second is put where thieves find it;
//! if none has come when the first is done, the caller takes it back and runs it on its own stack (as Cilk and rayon do).

use crate::Runtime;
use crate::join::{JoinError, JoinHandle};
use crate::runtime;
use crate::worker;
use std::panic::{self, AssertUnwindSafe};

/// Runs both closures, at the same time if another worker is free, and returns both results. They may borrow.
///
/// `a` runs on the calling fiber. `b` does too, after `a`, unless another worker took it meanwhile or `a` waited for
/// something: then it runs in a fiber of its own, and the caller parks until it has ended. So `b` must not rely on
/// fiber-local values or the cancel token of the caller. A call costs one allocation, of a task record. On a plain thread
/// both run on the process's own runtime.
///
/// ```
/// fn sum(numbers: &[u64]) -> u64 {
///     if numbers.len() < 1000 {
///         return numbers.iter().sum();
///     }
///     let (left, right) = numbers.split_at(numbers.len() / 2);
///     let (left, right) = millpond_fiber::join(|| sum(left), || sum(right));
///     left + right
/// }
/// let numbers: Vec<u64> = (0..10_000).collect();
/// assert_eq!(sum(&numbers), 49_995_000);
/// ```
///
/// # Panics
/// With the panic of `a`, or else of `b`, when both have ended.
pub fn join<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    if worker::current_fiber().is_none() {
        return Runtime::global().block_on(|| join_in_fiber(a, b));
    }
    join_in_fiber(a, b)
}

/// As [`join`], by a fiber; `a` stays on it.
pub(crate) fn join_in_fiber<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    // SAFETY: what `b` borrows outlives this call, which ends after `b`: nothing unwinds before `run_or_join`.
    let b: JoinHandle<RB> = unsafe { runtime::spawn_on(runtime::current_shared(), b, None) };
    // What the panic leaves half done is the business of whoever catches it after it goes on.
    let a = panic::catch_unwind(AssertUnwindSafe(a));
    let b = b.run_or_join();
    match (a, b) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(payload), _) => panic::resume_unwind(payload),
        (_, Err(error)) => JoinError::resume(error),
    }
}
