//! The one object that a run prints.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A benchmark's own figures, by name.
pub type Extra = Map<String, Value>;

/// A run's result, in the order in which its fields are printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Name of the runtime, with the allocator behind it where that isn't the usual one: `tokio+millpond`.
    pub runtime: String,
    /// The runtime's version.
    pub version: String,
    /// Worker threads.
    pub workers: usize,
    /// Operations in the measured part.
    pub ops: u64,
    /// Length of the measured part.
    pub seconds: f64,
    /// `ops / seconds`.
    pub ops_per_sec: f64,
    /// Median time of an operation, in nanoseconds: of single ones where the benchmark times those, else of rounds,
    /// divided by their operations.
    pub p50_ns: f64,
    /// The 99th percentile of the same.
    pub p99_ns: f64,
    /// Processor time in user mode during the measured part, all threads.
    pub user_seconds: f64,
    /// Processor time in the kernel during the measured part, all threads.
    pub sys_seconds: f64,
    /// Context switches of the kernel during the measured part, voluntary and not, all threads.
    pub context_switches: u64,
    /// Highest resident memory of the process.
    pub peak_rss_bytes: u64,
    /// `ok`; a run whose checks fail prints no report.
    pub checks: String,
    /// The benchmark's own figures.
    pub extra: Extra,
}
