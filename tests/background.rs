//! Memory goes back when a burst is over: with the background thread by itself, within seconds; without it in one
//! `collect(true)`. For blocks freed by the thread that made them, by another one while the maker lives, and after the
//! maker's exit.

mod support;

use millpond::Millpond;
use std::cell::Cell;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::block::Block;
use support::process::{MIB, resident};
use support::thread::{beside, run_to_end};

#[global_allocator]
static GLOBAL: Millpond = Millpond;

support::harness::each_alone! {
    background_thread_after_frees_by_the_same_thread,
    background_thread_after_frees_by_another_thread,
    background_thread_after_the_makers_exit,
    collect_after_frees_by_the_same_thread,
    collect_after_frees_by_another_thread,
    collect_after_the_makers_exit,
    recycled_blocks_of_threads_that_ended_come_back,
    pages_on_the_shelf_of_a_sleeping_thread_come_back,
    background_thread_starts_and_stops,
}

const BURST: u64 = 256 * MIB;
/// While the maker lives and sleeps, pages that others freed wait for it within the reserve's bound, 5% of the peak and
/// at most 32 MiB: only a larger burst is back to 95% without it.
const BURST_OF_A_SLEEPER: u64 = 1024 * MIB;

/// Blocks of 8 to 1,031 bytes, in the mix of a program's small objects, all of them written.
fn burst(bytes: u64, into: &mut Vec<Block>) {
    let mut made = 0;
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    while made < bytes {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let mut block = Block::new(8 + seed as usize % 1024);
        block.bytes_mut().fill(1);
        made += block.usable();
        into.push(block);
    }
}

/// Room for a burst, resident before the measuring starts.
fn room(bytes: u64) -> Vec<Block> {
    let mut room = Vec::with_capacity(bytes as usize / 400);
    for place in room.spare_capacity_mut() {
        let place: *mut std::mem::MaybeUninit<Block> = place;
        // SAFETY: the place is the vector's, and any bytes may be written to what isn't initialised.
        unsafe { place.write_bytes(1, 1) };
    }
    room
}

/// How the memory is to come back.
#[derive(Clone, Copy)]
enum Back {
    /// By itself, within seconds.
    ByItself,
    /// In a collection.
    Collected,
}

/// Waits for at least 95% of what was `full` to be back.
fn comes_back(start: u64, full: u64, how: Back) {
    assert!(full > start + BURST * 9 / 10, "there was no burst");
    let missing = || {
        let left = resident().saturating_sub(start);
        (left > (full - start) / 20).then_some(left / MIB)
    };
    match how {
        Back::Collected => millpond::collect(true),
        Back::ByItself => {
            let begun = Instant::now();
            // This thread does nothing but sleep: no slow path of its own comes by.
            while missing().is_some() && begun.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
    let left = missing();
    assert_eq!(
        left,
        None,
        "MiB of {} are left: {:#?}",
        (full - start) / MIB,
        millpond::stats()
    );
}

fn switch_on(how: Back) {
    if let Back::ByItself = how {
        millpond::set_option("background_thread", "1").unwrap();
    }
}

fn same_thread(how: Back) {
    switch_on(how);
    let mut all = room(BURST);
    let start = resident();
    burst(BURST, &mut all);
    let full = resident();
    all.drain(..).for_each(Block::free);
    comes_back(start, full, how);
}

fn another_thread(how: Back) {
    switch_on(how);
    let all = Mutex::new(room(BURST_OF_A_SLEEPER));
    let (made, done) = (Barrier::new(2), Barrier::new(2));
    let start = resident();
    let maker = || {
        burst(BURST_OF_A_SLEEPER, &mut all.lock().unwrap());
        made.wait();
        // Lives on, and comes by nothing of Millpond's.
        done.wait();
    };
    beside(maker, || {
        made.wait();
        let full = resident();
        run_to_end(|| all.lock().unwrap().drain(..).for_each(Block::free));
        comes_back(start, full, how);
        done.wait();
    });
}

fn after_exit(how: Back) {
    switch_on(how);
    let mut all = room(BURST);
    let start = resident();
    run_to_end(|| burst(BURST, &mut all));
    let full = resident();
    all.drain(..).for_each(Block::free);
    comes_back(start, full, how);
}

fn background_thread_after_frees_by_the_same_thread() {
    same_thread(Back::ByItself);
}

fn background_thread_after_frees_by_another_thread() {
    another_thread(Back::ByItself);
}

fn background_thread_after_the_makers_exit() {
    after_exit(Back::ByItself);
}

fn collect_after_frees_by_the_same_thread() {
    same_thread(Back::Collected);
}

fn collect_after_frees_by_another_thread() {
    another_thread(Back::Collected);
}

fn collect_after_the_makers_exit() {
    after_exit(Back::Collected);
}

/// Eight threads replace blocks of 2 to 32 KiB at random, which are recycled from bin to bin, free all of them in the
/// end, and leave their heaps. What was resident before, and while all blocks lived.
fn churn() -> (u64, u64) {
    let start = resident();
    let (full, end) = (Barrier::new(9), Barrier::new(9));
    let mut most = 0;
    thread::scope(|scope| {
        for thread in 1..=8_u64 {
            let (full, end) = (&full, &end);
            scope.spawn(move || {
                let seed = Cell::new(thread << 40 | 0x9E37_79B9);
                let random = |below: usize| {
                    let mut next = seed.get();
                    next ^= next << 13;
                    next ^= next >> 7;
                    next ^= next << 17;
                    seed.set(next);
                    next as usize % below
                };
                let make = || {
                    let mut block = Block::new(2048 + random(30_720));
                    block.bytes_mut().fill(1);
                    block
                };
                let mut held: Vec<Block> = (0..2000).map(|_| make()).collect();
                for _ in 0..20_000 {
                    let at = random(held.len());
                    std::mem::replace(&mut held[at], make()).free();
                }
                full.wait();
                end.wait();
                while !held.is_empty() {
                    held.swap_remove(random(held.len())).free();
                }
            });
        }
        full.wait();
        most = resident();
        end.wait();
    });
    (start, most)
}

fn recycled_blocks_of_threads_that_ended_come_back() {
    switch_on(Back::ByItself);
    let (start, full) = churn();
    comes_back(start, full, Back::ByItself);
}

/// A thread that frees 8 MiB of larger blocks again and again keeps the pages on its shelf. When it sleeps, they go.
fn pages_on_the_shelf_of_a_sleeping_thread_come_back() {
    switch_on(Back::ByItself);
    let mut all: Vec<Block> = Vec::with_capacity(1000);
    let start = resident();
    for _ in 0..20 {
        all.extend((0..1000).map(|_| {
            let mut block = Block::new(8192);
            block.bytes_mut().fill(1);
            block
        }));
        all.drain(..).for_each(Block::free);
    }
    let kept = millpond::stats().reserve_bytes / MIB;
    assert!(kept >= 4, "only {kept} MiB are kept");
    let begun = Instant::now();
    // The heap's own empty pages stay, and what its lists pin.
    let left = || resident().saturating_sub(start) / MIB;
    while left() > 3 && begun.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(50));
    }
    assert!(
        left() <= 3,
        "{} MiB are left: {:#?}",
        left(),
        millpond::stats()
    );
}

/// The threads of this process, by the kernel's count.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn background_thread_starts_and_stops() {
    let wait_for = |wanted: usize| {
        let begun = Instant::now();
        while threads() != wanted {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{} threads",
                threads()
            );
            thread::sleep(Duration::from_millis(5));
        }
    };
    millpond::set_option("purge_delay_ms", "10").unwrap();
    for _ in 0..3 {
        assert_eq!(threads(), 1);
        millpond::set_option("background_thread", "1").unwrap();
        millpond::set_option("background_thread", "1").unwrap();
        wait_for(2);
        // It needs no heap.
        assert_eq!(millpond::stats().threads, 1);
        millpond::set_option("background_thread", "0").unwrap();
        wait_for(1);
    }
}
