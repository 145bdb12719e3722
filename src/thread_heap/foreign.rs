//! What isn't freed, because it isn't a block's: the end of the process, with a sentence.

use crate::abort;
use crate::large;
use std::ptr::NonNull;

/// What a program did wrong where a page has more free blocks than blocks.
pub const DOUBLE_FREE: &str =
    "this block is freed twice, or was never allocated; look for a second free of it";
const FOREIGN: &str =
    "freeing a pointer that Millpond did not allocate, or whose block is freed already";
const INTERIOR: &str =
    "freeing a pointer into the middle of a block; free takes the pointer that alloc returned";

/// Ends the process because of a pointer that isn't a block's.
#[cold]
#[inline(never)]
pub fn foreign(block: NonNull<u8>) -> ! {
    crate::stats::counters::shard(block.addr().get())
        .registry_misses
        .add_shared(1);
    let inside = large::holding(block.addr().get()).is_some();
    abort::misuse(block.addr().get(), if inside { INTERIOR } else { FOREIGN })
}
