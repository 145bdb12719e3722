//! System pages inside pages: what `collect(true)` gives back where single objects live on, and that nothing else
//! changes by it.

mod support;

use millpond::Millpond;
use support::block::Block;
use support::marked::{Random, check, marked};
use support::process::{MIB, resident};

#[global_allocator]
static GLOBAL: Millpond = Millpond;

support::harness::each_alone! {
    one_object_in_a_thousand_pins_system_pages_only,
    without_collecting_a_phase_that_frees_gives_most_back,
    without_collecting_where_pages_of_all_sizes_are_freed_in_turn,
    without_collecting_where_every_page_is_pinned,
    without_collecting_where_most_pages_are_pinned_in_random_order,
    without_collecting_where_another_thread_frees,
    a_large_block_in_each_page_pins_system_pages_only,
    blocks_keep_their_contents_and_places,
    everything_goes_back_in_the_end,
    heaps_without_a_thread_too,
    collecting_again_finds_nothing,
    zeroed_blocks_are_zero_where_the_end_of_a_page_was_in_use,
}

/// Fills `mib` MiB with blocks of `sizes`, frees all but one in `kept`, and collects: the live blocks, and the bytes that
/// stay resident.
fn thin_out(sizes: impl Fn(&mut Random) -> usize, mib: u64, kept: usize) -> (Vec<Block>, u64) {
    thin_out_and(|| millpond::collect(true), sizes, mib, kept)
}

/// As [`thin_out`], with something else in the end.
fn thin_out_and(
    then: impl Fn(),
    sizes: impl Fn(&mut Random) -> usize,
    mib: u64,
    kept: usize,
) -> (Vec<Block>, u64) {
    let mut random = Random(1);
    let mut held: Vec<Block> = Vec::with_capacity(1 << 20);
    let mut live: Vec<Block> = Vec::with_capacity(1 << 16);
    held.extend((0..100).map(|_| marked(64)));
    let before = resident();
    let (mut bytes, mut count) = (0, 0);
    while bytes < mib * MIB {
        let block = marked(sizes(&mut random));
        bytes += block.bytes().len() as u64;
        held.push(block);
        count += 1;
    }
    for block in held.drain(..) {
        match random.below(kept) {
            0 => live.push(block),
            _ => block.free(),
        }
    }
    then();
    // The vector's own memory was touched on the way.
    let vector = count * size_of::<Block>() as u64;
    (live, resident().saturating_sub(before + vector))
}

fn one_object_in_a_thousand_pins_system_pages_only() {
    let (live, left) = thin_out(|random| 8 + random.below(1_024), 128, 1_000);
    live.iter().for_each(check);
    // About 250 objects, at most two system pages each, and what is the process's own.
    assert!(left <= 128 * MIB / 20, "{} MiB are left", left / MIB);
}

fn without_collecting_a_phase_that_frees_gives_most_back() {
    let sizes = |random: &mut Random| 257 + random.below(768);
    let (live, left) = thin_out_and(|| (), sizes, 256, 1_000);
    // The reserve, or sparse pages left in its place, the 32 that became so last, and what is pinned. Pages would be 29%
    // without holes.
    assert!(left <= 256 * MIB / 6, "{} MiB are left", left / MIB);
    // What was given back is used again.
    let (again, _) = thin_out_and(|| (), sizes, 256, 1_000);
    live.iter().chain(&again).for_each(check);
}

/// Each of the pages becomes sparse, and more so, while those of other sizes do: it is looked at more than once.
fn without_collecting_where_pages_of_all_sizes_are_freed_in_turn() {
    let (live, left) = thin_out_and(|| (), |random| 8 + random.below(1_024), 1_024, 1_000);
    assert!(left <= 1_024 * MIB / 8, "{} MiB are left", left / MIB);
    live.iter().for_each(check);
}

/// Small blocks, of which no page loses all where they are freed as they were made: without a page that becomes free, the
/// reserve is never full.
const EVERY: usize = 1_000;

fn small_blocks(mib: u64) -> Vec<Block> {
    (0..mib * MIB / 64).map(|_| marked(64)).collect()
}

/// Frees all but every thousandth; those.
fn free_most(blocks: Vec<Block>) -> Vec<Block> {
    let mut live = Vec::with_capacity(blocks.len() / EVERY + 1);
    for (number, block) in blocks.into_iter().enumerate() {
        match number % EVERY {
            0 => live.push(block),
            _ => block.free(),
        }
    }
    live
}

fn without_collecting_where_every_page_is_pinned() {
    let before = resident();
    let live = free_most(small_blocks(128));
    let left = resident().saturating_sub(before);
    assert!(left <= 128 * MIB / 5, "{} MiB are left", left / MIB);
    live.iter().for_each(check);
}

fn without_collecting_where_most_pages_are_pinned_in_random_order() {
    let before = resident();
    let mut blocks = small_blocks(128);
    Random(5).shuffle(&mut blocks);
    let live = free_most(blocks);
    let left = resident().saturating_sub(before);
    assert!(left <= 128 * MIB / 3, "{} MiB are left", left / MIB);
    live.iter().for_each(check);
}

fn without_collecting_where_another_thread_frees() {
    let before = resident();
    let blocks = small_blocks(128);
    let live = std::thread::spawn(|| free_most(blocks)).join().unwrap();
    let left = resident().saturating_sub(before);
    assert!(left <= 128 * MIB / 5, "{} MiB are left", left / MIB);
    live.iter().for_each(check);
}

fn a_large_block_in_each_page_pins_system_pages_only() {
    let (live, left) = thin_out(|random| 20_000 + random.below(10_000), 128, 100);
    live.iter().for_each(check);
    let held: u64 = live.iter().map(|block| block.usable()).sum();
    assert!(
        left <= held + 128 * MIB / 8,
        "{} MiB are left for {} MiB of objects",
        left / MIB,
        held / MIB
    );
}

fn blocks_keep_their_contents_and_places() {
    let mut random = Random(7);
    let sizes = [
        8, 16, 48, 112, 200, 320, 700, 1_000, 1_800, 3_500, 4_096, 5_000, 9_000, 40_000, 100_000,
    ];
    let mut live: Vec<Block> = Vec::with_capacity(1 << 16);
    for round in 0..30 {
        for _ in 0..4_000 {
            live.push(marked(sizes[random.below(sizes.len())]));
        }
        let keep = [2, 10, 50][round % 3];
        let mut index = 0;
        while index < live.len() {
            if random.below(keep) == 0 {
                index += 1;
            } else {
                let block = live.swap_remove(index);
                check(&block);
                block.free();
            }
        }
        millpond::collect(true);
        live.iter().for_each(check);
        // No two of them share a byte.
        live.sort_by_key(|block| block.bytes().as_ptr());
        for pair in live.windows(2) {
            let end = pair[0].bytes().as_ptr_range().end;
            assert!(end <= pair[1].bytes().as_ptr(), "two blocks overlap");
        }
    }
    let stats = millpond::stats();
    let usable: u64 = live.iter().map(|block| block.usable()).sum();
    assert!(
        stats.live_bytes >= usable && stats.live_bytes <= usable + 4 * MIB,
        "{usable} bytes are live: {stats:#?}"
    );
    live.drain(..).for_each(Block::free);
}

fn everything_goes_back_in_the_end() {
    // What bins hold counts as live until it is collected.
    millpond::collect(true);
    let before = millpond::stats().live_bytes;
    for _ in 0..5 {
        let (live, _) = thin_out(|random| 8 + random.below(5_000), 32, 100);
        live.into_iter().for_each(Block::free);
        millpond::collect(true);
        // Pages with holes become free, too.
        let held = millpond::stats().fresh_pages;
        assert!(held > 0);
    }
    let stats = millpond::stats();
    assert_eq!(stats.live_bytes, before, "{stats:#?}");
    let mut large = Vec::with_capacity(64);
    // All slices are free again: claims that need many of them in a row find them.
    let reserved = stats.committed_bytes;
    large.extend((0..2).map(|_| Block::new(8 << 20)));
    assert_eq!(millpond::stats().committed_bytes, reserved);
}

fn heaps_without_a_thread_too() {
    millpond::set_option("purge_delay_ms", "20").unwrap();
    let before = resident();
    let live = std::thread::spawn(|| {
        let mut held: Vec<Block> = (0..100_000).map(|_| marked(500)).collect();
        let mut live = Vec::new();
        for (number, block) in held.drain(..).enumerate() {
            match number % 1_000 {
                0 => live.push(block),
                _ => block.free(),
            }
        }
        live
    })
    .join()
    .unwrap();
    millpond::set_option("background_thread", "on").unwrap();
    // The thread is started by a slow path.
    let _fresh = Block::new(100_000);
    for _ in 0..200 {
        if resident().saturating_sub(before) <= 6 * MIB {
            live.iter().for_each(check);
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{} MiB are left of 50", (resident() - before) / MIB);
}

fn collecting_again_finds_nothing() {
    // Sizes that divide a system page: where blocks lie across two, the second may be given back every time.
    let sizes = |random: &mut Random| 1 << (4 + random.below(8));
    // Pages of slices that were in use before, the second time, whose blocks behind the carved ones may be resident.
    for kept in [usize::MAX, 50] {
        let (live, _) = thin_out_and(|| (), sizes, 6, kept);
        if kept == 50 {
            millpond::collect(true);
            let purged = millpond::stats().purged_bytes;
            assert!(purged > 0);
            millpond::collect(true);
            assert_eq!(millpond::stats().purged_bytes, purged);
        }
        live.iter().for_each(check);
    }
}

/// A page whose last blocks end in the middle of a system page, used anew in part, and thinned: what lay behind reads as zero
/// where slices are taken for new.
fn zeroed_blocks_are_zero_where_the_end_of_a_page_was_in_use() {
    for (size, other) in [(4_608, 5_120), (5_632, 6_144), (9_216, 10_240)] {
        for count in 20..44 {
            let full: Vec<Block> = (0..count).map(|_| marked(size)).collect();
            full.into_iter().for_each(Block::free);
            millpond::collect(false);
            let (first, second) = (marked(other), marked(other));
            first.free();
            millpond::collect(true);
            second.free();
            millpond::collect(true);
            let zeroed = std::alloc::Layout::from_size_align(512 << 10, 8).unwrap();
            let blocks: Vec<Block> = (0..3).map(|_| Block::zeroed(zeroed)).collect();
            blocks.into_iter().for_each(Block::free);
            millpond::collect(true);
        }
    }
}
