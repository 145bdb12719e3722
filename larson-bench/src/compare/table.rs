//! The tables that a person reads.

use bench_support::figures::{TIE, count, mark, new_table, styled};
use comfy_table::{Cell, CellAlignment, Table};
use larson_runner::report::Report;

use super::plan::label;
use super::summary::{Geomean, Summary};

/// Prints speed, memory and means.
pub fn print(summary: &[Summary], geomean: &[Geomean], runs: &[Report], rounds: usize) {
    if summary.is_empty() {
        return;
    }
    println!(
        "\nSpeed relative to the best (1.00 is the best, marked *; within {:.0}% of it is a tie, marked =)",
        TIE * 100.0
    );
    println!(
        "below it: median operations per second of {rounds} interleaved run(s), and how far the farthest run is off"
    );
    println!("{}", matrix(summary, geomean, speed_cell));
    println!(
        "\nPeak resident memory relative to the leanest (1.00, marked *), and the median peak"
    );
    println!("{}", matrix(summary, geomean, memory_cell));
    println!(
        "\nGeometric means over the rows (lower is better; 1.00 would be the best in every row)"
    );
    println!("{}", means(geomean));
    let seconds: f64 = runs.iter().map(|run| run.seconds).sum();
    println!(
        "{} runs, {seconds:.0} s measured, every one with its checks passed.",
        runs.len()
    );
}

/// Rows down, allocators across, each with its version.
fn matrix(summary: &[Summary], geomean: &[Geomean], cell: impl Fn(&Summary) -> Cell) -> Table {
    let mut table = new_table();
    let mut header = vec![Cell::new("workload")];
    header.extend(
        geomean
            .iter()
            .map(|mean| Cell::new(heading(&mean.allocator, &mean.version))),
    );
    table.set_header(header);
    let mut done: Vec<(&str, usize)> = Vec::new();
    for first in summary {
        let key = (first.workload.as_str(), first.threads);
        if done.contains(&key) {
            continue;
        }
        done.push(key);
        let mut cells = vec![Cell::new(label(key.0, key.1))];
        for mean in geomean {
            let here = |other: &&Summary| {
                (other.workload.as_str(), other.threads) == key && other.allocator == mean.allocator
            };
            cells.push(
                summary
                    .iter()
                    .find(here)
                    .map_or_else(|| Cell::new("failed"), &cell),
            );
        }
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn speed_cell(summary: &Summary) -> Cell {
    let relative = summary.relative_to_best;
    let mark = mark(relative >= 1.0, relative >= 1.0 - TIE);
    let spread = if summary.runs > 1 {
        format!(" ±{:.0}%", summary.spread() * 100.0)
    } else {
        String::new()
    };
    let text = format!(
        "{relative:.2}{mark}\n{}/s{spread}",
        count(summary.median_ops_per_sec)
    );
    styled(text, mark)
}

fn memory_cell(summary: &Summary) -> Cell {
    let relative = summary.memory_relative_to_least;
    let mark = mark(relative <= 1.0, relative <= 1.0 + TIE);
    styled(
        format!(
            "{relative:.2}{mark}\n{:.1} MB",
            summary.median_peak_rss_bytes as f64 / 1e6
        ),
        mark,
    )
}

fn means(geomean: &[Geomean]) -> Table {
    let mut table = new_table();
    table.set_header(["allocator", "version", "time", "peak memory", "rows"]);
    for mean in geomean {
        table.add_row([
            mean.allocator.clone(),
            mean.version.clone(),
            format!("{:.3}", mean.time_relative_to_best),
            format!("{:.3}", mean.memory_relative_to_least),
            mean.rows.to_string(),
        ]);
    }
    table
}

/// The version below the name, a word a line, since columns are many and lines long.
fn heading(allocator: &str, version: &str) -> String {
    let allocator = allocator.rsplit('/').next().unwrap_or(allocator);
    let version = version.rsplit('/').next().unwrap_or(version);
    format!("{allocator}\n{}", version.replace(' ', "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_carry_the_version() {
        assert_eq!(
            heading("mimalloc", "3.3.2 (libmimalloc-sys 0.1.49)"),
            "mimalloc\n3.3.2\n(libmimalloc-sys\n0.1.49)"
        );
    }
}
