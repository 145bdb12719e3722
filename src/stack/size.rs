//! The sizes of stacks: powers of two from 64 KiB to 64 MiB.

use super::StackError;
use crate::units::{KIB, MIB, SLICE_SHIFT};

/// How many sizes there are.
pub const CLASSES: usize = 11;

/// The size of a stack's slot: a power of two from 64 KiB to 64 MiB. Address space only: what a stack takes of memory
/// is what was touched. One system page of it, at the low end, is the guard.
///
/// ```
/// use millpond::stack::StackSize;
///
/// assert_eq!(StackSize::DEFAULT.bytes(), 64 << 10);
/// assert_eq!(StackSize::custom(100_000)?, StackSize::custom(128 << 10)?);
/// # Ok::<(), millpond::stack::StackError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackSize(u8);

impl StackSize {
    /// 64 KiB.
    pub const KIB_64: Self = Self(0);
    /// 256 KiB.
    pub const KIB_256: Self = Self(2);
    /// 1 MiB.
    pub const MIB_1: Self = Self(4);
    /// 64 KiB.
    pub const DEFAULT: Self = Self::KIB_64;
    /// The smallest, in bytes: 64 KiB.
    pub const MIN_BYTES: usize = 64 * KIB;
    /// The largest, in bytes: 64 MiB.
    pub const MAX_BYTES: usize = 64 * MIB;

    /// The smallest size of at least `bytes`, guard included. Smaller requests than 64 KiB get 64 KiB: an untouched
    /// page of a stack costs nothing.
    ///
    /// # Errors
    /// [`StackError::TooLarge`] where `bytes` exceeds 64 MiB.
    pub const fn custom(bytes: usize) -> Result<Self, StackError> {
        if bytes > Self::MAX_BYTES {
            return Err(StackError::TooLarge);
        }
        let mut class = 0;
        while Self::MIN_BYTES << class < bytes {
            class += 1;
        }
        Ok(Self(class))
    }

    /// The bytes of a slot of this size, guard included. Where system pages are so large that a slot would have fewer
    /// than four (64 KiB on some AArch64 systems), stacks of the next size that has four are handed out.
    pub const fn bytes(self) -> usize {
        1 << self.shift()
    }

    /// The index of the class that serves this size.
    #[cfg(native)]
    #[inline(always)]
    pub(super) fn class(self) -> usize {
        let class = usize::from(self.0);
        #[cfg(not(target_arch = "x86_64"))]
        let class = {
            let least = crate::os::page_bytes().trailing_zeros() + 2;
            class.max(least.saturating_sub(SLICE_SHIFT) as usize)
        };
        class
    }

    const fn shift(self) -> u32 {
        SLICE_SHIFT + self.0 as u32
    }
}

impl Default for StackSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

static_assertions::const_assert!(StackSize(CLASSES as u8 - 1).bytes() == StackSize::MAX_BYTES);
static_assertions::const_assert!(StackSize::KIB_64.bytes() == 64 * KIB);
static_assertions::const_assert!(StackSize::KIB_256.bytes() == 256 * KIB);
static_assertions::const_assert!(StackSize::MIB_1.bytes() == MIB);
