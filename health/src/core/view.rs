//! The known state of the cluster: the node, the pods of DaemonSets on it, and all DaemonSets.
//!
//! The file does not know where changes come from.

mod bounded_list;
mod daemonsets;
mod heap;
mod pods;
mod shares;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::core::boot::{BootCheck, Machine};
use crate::core::daemonset::{DaemonSet, DaemonSetId};
use crate::core::filter::Filter;
use crate::core::node::Node;
use crate::core::pod::Pod;
use crate::core::verdict::{NearestPods, Verdict};

use daemonsets::DaemonSetCache;
use pods::PodCache;

/// The settings that the verdict depends on.
#[derive(Clone, Debug, Default)]
pub struct Criteria {
    /// `None` if DaemonSets do not count.
    pub filter: Option<Filter>,
    /// Whether the conditions of the node count.
    pub conditions: bool,
    /// Whether DaemonSets count only until the node was once healthy in this boot.
    pub latch: bool,
}

pub struct View {
    criteria: Criteria,
    boot: BootCheck,
    node: Option<Node>,
    node_is_deleted: bool,
    pub daemonsets: DaemonSetCache,
    pub pods: PodCache,
    /// The boot ID under which the node was once healthy.
    latched: Option<Box<str>>,
}

impl View {
    pub fn new(criteria: Criteria, boot: BootCheck) -> View {
        // Lists that are never requested count as complete.
        let is_complete = criteria.filter.is_none();
        View {
            criteria,
            boot,
            node: None,
            node_is_deleted: false,
            daemonsets: DaemonSetCache::new(is_complete),
            pods: PodCache::new(is_complete),
            latched: None,
        }
    }

    pub fn filter(&self) -> Filter {
        self.criteria.filter.clone().unwrap_or_default()
    }

    pub fn set_node(&mut self, node: Node) {
        if self.node.as_ref().is_none_or(|known| known.traits != node.traits) {
            self.daemonsets.set_node(&node.traits);
        }
        self.node = Some(node);
        self.node_is_deleted = false;
    }

    pub fn remove_node(&mut self) {
        self.node_is_deleted = true;
    }

    /// The node, also after its deletion.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Takes the result of reading one DaemonSet, which may not exist.
    pub fn set_daemonset(&mut self, namespace: &str, name: &str, set: Option<DaemonSet>) {
        match set {
            Some(set) => self.daemonsets.set(set, &self.filter()),
            None => self.daemonsets.remove(namespace, name),
        }
    }

    /// The numbers of DaemonSets and of pods that do not count because of the memory limit.
    pub fn evicted(&self) -> (usize, usize) {
        (self.daemonsets.list.evicted, self.pods.evicted)
    }

    /// The list is complete: pods that it did not contain are removed. Returns owners to read
    /// besides those of [`View::set_pod`], because in the first list every pod is new.
    pub fn finish_pods(&mut self) -> BTreeSet<Arc<DaemonSetId>> {
        let is_first = !self.pods.is_complete();
        self.pods.finish();
        if is_first { self.unknown_owners() } else { BTreeSet::new() }
    }

    /// Takes a pod of a list or an event. Returns its owner if the owner has to be read.
    pub fn set_pod(&mut self, pod: Pod) -> Option<Arc<DaemonSetId>> {
        let owner = self.needs_owner(&pod).then(|| Arc::clone(&pod.owner));
        self.pods.add(pod);
        owner
    }

    /// The owners of pods on this node that are not known.
    pub fn unknown_owners(&self) -> BTreeSet<Arc<DaemonSetId>> {
        let owners = self.pods.pods().map(|pod| &pod.owner);
        owners.filter(|owner| !self.knows(owner)).cloned().collect()
    }

    /// Whether a DaemonSet is known by its UID. Before the first list all count as known.
    pub fn knows(&self, id: &DaemonSetId) -> bool {
        !self.daemonsets.list.is_complete() || self.daemonsets.knows(id)
    }

    /// Whether the owner of a pod has to be read: it is unknown, or the pod is new and its owner is
    /// known as one that does not want this node. Its template must have changed.
    fn needs_owner(&self, pod: &Pod) -> bool {
        let is_known = || self.pods.has(&pod.uid) && self.knows(&pod.owner);
        self.pods.is_complete()
            && self.daemonsets.list.is_complete()
            && !self.daemonsets.expects(pod)
            && !is_known()
    }

    /// The verdict; `None` until the node and both lists are known.
    pub fn judge(&mut self, machine: &Machine) -> Option<Verdict> {
        let is_complete = self.daemonsets.list.is_complete() && self.pods.is_complete();
        let node = self.node.as_ref().filter(|_| is_complete)?;
        let cutoff = self.boot.update(&node.boot_id, machine);
        let verdict = self.daemonsets.verdict(&NearestPods::among(self.pods.pods(), &cutoff));
        let mut verdict = verdict.with_node(node, &cutoff, self.criteria.conditions);
        if self.node_is_deleted {
            let text = "node not found: the API server has no node of this name (--node-name)";
            verdict.node_problems.push(text.to_owned());
        }
        // Another boot ID means that the node has restarted since it was latched.
        self.latched.take_if(|boot| !node.boot_id.is_empty() && *boot != node.boot_id);
        // Before the node is ready, most DaemonSets have no pod yet or do not want it for its
        // taints, so that no waiting DaemonSet says little.
        if self.criteria.latch
            && self.latched.is_none()
            && verdict.is_healthy()
            && node.unready_reason().is_none()
        {
            self.latched = Some(node.boot_id.clone());
        }
        verdict.is_latched = self.latched.is_some();
        Some(verdict)
    }

    /// The time until the verdict may change without an event.
    pub fn changes_in(&self, machine: &Machine) -> Option<Duration> {
        self.boot.remaining(machine)
    }
}

/// Complete lists, as tests need them.
#[cfg(test)]
impl View {
    pub fn set_daemonsets(&mut self, all: impl IntoIterator<Item = DaemonSet>) {
        let filter = self.filter();
        self.daemonsets.begin();
        all.into_iter().for_each(|set| self.daemonsets.add(set, &filter));
        self.daemonsets.finish();
    }

    pub fn set_pods(&mut self, all: impl IntoIterator<Item = Pod>) -> BTreeSet<Arc<DaemonSetId>> {
        self.pods.begin();
        let owners: Vec<_> = all.into_iter().filter_map(|pod| self.set_pod(pod)).collect();
        self.finish_pods().into_iter().chain(owners).collect()
    }
}

#[cfg(test)]
mod tests;
