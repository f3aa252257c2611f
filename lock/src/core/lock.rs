//! The whole lock as one pure state machine: scheduler, gates, limit, counts.
//!
//! A request or an event goes in, [`Lock::take_effects`] hands out the effects for the caller, and
//! [`Lock::poll_at`] names the next deadline. The owner of the mutex around it computes for
//! microseconds and waits for no client, disk or endpoint.

mod let_through;
mod refusal;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::metrics::Histogram;
use psl::rate::RateLimiter;

use crate::core::gate::{Checked, Gate, Verdict};
use crate::core::lease::{
    End, Ended, Lease, LeaseId, ProbeResult, ProbeTarget, Probed, TOO_SOON, after,
};
use crate::core::limit::{self, Limit, Reading};
use crate::core::outcome::{Cause, Grant, Kind, LeaseRequest, Outcome, Refusal, Tally, Undo};
use crate::core::pressure::{self, Pressure, Readings};
use crate::core::queue::{MOST_WAITERS, Parked, WaiterId};
use crate::core::scheduler::{LONGEST_WAIT, Released, Response, Scheduler, Start};
use crate::core::shadow::{self, Overdue, Shadow};

pub use crate::core::settings::{Mode, Settings, Slots};
pub use crate::core::view::{Counts, View};

/// The clock wakes this long after a reading has become due, at the latest.
const RESOLUTION: Duration = Duration::from_millis(1);

/// A waiter that waits for this long beside free slots is logged, and again after the same time.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// The `Retry-After` of a client that has waited: it is to come back at once, in whole seconds.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Leases per second whose log lines have level info: a client that takes leases and releases them
/// must not fill the log.
const MOST_LOGGED: usize = 100;
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// A client that does not wait still counts as a waiter for this long after its refusal: the longest
/// `Retry-After`.
const STILL_WANTED: Duration = refusal::LONGEST_RETRY;

/// Bounds of the histogram of active leases: from half a second to the longest lease by default.
const ACTIVE_BOUNDS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Bounds of the histogram of waits: up to the longest wait of an init in the manifests.
const WAIT_BOUNDS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// The reply to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Now(Outcome),
    /// [`Effects::answers`] has the outcome, now or later.
    Parked,
}

/// The outcome of a parked request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub waiter: WaiterId,
    pub request: LeaseRequest,
    pub outcome: Outcome,
}

/// Results that the caller passes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub answers: Vec<Answer>,
    pub ended: Vec<Ended>,
    /// Shadow mode: starts whose turn came in the model.
    pub overdue: Vec<Overdue>,
    pub stalled: Option<Stalled>,
}

/// The first waiter has waited for long although slots are free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stalled {
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
    node: Option<String>,
    counts: Counts,
    effects: Effects,
    /// The last refusal of a client that does not wait.
    wanted: Option<Instant>,
    /// The latest time so far: threads read the clock before they get the mutex.
    latest: Instant,
    log_pace: RateLimiter,
    /// The last [`Stalled`].
    stalled: Option<Instant>,
    /// The last time at which counters that stand still were logged.
    frozen: Option<Instant>,
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
        Lock {
            scheduler: Scheduler::new(slots, most_parked, durations),
            gate: Gate::new(endpoints, settings.max_hold, now),
            pressure: Pressure::new(pressure),
            limit,
            shadow,
            node,
            counts: Counts {
                requests: Tally::default(),
                waited: Histogram::new(WAIT_BOUNDS),
                active: Histogram::new(ACTIVE_BOUNDS),
                ended: [0; End::ALL.len()],
            },
            effects: Effects::default(),
            wanted: None,
            latest: now,
            log_pace: RateLimiter::new(MOST_LOGGED, LOG_PERIOD, now),
            stalled: None,
            frozen: None,
        }
    }

    /// Tells the limit of the leases that were restored.
    pub fn restored(&mut self) {
        let Some(limit) = &mut self.limit else { return };
        let mut since: Vec<Instant> =
            self.scheduler.leases().iter().map(|lease| lease.since).collect();
        since.sort_unstable();
        since.into_iter().for_each(|at| limit.began(at));
    }

    /// Handles a request. With `park_as`, a name that was never used before, its connection can wait.
    pub fn request(
        &mut self,
        request: &LeaseRequest,
        park_as: Option<WaiterId>,
        now: Instant,
    ) -> Reply {
        let now = self.advance(now);
        let outcome = match self.immediate(request, now) {
            Some(outcome) => outcome,
            None if self.shadow.is_some() => self.let_through(request, now),
            None => match self.enforce(request, park_as, now) {
                Reply::Now(outcome) => outcome,
                Reply::Parked => return Reply::Parked,
            },
        };
        self.count(outcome.kind());
        Reply::Now(outcome)
    }

    /// The outcome of a request that can take no lease here.
    fn immediate(&mut self, request: &LeaseRequest, now: Instant) -> Option<Outcome> {
        let outcome = match (&request.node, &self.node) {
            (Some(from), Some(serves)) if **from != **serves => {
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
    ) -> Reply {
        let until = |wait: Duration| after(now, wait.min(LONGEST_WAIT));
        let park = park_as.zip(request.wait.map(until));
        let may_start = self.may_start(now);
        match self.scheduler.request(request, park, may_start, now) {
            Response::Again(outcome) => Reply::Now(outcome),
            Response::Granted(start) => Reply::Now(Outcome::Granted(self.started(start, now))),
            Response::Parked => {
                self.advance(now);
                Reply::Parked
            }
            Response::Refused => {
                // An earlier request of this holder that was parked has its answer now.
                self.advance(now);
                self.wanted = Some(now);
                let refusal = self.refusal(request.holder.as_deref(), now);
                if let Some(holder) = &request.holder {
                    self.scheduler.expect(holder, after(now, refusal.retry_after));
                }
                Reply::Now(Outcome::Locked(refusal))
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
            let grant = self.started(start, now);
            if let Some(shadow) = &mut self.shadow {
                shadow.grant(waiter, grant.lease, now);
            } else {
                self.answer(waiter, request, Outcome::Granted(grant));
            }
        }
        for parked in dismissed {
            self.refuse(parked, now);
        }
        self.collect_shadow();
        self.note_stall(now);
        now
    }

    fn note_stall(&mut self, now: Instant) {
        let is_due = self.stall_at().is_some_and(|at| at <= now);
        if !is_due || !self.scheduler.has_free_slot() || self.shadow.is_some() {
            return;
        }
        let (Cause::Pressure(reason) | Cause::Limit(reason)) = self.cause(now) else { return };
        let Some(first) = self.scheduler.queue().longest_parked() else { return };
        let (holder, waited) =
            (Arc::clone(&first.holder), now.saturating_duration_since(first.since));
        self.effects.stalled = Some(Stalled { holder, waited, reason });
        self.stalled = Some(now);
    }

    /// The next time at which a long wait beside free slots is logged.
    fn stall_at(&self) -> Option<Instant> {
        let first = self.scheduler.queue().longest_parked()?;
        let last = self.stalled.map(|last| after(last, LONG_WAIT));
        last.max(Some(after(first.since, LONG_WAIT)))
    }

    /// Takes over the effects of the scheduler: tells limit and counts of the ended leases.
    fn collect(&mut self, are_starts: bool) -> Vec<Parked> {
        let effects = self.scheduler.take_effects();
        if let Some(limit) = self.limit.as_mut().filter(|_| are_starts) {
            for ended in &effects.ended {
                limit.ended(ended.lease.since, ended.age(), was_start(ended), self.latest);
            }
        }
        if self.shadow.is_none() {
            self.has_ended(effects.ended);
        }
        effects.dismissed
    }

    fn collect_shadow(&mut self) {
        let Some(shadow) = &mut self.shadow else { return };
        let (ended, overdue) = shadow.take_effects();
        self.effects.overdue.extend(overdue);
        self.has_ended(ended);
    }

    fn has_ended(&mut self, ended: Vec<Ended>) {
        for ended in &ended {
            self.counts.ended[ended.end as usize] += 1;
            self.counts.active.observe(ended.age());
        }
        self.effects.ended.extend(ended);
    }

    /// Records a grant of the scheduler.
    fn started(&mut self, start: Start, now: Instant) -> Grant {
        let grant = self.grant(start, now);
        if let Some(limit) = &mut self.limit {
            limit.began(now);
        }
        self.pressure.started(now);
        if grant.is_quiet {
            self.scheduler.set_quiet(grant.lease);
        }
        if self.shadow.is_none() {
            self.counts.waited.observe(grant.waited);
        }
        grant
    }

    /// The grant of a lease that begins. If its log lines have level info, it counts for their pace.
    fn grant(&mut self, start: Start, now: Instant) -> Grant {
        let Start { lease, duration, is_cut, waited, undo, .. } = start;
        let is_quiet = start.is_quiet || !self.log_pace.has_room(now);
        if !is_quiet {
            self.log_pace.note();
        }
        let is_overridden = self.gate.verdict(now) == Verdict::Overridden;
        Grant { lease, duration, waited, is_cut, is_overridden, is_quiet, undo, would: None }
    }

    fn answer(&mut self, waiter: WaiterId, request: LeaseRequest, outcome: Outcome) {
        self.count(outcome.kind());
        self.effects.answers.push(Answer { waiter, request, outcome });
    }

    /// Refuses a request that is parked no longer.
    fn refuse(&mut self, parked: Parked, now: Instant) {
        let Parked { id, request, until } = parked;
        if let Some(shadow) = &mut self.shadow {
            return shadow.dismiss(id, until <= now, &mut self.scheduler, now);
        }
        let mut refusal = self.refusal(request.holder.as_deref(), now);
        if until <= now {
            refusal.retry_after = AT_ONCE;
        }
        if let Some(holder) = &request.holder {
            self.scheduler.expect(holder, after(now, refusal.retry_after));
        }
        self.answer(id, request, Outcome::Locked(refusal));
    }

    /// Gates and limit let another lease begin, if a slot is free.
    fn may_start(&self, now: Instant) -> bool {
        !self.is_held(now) && self.quota(now).is_none_or(|quota| quota.more > 0)
    }

    /// A gate holds all starts back.
    fn is_held(&self, now: Instant) -> bool {
        self.is_closed(now) || matches!(self.pressure.verdict(now), pressure::Verdict::Held { .. })
    }

    fn is_closed(&self, now: Instant) -> bool {
        self.gate.verdict(now) == Verdict::Closed
    }

    fn quota(&self, now: Instant) -> Option<limit::Quota> {
        let active = self.scheduler.leases().len();
        self.limit.as_ref().map(|limit| limit.quota(active, now))
    }

    /// The client of a parked request has closed its connection, or sent anything on it.
    ///
    /// Grants nothing: a slot that is free by now must not go to this waiter, nor to the next one of
    /// which the caller knows that it has gone.
    pub fn hang_up(&mut self, id: WaiterId, now: Instant) {
        self.latest = self.latest.max(now);
        if self.scheduler.hang_up(id, self.latest) {
            self.count(Kind::Busy);
        }
    }

    /// The client of this grant never read it.
    pub fn undo(&mut self, lease: LeaseId, undo: Undo, now: Instant) {
        let now = self.advance(now);
        if let Some(shadow) = &mut self.shadow {
            shadow.real.undo(lease, undo, now);
        } else if let Some(since) = self.scheduler.undo(lease, undo, now) {
            self.collect(false);
            self.pressure.undone(since);
            if let Some(limit) = &mut self.limit {
                limit.undone(since, now);
            }
        }
        self.advance(now);
    }

    /// The holder ends its lease or its wait.
    pub fn release(&mut self, holder: &str, from: IpAddr, now: Instant) -> Released {
        let now = self.advance(now);
        let released = self.real_mut().release(holder, from, now);
        self.advance(now);
        released
    }

    /// Hands out a port that is due to be probed.
    pub fn begin_probe(&mut self, now: Instant) -> Option<ProbeTarget> {
        let now = self.latest.max(now);
        self.real_mut().begin_probe(now)
    }

    /// Records the result of a probe that took `took`.
    pub fn probed(
        &mut self,
        target: &ProbeTarget,
        result: ProbeResult,
        took: Duration,
        now: Instant,
    ) -> Probed {
        let now = self.advance(now);
        let probed = self.real_mut().probed(target, result, took, now);
        if let Some(shadow) = self.shadow.as_mut().filter(|_| probed == Probed::TooEarly) {
            shadow.ignore_port(target.id, &mut self.scheduler);
        }
        self.advance(now);
        probed
    }

    /// The request may lead to a lease that its port can end early, so that the port needs its baseline
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

    /// Records a finished round of checks.
    pub fn checked(&mut self, results: Vec<Checked>, now: Instant, next_round: Instant) {
        self.gate.round(results, now, next_round);
        self.advance(now);
    }

    /// Records readings of the node's pressure. Returns whether the gate is closed now and which
    /// pressure closes it, if that has changed.
    pub fn read_pressure(&mut self, readings: Readings, now: Instant) -> Option<(bool, String)> {
        let change = self.pressure.read(readings, now);
        self.advance(now);
        change.map(|is_held| (is_held, self.pressure.told()))
    }

    /// The pressure must be read before a decision: for a request, or because a waiter is there.
    pub fn is_pressure_due(&self, for_request: bool, now: Instant) -> bool {
        self.pressure.is_due(now) && (for_request || self.scheduler.queue().parked() > 0)
    }

    /// Records a reading of the node's load; `None` if it cannot be read. Returns whether its counters
    /// stand still since this reading, at most once a minute.
    pub fn read_load(&mut self, reading: Option<Reading>, now: Instant) -> bool {
        let now = self.advance(now);
        let active = self.scheduler.leases().len();
        let Some(limit) = &mut self.limit else { return false };
        let was_blind = limit.is_blind();
        limit.read(reading, active, now);
        let is_frozen = reading.is_some() && limit.is_blind() && !was_blind;
        self.advance(now);
        let is_due =
            self.frozen.is_none_or(|last| now.saturating_duration_since(last) >= LONG_WAIT);
        self.frozen = if is_frozen && is_due { Some(now) } else { self.frozen };
        is_frozen && is_due
    }

    pub fn is_load_due(&self, now: Instant) -> bool {
        self.next_load(now).is_some_and(|at| at <= now)
    }

    /// The next reading of the load: only while a waiter is there that the gates would let start.
    fn next_load(&self, now: Instant) -> Option<Instant> {
        let is_wanted = self.scheduler.queue().parked() > 0
            || self.wanted.is_some_and(|at| now.saturating_duration_since(at) < STILL_WANTED);
        let limit = self.limit.as_ref()?;
        (is_wanted && !self.is_held(now)).then(|| limit.next_reading(now))
    }

    /// The next change that the time alone brings.
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        let scheduler = self.scheduler.poll_at(now);
        let shadow = self.shadow.as_ref().and_then(|shadow| shadow.poll_at(now));
        let waiters =
            if self.scheduler.queue().parked() > 0 { self.poll_gates_at(now) } else { None };
        // A reading that is due is the business of the clock, which has to wake for it.
        let soon = after(now, RESOLUTION);
        let load = self.next_load(now).map(|at| at.max(soon));
        let pressure = self.is_pressure_due(false, now).then_some(soon);
        let events = [scheduler, shadow, waiters, load, pressure, self.stall_at()];
        // Whatever was due is done, or waits for another event.
        events.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// The next time at which gates or limit may let a waiter start.
    fn poll_gates_at(&self, now: Instant) -> Option<Instant> {
        let overridden = self.gate.overridden_at();
        let pressure = self.pressure.next_event(now);
        // Behind a closed gate the limit admits no start.
        let quota = self.quota(now).filter(|_| !self.is_held(now)).and_then(|quota| quota.next);
        [overridden, pressure, quota].into_iter().flatten().filter(|at| *at > now).min()
    }

    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Counts a request; parked requests are counted with their outcome.
    pub fn count(&mut self, kind: Kind) {
        self.counts.requests.add(kind);
    }

    /// The scheduler for the state file. In shadow mode it is the model.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// The scheduler to restore leases and waiters into.
    pub fn scheduler_mut(&mut self) -> &mut Scheduler {
        &mut self.scheduler
    }

    /// A snapshot with at most `most` leases and waiters.
    pub fn view(&mut self, now: Instant, most: usize) -> View {
        let now = self.advance(now);
        let leases = self.scheduler.leases();
        let queue = self.scheduler.queue();
        let active = leases.len();
        View {
            slots: self.scheduler.slots(),
            limit: self.limit.as_ref().map(|limit| limit.status(active, now)),
            active,
            leases: leases.iter().take(most).cloned().collect(),
            waiting: queue.waiters().len(),
            parked: queue.parked(),
            most_parked: queue.most_parked(),
            queue: queue.order(most).into_iter().cloned().collect(),
            gate: self.gate.clone(),
            pressure: self.pressure.clone(),
            shadow: self.shadow.as_ref().map(|shadow| shadow.counts().clone()),
            counts: self.counts.clone(),
        }
    }

    /// The scheduler of the leases that exist.
    fn real(&self) -> &Scheduler {
        self.shadow.as_ref().map_or(&self.scheduler, |shadow| &shadow.real)
    }

    fn real_mut(&mut self) -> &mut Scheduler {
        self.shadow.as_mut().map_or(&mut self.scheduler, |shadow| &mut shadow.real)
    }
}

/// The lease was a start from its beginning to its end.
fn was_start(ended: &Ended) -> bool {
    match ended.end {
        End::Ready => true,
        End::Released => ended.age() >= TOO_SOON,
        // An application that never became ready tells of no start.
        End::Expired => !ended.lease.is_watched(),
    }
}

#[cfg(test)]
mod tests;
