//! Instructions per malloc and free from C, counted by callgrind, with the loop subtracted.

mod support;

use std::process::Command;
use support::all_cores::all_cores;
use support::callgrind::steady;
use support::{compile, needs, preloaded};

/// At most so many for each size: at once, and in batches of 1,000, whatever the order of the frees. Those are the bars that
/// the project set itself.
const LIMITS: [(usize, f64, f64); 6] = [
    (16, 36.0, 37.0),
    (64, 36.0, 37.0),
    (256, 36.0, 36.0),
    (1024, 36.0, 50.0),
    (8192, 48.0, 70.0),
    (32768, 48.0, 70.0),
];

/// Valgrind with the library preloaded.
fn valgrind() -> Command {
    let mut valgrind = preloaded("valgrind");
    // It would put its own malloc in the place of a library's that is called like this.
    valgrind.arg("--soname-synonyms=somalloc=nouserintercepts");
    valgrind
}

#[test]
fn instructions_of_malloc_and_free() {
    if !needs("instructions_of_malloc_and_free", &["valgrind", "cc"]) {
        return;
    }
    let program = compile("pairs.c", "cc", &["-O2"]);
    let loops: Vec<_> = LIMITS
        .into_iter()
        .flat_map(|(size, at_once, batch)| {
            [
                ("pair", size, at_once),
                ("lifo", size, batch),
                ("fifo", size, batch),
                ("random", size, batch),
            ]
        })
        .collect();
    let too_long = all_cores(&loops, |&(shape, size, limit)| {
        let count = |what| steady(valgrind, &program, shape, what, size);
        let count = count("malloc") - count("nothing");
        let line = format!("{shape} of {size} bytes: {count:.2} instructions, at most {limit}");
        println!("{line}");
        (count > limit).then_some(line)
    });
    let too_long: Vec<_> = too_long.into_iter().flatten().collect();
    assert!(too_long.is_empty(), "{too_long:#?}");
}
