//! The runner: one benchmark under one runtime, and its report.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use millpond_fiber::Victims;

use crate::measure::{Outcome, Usage};
use crate::params::Params;
use crate::report::{Extra, Report};
use crate::runtimes::millpond::Migration;
use crate::runtimes::{may, millpond, threads};
use crate::{blocking, catalog, fail, fork_join, futures, memory};

/// Runs one benchmark under one runtime and prints one JSON object. Started by fiber-bench.
#[derive(Parser, Debug)]
#[command(name = "fiber-runner", version)]
struct Command {
    /// Benchmark to run
    benchmark: String,
    /// Runtime to run it under
    #[arg(long)]
    runtime: String,
    /// Threads that run tasks
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Length of the measured part
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Factor on the sizes of rounds
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
}

/// The runner's `main`; `allocator` is what the program was linked with.
pub fn run_from_command_line(allocator: &str) -> ExitCode {
    fail::exit_on_panic();
    let command = Command::parse();
    match run(&command, allocator) {
        Ok(report) => {
            println!(
                "{}",
                serde_json::to_string(&report).expect("a report has only string keys")
            );
            // Runtimes that are still there end with the process, as do tasks that a benchmark leaves behind.
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("fiber-runner: {sentence}");
            ExitCode::from(fail::STATUS_USAGE)
        }
    }
}

fn run(command: &Command, allocator: &str) -> Result<Report, String> {
    let benchmark = catalog::benchmark(&command.benchmark)?;
    let runtime = catalog::runtime(&command.runtime)?;
    if let Some(why) = catalog::cannot_run(runtime.name, benchmark.name, command.workers) {
        fail::cannot_run(why);
    }
    let params = Params {
        benchmark: benchmark.name,
        workers: command.workers,
        seconds: command.seconds,
        scale: command.scale,
    };
    check_memory(&params, runtime.name);
    let (outcome, version) = match runtime.name {
        "millpond" => (
            run_millpond(&params, Migration::Pinned),
            env!("VERSION_MILLPOND"),
        ),
        "millpond-migrating" => (
            run_millpond(&params, Migration::Free),
            env!("VERSION_MILLPOND"),
        ),
        "tokio" => (futures::run(&params), env!("VERSION_TOKIO")),
        "may" => (run_may(&params), env!("VERSION_MAY")),
        "rayon" => (fork_join::run(&params), env!("VERSION_RAYON")),
        "threads" => (
            blocking::run::<threads::Threads>(&params),
            env!("CARGO_PKG_RUST_VERSION"),
        ),
        other => return Err(format!("This program has no runtime {other:?}.")),
    };
    let outcome = if params.benchmark == "idle_cpu" {
        idle(&params, outcome)
    } else {
        outcome
    };
    let name = match (allocator, runtime.is_rust_peer) {
        ("millpond", true) => format!("{}+millpond", runtime.name),
        _ => runtime.name.to_owned(),
    };
    Ok(report(&params, name, version, outcome))
}

fn report(params: &Params, runtime: String, version: &str, outcome: Outcome) -> Report {
    Report {
        benchmark: params.benchmark.to_owned(),
        runtime,
        version: version.to_owned(),
        workers: params.workers,
        ops: outcome.ops,
        seconds: outcome.seconds,
        ops_per_sec: outcome.ops as f64 / outcome.seconds,
        p50_ns: outcome.percentile(0.5),
        p99_ns: outcome.percentile(0.99),
        user_seconds: outcome.usage.user_seconds,
        sys_seconds: outcome.usage.sys_seconds,
        context_switches: outcome.usage.context_switches,
        peak_rss_bytes: larson_runner::process::Usage::now().peak_rss_bytes,
        checks: "ok".to_owned(),
        extra: outcome.extra,
    }
}

fn run_millpond(params: &Params, migration: Migration) -> Outcome {
    let local = params.benchmark == "ping_pong_local";
    let victims = if local {
        Victims::None
    } else {
        Victims::default()
    };
    let (mut outcome, runtime) = millpond::enter(params.workers, victims, migration, || {
        blocking::run::<millpond::Millpond>(params)
    });
    if params.benchmark == "idle_cpu" {
        // The workers are what is looked at.
        std::mem::forget(runtime);
        return outcome;
    }
    if params.benchmark == "task_pool_cross" {
        // Exact only when its threads have ended and what they freed to each other was collected.
        runtime.shutdown(millpond_fiber::Shutdown::Finish);
        ::millpond::collect(true);
        describe_allocator(&mut outcome.extra);
    }
    outcome
}

/// Adds the allocator's counters, and how many blocks that were freed by another thread than their owner's haven't come
/// back to a page.
fn describe_allocator(extra: &mut Extra) {
    let mut waiting = 0;
    for (name, value) in ::millpond::stats().entries() {
        match name {
            "remote_frees" => waiting += i128::from(value),
            drained if drained.starts_with("drained_") => waiting -= i128::from(value),
            _ => {}
        }
        extra.insert(format!("allocator_{name}"), value.into());
    }
    extra.insert(
        "remote_frees_not_drained".to_owned(),
        (waiting as i64).into(),
    );
}

fn run_may(params: &Params) -> Outcome {
    let own = params.clone();
    may::enter(
        params.workers,
        params.benchmark == "deep_then_idle",
        move || blocking::run::<may::May>(&own),
    )
}

/// Watches the process while it has nothing to do.
fn idle(params: &Params, outcome: Outcome) -> Outcome {
    let seconds = params.idle_seconds();
    // What the end of the work left to do isn't idling.
    std::thread::sleep(Duration::from_secs_f64(seconds * 0.02));
    let before = Usage::now();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let used = Usage::now().since(before);
    let cpu = used.user_seconds + used.sys_seconds;
    outcome
        .with("idle_seconds", seconds)
        .with("idle_cpu_seconds", cpu)
        .with("idle_cpu_percent", 100.0 * cpu / seconds)
        .with("idle_context_switches", used.context_switches)
}

/// Ends the run with a sentence if the machine hasn't the memory that many idle tasks need.
fn check_memory(params: &Params, runtime: &str) {
    let tasks = match params.benchmark {
        "idle_memory_100k" => 100_000,
        "idle_memory_1m" => 1_000_000,
        _ => return,
    };
    // A task's record, the touched part of its stack, and the page tables of both, rounded up.
    let each: u64 = match runtime {
        "tokio" => 2 << 10,
        "may" => 24 << 10,
        _ => 16 << 10,
    };
    let (wanted, there) = (
        each * params.scaled(tasks, 1) as u64,
        memory::available_bytes(),
    );
    if wanted > there {
        fail::cannot_run(&format!(
            "it takes about {} MB of memory, and the machine has {} MB to spare",
            wanted >> 20,
            there >> 20
        ));
    }
}
