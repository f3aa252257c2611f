//! Whether the DaemonSet controller runs a DaemonSet's pod on a node, and if not, why.
//!
//! Agrees with Kubernetes 1.36: the DaemonSet controller uses the scheduler's predicates for node
//! affinity and taints ("DaemonSet", "Assigning Pods to Nodes", "Taints and Tolerations"). The
//! controller ignores preferred affinity, pod affinity, requests, ports, the scheduler's name and
//! `spec.unschedulable`, and so does this file. It does not know pods, filters or JSON.

use std::collections::BTreeMap;
use std::fmt;

use psl::text::one_line;

pub type Labels = BTreeMap<String, String>;

/// The only field of a node that `matchFields` knows.
const NAME_FIELD: &str = "metadata.name";

/// The fields of a node that decide which pods it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTraits {
    pub name: Box<str>,
    pub labels: Labels,
    /// Without `PreferNoSchedule`, which excludes no pod.
    pub taints: Vec<Taint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taint {
    pub key: Box<str>,
    pub value: Box<str>,
    pub effect: TaintEffect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaintEffect {
    NoSchedule,
    /// Also evicts existing pods.
    NoExecute,
}

/// The nodes that a DaemonSet's template allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placement {
    /// `nodeName`; empty means any node.
    pub node_name: Box<str>,
    pub selector: Labels,
    /// The required node affinity: alternatives. `None` allows every node, an empty list none.
    pub affinity: Option<Box<[Term]>>,
    /// Without the tolerations that the controller adds.
    pub tolerations: Box<[Toleration]>,
    /// On the host network the controller adds one more toleration.
    pub has_host_network: bool,
}

/// One alternative: all requirements must hold. A term without requirements holds on no node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    /// `matchExpressions`
    pub labels: Box<[Requirement]>,
    /// `matchFields`
    pub fields: Box<[Requirement]>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    pub key: Box<str>,
    pub operator: Operator,
    pub values: Box<[Box<str>]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
    /// Makes its term hold on no node.
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Toleration {
    /// Empty means every key.
    pub key: Box<str>,
    pub operator: TolerationOperator,
    pub value: Box<str>,
    /// `None` means every effect.
    pub effect: Option<ToleratedEffect>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TolerationOperator {
    /// The default: a key alone tolerates a taint without a value.
    #[default]
    Equal,
    Exists,
    /// Both values are whole numbers, and the taint's is greater ("Taints and Tolerations", 1.35).
    Gt,
    Lt,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ToleratedEffect {
    Of(TaintEffect),
    /// `PreferNoSchedule` or an unknown effect, which tolerates neither of the two others.
    Other,
}

/// The taints that every daemon pod tolerates ("DaemonSet", Taints and tolerations).
const TOLERATED: &[(&str, TaintEffect)] = &[
    ("node.kubernetes.io/not-ready", TaintEffect::NoExecute),
    ("node.kubernetes.io/unreachable", TaintEffect::NoExecute),
    ("node.kubernetes.io/disk-pressure", TaintEffect::NoSchedule),
    ("node.kubernetes.io/memory-pressure", TaintEffect::NoSchedule),
    ("node.kubernetes.io/pid-pressure", TaintEffect::NoSchedule),
    ("node.kubernetes.io/unschedulable", TaintEffect::NoSchedule),
];
const TOLERATED_ON_HOST_NETWORK: (&str, TaintEffect) =
    ("node.kubernetes.io/network-unavailable", TaintEffect::NoSchedule);

/// The reason why a DaemonSet does not want a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    NodeName(Box<str>),
    /// The first label of the nodeSelector that the node lacks or has with another value.
    Selector {
        key: Box<str>,
        wanted: Box<str>,
        found: Option<Box<str>>,
    },
    Affinity,
    /// The first untolerated taint; one with `NoExecute` comes before the others.
    Taint(Taint),
}

/// The controller's action for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Wanted,
    /// Creates no pod, and leaves an existing one.
    KeepsExisting,
    /// Creates no pod, and deletes an existing one.
    Unwanted,
}

impl Placement {
    /// `None` if the controller runs a pod on this node.
    pub fn mismatch(&self, node: &NodeTraits) -> Option<Mismatch> {
        if !self.node_name.is_empty() && self.node_name != node.name {
            return Some(Mismatch::NodeName(self.node_name.clone()));
        }
        for (key, wanted) in &self.selector {
            let found = node.labels.get(key);
            if found != Some(wanted) {
                return Some(Mismatch::Selector {
                    key: key.as_str().into(),
                    wanted: wanted.as_str().into(),
                    found: found.map(|found| found.as_str().into()),
                });
            }
        }
        if self.affinity.as_ref().is_some_and(|terms| !terms.iter().any(|term| term.holds(node))) {
            return Some(Mismatch::Affinity);
        }
        let untolerated = || node.taints.iter().filter(|taint| !self.tolerates(taint));
        let evicting = untolerated().find(|taint| taint.effect == TaintEffect::NoExecute);
        evicting.or_else(|| untolerated().next()).cloned().map(Mismatch::Taint)
    }

    /// An existing pod stays if only a taint `NoSchedule` excludes the node: the taint may have
    /// been added after the pod.
    pub fn fit(&self, node: &NodeTraits) -> Fit {
        match self.mismatch(node) {
            None => Fit::Wanted,
            Some(Mismatch::Taint(taint)) if taint.effect == TaintEffect::NoSchedule => {
                Fit::KeepsExisting
            }
            Some(_) => Fit::Unwanted,
        }
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        let on_host_network = self.has_host_network.then_some(&TOLERATED_ON_HOST_NETWORK);
        let mut added = TOLERATED.iter().chain(on_host_network);
        added.any(|(key, effect)| **key == *taint.key && *effect == taint.effect)
            || self.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    }
}

impl Term {
    /// A requirement that the controller cannot parse makes it skip the whole term. The result is
    /// the same if another requirement has failed before, because both mean "does not hold".
    fn holds(&self, node: &NodeTraits) -> bool {
        let value = |key: &str| node.labels.get(key).map(String::as_str);
        let is_empty = self.labels.is_empty() && self.fields.is_empty();
        !is_empty
            && self.labels.iter().all(|requirement| requirement.holds(value(&requirement.key)))
            && self.fields.iter().all(|requirement| requirement.holds_for_field(node))
    }
}

impl Requirement {
    fn holds(&self, found: Option<&str>) -> bool {
        let values = &*self.values;
        // The controller validates each value as a label value for every operator: -1 is invalid.
        if !values.iter().all(|value| is_label_value(value)) {
            return false;
        }
        let is_among = || found.is_some_and(|found| values.iter().any(|value| **value == *found));
        let compares = |compare: fn(&i64, &i64) -> bool| {
            let (Some(Ok(found)), [value]) = (found.map(str::parse), values) else { return false };
            value.parse().is_ok_and(|value| compare(&found, &value))
        };
        match self.operator {
            Operator::In => is_among(),
            Operator::NotIn => !values.is_empty() && !is_among(),
            Operator::Exists => values.is_empty() && found.is_some(),
            Operator::DoesNotExist => values.is_empty() && found.is_none(),
            Operator::Gt => compares(i64::gt),
            Operator::Lt => compares(i64::lt),
            Operator::Unknown => false,
        }
    }

    /// Fields allow two operators with exactly one value. An unknown field is empty.
    fn holds_for_field(&self, node: &NodeTraits) -> bool {
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
                TolerationOperator::Equal => self.value == taint.value,
                TolerationOperator::Exists => true,
                TolerationOperator::Gt => numbers().is_some_and(|(taint, bound)| taint > bound),
                TolerationOperator::Lt => numbers().is_some_and(|(taint, bound)| taint < bound),
                TolerationOperator::Unknown => false,
            }
    }
}

/// Kubernetes accepts only canonical numbers in tolerations: `+9` and `0950` are invalid, although
/// node affinity accepts them.
fn decimal(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::NodeName(name) => write!(f, "nodeName is {}", one_line(name)),
            Mismatch::Selector { key, wanted, found } => {
                let (key, wanted) = (one_line(key), one_line(wanted));
                write!(f, "nodeSelector does not match: {key} must be \"{wanted}\", ")?;
                match found {
                    Some(found) => write!(f, "node has \"{}\"", one_line(found)),
                    None => f.write_str("node has no such label"),
                }
            }
            Mismatch::Affinity => f.write_str("required node affinity does not match"),
            Mismatch::Taint(taint) => write!(f, "untolerated taint {taint}"),
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
