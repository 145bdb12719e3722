//! Pages: one or more slices that hold blocks of one size class, described out of line.

#[cfg(native)]
pub mod descriptor;
#[cfg(native)]
pub mod holes;
pub mod in_flight;
#[cfg(all(test, loom))]
pub mod model;
pub mod put_back;
#[cfg(native)]
pub mod queue;
pub mod shared_line;
