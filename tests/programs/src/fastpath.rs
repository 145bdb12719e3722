//! The loops whose instructions `tests/golden.rs` counts: `fastpath pair|lifo|fifo|random millpond|nothing SIZE ROUNDS`.

use millpond::Millpond;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let run = || {
        let [_, shape, what, size, rounds] = args.as_slice() else {
            return None;
        };
        let allocate = match what.as_str() {
            "millpond" => true,
            "nothing" => false,
            _ => return None,
        };
        millpond_test_loops::run(shape, allocate, size.parse().ok()?, rounds.parse().ok()?)
    };
    if run().is_none() {
        eprintln!("usage: fastpath pair|lifo|fifo|random millpond|nothing SIZE ROUNDS");
        std::process::exit(2);
    }
}
