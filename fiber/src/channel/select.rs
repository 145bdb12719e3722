//! Waiting for one of several operations. A select that finds nothing ready locks all its channels, in the order of
//! their addresses, looks again, and stands in all their lists before it lets go (as Go's does); so nobody can find it
//! in one list and not in another, and two selects that meet never claim each other. Afterwards it takes itself out of
//! each.

use super::error::SelectTimeoutError;
use super::operation::Operation;
use super::wait_list::{CLOSED, Claimed, REASONS};
use crate::Cancelled;
use crate::wait::{CANCELLED, FIRED, TIMED_OUT, Waiter};
use std::time::{Duration, Instant};

/// Carries out one of several operations, on channels of any types: waits until one can be, and returns its number. Of
/// several that can be at once it takes one by chance, each with the same probability. An operation on a closed channel
/// can be carried out: its result is an error.
///
/// [`crate::select!`] is the short form for a fixed number of operations, [`crate::channel::Select`] one for a list
/// that changes.
///
/// ```
/// use millpond_fiber::channel;
///
/// let (numbers, number) = channel::bounded(1);
/// let (_words, word) = channel::unbounded::<String>();
/// numbers.send(7).unwrap();
/// let (mut a, mut b) = (number.recv_op(), word.recv_op());
/// assert_eq!(channel::select(&mut [&mut a, &mut b]), Ok(0));
/// assert_eq!(a.into_result(), Some(Ok(7)));
/// ```
///
/// # Errors
/// When it has to wait and the fiber's token is cancelled; then no operation was carried out.
///
/// # Panics
/// Without operations, which would be a wait for ever. (A send that was carried out is none any more.)
pub fn select(operations: &mut [&mut dyn Operation]) -> Result<usize, Cancelled> {
    choose(operations, None).map_err(|_| Cancelled)
}

/// As [`select`], without waiting: `None` if no operation can be carried out.
pub fn try_select(operations: &mut [&mut dyn Operation]) -> Option<usize> {
    Order::shuffled(operations.len()).attempt(operations)
}

/// As [`select`], for a time at most.
///
/// # Errors
/// When the time is over, and as for [`select`]; then no operation was carried out.
pub fn select_timeout(
    operations: &mut [&mut dyn Operation],
    timeout: Duration,
) -> Result<usize, SelectTimeoutError> {
    choose(operations, Instant::now().checked_add(timeout))
}

/// As [`select`], until a time at most.
///
/// # Errors
/// As for [`select_timeout`].
pub fn select_deadline(
    operations: &mut [&mut dyn Operation],
    deadline: Instant,
) -> Result<usize, SelectTimeoutError> {
    choose(operations, Some(deadline))
}

fn choose(
    operations: &mut [&mut dyn Operation],
    deadline: Option<Instant>,
) -> Result<usize, SelectTimeoutError> {
    let order = Order::shuffled(operations.len());
    if let Some(chosen) = order.attempt(operations) {
        return Ok(chosen);
    }
    loop {
        if let Some(chosen) = wait(operations, &order, deadline)? {
            return Ok(chosen);
        }
    }
}

/// Waits once; without a result, if what it waited for was taken by another.
#[cold]
fn wait(
    operations: &mut [&mut dyn Operation],
    order: &Order,
    deadline: Option<Instant>,
) -> Result<Option<usize>, SelectTimeoutError> {
    assert!(
        deadline.is_some() || operations.iter().any(|operation| operation.is_armed()),
        "a select without operations waits for ever"
    );
    let waiter = Waiter::new();
    let locked = Locked::all(operations);
    loop {
        if let Some((chosen, claimed)) = locked.attempt(operations, order) {
            locked.release(operations);
            if let Some(claimed) = claimed {
                claimed.signal();
            }
            return Ok(Some(chosen));
        }
        if locked.register(operations, &waiter) {
            break;
        }
    }
    locked.release(operations);
    let reason = waiter.wait_interruptibly(deadline);
    let chosen = reason.checked_sub(FIRED).map(|reason| reason / REASONS);
    for (index, operation) in operations.iter_mut().enumerate() {
        // Who claimed a node has taken it out.
        if Some(index) != chosen {
            operation.acquire();
            // SAFETY: locked.
            unsafe {
                operation.withdraw();
                operation.release();
            }
        }
    }
    match (chosen, reason) {
        (Some(chosen), _) => {
            // SAFETY: claimed by its node.
            let done = unsafe { operations[chosen].finish((reason - FIRED) % REASONS == CLOSED) };
            Ok(done.then_some(chosen))
        }
        (None, TIMED_OUT) => Err(SelectTimeoutError::Timeout),
        (None, reason) => {
            debug_assert_eq!(reason, CANCELLED);
            Err(SelectTimeoutError::Cancelled)
        }
    }
}

/// Numbers up to this many lie in the frame, more in a vector.
const FEW: usize = 8;

/// The numbers of some operations, in some order.
enum Order {
    Few([u8; FEW], usize),
    Many(Vec<usize>),
}

impl Order {
    /// In their own order.
    fn straight(count: usize) -> Self {
        if count <= FEW {
            Self::Few(std::array::from_fn(|index| index as u8), count)
        } else {
            Self::Many((0..count).collect())
        }
    }

    /// In any order, each as likely as the others (Fisher and Yates; the bias of the random numbers is below
    /// 2⁻³²·count).
    fn shuffled(count: usize) -> Self {
        let mut order = Self::straight(count);
        for last in (1..count).rev() {
            let other = ((u64::from(random()) * (last as u64 + 1)) >> 32) as usize;
            match &mut order {
                Self::Few(numbers, _) => numbers.swap(last, other),
                Self::Many(numbers) => numbers.swap(last, other),
            }
        }
        order
    }

    /// By the addresses of their channels, each channel once.
    fn by_channel(operations: &[&mut dyn Operation]) -> Self {
        let mut order = Self::straight(operations.len());
        let key = |index: usize| operations[index].lock_address();
        match &mut order {
            Self::Few(numbers, count) => {
                let sorted = &mut numbers[..*count];
                sorted.sort_unstable_by_key(|&index| key(usize::from(index)));
                let mut kept = 0;
                for next in 0..sorted.len() {
                    if next == 0
                        || key(usize::from(sorted[next])) != key(usize::from(sorted[kept - 1]))
                    {
                        sorted[kept] = sorted[next];
                        kept += 1;
                    }
                }
                *count = kept;
            }
            Self::Many(numbers) => {
                numbers.sort_unstable_by_key(|&index| key(index));
                numbers.dedup_by_key(|index| key(*index));
            }
        }
        order
    }

    fn len(&self) -> usize {
        match self {
            Self::Few(_, count) => *count,
            Self::Many(numbers) => numbers.len(),
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.len()).map(|place| match self {
            Self::Few(numbers, _) => usize::from(numbers[place]),
            Self::Many(numbers) => numbers[place],
        })
    }

    /// Carries out the first operation that can be.
    fn attempt(&self, operations: &mut [&mut dyn Operation]) -> Option<usize> {
        self.iter().find(|&index| {
            let operation = &mut operations[index];
            operation.acquire();
            // SAFETY: locked, and released below.
            let attempt = unsafe { operation.attempt() };
            // SAFETY: locked.
            unsafe { operation.release() };
            match attempt {
                Some(Some(claimed)) => claimed.signal(),
                Some(None) => {}
                None => return false,
            }
            true
        })
    }
}

/// The locks of all channels of a select.
struct Locked(Order);

impl Locked {
    fn all(operations: &[&mut dyn Operation]) -> Self {
        let order = Order::by_channel(operations);
        for index in order.iter() {
            operations[index].acquire();
        }
        Self(order)
    }

    fn attempt(
        &self,
        operations: &mut [&mut dyn Operation],
        order: &Order,
    ) -> Option<(usize, Option<Claimed>)> {
        order.iter().find_map(|index| {
            // SAFETY: all are locked.
            let attempt = unsafe { operations[index].attempt() };
            attempt.map(|claimed| (index, claimed))
        })
    }

    /// Waits at all of them, or if there is one that can be carried out now, at none.
    fn register(&self, operations: &mut [&mut dyn Operation], waiter: &Waiter) -> bool {
        for index in 0..operations.len() {
            // SAFETY: all are locked; the operations are borrowed until they have been withdrawn, and so is the waiter.
            if unsafe { operations[index].register(waiter, FIRED + REASONS * index) } {
                continue;
            }
            for operation in &mut operations[..index] {
                // SAFETY: all are locked, so nobody has claimed the waiter.
                unsafe { operation.withdraw() };
            }
            return false;
        }
        true
    }

    fn release(self, operations: &[&mut dyn Operation]) {
        for index in self.0.iter() {
            // SAFETY: locked by `all`.
            unsafe { operations[index].release() };
        }
    }
}

/// A random number, of the thread's own sequence. Never inlined: a fiber may call it on one thread and then on another.
#[cfg(not(fiber_loom))]
#[inline(never)]
fn random() -> u32 {
    thread_local! {
        static STATE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    STATE.with(|state| {
        let mut x = state.get();
        if x == 0 {
            // Different for each thread, and it needs no more.
            x = std::ptr::from_ref(state).addr() as u64 | 1;
        }
        // Xorshift*, Marsaglia 2003 and Vigna 2016.
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    })
}

/// A model repeats each run.
#[cfg(fiber_loom)]
fn random() -> u32 {
    0
}

/// How long a [`crate::select!`] waits.
#[doc(hidden)]
#[derive(Debug)]
pub enum Limit {
    Never,
    Now,
    After(Duration),
}

/// What [`crate::select!`] does: if a result comes of it, one of the operations has it.
#[doc(hidden)]
pub fn carry_out(operations: &mut [&mut dyn Operation], limit: Limit) {
    let deadline = match limit {
        Limit::Now => {
            try_select(operations);
            return;
        }
        Limit::Never => None,
        Limit::After(timeout) => Instant::now().checked_add(timeout),
    };
    if choose(operations, deadline) == Err(SelectTimeoutError::Cancelled) {
        operations[0].cancel();
    }
}

/// Carries out one of several operations on channels, and goes on with the arm of that one.
///
/// The arms are `recv(receiver) -> result => ...`, `send(sender, value) -> result => ...`,
/// `send_from(sender, option) -> result => ...`, and at the end, if it shall not wait, or not for longer than a time,
/// `default => ...` or `default(duration) => ...`. A result is what [`crate::channel::Receiver::recv`] or
/// [`crate::channel::Sender::send`] returns. If several operations can be carried out, each of them is as likely as the
/// others.
///
/// All receivers, senders and values are evaluated before the wait, as in Go. The value of a `send` that isn't chosen
/// is dropped; `send_from` takes the value out of an `Option` and puts it back there when it isn't sent.
///
/// When the fiber has to wait and its token is cancelled, the first arm's result says so.
///
/// ```
/// use millpond_fiber::{channel, select};
///
/// let (numbers, number) = channel::bounded(1);
/// let (words, _word) = channel::bounded(0);
/// numbers.send(7).unwrap();
/// let mut unsent = Some("seven");
/// let got = select! {
///     recv(number) -> result => result.unwrap(),
///     send_from(words, unsent) -> _ => unreachable!("nobody receives words"),
///     default => 0,
/// };
/// assert_eq!((got, unsent), (7, Some("seven")));
/// ```
#[macro_export]
macro_rules! select {
    (@arms [$($arm:tt)*] recv($receiver:expr) -> $result:pat => $body:expr, $($rest:tt)*) => {
        $crate::select!(@arms [$($arm)* { operation, ($receiver).recv_op(), $result, $body }] $($rest)*)
    };
    (@arms [$($arm:tt)*] recv($receiver:expr) -> $result:pat => $body:block $($rest:tt)*) => {
        $crate::select!(@arms [$($arm)* { operation, ($receiver).recv_op(), $result, $body }] $($rest)*)
    };
    (@arms [$($arm:tt)*] recv($receiver:expr) -> $result:pat => $body:expr) => {
        $crate::select!(@arms [$($arm)* { operation, ($receiver).recv_op(), $result, $body }])
    };
    (@arms [$($arm:tt)*] send($sender:expr, $value:expr) -> $result:pat => $body:expr, $($rest:tt)*) => {
        $crate::select!(@arms [$($arm)* { operation, ($sender).send_op($value), $result, $body }] $($rest)*)
    };
    (@arms [$($arm:tt)*] send($sender:expr, $value:expr) -> $result:pat => $body:block $($rest:tt)*) => {
        $crate::select!(@arms [$($arm)* { operation, ($sender).send_op($value), $result, $body }] $($rest)*)
    };
    (@arms [$($arm:tt)*] send($sender:expr, $value:expr) -> $result:pat => $body:expr) => {
        $crate::select!(@arms [$($arm)* { operation, ($sender).send_op($value), $result, $body }])
    };
    (@arms [$($arm:tt)*] send_from($sender:expr, $value:expr) -> $result:pat => $body:expr, $($rest:tt)*) => {
        $crate::select!(@arms [$($arm)* { operation, ($sender).send_op_from(&mut $value), $result, $body }] $($rest)*)
    };
    (@arms [$($arm:tt)*] send_from($sender:expr, $value:expr) -> $result:pat => $body:block $($rest:tt)*) => {
        $crate::select!(@arms [$($arm)* { operation, ($sender).send_op_from(&mut $value), $result, $body }] $($rest)*)
    };
    (@arms [$($arm:tt)*] send_from($sender:expr, $value:expr) -> $result:pat => $body:expr) => {
        $crate::select!(@arms [$($arm)* { operation, ($sender).send_op_from(&mut $value), $result, $body }])
    };
    (@arms [$($arm:tt)+] default => $body:expr $(,)?) => {
        $crate::select!(@run [$($arm)+] ($crate::channel::Limit::Now) $body)
    };
    (@arms [$($arm:tt)+] default($timeout:expr) => $body:expr $(,)?) => {
        $crate::select!(@run [$($arm)+] ($crate::channel::Limit::After($timeout)) $body)
    };
    (@arms [$($arm:tt)+]) => {
        $crate::select!(@run [$($arm)+] ($crate::channel::Limit::Never) unreachable!("one operation was carried out"))
    };
    (@run [$({ $operation:ident, $make:expr, $result:pat, $body:expr })+] ($limit:expr) $default:expr) => {{
        // The operations are gone when an arm's body runs, and values that weren't sent are back where they came from.
        let ($($operation,)+) = {
            $(let mut $operation = $make;)+
            $crate::channel::carry_out(&mut [$(&mut $operation),+], $limit);
            ($($operation.into_result(),)+)
        };
        $(
            if let Some(result) = $operation {
                let $result = result;
                $body
            } else
        )+
        {
            $default
        }
    }};
    ($($arms:tt)+) => {
        $crate::select!(@arms [] $($arms)+)
    };
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::super::buffer::Buffer;
    use super::super::core::Core;
    use super::super::operation::{RecvOp, SendOp};
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Two channels in one allocation, so that their addresses have the same order in each run.
    type Channels = Arc<(Core<u32>, Core<u32>)>;

    fn check(capacity: usize, model: impl Fn(Channels) + Sync + Send + 'static) {
        let mut bounded = loom::model::Builder::new();
        bounded.preemption_bound = Some(2);
        let core = move || Core::new(Buffer::bounded(capacity));
        bounded.check(move || model(Arc::new((core(), core()))));
    }

    /// Two senders, each on a channel of its own: a select gets both values, once each, whether it waits or they do.
    #[test]
    fn both_arrive() {
        for capacity in [0, 1] {
            check(capacity, |channels| {
                let senders = [0, 1].map(|which| {
                    let channels = channels.clone();
                    thread::spawn(move || {
                        let core = if which == 0 { &channels.0 } else { &channels.1 };
                        assert!(core.send(which + 1, None).is_ok());
                    })
                });
                let mut sum = 0;
                for _ in 0..2 {
                    let mut first = RecvOp::new(&channels.0);
                    let mut second = RecvOp::new(&channels.1);
                    let chosen = select(&mut [&mut first, &mut second]);
                    let result = match chosen {
                        Ok(0) => first.take_result(),
                        Ok(_) => second.take_result(),
                        Err(Cancelled) => None,
                    };
                    sum += result.expect("it was carried out").expect("nobody closes");
                }
                assert_eq!(sum, 3);
                for sender in senders {
                    sender.join().unwrap();
                }
            });
        }
    }

    /// Two selects meet, each ready to send on the one channel and to receive from the other: one value goes over, and
    /// both know which.
    #[test]
    fn two_selects_meet() {
        check(0, |channels| {
            let meet = |send: &Core<u32>, recv: &Core<u32>| {
                let mut send = SendOp::new(send, 7);
                let mut recv = RecvOp::new(recv);
                let chosen = select(&mut [&mut send, &mut recv]).expect("nobody cancels");
                if chosen == 0 {
                    assert!(send.take_result().expect("carried out").is_ok());
                } else {
                    assert_eq!(recv.take_result(), Some(Ok(7)));
                    assert_eq!(send.into_value(), Some(7));
                }
                chosen == 0
            };
            let other = channels.clone();
            let thread = thread::spawn(move || meet(&other.1, &other.0));
            let sent = meet(&channels.0, &channels.1);
            assert_ne!(
                sent,
                thread.join().unwrap(),
                "one sends, the other receives"
            );
        });
    }
}
