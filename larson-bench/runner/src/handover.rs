//! Batches of blocks on their way between threads.
