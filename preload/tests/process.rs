//! What happens to processes and concerns their allocator: they start others, are interrupted by signals, and have
//! limits from the start.

mod support;

use std::path::Path;
use std::process::Command;
use support::child::{self, Ended};
use support::{compile, fresh_folder, needs, preloaded, succeed};

#[test]
fn starting_other_programs() {
    if !needs("starting_other_programs", &["cc", "sh", "seq", "cat"]) {
        return;
    }
    let program = compile("spawning.c", "cc", &[]);
    let folder = fresh_folder("spawning");
    succeed(Command::new(&program).arg(&folder));
    succeed(preloaded(&program).arg(&folder));
}

#[test]
fn signals_all_the_time() {
    if !needs("signals_all_the_time", &["cc"]) {
        return;
    }
    let program = compile("interrupted.c", "cc", &[]);
    succeed(&mut Command::new(&program));
    println!(
        "{}",
        String::from_utf8_lossy(&succeed(&mut preloaded(&program)).stdout)
    );
}

const KIB: u64 = 1 << 10;

/// Runs the program under a limit that is there before the program and its libraries are loaded.
fn limited(mut command: Command, kib: u64) -> Ended {
    child::limit(&mut command, libc::RLIMIT_AS, kib * KIB);
    child::run(command)
}

/// How many KiB the program got, which must end well.
fn got(ended: &Ended) -> u64 {
    ended.succeeded();
    assert_eq!(ended.stderr, "");
    ended.stdout.trim().parse().unwrap()
}

/// Under a limit that leaves room for the loader and the libraries, the process starts; where it is too small for
/// Millpond's tables every malloc fails with ENOMEM, and where it isn't, most of the rest can be had. Below that the
/// dynamic loader says what it misses. README.md names the limits.
#[test]
fn address_space_limited_from_the_start() {
    if !needs("address_space_limited_from_the_start", &["cc"]) {
        return;
    }
    let program = compile("limited.c", "cc", &[]);
    let mut plain = Command::new(&program);
    plain.env("MALLOC_ARENA_MAX", "1");
    assert!(got(&limited(plain, 128 * KIB)) > 64 * KIB);
    for (limit, least) in [
        (32, 5),
        (48, 16),
        (64, 28),
        (128, 84),
        (256, 200),
        (1024, 400),
    ] {
        let once = || got(&limited(preloaded(&program), limit * KIB));
        let mut got = once();
        if got < least * KIB {
            // One process in a hundred gets less, before and after: by where the system puts its mappings, probably, for what
            // lies on both sides of a multiple of 1 GiB needs two arrays of the registry. Never two in a row.
            println!("limit {limit} MiB: {got} KiB at first");
            got = once();
        }
        println!("limit {limit} MiB: {} MiB", got / KIB);
        assert!(got >= least * KIB, "{got} KiB under {limit} MiB");
    }
    for kib in (1024..24 * KIB).step_by(512) {
        too_small_or_enough(&program, kib);
    }
}

fn too_small_or_enough(program: &Path, kib: u64) {
    let ended = limited(preloaded(program), kib);
    if ended.status.success() {
        assert!(got(&ended) < kib);
        return;
    }
    // Nothing of ours has run: the loader's own end, of one line.
    assert!(
        ended.status.code() == Some(127) && ended.stderr.contains("failed to map segment"),
        "{kib} KiB: {ended:#?}"
    );
    assert!(kib < 8 * KIB, "{kib} KiB should be enough to start with");
}
