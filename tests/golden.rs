//! The length of the fast path in instructions, counted by callgrind, with the loop subtracted. Deterministic for a compiler and a target; a longer path fails the test and says by how much.

mod support;

use millpond::Millpond;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use support::callgrind::steady;
use support::program::{build, build_fat};
use support::skip;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

/// Instructions per pair of `alloc` and `dealloc` must stay below this.
const LIMIT: f64 = 37.0;

/// Instructions per record made and dropped must stay below this.
const RECORD_LIMIT: f64 = 26.0;

/// Fails when a shape of the program's loop takes `limit` instructions or more for a block of the size.
fn check(test: &str, program: fn() -> PathBuf, loops: &[(&str, usize)], limit: f64) {
    let there = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !there.is_ok_and(|status| status.success()) {
        return skip(test, "there is no valgrind");
    }
    let program = program();
    let mut too_long = Vec::new();
    for &(shape, size) in loops {
        let count = |what| steady(|| Command::new("valgrind"), &program, shape, what, size);
        let (whole, around) = (count("millpond"), count("nothing"));
        let count = whole - around;
        let line =
            format!("{shape} of {size} bytes: {count:.2} instructions (with the loop {whole:.2})");
        println!("{line}");
        if count >= limit {
            too_long.push(line);
        }
    }
    assert!(
        too_long.is_empty(),
        "{limit} instructions or more: {too_long:#?}"
    );
}

#[test]
fn instructions_of_alloc_and_dealloc() {
    let loops = [("pair", 16), ("pair", 64), ("batch", 16), ("batch", 64)];
    let program = || build("fastpath", "release");
    check("instructions_of_alloc_and_dealloc", program, &loops, LIMIT);
}

/// No batches of 256 bytes: a thousand such records don't fit a page.
const RECORD_LOOPS: [(&str, usize); 3] = [("pair", 64), ("pair", 256), ("batch", 64)];

#[test]
fn instructions_of_a_record() {
    let (test, program) = ("instructions_of_a_record", || build("records", "release"));
    check(test, program, &RECORD_LOOPS, RECORD_LIMIT);
}

/// The calls stay calls.
#[test]
fn instructions_of_a_record_with_fat_lto() {
    let test = "instructions_of_a_record_with_fat_lto";
    check(test, || build_fat("records"), &RECORD_LOOPS, RECORD_LIMIT);
}
