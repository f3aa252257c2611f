use super::*;
use proptest::prelude::*;

fn labels(text: &str) -> Labels {
    text.split_whitespace().filter_map(|item| item.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn label(text: &str) -> Label {
    let (key, value) = text.split_once('=').expect("key=value");
    Label { key: key.to_owned(), value: value.to_owned() }
}

fn set(name: &str) -> DaemonSet {
    DaemonSet { namespace: "ns".into(), name: name.into(), uid: format!("uid-{name}"), ..DaemonSet::default() }
}

fn pod(of: &str, name: &str) -> Pod {
    let owner = Some(format!("uid-{of}"));
    Pod { name: name.into(), owner, is_being_deleted: false, phase: "Running".into(), is_ready: true }
}

fn judge(filter: &Filter, node: &Labels, sets: &[DaemonSet], pods: &[Pod]) -> Verdict {
    let mut reading = Reading::new(filter, node);
    sets.iter().cloned().for_each(|set| reading.add(set));
    let wanted = reading.finish().expect("not too many");
    let mut found = Pods::new(&wanted);
    pods.iter().cloned().for_each(|pod| found.add(pod));
    let nearest = found.finish();
    wanted.verdict(nearest)
}

/// The verdict about one DaemonSet `a` on a node labelled `disk=ssd`.
fn alone(set: DaemonSet, filter: &Filter, pods: &[Pod]) -> String {
    let verdict = judge(filter, &labels("disk=ssd"), &[set], pods);
    let judged = &verdict.daemonsets[0];
    assert_eq!(verdict.is_healthy(), !matches!(judged.standing, Standing::Waiting(_)));
    assert_eq!(verdict.waiting().len(), usize::from(!verdict.is_healthy()));
    format!("{} {judged}", judged.standing.name())
}

#[test]
fn pods() {
    let is = |change: fn(&mut Pod)| {
        let mut pod = pod("a", "a-1");
        change(&mut pod);
        pod
    };
    let ready = || is(|_| ());
    let not_ready = || is(|p| p.is_ready = false);
    let pending = || is(|p| (p.phase, p.is_ready) = ("Pending".into(), false));
    let failed = || is(|p| (p.phase, p.is_ready) = ("Failed".into(), false));
    let going = || is(|p| p.is_being_deleted = true);
    let named = |mut pod: Pod, name: &str| {
        pod.name = name.into();
        pod
    };
    for (case, pods, expected) in [
        ("none", vec![], "waiting ns/a: no pod on this node yet"),
        ("ready", vec![ready()], "ready ns/a: pod a-1 is ready"),
        ("not ready", vec![not_ready()], "waiting ns/a: pod a-1 is Running, but not ready"),
        ("pending", vec![pending()], "waiting ns/a: pod a-1 is Pending"),
        ("failed", vec![failed()], "waiting ns/a: pod a-1 is Failed"),
        ("succeeded", vec![is(|p| p.phase = "Succeeded".into())], "waiting ns/a: pod a-1 is Succeeded"),
        ("no phase", vec![is(|p| p.phase = String::new())], "waiting ns/a: pod a-1 has no phase yet"),
        ("ready but pending", vec![is(|p| p.phase = "Pending".into())], "waiting ns/a: pod a-1 is Pending"),
        ("being deleted", vec![going()], "waiting ns/a: pod a-1 is being deleted"),
        ("another's", vec![is(|p| p.owner = Some("uid-b".into()))], "waiting ns/a: no pod on this node yet"),
        ("nobody's", vec![is(|p| p.owner = None)], "waiting ns/a: no pod on this node yet"),
        ("rolled over", vec![going(), named(ready(), "a-2")], "ready ns/a: pod a-2 is ready"),
        ("being rolled over", vec![going(), named(pending(), "a-2")], "waiting ns/a: pod a-2 is Pending"),
        ("failed and made anew", vec![failed(), named(pending(), "a-2")], "waiting ns/a: pod a-2 is Pending"),
        ("surging", vec![named(not_ready(), "a-0"), ready()], "ready ns/a: pod a-1 is ready"),
        ("two alike", vec![named(pending(), "a-3"), named(pending(), "a-2")], "waiting ns/a: pod a-2 is Pending"),
        ("two ready", vec![named(ready(), "a-3"), named(ready(), "a-2")], "ready ns/a: pod a-2 is ready"),
    ] {
        assert_eq!(alone(set("a"), &Filter::default(), &pods), expected, "{case}");
        let reversed: Vec<_> = pods.into_iter().rev().collect();
        assert_eq!(alone(set("a"), &Filter::default(), &reversed), expected, "{case}, the other way round");
    }
}

#[test]
fn filters() {
    let none = Filter::default;
    let labelled = |text: &str| DaemonSet { labels: labels(text), ..set("a") };
    let including = |items: &[&str]| Filter { include: items.iter().map(|i| label(i)).collect(), ..none() };
    let excluding = |items: &[&str]| Filter { exclude: items.iter().map(|i| label(i)).collect(), ..none() };
    let waits = "waiting ns/a: no pod on this node yet";
    for (case, set, filter, expected) in [
        ("no filter", set("a"), none(), waits),
        ("its namespace", set("a"), Filter { namespace: Some("ns".into()), ..none() }, waits),
        (
            "another namespace",
            set("a"),
            Filter { namespace: Some("n".into()), ..none() },
            "excluded ns/a: another namespace is asked for",
        ),
        (
            "not on the host network",
            set("a"),
            Filter { host_network: true, ..none() },
            "excluded ns/a: only the host network is asked for",
        ),
        (
            "on the host network",
            DaemonSet { has_host_network: true, ..set("a") },
            Filter { host_network: true, ..none() },
            waits,
        ),
        ("has all", labelled("a=1 b=2 c=3"), including(&["a=1", "b=2"]), waits),
        ("has one of two", labelled("a=1"), including(&["a=1", "b=2"]), "excluded ns/a: it lacks the label b:2"),
        ("has another value", labelled("a=2"), including(&["a=1"]), "excluded ns/a: it lacks the label a:1"),
        ("has an empty one", labelled("a="), including(&["a="]), waits),
        ("has none where empty is asked for", set("a"), including(&["a="]), "excluded ns/a: it lacks the label a:"),
        ("has one of two excluded", labelled("b=2"), excluding(&["a=1", "b=2"]), "excluded ns/a: it has the label b:2"),
        ("has another value than excluded", labelled("a=2"), excluding(&["a=1"]), waits),
        ("has none of the excluded", set("a"), excluding(&["a=1"]), waits),
        (
            "annotated",
            DaemonSet { is_ignored: true, ..set("a") },
            none(),
            "excluded ns/a: its annotation pod-startup-lock/ignore says so",
        ),
        (
            "being deleted",
            DaemonSet { is_being_deleted: true, ..set("a") },
            none(),
            "excluded ns/a: it is being deleted",
        ),
        (
            "wants other nodes",
            DaemonSet { node_selector: labels("disk=hdd"), ..set("a") },
            none(),
            "not-here ns/a: nodeSelector wants disk \"hdd\", the node has \"ssd\"",
        ),
        (
            "excluded before it is looked at where",
            DaemonSet { node_selector: labels("disk=hdd"), is_ignored: true, ..set("a") },
            none(),
            "excluded ns/a: its annotation pod-startup-lock/ignore says so",
        ),
        ("wants this node", DaemonSet { node_selector: labels("disk=ssd"), ..set("a") }, none(), waits),
    ] {
        assert_eq!(alone(set, &filter, &[]), expected, "{case}");
    }
}

#[test]
fn a_filter_names_the_keys_of_both_lists() {
    let filter = Filter { include: vec![label("a=1")], exclude: vec![label("b=")], ..Filter::default() };
    assert_eq!(["a", "b", "c", "1", ""].map(|key| filter.names(key)), [true, true, false, false, false]);
}

#[test]
fn those_that_wait_come_first_in_a_fixed_order() {
    let mut elsewhere = set("b");
    elsewhere.node_selector = labels("disk=ssd");
    let sets = [set("z"), elsewhere, set("y"), DaemonSet { is_ignored: true, ..set("a") }, set("x")];
    let verdict = judge(&Filter::default(), &Labels::new(), &sets, &[pod("y", "y-1")]);
    let order: Vec<_> = verdict.daemonsets.iter().map(|set| &*set.name).collect();
    assert_eq!(order, ["x", "z", "y", "b", "a"]);
    assert_eq!(verdict.counts, Counts { waiting: 2, ready: 1, not_here: 1, excluded: 1 });
    assert_eq!(verdict.waiting().len(), 2);
}

#[test]
fn one_that_comes_twice_counts_once() {
    let verdict = judge(&Filter::default(), &Labels::new(), &[set("a"), set("b"), set("a")], &[pod("a", "a-1")]);
    assert_eq!(verdict.counts, Counts { waiting: 1, ready: 1, ..Counts::default() });
}

#[test]
fn nothing_to_wait_for_is_healthy() {
    assert!(judge(&Filter::default(), &Labels::new(), &[], &[pod("a", "a-1")]).is_healthy());
}

#[test]
fn names_are_shown_on_one_line() {
    let odd = DaemonSet { namespace: "n\n".into(), name: "a\u{1b}[31m".into(), ..set("a") };
    let verdict = judge(&Filter::default(), &Labels::new(), &[odd], &[pod("a", "p\r")]);
    assert_eq!(verdict.daemonsets[0].to_string(), "n\u{fffd}/a\u{fffd}[31m: pod p\u{fffd} is ready");
}

#[test]
fn what_does_not_count_is_counted_but_not_all_of_it_kept() {
    let filter = Filter { namespace: Some("other".into()), ..Filter::default() };
    let sets: Vec<_> = (0..3 * MOST_REMEMBERED).map(|number| set(&number.to_string())).collect();
    let verdict = judge(&filter, &Labels::new(), &sets, &[]);
    assert_eq!((verdict.counts.excluded, verdict.daemonsets.len()), (3 * MOST_REMEMBERED, MOST_REMEMBERED));
}

#[test]
fn more_than_a_node_can_hold_is_an_error() {
    let (filter, node) = (Filter::default(), Labels::new());
    for (count, is_too_many) in [(MOST_HERE, false), (MOST_HERE + 1, true), (MOST_HERE + 1000, true)] {
        let mut reading = Reading::new(&filter, &node);
        (0..count).for_each(|number| reading.add(set(&number.to_string())));
        assert_eq!(reading.finish().is_err(), is_too_many, "{count}");
    }
}

prop_compose! {
    fn any_set()(
        uid in "[a-f]",
        namespace in "[xy]",
        labels in proptest::collection::btree_map("[ab]", "[01]", 0..3),
        node_selector in proptest::collection::btree_map("[ab]", "[01]", 0..2),
        flags in any::<[bool; 3]>(),
    ) -> DaemonSet {
        // Mostly neither ignored nor being deleted, or little would be left to judge.
        let [first, second, has_host_network] = flags;
        let name = uid.clone();
        let (is_ignored, is_being_deleted) = (first && second && uid == "a", first && second && uid == "b");
        DaemonSet { namespace, name, uid, labels, is_ignored, is_being_deleted, has_host_network, node_selector }
    }
}

prop_compose! {
    fn any_pod()(
        name in "[p-t]",
        owner in proptest::option::of("[a-h]"),
        is_being_deleted in any::<bool>(),
        phase in prop_oneof![3 => Just("Running"), 1 => Just("Pending"), 1 => Just("Failed")],
        is_ready in any::<bool>(),
    ) -> Pod {
        Pod { name, owner, is_being_deleted, phase: phase.to_owned(), is_ready }
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

/// The same question answered the long way, with everything at hand at once.
fn naive(filter: &Filter, node: &Labels, set: &DaemonSet, pods: &[Pod]) -> &'static str {
    let has = |item: &Label| set.labels.iter().any(|(k, v)| *k == item.key && *v == item.value);
    let counts = !set.is_ignored
        && !set.is_being_deleted
        && filter.namespace.iter().all(|namespace| *namespace == set.namespace)
        && (!filter.host_network || set.has_host_network)
        && filter.include.iter().all(has)
        && !filter.exclude.iter().any(has);
    let is_here = set.node_selector.iter().all(|(k, v)| node.iter().any(|(nk, nv)| k == nk && v == nv));
    let is_ready = pods.iter().any(|pod| {
        pod.owner.as_ref() == Some(&set.uid) && !pod.is_being_deleted && pod.phase == "Running" && pod.is_ready
    });
    match (counts, is_here, is_ready) {
        (false, ..) => "excluded",
        (true, false, _) => "not-here",
        (true, true, true) => "ready",
        (true, true, false) => "waiting",
    }
}

proptest! {
    #[test]
    fn as_the_naive_model_says(
        filter in any_filter(),
        node in proptest::collection::btree_map("[ab]", "[01]", 0..3),
        sets in proptest::collection::vec(any_set(), 0..6),
        pods in proptest::collection::vec(any_pod(), 0..12),
    ) {
        // An API never shows two objects with one UID in one state of the cluster.
        let sets: Vec<_> = sets.iter().enumerate().filter(|(at, s)| sets[..*at].iter().all(|o| o.uid != s.uid)).map(|(_, s)| s.clone()).collect();
        let verdict = judge(&filter, &node, &sets, &pods);
        prop_assert_eq!(verdict.daemonsets.len(), sets.len());
        let mut waiting = 0;
        for set in &sets {
            let judged = verdict.daemonsets.iter().find(|j| *j.name == *set.name).expect("all are judged");
            let expected = naive(&filter, &node, set, &pods);
            prop_assert_eq!(judged.standing.name(), expected);
            waiting += usize::from(expected == "waiting");
        }
        prop_assert_eq!(verdict.counts.waiting, waiting);
        prop_assert_eq!(verdict.is_healthy(), waiting == 0);
        let counts = verdict.counts;
        prop_assert_eq!(counts.waiting + counts.ready + counts.not_here + counts.excluded, sets.len());
        prop_assert!(verdict.waiting().iter().all(|j| matches!(j.standing, Standing::Waiting(_))));
    }

    #[test]
    fn the_order_of_the_lists_does_not_matter(
        sets in proptest::collection::hash_map("[a-f]", any_set(), 0..6),
        pods in proptest::collection::vec(any_pod(), 0..12),
    ) {
        let sets: Vec<_> = sets.into_iter().map(|(uid, set)| DaemonSet { name: uid.clone(), uid, ..set }).collect();
        // Two pods of one name do not exist.
        let pods: Vec<_> = pods.iter().enumerate().map(|(at, pod)| Pod { name: format!("{}{at}", pod.name), ..pod.clone() }).collect();
        let (mut sets_back, mut pods_back) = (sets.clone(), pods.clone());
        sets_back.reverse();
        pods_back.reverse();
        let (filter, node) = (Filter::default(), labels("a=1"));
        prop_assert_eq!(judge(&filter, &node, &sets, &pods), judge(&filter, &node, &sets_back, &pods_back));
    }
}
