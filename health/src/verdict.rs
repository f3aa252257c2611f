//! Whether a node is healthy: every DaemonSet that counts and wants this node has a ready pod on it.
//!
//! Pure: objects in, a verdict with its reasons out. The objects are handed in one by one and only
//! what the verdict needs is kept, so that the length of a list hardly matters. Does not know where
//! objects come from, when to look again, or who may see the names.

use std::cmp::Reverse;
use std::fmt;

use psl::text::one_line;

use crate::eligibility::{self, Labels, NotHere};

/// How many of the DaemonSets that do not count here are remembered by name. They are for people
/// to read; all of them are counted.
const MOST_REMEMBERED: usize = 1000;

/// How many DaemonSets may count on one node. Kubernetes gives a node 110 pods, and few go far
/// beyond; the old verdict and the next one, of so many with the longest names, take some 3.5 MB.
const MOST_HERE: usize = 2_000;

/// What is needed of a DaemonSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonSet {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Pods name their owner by it: a DaemonSet made anew under the same name is another one.
    pub uid: String,
    /// Of `metadata.labels` at least those whose keys the filter names.
    pub labels: Labels,
    /// Annotated with `pod-startup-lock/ignore: "true"`.
    pub is_ignored: bool,
    /// Has a `deletionTimestamp`.
    pub is_being_deleted: bool,
    /// `spec.template.spec.hostNetwork`.
    pub has_host_network: bool,
    /// `spec.template.spec.nodeSelector`.
    pub node_selector: Labels,
}

/// What is needed of a pod on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The UID of the owner that controls it.
    pub owner: Option<String>,
    /// Has a `deletionTimestamp`.
    pub is_being_deleted: bool,
    /// `status.phase`.
    pub phase: String,
    /// The condition `Ready` is `True`.
    pub is_ready: bool,
}

/// One label with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// `app`, `example.org/app`.
    pub key: String,
    /// May be empty, which asks for a label that is there and empty.
    pub value: String,
}

impl Label {
    fn is_on(&self, labels: &Labels) -> bool {
        labels.get(&self.key) == Some(&self.value)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, self.value)
    }
}

/// Which DaemonSets count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of this namespace.
    pub namespace: Option<String>,
    /// Only those on the host network.
    pub host_network: bool,
    /// Only those with all of these labels.
    pub include: Vec<Label>,
    /// Not those with any of these.
    pub exclude: Vec<Label>,
}

impl Filter {
    /// Whether it asks for labels of this key.
    pub fn names(&self, key: &str) -> bool {
        self.include.iter().chain(&self.exclude).any(|label| label.key == key)
    }

    /// Why a DaemonSet does not count, whatever node it wants.
    fn exclusion(&self, set: &DaemonSet) -> Option<Excluded> {
        let is_elsewhere = self.namespace.as_ref().is_some_and(|namespace| *namespace != set.namespace);
        let lacking = || self.include.iter().find(|label| !label.is_on(&set.labels));
        let carried = || self.exclude.iter().find(|label| label.is_on(&set.labels));
        match () {
            () if set.is_ignored => Some(Excluded::Ignored),
            () if set.is_being_deleted => Some(Excluded::BeingDeleted),
            () if is_elsewhere => Some(Excluded::OtherNamespace),
            () if self.host_network && !set.has_host_network => Some(Excluded::NotOnHostNetwork),
            () => lacking().cloned().map(Excluded::Lacks).or_else(|| carried().cloned().map(Excluded::Has)),
        }
    }
}

/// What a DaemonSet means for the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts, wants this node and has no ready pod on it.
    Waiting(Waiting),
    /// It counts, wants this node, and this pod of it is ready.
    Ready(Box<str>),
    /// It counts and wants other nodes.
    NotHere(Box<NotHere>),
    /// It does not count.
    Excluded(Excluded),
}

/// Why a DaemonSet is not ready on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It has no pod on the node.
    NoPod,
    /// Of its pods the one that is nearest to being ready, and how far it is.
    Pod(Box<str>, Stage),
}

/// How far a pod that is not ready has come. Later ones are nearer to being ready.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// On its way out, ready or not: its place will be empty.
    BeingDeleted,
    /// `Failed`, `Succeeded`, `Unknown`: the controller will make another one.
    Ended(Box<str>),
    /// Not bound, or its containers have not started.
    Pending,
    /// Running without the condition `Ready`.
    NotReady,
    /// Running with it.
    Ready,
}

/// Why a DaemonSet does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excluded {
    /// By its annotation.
    Ignored,
    /// Its pods are going and will not come back.
    BeingDeleted,
    /// The setting asks for another namespace.
    OtherNamespace,
    /// The setting asks for the host network.
    NotOnHostNetwork,
    /// It lacks this label.
    Lacks(Label),
    /// It has this label.
    Has(Label),
}

impl Standing {
    /// Its name in answers and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Standing::Waiting(_) => "waiting",
            Standing::Ready(_) => "ready",
            Standing::NotHere(_) => "not-here",
            Standing::Excluded(_) => "excluded",
        }
    }
}

/// The reason, for people.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Waiting(Waiting::NoPod) => f.write_str("no pod on this node yet"),
            Standing::Waiting(Waiting::Pod(name, stage)) => write!(f, "pod {} {stage}", one_line(name)),
            Standing::Ready(name) => write!(f, "pod {} {}", one_line(name), Stage::Ready),
            Standing::NotHere(why) => why.fmt(f),
            Standing::Excluded(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::BeingDeleted => f.write_str("is being deleted"),
            Stage::Ended(phase) if phase.is_empty() => f.write_str("has no phase yet"),
            Stage::Ended(phase) => write!(f, "is {}", one_line(phase)),
            Stage::Pending => f.write_str("is Pending"),
            Stage::NotReady => f.write_str("is Running, but not ready"),
            Stage::Ready => f.write_str("is ready"),
        }
    }
}

impl fmt::Display for Excluded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Excluded::Ignored => f.write_str("its annotation pod-startup-lock/ignore says so"),
            Excluded::BeingDeleted => f.write_str("it is being deleted"),
            Excluded::OtherNamespace => f.write_str("another namespace is asked for"),
            Excluded::NotOnHostNetwork => f.write_str("only the host network is asked for"),
            Excluded::Lacks(label) => write!(f, "it lacks the label {label}"),
            Excluded::Has(label) => write!(f, "it has the label {label}"),
        }
    }
}

/// A DaemonSet and what it means for the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// What it means.
    pub standing: Standing,
}

/// `namespace/name: why`.
impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}: {}", one_line(&self.namespace), one_line(&self.name), self.standing)
    }
}

/// How many DaemonSets have each standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Not ready on the node.
    pub waiting: usize,
    /// Ready on it.
    pub ready: usize,
    /// Of other nodes.
    pub not_here: usize,
    /// Without a say.
    pub excluded: usize,
}

/// More DaemonSets want the node than any node has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {MOST_HERE} DaemonSets count on this node")
    }
}

/// The DaemonSets as they are read, each judged by all but its pods at once.
pub struct Reading<'a> {
    filter: &'a Filter,
    node: &'a Labels,
    wanted: Wanted,
}

/// The DaemonSets of which a pod must be ready on the node, and what is known of the others.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Invariant: in the order of their UIDs, none twice, once the reading has finished.
    here: Vec<Here>,
    others: Vec<Judged>,
    counts: Counts,
}

#[derive(Clone, Debug)]
struct Here {
    uid: Box<str>,
    namespace: Box<str>,
    name: Box<str>,
}

impl<'a> Reading<'a> {
    /// Begins with none.
    pub fn new(filter: &'a Filter, node: &'a Labels) -> Reading<'a> {
        Reading { filter, node, wanted: Wanted::default() }
    }

    /// Takes one DaemonSet and keeps what the verdict needs of it.
    pub fn add(&mut self, set: DaemonSet) {
        let wanted = &mut self.wanted;
        let standing = if let Some(why) = self.filter.exclusion(&set) {
            wanted.counts.excluded += 1;
            Standing::Excluded(why)
        } else if let Some(why) = eligibility::mismatch(&set.node_selector, self.node) {
            wanted.counts.not_here += 1;
            Standing::NotHere(Box::new(why))
        } else {
            // One more than there may be is enough to see that there are too many.
            if wanted.here.len() <= MOST_HERE {
                wanted.here.push(Here { uid: set.uid.into(), namespace: set.namespace.into(), name: set.name.into() });
            }
            return;
        };
        if wanted.others.len() < MOST_REMEMBERED {
            wanted.others.push(Judged { namespace: set.namespace.into(), name: set.name.into(), standing });
        }
    }

    /// After the last one.
    pub fn finish(self) -> Result<Wanted, TooMany> {
        let mut wanted = self.wanted;
        wanted.here.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
        // A list in pages may show an object twice; its double would never find a pod.
        wanted.here.dedup_by(|a, b| a.uid == b.uid);
        if wanted.here.len() > MOST_HERE { Err(TooMany) } else { Ok(wanted) }
    }
}

/// The pods of the node as they are read: of each wanted DaemonSet the one nearest to being ready.
pub struct Pods<'a> {
    wanted: &'a Wanted,
    nearest: Nearest,
}

/// Invariant: one for each DaemonSet that is wanted here, in the same order.
pub type Nearest = Vec<Option<(Stage, Box<str>)>>;

impl<'a> Pods<'a> {
    /// Begins with none.
    pub fn new(wanted: &'a Wanted) -> Pods<'a> {
        Pods { wanted, nearest: vec![None; wanted.here.len()] }
    }

    /// Takes one pod of the node, whosever it is.
    pub fn add(&mut self, pod: Pod) {
        let Some(owner) = &pod.owner else { return };
        let Ok(at) = self.wanted.here.binary_search_by(|here| (*here.uid).cmp(owner)) else { return };
        let found = (pod.stage(), Box::from(pod.name));
        // Of two that have come equally far always the same one, or reasons would change for nothing.
        let is_nearer = |(stage, name): &(Stage, Box<str>)| (&found.0, Reverse(&found.1)) > (stage, Reverse(name));
        if self.nearest[at].as_ref().is_none_or(is_nearer) {
            self.nearest[at] = Some(found);
        }
    }

    /// After the last one.
    pub fn finish(self) -> Nearest {
        self.nearest
    }
}

impl Pod {
    fn stage(&self) -> Stage {
        match self.phase.as_str() {
            _ if self.is_being_deleted => Stage::BeingDeleted,
            "Running" if self.is_ready => Stage::Ready,
            "Running" => Stage::NotReady,
            "Pending" => Stage::Pending,
            phase => Stage::Ended(phase.into()),
        }
    }
}

impl Wanted {
    /// What the DaemonSets and the pods say together.
    pub fn verdict(self, nearest: Nearest) -> Verdict {
        let mut counts = self.counts;
        let mut daemonsets = self.others;
        daemonsets.reserve_exact(self.here.len());
        for (here, nearest) in self.here.into_iter().zip(nearest) {
            let standing = match nearest {
                Some((Stage::Ready, pod)) => Standing::Ready(pod),
                Some((stage, pod)) => Standing::Waiting(Waiting::Pod(pod, stage)),
                None => Standing::Waiting(Waiting::NoPod),
            };
            let count = if matches!(standing, Standing::Ready(_)) { &mut counts.ready } else { &mut counts.waiting };
            *count += 1;
            daemonsets.push(Judged { namespace: here.namespace, name: here.name, standing });
        }
        daemonsets.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
        Verdict { daemonsets, counts }
    }
}

impl Judged {
    /// Those that close the gate come first.
    fn order(&self) -> (u8, &str, &str) {
        let rank = match self.standing {
            Standing::Waiting(_) => 0,
            Standing::Ready(_) => 1,
            Standing::NotHere(_) => 2,
            Standing::Excluded(_) => 3,
        };
        (rank, &self.namespace, &self.name)
    }
}

/// What one round found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// First those that wait; of those that do not count here a bounded number.
    pub daemonsets: Vec<Judged>,
    /// All of them.
    pub counts: Counts,
}

impl Verdict {
    /// Healthy means that nothing waits.
    pub fn is_healthy(&self) -> bool {
        self.counts.waiting == 0
    }

    /// Those that close the gate, in a fixed order.
    pub fn waiting(&self) -> &[Judged] {
        &self.daemonsets[..self.counts.waiting.min(self.daemonsets.len())]
    }
}

#[cfg(test)]
mod tests;
