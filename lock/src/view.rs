//! `/metrics` and `/state`.
//!
//! Renders a copy of the state, so that no request waits for it. Decides nothing.

use std::time::Instant;

use psl::metrics::{self, Exposition};
use psl::protocol::node::NodeName;
use psl::server::Response;
use serde::Serialize;

use crate::config::Rules;
use crate::core::gate::Verdict;
use crate::core::lease::{End, Lease};
use crate::core::limit::{self, Reason};
use crate::core::lock::View;
use crate::core::outcome::Kind;
use crate::core::pressure;
use crate::core::queue::{MOST_WAITERS, Presence, Waiter};
use crate::core::scheduler::LONGEST_WAIT;
use crate::core::shadow;
use crate::json::{self, quoted, seconds, thousandths};

/// The most leases in `/state`, those that end first, and the most waiters, those that are served
/// first: its size needs a bound.
pub const LISTED: usize = 100;

/// The bound of each of these lists in bytes: 100 names of usual length fit.
const LARGEST_LIST: usize = 24 * 1024;

/// The most bytes that an entry takes besides its holder: keys, three numbers.
const ENTRY: usize = 120;

/// The answer to `/metrics`.
pub fn metrics(view: &View, now: Instant) -> Response {
    let mut out = Exposition::new("lock");
    out.counter("psl_lock_requests_total", "Requests for a lease by result");
    for kind in Kind::REQUESTS {
        let mut count = view.counts.requests.of(kind);
        if kind == Kind::Busy {
            count += view.counts.requests.of(Kind::Pressure);
        }
        out.sample("psl_lock_requests_total", &[("result", kind.name())], count);
    }
    out.histogram(
        "psl_lock_wait_seconds",
        "From a holder's first request to its lease; without a name each request is the first",
        &view.counts.waited,
    );
    out.histogram(
        "psl_lock_held_seconds",
        "How long leases were active that have ended",
        &view.counts.active,
    );
    out.single_gauge("psl_lock_slots", "Leases that may be active at the same time", view.slots);
    out.single_gauge("psl_lock_slots_in_use", "Active leases", view.active);
    out.single_gauge("psl_lock_queue_length", "Holders in the queue", view.waiting);
    out.counter("psl_lock_ended_total", "Leases that have ended by how they ended");
    for ((_, label), count) in End::ALL.iter().zip(view.counts.ended) {
        out.sample("psl_lock_ended_total", &[("how", label)], count);
    }
    out.gauge("psl_check_up", "Whether the endpoint passed the last round of checks");
    for (endpoint, failure) in view.gate.results() {
        out.sample("psl_check_up", &[("endpoint", endpoint)], u8::from(failure.is_none()));
    }
    let verdict = view.gate.verdict(now);
    out.single_gauge(
        "psl_gate_open",
        "Whether the checks let starts begin",
        u8::from(verdict != Verdict::Closed),
    );
    out.single_gauge(
        "psl_gate_overridden",
        "Whether starts may begin although checks fail, because they have failed for longer than --max-hold",
        u8::from(verdict == Verdict::Overridden),
    );
    let pressure = &view.pressure;
    let is_open = !matches!(pressure.verdict(now), pressure::Verdict::Held { .. });
    out.single_gauge(
        "psl_pressure_open",
        "Whether the node's pressure lets starts begin",
        u8::from(is_open),
    );
    out.gauge(
        "psl_pressure_ratio",
        "The resource's pressure of the last ten seconds at the last reading; it is read only while a client waits",
    );
    for seen in pressure.seen() {
        // The kernel has hundredths of a percent; what is beyond is chance.
        let ratio = seen.percent.map_or(f64::NAN, |percent| (percent * 100.0).round() / 10_000.0);
        out.sample("psl_pressure_ratio", &[("resource", seen.name)], ratio);
    }
    out.counter(
        "psl_pressure_let_through_total",
        "Starts that began under pressure, one for each --gate-floor",
    );
    out.sample("psl_pressure_let_through_total", &[], pressure.let_through());
    let is_shadow = u8::from(view.shadow.is_some());
    out.single_gauge(
        "psl_lock_shadow",
        "Whether lock runs in shadow mode, where slots and queue are those of the model",
        is_shadow,
    );
    if let Some(limit) = &view.limit {
        automatic_limit(&mut out, limit);
    }
    if let Some(shadow) = &view.shadow {
        out.counter("psl_shadow_requests_total", "Requests by the result that they would have had");
        for kind in Kind::SHADOW {
            let count = shadow.requests.of(kind);
            out.sample("psl_shadow_requests_total", &[("result", kind.name())], count);
        }
        out.histogram(
            "psl_shadow_wait_seconds",
            "How long starts would have waited for their lease",
            &shadow.waited,
        );
    }
    Response::of(200, metrics::CONTENT_TYPE, out.finish())
}

fn automatic_limit(out: &mut Exposition, limit: &limit::Status) {
    out.single_gauge(
        "psl_lock_window",
        "Leases that may be active now, by --locks auto",
        limit.limit,
    );
    out.single_gauge(
        "psl_lock_window_floor",
        "Leases that may be active at any load of others",
        limit.floor,
    );
    out.gauge("psl_lock_window_why", "Which reason keeps the limit where it is");
    for (reason, name) in Reason::ALL {
        out.sample("psl_lock_window_why", &[("why", name)], u8::from(reason == limit.reason));
    }
    let cores = limit.cores as f64;
    out.gauge(
        "psl_lock_window_idle_ratio",
        "Share of the node's CPU that was idle in the last half second with a waiter",
    );
    if let Some(idle) = limit.idle_cores {
        out.sample("psl_lock_window_idle_ratio", &[], thousandths(idle / cores));
    }
    out.gauge(
        "psl_lock_window_runnable_threads",
        "Threads of the node that ran or wanted to, in the same half second",
    );
    if let Some(runnable) = limit.runnable {
        out.sample("psl_lock_window_runnable_threads", &[], thousandths(runnable));
    }
    out.single_gauge(
        "psl_lock_window_start_cost_seconds",
        "CPU time that a start costs",
        thousandths(limit.cost),
    );
    out.single_gauge(
        "psl_lock_window_pace",
        "Starts a second that are admitted above the floor",
        thousandths(limit.pace),
    );
    out.gauge(
        "psl_lock_window_next_start_seconds",
        "When the next start is admitted, if the load stays the same; absent if one has to end first",
    );
    if let Some(next) = limit.next {
        out.sample("psl_lock_window_next_start_seconds", &[], seconds(next));
    }
}

/// The answer to `/state`. Holders are shown to this machine alone.
pub fn state(view: &View, rules: &Rules, names: bool, now: Instant) -> Response {
    Response::json(200, json::text(&State::new(view, rules, names, now)) + "\n")
}

/// The JSON of `/state`. Within a version fields are added; none changes its meaning.
#[derive(Serialize)]
struct State<'v> {
    version: u8,
    /// In shadow mode leases and queue are those of the model.
    mode: &'static str,
    node: Option<&'v str>,
    slots: usize,
    /// `null` if the number of slots is given.
    window: Option<Window>,
    slots_in_use: usize,
    leases: Vec<Held<'v>>,
    queue_length: usize,
    queue: Vec<Waiting<'v>>,
    gate: Gate,
    pressure: Pressure,
    checks: Vec<Check<'v>>,
    limits: Limits,
}

/// The automatic limit.
#[derive(Serialize)]
struct Window {
    /// Leases that may be active now, and those that may be at any load.
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
    /// Starts a second that are admitted above the floor.
    pace: f64,
    /// `null` if a lease has to end first.
    next_start_in_seconds: Option<f64>,
}

impl From<&limit::Status> for Window {
    fn from(status: &limit::Status) -> Window {
        Window {
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
}

#[derive(Serialize)]
struct Held<'v> {
    holder: Option<&'v str>,
    age_seconds: f64,
    remaining_seconds: f64,
    /// A success of its port ends it.
    watched: bool,
}

#[derive(Serialize)]
struct Waiting<'v> {
    holder: Option<&'v str>,
    waited_seconds: f64,
    /// It is parked.
    held: bool,
    /// A waiter that is away is expected to ask again then.
    due_in_seconds: Option<f64>,
}

#[derive(Serialize)]
struct Gate {
    open: bool,
    overridden: bool,
    next_round_in_seconds: Option<f64>,
}

#[derive(Serialize)]
struct Pressure {
    open: bool,
    /// If it is not open: one starts then, however high the pressure.
    one_starts_in_seconds: Option<f64>,
    /// It is read only while a client waits.
    read_seconds_ago: Option<f64>,
    resources: Vec<Resource>,
}

#[derive(Serialize)]
struct Resource {
    resource: &'static str,
    percent: Option<f64>,
    closes_above: f64,
    opens_at: f64,
    open: bool,
}

impl From<pressure::Seen> for Resource {
    fn from(seen: pressure::Seen) -> Resource {
        let pressure::Seen { name: resource, percent, above: closes_above, opens_at, holds } = seen;
        Resource { resource, percent, closes_above, opens_at, open: !holds }
    }
}

#[derive(Serialize)]
struct Check<'v> {
    endpoint: &'v str,
    up: bool,
    reason: Option<&'v str>,
    checked_seconds_ago: Option<f64>,
}

#[derive(Serialize)]
struct Limits {
    default_duration_seconds: f64,
    max_duration_seconds: f64,
    max_wait_seconds: f64,
    places: usize,
    held_answers: usize,
    /// The most leases, and the most waiters, in the lists.
    listed: usize,
}

impl<'v> State<'v> {
    fn new(view: &'v View, rules: &'v Rules, names: bool, now: Instant) -> State<'v> {
        let ago = |at| seconds(now.saturating_duration_since(at));
        let until = |at: Instant| seconds(at.saturating_duration_since(now));
        let held = |lease: &'v Lease| Held {
            holder: lease.holder.as_deref().filter(|_| names).and_then(shadow::holder),
            age_seconds: ago(lease.since),
            remaining_seconds: until(lease.deadline),
            watched: lease.is_watched(),
        };
        let waiting = |waiter: &'v Waiter| Waiting {
            holder: Some(&*waiter.holder).filter(|_| names).and_then(shadow::holder),
            waited_seconds: ago(waiter.since),
            held: waiter.is_parked() && view.shadow.is_none(),
            due_in_seconds: match waiter.presence {
                Presence::Parked(_) => None,
                Presence::Away { due } => Some(until(due)),
            },
        };
        let checked_seconds_ago = view.gate.checked_at().map(ago);
        let check = |(endpoint, reason): (&'v str, Option<&'v str>)| Check {
            endpoint,
            up: reason.is_none(),
            reason,
            checked_seconds_ago,
        };
        let checks: Vec<_> = view.gate.results().map(check).collect();
        let verdict = view.gate.verdict(now);
        let is_shadow = view.shadow.is_some();
        State {
            version: 1,
            mode: if is_shadow { "shadow" } else { "enforce" },
            node: rules.node.as_ref().map(NodeName::as_str),
            slots: view.slots,
            window: view.limit.as_ref().map(Window::from),
            slots_in_use: view.active,
            leases: bounded(view.leases.iter().map(held), |lease| lease.holder),
            queue_length: view.waiting,
            queue: bounded(view.queue.iter().map(waiting), |place| place.holder),
            gate: Gate {
                open: verdict != Verdict::Closed,
                overridden: verdict == Verdict::Overridden,
                next_round_in_seconds: (!checks.is_empty()).then(|| until(view.gate.next_round())),
            },
            pressure: Pressure {
                open: !matches!(view.pressure.verdict(now), pressure::Verdict::Held { .. }),
                one_starts_in_seconds: match view.pressure.verdict(now) {
                    pressure::Verdict::Held { until: at } => Some(until(at)),
                    _ => None,
                },
                read_seconds_ago: view.pressure.age(now).map(seconds),
                resources: view.pressure.seen().map(Resource::from).collect(),
            },
            checks,
            limits: Limits {
                default_duration_seconds: seconds(rules.default),
                max_duration_seconds: seconds(rules.longest),
                max_wait_seconds: seconds(LONGEST_WAIT),
                places: MOST_WAITERS,
                held_answers: view.most_parked,
                listed: LISTED,
            },
        }
    }
}

/// As many entries as fit into [`LARGEST_LIST`].
fn bounded<'v, T>(
    entries: impl Iterator<Item = T>,
    holder: impl Fn(&T) -> Option<&'v str>,
) -> Vec<T> {
    let mut room = LARGEST_LIST;
    let mut fits = |entry: &T| {
        let left = room.checked_sub(ENTRY + quoted(holder(entry)));
        room = left.unwrap_or(0);
        left.is_some()
    };
    entries.take_while(|entry| fits(entry)).collect()
}
