//! Sequences of operations that don't wait, against a queue of the standard library.

use millpond_fiber::channel::{self, TryRecvError, TrySendError, spsc};
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(u32),
    Receive,
    Look,
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => any::<u32>().prop_map(Step::Send),
        19 => Just(Step::Receive),
        5 => Just(Step::Look),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 0..600)
}

/// Capacity 0 stands for none.
fn limit(capacity: usize) -> usize {
    if capacity == 0 { usize::MAX } else { capacity }
}

macro_rules! follow {
    ($ends:expr, $capacity:expr, $steps:expr) => {
        let (sender, receiver) = $ends;
        let mut model = VecDeque::new();
        let mut closed = false;
        for step in $steps {
            match step {
                Step::Send(value) => {
                    let value = Box::new(value);
                    let expected = if closed {
                        Err(TrySendError::Disconnected(value.clone()))
                    } else if model.len() == limit($capacity) {
                        Err(TrySendError::Full(value.clone()))
                    } else {
                        model.push_back(value.clone());
                        Ok(())
                    };
                    match (sender.try_send(value), expected) {
                        (Ok(()), expected) => prop_assert_eq!(expected, Ok(())),
                        (Err(error), Err(expected)) => {
                            let same =
                                std::mem::discriminant(&error) == std::mem::discriminant(&expected);
                            prop_assert!(same);
                            prop_assert_eq!(error.into_inner(), expected.into_inner());
                        }
                        (error, Ok(())) => prop_assert_eq!(error, Ok(())),
                    }
                }
                Step::Receive => {
                    let expected = model.pop_front().ok_or(if closed {
                        TryRecvError::Disconnected
                    } else {
                        TryRecvError::Empty
                    });
                    prop_assert_eq!(receiver.try_recv(), expected);
                }
                Step::Look => {
                    prop_assert_eq!((sender.len(), receiver.len()), (model.len(), model.len()));
                    prop_assert_eq!(sender.is_empty(), model.is_empty());
                    prop_assert_eq!(receiver.is_full(), model.len() == limit($capacity));
                    prop_assert_eq!(sender.is_closed(), closed);
                }
                Step::Close => {
                    prop_assert_eq!(receiver.close(), !closed);
                    closed = true;
                }
            }
        }
        drop(sender);
        prop_assert_eq!(receiver.iter().collect::<VecDeque<_>>(), model);
    };
}

proptest! {
    #[test]
    fn any_number_of_ends(capacity in 0usize..70, steps in steps()) {
        let ends = match capacity {
            0 => channel::unbounded(),
            capacity => channel::bounded(capacity),
        };
        follow!(ends, capacity, steps);
    }

    #[test]
    fn one_sender_and_one_receiver(capacity in 0usize..70, steps in steps()) {
        let ends = match capacity {
            0 => spsc::unbounded(),
            capacity => spsc::bounded(capacity),
        };
        follow!(ends, capacity, steps);
    }
}
