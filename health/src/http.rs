//! The answers to HTTP requests: the gate, the state as JSON, and the metrics. The file does not
//! know the API server.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use psl::metrics::{CONTENT_TYPE, Exposition};
use psl::server::{self, Method, Request, Response, Route};
use serde::Serialize;

use crate::core::load::Load;
use crate::core::status::{ApiStatus, Status};
use crate::core::verdict::{Counts, Verdict};
use crate::status_cell::StatusCell;

/// The first lines of the answers, as the Go generations wrote them.
const OK: &str = "HealthCheck OK";
const FAILED: &str = "HealthCheck Failed";

/// The most reasons in an answer, and the most bytes of DaemonSets in `/state`. A node has some
/// dozens. Without a bound, 64 simultaneous requests for a huge list would fill the memory.
const MOST_REASONS: usize = 100;
const MOST_LISTED_BYTES: usize = 32 * 1024;

const GET: &[Method] = &[Method::Get];

#[expect(
    clippy::disallowed_methods,
    reason = "the edge that reads the clock once for each request"
)]
pub fn answer(cell: &StatusCell, request: &Request) -> Response {
    let status = cell.snapshot();
    let now = Instant::now();
    let routes = [
        Route { path: "/", methods: GET, answer: &|request| gate(&status, request.peer, now) },
        Route {
            path: "/state",
            methods: GET,
            answer: &|request| state(&status, request.peer, now),
        },
        Route { path: "/metrics", methods: GET, answer: &|_| metrics(&status, now) },
    ];
    server::dispatch(request, &routes)
}

fn gate(status: &Status, peer: IpAddr, now: Instant) -> Response {
    if status.is_healthy(now) {
        return Response::text(200, format!("{OK}\n"));
    }
    let mut body = format!("{FAILED}\n");
    for reason in status.reasons(peer.is_loopback(), MOST_REASONS, now) {
        body.push_str(&reason);
        body.push('\n');
    }
    Response::text(412, body)
}

#[derive(Serialize)]
struct StateJson<'s> {
    version: u8,
    healthy: bool,
    reasons: Vec<String>,
    counts: Option<CountsJson>,
    latched: bool,
    /// For clients on the loopback.
    daemonsets: Option<Vec<DaemonSetJson<'s>>>,
    node_load: Option<LoadJson>,
    last_success_seconds_ago: Option<u64>,
    stale: bool,
    api_problems: Vec<String>,
    reconnects: u64,
}

/// For all clients, and of all DaemonSets.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct CountsJson {
    waiting: usize,
    ready: usize,
    not_here: usize,
    excluded: usize,
}

#[derive(Serialize)]
struct DaemonSetJson<'s> {
    namespace: &'s str,
    name: &'s str,
    verdict: &'static str,
    reason: String,
}

#[derive(Serialize)]
struct LoadJson {
    open: bool,
    cpu_percent: Option<u64>,
    threshold_percent: u8,
    measured_seconds_ago: Option<u64>,
    problem: Option<String>,
}

fn state(status: &Status, peer: IpAddr, now: Instant) -> Response {
    let is_local = peer.is_loopback();
    let api = status.api.as_ref();
    let verdict = api.and_then(|api| api.verdict.as_deref());
    let age = api.and_then(|api| success_age(api, now));
    let state = StateJson {
        version: 1,
        healthy: status.is_healthy(now),
        reasons: status.reasons(is_local, MOST_REASONS, now),
        counts: verdict.map(|verdict| verdict.counts.into()),
        latched: verdict.is_some_and(|verdict| verdict.is_latched),
        daemonsets: is_local.then(|| verdict.map(listed).unwrap_or_default()),
        node_load: status.load.as_ref().map(|load| load_json(load, is_local, now)),
        last_success_seconds_ago: age.map(|age| age.as_secs()),
        stale: api.is_some_and(|api| api.is_stale(now)),
        api_problems: api.map(|api| api.error_texts(is_local)).unwrap_or_default(),
        reconnects: status.reconnects,
    };
    // It cannot fail: all keys are strings, and all numbers are whole.
    Response::json(200, serde_json::to_string(&state).unwrap_or_default())
}

fn success_age(api: &ApiStatus, now: Instant) -> Option<Duration> {
    api.last_success().map(|at| now.saturating_duration_since(at))
}

fn listed(verdict: &Verdict) -> Vec<DaemonSetJson<'_>> {
    let mut bytes = 0;
    let mut list = Vec::new();
    for status in &verdict.daemonsets {
        let set = DaemonSetJson {
            namespace: status.id.namespace(),
            name: status.id.name(),
            verdict: status.standing.name(),
            reason: status.standing.to_string(),
        };
        bytes += set.namespace.len() + set.name.len() + set.reason.len();
        if bytes >= MOST_LISTED_BYTES {
            break;
        }
        list.push(set);
    }
    list
}

fn load_json(load: &Load, is_local: bool, now: Instant) -> LoadJson {
    let last = load.last(now);
    LoadJson {
        open: load.is_open(now),
        cpu_percent: last.map(|(percent, _)| percent),
        threshold_percent: load.threshold(),
        measured_seconds_ago: last.map(|(_, age)| age.as_secs()),
        problem: load.error_text(is_local),
    }
}

impl From<Counts> for CountsJson {
    fn from(Counts { waiting, ready, not_here, excluded }: Counts) -> CountsJson {
        CountsJson { waiting, ready, not_here, excluded }
    }
}

fn metrics(status: &Status, now: Instant) -> Response {
    let mut out = Exposition::new("health");
    request_metrics(status, now, &mut out);
    verdict_metrics(status, now, &mut out);
    Response::of(200, CONTENT_TYPE, out.finish())
}

fn request_metrics(status: &Status, now: Instant, out: &mut Exposition) {
    let name = "psl_k8s_requests_total";
    out.counter(name, "Requests to the API server by response status, error without a response");
    for (code, count) in &status.requests {
        let code = code.map_or_else(|| "error".to_owned(), |code| code.to_string());
        out.sample(name, &[("code", &code)], count);
    }
    let name = "psl_k8s_reconnects_total";
    out.counter(name, "Watches that ended and were restarted");
    out.sample(name, &[], status.reconnects);
    if let Some(age) = status.api.as_ref().and_then(|api| success_age(api, now)) {
        let help = "Time since the API server last confirmed the verdict";
        out.single_gauge("psl_k8s_last_success_age_seconds", help, age.as_secs());
    }
    let is_stale = status.api.as_ref().is_some_and(|api| api.is_stale(now));
    let help = "1 if the API server has failed for longer than --stale-after";
    out.single_gauge("psl_k8s_stale", help, u8::from(is_stale));
}

fn verdict_metrics(status: &Status, now: Instant, out: &mut Exposition) {
    let api = status.api.as_ref();
    let verdict = api.and_then(|api| api.verdict.as_deref());
    let counts = verdict.map(|verdict| verdict.counts).unwrap_or_default();
    let name = "psl_daemonsets";
    out.gauge(name, "DaemonSets by their verdict on this node");
    for (verdict, count) in [
        ("ready", counts.ready),
        ("waiting", counts.waiting),
        ("not-here", counts.not_here),
        ("excluded", counts.excluded),
    ] {
        out.sample(name, &[("verdict", verdict)], count);
    }
    // Without an API server no check is enabled, so every gate is open.
    let is_open = |check: fn(&Verdict) -> bool| match api {
        Some(api) => api.current_verdict(now).is_some_and(check),
        None => true,
    };
    let name = "psl_gate_open";
    out.gauge(name, "1 if this check lets the lock grant leases");
    for (gate, is_open) in [
        ("daemonsets", is_open(Verdict::daemonsets_are_ready)),
        ("conditions", is_open(|verdict| verdict.node_problems.is_empty())),
        ("load", status.load.as_ref().is_none_or(|load| load.is_open(now))),
    ] {
        out.sample(name, &[("gate", gate)], u8::from(is_open));
    }
}

#[cfg(test)]
mod tests;
