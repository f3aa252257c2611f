//! The waiters of a node, in order of arrival, and the order in which they are served.
//!
//! A parked waiter has a client on an open connection. A waiter that is away has none: it keeps its
//! place in the order of arrival for a short time, but no slot.
//!
//! The time is an argument and never goes back. Knows the active leases of each address, not the
//! leases.
//!
//! Invariants: a holder is one waiter at most; at most [`MOST_WAITERS`] waiters, of which at most
//! as many are parked as the queue was made for.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::outcome::{Arrival, LeaseRequest};
use crate::core::time::after;

/// Waiters in all. Kubernetes runs 110 pods on a node by default.
pub const MOST_WAITERS: usize = 1024;

/// A waiter that is away keeps its place in the order of arrival for this long after the time at
/// which it is expected. A client whose connection broke asks again after 1 to 1.2 s (init).
pub const GRACE: Duration = Duration::from_secs(2);

/// An address without lease and waiter is remembered for this long.
const MEMORY: Duration = Duration::from_secs(60);

/// The pause between two searches for addresses to forget.
const SWEEP: Duration = Duration::from_secs(1);

/// Remembered addresses without lease and waiter.
pub const MOST_REMEMBERED: usize = 1024;

/// Identifies a parked request. A new request of the same holder has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    pub arrival: Arrival,
    pub holder: Arc<str>,
    pub address: IpAddr,
    pub presence: Presence,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    Parked(Box<ParkedRequest>),
    Away {
        /// The client is expected to ask again.
        due: Instant,
    },
}

/// A request whose client waits on an open connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedRequest {
    pub id: WaiterId,
    pub request: LeaseRequest,
    /// The end of the client's wait.
    pub until: Instant,
}

impl Waiter {
    pub fn is_parked(&self) -> bool {
        matches!(self.presence, Presence::Parked(_))
    }

    /// The end of the wait or of the grace.
    fn ends(&self) -> Instant {
        match &self.presence {
            Presence::Parked(parked) => parked.until,
            Presence::Away { due } => after(*due, GRACE),
        }
    }

    fn has_id(&self, id: WaiterId) -> bool {
        matches!(&self.presence, Presence::Parked(parked) if parked.id == id)
    }
}

#[derive(Clone, Copy, Debug)]
struct AddressHistory {
    leases: usize,
    /// The number of its last grant.
    served: Option<u64>,
    /// The last request or end of a lease.
    last_event: Instant,
}

/// The order of service: the address with the fewest active leases, then the address that was
/// served longest ago, then the first to arrive.
///
/// The second waiter of an address is served after the first, and counts as if the first had its
/// lease already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    leases: usize,
    /// Waiters of the same address before this one: they will have been served last.
    before: usize,
    served: Option<u64>,
    /// The first ticket of the address.
    ticket: u64,
}

#[derive(Debug, Default)]
pub struct Queue {
    most_parked: usize,
    parked: usize,
    waiters: Vec<Waiter>,
    /// The ticket of each holder.
    tickets: HashMap<Arc<str>, u64>,
    /// The ranks of the waiters, cached because a position needs all of them.
    ranks: Vec<Rank>,
    /// The ends of their waits and graces, cached because each change needs the first of them.
    ends: Vec<Instant>,
    addresses: HashMap<IpAddr, AddressHistory>,
    /// Active leases of all addresses.
    leases: usize,
    /// The last grant to an address that is forgotten. An unknown address counts as served then: an
    /// address that returns after it was forgotten must not pass waiters that were served before.
    forgotten: Option<u64>,
    grants: u64,
    swept: Option<Instant>,
}

impl Queue {
    pub fn new(most_parked: usize) -> Queue {
        Queue { most_parked, ..Queue::default() }
    }

    /// In order of arrival.
    pub fn waiters(&self) -> &[Waiter] {
        &self.waiters
    }

    pub fn most_parked(&self) -> usize {
        self.most_parked
    }

    pub fn parked(&self) -> usize {
        self.parked
    }

    pub fn of(&self, holder: &str) -> Option<&Waiter> {
        self.index_of(holder).map(|at| &self.waiters[at])
    }

    /// Waiters are in the order of their tickets.
    fn index_of(&self, holder: &str) -> Option<usize> {
        let ticket = self.tickets.get(holder)?;
        self.waiters.binary_search_by_key(ticket, |waiter| waiter.arrival.ticket).ok()
    }

    /// The first parked waiter in order of arrival.
    pub fn longest_parked(&self) -> Option<&Waiter> {
        self.waiters.iter().find(|waiter| waiter.is_parked())
    }

    /// Adds a waiter at its place in the order of arrival. If there are too many waiters, hands out
    /// the one that is removed: the one with the most waiters of the same address before it.
    #[must_use]
    pub fn insert(&mut self, waiter: Waiter) -> Option<Waiter> {
        self.parked += usize::from(waiter.is_parked());
        let at = self.waiters.partition_point(|other| other.arrival.ticket < waiter.arrival.ticket);
        let address = waiter.address;
        self.tickets.insert(Arc::clone(&waiter.holder), waiter.arrival.ticket);
        self.ends.insert(at, waiter.ends());
        self.waiters.insert(at, waiter);
        self.ranks.insert(at, Rank::default());
        self.rank(address);
        if self.parked > self.most_parked {
            return self.remove_newest_of_largest(Waiter::is_parked);
        }
        if self.waiters.len() > MOST_WAITERS {
            return self.remove_newest_of_largest(|waiter| !waiter.is_parked());
        }
        None
    }

    fn remove_newest_of_largest(&mut self, counts: fn(&Waiter) -> bool) -> Option<Waiter> {
        let counted = (0..self.waiters.len()).filter(|at| counts(&self.waiters[*at]));
        // The newest waiter of an address has the most of the same address before it; of equals,
        // the last to arrive is removed.
        let newest = counted.max_by_key(|at| (self.ranks[*at].before, *at))?;
        Some(self.take(newest))
    }

    pub fn remove(&mut self, holder: &str) -> Option<Waiter> {
        self.index_of(holder).map(|at| self.take(at))
    }

    pub fn remove_parked(&mut self, id: WaiterId) -> Option<Waiter> {
        let at = self.waiters.iter().position(|waiter| waiter.has_id(id))?;
        Some(self.take(at))
    }

    pub fn expect(&mut self, holder: &str, due: Instant) {
        let Some(at) = self.index_of(holder) else { return };
        if let Presence::Away { due: expected } = &mut self.waiters[at].presence {
            *expected = due;
            self.ends[at] = self.waiters[at].ends();
        }
    }

    /// Removes the parked waiter that is next in the order of service.
    pub fn remove_first(&mut self) -> Option<Waiter> {
        let parked = (0..self.waiters.len()).filter(|at| self.waiters[*at].is_parked());
        // A waiter that is away has no claim, so it does not count as served before.
        let key = |at: &usize| {
            let Rank { leases, before, served, .. } = self.ranks[*at];
            (leases - before, served, self.waiters[*at].arrival.ticket)
        };
        let at = parked.min_by_key(key)?;
        Some(self.take(at))
    }

    /// Removes one waiter whose wait or grace is over.
    pub fn expire_one(&mut self, now: Instant) -> Option<Waiter> {
        let at = self.ends.iter().position(|end| *end <= now)?;
        Some(self.take(at))
    }

    /// The next end of a wait or of a grace.
    pub fn poll_at(&self) -> Option<Instant> {
        self.ends.iter().min().copied()
    }

    fn take(&mut self, at: usize) -> Waiter {
        let waiter = self.waiters.remove(at);
        self.tickets.remove(&waiter.holder);
        self.ranks.remove(at);
        self.ends.remove(at);
        self.rank(waiter.address);
        self.parked -= usize::from(waiter.is_parked());
        waiter
    }

    /// Ranks the waiters of an address anew, after a change of its waiters or leases.
    fn rank(&mut self, address: IpAddr) {
        let (leases, served) = self.standing(address);
        let mut next = None;
        for (waiter, rank) in self.waiters.iter().zip(&mut self.ranks) {
            if waiter.address != address {
                continue;
            }
            let next = next.get_or_insert(Rank {
                leases,
                before: 0,
                served,
                ticket: waiter.arrival.ticket,
            });
            *rank = *next;
            next.leases += 1;
            next.before += 1;
        }
    }

    /// The waiters that are served before this holder.
    pub fn before(&self, holder: &str) -> Option<usize> {
        let at = self.index_of(holder)?;
        Some(self.ranks.iter().filter(|rank| **rank < self.ranks[at]).count())
    }

    /// The first waiters in the order of service.
    pub fn order(&self, most: usize) -> Vec<&Waiter> {
        let mut order: Vec<_> = self.ranks.iter().zip(&self.waiters).collect();
        order.sort_unstable_by_key(|(rank, _)| **rank);
        order.into_iter().map(|(_, waiter)| waiter).take(most).collect()
    }

    /// The active leases of an address, and its last grant.
    fn standing(&self, address: IpAddr) -> (usize, Option<u64>) {
        match self.addresses.get(&address) {
            Some(known) => (known.leases, known.served),
            None => (0, self.forgotten),
        }
    }

    pub fn note_request(&mut self, address: IpAddr, now: Instant) {
        self.address(address, now);
    }

    pub fn note_lease(&mut self, address: IpAddr, now: Instant) {
        self.grants += 1;
        let grant = self.grants;
        self.leases += 1;
        let known = self.address(address, now);
        known.leases += 1;
        known.served = Some(grant);
        self.rank(address);
    }

    pub fn note_end(&mut self, address: IpAddr, now: Instant) {
        self.leases = self.leases.saturating_sub(1);
        let known = self.address(address, now);
        known.leases = known.leases.saturating_sub(1);
        self.rank(address);
    }

    fn address(&mut self, address: IpAddr, now: Instant) -> &mut AddressHistory {
        self.forget(now);
        let known = self.addresses.entry(address);
        let known =
            known.or_insert(AddressHistory { leases: 0, served: self.forgotten, last_event: now });
        known.last_event = now;
        known
    }

    /// Forgets addresses without lease and waiter: old ones, and if there are too many the older
    /// half.
    fn forget(&mut self, now: Instant) {
        let most = self.leases + self.waiters.len() + MOST_REMEMBERED;
        let is_full = self.addresses.len() > most;
        let is_due = self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP);
        if !is_full && !is_due {
            return;
        }
        self.swept = Some(now);
        let waiting: HashSet<_> = self.waiters.iter().map(|waiter| waiter.address).collect();
        let is_idle = |address: &IpAddr, known: &AddressHistory| {
            known.leases == 0 && !waiting.contains(address)
        };
        // A flood of addresses costs one sweep for each half of the bound.
        let idle = self.addresses.iter().filter(|(address, known)| is_idle(address, known));
        let mut events: Vec<Instant> = idle.map(|(_, known)| known.last_event).collect();
        events.sort_unstable();
        let middle = events.get(events.len() / 2).copied().filter(|_| is_full);
        self.addresses.retain(|address, known| {
            let is_old = now.saturating_duration_since(known.last_event) >= MEMORY;
            let is_excess = middle.is_some_and(|middle| known.last_event <= middle);
            let is_remembered = !is_idle(address, known) || !(is_old || is_excess);
            if !is_remembered {
                self.forgotten = self.forgotten.max(known.served);
            }
            is_remembered
        });
    }
}

#[cfg(test)]
mod tests;
