//! Fibers that move between threads, allocate before a switch and free after it, and look at thread-local storage on
//! both sides. Succeeds when many moved, every block kept its contents, and nobody saw another thread's storage; with the
//! argument `broken`, the look is inlined into the function that is suspended, and must be seen to fail.
//! `fiber/tests/moving.rs` builds it with fat link-time optimisation and one codegen unit.

use millpond::Millpond;
use millpond_fiber::{Fiber, Runtime};
use std::cell::Cell;
use std::process::ExitCode;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

const FIBERS: usize = 64;
const SWITCHES: usize = 2000;

thread_local! {
    /// The thread's own number, once it has asked for it.
    static NUMBER: Cell<i32> = const { Cell::new(0) };
}

/// All fibers, as far as they have started.
static ALL: [OnceLock<Fiber>; FIBERS] = [const { OnceLock::new() }; FIBERS];

/// Switches after which a fiber was on another thread.
static MOVED: AtomicUsize = AtomicUsize::new(0);
/// Looks at a storage that wasn't the thread's own.
static STALE: AtomicUsize = AtomicUsize::new(0);
/// Blocks whose contents had changed.
static SPOILT: AtomicUsize = AtomicUsize::new(0);

fn thread_number() -> i32 {
    // SAFETY: takes nothing and gives a number.
    unsafe { libc::gettid() }
}

/// Where the thread's storage is.
#[inline(always)]
fn inlined_look() -> *const Cell<i32> {
    NUMBER.with(ptr::from_ref)
}

/// As above, asked anew each time, as the runtime and the allocator do it.
#[inline(never)]
fn look() -> *const Cell<i32> {
    std::hint::black_box(inlined_look())
}

/// A fiber's life: the look before and the look after the switch stand in one function.
#[inline(always)]
fn live(seed: usize, look: impl Fn() -> *const Cell<i32>) {
    let mut blocks: Vec<Box<[usize; 20]>> = Vec::new();
    let _ = ALL[seed / SWITCHES].set(millpond_fiber::current().unwrap());
    for round in 0..SWITCHES {
        let before = thread_number();
        // SAFETY: the calling thread's storage, unless the look is stale, which is what this is about; the other
        // thread's lives as long as the runtime.
        unsafe { (*look()).set(before) };
        blocks.push(Box::new([seed + round; 20]));
        // Two others go on here or are stolen from here, wherever they were before.
        for step in [7, 13] {
            if let Some(other) = ALL[(seed / SWITCHES + step + round) % FIBERS].get() {
                other.unpark();
            }
        }
        millpond_fiber::park();
        let after = thread_number();
        if after != before {
            MOVED.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as above.
        let seen = unsafe { (*std::hint::black_box(look())).replace(after) };
        // The storage of a thread that no fiber has looked at yet says 0.
        if after != before && seen == before {
            STALE.fetch_add(1, Ordering::Relaxed);
        }
        if blocks.len() == 8 {
            for (age, block) in blocks.drain(..).enumerate() {
                if *block != [seed + round - 7 + age; 20] {
                    SPOILT.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

fn main() -> ExitCode {
    let broken = std::env::args()
        .nth(1)
        .is_some_and(|argument| argument == "broken");
    // SAFETY: `live` keeps nothing of its thread over a switch, but for the broken variant, which is to be caught.
    let builder = unsafe { Runtime::builder().workers(4).migrate_started_fibers() };
    let runtime = builder.build().unwrap();
    let fibers: Vec<_> = (0..FIBERS)
        .map(|n| {
            let seed = n * SWITCHES;
            if broken {
                runtime.spawn(move || live(seed, inlined_look))
            } else {
                runtime.spawn(move || live(seed, look))
            }
        })
        .collect();
    // The last ones have nobody left who would wake them.
    while fibers.iter().any(|fiber| !fiber.is_finished()) {
        std::thread::sleep(Duration::from_millis(1));
        ALL.iter().filter_map(OnceLock::get).for_each(Fiber::unpark);
    }
    fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!(
        "{} moves, {} stale looks, {} spoilt",
        count(&MOVED),
        count(&STALE),
        count(&SPOILT)
    );
    if count(&MOVED) > 100 && count(&STALE) == 0 && count(&SPOILT) == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
