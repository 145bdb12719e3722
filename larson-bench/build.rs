//! Remembers for which target this program is built, so that it builds its runners for the same one.

fn main() {
    for name in ["TARGET", "HOST"] {
        let value = std::env::var(name).expect("cargo sets it");
        println!("cargo::rustc-env=LARSON_BENCH_{name}={value}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
