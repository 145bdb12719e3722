//! The workloads, one per file, and the list of them.

use std::ops::RangeInclusive;

use crate::command::Hooks;
use crate::harness::Outcome;
use crate::options::Params;

mod alloc_test;
mod burst;
mod cache;
mod cold;
mod glibc_simple;
mod glibc_thread;
mod ladder;
mod larson;
mod malloc_large;
mod mleak;
mod mstress;
mod pairs;
mod pipeline;
mod rptest;
mod sh6bench;
mod sh8bench;
mod xmalloc;

/// What there is to know about a workload without running it.
#[derive(Clone, Debug)]
pub struct About {
    /// Name on the command line.
    pub name: &'static str,
    /// One line for `larson-bench list`.
    pub summary: &'static str,
    /// What is counted.
    pub operation: &'static str,
    /// How many threads it can run on.
    pub threads: RangeInclusive<usize>,
    /// What it does when nothing is asked for.
    pub defaults: Params,
    /// Names of the options that it takes, without dashes.
    pub options: &'static [&'static str],
}

impl About {
    /// Whether the workload takes the option.
    pub fn takes(&self, option: &str) -> bool {
        self.options.contains(&option)
    }
}

/// One benchmark.
pub trait Workload: Sync {
    /// Describes it.
    fn about(&self) -> About;

    /// Refuses values that the general rules let pass.
    ///
    /// # Errors
    /// One sentence that says what is wrong.
    fn check(&self, _params: &Params) -> Result<(), String> {
        Ok(())
    }

    /// Runs it; ends the process if a block is found corrupted.
    fn run(&self, params: &Params, hooks: &Hooks) -> Outcome;
}

/// Any number of threads that a person may reasonably ask for.
pub const ANY_THREADS: RangeInclusive<usize> = 1..=1_024;

static ALL: [&dyn Workload; 17] = [
    &larson::LARSON,
    &larson::LARSON_SMALL,
    &sh6bench::Sh6bench,
    &sh8bench::Sh8bench,
    &xmalloc::Xmalloc,
    &cache::CACHE_SCRATCH,
    &cache::CACHE_THRASH,
    &mstress::Mstress,
    &rptest::Rptest,
    &alloc_test::AllocTest,
    &mleak::Mleak,
    &glibc_simple::GlibcSimple,
    &glibc_thread::GlibcThread,
    &malloc_large::MallocLarge,
    &burst::Burst,
    &pipeline::Pipeline,
    &cold::Cold,
];

/// All workloads, in the order in which they are listed and compared, but for [`pairs`].
pub fn all() -> &'static [&'static dyn Workload] {
    &ALL
}

/// The workloads of a single size in a single order: for `compare --pairs`.
pub fn pairs() -> impl Iterator<Item = &'static dyn Workload> {
    pairs::PAIRS.iter().map(|pair| pair as &dyn Workload)
}

/// The workload of that name.
///
/// # Errors
/// One sentence when there is none.
pub fn find(name: &str) -> Result<&'static dyn Workload, String> {
    all()
        .iter()
        .copied()
        .chain(pairs())
        .find(|workload| workload.about().name == name)
        .ok_or_else(|| format!("There is no workload {name:?}; larson-bench list names them all."))
}
