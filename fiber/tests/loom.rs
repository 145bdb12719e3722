//! Runs the loom models of the runtime. (By a cfg of its own: `--cfg loom` would also build the allocator for its models.)

#[path = "../../tests/support/all_cores.rs"]
mod all_cores;
#[path = "../../tests/support/models.rs"]
mod models;
#[path = "../../tests/support/skip.rs"]
mod skipping;

use skipping::skip;

#[test]
fn every_model_holds() {
    models::run("every_model_holds", "millpond-fiber", "fiber_loom", 30);
}
