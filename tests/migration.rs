//! Records on a fiber that moves between threads, in a program that is optimised as a whole: no thread-local address
//! lives across a switch.

#![cfg(target_env = "gnu")]

mod support;

use std::process::Command;
use support::program::build_fat;
use support::{child, skip};

#[test]
fn records_on_a_fiber_that_moves_between_threads() {
    let ended = child::run(Command::new(build_fat("migration")));
    ended.succeeded();
    println!("{}", ended.stdout);
}

/// That it works is no proof on x86-64, which can read a thread-local variable without keeping its address, and mostly
/// does. So the fiber's function must have no such access at all, and with the pool's calls inlined it has. (On AArch64
/// the program itself fails with inlined calls.)
#[test]
fn the_fiber_itself_reads_nothing_thread_local() {
    let mut objdump = Command::new("objdump");
    objdump
        .args(["--disassemble=millpond_test_fiber", "--no-show-raw-insn"])
        .arg(build_fat("migration"));
    let Ok(output) = objdump.output() else {
        return skip(
            "the_fiber_itself_reads_nothing_thread_local",
            "there is no objdump",
        );
    };
    let code = String::from_utf8(output.stdout).unwrap();
    let calls = |name: &str| {
        code.lines()
            .any(|line| line.contains("memory") && line.contains(name))
    };
    assert!(calls("allocate") && calls("free"), "no calls: {code}");
    for access in ["%fs:", "tpidr_el0", "__tls_get_addr"] {
        assert!(!code.contains(access), "{access}: {code}");
    }
}
