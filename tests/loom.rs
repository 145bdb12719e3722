//! Runs the loom models of the allocator.

mod support;

#[test]
#[cfg_attr(miri, ignore = "Miri starts no processes")]
fn every_model_holds() {
    support::models::run("every_model_holds", "millpond", "loom", 38);
}
