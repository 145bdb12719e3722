//! Decides once whether this target has an OS layer, so that no source file repeats the condition.

use std::env;

fn main() {
    decide();
}

/// Sets the conditions that the sources ask for; whether there is an OS layer. The preload library, the same sources once
/// more, calls this from a build script of its own.
pub fn decide() -> bool {
    println!("cargo:rerun-if-changed=build.rs");
    // The preload library is the same sources without the feature.
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"migrating-fibers\"))");
    println!("cargo:rustc-check-cfg=cfg(native)");
    println!("cargo:rustc-check-cfg=cfg(preload)");
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    // Miri interprets every access to memory and knows no `madvise`: it gets the pass-through.
    let miri = env::var_os("CARGO_CFG_MIRI").is_some();
    // Under loom only the concurrent algorithms are compiled, on loom's atomics.
    let loom = env::var_os("CARGO_CFG_LOOM").is_some();
    let native = os == "linux" && matches!(arch.as_str(), "x86_64" | "aarch64") && !miri && !loom;
    if native {
        println!("cargo:rustc-cfg=native");
    }
    native
}
