//! Lists in pages: they are read to the end, begin again if pages expire, and have limits.

use testkit::CEILING;
use testkit::api::Fault;

use super::*;

/// Answers a request for the cache with the first page, like a server without a cache.
fn paged(cluster: &Cluster) {
    let first = cluster.api.recorded("daemonsets-limit1-page1");
    cluster.api.set(&format!("{DAEMONSETS}?resourceVersion=0"), first);
}

/// For each request for DaemonSets: whether it was for a first page, and the status of the
/// response.
fn pages(cluster: &Cluster) -> Vec<(bool, u16)> {
    let asked = cluster.api.requests().into_iter().filter(|asked| asked.path == DAEMONSETS);
    let is_first = |query: &[(String, String)]| {
        query.iter().any(|(key, value)| key == "resourceVersion" && value == "0")
    };
    asked.map(|asked| (is_first(&asked.query), asked.status)).collect()
}

#[test]
fn all_pages_are_read() {
    let cluster = Cluster::new();
    paged(&cluster);
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 412, "node-exporter");
    assert_eq!(state(&mut health)["counts"]["ready"], 2);
    assert_eq!(pages(&cluster)[..4], [(true, 200), (false, 200), (false, 200), (false, 200)]);
    let asked = cluster.api.requests();
    let continued =
        asked.iter().find(|asked| asked.query.iter().any(|(key, _)| key == "continue")).unwrap();
    let keys: Vec<_> = continued.query.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["limit", "continue"], "a continued list must not name a version");
}

#[test]
fn all_pages_of_pods_are_read() {
    let cluster = Cluster::new();
    let mut pages: Vec<_> = Vec::new();
    for pod in cluster.api.recorded("pods-node-a")["items"].as_array().unwrap() {
        pages.push(serde_json::json!({"kind": "PodList", "metadata": {}, "items": [pod]}));
    }
    let count = pages.len();
    for (at, mut page) in pages.into_iter().enumerate() {
        if at + 1 < count {
            page["metadata"]["continue"] = format!("page {}/+=", at + 1).into();
        }
        let which = if at == 0 {
            "resourceVersion=0".to_owned()
        } else {
            format!("continue=page%20{at}%2F%2B%3D")
        };
        cluster.api.set(&format!("{}&{which}", pods_of("node-a")), page);
    }
    let mut health = cluster.health().start();
    let reply = wait_for_answer(&mut health, 412, "node-exporter");
    assert_eq!(
        reply.body.lines().nth(1),
        Some("monitoring/node-exporter: pod node-exporter-szjrd is Running, but not ready")
    );
    assert_eq!(reply.body.lines().count(), 2, "{}", reply.body);
}

#[test]
fn a_list_whose_pages_expire_begins_again() {
    let cluster = Cluster::new();
    paged(&cluster);
    cluster.api.expire_continue_once();
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 412, "node-exporter");
    assert_eq!(
        state(&mut health)["counts"],
        serde_json::json!({"waiting": 1, "ready": 2, "not-here": 1, "excluded": 0})
    );
    assert_eq!(
        pages(&cluster)[..6],
        [(true, 200), (false, 410), (true, 200), (false, 200), (false, 200), (false, 200)]
    );
}

#[test]
fn a_list_that_always_expires_is_an_error() {
    let cluster = Cluster::new();
    let expired = cluster.api.recorded("error-410-continue").to_string();
    cluster.api.fault(DAEMONSETS, Fault::Status(410, vec![], expired));
    let mut health = cluster.health().start();
    let reply = wait_for_answer(&mut health, 412, "410");
    assert_eq!(
        reply.body,
        "HealthCheck Failed\nlist expired: list of DaemonSets (410): 4 times before the last page\n"
    );
    assert_eq!(pages(&cluster)[..4], [(true, 410); 4]);
    cluster.api.clear_faults();
    wait_for_answer(&mut health, 412, "node-exporter");
}

#[test]
fn pages_that_form_a_circle_are_an_error() {
    let cluster = Cluster::new();
    let mut page = cluster.api.recorded("daemonsets-empty-namespace");
    page["metadata"]["continue"] = "again".into();
    cluster.api.set(DAEMONSETS, page);
    let mut health = cluster.health().start();
    wait_for_answer_within(
        &mut health,
        412,
        "limit exceeded: list of DaemonSets: more than 1000 pages\n",
        4 * CEILING,
    );
}

#[test]
fn a_list_without_items_is_an_error() {
    let cluster = Cluster::new();
    cluster.heal();
    let mut health = cluster.health().arg("--stale-after=1ms").start();
    wait_for_answer(&mut health, 200, "");
    let pods = cluster.api.recorded("pods-node-a").to_string();
    let expired = cluster.api.recorded("error-410-exact").to_string();
    for (body, words) in [
        ("{}", "no DaemonSetList at line 1 column 2"),
        ("[]", "invalid type: sequence, expected DaemonSetList at line 1 column 1"),
        (&expired, "no DaemonSetList at line 1 column "),
        (&pods, "no DaemonSetList at line 1 column "),
        (r#"{"kind":"PodList","items":[]}"#, "no DaemonSetList at line 1 column 29"),
    ] {
        cluster.api.fault(DAEMONSETS, Fault::Status(200, vec![], body.to_owned()));
        wait_for_answer(&mut health, 412, &format!("unexpected JSON: list of DaemonSets: {words}"));
        cluster.api.clear_faults();
        wait_for_answer(&mut health, 200, "");
    }
}

#[test]
fn a_cluster_without_daemonsets_is_healthy() {
    let cluster = Cluster::new();
    cluster.api.set(DAEMONSETS, cluster.api.recorded("daemonsets-empty-namespace"));
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 200, "");
    cluster.api.set(
        DAEMONSETS,
        serde_json::json!({"kind": "DaemonSetList", "items": null, "metadata": null}),
    );
    wait_for_more(&cluster.api, DAEMONSETS, 2);
    assert_eq!(get(&mut health, "/").status, 200);
}

#[test]
fn pods_of_other_nodes_do_not_count() {
    let cluster = Cluster::new();
    cluster.heal();
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 200, "");
    // Like a proxy without support for field selectors.
    let mut list = cluster.api.recorded("pods-node-a");
    for pod in list["items"].as_array_mut().unwrap() {
        pod["spec"]["nodeName"] = "node-b".into();
    }
    testkit::api::pods_ready(&mut list, "node-exporter", true);
    let whole = list.to_string();
    cluster.api.end_watches(testkit::api::WatchEnd::Expired);
    cluster.api.fault(
        PODS,
        Fault::Status(200, vec![("Content-Type".into(), "application/json".into())], whole),
    );
    let reply = wait_for_answer(&mut health, 412, "no pod on this node yet");
    assert_eq!(reply.body.lines().count(), 4, "{}", reply.body);
    health.wait_for_text("waiting=3 ready=0", CEILING);
}
