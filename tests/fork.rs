//! `fork`: the child can allocate and free at once, whatever the other threads were doing.

mod support;

use millpond::Millpond;
use std::alloc::Layout;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use support::block::{Block, blocks};
use support::thread::{beside, run_to_end};

#[global_allocator]
static GLOBAL: Millpond = Millpond;

support::harness::each_alone! {
    a_child_works_while_threads_allocate_and_free,
    a_child_works_with_remote_frees_in_flight,
    a_child_gets_back_what_was_pushed_before_the_fork,
    a_child_forks_again,
    a_thread_without_a_heap_forks,
    the_parent_goes_on,
}

/// Forks; the child runs `work` and ends without any exit handler. Fails when it fails or hangs.
fn fork_and_wait(work: impl FnOnce()) {
    // SAFETY: the child runs test code that takes no lock of another thread's: Millpond has none, and the standard
    // library's are not touched except by starting a thread, whose locks nobody else here holds.
    let child = unsafe { libc::fork() };
    assert_ne!(child, -1);
    if child == 0 {
        // A panic must not go back into the parent's test; its message is printed by the hook.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if done.is_ok() { 0 } else { 1 }) };
    }
    let start = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: the child is ours and waited for once.
        match unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } {
            0 if start.elapsed() > Duration::from_secs(20) => {
                // SAFETY: as above: it has not been waited for.
                unsafe { libc::kill(child, libc::SIGKILL) };
                panic!("the child hangs");
            }
            0 => thread::sleep(Duration::from_micros(200)),
            _ => {
                let ended_well = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
                assert!(ended_well, "the child ended with status {status:#x}");
                return;
            }
        }
    }
}

/// Allocates, checks and frees blocks of all origins, a thread's among them.
fn work_in_child(foreign: Vec<Block>) {
    let round = || {
        let mut held = Vec::with_capacity(2000);
        for size in [8, 24, 100, 700, 3000, 10_000, 100_000, 300_000] {
            for number in 0..(100_000 / size).clamp(1, 50) {
                let mut block = Block::new(size);
                block.bytes_mut().fill(number as u8);
                held.push((block, number as u8));
            }
            Block::zeroed(Layout::from_size_align(size, 8).unwrap()).free();
        }
        for (block, number) in held {
            let (first, last) = (block.bytes()[0], block.bytes()[block.bytes().len() - 1]);
            assert_eq!((first, last), (number, number), "a block was overwritten");
            block.resize(500).unwrap().free();
        }
    };
    round();
    foreign.into_iter().for_each(Block::free);
    round();
    run_to_end(round);
    Block::new(40 << 20).free();
    millpond::collect(true);
    round();
}

/// Runs `forks` while three threads allocate, free, and free each other's blocks as fast as they can. The forks get
/// blocks of those threads to take along.
fn among_busy_threads(forks: impl FnOnce(&dyn Fn() -> Vec<Block>)) {
    let stop = AtomicBool::new(false);
    let exchanged: [Mutex<Vec<Block>>; 3] = Default::default();
    let started = AtomicUsize::new(0);
    let busy = |id: usize| {
        let (exchanged, stop, started) = (&exchanged, &stop, &started);
        move || {
            let mut seed = 0x9E37_79B9_7F4A_7C15 + id as u64;
            let mut own = Vec::with_capacity(600);
            while !stop.load(Relaxed) {
                for _ in 0..200 {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    let most = [64, 1000, 9000, 200_000][seed as usize >> 8 & 3];
                    own.push(Block::new((seed >> 20) as usize % most));
                }
                let theirs = std::mem::take(&mut *exchanged[(id + 1) % 3].lock().unwrap());
                theirs.into_iter().for_each(Block::free);
                let to = &mut *exchanged[id].lock().unwrap();
                to.extend(own.drain(..100));
                own.drain(..).for_each(Block::free);
                started.fetch_add(1, Relaxed);
            }
        }
    };
    let take = || {
        let mut taken = Vec::new();
        for place in &exchanged {
            taken.append(&mut place.lock().unwrap());
        }
        taken
    };
    beside(busy(0), || {
        beside(busy(1), || {
            beside(busy(2), || {
                // Ends the threads also when a fork fails.
                struct Stop<'a>(&'a AtomicBool);
                impl Drop for Stop<'_> {
                    fn drop(&mut self) {
                        self.0.store(true, Relaxed);
                    }
                }
                let _stop = Stop(&stop);
                while started.load(Relaxed) < 10 {
                    thread::yield_now();
                }
                forks(&take);
            });
        });
    });
    for place in exchanged {
        place
            .into_inner()
            .unwrap()
            .into_iter()
            .for_each(Block::free);
    }
}

fn a_child_works_while_threads_allocate_and_free() {
    among_busy_threads(|take| {
        for _ in 0..120 {
            let taken = take();
            let mut copy = Some(taken);
            fork_and_wait(|| work_in_child(copy.take().unwrap()));
            copy.unwrap().into_iter().for_each(Block::free);
        }
    });
    balanced();
}

fn a_child_works_with_remote_frees_in_flight() {
    // Blocks of the forking thread's, which other threads are freeing at the moment of the fork: their tokens are out,
    // on the news or still on the way.
    for round in 0..60 {
        let size = [48, 500, 2000, 30_000][round % 4];
        let mut handed = blocks(size, 2000);
        let start = Barrier::new(2);
        let freeing = || {
            start.wait();
            handed.drain(..).for_each(Block::free);
        };
        beside(freeing, || {
            start.wait();
            for _ in 0..round {
                std::hint::spin_loop();
            }
            fork_and_wait(|| {
                // The survivor allocates from the pages that the vanished thread freed into.
                let again = blocks(size, 3000);
                again.into_iter().for_each(Block::free);
                work_in_child(Vec::new());
            });
        });
    }
    balanced();
}

fn a_child_gets_back_what_was_pushed_before_the_fork() {
    // Pages that are wholly free stay with their heap.
    millpond::set_option("heap_reserve_kib", "65536").unwrap();
    let mut handed = blocks(256, 10_000);
    run_to_end(|| handed.drain(..).for_each(Block::free));
    fork_and_wait(|| {
        let before = millpond::stats();
        let again = blocks(256, 10_000);
        let after = millpond::stats();
        assert_eq!(after.fresh_pages, before.fresh_pages, "{after:#?}");
        assert_eq!(after.threads, 1);
        again.into_iter().for_each(Block::free);
        millpond::collect(true);
        let after = millpond::stats();
        let drained = after.drained_active
            + after.drained_partial
            + after.drained_full
            + after.drained_abandoned;
        assert_eq!(after.remote_frees, drained, "{after:#?}");
    });
    drop(handed);
    balanced();
}

fn a_child_forks_again() {
    among_busy_threads(|take| {
        for _ in 0..10 {
            let taken = take();
            let mut copy = Some(taken);
            fork_and_wait(|| {
                let mut mine = copy.take().unwrap();
                let rest = mine.split_off(mine.len() / 2);
                let mut rest = Some(rest);
                fork_and_wait(|| work_in_child(rest.take().unwrap()));
                work_in_child(mine);
                run_to_end(|| fork_and_wait(|| work_in_child(Vec::new())));
            });
            copy.unwrap().into_iter().for_each(Block::free);
        }
    });
    balanced();
}

fn a_thread_without_a_heap_forks() {
    among_busy_threads(|_| {
        for _ in 0..20 {
            // The thread has not allocated when it forks; its child's first allocation makes a heap or leases one.
            run_to_end(|| fork_and_wait(|| work_in_child(Vec::new())));
        }
    });
    balanced();
}

fn the_parent_goes_on() {
    let held = blocks(1000, 500);
    fork_and_wait(|| {
        for mut block in held.iter().map(|block| Block::new(block.layout().size())) {
            block.bytes_mut().fill(9);
            block.free();
        }
        // The parent's blocks are the child's too, and freeing them here leaves the parent's alone.
        millpond::collect(true);
    });
    assert!(held.iter().all(|block| block.bytes()[0] == 0xA5));
    held.into_iter().for_each(Block::free);
    balanced();
}

/// In the parent nothing is lost.
fn balanced() {
    millpond::collect(true);
    let stats = millpond::stats();
    let drained =
        stats.drained_active + stats.drained_partial + stats.drained_full + stats.drained_abandoned;
    assert_eq!(stats.remote_frees, drained, "{stats:#?}");
    assert!(stats.live_bytes < 64 << 10, "{stats:#?}");
}
