//! larson-bench as its users see it: what it prints, what it writes, how it refuses.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// A folder with the system runner, built as cheaply as the tests themselves.
fn runners() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args([
                "build",
                "--package",
                "larson-runner",
                "--bin",
                "larson-runner",
                "--message-format=json",
            ])
            .output()
            .expect("cargo starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let messages = String::from_utf8_lossy(&output.stdout).into_owned();
        let built = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
            .next_back()
            .expect("cargo names the program");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runners");
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        std::fs::copy(built, folder.join("larson-runner-system"))
            .expect("the runner can be copied");
        folder
    })
}

fn larson_bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_larson-bench"))
        .args(arguments)
        .env("LARSON_BENCH_RUNNERS", runners())
        .output()
        .expect("larson-bench starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn last_line_as_json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_str(
        text(&output.stdout)
            .lines()
            .last()
            .expect("there is a last line"),
    )
    .expect("it is JSON")
}

#[test]
fn larson_takes_its_classic_arguments_and_prints_one_object() {
    let classic = [
        "larson",
        "0.1",
        "2048",
        "32768",
        "100",
        "1",
        "12345",
        "2",
        "--allocator",
        "system",
        "--json",
    ];
    let report = last_line_as_json(&larson_bench(&classic));
    let names: Vec<&str> = report
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "workload",
        "allocator",
        "version",
        "threads",
        "ops",
        "seconds",
        "ops_per_sec",
        "peak_rss_bytes",
        "minor_faults",
        "user_seconds",
        "sys_seconds",
        "checks",
        "extra",
        "allocator_stats",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        (&report["workload"], &report["threads"]),
        (&Value::from("larson"), &Value::from(2))
    );
    assert_eq!(
        (&report["checks"], &report["allocator_stats"]),
        (&Value::from("ok"), &Value::Null)
    );
    assert!(report["extra"]["threads_started"].as_u64() > Some(2));
}

#[test]
fn run_shows_a_page_for_people_without_json() {
    let output = larson_bench(&[
        "run",
        "xmalloc",
        "--seconds",
        "0.05",
        "--allocator",
        "system",
    ]);
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("operations per second"));
}

#[test]
fn compare_prints_tables_and_writes_its_schema() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("plain characters");
    let output = larson_bench(&[
        "compare",
        "--workloads",
        "larson,glibc-simple",
        "--allocators",
        "system,jemalloc",
        "--runs",
        "2",
        "--seconds",
        "0.05",
        "--json",
        path,
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for part in [
        "larson T=1",
        "larson T=2",
        "glibc-simple T=1",
        "Geometric means",
        "Left out: jemalloc",
        "1.00 *",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
    let written: Value =
        serde_json::from_slice(&std::fs::read(path).expect("it was written")).expect("it is JSON");
    assert!(written["machine"]["cores"].as_u64() >= Some(1));
    assert_eq!(written["runs"].as_array().map(Vec::len), Some(6));
    let summary = written["summary"].as_array().expect("a list");
    assert_eq!(summary.len(), 3);
    for name in [
        "workload",
        "allocator",
        "median_ops_per_sec",
        "min",
        "max",
        "median_peak_rss_bytes",
        "relative_to_best",
    ] {
        assert!(summary.iter().all(|row| !row[name].is_null()), "{name}");
    }
    let geomean = &written["geomean"][0];
    assert_eq!(
        (&geomean["allocator"], &geomean["rows"]),
        (&Value::from("system"), &Value::from(3))
    );
    assert_eq!(geomean["time_relative_to_best"].as_f64(), Some(1.0));
    assert_eq!(geomean["memory_relative_to_least"].as_f64(), Some(1.0));
}

#[test]
fn a_damaged_block_fails_the_run() {
    let output = larson_bench(&[
        "run",
        "larson",
        "--seconds",
        "0.1",
        "--allocator",
        "system",
        "--damage-a-block",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is corrupted") && output.stdout.is_empty());
}

#[test]
fn bad_arguments_get_one_sentence_and_status_2() {
    let wrong: [&[&str]; 16] = [
        &[],
        &["dance"],
        &["run"],
        &["run", "larsen"],
        &["run", "larson", "--thread", "2"],
        &["run", "larson", "--threads", "two"],
        &["run", "larson", "--seconds", "-1"],
        &["run", "larson", "--allocator", "nomalloc"],
        &["run", "larson", "--allocator", "preload:/no/such/file.so"],
        &[
            "run",
            "larson",
            "--allocator",
            "system",
            "--millpond-option",
            "a=b",
        ],
        &["run", "xmalloc", "--free-by", "other"],
        &["run", "burst", "--free-by", "nobody"],
        &["larson", "3", "4096", "2048"],
        &["larson", "3", "8", "16", "10", "1", "1", "1", "1"],
        &["compare", "--quick", "--all"],
        &["compare", "--workloads", "larson,nothing"],
    ];
    for arguments in wrong {
        let output = larson_bench(arguments);
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
}

#[test]
fn list_and_help_teach() {
    let list = text(&larson_bench(&["list"]).stdout);
    for name in [
        "larson",
        "sh6bench",
        "pipeline",
        "millpond",
        "mimalloc2",
        "preload:FILE",
    ] {
        assert!(list.contains(name), "{name}");
    }
    let help = larson_bench(&["--help"]);
    assert!(help.status.success());
    assert!(text(&help.stdout).contains("larson-bench compare --quick"));
}
