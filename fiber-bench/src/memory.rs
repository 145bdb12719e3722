//! What the kernel knows about this process's memory, and the machine's.

use std::fs;

use larson_runner::process;
use serde_json::Value;

use crate::report::Extra;

/// Resident memory, in bytes.
pub fn resident_bytes() -> u64 {
    process::resident_bytes()
}

/// Page tables, in bytes.
pub fn page_table_bytes() -> u64 {
    kilobytes("/proc/self/status", "VmPTE:")
}

/// Mappings of the address space.
pub fn mappings() -> u64 {
    fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count() as u64)
}

/// What a new process may use without swapping.
pub fn available_bytes() -> u64 {
    kilobytes("/proc/meminfo", "MemAvailable:")
}

/// Adds resident memory, page tables and mappings, with what stood before deducted for the figure per task.
pub fn describe(extra: &mut Extra, tasks: usize, before: u64) {
    let resident = resident_bytes();
    let tables = page_table_bytes();
    let each = resident.saturating_sub(before) as f64 / tasks.max(1) as f64;
    extra.insert("rss_bytes".into(), resident.into());
    extra.insert("page_table_bytes".into(), tables.into());
    extra.insert("mappings".into(), mappings().into());
    extra.insert("rss_bytes_per_task".into(), Value::from(each.round()));
}

fn kilobytes(file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.trim().strip_suffix("kB"));
    number
        .and_then(|number| number.trim().parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}
