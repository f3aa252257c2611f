//! Watches: changes count at once, broken watches continue, and without the permission health
//! polls.

use std::time::Instant;

use serde_json::{Value, json};
use testkit::CEILING;
use testkit::api::{Asked, Fault, Role, WatchEnd, pods_ready};

use super::*;

const MACHINE_BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn is_watch(asked: &Asked) -> bool {
    asked.query.iter().any(|(key, _)| key == "watch")
}

fn count(cluster: &Cluster, fits: impl Fn(&Asked) -> bool) -> usize {
    cluster.api.requests().iter().filter(|asked| fits(asked)).count()
}

/// health with an open gate and two open watches, which does not list DaemonSets again within the
/// test.
fn healthy(cluster: &Cluster) -> Running {
    cluster.heal();
    let health = bare_health().args(["--failHc=1s", "--passHc=1h", "--node-name=node-a"]);
    let mut health = cluster.point(health, &cluster.api.url()).start();
    wait_for_answer(&mut health, 200, "");
    watched(cluster);
    health
}

fn watched(cluster: &Cluster) {
    testkit::eventually("two watches", CEILING, || (cluster.api.watches() == 2).then_some(()));
}

#[test]
fn the_gate_follows_a_change_within_a_second() {
    let cluster = Cluster::new();
    let mut health = healthy(&cluster);
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        for (ready, status) in [(false, 412), (true, 200)] {
            let start = Instant::now();
            if round % 2 == 0 {
                cluster.node_exporter(ready);
            } else {
                cluster.api.edit(NODE, |node| {
                    for condition in node["status"]["conditions"].as_array_mut().unwrap() {
                        if condition["type"] == "Ready" {
                            condition["status"] = if ready { "True" } else { "Unknown" }.into();
                        }
                    }
                });
            }
            wait_for_answer(&mut health, status, "");
            slowest = slowest.max(start.elapsed());
        }
    }
    println!("from change to answer, at most: {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}\n{health}");
    assert_eq!(
        count(&cluster, |asked| asked.path == DAEMONSETS),
        1,
        "DaemonSets need not be asked for\n{health}"
    );
}

#[test]
fn a_flapping_pod_does_not_fill_the_log() {
    let cluster = Cluster::new();
    let mut health = healthy(&cluster);
    for _ in 0..25 {
        for (ready, status) in [(false, 412), (true, 200)] {
            cluster.node_exporter(ready);
            wait_for_answer(&mut health, status, "");
        }
    }
    // 20 lines a minute, and the test may touch two minutes.
    let told = health.count(|line| line.contains("msg=\"the node is "));
    assert!((20..=42).contains(&told), "{told}\n{health}");
}

#[test]
fn repeated_events_change_no_result() {
    let cluster = Cluster::new();
    cluster.api.tell_twice(true);
    let mut health = healthy(&cluster);
    for (ready, status) in [(false, 412), (true, 200)] {
        cluster.node_exporter(ready);
        wait_for_answer(&mut health, status, "");
    }
    cluster.api.edit(&pods_of("node-a"), |list| remove(list, "node-exporter-szjrd"));
    wait_for_answer(&mut health, 412, "monitoring/node-exporter: no pod on this node yet\n");
    assert_eq!(state(&mut health)["counts"]["ready"], 2);
}

#[test]
fn restarted_watches_miss_no_event() {
    for how in [
        WatchEnd::Well,
        WatchEnd::Cut,
        WatchEnd::Reset,
        WatchEnd::HalfEvent,
        WatchEnd::Garbage,
        WatchEnd::Expired,
    ] {
        let cluster = Cluster::new();
        let mut health = healthy(&cluster);
        // A change while there is no watch.
        cluster.api.end_watches(how);
        cluster.node_exporter(false);
        wait_for_answer(&mut health, 412, "node-exporter");
        watched(&cluster);
        cluster.node_exporter(true);
        wait_for_answer(&mut health, 200, "");
        let state = testkit::eventually("no more problems", CEILING, || {
            let state = state(&mut health);
            (state["api_problems"] == json!([])).then_some(state)
        });
        assert!(state["reconnects"].as_u64().is_some_and(|count| count >= 2), "{how:?}: {state}");
        assert_eq!(state["stale"], false, "{how:?}");
        let lists = count(&cluster, |asked| asked.path == PODS && !is_watch(asked));
        let is_lost = matches!(how, WatchEnd::Garbage | WatchEnd::Expired);
        assert_eq!(lists > 1, is_lost, "{how:?}: listed {lists} times\n{health}");
        assert_eq!(count(&cluster, |asked| asked.path == DAEMONSETS), 1, "{how:?}");
    }
}

#[test]
fn a_watch_continues_from_the_last_bookmark() {
    let cluster = Cluster::new();
    let mut health = healthy(&cluster);
    for _ in 0..3 {
        cluster.api.bookmark();
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.api.end_watches(WatchEnd::Well);
    testkit::eventually("watches again", CEILING, || {
        (count(&cluster, is_watch) >= 4).then_some(())
    });
    watched(&cluster);
    assert_eq!(get(&mut health, "/").status, 200);
    assert_eq!(
        count(&cluster, |asked| asked.path == PODS && !is_watch(asked)),
        1,
        "no list was needed"
    );
    assert!(state(&mut health)["last_success_seconds_ago"].as_u64().is_some_and(|age| age < 5));
}

#[test]
fn a_verdict_outlives_the_api_server_for_a_while() {
    let cluster = Cluster::new();
    cluster.heal();
    let mut health = cluster.health().arg("--stale-after=3s").start();
    wait_for_answer(&mut health, 200, "");
    watched(&cluster);
    let start = Instant::now();
    cluster.api.refuse(true);
    testkit::eventually("a problem", CEILING, || {
        let state = state(&mut health);
        (state["api_problems"] != json!([])).then_some(())
    });
    if start.elapsed() < Duration::from_secs(2) {
        assert_eq!(get(&mut health, "/").status, 200, "the last verdict stands");
        assert_eq!(state(&mut health)["stale"], false);
    }
    let reply = wait_for_answer(
        &mut health,
        412,
        "verdict is stale: the API server has failed for more than 3s (--stale-after)\n",
    );
    assert!(start.elapsed() >= Duration::from_secs(3), "{}", reply.body);
    assert!(get(&mut health, "/metrics").body.contains("\npsl_k8s_stale 1\n"));
    cluster.api.refuse(false);
    wait_for_answer(&mut health, 200, "");
    health.wait_for_text("msg=\"API server responds again\"", CEILING);
}

#[test]
fn if_watching_is_forbidden_health_polls_and_logs_it_once() {
    let cluster = Cluster::new();
    cluster.files.file("token", "an-older-role");
    cluster.api.accept("an-older-role", Role::WithoutWatch);
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 412, "node-exporter");
    cluster.node_exporter(true);
    wait_for_answer(&mut health, 200, "");
    cluster.node_exporter(false);
    wait_for_answer(&mut health, 412, "node-exporter");
    cluster.api.edit(NODE, |node| node["status"]["conditions"] = json!([]));
    wait_for_answer(&mut health, 412, "node is not Ready\n");
    wait_for_more(&cluster.api, PODS, 5);
    let said = |what: &str| {
        health.count(|line| line.contains("watch not permitted") && line.contains(what))
    };
    assert_eq!((said("watch pods in all namespaces"), said("watch nodes")), (1, 1), "{health}");
    assert_eq!(count(&cluster, is_watch), 2, "it is not asked for again at once");
    assert_eq!(state(&mut health)["api_problems"], json!([]), "to be refused this is no trouble");
}

/// A DaemonSet and its pod on node-a, made from recorded ones.
fn newcomer(cluster: &Cluster) -> (Value, Value) {
    let mut set = cluster.api.recorded("daemonsets-all")["items"][3].clone();
    (set["metadata"]["name"], set["metadata"]["uid"]) = (json!("newcomer"), json!("new-uid"));
    let mut pod = cluster.api.recorded("pods-node-a")["items"][2].clone();
    (pod["metadata"]["name"], pod["metadata"]["uid"]) = (json!("newcomer-1"), json!("new-pod-uid"));
    let owner = &mut pod["metadata"]["ownerReferences"][0];
    (owner["name"], owner["uid"]) = (json!("newcomer"), json!("new-uid"));
    (set, pod)
}

fn push(cluster: &Cluster, path: &str, object: Value) {
    cluster.api.edit(path, |list| list["items"].as_array_mut().unwrap().push(object));
}

#[test]
fn the_unknown_owner_of_a_pod_is_read() {
    let cluster = Cluster::new();
    let mut health = healthy(&cluster);
    let (set, pod) = newcomer(&cluster);
    push(&cluster, DAEMONSETS, set);
    push(&cluster, &pods_of("node-a"), pod);
    wait_for_answer(
        &mut health,
        412,
        "monitoring/newcomer: pod newcomer-1 is Running, but not ready\n",
    );
    let one = "/apis/apps/v1/namespaces/monitoring/daemonsets";
    let asked =
        cluster.api.requests().into_iter().find(|asked| asked.path == one).expect("asked for");
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        asked.query,
        [pair("fieldSelector", "metadata.name=newcomer"), pair("limit", "500")]
    );
    assert_eq!(count(&cluster, |asked| asked.path == DAEMONSETS), 1, "not for all of them");
    // The DaemonSet is deleted, then its pod: health has to read the DaemonSet to know.
    cluster.api.edit(DAEMONSETS, |list| remove(list, "newcomer"));
    cluster.api.edit(&pods_of("node-a"), |list| remove(list, "newcomer-1"));
    wait_for_answer(&mut health, 200, "");
    assert_eq!(count(&cluster, |asked| asked.path == DAEMONSETS), 1);
}

#[test]
fn the_deleted_owner_of_a_pod_is_read_once() {
    let cluster = Cluster::new();
    let mut health = healthy(&cluster);
    let (_, mut pod) = newcomer(&cluster);
    push(&cluster, &pods_of("node-a"), pod.clone());
    let one = "/apis/apps/v1/namespaces/monitoring/daemonsets";
    cluster.api.wait_for_request(|asked| asked.path == one, CEILING);
    for step in 0..5 {
        pod["status"]["step"] = step.into();
        cluster.api.edit(&pods_of("node-a"), |list| {
            *list["items"].as_array_mut().unwrap().last_mut().unwrap() = pod.clone();
        });
        std::thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(get(&mut health, "/").status, 200);
    assert_eq!(count(&cluster, |asked| asked.path == one), 1, "{health}");
}

/// A user who may create pods may write any text as the name of their owner.
#[test]
fn an_owner_with_an_invalid_name_is_not_read() {
    let cluster = Cluster::new();
    cluster.heal();
    let mut health = cluster.health().arg("--stale-after=1ms").start();
    wait_for_answer(&mut health, 200, "");
    watched(&cluster);
    // The response of an API server to the selector "metadata.name=newcomer,x".
    let one = "/apis/apps/v1/namespaces/monitoring/daemonsets";
    cluster.api.fault(
        one,
        Fault::Status(400, vec![], cluster.api.recorded("error-400-field-selector").to_string()),
    );
    let (_, mut pod) = newcomer(&cluster);
    (pod["metadata"]["uid"], pod["metadata"]["ownerReferences"][0]["name"]) =
        (json!("0"), json!("newcomer,x"));
    push(&cluster, &pods_of("node-a"), pod);
    // The event of a pod with a greater UID comes later, and a list comes after reads of single
    // DaemonSets.
    cluster.api.edit(&pods_of("node-a"), |list| {
        let pods = list["items"].as_array_mut().unwrap();
        at_the_gate(
            pods.iter_mut().find(|pod| pod["metadata"]["name"] == "node-exporter-szjrd").unwrap(),
        );
    });
    testkit::eventually("excluded", CEILING, || {
        (state(&mut health)["counts"]["excluded"] == 1).then_some(())
    });
    wait_for_more(&cluster.api, DAEMONSETS, 2);
    assert_eq!(count(&cluster, |asked| asked.path == one), 0, "{health}");
    assert_eq!(get(&mut health, "/").status, 200);
}

#[test]
fn the_owner_of_an_unexpected_pod_is_read() {
    let cluster = Cluster::new();
    let mut health = healthy(&cluster);
    assert_eq!(state(&mut health)["counts"]["not-here"], 1);
    let uid = cluster.api.recorded("daemonsets-all")["items"][0]["metadata"]["uid"].clone();
    cluster.api.edit(DAEMONSETS, |list| {
        list["items"][0]["spec"]["template"]["spec"]["affinity"] = Value::Null;
    });
    let (_, mut pod) = newcomer(&cluster);
    pod["metadata"]["namespace"] = json!("kube-system");
    let owner = &mut pod["metadata"]["ownerReferences"][0];
    (owner["name"], owner["uid"]) = (json!("gpu-plugin"), uid);
    push(&cluster, &pods_of("node-a"), pod);
    wait_for_answer(
        &mut health,
        412,
        "kube-system/gpu-plugin: pod newcomer-1 is Running, but not ready\n",
    );
}

#[test]
fn a_failed_list_is_retried_even_if_no_daemonset_waits_any_more() {
    let cluster = Cluster::new();
    // Enough for a list, and they want the node as long as it has this label.
    cluster.api.edit(DAEMONSETS, |list| {
        let sets = list["items"].as_array_mut().unwrap();
        for number in 0..9 {
            let mut set = sets[3].clone();
            let name = format!("late-{number}");
            (set["metadata"]["uid"], set["metadata"]["name"]) = (json!(name), json!(name));
            set["spec"]["template"]["spec"]["nodeSelector"] = json!({"late": "yes"});
            sets.push(set);
        }
    });
    let mut health = healthy(&cluster);
    cluster.api.fault_times(DAEMONSETS, Fault::Status(429, vec![], String::new()), 1);
    cluster.api.edit(NODE, |node| node["metadata"]["labels"]["late"] = json!("yes"));
    wait_for_answer(&mut health, 412, "monitoring/late-8: no pod on this node yet\n");
    let problems = |health: &mut Running| state(health)["api_problems"].clone();
    testkit::eventually("a problem", CEILING, || {
        (problems(&mut health) != json!([])).then_some(())
    });
    cluster.api.edit(NODE, |node| node["metadata"]["labels"]["late"] = json!("no"));
    wait_for_answer(&mut health, 200, "");
    testkit::eventually("no problem", CEILING, || {
        (problems(&mut health) == json!([])).then_some(())
    });
}

#[test]
fn the_verdict_follows_taints() {
    let cluster = Cluster::new();
    let mut health = healthy(&cluster);
    let taint = |effect: &str| {
        cluster
            .api
            .edit(NODE, |node| node["spec"]["taints"] = json!([{"key": "x", "effect": effect}]));
    };
    // The controller keeps existing pods, so health waits for them.
    taint("NoSchedule");
    cluster.node_exporter(false);
    wait_for_answer(
        &mut health,
        412,
        "monitoring/node-exporter: pod node-exporter-szjrd is Running, but not ready\n",
    );
    cluster.node_exporter(true);
    wait_for_answer(&mut health, 200, "");
    assert_eq!(state(&mut health)["counts"]["ready"], 3);
    taint("NoExecute");
    testkit::eventually("fewer that belong here", CEILING, || {
        (state(&mut health)["counts"]
            == json!({"waiting": 0, "ready": 1, "not-here": 3, "excluded": 0}))
        .then_some(())
    });
    cluster.api.edit(NODE, |node| node["spec"]["taints"] = json!([]));
    testkit::eventually("as before", CEILING, || {
        (state(&mut health)["counts"]["ready"] == 3).then_some(())
    });
}

#[test]
fn a_deleted_node_is_a_reason() {
    let cluster = Cluster::new();
    let mut health = healthy(&cluster);
    let gone = cluster.api.recorded("error-404-node");
    cluster.api.fault(NODE, Fault::Status(404, vec![], gone.to_string()));
    let node = cluster.api.recorded("node-a");
    cluster.api.set(NODE, json!({"kind": "NodeList", "items": []}));
    wait_for_answer(
        &mut health,
        412,
        "node not found: the API server has no node of this name (--node-name)\n",
    );
    cluster.api.clear_faults();
    cluster.api.set(NODE, node);
    wait_for_answer(&mut health, 200, "");
}

/// Adds the init container that waits for the lock, and has not succeeded.
fn at_the_gate(pod: &mut Value) {
    pod["spec"]["initContainers"] =
        json!([{"name": "pod-startup-lock", "image": "registry.example/renamed"}]);
    pod["status"] = json!({
        "phase": "Pending",
        "conditions": [{"type": "Initialized", "status": "False"}, {"type": "Ready", "status": "False"}],
        "initContainerStatuses": [{"name": "pod-startup-lock", "state": {"running": {"startedAt": "2026-11-22T19:59:21Z"}}}],
    });
}

#[test]
fn a_pod_at_the_gate_does_not_close_it() {
    let cluster = Cluster::new();
    let mut health = healthy(&cluster);
    // A policy injects the init container into the pod alone. The pod waits for the lock, and the
    // lock for health, which must not wait for the pod.
    let exporter = |list: &mut Value, change: fn(&mut Value)| {
        let pods = list["items"].as_array_mut().unwrap();
        change(
            pods.iter_mut().find(|pod| pod["metadata"]["name"] == "node-exporter-szjrd").unwrap(),
        );
    };
    cluster.api.edit(&pods_of("node-a"), |list| exporter(list, at_the_gate));
    testkit::eventually("excluded", CEILING, || {
        (state(&mut health)["counts"]["excluded"] == 1).then_some(())
    });
    assert_eq!(get(&mut health, "/").status, 200);
    let reason = "pod node-exporter-szjrd waits for the lock";
    let shown = state(&mut health);
    assert!(
        shown["daemonsets"].as_array().unwrap().iter().any(|set| set["reason"] == reason),
        "{shown}"
    );
    // The pod gets its lease and starts: now health waits for it.
    cluster.api.edit(&pods_of("node-a"), |list| {
        exporter(list, |pod| {
            let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
            pod["status"]["initContainerStatuses"][0]["state"] = ended;
        });
    });
    wait_for_answer(
        &mut health,
        412,
        "monitoring/node-exporter: pod node-exporter-szjrd is Pending\n",
    );
    cluster
        .api
        .edit(&pods_of("node-a"), |list| assert_eq!(pods_ready(list, "node-exporter", true), 1));
    wait_for_answer(&mut health, 200, "");
    // After a reboot of the node the pod waits again, and the kubelet leaves `Initialized` as it
    // was.
    cluster.api.edit(&pods_of("node-a"), |list| {
        exporter(list, |pod| {
            at_the_gate(pod);
            pod["status"]["conditions"][0]["status"] = "True".into();
        });
    });
    testkit::eventually("excluded again", CEILING, || {
        (state(&mut health)["counts"]["excluded"] == 1).then_some(())
    });
    assert_eq!(get(&mut health, "/").status, 200);
}

#[test]
fn a_daemonset_with_the_gate_in_its_template_is_excluded() {
    let cluster = Cluster::new();
    cluster.api.edit(DAEMONSETS, |list| {
        let spec = &mut list["items"][3]["spec"]["template"]["spec"];
        spec["initContainers"] = json!([{"name": "pod-startup-lock"}]);
    });
    cluster.api.edit(&pods_of("node-a"), |list| remove(list, "node-exporter-szjrd"));
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 200, "");
    assert_eq!(state(&mut health)["counts"]["excluded"], 1);
}

fn boot_id() -> String {
    std::fs::read_to_string(MACHINE_BOOT_ID).unwrap().trim().to_owned()
}

/// All containers on node-a have started in the future, which is after any boot.
fn started_lately(cluster: &Cluster) {
    cluster.api.edit(&pods_of("node-a"), |list| {
        for pod in list["items"].as_array_mut().unwrap() {
            for container in pod["status"]["containerStatuses"].as_array_mut().into_iter().flatten()
            {
                container["state"]["running"]["startedAt"] = "2100-01-01T00:00:00Z".into();
            }
        }
    });
}

#[test]
fn old_readiness_counts_only_after_the_grace() {
    let cluster = Cluster::new();
    cluster.heal();
    started_lately(&cluster);
    // Longer than the uptime of any machine.
    let patient = ["--boot-check=on", "--boot-grace=1000000h"];
    let mut health = cluster.health().args(patient).start();
    let reply = wait_for_answer(&mut health, 412, "node object is from before this boot\n");
    assert!(
        reply.body.contains(
            "monitoring/node-exporter: pod node-exporter-szjrd was ready before this boot\n"
        ),
        "{}",
        reply.body
    );
    cluster.api.edit(NODE, |node| node["status"]["nodeInfo"]["bootID"] = boot_id().into());
    wait_for_answer(&mut health, 200, "");
    // A container that is older than the boot, in a pod that is older than the container.
    cluster.api.edit(&pods_of("node-a"), |list| {
        for pod in list["items"].as_array_mut().unwrap() {
            if pod["metadata"]["name"] == "kube-proxy-pq68d" {
                pod["metadata"]["creationTimestamp"] = "2000-01-01T00:00:00Z".into();
                pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"] =
                    "2000-01-02T00:00:00Z".into();
            }
        }
    });
    wait_for_answer(
        &mut health,
        412,
        "kube-system/kube-proxy: pod kube-proxy-pq68d was ready before this boot\n",
    );
    for arguments in [
        &["--boot-check=on", "--boot-grace=1ms"][..],
        &["--boot-check=off", patient[1]],
        &["--boot-check=auto", patient[1]],
    ] {
        let mut health = cluster.health().args(arguments).start();
        wait_for_answer(&mut health, 200, "");
    }
}

#[test]
fn a_latch_outlasts_rollouts() {
    let cluster = Cluster::new();
    let mut health = cluster.health().arg("--latch=boot").start();
    wait_for_answer(&mut health, 412, "node-exporter");
    cluster.node_exporter(true);
    wait_for_answer(&mut health, 200, "");
    cluster.node_exporter(false);
    testkit::eventually("waiting", CEILING, || {
        (state(&mut health)["counts"]["waiting"] == 1).then_some(())
    });
    assert_eq!((get(&mut health, "/").status, &state(&mut health)["latched"]), (200, &true.into()));
    cluster.api.edit(NODE, |node| {
        let conditions = node["status"]["conditions"].as_array_mut().unwrap();
        conditions.push(json!({"type": "NetworkUnavailable", "status": "True"}));
    });
    wait_for_answer(&mut health, 412, "node has the condition NetworkUnavailable\n");
    assert!(get(&mut health, "/metrics").body.contains("psl_gate_open{gate=\"conditions\"} 0\n"));
    let mut blind =
        cluster.health().arg("--conditions=false").args(["--ex=app:node-exporter"]).start();
    wait_for_answer(&mut blind, 200, "");
}

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1/nodes/node-a";

fn usage(cluster: &Cluster, cpu: &str) {
    let metadata = json!({"name": "node-a"});
    let usage = json!({"cpu": cpu, "memory": "1Gi"});
    cluster.api.set(
        METRICS,
        json!({"kind": "NodeMetrics", "metadata": metadata, "window": "10s", "usage": usage}),
    );
}

#[test]
fn a_busy_node_closes_the_gate() {
    let cluster = Cluster::new();
    cluster.heal();
    let load = |health: Program| {
        health.env("PSL_HC_NODELOAD_ENABLED", "true").env("PSL_HC_NODELOAD_PERIOD", "100ms")
    };
    // The recorded node has four CPUs.
    usage(&cluster, "3200000000n");
    let mut health = load(cluster.health()).start();
    wait_for_answer(
        &mut health,
        412,
        "node CPU usage is 80 %: closed at 80 % or more, opens again at 70 % or less\n",
    );
    for (cpu, status) in [("2801m", 412), ("2.8", 200), ("3199m", 200), ("4e0", 412), ("0", 200)] {
        usage(&cluster, cpu);
        wait_for_more(&cluster.api, METRICS, 3);
        assert_eq!(get(&mut health, "/").status, status, "{cpu}\n{health}");
    }
    assert_eq!(state(&mut health)["node_load"]["open"], true);
    let alone = Program::new(env!("CARGO_BIN_EXE_health")).args([
        "--host=127.0.0.1",
        "--port=0",
        "--node-name=node-a",
    ]);
    let mut alone = load(cluster.point(alone, &cluster.api.url()))
        .env("PSL_HC_DAEMONSET_ENABLED", "false")
        .start();
    wait_for_answer(&mut alone, 200, "");
}

#[test]
fn a_missing_metrics_server_closes_the_gate_for_one_period_only() {
    let cluster = Cluster::new();
    cluster.heal();
    let mut health = cluster
        .health()
        .env("PSL_HC_NODELOAD_ENABLED", "true")
        .env("PSL_HC_NODELOAD_PERIOD", "3s")
        .start();
    wait_for_answer(
        &mut health,
        412,
        "node CPU usage is unknown: not found: metrics of node node-a (404), ",
    );
    wait_for_answer(&mut health, 200, "");
    let state = state(&mut health);
    assert!(
        state["node_load"]["problem"].as_str().is_some_and(|why| why.contains("404")),
        "{state}"
    );
    health.wait_for_text("level=warn msg=\"node CPU usage is unknown\"", CEILING);
}
