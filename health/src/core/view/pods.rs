//! The pods of DaemonSets on this node, within a memory limit. The file does not know where they come
//! from.

use crate::core::daemonset::DaemonSetId;
use crate::core::pod::{Phase, Pod};

use super::bounded_list::{BoundedList, Listed};
use super::heap;
use super::shares::eviction_order;

/// 3,500 pods of the usual size. Kubernetes allows 110 pods on a node, and few nodes have many more.
/// But a user who may create pods can name any node in them, and pods that the kubelet rejects stay.
pub(super) const MOST_BYTES: usize = 1536 * 1024;

/// The free memory after an eviction. An eviction reads all pods, so it must be rare.
const SLACK: usize = 32 * 1024;

struct CachedPod {
    pod: Pod,
    is_listed: bool,
}

impl Listed for CachedPod {
    fn key(&self) -> (&str, &str) {
        (&self.pod.uid, "")
    }

    fn weight(&self) -> usize {
        let texts = heap::shared(self.pod.uid.len()) + heap::shared(self.pod.name.len());
        let id = heap::shared(size_of::<DaemonSetId>()) + heap::piece(self.pod.owner.byte_len());
        // A vector that grows has twice the size.
        texts + id + 2 * size_of::<CachedPod>()
    }

    fn is_listed(&self) -> bool {
        self.is_listed
    }

    fn set_listed(&mut self, is_listed: bool) {
        self.is_listed = is_listed;
    }
}

pub struct PodCache {
    list: BoundedList<CachedPod>,
    evicted: usize,
}

impl PodCache {
    pub fn new(is_complete: bool) -> PodCache {
        PodCache { list: BoundedList::new(is_complete), evicted: 0 }
    }

    pub fn is_complete(&self) -> bool {
        self.list.is_complete()
    }

    pub fn begin(&mut self) {
        self.list.begin();
    }

    pub fn finish(&mut self) {
        self.list.finish();
    }

    pub fn add(&mut self, pod: Pod) {
        self.list.put(CachedPod { pod, is_listed: true });
        if self.list.bytes() > MOST_BYTES {
            self.evict();
        }
    }

    /// Evicts pods of the namespace with the most, first those that have ended.
    fn evict(&mut self) {
        let has_ended = |pod: &Pod| matches!(pod.phase, Phase::Succeeded | Phase::Failed);
        let shares =
            self.iter().map(|pod| (pod.owner.namespace(), 1 + usize::from(has_ended(pod))));
        let order = eviction_order(shares);
        let weights: Vec<_> = self.list.iter().map(CachedPod::weight).collect();
        let mut stays = vec![true; weights.len()];
        let mut bytes = self.list.bytes();
        for at in order {
            if bytes + SLACK <= MOST_BYTES {
                break;
            }
            stays[at] = false;
            bytes -= weights[at];
            self.evicted += 1;
        }
        self.list.retain(|at, _| stays[at]);
    }

    pub fn remove(&mut self, uid: &str) {
        self.list.remove((uid, ""));
    }

    pub fn has(&self, uid: &str) -> bool {
        self.list.get((uid, "")).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.list.iter().map(|cached| &cached.pod)
    }

    pub fn evicted(&self) -> usize {
        self.evicted
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.list.bytes()
    }
}
