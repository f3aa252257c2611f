//! Active leases: the holder, the deadline, and the state of the holder's `ready` port.
//!
//! The time is an argument and never goes back. Knows neither waiters nor HTTP; the scheduler
//! decides whether a lease may begin.
//!
//! Invariants: a lease ends at its deadline at the latest; no two leases have the same holder.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::protocol::ready::Ready;

use crate::core::time::after;

/// The pause between two probes is this fraction of the lease's age: the end of a start is noticed
/// at most a tenth of the start late.
const PAUSE_DIVISOR: u32 = 10;

pub const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// No application runs sooner after its grant: the kubelet was measured to take 213 ms and more
/// from the end of an init container to the start of the next one. A port that is open earlier
/// belongs to another process.
pub const EARLIEST_START: Duration = Duration::from_millis(200);

const SLOW_PROBE: Duration = Duration::from_millis(250);

/// Probes of slow ports that run at the same time. The other probers are left to fast ports.
const SLOW_PROBES: usize = 2;

/// Identifies a lease for the lifetime of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    /// `None` if the request named no holder.
    pub holder: Option<Arc<str>>,
    /// The address of the holder's last request.
    pub address: IpAddr,
    pub since: Instant,
    pub deadline: Instant,
    /// The port that ends the lease early.
    pub watch: Option<Box<PortWatch>>,
    /// Its log lines have level debug.
    pub is_quiet: bool,
    /// The holder has sent a request from another address since the grant.
    pub has_moved: bool,
    /// The holder has repeated its request, so the grant has reached it.
    pub is_confirmed: bool,
}

/// The `ready` port of an application that is about to start, at the holder's own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortWatch {
    pub ready: Ready,
    pub state: WatchState,
    /// A probe found the port closed, so a later success belongs to the application.
    pub was_closed: bool,
    pub is_slow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The port accepts, or answers 2xx.
    Open,
    /// The port refuses, or gives any other answer.
    Closed,
    Silent,
    /// Ports of this address must not be probed, for this reason.
    Barred(&'static str),
}

/// The next step for a watched port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchState {
    /// The port was open before the application could run, or must not be probed: the lease lasts
    /// its full duration.
    Ignored,
    DueAt(Instant),
    Probing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    pub id: LeaseId,
    pub address: IpAddr,
    pub ready: Ready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeEffect {
    /// The application is ready.
    EndsLease,
    /// The port is open before the application can run: the lease lasts its full duration.
    PortIgnored,
    NoChange,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    Ready,
    Released,
    Expired,
}

impl LeaseEnd {
    /// All ends with their names in metrics and log, in the order of their metric.
    pub const ALL: [(LeaseEnd, &str); 3] = [
        (LeaseEnd::Ready, "ready"),
        (LeaseEnd::Released, "released"),
        (LeaseEnd::Expired, "expired"),
    ];

    pub fn name(self) -> &'static str {
        LeaseEnd::ALL[self as usize].1
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedLease {
    pub lease: Lease,
    pub end: LeaseEnd,
    pub at: Instant,
    /// The client never read its grant.
    pub is_unread: bool,
}

impl EndedLease {
    pub fn age(&self) -> Duration {
        self.at.saturating_duration_since(self.lease.since)
    }
}

impl PortWatch {
    pub fn new(ready: Ready, baseline: ProbeResult, now: Instant) -> PortWatch {
        let state = WatchState::Ignored;
        let mut watch = PortWatch { ready, state, was_closed: false, is_slow: false };
        watch.record(baseline, SHORTEST_PAUSE, now);
        watch
    }

    /// Records a probe that does not end the lease.
    fn record(&mut self, result: ProbeResult, pause: Duration, now: Instant) {
        self.was_closed |= result == ProbeResult::Closed;
        self.state = match result {
            ProbeResult::Open | ProbeResult::Barred(_) => WatchState::Ignored,
            ProbeResult::Closed | ProbeResult::Silent => WatchState::DueAt(after(now, pause)),
        };
    }
}

impl Lease {
    fn watch_state(&self) -> WatchState {
        self.watch.as_ref().map_or(WatchState::Ignored, |watch| watch.state)
    }

    /// A success of its port ends the lease.
    pub fn is_watched(&self) -> bool {
        self.watch_state() != WatchState::Ignored
    }

    fn is_slow(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.is_slow)
    }

    fn due_at(&self) -> Option<Instant> {
        match self.watch_state() {
            WatchState::DueAt(at) => Some(at),
            WatchState::Ignored | WatchState::Probing => None,
        }
    }
}

/// All active leases, in the order of their deadlines.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    active: BTreeMap<(Instant, LeaseId), Lease>,
}

impl Leases {
    pub fn insert(&mut self, lease: Lease) {
        self.active.insert((lease.deadline, lease.id), lease);
    }

    /// Removes the lease that expired first.
    pub fn expire_one(&mut self, now: Instant) -> Option<Lease> {
        let first = self.active.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    pub fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let deadline = self.get(id)?.deadline;
        self.active.remove(&(deadline, id))
    }

    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.iter().find(|lease| lease.id == id)
    }

    pub fn get_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        self.active.values_mut().find(|lease| lease.id == id)
    }

    pub fn of(&self, holder: &str) -> Option<&Lease> {
        self.iter().find(|lease| lease.holder.as_deref() == Some(holder))
    }

    pub fn of_mut(&mut self, holder: &str) -> Option<&mut Lease> {
        self.active.values_mut().find(|lease| lease.holder.as_deref() == Some(holder))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.active.values()
    }

    pub fn len(&self) -> usize {
        self.active.len()
    }

    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// The next deadline or probe.
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        let deadline = self.active.keys().next().map(|(deadline, _)| *deadline);
        // A probe that is due waits for a prober, not for the time.
        let probe = self.iter().filter_map(Lease::due_at).filter(|at| *at > now);
        deadline.into_iter().chain(probe).min()
    }

    pub fn has_due_probe(&self, now: Instant) -> bool {
        self.next_probe(now).is_some()
    }

    /// Hands out the probe that has been due for longest. [`Leases::finish_probe`] takes its
    /// result.
    pub fn begin_probe(&mut self, now: Instant) -> Option<ProbeTarget> {
        let id = self.next_probe(now)?;
        let lease = self.get_mut(id)?;
        let address = lease.address;
        let watch = lease.watch.as_mut()?;
        watch.state = WatchState::Probing;
        Some(ProbeTarget { id, address, ready: watch.ready.clone() })
    }

    fn next_probe(&self, now: Instant) -> Option<LeaseId> {
        let is_running =
            |lease: &&Lease| lease.is_slow() && lease.watch_state() == WatchState::Probing;
        let may_be_slow = self.iter().filter(is_running).count() < SLOW_PROBES;
        let due = self
            .iter()
            .filter(|lease| may_be_slow || !lease.is_slow())
            .filter_map(|lease| Some((lease.due_at()?, lease.id)));
        let (at, id) = due.min()?;
        (at <= now).then_some(id)
    }

    pub fn finish_probe(
        &mut self,
        target: &ProbeTarget,
        result: ProbeResult,
        took: Duration,
        longest_pause: Duration,
        now: Instant,
    ) -> ProbeEffect {
        let Some(lease) = self.get_mut(target.id) else { return ProbeEffect::NoChange };
        // The holder may have moved during the probe.
        if lease.address != target.address || lease.watch_state() != WatchState::Probing {
            return ProbeEffect::NoChange;
        }
        let age = now.saturating_duration_since(lease.since);
        let Some(watch) = lease.watch.as_mut() else { return ProbeEffect::NoChange };
        watch.is_slow = took >= SLOW_PROBE;
        let is_open = result == ProbeResult::Open;
        if is_open && (watch.was_closed || age >= EARLIEST_START) {
            return ProbeEffect::EndsLease;
        }
        watch.record(result, (age / PAUSE_DIVISOR).min(longest_pause).max(SHORTEST_PAUSE), now);
        if is_open { ProbeEffect::PortIgnored } else { ProbeEffect::NoChange }
    }
}

#[cfg(test)]
mod tests;
