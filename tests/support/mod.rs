//! What the integration tests share: threads and blocks whose every step is the test's own, child processes that run
//! one scenario, and measures of the process.

// Each test binary uses a part of this.
#![allow(dead_code)]

pub mod all_cores;
pub mod block;
pub mod callgrind;
pub mod child;
pub mod harness;
pub mod marked;
pub mod models;
pub mod process;
pub mod program;
pub mod settled;
mod skip;
pub mod thread;

// Not every test binary skips.
#[allow(unused_imports)]
pub use skip::skip;
