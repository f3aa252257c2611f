//! Shadow mode: each start is let through, and the model counts its wait.

use std::time::Instant;

use crate::core::lock::Lock;
use crate::core::outcome::{Grant, Kind, LeaseRequest, Outcome, Placement};

impl Lock {
    /// Begins a lease for each start, and counts its wait in the model; `None` without shadow mode.
    pub(super) fn grant_at_once(
        &mut self,
        request: &LeaseRequest,
        now: Instant,
    ) -> Option<Outcome> {
        let shadow = self.shadow.as_mut()?;
        let start = match shadow.real.request(request, None, true, now) {
            Placement::AlreadyGranted(outcome) => return Some(outcome),
            Placement::Granted(start) => start,
            // More starts than the model follows.
            Placement::Parked | Placement::Refused => {
                shadow.count(Kind::Busy);
                let refusal = self.refusal(None, now);
                return Some(Outcome::LetThrough(Box::new(Outcome::Locked(refusal))));
            }
        };
        let name = shadow.begin(start.lease, request, &mut self.scheduler, now);
        self.advance(now);
        let (would, kind) = match self.scheduler.queue().of(&name) {
            Some(_) => {
                let locked = Outcome::Locked(self.refusal(Some(&name), now));
                let kind = locked.kind();
                (locked, kind)
            }
            None => (Outcome::SlotFree, Kind::Granted),
        };
        let grant = self.grant(start, now);
        if let Some(shadow) = &mut self.shadow {
            shadow.count(kind);
            if grant.is_quiet {
                shadow.set_quiet(grant.lease);
            }
        }
        self.totals.waited.observe(grant.waited);
        Some(Outcome::Granted(Grant { would: Some(Box::new(would)), ..grant }))
    }

    pub(super) fn collect_shadow(&mut self) {
        let Some(shadow) = &mut self.shadow else { return };
        let (ended, waits) = shadow.take_effects();
        self.effects.waits.extend(waits);
        self.record_ends(ended);
    }
}
