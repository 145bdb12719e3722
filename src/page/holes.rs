//! Holes: system pages inside a page whose contents were given back. The blocks that start in them are free and on no list. One
//! bit each, from the page's start; none where blocks are larger than a system page.

use crate::free_list::address_order::{Blocks, Marks};
use crate::size_class::SizeClass;
use std::ops::Range;

/// The unit of holes in a page, in bytes. Where system pages are larger, there are no holes.
pub const HOLE: usize = crate::size_class::MAX_DENSE;

/// Of the first `blocks` blocks of a page, those that start in a system page of it.
pub fn starting_in(class: SizeClass, blocks: u32, hole: usize) -> Range<u32> {
    let bytes = class.bytes();
    let first = |offset: usize| (offset.div_ceil(bytes) as u32).min(blocks);
    first(hole * HOLE)..first((hole + 1) * HOLE)
}

/// How many of a page's blocks start in holes.
pub fn sunk_in(class: SizeClass, holes: u64) -> u32 {
    numbers(holes)
        .map(|hole| starting_in(class, class.capacity(), hole).len() as u32)
        .sum()
}

/// The system pages, other than the `old` holes, of which nothing is in use: of those in the first `bytes` bytes of the page,
/// whose first `carved` blocks are free where they are marked, or start in an old hole.
pub fn wholly_free(blocks: Blocks, free: &Marks, carved: u32, old: u64, bytes: usize) -> u64 {
    let is_free = |index: usize| {
        index >= carved as usize || free.has(index) || old >> (index * blocks.bytes / HOLE) & 1 == 1
    };
    let mut new = 0;
    for number in (0..bytes.div_ceil(HOLE)).filter(|number| old >> number & 1 == 0) {
        let part = number * HOLE..(number + 1) * HOLE;
        let mut touching = part.start / blocks.bytes..part.end.div_ceil(blocks.bytes);
        if touching.all(is_free) {
            new |= 1 << number;
        }
    }
    new
}

/// The numbers of the holes, lowest first.
pub fn numbers(holes: u64) -> impl DoubleEndedIterator<Item = usize> {
    (0..u64::BITS as usize).filter(move |number| holes >> number & 1 == 1)
}

/// The runs of holes, lowest first.
pub fn runs(mut holes: u64) -> impl Iterator<Item = Range<usize>> {
    std::iter::from_fn(move || {
        (holes != 0).then(|| {
            let start = holes.trailing_zeros();
            let end = start + (holes >> start).trailing_ones();
            holes &= u64::MAX.checked_shl(end).unwrap_or(0);
            start as usize..end as usize
        })
    })
}
