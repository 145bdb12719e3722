//! Loops over slices.

use super::loops::for_units;
use super::{Granularity, Units};
use std::mem::{ManuallyDrop, MaybeUninit};

/// Chunks of a slice that is written begin and end at multiples of this many bytes (two lines, which processors fetch
/// together), so that no two workers write the same line.
const LINES: usize = 128;

/// A slice that parts of a loop write at the same time.
struct Shared<T>(*mut T);

// SAFETY: each element is reached by one part of the loop, which may be on another thread.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// # Safety
    /// The range lies in the slice, no other part of the loop has an element of it, and the slice is borrowed for `'a`.
    unsafe fn part<'a>(&self, range: std::ops::Range<usize>) -> &'a mut [T] {
        // SAFETY: passed on.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(range.start), range.len()) }
    }
}

/// The units of a slice that is written: whole lines, unless the caller chose exact sizes.
fn units<T>(slice: *const T, len: usize, granularity: Granularity) -> Units {
    let mut units = Units::new(0..len, granularity);
    let item = size_of::<T>();
    // Where items don't fill lines evenly, most chunks' boundaries would be within a line anyway.
    if units.one_by_one || item == 0 || !LINES.is_multiple_of(item) {
        return units;
    }
    units.size = LINES / item;
    let past = slice.addr() % LINES;
    // A slice whose elements straddle lines has no boundary at a line's start; its chunks are as long all the same.
    units.first = ((LINES - past) / item).max(1);
    units.least = units.least.div_ceil(units.size);
    units
}

/// Calls `body` with chunks of a slice, and the index of each chunk's first element: on all workers that are free, as
/// [`crate::parallel_for`] does.
///
/// With a number as `batch`, chunks have so many elements (the last may have fewer), as with
/// [`slice::chunks_mut`]. Otherwise their size follows the clock, and they begin at multiples of 128 bytes where the
/// elements' size divides that, so that no two workers write the same cache line.
///
/// ```
/// let mut numbers = vec![0; 1000];
/// millpond_fiber::parallel_chunks_mut(&mut numbers, millpond_fiber::Granularity::Auto, |first, chunk| {
///     for (i, number) in chunk.iter_mut().enumerate() {
///         *number = first + i;
///     }
/// });
/// assert!(numbers.iter().enumerate().all(|(i, number)| i == *number));
/// ```
///
/// # Panics
/// As [`crate::parallel_for_chunks`].
pub fn parallel_chunks_mut<T, F>(slice: &mut [T], batch: impl Into<Granularity>, body: F)
where
    T: Send,
    F: Fn(usize, &mut [T]) + Sync,
{
    let units = units(slice.as_ptr(), slice.len(), batch.into());
    let all = Shared(slice.as_mut_ptr());
    let all = &all;
    for_units(&units, &|range| {
        // SAFETY: the engine calls with each unit once, and units don't overlap.
        body(range.start, unsafe { all.part(range) });
    });
}

/// As [`parallel_chunks_mut`], for a slice that is only read.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// let sum = AtomicU64::new(0);
/// millpond_fiber::parallel_chunks(&[1, 2, 3, 4, 5], 2, |_, chunk| {
///     sum.fetch_add(chunk.iter().sum(), Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 15);
/// ```
///
/// # Panics
/// As [`crate::parallel_for_chunks`].
pub fn parallel_chunks<T, F>(slice: &[T], batch: impl Into<Granularity>, body: F)
where
    T: Sync,
    F: Fn(usize, &[T]) + Sync,
{
    for_units(&Units::new(0..slice.len(), batch.into()), &|range| {
        body(range.start, &slice[range]);
    });
}

/// Calls `body` with each element of a slice, in parallel as [`crate::parallel_for`] does; the results in the order of
/// the elements.
///
/// ```
/// let squares = millpond_fiber::parallel_map(&[1, 2, 3], |n| n * n);
/// assert_eq!(squares, [1, 4, 9]);
/// ```
///
/// # Panics
/// As [`crate::parallel_for`]. The results of calls that have ended are leaked then.
pub fn parallel_map<T, U, F>(slice: &[T], body: F) -> Vec<U>
where
    T: Sync,
    U: Send,
    F: Fn(&T) -> U + Sync,
{
    let mut results: Vec<MaybeUninit<U>> = Vec::with_capacity(slice.len());
    // SAFETY: nothing need be there for elements that may be uninitialised.
    unsafe { results.set_len(slice.len()) };
    parallel_chunks_mut(&mut results, Granularity::Auto, |first, chunk| {
        for (i, result) in chunk.iter_mut().enumerate() {
            result.write(body(&slice[first + i]));
        }
    });
    let mut results = ManuallyDrop::new(results);
    let (pointer, capacity) = (results.as_mut_ptr().cast::<U>(), results.capacity());
    // SAFETY: the same allocation, with all elements written: the loop returned without a panic.
    unsafe { Vec::from_raw_parts(pointer, slice.len(), capacity) }
}

#[cfg(all(test, not(fiber_loom)))]
mod tests {
    use super::*;

    #[test]
    fn chunks_begin_at_lines() {
        #[repr(align(128))]
        struct Aligned([u32; 256]);
        let numbers = Aligned([0; 256]).0;
        for skip in 0..40 {
            let slice = &numbers[skip..];
            let units = units(slice.as_ptr(), slice.len(), Granularity::Auto);
            for unit in 1..units.count() {
                let address = slice[units.boundary(unit)..].as_ptr().addr();
                assert_eq!(address % LINES, 0);
            }
            assert_eq!(units.boundary(units.count()), slice.len());
        }
    }
}
