//! What is known of the cluster as far as it concerns this node: the node, its DaemonSets' pods, and
//! all DaemonSets cut down to what decides whether they belong here.
//!
//! Pure: it is told what has changed, and judges. Does not know where that comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::boot::{Boot, Machine};
use crate::eligibility::{NotHere, Placement};
use crate::verdict::{DaemonSet, Excluded, Filter, Identity, Judged, Nearest, Node, Pod, Standing, Verdict};

/// How many pods of DaemonSets may be on one node. Kubernetes gives a node 110 pods, and few go far
/// beyond; so many with the longest names take 4 MB.
const MOST_PODS: usize = 5_000;

/// How much of DaemonSets is kept: 15,000 of the usual kind.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// What a DaemonSet takes besides its texts.
const OVERHEAD: usize = 200;

/// A placement of more bytes is among those that go, the heaviest first, where all together do not fit:
/// one DaemonSet that nobody can keep is not waited for, and must not close the gate.
const HEAVY: usize = 1024;

/// More than any cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMany {
    /// Pods of DaemonSets on the node.
    Pods,
    /// DaemonSets in the cluster.
    DaemonSets,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TooMany::Pods => write!(f, "more than {MOST_PODS} pods of DaemonSets on this node"),
            TooMany::DaemonSets => write!(f, "more DaemonSets than fit into {MOST_BYTES} bytes"),
        }
    }
}

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
    /// By UID; nothing until they have once been listed.
    pods: Option<BTreeMap<Box<str>, Pod>>,
    is_latched: bool,
}

/// DaemonSets, in the order of their namespaces and names.
#[derive(Default)]
pub struct Sets {
    entries: Vec<Entry>,
    /// Most DaemonSets want what some other one wants too.
    /// Each with the bytes that it takes.
    placements: BTreeMap<Arc<Placement>, usize>,
    bytes: usize,
}

struct Entry {
    set: Arc<Identity>,
    has_gate: bool,
    claim: Claim,
}

/// What a DaemonSet asks of this node.
enum Claim {
    /// Nothing, whatever node it is.
    Excluded(Arc<Excluded>),
    /// Where its pods may go, and why that is not here; nothing means that it is.
    Placed(Arc<Placement>, Option<Arc<NotHere>>),
}

impl Entry {
    fn new(set: DaemonSet, filter: &Filter, sets: &mut Sets) -> Entry {
        let excluded = filter.exclusion(&set);
        let claim = match excluded {
            Some(why) => Claim::Excluded(Arc::new(why)),
            None => Claim::Placed(sets.shared(set.placement), None),
        };
        let identity = Identity { namespace: set.namespace.into(), name: set.name.into(), uid: set.uid.into() };
        let entry = Entry { set: Arc::new(identity), has_gate: set.has_gate, claim };
        sets.bytes += entry.weight();
        entry
    }

    fn place(&mut self, node: &Node) {
        if let Claim::Placed(placement, mismatch) = &mut self.claim {
            let found = placement.mismatch(&node.placed);
            // The same reason again is not worth a new place in memory.
            if mismatch.as_deref() != found.as_ref() {
                *mismatch = found.map(Arc::new);
            }
        }
    }

    fn judged(&self, nearest: &Nearest) -> Judged {
        let standing = match &self.claim {
            Claim::Excluded(why) => Standing::Excluded(Arc::clone(why)),
            Claim::Placed(_, Some(why)) => Standing::NotHere(Arc::clone(why)),
            Claim::Placed(_, None) => nearest.standing(&self.set, self.has_gate),
        };
        Judged { set: Arc::clone(&self.set), standing }
    }

    /// About how many bytes it takes without its placement.
    fn weight(&self) -> usize {
        OVERHEAD + self.set.namespace.len() + self.set.name.len() + self.set.uid.len()
    }

    fn is_too_large(&self) -> bool {
        matches!(&self.claim, Claim::Excluded(why) if **why == Excluded::TooLarge)
    }

    fn key(&self) -> (&str, &str) {
        (&self.set.namespace, &self.set.name)
    }
}

impl Sets {
    /// Takes one of a list.
    pub fn add(&mut self, set: DaemonSet, filter: &Filter) {
        // One more than fits is enough to see that they do not fit.
        if self.bytes <= MOST_BYTES {
            let entry = Entry::new(set, filter, self);
            self.entries.push(entry);
            self.lighten();
        }
    }

    fn shared(&mut self, placement: Placement) -> Arc<Placement> {
        if let Some((known, _)) = self.placements.get_key_value(&placement) {
            return Arc::clone(known);
        }
        let bytes = weight(&placement);
        self.bytes += bytes;
        let placement = Arc::new(placement);
        self.placements.insert(Arc::clone(&placement), bytes);
        placement
    }

    /// Lets the heaviest placements go until all fits, or none of those that are left is heavy.
    fn lighten(&mut self) {
        while self.bytes > MOST_BYTES {
            let heaviest = self.placements.iter().max_by_key(|(_, bytes)| **bytes);
            let Some((heaviest, _)) = heaviest.filter(|(_, bytes)| **bytes > HEAVY) else { return };
            let heaviest = Arc::clone(heaviest);
            for entry in &mut self.entries {
                if matches!(&entry.claim, Claim::Placed(placement, _) if Arc::ptr_eq(placement, &heaviest)) {
                    entry.claim = Claim::Excluded(Arc::new(Excluded::TooLarge));
                }
            }
            drop(heaviest);
            self.sweep();
        }
    }

    /// Forgets the placements that no DaemonSet has any more.
    fn sweep(&mut self) {
        let bytes = &mut self.bytes;
        self.placements.retain(|placement, weight| {
            let is_held = Arc::strong_count(placement) > 1;
            *bytes -= if is_held { 0 } else { *weight };
            is_held
        });
    }

    fn find(&self, namespace: &str, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key().cmp(&(namespace, name)))
    }

    /// After the last one of a list.
    fn finish(mut self) -> Result<Sets, TooMany> {
        self.entries.sort_by(|a, b| a.key().cmp(&b.key()));
        // A list in pages may show an object twice.
        let bytes = &mut self.bytes;
        self.entries.dedup_by(|a, b| {
            let is_same = a.key() == b.key();
            *bytes -= if is_same { a.weight() } else { 0 };
            is_same
        });
        self.sweep();
        self.entries.shrink_to_fit();
        if self.bytes > MOST_BYTES { Err(TooMany::DaemonSets) } else { Ok(self) }
    }
}

/// About how many bytes a placement takes.
fn weight(placement: &Placement) -> usize {
    const EACH: usize = 64;
    let selector = placement.selector.iter().map(|(key, value)| EACH + key.len() + value.len());
    let terms = placement.affinity.iter().flatten().flat_map(|term| term.labels.iter().chain(&term.fields));
    let requirements = terms.map(|requirement| {
        EACH + requirement.key.len() + requirement.values.iter().map(|value| EACH / 2 + value.len()).sum::<usize>()
    });
    let tolerations =
        placement.tolerations.iter().map(|toleration| EACH + toleration.key.len() + toleration.value.len());
    let empty_terms = placement.affinity.iter().map(|terms| EACH * terms.len());
    OVERHEAD + selector.chain(requirements).chain(tolerations).chain(empty_terms).sum::<usize>()
}

impl View {
    /// Nothing is known.
    pub fn new(rules: Rules, boot: Boot) -> View {
        let counts = rules.filter.is_some();
        let sets = (!counts).then(Sets::default);
        let pods = (!counts).then(BTreeMap::new);
        View { rules, boot, node: None, node_is_gone: false, sets, pods, is_latched: false }
    }

    /// Which DaemonSets count.
    pub fn filter(&self) -> Filter {
        self.rules.filter.clone().unwrap_or_default()
    }

    /// The node as it is now.
    pub fn set_node(&mut self, node: Node) {
        let has_moved = self.node.as_ref().is_none_or(|known| known.placed != node.placed);
        if let Some(sets) = self.sets.as_mut().filter(|_| has_moved) {
            sets.entries.iter_mut().for_each(|entry| entry.place(&node));
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
    pub fn set_daemonsets(&mut self, sets: Sets) -> Result<(), TooMany> {
        let mut sets = sets.finish()?;
        if let Some(node) = &self.node {
            sets.entries.iter_mut().for_each(|entry| entry.place(node));
        }
        self.sets = Some(sets);
        Ok(())
    }

    /// One DaemonSet as it is now, or that there is none of this name.
    pub fn set_daemonset(&mut self, namespace: &str, name: &str, set: Option<DaemonSet>) -> Result<(), TooMany> {
        let (filter, node) = (self.filter(), self.node.clone());
        let Some(sets) = &mut self.sets else { return Ok(()) };
        let place = sets.find(namespace, name);
        let Some(set) = set else {
            if let Ok(at) = place {
                sets.bytes -= sets.entries.remove(at).weight();
                sets.sweep();
            }
            return Ok(());
        };
        let mut entry = Entry::new(set, &filter, sets);
        if let Some(node) = &node {
            entry.place(node);
        }
        match place {
            Ok(at) => sets.bytes -= std::mem::replace(&mut sets.entries[at], entry).weight(),
            Err(at) => sets.entries.insert(at, entry),
        }
        sets.sweep();
        sets.lighten();
        if sets.bytes > MOST_BYTES { Err(TooMany::DaemonSets) } else { Ok(()) }
    }

    /// Those that do not count because they are too large to be kept.
    pub fn too_large(&self) -> BTreeSet<Arc<Identity>> {
        let entries = self.sets.iter().flat_map(|sets| &sets.entries);
        entries.filter(|entry| entry.is_too_large()).map(|entry| Arc::clone(&entry.set)).collect()
    }

    /// All pods of DaemonSets on the node. Returns the owners that have to be asked for.
    pub fn set_pods(&mut self, pods: BTreeMap<Box<str>, Pod>) -> BTreeSet<Identity> {
        // In the first list each pod is new, and no surprise.
        let is_first = self.pods.is_none();
        let surprising = pods.values().filter(|pod| !is_first && self.is_surprising(pod)).map(owner_of).collect();
        self.pods = Some(pods);
        if is_first { self.unknown_owners() } else { surprising }
    }

    /// One pod as it is now.
    pub fn set_pod(&mut self, pod: Pod) -> Result<(), TooMany> {
        match &mut self.pods {
            Some(pods) => add_pod(pods, pod),
            None => Ok(()),
        }
    }

    /// Whether it is known.
    pub fn has_pod(&self, uid: &str) -> bool {
        self.pods.as_ref().is_some_and(|pods| pods.contains_key(uid))
    }

    /// A pod that is not there any more.
    pub fn remove_pod(&mut self, uid: &str) {
        if let Some(pods) = &mut self.pods {
            pods.remove(uid);
        }
    }

    /// The owners of pods here of which nothing is known.
    pub fn unknown_owners(&self) -> BTreeSet<Identity> {
        let pods = self.pods.iter().flat_map(BTreeMap::values);
        pods.map(owner_of).filter(|owner| !self.knows(owner)).collect()
    }

    /// Whether a DaemonSet is known, by its UID. Before the first list there is nothing to miss.
    pub fn knows(&self, one: &Identity) -> bool {
        let Some(sets) = &self.sets else { return true };
        sets.find(&one.namespace, &one.name).is_ok_and(|at| sets.entries[at].set.uid == one.uid)
    }

    /// Whether a pod's owner has to be asked for: nothing is known of it, or the pod is new here and the
    /// owner is held for one that does not want this node. The pod says that it does by now.
    pub fn is_surprising(&self, pod: &Pod) -> bool {
        let Some(sets) = &self.sets else { return false };
        let is_new = !self.has_pod(&pod.uid);
        match sets.find(&pod.namespace, &pod.owner).map(|at| &sets.entries[at]) {
            Ok(entry) if entry.set.uid == pod.owner_uid => is_new && matches!(entry.claim, Claim::Placed(_, Some(_))),
            _ => true,
        }
    }

    /// What all that means; nothing until all of it has been told once.
    pub fn judge(&mut self, machine: &Machine) -> Option<Verdict> {
        let (node, sets, pods) = (self.node.as_ref()?, self.sets.as_ref()?, self.pods.as_ref()?);
        let news = self.boot.news(&node.boot_id, machine);
        let nearest = Nearest::among(pods.values(), &news);
        let verdict = Verdict::new(sets.entries.iter().map(|entry| entry.judged(&nearest)));
        let mut verdict = verdict.of_node(node, &news, self.rules.conditions);
        if self.node_is_gone {
            verdict.node.push("the API has no node of this name any more".to_owned());
        }
        // Before the node is ready most DaemonSets have not come yet, or are not wanted for its taints: that nothing
        // waits says little then, and what is latched stays, whether or not conditions count otherwise.
        self.is_latched |= self.rules.latch && verdict.is_healthy() && node.unready().is_none();
        verdict.is_latched = self.is_latched;
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

/// Takes a pod among others.
pub fn add_pod(pods: &mut BTreeMap<Box<str>, Pod>, pod: Pod) -> Result<(), TooMany> {
    if pods.len() >= MOST_PODS && !pods.contains_key(&pod.uid) {
        return Err(TooMany::Pods);
    }
    pods.insert(pod.uid.clone(), pod);
    Ok(())
}

#[cfg(test)]
mod tests;
