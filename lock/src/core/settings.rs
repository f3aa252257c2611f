//! The settings of the pure lock.

use std::time::Duration;

use psl::protocol::node::NodeName;

use crate::core::pressure::PressureLimits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Starts wait for their lease.
    Enforce,
    /// Each start is let through at once; a model counts how long it would have waited.
    Shadow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    Fixed(usize),
    /// The limit follows the node, `most` leases at most.
    Auto {
        cores: usize,
        most: usize,
    },
}

/// Durations of leases and probes.
#[derive(Clone, Copy, Debug)]
pub struct Durations {
    /// The duration of a request that names none.
    pub default: Duration,
    pub longest: Duration,
    /// The longest pause between two probes of a port.
    pub probe_pause: Duration,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub slots: Slots,
    pub mode: Mode,
    pub durations: Durations,
    pub pressure: PressureLimits,
    /// The node that this lock serves.
    pub node: Option<NodeName>,
    /// The names of the endpoints that must be up.
    pub endpoints: Vec<String>,
    /// The gate opens although checks fail after this time.
    pub max_hold: Option<Duration>,
    pub most_parked: usize,
}
