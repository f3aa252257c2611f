//! The pods of DaemonSets on this node, within bounds.
//!
//! Pure. Does not know where they come from.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::heap;
use super::shares::furthest_beyond;
use crate::verdict::{Identity, Phase, Pod};

/// The bound on the memory of pods: 3,500 of the usual kind. Kubernetes gives a node 110 pods, and few nodes have many
/// more. But a user who may make pods can name any node in them, and pods that the kubelet refuses stay.
pub(super) const MOST_BYTES: usize = 1536 * 1024;

/// The free memory after an eviction. The search for pods to evict reads all pods, so it must be rare.
const SLACK: usize = 32 * 1024;

/// The pods, by UID.
#[derive(Default)]
pub struct Pods {
    known: BTreeMap<Arc<str>, Known>,
    pub(super) bytes: usize,
    /// How many were left out.
    let_go: usize,
    /// Whether all have been listed once.
    is_complete: bool,
}

struct Known {
    pod: Pod,
    /// Whether the list that is being read has it.
    is_listed: bool,
}

/// The memory that a pod takes. A node of the map has room for eleven and is about two thirds full.
fn weight(pod: &Pod) -> usize {
    let texts = heap::shared(pod.uid.len()) + heap::shared(pod.name.len());
    let owner = heap::shared(size_of::<Identity>()) + heap::piece(pod.owner.len());
    texts + owner + size_of::<(Arc<str>, Known)>() * 3 / 2
}

impl Pods {
    /// An empty list that counts as complete, if pods are not asked for.
    pub fn none() -> Pods {
        Pods { is_complete: true, ..Pods::default() }
    }

    /// Whether all have been listed once.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// A list begins, or begins anew. Those that are known stay until it has ended: old and new would not fit together.
    pub fn begin(&mut self) {
        self.known.values_mut().for_each(|known| known.is_listed = false);
    }

    /// Ends a list: removes the pods that the list did not contain.
    pub fn finish(&mut self) {
        let bytes = &mut self.bytes;
        self.known.retain(|_, known| {
            *bytes -= if known.is_listed { 0 } else { weight(&known.pod) };
            known.is_listed
        });
        self.is_complete = true;
    }

    /// Takes one, new or changed. Of those that are too many, the ones of the namespace with the most go, first those
    /// that have ended.
    pub fn add(&mut self, pod: Pod) {
        self.remove(&pod.uid.clone());
        self.bytes += weight(&pod);
        self.known.insert(Arc::clone(&pod.uid), Known { pod, is_listed: true });
        if self.bytes > MOST_BYTES {
            self.lighten();
        }
    }

    fn lighten(&mut self) {
        let has_ended = |pod: &Pod| matches!(pod.phase, Phase::Succeeded | Phase::Failed);
        let rank = |pod: &'_ Pod| 1 + usize::from(has_ended(pod));
        let ranked = furthest_beyond(self.iter().map(|pod| (pod.owner.namespace(), rank(pod))));
        let uids: Vec<_> = self.known.keys().cloned().collect();
        for at in ranked {
            if self.bytes + SLACK <= MOST_BYTES {
                break;
            }
            self.remove(&uids[at]);
            self.let_go += 1;
        }
    }

    /// One is not there any more.
    pub fn remove(&mut self, uid: &str) {
        if let Some(known) = self.known.remove(uid) {
            self.bytes -= weight(&known.pod);
        }
    }

    /// Whether it is known.
    pub fn has(&self, uid: &str) -> bool {
        self.known.contains_key(uid)
    }

    /// All that are known.
    pub fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.known.values().map(|known| &known.pod)
    }

    /// How many were left out.
    pub fn let_go(&self) -> usize {
        self.let_go
    }
}
