//! Programs in C and C++ that check what the standards promise of malloc and operator new, under the C library's own
//! allocator (is the test right?) and under Millpond.

mod support;

use std::path::PathBuf;
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

/// Builds the library for another target with its linker; the folder with what was built.
fn built_for(target: &str, linker: &str) -> PathBuf {
    let into = support::folder().join("library");
    let package = ["build", "--release", "-p", "millpond-preload"];
    let linker = format!("target.{target}.linker='{linker}'");
    let other = ["--target", target, "--config", &linker];
    support::cargo(&[&package[..], &other].concat(), &into);
    into.join(target).join("release")
}

/// A wholly static program with musl. CI runs this where rustup has the target.
#[test]
#[ignore = "needs the target x86_64-unknown-linux-musl and musl-gcc"]
fn musl_static() {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    let archive = built_for(TARGET, "musl-gcc").join("libmillpond.a");
    // The C compiler's own unwinder is glibc's; Rust brings one for musl.
    let sysroot = succeed(Command::new("rustc").args(["--print", "sysroot"]));
    let sysroot = String::from_utf8(sysroot.stdout).unwrap();
    let unwinder = format!(
        "{}/lib/rustlib/{TARGET}/lib/self-contained/libunwind.a",
        sysroot.trim()
    );
    let flags = ["-static", archive.to_str().unwrap(), &unwinder];
    let program = compile("conformance_static.c", "musl-gcc", &flags);
    succeed(&mut Command::new(&program));
}

/// What qemu's user mode can't do, whatever the allocator is: it leaves these tests out by name.
const NOT_UNDER_QEMU: [&str; 2] = [
    // Its own locks and translated code are in an unknown state in the child of a process with running threads.
    "-fork_with_threads",
    // It doesn't pass limits of the address space on to the system, since they would be its own.
    "-limited_memory",
];

/// The library for AArch64, preloaded into programs for AArch64 that run under qemu. CI runs this where rustup has the
/// target.
#[test]
#[ignore = "needs the target aarch64-unknown-linux-gnu, qemu-aarch64, aarch64-linux-gnu-gcc and -g++"]
fn aarch64_under_qemu() {
    const TARGET: &str = "aarch64-unknown-linux-gnu";
    let folder = built_for(TARGET, "aarch64-linux-gnu-gcc");
    let preload = format!("LD_PRELOAD={}", folder.join("libmillpond.so").display());
    let archive = folder.join("libmillpond.a");
    let linked = [archive.to_str().unwrap(), "-ldl", "-lm"];
    let c = compile("conformance.c", "aarch64-linux-gnu-gcc", &[]);
    let cpp = compile("conformance.cpp", "aarch64-linux-gnu-g++", &["-std=c++17"]);
    let linked = compile("conformance_static.c", "aarch64-linux-gnu-gcc", &linked);
    let qemu = || {
        let mut qemu = Command::new("qemu-aarch64");
        qemu.args(["-L", "/usr/aarch64-linux-gnu"]);
        qemu
    };
    succeed(qemu().arg(&c).args(NOT_UNDER_QEMU));
    succeed(qemu().args(["-E", &preload]).arg(&c).args(NOT_UNDER_QEMU));
    succeed(qemu().arg(&cpp));
    succeed(qemu().args(["-E", &preload]).arg(&cpp));
    succeed(qemu().arg(&linked).args(NOT_UNDER_QEMU));
}
