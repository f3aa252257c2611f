//! The verdict on a node: every DaemonSet that counts and wants the node has a ready pod of this
//! boot on it, and the conditions of the node are good.
//!
//! The file does not know where objects come from, or which clients may see names.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use psl::text::one_line;

use crate::core::boot::BootCutoff;
use crate::core::daemonset::DaemonSetId;
use crate::core::filter::Exclusion;
use crate::core::node::Node;
use crate::core::pod::{Pod, Stage};

/// The role of a DaemonSet in the verdict on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The DaemonSet counts, wants this node, and has no pod on it.
    NoPod,
    /// The DaemonSet counts, wants this node, and this pod is the closest to being ready.
    PodNotReady(Arc<str>, Stage),
    /// The DaemonSet counts, wants this node, and this pod is ready.
    Ready(Arc<str>),
    /// The DaemonSet counts and does not want this node, for this reason.
    NotHere(Arc<str>),
    Excluded(Arc<Exclusion>),
}

impl Standing {
    pub fn is_waiting(&self) -> bool {
        matches!(self, Standing::NoPod | Standing::PodNotReady(..))
    }

    /// The name in JSON and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Standing::NoPod | Standing::PodNotReady(..) => "waiting",
            Standing::Ready(_) => "ready",
            Standing::NotHere(_) => "not-here",
            Standing::Excluded(_) => "excluded",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::NoPod => f.write_str("no pod on this node yet"),
            Standing::PodNotReady(pod, stage) => write!(f, "pod {} {stage}", one_line(pod)),
            Standing::Ready(pod) => write!(f, "pod {} {}", one_line(pod), Stage::Ready),
            Standing::NotHere(reason) => f.write_str(reason),
            Standing::Excluded(reason) => reason.fmt(f),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonSetStatus {
    pub id: Arc<DaemonSetId>,
    pub standing: Standing,
}

impl fmt::Display for DaemonSetStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name) = (one_line(self.id.namespace()), one_line(self.id.name()));
        write!(f, "{namespace}/{name}: {}", self.standing)
    }
}

/// The number of DaemonSets by standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub waiting: usize,
    pub ready: usize,
    pub not_here: usize,
    pub excluded: usize,
}

/// The pod closest to being ready of each DaemonSet, by namespace and UID. The UID alone is not
/// enough: a user who may create pods in one namespace can write any owner into them.
#[derive(Default)]
pub struct NearestPods<'p>(BTreeMap<(&'p str, &'p str), (Stage, &'p Arc<str>)>);

impl<'p> NearestPods<'p> {
    pub fn among(pods: impl IntoIterator<Item = &'p Pod>, cutoff: &BootCutoff) -> NearestPods<'p> {
        let mut nearest = NearestPods::default();
        for pod in pods {
            let key = (pod.owner.namespace(), pod.owner.uid());
            let candidate = (pod.stage(cutoff), &pod.name);
            let best = nearest.0.entry(key).or_insert(candidate);
            // Between pods of one stage the name decides, or the reason would change at random.
            if (candidate.0, Reverse(candidate.1)) > (best.0, Reverse(best.1)) {
                *best = candidate;
            }
        }
        nearest
    }

    fn of<'a>(&'a self, id: &'a DaemonSetId) -> Option<&'a (Stage, &'a Arc<str>)> {
        self.0.get(&(id.namespace(), id.uid()))
    }

    /// Whether the DaemonSet has a pod here that its controller would not replace.
    pub fn has_live_pod(&self, id: &DaemonSetId) -> bool {
        self.of(id).is_some_and(|(stage, _)| !stage.is_replaceable())
    }

    /// The standing of a DaemonSet that counts and wants the node.
    pub fn standing(&self, id: &DaemonSetId, has_gate: bool) -> Standing {
        match self.of(id) {
            Some((Stage::Ready, pod)) => Standing::Ready(Arc::clone(pod)),
            Some((Stage::AtTheGate, pod)) => {
                Standing::Excluded(Arc::new(Exclusion::PodAtTheGate(Arc::clone(pod))))
            }
            // A pod in one of these stages does not become ready, and its successor has the gate.
            None if has_gate => Standing::Excluded(Arc::new(Exclusion::TemplateHasGate)),
            Some((stage, _)) if has_gate && *stage < Stage::Pending => {
                Standing::Excluded(Arc::new(Exclusion::TemplateHasGate))
            }
            Some((stage, pod)) => Standing::PodNotReady(Arc::clone(pod), *stage),
            None => Standing::NoPod,
        }
    }
}

/// The most DaemonSets that a verdict lists. The counts include all.
pub const MOST_LISTED: usize = 250;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Up to [`MOST_LISTED`] DaemonSets, those that wait first.
    pub daemonsets: Vec<DaemonSetStatus>,
    pub counts: Counts,
    /// The node was once healthy in this boot, and the latch is enabled.
    pub is_latched: bool,
    /// The API server still shows the node as it was before this boot.
    pub node_is_old: bool,
    /// The reasons of the node itself.
    pub node_problems: Vec<String>,
}

impl Verdict {
    /// Takes DaemonSets in the order of their names, and keeps this order within each standing.
    pub fn new(daemonsets: impl IntoIterator<Item = DaemonSetStatus>) -> Verdict {
        let mut counts = Counts::default();
        let mut by_standing: [Vec<DaemonSetStatus>; 4] = Default::default();
        for status in daemonsets {
            let (count, list) = match status.standing {
                Standing::NoPod | Standing::PodNotReady(..) => (&mut counts.waiting, 0),
                Standing::Ready(_) => (&mut counts.ready, 1),
                Standing::NotHere(_) => (&mut counts.not_here, 2),
                Standing::Excluded(_) => (&mut counts.excluded, 3),
            };
            *count += 1;
            if by_standing[list].len() < MOST_LISTED {
                by_standing[list].push(status);
            }
        }
        let daemonsets = by_standing.into_iter().flatten().take(MOST_LISTED).collect();
        Verdict { daemonsets, counts, ..Verdict::default() }
    }

    #[must_use]
    pub fn with_node(self, node: &Node, cutoff: &BootCutoff, conditions: bool) -> Verdict {
        let node_problems = if conditions { node.problems() } else { Vec::new() };
        Verdict { node_is_old: cutoff.node_is_old, node_problems, ..self }
    }

    pub fn daemonsets_are_ready(&self) -> bool {
        self.is_latched || (self.counts.waiting == 0 && !self.node_is_old)
    }

    pub fn is_healthy(&self) -> bool {
        self.daemonsets_are_ready() && self.node_problems.is_empty()
    }

    /// The listed DaemonSets that are not ready.
    pub fn waiting(&self) -> &[DaemonSetStatus] {
        &self.daemonsets[..self.counts.waiting.min(self.daemonsets.len())]
    }
}

#[cfg(test)]
mod tests;
