//! Nodes and clusters in virtual time, on the real state machine of lock.
//!
//! `herd` says what has to start, `chance` draws it, `node` lets it start on cores that are shared
//! fairly, behind `lock::state::State` as lock's threads use it. Nothing here waits, reads a clock or
//! a file: the same seed gives the same morning.

pub mod chance;
pub mod herd;
pub mod node;
