//! Nodes and clusters in virtual time, on lock's own limit.
//!
//! `herd` draws applications by `chance`. `node` starts them on cores that threads share by weight;
//! each application is a
//! `pod`. `lock::core::limit` says how many starts may begin, and the queue is first come, first
//! served. `best` finds the
//! best fixed number of slots for a herd, `compare` compares `--locks auto` with it, and `cluster`
//! starts many nodes after
//! a power cut. `parallel` runs cases on several threads.
//!
//! The crate reads no clock and no file: the same seed gives the same run. Seconds are plain
//! numbers, as in formulas; they
//! become instants for lock's limit.

pub mod best;
pub mod chance;
pub mod cluster;
pub mod compare;
pub mod herd;
pub mod node;
pub mod parallel;
mod pod;
