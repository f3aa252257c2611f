//! What is seen from outside: `/metrics` and `/state`.
//!
//! Renders a copy of the state, so that nobody waits for it. Decides nothing.

use std::time::{Duration, Instant};

use psl::metrics::{self, Exposition};
use psl::serve::Answer;
use serde::Serialize;

use crate::config::Rules;
use crate::gate::Verdict;
use crate::lease::Lease;
use crate::state::{Counted, View};

/// `/state` lists so many leases, those that end first; its size has to have a bound.
pub const LISTED: usize = 100;

/// The answer to `/metrics`.
pub fn metrics(view: &View, now: Instant) -> Answer {
    let mut out = Exposition::new("lock");
    out.counter("psl_lock_requests_total", "Requests for a lease by result");
    for ((_, label), count) in Counted::ALL.iter().zip(view.counts.requests) {
        out.sample("psl_lock_requests_total", &[("result", label)], count);
    }
    out.histogram("psl_lock_held_seconds", "How long leases were held that have ended", &view.counts.held);
    out.single_gauge("psl_lock_slots", "Leases that may be held at the same time", view.slots);
    out.single_gauge("psl_lock_slots_in_use", "Leases that are held", view.slots_in_use);
    out.counter("psl_lock_ended_total", "Leases that have ended by how they ended");
    out.sample("psl_lock_ended_total", &[("how", "expired")], view.counts.expired);
    out.gauge("psl_check_up", "Whether the endpoint passed the last round of checks");
    for (endpoint, failure) in view.gate.results() {
        out.sample("psl_check_up", &[("endpoint", endpoint)], u8::from(failure.is_none()));
    }
    let verdict = view.gate.verdict(now);
    out.single_gauge("psl_gate_open", "Whether starts are let through", u8::from(verdict != Verdict::Closed));
    out.single_gauge(
        "psl_gate_overridden",
        "Whether starts are let through although checks fail, because they have failed for too long",
        u8::from(verdict == Verdict::Overridden),
    );
    Answer::of(200, metrics::CONTENT_TYPE, out.finish())
}

/// The answer to `/state`.
pub fn state(view: &View, rules: &Rules, now: Instant) -> Answer {
    Answer::json(200, json(&State::new(view, rules, now)) + "\n")
}

/// Nothing that is written here can fail: map keys are strings, numbers are finite.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Milliseconds are as much as anybody reads.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// The JSON of `/state`. Within a version fields are added; none changes its meaning.
#[derive(Serialize)]
struct State<'v> {
    version: u8,
    node: Option<&'v str>,
    slots: usize,
    slots_in_use: usize,
    leases: Vec<Held>,
    gate: Gate,
    checks: Vec<Check<'v>>,
    limits: Limits,
}

#[derive(Serialize)]
struct Held {
    age_seconds: f64,
    remaining_seconds: f64,
}

#[derive(Serialize)]
struct Gate {
    open: bool,
    overridden: bool,
    next_round_in_seconds: Option<f64>,
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
    listed_leases: usize,
}

impl<'v> State<'v> {
    fn new(view: &'v View, rules: &'v Rules, now: Instant) -> State<'v> {
        let ago = |at| seconds(now.saturating_duration_since(at));
        let until = |at: Instant| seconds(at.saturating_duration_since(now));
        let held = |lease: &Lease| Held { age_seconds: ago(lease.since), remaining_seconds: until(lease.deadline) };
        let checked_seconds_ago = view.gate.checked_at().map(ago);
        let check = |(endpoint, reason): (&'v str, Option<&'v str>)| Check {
            endpoint,
            up: reason.is_none(),
            reason,
            checked_seconds_ago,
        };
        let checks: Vec<_> = view.gate.results().map(check).collect();
        let verdict = view.gate.verdict(now);
        State {
            version: 1,
            node: rules.node.as_deref(),
            slots: view.slots,
            slots_in_use: view.slots_in_use,
            leases: view.leases.iter().map(held).collect(),
            gate: Gate {
                open: verdict != Verdict::Closed,
                overridden: verdict == Verdict::Overridden,
                next_round_in_seconds: (!checks.is_empty()).then(|| until(view.gate.next_round())),
            },
            checks,
            limits: Limits {
                default_duration_seconds: seconds(rules.default),
                max_duration_seconds: seconds(rules.longest),
                listed_leases: LISTED,
            },
        }
    }
}
