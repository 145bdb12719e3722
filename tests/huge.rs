//! Blocks over 32 MiB: their mappings are reused, hold no more than the reserve allows, read as zero where that was
//! asked for, and are given back.

mod support;

use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout};
use std::time::{Duration, Instant};
use support::block::Block;
use support::process::{MIB, resident, status};

#[global_allocator]
static GLOBAL: Millpond = Millpond;

support::harness::each_alone! {
    a_mapping_is_reused_for_blocks_of_its_size,
    contents_are_kept_where_they_were_wanted_back,
    reused_mappings_are_zero_on_request,
    sparse_blocks_stay_sparse,
    the_cache_is_bounded,
    collect_gives_all_back,
    collect_without_force_gives_back_after_two_windows,
    the_background_thread_gives_back,
    slices_come_before_mappings_in_the_reserve,
    a_refusal_empties_the_cache,
    a_refusal_of_slices_empties_the_cache,
    blocks_change_their_size_in_reused_mappings,
    many_threads_at_a_time,
    a_child_has_the_cache_of_its_parent,
}

/// What the cache has room for: mappings, and the bytes of the largest.
const SLOTS: u64 = 4;
const LARGEST: usize = 256 << 20;
/// More than what else becomes resident in such a test.
const NOISE: u64 = 6 * MIB;

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

fn huge(mib: usize) -> Block {
    Block::new(mib << 20)
}

/// A block, every byte of it written.
fn filled(mib: usize) -> Block {
    let mut block = huge(mib);
    block.bytes_mut().fill(0xEE);
    block
}

fn reserved() -> u64 {
    millpond::stats().reserved_bytes
}

fn a_mapping_is_reused_for_blocks_of_its_size() {
    let block = huge(80);
    let (start, reserved_once) = (block.start(), reserved());
    block.free();
    for mib in [80, 80, 72, 70, 75] {
        let block = huge(mib);
        assert_eq!(block.start(), start, "{mib} MiB");
        assert!(block.usable() <= (mib as u64 * MIB) * 8 / 7);
        assert_eq!(reserved(), reserved_once);
        block.free();
    }
    // One of another size gets another.
    for mib in [69, 40, 81] {
        let block = huge(mib);
        assert_ne!(block.start(), start, "{mib} MiB");
        assert!(reserved() > reserved_once);
        block.free();
        millpond::collect(true);
        huge(80).free();
    }
    // So does one of another alignment, unless it happens to fit.
    let aligned = Block::with_layout(Layout::from_size_align(80 << 20, 1 << 26).unwrap());
    aligned.free();
}

fn contents_are_kept_where_they_were_wanted_back() {
    let before = resident();
    filled(100).free();
    // Nothing shows yet that it will be needed again.
    assert!(resident() < before + 8 * MIB + NOISE);
    for _ in 0..4 {
        filled(100).free();
        // Half of the peak, and what the reserve is without a reason; the peak has a few MiB of slices.
        assert!(resident() < before + 60 * MIB + NOISE);
        assert!(millpond::stats().reserve_bytes <= 60 * MIB);
    }
    assert!(resident() > before + 40 * MIB);
    assert!(millpond::stats().reserve_bytes > 40 * MIB);
}

fn reused_mappings_are_zero_on_request() {
    for mib in [40, 40, 60, 60, 60, 40, 60] {
        for _ in 0..3 {
            filled(mib).free();
            let mut zeroed = Block::zeroed(layout((mib << 20) - (1 << 20)));
            zeroed.bytes_mut().fill(0x77);
            zeroed.free();
        }
    }
    // Few pages that are far from each other.
    for round in 1..6 {
        let mut block = huge(50);
        block
            .bytes_mut()
            .iter_mut()
            .step_by(round * 1_300_000)
            .for_each(|byte| *byte = 1);
        block.free();
        Block::zeroed(layout(48 << 20)).free();
    }
}

fn sparse_blocks_stay_sparse() {
    let before = resident();
    for _ in 0..20 {
        let mut block = huge(200);
        // A page here and there, within the first gap.
        for at in (0..200 << 20).step_by(3 << 20) {
            block.bytes_mut()[at] = 1;
        }
        block.free();
        // SAFETY: any layout is allowed; freed with the same one.
        unsafe {
            let zeroed = Millpond.alloc_zeroed(layout(200 << 20));
            assert!(!zeroed.is_null() && zeroed.read() == 0 && zeroed.add(3 << 20).read() == 0);
            Millpond.dealloc(zeroed, layout(200 << 20));
        }
        assert!(resident() < before + NOISE);
    }
}

fn the_cache_is_bounded() {
    let (before, reserved_before) = (resident(), reserved());
    let slack = SLOTS * MIB;
    let held: Vec<Block> = (0..10).map(|_| filled(40)).collect();
    held.into_iter().for_each(Block::free);
    assert!(reserved() <= reserved_before + SLOTS * 40 * MIB + slack);
    assert!(resident() < before + 32 * MIB + NOISE);
    let held: Vec<Block> = (0..10).map(|_| huge(250)).collect();
    held.into_iter().for_each(Block::free);
    assert!(reserved() <= reserved_before + SLOTS * LARGEST as u64);
    millpond::collect(true);
    // A larger one is not cached, nor one whose alignment takes more.
    huge(257).free();
    assert_eq!(reserved(), reserved_before);
    Block::with_layout(Layout::from_size_align(40 << 20, 1 << 30).unwrap()).free();
    assert_eq!(reserved(), reserved_before);
}

fn collect_gives_all_back() {
    let (before, reserved_before) = (resident(), reserved());
    for _ in 0..3 {
        filled(60).free();
    }
    let purged = millpond::stats().purged_bytes;
    let kept = millpond::stats().reserve_bytes;
    assert!(kept > 8 * MIB && reserved() > reserved_before);
    millpond::collect(true);
    let stats = millpond::stats();
    assert_eq!(
        (stats.reserve_bytes, stats.reserved_bytes),
        (0, reserved_before)
    );
    assert!(stats.purged_bytes >= purged + kept);
    assert!(resident() < before + NOISE);
}

fn collect_without_force_gives_back_after_two_windows() {
    let (before, reserved_before) = (resident(), reserved());
    millpond::set_option("purge_delay_ms", "50").unwrap();
    filled(60).free();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(80));
        millpond::collect(false);
    }
    assert_eq!(reserved(), reserved_before);
    assert!(resident() < before + NOISE);
}

fn the_background_thread_gives_back() {
    let before = resident();
    millpond::set_option("background_thread", "1").unwrap();
    let reserved_before = reserved();
    for _ in 0..3 {
        filled(60).free();
    }
    assert!(reserved() > reserved_before);
    let start = Instant::now();
    while reserved() > reserved_before || resident() > before + NOISE {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{} MiB are still there",
            (resident() - before) / MIB
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn slices_come_before_mappings_in_the_reserve() {
    let before = resident();
    let mut large: Vec<Block> = (0..20).map(|_| Block::new(1 << 20)).collect();
    large.iter_mut().for_each(|block| block.bytes_mut().fill(1));
    filled(40).free();
    large.into_iter().for_each(Block::free);
    // Together they keep to the bound.
    assert!(millpond::stats().reserve_bytes <= 32 * MIB);
    assert!(resident() < before + 32 * MIB + NOISE);
}

/// Limits a resource of this process from now on.
fn limit(resource: libc::__rlimit_resource_t, bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the pointer is valid.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

fn a_refusal_empties_the_cache() {
    Block::new(100).free();
    let limit_to = |bytes| limit(libc::RLIMIT_AS, bytes);
    let fill_cache = || {
        limit_to(libc::RLIM_INFINITY);
        let held: Vec<Block> = (0..SLOTS).map(|_| huge(200)).collect();
        held.into_iter().for_each(Block::free);
        limit_to(status("VmSize") + 10 * MIB);
    };
    // A block of another size.
    fill_cache();
    let block = huge(100);
    block.free();
    // One that grows, keeping its contents.
    fill_cache();
    limit_to(libc::RLIM_INFINITY);
    let mut block = filled(50);
    block.bytes_mut()[0] = 7;
    limit_to(status("VmSize") + 10 * MIB);
    let block = block.resize(120 << 20).unwrap();
    assert_eq!((block.bytes()[0], block.bytes()[(50 << 20) - 1]), (7, 0xEE));
    block.free();
    // What can't be had even so is refused.
    assert!(Block::try_new(layout(4 << 30)).is_none());
    limit_to(libc::RLIM_INFINITY);
}

fn a_refusal_of_slices_empties_the_cache() {
    Block::new(100).free();
    huge(200).free();
    let reserved_before = reserved();
    // No room for what an arena makes accessible at a time, nor for another arena.
    limit(libc::RLIMIT_DATA, status("VmData") + MIB / 2);
    let held: Vec<Block> = (0..40).map(|_| Block::new(1 << 20)).collect();
    assert!(reserved() < reserved_before - 190 * MIB);
    held.into_iter().for_each(Block::free);
    limit(libc::RLIMIT_DATA, libc::RLIM_INFINITY);
}

fn blocks_change_their_size_in_reused_mappings() {
    huge(80).free();
    let mut block = huge(72);
    let start = block.start();
    block.bytes_mut().fill(3);
    // To the end of the mapping and back in place.
    let mut block = block.resize(79 << 20).unwrap();
    assert_eq!(block.start(), start);
    block.bytes_mut()[72 << 20..].fill(4);
    let before = resident();
    let block = block.resize(71 << 20).unwrap();
    assert_eq!(block.start(), start);
    assert!(
        resident() < before - 6 * MIB,
        "the end of a shrunken block stays"
    );
    let block = block.resize(150 << 20).unwrap();
    assert!(block.bytes()[..71 << 20].iter().all(|&byte| byte == 3));
    let block = block.resize(35 << 20).unwrap();
    assert!(block.bytes().iter().all(|&byte| byte == 3));
    assert!(block.usable() < 36 * MIB);
    let stats = millpond::stats();
    block.free();
    let after = millpond::stats();
    assert_eq!(after.live_bytes, stats.live_bytes - 35 * MIB);
}

fn many_threads_at_a_time() {
    Block::new(100).free();
    let reserved_before = reserved();
    let rounds = if cfg!(debug_assertions) { 150 } else { 1000 };
    std::thread::scope(|scope| {
        for thread in 1..=4_u64 {
            scope.spawn(move || {
                let mut seed = thread.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let mut held: Option<Block> = None;
                for round in 0..rounds {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    let size = (33 << 20) + seed as usize % (12 << 20);
                    let sign = seed as u8;
                    let mut block = if round % 3 == 0 {
                        // SAFETY: any layout is allowed; freed with the same one.
                        unsafe {
                            let zeroed = Millpond.alloc_zeroed(layout(size));
                            assert!(!zeroed.is_null());
                            for at in (0..size).step_by(1 << 16) {
                                assert_eq!(zeroed.add(at).read(), 0);
                            }
                            Millpond.dealloc(zeroed, layout(size));
                        }
                        huge(40)
                    } else {
                        Block::new(size)
                    };
                    for byte in block.bytes_mut().iter_mut().step_by(1 << 16) {
                        *byte = sign;
                    }
                    if round % 7 == 0 {
                        millpond::collect(round % 2 == 0);
                    }
                    let block = if round % 5 == 0 {
                        block.resize(size + (3 << 20)).unwrap()
                    } else {
                        block
                    };
                    // The last byte of a new block has another sign.
                    let end = block.layout().size().min(33 << 20) - 1;
                    let all = block.bytes()[..end].iter().step_by(1 << 16);
                    assert!(all.into_iter().all(|&byte| byte == sign));
                    // A block outlives the next one's beginning, so that several are out at a time.
                    if let Some(old) = held.replace(block) {
                        old.free();
                    }
                }
                held.unwrap().free();
            });
        }
    });
    millpond::collect(true);
    let stats = millpond::stats();
    assert_eq!(stats.reserve_bytes, 0);
    assert!(stats.reserved_bytes <= reserved_before + 8 * MIB);
}

fn a_child_has_the_cache_of_its_parent() {
    let live = huge(40);
    filled(40).free();
    let work = || {
        let block = Block::zeroed(layout(40 << 20));
        let found = block.start();
        block.free();
        millpond::collect(true);
        found
    };
    // SAFETY: the process has one thread; the child works with the allocator only and leaves without unwinding.
    match unsafe { libc::fork() } {
        0 => {
            work();
            // SAFETY: no preconditions.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut state = 0;
            // SAFETY: the pointer is valid.
            assert_eq!(unsafe { libc::waitpid(child, &mut state, 0) }, child);
            assert_eq!(state, 0);
            assert_ne!(work(), live.start());
            live.free();
        }
    }
}
