//! Copies of the state for metrics and `/state`, which are rendered without the mutex.

use psl::metrics::Histogram;

use crate::core::gate::Gate;
use crate::core::lease::{End, Lease};
use crate::core::limit;
use crate::core::outcome::Tally;
use crate::core::pressure::Pressure;
use crate::core::queue::Waiter;
use crate::core::shadow;

/// Totals since the start.
#[derive(Clone, Debug)]
pub struct Counts {
    pub requests: Tally,
    /// From a holder's first request to its grant.
    pub waited: Histogram,
    /// How long leases were active that have ended.
    pub active: Histogram,
    /// Ended leases by [`End`].
    pub ended: [u64; End::ALL.len()],
}

/// A copy that is rendered without the mutex.
#[derive(Clone, Debug)]
pub struct View {
    pub slots: usize,
    /// The limit that follows the node; `None` if the number of slots is fixed.
    pub limit: Option<limit::Status>,
    pub active: usize,
    /// The leases with the next deadlines.
    pub leases: Vec<Lease>,
    pub waiting: usize,
    pub parked: usize,
    /// The most parked waiters.
    pub most_parked: usize,
    /// The first waiters in the order of service.
    pub queue: Vec<Waiter>,
    pub gate: Gate,
    pub pressure: Pressure,
    /// Shadow mode: the counts of the model.
    pub shadow: Option<shadow::Counts>,
    pub counts: Counts,
}
