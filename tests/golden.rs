//! The length of the fast path in instructions, counted by callgrind: the difference of two run lengths, with the loop
//! subtracted. Deterministic for a compiler and a target; a longer path fails the test and says by how much.

mod support;

use millpond::Millpond;
use std::path::Path;
use std::process::{Command, Stdio};
use support::skip;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

/// Instructions per pair of `alloc` and `dealloc` must stay below this.
const LIMIT: f64 = 37.0;

/// The instructions of one run.
fn instructions(program: &Path, shape: &str, what: &str, size: usize, rounds: usize) -> u64 {
    let name = format!("callgrind.{shape}.{what}.{size}.{rounds}");
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

#[test]
fn instructions_of_alloc_and_dealloc() {
    let there = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    if !there.is_ok_and(|status| status.success()) {
        return skip("instructions_of_alloc_and_dealloc", "there is no valgrind");
    }
    let program = support::program::build("fastpath", "release");
    let mut too_long = Vec::new();
    for shape in ["pair", "batch"] {
        for size in [16, 64] {
            let whole = steady(&program, shape, "millpond", size);
            let around = steady(&program, shape, "nothing", size);
            let count = whole - around;
            let line = format!(
                "{shape} of {size} bytes: {count:.2} instructions (with the loop {whole:.2})"
            );
            println!("{line}");
            if count >= LIMIT {
                too_long.push(line);
            }
        }
    }
    assert!(
        too_long.is_empty(),
        "{LIMIT} instructions or more: {too_long:#?}"
    );
}
