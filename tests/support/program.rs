//! The programs and libraries of `tests/programs`, built by the tests that use them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a binary, or the library `second_copy`, in a target directory of its own: the one in use is locked by the
/// cargo that runs this test. The path of what was built.
pub fn build(name: &str, profile: &str) -> PathBuf {
    build_in("programs", name, profile, &[])
}

/// Builds a binary optimised as a whole, all crates in one unit.
pub fn build_fat(name: &str) -> PathBuf {
    let fat = [
        ("CARGO_PROFILE_RELEASE_LTO", "fat"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ];
    build_in("programs-fat", name, "release", &fat)
}

fn build_in(folder: &str, name: &str, profile: &str, settings: &[(&str, &str)]) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let library = name == "second_copy";
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([
            "build",
            "--package",
            "millpond-test-programs",
            "--target-dir",
        ])
        .arg(&target);
    match library {
        true => cargo.arg("--lib"),
        false => cargo.args(["--bin", name]),
    };
    if profile == "release" {
        cargo.arg("--release");
    }
    let built = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // Whatever flags the tests were built with.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let folder = target.join(profile);
    if library {
        folder.join("libsecond_copy.so")
    } else {
        folder.join(name)
    }
}
