//! The optional background thread: ends the reserve's windows and serves heaps without a thread while the program is
//! idle. It never touches a live thread's own lists, but looks into what others freed of a thread that sleeps, and sends no
//! signals.

use super::{collect, idle, taken_back};
use crate::arena::reserve;
use crate::config;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

static RUNNING: AtomicBool = AtomicBool::new(false);

/// Starts the thread if it is wanted and not there. From slow paths; never waits.
pub fn ensure() {
    if config::background_thread() && !RUNNING.load(Ordering::Relaxed) {
        start();
    }
}

#[cold]
fn start() {
    // Relaxed: only decides who starts it.
    if RUNNING.swap(true, Ordering::Relaxed) {
        return;
    }
    // Signals belong to the program's own threads: the new one inherits a mask that blocks all of them.
    // SAFETY: zeroed signal sets and attributes are initialised by the calls that fill them, before they are read;
    // the entry function has the right type and needs no argument.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        let mut before = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let mut attributes = std::mem::zeroed::<libc::pthread_attr_t>();
        libc::pthread_attr_init(&mut attributes);
        libc::pthread_attr_setdetachstate(&mut attributes, libc::PTHREAD_CREATE_DETACHED);
        let mut thread = std::mem::zeroed::<libc::pthread_t>();
        if libc::pthread_create(&mut thread, &attributes, run, ptr::null_mut()) != 0 {
            // No thread to be had now; the next slow path tries again.
            RUNNING.store(false, Ordering::Relaxed);
        }
        libc::pthread_attr_destroy(&mut attributes);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
    }
}

extern "C" fn run(_: *mut c_void) -> *mut c_void {
    while config::background_thread() {
        let nap = config::purge_delay_ms().clamp(10, 1000);
        let time = libc::timespec {
            tv_sec: (nap / 1000) as _,
            tv_nsec: (nap % 1000 * 1_000_000) as _,
        };
        // SAFETY: the time is valid; an early return does no harm.
        unsafe { libc::nanosleep(&time, ptr::null_mut()) };
        collect::serve_idle();
        idle::age(true);
        taken_back::thin_quiet();
        reserve::tick();
        #[cfg(not(preload))]
        crate::stack::collect(false);
    }
    RUNNING.store(false, Ordering::Relaxed);
    ptr::null_mut()
}

/// In a forked child: the thread is gone.
pub fn vanished() {
    RUNNING.store(false, Ordering::Relaxed);
}
