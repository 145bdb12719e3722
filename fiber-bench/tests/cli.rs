//! fiber-bench as its users see it: what it prints, what it writes, how it refuses; and every benchmark once, small,
//! under every runtime.

use std::path::Path;
use std::process::{Command, Output};

use fiber_bench::catalog::{self, BENCHMARKS, RUNTIMES};
use serde_json::Value;

fn fiber_bench(arguments: &[&str]) -> Output {
    let runners = Path::new(env!("CARGO_BIN_EXE_fiber-runner-system"))
        .parent()
        .expect("it lies in a folder");
    // Both runners are there: cargo builds a package's programs for its tests.
    assert!(Path::new(env!("CARGO_BIN_EXE_fiber-runner-millpond")).is_file());
    Command::new(env!("CARGO_BIN_EXE_fiber-bench"))
        .args(arguments)
        .env("FIBER_BENCH_RUNNERS", runners)
        .output()
        .expect("fiber-bench starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn go_is_here() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::var_os("FIBER_BENCH_GO").is_some()
        || std::env::split_paths(&path).any(|folder| folder.join("go").is_file());
    assert!(
        found || std::env::var_os("FIBER_BENCH_REQUIRE_GO").is_none(),
        "there is no go command"
    );
    found
}

/// The sizes and the time of a run that only shows that it works.
const SMALL: [&str; 4] = ["--seconds", "0.01", "--scale", "0.002"];

fn small(benchmark: &str, runtime: &str, more: &[&str]) -> Output {
    let run = ["run", benchmark, "--runtime", runtime, "--json"];
    fiber_bench(&[&run[..], &SMALL, more].concat())
}

/// Runs every benchmark once, small, or sees it refused.
fn every_benchmark(runtime: &str, more: &[&str]) {
    for benchmark in &BENCHMARKS {
        let output = small(benchmark.name, runtime, more);
        let complaint = text(&output.stderr);
        if catalog::cannot_run(runtime, benchmark.name, 2).is_some() {
            assert_eq!(
                output.status.code(),
                Some(2),
                "{}: {complaint}",
                benchmark.name
            );
            assert!(complaint.contains("cannot run"), "{complaint}");
            continue;
        }
        // What a runtime finds out only when it runs: no worker takes the tasks of one that is busy.
        if complaint.contains("no worker takes the tasks") {
            continue;
        }
        assert!(
            output.status.success(),
            "{} under {runtime}: {complaint}",
            benchmark.name
        );
        let shown = text(&output.stdout);
        let report: Value =
            serde_json::from_str(shown.lines().last().expect("a line")).expect("it is JSON");
        assert_eq!(
            (&report["benchmark"], &report["checks"]),
            (&benchmark.name.into(), &"ok".into())
        );
        assert!(
            report["ops"].as_u64() > Some(0) && report["ops_per_sec"].as_f64() > Some(0.0),
            "{report}"
        );
        assert!(
            report["p99_ns"].as_f64() >= report["p50_ns"].as_f64(),
            "{report}"
        );
    }
}

#[test]
fn every_benchmark_under_millpond() {
    every_benchmark("millpond", &[]);
}

#[test]
fn every_benchmark_under_migrating_millpond() {
    every_benchmark("millpond-migrating", &[]);
}

#[test]
fn every_benchmark_under_tokio() {
    every_benchmark("tokio", &[]);
}

#[test]
fn every_benchmark_under_tokio_on_millpond() {
    every_benchmark("tokio", &["--allocator", "millpond"]);
}

#[test]
fn every_benchmark_under_may() {
    every_benchmark("may", &[]);
}

#[test]
fn every_benchmark_under_rayon() {
    every_benchmark("rayon", &[]);
}

#[test]
fn every_benchmark_under_threads() {
    every_benchmark("threads", &[]);
}

#[test]
fn every_benchmark_under_go() {
    if go_is_here() {
        every_benchmark("go", &[]);
    }
}

#[test]
fn a_run_prints_one_object_with_these_fields() {
    let output = small("ping_pong_local", "millpond", &[]);
    let shown = text(&output.stdout);
    let report: Value =
        serde_json::from_str(shown.lines().last().expect("a line")).expect("it is JSON");
    let names: Vec<&str> = report
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "benchmark",
        "runtime",
        "version",
        "workers",
        "ops",
        "seconds",
        "ops_per_sec",
        "p50_ns",
        "p99_ns",
        "user_seconds",
        "sys_seconds",
        "context_switches",
        "peak_rss_bytes",
        "checks",
        "extra",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        (&report["runtime"], &report["workers"]),
        (&"millpond".into(), &2.into())
    );
}

#[test]
fn run_shows_a_page_for_people_without_json() {
    let output = fiber_bench(&[&["run", "task_pool_cross"][..], &SMALL].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("operations per second") && shown.contains("allocator_remote"),
        "{shown}"
    );
}

#[test]
fn compare_prints_tables_and_writes_its_schema() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("plain characters");
    let compare = [
        "compare",
        "--benchmarks",
        "spawn_nursery,spsc_0,idle_memory_10k",
        "--json",
        path,
    ];
    let which = ["--runtimes", "millpond,tokio,rayon", "--runs", "2"];
    let output = fiber_bench(&[&compare[..], &which, &SMALL].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let parts = [
        "spawn_nursery",
        "1.00 *",
        "cannot run",
        "Geometric means",
        "memory per task",
        "tokio cannot run spsc_0: tokio has no rendezvous channel.",
    ];
    for part in parts {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
    let written = std::fs::read(path).expect("it was written");
    let written: Value = serde_json::from_slice(&written).expect("it is JSON");
    assert!(written["machine"]["cores"].as_u64() >= Some(1));
    let summary = written["summary"].as_array().expect("a list");
    let named: Vec<(&str, &str)> = summary
        .iter()
        .map(|row| {
            (
                row["benchmark"].as_str().expect("a name"),
                row["runtime"].as_str().expect("a name"),
            )
        })
        .collect();
    assert!(
        named.contains(&("spawn_nursery", "tokio+millpond"))
            && named.contains(&("spsc_0", "millpond"))
    );
    let names: Vec<&str> = summary[0]
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        names,
        [
            "benchmark",
            "runtime",
            "median_ops_per_sec",
            "min",
            "max",
            "median_peak_rss_bytes"
        ]
    );
    assert_eq!(
        written["runs"].as_array().map(Vec::len),
        Some(2 * summary.len())
    );
}

#[test]
fn scale_prints_a_column_for_each_number_of_workers() {
    let scale = [
        "scale",
        "--workers",
        "1,3",
        "--benchmarks",
        "skynet",
        "--runs",
        "1",
    ];
    let output = fiber_bench(&[&scale[..], &SMALL].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("1 worker(s)") && shown.contains("3 worker(s)") && shown.contains("skynet"),
        "{shown}"
    );
}

#[test]
fn bad_arguments_get_one_sentence_and_status_2() {
    let wrong: [&[&str]; 18] = [
        &[],
        &["dance"],
        &["run"],
        &["run", "spawn_nurserie"],
        &["run", "skynet", "--runtime", "erlang"],
        &["run", "skynet", "--workers", "0"],
        &["run", "skynet", "--workers", "257"],
        &["run", "skynet", "--workers", "two"],
        &["run", "skynet", "--seconds", "-1"],
        &["run", "skynet", "--seconds", "NaN"],
        &[
            "run",
            "skynet",
            "--runtime",
            "millpond",
            "--allocator",
            "system",
        ],
        &[
            "run",
            "skynet",
            "--runtime",
            "go",
            "--allocator",
            "millpond",
        ],
        &["run", "skynet", "--runtime", "threads"],
        &["run", "ping_pong_cross", "--workers", "1"],
        &["compare", "--runs", "0"],
        &["compare", "--benchmarks", "skynet,nothing"],
        &["compare", "--runtimes", "go+millpond"],
        &["scale", "--workers", "1,0"],
    ];
    for arguments in wrong {
        refused(&fiber_bench(arguments), arguments);
    }
}

fn refused(output: &Output, arguments: &[&str]) {
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
    assert_eq!(
        complaint.trim_end().lines().count(),
        1,
        "{arguments:?}: {complaint}"
    );
    assert!(
        complaint.trim_end().ends_with('.'),
        "{arguments:?}: {complaint}"
    );
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

#[test]
fn a_missing_go_is_one_sentence() {
    let arguments = ["run", "skynet", "--runtime", "go"];
    let output = Command::new(env!("CARGO_BIN_EXE_fiber-bench"))
        .args(arguments)
        .env("PATH", "/nowhere")
        .env_remove("FIBER_BENCH_GO")
        .output()
        .expect("fiber-bench starts");
    refused(&output, &arguments);
    assert!(text(&output.stderr).contains("there is no go command"));
}

#[test]
fn list_and_help_teach() {
    let list = text(&fiber_bench(&["list"]).stdout);
    let names = BENCHMARKS.iter().map(|benchmark| benchmark.name);
    for name in names.chain(RUNTIMES.iter().map(|runtime| runtime.name)) {
        assert!(list.contains(name), "{name}");
    }
    let help = fiber_bench(&["--help"]);
    assert!(help.status.success());
    assert!(text(&help.stdout).contains("fiber-bench compare --quick"));
}
