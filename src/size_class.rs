//! Size classes: which block size serves a request.
//!
//! Eight classes a doubling above 128 bytes bound the internal waste at 12.5% of the request; below, steps of 16
//! bytes (and one class of 8). The scheme is jemalloc's and mimalloc's, with eight steps where they take four.
//!
//! ```text
//! class   0   1   2   3 ..  8    9 ..  16   17 ..  24   ..  48
//! bytes   8  16  32  48   128  144 .. 256  288 .. 512   ..  4096
//! ```
//!
//! Natural alignment: the step between classes of one doubling is a power of two that divides each of them, so a
//! request whose size is a multiple of its alignment gets a class that is one too. Pages start on 64 KiB, so every
//! block of such a class is aligned, for every alignment up to 64 KiB.
//!
//! Colours: above 4 KiB each class is [`COLOUR`] bytes larger than that. Blocks that start at multiples of 4 KiB share a
//! few sets of the first-level cache, and each of them that a program writes at both ends costs two system pages, where
//! the end of one and the start of the next now share one (Bonwick, 1994, colours slabs for the same reason). Requests with
//! an alignment above [`MEDIUM_ALIGN`] have classes of their own there, without the colour: `docs/decisions/017-colours.md`.
//!
//! ```text
//! class  49    50  ..    88      89    90    91  ..   129
//! bytes  4224  4736 .. 123008  131072  4608  5120 .. 131072
//!        for any alignment up to 128   for larger ones
//! ```

use crate::units::{KIB, SLICE_SIZE, SliceCount, align_up};
use static_assertions::const_assert;
use std::sync::atomic::{AtomicU32, Ordering};

/// The number of classes.
pub const CLASSES: usize =
    ALIGNED.0 as usize + (plain(MAX_BINNED) - plain(MAX_UNCOLOURED)) as usize;
/// The first class for alignments above [`MEDIUM_ALIGN`].
const ALIGNED: SizeClass = SizeClass(compute(MAX_BINNED) + 1);
/// The largest size that a class serves; above it a block has a page of its own.
pub const MAX_BINNED: usize = 128 * KIB;
/// The largest size whose bin is read from a table.
pub const MAX_SMALL: usize = KIB;
/// The largest block that is dense: see [`SizeClass::is_dense`].
pub const MAX_DENSE: usize = 4 * KIB;
/// The largest alignment for which the size alone gives the bin: with 16, a size of 8 or less needs another class.
pub const MAX_SMALL_ALIGN: usize = 8;
/// The largest alignment that a class can serve.
pub const MAX_BINNED_ALIGN: usize = SLICE_SIZE;

/// The largest class whose blocks aren't coloured.
const MAX_UNCOLOURED: usize = 4 * KIB;
/// By how much the others are larger.
const COLOUR: usize = MEDIUM_ALIGN;

/// The index of a size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct SizeClass(pub u8);

/// The class for any alignment up to [`MEDIUM_ALIGN`].
const fn compute(size: usize) -> u8 {
    if size > MAX_UNCOLOURED {
        // One further: the plain class of 4 KiB stays, and the smallest coloured one comes after it.
        return plain(size - COLOUR) + 1;
    }
    plain(size)
}

/// The class for a larger alignment, of which the size is a multiple.
const fn compute_aligned(size: usize) -> u8 {
    if size > MAX_UNCOLOURED {
        return ALIGNED.0 + (plain(size) - plain(MAX_UNCOLOURED) - 1);
    }
    plain(size)
}

/// The class if there were no colours.
const fn plain(size: usize) -> u8 {
    if size <= 8 {
        return 0;
    }
    if size <= 128 {
        return size.div_ceil(16) as u8;
    }
    let last = size - 1;
    let exponent = usize::BITS - 1 - last.leading_zeros();
    let eighth = last >> (exponent - 3);
    (9 + (exponent as usize - 7) * 8 + (eighth - 8)) as u8
}

const fn compute_bytes(class: usize) -> u32 {
    let first = plain(MAX_UNCOLOURED) as usize + 1;
    if class >= ALIGNED.0 as usize {
        return plain_bytes(first + class - ALIGNED.0 as usize);
    }
    if class < first {
        return plain_bytes(class);
    }
    let bytes = plain_bytes(class - 1) + COLOUR as u32;
    if bytes > MAX_BINNED as u32 {
        return MAX_BINNED as u32;
    }
    bytes
}

const fn plain_bytes(class: usize) -> u32 {
    match class {
        0 => 8,
        1..=8 => class as u32 * 16,
        _ => {
            let doubling = (class - 9) / 8;
            let eighth = (class - 9) % 8;
            ((9 + eighth) << (doubling + 4)) as u32
        }
    }
}

/// For each size of a class, where its bin lies in a heap. Each heap has a copy, which spares the fast paths an address.
#[derive(Clone, Copy)]
pub struct BinTable {
    /// One entry for each size, which spares a shift.
    small: [u16; MAX_SMALL + 1],
    /// One entry for each multiple of [`MEDIUM_ALIGN`], less one.
    medium: [u16; MAX_BINNED / MEDIUM_ALIGN],
}

impl BinTable {
    /// The table.
    pub const fn new() -> Self {
        let mut small = [0; MAX_SMALL + 1];
        let mut size = 0;
        while size < small.len() {
            small[size] = SizeClass(compute(size)).bin().0 as u16;
            size += 1;
        }
        let mut medium = [0; MAX_BINNED / MEDIUM_ALIGN];
        let mut index = 0;
        while index < medium.len() {
            let size = (index + 1) * MEDIUM_ALIGN;
            medium[index] = SizeClass(compute(size)).bin().0 as u16;
            index += 1;
        }
        Self { small, medium }
    }

    /// The bin for a size of at most [`MAX_SMALL`] with an alignment of at most [`MAX_SMALL_ALIGN`].
    #[inline(always)]
    pub fn small(&self, size: usize) -> BinOffset {
        debug_assert!(size <= MAX_SMALL);
        // SAFETY: the table has an entry for each size up to MAX_SMALL.
        BinOffset(usize::from(unsafe { *self.small.get_unchecked(size) }))
    }

    /// The bin for a size above [`MAX_SMALL`] up to [`MAX_BINNED`], with an alignment of at most [`MEDIUM_ALIGN`] the bin of
    /// the layout: in a third of the instructions that computing it takes.
    #[inline(always)]
    pub fn medium(&self, size: usize) -> BinOffset {
        debug_assert!(size > MAX_SMALL && size <= MAX_BINNED);
        let index = (size - 1) / MEDIUM_ALIGN;
        // SAFETY: the table has an entry for each multiple up to MAX_BINNED, and the size isn't above that.
        BinOffset(usize::from(unsafe { *self.medium.get_unchecked(index) }))
    }
}

/// The slices of a page for blocks of 17 to 48 bytes and of 193 bytes to 1 KiB.
static DECIDED_SLICES: AtomicU32 = AtomicU32::new(4);

/// From now on these pages have 64 KiB: for processes with little address space, of which each thread would have a page for
/// each of 22 such classes. No page of these classes may exist.
pub fn use_small_pages() {
    DECIDED_SLICES.store(1, Ordering::Relaxed);
}

/// Whether that is so.
pub fn are_pages_small() -> bool {
    // Relaxed: decided once, before any page is made.
    DECIDED_SLICES.load(Ordering::Relaxed) == 1
}

/// The largest alignment that every block above [`MAX_SMALL`] has: their sizes are multiples of it.
pub const MEDIUM_ALIGN: usize = MAX_SMALL / 8;

/// The bin of the smallest class above [`MAX_SMALL`].
pub const FIRST_MEDIUM: BinOffset = SizeClass(compute(MAX_SMALL + 1)).bin();

static BYTES: [u32; CLASSES] = {
    let mut bytes = [0; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        bytes[i] = compute_bytes(i);
        i += 1;
    }
    bytes
};

/// So many blocks a page of a class above 4 KiB has at least, as one of 4 KiB has, if that takes no more than a MiB.
const BLOCKS: usize = 16;
const MOST_SLICES: usize = 16;

/// The slices of a page of each class; 0 where they are not decided yet.
static SLICES: [u8; CLASSES] = {
    let mut slices = [0; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        slices[i] = match compute_bytes(i) as usize {
            17..=48 | 193..=KIB => 0,
            bytes if bytes <= MAX_UNCOLOURED => 1,
            bytes => {
                let mut slices = 1;
                while slices < MOST_SLICES && slices * SLICE_SIZE / bytes < BLOCKS {
                    slices *= 2;
                }
                slices as u8
            }
        };
        i += 1;
    }
    slices
};

/// The blocks of such a page; 0 likewise.
static CAPACITIES: [u16; CLASSES] = {
    let mut capacities = [0; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        let bytes = SliceCount(SLICES[i] as u32).bytes();
        capacities[i] = (bytes / compute_bytes(i) as usize) as u16;
        i += 1;
    }
    capacities
};

/// See [`SizeClass::sparse_live`].
static SPARSE_SHIFTS: [u8; CLASSES] = {
    let mut shifts = [3; CLASSES];
    let mut i = 0;
    while i < CLASSES {
        while compute_bytes(i) << shifts[i] < 2 * MAX_DENSE as u32 {
            shifts[i] += 1;
        }
        i += 1;
    }
    shifts
};

const_assert!(compute_aligned(MAX_BINNED) as usize == CLASSES - 1);
const_assert!(compute_bytes(CLASSES - 1) as usize == MAX_BINNED);
const_assert!(compute_bytes(compute(MAX_BINNED) as usize) as usize == MAX_BINNED);
const_assert!(CLASSES <= u8::MAX as usize);
const_assert!(compute_bytes(8) == 128 && compute_bytes(9) == 144);
const_assert!(compute_bytes(compute(MAX_SMALL + 1) as usize) as usize == MAX_SMALL + MEDIUM_ALIGN);

impl SizeClass {
    /// The class for a request, the same for `alloc`, `dealloc` and the unsized entry points; `None` when the
    /// request needs a page of its own.
    #[inline]
    pub const fn of(size: usize, align: usize) -> Option<Self> {
        if align > MAX_BINNED_ALIGN {
            return None;
        }
        // A block of size 0 has an address of its own, and so a byte.
        let size = if size == 0 { 1 } else { size };
        match align_up(size, align) {
            Some(need) if need > MAX_BINNED => None,
            Some(need) if align > MEDIUM_ALIGN => Some(Self(compute_aligned(need))),
            Some(need) => Some(Self(compute(need))),
            None => None,
        }
    }

    /// Where its bin lies.
    #[inline]
    pub const fn bin(self) -> BinOffset {
        BinOffset(self.0 as usize * BIN_BYTES)
    }

    /// The size of a block of this class in bytes.
    #[inline]
    pub fn bytes(self) -> usize {
        BYTES[self.0 as usize] as usize
    }

    /// Whether carving a block touches every system page of it (of 4 KiB).
    #[inline]
    pub const fn is_dense(self) -> bool {
        self.0 <= compute(MAX_DENSE)
    }

    /// The slices of a page of this class: 64 KiB up to blocks of 4 KiB, but 256 KiB for those of 17 to 48 bytes and of 193
    /// bytes to 1 KiB (64 after [`use_small_pages`]); then what 16 to 31 blocks take, up to 1 MiB.
    /// `docs/decisions/004-page-sizes.md` has the figures.
    #[inline]
    pub fn page_slices(self) -> SliceCount {
        let slices = SLICES[self.0 as usize];
        if slices == 0 {
            // Relaxed: pages of these classes are made after the decision only.
            return SliceCount(DECIDED_SLICES.load(Ordering::Relaxed));
        }
        SliceCount(u32::from(slices))
    }

    /// Which of the [`PAGE_SIZES`] its pages have.
    #[inline]
    pub fn page_size_index(self) -> usize {
        self.page_slices().0.trailing_zeros() as usize
    }

    /// How many blocks a page of this class holds.
    #[inline]
    pub fn capacity(self) -> u32 {
        match CAPACITIES[self.0 as usize] {
            0 => (self.page_slices().bytes() / self.bytes()) as u32,
            blocks => u32::from(blocks),
        }
    }

    /// So few live blocks of `blocks` make a page sparse: an eighth at most, and no more than one for every other system page.
    #[inline]
    pub fn sparse_live(self, blocks: u32) -> u32 {
        blocks >> SPARSE_SHIFTS[self.0 as usize]
    }

    /// All classes, smallest first, then those for large alignments likewise.
    #[cfg(any(native, test))]
    pub fn all() -> impl Iterator<Item = SizeClass> {
        (0..CLASSES as u8).map(SizeClass)
    }
}

/// The distance between two bins of a heap.
pub const BIN_BYTES: usize = 32;

/// Where the bin of a class lies in its heap, in bytes: what the fast paths have in place of the class. All zero bits
/// are the first bin. A whole word, since a part of one would have to be extended where it is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct BinOffset(usize);

const_assert!(CLASSES * BIN_BYTES <= u16::MAX as usize);

impl BinOffset {
    /// Behind the bins of the classes: a bin that never has a page, for blocks without a class.
    pub const NONE: Self = Self(CLASSES * BIN_BYTES);

    /// As a number, for where it is kept in an atomic.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    /// From what [`BinOffset::bits`] gave.
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits as usize)
    }

    /// The class whose bin this is.
    #[inline]
    pub const fn class(self) -> SizeClass {
        SizeClass((self.0 / BIN_BYTES) as u8)
    }

    /// The distance from the start of the heap in bytes.
    #[inline(always)]
    pub const fn bytes(self) -> usize {
        self.0
    }
}

/// The number of page sizes: 1, 2, 4, 8 and 16 slices.
pub const PAGE_SIZES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn medium_bins_are_the_classes_bins() {
        let table = BinTable::new();
        for size in MAX_SMALL + 1..=MAX_BINNED {
            for align in [1, 8, 16, 32, 64, MEDIUM_ALIGN] {
                let class = SizeClass::of(size, align).unwrap();
                assert_eq!(class.bin(), table.medium(size), "{size} at {align}");
                assert!(class.bytes().is_multiple_of(align));
            }
        }
    }

    #[test]
    fn classes_increase_and_round_trip() {
        let mut before = 0;
        for class in SizeClass::all() {
            let bytes = class.bytes();
            if class == ALIGNED {
                before = MAX_UNCOLOURED;
            }
            assert!(
                bytes > before,
                "{class:?} is not larger than the class below"
            );
            for size in [before + 1, bytes] {
                let align = if class < ALIGNED { 1 } else { 2 * MEDIUM_ALIGN };
                let found = SizeClass::of(size, align);
                assert_eq!(found, Some(class), "size {size}");
            }
            assert!(class.capacity() >= 8 && class.page_size_index() < PAGE_SIZES);
            before = bytes;
        }
    }

    #[test]
    fn colours_spread_what_large_alignments_do_not() {
        for size in [5000, 8 * KIB, 16 * KIB, 100_000] {
            let coloured = SizeClass::of(size, MEDIUM_ALIGN).unwrap();
            let aligned = SizeClass::of(size, 2 * MEDIUM_ALIGN).unwrap();
            assert!(coloured < ALIGNED && aligned >= ALIGNED, "{size}");
            assert_eq!(coloured.bytes() % (2 * MEDIUM_ALIGN), MEDIUM_ALIGN);
        }
        assert_eq!(SizeClass::of(4096, 4096), SizeClass::of(4096, 1));
    }

    #[test]
    fn the_largest_class_is_the_limit() {
        assert!(SizeClass::of(MAX_BINNED, 1).is_some());
        assert!(SizeClass::of(MAX_BINNED + 1, 1).is_none());
        assert!(SizeClass::of(usize::MAX, 1).is_none());
        assert!(SizeClass::of(usize::MAX, 4096).is_none());
        assert!(SizeClass::of(1, MAX_BINNED_ALIGN).is_some());
        assert!(SizeClass::of(1, 2 * MAX_BINNED_ALIGN).is_none());
    }

    proptest! {
        #[test]
        fn waste_is_bounded(size in 129..=MAX_BINNED) {
            let bytes = SizeClass::of(size, 1).unwrap().bytes();
            prop_assert!(bytes >= size);
            prop_assert!((bytes - size) * 8 <= size, "{size} bytes get {bytes}");
        }

        #[test]
        fn small_waste_is_under_16_bytes(size in 9_usize..=128) {
            let bytes = SizeClass::of(size, 1).unwrap().bytes();
            prop_assert!(bytes >= size && bytes - size < 16);
        }

        #[test]
        fn blocks_are_naturally_aligned(size in 0..=MAX_BINNED, shift in 0_u32..=16) {
            let align = 1_usize << shift;
            if let Some(class) = SizeClass::of(size, align) {
                prop_assert!(class.bytes() >= size);
                prop_assert_eq!(class.bytes() % align, 0, "size {} align {}", size, align);
            } else {
                prop_assert!(align_up(size, align).unwrap() > MAX_BINNED);
            }
        }

        #[test]
        fn sixteen_bytes_and_more_are_aligned_for_c(size in 16..=MAX_BINNED) {
            prop_assert_eq!(SizeClass::of(size, 1).unwrap().bytes() % 16, 0);
        }

        #[test]
        fn the_table_agrees_with_the_function(size in 0..=MAX_SMALL, shift in 0_u32..=3) {
            let align = 1_usize << shift;
            let bin = BinTable::new().small(size);
            prop_assert_eq!(Some(bin.class()), SizeClass::of(size, align));
        }

        #[test]
        fn classes_are_monotone(size in 0..MAX_BINNED, shift in 0_u32..=16) {
            let align = 1_usize << shift;
            let (here, next) = (SizeClass::of(size, align), SizeClass::of(size + 1, align));
            if let (Some(here), Some(next)) = (here, next) {
                prop_assert!(here <= next);
            }
        }
    }
}
