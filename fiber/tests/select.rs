//! Select over channels of all kinds.

mod support;

use millpond_fiber::channel::{
    self, RecvError, Select, SelectTimeoutError, SendError, TryRecvError, spsc,
};
use millpond_fiber::{Builder, CancelToken, Cancelled, select, sleep, spawn};
use std::time::Duration;
use support::{both_modes, watched};

const SHORT: Duration = Duration::from_millis(20);

/// Runs a check on a plain thread and as a fiber.
fn everywhere(check: fn()) {
    watched(|| {
        check();
        for runtime in [1, 2, 64].into_iter().flat_map(both_modes) {
            runtime.block_on(check);
        }
    });
}

#[test]
fn ready_operations_are_chosen_fairly() {
    everywhere(|| {
        let (a, from_a) = channel::bounded(1);
        let (b, from_b) = channel::bounded(1);
        let (_never, from_never) = channel::bounded::<u32>(1);
        let mut counts = [0, 0];
        a.send(0).unwrap();
        b.send(1).unwrap();
        for _ in 0..10_000 {
            let n: usize = select! {
                recv(from_a) -> n => n.unwrap(),
                recv(from_never) -> _ => unreachable!(),
                recv(from_b) -> n => n.unwrap(),
            };
            counts[n] += 1;
            [&a, &b][n].send(n).unwrap();
        }
        assert!(
            counts.iter().all(|count| (4000..=6000).contains(count)),
            "{counts:?}"
        );
    });
}

/// Both senders wait each time, so it is the select that is chosen from.
#[test]
fn waiting_senders_are_chosen_fairly() {
    everywhere(|| {
        let (a, from_a) = channel::bounded(0);
        let (b, from_b) = channel::bounded(0);
        let senders = [a, b].map(|sender| spawn(move || while sender.send(()).is_ok() {}));
        let mut counts = [0, 0];
        while counts[0] + counts[1] < 10_000 {
            let n = select! { recv(from_a) -> _ => 0, recv(from_b) -> _ => 1 };
            counts[n] += 1;
            millpond_fiber::yield_now();
        }
        drop((from_a, from_b));
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
        assert!(counts.iter().all(|&count| count > 1000), "{counts:?}");
    });
}

#[test]
fn a_select_waits_for_whatever_comes() {
    everywhere(|| {
        let (numbers, number) = channel::bounded(0);
        let (words, word) = channel::unbounded();
        let (ring, from_ring) = spsc::bounded(1);
        let sender = spawn(move || {
            for n in 0..100 {
                numbers.send(n).unwrap();
                words.send(n.to_string()).unwrap();
                ring.send(Box::new(n)).unwrap();
            }
        });
        let mut sums = [0; 3];
        let mut left = 300;
        while left > 0 {
            select! {
                recv(number) -> n => if let Ok(n) = n { sums[0] += n; left -= 1 },
                recv(word) -> n => if let Ok(n) = n { sums[1] += n.parse::<i32>().unwrap(); left -= 1 },
                recv(from_ring) -> n => { if let Ok(n) = n { sums[2] += *n; left -= 1 } }
            }
        }
        sender.join().unwrap();
        assert_eq!(sums, [4950; 3]);
    });
}

/// Fibers that send and receive on the same channels, each by select: two selects meet on a rendezvous, and none with
/// itself.
#[test]
fn selects_meet() {
    everywhere(|| {
        let (a, from_a) = channel::bounded(0);
        let (b, from_b) = channel::bounded(0);
        let fibers: Vec<_> = (0..8u64)
            .map(|id| {
                let (a, from_a, b, from_b) = (a.clone(), from_a.clone(), b.clone(), from_b.clone());
                spawn(move || {
                    let (mut sent, mut received) = (0, 0);
                    // In pairs, so that nobody is left over: half of them do the opposite of the other half.
                    for n in 0..200u64 {
                        let value = id * 1000 + n;
                        if id % 2 == 0 {
                            select! {
                                send(a, value) -> done => { done.unwrap(); sent += value }
                                recv(from_b) -> got => received += got.unwrap(),
                            }
                        } else {
                            select! {
                                recv(from_a) -> got => received += got.unwrap(),
                                send(b, value) -> done => { done.unwrap(); sent += value }
                            }
                        }
                    }
                    (sent, received)
                })
            })
            .collect();
        let sums: Vec<(u64, u64)> = fibers
            .into_iter()
            .map(|fiber| fiber.join().unwrap())
            .collect();
        let sent: u64 = sums.iter().map(|sum| sum.0).sum();
        let received: u64 = sums.iter().map(|sum| sum.1).sum();
        assert_eq!(sent, received);
        assert_ne!(sent, 0);
    });
}

#[test]
fn a_select_does_not_meet_itself() {
    everywhere(|| {
        let (sender, receiver) = channel::bounded(0);
        let got = select! {
            send(sender, 1) -> _ => 1,
            recv(receiver) -> _ => 2,
            default(SHORT) => 3,
        };
        assert_eq!(got, 3);
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn values_come_back() {
    everywhere(|| {
        let (sender, receiver) = channel::bounded::<String>(0);
        let (ring, _from_ring) = spsc::bounded(1);
        ring.send(String::new()).unwrap();
        let mut one = Some("one".to_owned());
        let mut two = Some("two".to_owned());
        select! {
            send_from(sender, one) -> _ => unreachable!(),
            send_from(ring, two) -> _ => unreachable!(),
            default(SHORT) => {}
        }
        assert_eq!((one.as_deref(), two.as_deref()), (Some("one"), Some("two")));
        drop(receiver);
        select! { send_from(sender, one) -> sent => assert_eq!(sent, Err(SendError::Disconnected("one".to_owned()))) }
        let op = ring.send_op("three".to_owned());
        assert_eq!(op.into_value().as_deref(), Some("three"));
    });
}

#[test]
fn time_and_tokens_end_a_select() {
    everywhere(|| {
        let (_sender, receiver) = channel::bounded::<u32>(0);
        let (_one, other) = spsc::bounded::<u32>(1);
        let (mut a, mut b) = (receiver.recv_op(), other.recv_op());
        let timed = channel::select_timeout(&mut [&mut a, &mut b], SHORT);
        assert_eq!(timed, Err(SelectTimeoutError::Timeout));
        assert_eq!(channel::try_select(&mut [&mut a, &mut b]), None);

        let token = CancelToken::new();
        let (function, arms) = (receiver.clone(), receiver.clone());
        let fibers = [
            Builder::new().cancel_token(&token).spawn(move || {
                let mut op = function.recv_op();
                channel::select(&mut [&mut op]) == Err(Cancelled) && op.into_result().is_none()
            }),
            Builder::new().cancel_token(&token).spawn(
                move || select! { recv(arms) -> got => got == Err(RecvError::Cancelled), recv(other) -> _ => false },
            ),
        ];
        sleep(SHORT).unwrap();
        token.cancel();
        for fiber in fibers {
            assert!(fiber.unwrap().join().unwrap());
        }
    });
}

#[test]
fn closing_ends_a_select() {
    everywhere(|| {
        let (sender, receiver) = channel::bounded::<u32>(0);
        let (one, other) = spsc::bounded::<u32>(1);
        let waiting = spawn(move || {
            select! {
                recv(receiver) -> got => assert_eq!(got, Err(RecvError::Disconnected)),
                recv(other) -> _ => unreachable!(),
            }
            select! { recv(other) -> got => assert_eq!(got, Ok(1)) }
            select! { recv(other) -> got => assert_eq!(got, Err(RecvError::Disconnected)) }
        });
        sleep(SHORT).unwrap();
        drop(sender);
        one.send(1).unwrap();
        sleep(SHORT).unwrap();
        drop(one);
        waiting.join().unwrap();
    });
}

#[test]
fn a_list_of_operations() {
    everywhere(|| {
        let channels: Vec<_> = (0..20).map(|_| channel::bounded::<usize>(1)).collect();
        let (out, from_out) = channel::bounded::<String>(0);
        let mut select = Select::new();
        for (_, receiver) in &channels {
            select.recv(receiver);
        }
        let send = select.send(&out, "first".to_owned());
        for round in 0..100 {
            let n = round * 7 % 20;
            channels[n].0.send(round).unwrap();
            let selected = select.select().unwrap();
            assert_eq!(selected.index(), n);
            assert_eq!(selected.recv(&channels[n].1), Ok(round));
        }
        assert_eq!(
            select.refill(send, &out, "second".to_owned()).as_deref(),
            Some("first")
        );
        let taker = spawn(move || from_out.recv());
        let selected = select.select().unwrap();
        assert_eq!(selected.index(), send);
        assert_eq!(selected.send(&out), Ok(()));
        assert_eq!(taker.join().unwrap().as_deref(), Ok("second"));
        assert!(select.try_select().is_none());
        select.remove(3);
        channels[3].0.send(0).unwrap();
        assert!(select.select_timeout(SHORT).is_err());
    });
}

#[test]
#[should_panic(expected = "a select without operations waits for ever")]
fn a_select_of_nothing_panics() {
    let (sender, _receiver) = channel::bounded(1);
    let mut op = sender.send_op(1);
    assert_eq!(channel::select(&mut [&mut op]), Ok(0));
    assert_eq!(op.take_result(), Some(Ok(())));
    let _ = channel::select(&mut [&mut op]);
}
