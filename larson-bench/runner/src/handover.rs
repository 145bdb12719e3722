//! Batches of blocks on their way between threads.
//!
//! Both forms recycle a fixed set of vectors, so that handing over costs one short lock for a whole batch and never
//! allocates: what is measured is the allocator and not the queue.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::block::Block;

/// Blocks that travel together.
pub type Batch = Vec<Block>;

/// The vectors of a queue or mailbox; each is in one of the two lists or with a thread.
#[derive(Default)]
struct Shelves {
    /// Oldest first: what was made first is freed first.
    full: VecDeque<Batch>,
    empty: Vec<Batch>,
}

impl Shelves {
    fn with_empty(batches: usize, batch: usize) -> Self {
        let empty = (0..batches).map(|_| Batch::with_capacity(batch)).collect();
        Self {
            full: VecDeque::with_capacity(batches),
            empty,
        }
    }
}

/// A bounded queue that makes its users wait.
pub struct BatchQueue {
    /// How many vectors there are.
    batches: usize,
    state: Mutex<QueueState>,
    filled: Condvar,
    emptied: Condvar,
}

struct QueueState {
    shelves: Shelves,
    /// Producers that may still hand something over.
    producers: usize,
    closed: bool,
}

impl BatchQueue {
    /// A queue of `batches` vectors for `batch` blocks each, filled by `producers` threads.
    pub fn new(batches: usize, batch: usize, producers: usize) -> Self {
        let shelves = Shelves::with_empty(batches, batch);
        let state = Mutex::new(QueueState {
            shelves,
            producers,
            closed: false,
        });
        Self {
            batches,
            state,
            filled: Condvar::new(),
            emptied: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().expect("a panic ends the process")
    }

    /// A vector to fill; waits for one, `None` once the queue is closed.
    pub fn take_empty(&self) -> Option<Batch> {
        let waiting = |state: &mut QueueState| state.shelves.empty.is_empty() && !state.closed;
        let mut state = self
            .emptied
            .wait_while(self.state(), waiting)
            .expect("a panic ends the process");
        if state.closed {
            None
        } else {
            state.shelves.empty.pop()
        }
    }

    /// Hands a batch over.
    pub fn put_full(&self, batch: Batch) {
        self.state().shelves.full.push_back(batch);
        self.filled.notify_one();
    }

    /// Waits until every vector is full, the queue is closed or every producer has left.
    pub fn wait_until_full(&self) {
        let waiting = |state: &mut QueueState| {
            state.shelves.full.len() < self.batches && !state.closed && state.producers > 0
        };
        let full = self.filled.wait_while(self.state(), waiting);
        drop(full.expect("a panic ends the process"));
    }

    /// A batch to free; waits for one, `None` once every producer has left and nothing is left.
    pub fn take_full(&self) -> Option<Batch> {
        // A closed queue is no reason to go: a producer may have a batch in its hands.
        let waiting = |state: &mut QueueState| state.shelves.full.is_empty() && state.producers > 0;
        self.filled
            .wait_while(self.state(), waiting)
            .expect("a panic ends the process")
            .shelves
            .full
            .pop_front()
    }

    /// Returns a vector whose blocks are freed.
    pub fn put_empty(&self, batch: Batch) {
        debug_assert!(batch.is_empty());
        self.state().shelves.empty.push(batch);
        self.emptied.notify_one();
    }

    /// Wakes the producers and gives them nothing more to fill.
    pub fn close(&self) {
        self.state().closed = true;
        self.emptied.notify_all();
        self.filled.notify_all();
    }

    /// A producer hands nothing over any more.
    pub fn producer_leaves(&self) {
        self.state().producers -= 1;
        self.filled.notify_all();
    }
}

/// A place where other threads leave batches for one thread. Nobody waits: a giver finds room or doesn't.
pub struct Mailbox(Mutex<Shelves>);

impl Mailbox {
    /// A mailbox with room for `batches` batches of `batch` blocks.
    pub fn new(batches: usize, batch: usize) -> Self {
        Self(Mutex::new(Shelves::with_empty(batches, batch)))
    }

    /// Leaves the batch and gets an empty vector in exchange; `false`, and nothing done, if there is no room.
    pub fn give(&self, batch: &mut Batch) -> bool {
        let mut shelves = self.0.lock().expect("a panic ends the process");
        let Some(empty) = shelves.empty.pop() else {
            return false;
        };
        shelves.full.push_back(std::mem::replace(batch, empty));
        true
    }

    /// Takes a batch in exchange for an empty vector; `false`, and nothing done, if there is none.
    pub fn take(&self, empty: &mut Batch) -> bool {
        debug_assert!(empty.is_empty());
        let mut shelves = self.0.lock().expect("a panic ends the process");
        let Some(full) = shelves.full.pop_front() else {
            return false;
        };
        shelves.empty.push(std::mem::replace(empty, full));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_bounded_and_loses_nothing() {
        let mailbox = Mailbox::new(1, 2);
        let mut batch = vec![Block::new(10), Block::new(20)];
        assert!(mailbox.give(&mut batch) && batch.is_empty());
        batch.push(Block::new(30));
        assert!(!mailbox.give(&mut batch) && batch.len() == 1);
        batch.clear();
        assert!(mailbox.take(&mut batch));
        assert_eq!(batch.iter().map(Block::size).sum::<usize>(), 30);
        batch.clear();
        assert!(!mailbox.take(&mut batch));
    }

    #[test]
    fn a_full_queue_a_closed_one_and_one_without_producers_are_not_waited_for() {
        for end in [BatchQueue::close, BatchQueue::producer_leaves] {
            let queue = BatchQueue::new(2, 1, 1);
            let order = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    queue.wait_until_full();
                    order.lock().unwrap().push("waited");
                });
                let first = queue.take_empty().expect("two are there");
                queue.put_full(first);
                // Long enough for a waiter that doesn't wait.
                std::thread::sleep(std::time::Duration::from_millis(20));
                order.lock().unwrap().push("ended");
                end(&queue);
            });
            assert_eq!(*order.lock().unwrap(), ["ended", "waited"]);
        }
        let queue = BatchQueue::new(1, 1, 1);
        queue.put_full(queue.take_empty().expect("one is there"));
        queue.wait_until_full();
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_holds() {
        let queue = BatchQueue::new(2, 1, 1);
        let mut batch = queue.take_empty().expect("two are there");
        batch.push(Block::new(8));
        queue.close();
        assert!(queue.take_empty().is_none());
        queue.put_full(batch);
        queue.producer_leaves();
        assert_eq!(queue.take_full().map(|batch| batch.len()), Some(1));
        assert!(queue.take_full().is_none());
    }
}
