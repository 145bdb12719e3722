//! Medians, ratios and geometric means.

use bench_support::figures::{geometric_mean, median};
use larson_runner::report::Report;
use serde::Serialize;

/// One allocator's runs of one row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub workload: String,
    pub threads: usize,
    pub allocator: String,
    pub version: String,
    pub runs: usize,
    pub median_ops_per_sec: f64,
    /// Lowest operations per second of all runs.
    pub min: f64,
    /// Highest operations per second of all runs.
    pub max: f64,
    pub median_peak_rss_bytes: u64,
    /// Median operations per second divided by the best allocator's: 1 for the best, less for the others.
    pub relative_to_best: f64,
    /// Median peak memory divided by the leanest allocator's: 1 for the leanest, more for the others.
    pub memory_relative_to_least: f64,
}

impl Summary {
    /// The farthest run from the median, as a share of it.
    pub fn spread(&self) -> f64 {
        (self.max - self.median_ops_per_sec).max(self.median_ops_per_sec - self.min)
            / self.median_ops_per_sec
    }
}

/// One allocator over all its rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Geomean {
    pub allocator: String,
    pub version: String,
    /// Geometric mean of the time per operation relative to the best of each row: 1 if it is the best everywhere.
    pub time_relative_to_best: f64,
    /// Geometric mean of the peak memory relative to the leanest of each row.
    pub memory_relative_to_least: f64,
    /// Rows that the means are over.
    pub rows: usize,
}

/// Summarises the runs; rows and allocators keep the order in which they first appear.
pub fn summarise(runs: &[Report]) -> Vec<Summary> {
    let mut summaries: Vec<Summary> = Vec::new();
    for run in runs {
        let same =
            |other: &&Report| row_key(other) == row_key(run) && other.allocator == run.allocator;
        if summaries
            .iter()
            .any(|known| summary_key(known) == row_key(run) && known.allocator == run.allocator)
        {
            continue;
        }
        let group: Vec<&Report> = runs.iter().filter(same).collect();
        summaries.push(summarise_group(&group));
    }
    relate(&mut summaries);
    summaries
}

fn row_key(run: &Report) -> (&str, usize) {
    (&run.workload, run.threads)
}

fn summary_key(summary: &Summary) -> (&str, usize) {
    (&summary.workload, summary.threads)
}

fn summarise_group(group: &[&Report]) -> Summary {
    let first = group[0];
    let mut speeds: Vec<f64> = group.iter().map(|run| run.ops_per_sec).collect();
    let mut peaks: Vec<f64> = group
        .iter()
        .map(|run| run.usage.peak_rss_bytes as f64)
        .collect();
    let median_ops_per_sec = median(&mut speeds);
    Summary {
        workload: first.workload.clone(),
        threads: first.threads,
        allocator: first.allocator.clone(),
        version: first.version.clone(),
        runs: group.len(),
        median_ops_per_sec,
        min: speeds[0],
        max: speeds[speeds.len() - 1],
        median_peak_rss_bytes: median(&mut peaks) as u64,
        relative_to_best: 1.0,
        memory_relative_to_least: 1.0,
    }
}

fn relate(summaries: &mut [Summary]) {
    let all = summaries.to_vec();
    for summary in summaries {
        let row = || {
            all.iter()
                .filter(|other| summary_key(other) == summary_key(summary))
        };
        let best = row()
            .map(|other| other.median_ops_per_sec)
            .fold(f64::MIN_POSITIVE, f64::max);
        let least = row()
            .map(|other| other.median_peak_rss_bytes)
            .min()
            .unwrap_or(1)
            .max(1);
        summary.relative_to_best = summary.median_ops_per_sec / best;
        summary.memory_relative_to_least = summary.median_peak_rss_bytes as f64 / least as f64;
    }
}

/// One line per allocator, in order of first appearance.
pub fn geometric_means(summaries: &[Summary]) -> Vec<Geomean> {
    let mut means: Vec<Geomean> = Vec::new();
    for summary in summaries {
        if means
            .iter()
            .any(|known| known.allocator == summary.allocator)
        {
            continue;
        }
        let own = || {
            summaries
                .iter()
                .filter(|other| other.allocator == summary.allocator)
        };
        means.push(Geomean {
            allocator: summary.allocator.clone(),
            version: summary.version.clone(),
            time_relative_to_best: geometric_mean(own().map(|row| 1.0 / row.relative_to_best)),
            memory_relative_to_least: geometric_mean(own().map(|row| row.memory_relative_to_least)),
            rows: own().count(),
        });
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;
    use larson_runner::process::Usage;

    fn run(workload: &str, allocator: &str, ops_per_sec: f64, peak_rss_bytes: u64) -> Report {
        Report {
            workload: workload.to_owned(),
            allocator: allocator.to_owned(),
            version: "1".to_owned(),
            threads: 2,
            ops: 1,
            seconds: 1.0,
            ops_per_sec,
            usage: Usage {
                peak_rss_bytes,
                ..Usage::default()
            },
            checks: "ok".to_owned(),
            extra: serde_json::Map::new(),
            allocator_stats: None,
        }
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn a_row_is_related_to_its_best_and_its_leanest() {
        let runs = [
            run("a", "fast", 100.0, 400),
            run("a", "lean", 50.0, 100),
            run("a", "fast", 120.0, 400),
            run("a", "lean", 50.0, 100),
            run("a", "fast", 110.0, 400),
        ];
        let summary = summarise(&runs);
        assert_eq!(summary.len(), 2);
        let (fast, lean) = (&summary[0], &summary[1]);
        assert!(
            close(fast.median_ops_per_sec, 110.0)
                && close(fast.min, 100.0)
                && close(fast.max, 120.0)
        );
        assert!(close(fast.spread(), 10.0 / 110.0));
        assert!(close(fast.relative_to_best, 1.0) && close(lean.relative_to_best, 50.0 / 110.0));
        assert!(
            close(fast.memory_relative_to_least, 4.0) && close(lean.memory_relative_to_least, 1.0)
        );
        assert_eq!((fast.runs, lean.runs), (3, 2));
    }

    #[test]
    fn geometric_means_are_over_an_allocators_own_rows() {
        let runs = [
            run("a", "x", 100.0, 100),
            run("a", "y", 50.0, 100),
            run("b", "x", 25.0, 800),
            run("b", "y", 200.0, 100),
            run("c", "y", 1.0, 1),
        ];
        let means = geometric_means(&summarise(&runs));
        // x: best in a, 8 times slower in b; y: 2 times slower in a, best in b, alone in c.
        assert!(close(means[0].time_relative_to_best, 8.0_f64.sqrt()));
        assert!(close(means[0].memory_relative_to_least, 8.0_f64.sqrt()));
        assert!(close(means[1].time_relative_to_best, 2.0_f64.cbrt()));
        assert_eq!((means[0].rows, means[1].rows), (2, 3));
    }

    #[test]
    fn different_numbers_of_threads_are_different_rows() {
        let one = run("larson", "x", 1.0, 1);
        let two = Report {
            threads: 4,
            ..run("larson", "x", 2.0, 1)
        };
        assert_eq!(summarise(&[one, two]).len(), 2);
    }
}
