//! The pods of DaemonSets on this node, within bounds.
//!
//! Pure. Does not know where they come from.

use std::collections::BTreeMap;

use super::shares::furthest_beyond;
use crate::verdict::{Phase, Pod};

/// How many may be on one node. Kubernetes gives a node 110 pods, and few go far beyond; so many with the longest names
/// take 4 MB. But whoever may make pods can name any node in them, and those that the kubelet refuses stay.
pub(super) const MOST: usize = 5_000;

/// Where all do not fit there is room for so many more afterwards, since to find who has to go takes a look at all.
const SLACK: usize = 50;

/// The pods, by UID.
#[derive(Default)]
pub struct Pods {
    known: BTreeMap<Box<str>, Pod>,
    /// How many were left out.
    let_go: usize,
}

impl Pods {
    /// Takes one, new or changed. Of those that are too many, the ones of the namespace with the most go, first those
    /// that have ended.
    pub fn add(&mut self, pod: Pod) {
        self.known.insert(pod.uid.clone(), pod);
        if self.known.len() <= MOST {
            return;
        }
        let has_ended = |pod: &Pod| matches!(pod.phase, Phase::Succeeded | Phase::Failed);
        let ranked = furthest_beyond(self.known.values().map(|pod| (&*pod.namespace, 1 + usize::from(has_ended(pod)))));
        let uids: Vec<_> = self.known.keys().collect();
        let gone: Vec<_> = ranked.iter().take(1 + SLACK).map(|at| uids[*at].clone()).collect();
        self.let_go += gone.len();
        gone.iter().for_each(|uid| drop(self.known.remove(uid)));
    }

    /// One is not there any more.
    pub fn remove(&mut self, uid: &str) {
        self.known.remove(uid);
    }

    /// Whether it is known.
    pub fn has(&self, uid: &str) -> bool {
        self.known.contains_key(uid)
    }

    /// All that are known.
    pub fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.known.values()
    }

    /// How many were left out.
    pub fn let_go(&self) -> usize {
        self.let_go
    }
}

#[cfg(test)]
impl FromIterator<Pod> for Pods {
    fn from_iter<I: IntoIterator<Item = Pod>>(all: I) -> Pods {
        let mut pods = Pods::default();
        all.into_iter().for_each(|pod| pods.add(pod));
        pods
    }
}
