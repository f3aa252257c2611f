//! Leases and queue together: the next lease goes to the first parked waiter.
//!
//! The time is an argument and never goes back. Knows the slots, not the gates and the limit: its
//! caller decides how many leases may begin now.
//!
//! Invariants:
//! - never more leases than slots, except leases restored from a lock with more slots;
//! - a holder has a lease, or is a waiter, or neither;
//! - a free slot that may be used goes to the first parked waiter, never to a client that is away.

use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::protocol::ready::Ready;

use crate::core::lease::{
    EndedLease, Lease, LeaseEnd, LeaseId, Leases, PortWatch, ProbeEffect, ProbeResult, ProbeTarget,
    WatchState,
};
use crate::core::outcome::{Arrival, LeaseRequest, Outcome, Placement, ReleaseEffect, Start};
use crate::core::queue::{ParkedRequest, Presence, Queue, Waiter, WaiterId};
use crate::core::time::after;

pub use crate::core::settings::Durations;

/// The longest wait of a parked waiter: below the idle timeouts of proxies and connection tracking.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A lease that is shorter has log lines of level debug only.
const SHORTEST_LOGGED: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchedulerEffects {
    pub ended: Vec<EndedLease>,
    /// Parked requests to refuse: the wait is over, the holder has sent a new request, or there are
    /// too many.
    pub dismissed: Vec<ParkedRequest>,
}

#[derive(Debug)]
pub struct Scheduler {
    slots: usize,
    durations: Durations,
    leases: Leases,
    queue: Queue,
    /// The last number of a ticket or a lease.
    last_number: u64,
    /// The moving average of how long leases were active.
    typical: Option<Duration>,
    effects: SchedulerEffects,
    /// Grows with each change that a restart must not lose.
    version: u64,
}

impl Scheduler {
    pub fn new(slots: usize, most_parked: usize, durations: Durations) -> Scheduler {
        Scheduler {
            slots: slots.max(1),
            durations,
            leases: Leases::default(),
            queue: Queue::new(most_parked),
            last_number: 0,
            typical: None,
            effects: SchedulerEffects::default(),
            version: 0,
        }
    }

    /// Handles a request. With `park` it is parked under that name until then; without, it begins a
    /// lease if `may_start` and a slot is free. Call [`Scheduler::expire`] and grant all that may
    /// start before.
    pub fn request(
        &mut self,
        request: &LeaseRequest,
        park: Option<(WaiterId, Instant)>,
        may_start: bool,
        now: Instant,
    ) -> Placement {
        self.queue.note_request(request.address, now);
        if let Some(outcome) = self.already_granted(request, now) {
            return Placement::AlreadyGranted(outcome);
        }
        let arrival = self.arrival(request.holder.as_deref(), request.address, now);
        let (presence, placement) = match park {
            Some((id, until)) if request.holder.is_some() => {
                let request = LeaseRequest { node: None, ..request.clone() };
                let parked = ParkedRequest { id, request, until };
                (Presence::Parked(Box::new(parked)), Placement::Parked)
            }
            _ if may_start && self.has_free_slot() => {
                return Placement::Granted(self.begin(request, arrival, now));
            }
            _ => (Presence::Away { due: now }, Placement::Refused),
        };
        if let Some(holder) = &request.holder {
            self.enqueue(Arc::clone(holder), request.address, arrival, presence, now);
        }
        placement
    }

    /// The same lease for the same holder, also if the gates are closed.
    fn already_granted(&mut self, request: &LeaseRequest, now: Instant) -> Option<Outcome> {
        let lease = self.leases.of_mut(request.holder.as_deref()?)?;
        lease.is_confirmed = true;
        let id = lease.id;
        let remaining = lease.deadline.saturating_duration_since(now);
        let old = lease.address;
        let has_moved = old != request.address;
        let is_first_move = has_moved && !lease.has_moved && !lease.is_quiet;
        if has_moved {
            lease.has_moved = true;
            lease.address = request.address;
            let ready = lease.watch.take().map(|watch| watch.ready);
            lease.watch = new_watch(ready, request.baseline, now);
            self.queue.note_end(old, now);
            self.queue.note_lease(request.address, now);
            self.version += 1;
        }
        Some(Outcome::AlreadyGranted { lease: id, remaining, has_moved: is_first_move })
    }

    /// The holder's place in the order of arrival. An earlier request of the holder is dismissed.
    fn arrival(&mut self, holder: Option<&str>, address: IpAddr, now: Instant) -> Arrival {
        let Some(waiter) = holder.and_then(|holder| self.queue.remove(holder)) else {
            self.version += u64::from(holder.is_some());
            return Arrival { ticket: self.next_number(), since: now };
        };
        self.version += u64::from(waiter.address != address);
        if let Presence::Parked(parked) = waiter.presence {
            self.effects.dismissed.push(*parked);
        }
        waiter.arrival
    }

    fn enqueue(
        &mut self,
        holder: Arc<str>,
        address: IpAddr,
        arrival: Arrival,
        presence: Presence,
        now: Instant,
    ) {
        if let Some(removed) = self.queue.insert(Waiter { arrival, holder, address, presence }) {
            self.version += 1;
            self.dismiss(removed, now);
        }
    }

    /// A parked waiter that loses its connection keeps its place for the grace.
    fn dismiss(&mut self, mut waiter: Waiter, now: Instant) {
        let away = Presence::Away { due: now };
        if let Presence::Parked(parked) = mem::replace(&mut waiter.presence, away) {
            self.effects.dismissed.push(*parked);
            // A waiter that is away takes no place of a parked one. If it is one too many, its
            // place is lost.
            let _ = self.queue.insert(waiter);
        }
    }

    /// The client of this refusal is expected back at this time.
    pub fn expect(&mut self, holder: &str, due: Instant) {
        self.queue.expect(holder, due);
    }

    /// Begins a lease for the first parked waiter, if a slot is free.
    pub fn grant_next(&mut self, now: Instant) -> Option<(WaiterId, LeaseRequest, Start)> {
        if !self.has_free_slot() {
            return None;
        }
        let waiter = self.queue.remove_first()?;
        let Presence::Parked(parked) = waiter.presence else { return None };
        let start = self.begin(&parked.request, waiter.arrival, now);
        Some((parked.id, parked.request, start))
    }

    fn begin(&mut self, request: &LeaseRequest, arrival: Arrival, now: Instant) -> Start {
        let lease = LeaseId(self.next_number());
        let requested = request.duration.unwrap_or(self.durations.default);
        let duration = requested.min(self.durations.longest);
        let is_quiet = duration < SHORTEST_LOGGED;
        self.queue.note_lease(request.address, now);
        self.leases.insert(Lease {
            id: lease,
            holder: request.holder.clone(),
            address: request.address,
            since: now,
            deadline: after(now, duration),
            watch: new_watch(request.ready.clone(), request.baseline, now),
            is_quiet,
            has_moved: false,
            is_confirmed: false,
        });
        self.version += 1;
        let waited = now.saturating_duration_since(arrival.since);
        let is_cut = request.duration.is_some_and(|requested| requested > duration);
        Start { lease, duration, is_cut, is_quiet, waited, arrival }
    }

    pub fn set_quiet(&mut self, lease: LeaseId) {
        if let Some(lease) = self.leases.get_mut(lease) {
            lease.is_quiet = true;
        }
    }

    /// Ends leases, waits and graces whose time is over.
    pub fn expire(&mut self, now: Instant) {
        while let Some(lease) = self.leases.expire_one(now) {
            let at = lease.deadline;
            self.record_end(lease, LeaseEnd::Expired, at, now);
        }
        while let Some(waiter) = self.queue.expire_one(now) {
            self.version += u64::from(!waiter.is_parked());
            self.dismiss(waiter, now);
        }
    }

    /// The client of a parked request has closed its connection. `false` if it is not parked any
    /// more.
    pub fn hang_up(&mut self, id: WaiterId, now: Instant) -> bool {
        let Some(mut waiter) = self.queue.remove_parked(id) else { return false };
        waiter.presence = Presence::Away { due: now };
        let _ = self.queue.insert(waiter);
        true
    }

    /// Takes back a grant that its client never read, and returns its time. `None` if the holder
    /// has repeated its request: the grant has reached it.
    pub fn undo(&mut self, id: LeaseId, arrival: Arrival, now: Instant) -> Option<Instant> {
        self.leases.get(id).filter(|lease| !lease.is_confirmed)?;
        let lease = self.leases.remove(id)?;
        self.version += 1;
        // The grant counts for its address: grants that are not read must not put it first again.
        self.queue.note_end(lease.address, now);
        let (address, since, holder) = (lease.address, lease.since, lease.holder.clone());
        let ended = EndedLease { lease, end: LeaseEnd::Released, at: now, is_unread: true };
        self.effects.ended.push(ended);
        if let Some(holder) = holder {
            self.enqueue(holder, address, arrival, Presence::Away { due: now }, now);
        }
        Some(since)
    }

    /// Ends the holder's lease or wait, if the request comes from its address or from this machine.
    pub fn release(&mut self, holder: &str, from: IpAddr, now: Instant) -> ReleaseEffect {
        let may_release = |address: IpAddr| address == from || from.is_loopback();
        if let Some(lease) = self.leases.of(holder).filter(|lease| may_release(lease.address)) {
            let id = lease.id;
            self.finish(id, LeaseEnd::Released, now, now);
            return ReleaseEffect::Lease;
        }
        if !self.queue.of(holder).is_some_and(|waiter| may_release(waiter.address)) {
            return ReleaseEffect::Nothing;
        }
        self.version += 1;
        if let Some(Waiter { presence: Presence::Parked(parked), .. }) = self.queue.remove(holder) {
            self.effects.dismissed.push(*parked);
        }
        ReleaseEffect::Waiter
    }

    /// Ends a lease at a time that is known elsewhere.
    pub fn finish(&mut self, id: LeaseId, end: LeaseEnd, at: Instant, now: Instant) {
        if let Some(lease) = self.leases.remove(id) {
            self.version += 1;
            self.record_end(lease, end, at, now);
        }
    }

    /// The port of this lease does not end it.
    pub fn ignore_port(&mut self, id: LeaseId) {
        if let Some(watch) = self.leases.get_mut(id).and_then(|lease| lease.watch.as_mut()) {
            watch.state = WatchState::Ignored;
        }
    }

    pub fn begin_probe(&mut self, now: Instant) -> Option<ProbeTarget> {
        self.leases.begin_probe(now)
    }

    pub fn finish_probe(
        &mut self,
        target: &ProbeTarget,
        result: ProbeResult,
        took: Duration,
        now: Instant,
    ) -> ProbeEffect {
        let pause = self.durations.probe_pause;
        let effect = self.leases.finish_probe(target, result, took, pause, now);
        if effect == ProbeEffect::EndsLease {
            self.finish(target.id, LeaseEnd::Ready, now, now);
        }
        effect
    }

    fn record_end(&mut self, lease: Lease, end: LeaseEnd, at: Instant, now: Instant) {
        let ended = EndedLease { lease, end, at, is_unread: false };
        let age = ended.age();
        self.typical = Some(self.typical.map_or(age, |typical| (typical * 3 + age) / 4));
        self.queue.note_end(ended.lease.address, now);
        self.effects.ended.push(ended);
    }

    /// The time to the grant of a waiter that has `before` waiters before it, if the slots are the
    /// only bound; `None` before a first lease has ended.
    pub fn expected(&self, before: usize, slots: usize, now: Instant) -> Option<Duration> {
        let typical = self.typical?;
        let left = |lease: &Lease| {
            let end = if lease.is_watched() {
                after(lease.since, typical).min(lease.deadline)
            } else {
                lease.deadline
            };
            end.saturating_duration_since(now)
        };
        let mut ends: Vec<Duration> = self.leases.iter().map(left).collect();
        let slots = slots.max(1);
        let excess = ends.len().saturating_sub(slots);
        ends.resize(ends.len().max(slots), Duration::ZERO);
        let (rounds, nth) = (before / slots, before % slots + excess);
        let (_, first, _) = ends.select_nth_unstable(nth);
        Some(first.saturating_add(typical.saturating_mul(rounds as u32)))
    }

    /// The next change that the time alone brings.
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        self.leases.poll_at(now).into_iter().chain(self.queue.poll_at()).min()
    }

    pub fn take_effects(&mut self) -> SchedulerEffects {
        mem::take(&mut self.effects)
    }

    pub fn has_free_slot(&self) -> bool {
        self.leases.len() < self.slots
    }

    pub fn slots(&self) -> usize {
        self.slots
    }

    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn restore_lease(&mut self, mut lease: Lease, now: Instant) {
        if lease.deadline <= now || lease.holder.as_deref().is_some_and(|name| self.knows(name)) {
            return;
        }
        lease.id = LeaseId(self.next_number());
        self.queue.note_lease(lease.address, now);
        self.leases.insert(lease);
    }

    /// Restores a waiter from before a restart, after those that were restored before it.
    pub fn restore_waiter(
        &mut self,
        holder: Arc<str>,
        address: IpAddr,
        since: Instant,
        now: Instant,
    ) {
        if !self.knows(&holder) {
            let arrival = Arrival { ticket: self.next_number(), since };
            self.enqueue(holder, address, arrival, Presence::Away { due: now }, now);
        }
    }

    fn knows(&self, holder: &str) -> bool {
        self.leases.of(holder).is_some() || self.queue.of(holder).is_some()
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

fn new_watch(
    ready: Option<Ready>,
    baseline: Option<ProbeResult>,
    now: Instant,
) -> Option<Box<PortWatch>> {
    let baseline = baseline.unwrap_or(ProbeResult::Silent);
    ready.map(|ready| Box::new(PortWatch::new(ready, baseline, now)))
}

#[cfg(test)]
mod tests;
