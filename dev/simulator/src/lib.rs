//! Nodes and clusters in virtual time, on lock's own limit.
//!
//! `herd` draws the applications by `chance`; `node` lets them start on cores that are shared by
//! weight (each start is a `pod`). `lock::core::limit` says how many may begin; the queue is first
//! come, first served. `best` finds the best fixed number of slots for a herd, `compare` holds
//! `--locks auto` against it, and `cluster` lets many nodes come back after a power cut.
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
