//! What is known becomes answers. Does not ask the API for anything.

use std::net::IpAddr;
use std::time::Instant;

use psl::metrics::{CONTENT_TYPE, Exposition};
use psl::server::{self, Method, Request, Response, Route};
use serde::Serialize;

use crate::load::Load;
use crate::status::{Board, Known, Told};
use crate::verdict::{Counts, Verdict};

/// The healthy first line, as the Go generations wrote it.
const OK: &str = "HealthCheck OK";
/// The other one.
const FAILED: &str = "HealthCheck Failed";

/// The most causes in an answer, and the most bytes of DaemonSets in `/state`. A node has some dozens;
/// without a bound 64 requests for a monstrous list at the same time would fill the memory.
const MOST_CAUSES: usize = 100;
const MOST_LISTED_BYTES: usize = 32 * 1024;

const GET: &[Method] = &[Method::Get];

/// Answers one request.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge that reads the clock once for each request"
)]
pub fn answer(board: &Board, request: &Request) -> Response {
    let known = board.known();
    let now = Instant::now();
    let routes = [
        Route { path: "/", methods: GET, answer: &|request| gate(&known, request.peer, now) },
        Route { path: "/state", methods: GET, answer: &|request| state(&known, request.peer, now) },
        Route { path: "/metrics", methods: GET, answer: &|_| metrics(&known, now) },
    ];
    server::dispatch(request, &routes)
}

/// The one place where the verdict becomes a status and a body.
fn gate(known: &Known, peer: IpAddr, now: Instant) -> Response {
    if known.is_healthy(now) {
        return Response::text(200, format!("{OK}\n"));
    }
    let mut body = format!("{FAILED}\n");
    for reason in known.reasons(peer.is_loopback(), MOST_CAUSES, now) {
        body.push_str(&reason);
        body.push('\n');
    }
    Response::text(412, body)
}

#[derive(Serialize)]
struct State<'k> {
    version: u8,
    healthy: bool,
    reasons: Vec<String>,
    counts: Option<StateCounts>,
    latched: bool,
    daemonsets: Option<Vec<StateDaemonSet<'k>>>,
    node_load: Option<StateLoad>,
    last_success_seconds_ago: Option<u64>,
    stale: bool,
    api_problems: Vec<String>,
    reconnects: u64,
}

/// Also for those who may not see the list, and of all where the list is cut.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct StateCounts {
    waiting: usize,
    ready: usize,
    not_here: usize,
    excluded: usize,
}

#[derive(Serialize)]
struct StateDaemonSet<'k> {
    namespace: &'k str,
    name: &'k str,
    verdict: &'static str,
    reason: String,
}

#[derive(Serialize)]
struct StateLoad {
    open: bool,
    cpu_percent: Option<u64>,
    threshold_percent: u8,
    measured_seconds_ago: Option<u64>,
    problem: Option<String>,
}

fn state(known: &Known, peer: IpAddr, now: Instant) -> Response {
    let insider = peer.is_loopback();
    let told = known.told.as_ref();
    let verdict = told.and_then(|told| told.verdict.as_deref());
    let last_success = told.and_then(Told::last_success);
    let state = State {
        version: 1,
        healthy: known.is_healthy(now),
        reasons: known.reasons(insider, MOST_CAUSES, now),
        counts: verdict.map(|verdict| verdict.counts.into()),
        latched: verdict.is_some_and(|verdict| verdict.is_latched),
        daemonsets: insider.then(|| verdict.map(listed).unwrap_or_default()),
        node_load: known.load.as_ref().map(|load| load_state(load, insider, now)),
        last_success_seconds_ago: last_success
            .map(|at| now.saturating_duration_since(at).as_secs()),
        stale: told.is_some_and(|told| told.is_stale(now)),
        api_problems: told.map(|told| told.problems(insider).collect()).unwrap_or_default(),
        reconnects: known.reconnects,
    };
    // Nothing in it can fail to be written: its keys are strings and its numbers whole.
    Response::json(200, serde_json::to_string(&state).unwrap_or_default())
}

fn listed(verdict: &Verdict) -> Vec<StateDaemonSet<'_>> {
    let mut room = MOST_LISTED_BYTES;
    let shown = verdict.daemonsets.iter().map(|judged| StateDaemonSet {
        namespace: judged.set.namespace(),
        name: judged.set.name(),
        verdict: judged.standing.name(),
        reason: judged.standing.to_string(),
    });
    let fitting = shown.take_while(|set| {
        room = room.saturating_sub(set.namespace.len() + set.name.len() + set.reason.len());
        room > 0
    });
    fitting.collect()
}

/// The server's own words are for insiders.
fn load_state(load: &Load, insider: bool, now: Instant) -> StateLoad {
    let last = load.last(now);
    StateLoad {
        open: load.is_open(now),
        cpu_percent: last.map(|(percent, _)| percent),
        threshold_percent: load.threshold(),
        measured_seconds_ago: last.map(|(_, age)| age.as_secs()),
        problem: load.problem(insider),
    }
}

impl From<Counts> for StateCounts {
    fn from(Counts { waiting, ready, not_here, excluded }: Counts) -> StateCounts {
        StateCounts { waiting, ready, not_here, excluded }
    }
}

fn metrics(known: &Known, now: Instant) -> Response {
    let mut out = Exposition::new("health");
    out.counter(
        "psl_k8s_requests_total",
        "Requests to the API by the answer's status; error where none came",
    );
    for (status, count) in &known.requests {
        let code = status.map_or_else(|| "error".to_owned(), |status| status.to_string());
        out.sample("psl_k8s_requests_total", &[("code", &code)], count);
    }
    out.counter(
        "psl_k8s_reconnects_total",
        "Watches of the API that have ended and were begun again",
    );
    out.sample("psl_k8s_reconnects_total", &[], known.reconnects);
    let told = known.told.as_ref();
    if let Some(at) = told.and_then(Told::last_success) {
        out.gauge(
            "psl_k8s_last_success_age_seconds",
            "How old the last verdict is that the API is known to bear out",
        );
        out.sample(
            "psl_k8s_last_success_age_seconds",
            &[],
            now.saturating_duration_since(at).as_secs(),
        );
    }
    out.gauge(
        "psl_k8s_stale",
        "Whether the API has failed for longer than the last verdict stands",
    );
    out.sample("psl_k8s_stale", &[], u8::from(told.is_some_and(|told| told.is_stale(now))));
    let verdict = told.and_then(|told| told.verdict.as_deref());
    let counts = verdict.map(|verdict| verdict.counts).unwrap_or_default();
    out.gauge("psl_daemonsets", "DaemonSets by what they mean for this node");
    for (verdict, count) in [
        ("ready", counts.ready),
        ("waiting", counts.waiting),
        ("not-here", counts.not_here),
        ("excluded", counts.excluded),
    ] {
        out.sample("psl_daemonsets", &[("verdict", verdict)], count);
    }
    let standing = told.map(|told| told.standing(now));
    let by =
        |is_good: fn(&Verdict) -> bool| standing.is_none_or(|verdict| verdict.is_some_and(is_good));
    out.gauge("psl_gate_open", "Whether this lets the lock grant leases");
    for (gate, open) in [
        ("daemonsets", by(Verdict::daemonsets_are_ready)),
        ("conditions", by(|verdict| verdict.node.is_empty())),
        ("load", known.load.as_ref().is_none_or(|load| load.is_open(now))),
    ] {
        out.sample("psl_gate_open", &[("gate", gate)], u8::from(open));
    }
    Response::of(200, CONTENT_TYPE, out.finish())
}

#[cfg(test)]
mod tests;
