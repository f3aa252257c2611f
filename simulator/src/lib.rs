//! Nodes and clusters in virtual time, on the real state machine of lock.
//!
//! `herd` says what has to start, drawn by `chance`; `node` lets it start on cores that are shared
//! by weight (each start is a `pod`), behind `lock::core::limit` as lock uses it. `best` finds
//! the fixed number of slots that would have been best for a herd, `compare` holds the number that
//! lock finds by itself against it, and `cluster` lets many nodes come back after a power cut.
//! `parallel` spreads them over threads.
//!
//! Nothing here waits, reads a clock or a file: the same seed gives the same morning. Seconds are
//! plain numbers, as in formulas; they become instants where lock is asked.

pub mod best;
pub mod chance;
pub mod cluster;
pub mod compare;
pub mod herd;
pub mod node;
pub mod parallel;
mod pod;
