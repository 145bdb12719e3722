//! `fiber-bench list`.

use bench_support::figures::new_table;
use fiber_bench::catalog::{BENCHMARKS, RUNTIMES};

/// Prints the benchmarks and the runtimes.
pub fn print() {
    let mut benchmarks = new_table();
    benchmarks.set_header(["benchmark", "what it does", "one operation", "--quick"]);
    for benchmark in &BENCHMARKS {
        let quick = if benchmark.quick { "yes" } else { "" };
        benchmarks.add_row([
            benchmark.name,
            benchmark.summary,
            benchmark.operation,
            quick,
        ]);
    }
    let mut runtimes = new_table();
    runtimes.set_header(["runtime", "what it is"]);
    for runtime in &RUNTIMES {
        runtimes.add_row([runtime.name, runtime.summary]);
    }
    runtimes.add_row([
        "NAME+millpond",
        "a Rust library under Millpond as allocator",
    ]);
    println!("{benchmarks}\n\n{runtimes}");
}
