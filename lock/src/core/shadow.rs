//! Shadow mode: each start is let through, and a model counts how long it would have waited.
//!
//! Two schedulers. In the real one each start has a lease at once, which ends by its port, by
//! DELETE or at its deadline, and so shows how long the start takes. The model has the slots, the
//! queue and the gates; each start is a waiter that is always present, and its lease there lasts as
//! long as the start took.
//!
//! The time is an argument. No client waits here.

use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::metrics::Histogram;

use crate::core::lease::{EndedLease, LeaseEnd, LeaseId};
use crate::core::outcome::{Kind, LeaseRequest, Placement, Tally};
use crate::core::queue::{MOST_WAITERS, WaiterId};
use crate::core::scheduler::Scheduler;
use crate::core::time::after;

/// The longest wait in the model. Without a bound of its own a waiter leaves the queue then.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// The first character of a start without a holder. Names of holders are visible characters.
const NAMELESS: char = ' ';

/// The wait of a start in the model, at its end there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelWait {
    /// `None` if the request named no holder.
    pub holder: Option<Arc<str>>,
    pub address: IpAddr,
    pub waited: Duration,
    /// The wait is longer than [`LONGEST`], and the start leaves the model.
    pub is_cut: bool,
    /// Its log lines have level debug.
    pub is_quiet: bool,
}

#[derive(Clone, Debug)]
pub struct ShadowTotals {
    /// How long starts would have waited.
    pub waited: Histogram,
    /// The outcomes without shadow mode.
    pub requests: Tally,
}

#[derive(Clone, Debug)]
struct ModelStart {
    name: Arc<str>,
    real: LeaseId,
    address: IpAddr,
    since: Instant,
    is_quiet: bool,
    stage: ModelStage,
    /// How long the start took and how its real lease ended.
    took: Option<(Duration, LeaseEnd)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModelStage {
    Waiting(WaiterId),
    Active { lease: LeaseId, since: Instant },
}

impl ModelStart {
    /// The end of its lease in the model; `None` while the start takes longer.
    fn lease_end(&self) -> Option<(LeaseId, LeaseEnd, Instant)> {
        match (self.stage, self.took) {
            (ModelStage::Active { lease, since }, Some((took, end))) => {
                Some((lease, end, after(since, took)))
            }
            _ => None,
        }
    }

    fn wait(&self, is_cut: bool, now: Instant) -> ModelWait {
        ModelWait {
            holder: holder(&self.name).map(|_| Arc::clone(&self.name)),
            address: self.address,
            waited: now.saturating_duration_since(self.since),
            is_cut,
            is_quiet: self.is_quiet,
        }
    }
}

/// The holder of a name in the model; `None` if the request named none.
pub fn holder(name: &str) -> Option<&str> {
    Some(name).filter(|name| !name.starts_with(NAMELESS))
}

/// The most starts that the model follows at the same time.
pub fn capacity(slots: usize) -> usize {
    slots.max(MOST_WAITERS)
}

#[derive(Debug)]
pub struct Shadow {
    /// The leases that exist.
    pub real: Scheduler,
    totals: ShadowTotals,
    starts: Vec<ModelStart>,
    /// Starts without a holder so far.
    nameless: u64,
    /// The number of waiters so far.
    waiters: u64,
    ended: Vec<EndedLease>,
    waits: Vec<ModelWait>,
}

impl Shadow {
    pub fn new(real: Scheduler, bounds: &'static [f64]) -> Shadow {
        Shadow {
            real,
            totals: ShadowTotals { waited: Histogram::new(bounds), requests: Tally::default() },
            starts: Vec::new(),
            nameless: 0,
            waiters: 0,
            ended: Vec::new(),
            waits: Vec::new(),
        }
    }

    pub fn totals(&self) -> &ShadowTotals {
        &self.totals
    }

    pub fn count(&mut self, kind: Kind) {
        self.totals.requests.add(kind);
    }

    /// Adds a start to the model and returns its name there. A holder whose start still waits keeps
    /// its place in the queue, and a holder with a lease in the model keeps that lease.
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
        let placement = model.request(&request, Some((id, after(now, LONGEST))), false, now);
        let stage = match placement {
            Placement::Parked => Some(ModelStage::Waiting(id)),
            _ => None,
        };
        let address = request.address;
        if let Some(known) = self.starts.iter_mut().find(|start| start.name == name) {
            // The answer was lost, or the pod was started again.
            (known.real, known.took, known.address) = (real, None, address);
            known.stage = stage.unwrap_or(known.stage);
        } else if let Some(stage) = stage {
            let (name, is_quiet, took) = (Arc::clone(&name), false, None);
            self.starts.push(ModelStart { name, real, address, since: now, is_quiet, stage, took });
        }
        name
    }

    pub fn set_quiet(&mut self, real: LeaseId) {
        self.real.set_quiet(real);
        if let Some(start) = self.start_of(real) {
            start.is_quiet = true;
        }
    }

    /// The model has granted a lease to this waiter.
    pub fn grant(&mut self, waiter: WaiterId, lease: LeaseId, now: Instant) {
        let Some(start) = self.waiting(waiter) else { return };
        start.stage = ModelStage::Active { lease, since: now };
        let wait = start.wait(false, now);
        self.totals.waited.observe(wait.waited);
        if !wait.waited.is_zero() {
            self.waits.push(wait);
        }
    }

    /// The model dismisses this waiter: its wait is over, or there are too many.
    pub fn dismiss(&mut self, id: WaiterId, is_over: bool, model: &mut Scheduler, now: Instant) {
        // A start that was repeated has another waiter.
        let Some(start) = self.waiting(id) else { return };
        let (name, wait) = (Arc::clone(&start.name), start.wait(true, now));
        if is_over {
            self.totals.waited.observe(LONGEST);
            self.waits.push(wait);
        }
        model.release(&name, Ipv4Addr::LOCALHOST.into(), now);
        self.starts.retain(|start| start.name != name);
    }

    fn waiting(&mut self, id: WaiterId) -> Option<&mut ModelStart> {
        self.starts.iter_mut().find(|start| start.stage == ModelStage::Waiting(id))
    }

    fn start_of(&mut self, real: LeaseId) -> Option<&mut ModelStart> {
        self.starts.iter_mut().find(|start| start.real == real)
    }

    /// Ends the leases of the model as the real ones have ended.
    pub fn advance(&mut self, model: &mut Scheduler, now: Instant) {
        self.real.expire(now);
        for ended in self.real.take_effects().ended {
            if let Some(start) = self.start_of(ended.lease.id) {
                start.took.get_or_insert((ended.age(), ended.end));
            }
            self.ended.push(ended);
        }
        for (lease, end, at) in self.starts.iter().filter_map(ModelStart::lease_end) {
            if at <= now {
                model.finish(lease, end, at, now);
            }
        }
        model.expire(now);
        self.starts.retain(|start| match start.stage {
            ModelStage::Waiting(_) => true,
            ModelStage::Active { lease, .. } => model.leases().get(lease).is_some(),
        });
    }

    /// The port was open before the application could run: it does not end the lease of the model
    /// either.
    pub fn ignore_port(&mut self, real: LeaseId, model: &mut Scheduler) {
        if let Some(ModelStart { stage: ModelStage::Active { lease, .. }, .. }) =
            self.start_of(real)
        {
            model.ignore_port(*lease);
        }
    }

    /// The next end of a lease, real or in the model.
    pub fn poll_at(&self, now: Instant) -> Option<Instant> {
        let ends = self.starts.iter().filter_map(ModelStart::lease_end).map(|(_, _, at)| at);
        ends.chain(self.real.poll_at(now)).filter(|at| *at > now).min()
    }

    pub fn take_effects(&mut self) -> (Vec<EndedLease>, Vec<ModelWait>) {
        (mem::take(&mut self.ended), mem::take(&mut self.waits))
    }
}

#[cfg(test)]
mod tests;
