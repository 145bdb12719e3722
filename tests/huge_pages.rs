//! Which memory huge pages are asked for: what grows densely beyond the first 32 MiB, and only as long as nothing of it
//! is given back. What the system makes of it isn't tested: its settings differ.

mod support;

use millpond::Millpond;
use std::fs::File;
use std::io::{BufRead, BufReader};
use support::block::Block;
use support::process::{MIB, resident};

#[global_allocator]
static GLOBAL: Millpond = Millpond;

support::harness::each_alone! {
    dense_growth_is_advised,
    a_small_process_is_not_advised,
    larger_classes_are_not_advised,
    a_large_block_is_advised,
    regions_with_gaps_are_advised_no_more,
    a_second_burst_is_advised_again,
    the_option_switches_it_off,
    slow_ones_are_taken_back,
}

/// Bytes of mappings that were advised, in MiB; `None` on a system that doesn't know huge pages.
fn advised() -> Option<u64> {
    let smaps = BufReader::new(File::open("/proc/self/smaps").unwrap());
    let (mut size, mut advised, mut known) = (0, 0, false);
    for line in smaps.lines() {
        let line = line.unwrap();
        if let Some(kib) = line.strip_prefix("Size:") {
            size = kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024;
        } else if line.starts_with("AnonHugePages:") {
            known = true;
        } else if let Some(flags) = line.strip_prefix("VmFlags:")
            && flags.split_ascii_whitespace().any(|flag| flag == "hg")
        {
            advised += size;
        }
    }
    if !known {
        println!("this system has no huge pages: nothing to test");
    }
    known.then_some(advised)
}

/// On a machine where huge pages are slow, too.
fn however_slow() {
    millpond::set_option("huge_page_limit_us", "1000000").unwrap();
}

/// Blocks of `size` bytes, `mib` MiB of them altogether.
fn fill(into: &mut Vec<Block>, size: usize, mib: u64) {
    into.extend((0..mib * MIB / size as u64).map(|_| Block::new(size)));
}

fn blocks() -> Vec<Block> {
    Vec::with_capacity(1 << 20)
}

fn dense_growth_is_advised() {
    however_slow();
    let mut held = blocks();
    fill(&mut held, 500, 100);
    let Some(advised) = advised() else { return };
    // 32 MiB are spared, and the vector has its share.
    assert!((64..=112).contains(&advised), "{advised} MiB are advised");
}

fn a_small_process_is_not_advised() {
    let mut held = Vec::new();
    fill(&mut held, 500, 20);
    assert!(matches!(advised(), None | Some(0)));
}

fn larger_classes_are_not_advised() {
    let mut held = blocks();
    // The vector, a block of 16 MiB and more, may have its region.
    let Some(before) = advised() else { return };
    fill(&mut held, 20_000, 100);
    assert_eq!(advised(), Some(before));
}

fn a_large_block_is_advised() {
    however_slow();
    let before = resident();
    let large: Vec<Block> = (0..5).map(|_| Block::new(20 << 20)).collect();
    let Some(advised) = advised() else { return };
    assert!((48..=112).contains(&advised), "{advised} MiB are advised");
    // Two bytes of each are written: a huge page for each of them at most.
    let grown = (resident() - before) / MIB;
    assert!(grown <= 5 * 2 * 2 + 2, "{grown} MiB are resident");
    drop(large);
}

fn regions_with_gaps_are_advised_no_more() {
    however_slow();
    let mut held = blocks();
    let start = resident();
    fill(&mut held, 500, 160);
    let Some(full) = advised() else { return };
    let mut kept = Vec::with_capacity(1000);
    for (number, block) in held.drain(..).enumerate() {
        if number % 1000 == 0 {
            kept.push(block);
        } else {
            block.free();
        }
    }
    let left = advised().unwrap();
    assert!(left <= full / 2, "{left} of {full} MiB are advised still");
    let resident = (resident() - start) / MIB;
    assert!(resident <= 60, "{resident} MiB are resident of 160");
}

fn a_second_burst_is_advised_again() {
    however_slow();
    let mut held = blocks();
    let mut most = 0;
    for burst in 0..3 {
        fill(&mut held, 500, 160);
        let Some(advised) = advised() else { return };
        assert!(
            advised >= most * 3 / 4,
            "{advised} MiB are advised in burst {burst}, {most} before"
        );
        most = advised.max(most);
        held.drain(..).for_each(Block::free);
    }
    assert!(most >= 96, "{most} MiB are advised at most");
}

fn the_option_switches_it_off() {
    millpond::set_option("huge_pages", "off").unwrap();
    let mut held = blocks();
    fill(&mut held, 500, 100);
    assert!(matches!(advised(), None | Some(0)));
}

fn slow_ones_are_taken_back() {
    // Every touch takes longer.
    millpond::set_option("huge_page_limit_us", "0").unwrap();
    let mut held = blocks();
    fill(&mut held, 500, 100);
    assert!(matches!(advised(), None | Some(0)));
}
