//! A node of a large cluster: 1,000 DaemonSets and 250 of their pods, each as large as real ones.
//! And the load of the API server of such clusters, computed from recorded messages.

use std::time::Instant;

use testkit::CEILING;
use testkit::large::{Large, ON_NODE, SETS};
use testkit::transcript::block;

use super::*;

const BIG: &str = "/api/v1/nodes/node-big";

/// A recorded list as it goes over the wire, with its items ten times.
fn ten_times(name: &str) -> String {
    let list = block(include_str!("../data/scale"), name);
    let mut list: serde_json::Value = serde_json::from_str(list).unwrap();
    let items = list["items"].as_array_mut().unwrap();
    *items = std::iter::repeat_n(items.clone(), 10).flatten().collect();
    list.to_string()
}

#[test]
fn a_large_cluster() {
    const EVENTS: u32 = 10;
    const ANSWERS: u32 = 200;
    let cluster = Cluster::new();
    let mut large = Large::of(&data().join("scale"));
    cluster.api.set(DAEMONSETS, large.daemonsets.clone());
    cluster.api.set(PODS, large.pods.clone());
    cluster.api.set(BIG, large.node.clone());
    // No list must follow in the test: its CPU time would count as that of the events.
    let arguments = ["--failHc=1h", "--passHc=1h", "--node-name=node-big"];
    let mut health = cluster.point(bare_health().args(arguments), &cluster.api.url()).start();
    let reply = wait_for_answer_within(&mut health, 412, "no pod on this node yet", 3 * CEILING);
    let asked =
        cluster.api.requests().into_iter().find(|asked| asked.path == DAEMONSETS).unwrap().at;
    // Most of the time is that of the replaying server, so the CPU time says more.
    let took = Instant::now().duration_since(asked);
    println!(
        "from the question to the verdict: {took:?}, of it {:?} of health's CPU, start included",
        health.cpu_time()
    );
    let counts = state(&mut health)["counts"].clone();
    println!("{counts}");
    assert_eq!(counts["ready"], ON_NODE, "{}", reply.body);
    let all =
        ["ready", "waiting", "not-here", "excluded"].map(|which| counts[which].as_u64().unwrap());
    assert_eq!(all.iter().sum::<u64>(), SETS as u64);
    testkit::eventually("two watches", CEILING, || (cluster.api.watches() == 2).then_some(()));
    let before = health.threads_time();
    (0..ANSWERS).for_each(|_| drop(get(&mut health, "/metrics")));
    let answer = health.threads_time().saturating_sub(before) / ANSWERS;
    let before = health.threads_time();
    let waiting = counts["waiting"].as_u64().unwrap();
    let mut asked_for = 0;
    for number in 0..EVENTS {
        let is_ready = number % 2 == 1;
        large.pod_ready(7, is_ready);
        cluster.api.set(PODS, large.pods.clone());
        let expected =
            format!("psl_daemonsets{{verdict=\"waiting\"}} {}\n", waiting + u64::from(!is_ready));
        testkit::eventually("the change", CEILING, || {
            asked_for += 1;
            std::thread::sleep(Duration::from_millis(500));
            get(&mut health, "/metrics").body.contains(&expected).then_some(())
        });
    }
    let cpu =
        health.threads_time().saturating_sub(before).saturating_sub(answer * asked_for) / EVENTS;
    println!("CPU for an answer {answer:?}, for an event {cpu:?}");
    let peak = health.memory_peak_kib();
    println!("{SETS} DaemonSets, {ON_NODE} pods: VmHWM {peak} KiB");
    if Program::static_dir().is_none() {
        return testkit::skip(
            "the bounds on memory and CPU hold for the static binary, see PSL_TEST_BIN_DIR",
        );
    }
    assert!(peak <= 4 * 1024, "{peak} KiB\n{health}");
    assert!(cpu <= Duration::from_millis(5), "{cpu:?} an event\n{health}");
}

/// The bytes of a list as an API server compresses it.
fn compressed(json: &str) -> f64 {
    testkit::api::compressed(json.as_bytes()).len() as f64
}

/// Prints the table of the API server's load in the documentation, beside polling as the Go
/// generations did it. The messages are recorded: 100 DaemonSets, 110 pods on a node, without heads
/// and TLS.
#[test]
fn cost_for_the_api_server() {
    let (sets, pods, node) =
        (ten_times("daemonsets"), ten_times("pods"), block(include_str!("../data/scale"), "node"));
    let (all, all_small) = (sets.len() as f64, compressed(&sets));
    let (listed, listed_small) = (pods.len() as f64, compressed(&pods));
    let (node, one) = (node.len() as f64, all / 100.0);
    let watch = block(include_str!("../data/watch"), "pods-node-a");
    let is_replaced =
        |line: &&str| line.contains("newcomer-v2mhg") || line.contains("newcomer-hkt7c");
    let replacement: f64 =
        watch.lines().filter(is_replaced).map(|line| line.len() as f64 / 2.0).sum();
    let status: f64 = {
        let lines = block(include_str!("../data/watch"), "daemonsets");
        let modified: Vec<_> =
            lines.lines().filter(|line| line.contains("\"MODIFIED\"")).map(str::len).collect();
        modified.iter().sum::<usize>() as f64 / modified.len() as f64
    };
    let bookmark = 137.0;
    println!(
        "bytes: all DaemonSets {all} ({all_small} compressed), one {one}, the pods {listed} ({listed_small}), the node {node}"
    );
    println!("bytes: a pod's replacement {replacement}, a DaemonSet's status {status}");
    println!("| nodes | what happens | polling | | watching DaemonSets too | | health | |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for nodes in [100.0, 1_000.0, 5_000.0] {
        let row = |what: &str, polling: (f64, f64), watching: (f64, f64), ours: (f64, f64)| {
            let cell = |(requests, bytes): (f64, f64)| format!("{requests:.1}/s | {}", rate(bytes));
            println!(
                "| {nodes} | {what} | {} | {} | {} |",
                cell(polling),
                cell(watching),
                cell(ours)
            );
        };
        // A watch lasts 900 s on average, lists are 3,600 s apart, and a node's status changes
        // every 300 s.
        let idle = (
            nodes * (2.0 / 900.0 + 1.0 / 3600.0),
            nodes * (2.0 * bookmark / 60.0 + node / 300.0 + all_small / 3600.0),
        );
        let plus_one_watch = (idle.0 + nodes / 900.0, idle.1 + nodes * bookmark / 60.0);
        // Polling takes place every 60 s, and every 10 s while a DaemonSet is not ready.
        let round = all + listed + node;
        row("all ready", (nodes * 3.0 / 60.0, nodes * round / 60.0), plus_one_watch, idle);
        // A tenth of the nodes at a time, 30 s each. Each step of a pod changes the status of the
        // DaemonSet, which is an event for every node that watches it.
        let time = 300.0;
        let polling =
            (nodes * 3.0 * (0.9 / 60.0 + 0.1 / 10.0), nodes * round * (0.9 / 60.0 + 0.1 / 10.0));
        // The DaemonSet is read 5 to 10 s after a pod is deleted.
        let ours = (idle.0 + nodes / time, idle.1 + nodes * (replacement + one) / time);
        let updates = (2.0 * nodes / time).min(20.0);
        let watching =
            (plus_one_watch.0, plus_one_watch.1 + nodes * (replacement / time + updates * status));
        row("one DaemonSet rolls over all", polling, watching, ours);
        // Within 10 s: two refused watches, a list of pods, the node, two watches.
        let again = (nodes * 6.0 / 10.0, nodes * (listed_small + 2.0 * node) / 10.0);
        row(
            "all come back after a restart",
            (nodes * 3.0 / 10.0, nodes * round / 10.0),
            (again.0 + nodes * 3.0 / 10.0, again.1 + nodes * all_small / 10.0),
            again,
        );
    }
    assert!(all_small * 5.0 < all && listed_small * 5.0 < listed, "compression is worth its bytes");
}

fn rate(bytes: f64) -> String {
    match bytes {
        b if b >= 1e9 => format!("{:.1} GB/s", b / 1e9),
        b if b >= 1e6 => format!("{:.1} MB/s", b / 1e6),
        b => format!("{:.0} kB/s", b / 1e3),
    }
}
