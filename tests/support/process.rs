//! What the system says about this process.

use std::fs::File;
use std::io::Read;

/// Reads a file of the kernel's into a buffer on the stack, so that measuring doesn't allocate.
fn read<R>(path: &str, parse: impl FnOnce(&str) -> R) -> R {
    let mut buffer = [0_u8; 4096];
    let mut length = 0;
    let mut file = File::open(path).unwrap();
    loop {
        match file.read(&mut buffer[length..]).unwrap() {
            0 => break,
            more => length += more,
        }
    }
    parse(std::str::from_utf8(&buffer[..length]).unwrap())
}

/// Resident memory in bytes.
pub fn resident() -> u64 {
    // The kernel adds up per-processor deltas of this figure late, up to some hundred KiB.
    // SAFETY: sysconf has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    read("/proc/self/statm", |text| {
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * page
    })
}

/// A size in a line of `/proc/self/status`, in bytes.
pub fn status(name: &str) -> u64 {
    read("/proc/self/status", |text| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        let number = line[name.len()..].trim_start_matches(':').trim();
        number.trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    })
}

/// Starts the measure of the highest resident memory (`VmHWM`) anew; false where that is not allowed.
pub fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// One mebibyte.
pub const MIB: u64 = 1 << 20;
