//! Decides once whether this target has an OS layer, so that no source file repeats the condition.

use std::env;

fn main() {
    let preload = env::var_os("CARGO_PKG_NAME").is_some_and(|name| name == "millpond-preload");
    println!(
        "cargo:rerun-if-changed={}",
        if preload { "../build.rs" } else { "build.rs" }
    );
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
    if os == "linux" && matches!(arch.as_str(), "x86_64" | "aarch64") && !miri && !loom {
        println!("cargo:rustc-cfg=native");
        // The C and C++ entry points, and the thread-local slot that a shared library needs.
        if preload {
            println!("cargo:rustc-cfg=preload");
            println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmillpond.so");
            // Blocks outlive a dlclose.
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
    }
}
