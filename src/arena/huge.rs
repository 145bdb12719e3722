//! Huge pages where memory is dense: they take half of the time of first touches, and misses of the address
//! translation cache from everything else.
//!
//! Asking for them everywhere makes memory resident that nobody touched, and brings back what was given back. So they
//! are asked for region by region, 16 MiB each:
//!
//! - not for the first 32 MiB of an arena: small processes stay small;
//! - when a claim is the first one in a region (claims take the lowest free run, so all below is in use), and it is for
//!   what will be touched as a whole: a page whose blocks of at most 4 KiB are linked when they are carved, or a block of
//!   4 MiB and more. The larger classes between them are often touched in part.
//! - When part of a huge page is given back, no more huge pages are made in its region: the system would otherwise fill
//!   the gaps of those that it assembles, and what was given back would be resident again. A region that became wholly
//!   free and is claimed anew is asked for again. (So whole ones are given back first, `arena::purge`.)
//! - Where huge pages turn out to be slow, regions do without: see `huge_trial.rs`.
//!
//! At most one huge page at the frontier is resident in vain, 2 MiB of 32 and more.
//! `docs/decisions/016-huge-pages.md` has the figures.

use super::bitmap::SliceBitmap;
use super::huge_trial::Trial;
use crate::config;
use crate::os;
use crate::units::{MIB, SLICE_SIZE, SliceCount, SliceIndex};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// A huge page, in slices: 2 MiB, as on x86-64 and on AArch64 with system pages of 4 KiB. Elsewhere they are larger, and
/// this is only the unit in which memory is preferably given back.
pub const UNIT: SliceCount = SliceCount((2 * MIB / SLICE_SIZE) as u32);
/// The unit of advice.
pub const REGION: SliceCount = SliceCount((16 * MIB / SLICE_SIZE) as u32);
/// Regions at the bottom of an arena that never get huge pages.
const SPARED: u32 = 2;
/// The smallest block that is taken to be used as a whole.
pub const WHOLE_BLOCK: SliceCount = SliceCount((4 * MIB / SLICE_SIZE) as u32);

/// Of all arenas.
static TRIAL: Trial = Trial::new();

/// Which regions of an arena have been advised, one bit each. Two threads may disagree for a moment about a region;
/// then it has huge pages where it shouldn't or lacks them where it could have them.
pub struct Regions {
    advised: &'static [AtomicU64],
    count: usize,
}

/// How many words [`Regions`] need for an arena of `slices`.
pub const fn words_for(slices: usize) -> usize {
    SliceBitmap::words_for(slices.div_ceil(REGION.0 as usize))
}

fn region_of(index: SliceIndex) -> u32 {
    index.0 / REGION.0
}

impl Regions {
    /// No region advised.
    pub fn new(advised: &'static [AtomicU64], slices: usize) -> Self {
        Self {
            advised,
            count: slices.div_ceil(REGION.0 as usize),
        }
    }

    fn bits(&self) -> SliceBitmap<'static> {
        SliceBitmap::new(self.advised, self.count)
    }

    /// Whether a claim of `count` slices at `index` may be the first of a region that may have huge pages.
    #[inline]
    pub fn may_begin(index: SliceIndex, count: SliceCount) -> bool {
        let first = index.0.next_multiple_of(REGION.0);
        first < index.0 + count.0 && first / REGION.0 >= SPARED
    }

    /// After a claim of memory that will be touched as a whole, for which [`Regions::may_begin`] holds: asks for huge
    /// pages in each region that begins in it and has nothing in use, and nothing with old contents, but what was
    /// claimed; or takes them away, where they are slow. `base` is where the arena starts, and memory is accessible up to
    /// `committed`.
    #[cold]
    #[inline(never)]
    pub fn begin(
        &self,
        base: NonNull<u8>,
        (index, count): (SliceIndex, SliceCount),
        (claimed, dirty): (SliceBitmap<'_>, SliceBitmap<'_>),
        committed: SliceIndex,
    ) {
        if !config::huge_pages() {
            return;
        }
        let end = index.0 + count.0;
        let mut first = index.0.next_multiple_of(REGION.0);
        let mut tried = false;
        while first < end && first + REGION.0 <= committed.0 {
            let region = SliceIndex(first);
            let ours = SliceCount(REGION.0.min(end - first));
            if claimed.count(region, REGION) == ours && dirty.count(region, REGION).0 == 0 {
                let number = SliceIndex(region_of(region));
                // SAFETY: the region lies in the arena's reservation, and is accessible.
                unsafe { self.advise(base, number, TRIAL.is_due()) };
                // Once a claim, since a large block may not be used after all.
                if !tried && self.is_advised(number) {
                    tried = true;
                    // SAFETY: as above.
                    let start = unsafe { base.add(region.bytes()) };
                    // SAFETY: the start of the region was just claimed for the caller, is accessible, and reads as zero.
                    let took = os::cpu_time_us(|| unsafe { start.write_volatile(0) });
                    if !TRIAL.judge(took, config::huge_page_limit_us()) {
                        // SAFETY: as above.
                        unsafe { self.advise(base, number, false) };
                    }
                }
            }
            first += REGION.0;
        }
    }

    fn is_advised(&self, number: SliceIndex) -> bool {
        self.bits().count(number, SliceCount(1)).0 > 0
    }

    /// Asks for huge pages in a region, or for no more of them, unless that was done already.
    ///
    /// # Safety
    /// The region lies in the reservation that starts at `base`, and is accessible.
    unsafe fn advise(&self, base: NonNull<u8>, number: SliceIndex, wanted: bool) {
        if self.is_advised(number) == wanted {
            return;
        }
        if wanted {
            self.bits().set(number, SliceCount(1));
        } else {
            self.bits().clear(number, SliceCount(1));
        }
        let start = SliceIndex(number.0 * REGION.0);
        // SAFETY: passed on.
        unsafe { os::advise_huge(base.add(start.bytes()), REGION.bytes(), wanted) };
    }

    /// Before slices are given back.
    #[inline]
    pub fn end(&self, base: NonNull<u8>, index: SliceIndex, count: SliceCount) {
        if (index.0 | count.0).is_multiple_of(UNIT.0) {
            return;
        }
        let last = region_of(SliceIndex(index.0 + count.0 - 1));
        for number in region_of(index)..=last {
            if self.is_advised(SliceIndex(number)) {
                // SAFETY: the region was advised, so it lies in the arena's reservation, and is accessible.
                unsafe { self.advise(base, SliceIndex(number), false) };
            }
        }
    }
}
