//! What happens when the library is loaded, and when the process ends.

use super::report;
use crate::config;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// Where the statistics go at the end; -1: nowhere. A descriptor of our own, since many programs (all of coreutils)
/// close standard error before they end.
static STATS_TO: AtomicI32 = AtomicI32::new(-1);
/// Descriptors below are the program's, which may count on getting the lowest ones.
const FIRST_DESCRIPTOR: i32 = 200;

/// Whether an environment variable is 1.
fn is_set(name: &core::ffi::CStr) -> bool {
    // SAFETY: the name ends with a null byte; the value, if there is one, is a C string.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        !value.is_null() && *value == b'1' as libc::c_char && *value.add(1) == 0
    }
}

extern "C-unwind" fn at_start() {
    // Allocations of the dynamic loader may have come before there was an environment to read.
    config::read_environment();
    if is_set(c"MILLPOND_HELP") {
        report::print_help();
    }
    if is_set(c"MILLPOND_STATS") {
        // SAFETY: duplicates a descriptor; a refusal is -1.
        STATS_TO.store(
            unsafe { libc::fcntl(2, libc::F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR) },
            Relaxed,
        );
    }
}

extern "C-unwind" fn at_end() {
    let to = STATS_TO.load(Relaxed);
    if to >= 0 {
        report::print_stats(to);
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C-unwind" fn() = at_start;

#[used]
#[unsafe(link_section = ".fini_array")]
static AT_END: extern "C-unwind" fn() = at_end;
