use std::path::Path;

use psl::protocol::node::NodeName;
use psl::client::url::{HTTP, Url};
use serde_json::json;
use testkit::CEILING;
use testkit::api::{self, Fault, WatchEnd, pods_ready};

use super::*;
use crate::boot::Check;
use crate::config::Server;
use crate::verdict::Filter;

const NODE: &str = "/api/v1/nodes/node-a";
const PODS: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-a";

/// As the shipped bound is to its bookmarks, but over in a test's time.
const SILENCE: Duration = Duration::from_millis(700);

/// A follower of the recorded node-a whose watches may be silent for that long.
fn following(server: &api::Api) -> Arc<Board> {
    follower(server, Duration::from_secs(600)).1
}

fn follower(server: &api::Api, stale_after: Duration) -> (Arc<Follower>, Arc<Board>) {
    let settings = Cluster {
        node: NodeName::parse("node-a").unwrap(),
        server: Server {
            url: Url::parse(&server.url(), &[HTTP]).unwrap(),
            ca_file: "/nowhere".into(),
            token_file: None,
        },
        filter: Some(Filter::default()),
        fail_period: Duration::from_millis(100),
        pass_period: Duration::from_secs(3600),
        latch: false,
        conditions: true,
        boot_check: Check::Off,
        boot_grace: Duration::ZERO,
        stale_after,
        load: None,
    };
    let board =
        Arc::new(Board::new(crate::status::Known::at_start(Some(settings.stale_after), None)));
    let mut follower = Follower::new(settings, Arc::clone(&board));
    follower.api = follower.api.with_silence(SILENCE);
    let follower = Arc::new(follower);
    spawn("node", &follower, Follower::follow::<OfNode>).unwrap();
    spawn("daemonsets", &follower, Follower::daemonsets).unwrap();
    spawn("pods", &follower, Follower::follow::<OfPods>).unwrap();
    (follower, board)
}

fn exporter(server: &api::Api, ready: bool) {
    server.edit(PODS, |list| assert_eq!(pods_ready(list, "node-exporter", ready), 1));
}

#[track_caller]
fn wait_for(board: &Board, healthy: bool) {
    testkit::eventually("the verdict", CEILING, || {
        (board.known().is_healthy(now()) == healthy).then_some(())
    });
}

fn answers() -> api::Api {
    let server = api::Api::start(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/answers"));
    server.open(true);
    server
}

#[test]
fn a_watch_that_falls_silent_is_given_up_and_what_it_kept_back_is_learnt() {
    let server = answers();
    exporter(&server, true);
    let board = following(&server);
    wait_for(&board, true);
    testkit::eventually("two watches", CEILING, || (server.watches() == 2).then_some(()));
    // Some events come before, so that it is no watch that never spoke.
    exporter(&server, false);
    wait_for(&board, false);
    exporter(&server, true);
    wait_for(&board, true);
    server.end_watches(WatchEnd::Silent);
    let begin = now();
    exporter(&server, false);
    wait_for(&board, false);
    let took = now().saturating_duration_since(begin);
    assert!(took < SILENCE + Duration::from_secs(2), "{took:?}");
    assert!(board.known().reconnects >= 1);
    testkit::eventually("no trouble", CEILING, || {
        board.known().told.is_some_and(|told| told.troubles.is_empty()).then_some(())
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is tested lives on the real clock")]
fn bookmarks_keep_a_watch_alive() {
    let server = answers();
    exporter(&server, true);
    let board = following(&server);
    wait_for(&board, true);
    testkit::eventually("two watches", CEILING, || (server.watches() == 2).then_some(()));
    let before = board.known().reconnects;
    let end = now() + SILENCE * 3;
    while now() < end {
        server.bookmark();
        std::thread::sleep(SILENCE / 7);
    }
    assert_eq!(board.known().reconnects, before, "neither watch was given up");
    assert!(board.known().is_healthy(now()));
}

#[test]
fn a_node_that_is_deleted_before_its_watch_begins_is_noticed() {
    let server = answers();
    exporter(&server, true);
    let node = server.recorded("node-a");
    server.fault(NODE, Fault::Status(200, vec![], node.to_string()));
    server.set(NODE, json!({"kind": "NodeList", "items": []}));
    let board = following(&server);
    wait_for(&board, true);
    testkit::eventually("two watches", CEILING, || (server.watches() == 2).then_some(()));
    server.bookmark();
    wait_for(&board, false);
    let reasons = board.known().reasons(true, 10, now());
    assert_eq!(reasons, ["the API has no node of this name any more"]);
    server.set(NODE, node);
    wait_for(&board, true);
}

/// A server whose cache lags behind that of another, such as one that has just started.
#[test]
fn no_answer_leads_back() {
    let server = answers();
    let earlier = server.recorded("pods-node-a");
    exporter(&server, false);
    let board = following(&server);
    testkit::eventually("two watches", CEILING, || (server.watches() == 2).then_some(()));
    wait_for(&board, false);
    let mut ready = earlier;
    assert_eq!(pods_ready(&mut ready, "node-exporter", true), 1);
    server.lag("/api/v1/pods", 50, ready);
    // No watch corrects a wrong list.
    server.fault("/api/v1/pods?watch", Fault::Hang);
    let lists = || {
        server.requests().into_iter().filter(|asked| {
            asked.path == "/api/v1/pods" && asked.query.iter().all(|(key, _)| key != "watch")
        })
    };
    server.end_watches(WatchEnd::Expired);
    let mut healthy = false;
    testkit::eventually("a list from the store", CEILING, || {
        healthy |= board.known().is_healthy(now());
        (lists().count() >= 3).then_some(())
    });
    assert!(!healthy && !board.known().is_healthy(now()));
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

/// A watch from version 0 begins with the server's cache, which may be older than the answer before it.
#[test]
fn a_node_s_watch_does_not_lead_back() {
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
    let board = following(&server);
    let watches =
        || server.requests().into_iter().filter(|asked| asked.path == "/api/v1/nodes").count();
    let mut healthy = false;
    testkit::eventually("some watches", CEILING, || {
        healthy |= board.known().is_healthy(now());
        (watches() >= 3 && board.verdict().is_some()).then_some(())
    });
    assert!(!healthy && !board.known().is_healthy(now()));
    assert_eq!(board.known().reasons(true, 10, now()), ["the node is not Ready"]);
}

#[test]
fn watches_that_end_well_but_tell_nothing_are_not_relied_on() {
    let server = answers();
    exporter(&server, true);
    // As through something in between that reads a watch to its end before it passes anything on.
    server.fault("/api/v1/pods?watch", Fault::Status(200, vec![], String::new()));
    let board = following(&server);
    wait_for(&board, true);
    exporter(&server, false);
    wait_for(&board, false);
    assert!(board.known().told.is_some_and(|told| told.troubles.is_empty()));
}

#[test]
fn that_the_verdict_has_grown_too_old_is_logged_when_it_has() {
    let server = answers();
    exporter(&server, true);
    let (follower, board) = follower(&server, Duration::from_millis(1500));
    spawn("clock", &follower, Follower::clock).unwrap();
    wait_for(&board, true);
    server.refuse(true);
    wait_for(&board, false);
    testkit::eventually("told", CEILING, || {
        let last = follower.lock().changes.last().to_vec();
        last.iter()
            .any(|why| why.starts_with("the API has failed for longer than the 1.5s"))
            .then_some(())
    });
}

#[test]
fn those_who_were_refused_together_do_not_come_back_together() {
    let seconds = Duration::from_secs_f64;
    for (retry_after, chance, expected) in [
        (None, 1.0, 0.0),
        (Some(10.0), 0.0, 10.0),
        (Some(10.0), 1.0, 12.0),
        (Some(3600.0), 0.0, 60.0),
    ] {
        assert_eq!(
            heeded(retry_after.map(seconds), chance),
            seconds(expected),
            "{retry_after:?} {chance}"
        );
    }
}
