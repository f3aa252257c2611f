//! Shadow mode: each start is let through, and a model counts how long it would have waited.
//!
//! Two schedulers. In the real one each start has a lease at once, which ends by its port, by DELETE
//! or at its deadline, and so shows how long the start takes. The model has the slots, the queue and
//! the gates; each start is a waiter that is always present, and its lease there lasts as long as the
//! start took.
//!
//! Pure: the time is an argument. No client waits here.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::metrics::Histogram;

use crate::core::lease::{End, Ended, LeaseId, after};
use crate::core::outcome::{Kind, LeaseRequest, Tally};
use crate::core::queue::{MOST_WAITERS, WaiterId};
use crate::core::scheduler::{Response, Scheduler};

/// The longest wait in the model. Without a bound of its own a waiter leaves the queue then.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// The first character of a start without a holder. Names of holders are visible characters.
const NAMELESS: char = ' ';

/// A start that had to wait in the model, at the end of its wait there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// `None` if the request named no holder.
    pub holder: Option<Arc<str>>,
    pub address: IpAddr,
    pub waited: Duration,
    /// Its turn has not come: the wait is longer than [`LONGEST`].
    pub is_cut: bool,
    /// Its log lines have level debug.
    pub is_quiet: bool,
}

/// Totals since the start.
#[derive(Clone, Debug)]
pub struct Counts {
    /// How long starts would have waited.
    pub waited: Histogram,
    /// The outcomes without shadow mode.
    pub requests: Tally,
}

/// A start in the model.
#[derive(Clone, Debug)]
struct Start {
    name: Arc<str>,
    real: LeaseId,
    address: IpAddr,
    asked: Instant,
    is_quiet: bool,
    stage: Stage,
    /// How long the start took and how its real lease ended.
    took: Option<(Duration, End)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting(WaiterId),
    Active { lease: LeaseId, since: Instant },
}

impl Start {
    /// The end of its lease in the model; `None` while the start takes longer.
    fn ends(&self) -> Option<(LeaseId, End, Instant)> {
        let (Stage::Active { lease, since }, Some((took, end))) = (self.stage, self.took) else {
            return None;
        };
        Some((lease, end, after(since, took)))
    }

    fn overdue(&self, is_cut: bool, now: Instant) -> Overdue {
        Overdue {
            holder: holder(&self.name).map(|_| Arc::clone(&self.name)),
            address: self.address,
            waited: now.saturating_duration_since(self.asked),
            is_cut,
            is_quiet: self.is_quiet,
        }
    }
}

/// The holder of a name in the model; `None` if the request named none.
pub fn holder(name: &str) -> Option<&str> {
    Some(name).filter(|name| !name.starts_with(NAMELESS))
}

/// The starts that are followed at the same time.
pub fn capacity(slots: usize) -> usize {
    slots.max(MOST_WAITERS)
}

#[derive(Debug)]
pub struct Shadow {
    /// The leases that exist.
    pub real: Scheduler,
    counts: Counts,
    starts: Vec<Start>,
    /// Starts without a holder so far.
    nameless: u64,
    /// Waiters so far.
    waiters: u64,
    ended: Vec<Ended>,
    overdue: Vec<Overdue>,
}

impl Shadow {
    pub fn new(real: Scheduler, bounds: &'static [f64]) -> Shadow {
        Shadow {
            real,
            counts: Counts { waited: Histogram::new(bounds), requests: Tally::default() },
            starts: Vec::new(),
            nameless: 0,
            waiters: 0,
            ended: Vec::new(),
            overdue: Vec::new(),
        }
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub fn count(&mut self, kind: Kind) {
        self.counts.requests.add(kind);
    }

    /// Adds a start to the model and returns its name there. The holder of a start that still waits
    /// keeps its place, and of one with a lease in the model that lease.
    pub fn begin(
        &mut self,
        real: LeaseId,
        request: &LeaseRequest,
        model: &mut Scheduler,
        now: Instant,
    ) -> Arc<str> {
        let name = request.holder.clone().unwrap_or_else(|| {
            self.nameless += 1;
            format!("{NAMELESS}{}", self.nameless).into()
        });
        let request = LeaseRequest { holder: Some(Arc::clone(&name)), ..request.clone() };
        self.waiters += 1;
        let id = WaiterId(self.waiters);
        let response = model.request(&request, Some((id, after(now, LONGEST))), false, now);
        let address = request.address;
        let known = self.starts.iter_mut().find(|start| start.name == name);
        let parked = match response {
            Response::Parked => Some(Stage::Waiting(id)),
            _ => None,
        };
        if let Some(known) = known {
            // The answer was lost, or the pod has come again.
            (known.real, known.took, known.address) = (real, None, address);
            known.stage = parked.unwrap_or(known.stage);
        } else if let Some(stage) = parked {
            let (asked, is_quiet, took) = (now, false, None);
            let name = Arc::clone(&name);
            self.starts.push(Start { name, real, address, asked, is_quiet, stage, took });
        }
        name
    }

    /// The log lines of this lease get level debug.
    pub fn set_quiet(&mut self, real: LeaseId) {
        self.real.set_quiet(real);
        if let Some(start) = self.starts.iter_mut().find(|start| start.real == real) {
            start.is_quiet = true;
        }
    }

    /// The model has granted a lease to this waiter.
    pub fn grant(&mut self, waiter: WaiterId, lease: LeaseId, now: Instant) {
        let Some(start) = self.waiting(waiter) else { return };
        start.stage = Stage::Active { lease, since: now };
        let overdue = start.overdue(false, now);
        self.counts.waited.observe(overdue.waited);
        if !overdue.waited.is_zero() {
            self.overdue.push(overdue);
        }
    }

    /// The model dismisses this waiter: its wait is over, or there are too many.
    pub fn dismiss(&mut self, id: WaiterId, is_over: bool, model: &mut Scheduler, now: Instant) {
        // A start that has begun anew has another waiter.
        let Some(start) = self.waiting(id) else { return };
        let (name, overdue) = (Arc::clone(&start.name), start.overdue(true, now));
        if is_over {
            self.counts.waited.observe(LONGEST);
            self.overdue.push(overdue);
        }
        model.release(&name, Ipv4Addr::LOCALHOST.into(), now);
        self.starts.retain(|start| start.name != name);
    }

    fn waiting(&mut self, id: WaiterId) -> Option<&mut Start> {
        self.starts.iter_mut().find(|start| start.stage == Stage::Waiting(id))
    }

    /// Ends the leases of the model as the real ones have ended.
    pub fn advance(&mut self, model: &mut Scheduler, now: Instant) {
        self.real.expire(now);
        for ended in self.real.take_effects().ended {
            let real = ended.lease.id;
            if let Some(start) = self.starts.iter_mut().find(|start| start.real == real) {
                start.took.get_or_insert((ended.age(), ended.end));
            }
            self.ended.push(ended);
        }
        let mut ends: Vec<_> = self.starts.iter().filter_map(Start::ends).collect();
        ends.retain(|(_, _, at)| *at <= now);
        for (lease, end, at) in ends {
            model.finish(lease, end, at, now);
        }
        model.expire(now);
        self.starts.retain(|start| match start.stage {
            Stage::Waiting(_) => true,
            Stage::Active { lease, .. } => model.leases().get(lease).is_some(),
        });
    }

    /// The port was open before the application could run: in the model, too, it does not end the
    /// lease.
    pub fn ignore_port(&mut self, real: LeaseId, model: &mut Scheduler) {
        let start = self.starts.iter().find(|start| start.real == real);
        if let Some(Start { stage: Stage::Active { lease, .. }, .. }) = start {
            model.ignore_port(*lease);
        }
    }

    /// The next end of a lease, real or in the model.
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        let ends = self.starts.iter().filter_map(Start::ends).map(|(_, _, at)| at);
        ends.chain(self.real.poll_at(now)).filter(|at| *at > now).min()
    }

    pub fn take_effects(&mut self) -> (Vec<Ended>, Vec<Overdue>) {
        (std::mem::take(&mut self.ended), std::mem::take(&mut self.overdue))
    }
}

#[cfg(test)]
mod tests;
