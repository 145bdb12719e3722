//! What the comparison ran on.

use std::fs;

use serde::Serialize;

/// The machine, as far as the system tells.
#[derive(Debug, Serialize)]
pub struct Machine {
    os: &'static str,
    arch: &'static str,
    kernel: Option<String>,
    cpu: Option<String>,
    cores: usize,
    memory_bytes: Option<u64>,
    last_level_cache_bytes: u64,
    /// The setting in brackets is the one in force.
    transparent_huge_pages: Option<String>,
}

impl Machine {
    /// The machine that this program runs on.
    pub fn this() -> Self {
        Self {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            kernel: line_of("/proc/sys/kernel/osrelease"),
            cpu: value_of("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            memory_bytes: memory_bytes(),
            last_level_cache_bytes: larson_runner::process::last_level_cache_bytes(),
            transparent_huge_pages: line_of("/sys/kernel/mm/transparent_hugepage/enabled"),
        }
    }
}

fn line_of(file: &str) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.lines().next()?.to_owned())
}

fn value_of(file: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_bytes() -> Option<u64> {
    let kilobytes = value_of("/proc/meminfo", "MemTotal")?;
    Some(kilobytes.strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}
