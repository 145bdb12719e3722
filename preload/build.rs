//! What is special about the preload library: its entry points, and how `libmillpond.so` is linked.

#[path = "../build.rs"]
#[allow(dead_code)]
mod conditions;

use std::process::Command;
use std::{env, fs};

/// What std refers to of an unwinder. All of it: GNU ld decides before it drops unused code whether it needs a library.
const UNWINDER: [&str; 14] = [
    "Backtrace",
    "DeleteException",
    "FindEnclosingFunction",
    "GetCFA",
    "GetDataRelBase",
    "GetIP",
    "GetIPInfo",
    "GetLanguageSpecificData",
    "GetRegionStart",
    "GetTextRelBase",
    "RaiseException",
    "Resume",
    "SetGR",
    "SetIP",
];

/// The functions of std that a panic and a failed allocation of its own end in, and what stands in for them
/// (`src/last_resort.rs`). Their mangled names hold a hash of the compiler's version.
const ENDS: [(&str, &str); 2] = [
    ("rust_begin_unwind", "millpond_panicked"),
    ("__rust_alloc_error_handler", "millpond_out_of_memory"),
];

fn main() {
    println!("cargo:rerun-if-changed=../build.rs");
    if !conditions::decide() {
        return;
    }
    // The C and C++ entry points, and the thread-local slot that a shared library needs.
    println!("cargo:rustc-cfg=preload");
    link("-soname,libmillpond.so");
    // Blocks outlive a dlclose.
    link("-z,nodelete");
    // Debug builds keep std's reports with their backtraces.
    if env::var("PROFILE").as_deref() == Ok("release") {
        without_panics();
    }
}

fn link(option: &str) {
    println!("cargo:rustc-cdylib-link-arg=-Wl,{option}");
}

/// Has panics end in a line of ours, so that the linker drops std's printing of backtraces, three quarters of the
/// library, and libgcc_s with it: what is mapped is paid for by every process. Best effort: where the names aren't found,
/// the library works and is larger. Not for the archive, which is linked into programs that do unwind.
fn without_panics() {
    let std = standard_library().unwrap_or_default();
    let ends: Vec<_> = ENDS
        .iter()
        .filter_map(|(end, ours)| Some((mangled(&std, end)?, ours)))
        .collect();
    if ends.len() < ENDS.len() {
        println!("cargo:warning=std's panic handler isn't found: libmillpond.so will be larger");
        return;
    }
    for (end, ours) in ends {
        link(&format!("--undefined={ours}"));
        link(&format!("--defsym={end}={ours}"));
    }
    for name in UNWINDER {
        replace(&format!("_Unwind_{name}"), "millpond_unwound");
    }
    // Only without std's code, which may ask for more than ours answers.
    replace("sysconf", "millpond_sysconf");
}

/// Has calls of another library's function go to one of ours.
fn replace(name: &str, ours: &str) {
    link(&format!("--undefined={ours}"));
    link(&format!("--wrap={name}"));
    link(&format!("--defsym=__wrap_{name}={ours}"));
}

/// The bytes of the target's `libstd-*.rlib`.
fn standard_library() -> Option<Vec<u8>> {
    let output = Command::new(env::var_os("RUSTC")?)
        .args(["--print", "target-libdir", "--target"])
        .arg(env::var_os("TARGET")?)
        .output()
        .ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    let library = fs::read_dir(folder.trim()).ok()?.flatten().find(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })?;
    fs::read(library.path()).ok()
}

/// The whole symbol of a function that the compiler and std share: `_RNvC`, the hash, `7___rustc`, length and name.
fn mangled(library: &[u8], name: &str) -> Option<String> {
    // A name that starts with an underscore has another before it.
    let gap = if name.starts_with('_') { "_" } else { "" };
    let tail = format!("7___rustc{}{gap}{name}", name.len());
    let at = find(library, tail.as_bytes())?;
    let start = library[..at]
        .iter()
        .rposition(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')?
        + 1;
    let front = std::str::from_utf8(&library[start..at]).ok()?;
    // Names may follow each other without a gap in the table of symbols.
    let front = &front[front.rfind("_RNvC")?..];
    Some(format!("{front}{tail}"))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
