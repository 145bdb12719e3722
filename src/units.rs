//! The units of address space, as types, so that a slice count is never passed for a byte count.

use static_assertions::const_assert;

/// log2 of [`SLICE_SIZE`].
pub const SLICE_SHIFT: u32 = 16;
/// A slice, the unit of address space: 64 KiB.
pub const SLICE_SIZE: usize = 1 << SLICE_SHIFT;
/// The system page that the limits below are stated in. Larger system pages (16 or 64 KiB on AArch64) divide a
/// slice too, and nothing smaller than a slice is ever handed back to the system.
pub const KIB: usize = 1024;
/// One mebibyte in bytes.
pub const MIB: usize = 1024 * KIB;

const_assert!(SLICE_SIZE == 64 * KIB);

/// The position of a slice in its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SliceIndex(pub u32);

impl SliceIndex {
    /// The distance from the start of the arena in bytes.
    #[inline]
    pub const fn bytes(self) -> usize {
        (self.0 as usize) << SLICE_SHIFT
    }
}

/// A number of slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SliceCount(pub u32);

impl SliceCount {
    /// The slices that `bytes` need; `None` when that exceeds what a `u32` counts (256 TiB).
    #[inline]
    pub fn covering(bytes: usize) -> Option<Self> {
        let slices = bytes.div_ceil(SLICE_SIZE);
        u32::try_from(slices).ok().map(Self)
    }

    /// The size in bytes.
    #[inline]
    pub const fn bytes(self) -> usize {
        (self.0 as usize) << SLICE_SHIFT
    }
}

/// `value` rounded up to a multiple of `align`, a power of two; `None` on overflow.
#[inline]
pub const fn align_up(value: usize, align: usize) -> Option<usize> {
    debug_assert!(align.is_power_of_two());
    match value.checked_add(align - 1) {
        Some(sum) => Some(sum & !(align - 1)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covering_rounds_up() {
        assert_eq!(SliceCount::covering(0), Some(SliceCount(0)));
        assert_eq!(SliceCount::covering(1), Some(SliceCount(1)));
        assert_eq!(SliceCount::covering(SLICE_SIZE), Some(SliceCount(1)));
        assert_eq!(SliceCount::covering(SLICE_SIZE + 1), Some(SliceCount(2)));
        assert_eq!(SliceCount::covering(usize::MAX), None);
    }

    #[test]
    fn align_up_stops_at_overflow() {
        assert_eq!(align_up(1, 16), Some(16));
        assert_eq!(align_up(16, 16), Some(16));
        assert_eq!(align_up(usize::MAX, 16), None);
    }
}
