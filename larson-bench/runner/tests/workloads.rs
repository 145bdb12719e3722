//! Every workload in a tiny size under the system allocator: it runs, its checks pass, and its report has the form
//! that others rely on. And: a damaged block does not go unnoticed.

use std::process::{Command, Output};

use larson_runner::report::Report;
use larson_runner::{fail, workloads};

fn runner(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_larson-runner"))
        .args(arguments)
        .output()
        .expect("the runner starts")
}

/// Options that make a workload small; all of them run for 50 ms or do fixed work.
fn tiny(workload: &str) -> Vec<&'static str> {
    match workload {
        "larson" | "larson-small" => vec!["--blocks=200"],
        "cache-scratch" | "cache-thrash" => vec!["--rounds=10"],
        "mstress" => vec!["--blocks=200"],
        "alloc-test" => vec!["--blocks=500"],
        "malloc-large" => vec!["--min=100000", "--max=500000"],
        "burst" => vec!["--bytes=4000000", "--idle-seconds=0"],
        "pipeline" => vec!["--blocks=5000"],
        "cold" => vec!["--bytes=2000000"],
        _ => vec![],
    }
}

fn run_tiny(workload: &str, more: &[&str]) -> Output {
    let mut arguments = vec![workload, "--seconds=0.05"];
    arguments.extend(tiny(workload));
    arguments.extend(more);
    runner(&arguments)
}

fn report(output: &Output) -> Report {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(text.lines().last().expect("there is a last line"))
        .expect("it is a report")
}

#[test]
fn every_workload_runs_and_its_checks_pass() {
    for workload in workloads::all() {
        let name = workload.about().name;
        let report = report(&run_tiny(name, &[]));
        assert_eq!(
            (report.workload.as_str(), report.checks.as_str()),
            (name, "ok")
        );
        assert_eq!(report.allocator, "system");
        assert!(report.ops > 0 && report.seconds > 0.0, "{report:?}");
        assert!((report.ops_per_sec - report.ops as f64 / report.seconds).abs() < 1.0);
        assert!(report.usage.peak_rss_bytes > 500_000, "{report:?}");
        assert!(report.allocator_stats.is_none());
    }
}

#[test]
fn a_damaged_block_fails_every_workload() {
    for workload in workloads::all() {
        let name = workload.about().name;
        let output = run_tiny(name, &["--damage-a-block"]);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(i32::from(fail::STATUS_CORRUPTED)),
            "{name}: {complaint}"
        );
        assert!(complaint.contains("is corrupted"), "{name}: {complaint}");
        assert!(
            output.stdout.is_empty(),
            "{name} printed a report in spite of a damaged block"
        );
    }
}

#[test]
fn workloads_run_on_more_threads_than_the_machine_has() {
    for workload in workloads::all() {
        let about = workload.about();
        if *about.threads.end() >= 5 {
            assert_eq!(report(&run_tiny(about.name, &["--threads=5"])).threads, 5);
        }
    }
}

#[test]
fn burst_keeps_what_it_is_told_to_keep_whoever_frees() {
    for who in ["same", "other", "after-exit"] {
        let free_by = format!("--free-by={who}");
        let all = report(&run_tiny("burst", &[&free_by]));
        let half = report(&run_tiny("burst", &[&free_by, "--keep-every=2"]));
        let freed = |report: &Report| {
            report.extra["freed_bytes"]
                .as_u64()
                .expect("it is a number")
        };
        assert!((3_990_000..=4_000_000).contains(&freed(&all)), "{all:?}");
        assert!((1_800_000..2_200_000).contains(&freed(&half)), "{half:?}");
        assert!(half.ops * 2 <= all.ops + 1);
        for name in [
            "resident_baseline_bytes",
            "resident_peak_bytes",
            "resident_after_0s_bytes",
        ] {
            assert!(all.extra[name].is_u64(), "{name} of {all:?}");
        }
    }
}

#[test]
fn burst_reads_the_memory_while_it_idles() {
    let report = report(&runner(&["burst", "--bytes=4000000", "--idle-seconds=1"]));
    assert!(report.extra.contains_key("resident_after_1s_bytes"));
    assert!(!report.extra.contains_key("resident_after_10s_bytes"));
}

#[test]
fn pipeline_has_as_many_in_flight_as_allowed_and_never_more() {
    let options = ["--threads=3", "--blocks=5000", "--seconds=0.5"];
    let report = report(&runner(&[&["pipeline"][..], &options].concat()));
    let most = report.extra["in_flight_max_objects"].as_u64();
    assert_eq!(most, Some(5_000), "{report:?}");
}

#[test]
fn what_makes_no_sense_is_refused_in_one_sentence() {
    let wrong: [&[&str]; 12] = [
        &["larsen"],
        &["larson", "--seconds=0"],
        &["larson", "--seconds=nan"],
        &["larson", "--threads=0"],
        &["larson", "--min=0"],
        &["larson", "--min=10", "--max=9"],
        &["larson", "--blocks=0"],
        &["larson", "--keep-every=3"],
        &["glibc-simple", "--threads=2"],
        &["xmalloc", "--threads=1"],
        &["cache-thrash", "--min=12", "--max=12"],
        &["larson", "--millpond-option=a=b"],
    ];
    for arguments in wrong {
        let output = runner(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {complaint}");
        assert_eq!(complaint.lines().count(), 1, "{arguments:?}: {complaint}");
    }
}

#[test]
fn a_library_that_was_not_preloaded_is_noticed() {
    let output = runner(&[
        "larson",
        "--preloaded-name=preload:x",
        "--preloaded-file=/proc/self/exe",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("was not preloaded"));
}
