//! The length of the fast paths in instructions, counted by callgrind, with the loop subtracted, and what any call of an
//! allocator costs its caller besides the call itself. Deterministic for a compiler and a target; a longer path fails the test and says by how much.

mod support;

use millpond::Millpond;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use support::all_cores::all_cores;
use support::callgrind::steady;
use support::program::{build, build_fat};
use support::skip;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

/// Instructions per record made and dropped: at most so many.
const RECORD_LIMIT: f64 = 26.0;

/// Orders of the frees of a batch.
const ORDERS: [&str; 3] = ["lifo", "fifo", "random"];

/// Instructions per pair of `alloc` and `dealloc`: a size, at most so many at once, and in batches. Those are the bars that
/// the project set itself, but for larger blocks at once (the bar: 65) and batches of 256 bytes (46), where it is better.
const LIMITS: [(usize, f64, f64); 6] = [
    (16, 30.0, 30.0),
    (64, 30.0, 30.0),
    (256, 30.0, 30.0),
    (1024, 30.0, 46.0),
    (8192, 38.0, 65.0),
    (32768, 38.0, 65.0),
];

/// Instructions of a pair of calls to `fastpath`'s allocator that does nothing.
const NOTHING: f64 = 5.0;

/// Fails when a shape of the program's loop takes more instructions than its limit for a block of the size.
/// `nothing` is what the loop that is subtracted spends on calls of its own.
fn check(test: &str, program: fn() -> PathBuf, nothing: f64, loops: &[(&str, usize, f64)]) {
    let there = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !there.is_ok_and(|status| status.success()) {
        return skip(test, "there is no valgrind");
    }
    let program = program();
    let too_long = all_cores(loops, |&(shape, size, limit)| {
        let count = |what| steady(|| Command::new("valgrind"), &program, shape, what, size);
        let (whole, around) = (count("millpond"), count("nothing"));
        let count = whole - around + nothing;
        let line = format!(
            "{shape} of {size} bytes: {count:.2} instructions, at most {limit} (with the loop {whole:.2})"
        );
        println!("{line}");
        (count > limit).then_some(line)
    });
    let too_long: Vec<_> = too_long.into_iter().flatten().collect();
    assert!(too_long.is_empty(), "{too_long:#?}");
}

#[test]
fn instructions_of_alloc_and_dealloc() {
    let mut loops = Vec::new();
    for (size, at_once, batch) in LIMITS {
        loops.push(("pair", size, at_once));
        loops.extend(ORDERS.map(|order| (order, size, batch)));
    }
    let program = || build("fastpath", "release");
    check(
        "instructions_of_alloc_and_dealloc",
        program,
        NOTHING,
        &loops,
    );
}

const RECORD_LOOPS: [(&str, usize, f64); 4] = [
    ("pair", 64, RECORD_LIMIT),
    ("pair", 256, RECORD_LIMIT),
    ("lifo", 64, RECORD_LIMIT),
    ("lifo", 256, RECORD_LIMIT),
];

#[test]
fn instructions_of_a_record() {
    let (test, program) = ("instructions_of_a_record", || build("records", "release"));
    check(test, program, 0.0, &RECORD_LOOPS);
}

/// The calls stay calls.
#[test]
fn instructions_of_a_record_with_fat_lto() {
    let test = "instructions_of_a_record_with_fat_lto";
    check(test, || build_fat("records"), 0.0, &RECORD_LOOPS);
}
