//! Renders `/state` from a copy of the state, so that no request waits for it.

use std::time::Instant;

use psl::protocol::node::NodeName;
use psl::server::Response;
use serde::Serialize;

use crate::config::Rules;
use crate::core::gate::GateState;
use crate::core::lease::Lease;
use crate::core::limit::LimitStatus;
use crate::core::lock::View;
use crate::core::pressure::ResourceStatus;
use crate::core::queue::{MOST_WAITERS, Presence, Waiter};
use crate::core::scheduler::LONGEST_WAIT;
use crate::core::shadow;
use crate::json::{self, quoted_len, seconds, thousandths};

/// The most leases in `/state`, those that end first, and the most waiters, those that are served
/// first: its size needs a bound.
pub const LISTED: usize = 100;

/// The bound of each of these lists in bytes: 100 names of usual length fit.
const LARGEST_LIST: usize = 24 * 1024;

/// The most bytes that an entry takes besides its holder: keys, three numbers.
const ENTRY_BYTES: usize = 120;

/// The answer to `/state`. Only clients on this machine see the names of holders.
pub fn render(view: &View, rules: &Rules, has_names: bool, now: Instant) -> Response {
    let renderer = Renderer { now, has_names };
    Response::json(200, json::text(&renderer.state(view, rules)) + "\n")
}

/// The JSON of `/state`. Within a version fields are added; none changes its meaning.
#[derive(Serialize)]
struct StateJson<'v> {
    version: u8,
    /// In shadow mode leases and queue are those of the model.
    mode: &'static str,
    node: Option<&'v str>,
    slots: usize,
    /// `null` if the number of slots is fixed.
    window: Option<LimitJson>,
    slots_in_use: usize,
    leases: Vec<LeaseJson<'v>>,
    queue_length: usize,
    queue: Vec<WaiterJson<'v>>,
    gate: GateJson,
    pressure: PressureJson,
    checks: Vec<CheckJson<'v>>,
    limits: BoundsJson,
}

#[derive(Serialize)]
struct LimitJson {
    limit: usize,
    floor: usize,
    in_flight: usize,
    why: &'static str,
    reason: String,
    /// `null` before half a second with a waiter, as are the threads.
    idle_ratio: Option<f64>,
    cores: usize,
    runnable_threads: Option<f64>,
    start_cost_seconds: f64,
    pace: f64,
    /// `null` if a lease has to end first.
    next_start_in_seconds: Option<f64>,
}

#[derive(Serialize)]
struct LeaseJson<'v> {
    holder: Option<&'v str>,
    age_seconds: f64,
    remaining_seconds: f64,
    /// A success of its port ends the lease.
    watched: bool,
}

#[derive(Serialize)]
struct WaiterJson<'v> {
    holder: Option<&'v str>,
    waited_seconds: f64,
    /// The waiter is parked.
    held: bool,
    /// When a waiter that is away is expected to ask again.
    due_in_seconds: Option<f64>,
}

#[derive(Serialize)]
struct GateJson {
    open: bool,
    overridden: bool,
    next_round_in_seconds: Option<f64>,
}

#[derive(Serialize)]
struct PressureJson {
    open: bool,
    /// If the gate is closed: one start begins then at the latest.
    one_starts_in_seconds: Option<f64>,
    /// The pressure is read only while a client waits.
    read_seconds_ago: Option<f64>,
    resources: Vec<ResourceJson>,
}

#[derive(Serialize)]
struct ResourceJson {
    resource: &'static str,
    percent: Option<f64>,
    closes_above: f64,
    opens_at: f64,
    open: bool,
}

#[derive(Serialize)]
struct CheckJson<'v> {
    endpoint: &'v str,
    up: bool,
    reason: Option<&'v str>,
    checked_seconds_ago: Option<f64>,
}

#[derive(Serialize)]
struct BoundsJson {
    default_duration_seconds: f64,
    max_duration_seconds: f64,
    max_wait_seconds: f64,
    places: usize,
    held_answers: usize,
    /// The most leases, and the most waiters, in the lists.
    listed: usize,
}

/// The time of the answer, and whether it shows names of holders.
#[derive(Clone, Copy)]
struct Renderer {
    now: Instant,
    has_names: bool,
}

impl Renderer {
    fn state<'v>(self, view: &'v View, rules: &'v Rules) -> StateJson<'v> {
        let is_shadow = view.shadow.is_some();
        let leases = view.leases.iter().map(|lease| self.lease(lease));
        let waiters = view.queue.iter().map(|waiter| self.waiter(waiter, is_shadow));
        StateJson {
            version: 1,
            mode: if is_shadow { "shadow" } else { "enforce" },
            node: rules.node.as_ref().map(NodeName::as_str),
            slots: view.slots,
            window: view.limit.as_ref().map(limit),
            slots_in_use: view.active,
            leases: truncate(leases, |lease| lease.holder),
            queue_length: view.waiting,
            queue: truncate(waiters, |waiter| waiter.holder),
            gate: self.gate(view),
            pressure: self.pressure(view),
            checks: self.checks(view),
            limits: BoundsJson {
                default_duration_seconds: seconds(rules.default),
                max_duration_seconds: seconds(rules.longest),
                max_wait_seconds: seconds(LONGEST_WAIT),
                places: MOST_WAITERS,
                held_answers: view.most_parked,
                listed: LISTED,
            },
        }
    }

    fn ago(self, at: Instant) -> f64 {
        seconds(self.now.saturating_duration_since(at))
    }

    fn until(self, at: Instant) -> f64 {
        seconds(at.saturating_duration_since(self.now))
    }

    fn holder(self, name: Option<&str>) -> Option<&str> {
        name.filter(|_| self.has_names).and_then(shadow::holder)
    }

    fn lease(self, lease: &Lease) -> LeaseJson<'_> {
        LeaseJson {
            holder: self.holder(lease.holder.as_deref()),
            age_seconds: self.ago(lease.since),
            remaining_seconds: self.until(lease.deadline),
            watched: lease.is_watched(),
        }
    }

    fn waiter(self, waiter: &Waiter, is_shadow: bool) -> WaiterJson<'_> {
        WaiterJson {
            holder: self.holder(Some(&waiter.holder)),
            waited_seconds: self.ago(waiter.arrival.since),
            held: waiter.is_parked() && !is_shadow,
            due_in_seconds: match waiter.presence {
                Presence::Parked(_) => None,
                Presence::Away { due } => Some(self.until(due)),
            },
        }
    }

    fn gate(self, view: &View) -> GateJson {
        let state = view.gate.state(self.now);
        let has_checks = view.gate.results().next().is_some();
        GateJson {
            open: state != GateState::Closed,
            overridden: state == GateState::Overridden,
            next_round_in_seconds: has_checks.then(|| self.until(view.gate.next_round())),
        }
    }

    fn pressure(self, view: &View) -> PressureJson {
        let closed_until = view.pressure.closed_until(self.now);
        PressureJson {
            open: closed_until.is_none(),
            one_starts_in_seconds: closed_until.map(|at| self.until(at)),
            read_seconds_ago: view.pressure.age(self.now).map(seconds),
            resources: view.pressure.resources().map(resource).collect(),
        }
    }

    fn checks(self, view: &View) -> Vec<CheckJson<'_>> {
        let checked_seconds_ago = view.gate.checked_at().map(|at| self.ago(at));
        let check = |(endpoint, reason): (_, Option<_>)| {
            let up = reason.is_none();
            CheckJson { endpoint, up, reason, checked_seconds_ago }
        };
        view.gate.results().map(check).collect()
    }
}

fn limit(status: &LimitStatus) -> LimitJson {
    LimitJson {
        limit: status.limit,
        floor: status.floor,
        in_flight: status.in_flight,
        why: status.reason.name(),
        reason: status.to_string(),
        idle_ratio: status.idle_cores.map(|idle| thousandths(idle / status.cores as f64)),
        cores: status.cores,
        runnable_threads: status.runnable.map(thousandths),
        start_cost_seconds: thousandths(status.cost),
        pace: thousandths(status.pace),
        next_start_in_seconds: status.next.map(seconds),
    }
}

fn resource(status: ResourceStatus) -> ResourceJson {
    let ResourceStatus { name: resource, percent, closes_above, opens_at, closes_gate } = status;
    ResourceJson { resource, percent, closes_above, opens_at, open: !closes_gate }
}

/// The first entries that fit into [`LARGEST_LIST`].
fn truncate<'v, T>(
    entries: impl Iterator<Item = T>,
    holder: impl Fn(&T) -> Option<&'v str>,
) -> Vec<T> {
    let mut bytes_left = LARGEST_LIST;
    let mut fits = |entry: &T| {
        let left = bytes_left.checked_sub(ENTRY_BYTES + quoted_len(holder(entry)));
        bytes_left = left.unwrap_or(0);
        left.is_some()
    };
    entries.take_while(|entry| fits(entry)).collect()
}
