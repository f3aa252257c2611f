use super::*;
use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::api::{self, objects};
use crate::core::node;
use crate::core::packed_placement::PackedPlacement;

macro_rules! recorded {
    ($name:literal) => {
        testkit::transcript::block(include_str!("../../../tests/data/eligibility"), $name)
    };
}

/// The objects of a list.
fn list<T: api::ApiObject>(json: &str) -> Vec<T> {
    let mut value: serde_json::Value = serde_json::from_str(json).unwrap();
    value["kind"] = T::LIST.into();
    let mut items = Vec::new();
    api::read_list(value.to_string().as_bytes(), &mut |item| items.push(item)).unwrap();
    items
}

fn placement(template: serde_json::Value) -> Placement {
    let metadata = serde_json::json!({"namespace": "n", "name": "d", "uid": "u"});
    let set = serde_json::json!({"metadata": metadata, "spec": {"template": {"spec": template}}});
    let sets: Vec<objects::DaemonSetObject> =
        list(&serde_json::json!({"items": [set]}).to_string());
    sets.into_iter().next().unwrap().into_daemonset(|_| true).placement
}

fn node(labels: &str, taints: &[(&str, &str, TaintEffect)]) -> NodeTraits {
    let pairs = labels.split_whitespace().filter_map(|item| item.split_once('='));
    let taint = |(key, value, effect): &(&str, &str, TaintEffect)| Taint {
        key: (*key).into(),
        value: (*value).into(),
        effect: *effect,
    };
    NodeTraits {
        name: "node-1".into(),
        labels: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        taints: taints.iter().map(taint).collect(),
    }
}

#[test]
fn placements_agree_with_the_real_controller() {
    let value: serde_json::Value = serde_json::from_str(recorded!("nodes")).unwrap();
    let names: Vec<_> = value["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["metadata"]["name"].as_str().unwrap())
        .collect();
    let mut nodes = value.clone();
    nodes["items"].as_array_mut().unwrap().iter_mut().for_each(|node| node["kind"] = "Node".into());
    let nodes: Vec<objects::NodeObject> = list(&nodes.to_string());
    let nodes: Vec<node::Node> = nodes
        .into_iter()
        .zip(&names)
        .map(|(node, name)| {
            assert!(node.is_called(name));
            node.into_node().unwrap()
        })
        .collect();
    let sets: Vec<objects::DaemonSetObject> = list(recorded!("daemonsets"));
    let expected: BTreeMap<String, Vec<String>> =
        serde_json::from_str(recorded!("expected")).unwrap();
    assert_eq!((nodes.len(), sets.len(), expected.len()), (19, 64, 64));
    for set in sets {
        let set = set.into_daemonset(|_| true);
        let name = format!("{}/{}", set.namespace, set.name);
        for node in &nodes {
            let mismatch = set.placement.mismatch(&node.traits);
            let should_run = expected[&name].iter().any(|expected| **expected == *node.traits.name);
            assert_eq!(
                mismatch.is_none(),
                should_run,
                "{name} on {}: {mismatch:?}",
                node.traits.name
            );
            let packed = PackedPlacement::of(&set.placement).unpack();
            assert_eq!(
                packed.fit(&node.traits) == Fit::Wanted,
                should_run,
                "{name} on {}",
                node.traits.name
            );
        }
    }
}

fn affinity(terms: serde_json::Value) -> serde_json::Value {
    serde_json::json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}],
    }}})
}

fn expression(key: &str, operator: &str, values: &[&str]) -> serde_json::Value {
    serde_json::json!({"key": key, "operator": operator, "values": values})
}

/// Whether a term with this one expression holds on a node with these labels.
fn holds(labels: &str, key: &str, operator: &str, values: &[&str]) -> bool {
    let terms = serde_json::json!([{"matchExpressions": [expression(key, operator, values)]}]);
    placement(affinity(terms)).mismatch(&node(labels, &[])).is_none()
}

#[test]
fn operators_of_requirements() {
    let long = "x".repeat(64);
    for (labels, key, operator, values, expected) in [
        ("a=1", "a", "In", &["1"][..], true),
        ("a=1", "a", "In", &["2", "1"], true),
        ("a=1", "a", "In", &["2"], false),
        ("a=1", "a", "In", &[], false),
        ("", "a", "In", &[""], false),
        ("a=", "a", "In", &[""], true),
        ("a=1", "A", "In", &["1"], false),
        ("a=1", "a", "NotIn", &["1"], false),
        ("a=1", "a", "NotIn", &["2"], true),
        ("a=1", "a", "NotIn", &[], false),
        ("", "a", "NotIn", &["1"], true),
        ("", "a", "NotIn", &[""], true),
        ("a=", "a", "NotIn", &[""], false),
        ("", "a", "NotIn", &["no label value"], false),
        ("", "a", "NotIn", &[&long], false),
        ("a=1", "a", "In", &["1", "-"], false),
        ("a=", "a", "Exists", &[], true),
        ("", "a", "Exists", &[], false),
        ("a=1", "a", "Exists", &["1"], false),
        ("", "a", "DoesNotExist", &[], true),
        ("a=", "a", "DoesNotExist", &[], false),
        ("", "a", "DoesNotExist", &["1"], false),
        ("a=5", "a", "Gt", &["4"], true),
        ("a=5", "a", "Gt", &["5"], false),
        ("a=5", "a", "Lt", &["5"], false),
        ("a=5", "a", "Lt", &["6"], true),
        ("a=007", "a", "Lt", &["0008"], true),
        ("a=5", "a", "Gt", &["4", "3"], false),
        ("a=5", "a", "Gt", &[], false),
        ("a=5", "a", "Gt", &["-1"], false),
        ("a=5", "a", "Gt", &["abc"], false),
        ("a=5", "a", "Gt", &["1e3"], false),
        ("a=5", "a", "Gt", &["1.5"], false),
        ("a=5", "a", "Lt", &["9223372036854775807"], true),
        ("a=5", "a", "Lt", &["9223372036854775808"], false),
        ("a=abc", "a", "Gt", &["4"], false),
        ("a=", "a", "Lt", &["4"], false),
        ("", "a", "Lt", &["4"], false),
        ("", "a", "Gt", &["4"], false),
        ("a=1", "a", "in", &["1"], false),
        ("a=1", "a", "", &["1"], false),
    ] {
        assert_eq!(
            holds(labels, key, operator, values),
            expected,
            "{key} {operator} {values:?} on {labels:?}"
        );
    }
}

#[test]
fn terms_of_affinities() {
    let yes = expression("a", "Exists", &[]);
    let no = expression("b", "Exists", &[]);
    let broken = expression("a", "Gt", &["abc"]);
    let named = |operator: &str, values: &[&str]| expression("metadata.name", operator, values);
    let all =
        |expressions: &[&serde_json::Value]| serde_json::json!({"matchExpressions": expressions});
    let fields = |fields: serde_json::Value| serde_json::json!({"matchFields": [fields]});
    let both = |expression: &serde_json::Value, field: serde_json::Value| serde_json::json!({"matchExpressions": [expression], "matchFields": [field]});
    let empty = serde_json::json!({});
    let nulls = serde_json::json!({"matchExpressions": null, "matchFields": []});
    for (case, terms, expected) in [
        ("no terms", vec![], false),
        ("an empty one", vec![empty.clone()], false),
        ("empty lists", vec![nulls], false),
        ("an empty one and another", vec![empty, all(&[&yes])], true),
        ("one that holds", vec![all(&[&yes])], true),
        ("one that does not", vec![all(&[&no])], false),
        ("either", vec![all(&[&no]), all(&[&yes])], true),
        ("all of a term", vec![all(&[&yes, &no])], false),
        ("a broken one", vec![all(&[&yes, &broken])], false),
        ("a broken one and another", vec![all(&[&broken]), all(&[&yes])], true),
        ("its name", vec![fields(named("In", &["node-1"]))], true),
        ("another name", vec![fields(named("In", &["node-2"]))], false),
        ("not its name", vec![fields(named("NotIn", &["node-1"]))], false),
        ("not another name", vec![fields(named("NotIn", &["node-2"]))], true),
        ("two names", vec![fields(named("In", &["node-1", "node-2"]))], false),
        ("a name that exists", vec![fields(named("Exists", &[]))], false),
        ("another field", vec![fields(expression("metadata.uid", "In", &["node-1"]))], false),
        ("a name as a label", vec![all(&[&named("In", &["node-1"])])], false),
        ("both", vec![both(&yes, named("In", &["node-1"]))], true),
        ("only the label", vec![both(&yes, named("In", &["node-2"]))], false),
        ("only the name", vec![both(&no, named("In", &["node-1"]))], false),
    ] {
        let found = placement(affinity(terms.into())).mismatch(&node("a=1", &[]));
        assert_eq!(found, (!expected).then_some(Mismatch::Affinity), "{case}");
    }
}

#[test]
fn an_affinity_without_requirements_allows_every_node() {
    for spec in [
        serde_json::json!({"affinity": null}),
        serde_json::json!({"affinity": {}}),
        serde_json::json!({"affinity": {"nodeAffinity": null}}),
        serde_json::json!({"affinity": {"nodeAffinity": {}}}),
        serde_json::json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": null}}}),
        serde_json::json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}}),
        serde_json::json!({"nodeSelector": null, "tolerations": null, "nodeName": ""}),
        serde_json::json!({"schedulerName": "x", "containers": [{"ports": [{"hostPort": 80}]}]}),
    ] {
        assert_eq!(placement(spec.clone()).mismatch(&node("", &[])), None, "{spec}");
    }
    let required = serde_json::json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}});
    assert_eq!(
        placement(required).mismatch(&node("", &[])),
        Some(Mismatch::Affinity),
        "required, and no terms"
    );
}

const NO_SCHEDULE: TaintEffect = TaintEffect::NoSchedule;
const NO_EXECUTE: TaintEffect = TaintEffect::NoExecute;

#[test]
fn tolerations_and_taints() {
    for (case, toleration, (key, value, effect), expected) in [
        ("all", r#"{"operator":"Exists"}"#, ("k", "v", NO_EXECUTE), true),
        (
            "all of an effect",
            r#"{"operator":"Exists","effect":"NoSchedule"}"#,
            ("k", "v", NO_SCHEDULE),
            true,
        ),
        (
            "another effect",
            r#"{"operator":"Exists","effect":"NoSchedule"}"#,
            ("k", "v", NO_EXECUTE),
            false,
        ),
        ("the key", r#"{"key":"k","operator":"Exists"}"#, ("k", "v", NO_SCHEDULE), true),
        ("another key", r#"{"key":"K","operator":"Exists"}"#, ("k", "v", NO_SCHEDULE), false),
        (
            "the value",
            r#"{"key":"k","operator":"Equal","value":"v"}"#,
            ("k", "v", NO_EXECUTE),
            true,
        ),
        ("no operator", r#"{"key":"k","value":"v"}"#, ("k", "v", NO_SCHEDULE), true),
        (
            "an empty operator",
            r#"{"key":"k","operator":"","value":"v","effect":""}"#,
            ("k", "v", NO_SCHEDULE),
            true,
        ),
        ("another value", r#"{"key":"k","value":"w"}"#, ("k", "v", NO_SCHEDULE), false),
        ("a key alone", r#"{"key":"k"}"#, ("k", "v", NO_SCHEDULE), false),
        ("a key alone, no value", r#"{"key":"k"}"#, ("k", "", NO_SCHEDULE), true),
        (
            "a soft one",
            r#"{"key":"k","operator":"Exists","effect":"PreferNoSchedule"}"#,
            ("k", "v", NO_SCHEDULE),
            false,
        ),
        (
            "seconds",
            r#"{"key":"k","operator":"Exists","tolerationSeconds":0}"#,
            ("k", "v", NO_EXECUTE),
            true,
        ),
        (
            "fewer",
            r#"{"key":"k","operator":"Exists","tolerationSeconds":-5}"#,
            ("k", "v", NO_EXECUTE),
            true,
        ),
        (
            "unknown",
            r#"{"key":"k","operator":"Matches","value":"v"}"#,
            ("k", "v", NO_SCHEDULE),
            false,
        ),
        ("greater", r#"{"key":"k","operator":"Gt","value":"4"}"#, ("k", "5", NO_SCHEDULE), true),
        (
            "not greater",
            r#"{"key":"k","operator":"Gt","value":"5"}"#,
            ("k", "5", NO_SCHEDULE),
            false,
        ),
        ("less", r#"{"key":"k","operator":"Lt","value":"-1"}"#, ("k", "-2", NO_SCHEDULE), true),
        ("no number", r#"{"key":"k","operator":"Lt","value":"x"}"#, ("k", "5", NO_SCHEDULE), false),
        (
            "zero",
            r#"{"key":"k","operator":"Lt","value":"0"}"#,
            ("k", "-9223372036854775808", NO_SCHEDULE),
            true,
        ),
        ("a plus", r#"{"key":"k","operator":"Lt","value":"+9"}"#, ("k", "5", NO_SCHEDULE), false),
        (
            "a zero before",
            r#"{"key":"k","operator":"Lt","value":"0950"}"#,
            ("k", "5", NO_SCHEDULE),
            false,
        ),
        (
            "less than zero by its sign alone",
            r#"{"key":"k","operator":"Lt","value":"-0"}"#,
            ("k", "-5", NO_SCHEDULE),
            false,
        ),
        (
            "a taint with a zero before",
            r#"{"key":"k","operator":"Lt","value":"9"}"#,
            ("k", "05", NO_SCHEDULE),
            false,
        ),
        ("no value", r#"{"key":"k","operator":"Lt","value":"9"}"#, ("k", "", NO_SCHEDULE), false),
        ("nothing", "{}", ("k", "", NO_SCHEDULE), true),
        ("nothing against a value", "{}", ("k", "v", NO_SCHEDULE), false),
    ] {
        let toleration: serde_json::Value = serde_json::from_str(toleration).unwrap();
        let placement = placement(serde_json::json!({"tolerations": [toleration]}));
        let found = placement.mismatch(&node("", &[(key, value, effect)]));
        assert_eq!(found.is_none(), expected, "{case}: {found:?}");
    }
}

#[test]
fn tolerations_that_the_controller_adds() {
    let own = |name: &str| format!("node.kubernetes.io/{name}");
    for (name, effect, expected) in [
        ("not-ready", NO_EXECUTE, true),
        ("not-ready", NO_SCHEDULE, false),
        ("unreachable", NO_EXECUTE, true),
        ("unreachable", NO_SCHEDULE, false),
        ("disk-pressure", NO_SCHEDULE, true),
        ("memory-pressure", NO_SCHEDULE, true),
        ("memory-pressure", NO_EXECUTE, false),
        ("pid-pressure", NO_SCHEDULE, true),
        ("unschedulable", NO_SCHEDULE, true),
        ("unschedulable", NO_EXECUTE, false),
        ("network-unavailable", NO_SCHEDULE, false),
        ("out-of-service", NO_EXECUTE, false),
    ] {
        // With any value: the controller's tolerations name the key alone.
        let tainted = node("", &[(&own(name), "x", effect)]);
        assert_eq!(
            Placement::default().mismatch(&tainted).is_none(),
            expected,
            "{name} {effect:?}"
        );
        let on_host = Placement { has_host_network: true, ..Placement::default() };
        let expected = expected || name == "network-unavailable";
        assert_eq!(
            on_host.mismatch(&tainted).is_none(),
            expected,
            "{name} {effect:?} on the host network"
        );
    }
}

#[test]
fn reasons_in_words() {
    let tainted = node("disk=hdd", &[("a", "b", NO_EXECUTE)]);
    for (template, expected) in [
        (serde_json::json!({"nodeName": "node-2"}), "nodeName is node-2"),
        (
            serde_json::json!({"nodeSelector": {"disk": "ssd"}}),
            "nodeSelector does not match: disk must be \"ssd\", node has \"hdd\"",
        ),
        (
            serde_json::json!({"nodeSelector": {"x": ""}}),
            "nodeSelector does not match: x must be \"\", node has no such label",
        ),
        (affinity(serde_json::json!([])), "required node affinity does not match"),
        (serde_json::json!({}), "untolerated taint a=b:NoExecute"),
        (serde_json::json!({"nodeName": "node-1"}), "untolerated taint a=b:NoExecute"),
    ] {
        let found = placement(template.clone()).mismatch(&tainted).map(|why| why.to_string());
        assert_eq!(found.as_deref(), Some(expected), "{template}");
    }
}

fn labels() -> impl Strategy<Value = Labels> {
    proptest::collection::btree_map("[abc]", "[0-3]?", 0..4)
}

fn effect() -> impl Strategy<Value = TaintEffect> {
    prop_oneof![Just(NO_SCHEDULE), Just(NO_EXECUTE)]
}

fn taint() -> impl Strategy<Value = Taint> {
    ("[abc]", "[0-3]?", effect()).prop_map(|(key, value, effect)| Taint {
        key: key.into(),
        value: value.into(),
        effect,
    })
}

fn nodes() -> impl Strategy<Value = NodeTraits> {
    ("[mn]", labels(), proptest::collection::vec(taint(), 0..3))
        .prop_map(|(name, labels, taints)| NodeTraits { name: name.into(), labels, taints })
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let operator = prop_oneof![
        Just(Operator::In),
        Just(Operator::NotIn),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
        Just(Operator::Gt),
        Just(Operator::Lt),
        Just(Operator::Unknown),
    ];
    ("[abc]", operator, proptest::collection::vec("[0-3]?|x y", 0..3)).prop_map(
        |(key, operator, values)| Requirement {
            key: key.into(),
            operator,
            values: values.into_iter().map(Into::into).collect(),
        },
    )
}

fn term() -> impl Strategy<Value = Term> {
    proptest::collection::vec(requirement(), 0..3)
        .prop_map(|labels| Term { labels: labels.into(), fields: Box::default() })
}

fn toleration() -> impl Strategy<Value = Toleration> {
    let operator = prop_oneof![
        Just(TolerationOperator::Equal),
        Just(TolerationOperator::Exists),
        Just(TolerationOperator::Gt),
        Just(TolerationOperator::Lt)
    ];
    let effect = proptest::option::of(effect().prop_map(ToleratedEffect::Of));
    ("[abc]?", operator, "[0-3]?", effect).prop_map(|(key, operator, value, effect)| Toleration {
        key: key.into(),
        operator,
        value: value.into(),
        effect,
    })
}

fn placements() -> impl Strategy<Value = Placement> {
    let affinity = proptest::option::of(
        proptest::collection::vec(term(), 0..3).prop_map(Vec::into_boxed_slice),
    );
    let tolerations = proptest::collection::vec(toleration(), 0..3);
    (
        proptest::collection::btree_map("[abc]", "[0-3]?", 0..2),
        affinity,
        tolerations,
        any::<bool>(),
        "[mn]?",
    )
        .prop_map(|(selector, affinity, tolerations, has_host_network, node_name)| Placement {
            node_name: node_name.into(),
            selector,
            affinity,
            tolerations: tolerations.into(),
            has_host_network,
        })
}

fn fits(placement: &Placement, node: &NodeTraits) -> bool {
    placement.mismatch(node).is_none()
}

#[test]
fn a_packed_placement_is_small() {
    let selector = (0..10).map(|key| (format!("k{key}"), "v1234".to_owned())).collect();
    let placement = Placement { selector, ..Placement::default() };
    assert_eq!(PackedPlacement::of(&placement).byte_len(), 5 + 10 * 9);
    let long = Placement { node_name: "x".repeat(300).into(), ..Placement::default() };
    assert_eq!(PackedPlacement::of(&long).unpack(), long, "a length of two bytes");
}

proptest! {
    #[test]
    fn packing_loses_no_part(one in placements(), other in placements()) {
        let (packed, another) = (PackedPlacement::of(&one), PackedPlacement::of(&other));
        prop_assert_eq!(packed.unpack(), one.clone());
        prop_assert_eq!(packed == another, one == other);
    }

    /// Like the controller: an existing pod stays if taints `NoSchedule` alone exclude the node.
    #[test]
    fn existing_pods_stay_if_only_no_schedule_excludes_the_node(placement in placements(), node in nodes()) {
        let without = |effect| {
            let taints = node.taints.iter().filter(|taint| taint.effect != effect).cloned().collect();
            NodeTraits { taints, ..node.clone() }
        };
        let expected = match (fits(&placement, &node), fits(&placement, &without(TaintEffect::NoSchedule))) {
            (true, _) => Fit::Wanted,
            (false, true) => Fit::KeepsExisting,
            (false, false) => Fit::Unwanted,
        };
        prop_assert_eq!(placement.fit(&node), expected);
    }

    #[test]
    fn a_selector_fits_exactly_when_it_is_a_subset(selector in labels(), node in nodes()) {
        let node = NodeTraits { taints: Vec::new(), ..node };
        let is_subset = selector.iter().all(|pair| node.labels.iter().any(|other| other == pair));
        prop_assert_eq!(fits(&Placement { selector, ..Placement::default() }, &node), is_subset);
    }

    #[test]
    fn each_part_of_a_placement_is_independent(placement in placements(), node in nodes()) {
        let alone = [
            Placement { node_name: placement.node_name.clone(), ..Placement::default() },
            Placement { selector: placement.selector.clone(), ..Placement::default() },
            Placement { affinity: placement.affinity.clone(), ..Placement::default() },
        ];
        let bare = NodeTraits { taints: Vec::new(), ..node.clone() };
        let taints = Placement {
            tolerations: placement.tolerations.clone(),
            has_host_network: placement.has_host_network,
            ..Placement::default()
        };
        prop_assert_eq!(fits(&placement, &node), alone.iter().all(|part| fits(part, &bare)) && fits(&taints, &node));
    }

    #[test]
    fn terms_are_alternatives(placement in placements(), more in term(), node in nodes()) {
        let terms = placement.affinity.clone().unwrap_or_default().into_vec();
        let with = |terms: Vec<Term>| fits(&Placement { affinity: Some(terms.into()), ..placement.clone() }, &node);
        let either = with(terms.clone()) || with(vec![more.clone()]);
        prop_assert_eq!(with(terms.iter().cloned().chain([more]).collect()), either);
        prop_assert_eq!(with(terms.iter().cloned().chain([Term::default()]).collect()), with(terms));
    }

    #[test]
    fn one_more_requirement_never_allows_more_nodes(term in term(), more in requirement(), node in nodes()) {
        let longer = Term { labels: term.labels.iter().cloned().chain([more]).collect(), ..term.clone() };
        prop_assert!(term.labels.is_empty() || !longer.holds(&node) || term.holds(&node));
    }

    #[test]
    fn operators_and_their_opposites(values in proptest::collection::vec("[0-3]?", 1..3), node in nodes()) {
        let values: Box<[Box<str>]> = values.into_iter().map(Into::into).collect();
        let found = node.labels.get("a").map(|value| &**value);
        let holds = |operator, values| Requirement { key: "a".into(), operator, values }.holds(found);
        prop_assert_ne!(holds(Operator::In, values.clone()), holds(Operator::NotIn, values.clone()));
        prop_assert_ne!(holds(Operator::Exists, Box::default()), holds(Operator::DoesNotExist, Box::default()));
        let one: Box<[Box<str>]> = Box::new([values[0].clone()]);
        let numbers = found.and_then(|found| found.parse::<i64>().ok()).zip(one[0].parse::<i64>().ok());
        prop_assert_eq!(holds(Operator::Gt, one.clone()), numbers.is_some_and(|(found, value)| found > value));
        prop_assert_eq!(holds(Operator::Lt, one), numbers.is_some_and(|(found, value)| found < value));
    }

    #[test]
    fn one_more_toleration_never_excludes_and_one_more_taint_never_allows(
        placement in placements(), toleration in toleration(), taint in taint(), node in nodes(),
    ) {
        let lenient = Placement {
            tolerations: placement.tolerations.iter().cloned().chain([toleration]).collect(),
            ..placement.clone()
        };
        prop_assert!(!fits(&placement, &node) || fits(&lenient, &node));
        let tainted = NodeTraits { taints: node.taints.iter().cloned().chain([taint]).collect(), ..node.clone() };
        prop_assert!(!fits(&placement, &tainted) || fits(&placement, &node));
    }

    #[test]
    fn tolerating_every_taint_makes_taints_irrelevant(placement in placements(), node in nodes()) {
        let all = Toleration { operator: TolerationOperator::Exists, ..Toleration::default() };
        let placement = Placement { tolerations: [all].into(), ..placement };
        let bare = NodeTraits { taints: Vec::new(), ..node.clone() };
        prop_assert_eq!(fits(&placement, &node), fits(&placement, &bare));
    }
}
