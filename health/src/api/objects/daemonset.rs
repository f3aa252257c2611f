//! The fields of a DaemonSet: whether it counts, and where its pods may run.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::resource::{Annotations, InitContainers, ObjectKind, Resource, taint_effect};
use crate::api::fields::{BoundedVec, Collector, ELEMENT_BYTES, List, Name, Selector};
use crate::api::visitors::{Braces, object, optional_object};
use crate::core::daemonset::DaemonSet;
use crate::core::eligibility::{
    Operator, Placement, Requirement, Term, ToleratedEffect, Toleration, TolerationOperator,
};

pub type DaemonSetObject = Resource<DaemonSetKind>;

pub struct DaemonSetKind;

impl ObjectKind for DaemonSetKind {
    const LIST: &'static str = "DaemonSetList";
    const NOUN: &'static str = "DaemonSet";
    const IS_OWNER: bool = true;
    type Spec = DaemonSetSpec;
    type Status = IgnoredAny;
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct DaemonSetSpec {
    #[serde(deserialize_with = "object")]
    template: Template,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Template {
    #[serde(deserialize_with = "object")]
    metadata: TemplateMetadata,
    #[serde(deserialize_with = "object")]
    spec: TemplateSpec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TemplateMetadata {
    #[serde(deserialize_with = "object")]
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TemplateSpec {
    node_name: Option<Name>,
    node_selector: Selector,
    #[serde(deserialize_with = "object")]
    affinity: Affinity,
    tolerations: List<BoundedVec<Toleration>>,
    host_network: Option<bool>,
    init_containers: List<InitContainers>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Affinity {
    #[serde(deserialize_with = "object")]
    node_affinity: NodeAffinity,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeAffinity {
    #[serde(
        deserialize_with = "optional_object",
        rename = "requiredDuringSchedulingIgnoredDuringExecution"
    )]
    required: Option<NodeSelector>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeSelector {
    node_selector_terms: List<BoundedVec<Term>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RawTerm {
    match_expressions: List<BoundedVec<Requirement>>,
    match_fields: List<BoundedVec<Requirement>>,
}

impl Collector for BoundedVec<Term> {
    type Element = Braces<RawTerm>;

    fn add(&mut self, Braces(term): Braces<RawTerm>) {
        let (List(labels), List(fields)) = (term.match_expressions, term.match_fields);
        self.is_truncated |= labels.is_truncated || fields.is_truncated;
        // A term without requirements holds on no node, and so does an affinity without terms.
        if !(labels.items.is_empty() && fields.items.is_empty()) {
            let bytes = ELEMENT_BYTES + labels.bytes + fields.bytes;
            self.push(Term { labels: labels.items.into(), fields: fields.items.into() }, bytes);
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct RawRequirement {
    key: Option<Box<str>>,
    operator: Option<Box<str>>,
    values: List<BoundedVec<Box<str>>>,
}

impl Collector for BoundedVec<Requirement> {
    type Element = Braces<RawRequirement>;

    fn add(&mut self, Braces(raw): Braces<RawRequirement>) {
        let operator = match raw.operator.as_deref().unwrap_or_default() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::Gt,
            "Lt" => Operator::Lt,
            _ => Operator::Unknown,
        };
        let (key, List(values)) = (raw.key.unwrap_or_default(), raw.values);
        self.is_truncated |= values.is_truncated;
        let bytes = ELEMENT_BYTES + key.len() + values.bytes;
        self.push(Requirement { key, operator, values: values.items.into() }, bytes);
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct RawToleration {
    key: Option<Box<str>>,
    operator: Option<Box<str>>,
    value: Option<Box<str>>,
    effect: Option<Box<str>>,
}

impl Collector for BoundedVec<Toleration> {
    type Element = Braces<RawToleration>;

    fn add(&mut self, Braces(raw): Braces<RawToleration>) {
        let operator = match raw.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => TolerationOperator::Equal,
            "Exists" => TolerationOperator::Exists,
            "Gt" => TolerationOperator::Gt,
            "Lt" => TolerationOperator::Lt,
            _ => TolerationOperator::Unknown,
        };
        let effect = match raw.effect.as_deref().unwrap_or_default() {
            "" => None,
            name => Some(taint_effect(name).map_or(ToleratedEffect::Other, ToleratedEffect::Of)),
        };
        let (key, value) = (raw.key.unwrap_or_default(), raw.value.unwrap_or_default());
        let bytes = ELEMENT_BYTES + key.len() + value.len();
        self.push(Toleration { key, operator, value, effect }, bytes);
    }
}

impl DaemonSetObject {
    pub fn is_called(&self, namespace: &str, name: &str) -> bool {
        self.metadata.namespace.0 == namespace && self.metadata.name.0 == name
    }

    /// The DaemonSet with the labels whose keys are needed.
    pub fn into_daemonset(self, is_needed: impl Fn(&str) -> bool) -> DaemonSet {
        let Template { metadata: template, spec } = self.spec.template;
        let metadata = self.metadata;
        let List(init_containers) = spec.init_containers;
        let List(tolerations) = spec.tolerations;
        let required = spec.affinity.node_affinity.required;
        let terms = required.map(|required| required.node_selector_terms.0);
        let is_too_large = terms.as_ref().is_some_and(|terms| terms.is_truncated)
            || tolerations.is_truncated
            || init_containers.0.is_truncated
            || metadata.labels.is_truncated();
        DaemonSet {
            namespace: metadata.namespace.0,
            name: metadata.name.0,
            uid: metadata.uid.0,
            labels: metadata.labels.labels(is_needed).collect(),
            is_ignored: metadata.annotations.ignore.0.as_deref() == Some("true"),
            is_being_deleted: metadata.deletion_timestamp.is_some(),
            has_gate: init_containers.gate(&template.annotations).is_some(),
            is_too_large,
            placement: Placement {
                node_name: spec.node_name.unwrap_or_default().0.into(),
                selector: spec.node_selector.0,
                affinity: terms.map(|terms| terms.items.into()),
                tolerations: tolerations.items.into(),
                has_host_network: spec.host_network.unwrap_or(false),
            },
        }
    }
}
