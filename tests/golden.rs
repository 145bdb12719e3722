//! The length of the fast path in instructions, counted by callgrind: the difference of two run lengths, with the loop
//! subtracted. Deterministic for a compiler and a target; a longer path fails the test and says by how much.

mod support;

use millpond::Millpond;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::program::{build, build_fat};
use support::skip;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

/// Instructions per pair of `alloc` and `dealloc` must stay below this.
const LIMIT: f64 = 37.0;

/// Instructions per record made and dropped must stay below this.
const RECORD_LIMIT: f64 = 26.0;

/// The instructions of one run.
fn instructions(program: &Path, shape: &str, what: &str, size: usize, rounds: usize) -> u64 {
    let stem = program.to_string_lossy().replace('/', "_");
    let name = format!("callgrind.{stem}.{shape}.{what}.{size}.{rounds}");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let ran = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args([shape, what, &size.to_string(), &rounds.to_string()])
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let profile = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let total = profile.lines().find_map(|line| {
        line.strip_prefix("summary: ")
            .or(line.strip_prefix("totals: "))
    });
    total
        .unwrap_or_else(|| panic!("no sum in callgrind's output"))
        .trim()
        .parse()
        .unwrap()
}

/// Instructions per operation in the steady state: what a longer run has more than a shorter one.
fn steady(program: &Path, shape: &str, what: &str, size: usize) -> f64 {
    let (few, many, pairs_each) = match shape {
        "pair" => (10_000, 110_000, 1),
        _ => (10, 110, 1000),
    };
    let more = instructions(program, shape, what, size, many)
        - instructions(program, shape, what, size, few);
    more as f64 / ((many - few) * pairs_each) as f64
}

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
        let whole = steady(&program, shape, "millpond", size);
        let around = steady(&program, shape, "nothing", size);
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
