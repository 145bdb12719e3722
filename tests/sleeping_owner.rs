//! Memory that threads hold in pages which other threads free into while they themselves sleep: it goes back without their
//! help, and nothing is lost by it when they wake.

mod support;

use millpond::Millpond;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::{mem, thread};
use support::block::Block;
use support::marked::{Random, check, marked};
use support::process::{MIB, resident};

#[global_allocator]
static GLOBAL: Millpond = Millpond;

support::harness::each_alone! {
    those_who_free_give_back_what_one_object_in_a_thousand_pins,
    collecting_gives_back_what_a_sleeping_thread_has,
    collecting_gives_back_whole_pages_that_wait_for_their_owner,
    collecting_gives_back_the_insides_of_large_blocks,
    the_background_thread_looks_after_a_sleeping_thread,
    collectors_and_freers_meet_owners_at_work,
}

/// Blocks of these sizes, `mib` MiB of them.
fn fill(seed: u64, sizes: &[usize], mib: u64) -> Vec<Block> {
    let mut random = Random(seed);
    let smallest = sizes.iter().min().unwrap();
    let mut made = Vec::with_capacity((mib * MIB) as usize / smallest + 1);
    let mut bytes = 0;
    while bytes < mib * MIB {
        let block = marked(sizes[random.below(sizes.len())]);
        bytes += block.bytes().len() as u64;
        made.push(block);
    }
    made
}

/// A thread that fills memory whenever it is asked to, and sleeps in between. Once it has handed over what it made it
/// neither allocates nor frees (a channel would): it would find freed blocks then, which stay in its pages as its own.
struct Maker {
    desk: Arc<Desk>,
    thread: thread::JoinHandle<()>,
}

struct Desk {
    task: Mutex<Task>,
    changed: Condvar,
}

enum Task {
    None,
    Fill(u64, &'static [usize], u64),
    Filled(Vec<Block>),
    End,
}

impl Desk {
    /// Waits for a task of which `wanted` holds, and takes it.
    fn take(&self, wanted: impl Fn(&Task) -> bool) -> Task {
        let mut task = self.task.lock().unwrap();
        while !wanted(&task) {
            task = self.changed.wait(task).unwrap();
        }
        mem::replace(&mut task, Task::None)
    }

    fn put(&self, task: Task) {
        *self.task.lock().unwrap() = task;
        self.changed.notify_all();
    }
}

impl Maker {
    fn new() -> Self {
        let desk = Arc::new(Desk {
            task: Mutex::new(Task::None),
            changed: Condvar::new(),
        });
        let makers = Arc::clone(&desk);
        let thread = thread::spawn(move || {
            let is_for_maker = |task: &Task| matches!(task, Task::Fill(..) | Task::End);
            while let Task::Fill(seed, sizes, mib) = makers.take(is_for_maker) {
                makers.put(Task::Filled(fill(seed, sizes, mib)));
            }
        });
        Self { desk, thread }
    }

    fn fill(&self, seed: u64, sizes: &'static [usize], mib: u64) -> Vec<Block> {
        self.desk.put(Task::Fill(seed, sizes, mib));
        match self.desk.take(|task| matches!(task, Task::Filled(_))) {
            Task::Filled(blocks) => blocks,
            _ => unreachable!("only what is filled is taken"),
        }
    }

    fn end(self) {
        self.desk.put(Task::End);
        self.thread.join().unwrap();
    }
}

/// Frees all but one in `kept`; those.
fn thin_out(blocks: &mut Vec<Block>, kept: usize) -> Vec<Block> {
    let mut random = Random(11);
    let mut live = Vec::with_capacity(1 << 16);
    for block in blocks.drain(..) {
        match random.below(kept) {
            0 => live.push(block),
            _ => block.free(),
        }
    }
    live
}

/// The owner wakes, finds what is left of its pages, and uses all of it; then everything goes.
fn wake(maker: Maker, live: Vec<Block>, sizes: &'static [usize], mib: u64) {
    let mut again = maker.fill(2, sizes, mib);
    again.extend(live);
    again.sort_by_key(|block| block.bytes().as_ptr());
    for pair in again.windows(2) {
        let end = pair[0].bytes().as_ptr_range().end;
        assert!(end <= pair[1].bytes().as_ptr(), "two blocks overlap");
    }
    for block in again.drain(..) {
        check(&block);
        block.free();
    }
    drop(again);
    maker.end();
    millpond::collect(true);
    let stats = millpond::stats();
    assert!(stats.live_bytes < MIB, "blocks were lost: {stats:#?}");
}

const SMALL: &[usize] = &[260, 400, 540, 700, 900, 1_000];

fn those_who_free_give_back_what_one_object_in_a_thousand_pins() {
    let maker = Maker::new();
    let before = resident();
    let mut blocks = maker.fill(1, SMALL, 256);
    let live = thin_out(&mut blocks, 1_000);
    drop(blocks);
    let left = resident().saturating_sub(before);
    // The reserve, the 32 pages that became sparse last, and what is pinned. Pages would be 35% without holes.
    assert!(left <= 256 * MIB / 6, "{} MiB are left", left / MIB);
    live.iter().for_each(check);
    wake(maker, live, SMALL, 256);
}

fn collecting_gives_back_what_a_sleeping_thread_has() {
    const SIZES: &[usize] = &[16, 40, 100, 260, 700, 1_800, 3_500, 4_096];
    let maker = Maker::new();
    let before = resident();
    // Too little for anybody to care before collecting.
    let mut blocks = maker.fill(1, SIZES, 48);
    let live = thin_out(&mut blocks, 1_000);
    drop(blocks);
    millpond::collect(true);
    let left = resident().saturating_sub(before);
    assert!(left <= 48 * MIB / 8, "{} MiB are left", left / MIB);
    live.iter().for_each(check);
    wake(maker, live, SIZES, 48);
}

/// Fewer than the reserve may hold: their last freers leave them alone.
fn collecting_gives_back_whole_pages_that_wait_for_their_owner() {
    const SIZES: &[usize] = &[700];
    let maker = Maker::new();
    // What a first use touches stays.
    maker.fill(1, SIZES, 1).drain(..).for_each(Block::free);
    millpond::collect(true);
    let before = resident();
    let mut blocks = maker.fill(1, SIZES, 7);
    blocks.drain(..).for_each(Block::free);
    drop(blocks);
    let waiting = resident().saturating_sub(before);
    assert!(waiting > 4 * MIB, "only {} KiB wait", waiting >> 10);
    millpond::collect(true);
    let left = resident().saturating_sub(before);
    assert!(left < waiting / 3, "{} KiB are left", left >> 10);
    wake(maker, Vec::new(), SIZES, 7);
}

fn collecting_gives_back_the_insides_of_large_blocks() {
    const SIZES: &[usize] = &[9_000, 13_000, 16_000];
    let maker = Maker::new();
    let before = resident();
    let mut blocks = maker.fill(1, SIZES, 64);
    let live = thin_out(&mut blocks, 50);
    drop(blocks);
    millpond::collect(true);
    let left = resident().saturating_sub(before);
    let held: u64 = live.iter().map(|block| block.usable()).sum();
    assert!(
        left <= held + 64 * MIB / 8,
        "{} MiB are left for {} of objects",
        left / MIB,
        held / MIB
    );
    live.iter().for_each(check);
    wake(maker, live, SIZES, 64);
}

fn the_background_thread_looks_after_a_sleeping_thread() {
    millpond::set_option("purge_delay_ms", "20").unwrap();
    let maker = Maker::new();
    let before = resident();
    // So little that those who free care about none of it.
    let mut blocks = maker.fill(1, SMALL, 24);
    let live = thin_out(&mut blocks, 1_000);
    drop(blocks);
    let waiting = resident().saturating_sub(before);
    assert!(waiting > 12 * MIB, "only {} MiB wait", waiting / MIB);
    millpond::set_option("background_thread", "on").unwrap();
    // The thread is started by a slow path.
    let fresh = Block::new(100_000);
    let mut left = waiting;
    for _ in 0..200 {
        left = resident().saturating_sub(before);
        if left <= 5 * MIB {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(left <= 5 * MIB, "{} MiB are left", left / MIB);
    live.iter().for_each(check);
    fresh.free();
    wake(maker, live, SMALL, 24);
}

/// Two threads allocate, two free what those made, and one collects all the time.
fn collectors_and_freers_meet_owners_at_work() {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 0..2_u64 {
            let (give, take) = channel::<Vec<Block>>();
            threads.push(scope.spawn(move || {
                let mut random = Random(number + 1);
                for _ in 0..400 {
                    let largest = [200, 1_000, 4_000, 20_000][random.below(4)];
                    let made = (0..1_000).map(|_| marked(16 + random.below(largest)));
                    if give.send(made.collect()).is_err() {
                        return;
                    }
                }
            }));
            threads.push(scope.spawn(move || {
                let mut random = Random(number + 9);
                let mut live: Vec<Block> = Vec::new();
                while let Ok(blocks) = take.recv() {
                    for block in blocks {
                        if random.below(8) == 0 {
                            live.push(block);
                        } else {
                            check(&block);
                            block.free();
                        }
                    }
                    while live.len() > 4_000 {
                        let block = live.swap_remove(random.below(live.len()));
                        check(&block);
                        block.free();
                    }
                }
                for block in live {
                    check(&block);
                    block.free();
                }
            }));
        }
        let done = &done;
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                millpond::collect(true);
            }
        });
        for thread in threads {
            thread.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    millpond::collect(true);
    let stats = millpond::stats();
    assert!(stats.live_bytes < MIB, "blocks were lost: {stats:#?}");
}
