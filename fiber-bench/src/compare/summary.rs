//! Medians over the runs of each benchmark under each runtime.

use bench_support::figures::median;
use fiber_bench::report::Report;
use serde::Serialize;

/// One runtime's runs of one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub benchmark: String,
    pub runtime: String,
    pub median_ops_per_sec: f64,
    /// Lowest operations per second of all runs.
    pub min: f64,
    /// Highest operations per second of all runs.
    pub max: f64,
    pub median_peak_rss_bytes: u64,
    /// Median processor time over wall time: how many cores were busy.
    #[serde(skip)]
    pub cores: f64,
}

impl Summary {
    /// The farthest run from the median, as a share of it.
    pub fn spread(&self) -> f64 {
        (self.max - self.median_ops_per_sec).max(self.median_ops_per_sec - self.min)
            / self.median_ops_per_sec
    }
}

/// Summarises the runs; benchmarks and runtimes keep the order in which they first appear.
pub fn summarise(runs: &[Report]) -> Vec<Summary> {
    let mut summaries: Vec<Summary> = Vec::new();
    for run in runs {
        let known = |summary: &Summary| {
            (&summary.benchmark, &summary.runtime) == (&run.benchmark, &run.runtime)
        };
        if summaries.iter().any(known) {
            continue;
        }
        let group: Vec<&Report> = of(runs, &run.benchmark, &run.runtime).collect();
        let mut speeds: Vec<f64> = group.iter().map(|run| run.ops_per_sec).collect();
        let median_ops_per_sec = median(&mut speeds);
        let over = |figure: fn(&Report) -> f64| {
            median(&mut group.iter().map(|run| figure(run)).collect::<Vec<_>>())
        };
        summaries.push(Summary {
            benchmark: run.benchmark.clone(),
            runtime: run.runtime.clone(),
            median_ops_per_sec,
            min: speeds[0],
            max: speeds[speeds.len() - 1],
            median_peak_rss_bytes: over(|run| run.peak_rss_bytes as f64) as u64,
            cores: over(|run| (run.user_seconds + run.sys_seconds) / run.seconds),
        });
    }
    summaries
}

/// The runs of one benchmark under one runtime.
pub fn of<'a>(
    runs: &'a [Report],
    benchmark: &'a str,
    runtime: &'a str,
) -> impl Iterator<Item = &'a Report> {
    runs.iter()
        .filter(move |run| run.benchmark == benchmark && run.runtime == runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(runtime: &str, ops_per_sec: f64, peak_rss_bytes: u64) -> Report {
        Report {
            benchmark: "skynet".to_owned(),
            runtime: runtime.to_owned(),
            version: "1".to_owned(),
            workers: 2,
            ops: 1,
            seconds: 1.0,
            ops_per_sec,
            p50_ns: 1.0,
            p99_ns: 1.0,
            user_seconds: 1.5,
            sys_seconds: 0.25,
            context_switches: 0,
            peak_rss_bytes,
            checks: "ok".to_owned(),
            extra: serde_json::Map::new(),
        }
    }

    #[test]
    fn runs_of_one_runtime_become_one_summary() {
        let runs = [
            run("a", 100.0, 4),
            run("b", 5.0, 1),
            run("a", 120.0, 8),
            run("b", 7.0, 3),
            run("a", 90.0, 6),
        ];
        let summary = summarise(&runs);
        assert_eq!(summary.len(), 2);
        let (a, b) = (&summary[0], &summary[1]);
        assert_eq!(
            (a.median_ops_per_sec, a.min, a.max, a.median_peak_rss_bytes),
            (100.0, 90.0, 120.0, 6)
        );
        assert_eq!(
            (b.median_ops_per_sec, b.median_peak_rss_bytes, b.cores),
            (6.0, 2, 1.75)
        );
        assert!((a.spread() - 0.2).abs() < 1e-9);
    }
}
