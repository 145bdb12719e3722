//! Little address space or data, and locked memory: the process starts, gets null when there is no more, and goes on
//! when something was freed.
//!
//! Strict overcommit (`vm.overcommit_memory=2`) is a switch of the whole machine, and turning it on can end other
//! processes. What it does to an allocator, refuse large reservations and later small ones, is what the limits on
//! address space and data below do to one process.

mod support;

use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use support::block::Block;
use support::child;
use support::process::{MIB, resident, status};
use support::skip;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

/// Blocks linked through themselves: a list that needs no memory of its own.
struct Chain {
    first: *mut u8,
    layout: Layout,
    length: usize,
}

impl Chain {
    fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size, 8).unwrap();
        Self {
            first: ptr::null_mut(),
            layout,
            length: 0,
        }
    }

    /// Adds blocks until there is no memory, or as many as `most`; the bytes that they all hold.
    fn grow(&mut self, most: usize) -> u64 {
        while self.length < most {
            // SAFETY: Millpond takes any layout.
            let block = unsafe { Millpond.alloc(self.layout) };
            if block.is_null() {
                break;
            }
            // SAFETY: the block is new and has room for a pointer and more.
            unsafe {
                block.add(self.layout.size() - 1).write(0x11);
                block.cast::<*mut u8>().write(self.first);
            }
            self.first = block;
            self.length += 1;
        }
        (self.length * self.layout.size()) as u64
    }

    fn free(mut self) {
        while !self.first.is_null() {
            let block = self.first;
            // SAFETY: the block is live and begins with the link to the next one.
            self.first = unsafe { block.cast::<*mut u8>().read() };
            // SAFETY: as above; this was its only handle.
            unsafe { Millpond.dealloc(block, self.layout) };
        }
    }
}

const SIZES: [usize; 5] = [500, 5000, 100_000, 1 << 20, 5 << 20];

/// Takes all the memory there is in blocks of each size in turn, `least` bytes at least, and works on afterwards, as
/// another thread does.
fn exhaust_and_recover(least: u64) {
    const ROUNDS: usize = 2;
    let turn = Arc::new(Barrier::new(2));
    let theirs = turn.clone();
    // Made before there is no room for its stack: what the arenas have of the address space they keep.
    let other = std::thread::Builder::new()
        .stack_size(128 << 10)
        .spawn(move || {
            for _ in 0..ROUNDS {
                theirs.wait();
                let texts: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
                assert_eq!(texts.concat().len(), 2890);
                theirs.wait();
            }
        });
    let other = other.unwrap();
    for round in 0..ROUNDS {
        for size in SIZES {
            let mut all = Chain::new(size);
            // Small arenas have room for few of the largest blocks.
            let least = if size > 1 << 20 { least / 2 } else { least };
            let got = all.grow(usize::MAX);
            assert!(
                got >= least,
                "{} MiB in blocks of {size} bytes, round {round}",
                got / MIB
            );
            // A block that can't be had is an answer, not the end; so is one that can't grow.
            let mut vector: Vec<u8> = Vec::new();
            assert!(vector.try_reserve_exact(1 << 30).is_err());
            let layout = Layout::from_size_align(1 << 30, 8).unwrap();
            // SAFETY: any layout is allowed.
            assert!(unsafe { Millpond.alloc_zeroed(layout) }.is_null());
            all.free();
            let mut half = Chain::new(size);
            let most = (least / 2) as usize / size;
            assert_eq!(
                half.grow(most),
                (most * size) as u64,
                "no recovery in blocks of {size} bytes"
            );
            half.free();
            millpond::collect(true);
        }
        turn.wait();
        turn.wait();
    }
    other.join().unwrap();
    let stats = millpond::stats();
    assert_eq!(stats.misaligned_pages, 0);
    println!(
        "\nreserved {} arenas {}",
        stats.reserved_bytes, stats.arenas
    );
}

fn locked() {
    if LOCKED_EARLY.load(Relaxed) == NOT_ASKED {
        // A block first, so that the arena is there when everything is locked.
        Block::new(100).free();
        if !lock_all() {
            return println!("\nnot permitted");
        }
    } else if LOCKED_EARLY.load(Relaxed) == REFUSED {
        return println!("\nnot permitted");
    }
    let start = resident();
    let mut all = Chain::new(3000);
    all.grow(20_000);
    let mut huge = Block::new(40 << 20);
    huge.bytes_mut().fill(1);
    let full = resident();
    assert!(status("VmLck") > 0);
    huge.free();
    all.free();
    millpond::collect(true);
    // Memory that was given back while it was locked reads as zero all the same.
    for size in [500, 3000, 100_000, 1 << 20] {
        let blocks: Vec<Block> = (0..40)
            .map(|_| Block::zeroed(Layout::from_size_align(size, 8).unwrap()))
            .collect();
        blocks.into_iter().for_each(Block::free);
    }
    println!(
        "\nstart {start}\nfull {full}\narenas {}",
        millpond::stats().arenas
    );
}

/// What became of the wish to lock all memory before the first allocation.
static LOCKED_EARLY: AtomicI32 = AtomicI32::new(NOT_ASKED);
const NOT_ASKED: i32 = 0;
const DONE: i32 = 1;
const REFUSED: i32 = 2;

fn lock_all() -> bool {
    let all = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: neither call has preconditions. Raising the limit may be refused; then the lock decides.
    unsafe {
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &all);
        libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) == 0
    }
}

extern "C" fn before_main() {
    // SAFETY: the name is a C string, and nobody changes the environment before `main`.
    if unsafe { !libc::getenv(c"TEST_LOCK_EARLY".as_ptr()).is_null() } {
        LOCKED_EARLY.store(if lock_all() { DONE } else { REFUSED }, Relaxed);
    }
}

/// Run before the first allocation.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn scenario() {
    let Some(name) = child::scenario() else {
        return;
    };
    match name.split_once(' ') {
        Some(("exhaust", least)) => exhaust_and_recover(least.parse().unwrap()),
        _ => locked(),
    }
}

/// Runs the exhaustion under a limit in MiB, at least `least` MiB of which must be had as blocks.
fn limited(resource: libc::__rlimit_resource_t, limit: u64, least: u64) {
    let mut command = child::command("scenario", &format!("exhaust {}", least * MIB));
    // The C library's own allocator reserves 64 MiB for a second thread that needs it, if it can.
    command.env("MALLOC_ARENA_MAX", "1");
    child::limit(&mut command, resource, limit * MIB);
    let ended = child::run(command);
    ended.succeeded();
    let reserved = ended
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("reserved "))
        .unwrap();
    let reserved: u64 = reserved.split_once(' ').unwrap().0.parse().unwrap();
    assert!(
        reserved <= limit * MIB,
        "{reserved} bytes are reserved under a limit of {limit} MiB"
    );
}

#[test]
fn address_space_of_64_mib() {
    limited(libc::RLIMIT_AS, 64, 16);
}

#[test]
fn address_space_of_200_mib() {
    limited(libc::RLIMIT_AS, 200, 128);
}

#[test]
fn address_space_of_600_mib() {
    limited(libc::RLIMIT_AS, 600, 320);
}

#[test]
fn data_of_64_mib() {
    limited(libc::RLIMIT_DATA, 64, 16);
}

#[test]
fn data_of_200_mib() {
    limited(libc::RLIMIT_DATA, 200, 128);
}

/// Locks all memory, early or late; what is resident must be near what is used.
fn all_memory_locked(test: &str, early: bool) {
    let mut command = child::command("scenario", "locked");
    if early {
        command.env("TEST_LOCK_EARLY", "1");
    }
    let ended = child::run(command);
    ended.succeeded();
    if ended.stdout.contains("not permitted") {
        return skip(test, "locking memory is not permitted");
    }
    let figure = |name: &str| -> u64 {
        let line = ended
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.trim().parse().unwrap()
    };
    let (start, full) = (figure("start"), figure("full"));
    // 100 MiB are used.
    assert!(
        start < 64 * MIB,
        "{} MiB are resident before anything is used",
        start / MIB
    );
    assert!(
        full < start + 160 * MIB,
        "{} MiB are resident for 100 that are used",
        (full - start) / MIB
    );
}

#[test]
fn memory_locked_before_the_first_allocation() {
    all_memory_locked("memory_locked_before_the_first_allocation", true);
}

#[test]
fn memory_locked_later() {
    all_memory_locked("memory_locked_later", false);
}
