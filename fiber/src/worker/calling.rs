//! What the calling thread or fiber asks of its worker.

use super::Worker;
use crate::cancel::CancelToken;
use crate::control::Event;
use crate::runtime::Migration;
use crate::stack::{Label, Runner, Suspend};
use crate::task::Header;
use crate::timer::Timer;
use crate::wait::Waiter;
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::time::Instant;

thread_local! {
    pub(super) static CURRENT: Cell<*const Worker> = const { Cell::new(ptr::null()) };
}

/// The worker that the calling thread is.
#[inline(never)]
pub fn current<'a>() -> Option<&'a Worker> {
    let worker = CURRENT.with(Cell::get);
    // Not to be merged with another call: the next one may be made on another thread.
    // SAFETY: does nothing, but the compiler can't know.
    unsafe { std::arch::asm!("", options(nostack, preserves_flags)) };
    // SAFETY: a worker lives as long as its thread runs fibers, and the pointer is cleared before it goes. Callers keep
    // the reference no longer than to their next switch.
    unsafe { worker.as_ref() }
}

/// The calling fiber.
pub fn current_fiber() -> Option<NonNull<Header>> {
    NonNull::new(current()?.running.get().cast_mut())
}

/// The token of the calling fiber.
pub fn current_token() -> Option<CancelToken> {
    let fiber = current_fiber()?;
    // SAFETY: the calling fiber owns its record.
    unsafe { fiber.as_ref().extra() }?.token.clone()
}

/// Whether the calling fiber has a token.
pub fn has_token() -> bool {
    current_fiber().is_some_and(|fiber| {
        // SAFETY: the calling fiber owns its record.
        unsafe { fiber.as_ref().extra() }.is_some_and(|extra| extra.token.is_some())
    })
}

/// The runner that the caller runs on.
pub fn current_runner<'a>() -> &'a Runner {
    let worker = current().expect("runners run on workers");
    // SAFETY: set while a runner runs.
    unsafe { &*worker.runner.get() }
}

/// Whether the calling thread counts a panic. Not inlined, as [`current`].
#[inline(never)]
fn is_panicking() -> bool {
    let panicking = std::thread::panicking();
    // SAFETY: as in `current`.
    unsafe { std::arch::asm!("", options(nostack, preserves_flags)) };
    panicking
}

/// Leaves the running fiber's stack, which is the runner's.
#[inline(never)]
fn suspend(runner: &Runner, why: Suspend) {
    // SAFETY: the caller runs on it.
    unsafe { runner.suspend(why) };
}

/// Waits for an event of the calling fiber, and takes it. `what` is for reports.
pub fn park(event: Event, what: Label) {
    let worker = current().expect("only fibers park");
    // SAFETY: null or the calling fiber's record.
    let fiber = unsafe { worker.running.get().as_ref() }.expect("only fibers park");
    if fiber.control.take(event) {
        return;
    }
    // The runner goes with its fiber, wherever that goes on.
    // SAFETY: set while a runner runs.
    let runner = unsafe { &*worker.runner.get() };
    runner.seen.set_waits_on(Some(what));
    if is_panicking() {
        // A wait in a destructor.
        fiber.unwinds.set(true);
        suspend(runner, Suspend::Park(event));
        fiber.unwinds.set(false);
    } else {
        suspend(runner, Suspend::Park(event));
    }
    runner.seen.set_waits_on(None);
}

/// Lets other fibers of the worker run; a plain thread yields to the system.
pub fn yield_now() {
    match current() {
        Some(worker) if !worker.running.get().is_null() => {
            // SAFETY: a fiber runs, so its runner is set.
            suspend(unsafe { &*worker.runner.get() }, Suspend::Yield);
        }
        _ => std::thread::yield_now(),
    }
}

/// Starts a timer for the calling fiber's waiter.
pub fn start_timer<'a>(deadline: Instant, waiter: &Waiter) -> Timer<'a> {
    let worker = current().expect("fibers run on workers");
    let timer = worker.remote().timers.start(deadline, waiter);
    let shared = worker.shared();
    if shared.config.migration == Migration::Free
        && let Some(keeper) = shared.keeper.whom_to_tell(deadline)
    {
        shared.unpark(keeper);
    }
    timer
}
