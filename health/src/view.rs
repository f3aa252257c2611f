//! What is known of the cluster as far as it concerns this node: the node, its DaemonSets' pods, and
//! all DaemonSets cut down to what decides whether they belong here.
//!
//! Pure: it is told what has changed, and judges. Does not know where that comes from.

mod pods;
mod sets;
mod shares;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::boot::{Boot, Machine};
use crate::verdict::{DaemonSet, Filter, Identity, Nearest, Node, Pod, Verdict};

pub use pods::Pods;
pub use sets::Sets;

/// What makes a difference to the verdict besides the cluster.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Which DaemonSets count; nothing where none do.
    pub filter: Option<Filter>,
    /// Whether the node's conditions count.
    pub conditions: bool,
    /// Whether DaemonSets count only until they have once been ready in this boot.
    pub latch: bool,
}

/// What is known.
pub struct View {
    rules: Rules,
    boot: Boot,
    node: Option<Node>,
    node_is_gone: bool,
    sets: Option<Sets>,
    /// Nothing until they have once been listed.
    pods: Option<Pods>,
    /// The boot in which the node was once healthy.
    latched: Option<Box<str>>,
}

impl View {
    /// Nothing is known.
    pub fn new(rules: Rules, boot: Boot) -> View {
        let counts = rules.filter.is_some();
        let sets = (!counts).then(Sets::default);
        let pods = (!counts).then(Pods::default);
        View { rules, boot, node: None, node_is_gone: false, sets, pods, latched: None }
    }

    /// Which DaemonSets count.
    pub fn filter(&self) -> Filter {
        self.rules.filter.clone().unwrap_or_default()
    }

    /// The node as it is now.
    pub fn set_node(&mut self, node: Node) {
        let has_moved = self.node.as_ref().is_none_or(|known| known.placed != node.placed);
        if let Some(sets) = self.sets.as_mut().filter(|_| has_moved) {
            sets.place(&node);
        }
        self.node = Some(node);
        self.node_is_gone = false;
    }

    /// Its object has been deleted.
    pub fn remove_node(&mut self) {
        self.node_is_gone = true;
    }

    /// The node, as it last was.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// All DaemonSets.
    pub fn set_daemonsets(&mut self, sets: Sets) {
        let mut sets = sets.finish();
        if let Some(node) = &self.node {
            sets.place(node);
        }
        self.sets = Some(sets);
    }

    /// One DaemonSet as it is now, or that there is none of this name.
    pub fn set_daemonset(&mut self, namespace: &str, name: &str, set: Option<DaemonSet>) {
        let filter = self.filter();
        match (&mut self.sets, set) {
            (Some(sets), Some(set)) => sets.set(set, &filter, self.node.as_ref()),
            (Some(sets), None) => sets.remove(namespace, name),
            (None, _) => {}
        }
    }

    /// Those that do not count because they are too large to be kept.
    pub fn too_large(&self) -> BTreeSet<Arc<Identity>> {
        self.sets.as_ref().map(Sets::too_large).unwrap_or_default()
    }

    /// How many DaemonSets, and how many pods, do not count because there are too many.
    pub fn let_go(&self) -> (usize, usize) {
        (self.sets.as_ref().map_or(0, Sets::let_go), self.pods.as_ref().map_or(0, Pods::let_go))
    }

    /// All pods of DaemonSets on the node. Returns the owners that have to be asked for.
    pub fn set_pods(&mut self, pods: Pods) -> BTreeSet<Identity> {
        // In the first list each pod is new, and no surprise.
        let is_first = self.pods.is_none();
        let surprising = pods.iter().filter(|pod| !is_first && self.is_surprising(pod)).map(owner_of).collect();
        self.pods = Some(pods);
        if is_first { self.unknown_owners() } else { surprising }
    }

    /// One pod as it is now.
    pub fn set_pod(&mut self, pod: Pod) {
        if let Some(pods) = &mut self.pods {
            pods.add(pod);
        }
    }

    /// Whether it is known.
    pub fn has_pod(&self, uid: &str) -> bool {
        self.pods.as_ref().is_some_and(|pods| pods.has(uid))
    }

    /// A pod that is not there any more.
    pub fn remove_pod(&mut self, uid: &str) {
        if let Some(pods) = &mut self.pods {
            pods.remove(uid);
        }
    }

    /// The owners of pods here of which nothing is known.
    pub fn unknown_owners(&self) -> BTreeSet<Identity> {
        let pods = self.pods.iter().flat_map(Pods::iter);
        pods.map(owner_of).filter(|owner| !self.knows(owner)).collect()
    }

    /// Whether a DaemonSet is known, by its UID. Before the first list there is nothing to miss.
    pub fn knows(&self, one: &Identity) -> bool {
        self.sets.as_ref().is_none_or(|sets| sets.knows(one))
    }

    /// Whether a pod's owner has to be asked for: nothing is known of it, or the pod is new here and the
    /// owner is held for one that does not want this node. The pod says that it does by now.
    pub fn is_surprising(&self, pod: &Pod) -> bool {
        let is_known = || self.has_pod(&pod.uid) && self.knows(&owner_of(pod));
        self.sets.as_ref().is_some_and(|sets| !sets.expects(pod) && !is_known())
    }

    /// What all that means; nothing until all of it has been told once.
    pub fn judge(&mut self, machine: &Machine) -> Option<Verdict> {
        let (node, sets, pods) = (self.node.as_ref()?, self.sets.as_ref()?, self.pods.as_ref()?);
        let news = self.boot.news(&node.boot_id, machine);
        let verdict = sets.judged(&Nearest::among(pods.iter(), &news));
        let mut verdict = verdict.of_node(node, &news, self.rules.conditions);
        if self.node_is_gone {
            verdict.node.push("the API has no node of this name any more".to_owned());
        }
        // A node that shows another boot has come up anew, or what it was latched by was from before.
        self.latched = self.latched.take().filter(|boot| node.boot_id.is_empty() || *boot == node.boot_id);
        // Before the node is ready most DaemonSets have not come yet, or are not wanted for its taints: that nothing
        // waits says little then, and what is latched stays, whether or not conditions count otherwise.
        if self.rules.latch && self.latched.is_none() && verdict.is_healthy() && node.unready().is_none() {
            self.latched = Some(node.boot_id.clone());
        }
        verdict.is_latched = self.latched.is_some();
        Some(verdict)
    }

    /// When time alone changes the verdict, from now.
    pub fn changes_in(&self, machine: &Machine) -> Option<std::time::Duration> {
        self.boot.remaining(machine)
    }
}

/// Who controls a pod.
pub fn owner_of(pod: &Pod) -> Identity {
    Identity { namespace: pod.namespace.clone(), name: pod.owner.clone(), uid: pod.owner_uid.clone() }
}

#[cfg(test)]
mod tests;
