//! Sizes and alignments of every kind: what is asked for is there, aligned, zero where that was asked for, keeps its
//! contents through `realloc`, and is given back.

mod support;

use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout};
use support::block::Block;
use support::marked::Random;
use support::process::{MIB, reset_peak, resident, status};

#[global_allocator]
static GLOBAL: Millpond = Millpond;

support::harness::each_alone! {
    every_alignment_up_to_1_gib,
    over_aligned_memory_is_given_back,
    blocks_of_large_and_small_alignment_keep_apart,
    zero_sizes_are_blocks,
    impossible_sizes_are_refused,
    usable_size_covers_every_size,
    zeroed_blocks_are_zero_in_reused_memory,
    zeroed_blocks_are_zero_in_pages_of_another_class_before,
    realloc_keeps_contents_in_every_direction,
    realloc_keeps_contents_between_large_and_huge,
    realloc_to_nothing_keeps_a_block,
    large_blocks_grow_and_shrink_in_place,
    shrunken_blocks_have_room_to_the_end_of_their_class,
    single_blocks_grow_and_shrink_in_place,
    blocks_within_a_class_stay_where_they_are,
    huge_blocks_grow_without_a_copy,
    freed_huge_blocks_are_back_within_the_reserve,
    freed_large_blocks_are_back_within_the_reserve,
}

/// Where a block stops having a class, in bytes.
const MAX_BINNED: usize = 128 << 10;
/// Where it stops lying in an arena.
const MAX_ARENA: usize = 32 << 20;

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

/// Sizes on both sides of every border of a class, and of large and huge blocks.
fn borders() -> impl Iterator<Item = usize> {
    let small = (0..=128).step_by(8);
    let classes = (7..17).flat_map(|doubling| (8..16).map(move |eighth| eighth << (doubling - 3)));
    let slices = [1, 2, 3, 7, 16, 100, 511, 512].map(|slices| slices << 16);
    small
        .chain(classes)
        .chain(slices)
        .chain([MAX_BINNED, MAX_ARENA])
        .flat_map(|size: usize| [size.saturating_sub(1), size, size + 1])
}

/// The contents of the chunk `number` of a block: no two chunks or seeds alike, and quick to compare in debug builds.
fn pattern(seed: usize, number: usize) -> [u8; 256] {
    let mut chunk = [0xC3; 256];
    chunk[..8].copy_from_slice(&(seed as u64).to_ne_bytes());
    chunk[248..].copy_from_slice(&(number as u64).to_ne_bytes());
    chunk
}

fn fill(block: &mut Block, seed: usize) {
    for (number, chunk) in block.bytes_mut().chunks_mut(256).enumerate() {
        chunk.copy_from_slice(&pattern(seed, number)[..chunk.len()]);
    }
}

fn check(block: &Block, seed: usize, bytes: usize) {
    for (number, chunk) in block.bytes()[..bytes].chunks(256).enumerate() {
        let expected = pattern(seed, number);
        assert_eq!(
            chunk,
            &expected[..chunk.len()],
            "byte {} of {:?}",
            number * 256,
            block.layout()
        );
    }
}

fn every_alignment_up_to_1_gib() {
    for shift in 0..=30 {
        let align = 1_usize << shift;
        for size in [0, 1, 7, 8, 100, 4096, 5000, 100_000, 3_000_000] {
            let mut held = Vec::with_capacity(3);
            for _ in 0..3 {
                // Checks the alignment, and writes the first and the last byte.
                let block = Block::with_layout(layout(size, align));
                assert!(block.usable() >= size as u64);
                held.push(block);
            }
            held.into_iter().for_each(Block::free);
            Block::zeroed(layout(size, align)).free();
        }
    }
}

fn over_aligned_memory_is_given_back() {
    let (before, address_space) = (resident(), status("VmSize"));
    for _ in 0..200 {
        // Each takes 2 GiB of address space at most: 200 of them at a time would take 400.
        let mut block = Block::with_layout(layout(2 << 20, 1 << 30));
        block.bytes_mut().fill(1);
        block.free();
    }
    millpond::collect(true);
    assert!(resident() < before + 16 * MIB);
    assert!(status("VmSize") < address_space + (1 << 30));
}

/// Above 4 KiB those with a large alignment are of other classes, though they are freed by their size. Each round frees about
/// half of the blocks, some on another thread, and fills their places with blocks of any layout.
fn blocks_of_large_and_small_alignment_keep_apart() {
    const SIZES: [usize; 6] = [4096, 4224, 8192, 8320, 12_288, 32_768];
    let mut random = Random(5);
    let mut held: Vec<(usize, Block)> = Vec::new();
    for round in 0..60 {
        while held.len() < 400 {
            let align = [8, 128, 256, 4096][random.below(4)];
            let seed = round * 1000 + held.len();
            let mut block = Block::with_layout(layout(SIZES[random.below(6)], align));
            fill(&mut block, seed);
            held.push((seed, block));
        }
        let mut others = Vec::new();
        for index in (0..held.len()).rev() {
            let (seed, block) = &held[index];
            check(block, *seed, block.layout().size());
            match random.below(4) {
                0 => held.swap_remove(index).1.free(),
                1 => others.push(held.swap_remove(index).1),
                _ => {}
            }
        }
        let freer = std::thread::spawn(|| others.into_iter().for_each(Block::free));
        if random.below(2) == 0 {
            freer.join().unwrap();
        }
    }
    held.into_iter().for_each(|(_, block)| block.free());
}

fn zero_sizes_are_blocks() {
    let mut seen = std::collections::HashSet::new();
    let mut held = Vec::new();
    for align in [1, 8, 16, 64, 4096, 1 << 16, 1 << 17, 1 << 20, 1 << 26] {
        for _ in 0..3 {
            let block = Block::with_layout(layout(0, align));
            assert!(
                seen.insert(block.start()),
                "two blocks of size 0 share an address"
            );
            held.push(block);
        }
        held.push(Block::zeroed(layout(0, align)));
    }
    for block in held {
        let grown = block.resize(100).unwrap();
        let none = grown.resize(0).unwrap();
        none.free();
    }
}

fn impossible_sizes_are_refused() {
    let most = isize::MAX as usize;
    for align in [1, 8, 4096, 1 << 16, 1 << 20, 1 << 30] {
        for size in [
            1 << 46,
            (1 << 47) - 1,
            1 << 47,
            (1 << 47) + 1,
            1 << 48,
            1 << 60,
            most - align + 1,
        ] {
            let asked = layout(size, align);
            // The kernel may still grant 64 TiB of address space where nothing limits it.
            if let Some(block) = Block::try_new(asked) {
                assert!(size <= 1 << 47, "{asked:?} was granted");
                block.free();
            }
            // SAFETY: any layout is allowed.
            let zeroed = unsafe { Millpond.alloc_zeroed(asked) };
            assert!(size <= 1 << 47 || zeroed.is_null());
            if !zeroed.is_null() {
                // SAFETY: allocated just now with this layout.
                unsafe { Millpond.dealloc(zeroed, asked) };
            }
        }
    }
    // Alignments that can't be had.
    for shift in 47..63 {
        // SAFETY: any layout is allowed.
        let block = unsafe { Millpond.alloc(layout(1, 1 << shift)) };
        assert!(block.is_null(), "alignment 1 << {shift}");
    }
    // A block that can't grow stays what it was.
    for size in [10, 1000, 200_000, 40 << 20] {
        let mut block = Block::new(size);
        fill(&mut block, size);
        let block = block.resize(1 << 60).unwrap_err();
        let block = block.resize(most - 7).unwrap_err();
        check(&block, size, size);
        block.free();
    }
    let mut vector: Vec<u8> = Vec::new();
    assert!(vector.try_reserve_exact(1 << 60).is_err());
    vector.try_reserve_exact(100).unwrap();
}

fn usable_size_covers_every_size() {
    for size in (0..70_000)
        .chain((70_000..600_000).step_by(997))
        .chain(borders())
    {
        for align in [1, 16, 64] {
            let block = Block::with_layout(layout(size, align));
            let usable = block.usable();
            assert!(usable >= size as u64, "{size} aligned to {align}");
            if size > 128 && size <= MAX_BINNED && align == 1 {
                assert!(
                    (usable - size as u64) * 8 <= size as u64,
                    "{size} bytes take {usable}"
                );
            }
            block.free();
        }
    }
}

fn zeroed_blocks_are_zero_in_reused_memory() {
    for size in borders() {
        for align in [8, 4096] {
            let asked = layout(size, align);
            // As many as several pages hold where that is little, freed dirty in two orders.
            let count = (200_000 / size.max(64)).clamp(1, 200);
            let mut dirty: Vec<Block> = (0..count).map(|_| Block::with_layout(asked)).collect();
            dirty
                .iter_mut()
                .for_each(|block| block.bytes_mut().fill(0xFF));
            let rest = dirty.split_off(count / 2);
            dirty.into_iter().for_each(Block::free);
            rest.into_iter().rev().for_each(Block::free);
            let zeroed: Vec<Block> = (0..count).map(|_| Block::zeroed(asked)).collect();
            zeroed.into_iter().for_each(Block::free);
        }
    }
}

fn zeroed_blocks_are_zero_in_pages_of_another_class_before() {
    // Pages of each size go from class to class through the heap's and the arena's free ones.
    for reserve in ["0", "1024", "65536"] {
        millpond::set_option("heap_reserve_kib", reserve).unwrap();
        for round in 0..3 {
            for size in [
                24, 1000, 4096, 6000, 8192, 12_000, 16_384, 40_000, 65_536, 90_000, 131_072,
                200_000,
            ] {
                let count = 3_000_000 / size / (round + 1);
                let mut dirty: Vec<Block> = (0..count).map(|_| Block::new(size)).collect();
                dirty
                    .iter_mut()
                    .for_each(|block| block.bytes_mut().fill(0xFF));
                dirty.into_iter().for_each(Block::free);
                let zeroed: Vec<Block> = (0..count / 2)
                    .map(|_| Block::zeroed(layout(size / 2, 8)))
                    .collect();
                zeroed.into_iter().for_each(Block::free);
            }
        }
    }
    millpond::set_option("heap_reserve_kib", "1024").unwrap();
}

fn realloc_keeps_contents_in_every_direction() {
    let sizes = [
        1,
        8,
        9,
        100,
        128,
        129,
        1000,
        1024,
        1025,
        4096,
        8192,
        60_000,
        65_536,
        100_000,
        MAX_BINNED - 1,
        MAX_BINNED,
        MAX_BINNED + 1,
        200_000,
        3 << 16,
        1 << 20,
    ];
    for align in [1, 16, 4096, 1 << 17] {
        for from in sizes {
            for to in sizes {
                let mut block = Block::with_layout(layout(from, align));
                fill(&mut block, from ^ to);
                let block = block.resize(to).unwrap();
                assert_eq!(block.start().addr().get() % align, 0);
                assert!(block.usable() >= to as u64);
                check(&block, from ^ to, from.min(to));
                block.free();
            }
        }
    }
}

fn realloc_keeps_contents_between_large_and_huge() {
    let sizes = [
        MAX_BINNED,
        1 << 20,
        MAX_ARENA - 1,
        MAX_ARENA,
        MAX_ARENA + 1,
        MAX_ARENA + (1 << 16) + 1,
        3 * MAX_ARENA / 2,
    ];
    for from in sizes {
        for to in sizes {
            let mut block = Block::new(from);
            fill(&mut block, from ^ to);
            let block = block.resize(to).unwrap();
            check(&block, from ^ to, from.min(to));
            // The added part is the caller's, and writable to its end.
            let mut block = block;
            block.bytes_mut().fill(3);
            block.free();
        }
    }
}

fn realloc_to_nothing_keeps_a_block() {
    // The last slice of a large block is not given away, whatever the size.
    for (size, align) in [(1, 1 << 17), (65_536, 1 << 17), (200_000, 8), (40 << 20, 8)] {
        let block = Block::with_layout(layout(size, align)).resize(0).unwrap();
        let other = Block::with_layout(layout(size, align));
        assert_ne!(block.start(), other.start());
        other.free();
        let mut block = block.resize(10).unwrap();
        block.bytes_mut().fill(1);
        block.free();
    }
}

fn large_blocks_grow_and_shrink_in_place() {
    // Behind the block that is freed first there is room.
    let first = Block::new(1 << 20);
    let second = Block::new(4 << 20);
    let fence = Block::new(1 << 20);
    let start = first.start();
    assert!(
        second.start() > start,
        "blocks of a fresh arena lie in order"
    );
    second.free();
    let grown = first.resize(2 << 20).unwrap();
    assert_eq!(grown.start(), start, "there was room to grow in place");
    assert_eq!(grown.usable(), 2 << 20);
    let shrunk = grown.resize((2 << 20) - 300_000).unwrap();
    assert_eq!(shrunk.start(), start);
    assert!(
        shrunk.usable() < 2 << 20,
        "the slices behind a shrunken block are free again"
    );
    let kept = shrunk.resize((2 << 20) - 300_001).unwrap();
    assert_eq!(kept.start(), start);
    kept.free();
    fence.free();
}

/// Within a class a block grows without being asked for: what a large block keeps of its slices when it shrinks into a class has
/// to reach to the end of that.
fn shrunken_blocks_have_room_to_the_end_of_their_class() {
    for large in [140_000, 196_608, 200_000, 262_144] {
        for small in [
            18_000, 57_400, 65_409, 65_536, 90_000, 98_305, 114_700, MAX_BINNED,
        ] {
            let mut block = Block::new(large).resize(small).unwrap();
            let start = block.start();
            for size in (small + 1..=small + 512).step_by(3) {
                block = block.resize(size).unwrap();
                assert!(
                    block.usable() >= size as u64,
                    "{large} bytes, {small} and then {size}"
                );
                if block.start() != start {
                    break;
                }
            }
            block.free();
        }
    }
}

fn single_blocks_grow_and_shrink_in_place() {
    let block = Block::new(20_000);
    let start = block.start();
    let grown = block.resize(60_000).unwrap();
    assert_eq!(grown.start(), start, "all of it is in the same slice");
    assert!(grown.usable() < 61_440 + 256);
    let shrunk = grown.resize(18_000).unwrap();
    assert_eq!(shrunk.start(), start);
    let small = shrunk.resize(10_000).unwrap();
    assert_ne!(small.start(), start, "a slice is too much for that");
    small.free();
}

fn blocks_within_a_class_stay_where_they_are() {
    let block = Block::new(100);
    let start = block.start();
    let block = block.resize(112).unwrap();
    assert_eq!(block.start(), start);
    let block = block.resize(60).unwrap();
    assert_eq!(
        block.start(),
        start,
        "half the class is still worth staying"
    );
    let block = block.resize(20).unwrap();
    assert_ne!(block.start(), start, "a fifth of the class is not");
    block.free();
}

/// Whether all of the block lies in one line of `/proc/self/maps`.
fn is_one_mapping(block: &Block) -> bool {
    let from = block.start().addr().get();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let address = |text| usize::from_str_radix(text, 16).unwrap();
        address(start) <= from && from + block.layout().size() <= address(end)
    })
}

fn huge_blocks_grow_without_a_copy() {
    if !reset_peak() {
        return support::skip(
            "huge_blocks_grow_without_a_copy",
            "the peak can't be reset here",
        );
    }
    let before = resident();
    let mut block = Block::new(48 << 20);
    fill(&mut block, 1);
    // A copy would have the old and the new block resident at once.
    for size in [64, 80, 96, 128].map(|size| size << 20) {
        block = block.resize(size).unwrap();
        // Older kernels move only what is one mapping.
        assert!(is_one_mapping(&block), "{} MiB", size >> 20);
    }
    let peak = status("VmHWM");
    assert!(
        peak < before + 64 * MIB,
        "{} MiB above the start",
        (peak - before) / MIB
    );
    check(&block, 1, 48 << 20);
    // And shrinks without one.
    let block = block.resize(40 << 20).unwrap();
    let peak = status("VmHWM");
    assert!(
        peak < before + 64 * MIB,
        "{} MiB above the start",
        (peak - before) / MIB
    );
    check(&block, 1, 40 << 20);
    block.free();
}

fn freed_huge_blocks_are_back_within_the_reserve() {
    let (before, reserved) = (resident(), millpond::stats().reserved_bytes);
    for round in 0..5 {
        let mut block = Block::new(100 << 20);
        block.bytes_mut().fill(1);
        assert!(resident() > before + 90 * MIB);
        assert!(millpond::stats().reserved_bytes >= reserved + 100 * MIB);
        block.free();
        // 8 MiB at first, and half of the peak more for a loop that wants them back.
        let bound = if round == 0 { 10 } else { 60 };
        assert!(
            resident() < before + bound * MIB,
            "{} MiB are left",
            (resident() - before) / MIB
        );
    }
    millpond::collect(true);
    let mut block = Block::new(100 << 20);
    block.bytes_mut().fill(1);
    let block = block.resize(40 << 20).unwrap();
    assert!(
        resident() < before + 50 * MIB,
        "the rest of a shrunken block stays"
    );
    block.free();
    millpond::collect(true);
    assert_eq!(millpond::stats().reserved_bytes, reserved);
}

fn freed_large_blocks_are_back_within_the_reserve() {
    let before = resident();
    let mut held: Vec<Block> = (0..32).map(|_| Block::new(8 << 20)).collect();
    held.iter_mut().for_each(|block| block.bytes_mut().fill(1));
    assert!(resident() > before + 240 * MIB);
    held.into_iter().for_each(Block::free);
    // 5% of the peak, at least 8 and at most 32 MiB.
    assert!(
        resident() < before + 36 * MIB,
        "{} MiB are left",
        (resident() - before) / MIB
    );
    millpond::collect(true);
    assert!(
        resident() < before + 4 * MIB,
        "{} MiB are left",
        (resident() - before) / MIB
    );
}
