//! The loop whose instructions `tests/golden.rs` counts for `millpond::pool`:
//! `records pair|lifo millpond|nothing SIZE ROUNDS`, with a SIZE of 64 or 256 bytes.
//!
//! As `fastpath.rs`, but with records of a known type. The global allocator is the system's: a pool doesn't care.

use millpond::pool::{Pool, PoolBox};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

const BATCH: usize = 1000;

/// A record with a pointer in front, of which the loop writes nothing: only what the pool does is counted.
type Record<const N: usize> = MaybeUninit<[u64; N]>;

#[inline(always)]
fn take<const N: usize, const MILLPOND: bool>(place: NonNull<Record<N>>) -> NonNull<Record<N>> {
    black_box(if MILLPOND {
        PoolBox::into_raw(Pool::<Record<N>>::new().boxed(MaybeUninit::uninit()))
    } else {
        place
    })
}

#[inline(always)]
fn give<const N: usize, const MILLPOND: bool>(record: NonNull<Record<N>>) {
    let record = black_box(record);
    if MILLPOND {
        // SAFETY: the record came from `take`, and is given back once.
        drop(unsafe { PoolBox::from_raw(record) });
    }
}

fn pairs<const N: usize, const MILLPOND: bool>(rounds: usize) {
    let mut place = MaybeUninit::uninit();
    for _ in 0..rounds {
        give::<N, MILLPOND>(take::<N, MILLPOND>(NonNull::from(&mut place)));
    }
}

fn batches<const N: usize, const MILLPOND: bool>(rounds: usize) {
    let mut place = MaybeUninit::uninit();
    let mut records = [NonNull::dangling(); BATCH];
    for _ in 0..rounds {
        for record in &mut records {
            *record = take::<N, MILLPOND>(NonNull::from(&mut place));
        }
        for &record in records.iter().rev() {
            give::<N, MILLPOND>(record);
        }
    }
}

fn run<const N: usize>(shape: &str, what: &str, rounds: usize) -> Option<()> {
    match (shape, what) {
        ("pair", "millpond") => pairs::<N, true>(rounds),
        ("pair", "nothing") => pairs::<N, false>(rounds),
        ("lifo", "millpond") => batches::<N, true>(rounds),
        ("lifo", "nothing") => batches::<N, false>(rounds),
        _ => return None,
    }
    Some(())
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let done = match args[..] {
        [shape, what, size, rounds] => rounds.parse().ok().and_then(|rounds| match size {
            "64" => run::<8>(shape, what, rounds),
            "256" => run::<32>(shape, what, rounds),
            _ => None,
        }),
        _ => None,
    };
    if done.is_none() {
        eprintln!("usage: records pair|lifo millpond|nothing 64|256 ROUNDS");
        std::process::exit(2);
    }
}
