//! Small blocks of one thread that another one frees in runs, and keeps as long as it allocates such blocks itself.
//!
//! Each test is alone in a process of its own, on threads that allocate nothing but what the test does: the counters
//! are compared exactly.

mod support;

use millpond::{Millpond, Stats};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};
use support::block::{Block, blocks};
use support::marked::Random;
use support::settled::{settled, settled_after_a_race};
use support::thread::{beside, run_to_end};

#[global_allocator]
static GLOBAL: Millpond = Millpond;

support::harness::each_alone! {
    a_run_is_kept_and_handed_out_again,
    a_block_here_and_a_block_there_go_to_their_pages,
    who_allocates_no_such_blocks_keeps_none,
    some_batches_of_a_class_are_kept_and_no_more,
    blocks_of_8_bytes_are_kept_without_batches,
    what_a_thread_kept_goes_back_when_it_frees_its_own,
    what_a_thread_kept_goes_back_when_it_frees_others_pages,
    a_batch_in_use_goes_back_when_a_thread_frees_others_pages_of_another_class,
    a_thread_that_only_frees_starts_to_keep_nothing,
    who_reuses_blocks_may_keep_again,
    batches_that_nobody_needs_go_back_in_time,
    the_vacant_heap_keeps_nothing,
    blocks_passed_on_in_runs_keep_their_contents,
}

/// Of each kind of page that small blocks have, the smallest and the largest.
const SIZES: [usize; 5] = [16, 64, 256, 272, 1024];
/// What a class has at most: the list in use and four batches.
const LISTS: usize = 5;

/// The blocks in a batch, which has 16 KiB of them.
fn batch(size: usize) -> usize {
    16 * 1024 / usable(size) as usize
}

/// The bytes that a block has.
fn usable(size: usize) -> u64 {
    let block = Block::new(size);
    let usable = block.usable();
    block.free();
    usable
}

/// `count` blocks, and some that lie between them, so that no page becomes free with them.
fn scattered(size: usize, count: usize) -> (Vec<Block>, Vec<Block>) {
    let mut between = Vec::with_capacity(count / 50);
    let mut all = Vec::with_capacity(count);
    for at in 0..count {
        if at % 50 == 0 {
            between.push(Block::new(size));
        }
        all.push(Block::new(size));
    }
    (all, between)
}

/// Of the calling thread and those that ended: how many blocks were freed to pages of other heaps, and how many were
/// kept, since `before`.
fn sent_and_kept(before: &Stats) -> (u64, u64) {
    let now = millpond::stats();
    (
        now.remote_frees - before.remote_frees,
        now.recycled - before.recycled,
    )
}

fn a_run_is_kept_and_handed_out_again() {
    for size in SIZES {
        let mut all = blocks(size, 768 * 1024 / size);
        let in_a_slice = all
            .windows(12)
            .position(|run| slice(&run[0]) == slice(&run[11]))
            .unwrap();
        let mut held: Vec<Block> = all.drain(in_a_slice..in_a_slice + 12).collect();
        let mut again: Vec<Block> = Vec::with_capacity(held.len());
        let before = settled();
        run_to_end(|| {
            let own = Block::new(size);
            // Of another page, whatever this thread's heap freed last.
            all.pop().unwrap().free();
            let mut freed = [0; 12];
            for (address, block) in freed.iter_mut().zip(&held) {
                *address = block.start().addr().get();
            }
            held.drain(..).for_each(Block::free);
            assert_eq!(sent_and_kept(&before), (3, 10), "size {size}");
            again.extend((0..10).map(|_| Block::new(size)));
            // The one freed last comes first.
            assert!(
                again
                    .iter()
                    .map(|block| block.start().addr().get())
                    .eq(freed[2..].iter().rev().copied()),
                "size {size}: {freed:x?} were freed, and {again:?} handed out"
            );
            again.drain(..).chain([own]).for_each(Block::free);
        });
        let after = settled();
        assert_eq!(after.live_bytes + 13 * usable(size), before.live_bytes);
        all.drain(..).for_each(Block::free);
    }
}

/// The 64 KiB in which it starts, of which no two pages share one.
fn slice(block: &Block) -> usize {
    block.start().addr().get() >> 16
}

fn a_block_here_and_a_block_there_go_to_their_pages() {
    for size in SIZES {
        // Three pages, at least: of 256 KiB from 193 bytes on. The first block of each pair is two pages from the second.
        let third = 256 * 1024 / size;
        let mut held = blocks(size, 3 * third);
        let mut others = held.split_off(2 * third);
        let mut between = held.split_off(third);
        let last = between.pop().unwrap();
        let count = 2 * third as u64 + 1;
        let before = settled();
        run_to_end(|| {
            let own = Block::new(size);
            // Of a third page, whatever this thread's heap freed last.
            last.free();
            for (one, other) in held.drain(..).zip(others.drain(..)) {
                one.free();
                other.free();
            }
            own.free();
            assert_eq!(sent_and_kept(&before), (count, 0), "size {size}");
        });
        between.drain(..).for_each(Block::free);
        settled();
    }
}

fn who_allocates_no_such_blocks_keeps_none() {
    for size in SIZES {
        let mut held = blocks(size, 1000);
        let before = settled();
        run_to_end(|| {
            let own = Block::new(size / 2);
            held.drain(..).for_each(Block::free);
            own.free();
            assert_eq!(sent_and_kept(&before), (1000, 0), "size {size}");
        });
        settled();
    }
}

fn some_batches_of_a_class_are_kept_and_no_more() {
    for size in SIZES {
        let batch = batch(size);
        let count = 4 * LISTS * batch;
        let (mut held, mut between) = scattered(size, count);
        let mut again: Vec<Block> = Vec::with_capacity(count);
        let before = settled();
        run_to_end(|| {
            let own = Block::new(size);
            held.drain(..).for_each(Block::free);
            let (sent, kept) = sent_and_kept(&before);
            assert_eq!(sent + kept, count as u64, "size {size}");
            assert_eq!(kept as usize, LISTS * batch, "size {size}");
            // All of it is there for this thread.
            let fresh = millpond::stats().fresh_pages;
            again.extend((0..kept).map(|_| Block::new(size)));
            assert_eq!(millpond::stats().fresh_pages, fresh, "size {size}");
            again.drain(..).chain([own]).for_each(Block::free);
            millpond::collect(false);
            // What is collected goes home, each block by itself.
            let home = sent_and_kept(&before).0;
            assert!(
                home >= count as u64,
                "size {size}: {home} of {count} blocks are back"
            );
        });
        let after = settled();
        assert_eq!(
            after.live_bytes + count as u64 * usable(size),
            before.live_bytes
        );
        between.drain(..).for_each(Block::free);
    }
}

fn blocks_of_8_bytes_are_kept_without_batches() {
    let batch = batch(8);
    let mut held = blocks(8, 10_000);
    let before = settled();
    run_to_end(|| {
        let own = Block::new(8);
        held.drain(..).for_each(Block::free);
        let (sent, kept) = sent_and_kept(&before);
        assert_eq!((sent + kept, kept), (10_000, batch as u64));
        own.free();
    });
    let after = settled();
    assert_eq!(after.live_bytes + 80_000, before.live_bytes);
}

fn what_a_thread_kept_goes_back_when_it_frees_its_own() {
    const SIZE: usize = 64;
    // So that pages are released as soon as they are free.
    millpond::set_option("heap_reserve_kib", "0").unwrap();
    let batch = batch(SIZE);
    let (mut held, _between) = scattered(SIZE, 10_000);
    let mut own: Vec<Block> = Vec::with_capacity(32 << 10);
    let before = settled();
    run_to_end(|| {
        own.push(Block::new(SIZE));
        held.drain(..).for_each(Block::free);
        let (sent, kept) = sent_and_kept(&before);
        assert_eq!(kept as usize, LISTS * batch);
        // Much more than the reserve holds.
        own.extend((0..32 << 10).map(|_| Block::new(8192)));
        own.drain(..).for_each(Block::free);
        let back = sent_and_kept(&before).0 - sent;
        assert_eq!(back, kept, "all are with their pages");
    });
    settled();
}

/// Of small blocks and of larger ones: a thread that only frees what others made keeps nothing in the end.
fn what_a_thread_kept_goes_back_when_it_frees_others_pages() {
    for size in [16, 64, 1024, 2000, 8192] {
        let count = (16 << 20) / size;
        let mut held = blocks(size, count);
        let before = settled();
        run_to_end(|| {
            let own = Block::new(size);
            held.drain(..).for_each(Block::free);
            let (sent, kept) = sent_and_kept(&before);
            assert!(kept > 0, "size {size}");
            assert_eq!(
                sent, count as u64,
                "size {size}: {kept} were kept, and not all of them went back"
            );
            own.free();
        });
        settled();
    }
}

fn a_batch_in_use_goes_back_when_a_thread_frees_others_pages_of_another_class() {
    const KEPT: usize = 64;
    let batch = batch(KEPT);
    let (mut held, _between) = scattered(KEPT, 2 * batch + 2);
    let mut others = blocks(256, 4 << 12);
    let before = settled();
    run_to_end(|| {
        let mut own: [Option<Block>; 2000] = [const { None }; 2000];
        own[0] = Some(Block::new(KEPT));
        held.drain(..).for_each(Block::free);
        let (sent, kept) = sent_and_kept(&before);
        assert_eq!(kept as usize, 2 * batch);
        // The list in use, whatever it has of the page, and the first of the batch: its others are the list in use then.
        let mut at = 1;
        let reused = millpond::stats().reused_pages;
        while millpond::stats().reused_pages == reused {
            own[at] = Some(Block::new(KEPT));
            at += 1;
        }
        others.drain(..).for_each(Block::free);
        let back = sent_and_kept(&before).0 - sent - (4 << 12);
        assert!(back > 0, "{back} of the batch are with their pages");
        let left = kept as usize - (at - 1);
        assert!(
            back as usize >= left,
            "{back} of {left} blocks are with their pages"
        );
        own.iter_mut()
            .filter_map(Option::take)
            .for_each(Block::free);
    });
    settled();
}

fn a_thread_that_only_frees_starts_to_keep_nothing() {
    let (mut held, _between) = scattered(64, 10_000);
    let mut others = blocks(256, 4 << 12);
    let mut more = blocks(256, 4 << 12);
    let before = settled();
    run_to_end(|| {
        let own = [Block::new(64), Block::new(256)];
        others.drain(..).for_each(Block::free);
        let start = sent_and_kept(&before).1;
        held.drain(..).for_each(Block::free);
        more.drain(..).for_each(Block::free);
        assert_eq!(sent_and_kept(&before).1, start);
        own.into_iter().for_each(Block::free);
    });
    settled();
}

fn who_reuses_blocks_may_keep_again() {
    let (mut held, _between) = scattered(64, 100);
    let mut others = blocks(256, 4 << 12);
    let before = settled();
    run_to_end(|| {
        let mut own: [Option<Block>; 5000] = [const { None }; 5000];
        own[0] = Some(Block::new(64));
        others.drain(..).for_each(Block::free);
        let start = sent_and_kept(&before).1;
        // Of a third class: what this thread frees, it allocates. (Pages that are wholly free would be no sign of that.)
        own.iter_mut()
            .skip(1)
            .for_each(|own| *own = Some(Block::new(128)));
        for own in own.iter_mut().skip(1).step_by(2) {
            own.take().into_iter().for_each(Block::free);
        }
        for own in own.iter_mut().skip(1).step_by(2) {
            *own = Some(Block::new(128));
        }
        held.drain(..).for_each(Block::free);
        let kept = sent_and_kept(&before).1 - start;
        assert!(kept >= 90, "{kept} of 100 were kept");
        own.iter_mut()
            .filter_map(Option::take)
            .for_each(Block::free);
    });
    settled();
}

fn batches_that_nobody_needs_go_back_in_time() {
    const NEEDED: usize = 256;
    const UNNEEDED: usize = 64;
    millpond::set_option("purge_delay_ms", "10").unwrap();
    let batch = batch(UNNEEDED);
    let mut needed = blocks(NEEDED, 200);
    let (mut unneeded, _between) = scattered(UNNEEDED, 10_000);
    let before = settled();
    run_to_end(|| {
        let own = [Block::new(NEEDED), Block::new(UNNEEDED)];
        unneeded.drain(..).for_each(Block::free);
        let (sent, kept) = sent_and_kept(&before);
        assert_eq!(kept as usize, LISTS * batch);
        let batches = (LISTS - 1) * batch;
        let begun = Instant::now();
        // Half of what is there goes at a time, and the last one as a half of one, too.
        loop {
            let other = sent_and_kept(&before).0 - sent;
            if other as usize >= batches {
                break;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{other} of {batches} blocks in batches are with their pages"
            );
            // Blocks that this thread kept, but for two.
            needed.drain(..).for_each(Block::free);
            needed.extend((0..200).map(|_| Block::new(NEEDED)));
            std::thread::sleep(Duration::from_millis(2));
        }
        needed.drain(..).chain(own).for_each(Block::free);
    });
    settled();
}

fn the_vacant_heap_keeps_nothing() {
    let mut held = blocks(64, 1000);
    let before = settled();
    // It never allocates.
    run_to_end(|| {
        held.drain(..).for_each(Block::free);
        assert_eq!(sent_and_kept(&before), (1000, 0));
    });
    settled();
}

/// Threads that take runs of blocks from each other, free some and add others, all filled with what is checked when they
/// are freed.
fn blocks_passed_on_in_runs_keep_their_contents() {
    const RUNS: usize = 64;
    const ROUNDS: usize = 2000;
    let before = settled();
    // So that all are at it at the same time.
    let turn = Barrier::new(4);
    let places: Vec<Mutex<Vec<Block>>> = (0..RUNS).map(|_| Mutex::new(Vec::new())).collect();
    let work = |seed: u64| {
        let (places, turn) = (&places, &turn);
        move || {
            let mut random = Random(seed);
            for round in 0..ROUNDS {
                let mut run = std::mem::take(&mut *places[random.below(RUNS)].lock().unwrap());
                let stay = random.below(run.len() + 1);
                run.drain(stay..).for_each(free_checked);
                let size = 1 + random.below(1024);
                run.extend((0..random.below(100)).map(|_| {
                    let mut block = Block::new(size);
                    block.bytes_mut().fill(size as u8);
                    block
                }));
                let there =
                    std::mem::replace(&mut *places[random.below(RUNS)].lock().unwrap(), run);
                there.into_iter().for_each(free_checked);
                if round % 20 == 19 {
                    turn.wait();
                }
                if round % 500 == 499 {
                    millpond::collect(seed.is_multiple_of(2));
                }
            }
        }
    };
    beside(work(1), || beside(work(2), || beside(work(3), work(4))));
    let kept = sent_and_kept(&before).1;
    assert!(kept > 10_000, "only {kept} blocks were kept");
    for place in places {
        let run = place.into_inner().unwrap();
        run.into_iter().for_each(free_checked);
    }
    assert_eq!(settled_after_a_race().live_bytes, before.live_bytes);
}

fn free_checked(block: Block) {
    let size = block.layout().size();
    assert!(
        block.bytes().iter().all(|&byte| byte == size as u8),
        "a block of {size} bytes was overwritten: {block:?}"
    );
    block.free();
}
