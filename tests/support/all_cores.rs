//! Independent pieces of work on all cores.

use std::sync::Mutex;
use std::thread;

/// Does each piece of work once, as many at a time as there are cores; the results in the order of the work.
pub fn all_cores<T: Sync, R: Send>(work: &[T], each: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(work.iter().enumerate());
    let worker = || {
        let mut done = Vec::new();
        loop {
            // A statement of its own, so that the lock is not held during the work.
            let piece = next.lock().unwrap().next();
            let Some((at, piece)) = piece else {
                return done;
            };
            done.push((at, each(piece)));
        }
    };
    let workers = thread::available_parallelism().map_or(1, |count| count.get());
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let results = workers.into_iter().map(|worker| worker.join());
        results
            .flat_map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|&(at, _)| at);
    done.into_iter().map(|(_, result)| result).collect()
}
