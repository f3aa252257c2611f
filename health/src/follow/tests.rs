use std::path::Path;
use std::time::Duration;

use psl::client::url::{HTTP, Url};
use psl::protocol::node::NodeName;
use serde_json::json;
use testkit::CEILING;
use testkit::api::{self, Fault, WatchEnd, pods_ready};

use super::follower::{now, retry_pause};
use super::*;
use crate::config::ApiServer;
use crate::core::boot::BootCheckMode;
use crate::core::filter::Filter;
use crate::core::status::Status;

const NODE: &str = "/api/v1/nodes/node-a";
const PODS: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-a";

/// A short limit with the ratio to the pause of bookmarks that the real one has.
const SILENCE: Duration = Duration::from_millis(700);

/// Follows the recorded node-a, with [`SILENCE`].
fn following(server: &api::Api) -> Arc<StatusCell> {
    follower(server, Duration::from_secs(600)).1
}

fn follower(server: &api::Api, stale_after: Duration) -> (Arc<Follower>, Arc<StatusCell>) {
    let settings = ClusterConfig {
        node: NodeName::parse("node-a").unwrap(),
        server: ApiServer {
            url: Url::parse(&server.url(), &[HTTP]).unwrap(),
            ca_file: "/nowhere".into(),
            token_file: None,
        },
        filter: Some(Filter::default()),
        fail_period: Duration::from_millis(100),
        pass_period: Duration::from_secs(3600),
        latch: false,
        conditions: true,
        boot_check: BootCheckMode::Off,
        boot_grace: Duration::ZERO,
        stale_after,
        load: None,
    };
    let status = Arc::new(StatusCell::new(Status::new(Some(settings.stale_after), None)));
    let mut follower = Follower::new(settings, Arc::clone(&status));
    follower.api = follower.api.with_silence(SILENCE);
    let follower = Arc::new(follower);
    start_thread("node", &follower, Follower::follow::<NodeWatch>).unwrap();
    start_thread("daemonsets", &follower, Follower::read_daemonsets).unwrap();
    start_thread("pods", &follower, Follower::follow::<PodWatch>).unwrap();
    (follower, status)
}

fn exporter(server: &api::Api, ready: bool) {
    server.edit(PODS, |list| assert_eq!(pods_ready(list, "node-exporter", ready), 1));
}

#[track_caller]
fn wait_for(status: &StatusCell, healthy: bool) {
    testkit::eventually("the verdict", CEILING, || {
        (status.snapshot().is_healthy(now()) == healthy).then_some(())
    });
}

fn answers() -> api::Api {
    let server = api::Api::start(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/answers"));
    server.open(true);
    server
}

#[test]
fn a_silent_watch_is_replaced_and_no_event_is_lost() {
    let server = answers();
    exporter(&server, true);
    let status = following(&server);
    wait_for(&status, true);
    testkit::eventually("two watches", CEILING, || (server.watches() == 2).then_some(()));
    // The watch has events before it falls silent.
    exporter(&server, false);
    wait_for(&status, false);
    exporter(&server, true);
    wait_for(&status, true);
    server.end_watches(WatchEnd::Silent);
    let begin = now();
    exporter(&server, false);
    wait_for(&status, false);
    let took = now().saturating_duration_since(begin);
    assert!(took < SILENCE + Duration::from_secs(2), "{took:?}");
    assert!(status.snapshot().reconnects >= 1);
    testkit::eventually("no trouble", CEILING, || {
        status.snapshot().api.is_some_and(|api| api.errors.is_empty()).then_some(())
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the tested code uses the real clock")]
fn bookmarks_keep_a_watch_alive() {
    let server = answers();
    exporter(&server, true);
    let status = following(&server);
    wait_for(&status, true);
    testkit::eventually("two watches", CEILING, || (server.watches() == 2).then_some(()));
    let before = status.snapshot().reconnects;
    let end = now() + SILENCE * 3;
    while now() < end {
        server.bookmark();
        std::thread::sleep(SILENCE / 7);
    }
    assert_eq!(status.snapshot().reconnects, before, "neither watch was given up");
    assert!(status.snapshot().is_healthy(now()));
}

#[test]
fn a_node_that_is_deleted_before_its_watch_is_noticed() {
    let server = answers();
    exporter(&server, true);
    let node = server.recorded("node-a");
    server.fault(NODE, Fault::Status(200, vec![], node.to_string()));
    server.set(NODE, json!({"kind": "NodeList", "items": []}));
    let status = following(&server);
    wait_for(&status, true);
    testkit::eventually("two watches", CEILING, || (server.watches() == 2).then_some(()));
    server.bookmark();
    wait_for(&status, false);
    let reasons = status.snapshot().reasons(true, 10, now());
    assert_eq!(reasons, ["node not found: the API server has no node of this name (--node-name)"]);
    server.set(NODE, node);
    wait_for(&status, true);
}

/// The cache of a server that has just started may lag behind another.
#[test]
fn an_older_response_is_ignored() {
    let server = answers();
    let earlier = server.recorded("pods-node-a");
    exporter(&server, false);
    let status = following(&server);
    testkit::eventually("two watches", CEILING, || (server.watches() == 2).then_some(()));
    wait_for(&status, false);
    let mut ready = earlier;
    assert_eq!(pods_ready(&mut ready, "node-exporter", true), 1);
    server.lag("/api/v1/pods", 50, ready);
    // No watch may correct a wrong list.
    server.fault("/api/v1/pods?watch", Fault::Hang);
    let lists = || {
        server.requests().into_iter().filter(|asked| {
            asked.path == "/api/v1/pods" && asked.query.iter().all(|(key, _)| key != "watch")
        })
    };
    server.end_watches(WatchEnd::Expired);
    let mut healthy = false;
    testkit::eventually("a list from the store", CEILING, || {
        healthy |= status.snapshot().is_healthy(now());
        (lists().count() >= 3).then_some(())
    });
    assert!(!healthy && !status.snapshot().is_healthy(now()));
    let asked: Vec<_> = lists().collect();
    let has = |at: usize, key: &str, value: &str| {
        asked[at].query.iter().any(|(k, v)| k == key && v == value)
    };
    assert!(has(0, "resourceVersion", "0"), "{asked:?}");
    assert!(has(1, "resourceVersionMatch", "NotOlderThan") && asked[1].status == 504, "{asked:?}");
    assert!(asked[2].query.iter().all(|(key, _)| !key.starts_with("resourceVersion")), "{asked:?}");
    assert!(
        asked.iter().skip(1).all(|asked| asked.query.iter().all(|(_, value)| value != "0")),
        "{asked:?}"
    );
}

/// A watch from version 0 begins with the server's cache, which may be older than the last
/// response.
#[test]
fn an_older_event_of_the_node_is_ignored() {
    let server = answers();
    exporter(&server, true);
    let mut old = server.recorded("node-a");
    old["metadata"]["resourceVersion"] = json!("50");
    server.edit(NODE, |node| {
        node["metadata"]["resourceVersion"] = json!("100");
        for condition in node["status"]["conditions"].as_array_mut().unwrap() {
            if condition["type"] == "Ready" {
                condition["status"] = json!("False");
            }
        }
    });
    let told = format!("{}\n", json!({"type": "ADDED", "object": old}));
    server.fault("/api/v1/nodes?watch", Fault::Status(200, vec![], told));
    let status = following(&server);
    let watches =
        || server.requests().into_iter().filter(|asked| asked.path == "/api/v1/nodes").count();
    let mut healthy = false;
    testkit::eventually("some watches", CEILING, || {
        healthy |= status.snapshot().is_healthy(now());
        (watches() >= 3 && status.verdict().is_some()).then_some(())
    });
    assert!(!healthy && !status.snapshot().is_healthy(now()));
    assert_eq!(status.snapshot().reasons(true, 10, now()), ["node is not Ready"]);
}

#[test]
fn watches_without_events_are_followed_by_lists() {
    let server = answers();
    exporter(&server, true);
    // Like a proxy that reads a watch to its end before it forwards an event.
    server.fault("/api/v1/pods?watch", Fault::Status(200, vec![], String::new()));
    let status = following(&server);
    wait_for(&status, true);
    exporter(&server, false);
    wait_for(&status, false);
    assert!(status.snapshot().api.is_some_and(|api| api.errors.is_empty()));
}

#[test]
fn a_stale_verdict_is_logged_at_once() {
    let server = answers();
    exporter(&server, true);
    let (follower, status) = follower(&server, Duration::from_millis(1500));
    start_thread("clock", &follower, Follower::judge_on_time).unwrap();
    wait_for(&status, true);
    server.refuse(true);
    wait_for(&status, false);
    testkit::eventually("told", CEILING, || {
        let last = follower.lock().throttle.last().to_vec();
        last.iter()
            .any(|why| {
                why.starts_with("verdict is stale: the API server has failed for more than 1.5s")
            })
            .then_some(())
    });
}

#[test]
fn retry_after_is_bounded_and_spread() {
    let seconds = Duration::from_secs_f64;
    for (retry_after, chance, expected) in [
        (None, 1.0, 0.0),
        (Some(10.0), 0.0, 10.0),
        (Some(10.0), 1.0, 12.0),
        (Some(3600.0), 0.0, 60.0),
    ] {
        assert_eq!(
            retry_pause(retry_after.map(seconds), chance),
            seconds(expected),
            "{retry_after:?} {chance}"
        );
    }
}
