//! The fields of a node that decide which pods it gets and how it is, and its metrics.

use std::sync::Arc;

use serde::Deserialize;

use super::resource::{Condition, ObjectKind, Resource, taint_effect};
use crate::api::fields::{Amount, Collector, Key, List, MOST_OF_NODE, ShortText, Value, Word};
use crate::api::visitors::{Braces, object};
use crate::core::eligibility::{Labels, NodeTraits, Taint};
use crate::core::node::Node;
use crate::core::quantity::Quantity;

pub type NodeObject = Resource<NodeKind>;

pub struct NodeKind;

impl ObjectKind for NodeKind {
    const LIST: &'static str = "NodeList";
    const NOUN: &'static str = "node";
    type Spec = NodeSpec;
    type Status = NodeStatus;
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    taints: List<Taints>,
}

/// The taints that exclude pods, at most one more than a node may have.
#[derive(Default)]
struct Taints(Vec<Taint>);

#[derive(Deserialize)]
struct RawTaint {
    key: Option<Key>,
    value: Option<Value>,
    effect: Option<Word>,
}

impl Collector for Taints {
    type Element = Braces<RawTaint>;

    fn add(&mut self, Braces(raw): Braces<RawTaint>) {
        let effect = taint_effect(&raw.effect.unwrap_or_default().0);
        if let Some(effect) = effect.filter(|_| self.0.len() <= MOST_OF_NODE) {
            let ShortText(key) = raw.key.unwrap_or_default();
            let ShortText(value) = raw.value.unwrap_or_default();
            self.0.push(Taint { key: key.into(), value: value.into(), effect });
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeStatus {
    conditions: List<NodeConditions>,
    #[serde(deserialize_with = "object")]
    node_info: NodeInfo,
    #[serde(deserialize_with = "object")]
    capacity: Resources,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeInfo {
    #[serde(rename = "bootID")]
    boot_id: Word,
}

/// The capacity or the usage of a node.
#[derive(Default, Deserialize)]
struct Resources {
    cpu: Option<Amount>,
}

#[derive(Default)]
struct NodeConditions {
    is_ready: bool,
    bad: Vec<&'static str>,
}

/// The conditions that are bad if they are `True` ("Node Status").
const BAD: &[&str] = &["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];

impl Collector for NodeConditions {
    type Element = Braces<Condition>;

    fn add(&mut self, Braces(Condition { kind, status }): Braces<Condition>) {
        let is_true = *status == *"True";
        if *kind == *"Ready" {
            self.is_ready = is_true;
        } else if let Some(name) = BAD.iter().find(|name| ***name == *kind && is_true)
            && !self.bad.contains(name)
        {
            self.bad.push(name);
        }
    }
}

impl NodeObject {
    pub fn is_called(&self, name: &str) -> bool {
        self.kind.0 == "Node" && self.metadata.name.0 == name
    }

    /// The node. Too many labels or taints are an error: other DaemonSets would want a node with a
    /// part of them.
    pub fn into_node(self) -> Result<Node, String> {
        let labels: Labels = self.metadata.labels.labels(|_| true).take(MOST_OF_NODE + 1).collect();
        let List(Taints(taints)) = self.spec.taints;
        for (count, noun) in [(labels.len(), "labels"), (taints.len(), "taints")] {
            if count > MOST_OF_NODE {
                return Err(format!("more than {MOST_OF_NODE} {noun}"));
            }
        }
        let List(conditions) = self.status.conditions;
        let name = self.metadata.name.0.into();
        Ok(Node {
            traits: Arc::new(NodeTraits { name, labels, taints }),
            is_ready: conditions.is_ready,
            bad_conditions: conditions.bad,
            boot_id: self.status.node_info.boot_id.0.into(),
            cpus: self.status.capacity.cpu.map(|Amount(cpus)| cpus),
        })
    }
}

/// A node in `metrics.k8s.io`.
#[derive(Deserialize)]
pub struct NodeMetricsObject {
    usage: Braces<Resources>,
}

impl NodeMetricsObject {
    /// The CPUs in use.
    pub fn cpus(self) -> Option<Quantity> {
        let Braces(usage) = self.usage;
        usage.cpu.map(|Amount(cpus)| cpus)
    }
}
