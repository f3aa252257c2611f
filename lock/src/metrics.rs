//! Renders `/metrics` from a copy of the state, so that no request waits for it.

use std::time::Instant;

use psl::metrics::{CONTENT_TYPE, Exposition};
use psl::server::Response;

use crate::core::gate::GateState;
use crate::core::lease::LeaseEnd;
use crate::core::limit::{LimitStatus, Reason};
use crate::core::lock::View;
use crate::core::outcome::Kind;
use crate::core::shadow::ShadowTotals;
use crate::json::{seconds, thousandths};

pub fn render(view: &View, now: Instant) -> Response {
    let mut out = Exposition::new("lock");
    requests(&mut out, view);
    leases(&mut out, view);
    checks(&mut out, view, now);
    pressure(&mut out, view, now);
    out.single_gauge(
        "psl_lock_shadow",
        "1 in shadow mode, where slots and queue are those of the model",
        u8::from(view.shadow.is_some()),
    );
    if let Some(limit) = &view.limit {
        automatic_limit(&mut out, limit);
    }
    if let Some(totals) = &view.shadow {
        shadow(&mut out, totals);
    }
    Response::of(200, CONTENT_TYPE, out.finish())
}

fn requests(out: &mut Exposition, view: &View) {
    let counts = &view.totals.requests;
    out.counter("psl_lock_requests_total", "Requests for a lease by result");
    for kind in Kind::REQUESTS {
        let also = if kind == Kind::Busy { counts.of(Kind::Pressure) } else { 0 };
        out.sample("psl_lock_requests_total", &[("result", kind.name())], counts.of(kind) + also);
    }
}

fn leases(out: &mut Exposition, view: &View) {
    let totals = &view.totals;
    out.histogram(
        "psl_lock_wait_seconds",
        "From a holder's first request to its lease; without a name each request is the first",
        &totals.waited,
    );
    out.histogram("psl_lock_held_seconds", "Length of ended leases", &totals.active);
    out.single_gauge("psl_lock_slots", "Leases that may be active at the same time", view.slots);
    out.single_gauge("psl_lock_slots_in_use", "Active leases", view.active);
    out.single_gauge("psl_lock_queue_length", "Holders in the queue", view.waiting);
    out.counter("psl_lock_ended_total", "Ended leases by how they ended");
    for ((_, label), count) in LeaseEnd::ALL.iter().zip(totals.ended) {
        out.sample("psl_lock_ended_total", &[("how", label)], count);
    }
}

fn checks(out: &mut Exposition, view: &View, now: Instant) {
    out.gauge("psl_check_up", "Whether the endpoint passed the last round of checks");
    for (endpoint, failure) in view.gate.results() {
        out.sample("psl_check_up", &[("endpoint", endpoint)], u8::from(failure.is_none()));
    }
    let state = view.gate.state(now);
    let is_open = u8::from(state != GateState::Closed);
    out.single_gauge("psl_gate_open", "Whether the checks let starts begin", is_open);
    out.single_gauge(
        "psl_gate_overridden",
        "Whether failed checks are ignored because they have failed for longer than --max-hold",
        u8::from(state == GateState::Overridden),
    );
}

fn pressure(out: &mut Exposition, view: &View, now: Instant) {
    let pressure = &view.pressure;
    let is_open = u8::from(pressure.closed_until(now).is_none());
    out.single_gauge("psl_pressure_open", "Whether the node's pressure lets starts begin", is_open);
    out.gauge(
        "psl_pressure_ratio",
        "Pressure of the resource over ten seconds; read only while a client waits",
    );
    for resource in pressure.resources() {
        // The kernel has hundredths of a percent; further digits are noise.
        let percent = resource.percent.unwrap_or(f64::NAN);
        let ratio = (percent * 100.0).round() / 10_000.0;
        out.sample("psl_pressure_ratio", &[("resource", resource.name)], ratio);
    }
    out.counter(
        "psl_pressure_let_through_total",
        "Starts that began under pressure, one for each --gate-floor",
    );
    out.sample("psl_pressure_let_through_total", &[], pressure.starts());
}

fn automatic_limit(out: &mut Exposition, limit: &LimitStatus) {
    let help = "Leases that may be active now, by --locks auto";
    out.single_gauge("psl_lock_window", help, limit.limit);
    let help = "Leases that may be active at any load";
    out.single_gauge("psl_lock_window_floor", help, limit.floor);
    out.gauge("psl_lock_window_why", "1 for the reason that bounds the limit");
    for (reason, name) in Reason::ALL {
        out.sample("psl_lock_window_why", &[("why", name)], u8::from(reason == limit.reason));
    }
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        out.gauge(name, help);
        if let Some(value) = value {
            out.sample(name, &[], value);
        }
    };
    gauge(
        "psl_lock_window_idle_ratio",
        "Idle share of the node's CPU in the last half second with a waiter",
        limit.idle_cores.map(|idle| thousandths(idle / limit.cores as f64)),
    );
    gauge(
        "psl_lock_window_runnable_threads",
        "Runnable threads of the node in the same half second",
        limit.runnable.map(thousandths),
    );
    let (cost, pace) = (thousandths(limit.cost), thousandths(limit.pace));
    gauge("psl_lock_window_start_cost_seconds", "CPU time of a start", Some(cost));
    gauge(
        "psl_lock_window_pace",
        "Starts per second that are admitted above the floor",
        Some(pace),
    );
    gauge(
        "psl_lock_window_next_start_seconds",
        "Time to the next start if the load stays the same; absent if a lease has to end first",
        limit.next.map(seconds),
    );
}

fn shadow(out: &mut Exposition, totals: &ShadowTotals) {
    out.counter("psl_shadow_requests_total", "Requests by their result without shadow mode");
    for kind in Kind::SHADOW {
        let count = totals.requests.of(kind);
        out.sample("psl_shadow_requests_total", &[("result", kind.name())], count);
    }
    out.histogram(
        "psl_shadow_wait_seconds",
        "How long starts would have waited for their lease",
        &totals.waited,
    );
}
