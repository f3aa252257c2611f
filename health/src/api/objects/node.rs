//! What is read of a node: what decides which pods it gets, and how it is; and what `metrics.k8s.io` says of it.

use std::sync::Arc;

use serde::Deserialize;

use super::kept::{Key, MOST_OF_NODE, Value};
use super::{Condition, Kind, Resource, effect_of};
use crate::api::json::{Gather, Gathered, Short, Word, object, optional};
use crate::eligibility::{self, Labels, Taint};
use crate::load::Quantity;
use crate::verdict;

/// A node.
pub type Node = Resource<OfNode>;

/// What is particular about it.
pub struct OfNode;

impl Kind for OfNode {
    const LIST: &'static str = "NodeList";
    const NOUN: &'static str = "node";
    type Spec = NodeSpec;
    type Status = NodeStatus;
}

#[derive(Default, Deserialize)]
pub struct NodeSpec {
    taints: Option<Gathered<Taints>>,
}

/// The taints that keep pods away, and at most one more than a node may have.
#[derive(Default)]
struct Taints(Vec<Taint>);

#[derive(Deserialize)]
struct RawTaint {
    key: Option<Key>,
    value: Option<Value>,
    effect: Option<Word>,
}

impl Gather for Taints {
    type Element = RawTaint;

    fn add(&mut self, raw: RawTaint) {
        let effect = effect_of(&raw.effect.unwrap_or_default().0);
        if let Some(effect) = effect.filter(|_| self.0.len() <= MOST_OF_NODE) {
            let (Short(key), Short(value)) =
                (raw.key.unwrap_or_default(), raw.value.unwrap_or_default());
            self.0.push(Taint { key: key.into(), value: value.into(), effect });
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
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
        } else if let Some(trouble) = TROUBLES.iter().find(|trouble| ***trouble == *kind && is_true)
            && !self.troubles.contains(trouble)
        {
            self.troubles.push(trouble);
        }
    }
}

impl Node {
    /// Whether it is a node, and this its name.
    pub fn is_called(&self, name: &str) -> bool {
        self.kind.0 == "Node" && self.metadata.name.0 == name
    }

    /// What counts of it. `Err` where it has more labels or taints than are kept: with a part of them it would be
    /// another node, which other DaemonSets want.
    pub fn counting(self) -> Result<verdict::Node, String> {
        let labels = self.metadata.labels.unwrap_or_default();
        let labels: Labels = labels.labels(|_| true).take(MOST_OF_NODE + 1).collect();
        let taints = self.spec.unwrap_or_default().taints.unwrap_or_default().0.0;
        for (count, what) in [(labels.len(), "labels"), (taints.len(), "taints")] {
            if count > MOST_OF_NODE {
                return Err(format!("more than {MOST_OF_NODE} {what}"));
            }
        }
        let status = self.status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default().0;
        Ok(verdict::Node {
            placed: Arc::new(eligibility::Node {
                name: self.metadata.name.0.into(),
                labels,
                taints,
            }),
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
