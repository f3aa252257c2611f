//! Copies of the state for metrics and `/state`, which are rendered without the mutex.

use std::time::Instant;

use psl::metrics::Histogram;

use crate::core::gate::Gate;
use crate::core::lease::{Lease, LeaseEnd};
use crate::core::limit::LimitStatus;
use crate::core::lock::Lock;
use crate::core::outcome::Tally;
use crate::core::pressure::Pressure;
use crate::core::queue::Waiter;
use crate::core::shadow::ShadowTotals;

#[derive(Clone, Debug)]
pub struct Totals {
    pub requests: Tally,
    /// From a holder's first request to its grant.
    pub waited: Histogram,
    /// How long leases were active that have ended.
    pub active: Histogram,
    /// Ended leases by [`LeaseEnd`].
    pub ended: [u64; LeaseEnd::ALL.len()],
}

/// In shadow mode slots, leases and queue are those of the model.
#[derive(Clone, Debug)]
pub struct View {
    pub slots: usize,
    /// `None` if the number of slots is fixed.
    pub limit: Option<LimitStatus>,
    pub active: usize,
    /// The leases with the next deadlines.
    pub leases: Vec<Lease>,
    pub waiting: usize,
    pub parked: usize,
    pub most_parked: usize,
    /// The first waiters in the order of service.
    pub queue: Vec<Waiter>,
    pub gate: Gate,
    pub pressure: Pressure,
    pub shadow: Option<ShadowTotals>,
    pub totals: Totals,
}

impl Lock {
    /// A copy of the state with at most `most` leases and waiters.
    pub fn view(&mut self, now: Instant, most: usize) -> View {
        let now = self.advance(now);
        let leases = self.scheduler.leases();
        let queue = self.scheduler.queue();
        View {
            slots: self.scheduler.slots(),
            limit: self.limit_status(now),
            active: leases.len(),
            leases: leases.iter().take(most).cloned().collect(),
            waiting: queue.waiters().len(),
            parked: queue.parked(),
            most_parked: queue.most_parked(),
            queue: queue.order(most).into_iter().cloned().collect(),
            gate: self.gate.clone(),
            pressure: self.pressure.clone(),
            shadow: self.shadow.as_ref().map(|shadow| shadow.totals().clone()),
            totals: self.totals.clone(),
        }
    }
}
