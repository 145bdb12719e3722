//! How each runtime whose tasks block in place does what the benchmarks ask for.

pub mod may;
pub mod millpond;
pub mod threads;
