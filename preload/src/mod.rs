//! The C and C++ entry points: what `libmillpond.so` exports, and nothing else.
//!
//! - `malloc.rs`: malloc, free and their kin, with the fast paths
//! - `cxx.rs`: operator new and delete
//! - `inspect.rs`: glibc's functions that tune and tell
//! - `mp.rs`: the functions of `include/millpond.h`
//! - `startup.rs`: what happens when the library is loaded and when the process ends
//! - `report.rs`: options and statistics as text
//! - `last_resort.rs`: what a panic ends in
//! - `loader.rs`: blocks that the dynamic loader handed out before this library was there
//!
//! Exports are thin and call functions of other names: LLVM knows what `malloc` and `calloc` do, and would turn a
//! `calloc` of our own, made of an allocation and a memset, into a call to itself. They are `extern "C-unwind"` although
//! nothing unwinds: at the border of plain `extern "C"` the compiler would put a guard against it, and a frame and a call
//! where a jump would do.

pub mod cxx;
pub mod inspect;
pub mod last_resort;
pub mod loader;
pub mod malloc;
pub mod mp;
pub mod report;
pub mod startup;
