//! Nanoseconds per operation of channels in the shapes that the benchmarks have: best of several rounds.
//!
//! `cargo run --release -p millpond-fiber --example channels [-- NAME...]`

use millpond_fiber::channel::{self, Receiver, Sender, spsc};
use millpond_fiber::{Runtime, select, spawn};
use std::time::Instant;

fn many(senders: u64, receivers: u64, capacity: usize, messages: u64) {
    let (sender, receiver): (Sender<u64>, Receiver<u64>) = channel::bounded(capacity);
    let each = messages / senders;
    let sending: Vec<_> = (0..senders)
        .map(|_| {
            let sender = sender.clone();
            spawn(move || (0..each).for_each(|n| sender.send(n).unwrap()))
        })
        .collect();
    drop(sender);
    let receiving: Vec<_> = (0..receivers)
        .map(|_| {
            let receiver = receiver.clone();
            spawn(move || receiver.iter().sum::<u64>())
        })
        .collect();
    for fiber in sending {
        fiber.join().unwrap();
    }
    let sum: u64 = receiving
        .into_iter()
        .map(|fiber| fiber.join().unwrap())
        .sum();
    assert_eq!(sum, senders * (each * (each - 1) / 2));
}

fn ring(capacity: usize, messages: u64) {
    let (sender, receiver) = spsc::bounded(capacity);
    let sending = spawn(move || (0..messages).for_each(|n| sender.send(n).unwrap()));
    let receiving = spawn(move || receiver.iter().sum::<u64>());
    sending.join().unwrap();
    assert_eq!(receiving.join().unwrap(), messages * (messages - 1) / 2);
}

/// One end in a fiber, the other in a plain thread.
fn thread(capacity: usize, messages: u64) {
    let (sender, receiver) = channel::bounded(capacity);
    let sending = std::thread::spawn(move || (0..messages).for_each(|n| sender.send(n).unwrap()));
    assert_eq!(receiver.iter().sum::<u64>(), messages * (messages - 1) / 2);
    sending.join().unwrap();
}

/// Two senders, one receiver that selects.
fn select_2(messages: u64) {
    let (a, from_a) = channel::bounded(0);
    let (b, from_b) = channel::bounded(0);
    let senders =
        [a, b].map(|sender| spawn(move || (0..messages / 2).for_each(|n| sender.send(n).unwrap())));
    let mut sum = 0;
    loop {
        match select! { recv(from_a) -> n => n, recv(from_b) -> n => n } {
            Ok(n) => sum += n,
            Err(_) => break,
        }
    }
    sum += from_a.iter().chain(&from_b).sum::<u64>();
    let half = messages / 2;
    assert_eq!(sum, half * (half - 1));
    senders.map(|sender| sender.join().unwrap());
}

/// Both ends on plain threads that are fibers' workers by force: the other fiber keeps its worker until it is told.
fn apart(capacity: usize, messages: u64) {
    let together = std::sync::Arc::new(std::sync::Barrier::new(2));
    let (sender, receiver) = channel::bounded(capacity);
    let barrier = together.clone();
    let sending = spawn(move || {
        barrier.wait();
        (0..messages).for_each(|n| sender.send(n).unwrap());
    });
    let receiving = spawn(move || {
        together.wait();
        receiver.iter().sum::<u64>()
    });
    sending.join().unwrap();
    assert_eq!(receiving.join().unwrap(), messages * (messages - 1) / 2);
}

/// As `apart`, with a ring for one sender and one receiver.
fn ring_apart(capacity: usize, messages: u64) {
    let together = std::sync::Arc::new(std::sync::Barrier::new(2));
    let (sender, receiver) = spsc::bounded(capacity);
    let barrier = together.clone();
    let sending = spawn(move || {
        barrier.wait();
        (0..messages).for_each(|n| sender.send(n).unwrap());
    });
    let receiving = spawn(move || {
        together.wait();
        receiver.iter().sum::<u64>()
    });
    sending.join().unwrap();
    assert_eq!(receiving.join().unwrap(), messages * (messages - 1) / 2);
}

fn single_thread(messages: u64) {
    let (sender, receiver) = channel::bounded(1000);
    let mut sum = 0;
    for _ in 0..messages / 1000 {
        (0..1000).for_each(|n| sender.send(n).unwrap());
        (0..1000).for_each(|_| sum += receiver.recv().unwrap());
    }
    assert_eq!(sum, messages / 1000 * 499_500u64);
}

fn ping_pong(rounds: u64) {
    let (ping, pinged) = channel::bounded::<u64>(0);
    let (pong, ponged) = channel::bounded::<u64>(0);
    let other = spawn(move || pinged.iter().for_each(|n| pong.send(n + 1).unwrap()));
    let mut n = 0;
    for _ in 0..rounds {
        ping.send(n).unwrap();
        n = ponged.recv().unwrap();
    }
    drop(ping);
    other.join().unwrap();
    assert_eq!(n, rounds);
}

fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let single = Runtime::builder().workers(1).build().unwrap();
    let measure = |name: &str, messages: u64, runtime: &Runtime, work: &(dyn Fn(u64) + Sync)| {
        if !names.is_empty() && !names.iter().any(|part| name.starts_with(part.as_str())) {
            return;
        }
        let mut times: Vec<f64> = (0..9)
            .map(|_| {
                let start = Instant::now();
                runtime.block_on(|| work(messages));
                start.elapsed().as_nanos() as f64 / messages as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{name:24} {:8.1} best {:8.1} median {:8.1} worst",
            times[0], times[4], times[8]
        );
    };
    measure("chan_single_thread", 1_000_000, &runtime, &single_thread);
    measure("ping_pong", 100_000, &runtime, &ping_pong);
    measure("ping_pong_one_worker", 100_000, &single, &ping_pong);
    measure("select_2", 100_000, &runtime, &select_2);
    for capacity in [1, 64, 1000] {
        measure(&format!("ring_{capacity}"), 100_000, &runtime, &|n| {
            ring(capacity, n)
        });
        measure(&format!("ring_apart_{capacity}"), 100_000, &runtime, &|n| {
            ring_apart(capacity, n)
        });
    }
    for capacity in [0, 1, 64, 1000] {
        measure(&format!("apart_{capacity}"), 100_000, &runtime, &|n| {
            apart(capacity, n)
        });
    }
    for capacity in [0, 1, 64, 1000] {
        measure(&format!("thread_{capacity}"), 100_000, &runtime, &|n| {
            thread(capacity, n)
        });
    }
    for (name, senders, receivers) in [("spsc", 1, 1), ("mpsc", 4, 1), ("mpmc", 4, 4)] {
        for capacity in [0, 1, 64, 1000] {
            let name = format!("{name}_{capacity}");
            measure(&name, 100_000, &runtime, &|messages| {
                many(senders, receivers, capacity, messages)
            });
        }
    }
}
