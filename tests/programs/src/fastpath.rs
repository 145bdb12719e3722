//! The loop whose instructions `tests/golden.rs` counts: `fastpath pair|batch millpond|nothing SIZE ROUNDS`.
//!
//! `pair` frees each block at once; `batch` allocates 1,000 blocks and frees them in LIFO order. `nothing` runs the
//! same loop with an opaque value in place of each call: what the loop itself costs.

use millpond::Millpond;
use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

const BATCH: usize = 1000;

/// Allocates through `#[global_allocator]`, with a layout that is known at run time only.
#[inline(always)]
fn take<const MILLPOND: bool>(layout: Layout, place: *mut u8) -> *mut u8 {
    let layout = black_box(layout);
    black_box(if MILLPOND {
        // SAFETY: the sizes asked for on the command line are checked not to be 0.
        unsafe { alloc(layout) }
    } else {
        place
    })
}

#[inline(always)]
fn give<const MILLPOND: bool>(block: *mut u8, layout: Layout) {
    let (block, layout) = (black_box(block), black_box(layout));
    if MILLPOND {
        // SAFETY: the block came from `take` with this layout, and is given back once.
        unsafe { dealloc(block, layout) };
    }
}

fn pairs<const MILLPOND: bool>(layout: Layout, rounds: usize) {
    let mut place = 0_u8;
    for _ in 0..rounds {
        give::<MILLPOND>(take::<MILLPOND>(layout, &mut place), layout);
    }
}

fn batches<const MILLPOND: bool>(layout: Layout, rounds: usize) {
    let mut place = 0_u8;
    let mut blocks = [std::ptr::null_mut(); BATCH];
    for _ in 0..rounds {
        for block in &mut blocks {
            *block = take::<MILLPOND>(layout, &mut place);
        }
        for &block in blocks.iter().rev() {
            give::<MILLPOND>(block, layout);
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse::<usize>().ok());
    let (Some(size @ 1..), Some(rounds)) = (number(3), number(4)) else {
        eprintln!("usage: fastpath pair|batch millpond|nothing SIZE ROUNDS");
        std::process::exit(2);
    };
    let layout = Layout::from_size_align(size, 8).expect("a size that exists");
    match (args[1].as_str(), args[2].as_str()) {
        ("pair", "millpond") => pairs::<true>(layout, rounds),
        ("pair", "nothing") => pairs::<false>(layout, rounds),
        ("batch", "millpond") => batches::<true>(layout, rounds),
        ("batch", "nothing") => batches::<false>(layout, rounds),
        _ => {
            eprintln!("usage: fastpath pair|batch millpond|nothing SIZE ROUNDS");
            std::process::exit(2);
        }
    }
}
