//! Arenas: large reservations carved into slices.
//!
//! An arena is one over-mapped reservation, fenced off until it is used: memory becomes accessible from the bottom up
//! in steps, so that `mlockall` and strict accounting meet what is used and not what is reserved. A bitmap says which
//! slices are claimed, a second one which hold old contents; a claimed run without old contents reads as zero.

pub mod bitmap;
#[cfg(native)]
pub mod huge;
#[cfg(native)]
mod huge_trial;
#[cfg(native)]
pub mod mappings;
#[cfg(native)]
pub mod meta;
pub mod registry;
#[cfg(native)]
pub mod reserve;
pub mod shelf;
#[cfg(native)]
pub mod shelves;
pub mod slots;

#[cfg(native)]
pub use native::*;

#[cfg(native)]
mod native {
    use super::bitmap::SliceBitmap;
    use super::huge::{self, Regions};
    use super::{mappings, meta, registry, reserve, shelves};
    use crate::os::{self, Reservation};
    use crate::units::{KIB, MIB, SLICE_SIZE, SliceCount, SliceIndex};
    use std::ptr::{self, NonNull};
    use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

    /// The largest block that lives in an arena; a larger one gets a mapping of its own.
    pub const MAX_ARENA_BLOCK: usize = 32 * MIB;
    /// The sizes of reservations tried, largest first, before the exact need.
    const STEPS: [usize; 5] = [64 << 30, 1 << 30, 64 * MIB, 8 * MIB, MIB];
    /// Arenas start on a multiple of the largest page, so that no page spans two arrays of the registry.
    const ARENA_ALIGN: usize = MIB;
    /// Where the first arena is smaller, address space is scarce.
    const PLENTY: usize = 64 * MIB;
    /// How much is made accessible at once.
    const COMMIT_STEP: usize = 16 * MIB;
    const MAX_ARENAS: usize = 4096;
    /// Powers of two whose lowest possible position is remembered.
    const HINTS: usize = 5;
    /// How far a claim looks for slices without old contents, in words of the bitmap: 256 MiB.
    const CLEAN_WORDS: usize = 64;

    struct Arena {
        /// Kept so that the raw base would be what gets unmapped; arenas live as long as the process.
        _reservation: Reservation,
        base: NonNull<u8>,
        slices: usize,
        claimed: &'static [AtomicU64],
        dirty: &'static [AtomicU64],
        /// Which parts were advised to have huge pages.
        regions: Regions,
        /// Slices below this index are accessible.
        committed: AtomicU32,
        /// For runs of 1, 2, 4, 8 and 16 slices: no free run lies below, as far as is known.
        lowest: [AtomicU32; HINTS],
    }

    // SAFETY: all that changes is atomic, and the base is an address.
    unsafe impl Sync for Arena {}

    static ARENAS: [AtomicPtr<Arena>; MAX_ARENAS] =
        [const { AtomicPtr::new(ptr::null_mut()) }; MAX_ARENAS];
    /// The step of `STEPS` to start with: those the system refused are not tried again. 255: not probed yet.
    static FIRST_STEP: AtomicU8 = AtomicU8::new(u8::MAX);
    static RESERVED_BYTES: AtomicUsize = AtomicUsize::new(0);
    static COMMITTED_BYTES: AtomicUsize = AtomicUsize::new(0);
    static MISALIGNED: AtomicU64 = AtomicU64::new(0);

    /// What the claimer of slices will do with them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Usage {
        /// All of them will be touched, so they may have huge pages.
        Whole,
        /// Some of them.
        Part,
        /// Perhaps few: slices without old contents are preferred, since others have a better use for what is resident.
        Little,
    }

    /// A claimed run of slices.
    #[derive(Clone, Copy, Debug)]
    pub struct Run {
        /// The first byte.
        pub start: NonNull<u8>,
        /// The arena's number.
        pub arena: u32,
        /// All of it reads as zero.
        pub clean: bool,
        /// All of it has been in use, and little was given back since.
        pub resident: bool,
    }

    fn arena(number: usize) -> Option<&'static Arena> {
        // Acquire pairs with the Release that published the arena.
        let arena = ARENAS.get(number)?.load(Ordering::Acquire);
        // SAFETY: published arenas live for ever.
        unsafe { arena.as_ref() }
    }

    fn arenas() -> impl Iterator<Item = (usize, &'static Arena)> {
        (0..MAX_ARENAS).map_while(|number| Some((number, arena(number)?)))
    }

    impl Arena {
        fn claimed(&self) -> SliceBitmap<'static> {
            SliceBitmap::new(self.claimed, self.slices)
        }

        fn dirty(&self) -> SliceBitmap<'static> {
            SliceBitmap::new(self.dirty, self.slices)
        }

        fn at(&self, index: SliceIndex) -> NonNull<u8> {
            // SAFETY: the index lies in the arena's reservation.
            unsafe { self.base.add(SliceCount(index.0).bytes()) }
        }

        fn index_of(&self, start: NonNull<u8>) -> SliceIndex {
            SliceIndex(((start.addr().get() - self.base.addr().get()) / SLICE_SIZE) as u32)
        }

        /// The hint for runs of this size, if there is one.
        fn hint(&self, count: SliceCount) -> Option<&AtomicU32> {
            if count.0.is_power_of_two() {
                self.lowest.get(count.0.trailing_zeros() as usize)
            } else {
                None
            }
        }

        /// Makes the run accessible; false when the system refuses.
        fn commit(&self, index: SliceIndex, count: SliceCount) -> bool {
            let end = index.0 + count.0;
            // Acquire pairs with the Release below: the memory is accessible.
            let committed = self.committed.load(Ordering::Acquire);
            if end <= committed {
                return true;
            }
            let step = (COMMIT_STEP / SLICE_SIZE) as u32;
            let target = end.next_multiple_of(step).min(self.slices as u32);
            let bytes = SliceCount(target - committed).bytes();
            let from = self.at(SliceIndex(committed));
            // Racing commits overlap, which does no harm: none of them takes access away.
            // SAFETY: the range lies in the reservation.
            if !registry::cover(from, bytes) || !unsafe { os::commit(from, bytes) } {
                return false;
            }
            let before = self.committed.fetch_max(target, Ordering::Release);
            if target > before {
                let added = SliceCount(target - before).bytes();
                COMMITTED_BYTES.fetch_add(added, Ordering::Relaxed);
            }
            true
        }

        fn claim(&self, number: usize, count: SliceCount, align: u32, usage: Usage) -> Option<Run> {
            let bias = self.base.addr().get() / SLICE_SIZE;
            let hint = if align <= count.0 {
                self.hint(count)
            } else {
                None
            };
            // Relaxed: a hint may be out of date.
            let from = hint.map_or(0, |hint| hint.load(Ordering::Relaxed));
            if usage == Usage::Whole && count >= huge::WHOLE_BLOCK && align == 1 {
                // Relaxed: a hint.
                let end = SliceIndex(self.committed.load(Ordering::Relaxed));
                if let Some(gap) = self.claimed().tightest(count, end)
                    && self.claimed().claim_at(gap, count)
                {
                    return self.open(number, gap, count, usage);
                }
            }
            let clean = if usage == Usage::Little && reserve::has_slices() {
                let words = (SliceIndex(from), CLEAN_WORDS);
                self.claimed()
                    .claim_without(&self.dirty(), words, count, align, bias)
            } else {
                None
            };
            let index = match clean {
                Some(index) => index,
                None => self.claimed().claim(SliceIndex(from), count, align, bias)?,
            };
            // (A clean run isn't the lowest.)
            if let Some(hint) = hint
                && clean.is_none()
            {
                // A release that lowers the hint meanwhile wins; one that came before and lies between the two
                // is found when a later release lowers the hint, or before an arena is added.
                let _ = hint.compare_exchange(from, index.0, Ordering::Relaxed, Ordering::Relaxed);
            }
            self.open(number, index, count, usage)
        }

        /// Makes a claimed run accessible. `None`, with nothing claimed, when the system refuses.
        fn open(
            &self,
            number: usize,
            index: SliceIndex,
            count: SliceCount,
            usage: Usage,
        ) -> Option<Run> {
            if !self.commit(index, count) {
                self.claimed().release(index, count);
                return None;
            }
            if usage == Usage::Whole && Regions::may_begin(index, count) {
                // Relaxed: as in `commit`, which was called before.
                let committed = SliceIndex(self.committed.load(Ordering::Relaxed));
                let bitmaps = (self.claimed(), self.dirty());
                self.regions
                    .begin(self.base, (index, count), bitmaps, committed);
            }
            let old = self.dirty().count(index, count);
            reserve::claimed(count, old);
            let start = self.at(index);
            if !start.addr().get().is_multiple_of(SLICE_SIZE) {
                MISALIGNED.fetch_add(1, Ordering::Relaxed);
            }
            Some(Run {
                start,
                arena: number as u32,
                clean: old.0 == 0,
                resident: old == count,
            })
        }

        fn lower_hints(&self, index: SliceIndex) {
            for hint in &self.lowest {
                // A plain test first: in the steady state the hint lies below already.
                if hint.load(Ordering::Relaxed) > index.0 {
                    hint.fetch_min(index.0, Ordering::Relaxed);
                }
            }
        }
    }

    /// Claims `count` slices starting at a multiple of `align` slices, both powers of two or the alignment 1.
    /// `None` when the system has no more address space or memory. Lock-free.
    pub fn claim(count: SliceCount, align: u32, usage: Usage) -> Option<Run> {
        loop {
            if let Some(run) =
                arenas().find_map(|(number, arena)| arena.claim(number, count, align, usage))
            {
                return Some(run);
            }
            for (_, arena) in arenas() {
                arena.lower_hints(SliceIndex(0));
            }
            let whole =
                arenas().find_map(|(number, arena)| arena.claim(number, count, align, usage));
            if whole.is_some() {
                return whole;
            }
            // Before an arena is added: that the system refused access may be for what is cached.
            if mappings::empty() == 0 && !shelves::release_all() && !add_arena(count, align) {
                return None;
            }
        }
    }

    /// Whether the system gave so little address space at the first request that it is to be used sparingly, or populates
    /// all that is reserved: the same answer each time. `None` when it gives none at all.
    pub fn is_scarce() -> Option<bool> {
        // As in `claim`.
        while arena(0).is_none() && (mappings::empty() > 0 || add_arena(SliceCount(1), 1)) {}
        Some(arena(0)?.slices < PLENTY / SLICE_SIZE)
    }

    /// Extends a claimed run of `count` slices by the `more` that follow it; whether the added part reads as zero.
    pub fn extend(
        start: NonNull<u8>,
        number: u32,
        count: SliceCount,
        more: SliceCount,
    ) -> Option<bool> {
        let arena = arena(number as usize)?;
        let next = SliceIndex(arena.index_of(start).0 + count.0);
        if !arena.claimed().claim_at(next, more) {
            return None;
        }
        if !arena.commit(next, more) {
            arena.claimed().release(next, more);
            return None;
        }
        let old = arena.dirty().count(next, more);
        reserve::claimed(more, old);
        Some(old.0 == 0)
    }

    /// Frees claimed slices, of which the first `touched` may have been written to. What is then beyond the reserve
    /// is given back to the system before this returns.
    pub fn release(start: NonNull<u8>, number: u32, count: SliceCount, touched: SliceCount) {
        release_untrimmed(start, number, count, touched);
        reserve::trim();
    }

    /// As [`release`], but nothing is given back: what the reserve does itself.
    pub fn release_untrimmed(
        start: NonNull<u8>,
        number: u32,
        count: SliceCount,
        touched: SliceCount,
    ) {
        let Some(arena) = arena(number as usize) else {
            return;
        };
        let index = arena.index_of(start);
        if touched.0 > 0 {
            arena.dirty().set(index, touched);
        }
        let old = arena.dirty().count(index, count);
        // Counted before the slices can be claimed again, or the reserve could go below zero.
        reserve::released(count, old);
        arena.claimed().release(index, count);
        arena.lower_hints(index);
    }

    /// Gives free slices with old contents back to the system, highest first, in merged runs, until `bytes` are
    /// given back or none is left: whole huge pages first, which costs least and leaves nothing behind that would have
    /// to be split. The bytes given back, which are up to a huge page more.
    pub fn purge(bytes: usize) -> usize {
        // Not for what is less than half of one.
        let whole = if bytes >= huge::UNIT.bytes() / 2 {
            purge_runs(bytes, huge::UNIT)
        } else {
            0
        };
        whole + purge_runs(bytes.saturating_sub(whole), SliceCount(1))
    }

    /// As [`purge`], but only runs of whole units.
    fn purge_runs(bytes: usize, unit: SliceCount) -> usize {
        let mut given = 0;
        let last = arenas().count();
        for (_, arena) in (0..last)
            .rev()
            .filter_map(|number| Some((number, arena(number)?)))
        {
            // What is not accessible was never in use. Relaxed: what others release meanwhile they purge themselves.
            let mut below = SliceIndex(arena.committed.load(Ordering::Relaxed));
            while given < bytes {
                let (claimed, dirty) = (arena.claimed(), arena.dirty());
                let Some((first, run)) = dirty.last_run_without(&claimed, below) else {
                    break;
                };
                // The highest part of the run, in whole units, no more than is wanted.
                let end = (first.0 + run.0) / unit.0 * unit.0;
                let start = first.0.next_multiple_of(unit.0);
                if start >= end {
                    below = first;
                    continue;
                }
                let units = (bytes - given).div_ceil(unit.bytes());
                let wanted = units.min((end / unit.0) as usize) as u32 * unit.0;
                let start = SliceIndex(start.max(end - wanted));
                let run = SliceCount(end - start.0);
                below = start;
                // Claimed, so that nobody takes the slices while their contents go.
                if !claimed.claim_at(start, run) {
                    continue;
                }
                let old = dirty.count(start, run);
                arena.regions.end(arena.base, start, run);
                // SAFETY: the slices are claimed by this thread and free, so their contents matter to nobody.
                unsafe { os::discard(arena.at(start), run.bytes()) };
                dirty.clear(start, run);
                reserve::purged(old);
                claimed.release(start, run);
                given += old.bytes();
            }
        }
        given
    }

    /// To be called before anything of `count` claimed slices from `start` on is given back, other than by this module.
    pub fn before_discard(start: NonNull<u8>, number: u32, count: SliceCount) {
        if let Some(arena) = arena(number as usize) {
            arena.regions.end(arena.base, arena.index_of(start), count);
        }
    }

    /// Gives the contents of claimed slices back to the system, and leaves them claimed.
    ///
    /// # Safety
    /// `start` and `count` are slices of arena `number` that the caller has claimed, and whose contents are of no use to
    /// anyone.
    pub unsafe fn discard(start: NonNull<u8>, number: u32, count: SliceCount) {
        before_discard(start, number, count);
        // SAFETY: passed on.
        unsafe { os::discard(start, count.bytes()) };
        if let Some(arena) = arena(number as usize) {
            arena.dirty().clear(arena.index_of(start), count);
        }
        reserve::count_discarded(count.bytes());
    }

    fn add_arena(count: SliceCount, align: u32) -> bool {
        let need = count.bytes()
            + if align > 16 {
                SliceCount(align).bytes()
            } else {
                0
            };
        let mut step = FIRST_STEP.load(Ordering::Relaxed);
        if step == u8::MAX {
            // Where new mappings are locked and populated, only what is needed may be reserved.
            step = if os::populates_mappings() {
                STEPS.len() as u8
            } else {
                0
            };
            FIRST_STEP.store(step, Ordering::Relaxed);
        }
        if step as usize == STEPS.len() {
            // All of an arena is resident at once: a share of what there is, so that the arenas are few and little is
            // resident in vain.
            let share = RESERVED_BYTES.load(Ordering::Relaxed) / 8;
            let share = share.next_multiple_of(MIB).clamp(MIB, 64 * MIB);
            if share > need
                && let Some(added) = try_add(share, true)
            {
                return added;
            }
        }
        for step in step..=STEPS.len() as u8 {
            let bytes = match STEPS.get(step as usize) {
                Some(&bytes) if bytes < need => continue,
                Some(&bytes) => bytes,
                None => need.next_multiple_of(SLICE_SIZE),
            };
            if let Some(added) = try_add(bytes, step as usize >= STEPS.len()) {
                return added;
            }
            // A refusal of the large sizes is for good; the small ones may fit again after something was freed.
            if step < 2 {
                FIRST_STEP.fetch_max(step + 1, Ordering::Relaxed);
            }
        }
        false
    }

    /// `None`: the system refused. Otherwise whether there is a new arena to try.
    fn try_add(bytes: usize, exact: bool) -> Option<bool> {
        // Where address space is scarce, huge pages matter less.
        let align = if bytes >= STEPS[1] {
            huge::UNIT.bytes()
        } else {
            ARENA_ALIGN
        };
        let reservation = os::reserve(bytes, align, c"millpond arena")?;
        if FIRST_STEP.load(Ordering::Relaxed) as usize == STEPS.len() {
            reservation.release_padding();
        }
        let slices = bytes / SLICE_SIZE;
        // SAFETY: nothing uses the new reservation yet. An exact one is used at once, so it isn't fenced.
        let fenced = !exact && unsafe { os::fence(reservation.base(), bytes) };
        let committed = if fenced { 0 } else { slices as u32 };
        // What is fenced gets its descriptors with its access.
        if !fenced && !registry::cover(reservation.base(), bytes) {
            return None;
        }
        let words = SliceBitmap::words_for(slices);
        let record = meta::allocate(size_of::<Arena>())?.cast::<Arena>();
        let bitmap = |words: usize| {
            let memory = meta::allocate(words * size_of::<AtomicU64>())?.cast::<AtomicU64>();
            // SAFETY: fresh zeroed memory for `words` words, never unmapped.
            Some(unsafe { std::slice::from_raw_parts(memory.as_ptr(), words) })
        };
        let (claimed, dirty) = (bitmap(words)?, bitmap(words)?);
        let advised = bitmap(huge::words_for(slices))?;
        let (arena_base, mapped) = (reservation.base(), reservation.mapped_bytes());
        let arena = Arena {
            base: arena_base,
            _reservation: reservation,
            slices,
            claimed,
            dirty,
            regions: Regions::new(advised, slices),
            committed: AtomicU32::new(committed),
            lowest: [const { AtomicU32::new(0) }; HINTS],
        };
        // SAFETY: fresh memory of the right size and alignment.
        unsafe { record.write(arena) };
        // Before the arena is there for others: slices that were claimed earlier would lose their descriptors. One that isn't
        // fenced has its descriptors already.
        let is_span = fenced && registry::span(arena_base, bytes);
        for entry in &ARENAS {
            // Release publishes the record.
            if entry
                .compare_exchange(
                    ptr::null_mut(),
                    record.as_ptr(),
                    Ordering::Release,
                    Ordering::Relaxed,
                )
                .is_ok()
            {
                RESERVED_BYTES.fetch_add(mapped, Ordering::Relaxed);
                COMMITTED_BYTES.fetch_add(SliceCount(committed).bytes(), Ordering::Relaxed);
                return Some(true);
            }
        }
        // The table is full.
        if !is_span {
            // SAFETY: the record was published to nobody.
            drop(unsafe { record.read() });
        }
        Some(false)
    }

    /// Whether the system refused the largest arena: then nothing is to be mapped in advance.
    pub fn address_space_is_limited() -> bool {
        // Relaxed: a number. Without any arena nothing is known yet.
        !matches!(FIRST_STEP.load(Ordering::Relaxed), 0 | u8::MAX)
    }

    /// The sums over all arenas.
    pub struct Totals {
        /// Address space taken.
        pub reserved: usize,
        /// Bytes made accessible.
        pub committed: usize,
        /// How many arenas there are.
        pub arenas: usize,
        /// Claims that didn't start on a slice boundary: always 0.
        pub misaligned: u64,
    }

    /// The sums over all arenas right now.
    pub fn totals() -> Totals {
        // Relaxed: statistics.
        Totals {
            reserved: RESERVED_BYTES.load(Ordering::Relaxed),
            committed: COMMITTED_BYTES.load(Ordering::Relaxed),
            arenas: arenas().count(),
            misaligned: MISALIGNED.load(Ordering::Relaxed),
        }
    }

    /// Counts a mapping of its own in or out of the totals.
    pub fn count_mapping(bytes: usize, added: bool) {
        for total in [&RESERVED_BYTES, &COMMITTED_BYTES] {
            // Relaxed: statistics.
            if added {
                total.fetch_add(bytes, Ordering::Relaxed)
            } else {
                total.fetch_sub(bytes, Ordering::Relaxed)
            };
        }
    }

    /// The first bytes of all claimed slices, for debug walks and the repair after `fork`: proportional to the memory
    /// in use.
    pub fn each_claimed_slice(mut visit: impl FnMut(NonNull<u8>)) {
        for (_, arena) in arenas() {
            // What the visitor claimed is accessible: it has no page above.
            let words = (arena.committed.load(Ordering::Relaxed) as usize).div_ceil(64);
            for (word, bits) in arena.claimed.iter().enumerate().take(words) {
                // Relaxed: the visitor looks at its own pages only, which it claimed itself.
                let mut bits = bits.load(Ordering::Relaxed);
                while bits != 0 {
                    let slice = word * 64 + bits.trailing_zeros() as usize;
                    visit(arena.at(SliceIndex(slice as u32)));
                    bits &= bits - 1;
                }
            }
        }
    }

    static_assertions::const_assert!(
        MAX_ARENA_BLOCK <= 64 * MIB && COMMIT_STEP.is_multiple_of(huge::REGION.bytes())
    );
    static_assertions::const_assert!(ARENA_ALIGN >= 16 * SLICE_SIZE && SLICE_SIZE >= 64 * KIB);
}
