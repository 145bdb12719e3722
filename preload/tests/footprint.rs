//! What the library costs a process that does next to nothing.

mod support;

use std::process::Command;
use support::{compile, library, needs, preloaded, skip, succeed, there_is};

/// Runs of each; their median counts, since how much of a library the system maps around each touched page depends on
/// where it happens to lie.
const RUNS: usize = 21;
/// At most so much more than under the C library's own allocator. The bar that the project set itself is 512.
const MOST_KIB: u64 = 460;

/// The median of what a program prints: the larger of its two numbers of KiB, resident at the end and at the peak.
fn peak(program: &dyn Fn() -> Command) -> u64 {
    let mut peaks = [(); RUNS].map(|()| {
        let output = String::from_utf8(succeed(&mut program()).stdout).unwrap();
        let numbers = output
            .split_whitespace()
            .map(|number| number.parse::<u64>());
        numbers.map(Result::unwrap).max().unwrap()
    });
    peaks.sort_unstable();
    peaks[RUNS / 2]
}

#[test]
fn a_small_program_stays_small() {
    if !needs("a_small_program_stays_small", &["cc"]) {
        return;
    }
    let program = compile("small.c", "cc", &[]);
    let plain = peak(&|| Command::new(&program));
    let ours = peak(&|| preloaded(&program));
    println!("{plain} KiB with the C library's allocator, {ours} KiB preloaded");
    assert!(
        ours <= plain + MOST_KIB,
        "{ours} KiB, {plain} KiB without Millpond"
    );
}

/// The C library alone: an unwinder, which std would bring, costs each process 100 KiB.
#[test]
fn no_library_but_the_c_library_is_needed() {
    const TEST: &str = "no_library_but_the_c_library_is_needed";
    if !there_is("readelf") || !cfg!(target_env = "gnu") {
        return skip(TEST, "there is no readelf, or the C library isn't glibc");
    }
    let dynamic = succeed(Command::new("readelf").arg("-dW").arg(library()));
    let dynamic = String::from_utf8(dynamic.stdout).unwrap();
    let needed: Vec<_> = dynamic
        .lines()
        .filter_map(|line| line.split_once("Shared library: ")?.1.strip_prefix('['))
        .map(|name| name.trim_end_matches(']'))
        .collect();
    assert!(
        needed
            .iter()
            .all(|name| *name == "libc.so.6" || name.starts_with("ld-linux")),
        "{needed:?}"
    );
}
