//! The inside of larson-bench: the workloads, and the program that runs one of them.
//!
//! One runner binary exists per allocator, so that each is measured as the real `#[global_allocator]` of a real
//! program; the binary adds nothing but that choice ([`Hooks`]). larson-bench links this library too, for the list
//! of workloads, their options and the report's form.
//!
//! From the bottom up: [`block`] is one checked allocation, [`handover`] passes batches of them between threads,
//! [`harness`] times threads, [`process`] reads what the kernel counted, [`workloads`] holds one file per workload,
//! [`command`] is the runner's command line and [`report`] its output.

pub mod block;
pub mod command;
pub mod fail;
pub mod handover;
pub mod harness;
pub mod options;
pub mod process;
pub mod report;
pub mod system;
pub mod workloads;

pub use command::{Hooks, run_from_command_line};
