//! `scripts/deploy.sh` against commands that record their calls and, if it only reads, against the
//! real kubectl with a replayed API server. It does not know a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use crate::shell;
use crate::shell::{Checkout, Ended, PROGRAMS, answers, run};
use serde::Deserialize as _;
use serde_json::{Value, json};
use testkit::api::Api;
use testkit::skip;

// ---- apply, delete, example ----

#[test]
fn apply_asks_first_then_applies_waits_and_asks_the_locks() {
    let Some(stand) = Stand::with_kubectl(&format!("{MADE_BY_APPLY} {LOCKS_READY}")) else {
        return;
    };
    let ended = stand.deploy("apply --with-health --locks 2 --overlay network-policies").with(0);
    let expected = [
        "kubectl get --raw /readyz",
        "kubectl get namespace pod-startup-lock --ignore-not-found",
        "kubectl get clusterrolebinding pod-startup-lock-health --ignore-not-found",
        "kubectl kustomize DEPLOY/everything",
        "kubectl apply --dry-run=server -f MANIFESTS",
        "kubectl apply -f MANIFESTS",
        "kubectl --namespace pod-startup-lock rollout status daemonset/lock --timeout 180s",
        "kubectl --namespace pod-startup-lock rollout status daemonset/health --timeout 180s",
        "kubectl api-versions",
        "kubectl get clusterrolebindings.rbac.authorization.k8s.io,clusterroles.rbac.authorization.k8s.io",
        "kubectl get rolebindings.rbac.authorization.k8s.io,roles.rbac.authorization.k8s.io --all-namespaces",
        "kubectl get daemonsets.apps,services,configmaps,serviceaccounts,resourcequotas,networkpolicies.networking.k8s.io --namespace pod-startup-lock",
        "kubectl --namespace pod-startup-lock get pods",
        "kubectl get --raw /api/v1/namespaces/pod-startup-lock/pods/lock-a:8888/proxy/state",
        "kubectl get --raw /api/v1/namespaces/pod-startup-lock/pods/lock-b:8888/proxy/state",
        "kubectl get --raw /api/v1/namespaces/pod-startup-lock/pods/lock-c:8888/proxy/state",
    ];
    assert_eq!(
        stand.asked(),
        expected,
        "three of the four nodes with a ready lock\n{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("node-a: the lock answers: {\"version\":1}"), "{}", ended.stderr);

    let applied = stand.read("applied");
    let rendered = stand.deploy("render --with-health --locks 2 --overlay network-policies").ok();
    assert_eq!(applied, rendered, "apply sends the output of render");

    stand.forget();
    stand.deploy("apply --with-health --locks 2 --overlay network-policies").with(0);
    assert_eq!(stand.asked(), expected, "the same again");
    assert_eq!(stand.read("applied"), applied);
}

#[test]
fn another_kubectl_another_namespace_and_another_wait_reach_every_call() {
    let Some(stand) = Stand::with_kubectl(LOCKS_READY) else { return };
    stand.tool("k3s", "shift; exec kubectl \"$@\"");
    let ended = run(stand.command().args([
        "apply",
        "--kubectl",
        "k3s kubectl",
        "--namespace=start",
        "--wait",
        "7",
    ]));
    let ended = ended.with(0);
    let asked = stand.asked();
    assert!(
        asked.contains(
            &"k3s kubectl --namespace start rollout status daemonset/lock --timeout 7s".into()
        ),
        "{asked:?}"
    );
    assert!(
        asked.contains(&"k3s kubectl get namespace start --ignore-not-found".into()),
        "{asked:?}"
    );
    assert!(!asked.iter().any(|line| line.contains("pod-startup-lock")), "{asked:?} {ended:?}");
}

/// An API server that never answers a request does not stop a command for ever.
#[test]
fn every_question_to_the_cluster_has_a_bound() {
    let Some(stand) =
        Stand::with_kubectl(&format!("{MADE_BY_APPLY} {OBJECTS_OF_HEALTH} {LOCKS_READY}"))
    else {
        return;
    };
    for words in [
        "apply --with-health --wait 7",
        "apply --wait 7",
        "status",
        "delete --wait 7",
        "example --wait 7",
    ] {
        stand.deploy(words);
    }
    let record = stand.read("record");
    for verb in [
        "apply -f",
        "rollout status",
        "delete",
        "get nodes",
        "--raw /readyz",
        "api-versions",
        "get pods",
    ] {
        assert!(record.lines().any(|line| line.contains(verb)), "no {verb} in\n{record}");
    }
    for line in record.lines().filter(|line| !line.starts_with("kubectl kustomize")) {
        let waits = line.contains(" rollout ") || line.contains(" delete ");
        assert!(
            line.contains(" --request-timeout=30s ") && line.ends_with(" --timeout 7s") == waits,
            "{line}"
        );
    }
}

/// As in `KUBECONFIG=cluster.yaml ../pod-startup-lock/scripts/deploy.sh apply`.
#[test]
fn kubectl_runs_where_the_script_is_called() {
    let Some(stand) = Stand::with_kubectl(LOCKS_READY) else { return };
    let elsewhere = stand.path("else where");
    fs::create_dir(&elsewhere).unwrap();
    stand.tool("own", "pwd >>\"$RECORD.where\"; exec kubectl \"$@\"");
    fs::rename(stand.path("bin/own"), elsewhere.join("own")).unwrap();
    let mut command = stand.command();
    run(command.current_dir(&elsewhere).args(["apply", "--kubectl", "./own --context a"])).with(0);
    let places = stand.read("record.where");
    let expected = elsewhere.canonicalize().unwrap();
    assert!(
        places.lines().count() > 5
            && places.lines().all(|place| place == expected.to_str().unwrap()),
        "{places}"
    );
}

/// Each command runs in the caller's directory, so that all of them resolve relative paths alike:
/// in an option, in the environment (`DOCKER_CONFIG`), and in `PATH`.
#[test]
fn each_command_runs_where_the_script_is_called() {
    let Some(stand) = Stand::with_archives() else { return };
    let elsewhere = stand.path("else where");
    fs::create_dir(&elsewhere).unwrap();
    let body = "pwd >>\"$RECORD.where\"; case $* in *uname*) printf 'x86_64\\nctr\\n' ;; \
        *'load --input'*) test -f \"$3\" ;; *) cat >/dev/null ;; esac";
    for tool in ["docker", "skopeo", "login"] {
        stand.tool(tool, body);
    }
    fs::rename(stand.path("bin/login"), elsewhere.join("login")).unwrap();
    let path = format!(".:../bin:{}", stand.path("tools").display());
    let cases: [&[&str]; 3] = [
        &["load", "--nodes", "node-a", "--ssh", "./login -F config"],
        &["load", "--arch", "amd64", "--with", "docker"],
        &["push", "--arch", "amd64", "--registry", "r.example", "--with", "skopeo"],
    ];
    for words in cases {
        let mut command = Command::new(stand.path("scripts/deploy.sh"));
        run(stand.within(&mut command).env("PATH", &path).current_dir(&elsewhere).args(words))
            .with(0);
    }
    let places = stand.read("record.where");
    let expected = elsewhere.canonicalize().unwrap();
    assert_eq!(places.lines().count(), 4 + 3 + 3, "{places}");
    assert!(places.lines().all(|place| place == expected.to_str().unwrap()), "{places}");
}

/// The error names the missing tool, and not a node, an archive or a registry.
#[test]
fn a_missing_tool_is_named() {
    let Some(stand) = Stand::with_archives() else { return };
    let cases: [(&[&str], &[&str], &str); 6] = [
        (
            &["load", "--nodes", "node-a"],
            &[],
            "command not found: ssh; install it, or name another with --ssh, such as \"ssh -l admin\"",
        ),
        (
            &["load", "--nodes", "a", "--ssh", "./x -v"],
            &[],
            "command not found: ./x; install it, or name another with --ssh",
        ),
        (
            &["status"],
            &[],
            "command not found: kubectl; install it, or name another with --kubectl, such as \"k3s kubectl\"",
        ),
        (
            &["load", "--arch", "amd64", "--with", "kind"],
            &["kind"],
            "command not found: docker; the nodes of kind are",
        ),
        (
            &["load", "--arch", "amd64", "--with", "ctr", "--sudo"],
            &["ctr"],
            "command not found: sudo",
        ),
        (&["push", "--registry", "r.example", "--sudo"], &["podman"], "command not found: sudo"),
    ];
    for (words, there, why) in cases {
        stand.forget();
        for tool in there {
            stand.tool(tool, "exit 0");
        }
        let ended = run(stand.command().args(words)).with(1);
        assert!(
            ended.stderr.contains(why) && ended.stderr.lines().count() == 1,
            "{words:?}: {}",
            ended.stderr
        );
    }
    fs::remove_file(stand.path("tools/tar")).unwrap();
    stand.tool("docker", "exit 0");
    let ended = stand.deploy("load --arch amd64").with(1);
    assert!(ended.stderr.contains("command not found: tar"), "{}", ended.stderr);
}

/// Each ends with one line and exit code 2, and calls no command.
#[test]
fn a_mistake_in_the_words_changes_nothing() {
    let stand = Stand::new();
    for tool in ["kubectl", "docker", "skopeo", "ssh"] {
        stand.tool(tool, "exit 0");
    }
    let cases = [
        ("", "unknown command ''"),
        ("install", "unknown command 'install'"),
        ("apply now", "unexpected argument 'now'"),
        ("apply --overlays service", "unknown option '--overlays'"),
        ("apply --overlay", "--overlay needs a value"),
        ("apply --namespace=", "--namespace needs a value"),
        ("apply --overlay helm", "--overlay: 'helm' is not accepted; accepted: service,"),
        (
            "apply --overlay host-port --overlay host-network",
            "--overlay: host-port and host-network exclude each other",
        ),
        ("apply --namespace Start", "--namespace: 'Start' is not accepted"),
        ("apply --namespace a/b", "--namespace: 'a/b' is not accepted"),
        ("apply --locks none", "--locks: 'none' is not accepted"),
        ("apply --locks 0", "--locks: '0' is not accepted"),
        ("apply --locks 02", "--locks: '02' is not accepted"),
        ("apply --locks 4097", "--locks: '4097' is not accepted"),
        ("apply --locks auto:4097", "--locks: 'auto:4097' is not accepted"),
        ("apply --locks auto:0", "--locks: 'auto:0' is not accepted"),
        ("apply --locks auto:50%", "--locks: 'auto:50%' is not accepted"),
        ("apply --locks 0%", "--locks: '0%' is not accepted"),
        ("apply --locks 409601%", "--locks: '409601%' is not accepted"),
        ("apply --timeout -5", "--timeout: '-5' is not accepted"),
        ("apply --timeout 0", "--timeout: '0' is not accepted"),
        ("apply --timeout 0h0.0s", "--timeout: '0h0.0s' is not accepted"),
        ("apply --timeout 601", "--timeout: '601' is not accepted"),
        ("apply --timeout 10m1ns", "--timeout: '10m1ns' is not accepted"),
        ("apply --timeout 5x", "--timeout: '5x' is not accepted"),
        ("apply --timeout 1.5", "--timeout: '1.5' is not accepted"),
        ("apply --timeout s", "--timeout: 's' is not accepted"),
        ("apply --timeout 1m30", "--timeout: '1m30' is not accepted"),
        ("apply --wait 3m", "--wait: '3m' is not accepted"),
        ("apply --wait 0", "--wait: '0' is not accepted"),
        ("apply --tag a:b", "--tag: 'a:b' is not accepted"),
        ("apply --tag .a", "--tag: '.a' is not accepted"),
        (
            "delete --namespace --dry-run",
            "--namespace: '--dry-run' is not accepted; accepted: a value that does not begin with -",
        ),
        ("delete --namespace=-a", "--namespace: '-a' is not accepted"),
        ("apply --overlay --dry-run", "--overlay: '--dry-run' is not accepted"),
        ("load --ssh -v", "--ssh: '-v' is not accepted"),
        ("apply --kubectl --dry-run", "--kubectl: '--dry-run' is not accepted"),
        ("apply --namespace a-", "--namespace: 'a-' is not accepted"),
        (
            "apply --namespace 0123456789012345678901234567890123456789012345678901234567890123",
            "is not accepted",
        ),
        ("apply --namespace kube-system", "--namespace: kube-system belongs to Kubernetes"),
        ("delete --namespace default", "--namespace: default belongs to Kubernetes"),
        ("delete --namespace kube-public", "--namespace: kube-public belongs to Kubernetes"),
        (
            "delete --namespace kube-node-lease",
            "--namespace: kube-node-lease belongs to Kubernetes",
        ),
        ("apply --registry Registry.example", "--registry: 'Registry.example' is not accepted"),
        ("apply --registry registry.example:x", "--registry: 'registry.example:x' is not accepted"),
        (
            "apply --registry registry.example/a//b",
            "--registry: 'registry.example/a//b' is not accepted",
        ),
        (
            "apply --registry https://registry.example",
            "--registry: 'https://registry.example' is not accepted",
        ),
        ("push --registry admin:secret@registry.example", "user and password are not accepted"),
        ("push", "push needs --registry"),
        (
            "push --registry registry.example --with kind",
            "--with: 'kind' is not accepted; accepted: skopeo",
        ),
        ("load --registry registry.example", "load keeps the names in the archives"),
        ("load --with skopeo", "--with: 'skopeo' is not accepted; accepted: k3s"),
        ("load --nodes -oProxyCommand=x", "--nodes: '-oProxyCommand=x' is not accepted"),
        ("load --nodes a;b", "--nodes: 'a;b' is not a node name"),
        ("load --nodes *", "--nodes: '*' is not a node name"),
        ("load --arch mips", "--arch: 'mips' is not accepted"),
    ];
    // Words that the shell's word splitting cannot produce.
    let whole = [
        (vec!["load", "--nodes", " "], "--nodes: ' ' contains no node name"),
        (vec!["load", "--nodes", "a -b"], "--nodes: '-b' is not a node name"),
        (vec!["apply", "--namespace", "a\nb"], "--namespace: 'a"),
        (vec!["apply", "--timeout", "5s\n5s"], "--timeout: '5s"),
    ];
    for (words, why) in whole {
        let ended = run(stand.command().args(&words)).with(2);
        assert!(ended.stderr.contains(why), "{words:?}: {}", ended.stderr);
        assert!(stand.asked().is_empty(), "{words:?}: {:?}", stand.asked());
    }
    for (words, why) in cases {
        let ended = stand.deploy(words).with(2);
        assert!(
            ended.stderr.contains(why) && ended.stderr.lines().count() == 1,
            "{words}: {}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("secret"), "{words}: {}", ended.stderr);
        assert!(stand.asked().is_empty(), "{words}: {:?}", stand.asked());
    }
}

#[test]
fn what_the_cluster_says_ends_it_before_anything_is_changed() {
    let cases = [
        (
            "no cluster",
            "apply",
            "*'--raw /readyz') echo 'connection refused' >&2; exit 1 ;;",
            "cannot reach the cluster: connection refused",
        ),
        (
            "a refusal",
            "apply",
            "*'get namespace'*) printf '%s\\n' app.kubernetes.io/part-of=pod-startup-lock there ;; \
            *--dry-run=server*) echo 'Warning: x' >&2; echo 'DaemonSet.apps \"lock\" is invalid' >&2; exit 1 ;;",
            "the API server rejects the manifests: DaemonSet.apps \"lock\" is invalid",
        ),
        (
            "no operator",
            "apply --overlay monitoring",
            "*api-versions) echo apps/v1 ;;",
            "the cluster does not serve PodMonitor",
        ),
        (
            "no answer what it serves",
            "apply --overlay injection",
            "*api-versions) echo 'i/o timeout' >&2; exit 1 ;;",
            "cannot list the API versions of the cluster: i/o timeout",
        ),
        (
            "no answer what it serves, to delete",
            "delete",
            "*api-versions) echo 'i/o timeout' >&2; exit 1 ;;",
            "cannot list the API versions of the cluster: i/o timeout",
        ),
        (
            "no answer what is in a group",
            "apply --overlay monitoring",
            "*api-versions) echo monitoring.coreos.com/v1 ;; *'--raw /apis/'*) echo 'forbidden' >&2; exit 1 ;;",
            "cannot list the kinds of monitoring.coreos.com/v1: forbidden",
        ),
        (
            "namespace of another owner",
            "apply --namespace shop",
            "*'get namespace shop'*) printf 'team=shop\\nthere' ;;",
            "namespace shop exists without the label app.kubernetes.io/part-of=pod-startup-lock",
        ),
        (
            "namespace of another owner, to delete",
            "delete --namespace shop",
            "*'get namespace shop'*) echo there ;;",
            "namespace shop exists without the label app.kubernetes.io/part-of=pod-startup-lock",
        ),
        (
            "no answer whose the namespace is",
            "delete",
            "*'get namespace'*) echo 'forbidden' >&2; exit 1 ;;",
            "cannot read namespace pod-startup-lock: forbidden",
        ),
        (
            "no policies",
            "apply --overlay injection",
            "*api-versions) echo apps/v1 ;;",
            "the cluster does not serve MutatingAdmissionPolicy",
        ),
        (
            "health of another lock",
            "apply --with-health --namespace second",
            "*'get clusterrolebinding'*) echo pod-startup-lock ;;",
            "the ClusterRoleBinding of health belongs to the lock in namespace pod-startup-lock",
        ),
        (
            "the injection of another lock",
            "apply --overlay injection --namespace second",
            "*api-versions) echo admissionregistration.k8s.io/v1 ;; \
            *'--raw /apis/'*) echo '{\"kind\":\"MutatingAdmissionPolicy\"}' ;; \
            *'get mutatingadmissionpolicybinding'*) printf '%s\\n' kube-system pod-startup-lock ;;",
            "the injection belongs to the lock in namespace pod-startup-lock",
        ),
        (
            "no answer whose the role is",
            "apply --with-health",
            "*'get clusterrolebinding '*) echo 'forbidden' >&2; exit 1 ;;",
            "cannot read clusterrolebinding pod-startup-lock-health: forbidden",
        ),
        (
            "no answer what is to be deleted",
            "delete",
            "*'get clusterrolebindings'*) echo 'forbidden' >&2; exit 1 ;;",
            "cannot list the objects of the lock: forbidden",
        ),
        (
            "nowhere to put it",
            "example --into shop",
            "*'get namespace shop') exit 1 ;;",
            "namespace shop does not exist",
        ),
    ];
    for (case, words, answer, why) in cases {
        let Some(stand) = Stand::with_kubectl(answer) else { return };
        let ended = stand.deploy(words).with(1);
        assert!(
            ended.stderr.contains(why) && ended.stderr.lines().count() == 1,
            "{case}: {}",
            ended.stderr
        );
        let changed = stand
            .asked()
            .into_iter()
            .filter(|line| line.contains("apply -f") || line.contains("delete"));
        assert_eq!(changed.count(), 0, "{case}");
    }
}

#[test]
fn pods_that_do_not_come_up_are_explained() {
    let answer = "*'rollout status'*) exit 1 ;; *'get pods'*) printf '%s\\n' \
        'node-a lock-a true - IMAGE -' \
        'node-b lock-b false ImagePullBackOff registry.example/psl-lock:7 Back-off pulling image' \
        'node-c lock-c false CreateContainerConfigError IMAGE configmap lock not found' \
        'node-d lock-d false - IMAGE -' '- lock-e false Unschedulable IMAGE 0/5 nodes are available' ;;";
    let Some(stand) = Stand::with_kubectl(answer) else { return };
    let said = stand.deploy("apply").with(1).stderr;
    for why in [
        "node-b: image registry.example/psl-lock:7 is missing (ImagePullBackOff); run: scripts/deploy.sh load --nodes node-b",
        "node-c: pod lock-c: CreateContainerConfigError: configmap lock not found",
        "node-d: pod lock-d is running but not ready; see: kubectl --namespace pod-startup-lock logs lock-d",
        "-: pod lock-e: Unschedulable: 0/5 nodes are available",
        "DaemonSet lock is not ready on each node after 180 s",
    ] {
        assert!(said.contains(why), "no {why:?} in\n{said}");
    }
    assert!(!said.contains("node-a"), "{said}");
}

/// After a successful rollout `apply` only warns if this user may not read a lock's state, or if
/// the API server does not reach the pods.
#[test]
fn a_lock_that_cannot_be_asked_is_a_warning() {
    let cases = [
        (
            "no right to proxy",
            "*/proxy/state) echo 'Error from server (Forbidden): pods \"lock-a:8888\" is forbidden: User \"u\" cannot get \
            resource \"pods/proxy\" in API group \"\" in the namespace \"pod-startup-lock\"' >&2; exit 1 ;;",
            "warning: node-a: pod lock-a is ready, but reading its /state failed: Error from server (Forbidden)",
        ),
        (
            "no way to the pods",
            "*/proxy/state) echo 'Error from server (ServiceUnavailable): error trying to reach service' >&2; exit 1 ;;",
            "warning: node-c: pod lock-c is ready, but reading its /state failed: Error from server (ServiceUn",
        ),
        (
            "no right to list pods",
            "*'get pods'*) echo 'pods is forbidden' >&2; exit 1 ;;",
            "warning: no lock was checked, because listing the pods failed: pods is forbidden",
        ),
        (
            "no right to list roles",
            "*'get rolebindings'*) echo 'roles is forbidden' >&2; exit 1 ;;",
            "warning: objects of other overlays may remain, because listing them failed: roles is forbidden",
        ),
        (
            "no answer what it serves",
            "*api-versions) echo 'i/o timeout' >&2; exit 1 ;;",
            "warning: objects of other overlays may remain",
        ),
    ];
    for (case, answer, why) in cases {
        let Some(stand) = Stand::with_kubectl(&format!("{answer} {LOCKS_READY}")) else { return };
        let said = stand.deploy("apply").with(0).stderr;
        assert!(said.contains(why), "{case}: {said}");
        assert!(!said.contains("no node runs a lock"), "{case}: {said}");
    }
}

#[test]
fn another_server_in_the_place_of_a_lock_is_named() {
    let Some(stand) =
        Stand::with_kubectl(&format!("*/proxy/state) echo '<html>' ;; {LOCKS_READY}"))
    else {
        return;
    };
    let ended = stand.deploy("apply").with(1);
    assert!(
        ended.stderr.contains("node-a: ") && ended.stderr.contains("is not a lock: <html>"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_dry_run_only_renders() {
    let Some(stand) = Stand::with_kubectl(LOCKS_READY) else { return };
    let changes = "apply|delete|example --into shop|apply --overlay injection --overlay monitoring";
    for words in changes.split('|') {
        stand.forget();
        let ended = stand.deploy(&format!("{words} --dry-run")).with(0);
        assert!(!ended.stdout.is_empty(), "{words}");
        for line in stand.asked() {
            assert!(
                line.contains("kustomize") || line.contains("config current-context"),
                "{words}: {line}"
            );
        }
    }
}

// ---- removal ----

/// The entry points and the overlays, each as the objects of a cluster.
#[test]
fn delete_takes_away_what_each_entry_point_and_overlay_has_brought() {
    let entries = ["deploy", "deploy/with-health", "deploy/with-node-load", "deploy/one-namespace"];
    let overlays = "--with-health --overlay host-port --overlay network-policies --overlay monitoring --overlay injection";
    let Some(stand) = Stand::with_kubectl("") else { return };
    let rendered = stand.deploy(&format!("render {overlays}")).ok();
    let entries = entries.map(|entry| {
        let folder = stand.path(entry);
        (entry, run(Command::new(real("kubectl").unwrap()).arg("kustomize").arg(folder)).ok())
    });
    for (entry, manifests) in entries.into_iter().chain([("every overlay", rendered)]) {
        let cluster = Cluster::with(&[&manifests]);
        let ended = cluster.deploy("delete").with(0);
        assert_eq!(cluster.deleted(), cluster.objects(), "{entry}: {}", ended.stderr);
    }
}

#[test]
fn apply_removes_what_other_overlays_have_brought() {
    let Some(stand) = Stand::with_kubectl("") else { return };
    let render = |words: &str| stand.deploy(&format!("render {words}")).ok();
    let everything =
        render("--with-health --overlay network-policies --overlay monitoring --overlay injection");
    let one_namespace = run(Command::new(real("kubectl").unwrap())
        .arg("kustomize")
        .arg(stand.path("deploy/one-namespace")))
    .ok();
    let cases = [
        (render(""), "--overlay host-port"),
        (render("--overlay host-port"), ""),
        (everything.clone(), "--overlay host-network"),
        (everything, "--overlay monitoring --overlay network-policies"),
        (one_namespace, "--with-health"),
    ];
    for (before, words) in cases {
        let after = render(words);
        let cluster = Cluster::with(&[&before, &after]);
        let ended = cluster.deploy(&format!("apply {words}")).with(0);
        let (before, after) = (names_in(&before), names_in(&after));
        // The next test has the settings.
        let of_settings = |name: &str| {
            name.contains(" ConfigMap/lock-")
                || (name.contains(" ConfigMap/health-")
                    && after.contains("pod-startup-lock DaemonSet/health"))
        };
        let left = before.difference(&after).filter(|name| !of_settings(name));
        let expected: BTreeSet<String> = left.cloned().collect();
        assert_eq!(cluster.deleted(), expected, "{words}: {}", ended.stderr);
    }
}

/// `kubectl rollout undo` needs the ConfigMap of the earlier settings, which is useless without its
/// program.
#[test]
fn settings_of_earlier_days_stay_as_long_as_their_program() {
    let Some(stand) = Stand::with_kubectl("") else { return };
    let [first, second] = ["--with-health --locks 2", "--locks 3"]
        .map(|words| stand.deploy(&format!("render {words}")).ok());
    let cluster = Cluster::with(&[&first, &second]);
    cluster.deploy("apply --locks 3").with(0);
    let deleted = cluster.deleted();
    let maps: Vec<&String> = deleted.iter().filter(|name| name.contains("ConfigMap/")).collect();
    assert!(maps.len() == 1 && maps[0].contains(" ConfigMap/health-"), "{deleted:?}");
}

/// Cluster-wide objects belong to one lock: a mistyped name, or a second lock, removes none of
/// them.
#[test]
fn delete_leaves_what_is_of_a_lock_in_another_namespace() {
    let Some(stand) = Stand::with_kubectl("") else { return };
    let render = |words: &str| stand.deploy(&format!("render {words}")).ok();
    let here = render("--namespace 123");
    // 1.23e2 is the same number, but another name.
    let other = render("--with-health --overlay injection --namespace start");
    // A role with the label, without a binding.
    let unknown = "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, \
        metadata: {name: reader, labels: {app.kubernetes.io/part-of: pod-startup-lock}}}";
    let cluster = Cluster::with(&[&here, &other, unknown]);
    let said = cluster.deploy("delete --namespace 123").with(0).stderr;
    assert_eq!(cluster.deleted(), names_in(&here));
    for kind in ["ClusterRole", "ClusterRoleBinding", "MutatingAdmissionPolicyBinding"] {
        let line = format!("{kind} pod-startup-lock");
        assert!(
            said.lines().any(|one| one.contains(&line) && one.ends_with("in namespace start")),
            "{kind}: {said}"
        );
    }
    let cluster = Cluster::with(&[&here, &other]);
    cluster.deploy("delete --namespace start").with(0);
    assert_eq!(cluster.deleted(), names_in(&other));
}

/// The manifests mark a namespace that they make. apply removes the mark from a namespace that
/// existed before, and delete leaves such a namespace, and any with other objects.
#[test]
fn a_namespace_that_was_there_before_stays() {
    let mark = "pod-startup-lock/made-by";
    let Some(stand) = Stand::with_kubectl(LOCKS_READY) else { return };
    stand.deploy("apply").with(0);
    assert!(stand.read("applied").contains(mark), "a new one");
    let Some(stand) = Stand::with_kubectl(&format!("{MADE_BY_APPLY} {LOCKS_READY}")) else {
        return;
    };
    stand.deploy("apply").with(0);
    assert!(stand.read("applied").contains(mark), "it stays marked");
    stand.deploy("delete").with(0);
    assert_eq!(
        stand.asked().last().unwrap(),
        "kubectl delete namespace pod-startup-lock --ignore-not-found --timeout 180s"
    );

    let given = "*'get namespace'*) printf 'team=shop\\napp.kubernetes.io/part-of=pod-startup-lock\\nthere' ;;";
    let Some(stand) = Stand::with_kubectl(&format!("{given} {OBJECTS_OF_HEALTH} {LOCKS_READY}"))
    else {
        return;
    };
    stand.deploy("apply --namespace shop").with(0);
    let applied = stand.read("applied");
    assert!(applied.starts_with("apiVersion") && applied.contains("kind: DaemonSet"), "{applied}");
    assert!(
        !applied.contains("kind: Namespace"),
        "apply would remove the labels of its owner: {applied}"
    );
    let patched = stand.read("patched");
    assert!(
        patched.contains("pod-security.kubernetes.io/enforce: restricted")
            && !patched.contains(mark),
        "{patched}"
    );
    assert!(
        patched.contains("kind: Namespace") && !patched.contains("kind: ResourceQuota"),
        "{patched}"
    );
    stand.forget();
    let said = stand.deploy("delete --namespace shop").with(0).stderr;
    assert!(said.contains("namespace shop is kept, because it existed before"), "{said}");
    let asked = stand.asked();
    assert!(asked.last().unwrap().contains("--namespace shop delete"), "{asked:?}");
    assert!(!asked.iter().any(|line| line.contains("delete namespace")), "{asked:?}");

    for (answer, code, why) in [
        (
            "printf '%s\\n' pod/shop-1 deployment.apps/shop",
            0,
            "it also holds pod/shop-1, deployment.apps/shop",
        ),
        (
            "echo 'jobs is forbidden' >&2; exit 1",
            1,
            "listing its other objects failed: jobs is forbidden",
        ),
    ] {
        let answers = format!("*'get services,pods,'*) {answer} ;; {MADE_BY_APPLY}");
        let Some(stand) = Stand::with_kubectl(&answers) else { return };
        let said = stand.deploy("delete").with(code).stderr;
        assert!(
            said.contains("namespace pod-startup-lock is kept, because") && said.contains(why),
            "{said}"
        );
        assert!(
            !stand.asked().iter().any(|line| line.contains("delete namespace")),
            "{:?}",
            stand.asked()
        );
    }
}

#[test]
fn a_delete_that_comes_to_its_bound_says_so() {
    for stuck in ["*'delete --ignore-not-found'*", "*'delete namespace'*"] {
        let answers =
            format!("{stuck}) echo 'timed out' >&2; exit 1 ;; {MADE_BY_APPLY} {OBJECTS_OF_HEALTH}");
        let Some(stand) = Stand::with_kubectl(&answers) else { return };
        let said = stand.deploy("delete --wait 5").with(1).stderr;
        assert!(
            said.contains("timed out") && said.contains("objects remain after 5 s"),
            "{stuck}: {said}"
        );
    }
}

/// Names that YAML does not read as text.
#[test]
fn a_namespace_is_a_name_whatever_it_looks_like() {
    let Some(stand) = Stand::with_kubectl("") else { return };
    for name in ["null", "true", "123", "1e3", "no"] {
        let words = format!(
            "render --namespace {name} --with-health --overlay injection --locks 50% --timeout 1m30s"
        );
        let rendered = stand.deploy(&words).ok();
        let plain = rendered.replace('"', "");
        assert!(plain.contains(&format!("\n  namespace: {name}\n")), "{rendered}");
        assert!(
            plain.contains(&format!("          - {name}\n"))
                || plain.contains(&format!("      - {name}\n"))
        );
        assert!(!plain.contains("namespace: pod-startup-lock\n"), "{name}");
        if name != "no" {
            assert!(!rendered.contains(&format!("namespace: {name}\n")), "{rendered}");
        }
    }
}

#[test]
fn the_example_asks_the_lock_that_was_applied() {
    let Some(stand) = Stand::with_kubectl("nothing) ;;") else { return };
    stand
        .deploy("example --namespace start --into shop --registry registry.example --tag 7")
        .with(0);
    let applied = stand.read("applied");
    assert!(
        applied.contains("--host=lock.start\n")
            && applied.contains("image: registry.example/psl-init:7\n"),
        "{applied}"
    );
    let asked = stand.asked();
    assert!(asked.contains(&"kubectl --namespace shop apply -f MANIFESTS".into()), "{asked:?}");
    assert!(asked.contains(
        &"kubectl --namespace shop rollout status deployment/startup-example --timeout 180s".into()
    ));

    stand.deploy("example --overlay host-port --never-pull").with(0);
    let applied = stand.read("applied");
    assert!(
        applied.contains("--host=$(HOST_IP)\n") && applied.contains("fieldPath: status.hostIP\n"),
        "{applied}"
    );
    assert!(!applied.contains("IfNotPresent"), "{applied}");
}

#[test]
fn the_injection_is_written_as_the_cluster_serves_it() {
    let served = "*api-versions) printf '%s\\n' admissionregistration.k8s.io/v1 admissionregistration.k8s.io/v1beta1 ;; \
        *v1beta1) echo '{\"kind\": \"MutatingAdmissionPolicy\"}' ;; \
        *admissionregistration*) echo '{\"kind\": \"ValidatingAdmissionPolicy\"}' ;;";
    let Some(stand) = Stand::with_kubectl(&format!("{served} {LOCKS_READY}")) else { return };
    stand.deploy("apply --overlay injection --overlay host-network").with(0);
    let applied = stand.read("applied");
    assert_eq!(
        applied.matches("apiVersion: admissionregistration.k8s.io/v1beta1\n").count(),
        2,
        "{applied}"
    );
    assert!(!applied.contains("'lock.pod-startup-lock'"), "the node's address, and no Service");
}

// ---- with other shells and other kubectls ----

/// As on a machine whose shell and tools are busybox's.
#[test]
fn busybox_does_as_well() {
    let Some(busybox) = real("busybox") else {
        skip("there is no busybox to run the scripts with (Debian: apt-get install busybox)");
        return;
    };
    let answers =
        format!("{MADE_BY_APPLY} {LOCKS_READY} *'get nodes'*) echo node-a 0; echo node-x 0 ;;");
    let Some(stand) = Stand::with_kubectl(&answers) else { return };
    let steps = [
        "render --with-health --overlay host-network --overlay air-gapped --never-pull --registry r.example:5000/a --tag 1.2",
        "apply --namespace null --locks 50% --timeout 1m30s",
        "apply --timeout 10m1s",
        "apply --locks 4097",
        "status",
        "delete",
        "example --into shop",
        "push --registry a:b@c.example",
    ];
    let all = |stand: &Stand| {
        stand.forget();
        let ended = steps.map(|words| {
            let ended = stand.deploy(words);
            (words, ended.code, ended.stdout, ended.stderr)
        });
        (ended, stand.asked())
    };
    let first = all(&stand);
    assert_eq!(
        first.0.each_ref().map(|step| step.1.unwrap()),
        [0, 0, 2, 2, 1, 0, 0, 2],
        "{first:?}"
    );
    for tool in TOOLS {
        let link = stand.path("tools").join(tool);
        fs::remove_file(&link).unwrap();
        symlink(&busybox, &link).unwrap();
    }
    // The kernel runs `#!/bin/sh`, whatever PATH says.
    let script = stand.path("scripts/deploy.sh");
    let text = stand.read("scripts/deploy.sh");
    fs::write(&script, text.replacen("#!/bin/sh", &format!("#!{} sh", busybox.display()), 1))
        .unwrap();
    assert_eq!(all(&stand), first);
}

/// Debian 12 has such a kubectl.
#[test]
fn a_kubectl_that_knows_no_components_is_told_apart() {
    let stand = Stand::new();
    stand.tool("kubectl", "echo 'Error: json: unknown field \"components\"' >&2; exit 1");
    let ended = stand.deploy("render").with(1);
    let expected = "deploy.sh: kubectl cannot render the manifests (1.21 or newer is needed): Error: json: unknown field \"components\"\n";
    assert_eq!((ended.stderr.as_str(), ended.stdout.as_str()), (expected, ""));
}

/// The script finds its files beside itself, and not beside a link to it.
#[test]
fn a_link_to_it_is_told_what_is_wrong() {
    let stand = Stand::new();
    let link = stand.path("bin/of/psl-deploy");
    fs::create_dir(stand.path("bin/of")).unwrap();
    symlink(stand.path("scripts/deploy.sh"), &link).unwrap();
    let ended = run(stand.within(Command::new(&link).arg("render"))).with(1);
    assert!(ended.stderr.contains("run the script from its checkout"), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

// ---- against the real kubectl ----

/// The real kubectl accepts every object of every overlay; it needs an API server only for the list
/// of kinds.
#[test]
fn the_real_kubectl_takes_what_is_rendered() {
    let Some(stand) = Stand::with_kubectl("") else { return };
    let api = Api::start(shell::root().join("health/tests/data/answers"));
    api.open(true);
    discovery(&api);
    let everything =
        "render --with-health --overlay monitoring --overlay network-policies --overlay injection";
    let file = stand.path("everything.yaml");
    fs::write(&file, stand.deploy(everything).ok()).unwrap();
    let mut kubectl = Command::new(real("kubectl").unwrap());
    kubectl.args(["--server", &api.url(), "--cache-dir"]).arg(stand.path("cache"));
    kubectl
        .args(["create", "--dry-run=client", "--validate=false", "--output=name", "--filename"])
        .arg(&file);
    let names = run(&mut kubectl).ok();
    let objects = fs::read_to_string(&file)
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("kind: "))
        .count();
    assert_eq!(names.lines().count(), objects, "{names}");
    for name in [
        "daemonset.apps/lock",
        "mutatingadmissionpolicy.admissionregistration.k8s.io/pod-startup-lock",
    ] {
        assert!(names.lines().any(|line| line == name), "{names}");
    }
}

/// The kinds that an API server knows here: version, then resource and kind.
const KINDS: &[(&str, &str)] = &[
    (
        "v1",
        "namespaces Namespace,resourcequotas ResourceQuota,configmaps ConfigMap,services Service,serviceaccounts \
        ServiceAccount,pods Pod,persistentvolumeclaims PersistentVolumeClaim",
    ),
    ("apps/v1", "daemonsets DaemonSet,deployments Deployment,statefulsets StatefulSet"),
    ("batch/v1", "jobs Job,cronjobs CronJob"),
    (
        "rbac.authorization.k8s.io/v1",
        "clusterroles ClusterRole,clusterrolebindings ClusterRoleBinding,roles Role,rolebindings RoleBinding",
    ),
    ("networking.k8s.io/v1", "networkpolicies NetworkPolicy"),
    (
        "admissionregistration.k8s.io/v1",
        "mutatingadmissionpolicies MutatingAdmissionPolicy,mutatingadmissionpolicybindings MutatingAdmissionPolicyBinding",
    ),
    ("monitoring.coreos.com/v1", "podmonitors PodMonitor,prometheusrules PrometheusRule"),
];

/// Version, resource and kind of each of them.
fn kinds() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    KINDS.iter().flat_map(|(version, kinds)| {
        kinds.split(',').map(move |kind| {
            let (resource, kind) = kind.split_once(' ').unwrap();
            (*version, resource, kind)
        })
    })
}

fn is_namespaced(kind: &str) -> bool {
    !(kind == "Namespace" || kind.starts_with("Cluster") || kind.starts_with("Mutating"))
}

/// Makes the API server list its kinds.
fn discovery(api: &Api) {
    let mut listed = Vec::new();
    for (version, _) in KINDS {
        let of_it = kinds().filter(|(other, ..)| other == version);
        let resources: Vec<Value> = of_it
            .map(|(_, name, kind)| {
                let verbs = ["create", "delete", "get", "list"];
                json!({"name": name, "singularName": "", "namespaced": is_namespaced(kind), "kind": kind, "verbs": verbs})
            })
            .collect();
        let list =
            json!({"kind": "APIResourceList", "groupVersion": version, "resources": resources});
        match version.split_once('/') {
            None => api.set("/api/v1", list),
            Some((group, short)) => {
                api.set(&format!("/apis/{version}"), list);
                let one = json!({"groupVersion": version, "version": short});
                listed.push(json!({"name": group, "versions": [one], "preferredVersion": one}));
            }
        }
    }
    api.set("/api", json!({"kind": "APIVersions", "versions": ["v1"]}));
    api.set("/apis", json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}));
}

/// An API server with these objects, and the script with a kubectl that reads them and records
/// changes.
struct Cluster {
    stand: Stand,
    objects: BTreeSet<String>,
    _api: Api,
}

impl Cluster {
    fn with(manifests: &[&str]) -> Cluster {
        let api = Api::start(shell::root().join("health/tests/data/answers"));
        api.open(true);
        discovery(&api);
        api.set("/readyz", json!({}));
        let mut lists: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        for (version, resource, _) in kinds() {
            lists.insert(place(version, resource, None), BTreeMap::new());
        }
        for object in manifests.iter().flat_map(|text| parsed(text)) {
            let kind = object["kind"].as_str().unwrap();
            let (version, resource, _) = kinds().find(|(.., other)| *other == kind).expect(kind);
            let name = object["metadata"]["name"].as_str().unwrap();
            api.set(
                &format!(
                    "{}/{name}",
                    place(version, resource, object["metadata"]["namespace"].as_str())
                ),
                object.clone(),
            );
            lists
                .get_mut(&place(version, resource, None))
                .unwrap()
                .insert(name_of(&object), object);
        }
        for (path, items) in lists {
            let items: Vec<Value> = items.into_values().collect();
            api.set(
                &path,
                json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}),
            );
        }
        let stand = Stand::new();
        let real = real("kubectl").unwrap();
        let body = format!(
            "case \"$*\" in kustomize*) exec '{0}' \"$@\" ;; \
            *' get '* | *api-versions) exec '{0}' --server {1} --cache-dir '{2}' \"$@\" ;; esac",
            real.display(),
            api.url(),
            stand.path("cache").display(),
        );
        stand.tool("kubectl", &body);
        let objects = manifests.iter().flat_map(|text| names_in(text)).collect();
        Cluster { stand, objects, _api: api }
    }

    fn deploy(&self, words: &str) -> Ended {
        self.stand.deploy(words)
    }

    fn objects(&self) -> BTreeSet<String> {
        self.objects.clone()
    }

    /// The deleted objects by namespace, kind and name.
    fn deleted(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for line in self.stand.asked().iter().filter(|line| line.contains(" delete ")) {
            let words: Vec<&str> = line.split(' ').collect();
            if line.contains(" delete namespace ") {
                found.insert(format!("- Namespace/{}", words[3]));
                continue;
            }
            let namespace = if words[1] == "--namespace" { words[2] } else { "-" };
            for (kind, name) in words.iter().filter_map(|word| word.split_once('/')) {
                let kind = kind.split('.').next().unwrap();
                assert_eq!(is_namespaced(kind), namespace != "-", "{line}");
                assert!(found.insert(format!("{namespace} {kind}/{name}")), "twice: {kind}/{name}");
            }
        }
        found
    }
}

fn place(version: &str, resource: &str, namespace: Option<&str>) -> String {
    let root = if version == "v1" { "/api" } else { "/apis" };
    let within = namespace.map(|name| format!("namespaces/{name}/")).unwrap_or_default();
    format!("{root}/{version}/{within}{resource}")
}

fn parsed(manifests: &str) -> Vec<Value> {
    let documents = yaml_serde::Deserializer::from_str(manifests);
    documents
        .map(|one| serde_json::to_value(yaml_serde::Value::deserialize(one).unwrap()).unwrap())
        .collect()
}

fn name_of(object: &Value) -> String {
    let text =
        |place: &str| object.pointer(place).and_then(Value::as_str).unwrap_or("-").to_string();
    format!("{} {}/{}", text("/metadata/namespace"), text("/kind"), text("/metadata/name"))
}

fn names_in(manifests: &str) -> BTreeSet<String> {
    parsed(manifests).iter().map(name_of).collect()
}

#[test]
fn status_lists_nodes_without_lock_or_image() {
    let Some(stand) = Stand::with_kubectl("") else { return };
    let api = cluster();
    let kubectl = format!(
        "{} --server {} --cache-dir {}",
        real("kubectl").unwrap().display(),
        api.url(),
        stand.path("cache").display()
    );
    let status = || run(stand.command().args(["status", "--kubectl", &kubectl]));
    let bad = status().with(1);
    let expected = "node-b: no image psl-init\nnode-c: lock not ready (ImagePullBackOff), no image psl-lock, no image psl-init\nnode-d: lock not ready (CrashLoopBackOff)\nnode.b: no lock, no image psl-lock, no image psl-init\n";
    assert_eq!(bad.stdout, expected, "{}", bad.stderr);
    assert!(bad.stderr.contains(
        "deploy.sh: node-c: image localhost/psl-lock:0.2.0 is missing (ImagePullBackOff)"
    ));
    let crashed = r#"node-d: pod lock-node-d: CrashLoopBackOff: "one line\nanother line""#;
    assert!(bad.stderr.contains(crashed), "{}", bad.stderr);
    assert!(bad.stderr.contains("4 of 6 nodes lack a ready lock or an image"), "{}", bad.stderr);

    let nodes = json!([node("node-a", &["lock", "init"]), full_node("node-e")]);
    api.set("/api/v1/nodes", list("NodeList", nodes));
    assert_eq!(
        status().ok(),
        "all 2 nodes have a ready lock, and the images as far as they report them\n"
    );

    // Nodes without DaemonSets.
    let virtual_nodes = [
        ("eks.amazonaws.com/compute-type", "fargate"),
        ("type", "virtual-kubelet"),
        ("node.kubernetes.io/instance-type", "eklet"),
    ];
    let virtual_nodes = virtual_nodes.map(|(key, value)| {
        let mut node = node(&value[..5], &[]);
        node["metadata"]["labels"][key] = json!(value);
        node
    });
    let mut nodes = virtual_nodes.to_vec();
    nodes.push(node("node-a", &["lock", "init"]));
    api.set("/api/v1/nodes", list("NodeList", json!(nodes)));
    assert_eq!(
        status().ok(),
        "all 1 nodes have a ready lock, and the images as far as they report them\n"
    );

    api.set("/api/v1/nodes", list("NodeList", json!([])));
    assert!(status().with(1).stderr.contains("the cluster has no Linux node"));
}

/// A node reports its images up to a minute late, and pulls images of a registry on demand. While
/// its lock runs, neither means a missing image.
#[test]
fn status_knows_what_a_node_does_not_tell() {
    let answers = |image: &str, images: &str| {
        format!(
            "*'get nodes'*) printf '%s\\n' 'node-a 2 {images}' 'node-b 50 registry.example/a:1' ;; *'get pods'*) printf '%s\\n' \
            'node-a lock-a true - {image} -' 'node-b lock-b true - {image} -' ;;"
        )
    };
    let local = "localhost/psl-lock:0.2.0";
    let cases = [
        (
            "right after load",
            local,
            "registry.example/pause:3",
            0,
            "node-a: psl-init unknown: the node's list of images is older than its lock",
        ),
        ("told of init alone", local, "registry.example/pause:3 localhost/psl-init:0.2.0", 0, ""),
        (
            "told of lock alone",
            local,
            "registry.example/pause:3 localhost/psl-lock:0.2.0",
            1,
            "1 of 2 nodes lack",
        ),
        (
            "from a registry",
            "registry.example:5000/psl-lock:1",
            "registry.example:5000/psl-lock:1",
            0,
            "",
        ),
        ("from a registry here", "localhost:5000/psl-lock:1", "localhost:5000/psl-lock:1", 0, ""),
        ("by a digest", "registry.example/psl-lock@sha256:12", "registry.example/pause:3", 0, ""),
    ];
    for (case, image, images, code, why) in cases {
        let Some(stand) = Stand::with_kubectl(&answers(image, images)) else { return };
        let ended = stand.deploy("status").with(code);
        assert!(
            ended.stderr.contains(why) && (why.is_empty() == ended.stderr.is_empty()),
            "{case}: {}",
            ended.stderr
        );
    }
    // Without a running lock only the list counts.
    let waits = "*'get nodes'*) echo node-a 1 a:1 ;; *'get pods'*) echo node-a lock-a false ErrImageNeverPull localhost/psl-lock:0.2.0 - ;;";
    let Some(stand) = Stand::with_kubectl(waits) else { return };
    let ended = stand.deploy("status").with(1);
    let expected =
        "node-a: lock not ready (ErrImageNeverPull), no image psl-lock, no image psl-init\n";
    assert_eq!(ended.stdout, expected, "{}", ended.stderr);
}

/// Nodes of an API server, and the locks on them.
fn cluster() -> Api {
    let api = Api::start(shell::root().join("health/tests/data/answers"));
    api.open(true);
    let resource = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]});
    let resources = json!([resource("nodes", "Node", false), resource("pods", "Pod", true)]);
    api.set("/api", json!({"kind": "APIVersions", "versions": ["v1"]}));
    api.set("/apis", json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}));
    api.set(
        "/api/v1",
        json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": resources}),
    );
    api.set("/readyz", json!({}));
    let windows = json!({"metadata": {"name": "w", "labels": {"kubernetes.io/os": "windows"}}, "status": {"images": []}});
    let nodes = json!([
        node("node-a", &["lock", "init"]),
        node("node-b", &["lock"]),
        node("node-c", &[]),
        node("node-d", &["lock", "init", "health"]),
        full_node("node-e"),
        // A name that would match another as a pattern, of a node that reports no images.
        json!({"metadata": {"name": "node.b", "labels": {"kubernetes.io/os": "linux"}}, "status": {}}),
        windows,
    ]);
    api.set("/api/v1/nodes", list("NodeList", nodes));
    let waiting = json!({"ready": false, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}});
    let running =
        json!({"ready": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}});
    let crashing = json!({
        "ready": false,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}},
        "lastState": {"terminated": {"reason": "Error", "message": "one line\nanother line"}},
    });
    let pods = [
        ("node-a", &waiting),
        ("node-a", &running),
        ("node-b", &running),
        ("node-c", &waiting),
        ("node-d", &crashing),
        ("node-e", &running),
    ];
    let pods = pods.map(|(node, container)| {
        json!({
            "metadata": {
                "name": format!("lock-{node}"), "namespace": "pod-startup-lock",
                "labels": {"app.kubernetes.io/name": "lock", "app.kubernetes.io/part-of": "pod-startup-lock"},
            },
            "spec": {"nodeName": node, "containers": [{"image": "localhost/psl-lock:0.2.0"}]}, "status": {"containerStatuses": [container]},
        })
    });
    api.set("/api/v1/pods", list("PodList", json!(pods)));
    api
}

fn list(kind: &str, items: Value) -> Value {
    json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})
}

fn node(name: &str, programs: &[&str]) -> Value {
    let images =
        programs.iter().map(|program| json!({"names": [format!("localhost/psl-{program}:0.2.0")]}));
    let images: Vec<Value> =
        images.chain([json!({"names": ["registry.example/pause:3"]})]).collect();
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}}, "status": {"images": images}})
}

/// A node with more images than it reports.
fn full_node(name: &str) -> Value {
    let mut node = node(name, &[]);
    let images = (0..50).map(|number| json!({"names": [format!("registry.example/{number}:1")]}));
    node["status"]["images"] = images.collect();
    node
}

// ---- load and push ----

/// The images of a minikube that has loaded all archives.
const MINIKUBE_LISTS: &str = "*'image ls') printf 'localhost/psl-%s:0.2.0\\n' lock init health ;;";

#[test]
fn load_brings_and_pins_the_archives_with_what_is_there() {
    let cases: [(&str, &str, &[&str]); 5] = [
        ("docker", "", &["docker load --input ARCHIVE"]),
        (
            "ctr",
            "",
            &[
                "ctr --namespace k8s.io images import ARCHIVE",
                "ctr --namespace k8s.io images label NAME io.cri-containerd.pinned=pinned",
            ],
        ),
        (
            "k3s",
            "",
            &[
                "k3s ctr --namespace k8s.io images import ARCHIVE",
                "k3s ctr --namespace k8s.io images label NAME io.cri-containerd.pinned=pinned",
            ],
        ),
        (
            "kind",
            " --cluster dev",
            &[
                "kind load image-archive ARCHIVE --name dev",
                "docker exec dev-worker ctr --namespace k8s.io images label NAME io.cri-containerd.pinned=pinned",
            ],
        ),
        (
            "minikube",
            " --cluster dev",
            &["minikube --profile dev image load ARCHIVE", "minikube --profile dev image ls"],
        ),
    ];
    let Some(stand) = Stand::with_archives() else { return };
    for (tool, more, expected) in cases {
        stand.forget();
        for present in ["docker", tool] {
            stand.tool(
                present,
                &format!("case $* in 'get nodes'*) echo dev-worker ;; {MINIKUBE_LISTS} esac"),
            );
        }
        let words = if tool == "docker" {
            "load --arch amd64".to_string()
        } else {
            format!("load --arch amd64 --with {tool}{more}")
        };
        let ended = stand.deploy(&words).with(0);
        let expected: Vec<String> = PROGRAMS
            .iter()
            .flat_map(|program| {
                expected.iter().map(move |line| {
                    line.replace("ARCHIVE", &format!("dist/images/psl-{program}-amd64.tar"))
                        .replace("NAME", &format!("localhost/psl-{program}:0.2.0"))
                })
            })
            .collect();
        let mut asked = stand.asked();
        if tool == "kind" {
            assert_eq!(asked.remove(0), "kind get nodes --name dev", "first of all");
        }
        assert_eq!(asked, expected, "{tool}");
        let warned = ended.stderr.contains("cannot pin images");
        assert_eq!(warned, ["docker", "minikube"].contains(&tool), "{tool}: {}", ended.stderr);
    }
}

/// For each step that fails, and for each archive.
#[test]
fn load_fails_where_a_step_fails() {
    let Some(stand) = Stand::with_archives() else { return };
    let nodes = "'get nodes'*) echo dev-worker ;;";
    let cases = [
        ("docker", "*psl-lock*) exit 1 ;;", "docker failed to load dist/images/psl-lock-amd64.tar"),
        (
            "minikube",
            "*psl-init*) exit 1 ;;",
            "minikube failed to load dist/images/psl-init-amd64.tar",
        ),
        // It reports success, and has two of the three images.
        (
            "minikube",
            "*'image ls') printf '%s\\n' localhost/psl-lock:0.2.0 localhost/psl-health:0.2.0 ;;",
            "minikube failed to load dist/images/psl-init-amd64.tar",
        ),
        (
            "ctr",
            "*import*psl-lock*) exit 1 ;;",
            "ctr failed to load dist/images/psl-lock-amd64.tar",
        ),
        ("ctr", "*label*psl-lock*) exit 1 ;;", "ctr failed to load dist/images/psl-lock-amd64.tar"),
        (
            "k3s",
            "*import*psl-health*) exit 1 ;;",
            "k3s failed to load dist/images/psl-health-amd64.tar",
        ),
        (
            "kind",
            "'load'*psl-lock*) exit 1 ;;",
            "kind failed to load dist/images/psl-lock-amd64.tar",
        ),
        ("kind", "'get nodes'*) exit 1 ;;", "kind has no nodes in cluster kind"),
        ("kind", "'get nodes'*) ;;", "kind has no nodes in cluster kind"),
    ];
    for (tool, case, why) in cases {
        stand.forget();
        stand.tool("docker", "exit 0");
        stand.tool(tool, &format!("case $* in {case} {nodes} {MINIKUBE_LISTS} esac"));
        let ended = stand.deploy(&format!("load --arch amd64 --with {tool}")).with(1);
        assert!(
            ended.stderr.contains(why) && ended.stderr.lines().count() == 1,
            "{case}: {}",
            ended.stderr
        );
    }
    stand.forget();
    stand.tool("docker", "exit 1");
    stand.tool("kind", &format!("case $* in {nodes} esac"));
    let ended = stand.deploy("load --arch amd64 --with kind").with(1);
    assert!(
        ended.stderr.contains("kind failed to load dist/images/psl-lock-amd64.tar"),
        "the pin: {}",
        ended.stderr
    );
}

#[test]
fn load_over_ssh_asks_each_node_before_it_gives_any_of_them_anything() {
    let Some(stand) = Stand::with_archives() else { return };
    let node = "case \"$*\" in \
        *node-c*) exit 255 ;; \
        *'node-a uname'*) printf 'x86_64\\nctr\\n' ;; \
        *'node-d uname'*) printf 'x86_64\\nctr\\ndocker\\n' ;; \
        *'node-b uname'*) printf 'aarch64\\ndocker\\n' ;; \
        *) wc -c >>\"$RECORD.bytes\" ;; esac";
    stand.tool("ssh", node);
    let nodes = |nodes: &str| {
        run(stand.command().args(["load", "--ssh", "ssh -l admin", "--sudo", "--nodes", nodes]))
    };
    let ended = nodes("node-a node-b node-c").with(1);
    assert!(
        ended.stderr.contains("node-c: cannot connect with 'ssh -l admin'"),
        "{}",
        ended.stderr
    );
    let ended = nodes("node-a node-d").with(1);
    assert!(
        ended
            .stderr
            .contains("node-d has both docker and ctr; choose the one of its kubelet with --with"),
        "{}",
        ended.stderr
    );
    assert_eq!(stand.asked().iter().filter(|line| !line.contains("uname")).count(), 0);

    stand.tool("ssh", &node.replace("*) wc", "*'node-a '*) exit 1 ;; *) wc"));
    let ended = nodes("node-a node-b").with(1);
    assert!(
        ended.stderr.contains("node-a failed to load dist/images/psl-lock-amd64.tar"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("node-b: loaded with docker"), "{}", ended.stderr);
    assert!(
        ended.stderr.trim_end().ends_with("run load again with --nodes \"node-a\""),
        "{}",
        ended.stderr
    );
    assert_eq!(stand.read("record.bytes").lines().count(), 3, "the other node has its archives");
    fs::remove_file(stand.path("record.bytes")).unwrap();

    stand.forget();
    stand.tool("ssh", node);
    nodes("node-a node-b").with(0);
    let given: Vec<String> =
        stand.asked().into_iter().filter(|line| !line.contains("uname")).collect();
    let mut expected = Vec::new();
    for program in PROGRAMS {
        expected.push(format!(
            "ssh -l admin node-a sudo ctr --namespace k8s.io images import - && sudo ctr --namespace k8s.io images label localhost/psl-{program}:0.2.0 io.cri-containerd.pinned=pinned"
        ));
    }
    expected.extend(["ssh -l admin node-b sudo docker load"; 3].map(str::to_string));
    assert_eq!(given, expected);
    let bytes = stand.read("record.bytes");
    assert_eq!(bytes.lines().count(), 6, "each got an archive: {bytes}");
    assert!(bytes.lines().all(|line| line.trim().parse::<u64>().unwrap() > 100_000), "{bytes}");
}

#[test]
fn archives_that_are_missing_or_carry_another_tag_are_a_mistake() {
    let stand = Stand::new();
    stand.tool("docker", "exit 0");
    let ended = stand.deploy("load --arch amd64").with(1);
    assert!(
        ended.stderr.contains("psl-lock-amd64.tar is missing; run: scripts/build.sh --arch amd64"),
        "{}",
        ended.stderr
    );
    let Some(stand) = Stand::with_archives() else { return };
    stand.tool("docker", "exit 0");
    let ended = stand.deploy("load --arch amd64 --tag 9").with(1);
    assert!(
        ended.stderr.contains("does not have the tag 9; run: scripts/image.sh --tag 9"),
        "{}",
        ended.stderr
    );
    assert!(stand.asked().is_empty());
}

#[test]
fn push_takes_the_tool_that_is_there_and_never_a_password() {
    let lines = |program: &str, tool: &str| {
        let from = format!("dist/images/psl-{program}-amd64.tar");
        let to = format!("registry.example:5000/tools/psl-{program}:0.2.0");
        match tool {
            "skopeo" => vec![format!("skopeo copy oci-archive:{from} docker://{to}")],
            "crane" => vec![format!("crane push {from} {to}")],
            _ => vec![
                format!("{tool} load --input {from}"),
                format!("{tool} tag localhost/psl-{program}:0.2.0 {to}"),
                format!("{tool} push {to}"),
            ],
        }
    };
    let Some(stand) = Stand::with_archives() else { return };
    for tool in ["skopeo", "crane", "podman", "docker"] {
        stand.forget();
        stand.tool(tool, "exit 0");
        stand.deploy("push --registry registry.example:5000/tools --arch amd64").with(0);
        let expected: Vec<String> =
            PROGRAMS.iter().flat_map(|program| lines(program, tool)).collect();
        assert_eq!(stand.asked(), expected, "{tool}");

        stand.tool(tool, "echo unauthorized >&2; exit 1");
        let ended = stand.deploy("push --registry registry.example --arch amd64").with(1);
        assert!(ended.stderr.contains("to log in: "), "{}", ended.stderr);
    }
    stand.forget();
    let ended = stand.deploy("push --registry registry.example --arch amd64").with(1);
    assert!(
        ended.stderr.contains("no tool found; install one of: skopeo crane podman docker"),
        "{}",
        ended.stderr
    );
}

#[test]
fn both_architectures_go_under_one_name_where_the_index_was_made() {
    let Some(stand) = Stand::with_archives() else { return };
    run(stand.checkout.command("scripts/image.sh").arg("--index")).ok();
    stand.tool("skopeo", "exit 0");
    stand.deploy("push --registry registry.example").with(0);
    assert_eq!(
        stand.asked()[0],
        "skopeo copy --all oci-archive:dist/images/psl-lock.tar docker://registry.example/psl-lock:0.2.0"
    );

    stand.forget();
    stand.tool("skopeo", "exit 0");
    stand.deploy("push --registry registry.example --arch arm64").with(0);
    assert_eq!(
        stand.asked()[0],
        "skopeo copy oci-archive:dist/images/psl-lock-arm64.tar docker://registry.example/psl-lock:0.2.0",
        "the one that was asked for"
    );

    // Archives that are newer than the index: of another tag, and of another program.
    stand.forget();
    stand.tool("skopeo", "exit 0");
    run(stand.checkout.command("scripts/image.sh").args(["--tag", "7"])).ok();
    let ended = stand.deploy("push --registry registry.example --tag 7").with(1);
    assert!(
        ended.stderr.contains("psl-lock.tar does not join the two archives"),
        "{}",
        ended.stderr
    );
    fs::write(stand.path("dist/arm64/health"), "another one").unwrap();
    run(&mut stand.checkout.command("scripts/image.sh")).ok();
    let ended = stand.deploy("push --registry registry.example").with(1);
    assert!(
        ended.stderr.contains("psl-health.tar does not join the two archives"),
        "{}",
        ended.stderr
    );
    assert!(stand.asked().is_empty(), "{:?}", stand.asked());
}

#[test]
fn help_lists_every_option_and_no_comment_of_the_source() {
    let checkout = Checkout::new();
    let help = run(checkout.command("scripts/deploy.sh").arg("--help")).ok();
    assert!(help.ends_with("\nExit codes: 0 done, 1 failed, 2 bad arguments.\n"), "{help}");
    let script = fs::read_to_string(checkout.join("scripts/deploy.sh")).unwrap();
    let cases =
        script.lines().map(str::trim).filter(|line| line.starts_with("--") && line.contains(')'));
    let options: Vec<&str> = cases
        .map(|line| line.split(')').next().unwrap())
        .filter(|one| !one.contains('*'))
        .collect();
    assert!(options.len() > 15, "{options:?}");
    for option in options.iter().filter(|option| **option != "--help") {
        assert!(
            help.contains(&format!("  {option}")) || help.contains(&format!("\n{option}")),
            "no {option} in\n{help}"
        );
    }
}

/// The unit for nodes without a network, run as by systemd: one shell after the other, with `$$`
/// for `$`.
#[test]
fn a_node_imports_and_pins_its_archives_at_boot() {
    let stand = Stand::new();
    let archives = stand.path("archives");
    fs::create_dir(&archives).unwrap();
    let names = "psl-init-amd64 psl-init-arm64 psl-lock-amd64 psl-lock-arm64 psl-health other";
    for name in names.split(' ') {
        fs::write(archives.join(format!("{name}.tar")), "").unwrap();
    }
    let list = "case $* in *list*) printf '%s\\n' registry.example/pause:3 localhost/psl-lock:0.2.0 ;; esac";
    stand.tool("ctr", list);
    let unit =
        fs::read_to_string(shell::root().join("deploy/air-gapped/pod-startup-lock-images.service"))
            .unwrap();
    let commands: Vec<&str> =
        unit.lines().filter_map(|line| line.strip_prefix("ExecStart=/bin/sh -ec '")).collect();
    assert_eq!(commands.len(), 2);
    let archive = |name: &str| {
        format!("ctr --namespace k8s.io images import {}", archives.join(name).display())
    };
    let pinned = [
        "ctr --namespace k8s.io images list --quiet".to_string(),
        "ctr --namespace k8s.io images label localhost/psl-lock:0.2.0 io.cri-containerd.pinned=pinned".to_string(),
    ];
    // Both architectures have one name: a node loads its own archives, and those of both.
    for (machine, arch) in [("x86_64", "amd64"), ("aarch64", "arm64"), ("riscv64", "")] {
        stand.forget();
        stand.tool("ctr", list);
        stand.tool("uname", &format!("echo {machine}"));
        for command in &commands {
            let script = command.strip_suffix('\'').unwrap().replace("$$", "$");
            assert!(!script.contains('\''), "one quoted word: {script}");
            let script = script.replace("/var/lib/pod-startup-lock", archives.to_str().unwrap());
            let ended = run(stand.within(&mut Command::new("/bin/sh")).args(["-ec", &script]));
            if arch.is_empty() {
                assert!(ended.with(1).stderr.contains("no images for riscv64"), "{script}");
                break;
            }
            ended.ok();
        }
        let asked: Vec<String> =
            stand.asked().into_iter().filter(|line| !line.starts_with("uname")).collect();
        let imported =
            ["init", "lock"].map(|program| archive(&format!("psl-{program}-{arch}.tar")));
        let mut expected: Vec<String> =
            [archive("psl-health.tar")].into_iter().chain(imported).collect();
        expected.extend(pinned.clone());
        assert_eq!(asked, if arch.is_empty() { vec![] } else { expected }, "{machine}");
    }
    assert!(
        unit.lines().any(|line| line == "TimeoutStartSec=5min"),
        "a unit of this type has no limit of its own"
    );
}

// ---- commands that record their calls ----

/// kubectl's answers about a namespace that apply has made: its labels, the mark, its existence.
const MADE_BY_APPLY: &str = "*'get namespace'*) \
    printf '%s\\n' app.kubernetes.io/part-of=pod-startup-lock pod-startup-lock/made-by there ;;";

/// Objects that carry the label, one of them of a kind without namespaces.
const OBJECTS_OF_HEALTH: &str = "*'get clusterrolebindings'*) echo '- rbac.authorization.k8s.io/v1 ClusterRole \
    pod-startup-lock-health' ;; *'get daemonsets'*) echo 'shop apps/v1 DaemonSet health' ;;";

/// Four nodes with a lock that is ready, and one without.
const LOCKS_READY: &str = "*'get pods'*) for node in a b c d; do echo \"node-$node lock-$node true - IMAGE -\"; done; \
    echo 'node-x lock-x false - IMAGE -' ;; */proxy/state) echo '{\"version\":1}' ;;";

/// The tools that the script needs beside the stand-ins.
const TOOLS: &[&str] = &[
    "sh",
    "sed",
    "grep",
    "cat",
    "cp",
    "mv",
    "rm",
    "mkdir",
    "mktemp",
    "head",
    "tail",
    "awk",
    "tar",
    "uname",
    "sort",
    "wc",
    "dirname",
    "env",
    "date",
    "sha256sum",
    "gzip",
    "chmod",
    "touch",
    "basename",
];

/// A checkout whose scripts find only these commands.
struct Stand {
    checkout: Checkout,
}

impl Stand {
    fn new() -> Stand {
        Stand::of(Checkout::new())
    }

    fn of(checkout: Checkout) -> Stand {
        let stand = Stand { checkout };
        fs::create_dir(stand.path("bin")).unwrap();
        fs::create_dir(stand.path("tools")).unwrap();
        for tool in TOOLS {
            symlink(real(tool).expect(tool), stand.path("tools").join(tool)).unwrap();
        }
        stand
    }

    /// With a kubectl that renders as the real one, records its calls, keeps applied and patched
    /// objects, and answers with these cases of `case`.
    fn with_kubectl(cases: &str) -> Option<Stand> {
        let Some(kubectl) = real("kubectl") else {
            skip("there is no kubectl to render the manifests");
            return None;
        };
        let stand = Stand::new();
        let body = format!(
            "case \"$*\" in kustomize*) exec '{}' \"$@\" ;; {cases} esac\n\
             for last; do :; done; case \"$*\" in *' -f '* | *'-f '*) cp \"$last\" \"$(dirname \"$RECORD\")/applied\" ;; \
             *--patch-file*) cp \"$last\" \"$(dirname \"$RECORD\")/patched\" ;; esac",
            kubectl.display()
        );
        stand.tool("kubectl", &body);
        Some(stand)
    }

    /// With archives of both architectures; the programs for arm64 are copies of those for amd64,
    /// which do not run.
    fn with_archives() -> Option<Stand> {
        let stand = Stand::of(Checkout::with_programs()?);
        run(stand.checkout.command("cp").args(["-R", "dist/amd64", "dist/arm64"])).ok();
        run(&mut stand.checkout.command("scripts/image.sh")).ok();
        Some(stand)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.checkout.join(name)
    }

    /// A command of this name that records its call and then does this.
    fn tool(&self, name: &str, body: &str) {
        self.checkout.recorder(&format!("bin/{name}"), body);
    }

    fn command(&self) -> Command {
        let mut command = self.checkout.command("scripts/deploy.sh");
        self.within(&mut command);
        command
    }

    /// The command with only this environment.
    fn within<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = format!("{}:{}", self.path("bin").display(), self.path("tools").display());
        command
            .env_clear()
            .env("PATH", path)
            .env("RECORD", self.path("record"))
            .env("HOME", self.checkout.path())
    }

    fn deploy(&self, words: &str) -> Ended {
        run(self.command().args(words.split_whitespace()))
    }

    /// The calls in order, with a word each for the names that differ from run to run.
    fn asked(&self) -> Vec<String> {
        let record = fs::read_to_string(self.path("record")).unwrap_or_default();
        record
            .lines()
            .map(|line| {
                let words = line.split(' ').map(|word| match word {
                    _ if word.contains("/dist/images/") => {
                        let place =
                            if word.starts_with("oci-archive:") { "oci-archive:" } else { "" };
                        format!("{place}dist/images/{}", word.rsplit('/').next().unwrap())
                    }
                    _ if word.contains("/deploy/") => {
                        format!("DEPLOY/{}", word.rsplit('/').next().unwrap())
                    }
                    _ if word.starts_with('/') && word.ends_with(".yaml") => {
                        "MANIFESTS".to_string()
                    }
                    _ => word.to_string(),
                });
                let words = words.filter(|word| !word.starts_with("--request-timeout="));
                let line = words.collect::<Vec<_>>().join(" ");
                // The tests with the real kubectl cover selectors and templates.
                line.split(" --selector")
                    .next()
                    .unwrap()
                    .split(" --output")
                    .next()
                    .unwrap()
                    .to_string()
            })
            .collect()
    }

    /// Removes the record, and every stand-in but kubectl.
    fn forget(&self) {
        // Without a call the file does not exist.
        let _ = fs::remove_file(self.path("record"));
        for command in fs::read_dir(self.path("bin")).unwrap().map(|entry| entry.unwrap().path()) {
            if !command.ends_with("kubectl") {
                fs::remove_file(command).unwrap();
            }
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

/// The path of the real command of this name.
fn real(name: &str) -> Option<PathBuf> {
    let found = run(Command::new("sh").args(["-c", &format!("command -v {name}")]));
    (found.code == Some(0) && (name != "kubectl" || answers("kubectl", &["version", "--client"])))
        .then(|| PathBuf::from(found.stdout.trim()))
}
