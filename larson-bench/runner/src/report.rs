//! The one object that a run prints.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::process::Usage;

/// A run's result, in the order in which its fields are printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the workload.
    pub workload: String,
    /// Name of the allocator.
    pub allocator: String,
    /// The allocator's version.
    pub version: String,
    /// Threads working at a time.
    pub threads: usize,
    /// Operations in the measured part.
    pub ops: u64,
    /// Length of the measured part in seconds.
    pub seconds: f64,
    /// `ops / seconds`.
    pub ops_per_sec: f64,
    /// The kernel's counters from the process's start to the end of the measured part.
    #[serde(flatten)]
    pub usage: Usage,
    /// `ok`; a run whose checks fail prints no report.
    pub checks: String,
    /// The workload's own figures.
    pub extra: Map<String, Value>,
    /// The allocator's counters after all threads have ended and a collection; null where it has none.
    pub allocator_stats: Option<Map<String, Value>>,
}
