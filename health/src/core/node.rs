//! The node, reduced to the fields that the verdict needs.

use std::sync::Arc;

use crate::core::eligibility::{NodeTraits, TaintEffect};
use crate::core::quantity::Quantity;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The fields that decide which pods the node gets.
    pub traits: Arc<NodeTraits>,
    /// The condition `Ready` is `True`.
    pub is_ready: bool,
    /// The conditions that are `True` and should not be.
    pub bad_conditions: Vec<&'static str>,
    /// `status.nodeInfo.bootID`
    pub boot_id: Box<str>,
    /// `status.capacity.cpu`
    pub cpus: Option<Quantity>,
}

/// The taints that the node lifecycle controller sets until it has seen the condition `Ready`.
/// Taints of pressure are missing: they exclude no DaemonSet.
const NOT_READY: &[&str] = &[
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/network-unavailable",
];

impl Node {
    /// The reason why the cluster does not regard the node as ready.
    ///
    /// The taints count too. Between the kubelet's `Ready` and their removal only DaemonSets that
    /// tolerate them want the node, and the gate would open before the others arrive.
    pub fn unready_reason(&self) -> Option<String> {
        if !self.is_ready {
            return Some("node is not Ready".to_owned());
        }
        let taint = self.traits.taints.iter().find(|taint| {
            taint.effect == TaintEffect::NoSchedule && NOT_READY.contains(&&*taint.key)
        })?;
        Some(format!("node still has the taint {taint}"))
    }

    /// All reasons why the conditions of the node close the gate.
    pub fn problems(&self) -> Vec<String> {
        let conditions = self.bad_conditions.iter();
        let conditions = conditions.map(|name| format!("node has the condition {name}"));
        self.unready_reason().into_iter().chain(conditions).collect()
    }
}
