//! Shadow mode: each start is let through, and the model counts its wait.

use std::time::Instant;

use crate::core::gate::Verdict;
use crate::core::lock::Lock;
use crate::core::outcome::{Grant, Kind, LeaseRequest, Outcome};
use crate::core::scheduler::{Response, Start};

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
        let is_quiet = self.is_quiet(start.is_quiet, now);
        if let Some(shadow) = &mut self.shadow {
            shadow.count(if waits { would.kind() } else { Kind::Granted });
            if is_quiet {
                shadow.set_quiet(start.lease);
            }
        }
        self.counts.waited.observe(start.waited);
        let Start { lease, duration, is_cut, waited, undo, .. } = start;
        let is_overridden = self.gate.verdict(now) == Verdict::Overridden;
        let would = Some(Box::new(would));
        Outcome::Granted(Grant { lease, duration, waited, is_cut, is_overridden, is_quiet, undo, would })
    }
}
