//! Where a benchmark program finds its runners.

use std::env;
use std::path::{Path, PathBuf};

/// The folder that this program lies in.
///
/// # Errors
/// A sentence when the system doesn't say.
pub fn own_folder() -> Result<PathBuf, String> {
    let own =
        env::current_exe().map_err(|error| format!("this program can't be found: {error}"))?;
    own.parent()
        .map(Path::to_owned)
        .ok_or_else(|| "this program lies in no folder".to_owned())
}

/// The workspace that a package (its `CARGO_MANIFEST_DIR`) was built from, or the one around the current folder: the
/// first with a file of this name in it.
pub fn workspace(package: &str, file: &str) -> Option<PathBuf> {
    let built_from = Path::new(package).parent().map(Path::to_owned);
    let around = env::current_dir().ok();
    let around = around
        .iter()
        .flat_map(|folder| folder.ancestors())
        .map(Path::to_owned);
    built_from
        .into_iter()
        .chain(around)
        .find(|folder| folder.join(file).is_file())
}
