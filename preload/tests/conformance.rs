//! Programs in C and C++ that check what the standards promise of malloc and operator new, under the C library's own
//! allocator (is the test right?) and under Millpond.

mod support;

use std::process::Command;
use support::{compile, preloaded, skip, succeed, there_is};

#[test]
fn c() {
    if !there_is("cc") {
        return skip("c", "there is no C compiler");
    }
    let program = compile("conformance.c", "cc", &[]);
    succeed(&mut Command::new(&program));
    succeed(&mut preloaded(&program));
}

#[test]
fn cpp() {
    if !there_is("c++") {
        return skip("cpp", "there is no C++ compiler");
    }
    let program = compile("conformance.cpp", "c++", &["-std=c++17"]);
    succeed(&mut Command::new(&program));
    succeed(&mut preloaded(&program));
}

/// The same with the static library linked in, nothing preloaded.
#[test]
fn c_with_the_static_library() {
    if !there_is("cc") {
        return skip("c_with_the_static_library", "there is no C compiler");
    }
    let archive = support::archive();
    let program = compile(
        "conformance_static.c",
        "cc",
        &[archive.to_str().unwrap(), "-ldl", "-lm"],
    );
    succeed(&mut Command::new(&program));
}

/// A wholly static program with musl. CI runs this where rustup has the target.
#[test]
#[ignore = "needs the target x86_64-unknown-linux-musl and musl-gcc"]
fn c_in_a_static_musl_program() {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    let target = support::folder().join("library");
    support::cargo(
        &[
            "build",
            "--release",
            "-p",
            "millpond-preload",
            "--target",
            TARGET,
        ],
        &target,
    );
    let archive = target.join(TARGET).join("release/libmillpond.a");
    // The C compiler's own unwinder is glibc's; Rust brings one for musl.
    let sysroot = succeed(Command::new("rustc").args(["--print", "sysroot"]));
    let sysroot = String::from_utf8(sysroot.stdout).unwrap();
    let unwinder = format!(
        "{}/lib/rustlib/{TARGET}/lib/self-contained/libunwind.a",
        sysroot.trim()
    );
    let program = compile(
        "conformance_static.c",
        "musl-gcc",
        &["-static", archive.to_str().unwrap(), &unwinder],
    );
    succeed(&mut Command::new(&program));
}
