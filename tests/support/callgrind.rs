//! Instructions counted by callgrind, as the difference of two run lengths, so that what a program does before and after
//! its loop doesn't count. The programs take `SHAPE WHAT SIZE ROUNDS`: the shape `pair` frees each block at once, all
//! others allocate 1,000 and free them in some order.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The instructions of one run of `valgrind`, a command without callgrind's options so far.
fn instructions(mut valgrind: Command, program: &Path, arguments: [&str; 4]) -> u64 {
    // One file for each run: the tests of a binary, and those of two binaries, may count the same loop at a time.
    static RUN: AtomicUsize = AtomicUsize::new(0);
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let name = format!("callgrind.{}.{run}", std::process::id());
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let ran = valgrind
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(arguments)
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

/// Instructions per pair of an allocation and a free in the steady state: what a longer run has more than a shorter one.
/// `valgrind` makes the command, with its environment.
pub fn steady(
    valgrind: impl Fn() -> Command,
    program: &Path,
    shape: &str,
    what: &str,
    size: usize,
) -> f64 {
    let (few, many, pairs_each) = match shape {
        "pair" => (10_000, 110_000, 1),
        _ => (10, 110, 1000),
    };
    let run = |rounds: usize| {
        let arguments = [shape, what, &size.to_string(), &rounds.to_string()];
        instructions(valgrind(), program, arguments)
    };
    (run(many) - run(few)) as f64 / ((many - few) * pairs_each) as f64
}
