//! What the kernel counted for this process.

use std::fs::{self, File};
use std::io::Read;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// ru_maxrss counts kilobytes, except on macOS.
const MAXRSS_UNIT: u64 = if cfg!(target_os = "macos") { 1 } else { 1024 };

/// Memory, faults and processor time of the process from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Highest resident memory, in bytes.
    pub peak_rss_bytes: u64,
    /// Page faults served without input or output.
    pub minor_faults: u64,
    /// Processor time in user mode, all threads, in seconds.
    pub user_seconds: f64,
    /// Processor time in the kernel, all threads, in seconds.
    pub sys_seconds: f64,
}

impl Usage {
    /// Reads the counters now.
    pub fn now() -> Self {
        // SAFETY: all-zero bytes are a valid rusage, a plain struct of integers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is a live, writable rusage, and RUSAGE_SELF is a valid target.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        Self {
            // ru_maxrss also remembers what this process was before exec, a copy of its parent: a floor of several
            // MB that has nothing to do with the allocator. VmHWM belongs to this program alone.
            peak_rss_bytes: peak_resident_bytes().unwrap_or(usage.ru_maxrss as u64 * MAXRSS_UNIT),
            minor_faults: usage.ru_minflt as u64,
            user_seconds: seconds(usage.ru_utime),
            sys_seconds: seconds(usage.ru_stime),
        }
    }
}

fn peak_resident_bytes() -> Option<u64> {
    kilobytes_in_file("/proc/self/status", "VmHWM:")
}

/// Resident memory of this process now, in bytes; 0 where the system doesn't tell.
pub fn resident_bytes() -> u64 {
    // smaps_rollup walks the page tables and is exact; the counters behind statm lag by up to a batch per core.
    kilobytes_in_file("/proc/self/smaps_rollup", "Rss:")
        .or_else(|| kilobytes_in_file("/proc/self/status", "VmRSS:"))
        .unwrap_or(0)
}

/// Reads without allocating: a reading must not wake the allocator that is being watched.
fn kilobytes_in_file(path: &str, key: &str) -> Option<u64> {
    let mut buffer = [0; 4_096];
    let mut filled = 0;
    let mut file = File::open(path).ok()?;
    loop {
        match file.read(&mut buffer[filled..]).ok()? {
            0 => break,
            count => filled += count,
        }
    }
    kilobytes_in(std::str::from_utf8(&buffer[..filled]).ok()?, key)
}

fn kilobytes_in(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Number of threads of this process; 1 where the system doesn't tell.
pub fn thread_count() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count())
}

/// Waits until no more than `count` threads are left, so that the last destructors of detached threads have run.
///
/// Gives up after two seconds: an allocator may have started a thread of its own in between.
pub fn wait_for_threads(count: usize) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while thread_count() > count && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Size of the last-level cache in bytes, or 32 MiB where the system doesn't tell.
pub fn last_level_cache_bytes() -> u64 {
    (0..10)
        .filter_map(|index| {
            let file = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
            parse_cache_size(fs::read_to_string(file).ok()?.trim())
        })
        .max()
        .unwrap_or(32 << 20)
}

fn parse_cache_size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    Some(digits.parse::<u64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_at_least_the_present() {
        let memory = vec![1_u8; 8 << 20];
        let usage = Usage::now();
        assert!(usage.peak_rss_bytes >= 8 << 20, "{usage:?}");
        assert!(resident_bytes() >= 8 << 20);
        drop(memory);
    }

    #[test]
    fn cache_sizes_have_units() {
        assert_eq!(parse_cache_size("107520K"), Some(107_520 << 10));
        assert_eq!(parse_cache_size("8M"), Some(8 << 20));
        assert_eq!(parse_cache_size(""), None);
    }
}
