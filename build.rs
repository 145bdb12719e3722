//! Decides once whether this target has an OS layer, so that no source file repeats the condition.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(native)");
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    // Miri interprets every access to memory and knows no `madvise`: it gets the pass-through.
    let miri = env::var_os("CARGO_CFG_MIRI").is_some();
    // Under loom only the concurrent algorithms are compiled, on loom's atomics.
    let loom = env::var_os("CARGO_CFG_LOOM").is_some();
    if os == "linux" && matches!(arch.as_str(), "x86_64" | "aarch64") && !miri && !loom {
        println!("cargo:rustc-cfg=native");
    }
}
