//! What tasks compute where a benchmark asks for work.

use std::hint::black_box;

/// `units` steps of a xorshift generator, about a nanosecond each: a chain that no compiler shortens.
#[inline]
pub fn work(seed: u32, units: u32) -> u32 {
    let mut x = seed;
    for _ in 0..units {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
    }
    x
}

/// The sum of `work` over a range.
pub fn work_sum(range: std::ops::Range<usize>, units: u32) -> u64 {
    let units = black_box(units);
    range.map(|i| u64::from(work(i as u32, units))).sum()
}

/// Stack that [`deep`] touches.
pub const DEEP_BYTES: usize = 48 << 10;

/// Writes to 48 KiB of stack and returns a sum over it.
#[inline(never)]
pub fn deep(seed: u8) -> u64 {
    let mut frame = [seed; DEEP_BYTES];
    black_box(&mut frame);
    frame.iter().step_by(64).map(|&byte| u64::from(byte)).sum()
}

/// What [`deep`] returns.
pub fn deep_sum(seed: u8) -> u64 {
    u64::from(seed) * (DEEP_BYTES as u64 / 64)
}

/// An address that tells threads apart. Not inlined: a task may be on another thread after it has waited.
#[inline(never)]
pub fn thread_id() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    HERE.with(|here| std::ptr::from_ref(here).addr())
}
