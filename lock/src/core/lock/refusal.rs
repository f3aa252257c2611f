//! Refusals: the reason, the position, and when to ask again.

use std::time::{Duration, Instant};

use crate::core::limit::Reason;
use crate::core::lock::Lock;
use crate::core::outcome::{Cause, Refusal};
use crate::core::pressure;

/// The longest `Retry-After`.
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// The longest `Retry-After` while slots are free: the next reading of the node may admit a start.
const LONGEST_GATE_RETRY: Duration = Duration::from_secs(5);

impl Lock {
    pub(super) fn refusal(&self, holder: Option<&str>, now: Instant) -> Refusal {
        let cause = self.cause(now);
        let waiting = self.scheduler.queue().waiters().len();
        let before = holder.and_then(|holder| self.scheduler.queue().before(holder));
        let expected = match cause {
            Cause::Checks(_) => None,
            _ => self.expected(before.unwrap_or(waiting), now),
        };
        let retry_after = match cause {
            Cause::Checks(_) => self.until_gate(now),
            _ => {
                let longest = if matches!(cause, Cause::SlotsInUse) {
                    LONGEST_RETRY
                } else {
                    LONGEST_GATE_RETRY
                };
                expected.or_else(|| self.until_event(now)).map_or(longest, |left| left.min(longest))
            }
        };
        Refusal {
            cause,
            is_probe: false,
            retry_after: whole_seconds(retry_after),
            position: before.map(|before| before + 1),
            expected,
        }
    }

    pub(super) fn cause(&self, now: Instant) -> Cause {
        if self.is_closed(now) {
            return Cause::Checks(self.gate.reasons());
        }
        if let Some(pressure) = self.pressure.reason(now) {
            return Cause::Pressure(pressure);
        }
        let active = self.scheduler.leases().len();
        match &self.limit {
            Some(limit) if self.scheduler.has_free_slot() => {
                Cause::Limit(limit.status(active, now).to_string())
            }
            _ => Cause::SlotsInUse,
        }
    }

    /// The time to the expected grant of a waiter that has `before` waiters before it.
    fn expected(&self, before: usize, now: Instant) -> Option<Duration> {
        let active = self.scheduler.leases().len();
        let status = self.limit.as_ref().map(|limit| limit.status(active, now));
        let slots = status.map_or(self.scheduler.slots(), |status| match status.reason {
            Reason::Free | Reason::Max => status.limit,
            // The end of a lease makes room only below the floor.
            Reason::Pace | Reason::Busy | Reason::Stalled | Reason::Blind => status.floor,
        });
        let by_slots = self.scheduler.expected(before, slots, now)?;
        if let pressure::Verdict::Held { until } = self.pressure.verdict(now) {
            let floor = self.pressure.floor().saturating_mul(before as u32);
            return Some(until.saturating_duration_since(now).saturating_add(floor).max(by_slots));
        }
        let by_pace = status.and_then(|status| status.expected(before));
        Some(by_pace.map_or(by_slots, |by_pace| by_pace.min(by_slots)))
    }

    /// The time to the next round of checks, or until they no longer hold starts back.
    fn until_gate(&self, now: Instant) -> Duration {
        let next = self.gate.next_round();
        let at = self.gate.overridden_at().map_or(next, |at| at.min(next));
        at.saturating_duration_since(now)
    }

    /// The time to the next event that may free a slot.
    fn until_event(&self, now: Instant) -> Option<Duration> {
        let deadline = self.scheduler.leases().iter().next().map(|lease| lease.deadline);
        let pressure = match self.pressure.verdict(now) {
            pressure::Verdict::Held { until } => Some(until),
            _ => None,
        };
        let quota = self.quota(now).and_then(|quota| quota.next);
        let event = deadline.into_iter().chain(pressure).chain(quota).min();
        event.map(|at| at.saturating_duration_since(now))
    }
}

/// Whole seconds, rounded up, at least one.
fn whole_seconds(duration: Duration) -> Duration {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    Duration::from_secs(seconds.max(1))
}
