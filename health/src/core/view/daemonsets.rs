//! All DaemonSets of the cluster, reduced to their identities and placements, within a memory
//! limit. The file does not know where they come from.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::daemonset::{DaemonSet, DaemonSetId};
use crate::core::eligibility::{Fit, NodeTraits, Placement};
use crate::core::filter::{Exclusion, Filter};
use crate::core::packed_placement::PackedPlacement;
use crate::core::pod::Pod;
use crate::core::verdict::{DaemonSetStatus, MOST_LISTED, NearestPods, Standing, Verdict};

use super::bounded_list::{BoundedList, ListEntry};
use super::heap;
use super::shares::eviction_order;

/// 20,000 DaemonSets of the usual size.
pub(super) const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The free memory after an eviction. An eviction reads all DaemonSets, so it must be rare.
const SLACK: usize = 64 * 1024;

pub struct DaemonSetCache {
    pub list: BoundedList<CachedDaemonSet>,
    /// Most DaemonSets have the same placement as some other.
    placements: BTreeSet<PackedPlacement>,
    placement_bytes: usize,
    /// The few different reasons why DaemonSets do not count.
    exclusions: Vec<Arc<Exclusion>>,
    node: Arc<NodeTraits>,
    /// The objects of the present list so far.
    listed: usize,
}

pub struct CachedDaemonSet {
    id: Arc<DaemonSetId>,
    has_gate: bool,
    is_listed: bool,
    claim: Claim,
}

/// The claim of a DaemonSet on this node.
enum Claim {
    Excluded(Arc<Exclusion>),
    Placed(PackedPlacement, Fit),
}

impl ListEntry for CachedDaemonSet {
    fn key(&self) -> (&str, &str) {
        (self.id.namespace(), self.id.name())
    }

    /// The weight without the placement.
    fn weight(&self) -> usize {
        let id = heap::shared(size_of::<DaemonSetId>()) + heap::piece(self.id.byte_len());
        size_of::<CachedDaemonSet>() + id
    }

    fn listed_flag(&mut self) -> &mut bool {
        &mut self.is_listed
    }
}

impl CachedDaemonSet {
    /// `mismatch` finds the reason why the DaemonSet does not want the node.
    fn status(
        &self,
        pods: &NearestPods,
        mismatch: impl FnOnce(&PackedPlacement) -> Arc<str>,
    ) -> DaemonSetStatus {
        let standing = match &self.claim {
            Claim::Excluded(reason) => Standing::Excluded(Arc::clone(reason)),
            Claim::Placed(_, Fit::Wanted) => pods.standing(&self.id, self.has_gate),
            Claim::Placed(_, Fit::KeepsExisting) if pods.has_live_pod(&self.id) => {
                pods.standing(&self.id, self.has_gate)
            }
            Claim::Placed(placement, _) => Standing::NotHere(mismatch(placement)),
        };
        DaemonSetStatus { id: Arc::clone(&self.id), standing }
    }

    /// The weight with the share of a placement that other DaemonSets may have too.
    fn share(&self) -> usize {
        let of_placement = match &self.claim {
            // The set of all placements holds one more reference.
            Claim::Placed(placement, _) => {
                placement_weight(placement) / (placement.reference_count() - 1).max(1)
            }
            Claim::Excluded(_) => 0,
        };
        self.weight() + of_placement
    }

    fn is_too_large(&self) -> bool {
        matches!(&self.claim, Claim::Excluded(reason) if **reason == Exclusion::TooLarge)
    }
}

/// The weight of a placement and of its entry in the set of all.
fn placement_weight(placement: &PackedPlacement) -> usize {
    heap::shared(placement.byte_len()) + 2 * size_of::<PackedPlacement>()
}

impl DaemonSetCache {
    pub fn new(is_complete: bool) -> DaemonSetCache {
        DaemonSetCache {
            list: BoundedList::new(is_complete),
            placements: BTreeSet::new(),
            placement_bytes: 0,
            exclusions: Vec::new(),
            node: Arc::default(),
            listed: 0,
        }
    }

    pub fn bytes(&self) -> usize {
        self.list.bytes() + self.placement_bytes
    }

    /// A list begins, or begins again.
    pub fn begin(&mut self) {
        self.list.begin();
        self.listed = 0;
    }

    /// Takes an object of a list.
    pub fn add(&mut self, set: DaemonSet, filter: &Filter) {
        // A list in pages may contain an object twice.
        let known = self.list.get((&set.namespace, &set.name));
        self.listed += usize::from(known.is_none_or(|known| !known.is_listed));
        self.put(set, filter);
    }

    /// The list is complete: DaemonSets that it did not contain are removed.
    pub fn finish(&mut self) {
        self.list.finish();
        self.list.evicted = self.listed.saturating_sub(self.list.len());
        self.sweep();
    }

    /// Takes a DaemonSet that was read alone.
    pub fn set(&mut self, set: DaemonSet, filter: &Filter) {
        if self.list.get((&set.namespace, &set.name)).is_none() {
            // It may be an evicted one.
            self.list.evicted = self.list.evicted.saturating_sub(1);
        }
        self.put(set, filter);
        self.sweep();
    }

    fn put(&mut self, set: DaemonSet, filter: &Filter) {
        let claim = match filter.exclusion(&set) {
            Some(reason) => Claim::Excluded(self.shared_exclusion(reason)),
            None => self.claim(&set.placement),
        };
        let id = Arc::new(DaemonSetId::new(&set.namespace, &set.name, &set.uid));
        self.list.put(CachedDaemonSet { id, has_gate: set.has_gate, is_listed: true, claim });
        if self.bytes() > MOST_BYTES {
            // Replaced objects may have left their placements.
            self.sweep();
        }
        while self.bytes() > MOST_BYTES && self.list.len() > 0 {
            self.evict();
            self.sweep();
        }
    }

    fn shared_exclusion(&mut self, reason: Exclusion) -> Arc<Exclusion> {
        if let Some(known) = self.exclusions.iter().find(|known| ***known == reason) {
            return Arc::clone(known);
        }
        let reason = Arc::new(reason);
        self.exclusions.push(Arc::clone(&reason));
        reason
    }

    fn claim(&mut self, placement: &Placement) -> Claim {
        let packed = PackedPlacement::of(placement);
        let fit = placement.fit(&self.node);
        if let Some(known) = self.placements.get(&packed) {
            return Claim::Placed(known.clone(), fit);
        }
        self.placement_bytes += placement_weight(&packed);
        self.placements.insert(packed.clone());
        Claim::Placed(packed, fit)
    }

    /// Evicts from the namespaces that take most: the placement of a DaemonSet if it is most of its
    /// weight, otherwise the whole DaemonSet. An evicted DaemonSet does not count, because an
    /// object beyond the memory limit must not close the gate.
    fn evict(&mut self) {
        let too_large = self.shared_exclusion(Exclusion::TooLarge);
        let shares = self.list.iter().map(|set| (set.id.namespace(), set.share()));
        let order = eviction_order(shares);
        let mut excess = self.bytes() - MOST_BYTES + SLACK;
        let mut stays = vec![true; self.list.len()];
        for at in order {
            let set = self.list.at_mut(at);
            excess = excess.saturating_sub(set.share());
            if set.share() > 2 * set.weight() {
                set.claim = Claim::Excluded(Arc::clone(&too_large));
            } else {
                stays[at] = false;
            }
            if excess == 0 {
                break;
            }
        }
        self.list.evict(&stays);
    }

    /// Removes the placements that no DaemonSet has any more.
    fn sweep(&mut self) {
        let bytes = &mut self.placement_bytes;
        self.placements.retain(|placement| {
            let is_used = placement.reference_count() > 1;
            if !is_used {
                *bytes -= placement_weight(placement);
            }
            is_used
        });
    }

    pub fn set_node(&mut self, node: &Arc<NodeTraits>) {
        self.node = Arc::clone(node);
        for set in self.list.iter_mut() {
            if let Claim::Placed(placement, fit) = &mut set.claim {
                *fit = placement.unpack().fit(node);
            }
        }
    }

    pub fn remove(&mut self, namespace: &str, name: &str) {
        self.list.remove((namespace, name));
        self.sweep();
    }

    fn get(&self, id: &DaemonSetId) -> Option<&CachedDaemonSet> {
        self.list.get((id.namespace(), id.name())).filter(|known| known.id.uid() == id.uid())
    }

    pub fn knows(&self, id: &DaemonSetId) -> bool {
        self.get(id).is_some()
    }

    /// Whether the owner of a new pod is known, and not as one that has no pod on this node.
    pub fn expects(&self, pod: &Pod) -> bool {
        let owner = self.get(&pod.owner);
        owner.is_some_and(|owner| match owner.claim {
            Claim::Excluded(_) | Claim::Placed(_, Fit::Wanted) => true,
            Claim::Placed(_, Fit::KeepsExisting | Fit::Unwanted) => false,
        })
    }

    /// The DaemonSets that do not count because they exceed the memory limit.
    pub fn too_large(&self) -> BTreeSet<Arc<DaemonSetId>> {
        let sets = self.list.iter().filter(|set| set.is_too_large());
        sets.map(|set| Arc::clone(&set.id)).collect()
    }

    /// The verdict on a node with these pods.
    pub fn verdict(&self, pods: &NearestPods) -> Verdict {
        let mut mismatches = 0;
        let mut mismatch = |placement: &PackedPlacement| -> Arc<str> {
            mismatches += 1;
            // Beyond the listed DaemonSets only the number counts: a reason takes more memory than
            // its placement.
            let reason = match mismatches {
                ..=MOST_LISTED => placement.unpack().mismatch(&self.node),
                _ => None,
            };
            reason.map(|reason| reason.to_string()).unwrap_or_default().into()
        };
        let statuses = self.list.iter().map(|set| set.status(pods, &mut mismatch));
        let mut verdict = Verdict::new(statuses);
        verdict.counts.excluded += self.list.evicted;
        verdict
    }

    #[cfg(test)]
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(ListEntry::key)
    }
}
