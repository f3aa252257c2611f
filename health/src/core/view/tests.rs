use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::daemonsets::MOST_BYTES;
use super::*;
use crate::core::boot::BootCheckMode;
use crate::core::eligibility::{NodeTraits, Placement};
use crate::core::pod::Phase;

fn machine() -> Machine {
    Machine { boot_id: "this".to_owned(), uptime: Duration::from_secs(20), wall: 1_000_000_020 }
}

fn view() -> View {
    let rules = Criteria { filter: Some(Filter::default()), ..Criteria::default() };
    View::new(rules, BootCheck::new(BootCheckMode::Off, Duration::from_secs(300), &machine()))
}

fn set(name: &str, uid: &str) -> DaemonSet {
    DaemonSet { namespace: "ns".into(), name: name.into(), uid: uid.into(), ..DaemonSet::default() }
}

fn selecting(name: &str, key: &str) -> DaemonSet {
    let selector = [(key.to_owned(), "1".to_owned())].into();
    DaemonSet { placement: Placement { selector, ..Placement::default() }, ..set(name, name) }
}

fn pod(uid: &str, owner: &str, owner_uid: &str) -> Pod {
    Pod {
        uid: uid.into(),
        name: uid.into(),
        owner: Arc::new(DaemonSetId::new("ns", owner, owner_uid)),
        phase: Phase::Running,
        is_ready: true,
        ..Pod::default()
    }
}

fn node(labels: &[&str]) -> Node {
    let labels = labels.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect();
    let traits = Arc::new(NodeTraits { labels, ..NodeTraits::default() });
    Node { traits, is_ready: true, ..Node::default() }
}

/// The name and the standing of each DaemonSet.
fn standings(view: &mut View) -> Vec<(String, &'static str)> {
    let verdict = view.judge(&machine()).unwrap();
    verdict
        .daemonsets
        .iter()
        .map(|judged| (judged.id.name().to_owned(), judged.standing.name()))
        .collect()
}

fn expect(found: Vec<(String, &'static str)>, expected: &[(&str, &'static str)]) {
    let expected: Vec<_> =
        expected.iter().map(|(name, standing)| ((*name).to_owned(), *standing)).collect();
    assert_eq!(found, expected);
}

#[test]
fn there_is_no_verdict_before_every_source_is_known() {
    let mut view = view();
    assert_eq!(view.judge(&machine()), None);
    view.set_node(node(&[]));
    assert_eq!(view.judge(&machine()), None);
    view.set_daemonsets([]);
    assert_eq!(view.judge(&machine()), None);
    view.set_pods([]);
    assert!(view.judge(&machine()).unwrap().is_healthy());
}

#[test]
fn without_daemonsets_the_node_alone_decides() {
    let rules = Criteria { filter: None, conditions: true, latch: false };
    let mut view =
        View::new(rules, BootCheck::new(BootCheckMode::Off, Duration::from_secs(300), &machine()));
    view.set_node(Node { is_ready: false, ..node(&[]) });
    assert_eq!(view.judge(&machine()).unwrap().node_problems, ["node is not Ready"]);
    view.set_node(node(&[]));
    assert!(view.judge(&machine()).unwrap().is_healthy());
    view.remove_node();
    assert_eq!(
        view.judge(&machine()).unwrap().node_problems,
        ["node not found: the API server has no node of this name (--node-name)"]
    );
    view.set_node(node(&[]));
    assert!(view.judge(&machine()).unwrap().is_healthy());
}

#[test]
fn each_change_leads_to_a_new_verdict() {
    let mut view = view();
    view.set_node(node(&[]));
    view.set_daemonsets([selecting("b", "disk"), set("a", "a")]);
    view.set_pods([]);
    expect(standings(&mut view), &[("a", "waiting"), ("b", "not-here")]);
    view.set_pod(pod("a-1", "a", "a"));
    expect(standings(&mut view), &[("a", "ready"), ("b", "not-here")]);
    view.set_node(node(&["disk"]));
    expect(standings(&mut view), &[("b", "waiting"), ("a", "ready")]);
    view.set_daemonset("ns", "b", None);
    expect(standings(&mut view), &[("a", "ready")]);
    view.set_daemonset("ns", "0", Some(selecting("0", "rack")));
    expect(standings(&mut view), &[("a", "ready"), ("0", "not-here")]);
    view.set_daemonset("ns", "a", Some(set("a", "another")));
    expect(standings(&mut view), &[("a", "waiting"), ("0", "not-here")]);
    view.set_daemonset("ns", "a", Some(set("a", "a")));
    view.pods.delete("a-1");
    view.pods.delete("a-1");
    expect(standings(&mut view), &[("a", "waiting"), ("0", "not-here")]);
}

#[test]
fn unknown_owners_have_to_be_read() {
    let mut view = view();
    view.set_node(node(&[]));
    view.set_pods([]);
    for (uid, owner, owner_uid) in
        [("1", "a", "a"), ("2", "a", "older"), ("3", "b", "b"), ("4", "b", "b"), ("5", "c", "c")]
    {
        view.set_pod(pod(uid, owner, owner_uid));
    }
    assert!(
        view.knows(&pod("1", "a", "a").owner),
        "before the first list there is nothing to miss"
    );
    view.set_daemonsets([set("a", "a"), selecting("c", "disk")]);
    let unknown = view.unknown_owners();
    let unknown: Vec<_> = unknown.iter().map(|owner| (owner.name(), owner.uid())).collect();
    assert_eq!(unknown, [("a", "older"), ("b", "b")]);
    for (case, one, expected) in [
        ("a new one of a DaemonSet that does not want the node", pod("6", "c", "c"), true),
        ("one that was there", pod("5", "c", "c"), false),
        ("a new one of a DaemonSet that does", pod("6", "a", "a"), false),
        ("of one that is not known", pod("6", "b", "b"), true),
        ("of one by another UID", pod("2", "a", "older"), true),
    ] {
        assert_eq!(view.needs_owner(&one), expected, "{case}");
    }
}

#[test]
fn a_list_finds_unknown_owners_as_an_event_does() {
    let mut view = view();
    let listed = |pods: &[(&str, &str)]| {
        pods.iter().map(|(uid, owner)| pod(uid, owner, owner)).collect::<Vec<_>>()
    };
    let names = |owners: BTreeSet<Arc<DaemonSetId>>| {
        owners.into_iter().map(|owner| owner.name().to_owned()).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    view.set_node(node(&[]));
    assert_eq!(
        names(view.set_pods(listed(&[("1", "c")]))),
        none,
        "before the first list there is nothing to miss"
    );
    view.set_daemonsets([set("a", "a"), selecting("c", "disk")]);
    assert_eq!(names(view.set_pods(listed(&[("1", "c"), ("2", "a")]))), none);
    assert_eq!(names(view.set_pods(listed(&[("1", "c"), ("3", "c"), ("4", "b")]))), ["b", "c"]);
    assert_eq!(names(view.set_pods(listed(&[("1", "c"), ("3", "c"), ("4", "b")]))), ["b"]);
}

/// The DaemonSet in this namespace.
fn of(namespace: &str, set: DaemonSet) -> DaemonSet {
    DaemonSet { namespace: namespace.into(), ..set }
}

/// The cached DaemonSets by namespace, and the number of excluded ones.
fn left(all: impl IntoIterator<Item = DaemonSet>) -> (BTreeMap<Box<str>, usize>, usize) {
    let mut view = view();
    view.set_node(node(&[]));
    view.set_pods([]);
    view.set_daemonsets(all);
    assert!(view.daemonsets.bytes() <= MOST_BYTES);
    let verdict = view.judge(&machine()).unwrap();
    assert!(verdict.daemonsets.len() <= crate::core::verdict::MOST_LISTED);
    let mut left = BTreeMap::new();
    for (namespace, _) in view.daemonsets.names() {
        *left.entry(namespace.into()).or_default() += 1;
    }
    (left, verdict.counts.excluded)
}

#[test]
fn any_number_of_daemonsets_stays_within_the_limit() {
    let many = |namespace: &str, count: usize, length: usize| {
        (0..count)
            .map(|number| of(namespace, set(&format!("{number:0length$}"), "u")))
            .collect::<Vec<_>>()
    };
    assert_eq!(left(many("a", 15_000, 20)), ([("a".into(), 15_000)].into(), 0));
    // The crowded namespace loses its own DaemonSets, at any position of the list.
    for namespace in ["a", "z"] {
        let honest = many("m", 1000, 20);
        let all = if namespace == "a" {
            [many(namespace, 25_000, 200), honest].concat()
        } else {
            [honest, many(namespace, 25_000, 200)].concat()
        };
        let (left, excluded) = left(all);
        assert_eq!(left["m"], 1000, "{namespace}");
        assert!(
            left[namespace] > 8_000 && left[namespace] + excluded == 25_000,
            "{left:?} {excluded}"
        );
    }
    let heavy = |number: usize| {
        let selector =
            (0..1000).map(|key| (format!("key-{number}-{key}"), String::new())).collect();
        let terms = Some(Default::default());
        let placement = Placement { selector, affinity: terms, ..Placement::default() };
        DaemonSet { placement, ..set(&number.to_string(), "u") }
    };
    assert_eq!(left((0..10).map(heavy)).1, 0);
    assert!(left((0..400).map(heavy)).1 > 100);
}

#[test]
fn a_single_daemonset_stays_within_the_limit() {
    let mut view = view();
    view.set_daemonsets([set("a", "a")]);
    for number in 0..50_000 {
        let name = number.to_string();
        view.set_daemonset("many", &name, Some(of("many", set(&name, "u"))));
    }
    assert!(view.daemonsets.bytes() <= MOST_BYTES);
    let known = |view: &View, namespace: &str, name: &str, uid: &str| {
        view.knows(&DaemonSetId::new(namespace, name, uid))
    };
    assert!(known(&view, "ns", "a", "a"));
    let (before, _) = view.evicted();
    let gone = (0..50_000)
        .map(|number: u32| number.to_string())
        .find(|name| !known(&view, "many", name, "u"))
        .unwrap();
    view.set_daemonset("many", &gone, Some(of("many", set(&gone, "u"))));
    assert_eq!(view.evicted().0, before - 1, "it has come back");
}

#[test]
fn any_number_of_pods_stays_within_the_limit() {
    const MANY: usize = 20_000;
    let mut view = view();
    view.set_node(node(&[]));
    view.set_daemonsets([set("a", "a")]);
    view.set_pods([]);
    let other = |number: usize, phase| {
        let owner = Arc::new(DaemonSetId::new("other", "x", "x"));
        Pod { phase, owner, ..pod(&format!("{number:05}"), "x", "x") }
    };
    view.set_pod(pod("~", "a", "a"));
    let mut number = 0;
    while view.evicted() == (0, 0) {
        view.set_pod(other(number, if number == 7 { Phase::Failed } else { Phase::Running }));
        number += 1;
    }
    assert!(number > 3_500, "{number}");
    assert!(!view.pods.has("00007") && view.pods.has("~"), "those that have ended go first");
    let (_, before) = view.evicted();
    let kept = (0..number).find(|number| view.pods.has(&format!("{number:05}"))).unwrap();
    view.set_pod(other(kept, Phase::Running));
    assert_eq!(view.evicted(), (0, before), "one that is there already may change");
    (number..MANY).for_each(|number| drop(view.set_pod(other(number, Phase::Failed))));
    assert!(view.pods.bytes() <= pods::MOST_BYTES && view.evicted().1 > MANY / 2);
    expect(standings(&mut view), &[("a", "ready")]);
    (0..MANY).for_each(|number| view.pods.delete(&format!("{number:05}")));
    view.pods.delete("~");
    assert_eq!(view.pods.bytes(), 0, "an empty view has no bytes");
}

/// A list replaces its objects one by one, and removes the missing ones at its end.
#[test]
fn a_second_list_takes_no_more_memory() {
    let mut view = view();
    let filter = Filter::default();
    view.set_node(node(&[]));
    view.set_pods([pod("1", "a", "a"), pod("2", "b", "b")]);
    view.set_daemonsets([set("a", "a"), of_kilobytes("b", 1000)]);
    let (sets, pods) = (view.daemonsets.bytes(), view.pods.bytes());
    for _ in 0..3 {
        view.daemonsets.begin();
        view.pods.begin();
        for set in [set("a", "a"), of_kilobytes("b", 1000)] {
            view.daemonsets.add(set, &filter);
            assert_eq!(view.daemonsets.bytes(), sets);
        }
        // The list begins again, as if its pages had expired.
        view.daemonsets.begin();
        view.set_pod(pod("1", "a", "a"));
        view.set_pod(pod("2", "b", "b"));
        assert_eq!(view.pods.bytes(), pods);
        view.daemonsets.add(set("a", "a"), &filter);
        view.daemonsets.add(set("a", "a"), &filter);
        expect(standings(&mut view), &[("a", "ready"), ("b", "not-here")]);
        view.daemonsets.add(of_kilobytes("b", 1000), &filter);
        view.daemonsets.finish();
        view.finish_pods();
        assert_eq!(
            (view.daemonsets.bytes(), view.pods.bytes(), view.evicted()),
            (sets, pods, (0, 0))
        );
    }
    view.daemonsets.begin();
    view.pods.begin();
    view.set_pod(pod("2", "b", "b"));
    view.daemonsets.add(of_kilobytes("b", 1000), &filter);
    view.daemonsets.finish();
    view.finish_pods();
    expect(standings(&mut view), &[("b", "not-here")]);
    assert!(!view.pods.has("1") && view.pods.has("2"));
}

/// A DaemonSet of about this size.
fn of_kilobytes(name: &str, kilobytes: usize) -> DaemonSet {
    let selector =
        (0..kilobytes).map(|key| (format!("{name}-{key:0900}"), String::new())).collect();
    DaemonSet { placement: Placement { selector, ..Placement::default() }, ..set(name, name) }
}

#[test]
fn the_largest_daemonsets_are_evicted_first() {
    let mut view = view();
    view.set_node(node(&[]));
    view.set_pods([]);
    let heavy = ["h1", "h2", "h3", "h4", "h5"].map(|name| of_kilobytes(name, 1000));
    let heaviest = of_kilobytes("h0", 2000);
    let light = ["a", "z"].map(|name| set(name, name));
    view.set_daemonsets(light.into_iter().chain(heavy).chain([heaviest]));
    let too_large: Vec<_> =
        view.daemonsets.too_large().iter().map(|set| set.name().to_owned()).collect();
    assert_eq!((too_large.len(), &*too_large[0]), (2, "h0"));
    let verdict = view.judge(&machine()).unwrap();
    let waiting: Vec<_> = verdict.waiting().iter().map(|judged| judged.id.name()).collect();
    assert_eq!((waiting, verdict.counts.not_here, verdict.counts.excluded), (vec!["a", "z"], 4, 2));
    assert!(
        verdict.daemonsets.last().unwrap().to_string().ends_with("too large for the memory limit")
    );
    for name in ["h0", "h1", "h2", "h3", "h4", "h5"] {
        view.set_daemonset("ns", name, None);
    }
    view.set_daemonset("ns", "h0", Some(of_kilobytes("h0", 2000)));
    assert!(view.daemonsets.too_large().is_empty(), "there is room again");
}

#[test]
fn replaced_and_removed_daemonsets_take_no_memory() {
    let mut view = view();
    view.set_daemonsets([set("a", "a"), set("a", "a"), of_kilobytes("b", 1000)]);
    let bytes = |view: &View| view.daemonsets.bytes();
    let before = bytes(&view);
    for times in 0..20 {
        view.set_daemonset("ns", "b", Some(of_kilobytes("b", 500 + times)));
        view.set_daemonset("ns", "c", Some(of_kilobytes("c", 2000)));
        view.set_daemonset("ns", "c", Some(set("c", "c")));
        view.set_daemonset("ns", "c", None);
        view.set_daemonset("ns", "b", Some(of_kilobytes("b", 1000)));
        assert_eq!(bytes(&view), before);
    }
    view.set_daemonset("ns", "b", None);
    view.set_daemonset("ns", "a", None);
    assert_eq!(bytes(&view), 0);
}

#[derive(Clone, Debug)]
enum Change {
    Pod(Pod),
    NoPod(String),
    Set(DaemonSet),
    NoSet(String),
    Node(Vec<&'static str>),
}

fn change() -> impl Strategy<Value = Change> {
    let any_pod = ("[1-4]", "[abc]", any::<bool>())
        .prop_map(|(uid, owner, is_ready)| Pod { is_ready, ..pod(&uid, &owner, &owner) });
    let any_set =
        ("[abc]", prop_oneof![Just(""), Just("disk"), Just("rack")]).prop_map(|(name, key)| {
            match key {
                "" => set(&name, &name),
                key => selecting(&name, key),
            }
        });
    prop_oneof![
        4 => any_pod.prop_map(Change::Pod),
        2 => "[1-4]".prop_map(Change::NoPod),
        2 => any_set.prop_map(Change::Set),
        1 => "[abc]".prop_map(Change::NoSet),
        1 => proptest::sample::subsequence(vec!["disk", "rack"], 0..=2).prop_map(Change::Node),
    ]
}

proptest! {
    /// Any sequence of events, each any number of times, leads to the verdict of the last state.
    #[test]
    fn events_lead_to_the_same_verdict_as_lists(changes in proptest::collection::vec((change(), 1..3_usize), 0..30)) {
        let mut stepwise = view();
        stepwise.set_node(node(&[]));
        stepwise.set_daemonsets([]);
        stepwise.set_pods([]);
        let (mut all_pods, mut all_sets, mut last) = (BTreeMap::<Arc<str>, Pod>::new(), BTreeMap::new(), node(&[]));
        for (change, times) in changes {
            for _ in 0..times {
                match change.clone() {
                    Change::Pod(pod) => drop(stepwise.set_pod(pod)),
                    Change::NoPod(uid) => stepwise.pods.delete(&uid),
                    Change::Set(set) => stepwise.set_daemonset("ns", &set.name.clone(), Some(set)),
                    Change::NoSet(name) => stepwise.set_daemonset("ns", &name, None),
                    Change::Node(labels) => stepwise.set_node(node(&labels)),
                }
            }
            match change {
                Change::Pod(pod) => drop(all_pods.insert(pod.uid.clone(), pod)),
                Change::NoPod(uid) => drop(all_pods.remove(uid.as_str())),
                Change::Set(set) => drop(all_sets.insert(set.name.clone(), set)),
                Change::NoSet(name) => drop(all_sets.remove(&name)),
                Change::Node(labels) => last = node(&labels),
            }
        }
        let mut at_once = view();
        at_once.set_pods(all_pods.into_values());
        at_once.set_node(last);
        at_once.set_daemonsets(all_sets.into_values());
        prop_assert_eq!(stepwise.judge(&machine()), at_once.judge(&machine()));
    }
}
