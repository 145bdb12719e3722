//! Millpond (skeleton).
use std::alloc::{GlobalAlloc, Layout, System};

mod stats;
pub use stats::{Stats, stats};

/// The allocator; set it as `#[global_allocator]`.
pub struct Millpond;

// SAFETY: passes everything through to the system allocator.
unsafe impl GlobalAlloc for Millpond {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Gives unused memory back to the system; see the crate documentation.
pub fn collect(_force: bool) {}

/// Sets an option by name.
///
/// # Errors
/// When the name is unknown or the value malformed.
pub fn set_option(_name: &str, _value: &str) -> Result<(), OptionError> {
    Ok(())
}

/// Why an option could not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionError {
    /// No option has this name.
    Unknown,
}
impl std::fmt::Display for OptionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unknown option")
    }
}
impl std::error::Error for OptionError {}
