//! What is known becomes answers. Does not ask the API for anything.

use std::net::IpAddr;
use std::time::Instant;

use psl::metrics::{CONTENT_TYPE, Exposition};
use psl::serve::{self, Answer, Method, Request, Route};
use serde::Serialize;

use crate::status::{Board, Known};
use crate::verdict::{Counts, Verdict};

/// The healthy first line, as the Go generations wrote it.
const OK: &str = "HealthCheck OK";
/// The other one.
const FAILED: &str = "HealthCheck Failed";

/// How many causes an answer names, and how many DaemonSets `/state` does. A node has some dozens;
/// without a bound a few requests for a monstrous list at the same time would fill the memory.
const MOST_CAUSES: usize = 100;
const MOST_LISTED: usize = 1000;

const GET: &[Method] = &[Method::Get];

/// Answers one request.
#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock once for each request")]
pub fn answer(board: &Board, request: &Request) -> Answer {
    let known = board.known();
    let now = Instant::now();
    let routes = [
        Route { path: "/", methods: GET, answer: &|request| gate(&known, request.peer) },
        Route { path: "/state", methods: GET, answer: &|request| state(&known, request.peer, now) },
        Route { path: "/metrics", methods: GET, answer: &|_| metrics(&known) },
    ];
    serve::dispatch(request, &routes)
}

/// The one place where the verdict becomes a status and a body.
fn gate(known: &Known, peer: IpAddr) -> Answer {
    if known.is_healthy() {
        return Answer::text(200, format!("{OK}\n"));
    }
    let mut body = format!("{FAILED}\n");
    for reason in known.reasons(peer.is_loopback(), MOST_CAUSES) {
        body.push_str(&reason);
        body.push('\n');
    }
    Answer::text(412, body)
}

#[derive(Serialize)]
struct State<'k> {
    version: u8,
    healthy: bool,
    reasons: Vec<String>,
    counts: Option<StateCounts>,
    daemonsets: Option<Vec<StateDaemonSet<'k>>>,
    last_success_seconds_ago: Option<u64>,
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

fn state(known: &Known, peer: IpAddr, now: Instant) -> Answer {
    let insider = peer.is_loopback();
    let verdict = known.last.as_ref().map(|(verdict, _)| &**verdict);
    let state = State {
        version: 1,
        healthy: known.is_healthy(),
        reasons: known.reasons(insider, MOST_CAUSES),
        counts: verdict.map(|verdict| verdict.counts.into()),
        daemonsets: insider.then(|| verdict.map(listed).unwrap_or_default()),
        last_success_seconds_ago: known.last.as_ref().map(|(_, at)| now.saturating_duration_since(*at).as_secs()),
    };
    // Nothing in it can fail to be written: its keys are strings and its numbers whole.
    Answer::json(200, serde_json::to_string(&state).unwrap_or_default())
}

fn listed(verdict: &Verdict) -> Vec<StateDaemonSet<'_>> {
    let sets = verdict.daemonsets.iter().take(MOST_LISTED);
    let shown = sets.map(|set| StateDaemonSet {
        namespace: &set.namespace,
        name: &set.name,
        verdict: set.standing.name(),
        reason: set.standing.to_string(),
    });
    shown.collect()
}

impl From<Counts> for StateCounts {
    fn from(Counts { waiting, ready, not_here, excluded }: Counts) -> StateCounts {
        StateCounts { waiting, ready, not_here, excluded }
    }
}

fn metrics(known: &Known) -> Answer {
    let mut out = Exposition::new("health");
    out.counter("psl_k8s_requests_total", "Requests to the API by the answer's status; error where none came");
    for (status, count) in &known.requests {
        let code = status.map_or_else(|| "error".to_owned(), |status| status.to_string());
        out.sample("psl_k8s_requests_total", &[("code", &code)], count);
    }
    let counts = known.last.as_ref().map(|(verdict, _)| verdict.counts).unwrap_or_default();
    out.gauge("psl_daemonsets", "DaemonSets by what the last full round made of them for this node");
    for (verdict, count) in [
        ("ready", counts.ready),
        ("waiting", counts.waiting),
        ("not-here", counts.not_here),
        ("excluded", counts.excluded),
    ] {
        out.sample("psl_daemonsets", &[("verdict", verdict)], count);
    }
    out.gauge("psl_gate_open", "Whether this lets the lock grant leases");
    out.sample("psl_gate_open", &[("gate", "daemonsets")], u8::from(known.is_healthy()));
    Answer::of(200, CONTENT_TYPE, out.finish())
}

#[cfg(test)]
mod tests;
