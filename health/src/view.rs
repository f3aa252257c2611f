//! What is known of the cluster as far as it concerns this node: the node, its DaemonSets' pods, and
//! all DaemonSets cut down to what decides whether they belong here.
//!
//! Pure: it is told what has changed, and judges. Does not know where that comes from.

mod heap;
mod pods;
mod sets;
mod shares;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::boot::{Boot, Machine};
use crate::verdict::{DaemonSet, Filter, Identity, Nearest, Node, Pod, Verdict};

use pods::Pods;
use sets::Sets;

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
    sets: Sets,
    pods: Pods,
    /// The boot in which the node was once healthy.
    latched: Option<Box<str>>,
}

impl View {
    /// Nothing is known.
    pub fn new(rules: Rules, boot: Boot) -> View {
        let counts = rules.filter.is_some();
        let sets = if counts { Sets::default() } else { Sets::none() };
        let pods = if counts { Pods::default() } else { Pods::none() };
        View { rules, boot, node: None, node_is_gone: false, sets, pods, latched: None }
    }

    /// Which DaemonSets count.
    pub fn filter(&self) -> Filter {
        self.rules.filter.clone().unwrap_or_default()
    }

    /// The node as it is now.
    pub fn set_node(&mut self, node: Node) {
        if self.node.as_ref().is_none_or(|known| known.placed != node.placed) {
            self.sets.place(&node.placed);
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

    /// A list of all DaemonSets begins, or begins anew.
    pub fn begin_daemonsets(&mut self) {
        self.sets.begin();
    }

    /// One of the list.
    pub fn add_daemonset(&mut self, set: DaemonSet, filter: &Filter) {
        self.sets.add(set, filter);
    }

    /// The list has ended: there are no others.
    pub fn finish_daemonsets(&mut self) {
        self.sets.finish();
    }

    /// One DaemonSet as it is now, or that there is none of this name.
    pub fn set_daemonset(&mut self, namespace: &str, name: &str, set: Option<DaemonSet>) {
        match set {
            Some(set) => self.sets.set(set, &self.filter()),
            None => self.sets.remove(namespace, name),
        }
    }

    /// Those that do not count because they are too large to be kept.
    pub fn too_large(&self) -> BTreeSet<Arc<Identity>> {
        self.sets.too_large()
    }

    /// How many DaemonSets, and how many pods, do not count because there are too many.
    pub fn let_go(&self) -> (usize, usize) {
        (self.sets.let_go(), self.pods.let_go())
    }

    /// A list of all pods of DaemonSets on the node begins, or begins anew.
    pub fn begin_pods(&mut self) {
        self.pods.begin();
    }

    /// The list has ended: there are no others. Returns the owners that have to be asked for besides those of
    /// [`View::set_pod`]: in the first list every pod is new.
    pub fn finish_pods(&mut self) -> BTreeSet<Arc<Identity>> {
        let is_first = !self.pods.is_complete();
        self.pods.finish();
        if is_first { self.unknown_owners() } else { BTreeSet::new() }
    }

    /// One pod as it is now, from an event or a list. Returns its owner if that has to be asked for.
    pub fn set_pod(&mut self, pod: Pod) -> Option<Arc<Identity>> {
        let surprise = self.is_surprising(&pod).then(|| Arc::clone(&pod.owner));
        self.pods.add(pod);
        surprise
    }

    /// Whether it is known.
    pub fn has_pod(&self, uid: &str) -> bool {
        self.pods.has(uid)
    }

    /// A pod that is not there any more.
    pub fn remove_pod(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    /// The owners of pods here of which nothing is known.
    pub fn unknown_owners(&self) -> BTreeSet<Arc<Identity>> {
        self.pods.iter().map(|pod| &pod.owner).filter(|owner| !self.knows(owner)).cloned().collect()
    }

    /// Whether a DaemonSet is known, by its UID. Before the first list there is nothing to miss.
    pub fn knows(&self, one: &Identity) -> bool {
        !self.sets.is_complete() || self.sets.knows(one)
    }

    /// Whether a pod's owner has to be asked for: nothing is known of it, or the pod is new here and the
    /// owner is held for one that does not want this node. The pod says that it does by now.
    fn is_surprising(&self, pod: &Pod) -> bool {
        let is_known = || self.has_pod(&pod.uid) && self.knows(&pod.owner);
        self.pods.is_complete() && self.sets.is_complete() && !self.sets.expects(pod) && !is_known()
    }

    /// What all that means; nothing until all of it has been told once.
    pub fn judge(&mut self, machine: &Machine) -> Option<Verdict> {
        let node =
            self.node.as_ref().filter(|_| self.sets.is_complete() && self.pods.is_complete())?;
        let news = self.boot.news(&node.boot_id, machine);
        let verdict = self.sets.judged(&Nearest::among(self.pods.iter(), &news));
        let mut verdict = verdict.of_node(node, &news, self.rules.conditions);
        if self.node_is_gone {
            verdict.node.push("the API has no node of this name any more".to_owned());
        }
        // A node that shows another boot has come up anew, or what it was latched by was from before.
        self.latched =
            self.latched.take().filter(|boot| node.boot_id.is_empty() || *boot == node.boot_id);
        // Before the node is ready most DaemonSets have not come yet, or are not wanted for its taints: that nothing
        // waits says little then, and what is latched stays, whether or not conditions count otherwise.
        if self.rules.latch
            && self.latched.is_none()
            && verdict.is_healthy()
            && node.unready().is_none()
        {
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

/// Whole lists at once, as tests have them.
#[cfg(test)]
impl View {
    /// All DaemonSets.
    pub fn set_daemonsets(&mut self, all: impl IntoIterator<Item = DaemonSet>) {
        let filter = self.filter();
        self.begin_daemonsets();
        all.into_iter().for_each(|set| self.add_daemonset(set, &filter));
        self.finish_daemonsets();
    }

    /// All pods. Returns the owners that have to be asked for.
    pub fn set_pods(&mut self, all: impl IntoIterator<Item = Pod>) -> BTreeSet<Arc<Identity>> {
        self.begin_pods();
        let surprising: Vec<_> = all.into_iter().filter_map(|pod| self.set_pod(pod)).collect();
        self.finish_pods().into_iter().chain(surprising).collect()
    }
}

#[cfg(test)]
mod tests;
