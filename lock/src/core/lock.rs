//! The whole lock as one pure state machine: scheduler, gates, limit, counts.
//!
//! A request or an event goes in, [`Lock::take_effects`] hands out what is to be done, and
//! [`Lock::poll_at`] names the next deadline. The owner of the mutex around it computes for
//! microseconds and waits for no client, disk or endpoint.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use psl::metrics::Histogram;
use psl::pace::Pace;

use crate::core::gate::{Checked, Gate, Verdict};
use crate::core::lease::{End, Ended, Lease, LeaseId, ProbeResult, ProbeTarget, Probed, TOO_SOON, after};
use crate::core::limit::{self, Limit, Reading};
use crate::core::outcome::{Cause, Grant, Kind, LeaseRequest, Outcome, Refusal, Tally, Undo};
use crate::core::pressure::{self, Pressure, Readings};
use crate::core::queue::{MOST_WAITERS, Parked, Waiter, WaiterId};
use crate::core::scheduler::{Durations, LONGEST_WAIT, Released, Response, Scheduler, Start};
use crate::core::shadow::{self, Overdue, Shadow};

/// The longest `Retry-After`.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// The `Retry-After` of a client that has waited: it is to come back at once, in whole seconds.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Leases per second whose log lines have level info: a client that takes leases and releases them
/// must not fill the log.
const MOST_LOGGED: usize = 100;
const LOG_PERIOD: Duration = Duration::from_secs(1);

/// A client that does not wait still counts as a waiter for this long after its refusal: the longest
/// `Retry-After`.
const STILL_WANTED: Duration = LONGEST_RETRY;

/// Bounds of the histogram of active leases: from half a second to the longest lease by default.
const ACTIVE_BOUNDS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Bounds of the histogram of waits: up to the longest wait of an init in the manifests.
const WAIT_BOUNDS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Whether starts wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Starts wait for their lease.
    Enforce,
    /// Each start is let through at once; a model counts how long it would have waited.
    Shadow,
}

/// The slots of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    Fixed(usize),
    /// The limit follows the node.
    Auto {
        /// Online cores.
        cores: usize,
        /// The upper bound of the limit.
        most: usize,
    },
}

/// The settings of a lock.
#[derive(Clone, Debug)]
pub struct Settings {
    pub slots: Slots,
    pub mode: Mode,
    pub durations: Durations,
    pub pressure: pressure::Limits,
    /// The node that this lock serves.
    pub node: Option<String>,
    /// The names of the endpoints that must be up.
    pub endpoints: Vec<String>,
    /// The gate opens although checks fail after this time.
    pub max_hold: Option<Duration>,
    /// The most parked waiters.
    pub most_parked: usize,
}

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
}

/// Totals since the start.
#[derive(Clone, Debug)]
pub struct Counts {
    pub requests: Tally,
    /// From a holder's first request to its grant.
    pub waited: Histogram,
    /// How long leases were active that have ended.
    pub active: Histogram,
    /// Ended leases by [`End`].
    pub ended: [u64; End::ALL.len()],
}

/// A copy that is rendered without the mutex.
#[derive(Clone, Debug)]
pub struct View {
    pub slots: usize,
    /// The limit that follows the node; `None` if the number of slots is fixed.
    pub limit: Option<limit::Status>,
    pub active: usize,
    /// The leases with the next deadlines.
    pub leases: Vec<Lease>,
    pub waiting: usize,
    pub parked: usize,
    /// The most parked waiters.
    pub most_parked: usize,
    /// The first waiters in the order of service.
    pub queue: Vec<Waiter>,
    pub gate: Gate,
    pub pressure: Pressure,
    /// Shadow mode: the counts of the model.
    pub shadow: Option<shadow::Counts>,
    pub counts: Counts,
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
    log_pace: Pace,
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
            log_pace: Pace::new(MOST_LOGGED, LOG_PERIOD, now),
        }
    }

    /// Handles a request. With `park_as`, a name that was never used before, its connection can wait.
    pub fn request(&mut self, request: &LeaseRequest, park_as: Option<WaiterId>, now: Instant) -> Reply {
        let now = self.advance(now);
        let outcome = match self.immediate(request, now) {
            Some(outcome) => {
                if let Some(shadow) = self.shadow.as_mut().filter(|_| outcome.kind() == Kind::Misdirected) {
                    shadow.count(Kind::Misdirected);
                }
                outcome
            }
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
    fn immediate(&self, request: &LeaseRequest, now: Instant) -> Option<Outcome> {
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
        Some(if self.shadow.is_some() { Outcome::LetThrough(Box::new(outcome)) } else { outcome })
    }

    fn enforce(&mut self, request: &LeaseRequest, park_as: Option<WaiterId>, now: Instant) -> Reply {
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
        now
    }

    /// Takes over the effects of the scheduler: tells limit and counts of the ended leases.
    fn collect(&mut self, are_starts: bool) -> Vec<Parked> {
        let effects = self.scheduler.take_effects();
        if let Some(limit) = self.limit.as_mut().filter(|_| are_starts) {
            for ended in &effects.ended {
                limit.ended(ended.age(), was_start(ended), self.latest);
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
        let Start { lease, duration, is_cut, waited, undo, .. } = start;
        let is_quiet = self.is_quiet(start.is_quiet, now);
        let is_overridden = self.gate.verdict(now) == Verdict::Overridden;
        if let Some(limit) = &mut self.limit {
            limit.began(now);
        }
        self.pressure.started(now);
        if is_quiet {
            self.scheduler.set_quiet(lease);
        }
        if self.shadow.is_none() {
            self.counts.waited.observe(waited);
        }
        let would = None;
        Grant { lease, duration, waited, is_cut, is_overridden, is_quiet, undo, would }
    }

    fn is_quiet(&mut self, is_short: bool, now: Instant) -> bool {
        let is_quiet = is_short || !self.log_pace.has_room(now);
        if !is_quiet {
            self.log_pace.note();
        }
        is_quiet
    }

    fn answer(&mut self, waiter: WaiterId, request: LeaseRequest, outcome: Outcome) {
        self.count(outcome.kind());
        self.effects.answers.push(Answer { waiter, request, outcome });
    }

    /// Refuses a parked request that has lost its place on the connection.
    fn refuse(&mut self, parked: Parked, now: Instant) {
        let Parked { id, request, until } = parked;
        if let Some(shadow) = &mut self.shadow {
            return shadow.dismiss(id, until <= now, &mut self.scheduler, now);
        }
        let refusal = self.refusal(request.holder.as_deref(), now);
        let refusal = Refusal { retry_after: AT_ONCE, ..refusal };
        if let Some(holder) = &request.holder {
            self.scheduler.expect(holder, after(now, AT_ONCE));
        }
        self.answer(id, request, Outcome::Locked(refusal));
    }

    /// Gates and limit let another lease begin, if a slot is free.
    fn may_start(&self, now: Instant) -> bool {
        let is_held = matches!(self.pressure.verdict(now), pressure::Verdict::Held { .. });
        !self.is_closed(now) && !is_held && self.quota(now).is_none_or(|quota| quota.more > 0)
    }

    fn is_closed(&self, now: Instant) -> bool {
        self.gate.verdict(now) == Verdict::Closed
    }

    fn quota(&self, now: Instant) -> Option<limit::Quota> {
        let active = self.scheduler.leases().len();
        self.limit.as_ref().map(|limit| limit.quota(active, now))
    }

    fn refusal(&self, holder: Option<&str>, now: Instant) -> Refusal {
        let cause = self.cause(now);
        let waiting = self.scheduler.queue().waiters().len();
        let before = holder.and_then(|holder| self.scheduler.queue().before(holder));
        let expected = match cause {
            Cause::Checks(_) => None,
            _ => self.expected(before.unwrap_or(waiting), now),
        };
        let retry_after = match cause {
            Cause::Checks(_) => self.until_gate(now),
            _ => expected.or_else(|| self.until_event(now)).unwrap_or(LONGEST_RETRY),
        };
        Refusal {
            cause,
            is_probe: false,
            retry_after: whole_seconds(retry_after.min(LONGEST_RETRY)),
            position: before.map(|before| before + 1),
            expected,
        }
    }

    fn cause(&self, now: Instant) -> Cause {
        if self.is_closed(now) {
            return Cause::Checks(self.gate.reasons());
        }
        if let Some(pressure) = self.pressure.reason(now) {
            return Cause::Pressure(pressure);
        }
        let active = self.scheduler.leases().len();
        match &self.limit {
            Some(limit) if self.scheduler.has_free_slot() => Cause::Limit(limit.status(active, now).to_string()),
            _ => Cause::SlotsInUse,
        }
    }

    /// The time to the expected grant of a waiter with so many before it.
    fn expected(&self, before: usize, now: Instant) -> Option<Duration> {
        let active = self.scheduler.leases().len();
        let slots = match &self.limit {
            Some(limit) => limit.status(active, now).limit,
            None => self.scheduler.slots(),
        };
        let by_slots = self.scheduler.expected(before, slots, now)?;
        let quota = self.quota(now).filter(|quota| quota.more == 0);
        let by_gates = match self.pressure.verdict(now) {
            pressure::Verdict::Held { until } => {
                let floor = self.pressure.floor().saturating_mul(before as u32);
                Some(until.saturating_duration_since(now).saturating_add(floor))
            }
            _ => quota.and_then(|quota| quota.next).map(|at| at.saturating_duration_since(now)),
        };
        Some(by_gates.map_or(by_slots, |by_gates| by_gates.max(by_slots)))
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

    /// Shadow mode: begins a lease for each start, and counts its wait in the model.
    fn let_through(&mut self, request: &LeaseRequest, now: Instant) -> Outcome {
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

    /// The client of a parked request has closed its connection, or sent anything on it.
    pub fn hang_up(&mut self, id: WaiterId, now: Instant) {
        let now = self.advance(now);
        if self.scheduler.hang_up(id, now) {
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
                limit.undone(now);
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
    pub fn probed(&mut self, target: &ProbeTarget, result: ProbeResult, took: Duration, now: Instant) -> Probed {
        let now = self.advance(now);
        let probed = self.real_mut().probed(target, result, took, now);
        if let Some(shadow) = self.shadow.as_mut().filter(|_| probed == Probed::TooEarly) {
            shadow.ignore_port(target.id, &mut self.scheduler);
        }
        self.advance(now);
        probed
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

    /// Records a reading of the node's load; `None` if it cannot be read.
    pub fn read_load(&mut self, reading: Option<Reading>, now: Instant) {
        let now = self.advance(now);
        let active = self.scheduler.leases().len();
        if let Some(limit) = &mut self.limit {
            limit.read(reading, active, now);
        }
        self.advance(now);
    }

    pub fn is_load_due(&self, now: Instant) -> bool {
        self.next_load(now).is_some_and(|at| at <= now)
    }

    /// The next reading of the load: only while a waiter is there that the gates would let start.
    fn next_load(&self, now: Instant) -> Option<Instant> {
        let is_held = matches!(self.pressure.verdict(now), pressure::Verdict::Held { .. });
        let is_wanted = self.scheduler.queue().parked() > 0
            || self.wanted.is_some_and(|at| now.saturating_duration_since(at) < STILL_WANTED);
        let limit = self.limit.as_ref()?;
        (is_wanted && !is_held && !self.is_closed(now)).then(|| limit.next_reading(now))
    }

    /// The next change that the time alone brings.
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        let scheduler = self.scheduler.poll_at(now);
        let shadow = self.shadow.as_ref().and_then(|shadow| shadow.poll_at(now));
        let waiters = if self.scheduler.queue().parked() > 0 { self.poll_gates_at(now) } else { None };
        let events = [scheduler, shadow, waiters, self.next_load(now)];
        // Whatever was due is done, or waits for another event.
        events.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// The next time at which gates or limit may let a waiter start.
    fn poll_gates_at(&self, now: Instant) -> Option<Instant> {
        let overridden = self.gate.overridden_at();
        let pressure = self.pressure.next_event(now);
        let quota = self.quota(now).and_then(|quota| quota.next);
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

/// Whole seconds, rounded up, at least one.
fn whole_seconds(duration: Duration) -> Duration {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(seconds.max(1))
}

#[cfg(test)]
mod tests;
