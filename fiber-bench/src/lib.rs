//! The inside of fiber-bench: the benchmarks, and the runner that does one of them under one runtime.
//!
//! From the bottom up: [`catalog`] names benchmarks and runtimes and says which of them can't meet; [`params`] is what a
//! run is told and [`report`] what it answers; [`measure`] times rounds; [`memory`] reads what the kernel knows;
//! [`work`] is what tasks compute. The benchmarks are written three times: in [`blocking`] for everything that blocks
//! in place (Millpond, may, threads; each of these implements [`blocking::Blocking`] in [`runtimes`]), in
//! [`futures`] for tokio, and in `go/` for Go. [`fork_join`] has those that rayon can run. [`runner`] is the program.

pub mod blocking;
pub mod catalog;
pub mod fail;
pub mod fork_join;
pub mod futures;
pub mod measure;
pub mod memory;
pub mod params;
pub mod report;
pub mod rules;
pub mod runner;
pub mod runtimes;
pub mod work;
