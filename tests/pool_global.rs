//! The tests of `pool.rs` in a program whose allocator is Millpond.

use millpond::Millpond;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

#[path = "pool.rs"]
mod pool;
