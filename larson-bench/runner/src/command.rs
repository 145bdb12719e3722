//! The runner's command line.

use std::process::ExitCode;

use clap::Parser;
use serde_json::Value;

use crate::harness::Outcome;
use crate::options::{Params, WorkloadOptions};
use crate::report::Report;
use crate::workloads::{self, Workload};
use crate::{block, fail, process};

/// Sets an option by name and value; says what is wrong if it can't.
pub type SetOption = fn(&str, &str) -> Result<(), String>;
/// Reads counters by name.
pub type ReadStats = fn() -> Vec<(&'static str, u64)>;

/// What a runner knows about its allocator beyond allocating with it.
#[derive(Clone, Debug)]
pub struct Hooks {
    /// Name in reports.
    pub name: &'static str,
    /// Version in reports.
    pub version: String,
    /// Sets an option by name.
    pub set_option: Option<SetOption>,
    /// Gives back what can be given back.
    pub collect: Option<fn()>,
    /// Reads the allocator's counters.
    pub stats: Option<ReadStats>,
}

impl Hooks {
    /// An allocator that can only be named.
    pub fn plain(name: &'static str, version: String) -> Self {
        Self {
            name,
            version,
            set_option: None,
            collect: None,
            stats: None,
        }
    }
}

/// Runs one workload under the allocator of this build and prints one JSON object. Started by larson-bench.
#[derive(Parser, Debug)]
#[command(name = "larson-runner", version)]
struct Command {
    /// Workload to run
    workload: String,
    /// Threads that work at the same time
    #[arg(long)]
    threads: Option<usize>,
    /// Length of the measured part
    #[arg(long)]
    seconds: Option<f64>,
    #[command(flatten)]
    options: WorkloadOptions,
    /// Sets an option of Millpond before the run
    #[arg(long, value_name = "NAME=VALUE")]
    millpond_option: Vec<String>,
    /// Name of a preloaded allocator, which this program can't know, in place of its own
    #[arg(long, value_name = "NAME")]
    preloaded_name: Option<String>,
    /// Shared library that must be the one serving `malloc`
    #[arg(long, value_name = "FILE")]
    preloaded_file: Option<String>,
    /// Damages one block, to show that the checks see it
    #[arg(long, hide = true)]
    damage_a_block: bool,
}

/// The runner's `main`.
pub fn run_from_command_line(hooks: &Hooks) -> ExitCode {
    fail::exit_on_panic();
    match run(&Command::parse(), hooks) {
        Ok(report) => {
            println!(
                "{}",
                serde_json::to_string(&report).expect("a report has only string keys")
            );
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("larson-runner: {sentence}");
            ExitCode::from(fail::STATUS_USAGE)
        }
    }
}

fn run(command: &Command, hooks: &Hooks) -> Result<Report, String> {
    let workload = workloads::find(&command.workload)?;
    let params = Params::resolve(workload, command.threads, command.seconds, &command.options)?;
    set_options(&command.millpond_option, hooks)?;
    let mut hooks = hooks.clone();
    if let Some(name) = &command.preloaded_name {
        hooks = adopt_preloaded(name, command.preloaded_file.as_deref(), hooks)?;
    }
    if command.damage_a_block {
        block::damage_one_block();
    }
    let threads_before = process::thread_count();
    let outcome = workload.run(&params, &hooks);
    process::wait_for_threads(threads_before);
    Ok(report(workload, &params, &hooks, command, outcome))
}

fn set_options(options: &[String], hooks: &Hooks) -> Result<(), String> {
    for option in options {
        let Some((name, value)) = option.split_once('=') else {
            return Err(format!(
                "--millpond-option wants NAME=VALUE, not {option:?}."
            ));
        };
        let Some(set) = hooks.set_option else {
            return Err(format!(
                "--millpond-option is for the allocator millpond, not for {}.",
                hooks.name
            ));
        };
        set(name, value)
            .map_err(|error| format!("Millpond refused the option {name}={value}: {error}."))?;
    }
    Ok(())
}

/// Checks that the library asked for is what serves `malloc`: the loader only warns when it can't preload one.
fn adopt_preloaded(name: &str, file: Option<&str>, hooks: Hooks) -> Result<Hooks, String> {
    let serving = file_serving_malloc();
    if let Some(file) = file
        && serving
            .as_deref()
            .and_then(|path| std::fs::canonicalize(path).ok())
            != std::fs::canonicalize(file).ok()
    {
        let serving = serving.unwrap_or_else(|| "an unknown file".to_owned());
        return Err(format!(
            "{file} was not preloaded as an allocator: malloc comes from {serving}."
        ));
    }
    Ok(Hooks {
        collect: None,
        version: name.to_owned(),
        ..hooks
    })
}

fn file_serving_malloc() -> Option<String> {
    // SAFETY: dlsym with a constant, zero-terminated name has no precondition.
    let malloc = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"malloc".as_ptr()) };
    // SAFETY: all-zero bytes are a valid Dl_info: null pointers.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is live and writable; dladdr accepts any address, null included.
    if unsafe { libc::dladdr(malloc, &mut info) } == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr succeeded, so dli_fname is the zero-terminated name of a loaded object.
    Some(
        unsafe { std::ffi::CStr::from_ptr(info.dli_fname) }
            .to_string_lossy()
            .into_owned(),
    )
}

fn report(
    workload: &dyn Workload,
    params: &Params,
    hooks: &Hooks,
    command: &Command,
    outcome: Outcome,
) -> Report {
    // The counters are exact only after a collection; they are read outside the measured part.
    let allocator_stats = hooks.stats.map(|stats| {
        if let Some(collect) = hooks.collect {
            collect();
        }
        stats()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect()
    });
    Report {
        workload: workload.about().name.to_owned(),
        allocator: command
            .preloaded_name
            .clone()
            .unwrap_or_else(|| hooks.name.to_owned()),
        version: hooks.version.clone(),
        threads: params.threads,
        ops: outcome.ops,
        seconds: outcome.seconds,
        ops_per_sec: outcome.ops as f64 / outcome.seconds,
        usage: outcome.usage,
        checks: "ok".to_owned(),
        extra: outcome.extra,
        allocator_stats,
    }
}
