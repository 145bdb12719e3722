//! Recycling credit: larger blocks of other pages, own or foreign, that go straight back into use.
//!
//! A refill grants its bin credit for about a megabyte of blocks, for classes of 1 KiB and more. A free outside the
//! current page spends one and puts the block on the bin's list: no descriptor is written, no compare-and-swap done,
//! no page enters or leaves a queue. To its page the block stays live. With frees in random order each page has a free
//! block now and then, and without credit almost every allocation would open another page for it.
//!
//! Bounded: a bin holds at most its grant in such blocks, since the grant is made when the list is empty, and the grants
//! of a heap come from a pool. Whoever flushes a bin returns each block to its page.
//!
//! Below 1 KiB the other path is cheap, and recycling foreign blocks would invite false sharing.

use super::{Bin, Heap};
use crate::size_class::SizeClass;
use crate::units::{KIB, MIB};

/// All grants of a heap together, in bytes.
pub const POOL_BYTES: usize = 16 * MIB;
/// One grant, in bytes.
const GRANT_BYTES: usize = MIB;
/// The smallest class that gets credit.
const FROM_BYTES: usize = KIB;

/// Gives the bin, whose list has just run empty, a new grant in place of what is left of the old one.
#[inline]
pub fn grant(heap: &Heap, bin: &Bin, class: SizeClass) {
    let bytes = class.bytes();
    if bytes < FROM_BYTES {
        return;
    }
    let pool = heap.credit_pool.get() + take_back(bin, bytes);
    let blocks = pool.min(GRANT_BYTES) / bytes;
    bin.granted.set(blocks as u16);
    bin.credit.set(blocks as u16);
    heap.credit_pool.set(pool - blocks * bytes);
}

/// Takes the bin's grant back into the pool. Only for a bin whose list holds no recycled block.
pub fn revoke(heap: &Heap, bin: &Bin, class: SizeClass) {
    heap.credit_pool
        .set(heap.credit_pool.get() + take_back(bin, class.bytes()));
}

fn take_back(bin: &Bin, bytes: usize) -> usize {
    bin.credit.set(0);
    bin.granted.replace(0) as usize * bytes
}

static_assertions::const_assert!(GRANT_BYTES / FROM_BYTES <= u16::MAX as usize);
