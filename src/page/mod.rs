//! Pages: one or more slices that hold blocks of one size class, described out of line.

#[cfg(native)]
pub mod descriptor;
pub mod in_flight;
#[cfg(all(test, loom))]
pub mod model;
#[cfg(native)]
pub mod queue;
pub mod shared_line;
