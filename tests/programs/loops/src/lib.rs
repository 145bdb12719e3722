//! Loops of allocations through whatever the program's global allocator is: in a crate of their own, so that they call it
//! as the crates of a program do.

use std::alloc::{Layout, alloc, dealloc};

const BATCH: usize = 1000;

/// The number, of which the compiler knows nothing any more; in a register, unlike `black_box`'s.
#[inline(always)]
fn opaque(mut number: usize) -> usize {
    // SAFETY: does nothing.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) number, options(nomem, nostack, preserves_flags))
    };
    number
}

/// As [`opaque`], an address.
#[inline(always)]
fn opaque_block(mut block: *mut u8) -> *mut u8 {
    // SAFETY: does nothing.
    unsafe { std::arch::asm!("/* {0} */", inout(reg) block, options(nostack, preserves_flags)) };
    block
}

// An allocator that does nothing, three instructions long: an instruction and a return, a return. And what
// `std::alloc::alloc` calls before the allocator, a function of the compiler's that does nothing.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    "millpond_nothing_alloc: mov rax, rdi",
    "ret",
    "millpond_nothing_dealloc: ret",
    "millpond_nothing_shim: ret",
);
#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    "millpond_nothing_alloc: mov x0, x0",
    "ret",
    "millpond_nothing_dealloc: ret",
    "millpond_nothing_shim: ret",
);

unsafe extern "C" {
    safe fn millpond_nothing_shim();
    safe fn millpond_nothing_alloc(size: usize, align: usize) -> *mut u8;
    safe fn millpond_nothing_dealloc(block: *mut u8, size: usize, align: usize);
}

/// Allocates with a layout that is known at run time only.
#[inline(always)]
fn take<const ALLOCATE: bool>(layout: Layout) -> *mut u8 {
    let size = opaque(layout.size());
    let align = opaque(layout.align());
    opaque_block(if ALLOCATE {
        // SAFETY: the layout's parts, unchanged; `run` refuses a size of 0.
        unsafe { alloc(Layout::from_size_align_unchecked(size, align)) }
    } else {
        millpond_nothing_shim();
        millpond_nothing_alloc(size, align)
    })
}

#[inline(always)]
fn give<const ALLOCATE: bool>(block: *mut u8, layout: Layout) {
    let block = opaque_block(block);
    let size = opaque(layout.size());
    let align = opaque(layout.align());
    if ALLOCATE {
        // SAFETY: the block came from `take` with this layout, and is given back once.
        unsafe { dealloc(block, Layout::from_size_align_unchecked(size, align)) };
    } else {
        millpond_nothing_dealloc(block, size, align);
    }
}

fn pairs<const ALLOCATE: bool>(layout: Layout, rounds: usize) {
    for _ in 0..rounds {
        give::<ALLOCATE>(take::<ALLOCATE>(layout), layout);
    }
}

fn batches<const ALLOCATE: bool>(layout: Layout, rounds: usize, order: &[usize; BATCH]) {
    let mut blocks = [std::ptr::null_mut(); BATCH];
    for _ in 0..rounds {
        for block in &mut blocks {
            *block = take::<ALLOCATE>(layout);
        }
        for &index in order {
            give::<ALLOCATE>(blocks[index], layout);
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
                // Knuth's generator (MMIX); its high bits are good enough for a shuffle.
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

/// Runs a loop: `pair` frees each block at once; `lifo`, `fifo` and `random` allocate 1,000 blocks and free them, the last
/// first, the first first or in an order without order. Without `allocate`, the same loop with an allocator that does
/// nothing in five instructions a pair: two calls, two returns and one more. `None` for another shape, or a size of 0.
pub fn run(shape: &str, allocate: bool, size: usize, rounds: usize) -> Option<()> {
    let layout = Layout::from_size_align(size, 8).ok().filter(|_| size > 0)?;
    match (shape, order(shape), allocate) {
        ("pair", _, true) => pairs::<true>(layout, rounds),
        ("pair", _, false) => pairs::<false>(layout, rounds),
        (_, Some(order), true) => batches::<true>(layout, rounds, &order),
        (_, Some(order), false) => batches::<false>(layout, rounds, &order),
        _ => return None,
    }
    Some(())
}
