//! A runtime with the allocator behind it.

use fiber_bench::catalog::{self, RUNTIMES, Runtime};

use crate::Failure;
use crate::cli::Allocator;

/// A runtime with the allocator behind it.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    pub runtime: &'static Runtime,
    /// Whether a Rust library gets its memory from Millpond.
    pub on_millpond: bool,
}

impl Contender {
    /// From a name: `tokio`, or `tokio+millpond`.
    pub fn parse(name: &str, allocator: Option<Allocator>) -> Result<Self, Failure> {
        let (base, on_millpond) = match name.strip_suffix("+millpond") {
            Some(base) => (base, true),
            None => (name, allocator == Some(Allocator::Millpond)),
        };
        let runtime = catalog::runtime(base).map_err(Failure::Usage)?;
        if !runtime.is_rust_peer
            && (name.ends_with("+millpond") || (allocator.is_some() && !runtime.is_millpond()))
        {
            return Err(Failure::Usage(format!(
                "{base} can't run under another allocator."
            )));
        }
        if runtime.is_millpond() && allocator == Some(Allocator::System) {
            return Err(Failure::Usage(
                "millpond's tasks and stacks always come from Millpond.".to_owned(),
            ));
        }
        Ok(Self {
            runtime,
            on_millpond: on_millpond && runtime.is_rust_peer,
        })
    }

    /// All of them, each Rust library under both allocators, or the one that is asked for.
    pub fn all(allocator: Option<Allocator>) -> Vec<Self> {
        let mut contenders = Vec::new();
        for runtime in &RUNTIMES {
            if !runtime.is_rust_peer {
                contenders.push(Self {
                    runtime,
                    on_millpond: false,
                });
                continue;
            }
            if allocator != Some(Allocator::Millpond) {
                contenders.push(Self {
                    runtime,
                    on_millpond: false,
                });
            }
            if allocator != Some(Allocator::System) {
                contenders.push(Self {
                    runtime,
                    on_millpond: true,
                });
            }
        }
        contenders
    }

    /// As reports name it.
    pub fn name(&self) -> String {
        if self.on_millpond {
            format!("{}+millpond", self.runtime.name)
        } else {
            self.runtime.name.to_owned()
        }
    }

    /// Whether it is a Go program.
    pub fn is_go(&self) -> bool {
        self.runtime.name.starts_with("go")
    }
}
