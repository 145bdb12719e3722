//! The allocators that larson-bench knows, and how a run under each is started.

use std::path::PathBuf;

/// One allocator with a runner of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    /// Name on the command line and in reports.
    pub name: &'static str,
    /// Feature of the runner crate; `None` for the system's allocator.
    pub feature: Option<&'static str>,
    /// Whether `compare` includes it without `--all`.
    pub by_default: bool,
    /// What it is.
    pub summary: &'static str,
}

/// All of them, in the order in which tables show them.
pub const KNOWN: [Known; 9] = [
    Known::new(
        "millpond",
        Some("millpond"),
        true,
        "this project's allocator",
    ),
    Known::new("system", None, true, "the C library's malloc"),
    Known::new(
        "mimalloc",
        Some("mimalloc"),
        true,
        "mimalloc, version 3 (crate mimalloc)",
    ),
    Known::new(
        "jemalloc",
        Some("jemalloc"),
        true,
        "jemalloc (crate tikv-jemallocator)",
    ),
    Known::new(
        "snmalloc",
        Some("snmalloc"),
        true,
        "snmalloc (crate snmalloc-rs)",
    ),
    Known::new(
        "mimalloc2",
        Some("mimalloc2"),
        false,
        "mimalloc, version 2 (crate mimalloc, feature v2)",
    ),
    Known::new(
        "tcmalloc",
        Some("tcmalloc"),
        false,
        "Google's tcmalloc (crate tcmalloc-better)",
    ),
    Known::new(
        "rpmalloc",
        Some("rpmalloc"),
        false,
        "rpmalloc (crate rpmalloc)",
    ),
    Known::new(
        "rusty_alloc",
        Some("rusty_alloc"),
        false,
        "a Rust remake of mimalloc 2 (crate rusty_alloc-api)",
    ),
];

impl Known {
    const fn new(
        name: &'static str,
        feature: Option<&'static str>,
        by_default: bool,
        summary: &'static str,
    ) -> Self {
        Self {
            name,
            feature,
            by_default,
            summary,
        }
    }
}

/// An allocator as chosen on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One with a runner of its own.
    Known(&'static Known),
    /// The system runner under a preloaded library.
    Preload(PathBuf),
}

impl Choice {
    /// Understands a name or `preload:FILE`.
    ///
    /// # Errors
    /// One sentence when there is no such allocator or file.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(file) = text.strip_prefix("preload:") {
            if !cfg!(target_os = "linux") {
                return Err("preload: works on Linux only.".to_owned());
            }
            let path = std::fs::canonicalize(file)
                .map_err(|error| format!("The library {file:?} can't be preloaded: {error}."))?;
            return if path.is_file() {
                Ok(Self::Preload(path))
            } else {
                Err(format!(
                    "The library {file:?} can't be preloaded: it is not a file."
                ))
            };
        }
        KNOWN
            .iter()
            .find(|known| known.name == text)
            .map(Self::Known)
            .ok_or_else(|| {
                format!("There is no allocator {text:?}; larson-bench list names them all.")
            })
    }

    /// Name in reports and tables.
    pub fn name(&self) -> String {
        match self {
            Self::Known(known) => known.name.to_owned(),
            Self::Preload(path) => format!("preload:{}", path.display()),
        }
    }

    /// The allocator whose runner is started.
    pub fn runner(&self) -> &'static Known {
        match self {
            Self::Known(known) => known,
            Self::Preload(_) => &KNOWN[1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_others_refused() {
        assert_eq!(Choice::parse("jemalloc").unwrap().name(), "jemalloc");
        assert!(Choice::parse("jemaloc").unwrap_err().contains("jemaloc"));
        assert!(
            Choice::parse("preload:/no/such/library.so")
                .unwrap_err()
                .contains("can't be preloaded")
        );
    }

    #[test]
    fn a_preloaded_library_runs_under_the_system_runner() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let choice = Choice::parse(&format!("preload:{}", file.path().display())).unwrap();
        assert_eq!(choice.runner().name, "system");
    }
}
