//! The verdicts on the nodes of the recorded cluster, and after changes.

use testkit::CEILING;
use testkit::program::Program;

use super::*;

#[test]
fn node_a_waits_for_one_daemonset() {
    let cluster = Cluster::new();
    let mut health = cluster.health().start();
    let reply = wait_for_answer(&mut health, 412, "node-exporter");
    assert_eq!(
        reply.body,
        "HealthCheck Failed\n\
         monitoring/node-exporter: pod node-exporter-szjrd is Running, but not ready\n"
    );
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    let state = state(&mut health);
    let judged = |namespace: &str, name: &str, verdict: &str, reason: &str| serde_json::json!({"namespace": namespace, "name": name, "verdict": verdict, "reason": reason});
    assert_eq!(
        state["daemonsets"],
        serde_json::json!([
            judged(
                "monitoring",
                "node-exporter",
                "waiting",
                "pod node-exporter-szjrd is Running, but not ready"
            ),
            judged("kube-system", "kube-proxy", "ready", "pod kube-proxy-pq68d is ready"),
            judged("logging", "fluentd", "ready", "pod fluentd-p6s9t is ready"),
            judged(
                "kube-system",
                "gpu-plugin",
                "not-here",
                "required node affinity does not match"
            ),
        ])
    );
    assert_eq!((&state["version"], &state["healthy"]), (&1.into(), &false.into()));
    assert_eq!(state["reasons"].as_array().map(Vec::len), Some(1));
    assert!(state["last_success_seconds_ago"].as_u64().is_some_and(|age| age < 20), "{state}");
}

#[test]
fn node_b_waits_for_two_daemonsets() {
    let cluster = Cluster::new();
    let mut health = cluster.health_of("node-b", &cluster.api.url()).start();
    let reply = wait_for_answer(&mut health, 412, "gpu-plugin");
    assert_eq!(
        reply.body,
        "HealthCheck Failed\n\
         kube-system/gpu-plugin: pod gpu-plugin-tcj4v is Pending\n\
         kube-system/kube-proxy: pod kube-proxy-4cgr9 is Pending\n"
    );
    let state = state(&mut health);
    assert_eq!(
        state["daemonsets"][2],
        serde_json::json!({"namespace": "logging", "name": "fluentd", "verdict": "not-here", "reason": "nodeSelector does not match: disk must be \"ssd\", node has no such label"})
    );
    assert_eq!(
        state["counts"],
        serde_json::json!({"waiting": 2, "ready": 0, "not-here": 2, "excluded": 0})
    );
    assert_eq!(state["daemonsets"][3]["reason"], "untolerated taint dedicated=gpu:NoSchedule");
}

#[test]
fn the_gate_follows_the_readiness_of_daemonsets() {
    let cluster = Cluster::new();
    let mut health = cluster.health().start();
    let reply = wait_for_answer(&mut health, 412, "node-exporter");
    assert_eq!(reply.body.lines().count(), 2, "{}", reply.body);
    cluster.node_exporter(true);
    assert_eq!(wait_for_answer(&mut health, 200, "").body, "HealthCheck OK\n");
    assert_eq!(state(&mut health)["reasons"], serde_json::json!([]));
    health.wait_for_text("msg=\"the node is healthy\" ready=3", CEILING);
    cluster.node_exporter(false);
    wait_for_answer(&mut health, 412, "node-exporter");
    // A list comes every 3 to 9 s, so three of them may take longer than the ceiling.
    (0..3).for_each(|_| wait_for_more(&cluster.api, DAEMONSETS, 1));
    assert_eq!(
        health.count(|line| !line.contains("listening")),
        3,
        "only changes are logged\n{health}"
    );
}

#[test]
fn a_replaced_pod_closes_the_gate_until_its_successor_is_ready() {
    let cluster = Cluster::new();
    cluster.heal();
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 200, "");
    let kube_proxy = |list: &mut serde_json::Value| {
        let items = list["items"].as_array_mut().unwrap();
        items.iter().position(|pod| pod["metadata"]["name"] == "kube-proxy-pq68d").unwrap()
    };
    cluster.api.edit(&pods_of("node-a"), |list| {
        let at = kube_proxy(list);
        list["items"][at]["metadata"]["deletionTimestamp"] = "2026-11-22T20:00:00Z".into();
    });
    wait_for_answer(
        &mut health,
        412,
        "kube-system/kube-proxy: pod kube-proxy-pq68d is being deleted\n",
    );
    cluster.api.edit(&pods_of("node-a"), |list| {
        let at = kube_proxy(list);
        let mut successor = list["items"][at].clone();
        successor["metadata"]["name"] = "kube-proxy-fresh".into();
        successor["metadata"].as_object_mut().unwrap().remove("deletionTimestamp");
        successor["status"] = serde_json::json!({"phase": "Pending"});
        list["items"].as_array_mut().unwrap().push(successor);
    });
    wait_for_answer(&mut health, 412, "kube-system/kube-proxy: pod kube-proxy-fresh is Pending\n");
    cluster.api.edit(&pods_of("node-a"), |list| {
        let at = kube_proxy(list);
        list["items"].as_array_mut().unwrap().remove(at);
        assert_eq!(testkit::api::pods_ready(list, "kube-proxy", true), 1);
    });
    wait_for_answer(&mut health, 200, "");
}

#[test]
fn a_daemonset_that_is_created_again_is_another_one() {
    let cluster = Cluster::new();
    cluster.heal();
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 200, "");
    cluster.api.edit(DAEMONSETS, |list| list["items"][1]["metadata"]["uid"] = "another-uid".into());
    wait_for_answer(&mut health, 412, "kube-system/kube-proxy: no pod on this node yet\n");
}

#[test]
fn the_verdict_follows_labels_of_the_node() {
    let cluster = Cluster::new();
    cluster.heal();
    cluster.api.edit(DAEMONSETS, |list| {
        list["items"][2]["spec"]["template"]["spec"]["nodeSelector"] =
            serde_json::json!({"role": ""});
        list["items"][2]["metadata"]["uid"] = "another-uid".into();
    });
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 200, "");
    assert_eq!(state(&mut health)["counts"]["not-here"], 2);
    cluster.api.edit(NODE, |node| node["metadata"]["labels"]["role"] = "".into());
    wait_for_answer(&mut health, 412, "logging/fluentd: no pod on this node yet\n");
}

#[test]
fn ignored_and_deleted_daemonsets_do_not_count() {
    let cluster = Cluster::new();
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 412, "node-exporter");
    cluster.api.edit(DAEMONSETS, |list| {
        list["items"][2]["metadata"]["annotations"]["pod-startup-lock/ignore"] = "true".into();
        list["items"][3]["metadata"]["deletionTimestamp"] = "2026-11-22T20:00:00Z".into();
    });
    wait_for_answer(&mut health, 200, "");
    let state = testkit::eventually("all of them asked for", CEILING, || {
        let state = state(&mut health);
        (state["counts"]["excluded"] == 2).then_some(state)
    });
    let reasons = [2, 3].map(|at| state["daemonsets"][at]["reason"].as_str().unwrap().to_owned());
    assert_eq!(reasons, ["annotation pod-startup-lock/ignore is true", "being deleted"]);
}

#[test]
fn without_checks_health_sends_no_requests() {
    let health = bare_health().arg("--node-name=node-a").env("PSL_HC_DAEMONSET_ENABLED", "false");
    let mut health = health.start();
    assert_eq!(get(&mut health, "/").body, "HealthCheck OK\n");
    let state = state(&mut health);
    assert_eq!(
        (&state["healthy"], &state["last_success_seconds_ago"]),
        (&true.into(), &serde_json::Value::Null)
    );
    assert!(get(&mut health, "/metrics").body.contains("psl_gate_open{gate=\"daemonsets\"} 1\n"));
}

#[test]
fn the_gate_is_closed_before_the_first_response() {
    let cluster = Cluster::new();
    cluster.api.fault(NODE, testkit::api::Fault::Hang);
    let mut health = cluster.health().start();
    let reply = get(&mut health, "/");
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (412, "HealthCheck Failed\nno response from the API server yet\n")
    );
    assert_eq!((get(&mut health, "/livez").status, get(&mut health, "/readyz").status), (200, 200));
    assert_eq!(state(&mut health)["daemonsets"], serde_json::json!([]));
}

#[test]
fn only_local_clients_see_names() {
    let Some(own) = own_address() else {
        return testkit::skip("this machine has no address but the loopback's");
    };
    let cluster = Cluster::new();
    let program =
        Program::new(env!("CARGO_BIN_EXE_health")).args(["--port=0", "--node-name=node-a"]);
    let mut health = cluster.point(program, &cluster.api.url()).start();
    wait_for_answer(&mut health, 412, "node-exporter");
    let far = std::net::SocketAddr::new(own, health.port());
    let ask = |path: &str| Request::get(path).send(far, CEILING).unwrap();
    assert_eq!(ask("/").body, "HealthCheck Failed\n1 DaemonSet is not ready on this node\n");
    let state = ask("/state");
    assert_eq!(state.json()["daemonsets"], serde_json::Value::Null);
    assert_eq!(state.json()["counts"]["waiting"], 1);
    for path in ["/", "/state", "/metrics"] {
        let body = ask(path).body;
        assert!(
            ["gpu-plugin", "node-exporter", "fluentd", "kube-"]
                .iter()
                .all(|name| !body.contains(name)),
            "{body}"
        );
    }
}

/// The address that this machine would use for other hosts. No packet is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn metrics_count_requests_and_verdicts() {
    let cluster = Cluster::new();
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 412, "node-exporter");
    let metrics = get(&mut health, "/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "psl_daemonsets{verdict=\"waiting\"} 1",
        "psl_daemonsets{verdict=\"ready\"} 2",
        "psl_gate_open{gate=\"daemonsets\"} 0",
    ] {
        assert!(metrics.body.lines().any(|l| l == line), "{line} in {}", metrics.body);
    }
    assert!(metrics.body.contains("\npsl_k8s_requests_total{code=\"200\"} "), "{}", metrics.body);
    assert!(
        metrics.body.contains("psl_build_info{program=\"health\",version="),
        "{}",
        metrics.body
    );
    cluster.api.refuse(true);
    testkit::eventually("counted errors", CEILING, || {
        get(&mut health, "/metrics")
            .body
            .contains("psl_k8s_requests_total{code=\"error\"} ")
            .then_some(())
    });
}

#[test]
fn requests_that_the_api_server_receives() {
    let cluster = Cluster::new();
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 412, "node-exporter");
    let first = |path: &str, is_watch: bool| {
        let fits = |asked: &testkit::api::Asked| {
            asked.path == path && is_watch == asked.query.iter().any(|(key, _)| key == "watch")
        };
        cluster.api.wait_for_request(fits, CEILING).query
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let from_cache = || vec![pair("resourceVersion", "0"), pair("limit", "500")];
    let on_node = || vec![pair("fieldSelector", "spec.nodeName=node-a")];
    assert_eq!(first(NODE, false), [pair("resourceVersion", "0")]);
    assert_eq!(first(DAEMONSETS, false), from_cache());
    assert_eq!(first(PODS, false), [on_node(), from_cache()].concat());
    let watching = |selector: Vec<_>, version: &str| {
        [
            selector,
            vec![
                pair("watch", "1"),
                pair("allowWatchBookmarks", "true"),
                pair("resourceVersion", version),
            ],
        ]
        .concat()
    };
    let of_node = vec![pair("fieldSelector", "metadata.name=node-a")];
    for (mut query, expected) in [
        (first("/api/v1/nodes", true), watching(of_node, "0")),
        (first(PODS, true), watching(on_node(), "316")),
    ] {
        let (key, seconds) = query.pop().unwrap();
        assert!(
            key == "timeoutSeconds" && (600..=1200).contains(&seconds.parse::<u32>().unwrap()),
            "{key} {seconds}"
        );
        assert_eq!(query, expected);
    }
    for asked in cluster.api.requests() {
        assert_eq!(
            (asked.method.as_str(), asked.token, asked.accept.as_str()),
            ("GET", true, "application/json")
        );
        assert!(asked.user_agent.starts_with("psl-health/"), "{}", asked.user_agent);
    }
}

#[test]
fn a_healthy_node_needs_no_requests() {
    let cluster = Cluster::new();
    cluster.heal();
    let health = bare_health().args(["--failHc=100ms", "--passHc=1h", "--node-name=node-a"]);
    let mut health = cluster.point(health, &cluster.api.url()).start();
    wait_for_answer(&mut health, 200, "");
    testkit::eventually("two watches", CEILING, || (cluster.api.watches() == 2).then_some(()));
    let asked = cluster.api.requests().len();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(cluster.api.requests().len(), asked, "watched objects need no requests\n{health}");
}
