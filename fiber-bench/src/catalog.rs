//! The benchmarks and the runtimes by name, and which runtime can't run which benchmark.

/// A benchmark.
#[derive(Debug)]
pub struct Benchmark {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// What is counted.
    pub operation: &'static str,
    /// Whether `compare --quick` has it.
    pub quick: bool,
}

const fn row(name: &'static str, operation: &'static str, summary: &'static str) -> Benchmark {
    Benchmark {
        name,
        summary,
        operation,
        quick: true,
    }
}

const fn slow(name: &'static str, operation: &'static str, summary: &'static str) -> Benchmark {
    Benchmark {
        name,
        summary,
        operation,
        quick: false,
    }
}

/// All benchmarks, in the order of the tables.
pub const BENCHMARKS: [Benchmark; 43] = [
    row(
        "spawn_nursery",
        "child",
        "batches of 1,000 children that their parent waits for",
    ),
    row(
        "spawn_sequential",
        "fiber",
        "spawn a fiber, wait for its result, again",
    ),
    row(
        "trivial_task",
        "task",
        "tasks that run to completion, waited for by one counter",
    ),
    row(
        "switch_task",
        "task",
        "tasks that yield once before they end",
    ),
    row("yield_many", "yield", "200 fibers yield 1,000 times each"),
    row(
        "chained_spawn",
        "task",
        "each task spawns the next, 1,000 long",
    ),
    row(
        "ping_pong_local",
        "round trip",
        "two fibers on one worker, two rendezvous channels",
    ),
    row(
        "ping_pong_cross",
        "round trip",
        "two fibers that start on different workers",
    ),
    row(
        "chan_single_thread",
        "message",
        "one fiber fills and empties a channel of 1,000",
    ),
    row("spsc_0", "message", "one sender, one receiver, rendezvous"),
    slow("spsc_1", "message", "one sender, one receiver, capacity 1"),
    row(
        "spsc_64",
        "message",
        "one sender, one receiver, capacity 64",
    ),
    slow(
        "spsc_1000",
        "message",
        "one sender, one receiver, capacity 1,000",
    ),
    row(
        "mpsc_0",
        "message",
        "four senders, one receiver, rendezvous",
    ),
    slow(
        "mpsc_1",
        "message",
        "four senders, one receiver, capacity 1",
    ),
    row(
        "mpsc_64",
        "message",
        "four senders, one receiver, capacity 64",
    ),
    slow(
        "mpsc_1000",
        "message",
        "four senders, one receiver, capacity 1,000",
    ),
    row(
        "mpmc_0",
        "message",
        "four senders, four receivers, rendezvous",
    ),
    slow(
        "mpmc_1",
        "message",
        "four senders, four receivers, capacity 1",
    ),
    row(
        "mpmc_64",
        "message",
        "four senders, four receivers, capacity 64",
    ),
    slow(
        "mpmc_1000",
        "message",
        "four senders, four receivers, capacity 1,000",
    ),
    row(
        "select_2",
        "message",
        "one receiver selects from two channels of capacity 64",
    ),
    row(
        "blocking_pressure",
        "task",
        "5,000 tasks park at a rendezvous at least once; all end within 4 s",
    ),
    row(
        "parked_20000",
        "task",
        "20,000 fibers park, and each is woken by itself",
    ),
    row("herd_1000", "task", "1,000 fibers wait for one event"),
    row(
        "skynet",
        "leaf",
        "a tree of tasks, ten to a node, a million leaves, summed",
    ),
    row(
        "fib_30",
        "call",
        "Fibonacci numbers by fork and join, every call",
    ),
    row(
        "parallel_for_0",
        "item",
        "a loop over 1M items, nothing but a store in each",
    ),
    row(
        "parallel_for_15",
        "item",
        "a loop over 1M items, 15 units of work in each",
    ),
    row(
        "parallel_for_1000",
        "item",
        "a loop over 1M items, 1,000 units of work in each",
    ),
    row(
        "parallel_for_shared_atomic",
        "item",
        "a sum over 1M items in one atomic",
    ),
    row(
        "parallel_for_per_chunk",
        "item",
        "a sum over 1M items, one atomic addition a chunk",
    ),
    row(
        "parallel_for_no_atomic",
        "item",
        "sums over chunks of 1M items, a place for each",
    ),
    row("parallel_reduce", "item", "a reduction over 1M items"),
    row(
        "counters_adjacent",
        "addition",
        "two workers count in neighbouring wait groups",
    ),
    row(
        "counters_apart",
        "addition",
        "two workers count in wait groups far apart",
    ),
    row(
        "idle_memory_10k",
        "task",
        "10,000 parked fibers: memory, page tables, mappings",
    ),
    slow(
        "idle_memory_100k",
        "task",
        "100,000 parked fibers: memory, page tables, mappings",
    ),
    slow(
        "idle_memory_1m",
        "task",
        "1,000,000 parked fibers: memory, page tables, mappings",
    ),
    row(
        "deep_then_idle",
        "task",
        "fibers that use 48 KiB of stack once and then park: memory",
    ),
    row(
        "hog_and_ticker",
        "tick",
        "a 1 ms ticker beside a fiber that computes for 100 ms at a time",
    ),
    row(
        "idle_cpu",
        "child",
        "processor time while idle, after some work",
    ),
    row(
        "task_pool_cross",
        "task",
        "tasks spawned by one worker and completed by the other",
    ),
];

/// A runtime.
#[derive(Debug)]
pub struct Runtime {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub summary: &'static str,
    /// Whether it is a Rust library, which runs under either allocator.
    pub is_rust_peer: bool,
}

/// All runtimes, in the order of the tables.
pub const RUNTIMES: [Runtime; 8] = [
    Runtime {
        name: "millpond",
        summary: "millpond-fiber, always under Millpond",
        is_rust_peer: false,
    },
    Runtime {
        name: "millpond-migrating",
        summary: "millpond-fiber whose started fibers move between workers, too (unsafe to ask for)",
        is_rust_peer: false,
    },
    Runtime {
        name: "go",
        summary: "Go, if a go command is found",
        is_rust_peer: false,
    },
    Runtime {
        name: "go-nogc",
        summary: "Go without garbage collection (GOGC=off)",
        is_rust_peer: false,
    },
    Runtime {
        name: "tokio",
        summary: "tokio's multi-thread runtime",
        is_rust_peer: true,
    },
    Runtime {
        name: "may",
        summary: "may's stackful coroutines",
        is_rust_peer: true,
    },
    Runtime {
        name: "rayon",
        summary: "rayon's work-stealing pool, for what forks and joins",
        is_rust_peer: true,
    },
    Runtime {
        name: "threads",
        summary: "a pooled thread per task, mutex and condvar",
        is_rust_peer: true,
    },
];

/// The benchmark of that name.
///
/// # Errors
/// A sentence, when there is none.
pub fn benchmark(name: &str) -> Result<&'static Benchmark, String> {
    let found = BENCHMARKS.iter().find(|benchmark| benchmark.name == name);
    found.ok_or_else(|| format!("There is no benchmark {name:?}; see fiber-bench list."))
}

/// The runtime of that name.
///
/// # Errors
/// A sentence, when there is none.
pub fn runtime(name: &str) -> Result<&'static Runtime, String> {
    let found = RUNTIMES.iter().find(|runtime| runtime.name == name);
    found.ok_or_else(|| format!("There is no runtime {name:?}; see fiber-bench list."))
}

impl Runtime {
    /// Whether it is Millpond's, in any mode.
    pub fn is_millpond(&self) -> bool {
        self.name.starts_with("millpond")
    }
}

/// Why a runtime can't run a benchmark; `None` if it can.
pub fn cannot_run(runtime: &str, benchmark: &str, workers: usize) -> Option<&'static str> {
    let is = |prefix: &str| benchmark.starts_with(prefix);
    let one_of = |names: &[&str]| names.contains(&benchmark);
    if workers < 2
        && one_of(&[
            "ping_pong_cross",
            "counters_adjacent",
            "counters_apart",
            "task_pool_cross",
        ])
    {
        return Some("it needs two workers");
    }
    match runtime {
        "tokio" if one_of(&["spsc_0", "mpsc_0", "mpmc_0"]) => {
            Some("tokio has no rendezvous channel")
        }
        "tokio" if is("mpmc_") => Some("tokio has no channel with several receivers"),
        "tokio" if is("counters_") => Some("tokio has no wait group"),
        "may" if is("spsc_") || is("mpsc_") || is("mpmc_") || is("select_") => {
            Some("may has no bounded channel")
        }
        "may" if is("counters_") => Some("may's wait group counts by clones behind a pointer"),
        "rayon"
            if is("parallel_")
                || one_of(&[
                    "spawn_nursery",
                    "trivial_task",
                    "chained_spawn",
                    "skynet",
                    "fib_30",
                    "idle_cpu",
                    "task_pool_cross",
                ]) =>
        {
            None
        }
        "rayon" => Some("rayon's tasks can't wait"),
        "threads" if one_of(&["skynet", "fib_30"]) => Some("it would need a million threads"),
        "threads" if one_of(&["idle_memory_100k", "idle_memory_1m"]) => {
            Some("the system doesn't give that many threads")
        }
        "threads" if is("select_") => Some("mutex and condvar have no select"),
        _ => None,
    }
}
