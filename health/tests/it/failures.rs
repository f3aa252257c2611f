//! Each failure of the API server is a reason, does not end the program, and passes.

use testkit::CEILING;
use testkit::api::{Fault, WatchEnd};

use super::*;

/// The reason with `--stale-after=1ms`.
const STALE: &str =
    "verdict is stale: the API server has failed for more than 1ms (--stale-after)\n";

/// Lets one path fail, waits for the reason, ends the failure, and waits for the open gate.
fn fails(path: &str, fault: Fault, expected: &str) {
    fails_within(path, fault, expected, CEILING);
}

fn fails_within(path: &str, fault: Fault, expected: &str, ceiling: Duration) {
    let cluster = Cluster::new();
    cluster.heal();
    let mut health = cluster.health().arg("--stale-after=1ms").start();
    wait_for_answer(&mut health, 200, "");
    testkit::eventually("two watches", CEILING, || (cluster.api.watches() == 2).then_some(()));
    cluster.api.fault(path, fault);
    // A new request is necessary then.
    cluster.api.end_watches(WatchEnd::Expired);
    let url = cluster.api.url();
    let expected =
        format!("HealthCheck Failed\n{}\n{STALE}", expected.replace("URL", &format!("{url}/")));
    // The failure of a watch may have been the reason before.
    let reply = wait_for_answer_within(&mut health, 412, &expected, ceiling);
    assert_eq!(reply.body, expected);
    let state = state(&mut health);
    assert_eq!(
        (state["reasons"].as_array().map(Vec::len), &state["stale"]),
        (Some(2), &true.into()),
        "{state}"
    );
    assert!(
        !state["daemonsets"].as_array().unwrap().is_empty(),
        "the last verdict stays visible: {state}"
    );
    assert!(state["last_success_seconds_ago"].is_u64(), "{state}");
    assert_eq!((get(&mut health, "/livez").status, get(&mut health, "/readyz").status), (200, 200));
    let logged = expected.lines().nth(1).unwrap().split('"').next().unwrap();
    health.wait_for(
        |line| {
            line.starts_with("level=warn msg=\"API request failed\" why=") && line.contains(logged)
        },
        CEILING,
    );
    cluster.api.clear_faults();
    wait_for_answer_within(&mut health, 200, "", ceiling);
}

fn status(code: u16, body: &str) -> Fault {
    Fault::Status(code, vec![("Content-Type".into(), "application/json".into())], body.into())
}

fn recorded(name: &str) -> String {
    testkit::transcript::body(include_str!("../data/answers"), name).to_owned()
}

#[test]
fn statuses_of_the_node() {
    fails(
        NODE,
        status(404, &recorded("error-404-node")),
        "not found: node node-a (404), check --node-name: nodes 'no-such-node' not found",
    );
    fails(NODE, status(500, "{}"), "API server error: node node-a (500)");
    fails(NODE, status(503, "<html>no</html>"), "API server error: node node-a (503)");
    fails(NODE, status(301, ""), "redirect not followed: node node-a (301), check --baseUrl");
    fails(NODE, status(418, ""), "unexpected response: node node-a (418), check --baseUrl");
    fails(NODE, status(204, ""), "unexpected response: node node-a (204), check --baseUrl");
    fails(
        NODE,
        status(200, &recorded("node-b")),
        "unexpected response: node node-a: another object",
    );
    fails(
        NODE,
        status(410, &recorded("error-410-exact")),
        "resource version expired: node node-a (410): The resourceVersion for the provided list is too old.",
    );
}

#[test]
fn statuses_of_the_lists() {
    fails(
        DAEMONSETS,
        status(403, &recorded("error-403-daemonsets-all")),
        "permission denied: list daemonsets.apps in all namespaces (403), add it to the role of health: daemonsets.apps is forbidden: User \
         'system:serviceaccount:psl:health-ns' cannot list resource 'daemonsets' in API group 'apps' at the cluster scope",
    );
    fails(
        PODS,
        status(403, "{}"),
        "permission denied: list pods in all namespaces (403), add it to the role of health",
    );
    fails(
        DAEMONSETS,
        status(404, &recorded("error-404-path")),
        "not found: list of DaemonSets (404), URL has no /apis/apps/v1/daemonsets: the server could not find the requested resource",
    );
    fails(
        PODS,
        status(400, &recorded("error-400-field-selector")),
        "unexpected response: list of pods on node node-a (400), check --baseUrl: field label not supported: spec.noSuchField",
    );
    fails(
        PODS,
        status(500, &"x".repeat(100_000)),
        "API server error: list of pods on node node-a (500)",
    );
    fails(DAEMONSETS, status(200, ""), "incomplete JSON: list of DaemonSets");
    fails(
        PODS,
        status(200, "<html>"),
        "invalid JSON: list of pods on node node-a: expected value at line 1 column 1",
    );
}

#[test]
fn a_missing_permission_names_the_namespace() {
    let cluster = Cluster::new();
    for (path, expected) in [
        (
            "daemonsets",
            "permission denied: list daemonsets.apps in namespace logging (403), add it to the role of health\n",
        ),
        (
            "pods",
            "permission denied: list pods in namespace logging (403), add it to the role of health\n",
        ),
    ] {
        let group = if path == "pods" { "/api/v1" } else { "/apis/apps/v1" };
        cluster.api.fault(&format!("{group}/namespaces/logging/{path}"), status(403, ""));
        let mut health = cluster.health().arg("--namespace=logging").start();
        wait_for_answer(&mut health, 412, expected);
        cluster.api.clear_faults();
    }
}

#[test]
fn responses_that_break_off() {
    for (path, object) in [
        (DAEMONSETS, "list of DaemonSets"),
        (PODS, "list of pods on node node-a"),
        (NODE, "node node-a"),
    ] {
        fails(path, Fault::HalfJson, &format!("incomplete JSON: {object}"));
        fails(
            path,
            Fault::Cut,
            &format!("connection closed before the complete response: {object}"),
        );
        fails(
            path,
            Fault::Close,
            &format!("connection closed before the complete response: {object} at URL"),
        );
        fails(
            path,
            Fault::Reset,
            &format!("connection closed before the complete response: {object} at URL"),
        );
    }
}

#[test]
fn a_response_that_is_not_http() {
    fails(
        DAEMONSETS,
        Fault::Garbage,
        "malformed HTTP response: protocol: http parse fail: invalid HTTP version: list of DaemonSets at URL",
    );
}

#[test]
fn connection_refused() {
    let cluster = Cluster::new();
    cluster.heal();
    let mut health = cluster.health().arg("--stale-after=1ms").start();
    wait_for_answer(&mut health, 200, "");
    cluster.api.refuse(true);
    let refused = format!("connection refused: node node-a at {}/\n", cluster.api.url());
    wait_for_answer(&mut health, 412, &refused);
    cluster.api.refuse(false);
    wait_for_answer(&mut health, 200, "");
}

#[test]
fn a_name_that_does_not_resolve() {
    let cluster = Cluster::new();
    let mut health = cluster.health_of("node-a", "https://no-such-host.invalid:6443").start();
    let expected = ": node node-a at https://no-such-host.invalid:6443/\n";
    wait_for_answer_within(&mut health, 412, expected, 2 * CEILING);
}

#[test]
fn a_server_that_accepts_and_sends_no_response() {
    let silent = "response timed out: no complete response in time: node node-a at URL";
    fails_within(NODE, Fault::Hang, silent, 4 * CEILING);
}

#[test]
fn a_list_that_arrives_too_slowly() {
    let late = "response timed out: no complete response in time: list of DaemonSets";
    fails_within(DAEMONSETS, Fault::SlowBytes(Duration::from_millis(50)), late, 4 * CEILING);
}

#[test]
fn a_connection_that_hangs() {
    let (address, _hole) = testkit::scripted::blackhole();
    let cluster = Cluster::new();
    let mut health = cluster.health_of("node-a", &format!("https://{address}")).start();
    let expected = format!(
        "connection timed out (connect or TLS handshake), or no route to host: node node-a at https://{address}/\n"
    );
    wait_for_answer_within(&mut health, 412, &expected, 2 * CEILING);
}

#[test]
fn retry_after_is_respected() {
    let cluster = Cluster::new();
    let patience = vec![("Retry-After".to_owned(), "3".to_owned())];
    let body = r#"{"kind":"Status","message":"too many requests, please try again later"}"#;
    cluster.api.fault_times(DAEMONSETS, Fault::Status(429, patience, body.into()), 1);
    let mut health = cluster.health().start();
    let reply = wait_for_answer(&mut health, 412, "429");
    assert_eq!(
        reply.body.lines().nth(1),
        Some(
            "too many requests: list of DaemonSets (429), retrying later: too many requests, please try again later"
        )
    );
    wait_for_answer(&mut health, 412, "node-exporter");
    let asked: Vec<_> =
        cluster.api.requests().into_iter().filter(|asked| asked.path == DAEMONSETS).collect();
    let refused = asked.iter().position(|asked| asked.status == 429).unwrap();
    let pause = asked[refused + 1].at.duration_since(asked[refused].at);
    assert!(pause >= Duration::from_secs(3), "{pause:?}");
}

#[test]
fn an_object_that_is_too_large_or_too_deep() {
    let huge =
        format!(r#"{{"kind":"DaemonSetList","items":[{{"x":"{}"}}]}}"#, "x".repeat(4_000_000));
    fails(
        DAEMONSETS,
        status(200, &huge),
        "limit exceeded: list of DaemonSets: a text of more than 3145728 bytes",
    );
    let deep = format!(r#"{{"kind":"PodList","items":[{{"x":{}"#, "[".repeat(1_000_000));
    fails(
        PODS,
        status(200, &deep),
        "limit exceeded: list of pods on node node-a: an object nested more than 100 deep",
    );
}

#[test]
fn the_first_failure_is_the_reason_at_start() {
    let cluster = Cluster::new();
    cluster.api.refuse(true);
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 412, "connection refused");
    let state = state(&mut health);
    assert_eq!(
        (&state["daemonsets"], &state["last_success_seconds_ago"]),
        (&serde_json::json!([]), &serde_json::Value::Null)
    );
}
