//! Instructions per malloc and free from C, counted by callgrind: the difference of two run lengths, with the loop
//! subtracted.

mod support;

use std::path::Path;
use std::process::Command;
use support::{compile, folder, library, skip, succeed, there_is};

/// At most so many for each size: at once, and in batches of 1,000 freed in LIFO order.
const LIMITS: [(usize, f64, f64); 4] = [
    (16, 40.0, 40.0),
    (64, 40.0, 40.0),
    (256, 47.0, 63.0),
    (1024, 75.0, 161.0),
];

fn instructions(program: &Path, shape: &str, what: &str, size: usize, rounds: usize) -> u64 {
    let file = folder().join(format!("callgrind.{shape}.{what}.{size}.{rounds}"));
    succeed(
        Command::new("valgrind")
            // Valgrind would put its own malloc in the place of a library's that is called like this.
            .args([
                "--tool=callgrind",
                "--soname-synonyms=somalloc=nouserintercepts",
            ])
            .arg(format!("--callgrind-out-file={}", file.display()))
            .arg(program)
            .args([shape, what, &size.to_string(), &rounds.to_string()])
            .env("LD_PRELOAD", library()),
    );
    let profile = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let total = profile.lines().find_map(|line| {
        line.strip_prefix("summary: ")
            .or(line.strip_prefix("totals: "))
    });
    total.expect("callgrind's sum").trim().parse().unwrap()
}

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
fn instructions_of_malloc_and_free() {
    for tool in ["valgrind", "cc"] {
        if !there_is(tool) {
            return skip(
                "instructions_of_malloc_and_free",
                &format!("there is no {tool}"),
            );
        }
    }
    let program = compile("pairs.c", "cc", &[]);
    let mut too_long = Vec::new();
    for (size, at_once, batch) in LIMITS {
        for (shape, limit) in [("pair", at_once), ("batch", batch)] {
            let count =
                steady(&program, shape, "malloc", size) - steady(&program, shape, "nothing", size);
            let line = format!("{shape} of {size} bytes: {count:.2} instructions, at most {limit}");
            println!("{line}");
            if count > limit {
                too_long.push(line);
            }
        }
    }
    assert!(too_long.is_empty(), "{too_long:#?}");
}
