//! Pooled stacks.

#![cfg(native)]

mod support;

use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult};
use millpond::stack::{
    GuardKind, StackCache, StackError, StackHandle, StackPool, StackSize, stack_lookup,
};
use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use support::child::{command, run, run_scenario, scenario};

/// The system's allocator, counted per thread: the harness has threads of its own.
struct Counted;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: both calls are the system allocator's.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counted = Counted;

const DEFAULT: StackSize = StackSize::DEFAULT;

/// Writes to the stack's highest `bytes`, a byte in each system page.
fn touch(stack: &StackHandle, bytes: usize) {
    for below in (1..=bytes).step_by(4096) {
        // SAFETY: the byte is the stack's.
        unsafe { stack.top().sub(below).write(1) };
    }
}

/// The resident bytes of the stack's usable part.
fn resident(stack: &StackHandle) -> usize {
    let bytes = stack.slot().addr().get() + stack.size() - stack.limit().addr().get();
    let mut pages = vec![0_u8; bytes.div_ceil(4096)];
    // SAFETY: the range is the stack's, and there is a byte for each page.
    let asked = unsafe {
        let start = stack.limit().as_ptr().cast::<c_void>();
        libc::mincore(start, bytes, pages.as_mut_ptr())
    };
    assert_eq!(asked, 0);
    pages.iter().filter(|&&page| page & 1 == 1).count() * 4096
}

/// Whether a byte can be read, by a system call that reads it.
fn is_readable(address: usize) -> bool {
    let mut byte = 0_u8;
    let local = libc::iovec {
        iov_base: (&raw mut byte).cast::<c_void>(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut::<c_void>(address),
        iov_len: 1,
    };
    // SAFETY: one buffer of one byte; a bad remote address is an error of the call.
    unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) == 1 }
}

fn map_entries() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().count()
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn slots_are_aligned_and_usable() {
    let pool = StackPool::new();
    for bytes in [0, 64 << 10, 100_000, 256 << 10, 1 << 20, 5 << 20, 64 << 20] {
        let size = StackSize::custom(bytes).unwrap();
        assert!(size.bytes() >= bytes && size.bytes().is_power_of_two());
        let stacks: Vec<StackHandle> = (0..5).map(|_| pool.take(size).unwrap()).collect();
        for stack in &stacks {
            assert!(stack.size() >= size.bytes());
            assert!(stack.slot().addr().get().is_multiple_of(stack.size()));
            assert!(stack.top().addr().get().is_multiple_of(64));
            let end = stack.slot().addr().get() + stack.size();
            assert!((0..=960).contains(&(end - stack.top().addr().get())));
            let usable = stack.top().addr().get() - stack.limit().addr().get();
            assert!(usable >= stack.size() / 4 * 3);
            // SAFETY: both bytes are the stack's.
            unsafe {
                stack.limit().write(1);
                stack.limit().add(usable - 1).write(2);
            }
            assert!(!is_readable(stack.limit().addr().get() - 1));
            assert!(!is_readable(stack.slot().addr().get()));
        }
        assert_eq!(pool.stats().live, 5);
    }
    assert_eq!(pool.stats().live, 0);
    assert_eq!(StackSize::custom((64 << 20) + 1), Err(StackError::TooLarge));
}

#[test]
fn look_up_knows_stacks_and_nothing_else() {
    let pool = StackPool::new();
    let mut stack = pool.take(StackSize::KIB_256).unwrap();
    let (slot, top) = (stack.slot().addr().get(), stack.top().addr().get());
    for address in [slot, slot + 4095, slot + 4096, top - 1] {
        let info = stack_lookup(address).unwrap();
        assert_eq!((info.slot(), info.size()), (slot, 256 << 10));
        assert_eq!(info.limit(), stack.limit().addr().get());
        assert_eq!((info.top(), info.tag()), (top, 0));
        assert_eq!(info.in_guard(), info.guard().contains(&address));
    }
    stack.set_tag(0xABC);
    assert_eq!(
        (stack.tag(), stack_lookup(slot).unwrap().tag()),
        (0xABC, 0xABC)
    );
    // The word keeps everything.
    let raw = stack.into_raw();
    // SAFETY: just taken apart.
    let stack = unsafe { StackHandle::from_raw(raw) };
    assert_eq!((stack.tag(), stack.slot().addr().get()), (0xABC, slot));
    drop(stack);
    assert_eq!(stack_lookup(slot).unwrap().tag(), 0);
    let again = pool.take(StackSize::KIB_256).unwrap();
    assert_eq!((again.slot().addr().get(), again.tag()), (slot, 0));
    // The next slot was never taken, and what isn't a stack is none.
    assert!(stack_lookup(slot + (256 << 10)).is_none());
    assert!(stack_lookup((&raw const pool).addr()).is_none());
    assert!(stack_lookup(0).is_none() && stack_lookup(usize::MAX).is_none());
}

#[test]
fn tags_are_gone_when_a_stack_comes_back_from_a_cache() {
    let pool = StackPool::new();
    let mut cache = StackCache::new(&pool);
    let mut stack = cache.take(DEFAULT).unwrap();
    stack.set_tag(5);
    cache.put(stack);
    assert_eq!(cache.take(DEFAULT).unwrap().tag(), 0);
    let mut stack = StackPool::global().take(DEFAULT).unwrap();
    let slot = stack.slot().addr().get();
    stack.set_tag(6);
    drop(stack);
    let stack = StackPool::global().take(DEFAULT).unwrap();
    assert_eq!((stack.slot().addr().get(), stack.tag()), (slot, 0));
    assert_eq!(stack_lookup(slot).unwrap().tag(), 0);
}

static FAULTS: AtomicUsize = AtomicUsize::new(0);

/// Ends the process with 42 if the fault is in the guard of the stack that is tagged 7.
extern "C" fn on_fault(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel's description of a SIGSEGV.
    let address = unsafe { (*info).si_addr() }.addr();
    FAULTS.fetch_add(1, Relaxed);
    let known = stack_lookup(address).is_some_and(|found| found.in_guard() && found.tag() == 7);
    // SAFETY: ends the process at once; async-signal-safe.
    unsafe { libc::_exit(if known { 42 } else { 1 }) };
}

fn catch_faults() {
    // SAFETY: an alternate stack that lives for ever, and a handler of the right type.
    unsafe {
        let memory = Box::leak(Box::new([0_u8; 64 << 10]));
        let stack = libc::stack_t {
            ss_sp: memory.as_mut_ptr().cast::<c_void>(),
            ss_flags: 0,
            ss_size: memory.len(),
        };
        assert_eq!(libc::sigaltstack(&stack, std::ptr::null_mut()), 0);
        let mut action = std::mem::zeroed::<libc::sigaction>();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(
            libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()),
            0
        );
    }
}

#[inline(never)]
fn descend(depth: usize) -> usize {
    let mut frame = [0_u8; 1000];
    std::hint::black_box(&mut frame);
    if depth == 0 {
        return 0;
    }
    descend(depth - 1) + usize::from(frame[depth % 1000]) + 1
}

/// Scenarios that end their process: see the tests that start them.
#[test]
#[ignore = "started by the other tests"]
fn alone() {
    let write_below_limit = |pool: &StackPool| {
        let mut stack = pool.take(DEFAULT).unwrap();
        stack.set_tag(7);
        // SAFETY: the guard: the write faults, and the handler or the kernel ends the process.
        unsafe { stack.limit().sub(1).write(1) };
    };
    match scenario().as_deref() {
        Some("dies") => write_below_limit(StackPool::global()),
        Some("recognised") => {
            catch_faults();
            write_below_limit(StackPool::global());
        }
        Some("recognised, protected") => {
            catch_faults();
            write_below_limit(&StackPool::with_protected_guards());
        }
        Some("fork") => {
            let stack = StackPool::global().take(DEFAULT).unwrap();
            let slot = stack.slot().addr().get();
            // SAFETY: the child runs this test's code only.
            let child = unsafe { libc::fork() };
            if child == 0 {
                catch_faults();
                drop(stack);
                let again = StackPool::global().take(DEFAULT).unwrap();
                assert_eq!(again.slot().addr().get(), slot);
                drop(again);
                // A guard of the parent's is one of the child's.
                write_below_limit(StackPool::global());
            }
            let mut status = 0;
            // SAFETY: the child is ours and waited for once.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(libc::WEXITSTATUS(status)) };
        }
        Some("overflow") => {
            catch_faults();
            let mut stack = StackPool::global().take(DEFAULT).unwrap();
            stack.set_tag(7);
            let depth = std::hint::black_box(1000);
            let mut coroutine =
                Coroutine::<(), (), usize, _>::with_stack(OnHandle(stack), move |_, ()| {
                    descend(depth)
                });
            coroutine.resume(());
        }
        Some("limit") => until_the_limit(),
        Some("given back twice") => {
            let pool = StackPool::new();
            let raw = pool.take(DEFAULT).unwrap().into_raw();
            // SAFETY: not kept: the second time is the misuse that is to be noticed.
            (0..2).for_each(|_| drop(unsafe { StackHandle::from_raw(raw) }));
        }
        Some("allocates nothing") => allocate_nothing(),
        Some("collected") => collected(),
        Some("fork beside threads") => forks_beside_threads(),
        Some("destructors") => destructors_give_back(),
        Some("own pool ends meanwhile") => own_pool_ends_meanwhile(),
        Some("own pool ends") => own_pool_ends(),
        Some("locked") => locked(),
        Some("another thread drops") => another_thread_drops(),
        Some("hundred thousand") => a_hundred_thousand(),
        Some("address space") => {
            let size = StackSize::custom(16 << 20).unwrap();
            let mut stacks = Vec::new();
            let error = loop {
                match StackPool::global().take(size) {
                    Ok(stack) => stacks.push(stack),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, StackError::OutOfMemory);
            assert!(stacks.len() > 20, "{}", stacks.len());
            stacks.pop();
            StackPool::global().take(size).unwrap();
        }
        Some(other) => panic!("no scenario {other}"),
        None => {}
    }
}

#[test]
fn a_write_below_the_limit_is_fatal() {
    use std::os::unix::process::ExitStatusExt;
    let ended = run_scenario("alone", "dies");
    assert_eq!(ended.status.signal(), Some(libc::SIGSEGV), "{ended:#?}");
}

#[test]
fn a_stack_given_back_twice_is_noticed() {
    let ended = run_scenario("alone", "given back twice");
    assert!(
        ended
            .aborted()
            .contains("a stack was given back to its pool twice")
    );
}

#[test]
fn a_handler_recognises_an_overflow() {
    for scenario in ["recognised", "recognised, protected", "overflow", "fork"] {
        let ended = run_scenario("alone", scenario);
        assert_eq!(ended.status.code(), Some(42), "{scenario}: {ended:#?}");
    }
}

/// Memory that is locked as it is mapped takes no marks and gives nothing back; the stacks are guarded all the same.
fn locked() {
    // SAFETY: locks what is mapped from now on.
    let locks = unsafe { libc::mlockall(libc::MCL_FUTURE) } == 0;
    let before = resident_bytes();
    let stacks: Vec<StackHandle> = (0..40)
        .map(|_| StackPool::global().take(DEFAULT).unwrap())
        .collect();
    for stack in &stacks {
        touch(stack, 60 << 10);
        assert!(!is_readable(stack.limit().addr().get() - 1));
    }
    println!("locked: {locks}, {} bytes more", resident_bytes() - before);
    assert!(resident_bytes() - before < 20 << 20);
    drop(stacks);
    StackPool::global().trim();
    let again = StackPool::global().take(DEFAULT).unwrap();
    assert!(!is_readable(again.limit().addr().get() - 1));
}

#[test]
fn locked_memory_has_guards_too() {
    run_scenario("alone", "locked").succeeded();
}

/// The child goes on with the pools, whatever other threads were doing in them.
fn forks_beside_threads() {
    static OWN: StackPool = StackPool::new();
    let stop = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while stop.load(Relaxed) == 0 {
                    for pool in [StackPool::global(), &OWN] {
                        let held: Vec<_> = (0..70).map(|_| pool.take(DEFAULT).unwrap()).collect();
                        held.iter().for_each(|stack| touch(stack, 8192));
                    }
                    StackPool::global().trim();
                }
            });
        }
        for _ in 0..30 {
            let held = OWN.take(DEFAULT).unwrap();
            // SAFETY: the child runs the code below only, which takes no lock and doesn't allocate.
            let child = unsafe { libc::fork() };
            if child == 0 {
                drop(held);
                for pool in [StackPool::global(), &OWN] {
                    for _ in 0..3 {
                        let held: [_; 200] = std::array::from_fn(|_| pool.take(DEFAULT).unwrap());
                        for stack in &held {
                            touch(stack, 60 << 10);
                            if is_readable(stack.limit().addr().get() - 1) {
                                // SAFETY: ends the process at once.
                                unsafe { libc::_exit(3) };
                            }
                        }
                        drop(held);
                        pool.trim();
                    }
                }
                // SAFETY: as above.
                unsafe { libc::_exit(0) };
            }
            let mut status = 0;
            // SAFETY: the child is ours and waited for once.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0);
        }
        stop.store(1, Relaxed);
    });
}

#[test]
fn a_child_goes_on_with_the_pools() {
    run_scenario("alone", "fork beside threads").succeeded();
}

/// A pool whose guards cost map entries says so when there are no more, and leaves some to the program.
fn until_the_limit() {
    let pool = StackPool::with_protected_guards();
    assert_eq!(pool.stats().guard, GuardKind::Protected);
    let mut stacks = Vec::new();
    let error = loop {
        match pool.take(DEFAULT) {
            Ok(stack) => stacks.push(stack),
            Err(error) => break error,
        }
    };
    assert_eq!(error, StackError::MapLimit);
    assert!(error.to_string().contains("vm.max_map_count"));
    let most = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let most: usize = most.trim().parse().unwrap();
    assert!(stacks.len() <= most / 2 && stacks.len() >= most / 2 - 1100);
    assert_eq!(pool.stats().live, stacks.len());
    // The program goes on: threads start, and a stack that comes back is there again.
    thread::spawn(|| ()).join().unwrap();
    assert_eq!(pool.take(DEFAULT).unwrap_err(), StackError::MapLimit);
    drop(stacks.pop());
    stacks.push(pool.take(DEFAULT).unwrap());
    let before = map_entries();
    drop(stacks);
    drop(pool);
    assert!(map_entries() < before / 10);
    // And their guards don't count any more.
    let pool = StackPool::with_protected_guards();
    let _stack = pool.take(DEFAULT).unwrap();
}

#[test]
fn the_limit_of_map_entries_is_an_error() {
    if std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .unwrap()
        .trim()
        != "65530"
    {
        return support::skip(
            "the_limit_of_map_entries_is_an_error",
            "not the kernel's default",
        );
    }
    run_scenario("alone", "limit").succeeded();
}

#[test]
fn a_refused_mapping_is_an_error() {
    let mut limited = command("alone", "address space");
    support::child::limit(&mut limited, libc::RLIMIT_AS, 1 << 30);
    run(limited).succeeded();
}

/// 100,000 stacks at the kernel's default limits, each touched at its top.
fn a_hundred_thousand() {
    const STACKS: usize = 100_000;
    let pool = StackPool::new();
    let mut cache = StackCache::new(&pool);
    let (entries, before) = (map_entries(), resident_bytes());
    let start = Instant::now();
    let stacks: Vec<StackHandle> = (0..STACKS)
        .map(|_| {
            let stack = cache.take(DEFAULT).unwrap();
            touch(&stack, 1);
            stack
        })
        .collect();
    let took = start.elapsed();
    assert!(map_entries() < entries + 200);
    let each = (resident_bytes() - before) / STACKS;
    assert!((4096..8192).contains(&each), "{each} bytes each");
    let stats = pool.stats();
    assert_eq!(stats.live, STACKS);
    assert!(stats.spans < 130, "{} spans", stats.spans);
    println!(
        "{STACKS} stacks in {took:?}, {each} bytes each, {} spans",
        stats.spans
    );
    drop(stacks);
    drop(cache);
    assert_eq!(pool.stats().live, 0);
    let start = Instant::now();
    pool.trim();
    println!("trimmed in {:?}", start.elapsed());
    drop(pool);
}

#[test]
fn a_hundred_thousand_stacks() {
    if StackPool::global().stats().guard == GuardKind::Protected {
        let reason = "the kernel has no installed guards";
        return support::skip("a_hundred_thousand_stacks", reason);
    }
    let ended = run_scenario("alone", "hundred thousand");
    ended.succeeded();
    let said = |line: &&str| line.contains("stacks in") || line.contains("trimmed in");
    ended
        .stdout
        .lines()
        .filter(said)
        .for_each(|line| println!("{line}"));
}

fn another_thread_drops() {
    const TAKES: usize = 100_000;
    let pool = StackPool::new();
    for pool in [StackPool::global(), &pool] {
        let before = pool.stats().mapped_bytes;
        let (send, receive) = mpsc::sync_channel::<StackHandle>(100);
        thread::scope(|scope| {
            scope.spawn(move || receive.into_iter().for_each(drop));
            for _ in 0..TAKES {
                send.send(pool.take(DEFAULT).unwrap()).unwrap();
            }
            drop(send);
        });
        // 102 on their way and two caches: fewer than 200 stacks.
        let mapped = pool.stats().mapped_bytes - before;
        assert!(mapped <= 16 << 20, "{mapped} bytes");
    }
}

#[test]
fn what_another_thread_drops_comes_back() {
    run_scenario("alone", "another thread drops").succeeded();
}

#[test]
fn a_threads_stacks_outlive_it() {
    let pool = StackPool::global();
    let size = StackSize::custom(4 << 20).unwrap();
    let stacks: Vec<usize> = thread::spawn(move || {
        let stacks: Vec<_> = (0..3).map(|_| pool.take(size).unwrap()).collect();
        stacks
            .iter()
            .map(|stack| stack.slot().addr().get())
            .collect()
    })
    .join()
    .unwrap();
    let again: HashSet<usize> = (0..6)
        .map(|_| pool.take(size).unwrap())
        .collect::<Vec<_>>()
        .iter()
        .map(|stack| stack.slot().addr().get())
        .collect();
    assert!(stacks.iter().all(|slot| again.contains(slot)));
}

/// What a thread's destructors give back, after its cache is gone or before, is not lost.
fn destructors_give_back() {
    thread_local! {
        static HELD: std::cell::RefCell<Vec<StackHandle>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    let size = StackSize::custom(512 << 10).unwrap();
    let pool = StackPool::global();
    let before = pool.stats();
    for _ in 0..20 {
        thread::spawn(move || {
            HELD.with_borrow_mut(|held| held.extend((0..20).map(|_| pool.take(size).unwrap())));
        })
        .join()
        .unwrap();
    }
    let mapped = pool.stats().mapped_bytes - before.mapped_bytes;
    assert!(mapped <= 32 << 20, "{mapped} bytes");
}

#[test]
fn stacks_are_given_back_by_destructors() {
    run_scenario("alone", "destructors").succeeded();
}

fn own_pool_ends() {
    let pool = StackPool::new();
    let (a, b) = (
        pool.take(DEFAULT).unwrap(),
        pool.take(StackSize::MIB_1).unwrap(),
    );
    let addresses = [&a, &b].map(|stack| stack.limit().addr().get());
    drop(pool);
    // What is still held is still usable.
    touch(&a, 60 << 10);
    touch(&b, 1000 << 10);
    assert!(addresses.iter().all(|&address| is_readable(address)));
    drop(a);
    assert!(!is_readable(addresses[0]) && is_readable(addresses[1]));
    thread::spawn(move || drop(b)).join().unwrap();
    assert!(!is_readable(addresses[1]));
    assert!(stack_lookup(addresses[0]).is_none() && stack_lookup(addresses[1]).is_none());
}

#[test]
fn a_pool_of_its_own_is_unmapped() {
    run_scenario("alone", "own pool ends").succeeded();
}

/// Stacks come back on several threads while their pool's owner lets go of it: all is unmapped, by whoever is last.
fn own_pool_ends_meanwhile() {
    for _ in 0..200 {
        let pool = StackPool::new();
        let mut stacks: Vec<StackHandle> = (0..40).map(|_| pool.take(DEFAULT).unwrap()).collect();
        let limits: Vec<usize> = stacks
            .iter()
            .map(|stack| stack.limit().addr().get())
            .collect();
        thread::scope(|scope| {
            let half = stacks.split_off(20);
            scope.spawn(move || half.into_iter().for_each(drop));
            scope.spawn(move || stacks.into_iter().for_each(drop));
            drop(pool);
        });
        assert!(!limits.iter().any(|&limit| is_readable(limit)));
    }
}

#[test]
fn a_pool_ends_while_stacks_come_back() {
    run_scenario("alone", "own pool ends meanwhile").succeeded();
}

#[test]
fn a_cache_takes_its_own_pools_stacks_only() {
    let (one, other) = (StackPool::new(), StackPool::new());
    let mut cache = StackCache::new(&one);
    let foreign = other.take(DEFAULT).unwrap();
    assert!(other.owns(&foreign) && !one.owns(&foreign));
    cache.put(foreign);
    cache.put(StackPool::global().take(DEFAULT).unwrap());
    assert!(cache.is_empty(DEFAULT));
    assert_eq!(other.stats().live, 0);
    let stack = cache.take(DEFAULT).unwrap();
    assert!(one.owns(&stack));
    let stats = one.stats();
    assert_eq!((stats.live, stats.cached), (1, cache.len(DEFAULT)));
    cache.put(stack);
    cache.flush();
    assert_eq!((one.stats().live, one.stats().cached), (0, 0));
    drop(cache);
    // A cache for the global pool.
    let mut cache = StackCache::new(StackPool::global());
    cache.put(StackPool::global().take(DEFAULT).unwrap());
    assert_eq!(cache.len(DEFAULT), 1);
}

#[test]
fn a_pool_may_be_static() {
    static POOL: StackPool = StackPool::new();
    let threads: Vec<_> = (0..4)
        .map(|_| thread::spawn(|| POOL.take(DEFAULT).unwrap().slot().addr().get()))
        .collect();
    for thread in threads {
        assert_ne!(thread.join().unwrap(), 0);
    }
    assert_eq!(POOL.stats().live, 0);
}

#[test]
fn a_parked_stack_gives_back_what_is_below() {
    let pool = StackPool::new();
    let stack = pool.take(DEFAULT).unwrap();
    touch(&stack, 48 << 10);
    assert_eq!(resident(&stack), 48 << 10);
    // SAFETY: nothing runs on the stack; it is as if something had parked 5,000 bytes below the top.
    let given = unsafe {
        stack.top().sub(5000).write(9);
        stack.discard_below(stack.top().as_ptr().sub(5000))
    };
    assert_eq!(given, (60 << 10) - (8 << 10));
    assert_eq!(resident(&stack), 8 << 10);
    // SAFETY: the stack's byte.
    assert_eq!(unsafe { stack.top().sub(5000).read() }, 9);
    // SAFETY: as above.
    assert_eq!(unsafe { stack.discard_below(stack.limit().as_ptr()) }, 0);
}

/// Ten thousand stacks of 48 KiB each lie idle: after a few purge delays they keep a page each, and after `trim`
/// nothing.
#[test]
fn idle_stacks_decay() {
    const STACKS: usize = 10_000;
    millpond::set_option("purge_delay_ms", "20").unwrap();
    let pool = StackPool::new();
    let stacks: Vec<StackHandle> = (0..STACKS).map(|_| pool.take(DEFAULT).unwrap()).collect();
    stacks.iter().for_each(|stack| touch(stack, 48 << 10));
    let slots: Vec<usize> = stacks
        .iter()
        .map(|stack| stack.slot().addr().get())
        .collect();
    drop(stacks);
    // The pool is used a little: every trip to the depot trims some.
    let start = Instant::now();
    let deep = |slot: usize| is_resident(slot + (64 << 10) - 8192);
    while slots[100..].iter().any(|&slot| deep(slot)) {
        assert!(start.elapsed() < Duration::from_secs(20), "nothing decays");
        for _ in 0..1000 {
            let stack = pool.take(DEFAULT).unwrap();
            touch(&stack, 1);
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(
        slots
            .iter()
            .all(|&slot| is_resident(slot + (64 << 10) - 4096))
    );
    println!(
        "idle after {:?}, {} trims",
        start.elapsed(),
        pool.stats().trims
    );
    pool.trim();
    assert!(
        !slots
            .iter()
            .any(|&slot| is_resident(slot + (64 << 10) - 4096))
    );
    assert_eq!(pool.stats().live, 0);
    // Guards survive.
    assert!(!slots.iter().any(|&slot| is_readable(slot)));
}

fn is_resident(page: usize) -> bool {
    let mut state = 0_u8;
    let at = std::ptr::with_exposed_provenance_mut::<c_void>(page);
    // SAFETY: one page, one byte.
    assert_eq!(unsafe { libc::mincore(at, 4096, &mut state) }, 0);
    state & 1 == 1
}

/// Nothing allocates through the global allocator, on whichever path.
fn allocate_nothing() {
    millpond::set_option("purge_delay_ms", "1").unwrap();
    let mut stacks = Vec::with_capacity(3000);
    let before = ALLOCATIONS.get();
    for pool in [
        &StackPool::new(),
        &StackPool::with_protected_guards(),
        StackPool::global(),
    ] {
        let mut cache = StackCache::new(pool);
        for _ in 0..3 {
            stacks.extend((0..1000).map(|_| pool.take(DEFAULT).unwrap()));
            stacks.extend((0..1000).map(|_| cache.take(StackSize::KIB_256).unwrap()));
            stacks.extend((0..10).map(|_| cache.take(StackSize::MIB_1).unwrap()));
            stacks.iter_mut().for_each(|stack| stack.set_tag(1));
            stacks.drain(..1000).for_each(drop);
            stacks.drain(..).for_each(|stack| cache.put(stack));
            pool.trim();
            millpond::collect(false);
        }
        assert_eq!(pool.stats().live, 0);
    }
    assert_eq!(ALLOCATIONS.get(), before);
}

#[test]
fn nothing_is_allocated() {
    run_scenario("alone", "allocates nothing").succeeded();
}

/// `collect` serves the global pool, and the calling thread's cache if it is forced.
fn collected() {
    millpond::set_option("purge_delay_ms", "10").unwrap();
    let pool = StackPool::global();
    let slots = || -> Vec<usize> {
        let stacks: Vec<_> = (0..200).map(|_| pool.take(DEFAULT).unwrap()).collect();
        stacks.iter().for_each(|stack| touch(stack, 48 << 10));
        stacks
            .iter()
            .map(|stack| stack.slot().addr().get())
            .collect()
    };
    let resident_pages = |slots: &[usize]| -> usize {
        let offsets = || (4096..64 << 10).step_by(4096);
        let of_slot = |slot: &usize| offsets().filter(|at| is_resident(slot + at)).count();
        slots.iter().map(of_slot).sum()
    };
    let first = slots();
    assert_eq!(resident_pages(&first), 200 * 12);
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(20));
        millpond::collect(false);
    }
    // The thread's cache keeps its own, at most 32; the others a page each.
    assert!(resident_pages(&first) <= 32 * 12 + 168);
    slots();
    millpond::collect(true);
    assert_eq!(resident_pages(&first), 0);
    assert_eq!((pool.stats().live, pool.stats().cached), (0, 0));
}

#[test]
fn collect_gives_back() {
    run_scenario("alone", "collected").succeeded();
}

/// A stack of ours for the crate corosensei.
struct OnHandle(StackHandle);

// SAFETY: the handle owns the memory from `limit` to `top`, aligned to 64, below which is a guard.
unsafe impl Stack for OnHandle {
    fn base(&self) -> StackPointer {
        self.0.top().addr()
    }

    fn limit(&self) -> StackPointer {
        self.0.limit().addr()
    }
}

#[test]
fn coroutines_run_on_them() {
    let work = |size| {
        let mut sum = 0;
        for round in 0..100 {
            let stack = OnHandle(StackPool::global().take(size).unwrap());
            let mut coroutine =
                Coroutine::<usize, usize, usize, _>::with_stack(stack, |yielder, first| {
                    let second = yielder.suspend(first + descend(30));
                    descend(10) + second
                });
            let CoroutineResult::Yield(first) = coroutine.resume(round) else {
                panic!("ended early");
            };
            let CoroutineResult::Return(second) = coroutine.resume(first) else {
                panic!("goes on");
            };
            sum += second;
        }
        sum
    };
    let expected = (0..100).map(|round| round + 40).sum::<usize>();
    let threads = [DEFAULT, StackSize::MIB_1].map(|size| thread::spawn(move || work(size)));
    for thread in threads {
        assert_eq!(thread.join().unwrap(), expected);
    }
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Take(u8),
    Cached(u8),
    Drop(u8),
    Put(u8),
    Pass(u8),
    Flush,
    Trim,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0..4_u8).prop_map(Action::Take),
        4 => (0..4_u8).prop_map(Action::Cached),
        4 => any::<u8>().prop_map(Action::Drop),
        4 => any::<u8>().prop_map(Action::Put),
        2 => any::<u8>().prop_map(Action::Pass),
        1 => Just(Action::Flush),
        1 => Just(Action::Trim),
    ];
    prop::collection::vec(action, 1..300)
}

const SIZES: [usize; 4] = [64 << 10, 128 << 10, 1 << 20, 16 << 20];

/// Runs the actions; what is passed goes to the next thread. How many stacks are held in the end.
fn act(
    pool: &StackPool,
    actions: &[Action],
    from: mpsc::Receiver<(StackHandle, usize)>,
    to: mpsc::Sender<(StackHandle, usize)>,
    mark: usize,
) -> (Vec<StackHandle>, mpsc::Receiver<(StackHandle, usize)>) {
    let mut cache = StackCache::new(pool);
    let mut held: Vec<(StackHandle, usize)> = Vec::new();
    let word = |stack: &StackHandle| stack.top().cast::<usize>();
    for (number, action) in actions.iter().enumerate() {
        while let Ok(passed) = from.try_recv() {
            held.push(passed);
        }
        let mut got = |stack: StackHandle| {
            let mark = mark + number;
            // SAFETY: the stack's highest word.
            unsafe { word(&stack).sub(1).write(mark) };
            held.push((stack, mark));
        };
        let size = |index: u8| StackSize::custom(SIZES[usize::from(index)]).unwrap();
        match *action {
            Action::Take(index) => got(pool.take(size(index)).unwrap()),
            Action::Cached(index) => got(cache.take(size(index)).unwrap()),
            Action::Flush => cache.flush(),
            Action::Trim => pool.trim(),
            Action::Drop(which) | Action::Put(which) | Action::Pass(which) => {
                if held.is_empty() {
                    continue;
                }
                let (stack, mark) = held.swap_remove(usize::from(which) % held.len());
                // SAFETY: as above. A stack with two holders has another mark.
                assert_eq!(unsafe { word(&stack).sub(1).read() }, mark);
                match action {
                    Action::Drop(_) => drop(stack),
                    Action::Put(_) => cache.put(stack),
                    // Where the other thread has ended, it comes back at once.
                    _ => drop(to.send((stack, mark))),
                }
            }
        }
    }
    (held.into_iter().map(|(stack, _)| stack).collect(), from)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever two threads do, a stack has one holder, and the counts agree with what is held.
    #[test]
    fn stacks_have_one_holder(first in actions(), second in actions(), global in any::<bool>()) {
        let own = StackPool::new();
        let pool = if global { StackPool::global() } else { &own };
        let (to_second, from_first) = mpsc::channel();
        let (to_first, from_second) = mpsc::channel();
        let ((held, from_second), (other, from_first)) = thread::scope(|scope| {
            let worker = scope.spawn(|| act(pool, &second, from_first, to_first, 1 << 32));
            let held = act(pool, &first, from_second, to_second, 1 << 40);
            (held, worker.join().unwrap())
        });
        let mut live = 0;
        let slots: HashSet<usize> = held
            .iter()
            .chain(&other)
            .inspect(|_| live += 1)
            .map(|stack| stack.slot().addr().get())
            .collect();
        prop_assert_eq!(slots.len(), live);
        // What was passed last lies in the channels still.
        live += from_first.try_iter().map(std::mem::forget).count();
        live += from_second.try_iter().map(std::mem::forget).count();
        if !global {
            let stats = own.stats();
            prop_assert_eq!((stats.live, stats.cached), (live, 0));
            let slots: usize = stats.live + stats.cached + stats.depot;
            prop_assert!(slots * (64 << 10) <= stats.mapped_bytes);
        }
    }
}
