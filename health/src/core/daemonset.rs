//! A DaemonSet, reduced to the fields that the verdict needs.

use std::fmt;

use crate::core::eligibility::{Labels, Placement};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonSet {
    pub namespace: String,
    pub name: String,
    /// A DaemonSet that was deleted and created again has another UID. Pods name their owner by it.
    pub uid: String,
    /// At least the labels that the filter names.
    pub labels: Labels,
    /// Annotated with `pod-startup-lock/ignore: "true"`.
    pub is_ignored: bool,
    pub is_being_deleted: bool,
    /// The template has the init container that waits for the lock.
    pub has_gate: bool,
    /// A part of the object exceeded the memory limit and is missing.
    pub is_too_large: bool,
    pub placement: Placement,
}

/// Namespace, name and UID of a DaemonSet in one allocation, because a cluster may have thousands.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DaemonSetId {
    text: Box<str>,
    name_at: u32,
    uid_at: u32,
}

impl DaemonSetId {
    /// The UID is empty if it is irrelevant.
    pub fn new(namespace: &str, name: &str, uid: &str) -> DaemonSetId {
        let name_at = namespace.len() as u32;
        let uid_at = name_at + name.len() as u32;
        DaemonSetId { text: [namespace, name, uid].concat().into(), name_at, uid_at }
    }

    pub fn namespace(&self) -> &str {
        &self.text[..self.name_at as usize]
    }

    pub fn name(&self) -> &str {
        &self.text[self.name_at as usize..self.uid_at as usize]
    }

    pub fn uid(&self) -> &str {
        &self.text[self.uid_at as usize..]
    }

    pub fn byte_len(&self) -> usize {
        self.text.len()
    }
}

impl fmt::Debug for DaemonSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.namespace(), self.name(), self.uid())
    }
}
