//! The length of the fast path in instructions, counted by callgrind, with the loop subtracted. Deterministic for a compiler and a target; a longer path fails the test and says by how much.

mod support;

use millpond::Millpond;
use std::process::{Command, Stdio};
use support::callgrind::steady;
use support::skip;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

/// Instructions per pair of `alloc` and `dealloc` must stay below this.
const LIMIT: f64 = 37.0;

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
            let count = |what| steady(|| Command::new("valgrind"), &program, shape, what, size);
            let (whole, around) = (count("millpond"), count("nothing"));
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
