//! The filters with complete lists, pages, and one namespace.

use super::*;

/// The names of the DaemonSets that count and of those that do not, from `/state`.
fn standings(
    arguments: &[&str],
    paged: bool,
) -> (Vec<String>, Vec<String>, Vec<testkit::api::Asked>) {
    let cluster = Cluster::new();
    if paged {
        let first = cluster.api.recorded("daemonsets-limit1-page1");
        cluster.api.set(&format!("{DAEMONSETS}?resourceVersion=0"), first);
    }
    let mut health = cluster.health().args(arguments).start();
    let state = testkit::eventually("a verdict", testkit::CEILING, || {
        let state = state(&mut health);
        state["last_success_seconds_ago"].is_u64().then_some(state)
    });
    let (mut counted, mut excluded) = (Vec::new(), Vec::new());
    for set in state["daemonsets"].as_array().unwrap() {
        let is_excluded = set["verdict"] == "excluded";
        let name = set["name"].as_str().unwrap().to_owned();
        if is_excluded { &mut excluded } else { &mut counted }.push(name);
    }
    counted.sort();
    excluded.sort();
    (counted, excluded, cluster.api.requests())
}

#[test]
fn each_filter() {
    let (gpu, proxy, fluentd, exporter) = ("gpu-plugin", "kube-proxy", "fluentd", "node-exporter");
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &[fluentd, gpu, proxy, exporter]),
        (&["--hostNet"], &[proxy, exporter]),
        (&["--hostNet=false"], &[fluentd, gpu, proxy, exporter]),
        (&["--in=app:fluentd"], &[fluentd]),
        (&["--in=app:fluentd", "--in", "version:1.1"], &[fluentd]),
        (&["--in=app:fluentd", "--in=version:1.2"], &[]),
        (&["--in=app:"], &[]),
        (&["--ex=app:fluentd"], &[gpu, proxy, exporter]),
        (&["--ex=version:1.1", "--ex=k8s-app:kube-proxy"], &[gpu, exporter]),
        (&["--ex=app:x"], &[fluentd, gpu, proxy, exporter]),
        (&["--hostNet", "--ex=app:node-exporter"], &[proxy]),
    ];
    for (arguments, expected) in cases {
        for paged in [false, true] {
            let (counted, excluded, _) = standings(arguments, paged);
            assert_eq!(counted, *expected, "{arguments:?}, in pages: {paged}");
            assert_eq!(counted.len() + excluded.len(), 4, "{arguments:?}, in pages: {paged}");
        }
    }
}

#[test]
fn only_the_namespace_of_the_filter_is_requested() {
    for (arguments, expected) in [
        (&["--namespace=kube-system"][..], &["gpu-plugin", "kube-proxy"][..]),
        (&["--namespace=kube-system", "--hostNet"], &["kube-proxy"]),
        (&["--namespace=kube-system", "--in=app:gpu-plugin"], &["gpu-plugin"]),
        (&["--namespace=kube-system", "--ex=app:gpu-plugin"], &["kube-proxy"]),
        (&["--namespace=logging"], &["fluentd"]),
        (&["--namespace=no-such-ns"], &[]),
    ] {
        let (counted, excluded, asked) = standings(arguments, false);
        assert_eq!(counted, expected, "{arguments:?}");
        assert!(
            excluded.len() <= 1,
            "{arguments:?}: another namespace's are not even read: {excluded:?}"
        );
        let namespace = arguments[0].split_once('=').unwrap().1;
        for asked in asked.iter().filter(|asked| !asked.path.starts_with("/api/v1/nodes")) {
            assert!(asked.path.contains(&format!("/namespaces/{namespace}/")), "{}", asked.path);
        }
    }
}

#[test]
fn a_response_with_all_namespaces_is_filtered() {
    let cluster = Cluster::new();
    let all = cluster.api.recorded("daemonsets-all").to_string();
    let path = "/apis/apps/v1/namespaces/kube-system/daemonsets";
    cluster.api.fault(path, testkit::api::Fault::Status(200, vec![], all));
    let mut health = cluster.health().arg("--namespace=kube-system").start();
    wait_for_answer(&mut health, 200, "");
    assert_eq!(
        state(&mut health)["counts"],
        serde_json::json!({"waiting": 0, "ready": 1, "not-here": 1, "excluded": 2})
    );
}

#[test]
fn filters_open_the_gate() {
    let cluster = Cluster::new();
    let mut health =
        cluster.health().args(["--ex=app:gpu-plugin", "--ex=app:node-exporter"]).start();
    wait_for_answer(&mut health, 200, "");
}
