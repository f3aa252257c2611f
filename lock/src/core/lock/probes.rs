//! Probes of the `ready` ports, and the leases that they end.

use std::time::{Duration, Instant};

use crate::core::lease::{Lease, ProbeEffect, ProbeResult, ProbeTarget};
use crate::core::lock::Lock;
use crate::core::outcome::LeaseRequest;
use crate::core::scheduler::Scheduler;

impl Lock {
    /// Hands out a port that is due to be probed.
    pub fn begin_probe(&mut self, now: Instant) -> Option<ProbeTarget> {
        let now = self.latest.max(now);
        self.real_mut().begin_probe(now)
    }

    /// Records the result of a probe that took `took`.
    pub fn finish_probe(
        &mut self,
        target: &ProbeTarget,
        result: ProbeResult,
        took: Duration,
        now: Instant,
    ) -> ProbeEffect {
        let now = self.advance(now);
        let effect = self.real_mut().finish_probe(target, result, took, now);
        if let Some(shadow) = &mut self.shadow
            && effect == ProbeEffect::PortIgnored
        {
            shadow.ignore_port(target.id, &mut self.scheduler);
        }
        self.advance(now);
        effect
    }

    /// The request may lead to a lease that its port can end early, so the port needs its baseline
    /// probe.
    pub fn needs_baseline(&self, request: &LeaseRequest, now: Instant) -> bool {
        let active = request.holder.as_deref().and_then(|holder| self.real().leases().of(holder));
        match active {
            _ if request.ready.is_none() => false,
            Some(lease) => lease.address != request.address,
            None if request.wait.is_some() || self.shadow.is_some() => true,
            None => self.may_start(now) && self.scheduler.has_free_slot(),
        }
    }

    pub fn has_due_probe(&self, now: Instant) -> bool {
        self.real().leases().has_due_probe(now)
    }

    /// A probe may end an active lease.
    pub fn is_watching(&self) -> bool {
        self.real().leases().iter().any(Lease::is_watched)
    }

    /// The scheduler of the leases that exist.
    pub(super) fn real(&self) -> &Scheduler {
        self.shadow.as_ref().map_or(&self.scheduler, |shadow| &shadow.real)
    }

    pub(super) fn real_mut(&mut self) -> &mut Scheduler {
        self.shadow.as_mut().map_or(&mut self.scheduler, |shadow| &mut shadow.real)
    }
}
