//! A second copy of Millpond in a shared library, with statics, thread-locals and arenas of its own: what a plug-in
//! written in Rust brings along.

use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

/// A block of this copy's.
///
/// # Safety
/// `align` is a power of two, and `size` rounded up to it doesn't overflow.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn second_alloc(size: usize, align: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the layout; Millpond takes sizes of zero.
    unsafe { Millpond.alloc(Layout::from_size_align_unchecked(size, align)) }
}

/// Frees a block of this copy's.
///
/// # Safety
/// The block came from [`second_alloc`] with this size and alignment, and is given up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn second_free(block: *mut u8, size: usize, align: usize) {
    // SAFETY: passed on.
    unsafe { Millpond.dealloc(block, Layout::from_size_align_unchecked(size, align)) }
}

/// The bytes that the block can hold, as this copy knows them.
///
/// # Safety
/// The block is a live one of this copy's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn second_usable_size(block: NonNull<u8>) -> usize {
    // SAFETY: passed on.
    unsafe { millpond::usable_size(block) }
}

/// This copy's live bytes, after a collection.
#[unsafe(no_mangle)]
pub extern "C" fn second_live_bytes() -> u64 {
    millpond::collect(true);
    millpond::stats().live_bytes
}

/// Remote frees of this copy's blocks, and how many of them are drained, after a collection.
#[unsafe(no_mangle)]
pub extern "C" fn second_remote_frees(drained: &mut u64) -> u64 {
    millpond::collect(true);
    let stats = millpond::stats();
    *drained =
        stats.drained_active + stats.drained_partial + stats.drained_full + stats.drained_abandoned;
    stats.remote_frees
}

/// Works with collections, which this copy serves as the library's `#[global_allocator]`; the sum says that it did.
#[unsafe(no_mangle)]
pub extern "C" fn second_works(rounds: u64) -> u64 {
    let texts: Vec<String> = (0..rounds).map(|number| number.to_string()).collect();
    texts
        .iter()
        .map(|text| text.parse::<u64>().unwrap_or(0))
        .sum()
}
