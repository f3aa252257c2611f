//! What is read of a DaemonSet: whether it counts, and where its pods may go.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::kept::{EACH, Kept, Selector, Values};
use super::{Annotations, InitContainers, Kind, Resource, effect_of};
use crate::api::json::{Gather, Gathered, Name, optional};
use crate::eligibility::{
    Operator, Placement, Requirement, Term, ToleratedEffect, Tolerates, Toleration,
};
use crate::verdict;

/// A DaemonSet.
pub type DaemonSet = Resource<OfDaemonSet>;

/// What is particular about it.
pub struct OfDaemonSet;

impl Kind for OfDaemonSet {
    const LIST: &'static str = "DaemonSetList";
    const NOUN: &'static str = "DaemonSet";
    const IS_OWNER: bool = true;
    type Spec = DaemonSetSpec;
    type Status = IgnoredAny;
}

#[derive(Deserialize)]
pub struct DaemonSetSpec {
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
    init_containers: Option<Gathered<InitContainers>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Affinity {
    #[serde(default, deserialize_with = "optional")]
    node_affinity: Option<NodeAffinity>,
}

#[derive(Deserialize)]
struct NodeAffinity {
    #[serde(
        default,
        deserialize_with = "optional",
        rename = "requiredDuringSchedulingIgnoredDuringExecution"
    )]
    required: Option<NodeSelector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeSelector {
    node_selector_terms: Option<Gathered<Kept<Term>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawTerm {
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
pub struct RawRequirement {
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
pub struct RawToleration {
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
        let effect =
            named.map(|name| effect_of(&name).map_or(ToleratedEffect::Other, ToleratedEffect::Of));
        let (key, value) = (raw.key.unwrap_or_default(), raw.value.unwrap_or_default());
        let bytes = EACH + key.len() + value.len();
        self.push(Toleration { key, operator, value, effect }, bytes);
    }
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
        let has_gate = spec
            .init_containers
            .as_ref()
            .is_some_and(|init| init.0.gate(of_template.as_ref()).is_some());
        let required = spec.affinity.and_then(|affinity| affinity.node_affinity?.required);
        let affinity = required.map(|selector| selector.node_selector_terms.unwrap_or_default().0);
        let tolerations = spec.tolerations.unwrap_or_default().0;
        let labels = self.metadata.labels.unwrap_or_default();
        let is_too_large = affinity.as_ref().is_some_and(|terms| terms.is_cut)
            || tolerations.is_cut
            || spec.init_containers.is_some_and(|init| init.0.0.is_cut)
            || labels.is_cut();
        verdict::DaemonSet {
            namespace: self.metadata.namespace.0,
            name: self.metadata.name.0,
            uid: self.metadata.uid.0,
            labels: labels.labels(is_asked_for).collect(),
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
