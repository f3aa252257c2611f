//! Whether a node is healthy: every DaemonSet that counts and wants this node has a ready pod on
//! it, of this boot, and the node's own conditions are good.
//!
//! Pure: objects in, a verdict with its reasons out. Does not know where objects come from, when to
//! look again, or who may see the names.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use psl::text::one_line;

use crate::boot::News;
use crate::eligibility::{self, Effect, Labels, Placement};
use crate::load::Quantity;

/// The label that all of this project's objects carry.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "pod-startup-lock");
/// The namespace of the shipped manifests.
const OUR_NAMESPACE: &str = "pod-startup-lock";
/// The DaemonSets in it.
const OUR_NAMES: &[&str] = &["lock", "health"];

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
    /// Its template has the init container that waits for the lock.
    pub has_gate: bool,
    /// It was not kept whole.
    pub is_too_large: bool,
    /// Where its pods may go.
    pub placement: Placement,
}

/// What is needed of a DaemonSet's pod on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// A pod made anew under the same name is another one.
    pub uid: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The DaemonSet that controls it, in the pod's own namespace.
    pub owner: Arc<Identity>,
    /// Has a `deletionTimestamp`.
    pub is_being_deleted: bool,
    /// `status.phase`
    pub phase: Phase,
    /// The condition `Ready` is `True`.
    pub is_ready: bool,
    /// Whether it has to pass the lock.
    pub gate: Gate,
    /// When it was made, in seconds since 1970 by the API's clock.
    pub created: Option<i64>,
    /// When the first of its running containers started, by the node's clock.
    pub started: Option<i64>,
}

/// Where a pod stands to the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// It has no init container that waits for it.
    #[default]
    None,
    /// It has one, which has not ended.
    Ahead,
    /// It has one, which has ended well.
    Passed,
}

/// `status.phase`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not set.
    #[default]
    None,
    /// Not bound, or its containers have not all started once.
    Pending,
    /// They have.
    Running,
    /// All have ended well.
    Succeeded,
    /// All have ended, not all well.
    Failed,
    /// The node does not tell, or a phase that is not known.
    Unknown,
}

impl Phase {
    /// By its name.
    pub fn of(name: &str) -> Phase {
        match name {
            "" => Phase::None,
            "Pending" => Phase::Pending,
            "Running" => Phase::Running,
            "Succeeded" => Phase::Succeeded,
            "Failed" => Phase::Failed,
            _ => Phase::Unknown,
        }
    }
}

/// What is needed of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// What decides which pods it gets.
    pub placed: Arc<eligibility::Node>,
    /// The condition `Ready` is `True`.
    pub is_ready: bool,
    /// Those of the bad conditions that are `True`.
    pub troubles: Vec<&'static str>,
    /// `status.nodeInfo.bootID`
    pub boot_id: Box<str>,
    /// `status.capacity.cpu`
    pub cpus: Option<Quantity>,
}

/// Taints by which the cluster says that it still takes the node for not ready. The controller that sets them removes
/// them too, as soon as it has seen the condition. Those of pressure keep no DaemonSet away.
const NOT_READY: &[&str] = &[
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/network-unavailable",
];

impl Node {
    /// Why the cluster does not take it for ready. The taints count as well: between the kubelet's
    /// "Ready" and their removal nobody but DaemonSets that tolerate them wants the node, and the gate
    /// would open for a moment before the others come.
    pub fn unready(&self) -> Option<String> {
        let is_telling = |taint: &&eligibility::Taint| {
            taint.effect == Effect::NoSchedule && NOT_READY.contains(&&*taint.key)
        };
        match self.placed.taints.iter().find(is_telling) {
            _ if !self.is_ready => Some("the node is not Ready".to_owned()),
            Some(taint) => Some(format!("the node still has the taint {taint}")),
            None => None,
        }
    }

    /// What is wrong with its conditions.
    fn complaints(&self) -> Vec<String> {
        let troubles =
            self.troubles.iter().map(|trouble| format!("the node has the condition {trouble}"));
        self.unready().into_iter().chain(troubles).collect()
    }
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
    /// Whether labels of this key make a difference.
    pub fn names(&self, key: &str) -> bool {
        key == PART_OF.0 || self.include.iter().chain(&self.exclude).any(|label| label.key == key)
    }

    /// Why a DaemonSet does not count, whatever node it wants.
    pub fn exclusion(&self, set: &DaemonSet) -> Option<Excluded> {
        let is_elsewhere =
            self.namespace.as_ref().is_some_and(|namespace| *namespace != set.namespace);
        let is_ours = set.labels.get(PART_OF.0).is_some_and(|value| value == PART_OF.1)
            || (set.namespace == OUR_NAMESPACE && OUR_NAMES.contains(&set.name.as_str()));
        let lacking = || self.include.iter().find(|label| !label.is_on(&set.labels));
        let carried = || self.exclude.iter().find(|label| label.is_on(&set.labels));
        match () {
            () if set.is_ignored => Some(Excluded::Ignored),
            () if is_ours => Some(Excluded::Ours),
            () if set.is_being_deleted => Some(Excluded::BeingDeleted),
            () if is_elsewhere => Some(Excluded::OtherNamespace),
            () if self.host_network && !set.placement.has_host_network => {
                Some(Excluded::NotOnHostNetwork)
            }
            () => {
                let labelled = lacking().cloned().map(Excluded::Lacks);
                let labelled = labelled.or_else(|| carried().cloned().map(Excluded::Has));
                labelled.or_else(|| set.is_too_large.then_some(Excluded::TooLarge))
            }
        }
    }
}

/// What a DaemonSet means for the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts, wants this node and has no ready pod on it.
    Waiting(Waiting),
    /// It counts, wants this node, and this pod of it is ready.
    Ready(Arc<str>),
    /// It counts and wants other nodes, for this reason.
    NotHere(Arc<str>),
    /// It does not count.
    Excluded(Arc<Excluded>),
}

/// Why a DaemonSet is not ready on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// It has no pod on the node.
    NoPod,
    /// Of its pods the one that is nearest to being ready, and how far it is.
    Pod(Arc<str>, Stage),
}

/// How far a pod has come. Later ones are nearer to being ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// On its way out, ready or not: its place will be empty.
    BeingDeleted,
    /// It has no phase, or one that it will not come back from: the controller makes another one.
    Ended(Ended),
    /// Not bound, or its containers have not started.
    Pending,
    /// Running without the condition `Ready`.
    NotReady,
    /// Running with it, but since before this boot.
    OfEarlierBoot,
    /// Waits for the lock, which waits for health: to wait for it would be a circle.
    AtTheGate,
    /// Running and `Ready`.
    Ready,
}

/// The phases that health does not wait for. The controller replaces a pod in the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// `Failed`
    Failed,
    /// `Succeeded`
    Succeeded,
    /// `Unknown`, or a phase that is not known.
    Unknown,
    /// Not set yet.
    NoPhase,
}

/// Why a DaemonSet does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excluded {
    /// By its annotation.
    Ignored,
    /// It is the lock, or health itself.
    Ours,
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
    /// What it asks of nodes is more than is kept of one, or of all together.
    TooLarge,
    /// This pod of it waits for the lock.
    PodAtTheGate(Arc<str>),
    /// Its pod here is to come, and will wait for the lock.
    TemplateHasGate,
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
            Standing::Waiting(Waiting::Pod(name, stage)) => {
                write!(f, "pod {} {stage}", one_line(name))
            }
            Standing::Ready(name) => write!(f, "pod {} {}", one_line(name), Stage::Ready),
            Standing::NotHere(why) => f.write_str(why),
            Standing::Excluded(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::BeingDeleted => "is being deleted",
            Stage::Ended(Ended::NoPhase) => "has no phase yet",
            Stage::Ended(Ended::Unknown) => "is in an unknown phase",
            Stage::Ended(Ended::Failed) => "is Failed",
            Stage::Ended(Ended::Succeeded) => "is Succeeded",
            Stage::Pending => "is Pending",
            Stage::NotReady => "is Running, but not ready",
            Stage::OfEarlierBoot => "was ready before this boot",
            Stage::AtTheGate => "waits for the lock",
            Stage::Ready => "is ready",
        })
    }
}

impl fmt::Display for Excluded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Excluded::Ignored => f.write_str("its annotation pod-startup-lock/ignore says so"),
            Excluded::Ours => {
                f.write_str("it is part of pod-startup-lock, which does not wait for itself")
            }
            Excluded::BeingDeleted => f.write_str("it is being deleted"),
            Excluded::OtherNamespace => f.write_str("another namespace is asked for"),
            Excluded::NotOnHostNetwork => f.write_str("only the host network is asked for"),
            Excluded::Lacks(label) => write!(f, "it lacks the label {label}"),
            Excluded::Has(label) => write!(f, "it has the label {label}"),
            Excluded::TooLarge => {
                f.write_str("its affinity, tolerations or init containers are too large to be kept")
            }
            Excluded::PodAtTheGate(pod) => write!(f, "pod {} {}", one_line(pod), Stage::AtTheGate),
            Excluded::TemplateHasGate => {
                f.write_str("its pods wait for the lock, and none has come here yet")
            }
        }
    }
}

/// The identity of a DaemonSet: namespace, name and UID, in one piece of memory, because a cluster may have thousands.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    text: Box<str>,
    name_at: u32,
    uid_at: u32,
}

impl Identity {
    /// The UID is empty if it is irrelevant.
    pub fn new(namespace: &str, name: &str, uid: &str) -> Identity {
        let (name_at, uid_at) = (namespace.len() as u32, (namespace.len() + name.len()) as u32);
        Identity { text: [namespace, name, uid].concat().into(), name_at, uid_at }
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.text[..self.name_at as usize]
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.text[self.name_at as usize..self.uid_at as usize]
    }

    /// Its UID.
    pub fn uid(&self) -> &str {
        &self.text[self.uid_at as usize..]
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.namespace(), self.name(), self.uid())
    }
}

/// A DaemonSet and what it means for the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Which one.
    pub set: Arc<Identity>,
    /// What it means.
    pub standing: Standing,
}

/// `namespace/name: why`.
impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}: {}",
            one_line(self.set.namespace()),
            one_line(self.set.name()),
            self.standing
        )
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

impl Pod {
    fn stage(&self, news: &News) -> Stage {
        match self.phase {
            _ if self.is_being_deleted => Stage::BeingDeleted,
            Phase::None => Stage::Ended(Ended::NoPhase),
            Phase::Succeeded => Stage::Ended(Ended::Succeeded),
            Phase::Failed => Stage::Ended(Ended::Failed),
            Phase::Unknown => Stage::Ended(Ended::Unknown),
            Phase::Running if self.is_ready && !news.is_old(self.started, self.created) => {
                Stage::Ready
            }
            _ if self.gate == Gate::Ahead => Stage::AtTheGate,
            Phase::Running if self.is_ready => Stage::OfEarlierBoot,
            Phase::Running => Stage::NotReady,
            Phase::Pending => Stage::Pending,
        }
    }
}

/// Of each DaemonSet, by its namespace and UID, the pod that is nearest to being ready. The UID alone
/// would not do: whoever may make a pod in any namespace can write any owner into it.
#[derive(Default)]
pub struct Nearest<'p>(BTreeMap<(&'p str, &'p str), (Stage, &'p Arc<str>)>);

impl<'p> Nearest<'p> {
    /// Looks through the pods of the node.
    pub fn among(pods: impl IntoIterator<Item = &'p Pod>, news: &News) -> Nearest<'p> {
        let mut nearest = Nearest::default();
        for pod in pods {
            let found = (pod.stage(news), &pod.name);
            let kept = nearest.0.entry((pod.owner.namespace(), pod.owner.uid())).or_insert(found);
            // Of two that have come equally far always the same one, or reasons would change for nothing.
            if (found.0, Reverse(found.1)) > (kept.0, Reverse(kept.1)) {
                *kept = found;
            }
        }
        nearest
    }

    /// Whether a DaemonSet has a pod here that its controller would leave alone.
    pub fn is_live(&self, set: &Identity) -> bool {
        let nearest = self.0.get(&(set.namespace(), set.uid()));
        let has_ended = |stage| {
            matches!(stage, Stage::BeingDeleted | Stage::Ended(Ended::Failed | Ended::Succeeded))
        };
        nearest.is_some_and(|(stage, _)| !has_ended(*stage))
    }

    /// What a DaemonSet means that counts and wants the node.
    pub fn standing(&self, set: &Identity, has_gate: bool) -> Standing {
        match self.0.get(&(set.namespace(), set.uid())) {
            Some((Stage::Ready, pod)) => Standing::Ready(Arc::clone(pod)),
            Some((Stage::AtTheGate, pod)) => {
                Standing::Excluded(Arc::new(Excluded::PodAtTheGate(Arc::clone(pod))))
            }
            // Whatever is there will not become ready: it is the next one that would be waited for.
            None | Some((Stage::BeingDeleted | Stage::Ended(_), _)) if has_gate => {
                Standing::Excluded(Arc::new(Excluded::TemplateHasGate))
            }
            Some((stage, pod)) => Standing::Waiting(Waiting::Pod(Arc::clone(pod), *stage)),
            None => Standing::Waiting(Waiting::NoPod),
        }
    }
}

/// The most DaemonSets that a verdict names. It counts all of them.
pub const MOST_NAMED: usize = 250;

/// What is known, judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// First those that wait, [`MOST_NAMED`] at most.
    pub daemonsets: Vec<Judged>,
    /// All of them.
    pub counts: Counts,
    /// Once healthy in this boot, and asked to leave it at that.
    pub is_latched: bool,
    /// The API still shows the node as it was before this boot.
    pub node_is_old: bool,
    /// What is wrong with the node itself.
    pub node: Vec<String>,
}

impl Verdict {
    /// Of DaemonSets and what they mean, in the order of their names, which those of one kind keep.
    pub fn new(daemonsets: impl IntoIterator<Item = Judged>) -> Verdict {
        let mut counts = Counts::default();
        let mut kinds: [Vec<Judged>; 4] = Default::default();
        for judged in daemonsets {
            // Those that close the gate come first.
            let (count, kind) = match judged.standing {
                Standing::Waiting(_) => (&mut counts.waiting, &mut kinds[0]),
                Standing::Ready(_) => (&mut counts.ready, &mut kinds[1]),
                Standing::NotHere(_) => (&mut counts.not_here, &mut kinds[2]),
                Standing::Excluded(_) => (&mut counts.excluded, &mut kinds[3]),
            };
            *count += 1;
            if kind.len() < MOST_NAMED {
                kind.push(judged);
            }
        }
        Verdict {
            daemonsets: kinds.into_iter().flatten().take(MOST_NAMED).collect(),
            counts,
            ..Verdict::default()
        }
    }

    /// With what there is to say of the node.
    #[must_use]
    pub fn of_node(self, node: &Node, news: &News, conditions: bool) -> Verdict {
        let complaints = if conditions { node.complaints() } else { Vec::new() };
        Verdict { node_is_old: news.node_is_old, node: complaints, ..self }
    }

    /// Whether DaemonSets leave the gate open.
    pub fn daemonsets_are_ready(&self) -> bool {
        self.is_latched || (self.counts.waiting == 0 && !self.node_is_old)
    }

    /// Healthy means that nothing waits, and nothing is wrong with the node.
    pub fn is_healthy(&self) -> bool {
        self.daemonsets_are_ready() && self.node.is_empty()
    }

    /// The named ones of those that are not ready, in a fixed order.
    pub fn waiting(&self) -> &[Judged] {
        &self.daemonsets[..self.counts.waiting.min(self.daemonsets.len())]
    }
}

#[cfg(test)]
mod tests;
