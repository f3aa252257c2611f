//! All DaemonSets of the cluster, cut down to what decides whether they belong on this node, within bounds.
//!
//! Pure. Does not know where they come from.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::heap;
use super::shares::furthest_beyond;
use crate::eligibility::{self, Fit, Packed, Placement};
use crate::verdict::{
    DaemonSet, Excluded, Filter, Identity, Judged, MOST_NAMED, Nearest, Pod, Standing, Verdict,
};

/// The bound on the memory of DaemonSets: 20,000 of the usual kind.
pub(super) const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Where all do not fit there is room for so much more afterwards, since to find who has to go takes a look at all.
const SLACK: usize = 64 * 1024;

/// DaemonSets, in the order of their namespaces and names.
#[derive(Default)]
pub struct Sets {
    entries: Vec<Entry>,
    /// Most DaemonSets want what some other one wants too.
    placements: BTreeSet<Packed>,
    /// The reasons why others do not count: a few, which many share.
    reasons: Vec<Arc<Excluded>>,
    /// The node that the placements are compared with.
    node: Arc<eligibility::Node>,
    pub(super) bytes: usize,
    /// The number of objects so far in the list that is being read.
    listed: usize,
    /// How many do not count and are not even named, because all together do not fit.
    let_go: usize,
    /// Whether all have been listed once.
    is_complete: bool,
}

struct Entry {
    set: Arc<Identity>,
    has_gate: bool,
    /// Whether the list that is being read has it.
    is_listed: bool,
    claim: Claim,
}

/// What a DaemonSet asks of this node.
enum Claim {
    /// Nothing, whatever node it is.
    Excluded(Arc<Excluded>),
    /// Where its pods may go, and whether that is here.
    Placed(Packed, Fit),
}

impl Entry {
    /// The standing on a node with these pods. `reason` finds out why it is not here.
    fn judged(&self, nearest: &Nearest, reason: impl FnOnce(&Packed) -> Arc<str>) -> Judged {
        let standing = match &self.claim {
            Claim::Excluded(why) => Standing::Excluded(Arc::clone(why)),
            Claim::Placed(_, Fit::Wanted) => nearest.standing(&self.set, self.has_gate),
            Claim::Placed(_, Fit::Kept) if nearest.is_live(&self.set) => {
                nearest.standing(&self.set, self.has_gate)
            }
            Claim::Placed(placement, _) => Standing::NotHere(reason(placement)),
        };
        Judged { set: Arc::clone(&self.set), standing }
    }

    /// The memory without the placement.
    fn weight(&self) -> usize {
        size_of::<Entry>() + heap::shared(size_of::<Identity>()) + heap::piece(self.set.len())
    }

    /// The same with its part of a placement that others may want too.
    fn share(&self) -> usize {
        let of_placement = match &self.claim {
            // The set of all placements holds one more reference.
            Claim::Placed(placement, _) => weight(placement) / (placement.holders() - 1).max(1),
            Claim::Excluded(_) => 0,
        };
        self.weight() + of_placement
    }

    fn is_too_large(&self) -> bool {
        matches!(&self.claim, Claim::Excluded(why) if **why == Excluded::TooLarge)
    }

    fn key(&self) -> (&str, &str) {
        (self.set.namespace(), self.set.name())
    }
}

/// The memory of a placement, with its entry in the set of all.
fn weight(placement: &Packed) -> usize {
    heap::shared(placement.len()) + 2 * size_of::<Packed>()
}

impl Sets {
    /// An empty list that counts as complete, if DaemonSets are not asked for.
    pub fn none() -> Sets {
        Sets { is_complete: true, ..Sets::default() }
    }

    /// Whether all have been listed once.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// A list begins, or begins anew. Those that are known stay until it has ended: old and new would not fit together.
    pub fn begin(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.is_listed = false);
        self.listed = 0;
    }

    /// Takes one of the list.
    pub fn add(&mut self, set: DaemonSet, filter: &Filter) {
        // A list in pages may show an object twice.
        let is_second = |at: usize| self.entries[at].is_listed;
        let is_new = !self.find(&set.namespace, &set.name).is_ok_and(is_second);
        self.listed += usize::from(is_new);
        self.put(set, filter);
    }

    /// Ends a list: removes the DaemonSets that the list did not contain.
    pub fn finish(&mut self) {
        let bytes = &mut self.bytes;
        self.entries.retain(|entry| {
            *bytes -= if entry.is_listed { 0 } else { entry.weight() };
            entry.is_listed
        });
        self.let_go = self.listed.saturating_sub(self.entries.len());
        self.entries.shrink_to_fit();
        self.sweep();
        self.is_complete = true;
    }

    /// One as it is now.
    pub fn set(&mut self, set: DaemonSet, filter: &Filter) {
        if self.find(&set.namespace, &set.name).is_err() {
            // It may be one of the evicted ones.
            self.let_go = self.let_go.saturating_sub(1);
        }
        self.put(set, filter);
        self.sweep();
    }

    fn put(&mut self, set: DaemonSet, filter: &Filter) {
        let claim = match filter.exclusion(&set) {
            Some(why) => Claim::Excluded(self.reason(why)),
            None => self.placed(&set.placement),
        };
        let identity = Arc::new(Identity::new(&set.namespace, &set.name, &set.uid));
        let entry = Entry { set: identity, has_gate: set.has_gate, is_listed: true, claim };
        self.bytes += entry.weight();
        match self.find(&set.namespace, &set.name) {
            Ok(at) => self.bytes -= std::mem::replace(&mut self.entries[at], entry).weight(),
            Err(at) => self.entries.insert(at, entry),
        }
        self.lighten();
    }

    fn reason(&mut self, why: Excluded) -> Arc<Excluded> {
        if let Some(known) = self.reasons.iter().find(|known| ***known == why) {
            return Arc::clone(known);
        }
        let why = Arc::new(why);
        self.reasons.push(Arc::clone(&why));
        why
    }

    fn placed(&mut self, placement: &Placement) -> Claim {
        let packed = Packed::of(placement);
        let fit = placement.fit(&self.node);
        if let Some(known) = self.placements.get(&packed) {
            return Claim::Placed(known.clone(), fit);
        }
        self.bytes += weight(&packed);
        self.placements.insert(packed.clone());
        Claim::Placed(packed, fit)
    }

    /// Lets go of what is furthest beyond its namespace's share until all fits: a placement where that is most of what a
    /// DaemonSet takes, else the whole of it. None of them counts any more, because what cannot be kept must not close
    /// the gate.
    fn lighten(&mut self) {
        if self.bytes > MOST_BYTES {
            // It was replaced since the list began.
            self.sweep();
        }
        while self.bytes > MOST_BYTES && !self.entries.is_empty() {
            let mut beyond = self.bytes - MOST_BYTES + SLACK;
            let mut is_gone = vec![false; self.entries.len()];
            let too_large = self.reason(Excluded::TooLarge);
            for at in furthest_beyond(
                self.entries.iter().map(|entry| (entry.set.namespace(), entry.share())),
            ) {
                let entry = &mut self.entries[at];
                beyond = beyond.saturating_sub(entry.share());
                if entry.share() > 2 * entry.weight() {
                    entry.claim = Claim::Excluded(Arc::clone(&too_large));
                } else {
                    is_gone[at] = true;
                    self.let_go += 1;
                }
                if beyond == 0 {
                    break;
                }
            }
            let (mut is_gone, bytes) = (is_gone.into_iter(), &mut self.bytes);
            self.entries.retain(|entry| {
                let is_gone = is_gone.next() == Some(true);
                *bytes -= if is_gone { entry.weight() } else { 0 };
                !is_gone
            });
            self.sweep();
        }
    }

    /// Forgets the placements that no DaemonSet has any more.
    fn sweep(&mut self) {
        let bytes = &mut self.bytes;
        self.placements.retain(|placement| {
            let is_held = placement.holders() > 1;
            *bytes -= if is_held { 0 } else { weight(placement) };
            is_held
        });
    }

    /// The node is this one.
    pub fn place(&mut self, node: &Arc<eligibility::Node>) {
        self.node = Arc::clone(node);
        for entry in &mut self.entries {
            if let Claim::Placed(placement, fit) = &mut entry.claim {
                *fit = placement.unpack().fit(node);
            }
        }
    }

    /// There is none of this name.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        if let Ok(at) = self.find(namespace, name) {
            self.bytes -= self.entries.remove(at).weight();
            self.sweep();
        }
    }

    /// Whether a DaemonSet is known, by its UID.
    pub fn knows(&self, one: &Identity) -> bool {
        self.find(one.namespace(), one.name())
            .is_ok_and(|at| self.entries[at].set.uid() == one.uid())
    }

    /// Whether the owner of a new pod is known, and is not held for one that makes no pod here.
    pub fn expects(&self, pod: &Pod) -> bool {
        let found = self.find(pod.owner.namespace(), pod.owner.name()).map(|at| &self.entries[at]);
        let makes_none =
            |entry: &Entry| matches!(entry.claim, Claim::Placed(_, Fit::Kept | Fit::Unwanted));
        found.is_ok_and(|entry| entry.set.uid() == pod.owner.uid() && !makes_none(entry))
    }

    /// Those that do not count because they are too large to be kept.
    pub fn too_large(&self) -> BTreeSet<Arc<Identity>> {
        self.entries
            .iter()
            .filter(|entry| entry.is_too_large())
            .map(|entry| Arc::clone(&entry.set))
            .collect()
    }

    /// How many were let go.
    pub fn let_go(&self) -> usize {
        self.let_go
    }

    /// What they mean for a node with these pods.
    pub fn judged(&self, nearest: &Nearest) -> Verdict {
        let mut told = 0;
        let mut reason = |placement: &Packed| -> Arc<str> {
            told += 1;
            // The others are counted and not named: a reason takes more memory than its placement.
            let why =
                if told <= MOST_NAMED { placement.unpack().mismatch(&self.node) } else { None };
            why.map(|why| why.to_string()).unwrap_or_default().into()
        };
        let mut verdict =
            Verdict::new(self.entries.iter().map(|entry| entry.judged(nearest, &mut reason)));
        verdict.counts.excluded += self.let_go;
        verdict
    }

    fn find(&self, namespace: &str, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key().cmp(&(namespace, name)))
    }
}

#[cfg(test)]
impl Sets {
    /// Which are kept.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(Entry::key)
    }
}
