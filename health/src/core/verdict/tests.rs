use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::core::boot::{BootCheck, BootCheckMode, Machine};
use crate::core::daemonset::DaemonSet;
use crate::core::eligibility::{Labels, NodeTraits, Placement, Taint, TaintEffect};
use crate::core::filter::{Filter, Label};
use crate::core::pod::{Gate, Phase};
use crate::core::view::{Criteria, View};

fn labels(text: &str) -> Labels {
    text.split_whitespace()
        .filter_map(|item| item.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn label(text: &str) -> Label {
    let (key, value) = text.split_once('=').expect("key=value");
    Label { key: key.to_owned(), value: value.to_owned() }
}

fn set(name: &str) -> DaemonSet {
    DaemonSet {
        namespace: "ns".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        ..DaemonSet::default()
    }
}

fn selecting(selector: &str) -> DaemonSet {
    DaemonSet {
        placement: Placement { selector: labels(selector), ..Placement::default() },
        ..set("a")
    }
}

fn owner(namespace: &str, of: &str) -> Arc<DaemonSetId> {
    Arc::new(DaemonSetId::new(namespace, of, &format!("uid-{of}")))
}

fn pod(of: &str, name: &str) -> Pod {
    Pod {
        uid: name.into(),
        name: name.into(),
        owner: owner("ns", of),
        phase: Phase::Running,
        is_ready: true,
        ..Pod::default()
    }
}

fn machine() -> Machine {
    Machine { boot_id: "this".to_owned(), uptime: Duration::from_secs(20), wall: 1_000_000_020 }
}

fn boot(mode: BootCheckMode) -> BootCheck {
    BootCheck::new(mode, Duration::from_secs(300), &machine())
}

fn node_with(labels: &Labels) -> Node {
    let traits = NodeTraits { labels: labels.clone(), ..NodeTraits::default() };
    Node { traits: Arc::new(traits), is_ready: true, boot_id: "this".into(), ..Node::default() }
}

fn judge(filter: &Filter, node: &Labels, sets: &[DaemonSet], pods: &[Pod]) -> Verdict {
    let rules = Criteria { filter: Some(filter.clone()), ..Criteria::default() };
    let mut view = View::new(rules, boot(BootCheckMode::Off));
    view.set_daemonsets(sets.iter().cloned());
    view.set_pods(pods.iter().cloned());
    assert_eq!(view.judge(&machine()), None, "without the node nothing can be judged");
    view.set_node(node_with(node));
    view.judge(&machine()).expect("all is known")
}

/// The verdict on one DaemonSet `a` on a node labelled `disk=ssd`.
fn alone(set: DaemonSet, filter: &Filter, pods: &[Pod]) -> String {
    let verdict = judge(filter, &labels("disk=ssd"), &[set], pods);
    let judged = &verdict.daemonsets[0];
    assert_eq!(verdict.is_healthy(), !judged.standing.is_waiting());
    assert_eq!(verdict.waiting().len(), usize::from(!verdict.is_healthy()));
    format!("{} {judged}", judged.standing.name())
}

#[test]
fn the_nearest_pod_decides() {
    let is = |change: fn(&mut Pod)| {
        let mut pod = pod("a", "a-1");
        change(&mut pod);
        pod
    };
    let ready = || is(|_| ());
    let not_ready = || is(|p| p.is_ready = false);
    let pending = || is(|p| (p.phase, p.is_ready) = (Phase::Pending, false));
    let failed = || is(|p| (p.phase, p.is_ready) = (Phase::Failed, false));
    let going = || is(|p| p.is_being_deleted = true);
    let named = |mut pod: Pod, name: &str| {
        (pod.name, pod.uid) = (name.into(), name.into());
        pod
    };
    for (case, pods, expected) in [
        ("none", vec![], "waiting ns/a: no pod on this node yet"),
        ("ready", vec![ready()], "ready ns/a: pod a-1 is ready"),
        ("not ready", vec![not_ready()], "waiting ns/a: pod a-1 is Running, but not ready"),
        ("pending", vec![pending()], "waiting ns/a: pod a-1 is Pending"),
        ("failed", vec![failed()], "waiting ns/a: pod a-1 is Failed"),
        (
            "succeeded",
            vec![is(|p| p.phase = Phase::Succeeded)],
            "waiting ns/a: pod a-1 is Succeeded",
        ),
        ("no phase", vec![is(|p| p.phase = Phase::None)], "waiting ns/a: pod a-1 has no phase yet"),
        (
            "ready but pending",
            vec![is(|p| p.phase = Phase::Pending)],
            "waiting ns/a: pod a-1 is Pending",
        ),
        ("being deleted", vec![going()], "waiting ns/a: pod a-1 is being deleted"),
        (
            "another's",
            vec![is(|p| p.owner = Arc::new(DaemonSetId::new("ns", "a", "uid-b")))],
            "waiting ns/a: no pod on this node yet",
        ),
        (
            "of another namespace",
            vec![is(|p| p.owner = owner("other", "a"))],
            "waiting ns/a: no pod on this node yet",
        ),
        ("rolled over", vec![going(), named(ready(), "a-2")], "ready ns/a: pod a-2 is ready"),
        (
            "being rolled over",
            vec![going(), named(pending(), "a-2")],
            "waiting ns/a: pod a-2 is Pending",
        ),
        (
            "failed and made anew",
            vec![failed(), named(pending(), "a-2")],
            "waiting ns/a: pod a-2 is Pending",
        ),
        ("surging", vec![named(not_ready(), "a-0"), ready()], "ready ns/a: pod a-1 is ready"),
        (
            "two alike",
            vec![named(pending(), "a-3"), named(pending(), "a-2")],
            "waiting ns/a: pod a-2 is Pending",
        ),
        (
            "two ready",
            vec![named(ready(), "a-3"), named(ready(), "a-2")],
            "ready ns/a: pod a-2 is ready",
        ),
    ] {
        assert_eq!(alone(set("a"), &Filter::default(), &pods), expected, "{case}");
        let reversed: Vec<_> = pods.into_iter().rev().collect();
        assert_eq!(
            alone(set("a"), &Filter::default(), &reversed),
            expected,
            "{case}, the other way round"
        );
    }
}

/// Like the controller (`shouldContinueRunning`): an existing pod stays if only a taint
/// `NoSchedule` excludes the node, and no pod replaces it when it ends.
#[test]
fn a_taint_that_is_newer_than_the_pod() {
    let taint = |key: &str, effect| Taint { key: key.into(), value: "".into(), effect };
    let (late, out) =
        (taint("late", TaintEffect::NoSchedule), taint("out", TaintEffect::NoExecute));
    let cordoned = taint("node.kubernetes.io/unschedulable", TaintEffect::NoSchedule);
    let lost = taint("node.kubernetes.io/unreachable", TaintEffect::NoExecute);
    let not_ready = taint("node.kubernetes.io/not-ready", TaintEffect::NoSchedule);
    let with = |change: fn(&mut Pod)| {
        let mut pod = pod("a", "a-1");
        change(&mut pod);
        vec![pod]
    };
    let (ready, unready) = (with(|_| ()), with(|p| p.is_ready = false));
    let pending = with(|p| (p.phase, p.is_ready) = (Phase::Pending, false));
    let (waits, is_ready) =
        ("waiting ns/a: pod a-1 is Running, but not ready", "ready ns/a: pod a-1 is ready");
    let late_keeps_away = "not-here ns/a: untolerated taint late:NoSchedule";
    let out_drives_away = "not-here ns/a: untolerated taint out:NoExecute";
    let elsewhere = DaemonSet {
        placement: Placement { node_name: "b".into(), ..Placement::default() },
        ..set("a")
    };
    let gated = DaemonSet { has_gate: true, ..set("a") };
    for (case, set, taints, pods, expected) in [
        ("no pod", set("a"), vec![&late], vec![], late_keeps_away),
        ("ready", set("a"), vec![&late], ready.clone(), is_ready),
        ("not ready", set("a"), vec![&late], unready.clone(), waits),
        ("pending", set("a"), vec![&late], pending, "waiting ns/a: pod a-1 is Pending"),
        (
            "being deleted",
            set("a"),
            vec![&late],
            with(|p| p.is_being_deleted = true),
            late_keeps_away,
        ),
        ("failed", set("a"), vec![&late], with(|p| p.phase = Phase::Failed), late_keeps_away),
        ("succeeded", set("a"), vec![&late], with(|p| p.phase = Phase::Succeeded), late_keeps_away),
        (
            "in no phase",
            set("a"),
            vec![&late],
            with(|p| p.phase = Phase::None),
            "waiting ns/a: pod a-1 has no phase yet",
        ),
        (
            "unknown",
            set("a"),
            vec![&late],
            with(|p| p.phase = Phase::Unknown),
            "waiting ns/a: pod a-1 is in an unknown phase",
        ),
        (
            "of another UID",
            set("a"),
            vec![&late],
            with(|p| p.owner = Arc::new(DaemonSetId::new("ns", "a", "b"))),
            late_keeps_away,
        ),
        ("driven away", set("a"), vec![&out], unready.clone(), out_drives_away),
        ("both", set("a"), vec![&late, &out], unready.clone(), out_drives_away),
        ("cordoned", set("a"), vec![&cordoned], unready.clone(), waits),
        (
            "cordoned, and its pod has not come",
            set("a"),
            vec![&cordoned],
            vec![],
            "waiting ns/a: no pod on this node yet",
        ),
        ("unreachable", set("a"), vec![&lost], unready.clone(), waits),
        ("not ready", set("a"), vec![&not_ready, &lost], unready.clone(), waits),
        ("of another node", elsewhere, vec![&late], ready, "not-here ns/a: nodeName is b"),
        (
            "other labels",
            selecting("disk=ssd"),
            vec![],
            unready.clone(),
            "not-here ns/a: nodeSelector does not match: disk must be \"ssd\", node has no such label",
        ),
        (
            "at the gate",
            gated.clone(),
            vec![&late],
            with(|p| (p.phase, p.is_ready, p.gate) = (Phase::Pending, false, Gate::Ahead)),
            "excluded ns/a: pod a-1 waits for the lock",
        ),
        ("to come to the gate", gated, vec![&late], vec![], late_keeps_away),
    ] {
        let rules = Criteria { filter: Some(Filter::default()), ..Criteria::default() };
        let mut view = View::new(rules, boot(BootCheckMode::Off));
        view.set_daemonsets([set]);
        // In the second round the pod is known before the taint.
        for _ in 0..2 {
            view.set_node(node_with(&Labels::new()));
            view.set_pods(pods.iter().cloned());
            let taints = taints.iter().map(|taint| (*taint).clone()).collect();
            let traits = Arc::new(NodeTraits { taints, ..NodeTraits::default() });
            view.set_node(Node { traits, ..node_with(&Labels::new()) });
            let verdict = view.judge(&machine()).unwrap();
            let judged = &verdict.daemonsets[0];
            assert_eq!(format!("{} {judged}", judged.standing.name()), expected, "{case}");
        }
    }
}

#[test]
fn each_filter() {
    let none = Filter::default;
    let labelled = |text: &str| DaemonSet { labels: labels(text), ..set("a") };
    let including =
        |items: &[&str]| Filter { include: items.iter().map(|i| label(i)).collect(), ..none() };
    let excluding =
        |items: &[&str]| Filter { exclude: items.iter().map(|i| label(i)).collect(), ..none() };
    let waits = "waiting ns/a: no pod on this node yet";
    for (case, set, filter, expected) in [
        ("no filter", set("a"), none(), waits),
        ("its namespace", set("a"), Filter { namespace: Some("ns".into()), ..none() }, waits),
        (
            "another namespace",
            set("a"),
            Filter { namespace: Some("n".into()), ..none() },
            "excluded ns/a: not in the namespace of --namespace",
        ),
        (
            "not on the host network",
            set("a"),
            Filter { host_network: true, ..none() },
            "excluded ns/a: not on the host network (--hostNet)",
        ),
        (
            "on the host network",
            DaemonSet {
                placement: Placement { has_host_network: true, ..Placement::default() },
                ..set("a")
            },
            Filter { host_network: true, ..none() },
            waits,
        ),
        ("has all", labelled("a=1 b=2 c=3"), including(&["a=1", "b=2"]), waits),
        (
            "has one of two",
            labelled("a=1"),
            including(&["a=1", "b=2"]),
            "excluded ns/a: label b:2 is missing (--in)",
        ),
        (
            "has another value",
            labelled("a=2"),
            including(&["a=1"]),
            "excluded ns/a: label a:1 is missing (--in)",
        ),
        ("has an empty one", labelled("a="), including(&["a="]), waits),
        (
            "has none where empty is asked for",
            set("a"),
            including(&["a="]),
            "excluded ns/a: label a: is missing (--in)",
        ),
        (
            "has one of two excluded",
            labelled("b=2"),
            excluding(&["a=1", "b=2"]),
            "excluded ns/a: label b:2 is excluded (--ex)",
        ),
        ("has another value than excluded", labelled("a=2"), excluding(&["a=1"]), waits),
        ("has none of the excluded", set("a"), excluding(&["a=1"]), waits),
        (
            "annotated",
            DaemonSet { is_ignored: true, ..set("a") },
            none(),
            "excluded ns/a: annotation pod-startup-lock/ignore is true",
        ),
        (
            "being deleted",
            DaemonSet { is_being_deleted: true, ..set("a") },
            none(),
            "excluded ns/a: being deleted",
        ),
        (
            "wants other nodes",
            selecting("disk=hdd"),
            none(),
            "not-here ns/a: nodeSelector does not match: disk must be \"hdd\", node has \"ssd\"",
        ),
        (
            "excluded before it is looked at where",
            DaemonSet { is_ignored: true, ..selecting("disk=hdd") },
            none(),
            "excluded ns/a: annotation pod-startup-lock/ignore is true",
        ),
        ("wants this node", selecting("disk=ssd"), none(), waits),
    ] {
        assert_eq!(alone(set, &filter, &[]), expected, "{case}");
    }
}

#[test]
fn a_filter_names_the_keys_of_both_lists() {
    let filter =
        Filter { include: vec![label("a=1")], exclude: vec![label("b=")], ..Filter::default() };
    assert_eq!(
        ["a", "b", "c", "1", ""].map(|key| filter.names(key)),
        [true, true, false, false, false]
    );
    assert!(filter.names("app.kubernetes.io/part-of"), "by which it knows its own");
}

#[test]
fn waiting_daemonsets_come_first_in_a_fixed_order() {
    let elsewhere = DaemonSet { name: "b".into(), ..selecting("disk=ssd") };
    let sets =
        [set("z"), elsewhere, set("y"), DaemonSet { is_ignored: true, ..set("a") }, set("x")];
    let verdict = judge(&Filter::default(), &Labels::new(), &sets, &[pod("y", "y-1")]);
    let order: Vec<_> = verdict.daemonsets.iter().map(|judged| judged.id.name()).collect();
    assert_eq!(order, ["x", "z", "y", "b", "a"]);
    assert_eq!(verdict.counts, Counts { waiting: 2, ready: 1, not_here: 1, excluded: 1 });
    assert_eq!(verdict.waiting().len(), 2);
}

#[test]
fn a_daemonset_that_is_listed_twice_counts_once() {
    let verdict = judge(
        &Filter::default(),
        &Labels::new(),
        &[set("a"), set("b"), set("a")],
        &[pod("a", "a-1")],
    );
    assert_eq!(verdict.counts, Counts { waiting: 1, ready: 1, ..Counts::default() });
}

#[test]
fn a_node_without_daemonsets_is_healthy() {
    assert!(judge(&Filter::default(), &Labels::new(), &[], &[pod("a", "a-1")]).is_healthy());
}

#[test]
fn names_are_shown_on_one_line() {
    let odd = DaemonSet { namespace: "n\n".into(), name: "a\u{1b}[31m".into(), ..set("a") };
    let verdict = judge(
        &Filter::default(),
        &Labels::new(),
        &[odd],
        &[Pod { owner: owner("n\n", "a"), ..pod("a", "p\r") }],
    );
    assert_eq!(
        verdict.daemonsets[0].to_string(),
        "n\u{fffd}/a\u{fffd}[31m: pod p\u{fffd} is ready"
    );
}

#[test]
fn own_daemonsets_are_excluded() {
    let labelled = |text: &str| DaemonSet { labels: labels(text), ..set("a") };
    let in_ours = |name: &str| DaemonSet { namespace: "pod-startup-lock".into(), ..set(name) };
    let ours = "part of pod-startup-lock";
    for (case, set, expected) in [
        ("by the label", labelled("app.kubernetes.io/part-of=pod-startup-lock"), Some(ours)),
        ("another project", labelled("app.kubernetes.io/part-of=other"), None),
        ("lock", in_ours("lock"), Some(ours)),
        ("health", in_ours("health"), Some(ours)),
        ("another one in the namespace", in_ours("other"), None),
        ("another namespace", set("lock"), None),
    ] {
        let found = Filter::default().exclusion(&set).map(|why| why.to_string());
        assert_eq!(found.as_deref(), expected, "{case}");
    }
}

#[test]
fn daemonsets_that_wait_for_the_lock_are_excluded() {
    let gated = || DaemonSet { has_gate: true, ..set("a") };
    let with = |change: fn(&mut Pod)| {
        let mut pod = pod("a", "a-1");
        change(&mut pod);
        pod
    };
    let ahead = || with(|p| (p.phase, p.is_ready, p.gate) = (Phase::Pending, false, Gate::Ahead));
    let going =
        || with(|p| (p.is_being_deleted, p.uid, p.name) = (true, "a-0".into(), "a-0".into()));
    let to_come = "excluded ns/a: its pods wait for the lock, no pod on this node yet";
    let waits = "excluded ns/a: pod a-1 waits for the lock";
    for (case, set, pods, expected) in [
        ("in the template, no pod", gated(), vec![], to_come),
        ("in the pod alone", set("a"), vec![ahead()], waits),
        ("in both", gated(), vec![ahead()], waits),
        ("in the pod alone, no pod yet", set("a"), vec![], "waiting ns/a: no pod on this node yet"),
        (
            "passed",
            gated(),
            vec![with(|p| (p.gate, p.is_ready) = (Gate::Passed, false))],
            "waiting ns/a: pod a-1 is Running, but not ready",
        ),
        (
            "passed and ready",
            gated(),
            vec![with(|p| p.gate = Gate::Passed)],
            "ready ns/a: pod a-1 is ready",
        ),
        (
            "passed, other init containers run",
            gated(),
            vec![with(|p| (p.gate, p.phase, p.is_ready) = (Gate::Passed, Phase::Pending, false))],
            "waiting ns/a: pod a-1 is Pending",
        ),
        (
            "a pod from before the template had it",
            gated(),
            vec![with(|p| p.is_ready = false)],
            "waiting ns/a: pod a-1 is Running, but not ready",
        ),
        ("its pod is going", gated(), vec![going()], to_come),
        ("its pod has failed", gated(), vec![with(|p| p.phase = Phase::Failed)], to_come),
        ("one goes, the next one waits", gated(), vec![going(), ahead()], waits),
        (
            "the going one waited",
            set("a"),
            vec![with(|p| (p.is_being_deleted, p.gate) = (true, Gate::Ahead))],
            "waiting ns/a: pod a-1 is being deleted",
        ),
        (
            "surging",
            set("a"),
            vec![ahead(), Pod { uid: "a-2".into(), name: "a-2".into(), ..pod("a", "a-2") }],
            "ready ns/a: pod a-2 is ready",
        ),
    ] {
        assert_eq!(alone(set, &Filter::default(), &pods), expected, "{case}");
    }
}

#[test]
fn readiness_must_be_of_this_boot() {
    let judged = |check, node: Node, pod: Pod, at: Machine| {
        let rules = Criteria { filter: Some(Filter::default()), ..Criteria::default() };
        let mut view = View::new(rules, boot(check));
        view.set_daemonsets([set("a")]);
        view.set_pods([pod]);
        view.set_node(node);
        let verdict = view.judge(&at).unwrap();
        (verdict.is_healthy(), verdict.node_is_old, verdict.daemonsets[0].to_string())
    };
    let node = |boot_id: &str| Node { boot_id: boot_id.into(), ..node_with(&Labels::new()) };
    let started = |at: i64| Pod { created: Some(500), started: Some(at), ..pod("a", "a-1") };
    let (booted, later) = (
        1_000_000_000,
        Machine { uptime: Duration::from_secs(300), wall: 1_000_000_300, ..machine() },
    );
    let (ready, old) = ("ns/a: pod a-1 is ready", "ns/a: pod a-1 was ready before this boot");
    for (case, check, boot_id, start, at, expected) in [
        ("this boot", BootCheckMode::On, "this", booted + 5, machine(), (true, false, ready)),
        (
            "another boot's node",
            BootCheckMode::On,
            "other",
            booted + 5,
            machine(),
            (false, true, old),
        ),
        (
            "another boot's container",
            BootCheckMode::On,
            "this",
            booted - 60,
            machine(),
            (false, false, old),
        ),
        (
            "a clock that was not set",
            BootCheckMode::On,
            "this",
            30,
            machine(),
            (true, false, ready),
        ),
        ("after the grace", BootCheckMode::On, "other", booted - 60, later, (true, false, ready)),
        ("check off", BootCheckMode::Off, "other", booted - 60, machine(), (true, false, ready)),
        (
            "never the same",
            BootCheckMode::Auto,
            "other",
            booted - 60,
            machine(),
            (true, false, ready),
        ),
        ("the same", BootCheckMode::Auto, "this", booted - 60, machine(), (false, false, old)),
    ] {
        let (healthy, is_old, text) = judged(check, node(boot_id), started(start), at);
        assert_eq!((healthy, is_old, text.as_str()), expected, "{case}");
    }
}

#[test]
fn a_latch_outlasts_rollouts_but_not_bad_conditions() {
    for latch in [false, true] {
        let rules = Criteria { filter: Some(Filter::default()), conditions: true, latch };
        let mut view = View::new(rules, boot(BootCheckMode::Off));
        view.set_daemonsets([set("a")]);
        view.set_node(node_with(&Labels::new()));
        let with = |pods: &[Pod], view: &mut View| {
            view.set_pods(pods.iter().cloned());
            let verdict = view.judge(&machine()).unwrap();
            (verdict.is_healthy(), verdict.is_latched, verdict.counts.waiting)
        };
        assert_eq!(with(&[], &mut view), (false, false, 1), "it has not been healthy yet");
        assert_eq!(with(&[pod("a", "a-1")], &mut view), (true, latch, 0));
        assert_eq!(with(&[], &mut view), (latch, latch, 1));
        view.set_node(Node { is_ready: false, ..node_with(&Labels::new()) });
        assert_eq!(with(&[], &mut view), (false, latch, 1));
    }
}

#[test]
fn the_latch_closes_only_once_the_node_is_ready() {
    let not_ready = Taint {
        key: "node.kubernetes.io/not-ready".into(),
        value: "".into(),
        effect: TaintEffect::NoSchedule,
    };
    for conditions in [false, true] {
        let rules = Criteria { filter: Some(Filter::default()), conditions, latch: true };
        let mut view = View::new(rules, boot(BootCheckMode::On));
        view.set_daemonsets([set("a")]);
        view.set_pods([]);
        let mut with = |is_ready: bool, taints: &[&Taint], boot_id: &str| {
            let traits = NodeTraits {
                taints: taints.iter().map(|taint| (*taint).clone()).collect(),
                ..NodeTraits::default()
            };
            view.set_node(Node {
                traits: Arc::new(traits),
                is_ready,
                boot_id: boot_id.into(),
                ..Node::default()
            });
            let verdict = view.judge(&machine()).unwrap();
            (verdict.is_latched, verdict.counts.waiting)
        };
        assert_eq!(
            with(false, &[&not_ready], "this"),
            (false, 0),
            "its taint keeps the DaemonSet away"
        );
        assert_eq!(with(true, &[&not_ready], "this"), (false, 0), "Ready, and still tainted");
        assert_eq!(with(true, &[&not_ready], "other"), (false, 0), "of an earlier boot");
        assert_eq!(with(true, &[], "this"), (false, 1), "it has not come yet");
        view.set_pod(pod("a", "a-1"));
        assert!(view.judge(&machine()).unwrap().is_latched);
        view.pods.delete("a-1");
        assert!(view.judge(&machine()).unwrap().is_latched, "it stays");
    }
    let rules = Criteria { filter: Some(Filter::default()), conditions: false, latch: true };
    let mut view = View::new(rules, boot(BootCheckMode::Off));
    view.set_daemonsets([]);
    view.set_pods([]);
    view.set_node(Node { is_ready: false, ..node_with(&Labels::new()) });
    assert!(!view.judge(&machine()).unwrap().is_latched, "not Ready, without a taint");
    view.set_node(node_with(&Labels::new()));
    assert!(view.judge(&machine()).unwrap().is_latched);
}

#[test]
fn the_latch_holds_for_one_boot() {
    // Also without the boot check. health may run outside of the node and outlive a boot of it.
    let rules = Criteria { filter: Some(Filter::default()), conditions: true, latch: true };
    let mut view = View::new(rules, boot(BootCheckMode::Off));
    view.set_daemonsets([set("a")]);
    view.set_pods([]);
    view.set_pod(pod("a", "a-1"));
    let mut with = |boot_id: &str, has_pod: bool| {
        view.set_node(Node { boot_id: boot_id.into(), ..node_with(&Labels::new()) });
        view.pods.delete("a-1");
        if has_pod {
            view.set_pod(pod("a", "a-1"));
        }
        view.judge(&machine()).unwrap().is_latched
    };
    for (boot_id, has_pod, expected, case) in [
        ("one", true, true, "healthy"),
        ("one", false, true, "it stays"),
        ("", false, true, "nothing is said of a boot"),
        ("two", false, false, "another one"),
        ("two", true, true, "healthy again"),
        ("one", true, true, "in each for itself"),
        ("two", false, false, "and not in another one"),
    ] {
        assert_eq!(with(boot_id, has_pod), expected, "{case}");
    }
}

#[test]
fn problems_of_the_node() {
    let taint = |key: &str, effect| Taint { key: key.into(), value: "".into(), effect };
    let not_ready = "node.kubernetes.io/not-ready";
    for (case, is_ready, bad_conditions, taints, expected) in [
        ("none", true, vec![], vec![], vec![]),
        (
            "not ready",
            false,
            vec![],
            vec![taint(not_ready, TaintEffect::NoSchedule)],
            vec!["node is not Ready"],
        ),
        (
            "pressure",
            true,
            vec!["DiskPressure", "PIDPressure"],
            vec![],
            vec!["node has the condition DiskPressure", "node has the condition PIDPressure"],
        ),
        (
            "still tainted",
            true,
            vec![],
            vec![taint(not_ready, TaintEffect::NoSchedule)],
            vec!["node still has the taint node.kubernetes.io/not-ready:NoSchedule"],
        ),
        (
            "its network has come, and it is still tainted",
            true,
            vec![],
            vec![taint("node.kubernetes.io/network-unavailable", TaintEffect::NoSchedule)],
            vec!["node still has the taint node.kubernetes.io/network-unavailable:NoSchedule"],
        ),
        (
            "pressure keeps no DaemonSet away",
            true,
            vec![],
            vec![taint("node.kubernetes.io/disk-pressure", TaintEffect::NoSchedule)],
            vec![],
        ),
        (
            "another taint",
            true,
            vec![],
            vec![taint("x", TaintEffect::NoSchedule), taint(not_ready, TaintEffect::NoExecute)],
            vec![],
        ),
    ] {
        let traits = NodeTraits { taints, ..NodeTraits::default() };
        let node = Node { traits: Arc::new(traits), is_ready, bad_conditions, ..Node::default() };
        let verdict =
            |conditions| Verdict::new([]).with_node(&node, &BootCutoff::default(), conditions);
        assert_eq!(verdict(true).node_problems, expected, "{case}");
        assert!(verdict(false).is_healthy(), "{case}");
    }
}

prop_compose! {
    fn any_set()(
        uid in "[a-f]",
        namespace in "[xy]",
        labels in proptest::collection::btree_map("[ab]", "[01]", 0..3),
        selector in proptest::collection::btree_map("[ab]", "[01]", 0..2),
        flags in any::<[bool; 3]>(),
    ) -> DaemonSet {
        // Few are ignored or being deleted, so that most cases have other reasons.
        let [first, second, has_host_network] = flags;
        let name = uid.clone();
        let (is_ignored, is_being_deleted) = (first && second && uid == "a", first && second && uid == "b");
        let placement = Placement { selector, has_host_network, ..Placement::default() };
        let has_gate = uid == "c";
        DaemonSet { namespace, name, uid, labels, is_ignored, is_being_deleted, has_gate, placement, ..DaemonSet::default() }
    }
}

prop_compose! {
    fn any_pod()(
        name in "[p-t]",
        owner in "[a-h]",
        is_being_deleted in any::<bool>(),
        phase in prop_oneof![3 => Just(Phase::Running), 1 => Just(Phase::Pending), 1 => Just(Phase::Failed)],
        namespace in "[xy]",
        is_ready in any::<bool>(),
        gate in prop_oneof![3 => Just(Gate::None), 1 => Just(Gate::Ahead), 1 => Just(Gate::Passed)],
    ) -> Pod {
        let owner = Arc::new(DaemonSetId::new(&namespace, &owner, &owner));
        Pod { uid: name.as_str().into(), name: name.into(), owner, is_being_deleted, phase, is_ready, gate, ..Pod::default() }
    }
}

prop_compose! {
    fn any_filter()(
        namespace in proptest::option::of("[xy]"),
        host_network in any::<bool>(),
        items in proptest::collection::vec(("[ab]", "[01]"), 0..3),
        includes in any::<bool>(),
    ) -> Filter {
        let items: Vec<_> = items.into_iter().map(|(key, value)| Label { key, value }).collect();
        let (include, exclude) = if includes { (items, vec![]) } else { (vec![], items) };
        Filter { namespace, host_network, include, exclude }
    }
}

/// The verdict on a DaemonSet by a simple model.
fn naive(filter: &Filter, node: &Labels, set: &DaemonSet, pods: &[Pod]) -> &'static str {
    let has = |item: &Label| set.labels.iter().any(|(k, v)| *k == item.key && *v == item.value);
    let counts = !set.is_ignored
        && !set.is_being_deleted
        && filter.namespace.iter().all(|namespace| *namespace == set.namespace)
        && (!filter.host_network || set.placement.has_host_network)
        && filter.include.iter().all(has)
        && !filter.exclude.iter().any(has);
    let is_here =
        set.placement.selector.iter().all(|(k, v)| node.iter().any(|(nk, nv)| k == nk && v == nv));
    let own: Vec<_> = pods
        .iter()
        .filter(|pod| {
            pod.owner.namespace() == set.namespace
                && pod.owner.uid() == set.uid
                && !pod.is_being_deleted
        })
        .collect();
    let live: Vec<_> =
        own.iter().filter(|pod| matches!(pod.phase, Phase::Running | Phase::Pending)).collect();
    let is_ready = live.iter().any(|pod| pod.phase == Phase::Running && pod.is_ready);
    let waits_for_itself =
        live.iter().any(|pod| pod.gate == Gate::Ahead) || (live.is_empty() && set.has_gate);
    match (counts, is_here, is_ready) {
        (false, ..) => "excluded",
        (true, false, _) => "not-here",
        (true, true, true) => "ready",
        (true, true, false) if waits_for_itself => "excluded",
        (true, true, false) => "waiting",
    }
}

proptest! {
    #[test]
    fn the_verdict_agrees_with_a_naive_model(
        filter in any_filter(),
        node in proptest::collection::btree_map("[ab]", "[01]", 0..3),
        sets in proptest::collection::vec(any_set(), 0..6),
        pods in proptest::collection::vec(any_pod(), 0..12),
    ) {
        // An API never shows two objects with one UID in one state of the cluster.
        let pods: Vec<_> = pods.iter().enumerate().map(|(at, pod)| Pod { uid: at.to_string().into(), ..pod.clone() }).collect();
        let sets: Vec<_> = sets.iter().enumerate().filter(|(at, s)| sets[..*at].iter().all(|o| o.uid != s.uid)).map(|(_, s)| s.clone()).collect();
        let verdict = judge(&filter, &node, &sets, &pods);
        prop_assert_eq!(verdict.daemonsets.len(), sets.len());
        let mut waiting = 0;
        for set in &sets {
            let judged = verdict.daemonsets.iter().find(|j| j.id.name() == set.name).expect("all are judged");
            let expected = naive(&filter, &node, set, &pods);
            prop_assert_eq!(judged.standing.name(), expected);
            waiting += usize::from(expected == "waiting");
        }
        prop_assert_eq!(verdict.counts.waiting, waiting);
        prop_assert_eq!(verdict.is_healthy(), waiting == 0);
        let counts = verdict.counts;
        prop_assert_eq!(counts.waiting + counts.ready + counts.not_here + counts.excluded, sets.len());
        prop_assert!(verdict.waiting().iter().all(|j| j.standing.is_waiting()));
    }

    #[test]
    fn the_order_of_the_lists_does_not_matter(
        sets in proptest::collection::hash_map("[a-f]", any_set(), 0..6),
        pods in proptest::collection::vec(any_pod(), 0..12),
    ) {
        let sets: Vec<_> = sets.into_iter().map(|(uid, set)| DaemonSet { name: uid.clone(), uid, ..set }).collect();
        // Two pods of one name do not exist.
        let pods: Vec<_> = pods.iter().enumerate().map(|(at, pod)| Pod { name: format!("{}{at}", pod.name).into(), uid: at.to_string().into(), ..pod.clone() }).collect();
        let (mut sets_back, mut pods_back) = (sets.clone(), pods.clone());
        sets_back.reverse();
        pods_back.reverse();
        let (filter, node) = (Filter::default(), labels("a=1"));
        prop_assert_eq!(judge(&filter, &node, &sets, &pods), judge(&filter, &node, &sets_back, &pods_back));
    }
}
