//! The pods of DaemonSets on this node, within a memory limit. The file does not know where they
//! come from.

use crate::core::daemonset::DaemonSetId;
use crate::core::pod::{Phase, Pod};

use super::bounded_list::{BoundedList, ListEntry};
use super::heap;
use super::shares::eviction_order;

/// 3,500 pods of the usual size. Kubernetes allows 110 pods on a node, and few nodes have many
/// more. But a user who may create pods can name any node in them, and pods that the kubelet
/// rejects stay.
pub(super) const MOST_BYTES: usize = 1536 * 1024;

/// The free memory after an eviction. An eviction reads all pods, so it must be rare.
const SLACK: usize = 32 * 1024;

pub struct CachedPod {
    pod: Pod,
    is_listed: bool,
}

impl ListEntry for CachedPod {
    fn key(&self) -> (&str, &str) {
        (&self.pod.uid, "")
    }

    fn weight(&self) -> usize {
        let texts = heap::shared(self.pod.uid.len()) + heap::shared(self.pod.name.len());
        let id = heap::shared(size_of::<DaemonSetId>()) + heap::piece(self.pod.owner.byte_len());
        // A vector that grows has twice the size.
        texts + id + 2 * size_of::<CachedPod>()
    }

    fn listed_flag(&mut self) -> &mut bool {
        &mut self.is_listed
    }
}

pub type PodCache = BoundedList<CachedPod>;

impl PodCache {
    pub fn add(&mut self, pod: Pod) {
        self.put(CachedPod { pod, is_listed: true });
        if self.bytes() <= MOST_BYTES {
            return;
        }
        // Pods of the namespace with the most go, first those that have ended.
        let has_ended = |pod: &Pod| matches!(pod.phase, Phase::Succeeded | Phase::Failed);
        let shares =
            self.pods().map(|pod| (pod.owner.namespace(), 1 + usize::from(has_ended(pod))));
        let order = eviction_order(shares);
        let weights: Vec<_> = self.iter().map(CachedPod::weight).collect();
        let mut excess = self.bytes() - MOST_BYTES + SLACK;
        let mut stays = vec![true; weights.len()];
        for at in order {
            stays[at] = false;
            excess = excess.saturating_sub(weights[at]);
            if excess == 0 {
                break;
            }
        }
        self.evict(&stays);
    }

    pub fn has(&self, uid: &str) -> bool {
        self.get((uid, "")).is_some()
    }

    pub fn delete(&mut self, uid: &str) {
        self.remove((uid, ""));
    }

    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.iter().map(|cached| &cached.pod)
    }
}
