//! What the allocator asks of the operating system. One file per platform keeps this contract:
//!
//! - `reserve(bytes, align)` maps at least `bytes` of address space at a multiple of `align`, no memory behind it yet
//!   as far as the system can be talked into that. It reads as zero, can be written at once, is kept out of core
//!   dumps, and is unmapped when the `Reservation` is dropped.
//! - `fence(range)` makes a reserved range inaccessible, so that locking all memory doesn't populate it;
//!   `commit(range)` makes it accessible again and answers false where the system refuses.
//! - `discard(range)` gives the memory back at once; the range stays accessible and reads as zero afterwards.
//! - `give_back(range)` does the same or nothing; `resident(range)` counts what is resident at its start.
//! - `prefault(range)` makes a range resident in one call, or does nothing.
//! - `advise_huge(range, wanted)` says whether a range is to have huge pages; advice.
//! - `install_guard(range)` makes a range a guard that costs no map entry, where `installs_guards()` says that there
//!   are such; `advise_stacks()` and `resident_depth(range)` are for stacks.
//! - `thread_exit` runs a function when a thread ends.
//! - `page_size()` is the system's.
//! - `now_ms()` is a coarse monotonic clock that costs no system call.
//!
//! None of them allocates through the global allocator, unwinds, or changes `errno` for the program (each restores
//! it), and all may be called from any thread.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::*;

#[cfg(all(target_os = "linux", not(preload)))]
mod linux_stacks;
#[cfg(all(target_os = "linux", not(preload)))]
pub use linux_stacks::*;

pub mod thread_exit;

#[cfg(not(target_os = "linux"))]
compile_error!(
    "build.rs set cfg(native) for a platform without an OS layer: add src/os/<platform>.rs"
);
