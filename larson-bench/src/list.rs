//! `larson-bench list`.

use comfy_table::{ContentArrangement, Table, presets};

use crate::allocators::KNOWN;

/// Prints the workloads and the allocators.
pub fn print() {
    let mut workloads = plain_table(["workload", "what it does", "one operation"]);
    for workload in larson_runner::workloads::all() {
        let about = workload.about();
        workloads.add_row([about.name, about.summary, about.operation]);
    }
    workloads.add_row([
        "pairs-ORDER-SIZE",
        "one thread allocates blocks of one size and frees them: at-once, or 1,000 in lifo, fifo or random order; \
         16, 64, 256, 1024, 8192 or 32768 bytes",
        "one block allocated and freed",
    ]);
    let mut allocators = plain_table(["allocator", "what it is", "compared"]);
    for known in &KNOWN {
        let when = if known.by_default {
            "always"
        } else {
            "with --all"
        };
        allocators.add_row([known.name, known.summary, when]);
    }
    allocators.add_row([
        "preload:FILE",
        "the system runner under a shared library",
        "when named",
    ]);
    println!("{workloads}\n\n{allocators}");
}

fn plain_table(header: [&str; 3]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table
}
