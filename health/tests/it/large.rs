//! Memory and time, with the recorded answers and with lists larger than those of any cluster.

use std::time::Instant;

use testkit::program::Running;

use super::*;

/// The most memory of the static binary with the recorded answers.
const MOST_KIB: u64 = 4 * 1024;

fn is_static() -> bool {
    Program::static_dir().is_some()
}

fn peak(what: &str, health: &Running) -> u64 {
    let peak = health.memory_peak_kib();
    println!(
        "{what}: VmHWM {peak} KiB, {} threads{}",
        health.threads(),
        if is_static() { ", static" } else { "" }
    );
    peak
}

#[test]
fn memory_against_the_recorded_answers() {
    let cluster = Cluster::new();
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 412, "node-exporter");
    for path in ["/", "/state", "/metrics"] {
        get(&mut health, path);
    }
    // With the shortest `--passHc` the next list comes after 3 to 9 s.
    wait_for_more(&cluster.api, DAEMONSETS, 1);
    let peak = peak("recorded answers", &health);
    if !is_static() {
        return testkit::skip(
            "the bound on memory holds for the static binary, see PSL_TEST_BIN_DIR",
        );
    }
    assert!(peak <= MOST_KIB, "{peak} KiB\n{health}");
}

#[test]
fn many_watches_leak_no_memory_descriptors_or_threads() {
    use testkit::api::{Fault, WatchEnd};
    let cluster = Cluster::new();
    let health = bare_health().args(["--failHc=100ms", "--passHc=100ms", "--node-name=node-a"]);
    let mut health = cluster.point(health, &cluster.api.url()).start();
    wait_for_answer(&mut health, 412, "node-exporter");
    let again = |how: WatchEnd| {
        testkit::eventually("two watches", CEILING, || (cluster.api.watches() == 2).then_some(()));
        cluster.api.end_watches(how);
    };
    (0..5).for_each(|_| again(WatchEnd::Expired));
    let (memory, descriptors, threads) =
        (health.memory_kib(), health.descriptors(), health.threads());
    for fault in [Fault::Cut, Fault::Garbage] {
        cluster.api.fault_times(DAEMONSETS, fault, 20);
        wait_for_more(&cluster.api, DAEMONSETS, 20);
    }
    for how in
        [WatchEnd::Cut, WatchEnd::Expired, WatchEnd::HalfEvent, WatchEnd::Reset, WatchEnd::Garbage]
    {
        (0..10).for_each(|_| again(how));
    }
    assert!(
        health.memory_kib() <= memory + 512,
        "{memory} KiB became {} KiB\n{health}",
        health.memory_kib()
    );
    assert!(
        health.descriptors() <= descriptors + 2,
        "{descriptors} became {}",
        health.descriptors()
    );
    assert!(health.threads() <= threads + 1, "{threads} became {}", health.threads());
}

#[test]
fn a_list_of_60_mb() {
    const COUNT: usize = 14_000;
    const HERE: usize = COUNT / 10;
    let cluster = Cluster::new();
    // Every tenth DaemonSet wants this node, none has a pod here.
    cluster.api.big_list(DAEMONSETS, COUNT, false, |number, set| {
        set["spec"]["template"]["spec"]["affinity"] = serde_json::Value::Null;
        if number % 10 != 0 {
            set["spec"]["template"]["spec"]["nodeSelector"] =
                serde_json::json!({"pool": "another"});
        }
        set["metadata"]["annotations"]["filler"] = "x".repeat(1000).into();
    });
    let health = bare_health().args(["--failHc=1h", "--passHc=1h", "--node-name=node-a"]);
    let mut health = cluster.point(health, &cluster.api.url()).start();
    let begin = cluster.api.wait_for_request(|asked| asked.path == DAEMONSETS, CEILING).at;
    let reply = wait_for_answer_within(&mut health, 412, "and 1300 more", 6 * CEILING);
    let took = Instant::now().duration_since(begin);
    assert_eq!(reply.body.lines().count(), 102);
    let bytes =
        COUNT * (cluster.api.recorded("daemonsets-all")["items"][0].to_string().len() + 1000);
    println!(
        "{COUNT} DaemonSets in {bytes} bytes: {took:?}, {:?} of CPU in all",
        health.cpu_time()
    );
    peak("a list of 60 MB", &health);
    let state = state(&mut health);
    assert_eq!(
        state["counts"],
        serde_json::json!({"waiting": HERE, "ready": 0, "not-here": COUNT - HERE, "excluded": 0})
    );
    assert!(health.memory_peak_kib() < 16 * 1024, "it would not fit its container\n{health}");
}

#[test]
fn the_largest_possible_object_takes_no_memory() {
    let cluster = Cluster::new();
    cluster.heal();
    let mut list = cluster.api.recorded("daemonsets-all");
    list["items"][0]["metadata"]["annotations"]["filler"] = "@".into();
    // The largest object of etcd, as an API server writes it: 9 MiB.
    let body = list.to_string().replacen('@', &r"\u003c".repeat(3 * 512 * 1024), 1);
    let headers = vec![("Content-Type".into(), "application/json".into())];
    cluster.api.fault(DAEMONSETS, testkit::api::Fault::Status(200, headers, body));
    let mut health = cluster.health().start();
    wait_for_answer_within(&mut health, 200, "", 3 * CEILING);
    assert_eq!(state(&mut health)["counts"]["ready"], 3);
    let peak = peak("an object of 9 MiB", &health);
    assert!(!is_static() || peak <= MOST_KIB, "{peak} KiB\n{health}");
}

#[test]
fn more_daemonsets_than_the_memory_limit_allows() {
    const COUNT: usize = 12_000;
    let cluster = Cluster::new();
    let last = cluster.api.recorded("daemonsets-all")["items"][3].clone();
    // They are in one namespace, and the DaemonSet that counts comes after all of them.
    cluster.api.big_list(DAEMONSETS, COUNT, false, move |number, set| {
        if number + 1 == COUNT {
            *set = last.clone();
            return;
        }
        set["metadata"]["namespace"] = "crowd".into();
        set["metadata"]["name"] = format!("{number:0253}").into();
        set["spec"]["template"]["spec"]["affinity"] = serde_json::Value::Null;
        set["spec"]["template"]["spec"]["nodeSelector"] = serde_json::json!({"pool": "another"});
    });
    let health = bare_health().args(["--failHc=1s", "--passHc=100ms", "--node-name=node-a"]);
    let mut health = cluster.point(health, &cluster.api.url()).start();
    let reply = wait_for_answer_within(&mut health, 412, "monitoring/node-exporter", 6 * CEILING);
    assert_eq!(reply.body.lines().count(), 2, "{}", reply.body);
    cluster.heal();
    wait_for_answer(&mut health, 200, "");
    health.wait_for_text(
        "memory limit exceeded: DaemonSets of the largest namespaces are ignored",
        CEILING,
    );
    let counts = &state(&mut health)["counts"];
    assert!(counts["excluded"].as_u64().is_some_and(|count| count > 1_000), "{counts}");
    assert_eq!(
        counts["excluded"].as_u64().unwrap() + counts["not-here"].as_u64().unwrap() + 1,
        COUNT as u64
    );
    // While the next list is read, the objects of the last one stay.
    let asked =
        |path: &str| cluster.api.requests().iter().filter(|asked| asked.path == path).count();
    testkit::eventually("a second list", 6 * CEILING, || (asked(DAEMONSETS) >= 3).then_some(()));
    let peak = peak("12,000 DaemonSets with long names", &health);
    assert!(!is_static() || peak < 12 * 1024, "it would not fit its container\n{health}");
}

#[test]
fn many_pods_in_pages() {
    const COUNT: usize = 2_000;
    let cluster = Cluster::new();
    cluster.heal();
    // Only kube-proxy remains, whose pod is the model of the list.
    cluster.api.edit(DAEMONSETS, |list| {
        remove(list, "gpu-plugin");
        remove(list, "fluentd");
        remove(list, "node-exporter");
    });
    // Only the last pod is ready.
    cluster.api.big_list(PODS, COUNT, true, |number, pod| {
        let ready = if number + 1 == COUNT { "True" } else { "False" };
        for condition in pod["status"]["conditions"].as_array_mut().unwrap() {
            if condition["type"] == "Ready" {
                condition["status"] = ready.into();
            }
        }
    });
    let mut health = cluster.health().start();
    wait_for_answer_within(&mut health, 200, "", 3 * CEILING);
    peak("2,000 pods", &health);
}

#[test]
fn clusters_of_a_hundred_daemonsets_and_pods() {
    let cluster = Cluster::new();
    cluster.api.big_list(DAEMONSETS, 100, false, |_, set| {
        set["spec"]["template"]["spec"]["affinity"] = serde_json::Value::Null;
    });
    cluster.api.big_list(PODS, 110, false, |_, _| ());
    let mut health = cluster.health().start();
    wait_for_answer_within(&mut health, 412, "no pod on this node yet", 3 * CEILING);
    (0..3).for_each(|_| wait_for_more(&cluster.api, DAEMONSETS, 1));
    let peak = peak("100 DaemonSets and 110 pods", &health);
    assert!(!is_static() || peak <= MOST_KIB, "{peak} KiB\n{health}");
}
