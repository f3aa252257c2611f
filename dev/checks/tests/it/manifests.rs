//! Checks the promises of deploy/: the Pod Security level, the resources, the bounds on waiting,
//! the role, and that each setting exists in its program. Reads the files as they are and, if
//! kubectl is installed, as an administrator would apply them. It does not know a cluster; the API
//! server's own schemas check the objects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};
use testkit::api::{Api, Asked, TOKEN};
use testkit::http::Request;
use testkit::program::Program;
use testkit::scratch::Scratch;
use testkit::tls::Authority;
use testkit::{CEILING, skip};

use crate::shell;

const NAMESPACE: &str = "pod-startup-lock";

const WITH_HEALTH: &[&str] = &[
    "ClusterRole pod-startup-lock-health",
    "ClusterRoleBinding pod-startup-lock-health",
    "ConfigMap health",
    "ConfigMap lock",
    "DaemonSet health",
    "DaemonSet lock",
    "Namespace pod-startup-lock",
    "ResourceQuota node-critical-pods",
    "Service health",
    "Service lock",
    "ServiceAccount health",
];

/// The arguments of `kubectl apply -k`, and the objects that it must apply.
const ENTRY_POINTS: &[(&str, &[&str])] = &[
    (
        "deploy",
        &[
            "ConfigMap lock",
            "DaemonSet lock",
            "Namespace pod-startup-lock",
            "ResourceQuota node-critical-pods",
            "Service lock",
        ],
    ),
    ("deploy/with-health", WITH_HEALTH),
    ("deploy/with-node-load", WITH_HEALTH),
    (
        "deploy/one-namespace",
        &[
            "ClusterRole pod-startup-lock-health",
            "ClusterRoleBinding pod-startup-lock-health",
            "ConfigMap health",
            "ConfigMap lock",
            "DaemonSet health",
            "DaemonSet lock",
            "Namespace pod-startup-lock",
            "ResourceQuota node-critical-pods",
            "Role pod-startup-lock-health",
            "RoleBinding pod-startup-lock-health",
            "Service health",
            "Service lock",
            "ServiceAccount health",
        ],
    ),
    ("deploy/example", &["Deployment startup-example"]),
];

/// The objects that each overlay adds to `deploy`, by `scripts/deploy.sh render --overlay NAME`.
const OVERLAYS: &[(&str, &[&str])] = &[
    ("service", &[]),
    ("host-port", &[]),
    ("host-network", &[]),
    (
        "health",
        &[
            "ClusterRole pod-startup-lock-health",
            "ClusterRoleBinding pod-startup-lock-health",
            "ConfigMap health",
            "DaemonSet health",
            "Service health",
            "ServiceAccount health",
        ],
    ),
    ("air-gapped", &[]),
    (
        "injection",
        &[
            "MutatingAdmissionPolicy pod-startup-lock",
            "MutatingAdmissionPolicyBinding pod-startup-lock",
        ],
    ),
    (
        "monitoring",
        &[
            "ConfigMap pod-startup-lock-dashboard",
            "PodMonitor pod-startup-lock",
            "PrometheusRule pod-startup-lock",
        ],
    ),
    ("network-policies", &["NetworkPolicy health", "NetworkPolicy lock"]),
];

/// Applied by hand if needed.
const SNIPPETS: &[&str] = &["NetworkPolicy pod-startup-lock"];
/// Labels of nodes that run no DaemonSet.
const VIRTUAL_NODES: [(&str, &str); 3] = [
    ("eks.amazonaws.com/compute-type", "fargate"),
    ("type", "virtual-kubelet"),
    ("node.kubernetes.io/instance-type", "eklet"),
];
/// The only namespace whose DaemonSets count in `deploy/one-namespace`.
const ONE_NAMESPACE: &str = "kube-system";

// ---- tests ----

#[test]
fn the_files_keep_the_policies() {
    let objects = written_objects();
    assert_eq!(
        kinds_and_names(&objects),
        all_expected("ConfigMap"),
        "one object each, in the files"
    );
    assert_none(&complaints(&objects));
}

#[test]
fn the_images_are_tagged_in_one_place_with_the_version_of_the_workspace() {
    let images = read_yaml(&root().join("deploy/images/kustomization.yaml"));
    // scripts/image.sh names the archives so.
    let tagged = json!([
        {"name": "psl-lock", "newName": "localhost/psl-lock", "newTag": version()},
        {"name": "psl-init", "newName": "localhost/psl-init", "newTag": version()},
        {"name": "psl-health", "newName": "localhost/psl-health", "newTag": version()},
    ]);
    assert_eq!(
        images,
        [json!({
            "apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", "images": tagged,
        })]
    );
    for object in written_objects() {
        for container in containers(&object) {
            let image = text(container, "/image");
            assert!(
                ["psl-lock", "psl-init", "psl-health"].contains(&image),
                "an image with a host or a tag: {image}"
            );
        }
    }
}

#[test]
fn rendered_objects_keep_the_policies() {
    for (entry, expected) in ENTRY_POINTS {
        let Some(rendered) = rendered(entry) else { return };
        let objects: Vec<Value> = rendered.into_iter().map(without_hash).collect();
        let found = kinds_and_names(&objects);
        assert_eq!(
            found,
            expected.iter().map(ToString::to_string).collect::<BTreeSet<_>>(),
            "{entry}"
        );
        assert_none(&complaints(&objects));
        for (name, data) in config_maps(&objects) {
            assert_eq!(data, settings(&name, entry), "{entry}: ConfigMap {name}");
        }
        for container in objects.iter().flat_map(containers) {
            let image = text(container, "/image");
            assert!(
                image.starts_with("localhost/psl-") && image.ends_with(&format!(":{}", version())),
                "{entry}: {image}"
            );
        }
    }
}

#[test]
fn each_overlay_adds_its_objects_and_nothing_else() {
    for (overlay, more) in OVERLAYS {
        let Some(rendered) = deployed(&["--overlay", overlay]) else { return };
        let objects: Vec<Value> = rendered.into_iter().map(without_hash).collect();
        let mut expected: BTreeSet<String> =
            ENTRY_POINTS[0].1.iter().chain(*more).map(ToString::to_string).collect();
        if overlay.starts_with("host-") {
            expected.remove("Service lock");
        } else {
            // The next test has the ways that need a privilege.
            assert_none(&complaints(&objects));
        }
        assert_eq!(kinds_and_names(&objects), expected, "{overlay}");
    }
}

#[test]
fn the_ways_to_the_lock_differ_only_in_port_and_network() {
    let lock = |objects: &[Value]| {
        objects.iter().find(|one| kind_and_name(one) == "DaemonSet lock").cloned().unwrap()
    };
    let level = |objects: &[Value]| {
        let namespace = objects.iter().find(|one| one["kind"] == "Namespace").unwrap();
        text(namespace, "/metadata/labels/pod-security.kubernetes.io~1enforce").to_string()
    };
    let Some(service) = deployed(&["--overlay", "service"]) else { return };
    assert_eq!(level(&service), "restricted");

    let port = deployed(&["--overlay", "host-port"]).unwrap();
    assert_eq!(level(&port), "privileged");
    let mut expected = lock(&service);
    put(&mut expected, "/spec/template/spec/containers/0/ports/0/hostPort", json!(8888));
    assert_eq!(lock(&port), expected);

    let network = deployed(&["--overlay", "host-network"]).unwrap();
    assert_eq!(level(&network), "privileged");
    let mut expected = lock(&service);
    put(&mut expected, "/spec/template/spec/hostNetwork", json!(true));
    put(&mut expected, "/spec/template/spec/dnsPolicy", json!("ClusterFirstWithHostNet"));
    // The API server would add it, and kubectl removes only fields that it has applied, so it would
    // outlive the overlay.
    put(&mut expected, "/spec/template/spec/containers/0/ports/0/hostPort", json!(8888));
    assert_eq!(lock(&network), expected);

    for overlay in ["service", "host-port", "host-network"] {
        let file = fs::read_to_string(root().join(format!("deploy/{overlay}/kustomization.yaml")))
            .unwrap();
        assert!(
            file.contains("#   Pod Security ") && file.contains("#   init needs "),
            "the head of {overlay} names Pod Security level and init's settings"
        );
    }
}

#[test]
fn options_reach_all_their_places() {
    let options = "--namespace start --registry registry.example:5000/x --tag v7 --locks 50% --timeout 7s --never-pull \
        --with-health --overlay injection --overlay monitoring --overlay network-policies --overlay air-gapped";
    let Some(objects) = deployed(&options.split_whitespace().collect::<Vec<_>>()) else { return };
    for object in &objects {
        let namespace = object.pointer("/metadata/namespace");
        let cluster = ["Namespace", "ClusterRole", "ClusterRoleBinding"]
            .contains(&text(object, "/kind"))
            || text(object, "/kind").starts_with("MutatingAdmission");
        assert_eq!(
            namespace,
            (!cluster).then(|| json!("start")).as_ref(),
            "{}",
            kind_and_name(object)
        );
        for container in containers(object) {
            let name = text(container, "/name");
            assert_eq!(text(container, "/image"), format!("registry.example:5000/x/psl-{name}:v7"));
            assert_eq!(text(container, "/imagePullPolicy"), "Never");
        }
    }
    let find = |name: &str| objects.iter().find(|one| kind_and_name(one) == name).expect(name);
    assert_eq!(
        text(find("ClusterRoleBinding pod-startup-lock-health"), "/subjects/0/namespace"),
        "start"
    );
    let policy = find("MutatingAdmissionPolicy pod-startup-lock");
    assert_eq!(
        text(policy, "/spec/variables/0/expression"),
        "'registry.example:5000/x/psl-init:v7'"
    );
    assert_eq!(text(policy, "/spec/variables/1/expression"), "'lock.start'");
    assert_eq!(text(policy, "/spec/variables/2/expression"), "'Never'");
    let left_out = "/spec/matchResources/namespaceSelector/matchExpressions/0/values";
    let binding = find("MutatingAdmissionPolicyBinding pod-startup-lock");
    assert_eq!(binding.pointer(left_out), Some(&json!(["kube-system", "start"])));
    let settings: BTreeMap<_, _> =
        config_maps(&objects).into_iter().find(|(name, _)| name.starts_with("lock-")).unwrap().1;
    assert_eq!(settings["PSL_PARALLEL_LOCKS"], "50%");
    assert_eq!(settings["PSL_LOCK_DURATION"], "7s");
}

/// Each metric of a rule or of the dashboard is in the documented table.
#[test]
fn rules_and_dashboard_use_documented_metrics() {
    let document = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let table: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.split('|').nth(2)?.trim().strip_prefix('`')?.strip_suffix('`'))
        .collect();
    let mut asked = BTreeSet::new();
    for file in ["rules.yaml", "dashboard.json"] {
        let text = fs::read_to_string(root().join("deploy/monitoring").join(file)).unwrap();
        let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        asked.extend(
            words
                .filter(|word| word.starts_with("psl_"))
                .map(|word| word.trim_end_matches("_bucket").to_string()),
        );
    }
    assert!(asked.len() > 8, "{asked:?}");
    for metric in asked {
        assert!(table.contains(metric.as_str()), "no program has {metric}");
    }
}

#[test]
fn the_dashboard_is_one() {
    let dashboard = fs::read(root().join("deploy/monitoring/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_slice(&dashboard).unwrap();
    let panels = list(&dashboard, "/panels");
    let numbers: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), panels.len(), "a number twice");
    for panel in panels {
        assert!(
            !text(panel, "/title").is_empty() && !list(panel, "/targets").is_empty(),
            "{panel}"
        );
        for target in list(panel, "/targets") {
            assert!(text(target, "/expr").contains("node=~\"$node\""), "{target}");
        }
    }
}

/// In shadow mode these metrics count decisions that the lock does not enforce, so each query names
/// the mode it means. The dashboard shows the metrics of pressure, shadow mode and the automatic
/// limit.
#[test]
fn the_rules_and_the_dashboard_tell_locks_in_shadow_mode_apart() {
    let model = [
        "psl_lock_slots",
        "psl_lock_slots_in_use",
        "psl_lock_queue_length",
        "psl_gate_open",
        "psl_gate_overridden",
        "psl_pressure_open",
    ];
    let dashboard: Value =
        serde_json::from_slice(&fs::read(root().join("deploy/monitoring/dashboard.json")).unwrap())
            .unwrap();
    let rules = read_yaml(&root().join("deploy/monitoring/rules.yaml")).remove(0);
    let panels = list(&dashboard, "/panels").iter().flat_map(|panel| list(panel, "/targets"));
    let rules = list(&rules, "/spec/groups").iter().flat_map(|group| list(group, "/rules"));
    let asked: Vec<&str> = panels.chain(rules).map(|one| text(one, "/expr")).collect();
    for metric in model {
        let of_it: Vec<_> =
            asked.iter().filter(|expression| expression.contains(&format!("{metric}{{"))).collect();
        assert!(!of_it.is_empty(), "nothing asks for {metric}");
        for expression in of_it {
            assert!(expression.contains("psl_lock_shadow{"), "in shadow mode too: {expression}");
        }
    }
    for metric in [
        "psl_pressure_ratio",
        "psl_pressure_let_through_total",
        "psl_shadow_requests_total",
        "psl_shadow_wait_seconds",
        "psl_lock_window_why",
    ] {
        assert!(
            asked.iter().any(|expression| expression.contains(metric)),
            "nothing asks for {metric}"
        );
    }
}

/// The manifests, the policy and the script select the same nodes.
#[test]
fn virtual_nodes_are_left_out_everywhere() {
    let policy = fs::read_to_string(root().join("deploy/injection/policy.yaml")).unwrap();
    let script = fs::read_to_string(root().join("scripts/deploy.sh")).unwrap();
    for (key, value) in VIRTUAL_NODES {
        // Once for node selectors, once for node affinity.
        assert_eq!(policy.matches(&format!("'{key}={value}'")).count(), 2, "injection: {key}");
        assert!(script.contains(&format!(",{key}!={value}")), "status: {key}");
    }
}

/// Each wait that has no bound by itself gets one from the manifests: in the overlays, the example
/// and the unit.
#[test]
fn every_wait_has_a_bound() {
    for run in runs() {
        let bounds: &[(&str, &str)] = match run.program.as_str() {
            "lock" if run.name == "application" => &[],
            "lock" => &[("PSL_HC_MAX_HOLD", "10m")],
            "health" => &[("PSL_BOOT_GRACE", "5m"), ("PSL_STALE_AFTER", "5m")],
            _ => &[("--max-wait", "8m"), ("--unreachable-wait", "2m")],
        };
        for (name, value) in bounds {
            let found = run.env.get(*name).cloned();
            let flag = run
                .args
                .iter()
                .find_map(|arg| arg.strip_prefix(&format!("{name}=")).map(str::to_string));
            assert_eq!(found.or(flag).as_deref(), Some(*value), "{}: {name}", run.name);
        }
    }
    let policy = fs::read_to_string(root().join("deploy/injection/policy.yaml")).unwrap();
    for bound in ["['PSL_MAX_WAIT', '8m']", "['PSL_UNREACHABLE_WAIT', '2m']"] {
        assert!(policy.contains(bound), "injection: {bound}");
    }
    for (generation, bounds) in [
        ("1.x", ["--max-hold=10m", "--max-wait=8m", "--unreachable-wait=2m"]),
        ("2.x", ["PSL_HC_MAX_HOLD: \"10m\"", "PSL_MAX_WAIT # new", "PSL_UNREACHABLE_WAIT # new"]),
    ] {
        let file =
            fs::read_to_string(root().join(format!("deploy/upgrade/{generation}.after.yaml")))
                .unwrap();
        for bound in bounds {
            assert!(file.contains(bound), "{generation}: {bound}");
        }
    }
}

/// The variables of the injected container, by the names that the policy's expressions write.
#[test]
fn the_injected_variables_exist_in_init() {
    let Some(init) = shell::program("init") else { return };
    let help = init.arg("--help").run(CEILING).expect_code(0).stdout;
    let policy = fs::read_to_string(root().join("deploy/injection/policy.yaml")).unwrap();
    let names: BTreeSet<&str> =
        policy.split('\'').filter(|word| word.starts_with("PSL_")).collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        assert!(help.contains(name), "init --help knows no {name}");
    }
}

/// Each policy finds a fault that was made on purpose.
#[test]
fn each_policy_finds_its_violations() {
    let none = Value::Null;
    let token = "POD/volumes/0/projected/sources/0/serviceAccountToken/expirationSeconds";
    let values = "/spec/scopeSelector/matchExpressions/0/values/0";
    let cases = [
        ("root", "DaemonSet lock", "POD/securityContext/runAsNonRoot", json!(false)),
        ("a user of our own", "DaemonSet lock", "MAIN/securityContext/runAsUser", json!(65532)),
        ("no seccomp", "DaemonSet health", "POD/securityContext/seccompProfile", none.clone()),
        (
            "escalation",
            "Deployment startup-example",
            "GATE/securityContext/allowPrivilegeEscalation",
            none.clone(),
        ),
        (
            "a capability",
            "DaemonSet lock",
            "MAIN/securityContext/capabilities/add",
            json!(["NET_RAW"]),
        ),
        (
            "a writable root",
            "DaemonSet lock",
            "MAIN/securityContext/readOnlyRootFilesystem",
            json!(false),
        ),
        ("the host's network", "DaemonSet lock", "POD/hostNetwork", json!(true)),
        ("a port of the host", "DaemonSet lock", "MAIN/ports/0/hostPort", json!(8888)),
        (
            "a directory of the host",
            "DaemonSet health",
            "POD/volumes/0/hostPath",
            json!({"path": "/"}),
        ),
        ("a CPU limit", "DaemonSet lock", "MAIN/resources/limits/cpu", json!("100m")),
        ("another memory limit", "DaemonSet health", "MAIN/resources/limits/memory", json!("64Mi")),
        ("no CPU request", "DaemonSet lock", "MAIN/resources/requests/cpu", none.clone()),
        (
            "not Guaranteed",
            "Deployment startup-example",
            "GATE/resources/limits/cpu",
            json!("100m"),
        ),
        ("no toleration", "DaemonSet health", "POD/tolerations", none.clone()),
        ("any system", "DaemonSet lock", "POD/nodeSelector", none.clone()),
        ("virtual nodes", "DaemonSet lock", "POD/affinity", none.clone()),
        (
            "virtual nodes of one kind",
            "DaemonSet health",
            "POD/affinity/TERM/matchExpressions/1",
            none.clone(),
        ),
        ("no priority", "DaemonSet lock", "POD/priorityClassName", none.clone()),
        (
            "two on a node",
            "DaemonSet lock",
            "/spec/updateStrategy/rollingUpdate/maxSurge",
            json!(1),
        ),
        (
            "a probe that takes a lease",
            "DaemonSet lock",
            "MAIN/livenessProbe/httpGet/path",
            json!("/"),
        ),
        ("service links", "DaemonSet lock", "POD/enableServiceLinks", none.clone()),
        ("a token", "DaemonSet lock", "POD/automountServiceAccountToken", none.clone()),
        ("a long token", "DaemonSet health", token, json!(86400)),
        ("state on a disk", "DaemonSet lock", "POD/volumes/0/emptyDir/medium", none.clone()),
        ("a long grace", "DaemonSet lock", "POD/terminationGracePeriodSeconds", none.clone()),
        ("no node", "DaemonSet lock", "MAIN/env", none.clone()),
        ("pulled always", "DaemonSet lock", "MAIN/imagePullPolicy", none.clone()),
        ("another gate's name", "Deployment startup-example", "GATE/name", json!("init")),
        ("no bound", "Deployment startup-example", "GATE/args/2", json!("--max-wait=0")),
        ("a lock elsewhere", "Deployment startup-example", "GATE/args/0", json!("--host=psl-lock")),
        (
            "a holder that all share",
            "Deployment startup-example",
            "GATE/env/4/value",
            json!("$(POD_NAMESPACE)"),
        ),
        (
            "another port than the probe's",
            "Deployment startup-example",
            "GATE/env/5/value",
            json!("http:80/readyz"),
        ),
        ("any node's lock", "Service lock", "/spec/internalTrafficPolicy", json!("Cluster")),
        ("no port for 2.x", "Service lock", "/spec/ports/1", none.clone()),
        (
            "a Service without pods",
            "Service health",
            "/spec/selector/app.kubernetes.io~1name",
            json!("lock"),
        ),
        ("privileged", "Namespace pod-startup-lock", "/metadata/labels", json!({})),
        (
            "a namespace that delete leaves",
            "Namespace pod-startup-lock",
            "/metadata/annotations/MARK",
            none.clone(),
        ),
        ("a verb more", "ClusterRole pod-startup-lock-health", "/rules/0/verbs/1", json!("watch")),
        (
            "a verb more in a namespace",
            "Role pod-startup-lock-health",
            "/rules/0/verbs/1",
            json!("get"),
        ),
        (
            "a role elsewhere",
            "Role pod-startup-lock-health",
            "/metadata/namespace",
            json!("default"),
        ),
        (
            "another account",
            "RoleBinding pod-startup-lock-health",
            "/subjects/0/name",
            json!("default"),
        ),
        ("a rule more", "ClusterRole pod-startup-lock-health", "/rules/3", json!({})),
        (
            "another role",
            "ClusterRoleBinding pod-startup-lock-health",
            "/roleRef/name",
            json!("cluster-admin"),
        ),
        (
            "the account's token",
            "ServiceAccount health",
            "/automountServiceAccountToken",
            none.clone(),
        ),
        ("all may ask health", "NetworkPolicy health", "/spec/ingress/0/from", none.clone()),
        ("no names for lock", "NetworkPolicy lock", "/spec/egress/0", none.clone()),
        ("no names for health", "NetworkPolicy health", "/spec/egress/1", none.clone()),
        (
            "no names on OpenShift",
            "NetworkPolicy pod-startup-lock",
            "/spec/egress/1/ports/2",
            none.clone(),
        ),
        (
            "a way that is open",
            "NetworkPolicy pod-startup-lock",
            "/spec/policyTypes/1",
            none.clone(),
        ),
        (
            "pods that are refused",
            "MutatingAdmissionPolicy pod-startup-lock",
            "/spec/failurePolicy",
            json!("Fail"),
        ),
        (
            "a stale image",
            "MutatingAdmissionPolicy pod-startup-lock",
            "/spec/variables/0/expression",
            json!("'a:1'"),
        ),
        (
            "kube-system waits",
            "MutatingAdmissionPolicyBinding pod-startup-lock",
            "/spec/matchResources/namespaceSelector/matchExpressions/0/values/0",
            none.clone(),
        ),
        (
            "another class",
            "ResourceQuota node-critical-pods",
            values,
            json!("system-cluster-critical"),
        ),
        ("an unexpected kind", "Service lock", "/kind", json!("Secret")),
    ];
    let good = written_objects();
    for (case, object, place, value) in cases {
        let place = place
            .replace("MAIN", "POD/containers/0")
            .replace("GATE", "POD/initContainers/0")
            .replace("MARK", "pod-startup-lock~1made-by")
            .replace("POD", "/spec/template/spec")
            .replace(
                "TERM",
                "nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0",
            );
        let mut broken = good.clone();
        let changed = broken.iter_mut().find(|other| kind_and_name(other) == object).expect(object);
        put(changed, &place, value);
        assert!(!complaints(&broken).is_empty(), "{case}: not detected: {place} in {object}");
    }
}

#[test]
fn every_setting_exists_in_its_program() {
    let mut help = BTreeMap::new();
    for run in runs() {
        let Some(program) = shell::program(&run.program) else { return };
        let help = help
            .entry(run.program.clone())
            .or_insert_with(|| program.arg("--help").run(CEILING).expect_code(0).stdout);
        let words: BTreeSet<&str> = help
            .split(|letter: char| !(letter.is_ascii_alphanumeric() || "-_".contains(letter)))
            .collect();
        // POD_NAME and its like are parts of the value of PSL_HOLDER.
        for name in run.env.keys().filter(|name| !name.starts_with("POD_")) {
            assert!(
                words.contains(name.as_str()),
                "{}: {} --help knows no {name}\n{help}",
                run.name,
                run.program
            );
        }
        for arg in &run.args {
            let flag = arg.split('=').next().unwrap();
            assert!(
                words.contains(flag),
                "{}: {} --help knows no {flag}\n{help}",
                run.name,
                run.program
            );
        }
    }
}

#[test]
fn the_servers_start_with_the_settings_of_the_manifests_and_pass_their_probes() {
    for run in runs().into_iter().filter(|run| run.program == "lock") {
        let Some(program) = shell::program("lock") else { return };
        let mut lock = run.on_any_port(program).start();
        for path in &run.probed {
            let reply = Request::get(path).send(lock.addr(), CEILING).unwrap();
            assert_eq!(reply.status, 200, "{}: GET {path}: {reply:?}", run.name);
        }
    }
}

/// The lock and the init container accept each other's settings, such as the node's name.
#[test]
fn the_examples_init_container_gets_a_lease_from_the_shipped_lock() {
    let (Some(lock), Some(init)) = (shell::program("lock"), shell::program("init")) else { return };
    let mut lock = run_named("lock alone").on_any_port(lock).start();
    let gate = run_named("init container");
    let port = lock.addr().port().to_string();
    let there = [("--host", "127.0.0.1"), ("--max-wait", "20s"), ("--unreachable-wait", "20s")];
    let ended =
        gate.with_flags(init, &there).arg("--port").arg(port).run(CEILING * 2).expect_code(0);
    assert!(ended.stderr.contains("acquired"), "{ended}");
    let metrics = Request::get("/metrics").send(lock.addr(), CEILING).unwrap();
    assert_eq!(
        metrics.sample("psl_lock_slots_in_use"),
        1.0,
        "the example's lease is running: {}",
        metrics.body
    );
}

/// health runs with each manifest's settings against a recorded API server: the rules allow each of
/// its requests, and each rule has a request.
#[test]
fn the_roles_allow_exactly_the_requests_of_health() {
    for (run, entry) in [
        ("health", "deploy/with-health"),
        ("health and node load", "deploy/with-node-load"),
        ("health of one namespace", "deploy/one-namespace"),
    ] {
        let (Some(program), Some(objects)) = (shell::program("health"), rendered(entry)) else {
            return;
        };
        let run = run_named(run);
        let roles = objects
            .iter()
            .filter(|object| ["Role", "ClusterRole"].contains(&text(object, "/kind")));
        let granted: BTreeSet<_> = roles.flat_map(granted).collect();
        let authority = Authority::new();
        let api = Api::start_tls(
            root().join("health/tests/data/answers"),
            &authority.issue(&["127.0.0.1"]),
        );
        let usage = json!({"metadata": {"name": "node-a"}, "usage": {"cpu": "1"}});
        api.set("/apis/metrics.k8s.io/v1beta1/nodes/node-a", usage);
        let scratch = Scratch::new();
        let token = scratch.file("token", TOKEN);
        let mut health = run
            .on_any_port(program)
            .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            .env("KUBERNETES_SERVICE_PORT", api.port().to_string())
            .env("PSL_K8S_CA_FILE", authority.file())
            .env("PSL_K8S_TOKEN_FILE", token)
            .start();
        for path in &run.probed {
            let reply = Request::get(path).send(health.addr(), CEILING).unwrap();
            assert_eq!(reply.status, 200, "{}: GET {path}: {reply:?}", run.name);
        }
        // A pod of an unknown DaemonSet makes health read that DaemonSet by its name.
        let pods = "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-a";
        api.edit(pods, |list| {
            list["items"][0]["metadata"]["ownerReferences"][0]["uid"] = json!("unknown");
        });
        let by_name = |asked: &Asked| {
            asked.query.iter().any(|(_, value)| value.starts_with("metadata.name=kube-proxy"))
        };
        api.wait_for_request(by_name, CEILING);
        for (verb, namespace) in &granted {
            let fits = |asked: &Asked| {
                let (needed, place) = needs(asked);
                needed == *verb && (namespace.is_none() || *namespace == place)
            };
            api.wait_for_request(fits, CEILING);
        }
        for asked in api.requests() {
            let (needed, place) = needs(&asked);
            let is_granted = granted.contains(&(needed.clone(), None))
                || granted.contains(&(needed.clone(), place));
            assert!(is_granted, "{entry}: no rule for {needed}: {asked:?}\n{}", health.stderr());
        }
    }
}

#[test]
fn the_image_recipe_has_a_target_for_each_program_with_the_numeric_user() {
    let recipe = fs::read_to_string(root().join("deploy/Dockerfile")).unwrap();
    let stages: Vec<&str> = recipe.split("\nFROM ").skip(1).collect();
    assert_eq!(stages.len(), 3);
    for (stage, program) in stages.iter().zip(["lock", "init", "health"]) {
        let has = |line: &str| {
            assert!(stage.lines().any(|other| other == line), "{program}: no line {line:?}");
        };
        assert!(stage.starts_with(&format!("scratch AS {program}\n")), "{program}");
        has(&format!("COPY dist/${{ARCH}}/{program} /{program}"));
        has("USER 65532:65532");
        has(&format!("ENTRYPOINT [\"/{program}\"]"));
    }
}

// ---- policies: each returns all complaints about an object ----

fn complaints(objects: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for object in objects {
        let list = match text(object, "/kind") {
            "Namespace" => namespace(object),
            "ResourceQuota" => quota(object),
            "ServiceAccount" => account(object),
            "ClusterRole" => cluster_role(object),
            "Role" => [
                in_one_namespace(object),
                unless(object, "/rules", &json!([list_daemonsets(), watch_pods()])),
            ]
            .concat(),
            "ClusterRoleBinding" => binding(object, "ClusterRole"),
            "RoleBinding" => [in_one_namespace(object), binding(object, "Role")].concat(),
            "ConfigMap" => in_our_namespace(object),
            "Service" => service(object, objects),
            "DaemonSet" => [in_our_namespace(object), pod(object), daemon_set(object)].concat(),
            "Deployment" => [pod(object), example(object)].concat(),
            "NetworkPolicy" => network_policy(object),
            "PodMonitor" | "PrometheusRule" => in_our_namespace(object),
            "MutatingAdmissionPolicy" => injection(object),
            "MutatingAdmissionPolicyBinding" => injected_namespaces(object),
            other => vec![format!("no policy for the kind {other}")],
        };
        found.extend(list.iter().map(|what| format!("{}: {what}", kind_and_name(object))));
    }
    found
}

/// The complaint that the value at a place is not this one; `null` stands for no value.
fn unless(object: &Value, place: &str, wanted: &Value) -> Vec<String> {
    let found = object.pointer(place).unwrap_or(&Value::Null);
    if found == wanted { vec![] } else { vec![format!("{place} is {found}, not {wanted}")] }
}

fn all_unless<'a>(
    object: &Value,
    wanted: impl IntoIterator<Item = (&'a str, Value)>,
) -> Vec<String> {
    wanted.into_iter().flat_map(|(place, value)| unless(object, place, &value)).collect()
}

fn in_our_namespace(object: &Value) -> Vec<String> {
    unless(object, "/metadata/namespace", &json!(NAMESPACE))
}

fn namespace(object: &Value) -> Vec<String> {
    let labels = "/metadata/labels/pod-security.kubernetes.io";
    let [enforce, warn] = [format!("{labels}~1enforce"), format!("{labels}~1warn")];
    // The second is the label of a namespace that is deleted with the lock.
    let annotations =
        json!({"openshift.io/node-selector": "", "pod-startup-lock/made-by": "manifests"});
    all_unless(
        object,
        [
            ("/metadata/name", json!(NAMESPACE)),
            (enforce.as_str(), json!("restricted")),
            (warn.as_str(), json!("restricted")),
            ("/metadata/annotations", annotations),
        ],
    )
}

fn quota(object: &Value) -> Vec<String> {
    let scope = json!({"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]},
    ]});
    let spec = json!({"hard": {"pods": "1G"}, "scopeSelector": scope});
    [in_our_namespace(object), unless(object, "/spec", &spec)].concat()
}

fn account(object: &Value) -> Vec<String> {
    [in_our_namespace(object), unless(object, "/automountServiceAccountToken", &json!(false))]
        .concat()
}

fn in_one_namespace(object: &Value) -> Vec<String> {
    unless(object, "/metadata/namespace", &json!(ONE_NAMESPACE))
}

fn list_daemonsets() -> Value {
    json!({"apiGroups": ["apps"], "resources": ["daemonsets"], "verbs": ["list"]})
}

fn watch_pods() -> Value {
    json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]})
}

/// The rules as they are written, with node load, or as a Role for one namespace.
fn cluster_role(object: &Value) -> Vec<String> {
    let node = json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "watch"]});
    let load = json!({"apiGroups": ["metrics.k8s.io"], "resources": ["nodes"], "verbs": ["get"]});
    let written = json!([list_daemonsets(), watch_pods(), node]);
    let found = unless(object, "/aggregationRule", &Value::Null);
    let variants = [json!([list_daemonsets(), watch_pods(), node, load]), json!([node])];
    if variants.contains(&object["rules"]) {
        found
    } else {
        [found, unless(object, "/rules", &written)].concat()
    }
}

fn binding(object: &Value, kind: &str) -> Vec<String> {
    let role = json!({
        "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "pod-startup-lock-health",
    });
    let subject = json!({"kind": "ServiceAccount", "name": "health", "namespace": NAMESPACE});
    all_unless(object, [("/roleRef", role), ("/subjects", json!([subject]))])
}

/// Pods of lock and health, by the labels that their DaemonSets give them.
fn pods_of(name: &str) -> Value {
    json!({"matchLabels": {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": NAMESPACE}})
}

/// Every pod may send requests to lock, and only lock to health. The policies name both directions,
/// so that neither is open by default.
fn network_policy(object: &Value) -> Vec<String> {
    let name = text(object, "/metadata/name");
    // The ports of the pods behind the DNS Service: everywhere, on OpenShift, on Gardener.
    let dns = [53, 5353, 8053]
        .map(|port| ["UDP", "TCP"].map(|protocol| json!({"protocol": protocol, "port": port})));
    let dns = json!({"ports": dns.concat()});
    let own = [
        ("/metadata/namespace", json!(NAMESPACE)),
        ("/spec/policyTypes", json!(["Ingress", "Egress"])),
        ("/spec/podSelector", pods_of(name)),
    ];
    let http = json!([{"protocol": "TCP", "port": "http"}]);
    match name {
        "lock" => all_unless(
            object,
            own.into_iter().chain([
                ("/spec/ingress", json!([{"ports": http}])),
                ("/spec/egress", json!([dns, {"to": [{"namespaceSelector": {}}]}])),
            ]),
        ),
        "health" => {
            let api = json!({"ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}]});
            let lock = json!([{"from": [{"podSelector": pods_of("lock")}], "ports": http}]);
            let egress = json!([api, dns]);
            all_unless(
                object,
                own.into_iter().chain([("/spec/ingress", lock), ("/spec/egress", egress)]),
            )
        }
        // For namespaces of applications.
        _ => {
            let lock = json!([{
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
                "podSelector": pods_of("lock"),
            }]);
            all_unless(
                object,
                [
                    ("/metadata/namespace", Value::Null),
                    ("/spec/podSelector", json!({})),
                    ("/spec/policyTypes", json!(["Ingress", "Egress"])),
                    ("/spec/ingress", json!([{"from": lock}])),
                    (
                        "/spec/egress",
                        json!([{"to": lock, "ports": [{"protocol": "TCP", "port": 8888}]}, dns]),
                    ),
                ],
            )
        }
    }
}

/// The parts that scripts/manifests.py does not evaluate: the policy's subjects, and that it fails
/// open.
fn injection(object: &Value) -> Vec<String> {
    all_unless(
        object,
        [
            ("/spec/failurePolicy", json!("Ignore")),
            ("/spec/reinvocationPolicy", json!("Never")),
            (
                "/spec/matchConstraints/objectSelector/matchLabels",
                json!({"pod-startup-lock/inject": "true"}),
            ),
            (
                "/spec/matchConstraints/resourceRules",
                json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]),
            ),
            (
                "/spec/variables/0",
                json!({"name": "image", "expression": format!("'localhost/psl-init:{}'", version())}),
            ),
            (
                "/spec/variables/1",
                json!({"name": "lockHost", "expression": format!("'lock.{NAMESPACE}'")}),
            ),
        ],
    )
}

fn injected_namespaces(object: &Value) -> Vec<String> {
    let left_out = json!([{
        "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", NAMESPACE],
    }]);
    all_unless(
        object,
        [
            ("/spec/policyName", json!("pod-startup-lock")),
            ("/spec/matchResources/namespaceSelector/matchExpressions", left_out),
        ],
    )
}

/// A Service leads to the pods of its own node's DaemonSet, whose labels and named port it repeats.
fn service(object: &Value, objects: &[Value]) -> Vec<String> {
    let name = text(object, "/metadata/name");
    let ports = match name {
        "lock" => json!([
            {"name": "http", "port": 8888, "targetPort": "http"},
            {"name": "http-2x", "port": 8080, "targetPort": "http"},
        ]),
        _ => json!([{"name": "http", "port": 9999, "targetPort": "http"}]),
    };
    let pods = objects.iter().find(|other| kind_and_name(other) == format!("DaemonSet {name}"));
    let labels = pods.and_then(|pods| pods.pointer("/spec/template/metadata/labels")).cloned();
    let spec = [
        ("/spec/internalTrafficPolicy", json!("Local")),
        ("/spec/ports", ports),
        ("/spec/selector", labels.unwrap_or(json!("labels of a DaemonSet of this name"))),
    ];
    [in_our_namespace(object), all_unless(object, spec)].concat()
}

/// The rules for every pod: the level "restricted", no user number, no token and no variables
/// without need, a quick end.
fn pod(object: &Value) -> Vec<String> {
    let spec = &object["spec"]["template"]["spec"];
    let mut found = all_unless(
        spec,
        [
            (
                "/securityContext",
                json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}),
            ),
            ("/hostNetwork", Value::Null),
            ("/hostPID", Value::Null),
            ("/hostIPC", Value::Null),
            ("/automountServiceAccountToken", json!(false)),
            ("/enableServiceLinks", json!(false)),
            ("/terminationGracePeriodSeconds", json!(5)),
        ],
    );
    for volume in list(spec, "/volumes") {
        let kinds: Vec<&String> =
            volume.as_object().unwrap().keys().filter(|key| *key != "name").collect();
        let is_in_memory = volume["emptyDir"] == json!({"medium": "Memory", "sizeLimit": "1Mi"});
        if kinds != ["projected"] && !is_in_memory {
            found.push(format!("a volume of kind {kinds:?}"));
        }
    }
    for container in containers(object) {
        let hardened = json!({
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
        });
        found.extend(all_unless(
            container,
            [
                ("/securityContext", hardened),
                ("/imagePullPolicy", json!("IfNotPresent")),
                ("/terminationMessagePolicy", json!("FallbackToLogsOnError")),
                ("/resources/limits/memory", json!("16Mi")),
                ("/resources/requests/memory", json!("16Mi")),
            ],
        ));
        if container.pointer("/resources/requests/cpu").is_none() {
            found.push(format!("{} asks for no CPU", container["name"]));
        }
        if list(container, "/ports").iter().any(|port| port.get("hostPort").is_some()) {
            found.push(format!("{} takes a port of the host", container["name"]));
        }
    }
    found
}

fn daemon_set(object: &Value) -> Vec<String> {
    let name = text(object, "/metadata/name");
    let port = if name == "lock" { 8888 } else { 9999 };
    let labels =
        json!({"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "pod-startup-lock"});
    let probe = |path| json!({"path": path, "port": "http"});
    let mut found = all_unless(
        object,
        [
            ("/spec/updateStrategy/type", json!("RollingUpdate")),
            ("/spec/updateStrategy/rollingUpdate", json!({"maxSurge": 0, "maxUnavailable": "10%"})),
            // health leaves the DaemonSets with this label out of its verdict.
            ("/metadata/labels", labels.clone()),
            ("/spec/selector", json!({"matchLabels": labels})),
            ("/spec/template/metadata/labels", labels),
            ("/spec/template/spec/priorityClassName", json!("system-node-critical")),
            ("/spec/template/spec/tolerations", json!([{"operator": "Exists"}])),
            ("/spec/template/spec/nodeSelector", json!({"kubernetes.io/os": "linux"})),
            ("/spec/template/spec/affinity", no_virtual_node()),
            ("/spec/template/spec/initContainers", Value::Null),
            ("/spec/template/spec/containers/1", Value::Null),
            (
                "/spec/template/spec/containers/0/ports",
                json!([{"name": "http", "containerPort": port}]),
            ),
            ("/spec/template/spec/containers/0/livenessProbe/httpGet", probe("/livez")),
            ("/spec/template/spec/containers/0/readinessProbe/httpGet", probe("/readyz")),
            ("/spec/template/spec/containers/0/resources/limits", json!({"memory": "16Mi"})),
            ("/spec/template/spec/containers/0/envFrom", json!([{"configMapRef": {"name": name}}])),
            ("/spec/template/spec/containers/0/env", node_of(name)),
        ],
    );
    found.extend(if name == "health" { short_token(object) } else { state_alone(object) });
    found
}

/// Virtual nodes run no DaemonSet. One term excludes them all, because several terms would be
/// alternatives.
fn no_virtual_node() -> Value {
    let expressions = VIRTUAL_NODES
        .map(|(key, value)| json!({"key": key, "operator": "NotIn", "values": [value]}));
    let terms = json!([{"matchExpressions": expressions}]);
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
}

/// The lock needs an address of its node, which it must not probe.
fn node_of(program: &str) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let name = field("PSL_NODE_NAME", "spec.nodeName");
    if program == "lock" {
        json!([name, field("PSL_NODE_IP", "status.hostIP")])
    } else {
        json!([name])
    }
}

fn no_token(object: &Value) -> Vec<String> {
    no_account_but(object, Value::Null, Value::Null)
}

/// The settings put the state file into the only volume.
fn state_alone(object: &Value) -> Vec<String> {
    let state = json!([{"name": "state", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]);
    no_account_but(object, state, json!([{"name": "state", "mountPath": "/state"}]))
}

fn no_account_but(object: &Value, volumes: Value, mounts: Value) -> Vec<String> {
    all_unless(
        &object["spec"]["template"]["spec"],
        [
            ("/volumes", volumes),
            ("/serviceAccountName", Value::Null),
            ("/containers/0/volumeMounts", mounts),
        ],
    )
}

fn short_token(object: &Value) -> Vec<String> {
    let sources = json!([
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]);
    let mount = json!({
        "name": "api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true,
    });
    all_unless(
        &object["spec"]["template"]["spec"],
        [
            ("/serviceAccountName", json!("health")),
            ("/volumes", json!([{"name": "api-access", "projected": {"sources": sources}}])),
            ("/containers/0/volumeMounts", json!([mount])),
        ],
    )
}

/// The gate comes last among the init containers, is bounded, and leaves a Guaranteed pod
/// Guaranteed.
fn example(object: &Value) -> Vec<String> {
    let spec = &object["spec"]["template"]["spec"];
    let gate = list(spec, "/initContainers").last().unwrap_or(&Value::Null);
    // The holder can use only variables before it, and must differ for each pod.
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let pod = [
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_NAME", "metadata.name"),
        field("POD_UID", "metadata.uid"),
    ];
    let holder = json!({"name": "PSL_HOLDER", "value": "$(POD_NAMESPACE)/$(POD_NAME)/$(POD_UID)"});
    // The lease ends when the application's own probe passes.
    let application = &containers(object)[1];
    let port = &application["ports"][0]["containerPort"];
    let path = text(application, "/readinessProbe/httpGet/path");
    let ready = json!({"name": "PSL_READY", "value": format!("http:{port}{path}")});
    let mut found = all_unless(
        gate,
        [
            ("/name", json!("pod-startup-lock")),
            (
                "/args",
                json!([
                    "--host=lock.pod-startup-lock",
                    "--duration=20s",
                    "--max-wait=8m",
                    "--unreachable-wait=2m"
                ]),
            ),
            ("/env", json!([node_of("init")[0], pod[0], pod[1], pod[2], holder, ready])),
        ],
    );
    for container in containers(object) {
        found.extend(unless(container, "/resources/limits", &container["resources"]["requests"]));
    }
    found.extend(no_token(object));
    found
}

// ---- the containers' environment ----

/// One container of the manifests: its program, and its environment and arguments from Kubernetes.
struct Run {
    name: String,
    program: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    probed: Vec<String>,
}

fn runs() -> Vec<Run> {
    let objects = written_objects();
    let find =
        |name: &str| objects.iter().find(|object| kind_and_name(object) == name).expect(name);
    let [lock, health, example] =
        ["DaemonSet lock", "DaemonSet health", "Deployment startup-example"].map(find);
    vec![
        Run::of("lock alone", containers(lock)[0], "deploy"),
        Run::of("lock with health", containers(lock)[0], "deploy/with-health"),
        Run::of("health", containers(health)[0], "deploy/with-health"),
        Run::of("health and node load", containers(health)[0], "deploy/with-node-load"),
        Run::of("health of one namespace", containers(health)[0], "deploy/one-namespace"),
        Run::of("init container", containers(example)[0], "deploy/example"),
        Run::of("application", containers(example)[1], "deploy/example"),
    ]
}

fn run_named(name: &str) -> Run {
    runs().into_iter().find(|run| run.name == name).expect(name)
}

impl Run {
    fn of(name: &str, container: &Value, entry: &str) -> Run {
        let mut env = BTreeMap::new();
        for source in list(container, "/envFrom") {
            env.extend(settings(text(source, "/configMapRef/name"), entry));
        }
        for variable in list(container, "/env") {
            let value =
                match variable.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str) {
                    // A node that the recorded API server has.
                    Some("spec.nodeName") => "node-a".to_string(),
                    Some("status.hostIP") => "192.0.2.10".to_string(),
                    Some("metadata.namespace") => "default".to_string(),
                    Some("metadata.name") => "startup-example-5d9c7b8f6-x2x7k".to_string(),
                    Some("metadata.uid") => "0e4a1f0e-6f43-4b5e-9d0c-2f6f5f0c9a11".to_string(),
                    Some(other) => panic!("{name}: {other} is not known here"),
                    None => replaced(text(variable, "/value"), &env),
                };
            env.insert(text(variable, "/name").to_string(), value);
        }
        let probes = ["/livenessProbe", "/readinessProbe"].map(|probe| container.pointer(probe));
        Run {
            name: name.to_string(),
            program: text(container, "/image").strip_prefix("psl-").unwrap().to_string(),
            args: list(container, "/args")
                .iter()
                .map(|arg| arg.as_str().unwrap().to_string())
                .collect(),
            env,
            probed: probes
                .iter()
                .flatten()
                .map(|probe| text(probe, "/httpGet/path").to_string())
                .collect(),
        }
    }

    /// The program with this environment and these arguments, and other values for some flags.
    fn with_flags(&self, program: Program, other: &[(&str, &str)]) -> Program {
        let mut program = program.args(self.args.iter().map(|arg| {
            let flag = arg.split('=').next().unwrap();
            let other = other.iter().find(|(name, _)| *name == flag);
            other.map_or(arg.clone(), |(name, value)| format!("{name}={value}"))
        }));
        for (name, value) in &self.env {
            program = program.env(name, value);
        }
        program
    }

    /// For servers, on a free port: the flag replaces a port among the arguments and overrules one
    /// in the environment.
    fn on_any_port(&self, program: Program) -> Program {
        let program = self.with_flags(program, &[("--port", "0")]);
        program.env("PSL_BIND_HOST", "127.0.0.1").env("PSL_BIND_PORT", "0")
    }
}

/// The text with each `$(NAME)` replaced by the variable, if it is set already, as in Kubernetes.
fn replaced(text: &str, env: &BTreeMap<String, String>) -> String {
    env.iter()
        .fold(text.to_string(), |text, (name, value)| text.replace(&format!("$({name})"), value))
}

/// The ConfigMap's values from the generator of deploy/NAME, from health's component and from the
/// entry point.
fn settings(name: &str, entry: &str) -> BTreeMap<String, String> {
    let file = fs::read_to_string(root().join(format!("deploy/{name}/{name}.env"))).unwrap();
    let mut lines: Vec<String> = file.lines().map(str::to_string).collect();
    let component =
        if ["deploy", "deploy/example"].contains(&entry) { None } else { Some("deploy/health") };
    for directory in component.into_iter().chain([entry]) {
        let kustomization = read_yaml(&root().join(directory).join("kustomization.yaml")).remove(0);
        let generators = list(&kustomization, "/configMapGenerator").iter();
        let merged = generators.filter(|one| one["name"] == name && one["behavior"] == "merge");
        for literals in merged.map(|one| list(one, "/literals")) {
            lines.extend(literals.iter().map(|line| line.as_str().unwrap().to_string()));
        }
    }
    let settings = lines.iter().filter(|line| !line.is_empty() && !line.starts_with('#'));
    settings
        .map(|line| line.split_once('=').expect(line))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

// ---- the API's verbs ----

/// The verb, resource and place that RBAC needs for a request: "list daemonsets.apps", in a
/// namespace or everywhere.
fn needs(asked: &Asked) -> (String, Option<String>) {
    let parts: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _version, rest @ ..] => (*group, rest),
        _ => return (format!("{} {}", asked.method, asked.path), None),
    };
    let (namespace, rest) = match rest {
        ["namespaces", name, rest @ ..] => (Some((*name).to_string()), rest),
        rest => (None, rest),
    };
    let is_watch = asked.query.iter().any(|(key, _)| key == "watch");
    let needed = match (asked.method.as_str(), rest) {
        ("GET", [resource]) => scoped(if is_watch { "watch" } else { "list" }, resource, group),
        ("GET", [resource, _name]) => scoped("get", resource, group),
        (method, _) => format!("{method} {}", asked.path),
    };
    (needed, namespace)
}

fn scoped(verb: &str, resource: &str, group: &str) -> String {
    let dot = if group.is_empty() { "" } else { "." };
    format!("{verb} {resource}{dot}{group}")
}

/// The rights of a ClusterRole everywhere, or of a Role in its namespace.
fn granted(role: &Value) -> BTreeSet<(String, Option<String>)> {
    let namespace = role.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_string);
    let mut granted = BTreeSet::new();
    for rule in list(role, "/rules") {
        for group in list(rule, "/apiGroups") {
            for resource in list(rule, "/resources") {
                for verb in list(rule, "/verbs") {
                    let [verb, resource, group] =
                        [verb, resource, group].map(|word| word.as_str().unwrap());
                    granted.insert((scoped(verb, resource, group), namespace.clone()));
                }
            }
        }
    }
    granted
}

// ---- reading ----

fn root() -> PathBuf {
    testkit::root()
}

/// The workspace's version, read from its file because this crate may have another one.
fn version() -> String {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let section = manifest.split("[workspace.package]").nth(1).expect("a [workspace.package]");
    let line = section.lines().find(|line| line.starts_with("version")).expect("its version");
    line.split('"').nth(1).unwrap().to_string()
}

/// Every object in the files but kustomize's own.
fn written_objects() -> Vec<Value> {
    let mut files = Vec::new();
    collect_yaml(&root().join("deploy"), &mut files);
    assert!(files.len() > 10, "only {files:?}");
    let objects = files.iter().flat_map(|file| read_yaml(file));
    objects
        .filter(|object| !text(object, "/apiVersion").starts_with("kustomize.config.k8s.io/"))
        .collect()
}

fn collect_yaml(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("deploy/upgrade") {
            // Files of the Go generations, which upgrade.rs checks.
        } else if path.is_dir() {
            collect_yaml(&path, files);
        } else if path.to_string_lossy().ends_with(".patch.yaml") {
            // A patch: the rendered objects contain it.
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml") {
            files.push(path);
        }
    }
}

fn read_yaml(file: &Path) -> Vec<Value> {
    parse(&fs::read_to_string(file).unwrap(), &file.display().to_string())
}

fn parse(documents: &str, source: &str) -> Vec<Value> {
    let read = |document| {
        // Through YAML's own value, which refuses a repeated key.
        let value = yaml_serde::Value::deserialize(document)
            .unwrap_or_else(|error| panic!("{source}: {error}"));
        serde_json::to_value(value).unwrap()
    };
    yaml_serde::Deserializer::from_str(documents).map(read).collect()
}

/// The objects that `kubectl apply -k` sends; `None` without kubectl.
fn rendered(entry: &str) -> Option<Vec<Value>> {
    printed(Command::new("kubectl").arg("kustomize").arg(root().join(entry)), entry)
}

/// The objects of `scripts/deploy.sh render` with these options.
fn deployed(options: &[&str]) -> Option<Vec<Value>> {
    // First, because without kubectl the script fails with its own message.
    rendered("deploy")?;
    printed(
        Command::new(root().join("scripts/deploy.sh")).arg("render").args(options),
        &options.join(" "),
    )
}

fn printed(command: &mut Command, entry: &str) -> Option<Vec<Value>> {
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip("there is no kubectl to render the manifests");
            return None;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{entry}: {}", String::from_utf8_lossy(&output.stderr));
    Some(parse(&String::from_utf8(output.stdout).unwrap(), entry))
}

/// The object without the hash in the generated ConfigMap's name and in the reference to it, so
/// that the same policies fit. Both must have a hash, or a changed setting would roll no pod.
fn without_hash(mut object: Value) -> Value {
    if kind_and_name(&object) == "ConfigMap pod-startup-lock-dashboard" {
        // No pod refers to it.
        return object;
    }
    let reference = "/spec/template/spec/containers/0/envFrom/0/configMapRef/name";
    let place = if object["kind"] == "ConfigMap" { "/metadata/name" } else { reference };
    if let Some(name) = object.pointer_mut(place) {
        let (plain, hash) =
            name.as_str().unwrap().rsplit_once('-').expect("a hash in the ConfigMap's name");
        assert_eq!(hash.len(), 10, "{hash}");
        *name = json!(plain);
    }
    object
}

fn config_maps(objects: &[Value]) -> Vec<(String, BTreeMap<String, String>)> {
    let maps = objects.iter().filter(|object| object["kind"] == "ConfigMap");
    maps.map(|map| {
        (
            text(map, "/metadata/name").to_string(),
            serde_json::from_value(map["data"].clone()).unwrap(),
        )
    })
    .collect()
}

fn containers(object: &Value) -> Vec<&Value> {
    let places = ["/spec/template/spec/initContainers", "/spec/template/spec/containers"];
    places.iter().flat_map(|place| list(object, place)).collect()
}

fn list<'a>(value: &'a Value, place: &str) -> &'a [Value] {
    value.pointer(place).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, place: &str) -> &'a str {
    value.pointer(place).and_then(Value::as_str).unwrap_or("")
}

fn kind_and_name(object: &Value) -> String {
    format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))
}

fn kinds_and_names(objects: &[Value]) -> BTreeSet<String> {
    let names: BTreeSet<String> = objects.iter().map(kind_and_name).collect();
    assert_eq!(names.len(), objects.len(), "an object is there twice");
    names
}

/// The objects of all entry points and overlays, without the kinds that only rendering makes.
fn all_expected(generated: &str) -> BTreeSet<String> {
    let all = ENTRY_POINTS
        .iter()
        .chain(OVERLAYS)
        .flat_map(|(_, expected)| expected.iter())
        .chain(SNIPPETS);
    all.filter(|name| !name.starts_with(generated)).map(ToString::to_string).collect()
}

/// Sets a value at a place, or removes it (`null`). The place's parent must exist.
fn put(object: &mut Value, place: &str, value: Value) {
    let (parent, key) = place.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}")) {
        Value::Object(map) if value.is_null() => {
            map.remove(&key.replace("~1", "/")).unwrap_or_else(|| panic!("no {place}"));
        }
        Value::Object(map) => {
            map.insert(key.replace("~1", "/"), value);
        }
        Value::Array(array) => {
            let index: usize = key.parse().unwrap();
            match value {
                Value::Null => drop(array.remove(index)),
                value if index == array.len() => array.push(value),
                value => array[index] = value,
            }
        }
        other => panic!("{parent} is {other}"),
    }
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
