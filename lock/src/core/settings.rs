//! The settings of the pure lock.

use std::time::Duration;

use crate::core::pressure;
use crate::core::scheduler::Durations;

/// Whether starts wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Starts wait for their lease.
    Enforce,
    /// Each start is let through at once; a model counts how long it would have waited.
    Shadow,
}

/// The slots of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    Fixed(usize),
    /// The limit follows the node.
    Auto {
        /// Online cores.
        cores: usize,
        /// The upper bound of the limit.
        most: usize,
    },
}

/// The settings of a lock.
#[derive(Clone, Debug)]
pub struct Settings {
    pub slots: Slots,
    pub mode: Mode,
    pub durations: Durations,
    pub pressure: pressure::Limits,
    /// The node that this lock serves.
    pub node: Option<String>,
    /// The names of the endpoints that must be up.
    pub endpoints: Vec<String>,
    /// The gate opens although checks fail after this time.
    pub max_hold: Option<Duration>,
    /// The most parked waiters.
    pub most_parked: usize,
}
