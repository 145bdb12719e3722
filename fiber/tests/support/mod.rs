//! What the tests of the runtime share: a watchdog, and children that run one test.
#![allow(dead_code, reason = "each test binary uses a part")]

use millpond_fiber::Runtime;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

/// Runs a test, and ends the process with a report if it takes longer than a minute.
pub fn watched<T>(test: impl FnOnce() -> T) -> T {
    struct Alive(mpsc::Sender<()>);
    let (alive, ended) = mpsc::channel();
    let alive = Alive(alive);
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    std::thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs:\n{}", millpond_fiber::report());
            std::process::abort();
        }
    });
    let result = test();
    drop(alive.0);
    result
}

/// A runtime with so many workers.
pub fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

/// A runtime whose started fibers stay on their workers, and one whose fibers move.
///
/// Tests on it keep nothing of their threads over a wait.
pub fn both_modes(workers: usize) -> [Runtime; 2] {
    // SAFETY: see above.
    let moving = unsafe { Runtime::builder().workers(workers).migrate_started_fibers() };
    [runtime(workers), moving.build().unwrap()]
}

/// Runs the calling test binary's test of that name in a process of its own, with a variable that tells it so.
pub fn child(test: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("FIBER_TEST_CHILD", "1")
        .output()
        .unwrap()
}

/// Whether this process is a child of [`child`].
pub fn is_child() -> bool {
    std::env::var_os("FIBER_TEST_CHILD").is_some()
}
