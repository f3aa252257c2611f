//! Whether the DaemonSet controller would have a node run a DaemonSet's pod, and why not.
//!
//! Agrees with Kubernetes 1.36: the rules are those of its DaemonSet controller, which asks the
//! scheduler's predicates for node affinity and taints ("DaemonSet", "Assigning Pods to Nodes",
//! "Taints and Tolerations"). What the controller does not look at is not here: preferred affinity,
//! pod affinity, requests, ports, the scheduler's name, `spec.unschedulable`.
//!
//! Pure. Does not know of pods, filters, or where the objects come from.

mod packed;

use std::collections::BTreeMap;
use std::fmt;

use psl::text::one_line;

pub use packed::Packed;

/// Keys and values, as Kubernetes keeps them.
pub type Labels = BTreeMap<String, String>;

/// The only field of a node that `matchFields` knows.
const NAME_FIELD: &str = "metadata.name";

/// What is needed of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Box<str>,
    /// All of them.
    pub labels: Labels,
    /// Those that keep pods away; `PreferNoSchedule` never does.
    pub taints: Vec<Taint>,
}

/// A taint with the effect `NoSchedule` or `NoExecute`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    /// Its key.
    pub key: Box<str>,
    /// May be empty.
    pub value: Box<str>,
    /// What it does to pods that do not tolerate it.
    pub effect: Effect,
}

/// What a taint does, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Keeps new pods away.
    NoSchedule,
    /// Also drives away those that are there.
    NoExecute,
}

/// Where a DaemonSet's template lets its pods go.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// `nodeName`; empty means any.
    pub node_name: Box<str>,
    /// `nodeSelector`
    pub selector: Labels,
    /// The required node affinity, where there is one; terms are alternatives.
    pub affinity: Option<Box<[Term]>>,
    /// As written; those that the controller adds are not among them.
    pub tolerations: Box<[Toleration]>,
    /// `hostNetwork`, for which the controller adds one more.
    pub has_host_network: bool,
}

/// One alternative: all of its requirements have to hold. One without any holds nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    /// `matchExpressions`, about labels.
    pub labels: Box<[Requirement]>,
    /// `matchFields`
    pub fields: Box<[Requirement]>,
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// Of a label, or of a field.
    pub key: Box<str>,
    /// As written.
    pub operator: Operator,
    /// As many as there are.
    pub values: Box<[Box<str>]>,
}

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// Present with one of the values.
    In,
    /// Absent, or with none of the values.
    NotIn,
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
    /// Present, a whole number, and greater than the value.
    Gt,
    /// Present, a whole number, and less.
    Lt,
    /// Any other, which makes its term hold nowhere.
    Unknown,
}

/// What a pod puts up with.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Toleration {
    /// Empty means every key.
    pub key: Box<str>,
    /// As written.
    pub operator: Tolerates,
    /// As written.
    pub value: Box<str>,
    /// Nothing means every effect.
    pub effect: Option<ToleratedEffect>,
}

/// How a toleration compares values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tolerates {
    /// The same value. The default, so that a key alone asks for a taint without a value.
    #[default]
    Equal,
    /// Any value.
    Exists,
    /// Both are whole numbers, and the taint's is greater ("Taints and Tolerations", 1.35).
    Gt,
    /// Both are whole numbers, and the taint's is less.
    Lt,
    /// Any other, which tolerates nothing.
    Unknown,
}

/// The effect that a toleration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ToleratedEffect {
    /// One that keeps pods away.
    Of(Effect),
    /// `PreferNoSchedule`, or one that is not known: of no use against the two others.
    Other,
}

/// Taints that each daemon pod tolerates without being told, and with the host network one more
/// ("DaemonSet", Taints and tolerations).
const TOLERATED: &[(&str, Effect)] = &[
    ("node.kubernetes.io/not-ready", Effect::NoExecute),
    ("node.kubernetes.io/unreachable", Effect::NoExecute),
    ("node.kubernetes.io/disk-pressure", Effect::NoSchedule),
    ("node.kubernetes.io/memory-pressure", Effect::NoSchedule),
    ("node.kubernetes.io/pid-pressure", Effect::NoSchedule),
    ("node.kubernetes.io/unschedulable", Effect::NoSchedule),
];
const TOLERATED_ON_HOST_NETWORK: (&str, Effect) =
    ("node.kubernetes.io/network-unavailable", Effect::NoSchedule);

/// Why a DaemonSet does not want a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotHere {
    /// Its template names another node.
    NodeName(Box<str>),
    /// The first label of the nodeSelector that the node does not have.
    Selector {
        /// The label's key.
        key: Box<str>,
        /// What the selector asks for.
        wanted: Box<str>,
        /// What the node has.
        found: Option<Box<str>>,
    },
    /// No term of the required node affinity holds.
    Affinity,
    /// A taint that it does not tolerate; one with `NoExecute` comes first.
    Taint(Taint),
}

/// The controller's action for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It runs a pod there.
    Wanted,
    /// It makes no pod, and keeps an existing one.
    Kept,
    /// It makes no pod, and removes an existing one.
    Unwanted,
}

impl Placement {
    /// Nothing where the controller would have this node run a pod of it.
    pub fn mismatch(&self, node: &Node) -> Option<NotHere> {
        if !self.node_name.is_empty() && self.node_name != node.name {
            return Some(NotHere::NodeName(self.node_name.clone()));
        }
        if let Some((key, wanted)) =
            self.selector.iter().find(|(key, wanted)| node.labels.get(*key) != Some(*wanted))
        {
            let found = node.labels.get(key).map(|found| found.as_str().into());
            return Some(NotHere::Selector {
                key: key.as_str().into(),
                wanted: wanted.as_str().into(),
                found,
            });
        }
        if self.affinity.as_ref().is_some_and(|terms| !terms.iter().any(|term| term.holds(node))) {
            return Some(NotHere::Affinity);
        }
        // A taint that evicts pods counts more than one that only keeps new pods away.
        let untolerated = || node.taints.iter().filter(|taint| !self.tolerates(taint));
        let drives_away = untolerated().find(|taint| taint.effect == Effect::NoExecute);
        drives_away.or_else(|| untolerated().next()).cloned().map(NotHere::Taint)
    }

    /// The controller's action for this node. It keeps an existing pod if only a taint `NoSchedule` excludes the node:
    /// the taint may have come later.
    pub fn fit(&self, node: &Node) -> Fit {
        match self.mismatch(node) {
            None => Fit::Wanted,
            Some(NotHere::Taint(taint)) if taint.effect == Effect::NoSchedule => Fit::Kept,
            Some(_) => Fit::Unwanted,
        }
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        let on_host_network = self.has_host_network.then_some(&TOLERATED_ON_HOST_NETWORK);
        let is_it =
            |(key, effect): &&(&str, Effect)| **key == *taint.key && *effect == taint.effect;
        TOLERATED.iter().chain(on_host_network).any(|added| is_it(&added))
            || self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }
}

impl Term {
    fn holds(&self, node: &Node) -> bool {
        let is_empty = self.labels.is_empty() && self.fields.is_empty();
        let of_label = |requirement: &Requirement| {
            requirement.holds(node.labels.get(&*requirement.key).map(|v| &**v))
        };
        let of_field = |requirement: &Requirement| requirement.holds_of_field(node);
        // One that cannot be read makes the whole term void, also where another of its
        // requirements would have failed already; that is the same here, since both are "no".
        !is_empty && self.labels.iter().all(of_label) && self.fields.iter().all(of_field)
    }
}

impl Requirement {
    /// Against a label's value, or its absence.
    fn holds(&self, found: Option<&str>) -> bool {
        let values = &*self.values;
        // The controller reads each value as one of a label, whatever the operator: -1 is none.
        if !values.iter().all(|value| is_label_value(value)) {
            return false;
        }
        let is_among = || found.is_some_and(|found| values.iter().any(|value| **value == *found));
        let against_number = |compare: fn(&i64, &i64) -> bool| match (found.map(str::parse), values)
        {
            (Some(Ok(found)), [value]) => value.parse().is_ok_and(|value| compare(&found, &value)),
            _ => false,
        };
        match self.operator {
            Operator::In => is_among(),
            Operator::NotIn => !values.is_empty() && !is_among(),
            Operator::Exists => values.is_empty() && found.is_some(),
            Operator::DoesNotExist => values.is_empty() && found.is_none(),
            Operator::Gt => against_number(i64::gt),
            Operator::Lt => against_number(i64::lt),
            Operator::Unknown => false,
        }
    }

    /// Fields have two operators, with exactly one value; one that a node does not have is empty.
    fn holds_of_field(&self, node: &Node) -> bool {
        let found = if *self.key == *NAME_FIELD { &*node.name } else { "" };
        match (self.operator, &*self.values) {
            (Operator::In, [value]) => **value == *found,
            (Operator::NotIn, [value]) => **value != *found,
            _ => false,
        }
    }
}

/// "Labels and Selectors": empty, or up to 63 letters, digits, `-`, `_` and `.` that begin and end
/// with a letter or digit.
fn is_label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    bytes.len() <= 63
        && ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

impl Toleration {
    fn tolerates(&self, taint: &Taint) -> bool {
        let numbers = || Some((decimal(&taint.value)?, decimal(&self.value)?));
        self.effect.is_none_or(|effect| effect == ToleratedEffect::Of(taint.effect))
            && (self.key.is_empty() || self.key == taint.key)
            && match self.operator {
                Tolerates::Equal => self.value == taint.value,
                Tolerates::Exists => true,
                Tolerates::Gt => numbers().is_some_and(|(taint, bound)| taint > bound),
                Tolerates::Lt => numbers().is_some_and(|(taint, bound)| taint < bound),
                Tolerates::Unknown => false,
            }
    }
}

/// Of tolerations Kubernetes reads numbers as people write them alone: `+9` and `0950` are none, though in node
/// affinity they are.
fn decimal(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}

/// The reason, for people.
impl fmt::Display for NotHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotHere::NodeName(name) => write!(f, "nodeName wants {}", one_line(name)),
            NotHere::Selector { key, wanted, found } => {
                write!(
                    f,
                    "nodeSelector wants {} \"{}\", the node has ",
                    one_line(key),
                    one_line(wanted)
                )?;
                match found {
                    Some(found) => write!(f, "\"{}\"", one_line(found)),
                    None => f.write_str("no such label"),
                }
            }
            NotHere::Affinity => f.write_str("its required node affinity does not fit the node"),
            NotHere::Taint(taint) => write!(f, "it does not tolerate the node's taint {taint}"),
        }
    }
}

/// As `kubectl describe node` writes it.
impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.key))?;
        if !self.value.is_empty() {
            write!(f, "={}", one_line(&self.value))?;
        }
        write!(f, ":{:?}", self.effect)
    }
}

#[cfg(test)]
mod tests;
