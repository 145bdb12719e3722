//! The tables that a person reads.

use bench_support::figures::{TIE, geometric_mean, mark, median, new_table, styled};
use comfy_table::{Cell, CellAlignment, Table};
use fiber_bench::report::Report;

use super::CannotRun;
use super::summary::{Summary, of};
use crate::single::nanoseconds;

/// Prints speeds, means, and what speed doesn't say.
pub fn print(summary: &[Summary], runs: &[Report], cannot_run: &[CannotRun], rounds: usize) {
    if !summary.is_empty() {
        let runtimes = runtimes(runs);
        println!(
            "\nSpeed relative to the best (1.00 is the best, marked *; within {:.0}% of it is a tie, marked =)",
            TIE * 100.0
        );
        println!(
            "below it: median time per operation of {rounds} interleaved run(s), how far the farthest run is off,"
        );
        println!("and busy cores, peak resident memory");
        println!("{}", speeds(summary, &runtimes, cannot_run));
        println!(
            "\nGeometric means of the time relative to the best, over the rows that the runtime can run"
        );
        println!("{}", means(summary, &runtimes));
        if let Some(table) = other_figures(runs, &runtimes) {
            println!("\nWhat speed doesn't say (medians)");
            println!("{table}");
        }
    }
    reasons(cannot_run);
    let seconds: f64 = runs.iter().map(|run| run.seconds).sum();
    println!(
        "\n{} runs, {seconds:.0} s measured, every one with its checks passed.",
        runs.len()
    );
}

/// Those that ran, with their versions, in the order of the catalog as the plan kept it.
fn runtimes(runs: &[Report]) -> Vec<(&str, &str)> {
    let mut all: Vec<(&str, &str)> = Vec::new();
    for run in runs {
        if all.iter().all(|(name, _)| *name != run.runtime) {
            all.push((&run.runtime, &run.version));
        }
    }
    all
}

fn benchmarks(summary: &[Summary]) -> Vec<&str> {
    let mut all: Vec<&str> = summary.iter().map(|row| row.benchmark.as_str()).collect();
    all.dedup();
    all
}

fn best(summary: &[Summary], benchmark: &str) -> f64 {
    let row = summary.iter().filter(|other| other.benchmark == benchmark);
    row.map(|other| other.median_ops_per_sec)
        .fold(f64::MIN_POSITIVE, f64::max)
}

/// Whether a benchmark's operations per second are what it is about.
fn is_about_speed(benchmark: &str) -> bool {
    !benchmark.starts_with("idle_") && !["hog_and_ticker", "deep_then_idle"].contains(&benchmark)
}

fn speeds(summary: &[Summary], runtimes: &[(&str, &str)], cannot_run: &[CannotRun]) -> Table {
    let mut table = with_header("benchmark", runtimes);
    for benchmark in benchmarks(summary) {
        if !is_about_speed(benchmark) {
            continue;
        }
        let best = best(summary, benchmark);
        let mut cells = vec![Cell::new(benchmark)];
        for (runtime, _) in runtimes {
            let here = |row: &&Summary| row.benchmark == benchmark && row.runtime == *runtime;
            let cannot = cannot_run
                .iter()
                .any(|cell| cell.benchmark == benchmark && cell.runtime == *runtime);
            cells.push(match summary.iter().find(here) {
                Some(row) => speed_cell(row, best),
                None if cannot => Cell::new("cannot run"),
                None => Cell::new("failed"),
            });
        }
        table.add_row(cells);
    }
    aligned(table)
}

fn speed_cell(summary: &Summary, best: f64) -> Cell {
    let relative = summary.median_ops_per_sec / best;
    let mark = mark(relative >= 1.0, relative >= 1.0 - TIE);
    let text = format!(
        "{relative:.2}{mark}\n{} ±{:.0}%\n{:.1} cores {} MB",
        nanoseconds(1e9 / summary.median_ops_per_sec),
        summary.spread() * 100.0,
        summary.cores,
        summary.median_peak_rss_bytes / 1_000_000
    );
    styled(text, mark)
}

fn means(summary: &[Summary], runtimes: &[(&str, &str)]) -> Table {
    let mut table = new_table();
    table.set_header(["runtime", "version", "time", "rows"]);
    for (runtime, version) in runtimes {
        let own = summary
            .iter()
            .filter(|row| row.runtime == *runtime && is_about_speed(&row.benchmark));
        let times: Vec<f64> = own
            .map(|row| best(summary, &row.benchmark) / row.median_ops_per_sec)
            .collect();
        if !times.is_empty() {
            let rows = times.len().to_string();
            let mean = format!("{:.2}", geometric_mean(times.into_iter()));
            table.add_row([(*runtime).to_owned(), (*version).to_owned(), mean, rows]);
        }
    }
    table
}

/// A figure of a benchmark that isn't its speed: its name, and how to read and show it.
struct Figure {
    benchmark: &'static str,
    what: &'static str,
    read: fn(&Report) -> Option<f64>,
    show: fn(f64) -> String,
}

fn bytes(value: f64) -> String {
    match value {
        few if few < 1e6 => format!("{few:.0} B"),
        many => format!("{:.1} MB", many / 1e6),
    }
}

const FIGURES: [Figure; 16] = [
    Figure {
        benchmark: "ping_pong_local",
        what: "median round trip",
        read: |run| Some(run.p50_ns),
        show: nanoseconds,
    },
    Figure {
        benchmark: "ping_pong_local",
        what: "99th percentile",
        read: |run| Some(run.p99_ns),
        show: nanoseconds,
    },
    Figure {
        benchmark: "ping_pong_cross",
        what: "median round trip",
        read: |run| Some(run.p50_ns),
        show: nanoseconds,
    },
    Figure {
        benchmark: "blocking_pressure",
        what: "all complete after",
        read: |run| Some(run.seconds * 1e9),
        show: nanoseconds,
    },
    Figure {
        benchmark: "parked_20000",
        what: "memory with all parked",
        read: |run| extra(run, "rss_bytes_parked"),
        show: bytes,
    },
    Figure {
        benchmark: "idle_memory_10k",
        what: "memory per task",
        read: per_task,
        show: bytes,
    },
    Figure {
        benchmark: "idle_memory_100k",
        what: "memory per task",
        read: per_task,
        show: bytes,
    },
    Figure {
        benchmark: "idle_memory_1m",
        what: "memory per task",
        read: per_task,
        show: bytes,
    },
    Figure {
        benchmark: "idle_memory_1m",
        what: "page tables",
        read: |run| extra(run, "page_table_bytes"),
        show: bytes,
    },
    Figure {
        benchmark: "deep_then_idle",
        what: "memory per task",
        read: per_task,
        show: bytes,
    },
    Figure {
        benchmark: "deep_then_idle",
        what: "memory when all have ended",
        read: |run| extra(run, "rss_bytes_after_all_ended"),
        show: bytes,
    },
    Figure {
        benchmark: "hog_and_ticker",
        what: "median lateness",
        read: |run| Some(run.p50_ns),
        show: nanoseconds,
    },
    Figure {
        benchmark: "hog_and_ticker",
        what: "99th percentile",
        read: |run| Some(run.p99_ns),
        show: nanoseconds,
    },
    Figure {
        benchmark: "idle_cpu",
        what: "processor while idle",
        read: |run| extra(run, "idle_cpu_percent"),
        show: |percent| format!("{percent:.2}%"),
    },
    Figure {
        benchmark: "idle_cpu",
        what: "context switches while idle",
        read: |run| extra(run, "idle_context_switches"),
        show: |number| format!("{number:.0}"),
    },
    Figure {
        benchmark: "task_pool_cross",
        what: "memory at the end",
        read: |run| extra(run, "rss_bytes_end"),
        show: bytes,
    },
];

fn extra(run: &Report, name: &str) -> Option<f64> {
    run.extra.get(name)?.as_f64()
}

fn per_task(run: &Report) -> Option<f64> {
    extra(run, "rss_bytes_per_task")
}

fn other_figures(runs: &[Report], runtimes: &[(&str, &str)]) -> Option<Table> {
    let mut table = with_header("benchmark", runtimes);
    for figure in &FIGURES {
        let mut cells = vec![Cell::new(format!("{}:\n{}", figure.benchmark, figure.what))];
        let mut found = false;
        for (runtime, _) in runtimes {
            let mut values: Vec<f64> = of(runs, figure.benchmark, runtime)
                .filter_map(figure.read)
                .collect();
            found |= !values.is_empty();
            cells.push(match values.is_empty() {
                true => Cell::new("-"),
                false => Cell::new((figure.show)(median(&mut values))),
            });
        }
        if found {
            table.add_row(cells);
        }
    }
    (table.row_count() > 0).then(|| aligned(table))
}

/// Why cells are empty: one line for a runtime and a reason.
fn reasons(cannot_run: &[CannotRun]) {
    let mut lines: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for cell in cannot_run {
        let same = |line: &&mut (&str, &str, Vec<&str>)| {
            (line.0, line.1) == (&*cell.runtime, &*cell.reason)
        };
        match lines.iter_mut().find(same) {
            Some(line) => line.2.push(&cell.benchmark),
            None => lines.push((&cell.runtime, &cell.reason, vec![&cell.benchmark])),
        }
    }
    for (runtime, reason, benchmarks) in lines {
        println!("{runtime} cannot run {}: {reason}.", benchmarks.join(", "));
    }
}

/// Versions below the names.
fn with_header(first: &str, runtimes: &[(&str, &str)]) -> Table {
    let mut table = new_table();
    let mut header = vec![first.to_owned()];
    header.extend(
        runtimes
            .iter()
            .map(|(name, version)| format!("{}\n{version}", name.replace('+', "\n+"))),
    );
    table.set_header(header);
    table
}

fn aligned(mut table: Table) -> Table {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units() {
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(2_500_000.0), "2.5 MB");
        assert_eq!(nanoseconds(123.45), "123.5 ns");
        assert_eq!(nanoseconds(12_345.0), "12.3 us");
        assert_eq!(nanoseconds(12_345_678.0), "12.35 ms");
    }

    #[test]
    fn what_is_not_about_speed_is_left_to_the_other_table() {
        assert!(is_about_speed("skynet") && !is_about_speed("idle_memory_10k"));
        let known = |name: &str| fiber_bench::catalog::benchmark(name).is_ok();
        assert!(FIGURES.iter().all(|figure| known(figure.benchmark)));
    }
}
