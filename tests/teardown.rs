//! The beginning and the end of a thread: `realloc` as its first call, frees without any allocation, destructors of
//! thread-local values and `pthread` keys that allocate and free before and after Millpond's own exit hook ran.

mod support;

use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;
use support::block::{Block, blocks};
use support::process::{MIB, resident};
use support::thread::{beside, run_to_end};

#[global_allocator]
static GLOBAL: Millpond = Millpond;

support::harness::each_alone! {
    thread_local_destructors_allocate_and_free,
    key_destructors_allocate_and_free,
    key_destructors_before_our_hook_allocate_and_free,
    realloc_is_the_first_call_of_a_thread,
    alloc_zeroed_is_the_first_call_of_a_thread,
    ten_thousand_short_threads_leave_nothing_behind,
    threads_at_a_time_share_heaps_one_after_the_other,
    exited_threads_serve_heaps_of_others,
    destructors_run_while_the_owner_is_at_work,
    errno_survives_a_free,
}

/// Allocates, resizes and frees blocks of all origins, checking what they hold.
fn exercise(seed: u8) {
    for size in [1, 16, 100, 1000, 5000, 40_000, 120_000, 300_000] {
        let mut block = Block::new(size);
        block.bytes_mut().fill(seed);
        let block = block.resize(size * 2).unwrap();
        assert!(block.bytes()[..size].iter().all(|&byte| byte == seed));
        let zeroed = Block::zeroed(Layout::from_size_align(size, 64).unwrap());
        block.free();
        zeroed.free();
    }
}

/// Works in its destructor, and frees what it was given.
struct LastWords {
    held: RefCell<Vec<Block>>,
    runs: &'static AtomicUsize,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        exercise(0x77);
        self.held.take().into_iter().for_each(Block::free);
        // Standard collections, which allocate and grow as they like.
        let text: Vec<String> = (0..100)
            .map(|number| number.to_string().repeat(10))
            .collect();
        assert_eq!(text.concat().len(), 1900);
        self.runs.fetch_add(1, Relaxed);
    }
}

fn thread_local_destructors_allocate_and_free() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static EARLY: LastWords = const { LastWords { held: RefCell::new(Vec::new()), runs: &RUNS } };
        static LATE: LastWords = const { LastWords { held: RefCell::new(Vec::new()), runs: &RUNS } };
    }
    for _ in 0..50 {
        let foreign = blocks(700, 100);
        thread::spawn(move || {
            // One is registered before the thread's own first allocations, one after them.
            EARLY.with(|early| *early.held.borrow_mut() = foreign);
            LATE.with(|late| *late.held.borrow_mut() = blocks(300, 100));
        })
        .join()
        .unwrap();
    }
    assert_eq!(RUNS.load(Relaxed), 100);
    assert_balanced();
}

/// How often a key's destructor asks to be called again: as often as the C library promises to.
const AGAIN: usize = 3;

/// What a thread hands to the destructor of its key.
struct Farewell {
    blocks: Vec<Block>,
    calls: usize,
}

static FAREWELLS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static KEY: Cell<libc::pthread_key_t> = const { Cell::new(0) };
}

unsafe extern "C" fn farewell(value: *mut c_void) {
    // SAFETY: the key's values are made by `give_key`, and there is one owner at a time: this call.
    let mut value = unsafe { Box::from_raw(value.cast::<Farewell>()) };
    exercise(0x33);
    value.blocks.drain(..).for_each(Block::free);
    value.calls += 1;
    if value.calls < AGAIN {
        // The next round's call comes after all keys' destructors of this round, our exit hook's among them.
        value.blocks.extend(blocks(2000, 20));
        // SAFETY: the key is live; its value is taken back by the next call.
        unsafe { libc::pthread_setspecific(KEY.get(), Box::into_raw(value).cast::<c_void>()) };
    } else {
        FAREWELLS.fetch_add(1, Relaxed);
    }
}

fn make_key() -> libc::pthread_key_t {
    let mut key = 0;
    // SAFETY: the pointer is valid and the destructor has the right type.
    let failed = unsafe { libc::pthread_key_create(&mut key, Some(farewell)) };
    assert_eq!(failed, 0);
    key
}

fn give_key(key: libc::pthread_key_t) {
    KEY.set(key);
    let value = Box::new(Farewell {
        blocks: blocks(100, 200),
        calls: 0,
    });
    // SAFETY: the key is live; its value is owned by the destructor.
    unsafe { libc::pthread_setspecific(key, Box::into_raw(value).cast::<c_void>()) };
}

fn key_destructors_allocate_and_free() {
    // Millpond's own key was made by the first allocation. Destructors run in the order of the keys' numbers, so this
    // one runs after the exit hook: everything in it happens on a thread that has given up its heap.
    let key = make_key();
    let before = FAREWELLS.load(Relaxed);
    for _ in 0..50 {
        thread::spawn(move || give_key(key)).join().unwrap();
    }
    assert_eq!(FAREWELLS.load(Relaxed) - before, 50);
    // SAFETY: no thread has a value for the key any more.
    unsafe { libc::pthread_key_delete(key) };
    assert_balanced();
}

/// A key that was made before anything was allocated: run by the dynamic linker before `main`.
static EARLY_KEY: AtomicU32 = AtomicU32::new(u32::MAX);

extern "C" fn before_main() {
    EARLY_KEY.store(make_key(), Relaxed);
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

fn key_destructors_before_our_hook_allocate_and_free() {
    let key = EARLY_KEY.load(Relaxed);
    assert_ne!(key, u32::MAX, "no key was made before main");
    let before = FAREWELLS.load(Relaxed);
    for _ in 0..50 {
        thread::spawn(move || give_key(key)).join().unwrap();
    }
    assert_eq!(FAREWELLS.load(Relaxed) - before, 50);
    assert_balanced();
}

/// Every remote free is accounted for, and nothing is left, once the threads are gone.
fn assert_balanced() {
    millpond::collect(true);
    let stats = millpond::stats();
    let drained =
        stats.drained_active + stats.drained_partial + stats.drained_full + stats.drained_abandoned;
    assert_eq!(stats.remote_frees, drained, "{stats:#?}");
    assert_eq!(
        (stats.misaligned_pages, stats.registry_misses),
        (0, 0),
        "{stats:#?}"
    );
    assert_eq!(stats.fresh_pages_with_news_pending, 0);
    assert_eq!(stats.threads, 1);
    // This process has little of its own.
    assert!(stats.live_bytes < 64 << 10, "{stats:#?}");
}

fn realloc_is_the_first_call_of_a_thread() {
    for size in [8, 100, 1000, 4096, 30_000, 100_000, 200_000, 40 << 20] {
        for new in [4, 120, 5000, 110_000, 400_000, 50 << 20] {
            let mut block = Block::new(size);
            block.bytes_mut()[..4].copy_from_slice(b"pond");
            let mut block = Some(block);
            run_to_end(|| {
                let resized = block.take().unwrap().resize(new).unwrap();
                assert_eq!(&resized.bytes()[..4], b"pond");
                block = Some(resized);
            });
            block.unwrap().free();
        }
    }
}

fn alloc_zeroed_is_the_first_call_of_a_thread() {
    for size in [8, 1000, 100_000, 1 << 20, 40 << 20] {
        run_to_end(|| Block::zeroed(Layout::from_size_align(size, 16).unwrap()).free());
    }
}

fn ten_thousand_short_threads_leave_nothing_behind() {
    let one = |keep: Option<&Mutex<Vec<Block>>>| {
        run_to_end(|| {
            let mut own = [const { None }; 64];
            for (at, place) in own.iter_mut().enumerate() {
                *place = Some(Block::new(16 << (at % 8)));
            }
            let mut own = own.into_iter().flatten();
            if let Some(keep) = keep {
                // One block stays; the next thread frees it: a free into the heap of a thread that ended.
                let before = keep.lock().unwrap().pop();
                before.into_iter().for_each(Block::free);
                keep.lock().unwrap().extend(own.next());
            }
            own.for_each(Block::free);
        });
    };
    let keep = Mutex::new(Vec::with_capacity(4));
    for _ in 0..200 {
        one(Some(&keep));
        one(None);
    }
    millpond::collect(true);
    let before = (millpond::stats(), resident());
    for _ in 0..5_000 {
        one(Some(&keep));
        one(None);
    }
    millpond::collect(true);
    let after = (millpond::stats(), resident());
    assert_eq!(after.0.heaps, before.0.heaps);
    assert_eq!(after.0.live_bytes, before.0.live_bytes);
    assert!(
        after.1 < before.1 + 2 * MIB,
        "{} KiB more are resident",
        (after.1 - before.1) >> 10
    );
    keep.into_inner().unwrap().into_iter().for_each(Block::free);
}

fn threads_at_a_time_share_heaps_one_after_the_other() {
    let round = || {
        let barrier = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    barrier.wait();
                    exercise(1);
                    barrier.wait();
                });
            }
        });
    };
    round();
    let before = millpond::stats().heaps;
    for _ in 0..100 {
        round();
    }
    // A thread that is just ending may still hold its heap when the next one starts.
    assert!(
        millpond::stats().heaps <= before + 8,
        "{} heaps for 9 threads",
        millpond::stats().heaps
    );
}

fn exited_threads_serve_heaps_of_others() {
    // An owner ends; a thread in its teardown frees the owner's blocks and allocates of the same class.
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LAST: LastWords = const { LastWords { held: RefCell::new(Vec::new()), runs: &RUNS } };
    }
    for size in [64, 2000, 100_000] {
        let mut left = Vec::with_capacity(500);
        run_to_end(|| left.extend((0..500).map(|_| Block::new(size))));
        thread::spawn(move || LAST.with(|last| *last.held.borrow_mut() = left))
            .join()
            .unwrap();
    }
    assert_eq!(RUNS.load(Relaxed), 3);
    assert_balanced();
}

fn destructors_run_while_the_owner_is_at_work() {
    // Blocks of a living, working owner are freed by threads in their teardown.
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LAST: LastWords = const { LastWords { held: RefCell::new(Vec::new()), runs: &RUNS } };
    }
    for _ in 0..100 {
        let handed = blocks(200, 500);
        beside(
            || LAST.with(|last| *last.held.borrow_mut() = handed),
            || (0..20).for_each(|_| blocks(200, 300).into_iter().for_each(Block::free)),
        );
    }
    assert_eq!(RUNS.load(Relaxed), 100);
    assert_balanced();
}

fn errno_survives_a_free() {
    for size in [100, 100_000, 8 << 20, 100 << 20] {
        let block = Block::new(size);
        // SAFETY: the location is valid in every thread.
        unsafe { *libc::__errno_location() = 1234 };
        block.free();
        millpond::collect(true);
        // SAFETY: as above.
        assert_eq!(unsafe { *libc::__errno_location() }, 1234, "size {size}");
    }
    // SAFETY: Millpond takes sizes of zero; nothing is done with the block but to free it.
    unsafe {
        let layout = Layout::from_size_align(0, 1).unwrap();
        let block = Millpond.alloc(layout);
        assert_ne!(block, ptr::null_mut());
        Millpond.dealloc(block, layout);
    }
}
