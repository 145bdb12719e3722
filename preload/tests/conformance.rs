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
