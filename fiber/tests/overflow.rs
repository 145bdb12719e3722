//! A fiber that overflows its stack ends the process with a sentence that names it.

mod support;

use millpond_fiber::Builder;
use support::{child, is_child, runtime};

fn endless(depth: usize) -> usize {
    let frame = [depth; 64];
    std::hint::black_box(&frame);
    endless(depth + 1) + frame[depth % 64]
}

/// Runs the test once more as a child, which must die with this text.
fn dies_with(test: &str, text: &str) {
    use std::os::unix::process::ExitStatusExt;
    let output = child(test);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(text), "{error}");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{error}");
}

#[test]
fn a_named_fiber() {
    if is_child() {
        let runtime = runtime(2);
        let fiber = Builder::new()
            .name("parser")
            .spawn_on(&runtime, || endless(0));
        fiber.unwrap().join().unwrap();
    }
    dies_with(
        "a_named_fiber",
        "millpond-fiber: stack overflow in fiber `parser`: its stack of 64 KiB is used up.",
    );
}

#[test]
fn a_fiber_without_a_name_after_a_switch() {
    if is_child() {
        let fiber = Builder::new().stack_size(256 << 10);
        let fiber = fiber.spawn_on(&runtime(1), || {
            millpond_fiber::yield_now();
            endless(0)
        });
        fiber.unwrap().join().unwrap();
    }
    dies_with(
        "a_fiber_without_a_name_after_a_switch",
        "(without a name): its stack of 256 KiB is used up.",
    );
}

/// Other faults are what they were.
#[test]
fn another_fault() {
    use std::os::unix::process::ExitStatusExt;
    if is_child() {
        runtime(1).block_on(|| {
            let nowhere = std::ptr::without_provenance_mut::<u8>(8);
            // SAFETY: none; the fault is the test.
            unsafe { nowhere.write_volatile(1) };
        });
    }
    let output = child("another_fault");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("stack overflow"), "{error}");
    assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{error}");
}
