//! The reserve: free slices whose old contents are still resident, and the contents of cached mappings, kept so that a
//! loop which frees and reallocates doesn't fault its memory in again.
//!
//! - The bound is 5% of the recent peak of claimed memory, between 8 and 32 MiB, and above 8 MiB no more than is claimed
//!   right now: a program that has freed everything has no use for more. Beyond it, memory is given back in
//!   the call that releases it, so that it is back although nobody calls us afterwards.
//! - A program that shows within a window that it wanted the purged memory back (it claims fresh slices just after a
//!   purge) earns a bonus on top: four times what it wanted back, since the purges that teach this cost it a fault for each
//!   system page, and at most the peak. No more of it counts than is in use, or half of the peak, or 32 MiB of it: one that
//!   goes idle keeps no more. What a window didn't need is taken from it. It ends when the claimed memory falls to half of
//!   its lowest while the bonus was earned, or of its lowest of a later window: a loop comes down to the same level each time,
//!   so that is another phase.
//! - Half of what nobody claimed from the reserve for a whole window (the purge delay) is given back at the window's
//!   end, by whichever slow path comes by, the background thread, or `collect`.
//!
//! Everything here is an estimate kept in relaxed atomics: a lost update costs a little memory or time, nothing else.

use super::{mappings, shelves};
use crate::config;
use crate::os;
use crate::units::{MIB, SLICE_SIZE, SliceCount};
use std::sync::atomic::{AtomicIsize, AtomicU64, AtomicUsize, Ordering::Relaxed};

const FLOOR: usize = 8 * MIB;
const CEILING: usize = 32 * MIB;
/// Where less than that is in use the bonus counts up to the peak divided by this, or up to all of a peak of so much.
const IDLE_SHARE: usize = 2;
const IDLE_FLOOR: usize = 32 * MIB;
/// So much bonus is earned by a byte that somebody would have wanted back.
const PER_REGRET: usize = 4;

/// All on one line of their own: written at page granularity by any thread.
#[repr(C, align(128))]
struct Reserve {
    /// Bytes of claimed slices.
    claimed: AtomicUsize,
    /// Bytes of free slices with old contents.
    held: AtomicUsize,
    /// Bytes of empty pages on shelves with old contents.
    shelved: AtomicUsize,
    /// Resident bytes of cached mappings.
    mapped: AtomicUsize,
    /// Bytes in pages that were freed remotely as a whole and that their owner has not taken back yet.
    pinned: AtomicIsize,
    /// Bytes of sparse pages that looks left as they were, less what looks at heaps in use found; halved with each window.
    sparse: AtomicUsize,
    /// Highest `claimed`, decaying by an eighth a window.
    peak: AtomicUsize,
    /// Extra allowance earned by claims that regretted a purge.
    bonus: AtomicUsize,
    /// The lowest `claimed` of this window, and of the windows in which the bonus was earned, or the highest of later windows'
    /// lowest.
    low: AtomicUsize,
    trough: AtomicUsize,
    /// Bytes purged in this window that no claim has asked for again.
    regrettable: AtomicUsize,
    /// The lowest `held` of this window: what nobody needed.
    lowest: AtomicUsize,
    /// When this window started, in milliseconds.
    window: AtomicU64,
    purged: AtomicU64,
}

static RESERVE: Reserve = Reserve {
    claimed: AtomicUsize::new(0),
    held: AtomicUsize::new(0),
    shelved: AtomicUsize::new(0),
    mapped: AtomicUsize::new(0),
    pinned: AtomicIsize::new(0),
    sparse: AtomicUsize::new(0),
    peak: AtomicUsize::new(0),
    bonus: AtomicUsize::new(0),
    low: AtomicUsize::new(0),
    trough: AtomicUsize::new(0),
    regrettable: AtomicUsize::new(0),
    lowest: AtomicUsize::new(0),
    window: AtomicU64::new(0),
    purged: AtomicU64::new(0),
};

fn subtract(from: &AtomicUsize, bytes: usize) -> usize {
    let _ = from.fetch_update(Relaxed, Relaxed, |value| Some(value.saturating_sub(bytes)));
    from.load(Relaxed)
}

fn limit() -> usize {
    let claimed = RESERVE.claimed.load(Relaxed);
    let peak = RESERVE.peak.load(Relaxed);
    let most = claimed.max(peak / IDLE_SHARE).max(peak.min(IDLE_FLOOR));
    (peak / 20).min(claimed).clamp(FLOOR, CEILING) + RESERVE.bonus.load(Relaxed).min(most)
}

/// Whether so many bytes are within the limit for sure, found out in fewer steps than by [`limit`].
fn is_well_within(bytes: usize) -> bool {
    let claimed = RESERVE.claimed.load(Relaxed);
    let most = claimed.max(RESERVE.peak.load(Relaxed) / IDLE_SHARE);
    bytes <= FLOOR + RESERVE.bonus.load(Relaxed).min(most)
}

/// Slices were claimed, `old` of them with old contents.
pub fn claimed(count: SliceCount, old: SliceCount) {
    note_peak(RESERVE.claimed.fetch_add(count.bytes(), Relaxed) + count.bytes());
    if old.0 > 0 {
        let held = RESERVE.held.fetch_sub(old.bytes(), Relaxed) - old.bytes();
        note_least(held + RESERVE.shelved.load(Relaxed));
    }
    let fresh = count.bytes() - old.bytes();
    let regrettable = RESERVE.regrettable.load(Relaxed);
    if fresh > 0 && regrettable > 0 {
        let regret = fresh.min(regrettable);
        subtract(&RESERVE.regrettable, regret);
        earn(regret);
    }
}

/// An empty page goes onto a shelf, `old` of its slices with old contents; false where the bound forbids it, or it ends
/// the bonus: then it is to be released, which trims what lies on the shelves.
pub fn shelve(count: SliceCount, old: SliceCount) -> bool {
    let held = held_bytes() + old.bytes();
    if !is_well_within(held) && held > limit() {
        return false;
    }
    if note_low(RESERVE.claimed.fetch_sub(count.bytes(), Relaxed) - count.bytes()) {
        RESERVE.claimed.fetch_add(count.bytes(), Relaxed);
        return false;
    }
    RESERVE.shelved.fetch_add(old.bytes(), Relaxed);
    true
}

/// It is in use again.
pub fn taken_up(count: SliceCount, old: SliceCount) {
    note_peak(RESERVE.claimed.fetch_add(count.bytes(), Relaxed) + count.bytes());
    let shelved = RESERVE.shelved.fetch_sub(old.bytes(), Relaxed) - old.bytes();
    note_least(shelved + RESERVE.held.load(Relaxed));
}

/// It is about to be released.
pub fn unshelve(count: SliceCount, old: SliceCount) {
    RESERVE.claimed.fetch_add(count.bytes(), Relaxed);
    RESERVE.shelved.fetch_sub(old.bytes(), Relaxed);
}

/// Whether there may be free slices with old contents.
pub fn has_slices() -> bool {
    RESERVE.held.load(Relaxed) > 0
}

/// Whether no free slices with old contents are left for a claim of so many, but pages on shelves.
pub fn is_all_on_shelves(count: SliceCount) -> bool {
    RESERVE.held.load(Relaxed) < count.bytes() && RESERVE.shelved.load(Relaxed) > 0
}

/// Notes what of slices and pages somebody claimed left.
fn note_least(left: usize) {
    if left < RESERVE.lowest.load(Relaxed) {
        RESERVE.lowest.fetch_min(left, Relaxed);
    }
}

fn note_peak(bytes: usize) {
    if bytes > RESERVE.peak.load(Relaxed) {
        RESERVE.peak.fetch_max(bytes, Relaxed);
    }
}

/// Raises the bonus by what somebody would have wanted back.
fn earn(regret: usize) {
    let bonus = RESERVE.bonus.load(Relaxed);
    let low = RESERVE.low.load(Relaxed);
    if bonus == 0 || low < RESERVE.trough.load(Relaxed) {
        RESERVE.trough.store(low, Relaxed);
    }
    let raised = bonus + PER_REGRET * regret;
    let most = RESERVE.peak.load(Relaxed);
    RESERVE.bonus.store(raised.min(most), Relaxed);
}

/// Ends the bonus when what is in use falls to half of the trough: the phase that wanted the memory back is over. Whether
/// there was one.
fn note_low(claimed: usize) -> bool {
    if claimed >= RESERVE.low.load(Relaxed) {
        return false;
    }
    RESERVE.low.store(claimed, Relaxed);
    let ends = claimed < RESERVE.trough.load(Relaxed) / 2 && RESERVE.bonus.load(Relaxed) > 0;
    if ends {
        RESERVE.bonus.store(0, Relaxed);
    }
    ends
}

/// How many of the `resident` bytes of a mapping that was freed may stay: they are counted in. What is in use by such
/// mappings is not known until they are freed; so it is no part of `claimed`, and of the peak for a moment.
pub fn keep_mapping(resident: usize) -> usize {
    note_peak(RESERVE.claimed.load(Relaxed) + resident);
    let room = limit().saturating_sub(free_bytes());
    let kept = |there| resident.min(room.saturating_sub(there));
    let before = RESERVE
        .mapped
        .fetch_update(Relaxed, Relaxed, |there| Some(there + kept(there)));
    before.map_or(0, kept)
}

/// Bytes of a cached mapping that were counted in are given back.
pub fn drop_mapping(bytes: usize) {
    RESERVE.mapped.fetch_sub(bytes, Relaxed);
}

/// A cached mapping is a block's again, with `held` bytes of contents; `regretted` more would have been of use.
pub fn take_mapping(held: usize, regretted: usize) {
    RESERVE.mapped.fetch_sub(held, Relaxed);
    earn(regretted);
}

/// Slices are about to be released, `old` of them with old contents.
pub fn released(count: SliceCount, old: SliceCount) {
    note_low(RESERVE.claimed.fetch_sub(count.bytes(), Relaxed) - count.bytes());
    if old.0 > 0 {
        RESERVE.held.fetch_add(old.bytes(), Relaxed);
    }
}

/// Slices that the caller holds were given back to the system.
pub fn purged(old: SliceCount) {
    RESERVE.held.fetch_sub(old.bytes(), Relaxed);
    note_purged(old.bytes());
}

fn note_purged(bytes: usize) {
    RESERVE.regrettable.fetch_add(bytes, Relaxed);
    RESERVE.purged.fetch_add(bytes as u64, Relaxed);
}

/// Purges what is beyond the bound, and what the window that ended didn't need.
pub fn trim() {
    tick();
    let held = held_bytes();
    let limit = limit();
    if held > limit {
        // An eighth below the bound, so that the next release doesn't purge again at once. Mappings first: they have
        // what slices leave.
        let surplus = held - limit + limit / 8;
        let given = mappings::purge(surplus);
        if given < surplus {
            purge(surplus - given);
        }
    }
}

/// Gives so much back: of what is free first, then of what lies on shelves.
fn purge(bytes: usize) {
    let given = super::purge(bytes);
    if given < bytes && shelves::release_some(bytes - given) > 0 {
        super::purge(bytes - given);
    }
}

/// Ends the window if its time is over: from slow paths and the background thread.
pub fn tick() {
    let now = os::now_ms();
    let started = RESERVE.window.load(Relaxed);
    if now.wrapping_sub(started) < config::purge_delay_ms() {
        return;
    }
    if RESERVE
        .window
        .compare_exchange(started, now, Relaxed, Relaxed)
        .is_err()
    {
        return;
    }
    subtract(&RESERVE.bonus, mappings::age());
    let unused = RESERVE.lowest.load(Relaxed);
    if unused > 0 {
        // Half of it, so that what is needed every other window stays; an idle program's reserve is gone in a few.
        let surplus = if unused > MIB { unused / 2 } else { unused };
        purge(surplus);
        subtract(&RESERVE.bonus, surplus);
    }
    RESERVE
        .sparse
        .store(RESERVE.sparse.load(Relaxed) / 2, Relaxed);
    RESERVE.regrettable.store(0, Relaxed);
    RESERVE.lowest.store(free_bytes(), Relaxed);
    // A loop that never came down so far within a window doesn't come down so far at all.
    let low = RESERVE.low.swap(RESERVE.claimed.load(Relaxed), Relaxed);
    RESERVE.trough.fetch_max(low, Relaxed);
    let peak = RESERVE.peak.load(Relaxed);
    RESERVE.peak.store(
        (peak - peak / 8).max(RESERVE.claimed.load(Relaxed)),
        Relaxed,
    );
}

/// When the current window started, in milliseconds.
pub fn window() -> u64 {
    RESERVE.window.load(Relaxed)
}

/// Purges the whole reserve.
pub fn purge_all() {
    purge(usize::MAX);
    mappings::empty();
    RESERVE.bonus.store(0, Relaxed);
    RESERVE.sparse.store(0, Relaxed);
}

/// Whether the reserve would be about as large as it may be (a purge leaves some room) if the sparse pages that were left lay
/// in it, and so many bytes more: so much was freed lately that what is freed now goes back.
pub fn is_full_with_sparse(bytes: usize) -> bool {
    pinned_bytes() + held_bytes() + RESERVE.sparse.load(Relaxed) + bytes >= limit() / 2
}

/// A page of so many bytes that has been sparse for long is left as it is.
pub fn leave_sparse(bytes: usize) {
    RESERVE.sparse.fetch_add(bytes, Relaxed);
}

/// A look found a page of so many bytes in a heap that uses its pages again. (It may never have been counted.)
pub fn use_sparse(bytes: usize) {
    if RESERVE.sparse.load(Relaxed) > 0 {
        subtract(&RESERVE.sparse, bytes);
    }
}

/// Whether a page of `bytes` that was freed remotely as a whole is to be discarded by its last freer; if not, it is
/// counted among the pinned until [`unpin`].
pub fn over_with(bytes: usize) -> bool {
    pinned_bytes() + held_bytes() + bytes > limit()
}

fn pinned_bytes() -> usize {
    RESERVE.pinned.load(Relaxed).max(0) as usize
}

/// A wholly freed page waits for its owner with its contents.
pub fn pin(bytes: usize) {
    // Signed, since the owner may be quicker to unpin.
    RESERVE.pinned.fetch_add(bytes as isize, Relaxed);
}

/// The owner took a pinned page back.
pub fn unpin(bytes: usize) {
    RESERVE.pinned.fetch_sub(bytes as isize, Relaxed);
}

/// Contents were discarded outside the arenas' bookkeeping.
pub fn count_discarded(bytes: usize) {
    note_purged(bytes);
}

/// Parts of pages in use were given back. Nobody who claims slices can want them back.
pub fn count_discarded_inside(bytes: usize) {
    RESERVE.purged.fetch_add(bytes as u64, Relaxed);
}

/// Bytes given back so far.
pub fn purged_bytes() -> u64 {
    RESERVE.purged.load(Relaxed)
}

/// Bytes of claimed slices.
pub fn claimed_bytes() -> usize {
    RESERVE.claimed.load(Relaxed)
}

/// Bytes of free slices and of pages on shelves that are resident.
fn free_bytes() -> usize {
    RESERVE.held.load(Relaxed) + RESERVE.shelved.load(Relaxed)
}

/// These, and those of cached mappings.
pub fn held_bytes() -> usize {
    free_bytes() + RESERVE.mapped.load(Relaxed)
}

static_assertions::const_assert!(FLOOR >= SLICE_SIZE && FLOOR < CEILING);
