//! One API server with one failure after the other. health is correct at each moment and keeps
//! running.

use testkit::CEILING;
use testkit::api::{Fault, Role, WatchEnd};

use super::*;

const EVERYWHERE: &str = "/";
const NOT_READY: &str =
    "monitoring/node-exporter: pod node-exporter-szjrd is Running, but not ready\n";
const STALE: &str =
    "verdict is stale: the API server has failed for more than 1ms (--stale-after)\n";

/// From now on every request fails, and open watches end.
fn fail(cluster: &Cluster, fault: Fault) {
    cluster.api.fault(EVERYWHERE, fault);
    cluster.api.end_watches(WatchEnd::Expired);
}

fn status(code: u16, headers: &[(&str, &str)]) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Fault::Status(code, headers.collect(), "{}".to_owned())
}

/// The gate is closed for this reason, and because the verdict is stale.
#[track_caller]
fn shut(health: &mut Running, reason: &str) {
    let reply = wait_for_answer(health, 412, reason);
    assert!(
        reply.body.contains(STALE) && !reply.body.contains(NOT_READY),
        "{}\n{health}",
        reply.body
    );
}

/// The failure ends: earlier and later changes are known.
#[track_caller]
fn recovers(cluster: &Cluster, health: &mut Running, is_ready: bool) {
    cluster.api.clear_faults();
    let (status, reason) = if is_ready { (200, "") } else { (412, NOT_READY) };
    wait_for_answer(health, status, reason);
    watched(cluster);
    for ready in [!is_ready, true] {
        cluster.node_exporter(ready);
        wait_for_answer(health, if ready { 200 } else { 412 }, "");
    }
}

#[track_caller]
fn watched(cluster: &Cluster) {
    // The server notices that a client is gone when it sends an event.
    cluster.api.bookmark();
    testkit::eventually("two watches", CEILING, || (cluster.api.watches() == 2).then_some(()));
}

#[test]
fn one_failure_after_the_other() {
    let cluster = Cluster::new();
    cluster.heal();
    let arguments = ["--failHc=100ms", "--passHc=1h", "--stale-after=1ms", "--node-name=node-a"];
    let mut health = cluster.point(bare_health().args(arguments), &cluster.api.url()).start();
    wait_for_answer(&mut health, 200, "");
    watched(&cluster);

    // Connections are refused, then requests hang, then connections are reset: no data in all that
    // time.
    cluster.api.refuse(true);
    shut(&mut health, "connection refused: ");
    cluster.node_exporter(false);
    cluster.api.fault(EVERYWHERE, Fault::Hang);
    cluster.api.refuse(false);
    let hung = cluster.api.requests().len();
    testkit::eventually("two that hang", CEILING, || {
        (cluster.api.requests().len() >= hung + 2).then_some(())
    });
    shut(&mut health, "connection refused: ");
    cluster.api.refuse(true);
    cluster.api.clear_faults();
    cluster.api.fault(EVERYWHERE, Fault::Reset);
    cluster.api.refuse(false);
    shut(&mut health, "connection closed before the complete response: ");
    recovers(&cluster, &mut health, false);

    // 401 until the file contains the next token.
    cluster.api.forget(testkit::api::TOKEN);
    cluster.api.accept("the-next-token", Role::Wide);
    cluster.api.end_watches(WatchEnd::Expired);
    shut(&mut health, "unauthorized: ");
    cluster.node_exporter(false);
    cluster.files.file("token", "the-next-token");
    recovers(&cluster, &mut health, false);

    // 429: the request is not repeated before the time is over.
    let before = cluster.api.requests().len();
    fail(&cluster, status(429, &[("Retry-After", "2")]));
    shut(&mut health, "too many requests: ");
    cluster.api.wait_for_request(|asked| asked.status == 429 && asked.path == PODS, CEILING);
    cluster.node_exporter(false);
    recovers(&cluster, &mut health, false);
    let since = cluster.api.requests().split_off(before);
    let refused = since.iter().position(|asked| asked.status == 429 && asked.path == PODS).unwrap();
    let again = since[refused + 1..].iter().find(|asked| asked.path == PODS).unwrap();
    let pause = again.at.duration_since(since[refused].at);
    assert!(pause >= Duration::from_secs(2), "{pause:?}");

    fail(&cluster, status(500, &[]));
    shut(&mut health, "API server error: ");
    recovers(&cluster, &mut health, true);

    cluster.node_exporter(false);
    wait_for_answer(&mut health, 412, NOT_READY);
    fail(&cluster, Fault::HalfJson);
    shut(&mut health, "incomplete JSON: ");
    cluster.node_exporter(true);
    recovers(&cluster, &mut health, true);

    // Only bookmarks: the verdict stands, and no request is necessary.
    let (asked, reconnects) =
        (cluster.api.requests().len(), state(&mut health)["reconnects"].clone());
    for _ in 0..20 {
        cluster.api.bookmark();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(get(&mut health, "/").status, 200, "{health}");
    }
    assert_eq!(
        (cluster.api.requests().len(), &state(&mut health)["reconnects"]),
        (asked, &reconnects),
        "{health}"
    );
    assert!(health.try_wait().is_none(), "it lives\n{health}");
}

#[test]
fn changes_during_an_outage_are_known_after_it() {
    let cluster = Cluster::new();
    cluster.heal();
    let mut health = cluster
        .point(
            bare_health().args(["--failHc=100ms", "--passHc=1h", "--node-name=node-a"]),
            &cluster.api.url(),
        )
        .start();
    wait_for_answer(&mut health, 200, "");
    watched(&cluster);
    for (ready, status) in [(false, 412), (true, 200)] {
        cluster.node_exporter(ready);
        wait_for_answer(&mut health, status, "");
    }
    cluster.api.end_watches(WatchEnd::Silent);
    cluster.node_exporter(false);
    for _ in 0..20 {
        assert_eq!(get(&mut health, "/").status, 200, "the verdict stands\n{health}");
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.api.refuse(true);
    cluster.api.refuse(false);
    wait_for_answer(&mut health, 412, NOT_READY);
    cluster.node_exporter(true);
    wait_for_answer(&mut health, 200, "");
}
