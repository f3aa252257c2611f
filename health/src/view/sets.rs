//! All DaemonSets of the cluster, cut down to what decides whether they belong on this node, within bounds.
//!
//! Pure. Does not know where they come from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::shares::furthest_beyond;
use crate::eligibility::{NotHere, Placement};
use crate::verdict::{DaemonSet, Excluded, Filter, Identity, Judged, Nearest, Node, Pod, Standing, Verdict};

/// How much is kept of them: 15,000 of the usual kind.
pub(super) const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Where all do not fit there is room for so much more afterwards, since to find who has to go takes a look at all.
const SLACK: usize = 64 * 1024;

/// What a DaemonSet takes besides its texts.
const OVERHEAD: usize = 200;

/// DaemonSets, in the order of their namespaces and names.
#[derive(Default)]
pub struct Sets {
    entries: Vec<Entry>,
    /// Most DaemonSets want what some other one wants too.
    placements: BTreeMap<Arc<Placement>, Shared>,
    pub(super) bytes: usize,
    /// How many do not count and are not even named, because all together do not fit.
    let_go: usize,
}

/// What is known of a placement.
#[derive(Default)]
struct Shared {
    /// How many it takes.
    bytes: usize,
    /// Why the node is none for it, where that was asked and is so.
    mismatch: Option<Arc<NotHere>>,
}

struct Entry {
    set: Arc<Identity>,
    has_gate: bool,
    claim: Claim,
}

/// What a DaemonSet asks of this node.
enum Claim {
    /// Nothing, whatever node it is.
    Excluded(Arc<Excluded>),
    /// Where its pods may go, and why that is not here; nothing means that it is.
    Placed(Arc<Placement>, Option<Arc<NotHere>>),
}

impl Entry {
    fn new(set: DaemonSet, filter: &Filter, sets: &mut Sets) -> Entry {
        let excluded = filter.exclusion(&set);
        let claim = match excluded {
            Some(why) => Claim::Excluded(Arc::new(why)),
            None => Claim::Placed(sets.shared(set.placement), None),
        };
        let identity = Identity { namespace: set.namespace.into(), name: set.name.into(), uid: set.uid.into() };
        let entry = Entry { set: Arc::new(identity), has_gate: set.has_gate, claim };
        sets.bytes += entry.weight();
        entry
    }

    fn place(&mut self, node: &Node, placements: &mut BTreeMap<Arc<Placement>, Shared>) {
        let Claim::Placed(placement, mismatch) = &mut self.claim else { return };
        let Some(Shared { mismatch: shared, .. }) = placements.get_mut(placement) else { return };
        let found = placement.mismatch(&node.placed);
        // The same reason again is not worth a new place in memory.
        if shared.as_deref() != found.as_ref() {
            *shared = found.map(Arc::new);
        }
        mismatch.clone_from(shared);
    }

    fn judged(&self, nearest: &Nearest) -> Judged {
        let standing = match &self.claim {
            Claim::Excluded(why) => Standing::Excluded(Arc::clone(why)),
            Claim::Placed(_, Some(why)) => Standing::NotHere(Arc::clone(why)),
            Claim::Placed(_, None) => nearest.standing(&self.set, self.has_gate),
        };
        Judged { set: Arc::clone(&self.set), standing }
    }

    /// About how many bytes it takes without its placement.
    fn weight(&self) -> usize {
        OVERHEAD + self.set.namespace.len() + self.set.name.len() + self.set.uid.len()
    }

    /// The same with its part of a placement that others may want too.
    fn share(&self) -> usize {
        let of_placement = match &self.claim {
            // One more holds it: the map of all.
            Claim::Placed(placement, _) => weight(placement) / (Arc::strong_count(placement) - 1).max(1),
            Claim::Excluded(_) => 0,
        };
        self.weight() + of_placement
    }

    fn is_too_large(&self) -> bool {
        matches!(&self.claim, Claim::Excluded(why) if **why == Excluded::TooLarge)
    }

    fn key(&self) -> (&str, &str) {
        (&self.set.namespace, &self.set.name)
    }
}

impl Sets {
    /// Takes one of a list.
    pub fn add(&mut self, set: DaemonSet, filter: &Filter) {
        let entry = Entry::new(set, filter, self);
        self.entries.push(entry);
        self.lighten();
    }

    fn shared(&mut self, placement: Placement) -> Arc<Placement> {
        if let Some((known, _)) = self.placements.get_key_value(&placement) {
            return Arc::clone(known);
        }
        let bytes = weight(&placement);
        self.bytes += bytes;
        let placement = Arc::new(placement);
        self.placements.insert(Arc::clone(&placement), Shared { bytes, mismatch: None });
        placement
    }

    /// Lets go of what is furthest beyond its namespace's share until all fits: a placement where that is most of what a
    /// DaemonSet takes, else the whole of it. None of them counts any more, because what cannot be kept must not close
    /// the gate.
    fn lighten(&mut self) {
        while self.bytes > MOST_BYTES {
            let mut beyond = self.bytes - MOST_BYTES + SLACK;
            let mut is_gone = vec![false; self.entries.len()];
            for at in furthest_beyond(self.entries.iter().map(|entry| (&*entry.set.namespace, entry.share()))) {
                let entry = &mut self.entries[at];
                beyond = beyond.saturating_sub(entry.share());
                if entry.share() > 2 * entry.weight() {
                    entry.claim = Claim::Excluded(Arc::new(Excluded::TooLarge));
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
        self.placements.retain(|placement, shared| {
            let is_held = Arc::strong_count(placement) > 1;
            *bytes -= if is_held { 0 } else { shared.bytes };
            is_held
        });
    }

    /// The node is this one.
    pub fn place(&mut self, node: &Node) {
        for entry in &mut self.entries {
            entry.place(node, &mut self.placements);
        }
    }

    /// One as it is now.
    pub fn set(&mut self, set: DaemonSet, filter: &Filter, node: Option<&Node>) {
        let place = self.find(&set.namespace, &set.name);
        let mut entry = Entry::new(set, filter, self);
        if let Some(node) = node {
            entry.place(node, &mut self.placements);
        }
        match place {
            Ok(at) => self.bytes -= std::mem::replace(&mut self.entries[at], entry).weight(),
            Err(at) => {
                // It was among those that were let go, if there are any.
                self.let_go = self.let_go.saturating_sub(1);
                self.entries.insert(at, entry);
            }
        }
        self.sweep();
        self.lighten();
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
        self.find(&one.namespace, &one.name).is_ok_and(|at| self.entries[at].set.uid == one.uid)
    }

    /// Whether the owner of a new pod is known, and does not hold this node for another one's.
    pub fn expects(&self, pod: &Pod) -> bool {
        let found = self.find(&pod.namespace, &pod.owner).map(|at| &self.entries[at]);
        found.is_ok_and(|entry| entry.set.uid == pod.owner_uid && !matches!(entry.claim, Claim::Placed(_, Some(_))))
    }

    /// Those that do not count because they are too large to be kept.
    pub fn too_large(&self) -> BTreeSet<Arc<Identity>> {
        self.entries.iter().filter(|entry| entry.is_too_large()).map(|entry| Arc::clone(&entry.set)).collect()
    }

    /// How many were let go.
    pub fn let_go(&self) -> usize {
        self.let_go
    }

    /// What they mean for a node with these pods.
    pub fn judged(&self, nearest: &Nearest) -> Verdict {
        let mut verdict = Verdict::new(self.entries.iter().map(|entry| entry.judged(nearest)));
        verdict.counts.excluded += self.let_go;
        verdict
    }

    fn find(&self, namespace: &str, name: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key().cmp(&(namespace, name)))
    }

    /// After the last one of a list.
    pub fn finish(mut self) -> Sets {
        self.entries.sort_by(|a, b| a.key().cmp(&b.key()));
        // A list in pages may show an object twice.
        let bytes = &mut self.bytes;
        self.entries.dedup_by(|a, b| {
            let is_same = a.key() == b.key();
            *bytes -= if is_same { a.weight() } else { 0 };
            is_same
        });
        self.sweep();
        self.entries.shrink_to_fit();
        self
    }
}

/// About how many bytes a placement takes.
fn weight(placement: &Placement) -> usize {
    const EACH: usize = 64;
    let selector = placement.selector.iter().map(|(key, value)| EACH + key.len() + value.len());
    let terms = placement.affinity.iter().flatten().flat_map(|term| term.labels.iter().chain(&term.fields));
    let requirements = terms.map(|requirement| {
        EACH + requirement.key.len() + requirement.values.iter().map(|value| EACH / 2 + value.len()).sum::<usize>()
    });
    let tolerations =
        placement.tolerations.iter().map(|toleration| EACH + toleration.key.len() + toleration.value.len());
    let empty_terms = placement.affinity.iter().map(|terms| EACH * terms.len());
    OVERHEAD + selector.chain(requirements).chain(tolerations).chain(empty_terms).sum::<usize>()
}
