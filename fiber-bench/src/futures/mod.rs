//! The benchmarks for tokio: the same work as in [`crate::blocking`], in async functions.

mod channels;
mod idle;
mod parallel;
mod parked;
mod spawning;

use tokio::runtime;

use crate::measure::Outcome;
use crate::params::Params;

/// Runs the benchmark on a multi-thread runtime of its own, inside a task: not on the thread that blocks on it.
pub fn run(params: &Params) -> Outcome {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(params.workers)
        .enable_time()
        .build();
    let runtime = runtime.unwrap_or_else(|error| crate::fail::cannot_run(&error.to_string()));
    let own = params.clone();
    let outcome = runtime.block_on(async {
        tokio::spawn(dispatch(own))
            .await
            .expect("a panic ends the process")
    });
    // Not dropped: `idle_cpu` looks at it while it has nothing to do.
    std::mem::forget(runtime);
    outcome
}

async fn dispatch(params: Params) -> Outcome {
    let params = &params;
    match params.benchmark {
        "spawn_nursery" | "idle_cpu" => spawning::nursery(params).await,
        "spawn_sequential" => spawning::sequential(params).await,
        "trivial_task" => spawning::trivial(params).await,
        "switch_task" => spawning::switch(params).await,
        "yield_many" => spawning::yield_many(params).await,
        "chained_spawn" => spawning::chained(params).await,
        "skynet" => spawning::skynet(params).await,
        "fib_30" => spawning::fib(params).await,
        "ping_pong_local" => channels::ping_pong(params, false).await,
        "ping_pong_cross" => channels::ping_pong(params, true).await,
        "chan_single_thread" => channels::single(params).await,
        "spsc_1" | "spsc_64" | "spsc_1000" => channels::many_to_one(params, 1).await,
        "mpsc_1" | "mpsc_64" | "mpsc_1000" => {
            channels::many_to_one(params, crate::rules::SIDES).await
        }
        "select_2" => channels::select(params).await,
        "blocking_pressure" => parked::pressure(params).await,
        "parked_20000" => parked::parked(params).await,
        "herd_1000" => parked::herd(params).await,
        "parallel_for_0" | "parallel_for_15" | "parallel_for_1000" => parallel::store(params).await,
        "parallel_for_shared_atomic" => parallel::shared_atomic(params).await,
        "parallel_for_per_chunk" => parallel::per_chunk(params).await,
        "parallel_for_no_atomic" => parallel::no_atomic(params).await,
        "parallel_reduce" => parallel::reduce(params).await,
        "idle_memory_10k" => idle::memory(params, 10_000).await,
        "idle_memory_100k" => idle::memory(params, 100_000).await,
        "idle_memory_1m" => idle::memory(params, 1_000_000).await,
        "deep_then_idle" => idle::deep_then_idle(params).await,
        "hog_and_ticker" => idle::ticker(params).await,
        "task_pool_cross" => spawning::cross(params).await,
        other => panic!("tokio doesn't run {other}"),
    }
}

/// A panic ends the process, and nothing is aborted, so every handle has a result.
async fn join<T>(handle: tokio::task::JoinHandle<T>) -> T {
    handle.await.expect("a panic ends the process")
}
