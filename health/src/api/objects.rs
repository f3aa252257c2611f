//! The few fields that are read of Kubernetes' objects, and what they come to. Whatever else an object holds is passed
//! over while it streams by.
//!
//! Does not know of HTTP, nor what the fields are good for.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{Deletion, Gather, Gathered, Item, Moment, Name, Short, Word, object, object_or_word, optional};
use crate::eligibility::{
    self, Effect, Labels, Operator, Placement, Requirement, Taint, Term, ToleratedEffect, Tolerates, Toleration,
};
use crate::load::Quantity;
use crate::verdict::{self, Gate, Phase};

/// Keeps a DaemonSet out of the verdict where its value is `true`.
const IGNORE: &str = "pod-startup-lock/ignore";
/// Names the init container that waits for the lock, where it is not called [`GATE`].
const GATE_ANNOTATION: &str = "pod-startup-lock/gate";
/// The init container that waits for the lock.
const GATE: &str = "pod-startup-lock";

/// What is read of a DaemonSet.
#[derive(Deserialize)]
pub struct DaemonSet {
    #[serde(deserialize_with = "object")]
    metadata: DaemonSetMeta,
    #[serde(default, deserialize_with = "optional")]
    spec: Option<DaemonSetSpec>,
}

impl Item for DaemonSet {
    const LIST: &'static str = "DaemonSetList";

    fn title(&self) -> String {
        format!("DaemonSet {}/{}", self.metadata.namespace.0, self.metadata.name.0)
    }

    fn version(&self) -> &str {
        // They are not watched.
        ""
    }

    fn is_named(&self) -> bool {
        true
    }

    fn status(self) -> (u16, Option<String>) {
        (0, None)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DaemonSetMeta {
    namespace: Name,
    name: Name,
    uid: Word,
    labels: Option<Packed>,
    annotations: Option<Annotations>,
    deletion_timestamp: Option<Deletion>,
}

#[derive(Deserialize)]
struct DaemonSetSpec {
    #[serde(default, deserialize_with = "optional")]
    template: Option<Template>,
}

#[derive(Default, Deserialize)]
struct Template {
    #[serde(default, deserialize_with = "optional")]
    metadata: Option<TemplateMeta>,
    #[serde(default, deserialize_with = "optional")]
    spec: Option<TemplateSpec>,
}

#[derive(Default, Deserialize)]
struct TemplateMeta {
    annotations: Option<Annotations>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TemplateSpec {
    node_name: Option<Name>,
    node_selector: Option<Selector>,
    #[serde(default, deserialize_with = "optional")]
    affinity: Option<Affinity>,
    tolerations: Option<Gathered<Kept<Toleration>>>,
    host_network: Option<bool>,
    init_containers: Option<Gathered<Kept<Container>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Affinity {
    #[serde(default, deserialize_with = "optional")]
    node_affinity: Option<NodeAffinity>,
}

#[derive(Deserialize)]
struct NodeAffinity {
    #[serde(default, deserialize_with = "optional", rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<NodeSelector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeSelector {
    node_selector_terms: Option<Gathered<Kept<Term>>>,
}

/// About how many bytes one list of an object may take in memory, with all that is within it: the names of
/// some 3,000 nodes. The shortest elements take twenty times their JSON, and an object has room for 650,000.
const MOST_KEPT: usize = 256 * 1024;

/// What an element takes besides its texts.
const EACH: usize = 64;

/// A list up to where it is too large.
struct Kept<T> {
    items: Vec<T>,
    bytes: usize,
    is_cut: bool,
}

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept { items: Vec::new(), bytes: 0, is_cut: false }
    }
}

impl<T> Kept<T> {
    /// Takes an element of so many bytes, where it still fits.
    fn push(&mut self, item: T, bytes: usize) {
        self.is_cut |= self.bytes + bytes > MOST_KEPT;
        if !self.is_cut {
            self.bytes += bytes;
            self.items.push(item);
        }
    }
}

/// The values of a requirement.
#[derive(Default)]
struct Values(Kept<Box<str>>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        deserializer.deserialize_seq(Texts)
    }
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Values;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Values, A::Error> {
        let mut kept = Kept::default();
        while let Some(text) = texts.next_element::<Box<str>>()? {
            let bytes = EACH / 2 + text.len();
            kept.push(text, bytes);
        }
        Ok(Values(kept))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawTerm {
    match_expressions: Option<Gathered<Kept<Requirement>>>,
    match_fields: Option<Gathered<Kept<Requirement>>>,
}

impl Gather for Kept<Term> {
    type Element = RawTerm;

    fn add(&mut self, term: RawTerm) {
        let labels = term.match_expressions.unwrap_or_default().0;
        let fields = term.match_fields.unwrap_or_default().0;
        self.is_cut |= labels.is_cut || fields.is_cut;
        // One without requirements holds nowhere, which is what no term at all comes to as well.
        if !(labels.items.is_empty() && fields.items.is_empty()) {
            let bytes = EACH + labels.bytes + fields.bytes;
            self.push(Term { labels: labels.items.into(), fields: fields.items.into() }, bytes);
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawRequirement {
    key: Option<Box<str>>,
    operator: Option<Box<str>>,
    values: Option<Values>,
}

impl Gather for Kept<Requirement> {
    type Element = RawRequirement;

    fn add(&mut self, raw: RawRequirement) {
        let operator = match raw.operator.as_deref().unwrap_or_default() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            _ => Operator::Unknown,
        };
        let (key, values) = (raw.key.unwrap_or_default(), raw.values.unwrap_or_default().0);
        self.is_cut |= values.is_cut;
        let bytes = EACH + key.len() + values.bytes;
        self.push(Requirement { key, operator, values: values.items.into() }, bytes);
    }
}

#[derive(Deserialize)]
pub(super) struct RawToleration {
    key: Option<Box<str>>,
    operator: Option<Box<str>>,
    value: Option<Box<str>>,
    effect: Option<Box<str>>,
}

impl Gather for Kept<Toleration> {
    type Element = RawToleration;

    fn add(&mut self, raw: RawToleration) {
        let operator = match raw.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => Tolerates::Equal,
            "Exists" => Tolerates::Exists,
            "Gt" => Tolerates::Gt,
            "Lt" => Tolerates::Lt,
            _ => Tolerates::Unknown,
        };
        let named = raw.effect.filter(|effect| !effect.is_empty());
        let effect = named.map(|name| effect_of(&name).map_or(ToleratedEffect::Other, ToleratedEffect::Of));
        let (key, value) = (raw.key.unwrap_or_default(), raw.value.unwrap_or_default());
        let bytes = EACH + key.len() + value.len();
        self.push(Toleration { key, operator, value, effect }, bytes);
    }
}

/// Of the effects those that keep pods away.
fn effect_of(name: &str) -> Option<Effect> {
    match name {
        "NoSchedule" => Some(Effect::NoSchedule),
        "NoExecute" => Some(Effect::NoExecute),
        _ => None,
    }
}

#[derive(Deserialize)]
pub(super) struct Container {
    name: Option<Word>,
}

impl Gather for Kept<Container> {
    type Element = Container;

    fn add(&mut self, container: Container) {
        let bytes = EACH + container.name.as_ref().map_or(0, |name| name.0.len());
        self.push(container, bytes);
    }
}

/// The init container that waits for the lock, where there is one.
fn gate_among<'a>(init: Option<&'a Gathered<Kept<Container>>>, annotations: Option<&Annotations>) -> Option<&'a str> {
    let named = annotations.and_then(|annotations| annotations.gate.as_deref());
    let is_there = |wanted: &str| {
        let names = init?.0.items.iter().filter_map(|container| container.name.as_ref());
        names.map(|name| name.0.as_str()).find(|name| *name == wanted)
    };
    named.and_then(is_there).or_else(|| is_there(GATE))
}

impl DaemonSet {
    /// Whether this is its name.
    pub fn is_called(&self, namespace: &str, name: &str) -> bool {
        self.metadata.namespace.0 == namespace && self.metadata.name.0 == name
    }

    /// With those of its labels that are asked for.
    pub fn with_labels(self, is_asked_for: impl Fn(&str) -> bool) -> verdict::DaemonSet {
        let template = self.spec.and_then(|spec| spec.template).unwrap_or_default();
        let of_template = template.metadata.and_then(|metadata| metadata.annotations);
        let spec = template.spec.unwrap_or_default();
        let has_gate = gate_among(spec.init_containers.as_ref(), of_template.as_ref()).is_some();
        let required = spec.affinity.and_then(|affinity| affinity.node_affinity?.required);
        let affinity = required.map(|selector| selector.node_selector_terms.unwrap_or_default().0);
        let tolerations = spec.tolerations.unwrap_or_default().0;
        let is_too_large = affinity.as_ref().is_some_and(|terms| terms.is_cut)
            || tolerations.is_cut
            || spec.init_containers.is_some_and(|containers| containers.0.is_cut);
        verdict::DaemonSet {
            namespace: self.metadata.namespace.0,
            name: self.metadata.name.0,
            uid: self.metadata.uid.0,
            labels: self.metadata.labels.unwrap_or_default().labels(is_asked_for),
            is_ignored: self.metadata.annotations.is_some_and(|annotations| annotations.ignore),
            is_being_deleted: self.metadata.deletion_timestamp.is_some(),
            has_gate,
            is_too_large,
            placement: Placement {
                node_name: spec.node_name.unwrap_or_default().0.into(),
                selector: spec.node_selector.unwrap_or_default().0,
                affinity: affinity.map(|terms| terms.items.into()),
                tolerations: tolerations.items.into(),
                has_host_network: spec.host_network.unwrap_or(false),
            },
        }
    }
}

/// Annotations hold whole manifests; of theirs only these are kept.
#[derive(Default)]
struct Annotations {
    ignore: bool,
    gate: Option<String>,
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Annotations, D::Error> {
        deserializer.deserialize_map(AnnotationsVisitor)
    }
}

struct AnnotationsVisitor;

impl<'de> Visitor<'de> for AnnotationsVisitor {
    type Value = Annotations;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
        let mut found = Annotations::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                IGNORE => found.ignore = map.next_value::<String>()? == "true",
                GATE_ANNOTATION => found.gate = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// What is read of a pod.
#[derive(Deserialize)]
pub struct Pod {
    #[serde(default, deserialize_with = "object")]
    metadata: PodMeta,
    #[serde(default, deserialize_with = "optional")]
    spec: Option<PodSpec>,
    #[serde(default, deserialize_with = "object_or_word")]
    status: Option<PodStatus>,
    // Of a `Status` in its place.
    code: Option<u16>,
    message: Option<String>,
}

impl Item for Pod {
    const LIST: &'static str = "PodList";

    fn title(&self) -> String {
        format!("pod {}", self.metadata.name.0)
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version.0
    }

    fn is_named(&self) -> bool {
        !self.metadata.name.0.is_empty()
    }

    fn status(self) -> (u16, Option<String>) {
        (self.code.unwrap_or_default(), self.message)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodMeta {
    namespace: Name,
    name: Name,
    uid: Word,
    resource_version: Word,
    creation_timestamp: Option<Moment>,
    annotations: Option<Annotations>,
    owner_references: Option<Gathered<Controller>>,
    deletion_timestamp: Option<Deletion>,
}

/// The owner that controls the pod; there is at most one.
#[derive(Default)]
struct Controller(Option<Owner>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    #[serde(default)]
    api_version: Fitting<128>,
    #[serde(default)]
    kind: Fitting<128>,
    #[serde(default)]
    name: Fitting<253>,
    uid: Fitting<128>,
    controller: Option<bool>,
}

/// A text that whoever may make a pod can choose: one that is longer than any of a DaemonSet's counts
/// as none, because an error would let them close the gate.
#[derive(Deserialize)]
#[serde(from = "String")]
struct Fitting<const MOST: usize>(Option<Box<str>>);

impl<const MOST: usize> Default for Fitting<MOST> {
    fn default() -> Fitting<MOST> {
        Fitting(Some("".into()))
    }
}

impl<const MOST: usize> From<String> for Fitting<MOST> {
    fn from(text: String) -> Fitting<MOST> {
        Fitting((text.len() <= MOST).then(|| text.into()))
    }
}

impl Gather for Controller {
    type Element = Owner;

    fn add(&mut self, owner: Owner) {
        if self.0.is_none() && owner.controller == Some(true) {
            self.0 = Some(owner);
        }
    }
}

impl Owner {
    /// The name and the UID of a DaemonSet. Other projects have kinds of this name too.
    fn daemonset(self) -> Option<(Box<str>, Box<str>)> {
        let is_one = &*self.kind.0? == "DaemonSet" && self.api_version.0?.starts_with("apps/");
        if is_one { self.name.0.zip(self.uid.0) } else { None }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<Name>,
    init_containers: Option<Gathered<Kept<Container>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    phase: Option<Word>,
    conditions: Option<Gathered<PodConditions>>,
    container_statuses: Option<Gathered<Containers>>,
    init_container_statuses: Option<Gathered<Containers>>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: Box<str>,
    status: Box<str>,
}

#[derive(Default)]
struct PodConditions {
    is_ready: bool,
    is_initialized: bool,
}

impl Gather for PodConditions {
    type Element = Condition;

    fn add(&mut self, condition: Condition) {
        match (&*condition.kind, &*condition.status) {
            ("Ready", "True") => self.is_ready = true,
            ("Initialized", "True") => self.is_initialized = true,
            _ => {}
        }
    }
}

#[derive(Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    name: Word,
    #[serde(default, deserialize_with = "optional")]
    state: Option<ContainerState>,
}

#[derive(Deserialize)]
struct ContainerState {
    #[serde(default, deserialize_with = "optional")]
    running: Option<RunningState>,
    #[serde(default, deserialize_with = "optional")]
    terminated: Option<TerminatedState>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunningState {
    started_at: Option<Moment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TerminatedState {
    exit_code: Option<i64>,
}

/// What is kept of a pod's containers.
#[derive(Default)]
struct Containers {
    /// When the first of those that run has started.
    oldest: Option<i64>,
    /// Those that have ended well.
    done: Kept<Word>,
}

impl Gather for Containers {
    type Element = ContainerStatus;

    fn add(&mut self, container: ContainerStatus) {
        let Some(state) = container.state else { return };
        if let Some(Moment(start)) = state.running.and_then(|running| running.started_at) {
            self.oldest = Some(self.oldest.map_or(start, |oldest| oldest.min(start)));
        }
        if state.terminated.is_some_and(|terminated| terminated.exit_code == Some(0)) {
            let bytes = EACH + container.name.0.len();
            self.done.push(container.name, bytes);
        }
    }
}

impl Pod {
    /// Whether it is bound to this node. The server is asked for these alone, but what answers
    /// may be a proxy or a cache that does not know the selector.
    pub fn is_on(&self, node: &str) -> bool {
        self.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some_and(|name| name.0 == node)
    }

    /// Which pod it is.
    pub fn uid(&self) -> &str {
        &self.metadata.uid.0
    }

    /// What counts of it; nothing where no DaemonSet controls it.
    pub fn of_daemonset(self) -> Option<verdict::Pod> {
        let (metadata, spec) = (self.metadata, self.spec.unwrap_or_default());
        let (owner, owner_uid) = metadata.owner_references.and_then(|owners| owners.0.0).and_then(Owner::daemonset)?;
        let status = self.status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default().0;
        let (main, init) =
            (status.container_statuses.unwrap_or_default().0, status.init_container_statuses.unwrap_or_default().0);
        let gate = match gate_among(spec.init_containers.as_ref(), metadata.annotations.as_ref()) {
            None => Gate::None,
            Some(_) if conditions.is_initialized => Gate::Passed,
            Some(gate) if init.done.items.iter().any(|name| name.0 == gate) => Gate::Passed,
            Some(_) => Gate::Ahead,
        };
        Some(verdict::Pod {
            uid: metadata.uid.0.into(),
            namespace: metadata.namespace.0.into(),
            name: metadata.name.0.into(),
            owner,
            owner_uid,
            is_being_deleted: metadata.deletion_timestamp.is_some(),
            phase: Phase::of(&status.phase.unwrap_or_default().0),
            is_ready: conditions.is_ready,
            gate,
            created: metadata.creation_timestamp.map(|moment| moment.0),
            started: [main.oldest, init.oldest].into_iter().flatten().min(),
        })
    }
}

/// What is read of a node.
#[derive(Deserialize)]
pub struct Node {
    #[serde(default)]
    kind: Word,
    #[serde(default, deserialize_with = "object")]
    metadata: NodeMeta,
    #[serde(default, deserialize_with = "optional")]
    spec: Option<NodeSpec>,
    #[serde(default, deserialize_with = "object_or_word")]
    status: Option<NodeStatus>,
    // Of a `Status` in its place.
    code: Option<u16>,
    message: Option<String>,
}

impl Item for Node {
    const LIST: &'static str = "NodeList";

    fn title(&self) -> String {
        format!("node {}", self.metadata.name.0)
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version.0
    }

    fn is_named(&self) -> bool {
        !self.metadata.name.0.is_empty()
    }

    fn status(self) -> (u16, Option<String>) {
        (self.code.unwrap_or_default(), self.message)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeMeta {
    name: Name,
    resource_version: Word,
    labels: Option<NodeLabels>,
}

#[derive(Default, Deserialize)]
struct NodeSpec {
    taints: Option<Gathered<Vec<Taint>>>,
}

#[derive(Deserialize)]
pub(super) struct RawTaint {
    key: Option<Box<str>>,
    value: Option<Box<str>>,
    effect: Option<Box<str>>,
}

impl Gather for Vec<Taint> {
    type Element = RawTaint;

    fn add(&mut self, raw: RawTaint) {
        if let Some(effect) = effect_of(&raw.effect.unwrap_or_default()) {
            self.push(Taint { key: raw.key.unwrap_or_default(), value: raw.value.unwrap_or_default(), effect });
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeStatus {
    conditions: Option<Gathered<NodeConditions>>,
    #[serde(default, deserialize_with = "optional")]
    node_info: Option<NodeInfo>,
    #[serde(default, deserialize_with = "optional")]
    capacity: Option<Resources>,
}

#[derive(Deserialize)]
struct NodeInfo {
    #[serde(default, rename = "bootID")]
    boot_id: Word,
}

/// Of a node's capacity or usage.
#[derive(Deserialize)]
struct Resources {
    cpu: Option<Quantity>,
}

#[derive(Default)]
struct NodeConditions {
    is_ready: bool,
    troubles: Vec<&'static str>,
}

/// The conditions that are bad where they are true ("Node Status").
const TROUBLES: &[&str] = &["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];

impl Gather for NodeConditions {
    type Element = Condition;

    fn add(&mut self, Condition { kind, status }: Condition) {
        let is_true = *status == *"True";
        if *kind == *"Ready" {
            self.is_ready = is_true;
        } else if let Some(trouble) = TROUBLES.iter().find(|trouble| ***trouble == *kind && is_true) {
            self.troubles.push(trouble);
        }
    }
}

impl Node {
    /// What counts of it, where it is the node that was asked for.
    pub fn called(self, name: &str) -> Option<verdict::Node> {
        if self.kind.0 != "Node" || self.metadata.name.0 != name {
            return None;
        }
        let status = self.status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default().0;
        Some(verdict::Node {
            placed: eligibility::Node {
                name: name.into(),
                labels: self.metadata.labels.unwrap_or_default().0,
                taints: self.spec.unwrap_or_default().taints.unwrap_or_default().0,
            },
            is_ready: conditions.is_ready,
            troubles: conditions.troubles,
            boot_id: status.node_info.map(|info| info.boot_id.0.into()).unwrap_or_default(),
            cpus: status.capacity.and_then(|capacity| capacity.cpu),
        })
    }
}

/// What `metrics.k8s.io` says of a node.
#[derive(Deserialize)]
pub struct NodeMetrics {
    #[serde(deserialize_with = "object")]
    usage: Resources,
}

impl NodeMetrics {
    /// The CPUs in use.
    pub fn cpus(self) -> Option<Quantity> {
        self.usage.cpu
    }
}

/// A key has a prefix, which is a DNS subdomain, a slash, and a name.
type Key = Short<317>;
type Value = Short<63>;

/// Kubernetes does not bound how many labels a node has; these are more than anybody has use for.
const MOST_LABELS: usize = 1024;

/// A nodeSelector. Of one with more than any node has labels the rest is not looked at: it fits no
/// node either way, and an error would let whoever may make a DaemonSet close the gate of every node.
#[derive(Default)]
struct Selector(Labels);

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Selector, D::Error> {
        deserializer.deserialize_map(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Selector;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Selector, A::Error> {
        let mut labels = Labels::new();
        while let Some((Short(key), Short(value))) = map.next_entry::<Key, Value>()? {
            if labels.len() <= MOST_LABELS && labels.insert(key, value).is_some() {
                return Err(A::Error::custom("a key that stands twice"));
            }
        }
        Ok(Selector(labels))
    }
}

/// A node's labels, all of them: one that is left out would send away the DaemonSets that want it.
#[derive(Default, Deserialize)]
#[serde(try_from = "Selector")]
struct NodeLabels(Labels);

impl TryFrom<Selector> for NodeLabels {
    type Error = String;

    fn try_from(Selector(labels): Selector) -> Result<NodeLabels, String> {
        if labels.len() <= MOST_LABELS {
            Ok(NodeLabels(labels))
        } else {
            Err(format!("more than {MOST_LABELS} labels"))
        }
    }
}

/// A DaemonSet's own labels in one piece, each key and each value on a line: a map of as many as fit
/// into an object would take ten times their size, and what a filter asks for may be the last.
#[derive(Default)]
struct Packed(String);

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Packed, D::Error> {
        deserializer.deserialize_map(Lines)
    }
}

struct Lines;

impl<'de> Visitor<'de> for Lines {
    type Value = Packed;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Packed, A::Error> {
        let mut lines = String::new();
        while let Some((Short(key), Short(value))) = map.next_entry::<Key, Value>()? {
            for text in [key, value] {
                if text.contains('\n') {
                    return Err(A::Error::custom("a label of more than one line"));
                }
                lines.push_str(&text);
                lines.push('\n');
            }
        }
        Ok(Packed(lines))
    }
}

impl Packed {
    fn labels(&self, is_asked_for: impl Fn(&str) -> bool) -> Labels {
        let mut lines = self.0.split('\n');
        let pairs = std::iter::from_fn(|| Some((lines.next()?, lines.next()?)));
        pairs.filter(|(key, _)| is_asked_for(key)).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

/// What is read of the answer that says why there is none.
#[derive(Default, Deserialize)]
pub struct Status {
    message: Option<String>,
}

impl Status {
    /// The server's words on one line; nothing where it found none, or what answered was no API server.
    pub fn words(text: &str) -> Option<String> {
        let message = serde_json::from_str::<Status>(text).ok()?.message?;
        Some(psl::text::one_line(&message)).filter(|message| !message.is_empty())
    }
}
