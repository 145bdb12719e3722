//! The slices of an arena that are claimed, one bit each. Lock-free: a run is claimed word by word, and what a
//! claimer set before it met a bit of somebody else's is cleared again.

use crate::sync::{AtomicU64, Ordering};
use crate::units::{SliceCount, SliceIndex};

const WORD_BITS: usize = 64;

/// A view of a bitmap whose words live as long as the arena.
#[derive(Clone, Copy)]
pub struct SliceBitmap<'a> {
    words: &'a [AtomicU64],
    slices: usize,
}

/// The bits of `run` that fall into each word: (word index, mask).
fn masks(start: usize, count: usize) -> impl DoubleEndedIterator<Item = (usize, u64)> {
    let (first, last) = (start / WORD_BITS, (start + count - 1) / WORD_BITS);
    (first..=last).map(move |word| {
        let from = start.max(word * WORD_BITS) - word * WORD_BITS;
        let to = (start + count).min((word + 1) * WORD_BITS) - word * WORD_BITS;
        (word, (u64::MAX >> (WORD_BITS - (to - from))) << from)
    })
}

impl<'a> SliceBitmap<'a> {
    /// A bitmap over `slices` bits of `words`.
    pub fn new(words: &'a [AtomicU64], slices: usize) -> Self {
        debug_assert!(words.len() * WORD_BITS >= slices);
        Self { words, slices }
    }

    /// How many words a bitmap of `slices` bits needs.
    pub const fn words_for(slices: usize) -> usize {
        slices.div_ceil(WORD_BITS)
    }

    /// The first index at or after `from` whose bit is `set`; the number of slices if there is none below `limit`.
    fn next(&self, from: usize, limit: usize, set: bool) -> usize {
        let limit = limit.min(self.slices);
        let mut word = from / WORD_BITS;
        let mut ignore = (1_u64 << (from % WORD_BITS)) - 1;
        while word * WORD_BITS < limit {
            // Relaxed: a hint; `claim_at` decides.
            let bits = self.words[word].load(Ordering::Relaxed);
            let wanted = if set { bits } else { !bits } & !ignore;
            if wanted != 0 {
                return (word * WORD_BITS + wanted.trailing_zeros() as usize).min(limit);
            }
            ignore = 0;
            word += 1;
        }
        limit
    }

    /// Claims `count` adjacent free slices whose index plus `bias` is a multiple of `align` (a power of two), the
    /// lowest from `from` on.
    pub fn claim(
        &self,
        from: SliceIndex,
        count: SliceCount,
        align: u32,
        bias: usize,
    ) -> Option<SliceIndex> {
        let (count, align) = (count.0 as usize, align as usize);
        let mut at = from.0 as usize;
        loop {
            let free = self.next(at, self.slices, false);
            let start = (free + bias).next_multiple_of(align) - bias;
            let end = start.checked_add(count)?;
            if end > self.slices {
                return None;
            }
            let taken = self.next(start, end, true);
            if taken < end {
                at = taken + 1;
                continue;
            }
            let (start, slices) = (SliceIndex(start as u32), SliceCount(count as u32));
            if self.claim_at(start, slices) {
                return Some(start);
            }
            at = start.0 as usize;
        }
    }

    /// As [`SliceBitmap::claim`], but slices whose bits are clear in `old`, within one word of the bitmap, and only in so many
    /// words from that of `from` on.
    pub fn claim_without(
        &self,
        old: &SliceBitmap<'_>,
        (from, words): (SliceIndex, usize),
        count: SliceCount,
        align: u32,
        bias: usize,
    ) -> Option<SliceIndex> {
        let (length, align) = (count.0 as usize, align as usize);
        let first = from.0 as usize / WORD_BITS;
        for word in first..(first + words).min(self.slices / WORD_BITS) {
            // Relaxed: hints; `claim_at` decides.
            let taken =
                self.words[word].load(Ordering::Relaxed) | old.words[word].load(Ordering::Relaxed);
            // A bit stays where a run starts.
            let mut runs = !taken;
            let mut seen = 1;
            while runs != 0 && seen < length {
                let step = seen.min(length - seen);
                runs &= runs >> step;
                seen += step;
            }
            while runs != 0 {
                let index = word * WORD_BITS + runs.trailing_zeros() as usize;
                let start = SliceIndex(index as u32);
                if (index + bias).is_multiple_of(align) && self.claim_at(start, count) {
                    return Some(start);
                }
                runs &= runs - 1;
            }
        }
        None
    }

    /// Where the smallest gap of at least `count` free slices starts, the lowest of them, that lies before a slice in use
    /// below `limit`. A hint: [`SliceBitmap::claim_at`] decides. Reads a word for each 64 slices below the limit, as a claim of so
    /// many slices from the lowest on does where it finds none.
    pub fn tightest(&self, count: SliceCount, limit: SliceIndex) -> Option<SliceIndex> {
        let (count, limit) = (count.0 as usize, (limit.0 as usize).min(self.slices));
        let mut best: Option<(usize, usize)> = None;
        let mut at = 0;
        loop {
            let start = self.next(at, limit, false);
            let end = self.next(start, limit, true);
            if end >= limit {
                return best.map(|(_, start)| SliceIndex(start as u32));
            }
            let gap = end - start;
            if gap >= count && best.is_none_or(|(least, _)| gap < least) {
                best = Some((gap, start));
            }
            at = end;
        }
    }

    /// Claims exactly this run; false, with nothing changed, if any of its slices is taken or lies beyond the end.
    pub fn claim_at(&self, start: SliceIndex, count: SliceCount) -> bool {
        let (start, count) = (start.0 as usize, count.0 as usize);
        if start + count > self.slices {
            return false;
        }
        for (word, mask) in masks(start, count) {
            // Acquire pairs with the Release of `release`: the former user is finished with the slices.
            let before = self.words[word].fetch_or(mask, Ordering::Acquire);
            if before & mask == 0 {
                continue;
            }
            // Somebody else's bits stay; ours go. Relaxed: nothing was done with the slices.
            self.words[word].fetch_and(!(mask & !before), Ordering::Relaxed);
            for (word, mask) in masks(start, count).take_while(|&(earlier, _)| earlier < word) {
                self.words[word].fetch_and(!mask, Ordering::Relaxed);
            }
            return false;
        }
        true
    }

    /// Frees a claimed run.
    pub fn release(&self, start: SliceIndex, count: SliceCount) {
        for (word, mask) in masks(start.0 as usize, count.0 as usize) {
            // Release pairs with the Acquire of `claim_at`.
            let before = self.words[word].fetch_and(!mask, Ordering::Release);
            debug_assert_eq!(before & mask, mask, "slices released twice");
        }
    }

    /// How many bits of the run are set.
    pub fn count(&self, start: SliceIndex, count: SliceCount) -> SliceCount {
        let set = masks(start.0 as usize, count.0 as usize)
            // Relaxed: the caller holds the run, so the bits that it set or was handed are visible to it.
            .map(|(word, mask)| (self.words[word].load(Ordering::Relaxed) & mask).count_ones());
        SliceCount(set.sum())
    }

    /// Sets the bits of a run that the caller holds; for bitmaps that annotate claimed slices.
    pub fn set(&self, start: SliceIndex, count: SliceCount) {
        for (word, mask) in masks(start.0 as usize, count.0 as usize) {
            // Relaxed: handed on by the release of the run itself.
            self.words[word].fetch_or(mask, Ordering::Relaxed);
        }
    }

    /// Clears the bits of a run that the caller holds.
    pub fn clear(&self, start: SliceIndex, count: SliceCount) {
        for (word, mask) in masks(start.0 as usize, count.0 as usize) {
            // Relaxed: as in `set`.
            self.words[word].fetch_and(!mask, Ordering::Relaxed);
        }
    }

    /// The highest run below `below` whose bits are set here and clear in `claimed`.
    pub fn last_run_without(
        &self,
        claimed: &SliceBitmap<'_>,
        below: SliceIndex,
    ) -> Option<(SliceIndex, SliceCount)> {
        let limit = (below.0 as usize).min(self.slices);
        let mut end = None;
        for word in (0..limit.div_ceil(WORD_BITS)).rev() {
            // Relaxed: a hint; the caller claims the run before it does anything with it.
            let mut bits = self.words[word].load(Ordering::Relaxed)
                & !claimed.words[word].load(Ordering::Relaxed);
            let over = (word + 1) * WORD_BITS;
            if over > limit {
                bits &= u64::MAX >> (over - limit);
            }
            let mut top = WORD_BITS as u32;
            if end.is_none() {
                if bits == 0 {
                    continue;
                }
                top = WORD_BITS as u32 - bits.leading_zeros();
                end = Some(word * WORD_BITS + top as usize);
            }
            // The lowest bit of the run of ones that ends just below `top`.
            let ones = (bits << (WORD_BITS as u32 - top)).leading_ones();
            if ones < top || word == 0 {
                let start = word * WORD_BITS + (top - ones) as usize;
                return end
                    .filter(|&end| end > start)
                    .map(|end| (SliceIndex(start as u32), SliceCount((end - start) as u32)));
            }
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    proptest! {
        /// Runs that are clear in both bitmaps, against a search bit by bit.
        #[test]
        fn claims_without_find_the_first_clear_run(
            taken in prop::collection::vec(any::<u64>(), 3),
            old in prop::collection::vec(any::<u64>(), 3),
            sparse in prop::collection::vec(any::<u64>(), 3),
            shift in 0_u32..5,
            bias in 0_usize..40,
        ) {
            // An eighth is set, or there would hardly be a run.
            let thin = |bits: &[u64]| -> Vec<u64> {
                bits.iter().zip(&sparse).map(|(a, b)| a & b & (b >> 7)).collect()
            };
            let (taken, old) = (thin(&taken), thin(&old));
            let atomic = |bits: &[u64]| -> Vec<AtomicU64> {
                bits.iter().map(|&bits| AtomicU64::new(bits)).collect()
            };
            let (words, old_words) = (atomic(&taken), atomic(&old));
            let bitmap = SliceBitmap::new(&words, 192);
            let others = SliceBitmap::new(&old_words, 192);
            let count = 1_usize << shift;
            let is_clear = |at: usize| (taken[at / 64] | old[at / 64]) >> (at % 64) & 1 == 0;
            let expected = (0..192).find(|&start| {
                (start + bias).is_multiple_of(count)
                    && start % 64 + count <= 64
                    && (start..start + count).all(is_clear)
            });
            let slices = SliceCount(count as u32);
            let found =
                bitmap.claim_without(&others, (SliceIndex(0), 3), slices, count as u32, bias);
            prop_assert_eq!(found.map(|found| found.0 as usize), expected);
            if let Some(found) = found {
                prop_assert_eq!(bitmap.count(found, slices), slices);
            }
        }

        /// Claims and releases against a plain vector of flags.
        #[test]
        fn behaves_like_a_vector_of_flags(
            steps in prop::collection::vec((1_u32..100, 0_u32..5, any::<bool>()), 1..60)
        ) {
            let words = words(4);
            let bitmap = SliceBitmap::new(&words, 230);
            let mut model = [false; 230];
            let mut held: Vec<(usize, usize)> = Vec::new();
            for (count, shift, release) in steps {
                if release && !held.is_empty() {
                    let (start, count) = held.swap_remove(count as usize % held.len());
                    bitmap.release(SliceIndex(start as u32), SliceCount(count as u32));
                    model[start..start + count].fill(false);
                    continue;
                }
                let align = 1_usize << shift;
                let count = count as usize;
                let expected = (0..230)
                    .step_by(align)
                    .find(|&at| at + count <= 230 && !model[at..at + count].contains(&true));
                let got = bitmap.claim(SliceIndex(0), SliceCount(count as u32), align as u32, 0);
                prop_assert_eq!(got.map(|index| index.0 as usize), expected);
                if let Some(start) = expected {
                    model[start..start + count].fill(true);
                    held.push((start, count));
                }
            }
            for (at, &set) in model.iter().enumerate() {
                let one = bitmap.count(SliceIndex(at as u32), SliceCount(1)).0 == 1;
                prop_assert_eq!(one, set);
            }
        }

        #[test]
        fn tightest_is_the_smallest_gap_that_fits(
            taken in prop::collection::vec(prop::bool::weighted(0.2), 200),
            count in 1_usize..12,
            limit in 0_usize..=200,
        ) {
            let words = words(4);
            let bitmap = SliceBitmap::new(&words, 200);
            for at in (0..200).filter(|&at| taken[at]) {
                bitmap.set(SliceIndex(at as u32), SliceCount(1));
            }
            let begins = |at: usize| !taken[at] && (at == 0 || taken[at - 1]);
            let gaps = (0..limit).filter(|&at| begins(at)).filter_map(|start| {
                let end = (start..limit).find(|&at| taken[at])?;
                (end - start >= count).then_some((end - start, start))
            });
            prop_assert_eq!(
                bitmap.tightest(SliceCount(count as u32), SliceIndex(limit as u32)),
                gaps.min().map(|(_, start)| SliceIndex(start as u32))
            );
        }

        #[test]
        fn last_run_is_the_highest(
            dirty in prop::collection::vec(any::<bool>(), 200),
            taken in prop::collection::vec(prop::bool::weighted(0.2), 200),
            below in 0_usize..=200,
        ) {
            let (a, b) = (words(4), words(4));
            let (bits, claimed) = (SliceBitmap::new(&a, 200), SliceBitmap::new(&b, 200));
            for at in 0..200 {
                let index = SliceIndex(at as u32);
                if dirty[at] { bits.set(index, SliceCount(1)); }
                if taken[at] { claimed.set(index, SliceCount(1)); }
            }
            let wanted = |at: usize| dirty[at] && !taken[at];
            let end = (0..below).rev().find(|&at| wanted(at)).map(|at| at + 1);
            let expected = end.map(|end| {
                let start = (0..end).rev().find(|&at| !wanted(at)).map_or(0, |at| at + 1);
                (SliceIndex(start as u32), SliceCount((end - start) as u32))
            });
            prop_assert_eq!(bits.last_run_without(&claimed, SliceIndex(below as u32)), expected);
        }
    }

    #[test]
    fn a_failed_claim_changes_nothing() {
        let words = words(3);
        let bitmap = SliceBitmap::new(&words, 192);
        assert!(bitmap.claim_at(SliceIndex(100), SliceCount(1)));
        assert!(!bitmap.claim_at(SliceIndex(10), SliceCount(120)));
        assert_eq!(bitmap.count(SliceIndex(0), SliceCount(192)), SliceCount(1));
        assert!(!bitmap.claim_at(SliceIndex(190), SliceCount(3)));
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;

    /// Two claimers of overlapping two-word runs and a release: no slice is ever held twice.
    #[test]
    fn claims_exclude_each_other() {
        loom::model(|| {
            let words: Arc<Vec<AtomicU64>> = Arc::new((0..2).map(|_| AtomicU64::new(0)).collect());
            let owners: Arc<Vec<loom::cell::UnsafeCell<u32>>> =
                Arc::new((0..4).map(|_| loom::cell::UnsafeCell::new(0)).collect());
            let worker =
                |words: Arc<Vec<AtomicU64>>, owners: Arc<Vec<loom::cell::UnsafeCell<u32>>>, id| {
                    // The bits 62 to 65 are four slices across the word boundary.
                    let bitmap = SliceBitmap::new(&words, 128);
                    if bitmap.claim_at(SliceIndex(63), SliceCount(2)) {
                        for owner in &owners[1..3] {
                            // SAFETY: the claim excludes everyone else; loom checks exactly that.
                            owner.with_mut(|owner| unsafe { *owner = id });
                        }
                        bitmap.release(SliceIndex(63), SliceCount(2));
                    } else if bitmap.claim_at(SliceIndex(62), SliceCount(2)) {
                        for owner in &owners[0..2] {
                            // SAFETY: as above.
                            owner.with_mut(|owner| unsafe { *owner = id });
                        }
                        bitmap.release(SliceIndex(62), SliceCount(2));
                    }
                };
            let (theirs, cells) = (words.clone(), owners.clone());
            let other = loom::thread::spawn(move || worker(theirs, cells, 1));
            worker(words.clone(), owners, 2);
            other.join().unwrap();
            for word in words.iter() {
                assert_eq!(word.load(Ordering::Relaxed), 0);
            }
        });
    }

    /// A claim of slices without old contents beside one of any slices.
    #[test]
    fn a_claim_without_excludes_the_others() {
        loom::model(|| {
            let words: Arc<Vec<AtomicU64>> = Arc::new(vec![AtomicU64::new(0)]);
            let owners: Arc<Vec<loom::cell::UnsafeCell<u32>>> =
                Arc::new((0..4).map(|_| loom::cell::UnsafeCell::new(0)).collect());
            let (theirs, cells) = (words.clone(), owners.clone());
            let other = loom::thread::spawn(move || {
                let bitmap = SliceBitmap::new(&theirs, 64);
                let Some(index) = bitmap.claim(SliceIndex(0), SliceCount(1), 1, 0) else {
                    panic!("most slices are free");
                };
                // SAFETY: the claim excludes everyone else; loom checks exactly that.
                cells[index.0 as usize].with_mut(|owner| unsafe { *owner = 1 });
                bitmap.release(index, SliceCount(1));
            });
            // The lowest two have none.
            let old = [AtomicU64::new(!0b11)];
            let bitmap = SliceBitmap::new(&words, 64);
            let words_from = (SliceIndex(0), 1);
            let (old, two) = (SliceBitmap::new(&old, 64), SliceCount(2));
            if let Some(index) = bitmap.claim_without(&old, words_from, two, 1, 0) {
                assert_eq!(index, SliceIndex(0));
                for owner in &owners[..2] {
                    // SAFETY: as above.
                    owner.with_mut(|owner| unsafe { *owner = 2 });
                }
                bitmap.release(index, two);
            }
            other.join().unwrap();
            assert_eq!(words[0].load(Ordering::Relaxed), 0);
        });
    }

    /// A claim of the tightest gap beside one of its first slice and a release.
    #[test]
    fn a_claim_of_the_tightest_gap_excludes_the_others() {
        loom::model(|| {
            // Slices 0 and 1 are a gap, 2 is in use.
            let words: Arc<Vec<AtomicU64>> = Arc::new(vec![AtomicU64::new(0b100)]);
            let owner = Arc::new(loom::cell::UnsafeCell::new(0));
            let (theirs, cell) = (words.clone(), owner.clone());
            let other = loom::thread::spawn(move || {
                let bitmap = SliceBitmap::new(&theirs, 64);
                let one = SliceCount(1);
                if bitmap.claim_at(SliceIndex(0), one) {
                    // SAFETY: the claim excludes everyone else; loom checks exactly that.
                    cell.with_mut(|owner| unsafe { *owner = 1 });
                    bitmap.release(SliceIndex(0), one);
                }
            });
            let (bitmap, two) = (SliceBitmap::new(&words, 64), SliceCount(2));
            if let Some(gap) = bitmap.tightest(two, SliceIndex(64))
                && bitmap.claim_at(gap, two)
            {
                assert_eq!(gap, SliceIndex(0));
                // SAFETY: as above.
                owner.with_mut(|owner| unsafe { *owner = 2 });
                bitmap.release(gap, two);
            }
            other.join().unwrap();
            assert_eq!(words[0].load(Ordering::Relaxed), 0b100);
        });
    }
}
