//! Channels between fibers, between threads, and between the two.

mod support;

use millpond_fiber::channel::{
    self, Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError, Sender, TryRecvError,
    TrySendError, spsc,
};
use millpond_fiber::{Builder, CancelToken, JoinHandle, Runtime, sleep, spawn, yield_now};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{both_modes, runtime, watched};

const CAPACITIES: [Option<usize>; 6] = [Some(0), Some(1), Some(2), Some(64), Some(1000), None];
const SHORT: Duration = Duration::from_millis(20);

fn make<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    match capacity {
        Some(capacity) => channel::bounded(capacity),
        None => channel::unbounded(),
    }
}

/// Something that runs at once with others: a fiber or a thread.
enum Task<T> {
    Fiber(JoinHandle<T>),
    Thread(std::thread::JoinHandle<T>),
}

impl<T: Send + 'static> Task<T> {
    fn start(fiber: bool, runtime: &Runtime, work: impl FnOnce() -> T + Send + 'static) -> Self {
        if fiber {
            Self::Fiber(runtime.spawn(work))
        } else {
            Self::Thread(std::thread::spawn(work))
        }
    }

    fn join(self) -> T {
        match self {
            Self::Fiber(fiber) => fiber.join().unwrap(),
            Self::Thread(thread) => thread.join().unwrap(),
        }
    }
}

/// `senders` send `each` values; what the receivers get is all of it, once, and each sender's in order.
fn exchange(
    runtime: &Runtime,
    capacity: Option<usize>,
    (senders, receivers): (usize, usize),
    each: usize,
    is_fiber: impl Fn(usize) -> bool,
) {
    let (sender, receiver) = make::<(usize, usize)>(capacity);
    let sending: Vec<_> = (0..senders)
        .map(|id| {
            let sender = sender.clone();
            Task::start(is_fiber(id), runtime, move || {
                (0..each).for_each(|n| sender.send((id, n)).unwrap());
            })
        })
        .collect();
    drop(sender);
    let receiving: Vec<_> = (0..receivers)
        .map(|id| {
            let receiver = receiver.clone();
            Task::start(is_fiber(id + 1), runtime, move || {
                let mut next = vec![0; senders];
                let mut sum = 0;
                for (id, n) in receiver {
                    assert!(n >= next[id], "a sender's values are out of order");
                    next[id] = n + 1;
                    sum += n + 1;
                }
                sum
            })
        })
        .collect();
    drop(receiver);
    sending.into_iter().for_each(Task::join);
    let sum: usize = receiving.into_iter().map(Task::join).sum();
    assert_eq!(sum, senders * each * (each + 1) / 2);
}

#[test]
fn everything_arrives_once_and_in_order() {
    watched(|| {
        for runtime in [1, 2, 64].into_iter().flat_map(both_modes) {
            for capacity in CAPACITIES {
                for shape in [(1, 1), (4, 1), (1, 4), (4, 4)] {
                    let each = if runtime.metrics().workers == 64 {
                        100
                    } else {
                        500
                    };
                    exchange(&runtime, capacity, shape, each, |_| true);
                    exchange(&runtime, capacity, shape, each / 5, |_| false);
                    exchange(&runtime, capacity, shape, each / 5, |id| id % 2 == 0);
                }
            }
        }
    });
}

#[test]
fn many_fibers() {
    watched(|| {
        for runtime in [1, 2, 64].into_iter().flat_map(both_modes) {
            for capacity in [Some(0), Some(3)] {
                exchange(&runtime, capacity, (300, 300), 20, |_| true);
            }
        }
    });
}

#[test]
fn one_to_one() {
    watched(|| {
        for runtime in [1, 2, 64].into_iter().flat_map(both_modes) {
            for capacity in [Some(1), Some(2), Some(7), Some(64), None] {
                for (a, b) in [(true, true), (true, false), (false, true), (false, false)] {
                    let (sender, receiver) = match capacity {
                        Some(capacity) => spsc::bounded(capacity),
                        None => spsc::unbounded(),
                    };
                    let sending = Task::start(a, &runtime, move || {
                        (0..500).for_each(|n| sender.send(n.to_string()).unwrap());
                    });
                    let receiving = Task::start(b, &runtime, move || {
                        let count = receiver.iter().enumerate();
                        count.map(|(n, got)| assert_eq!(got, n.to_string())).count()
                    });
                    sending.join();
                    assert_eq!(receiving.join(), 500);
                }
            }
        }
    });
}

#[test]
fn operations_that_do_not_wait() {
    let (sender, receiver) = channel::bounded(2);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!((sender.try_send(1), sender.try_send(2)), (Ok(()), Ok(())));
    assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
    assert!(sender.is_full() && receiver.len() == 2 && sender.capacity() == Some(2));
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2]);
    drop(sender);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));

    let (sender, receiver) = channel::bounded(0);
    assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
    drop(receiver);
    assert_eq!(sender.try_send(1), Err(TrySendError::Disconnected(1)));

    let (sender, receiver) = spsc::bounded(2);
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!((sender.try_send(1), sender.try_send(2)), (Ok(()), Ok(())));
    assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
    assert!(sender.is_full() && receiver.len() == 2 && sender.capacity() == Some(2));
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2]);
    sender.send(4).unwrap();
    drop(sender);
    assert_eq!(receiver.recv(), Ok(4));
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
}

/// Runs a check as a fiber, with one and two workers, and on a plain thread.
fn everywhere(check: fn()) {
    watched(|| {
        check();
        for runtime in [1, 2].into_iter().flat_map(both_modes) {
            runtime.block_on(check);
        }
    });
}

#[test]
fn time_limits() {
    everywhere(|| {
        let (sender, receiver) = channel::bounded(1);
        assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        sender.send(1).unwrap();
        let start = Instant::now();
        assert_eq!(
            sender.send_timeout(2, SHORT),
            Err(SendTimeoutError::Timeout(2))
        );
        assert!(start.elapsed() >= SHORT);
        // A waiter whose time is over takes nothing.
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        let past = Instant::now();
        assert_eq!(receiver.recv_deadline(past), Err(RecvTimeoutError::Timeout));
        assert_eq!(sender.send_deadline(3, past), Ok(()));

        let (sender, receiver) = spsc::bounded(1);
        assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        sender.send(1).unwrap();
        assert_eq!(
            sender.send_timeout(2, SHORT),
            Err(SendTimeoutError::Timeout(2))
        );
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        sender.send(5).unwrap();
        assert_eq!(receiver.recv_timeout(Duration::MAX), Ok(5));
    });
}

/// Senders and receivers with short limits on all sides: what was sent, by the senders' account, is what was received.
#[test]
fn limits_lose_nothing() {
    watched(|| {
        let runtime = runtime(2);
        for capacity in [0, 1] {
            let (sender, receiver) = channel::bounded(capacity);
            let sending: Vec<_> = (0..4)
                .map(|id| {
                    let sender = sender.clone();
                    Task::start(id % 2 == 0, &runtime, move || {
                        let mut sent = 0usize;
                        for n in 1..=500usize {
                            let limit = Duration::from_micros((n % 50) as u64);
                            match sender.send_timeout(n, limit) {
                                Ok(()) => sent += n,
                                Err(error) => assert_eq!(error.into_inner(), n),
                            }
                        }
                        sent
                    })
                })
                .collect();
            drop(sender);
            let receiving: Vec<_> = (0..4)
                .map(|id| {
                    let receiver = receiver.clone();
                    Task::start(id % 2 == 0, &runtime, move || {
                        let mut received = 0;
                        let mut n = 0;
                        loop {
                            n += 1;
                            match receiver.recv_timeout(Duration::from_micros(n % 50)) {
                                Ok(value) => received += value,
                                Err(RecvTimeoutError::Timeout) => {}
                                Err(_) => return received,
                            }
                        }
                    })
                })
                .collect();
            let sent: usize = sending.into_iter().map(Task::join).sum();
            let received: usize = receiving.into_iter().map(Task::join).sum();
            assert_eq!(sent, received);
        }
    });
}

#[test]
fn closing_ends_waits() {
    everywhere(|| {
        for how in [0, 1] {
            let (sender, receiver) = channel::bounded(1);
            sender.send(0).unwrap();
            let senders: Vec<_> = (1..40)
                .map(|n| {
                    let sender = sender.clone();
                    spawn(move || sender.send(n))
                })
                .collect();
            sleep(SHORT).unwrap();
            if how == 0 {
                assert!(sender.close() && !sender.close());
                assert_eq!(receiver.recv(), Ok(0));
            } else {
                drop(receiver);
            }
            for (n, fiber) in (1..).zip(senders) {
                assert_eq!(fiber.join().unwrap(), Err(SendError::Disconnected(n)));
            }

            let (sender, receiver) = channel::bounded::<u32>(how);
            let receivers: Vec<_> = (0..40)
                .map(|_| {
                    let receiver = receiver.clone();
                    spawn(move || receiver.recv())
                })
                .collect();
            sleep(SHORT).unwrap();
            if how == 0 {
                receiver.close();
            } else {
                drop(sender);
            }
            for fiber in receivers {
                assert_eq!(fiber.join().unwrap(), Err(RecvError::Disconnected));
            }
        }

        let (sender, receiver) = spsc::bounded(1);
        sender.send(1).unwrap();
        let waiting = spawn(move || sender.send(2));
        sleep(SHORT).unwrap();
        receiver.close();
        assert_eq!(waiting.join().unwrap(), Err(SendError::Disconnected(2)));
        assert_eq!(
            (receiver.recv(), receiver.recv()),
            (Ok(1), Err(RecvError::Disconnected))
        );
        let (sender, receiver) = spsc::unbounded::<u32>();
        let waiting = spawn(move || receiver.recv());
        sleep(SHORT).unwrap();
        drop(sender);
        assert_eq!(waiting.join().unwrap(), Err(RecvError::Disconnected));
    });
}

#[test]
fn cancelling_ends_waits() {
    watched(|| {
        for runtime in [1, 2].into_iter().flat_map(both_modes) {
            runtime.block_on(|| {
                let token = CancelToken::new();
                let (sender, receiver) = channel::bounded(0);
                let (one, other) = spsc::bounded(1);
                let start = |work: Box<dyn FnOnce() -> bool + Send>| {
                    Builder::new().cancel_token(&token).spawn(work).unwrap()
                };
                let from = receiver.clone();
                let to = channel::bounded(0);
                let kept = to.1.clone();
                let fibers = [
                    start(Box::new(move || from.recv() == Err(RecvError::Cancelled))),
                    start(Box::new(move || {
                        to.0.send(1) == Err(SendError::Cancelled(1))
                    })),
                    start(Box::new(move || other.recv() == Err(RecvError::Cancelled))),
                ];
                sleep(SHORT).unwrap();
                token.cancel();
                for fiber in fibers {
                    assert!(fiber.join().unwrap());
                }
                // Nothing of them is left in the queues.
                assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
                assert_eq!(kept.try_recv(), Err(TryRecvError::Disconnected));
                assert_eq!(one.send(1), Err(SendError::Disconnected(1)));
                // What needs no wait goes on.
                let late = start(Box::new(move || {
                    let (sender, receiver) = channel::bounded(1);
                    sender.send(1).is_ok()
                        && receiver.recv() == Ok(1)
                        && receiver.recv() == Err(RecvError::Cancelled)
                }));
                assert!(late.join().unwrap());
            });
        }
    });
}

/// Counts those that are alive.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(alive.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert_ne!(self.0.fetch_sub(1, Ordering::Relaxed), 0, "dropped twice");
    }
}

#[test]
fn nothing_leaks() {
    everywhere(|| {
        let alive = Arc::new(AtomicUsize::new(0));
        for capacity in [Some(200), None] {
            let (sender, receiver) = make(capacity);
            (0..150).for_each(|_| sender.send(Counted::new(&alive)).unwrap());
            (0..70).for_each(|_| drop(receiver.recv()));
            assert_eq!(alive.load(Ordering::Relaxed), 80);
            drop(sender);
            drop(receiver);
            assert_eq!(alive.load(Ordering::Relaxed), 0);
            let (sender, receiver) = match capacity {
                Some(capacity) => spsc::bounded(capacity),
                None => spsc::unbounded(),
            };
            (0..150).for_each(|_| sender.send(Counted::new(&alive)).unwrap());
            (0..70).for_each(|_| drop(receiver.recv()));
            drop(receiver);
            assert_eq!(alive.load(Ordering::Relaxed), 0);
            assert!(sender.send(Counted::new(&alive)).is_err());
            assert_eq!(alive.load(Ordering::Relaxed), 0);
        }
        let (sender, receiver) = channel::bounded(0);
        let fibers: Vec<_> = (0..10)
            .map(|_| {
                let (sender, value) = (sender.clone(), Counted::new(&alive));
                spawn(move || sender.send(value).is_err())
            })
            .collect();
        sleep(SHORT).unwrap();
        drop(receiver);
        fibers
            .into_iter()
            .for_each(|fiber| assert!(fiber.join().unwrap()));
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    });
}

struct Panics(#[expect(dead_code, reason = "dropped")] Counted, bool);

impl Drop for Panics {
    fn drop(&mut self) {
        assert!(!self.1, "a destructor panics");
    }
}

#[test]
fn a_destructor_that_panics_keeps_nothing_alive() {
    let alive = Arc::new(AtomicUsize::new(0));
    let value = |n| Panics(Counted::new(&alive), n == 3);
    for capacity in [Some(10), None] {
        let (sender, receiver) = make(capacity);
        (0..10).for_each(|n| assert!(sender.send(value(n)).is_ok()));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(receiver))).is_err());
        assert!(matches!(
            sender.try_send(value(0)),
            Err(TrySendError::Disconnected(_))
        ));
        let (sender, receiver) = spsc::bounded(10);
        (0..10).for_each(|n| assert!(sender.send(value(n)).is_ok()));
        assert!(catch_unwind(AssertUnwindSafe(|| drop(receiver))).is_err());
        drop(sender);
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}

/// A destructor of a value may use the channel that it was in.
#[test]
fn a_destructor_may_use_the_channel() {
    struct Last(Sender<Option<Last>>);
    impl Drop for Last {
        fn drop(&mut self) {
            assert!(self.0.is_closed());
            assert!(self.0.send(None).is_err());
        }
    }
    watched(|| {
        let (sender, receiver) = channel::unbounded();
        assert!(sender.send(Some(Last(sender.clone()))).is_ok());
        drop(receiver);
    });
}

#[test]
fn the_first_that_waits_is_the_first_served() {
    watched(|| {
        runtime(1).block_on(|| {
            let (sender, receiver) = channel::bounded(0);
            let waiting = Arc::new(AtomicUsize::new(0));
            let receivers: Vec<_> = (0..20)
                .map(|_| {
                    let (receiver, waiting) = (receiver.clone(), waiting.clone());
                    // With one worker, nothing comes between the count and the wait.
                    spawn(move || {
                        (
                            waiting.fetch_add(1, Ordering::Relaxed),
                            receiver.recv().unwrap(),
                        )
                    })
                })
                .collect();
            while waiting.load(Ordering::Relaxed) < 20 {
                yield_now();
            }
            (0..20).for_each(|n| sender.send(n).unwrap());
            for fiber in receivers {
                let (place, got) = fiber.join().unwrap();
                assert_eq!(got, place);
            }
        });
    });
}

#[test]
fn values_without_size_and_large_ones() {
    everywhere(|| {
        let (sender, receiver) = channel::bounded(usize::MAX);
        (0..1000).for_each(|_| sender.send(()).unwrap());
        assert_eq!(receiver.try_iter().count(), 1000);
        let (sender, receiver) = channel::unbounded::<[u64; 64]>();
        (0..200).for_each(|n| sender.send([n; 64]).unwrap());
        drop(sender);
        assert!(receiver.iter().zip(0..).all(|(block, n)| block == [n; 64]));
    });
}
