//! Reading responses: complete, cut, in pieces, and invalid.

use std::collections::BTreeMap;
use std::io::{self, Read};

use proptest::prelude::*;

use super::error::unreadable;
use super::json_bounds::{DEEPEST, LARGEST_OBJECT, LONGEST_TEXT};
use super::objects::{DaemonSetObject, NodeObject, PodObject, StatusObject};
use super::*;
use crate::core::daemonset::DaemonSet;
use crate::core::eligibility::{
    Operator, Placement, Requirement, Taint, TaintEffect, Term, ToleratedEffect, Toleration,
    TolerationOperator,
};
use crate::core::filter::{Exclusion, Filter};
use crate::core::pod::{Gate, Phase, Pod};

macro_rules! recorded {
    ($name:literal) => {
        testkit::transcript::body(include_str!("../../tests/data/answers"), $name)
    };
}

/// Reads bytes in pieces that end at these positions.
struct Pieces<'b> {
    bytes: &'b [u8],
    ends: Vec<usize>,
    at: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let end = self.ends.iter().copied().find(|end| *end > self.at).unwrap_or(self.bytes.len());
        let count = out.len().min(end - self.at);
        out[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

type List<T> = Result<(Vec<T>, Option<String>), ApiError>;

fn list_from<T: ApiObject>(source: impl Read) -> List<T> {
    let mut items = Vec::new();
    let page =
        read_list(source, &mut |item| items.push(item)).map_err(|e| unreadable("list", None, e))?;
    Ok((items, page.token))
}

fn with_all_labels(set: DaemonSetObject) -> DaemonSet {
    set.into_daemonset(|_| true)
}

fn daemonsets(json: &str) -> Result<Vec<DaemonSet>, ApiError> {
    Ok(list_from::<DaemonSetObject>(json.as_bytes())?.0.into_iter().map(with_all_labels).collect())
}

fn pods(json: &str) -> Result<Vec<Pod>, ApiError> {
    Ok(list_from::<PodObject>(json.as_bytes())?
        .0
        .into_iter()
        .filter_map(PodObject::into_pod)
        .collect())
}

fn labels(items: &[(&str, &str)]) -> BTreeMap<String, String> {
    items.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

/// The affinity of the recorded gpu-plugin.
fn on_node_b() -> Box<[Term]> {
    let requirement = Requirement {
        key: "kubernetes.io/hostname".into(),
        operator: Operator::In,
        values: Box::new(["node-b".into()]),
    };
    Box::new([Term { labels: Box::new([requirement]), fields: Box::default() }])
}

/// The tolerations of the recorded DaemonSets.
fn tolerations_of(name: &str) -> Box<[Toleration]> {
    let effect = Some(ToleratedEffect::Of(TaintEffect::NoSchedule));
    let gpu = || Toleration {
        key: "dedicated".into(),
        value: "gpu".into(),
        effect,
        ..Toleration::default()
    };
    match name {
        "gpu-plugin" => Box::new([gpu()]),
        "kube-proxy" => {
            Box::new([Toleration { operator: TolerationOperator::Exists, ..Toleration::default() }])
        }
        _ => Box::default(),
    }
}

fn set(
    namespace: &str,
    name: &str,
    uid: &str,
    on_set: &[(&str, &str)],
    selector: &[(&str, &str)],
) -> DaemonSet {
    DaemonSet {
        namespace: namespace.into(),
        name: name.into(),
        uid: uid.into(),
        labels: labels(on_set),
        placement: Placement {
            selector: labels(selector),
            affinity: (name == "gpu-plugin").then(on_node_b),
            tolerations: tolerations_of(name),
            has_host_network: matches!(name, "kube-proxy" | "node-exporter"),
            ..Placement::default()
        },
        ..DaemonSet::default()
    }
}

const GPU_PLUGIN: &str = "9f43ba7d-064e-4fd8-9474-bf0e3241bf98";
const KUBE_PROXY: &str = "b7408a75-567f-4b4f-99a0-4815e4b0ac54";
const FLUENTD: &str = "8cbf9a41-118a-469c-9c8f-06d2e2d48bb6";
const NODE_EXPORTER: &str = "8a16b83c-ea36-4637-96dd-a7b4c23f7a3d";

fn all_sets() -> Vec<DaemonSet> {
    vec![
        set("kube-system", "gpu-plugin", GPU_PLUGIN, &[("app", "gpu-plugin")], &[]),
        set(
            "kube-system",
            "kube-proxy",
            KUBE_PROXY,
            &[("k8s-app", "kube-proxy")],
            &[("kubernetes.io/os", "linux")],
        ),
        set(
            "logging",
            "fluentd",
            FLUENTD,
            &[("app", "fluentd"), ("version", "1.1")],
            &[("disk", "ssd")],
        ),
        set("monitoring", "node-exporter", NODE_EXPORTER, &[("app", "node-exporter")], &[]),
    ]
}

/// Name, UID of the owner, phase and readiness.
fn summary(pod: Pod) -> (String, Box<str>, Phase, bool) {
    (
        format!("{}/{}", pod.owner.namespace(), pod.name),
        pod.owner.uid().into(),
        pod.phase,
        pod.is_ready,
    )
}

#[test]
fn recorded_daemonsets() {
    assert_eq!(daemonsets(recorded!("daemonsets-all")), Ok(all_sets()));
    assert_eq!(daemonsets(recorded!("daemonsets-kube-system")), Ok(all_sets()[..2].to_vec()));
    assert_eq!(daemonsets(recorded!("daemonsets-empty-namespace")), Ok(vec![]));
    let mut pages = Vec::new();
    for (page, has_next) in [
        (recorded!("daemonsets-limit1-page1"), true),
        (recorded!("daemonsets-limit1-page2"), true),
        (recorded!("daemonsets-limit1-page3"), true),
        (recorded!("daemonsets-limit1-page4"), false),
    ] {
        let (items, token) = list_from::<DaemonSetObject>(page.as_bytes()).unwrap();
        assert_eq!(token.is_some_and(|token| token.starts_with("eyJ2I")), has_next);
        pages.extend(items.into_iter().map(with_all_labels));
    }
    assert_eq!(pages, all_sets());
}

#[test]
fn recorded_pods() {
    let told_of = |json: &str| pods(json).unwrap().into_iter().map(summary).collect::<Vec<_>>();
    let pod = |name: &str, owner: &str, phase, is_ready| {
        (name.to_owned(), Box::from(owner), phase, is_ready)
    };
    let on_a = [
        pod("kube-system/kube-proxy-pq68d", KUBE_PROXY, Phase::Running, true),
        pod("logging/fluentd-p6s9t", FLUENTD, Phase::Running, true),
        pod("monitoring/node-exporter-szjrd", NODE_EXPORTER, Phase::Running, false),
    ];
    let on_b = [
        pod("kube-system/gpu-plugin-tcj4v", GPU_PLUGIN, Phase::Pending, false),
        pod("kube-system/kube-proxy-4cgr9", KUBE_PROXY, Phase::Pending, false),
    ];
    assert_eq!(told_of(recorded!("pods-node-a")), on_a, "pods of a ReplicaSet are left out");
    assert_eq!(told_of(recorded!("pods-node-b")), on_b);
    assert_eq!(pods(recorded!("pods-no-such-node")), Ok(vec![]));
    let (items, _) = list_from::<PodObject>(recorded!("pods-node-a").as_bytes()).unwrap();
    assert!(items.iter().all(|pod| pod.is_on("node-a") && !pod.is_on("node-b")));
    let first = pods(recorded!("pods-node-a")).unwrap().remove(0);
    assert_eq!(
        (&*first.uid, first.owner.name()),
        ("18e93f57-96a3-46e5-978a-4ae0ed36f0b7", "kube-proxy")
    );
    assert_eq!((first.created, first.started), (Some(1_795_377_560), Some(1_795_377_561)));
}

#[test]
fn recorded_nodes_and_errors() {
    let read = |json: &str| read_one::<NodeObject>(json.as_bytes()).unwrap();
    let mut expected = labels(&[
        ("beta.kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/os", "linux"),
        ("disk", "ssd"),
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/hostname", "node-a"),
        ("kubernetes.io/os", "linux"),
    ]);
    let node = read(recorded!("node-a")).into_node().unwrap();
    assert_eq!((&node.traits.labels, node.traits.taints.len()), (&expected, 0));
    assert_eq!((node.is_ready, node.bad_conditions.len(), &*node.boot_id), (true, 0, "fake"));
    assert_eq!(node.cpus, Quantity::parse("4"));
    assert!(
        read(recorded!("node-a")).is_called("node-a")
            && !read(recorded!("node-a")).is_called("node-b")
    );
    expected.remove("disk");
    expected.insert("kubernetes.io/hostname".into(), "node-b".into());
    let node = read(recorded!("node-b")).into_node().unwrap();
    let dedicated =
        Taint { key: "dedicated".into(), value: "gpu".into(), effect: TaintEffect::NoSchedule };
    assert_eq!((&node.traits.labels, &node.traits.taints), (&expected, &vec![dedicated]));
    assert_eq!(
        StatusObject::message(recorded!("error-404-node")).as_deref(),
        Some("nodes \"no-such-node\" not found")
    );
    assert_eq!(StatusObject::message("<html>"), None);
    assert_eq!(StatusObject::message("{}"), None);
}

#[test]
fn conditions_of_a_node() {
    for (conditions, is_ready, bad_conditions) in [
        ("null", false, &[][..]),
        ("[]", false, &[]),
        (r#"[{"type":"Ready","status":"True"}]"#, true, &[]),
        (r#"[{"type":"Ready","status":"Unknown"}]"#, false, &[]),
        (
            r#"[{"type":"MemoryPressure","status":"True"},{"type":"Ready","status":"True"}]"#,
            true,
            &["MemoryPressure"],
        ),
        (
            r#"[{"type":"DiskPressure","status":"Unknown"},{"type":"PIDPressure","status":"False"}]"#,
            false,
            &[],
        ),
        (
            r#"[{"type":"DiskPressure","status":"True"},{"type":"PIDPressure","status":"True"},{"type":"NetworkUnavailable","status":"True"},{"type":"Other","status":"True"}]"#,
            false,
            &["DiskPressure", "PIDPressure", "NetworkUnavailable"],
        ),
    ] {
        let json = format!(
            r#"{{"kind":"Node","metadata":{{"name":"n"}},"status":{{"conditions":{conditions}}}}}"#
        );
        let node = read_one::<NodeObject>(json.as_bytes()).unwrap().into_node().unwrap();
        assert_eq!(
            (node.is_ready, &node.bad_conditions[..]),
            (is_ready, bad_conditions),
            "{conditions}"
        );
    }
}

/// A list of one DaemonSet with this metadata and spec.
fn with_metadata_and_spec(metadata: &str, spec: &str) -> String {
    let metadata = format!(r#"{{"namespace":"n","name":"d","uid":"u"{metadata}}}"#);
    format!(r#"{{"kind":"DaemonSetList","items":[{{"metadata":{metadata}{spec}}}]}}"#)
}

#[test]
fn fields_of_a_daemonset() {
    let plain = || DaemonSet {
        namespace: "n".into(),
        name: "d".into(),
        uid: "u".into(),
        ..Default::default()
    };
    for (metadata, spec, expected) in [
        ("", "", plain()),
        (
            r#","labels":null,"annotations":null,"deletionTimestamp":null"#,
            r#","spec":null"#,
            plain(),
        ),
        ("", r#","spec":{"template":null}"#, plain()),
        ("", r#","spec":{"template":{"spec":null}}"#, plain()),
        ("", r#","spec":{"template":{"spec":{"nodeSelector":null,"hostNetwork":null}}}"#, plain()),
        (
            r#","labels":{"a":"1","b":""}"#,
            r#","spec":{"template":{"spec":{"nodeSelector":{"c":"2"},"hostNetwork":true,"x":[{}]}}}"#,
            DaemonSet {
                labels: labels(&[("a", "1"), ("b", "")]),
                placement: Placement {
                    selector: labels(&[("c", "2")]),
                    has_host_network: true,
                    ..Placement::default()
                },
                ..plain()
            },
        ),
        (
            r#","deletionTimestamp":"2026-11-22T19:59:21Z""#,
            "",
            DaemonSet { is_being_deleted: true, ..plain() },
        ),
        (r#","deletionTimestamp":"soon""#, "", DaemonSet { is_being_deleted: true, ..plain() }),
        (
            r#","annotations":{"pod-startup-lock/ignore":"false","pod-startup-lock/ignore":"true"}"#,
            "",
            DaemonSet { is_ignored: true, ..plain() },
        ),
        (r#","annotations":{"pod-startup-lock/ignore":"true, please"}"#, "", plain()),
        (
            r#","annotations":{"a":"b","pod-startup-lock/ignore":"true","c":"d"}"#,
            "",
            DaemonSet { is_ignored: true, ..plain() },
        ),
        (r#","annotations":{"pod-startup-lock/ignore":"false"}"#, "", plain()),
        (r#","annotations":{"pod-startup-lock/ignore":""}"#, "", plain()),
        (r#","annotations":{"pod-startup-lock/gate":"true"}"#, "", plain()),
        (
            r#","\u006cabels":{"\u0061":"\ud83d\ude00"}"#,
            "",
            DaemonSet { labels: labels(&[("a", "😀")]), ..plain() },
        ),
    ] {
        assert_eq!(
            daemonsets(&with_metadata_and_spec(metadata, spec)),
            Ok(vec![expected]),
            "{metadata} {spec}"
        );
    }
}

#[test]
fn only_the_controlling_owner_counts() {
    for (owners, expected) in [
        ("null", None),
        ("[]", None),
        (r#"[{"apiVersion":"apps/v1","kind":"DaemonSet","uid":"a"}]"#, None),
        (r#"[{"apiVersion":"apps/v1","kind":"DaemonSet","uid":"a","controller":false}]"#, None),
        (
            r#"[{"uid":"a","controller":null},{"apiVersion":"apps/v1","kind":"DaemonSet","uid":"b","controller":true}]"#,
            Some("b"),
        ),
        (r#"[{"apiVersion":"apps/v1","kind":"ReplicaSet","uid":"b","controller":true}]"#, None),
        (
            r#"[{"apiVersion":"apps.kruise.io/v1","kind":"DaemonSet","uid":"b","controller":true}]"#,
            None,
        ),
    ] {
        let json = format!(
            r#"{{"kind":"PodList","items":[{{"metadata":{{"name":"p","ownerReferences":{owners}}}}}]}}"#
        );
        assert_eq!(pods(&json).unwrap().first().map(|pod| pod.owner.uid()), expected, "{owners}");
    }
}

#[test]
fn an_owner_that_cannot_be_a_daemonset_is_skipped() {
    let (long, longest) = ("x".repeat(254), format!("apps/{}", "x".repeat(123)));
    for (version, kind, name, uid, expected) in [
        ("apps/v1", "DaemonSet", &long[..253], &long[..128], true),
        (&longest, "DaemonSet", "d", "u", true),
        ("apps/v1", "DaemonSet", &long, "u", false),
        ("apps/v1", "DaemonSet", "d", &long[..129], false),
        ("apps/v1", &long[..129], "d", "u", false),
        (&format!("{longest}x"), "DaemonSet", "d", "u", false),
        ("apps/v1", "DaemonSet", "d-1.example", "u", true),
        ("apps/v1", "DaemonSet", "d,e", "u", false),
        ("apps/v1", "DaemonSet", "d=e", "u", false),
        ("apps/v1", "DaemonSet", "d!", "u", false),
        ("apps/v1", "DaemonSet", r"d\\", "u", false),
        ("apps/v1", "DaemonSet", "../d", "u", false),
        ("apps/v1", "DaemonSet", "d e", "u", false),
        ("apps/v1", "DaemonSet", "\u{e4}", "u", false),
    ] {
        let owner = format!(
            r#"{{"apiVersion":"{version}","kind":"{kind}","name":"{name}","uid":"{uid}","controller":true}}"#
        );
        let json = format!(
            r#"{{"kind":"PodList","items":[{{"metadata":{{"name":"p","ownerReferences":[{owner}]}}}},{{"metadata":{{"name":"q",{OWNED}}}}}]}}"#
        );
        assert_eq!(pods(&json).unwrap().len(), 1 + usize::from(expected), "{owner}");
    }
}

/// The DaemonSet of this template's `spec`.
fn of_template(spec: &str) -> DaemonSet {
    let json = daemonset("", &format!(r#","spec":{{"template":{{"spec":{{{spec}}}}}}}"#));
    daemonsets(&json).unwrap().remove(0)
}

#[test]
fn lists_of_any_length_take_bounded_memory() {
    let times = |element: &str, count: usize| vec![element; count].join(",");
    let required = |terms: &str| {
        format!(
            r#""affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{terms}]}}}}}}"#
        )
    };
    let none = of_template(r#""affinity":{"nodeAffinity":{}}"#);
    assert!(none.placement.affinity.is_none() && !none.is_too_large);
    let void = of_template(&required(&times("{}", 650_000)));
    assert_eq!(
        (void.placement.affinity, void.is_too_large),
        (Some([].into()), false),
        "such terms hold on no node"
    );
    let within = |key: &str, elements: &str| required(&format!(r#"{{"{key}":[{elements}]}}"#));
    let values = |count| {
        within(
            "matchExpressions",
            &format!(
                r#"{{"key":"k","operator":"In","values":[{}]}}"#,
                times(r#""node-00001""#, count)
            ),
        )
    };
    for (case, spec, expected) in [
        ("3,000 nodes by name", values(3_000), false),
        ("values", values(50_000), true),
        (
            "empty values",
            within("matchExpressions", &format!(r#"{{"values":[{}]}}"#, times(r#""""#, 50_000))),
            true,
        ),
        ("requirements", within("matchExpressions", &times("{}", 50_000)), true),
        ("fields", within("matchFields", &times("{}", 50_000)), true),
        ("terms", required(&times(r#"{"matchFields":[{}]}"#, 50_000)), true),
        ("some tolerations", format!(r#""tolerations":[{}]"#, times("{}", 1_000)), false),
        ("tolerations", format!(r#""tolerations":[{}]"#, times("{}", 50_000)), true),
        ("init containers", format!(r#""initContainers":[{}]"#, times("{}", 50_000)), false),
    ] {
        let set = of_template(&spec);
        assert_eq!(set.is_too_large, expected, "{case}");
        let terms = set.placement.affinity.iter().flatten();
        let requirements: Vec<_> =
            terms.flat_map(|term| term.labels.iter().chain(&term.fields)).collect();
        let kept =
            requirements.iter().map(|one| one.values.len()).sum::<usize>() + requirements.len();
        assert!(kept + set.placement.tolerations.len() < 10_000, "{case}: {kept}");
        let excluded = Filter::default().exclusion(&set);
        assert_eq!(excluded == Some(Exclusion::TooLarge), expected, "{case}: {excluded:?}");
    }
}

/// The owner reference of a DaemonSet's pod.
const OWNED: &str = r#""ownerReferences":[{"apiVersion":"apps/v1","kind":"DaemonSet","name":"d","uid":"u","controller":true}]"#;

#[test]
fn only_the_condition_ready_counts() {
    for (conditions, expected) in [
        ("null", false),
        ("[]", false),
        (r#"[{"type":"ContainersReady","status":"True"}]"#, false),
        (r#"[{"type":"Ready","status":"False"}]"#, false),
        (r#"[{"type":"Ready","status":"Unknown"}]"#, false),
        (r#"[{"type":"x","status":"y"},{"type":"Ready","status":"True"}]"#, true),
    ] {
        let json = format!(
            r#"{{"kind":"PodList","items":[{{"metadata":{{"name":"p",{OWNED}}},"status":{{"phase":"Running","conditions":{conditions}}}}}]}}"#
        );
        assert_eq!(pods(&json).unwrap()[0].is_ready, expected, "{conditions}");
    }
}

const CUT: &str = "incomplete JSON: list";
const NO_JSON: &str = "invalid JSON: list";
const OTHER: &str = "unexpected JSON: list";

fn daemonset(metadata: &str, rest: &str) -> String {
    format!(
        r#"{{"kind":"DaemonSetList","items":[{{"metadata":{{"namespace":"n","name":"a","uid":"u"{metadata}}}{rest}}}]}}"#
    )
}

fn read_daemonsets(json: &str) -> Result<Vec<DaemonSet>, String> {
    let mut found = Vec::new();
    let mut add = |set: DaemonSetObject| found.push(with_all_labels(set));
    read_list(json.as_bytes(), &mut add).map_err(|e| e.to_string())?;
    Ok(found)
}

#[test]
fn invalid_daemonsets_are_errors() {
    let long = "x".repeat(300);
    for (name, json) in [
        ("a long label", daemonset(&format!(r#","labels":{{"k":"{long}"}}"#), "")),
        ("a long key", daemonset(&format!(r#","labels":{{"{long}{long}":""}}"#), "")),
        (
            "a long selector",
            daemonset(
                "",
                &format!(
                    r#","spec":{{"template":{{"spec":{{"nodeSelector":{{"k":"{long}"}}}}}}}}"#
                ),
            ),
        ),
        ("a number for a moment", daemonset(r#","deletionTimestamp":5"#, "")),
        ("an empty moment", daemonset(r#","deletionTimestamp":"""#, "")),
        (
            "a long name",
            format!(
                r#"{{"kind":"DaemonSetList","items":[{{"metadata":{{"namespace":"n","name":"{long}","uid":"u"}}}}]}}"#
            ),
        ),
        (
            "an array for an object",
            r#"{"kind":"DaemonSetList","items":[[{"namespace":"n","name":"a","uid":"u"},null]]}"#
                .to_owned(),
        ),
        (
            "an array for metadata",
            r#"{"kind":"DaemonSetList","items":[{"metadata":["n","a","u",null,null,null]}]}"#
                .to_owned(),
        ),
        (
            "a kind twice",
            r#"{"kind":"DaemonSetList","kind":"DaemonSetList","items":[]}"#.to_owned(),
        ),
        ("items twice", r#"{"kind":"DaemonSetList","items":[],"items":[]}"#.to_owned()),
        (
            "a token that is taken back",
            r#"{"kind":"DaemonSetList","metadata":{"continue":"x"},"metadata":{},"items":[]}"#
                .to_owned(),
        ),
    ] {
        assert!(read_daemonsets(&json).is_err(), "{name}");
    }
    assert!(
        read_daemonsets(&daemonset(r#","deletionTimestamp":"2026-11-23T00:00:00Z""#, "")).unwrap()
            [0]
        .is_being_deleted
    );
    assert!(
        !read_daemonsets(&daemonset(
            r#","deletionTimestamp":null,"labels":null"#,
            r#","spec":null"#
        ))
        .unwrap()[0]
            .is_being_deleted
    );
}

fn many_labels(count: usize) -> String {
    (0..count).map(|n| format!(r#""k{n:06}":"v""#)).collect::<Vec<_>>().join(",")
}

#[test]
fn limits_of_texts() {
    type Case<'a> = (&'a str, usize, &'a dyn Fn(usize) -> String);
    let x = |length: usize| "x".repeat(length);
    let selector = |pair: String| {
        daemonset(
            "",
            &format!(r#","spec":{{"template":{{"spec":{{"nodeSelector":{{{pair}}}}}}}}}"#),
        )
    };
    let named = |namespace: &str, name: &str, uid: &str| {
        let metadata = format!(r#"{{"namespace":"{namespace}","name":"{name}","uid":"{uid}"}}"#);
        format!(r#"{{"kind":"DaemonSetList","items":[{{"metadata":{metadata}}}]}}"#)
    };
    let sets: [Case; 7] = [
        ("namespace", 253, &|length| named(&x(length), "d", "u")),
        ("name", 253, &|length| named("n", &x(length), "u")),
        ("UID", 128, &|length| named("n", "d", &x(length))),
        ("label's key", 317, &|length| {
            daemonset(&format!(r#","labels":{{"{}":""}}"#, x(length)), "")
        }),
        ("label's value", 63, &|length| {
            daemonset(&format!(r#","labels":{{"k":"{}"}}"#, x(length)), "")
        }),
        ("selector's key", 317, &|length| selector(format!(r#""{}":"""#, x(length)))),
        ("selector's value", 63, &|length| selector(format!(r#""k":"{}""#, x(length)))),
    ];
    for (case, most, json) in sets {
        assert!(daemonsets(&json(most)).is_ok(), "{case} of {most}");
        let error = daemonsets(&json(most + 1)).expect_err(case);
        assert_eq!(error.cause, OTHER, "{case}");
        assert!(
            error.full_text().contains(&format!("a text of more than {most} bytes")),
            "{error:?}"
        );
    }
    let pod = |name: usize, owner: usize, phase: usize| {
        let metadata =
            format!(r#"{{"name":"{}","ownerReferences":[{{"uid":"{}"}}]}}"#, x(name), x(owner));
        pods(&format!(
            r#"{{"kind":"PodList","items":[{{"metadata":{metadata},"status":{{"phase":"{}"}}}}]}}"#,
            x(phase)
        ))
    };
    assert!(pod(253, 129, 128).is_ok());
    for (name, owner, phase) in [(254, 1, 1), (1, 1, 129)] {
        assert_eq!(
            pod(name, owner, phase).expect_err("too long").cause,
            OTHER,
            "{name} {owner} {phase}"
        );
    }
}

#[test]
fn any_number_of_labels_is_read() {
    let json = daemonset(&format!(r#","labels":{{{}}}"#, many_labels(70_000)), "");
    let mut found = Vec::new();
    let mut keep =
        |set: DaemonSetObject| found.push(set.into_daemonset(|key| key == "k069999" || key == "v"));
    read_list(json.as_bytes(), &mut keep).unwrap();
    assert_eq!(found[0].labels, labels(&[("k069999", "v")]));
    assert!(daemonsets(&daemonset(r#","labels":{"a\nb":""}"#, "")).is_err());
}

#[test]
fn a_selector_is_read_as_far_as_it_can_match_a_node() {
    for (count, kept) in [(1024, 1024), (1025, 1025), (50_000, 1025)] {
        let spec = format!(
            r#","spec":{{"template":{{"spec":{{"nodeSelector":{{{}}}}}}}}}"#,
            many_labels(count)
        );
        assert_eq!(
            daemonsets(&daemonset("", &spec)).unwrap()[0].placement.selector.len(),
            kept,
            "{count}"
        );
    }
    let twice = r#","spec":{"template":{"spec":{"nodeSelector":{"a":"1","a":"2"}}}}"#;
    assert_eq!(daemonsets(&daemonset("", twice)).unwrap_err().cause, OTHER);
}

#[test]
fn a_node_with_too_many_labels_is_an_error() {
    let read = |count: usize| {
        let metadata = format!(r#"{{"name":"n","labels":{{{}}}}}"#, many_labels(count));
        let json = format!(r#"{{"kind":"Node","metadata":{metadata}}}"#);
        read_one::<NodeObject>(json.as_bytes())
            .unwrap()
            .into_node()
            .map(|node| node.traits.labels.len())
    };
    assert_eq!(read(1024), Ok(1024));
    assert_eq!(read(1025), Err("more than 1024 labels".to_owned()));
    assert_eq!(read(50_000), Err("more than 1024 labels".to_owned()));
    let array = br#"["Node",{"name":"n"}]"#;
    assert!(read_one::<NodeObject>(&array[..]).is_err());
}

#[test]
fn arrays_in_place_of_objects_are_errors() {
    for (rest, is_accepted) in [
        (r#""ownerReferences":[{"uid":"u","controller":true}]},"status":{"conditions":[]}"#, true),
        (r#""ownerReferences":[["u",true]]},"status":{}"#, false),
        (r#""ownerReferences":{"uid":"u"}},"status":{}"#, false),
        (r#""deletionTimestamp":""},"status":{}"#, false),
        (r#""deletionTimestamp":[]},"status":{}"#, false),
        (r#""x":1},"status":["Running",null]"#, false),
        (r#""x":1},"status":{"conditions":[["Ready","True"]]}"#, false),
        (r#""x":1},"spec":["n"]"#, false),
    ] {
        let json = format!(r#"{{"kind":"PodList","items":[{{"metadata":{{"name":"p",{rest}}}]}}"#);
        assert_eq!(
            pods(&json).map(|_| ()).map_err(|error| error.cause),
            if is_accepted { Ok(()) } else { Err(OTHER.to_owned()) },
            "{rest}"
        );
    }
}

#[test]
fn the_item_before_an_invalid_one_is_a_detail() {
    let json = with_metadata_and_spec("", "");
    let read = |json: String| {
        let mut last = None;
        let error =
            read_list(json.as_bytes(), &mut |set: DaemonSetObject| last = Some(set.title()))
                .unwrap_err();
        unreadable("list", last.as_deref(), error)
    };
    let long = "x".repeat(LONGEST_TEXT + 1);
    let large = read(json.replace("}]}", &format!(r#"}},{{"x":"{long}"}}]}}"#)));
    assert!(!large.cause.contains("n/d"), "{large:?}");
    assert_eq!(large.details.as_deref(), Some("after DaemonSet n/d"));
    let other = read(json.replace("}]}", "},5]}"));
    assert_eq!(other.cause, OTHER);
    assert!(other.details.unwrap().ends_with(", after DaemonSet n/d"));
    let first = read(format!(r#"{{"kind":"DaemonSetList","items":[{{"x":"{long}"}}]}}"#));
    assert_eq!(first.details, None);
}

/// Invalid responses and their errors; also seeds of the fuzz target.
const NO_LISTS: &[(&str, &str)] = &[
    ("", CUT),
    ("{", CUT),
    (r#"{"kind":"DaemonSetList","items":["#, CUT),
    ("nonsense", NO_JSON),
    ("<html>", NO_JSON),
    ("[]", OTHER),
    ("null", OTHER),
    ("\"\"", OTHER),
    ("{}", OTHER),
    (r#"{"items":[]}"#, OTHER),
    (r#"{"kind":"DaemonSetList"}"#, OTHER),
    (r#"{"kind":"PodList","items":[]}"#, OTHER),
    (r#"{"kind":null,"items":[]}"#, OTHER),
    (r#"{"kind":"Status","status":"Failure"}"#, OTHER),
    (r#"{"kind":"DaemonSetList","items":{}}"#, OTHER),
    (r#"{"kind":"DaemonSetList","items":[null]}"#, OTHER),
    (r#"{"kind":"DaemonSetList","items":[{}]}"#, OTHER),
    (r#"{"kind":"DaemonSetList","items":[]}{}"#, NO_JSON),
    (r#"{"kind":"DaemonSetList","items":[],}"#, NO_JSON),
    (r#"{"kind":"DaemonSetList","items":[,]}"#, NO_JSON),
    ("{\"kind\":\"\u{1}\"}", NO_JSON),
];

#[test]
fn invalid_lists() {
    for (json, expected) in NO_LISTS {
        let error = daemonsets(json).expect_err(json);
        assert!(error.cause == *expected, "{json}: {error:?}");
    }
}

#[test]
fn valid_lists() {
    for json in [
        r#"{"kind":"DaemonSetList","items":[]}"#,
        r#"{"kind":"DaemonSetList","items":null}"#,
        r#"{"items":[],"metadata":null,"kind":"DaemonSetList"}"#,
        "  {\"kind\" : \"DaemonSetList\"\n,\t\"items\" : [ ] , \"x\":{\"y\":[1.5e3,-0,true,false,null]}}\r\n ",
        r#"{"kind":"DaemonSetList","items":[],"metadata":{"continue":""}}"#,
    ] {
        assert_eq!(
            list_from::<DaemonSetObject>(json.as_bytes())
                .map(|(items, token)| (items.len(), token)),
            Ok((0, None)),
            "{json}"
        );
    }
}

#[test]
fn wrong_types_are_errors() {
    for (metadata, spec) in [
        (r#","labels":[]"#, ""),
        (r#","labels":{"a":1}"#, ""),
        (r#","labels":{"a":null}"#, ""),
        (r#","annotations":"x""#, ""),
        (r#","annotations":{"pod-startup-lock/ignore":true}"#, ""),
        (r#","name":"twice""#, ""),
        ("", r#","spec":[]"#),
        ("", r#","spec":{"template":{"spec":{"hostNetwork":"true"}}}"#),
        ("", r#","spec":{"template":{"spec":{"nodeSelector":{"a":{}}}}}"#),
    ] {
        let error = daemonsets(&with_metadata_and_spec(metadata, spec)).expect_err(metadata);
        assert!(error.cause == OTHER, "{error:?}");
    }
}

#[test]
fn a_cause_does_not_quote_the_response() {
    let error = daemonsets(&with_metadata_and_spec(r#","labels":"secret""#, "")).unwrap_err();
    assert!(!error.cause.contains("secret"), "{error:?}");
    assert!(error.full_text().contains("invalid type: string 'secret'"), "{error:?}");
}

#[test]
fn a_list_in_two_pieces_at_every_split() {
    let json = recorded!("daemonsets-limit1-page3");
    let whole: Vec<DaemonSet> = daemonsets(json).unwrap();
    for split in 0..=json.len() {
        let pieces = Pieces { bytes: json.as_bytes(), ends: vec![split], at: 0 };
        let (items, token) = list_from::<DaemonSetObject>(pieces)
            .unwrap_or_else(|e| panic!("split at {split}: {e:?}"));
        assert!(token.is_some());
        assert_eq!(
            items.into_iter().map(with_all_labels).collect::<Vec<_>>(),
            whole,
            "split at {split}"
        );
    }
}

#[test]
fn a_list_cut_at_every_byte() {
    let json = recorded!("daemonsets-limit1-page3").trim_end();
    for end in 0..json.len() {
        let error = daemonsets(&json[..end]).expect_err(&format!("cut at {end}"));
        assert_eq!(error.cause, CUT, "cut at {end}");
    }
}

fn nested(depth: usize, open: &str, close: &str) -> String {
    format!("{}{}", open.repeat(depth), close.repeat(depth))
}

#[test]
fn nesting_is_bounded_in_skipped_values_too() {
    let too_deep = format!("limit exceeded: list: an object nested more than {DEEPEST} deep");
    // The nesting outside of the value: the list, its items and the item.
    for (case, around, place) in [
        ("beside the items", 1, r#"{"x":@,"kind":"DaemonSetList","items":[]}"#),
        (
            "in an item",
            3,
            r#"{"kind":"DaemonSetList","items":[{"x":@,"metadata":{"namespace":"n","name":"d","uid":"u"}}]}"#,
        ),
    ] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let value = |depth: usize| match open {
                "[" => nested(depth, open, close),
                _ => nested(depth, open, close).replace(":}", ":1}"),
            };
            let read = |depth: usize| daemonsets(&place.replace('@', &value(depth)));
            assert!(read(DEEPEST - around).is_ok(), "{case} {open}");
            assert_eq!(read(DEEPEST - around + 1).unwrap_err().cause, too_deep, "{case} {open}");
            // Within the limit on size, so that the nesting is the reason.
            assert_eq!(read(300_000).unwrap_err().cause, too_deep, "{case} {open}");
        }
        let unclosed = place.replace('@', &"[".repeat(1_000_000));
        assert_eq!(daemonsets(&unclosed).unwrap_err().cause, too_deep, "{case}");
    }
    let brackets_in_strings =
        format!(r#"{{"x":"{}\"\\","kind":"DaemonSetList","items":[]}}"#, "[{".repeat(1000));
    assert!(daemonsets(&brackets_in_strings).is_ok());
}

fn beyond(object: &str, what: &str) -> String {
    format!("limit exceeded: {object}: {what} bytes")
}

/// A list of these items and a DaemonSet after them.
fn items(before: &[String]) -> String {
    let last = r#"{"metadata":{"namespace":"n","name":"d","uid":"u"}}"#;
    let items: String = before.iter().map(|item| format!("{item},")).collect();
    format!(r#"{{"kind":"DaemonSetList","items":[{items}{last}]}}"#)
}

#[test]
fn the_largest_object_of_an_api_server_is_read() {
    // The largest object of etcd as one text, with six bytes for each byte: 9 MiB.
    let escaped = r"\u003c".repeat(3 * 512 * 1024);
    let annotated =
        r#"{"metadata":{"namespace":"n","name":"a","uid":"u","annotations":{"a":"@"}}}"#;
    let sets = daemonsets(&items(&[annotated.replace('@', &escaped)])).unwrap();
    assert_eq!(sets.iter().map(|set| &*set.name).collect::<Vec<_>>(), ["a", "d"]);
    // The same in a field that is read.
    let affinity = r#"{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"k","operator":"In","values":["@"]}]}]}}}"#;
    let wanting = format!(
        r#"{{"metadata":{{"namespace":"n","name":"a","uid":"u"}},"spec":{{"template":{{"spec":{{"affinity":{affinity}}}}}}}}}"#
    );
    let sets = daemonsets(&items(&[wanting.replace('@', &escaped)])).unwrap();
    assert_eq!(sets.iter().map(|set| set.is_too_large).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn size_is_bounded_for_each_object() {
    let too_large = Err(beyond("list", &format!("an object of more than {LARGEST_OBJECT}")));
    let read = |json: &str| daemonsets(json).map(|items| items.len()).map_err(|error| error.cause);
    let item = |bytes: usize| {
        let (start, end) = (r#"{"metadata":{"namespace":"n","name":"d","uid":"u"},"x":["#, "0]}");
        let middle = bytes - start.len() - end.len();
        format!("{start}{}{}{end}", " ".repeat(middle % 2), "0,".repeat(middle / 2))
    };
    let most = LARGEST_OBJECT - 8;
    assert_eq!(read(&items(&[item(most)])), Ok(2));
    assert_eq!(
        read(&items(&[
            item(LARGEST_OBJECT / 2),
            item(LARGEST_OBJECT / 2),
            item(LARGEST_OBJECT / 2)
        ])),
        Ok(4)
    );
    assert_eq!(read(&items(&[item(100), item(LARGEST_OBJECT + 1)])), too_large);
    let beside = |place: &str| place.replace('@', &"0,".repeat(LARGEST_OBJECT / 2 + 1));
    assert_eq!(read(&beside(r#"{"x":[@0],"kind":"DaemonSetList","items":[]}"#)), too_large);
    assert_eq!(read(&beside(r#"{"kind":"DaemonSetList","items":[],"x":[@0]}"#)), too_large);
}

#[test]
fn every_text_is_bounded() {
    let too_long = Err(beyond("list", &format!("a text of more than {LONGEST_TEXT}")));
    let read = |json: &str| daemonsets(json).map(|items| items.len()).map_err(|error| error.cause);
    let long = "x".repeat(LONGEST_TEXT + 1);
    for place in [
        r#"{"x":"@","kind":"DaemonSetList","items":[]}"#,
        r#"{"@":1,"kind":"DaemonSetList","items":[]}"#,
        r#"{"kind":"DaemonSetList","metadata":{"continue":"@"},"items":[]}"#,
        r#"{"kind":"DaemonSetList","items":[{"metadata":{"annotations":{"a":"@"}}}]}"#,
    ] {
        assert_eq!(read(&place.replace('@', &long)), too_long, "{place}");
    }
    let numbers =
        format!(r#"{{"x":{},"kind":"DaemonSetList","items":[]}}"#, "1".repeat(LONGEST_TEXT + 1));
    assert_eq!(read(&numbers), too_long);
    assert_eq!(read(&format!("{}{}", " ".repeat(LONGEST_TEXT + 1), items(&[]))), too_long);
    let place = r#"{"x":["@","@"],"kind":"DaemonSetList","items":[]}"#;
    assert_eq!(read(&place.replace('@', &long[1..])), Ok(0), "two texts count separately");
    for (escape, times) in
        [(r"\n", LONGEST_TEXT), (r"\u003c", LONGEST_TEXT / 2), (r#"\\\""#, LONGEST_TEXT / 2)]
    {
        let text =
            format!(r#"{{"x":"{}","kind":"DaemonSetList","items":[]}}"#, escape.repeat(times));
        assert_eq!(read(&text), Ok(0), "{escape}");
        assert_eq!(
            read(&text.replace(r#"","k"#, &format!(r#"{}","k"#, &long[times..]))),
            too_long,
            "{escape}"
        );
    }
}

#[test]
fn a_node_is_bounded_too() {
    let long = format!(r#"{{"kind":"Node","x":"{}"}}"#, "x".repeat(LONGEST_TEXT + 1));
    let error = read_one::<NodeObject>(long.as_bytes())
        .map(drop)
        .map_err(|e| unreadable("node n", None, e).cause);
    assert_eq!(error, Err(beyond("node n", &format!("a text of more than {LONGEST_TEXT}"))));
}

#[test]
fn the_gate_is_found_after_any_number_of_init_containers() {
    // More than any other list may have, and the last one counts.
    let names: String =
        (0..20_000).map(|number| format!(r#"{{"name":"init-container-{number}"}},"#)).collect();
    let spec = |gate: &str| format!(r#""initContainers":[{names}{{"name":"{gate}"}}]"#);
    let annotated = r#"{"annotations":{"pod-startup-lock/gate":"wait"}}"#;
    for (metadata, gate, expected) in
        [("{}", "pod-startup-lock", true), (annotated, "wait", true), ("{}", "wait", false)]
    {
        let template = format!(
            r#","spec":{{"template":{{"spec":{{{}}},"metadata":{metadata}}}}}"#,
            spec(gate)
        );
        let set = daemonsets(&with_metadata_and_spec("", &template)).unwrap().remove(0);
        assert_eq!((set.has_gate, set.is_too_large), (expected, false), "{gate}");
    }
    let ended: String = (0..20_000)
        .map(|number| {
            format!(
                r#"{{"name":"init-container-{number}","state":{{"terminated":{{"exitCode":0}}}}}},"#
            )
        })
        .collect();
    for (code, expected) in [(0, Gate::Passed), (1, Gate::Ahead)] {
        let gate = format!(
            r#"{{"name":"pod-startup-lock","state":{{"terminated":{{"exitCode":{code}}}}}}}"#
        );
        let json = format!(
            r#"{{"kind":"PodList","items":[{{"metadata":{{"name":"p",{OWNED}}},"spec":{{{}}},"status":{{"initContainerStatuses":[{ended}{gate}]}}}}]}}"#,
            spec("pod-startup-lock")
        );
        assert_eq!(pods(&json).unwrap()[0].gate, expected);
    }
}

#[test]
fn a_node_with_too_many_taints_is_an_error() {
    let read = |count: usize, effect: &str| {
        let taints: Vec<_> = (0..count)
            .map(|number| format!(r#"{{"key":"k{number}","effect":"{effect}"}}"#))
            .collect();
        let json = format!(
            r#"{{"kind":"Node","metadata":{{"name":"n"}},"spec":{{"taints":[{}]}}}}"#,
            taints.join(",")
        );
        read_one::<NodeObject>(json.as_bytes())
            .unwrap()
            .into_node()
            .map(|node| node.traits.taints.len())
    };
    assert_eq!(read(1024, "NoExecute"), Ok(1024));
    assert_eq!(read(1025, "NoExecute"), Err("more than 1024 taints".to_owned()));
    assert_eq!(read(50_000, "NoExecute"), Err("more than 1024 taints".to_owned()));
    assert_eq!(read(2000, "PreferNoSchedule"), Ok(0), "such taints exclude no pod");
    let none = br#"{"kind":"Node","metadata":{"name":"n"},"spec":{"taints":null}}"#;
    assert_eq!(read_one::<NodeObject>(&none[..]).unwrap().into_node().unwrap().traits.taints, []);
}

#[test]
fn a_repeated_condition_counts_once() {
    let times = vec![r#"{"type":"DiskPressure","status":"True"}"#; 1000].join(",");
    let json = format!(
        r#"{{"kind":"Node","metadata":{{"name":"n"}},"status":{{"conditions":[{times}]}}}}"#
    );
    assert_eq!(
        read_one::<NodeObject>(json.as_bytes()).unwrap().into_node().unwrap().bad_conditions,
        ["DiskPressure"]
    );
}

#[test]
fn a_daemonset_without_name_namespace_or_uid_is_an_error() {
    for metadata in [
        r#""name":"d""#,
        r#""namespace":"n","name":"d""#,
        r#""name":"d","uid":"u""#,
        r#""namespace":"n","uid":"u""#,
    ] {
        let json = format!(r#"{{"kind":"DaemonSetList","items":[{{"metadata":{{{metadata}}}}}]}}"#);
        assert_eq!(daemonsets(&json).unwrap_err().cause, OTHER, "{metadata}");
    }
}

#[test]
fn gates_of_pods() {
    let init = |names: &[&str]| {
        names.iter().map(|name| format!(r#"{{"name":"{name}"}}"#)).collect::<Vec<_>>().join(",")
    };
    let done = |name: &str, code: i32| {
        format!(
            r#""initContainerStatuses":[{{"name":"{name}","state":{{"terminated":{{"exitCode":{code}}}}}}}]"#
        )
    };
    let status = |name: &str, state: &str| {
        format!(r#""initContainerStatuses":[{{"name":"{name}","state":{state}}}]"#)
    };
    let gate = "pod-startup-lock";
    let running = r#"{"running":{"startedAt":"2026-11-22T19:59:21Z"}}"#;
    let (runs, other_runs) = (status(gate, running), status("other", running));
    let waits = status(gate, r#"{"waiting":{"reason":"PodInitializing"}}"#);
    let initialized = r#""conditions":[{"type":"Initialized","status":"True"}]"#;
    let annotation = r#""annotations":{"pod-startup-lock/gate":"wait"}"#;
    for (case, annotations, names, status, expected) in [
        ("no init container", "", vec![], String::new(), Gate::None),
        ("another one", "", vec!["other"], String::new(), Gate::None),
        ("by its name", "", vec!["other", gate], String::new(), Gate::Ahead),
        ("by the annotation", annotation, vec!["wait"], String::new(), Gate::Ahead),
        ("an annotation of none", annotation, vec!["other"], String::new(), Gate::None),
        ("an annotation of none, by its name", annotation, vec![gate], String::new(), Gate::Ahead),
        ("ended well", "", vec![gate, "other"], done(gate, 0), Gate::Passed),
        ("failed", "", vec![gate], done(gate, 1), Gate::Ahead),
        ("another one ended well", "", vec![gate, "other"], done("other", 0), Gate::Ahead),
        (
            "the annotated one ended well",
            annotation,
            vec![gate, "wait"],
            done("wait", 0),
            Gate::Passed,
        ),
        ("not the annotated one", annotation, vec![gate, "wait"], done(gate, 0), Gate::Ahead),
        ("runs", "", vec![gate], runs.clone(), Gate::Ahead),
        (
            "has no state",
            "",
            vec![gate],
            format!(
                r#""initContainerStatuses":[{{"name":"{gate}","state":{{}},"lastState":{{"terminated":{{"exitCode":0}}}}}}]"#
            ),
            Gate::Ahead,
        ),
        ("initialized", "", vec![gate], initialized.to_owned(), Gate::Passed),
        (
            "initialized, and ended well",
            "",
            vec![gate],
            format!("{initialized},{}", done(gate, 0)),
            Gate::Passed,
        ),
        (
            "initialized, and runs again",
            "",
            vec![gate],
            format!("{initialized},{runs}"),
            Gate::Ahead,
        ),
        (
            "initialized, and is to run again",
            "",
            vec![gate],
            format!("{initialized},{waits}"),
            Gate::Ahead,
        ),
        (
            "initialized, and has failed since",
            "",
            vec![gate],
            format!("{initialized},{}", done(gate, 1)),
            Gate::Ahead,
        ),
        (
            "initialized, another one runs",
            "",
            vec![gate],
            format!("{initialized},{other_runs}"),
            Gate::Passed,
        ),
        (
            "not initialized",
            "",
            vec![gate],
            r#""conditions":[{"type":"Initialized","status":"False"}]"#.to_owned(),
            Gate::Ahead,
        ),
    ] {
        let comma = if annotations.is_empty() { "" } else { "," };
        let json = format!(
            r#"{{"kind":"PodList","items":[{{"metadata":{{"name":"p",{OWNED}{comma}{annotations}}},"spec":{{"initContainers":[{}]}},"status":{{{status}}}}}]}}"#,
            init(&names)
        );
        assert_eq!(pods(&json).unwrap()[0].gate, expected, "{case}: {json}");
    }
}

#[test]
fn gates_of_templates() {
    let template = |metadata: &str, names: &str| {
        format!(
            r#","spec":{{"template":{{"metadata":{{{metadata}}},"spec":{{"initContainers":{names}}}}}}}"#
        )
    };
    let annotation = r#""annotations":{"pod-startup-lock/gate":"wait"}"#;
    for (metadata, names, expected) in [
        ("", "null", false),
        ("", r#"[{"name":"x","image":"psl-init"}]"#, false),
        ("", r#"[{"name":"x"},{"name":"pod-startup-lock"}]"#, true),
        (annotation, r#"[{"name":"wait"}]"#, true),
        (annotation, r#"[{"name":"x"}]"#, false),
    ] {
        let json = with_metadata_and_spec("", &template(metadata, names));
        assert_eq!(daemonsets(&json).unwrap()[0].has_gate, expected, "{json}");
    }
}

#[test]
fn the_oldest_running_container_counts() {
    let running =
        |at: &str| format!(r#"{{"name":"c","state":{{"running":{{"startedAt":{at}}}}}}}"#);
    let ended =
        r#"{"name":"c","state":{"terminated":{"exitCode":0,"startedAt":"1970-01-01T00:00:01Z"}}}"#;
    for (main, init, expected) in [
        ("null".to_owned(), "null".to_owned(), None),
        (format!("[{}]", running("null")), format!("[{ended}]"), None),
        (
            format!(
                "[{},{}]",
                running(r#""1970-01-01T00:00:09Z""#),
                running(r#""1970-01-01T00:00:05Z""#)
            ),
            "[]".to_owned(),
            Some(5),
        ),
        (
            format!("[{}]", running(r#""1970-01-01T00:00:09Z""#)),
            format!("[{}]", running(r#""1970-01-01T00:00:02Z""#)),
            Some(2),
        ),
    ] {
        let status = format!(r#"{{"containerStatuses":{main},"initContainerStatuses":{init}}}"#);
        let json = format!(
            r#"{{"kind":"PodList","items":[{{"metadata":{{"name":"p",{OWNED}}},"status":{status}}}]}}"#
        );
        assert_eq!(pods(&json).unwrap()[0].started, expected, "{status}");
    }
}

macro_rules! watched {
    ($name:literal) => {
        testkit::transcript::block(include_str!("../../tests/data/watch"), $name)
    };
}

/// The events of a watch in short texts, and its end.
fn events<T: ApiObject>(source: impl Read) -> (Vec<String>, Result<(), String>) {
    let mut told = Vec::new();
    for event in read_events::<T>(source) {
        told.push(match event {
            Ok(Event::Changed(object)) => format!("is {} {}", object.title(), object.version()),
            Ok(Event::Deleted(object)) => format!("gone {} {}", object.title(), object.version()),
            Ok(Event::Bookmark(version)) => format!("bookmark {version}"),
            Ok(Event::Error(status, details)) => {
                format!("error {status} {}", details.unwrap_or_default())
            }
            Ok(Event::Unknown) => "other".to_owned(),
            Err(error) => return (told, Err(unreadable("watch", None, error).cause)),
        });
    }
    (told, Ok(()))
}

#[test]
fn recorded_watches() {
    let (pods, end) = events::<PodObject>(watched!("pods-node-a").as_bytes());
    assert_eq!((pods.len(), end), (19, Ok(())));
    assert_eq!(
        (&*pods[0], &*pods[9]),
        ("is pod logging/newcomer-hkt7c 329", "gone pod logging/newcomer-hkt7c 363")
    );
    assert_eq!((&*pods[16], &*pods[18]), ("gone pod psl/web-657c9d4c5-gfdv4 380", "bookmark 380"));
    let (node, end) = events::<NodeObject>(watched!("node-a").as_bytes());
    assert_eq!((node.len(), end), (10, Ok(())));
    assert_eq!((&*node[7], &*node[9]), ("is node node-a 386", "bookmark 386"));
    let (expired, end) = events::<PodObject>(watched!("error-410-too-old-pods").as_bytes());
    assert_eq!(
        (expired, end),
        (vec!["error 410 too old resource version: 1 (433)".to_owned()], Ok(()))
    );
    let (initial, end) = events::<PodObject>(watched!("initial-events-pods-node-a").as_bytes());
    assert_eq!((initial.len(), end), (25, Ok(())));
    assert_eq!(events::<PodObject>(&b""[..]), (vec![], Ok(())));
    assert_eq!(events::<PodObject>(&b"\n \n"[..]), (vec![], Ok(())));
}

/// Each event has only one event before it. To read all of them again for each byte would take
/// minutes.
#[test]
fn every_byte_of_a_watch_of_pods_may_be_the_last() {
    let json = watched!("pods-node-a");
    let (all, _) = events::<PodObject>(json.as_bytes());
    assert_eq!(json.lines().count(), all.len());
    let before = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}"#;
    for (line, event) in json.lines().zip(&all) {
        let both = format!("{before}\n{line}\n");
        let ends = [before.len(), before.len() + 1 + line.len()];
        for cut in 0..=both.len() {
            let (told, end) = events::<PodObject>(&both.as_bytes()[..cut]);
            // The line break is not part of an event.
            let whole = ends.iter().filter(|end| cut >= **end).count();
            assert_eq!(told, ["bookmark 1", event][..whole], "cut at {cut}");
            let is_between = cut == 0 || ends.iter().any(|end| cut == *end || cut == end + 1);
            assert_eq!(end.is_ok(), is_between, "cut at {cut}: {end:?}");
        }
    }
}

/// Reads one byte at a time, and counts them.
struct Counting<'b>(&'b [u8], std::rc::Rc<std::cell::Cell<usize>>);

impl Read for Counting<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(&mut out[..1])?;
        self.1.set(self.1.get() + count);
        Ok(count)
    }
}

#[test]
fn each_event_is_passed_on_with_its_last_byte() {
    let json: String =
        watched!("pods-node-a").lines().map(|line| format!("{line}\n{line}\n")).collect();
    let given = std::rc::Rc::default();
    let mut told = read_events::<PodObject>(Counting(json.as_bytes(), std::rc::Rc::clone(&given)));
    let mut end = 0;
    for line in json.lines() {
        assert!(told.next().unwrap().is_ok());
        assert_eq!(given.get(), end + line.len(), "{line}");
        end += line.len() + 1;
    }
    assert!(told.next().is_none());
}

#[test]
fn every_byte_of_a_node_s_watch_may_be_the_last() {
    let json = watched!("node-a").as_bytes();
    let (all, _) = events::<NodeObject>(json);
    for cut in 0..json.len() {
        let whole = json[..=cut].iter().filter(|byte| **byte == b'\n').count();
        let (told, end) = events::<NodeObject>(&json[..cut]);
        assert_eq!(told, all[..whole], "cut at {cut}");
        assert!(end.is_ok() || end == Err("incomplete JSON: watch".to_owned()), "{end:?}");
    }
}

/// Fails with this kind of error.
struct Failing(io::ErrorKind);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
}

#[test]
fn a_watch_continues_after_a_cut_and_lists_after_silence() {
    let ended = |source: &mut dyn Read| {
        let error = read_events::<NodeObject>(source).find_map(Result::err).unwrap();
        match unreadable_event("watch", error) {
            WatchResult::Interrupted(_) => "continues",
            WatchResult::Lost(_) => "a list",
            WatchResult::Ended | WatchResult::Expired | WatchResult::Forbidden(_) => "neither",
        }
    };
    assert_eq!(ended(&mut Failing(io::ErrorKind::ConnectionReset)), "continues");
    assert_eq!(ended(&mut &b"{\"type\":"[..]), "continues");
    assert_eq!(ended(&mut Failing(io::ErrorKind::TimedOut)), "a list");
    assert_eq!(ended(&mut Failing(io::ErrorKind::WouldBlock)), "a list");
    assert_eq!(ended(&mut &b"[]"[..]), "a list");
}

#[test]
fn a_watch_in_pieces_is_the_same_watch() {
    let json = watched!("error-410-too-old-pods").to_owned()
        + watched!("initial-events-pods-no-such-node");
    let whole = events::<PodObject>(json.as_bytes());
    for split in 0..=json.len() {
        let pieces = Pieces { bytes: json.as_bytes(), ends: vec![split], at: 0 };
        assert_eq!(events::<PodObject>(pieces), whole, "split at {split}");
    }
}

#[test]
fn events_of_a_watch() {
    let pod = r#"{"metadata":{"name":"p","resourceVersion":"7"}}"#;
    for (json, expected) in [
        (format!(r#"{{"type":"ADDED","object":{pod}}}"#), Ok(vec!["is pod p 7"])),
        (
            format!(r#"{{"type":"ADDED","object":{pod}}}{{"type":"DELETED","object":{pod}}}"#),
            Ok(vec!["is pod p 7", "gone pod p 7"]),
        ),
        (format!(r#"{{"x":[{{}}],"type":"NEWS","object":{pod}}}"#), Ok(vec!["other"])),
        (format!(r#"{{"object":{pod},"type":"ADDED"}}"#), Ok(vec!["is pod p 7"])),
        (
            r#"{"object":{"code":410,"message":"m","status":"Failure"},"type":"ERROR"}"#.to_owned(),
            Ok(vec!["error 410 m"]),
        ),
        (
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"},"spec":{"containers":null}}}"#
                .to_owned(),
            Ok(vec!["bookmark 9"]),
        ),
        (r#"{"type":"ERROR","object":{"code":500}}"#.to_owned(), Ok(vec!["error 500 "])),
        (format!(r#"{{"object":{pod}}}"#), Err(OTHER)),
        (format!(r#"{{"type":"ADDED","type":"DELETED","object":{pod}}}"#), Err(OTHER)),
        (r#"{"type":"ADDED"}"#.to_owned(), Err(OTHER)),
        (r#"{"type":"ADDED","object":null}"#.to_owned(), Err(OTHER)),
        (r#"{"type":"ADDED","object":{"metadata":{}}}"#.to_owned(), Err(OTHER)),
        (r#"{"kind":"PodList","items":[]}"#.to_owned(), Err(OTHER)),
        ("[]".to_owned(), Err(OTHER)),
        ("<html>".to_owned(), Err(NO_JSON)),
    ] {
        let (told, end) = events::<PodObject>(json.as_bytes());
        let end = end.map(|()| told.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(end, expected.map_err(|cause| cause.replace("list", "watch")), "{json}");
    }
}

#[test]
fn events_are_bounded_one_by_one() {
    let event = |bytes: usize| {
        format!(
            r#"{{"type":"BOOKMARK","object":{{"metadata":{{"resourceVersion":"1"}},"x":[{}0]}}}}"#,
            "0,".repeat(bytes / 2)
        )
    };
    let most = event(LARGEST_OBJECT - 200);
    let (told, end) = events::<PodObject>(format!("{most}\n{most}\n").as_bytes());
    assert_eq!((told.len(), end), (2, Ok(())));
    let (told, end) =
        events::<PodObject>(format!("{}\n{}", event(1), event(LARGEST_OBJECT)).as_bytes());
    assert_eq!(
        (told.len(), end),
        (1, Err(beyond("watch", &format!("an object of more than {LARGEST_OBJECT}"))))
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(list_from::<DaemonSetObject>(&*bytes).is_err());
        prop_assert!(list_from::<PodObject>(&*bytes).is_err());
        let _ = StatusObject::message(&String::from_utf8_lossy(&bytes));
        let _ = events::<PodObject>(&*bytes);
    }

    #[test]
    fn a_changed_watch_is_read_without_a_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = watched!("node-a").as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let (told, _) = events::<NodeObject>(&*bytes);
        prop_assert!(told.len() <= 12);
    }

    #[test]
    fn a_changed_response_is_read_without_a_panic(at in 0..6955_usize, byte in any::<u8>(), pieces in proptest::collection::vec(0..6955_usize, 0..4)) {
        let mut bytes = recorded!("daemonsets-limit1-page3").as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        let mut ends = pieces;
        ends.sort_unstable();
        let whole = list_from::<DaemonSetObject>(&*bytes).map(|(items, token)| (items.len(), token));
        let in_pieces = list_from::<DaemonSetObject>(Pieces { bytes: &bytes, ends, at: 0 }).map(|(items, token)| (items.len(), token));
        prop_assert_eq!(whole, in_pieces);
    }
}
