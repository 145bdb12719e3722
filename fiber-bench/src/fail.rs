//! How a run ends that cannot go on: with a sentence on standard error and a status of its own.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// Status of a run whose arguments were wrong.
pub const STATUS_USAGE: u8 = 2;
/// Status of a run whose result was wrong.
pub const STATUS_WRONG: u8 = 3;
/// Status of a run that this machine, or this runtime, can't do.
pub const STATUS_CANNOT_RUN: u8 = 5;

/// Ends the process unless the result is what it must be.
#[track_caller]
pub fn check(right: bool, what: impl FnOnce() -> String) {
    if !right {
        end(&format!("check failed: {}", what()), STATUS_WRONG);
    }
}

/// Ends the process because the run needs what isn't there.
pub fn cannot_run(why: &str) -> ! {
    end(why, STATUS_CANNOT_RUN)
}

/// Ends the process on any panic, in any thread; otherwise the others would wait for it for ever.
pub fn exit_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // How libraries that can't report it end when the system has no stack for them: no memory, or no mapping.
        let text = info.to_string();
        if text.contains("Cannot allocate memory") {
            cannot_run("the system gives no more stacks");
        }
        report(info);
        leave(101)
    }));
}

/// The first thread that comes here has its sentence printed, whole; the others wait for the end of the process.
fn end(sentence: &str, status: u8) -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if ENDING.swap(true, Ordering::SeqCst) {
        loop {
            std::thread::park();
        }
    }
    // At once: what isn't written as one is torn apart by what other threads write.
    let _ = std::io::stderr().write_all(format!("fiber-runner: {sentence}\n").as_bytes());
    leave(status)
}

fn leave(status: u8) -> ! {
    // SAFETY: _exit has no precondition. It doesn't run the destructors of runtimes that still have work, which may
    // never end.
    unsafe { libc::_exit(i32::from(status)) }
}
