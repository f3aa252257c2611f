//! The DaemonSets that count, by the settings and by the objects themselves. The file does not know
//! the node.

use std::fmt;
use std::sync::Arc;

use psl::text::one_line;

use crate::core::daemonset::DaemonSet;
use crate::core::eligibility::Labels;
use crate::core::pod::Stage;

/// The label that all objects of this project carry.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "pod-startup-lock");
/// The namespace and the DaemonSets of the shipped manifests.
const OWN_NAMESPACE: &str = "pod-startup-lock";
const OWN_NAMES: &[&str] = &["lock", "health"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub key: String,
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

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only DaemonSets of this namespace count.
    pub namespace: Option<String>,
    /// Only DaemonSets on the host network count.
    pub host_network: bool,
    /// Only DaemonSets with all of these labels count.
    pub include: Vec<Label>,
    /// DaemonSets with any of these labels do not count.
    pub exclude: Vec<Label>,
}

impl Filter {
    pub fn names(&self, key: &str) -> bool {
        key == PART_OF.0 || self.include.iter().chain(&self.exclude).any(|label| label.key == key)
    }

    /// The reason why a DaemonSet does not count on any node.
    pub fn exclusion(&self, set: &DaemonSet) -> Option<Exclusion> {
        let is_own = set.labels.get(PART_OF.0).is_some_and(|value| value == PART_OF.1)
            || (set.namespace == OWN_NAMESPACE && OWN_NAMES.contains(&set.name.as_str()));
        if set.is_ignored {
            return Some(Exclusion::Ignored);
        }
        if is_own {
            return Some(Exclusion::OwnDaemonSet);
        }
        if set.is_being_deleted {
            return Some(Exclusion::BeingDeleted);
        }
        if self.namespace.as_ref().is_some_and(|namespace| *namespace != set.namespace) {
            return Some(Exclusion::OtherNamespace);
        }
        if self.host_network && !set.placement.has_host_network {
            return Some(Exclusion::NotOnHostNetwork);
        }
        if let Some(label) = self.include.iter().find(|label| !label.is_on(&set.labels)) {
            return Some(Exclusion::LabelMissing(label.clone()));
        }
        if let Some(label) = self.exclude.iter().find(|label| label.is_on(&set.labels)) {
            return Some(Exclusion::LabelPresent(label.clone()));
        }
        set.is_too_large.then_some(Exclusion::TooLarge)
    }
}

/// The reason why a DaemonSet does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exclusion {
    Ignored,
    OwnDaemonSet,
    BeingDeleted,
    OtherNamespace,
    NotOnHostNetwork,
    LabelMissing(Label),
    LabelPresent(Label),
    TooLarge,
    /// This pod waits for the lock.
    PodAtTheGate(Arc<str>),
    /// The DaemonSet has no pod here yet, and the pod to come will wait for the lock.
    TemplateHasGate,
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Exclusion::Ignored => "annotation pod-startup-lock/ignore is true",
            Exclusion::OwnDaemonSet => "part of pod-startup-lock",
            Exclusion::BeingDeleted => "being deleted",
            Exclusion::OtherNamespace => "not in the namespace of --namespace",
            Exclusion::NotOnHostNetwork => "not on the host network (--hostNet)",
            Exclusion::LabelMissing(label) => return write!(f, "label {label} is missing (--in)"),
            Exclusion::LabelPresent(label) => return write!(f, "label {label} is excluded (--ex)"),
            Exclusion::TooLarge => {
                "affinity, tolerations or init containers are too large for the memory limit"
            }
            Exclusion::PodAtTheGate(pod) => {
                return write!(f, "pod {} {}", one_line(pod), Stage::AtTheGate);
            }
            Exclusion::TemplateHasGate => "its pods wait for the lock, no pod on this node yet",
        })
    }
}
