//! A fiber that is suspended on one thread and resumed on another, a thousand times, and makes and drops records in
//! between, all in one function. Succeeds when each record came from the heap of the thread that the fiber was on, and
//! every other drop, at least, was one of the other thread's record. `tests/migration.rs` builds it with fat link-time optimisation.

use millpond::pool::{Pool, PoolBox};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::process::ExitCode;
use std::ptr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

const SWITCHES: usize = 1000;
const STACK: usize = 256 << 10;

static RECORDS: Pool<[usize; 20]> = Pool::new();

/// What only one thread touches at a time: the fiber's context, that of whoever resumed it, and the fiber's stack.
struct Fiber {
    fiber: UnsafeCell<MaybeUninit<libc::ucontext_t>>,
    resumer: UnsafeCell<MaybeUninit<libc::ucontext_t>>,
    stack: UnsafeCell<[u8; STACK]>,
}

// SAFETY: the threads take turns, with a barrier between two turns.
unsafe impl Sync for Fiber {}

static FIBER: Fiber = Fiber {
    fiber: UnsafeCell::new(MaybeUninit::uninit()),
    resumer: UnsafeCell::new(MaybeUninit::uninit()),
    stack: UnsafeCell::new([0; STACK]),
};

/// The record at the head of the thread's list: the next one, if it is made on this thread.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Records that came from elsewhere.
static STRANGERS: AtomicUsize = AtomicUsize::new(0);
/// Drops, after a switch, of records of other pages than the dropping thread's heap has.
static OTHERS: AtomicU64 = AtomicU64::new(0);

fn suspend() {
    // SAFETY: this runs on the fiber, whose resumer waits in its context.
    unsafe {
        libc::swapcontext(
            (*FIBER.fiber.get()).as_mut_ptr(),
            (*FIBER.resumer.get()).as_ptr(),
        )
    };
}

/// Asks the thread that it is called on.
#[inline(never)]
fn look_at_next() {
    let next = RECORDS.boxed([0; 20]);
    NEXT.store(PoolBox::as_ptr(&next).addr().get(), Ordering::Relaxed);
    drop(next);
}

/// How many blocks of other heaps were freed so far: sent to their pages or kept.
#[inline(never)]
fn others_dropped() -> u64 {
    let stats = millpond::stats();
    stats.remote_frees + stats.recycled
}

/// Of this name in the binary, where `tests/migration.rs` reads its instructions.
// SAFETY: nothing else in the program has the name.
#[unsafe(no_mangle)]
extern "C" fn millpond_test_fiber() {
    for at in 0..SWITCHES {
        let record = RECORDS.boxed([at; 20]);
        let address = PoolBox::as_ptr(&record).addr().get();
        // Relaxed, here and below: the barrier orders the turns.
        if address != NEXT.load(Ordering::Relaxed) {
            STRANGERS.fetch_add(1, Ordering::Relaxed);
        }
        suspend();
        // On the other thread now.
        let before = others_dropped();
        drop(record);
        OTHERS.fetch_add(others_dropped() - before, Ordering::Relaxed);
        drop(RECORDS.boxed([at; 20]));
        // What was dropped may lie on this thread's list now.
        look_at_next();
    }
    suspend();
}

fn start() {
    // SAFETY: the context is initialised by `getcontext` before it is changed; the stack is the fiber's alone.
    unsafe {
        let context = (*FIBER.fiber.get()).as_mut_ptr();
        libc::getcontext(context);
        (*context).uc_stack.ss_sp = FIBER.stack.get().cast();
        (*context).uc_stack.ss_size = STACK;
        (*context).uc_link = ptr::null_mut();
        libc::makecontext(context, millpond_test_fiber, 0);
    }
}

fn resume() {
    look_at_next();
    // SAFETY: it is this thread's turn, and the fiber is suspended in its context.
    unsafe {
        libc::swapcontext(
            (*FIBER.resumer.get()).as_mut_ptr(),
            (*FIBER.fiber.get()).as_ptr(),
        )
    };
}

/// The thousand turns.
pub fn run() -> ExitCode {
    start();
    let turn = Barrier::new(2);
    thread::scope(|scope| {
        for me in 0..2 {
            let turn = &turn;
            scope.spawn(move || {
                for at in 0..=SWITCHES {
                    if at % 2 == me {
                        resume();
                    }
                    turn.wait();
                }
            });
        }
    });
    let strangers = STRANGERS.load(Ordering::Relaxed);
    let others = OTHERS.load(Ordering::Relaxed);
    println!("{strangers} records of the wrong heap, {others} drops of the other heap's");
    // A record that the other thread kept is made again there and dropped here, at home: not every drop is of another's.
    match strangers == 0 && others >= SWITCHES as u64 / 2 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
