//! The loops whose instructions `tests/golden.rs` counts: `fastpath pair|lifo|fifo|random millpond|nothing SIZE ROUNDS`.
//!
//! `pair` frees each block at once; the others allocate 1,000 blocks and free them, the last first, the first first or in
//! an order without order. `nothing` runs the same loop with an opaque value in place of each block: what the loop itself
//! costs, and what it costs to call an allocator in Rust, whichever it is.

use millpond::Millpond;
use std::alloc::{Layout, alloc, dealloc};
use std::hint::black_box;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

const BATCH: usize = 1000;

/// Stands for what `std::alloc::alloc` calls before the allocator: a function of the compiler's that does nothing.
#[inline(never)]
extern "C" fn shim(_size: usize, _align: usize) {
    black_box(());
}

/// Allocates through `#[global_allocator]`, with a layout that is known at run time only.
#[inline(always)]
fn take<const MILLPOND: bool>(layout: Layout, place: *mut u8) -> *mut u8 {
    let layout = black_box(layout);
    black_box(if MILLPOND {
        // SAFETY: the sizes asked for on the command line are checked not to be 0.
        unsafe { alloc(layout) }
    } else {
        shim(layout.size(), layout.align());
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

fn batches<const MILLPOND: bool>(layout: Layout, rounds: usize, order: &[usize; BATCH]) {
    let mut place = 0_u8;
    let mut blocks = [std::ptr::null_mut(); BATCH];
    for _ in 0..rounds {
        for block in &mut blocks {
            *block = take::<MILLPOND>(layout, &mut place);
        }
        for &index in order {
            give::<MILLPOND>(blocks[index], layout);
        }
    }
}

/// In which order the blocks of a batch are freed.
fn order(shape: &str) -> Option<[usize; BATCH]> {
    let mut order = std::array::from_fn(|index| index);
    match shape {
        "fifo" => {}
        "lifo" => order.reverse(),
        "random" => {
            let mut state = 12345_u64;
            for last in (1..BATCH).rev() {
                // Numerical Recipes' generator; its high bits are good enough for a shuffle.
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                order.swap(last, (state >> 33) as usize % (last + 1));
            }
        }
        _ => return None,
    }
    Some(order)
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse::<usize>().ok());
    let (Some(size @ 1..), Some(rounds)) = (number(3), number(4)) else {
        usage()
    };
    let layout = Layout::from_size_align(size, 8).expect("a size that exists");
    match (args[1].as_str(), order(&args[1]), args[2].as_str()) {
        ("pair", _, "millpond") => pairs::<true>(layout, rounds),
        ("pair", _, "nothing") => pairs::<false>(layout, rounds),
        (_, Some(order), "millpond") => batches::<true>(layout, rounds, &order),
        (_, Some(order), "nothing") => batches::<false>(layout, rounds, &order),
        _ => usage(),
    }
}

fn usage() -> ! {
    eprintln!("usage: fastpath pair|lifo|fifo|random millpond|nothing SIZE ROUNDS");
    std::process::exit(2);
}
