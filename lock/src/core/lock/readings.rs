//! Checks, readings of the node, and the times at which they and the deadlines are due.

use std::time::{Duration, Instant};

use crate::core::gate::CheckResult;
use crate::core::limit::Reading;
use crate::core::lock::{LONG_WAIT, Lock, refusal};
use crate::core::pressure::Readings;
use crate::core::time::after;

/// The clock wakes this long after a reading has become due, at the latest.
pub(super) const RESOLUTION: Duration = Duration::from_millis(1);

/// A client that does not wait still counts as a waiter for this long after its refusal: the
/// longest `Retry-After`.
pub(super) const STILL_WANTED: Duration = refusal::LONGEST_RETRY;

impl Lock {
    /// Records a finished round of checks.
    pub fn finish_round(&mut self, results: Vec<CheckResult>, now: Instant, next_round: Instant) {
        self.gate.finish_round(results, now, next_round);
        self.advance(now);
    }

    /// Records readings of the node's pressure. Returns whether the gate is closed now and which
    /// pressure closes it, if that has changed.
    pub fn read_pressure(&mut self, readings: Readings, now: Instant) -> Option<(bool, String)> {
        let change = self.pressure.read(readings, now);
        self.advance(now);
        change.map(|is_closed| (is_closed, self.pressure.description()))
    }

    /// The pressure must be read before a decision: for a request, or because a waiter is parked.
    pub fn is_pressure_due(&self, for_request: bool, now: Instant) -> bool {
        self.pressure.is_due(now) && (for_request || self.has_parked())
    }

    fn has_parked(&self) -> bool {
        self.scheduler.queue().parked() > 0
    }

    /// Records a reading of the node's load; `None` if it cannot be read. Returns whether its
    /// counters stand still since this reading, at most once a minute.
    pub fn read_load(&mut self, reading: Option<Reading>, now: Instant) -> bool {
        let now = self.advance(now);
        let active = self.scheduler.leases().len();
        let Some(limit) = &mut self.limit else { return false };
        let was_blind = limit.is_blind();
        limit.read(reading, active, now);
        let is_frozen = reading.is_some() && limit.is_blind() && !was_blind;
        self.advance(now);
        let since = self.last_freeze.map(|last| now.saturating_duration_since(last));
        let is_reported = is_frozen && since.is_none_or(|time| time >= LONG_WAIT);
        if is_reported {
            self.last_freeze = Some(now);
        }
        is_reported
    }

    pub fn is_load_due(&self, now: Instant) -> bool {
        self.next_load(now).is_some_and(|at| at <= now)
    }

    /// The next reading of the load: only while a client waits and the gates are open.
    pub(super) fn next_load(&self, now: Instant) -> Option<Instant> {
        let limit = self.limit.as_ref()?;
        let since_refusal = self.last_refusal.map(|at| now.saturating_duration_since(at));
        let is_wanted = self.has_parked() || since_refusal.is_some_and(|time| time < STILL_WANTED);
        (is_wanted && !self.is_any_gate_closed(now)).then(|| limit.next_reading(now))
    }

    /// The next change that the time alone brings.
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        let scheduler = self.scheduler.poll_at(now);
        let shadow = self.shadow.as_ref().and_then(|shadow| shadow.poll_at(now));
        let gates = if self.has_parked() { self.poll_gates_at(now) } else { None };
        // The clock has to wake for a reading that is due.
        let soon = after(now, RESOLUTION);
        let load = self.next_load(now).map(|at| at.max(soon));
        let pressure = self.is_pressure_due(false, now).then_some(soon);
        let events = [scheduler, shadow, gates, load, pressure, self.stall_at()];
        // An event in the past is done, or waits for another event.
        events.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// The next time at which gates or limit may let a waiter start.
    fn poll_gates_at(&self, now: Instant) -> Option<Instant> {
        let overridden = self.gate.overridden_at();
        let pressure = self.pressure.poll_at(now);
        // Behind a closed gate the limit admits no start.
        let quota = match self.is_any_gate_closed(now) {
            true => None,
            false => self.quota(now).and_then(|quota| quota.next),
        };
        [overridden, pressure, quota].into_iter().flatten().filter(|at| *at > now).min()
    }
}
