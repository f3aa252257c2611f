//! The whole lock as one pure state machine: scheduler, gates, limit, counts.
//!
//! A request or an event goes in, [`Lock::take_effects`] hands out the effects for the caller, and
//! [`Lock::poll_at`] names the next deadline. The owner of the mutex around it computes for
//! microseconds and waits for no client, disk or endpoint.

mod probes;
mod readings;
mod refusal;
mod shadow_mode;
mod view;

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::metrics::Histogram;
use psl::protocol::node::NodeName;
use psl::rate::RateLimiter;

use crate::core::gate::{Gate, GateState};
use crate::core::lease::{EARLIEST_START, EndedLease, LeaseEnd, LeaseId};
use crate::core::limit::{Limit, LimitStatus, Quota};
use crate::core::outcome::{
    Arrival, Grant, Kind, LeaseRequest, Outcome, Placement, Refusal, ReleaseEffect, Start, Tally,
};
use crate::core::pressure::Pressure;
use crate::core::queue::{MOST_WAITERS, ParkedRequest, WaiterId};
use crate::core::scheduler::{LONGEST_WAIT, Scheduler};
use crate::core::shadow::{self, ModelWait, Shadow};
use crate::core::time::after;

pub use crate::core::settings::{Mode, Settings, Slots};
pub use view::{Totals, View};

/// A waiter that waits for this long beside free slots is logged, and again after the same time.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// The shortest `Retry-After`, in whole seconds: a client that has waited may come back at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Leases per second whose log lines have level info: a client that takes leases and releases them
/// must not fill the log.
const MOST_LOGGED: usize = 100;
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// Bounds of the histogram of active leases: from half a second to the longest lease by default.
const ACTIVE_BOUNDS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Bounds of the histogram of waits: up to the longest wait of an init in the manifests.
const WAIT_BOUNDS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedOutcome {
    pub waiter: WaiterId,
    pub request: LeaseRequest,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub answers: Vec<ParkedOutcome>,
    pub ended: Vec<EndedLease>,
    /// Shadow mode: the waits of starts whose turn came in the model.
    pub waits: Vec<ModelWait>,
    pub stall: Option<Stall>,
}

/// The first waiter has waited for long although slots are free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    pub holder: Arc<str>,
    pub waited: Duration,
    /// The reason of the gate or limit that admits no start.
    pub reason: String,
}

#[derive(Debug)]
pub struct Lock {
    /// In shadow mode the model.
    scheduler: Scheduler,
    gate: Gate,
    pressure: Pressure,
    limit: Option<Limit>,
    shadow: Option<Shadow>,
    node: Option<NodeName>,
    totals: Totals,
    effects: Effects,
    /// The last refusal of a client that does not wait.
    last_refusal: Option<Instant>,
    /// The latest time so far: threads read the clock before they get the mutex.
    latest: Instant,
    log_rate: RateLimiter,
    last_stall: Option<Instant>,
    /// The last time at which counters that stand still were reported.
    last_freeze: Option<Instant>,
}

impl Lock {
    pub fn new(settings: Settings, now: Instant) -> Lock {
        let Settings { slots, mode, durations, pressure, node, endpoints, .. } = settings;
        let (slots, limit) = match slots {
            Slots::Fixed(slots) => (slots, None),
            Slots::Auto { cores, most } => (most, Some(Limit::new(cores, most, now))),
        };
        let (most_parked, shadow) = match mode {
            Mode::Enforce => (settings.most_parked, None),
            Mode::Shadow => {
                let real = Scheduler::new(shadow::capacity(slots), 0, durations);
                (MOST_WAITERS, Some(Shadow::new(real, WAIT_BOUNDS)))
            }
        };
        let totals = Totals {
            requests: Tally::default(),
            waited: Histogram::new(WAIT_BOUNDS),
            active: Histogram::new(ACTIVE_BOUNDS),
            ended: Default::default(),
        };
        Lock {
            scheduler: Scheduler::new(slots, most_parked, durations),
            gate: Gate::new(endpoints, settings.max_hold, now),
            pressure: Pressure::new(pressure),
            limit,
            shadow,
            node,
            totals,
            effects: Effects::default(),
            last_refusal: None,
            latest: now,
            log_rate: RateLimiter::new(MOST_LOGGED, LOG_PERIOD, now),
            last_stall: None,
            last_freeze: None,
        }
    }

    /// Tells the limit of the restored leases.
    pub fn finish_restore(&mut self) {
        let Some(limit) = &mut self.limit else { return };
        let leases = self.scheduler.leases().iter();
        let mut since: Vec<Instant> = leases.map(|lease| lease.since).collect();
        since.sort_unstable();
        since.into_iter().for_each(|at| limit.add_start(at));
    }

    /// Handles a request. With `park_as`, a name that was never used before, its connection can
    /// wait. `None` if the request is parked: [`Effects::answers`] has the outcome, now or later.
    pub fn request(
        &mut self,
        request: &LeaseRequest,
        park_as: Option<WaiterId>,
        now: Instant,
    ) -> Option<Outcome> {
        let now = self.advance(now);
        let outcome = self
            .immediate(request, now)
            .or_else(|| self.grant_at_once(request, now))
            .or_else(|| self.enforce(request, park_as, now))?;
        self.count(outcome.kind());
        Some(outcome)
    }

    /// The outcome of a request that can take no lease here.
    fn immediate(&mut self, request: &LeaseRequest, now: Instant) -> Option<Outcome> {
        let outcome = match (&request.node, &self.node) {
            (Some(from), Some(serves)) if from != serves => {
                Outcome::Misdirected { from: from.clone(), serves: serves.clone() }
            }
            _ if request.duration == Some(Duration::ZERO) => {
                if self.may_start(now) && self.scheduler.has_free_slot() {
                    Outcome::SlotFree
                } else {
                    Outcome::Locked(Refusal { is_probe: true, ..self.refusal(None, now) })
                }
            }
            _ => return None,
        };
        let Some(shadow) = &mut self.shadow else { return Some(outcome) };
        if outcome.kind() == Kind::Misdirected {
            shadow.count(Kind::Misdirected);
        }
        Some(Outcome::LetThrough(Box::new(outcome)))
    }

    fn enforce(
        &mut self,
        request: &LeaseRequest,
        park_as: Option<WaiterId>,
        now: Instant,
    ) -> Option<Outcome> {
        let until = request.wait.map(|wait| after(now, wait.min(LONGEST_WAIT)));
        let may_start = self.may_start(now);
        match self.scheduler.request(request, park_as.zip(until), may_start, now) {
            Placement::AlreadyGranted(outcome) => Some(outcome),
            Placement::Granted(start) => Some(Outcome::Granted(self.record_start(start, now))),
            Placement::Parked => {
                self.advance(now);
                None
            }
            Placement::Refused => {
                // If an earlier request of this holder was parked, it is answered now.
                self.advance(now);
                self.last_refusal = Some(now);
                Some(self.refuse(request, None, now))
            }
        }
    }

    /// Does all that is due: leases and waits end, and the first waiters get the free slots.
    pub fn advance(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        let now = self.latest;
        if let Some(limit) = &mut self.limit {
            limit.advance(now);
        }
        if let Some(shadow) = &mut self.shadow {
            shadow.advance(&mut self.scheduler, now);
        }
        self.scheduler.expire(now);
        let dismissed = self.collect(true);
        while self.may_start(now)
            && let Some((waiter, request, start)) = self.scheduler.grant_next(now)
        {
            let grant = self.record_start(start, now);
            match &mut self.shadow {
                Some(shadow) => shadow.grant(waiter, grant.lease, now),
                None => self.answer(waiter, request, Outcome::Granted(grant)),
            }
        }
        for parked in dismissed {
            self.dismiss(parked, now);
        }
        self.collect_shadow();
        self.report_stall(now);
        now
    }

    /// Takes over the effects of the scheduler, and returns the requests to refuse. An undone grant
    /// was no start, so its end must not count as one.
    fn collect(&mut self, are_starts: bool) -> Vec<ParkedRequest> {
        let effects = self.scheduler.take_effects();
        if let Some(limit) = self.limit.as_mut().filter(|_| are_starts) {
            for ended in &effects.ended {
                limit.end_start(ended.lease.since, ended.age(), was_start(ended), self.latest);
            }
        }
        if self.shadow.is_none() {
            self.record_ends(effects.ended);
        }
        effects.dismissed
    }

    fn record_ends(&mut self, ended: Vec<EndedLease>) {
        for ended in &ended {
            self.totals.ended[ended.end as usize] += 1;
            self.totals.active.observe(ended.age());
        }
        self.effects.ended.extend(ended);
    }

    fn record_start(&mut self, start: Start, now: Instant) -> Grant {
        let grant = self.grant(start, now);
        if let Some(limit) = &mut self.limit {
            limit.add_start(now);
        }
        self.pressure.start(now);
        if grant.is_quiet {
            self.scheduler.set_quiet(grant.lease);
        }
        if self.shadow.is_none() {
            self.totals.waited.observe(grant.waited);
        }
        grant
    }

    /// The grant of a lease that begins. If its log lines have level info, it counts for their
    /// rate.
    fn grant(&mut self, start: Start, now: Instant) -> Grant {
        let Start { lease, duration, is_cut, waited, arrival, .. } = start;
        let is_quiet = start.is_quiet || !self.log_rate.allows(now);
        if !is_quiet {
            self.log_rate.note();
        }
        let is_overridden = self.gate.state(now) == GateState::Overridden;
        Grant { lease, duration, waited, is_cut, is_overridden, is_quiet, arrival, would: None }
    }

    fn answer(&mut self, waiter: WaiterId, request: LeaseRequest, outcome: Outcome) {
        self.count(outcome.kind());
        self.effects.answers.push(ParkedOutcome { waiter, request, outcome });
    }

    /// Ends the wait of a request without a lease.
    fn dismiss(&mut self, parked: ParkedRequest, now: Instant) {
        let ParkedRequest { id, request, until } = parked;
        let is_over = until <= now;
        if let Some(shadow) = &mut self.shadow {
            return shadow.dismiss(id, is_over, &mut self.scheduler, now);
        }
        let outcome = self.refuse(&request, is_over.then_some(AT_ONCE), now);
        self.answer(id, request, outcome);
    }

    /// Gates and limit let another lease begin, if a slot is free.
    fn may_start(&self, now: Instant) -> bool {
        !self.is_any_gate_closed(now) && self.quota(now).is_none_or(|quota| quota.more > 0)
    }

    fn is_any_gate_closed(&self, now: Instant) -> bool {
        self.are_checks_closed(now) || self.pressure.closed_until(now).is_some()
    }

    fn are_checks_closed(&self, now: Instant) -> bool {
        self.gate.state(now) == GateState::Closed
    }

    fn quota(&self, now: Instant) -> Option<Quota> {
        let active = self.scheduler.leases().len();
        self.limit.as_ref().map(|limit| limit.quota(active, now))
    }

    fn limit_status(&self, now: Instant) -> Option<LimitStatus> {
        let active = self.scheduler.leases().len();
        self.limit.as_ref().map(|limit| limit.status(active, now))
    }

    /// The client of a parked request has closed its connection, or sent bytes on it.
    ///
    /// Grants no lease: a slot that is free by now must not go to this waiter, nor to the next one
    /// that the caller knows to be gone.
    pub fn hang_up(&mut self, id: WaiterId, now: Instant) {
        self.latest = self.latest.max(now);
        if self.scheduler.hang_up(id, self.latest) {
            self.count(Kind::Busy);
        }
    }

    /// The client of this grant never read it.
    pub fn undo(&mut self, lease: LeaseId, arrival: Arrival, now: Instant) {
        let now = self.advance(now);
        if let Some(shadow) = &mut self.shadow {
            shadow.real.undo(lease, arrival, now);
        } else if let Some(since) = self.scheduler.undo(lease, arrival, now) {
            self.collect(false);
            self.pressure.undo_start(since);
            if let Some(limit) = &mut self.limit {
                limit.undo_start(since, now);
            }
        }
        self.advance(now);
    }

    pub fn release(&mut self, holder: &str, from: IpAddr, now: Instant) -> ReleaseEffect {
        let now = self.advance(now);
        let effect = self.real_mut().release(holder, from, now);
        self.advance(now);
        effect
    }

    pub fn take_effects(&mut self) -> Effects {
        mem::take(&mut self.effects)
    }

    /// Counts a request; parked requests are counted with their outcome.
    pub fn count(&mut self, kind: Kind) {
        self.totals.requests.add(kind);
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The scheduler for the state file. In shadow mode it is the model.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    pub fn scheduler_mut(&mut self) -> &mut Scheduler {
        &mut self.scheduler
    }
}

/// The lease was a start from its beginning to its end.
fn was_start(ended: &EndedLease) -> bool {
    match ended.end {
        LeaseEnd::Ready => true,
        LeaseEnd::Released => ended.age() >= EARLIEST_START,
        // If an application never became ready, its lease does not measure a start.
        LeaseEnd::Expired => !ended.lease.is_watched(),
    }
}

#[cfg(test)]
mod tests;
