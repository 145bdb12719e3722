//! No address of thread-local storage lives across a switch, in a program that is optimised as a whole: fat link-time
//! optimisation, one codegen unit. The broken variant of the same program fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("moving");
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--package",
            "millpond-fiber-test-programs",
        ])
        .args(["--bin", "moving", "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        // Whatever flags the tests were built with.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap();
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    target.join("release/moving")
}

fn text(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(error)
}

#[test]
fn fibers_that_move() {
    let program = build();
    let sound = Command::new(&program).output().unwrap();
    println!("{}", text(&sound));
    assert!(sound.status.success(), "{}", text(&sound));
    let broken = Command::new(&program).arg("broken").output().unwrap();
    println!("{}", text(&broken));
    assert!(
        !broken.status.success(),
        "the broken variant is not caught: {}",
        text(&broken)
    );
    assert!(
        !text(&broken).contains(" 0 stale looks"),
        "{}",
        text(&broken)
    );
}
