//! Many tasks that wait.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Blocking, Gate, Group, slots};
use crate::fail::check;
use crate::measure::{Outcome, Rounds, Usage};
use crate::params::Params;
use crate::rules::*;

/// Lets others run until as many tasks have come.
fn await_all<R: Blocking>(arrived: &AtomicUsize, all: usize) {
    while arrived.load(Ordering::SeqCst) < all {
        R::sleep(Duration::from_micros(200));
    }
}

pub fn pressure<R: Blocking>(params: &Params) -> Outcome {
    let tasks = params.scaled(5_000, 20);
    let arrived: &'static AtomicUsize = Box::leak(Box::default());
    let usage = Usage::now();
    let start = Instant::now();
    let (sender, mut receiver) = R::channel::<u64>(0);
    let begin = |task| {
        let sender = sender.clone();
        R::spawn(move || {
            arrived.fetch_add(1, Ordering::SeqCst);
            R::send(&sender, task);
            start.elapsed()
        })
    };
    let handles: Vec<R::Handle<Duration>> = (0..tasks as u64).map(begin).collect();
    // Nobody receives before all tasks stand at the rendezvous, or are about to.
    await_all::<R>(arrived, tasks);
    let sum: u64 = (0..tasks).filter_map(|_| R::recv(&mut receiver)).sum();
    let ends: Vec<Duration> = handles.into_iter().map(R::join).collect();
    let seconds = start.elapsed().as_secs_f64();
    check_sum(sum, tasks as u64);
    check(seconds < PRESSURE_LIMIT, || {
        format!("{tasks} tasks took {seconds:.2} s")
    });
    Outcome {
        ops: tasks as u64,
        seconds,
        samples: ends.iter().map(|end| end.as_nanos() as f32).collect(),
        usage: Usage::now().since(usage),
        ..Outcome::default()
    }
    .with("completed", tasks)
}

pub fn parked<R: Blocking>(params: &Params) -> Outcome {
    let fibers = params.scaled(20_000, 20);
    let places = slots(fibers);
    let wakers: &'static [Mutex<Option<R::Waker>>] = (0..fibers)
        .map(|_| Mutex::new(None))
        .collect::<Vec<_>>()
        .leak();
    let arrived: &'static AtomicUsize = Box::leak(Box::default());
    let mut rounds = Rounds::new(params);
    let mut resident = 0;
    while rounds.more() {
        arrived.store(0, Ordering::SeqCst);
        places.iter().for_each(|place| place.set(0));
        let begin = |fiber: usize| {
            R::spawn(move || {
                *wakers[fiber].lock().expect("nobody panics") = Some(R::waker());
                arrived.fetch_add(1, Ordering::SeqCst);
                while places[fiber].get() == 0 {
                    R::park();
                }
                places[fiber].get()
            })
        };
        let handles: Vec<R::Handle<u64>> = (0..fibers).map(begin).collect();
        await_all::<R>(arrived, fibers);
        if resident == 0 {
            resident = crate::memory::resident_bytes();
        }
        for (place, waker) in places.iter().zip(wakers) {
            place.set(3);
            let waker = waker.lock().expect("nobody panics").take();
            R::unpark(waker.expect("the fiber has left it"));
        }
        let sum: u64 = handles.into_iter().map(R::join).sum();
        check(sum == 3 * fibers as u64, || {
            format!("the fibers' sum is {sum}")
        });
        rounds.done(fibers as u64);
    }
    rounds.finish().with("rss_bytes_parked", resident)
}

pub fn herd<R: Blocking>(params: &Params) -> Outcome {
    let fibers = params.scaled(1_000, 10);
    let arrived: &'static AtomicUsize = Box::leak(Box::default());
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        arrived.store(0, Ordering::SeqCst);
        let gate = std::sync::Arc::new(R::Gate::new());
        let begin = |fiber: u64| {
            let gate = gate.clone();
            R::spawn(move || {
                arrived.fetch_add(1, Ordering::SeqCst);
                gate.wait();
                fiber
            })
        };
        let handles: Vec<R::Handle<u64>> = (0..fibers as u64).map(begin).collect();
        while arrived.load(Ordering::SeqCst) < fibers {
            R::yield_now();
        }
        gate.open();
        let sum: u64 = handles.into_iter().map(R::join).sum();
        check_sum(sum, fibers as u64);
        rounds.done(fibers as u64);
    }
    rounds.finish()
}

/// Two groups with so many bytes between them.
#[repr(C)]
struct Two<G, const APART: usize> {
    first: G,
    between: [u8; APART],
    second: G,
}

pub fn counters<R: Blocking, const APART: usize>(params: &Params) -> Outcome {
    let additions = params.scaled(100_000, 100);
    let two = Two::<R::Group, APART> {
        first: R::Group::new(),
        between: [0; APART],
        second: R::Group::new(),
    };
    let two: &'static Two<R::Group, APART> = Box::leak(Box::new(two));
    std::hint::black_box(&two.between);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let arrived: &'static AtomicUsize = Box::leak(Box::default());
        let count = move |group: &'static R::Group| {
            R::spawn(move || {
                // Never 0 meanwhile: nobody is woken, only the words are written.
                group.add(1);
                meet(arrived, 2);
                for _ in 0..additions {
                    group.add(1);
                    group.done();
                }
                group.done();
                group.wait();
            })
        };
        let (first, second) = (count(&two.first), count(&two.second));
        R::join(first);
        R::join(second);
        rounds.done(2 * additions as u64);
    }
    let distance = (&raw const two.second).addr() - (&raw const two.first).addr();
    rounds.finish().with("bytes_apart", distance)
}
