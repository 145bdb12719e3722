//! What a phase of a program hoarded goes back in the calls of the next one: nobody collects, and no background thread runs.

mod support;

use millpond::Millpond;
use std::time::{Duration, Instant};
use support::block::Block;
use support::marked::Random;
use support::process::{MIB, resident};

#[global_allocator]
static GLOBAL: Millpond = Millpond;

support::harness::each_alone! {
    a_bonus_ends_with_the_phase_that_earned_it,
    empty_pages_on_shelves_send_recycled_blocks_back,
}

/// The purge delay where none is set.
const PURGE_DELAY: Duration = Duration::from_millis(500);

/// Blocks of `size` bytes, written, `bytes` of them altogether.
fn fill(into: &mut Vec<Block>, size: usize, bytes: u64) {
    for _ in 0..bytes / size as u64 {
        let mut block = Block::new(size);
        block.bytes_mut().fill(1);
        into.push(block);
    }
}

/// A phase that frees and reallocates 64 MiB above what else is in use earns a reserve large enough for that. It is of
/// no use any more when what else was in use is freed, too.
fn a_bonus_ends_with_the_phase_that_earned_it() {
    let mut base = Vec::with_capacity(1 << 20);
    let mut churn = Vec::with_capacity(1 << 20);
    let start = resident();
    fill(&mut base, 200, 96 * MIB);
    for _ in 0..20 {
        fill(&mut churn, 12_000, 64 * MIB);
        churn.drain(..).for_each(Block::free);
    }
    let reserve = millpond::stats().reserve_bytes / MIB;
    assert!(
        reserve > 16,
        "the phase earned no bonus: {reserve} MiB are reserved"
    );
    base.drain(..).for_each(Block::free);
    let left = resident().saturating_sub(start) / MIB;
    // The floor of the reserve is 8 MiB, the heap's own warm pages and lists are a few more, and so are the two vectors.
    assert!(left <= 24, "{left} MiB are left: {:#?}", millpond::stats());
}

/// Blocks freed in random order and made again leave recycled ones in nearly all of their pages, and earn a large reserve. What
/// is freed then becomes pages that all find room on shelves: none is released. That there are more on the shelves than before
/// has to be sign enough that the program only frees. Some time later it is news again.
fn empty_pages_on_shelves_send_recycled_blocks_back() {
    let mut keys = Vec::with_capacity(400_000);
    let mut replies = Vec::with_capacity(4_000);
    let start = resident();
    let mut random = Random(1);
    for phase in 0..2 {
        if phase > 0 {
            std::thread::sleep(PURGE_DELAY * 3);
        }
        fill(&mut keys, 40, 14 * MIB);
        let began = Instant::now();
        while began.elapsed() < PURGE_DELAY * 3 {
            fill(&mut replies, 18_000, 48 * MIB);
            while !replies.is_empty() {
                let at = random.below(replies.len());
                replies.swap_remove(at).free();
            }
        }
        let before = resident().saturating_sub(start) / MIB;
        assert!(
            before > 48,
            "only {before} MiB are resident: nothing is pinned"
        );
        keys.drain(..).for_each(Block::free);
        let left = resident().saturating_sub(start) / MIB;
        // (75 where only released pages are such a sign.)
        assert!(
            left <= 24,
            "phase {phase}: {left} MiB are left: {:#?}",
            millpond::stats()
        );
    }
}
