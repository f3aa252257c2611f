//! Refusals: the reason, the position, and when to ask again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::limit::{LimitStatus, Reason};
use crate::core::lock::{AT_ONCE, LONG_WAIT, Lock, Stall};
use crate::core::outcome::{Cause, LeaseRequest, Outcome, Refusal};
use crate::core::time::{after, whole_seconds};

/// The longest `Retry-After`.
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// The longest `Retry-After` while slots are free: the next reading of the node may admit a start.
const LONGEST_GATE_RETRY: Duration = Duration::from_secs(5);

impl Lock {
    /// Refuses a request. Its client is expected back at the time that the refusal names.
    pub(super) fn refuse(
        &mut self,
        request: &LeaseRequest,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Outcome {
        let mut refusal = self.refusal(request.holder.as_deref(), now);
        refusal.retry_after = retry_after.unwrap_or(refusal.retry_after);
        if let Some(holder) = &request.holder {
            self.scheduler.expect(holder, after(now, refusal.retry_after));
        }
        Outcome::Locked(refusal)
    }

    pub(super) fn refusal(&self, holder: Option<&str>, now: Instant) -> Refusal {
        let status = self.limit_status(now);
        let cause = self.cause(status.as_ref(), now);
        let queue = self.scheduler.queue();
        let before = holder.and_then(|holder| queue.before(holder));
        let (expected, retry_after) = match cause {
            Cause::Checks(_) => (None, self.until_gate(now)),
            _ => {
                let longest = match cause {
                    Cause::SlotsInUse => LONGEST_RETRY,
                    _ => LONGEST_GATE_RETRY,
                };
                let before = before.unwrap_or(queue.waiters().len());
                let expected = self.expected(status.as_ref(), before, now);
                let left = expected.or_else(|| self.until_event(now)).unwrap_or(longest);
                (expected, left.min(longest))
            }
        };
        Refusal {
            cause,
            is_probe: false,
            retry_after: whole_seconds(retry_after).max(AT_ONCE),
            position: before.map(|before| before + 1),
            expected,
        }
    }

    pub(super) fn cause(&self, status: Option<&LimitStatus>, now: Instant) -> Cause {
        if self.are_checks_closed(now) {
            return Cause::Checks(self.gate.reasons());
        }
        if let Some(pressure) = self.pressure.reason(now) {
            return Cause::Pressure(pressure);
        }
        match status {
            Some(status) if self.scheduler.has_free_slot() => Cause::Limit(status.to_string()),
            _ => Cause::SlotsInUse,
        }
    }

    /// Reports a first waiter that has waited for long although slots are free.
    pub(super) fn report_stall(&mut self, now: Instant) {
        let is_due = self.stall_at().is_some_and(|at| at <= now);
        if !is_due || !self.scheduler.has_free_slot() || self.shadow.is_some() {
            return;
        }
        let cause = self.cause(self.limit_status(now).as_ref(), now);
        let (Cause::Pressure(reason) | Cause::Limit(reason)) = cause else { return };
        let Some(first) = self.scheduler.queue().longest_parked() else { return };
        let waited = now.saturating_duration_since(first.arrival.since);
        self.effects.stall = Some(Stall { holder: Arc::clone(&first.holder), waited, reason });
        self.last_stall = Some(now);
    }

    /// The next time at which a long wait beside free slots is logged.
    pub(super) fn stall_at(&self) -> Option<Instant> {
        let first = self.scheduler.queue().longest_parked()?;
        let last = self.last_stall.map(|last| after(last, LONG_WAIT));
        last.max(Some(after(first.arrival.since, LONG_WAIT)))
    }

    /// The time to the expected grant of a waiter that has `before` waiters before it.
    fn expected(
        &self,
        status: Option<&LimitStatus>,
        before: usize,
        now: Instant,
    ) -> Option<Duration> {
        let slots = match status {
            None => self.scheduler.slots(),
            Some(status) => match status.reason {
                Reason::Free | Reason::Max => status.limit,
                // The end of a lease makes room only below the floor.
                Reason::Pace | Reason::Busy | Reason::Stalled | Reason::Blind => status.floor,
            },
        };
        let by_slots = self.scheduler.expected(before, slots, now)?;
        if let Some(until) = self.pressure.closed_until(now) {
            let floor = self.pressure.floor().saturating_mul(before as u32);
            return Some(until.saturating_duration_since(now).saturating_add(floor).max(by_slots));
        }
        let by_pace = status.and_then(|status| status.expected(before));
        Some(by_pace.map_or(by_slots, |by_pace| by_pace.min(by_slots)))
    }

    /// The time to the next round of checks, or until starts may begin although they fail.
    fn until_gate(&self, now: Instant) -> Duration {
        let next = self.gate.next_round();
        let at = self.gate.overridden_at().map_or(next, |at| at.min(next));
        at.saturating_duration_since(now)
    }

    /// The time to the next event that may free a slot.
    fn until_event(&self, now: Instant) -> Option<Duration> {
        let deadline = self.scheduler.leases().iter().next().map(|lease| lease.deadline);
        let pressure = self.pressure.closed_until(now);
        let quota = self.quota(now).and_then(|quota| quota.next);
        let event = [deadline, pressure, quota].into_iter().flatten().min()?;
        Some(event.saturating_duration_since(now))
    }
}
