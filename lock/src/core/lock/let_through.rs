//! Shadow mode: each start is let through, and the model counts its wait.

use std::time::Instant;

use crate::core::lock::Lock;
use crate::core::outcome::{Grant, Kind, LeaseRequest, Outcome};
use crate::core::scheduler::Response;

impl Lock {
    /// Shadow mode: begins a lease for each start, and counts its wait in the model.
    pub(super) fn let_through(&mut self, request: &LeaseRequest, now: Instant) -> Outcome {
        let Some(shadow) = &mut self.shadow else { return Outcome::SlotFree };
        let start = match shadow.real.request(request, None, true, now) {
            Response::Again(outcome) => return outcome,
            Response::Granted(start) => start,
            // More starts than the model follows.
            Response::Parked | Response::Refused => {
                shadow.count(Kind::Busy);
                let refusal = self.refusal(None, now);
                return Outcome::LetThrough(Box::new(Outcome::Locked(refusal)));
            }
        };
        let name = shadow.begin(start.lease, request, &mut self.scheduler, now);
        self.advance(now);
        let waits = self.scheduler.queue().of(&name).is_some();
        let would = match waits {
            true => Outcome::Locked(self.refusal(Some(&name), now)),
            false => Outcome::SlotFree,
        };
        let grant = self.grant(start, now);
        if let Some(shadow) = &mut self.shadow {
            shadow.count(if waits { would.kind() } else { Kind::Granted });
            if grant.is_quiet {
                shadow.set_quiet(grant.lease);
            }
        }
        self.counts.waited.observe(grant.waited);
        Outcome::Granted(Grant { would: Some(Box::new(would)), ..grant })
    }
}
