//! redis-server on Millpond and on other libraries, in turns: what redis-benchmark says, and what is resident.

use super::run::status;
use super::servers::until;
use super::support::{fresh_folder, library, needs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What one run gave: requests a second by test, and bytes.
struct Measured {
    tests: Vec<(String, f64)>,
    at_end: u64,
    peak: u64,
    after_flush: u64,
}

/// Settings of the comparison.
struct Comparison {
    /// Names with the libraries to preload; an empty path for none.
    libraries: Vec<(String, PathBuf)>,
    runs: usize,
    requests: String,
}

impl Comparison {
    fn from_environment() -> Self {
        let variable =
            |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        let mut libraries = vec![("millpond".to_owned(), library().to_owned())];
        for peer in variable("PEERS", "")
            .split(',')
            .filter(|peer| !peer.is_empty())
        {
            let (name, path) = peer.split_once('=').expect("PEERS=NAME=PATH,NAME=PATH");
            assert!(Path::new(path).is_file(), "{path} is no library");
            libraries.push((name.to_owned(), path.into()));
        }
        Self {
            libraries,
            runs: variable("RUNS", "5").parse().expect("RUNS is a number"),
            requests: variable("REQUESTS", "1500000"),
        }
    }
}

fn measure(folder: &Path, library: &Path, requests: &str) -> Measured {
    let socket = folder.join("socket");
    let mut server = Command::new("redis-server");
    server
        .args(["--port", "0", "--save", "", "--appendonly", "no"])
        .arg("--unixsocket")
        .arg(&socket)
        .current_dir(folder)
        .stdout(Stdio::null());
    if !library.as_os_str().is_empty() {
        server.env("LD_PRELOAD", library);
    }
    let mut server = server.spawn().unwrap();
    let client = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command
            .arg("-s")
            .arg(&socket)
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    until(|| client("redis-cli", &["ping"]).trim() == "PONG");
    let said = client(
        "redis-benchmark",
        &[
            "-t",
            "set,get,lpush,lrange",
            "-r",
            "100000",
            "-d",
            "100",
            "-n",
            requests,
            "-P",
            "16",
            "--csv",
        ],
    );
    let id = server.id().to_string();
    let (at_end, peak) = (status(&id, "VmRSS:"), status(&id, "VmHWM:"));
    client("redis-cli", &["flushall", "sync"]);
    std::thread::sleep(Duration::from_millis(300));
    let after_flush = status(&id, "VmRSS:");
    client("redis-cli", &["shutdown", "nosave"]);
    server.wait().unwrap();
    // A line each: the test's name and its requests a second, in quotes, and latencies.
    let tests = said.lines().skip(1).filter_map(|line| {
        let mut fields = line.split("\",\"");
        let name = fields.next()?.trim_matches('"');
        Some((name.to_owned(), fields.next()?.parse().ok()?))
    });
    Measured {
        tests: tests.collect(),
        at_end,
        peak,
        after_flush,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `PEERS=jemalloc=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2,mimalloc=... RUNS=5 cargo test --release -p
/// millpond-preload --test programs -- --ignored --nocapture redis_against_peers`. A run takes four minutes; fewer
/// `REQUESTS` take less.
#[test]
#[ignore = "takes four minutes a run and a quiet machine"]
fn redis_against_peers() {
    if !needs(
        "redis_against_peers",
        &["redis-server", "redis-benchmark", "redis-cli"],
    ) {
        return;
    }
    let comparison = Comparison::from_environment();
    let mut all: Vec<Vec<Measured>> = comparison.libraries.iter().map(|_| Vec::new()).collect();
    for run in 1..=comparison.runs {
        for ((name, library), measured) in comparison.libraries.iter().zip(&mut all) {
            eprintln!("run {run} of {}: {name}", comparison.runs);
            let folder = fresh_folder(&format!("redis_peers_{name}"));
            measured.push(measure(&folder, library, &comparison.requests));
        }
    }
    println!("medians of {} runs, in turns", comparison.runs);
    for ((name, _), measured) in comparison.libraries.iter().zip(&all) {
        println!("{name}:");
        for (index, (test, _)) in measured[0].tests.iter().enumerate() {
            let values = measured.iter().map(|run| run.tests[index].1).collect();
            println!("  {test}: {:.0} thousand a second", median(values) / 1e3);
        }
        let resident = |of: fn(&Measured) -> u64| {
            median(measured.iter().map(|run| of(run) as f64 / 1e6).collect())
        };
        println!(
            "  resident: {:.1} MB at the end, {:.1} at the peak, {:.1} after FLUSHALL",
            resident(|run| run.at_end),
            resident(|run| run.peak),
            resident(|run| run.after_flush)
        );
    }
}
