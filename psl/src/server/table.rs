//! The connections that occupy a thread: which ones are admitted, and which ones are displaced.
//!
//! Pure: time and addresses are arguments, and the caller chooses the handle of a connection.
//! Invariant: the table never has more entries than its bound, nor more than `per_address` of one
//! address.

use std::net::IpAddr;
use std::time::Instant;

use super::ServerLimits;

pub(super) struct ConnectionTable<C> {
    per_address: usize,
    entries: Vec<ConnectionEntry<C>>,
    next: u64,
}

/// The identity of an entry; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryId(u64);

struct ConnectionEntry<C> {
    id: EntryId,
    address: IpAddr,
    /// The start of the wait for its client.
    since: Instant,
    /// The client has its response and has not begun another request.
    is_idle: bool,
    connection: C,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<C> {
    Admitted(EntryId),
    /// Admitted in place of this connection, which the caller closes.
    Displaced(EntryId, C),
    Refused,
}

impl<C> ConnectionTable<C> {
    pub(super) fn new(limits: &ServerLimits) -> ConnectionTable<C> {
        let entries = Vec::with_capacity(limits.connections);
        ConnectionTable { per_address: limits.per_address, entries, next: 0 }
    }

    /// Admits a connection while the table has fewer entries than `room`, its present bound.
    ///
    /// In a full table, an address with connections displaces its own connection that has been idle
    /// for longest: that client has its response, and may have closed already. A *new* address
    /// displaces the oldest connection of all. So neither one address with many connections nor
    /// many addresses with one each can shut others out: their connections grow old, while an
    /// honest request is complete in a moment.
    pub(super) fn admit(
        &mut self,
        address: IpAddr,
        now: Instant,
        room: usize,
        connection: C,
    ) -> Admission<C> {
        let own = self.entries.iter().filter(|entry| entry.address == address).count();
        let is_full = own >= self.per_address || self.entries.len() >= room;
        let displaced = match self.oldest_displaceable(address, own) {
            _ if !is_full => None,
            Some(oldest) => Some(self.entries.swap_remove(oldest).connection),
            None => return Admission::Refused,
        };
        let id = EntryId(self.next);
        self.next += 1;
        self.entries.push(ConnectionEntry { id, address, since: now, is_idle: false, connection });
        displaced.map_or(Admission::Admitted(id), |connection| Admission::Displaced(id, connection))
    }

    /// `false` if the connection has been displaced.
    pub(super) fn set_idle(&mut self, id: EntryId, is_idle: bool) -> bool {
        let entry = self.entries.iter_mut().find(|entry| entry.id == id);
        entry.map(|entry| entry.is_idle = is_idle).is_some()
    }

    /// Removes the entry; a displaced connection has none.
    pub(super) fn remove(&mut self, id: EntryId) {
        self.entries.retain(|entry| entry.id != id);
    }

    fn oldest_displaceable(&self, address: IpAddr, own: usize) -> Option<usize> {
        let indexes = (0..self.entries.len()).filter(|at| {
            let entry = &self.entries[*at];
            own == 0 || (entry.address == address && entry.is_idle)
        });
        indexes.min_by_key(|at| (self.entries[*at].since, self.entries[*at].id.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    fn address(n: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, n).into()
    }

    fn table(per_address: usize) -> (ConnectionTable<u32>, Instant) {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the zero of virtual time"
        )]
        let start = Instant::now();
        (ConnectionTable::new(&ServerLimits { per_address, ..super::super::LIMITS }), start)
    }

    fn displaced(admission: Admission<u32>) -> Option<u32> {
        match admission {
            Admission::Displaced(_, connection) => Some(connection),
            _ => None,
        }
    }

    fn count(table: &ConnectionTable<u32>, address: IpAddr) -> usize {
        table.entries.iter().filter(|entry| entry.address == address).count()
    }

    #[test]
    fn connections_of_one_address_are_bounded() {
        let (mut table, now) = table(2);
        assert!(matches!(table.admit(address(1), now, 4, 0), Admission::Admitted(_)));
        let Admission::Admitted(second) = table.admit(address(1), now, 4, 1) else { panic!() };
        assert_eq!(table.admit(address(1), now, 4, 2), Admission::Refused);
        table.remove(second);
        assert!(matches!(table.admit(address(1), now, 4, 3), Admission::Admitted(_)));
    }

    #[test]
    fn an_idle_connection_is_displaced_by_its_own_address() {
        let (mut table, start) = table(3);
        let at = |seconds| start + Duration::from_secs(seconds);
        let ids: Vec<_> = (1..=3)
            .map(|n| match table.admit(address(1), at(n), 4, n as u32) {
                Admission::Admitted(id) => id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(table.set_idle(ids[1], true) && table.set_idle(ids[2], true));
        let Admission::Displaced(fourth, 2) = table.admit(address(1), at(4), 4, 4) else {
            panic!("not the older one")
        };
        assert!(!table.set_idle(ids[1], true), "it was displaced");
        assert!(table.set_idle(ids[2], false));
        assert_eq!(
            table.admit(address(1), at(6), 4, 5),
            Admission::Refused,
            "all have open requests"
        );
        assert!(table.set_idle(fourth, true) && table.set_idle(fourth, false));
        assert_eq!(table.admit(address(1), at(6), 4, 5), Admission::Refused, "not idle any more");
        assert!(table.set_idle(ids[2], true));
        assert!(matches!(table.admit(address(2), at(7), 4, 6), Admission::Admitted(_)));
        assert_eq!(
            table.admit(address(2), at(7), 4, 7),
            Admission::Refused,
            "idle connections of other addresses stay"
        );
        assert_eq!(
            displaced(table.admit(address(3), at(7), 4, 7)),
            Some(1),
            "the oldest, idle or not"
        );
    }

    #[test]
    fn a_new_address_displaces_the_oldest_connection() {
        let (mut table, start) = table(2);
        let at = |seconds| start + Duration::from_secs(seconds);
        let Admission::Admitted(first) = table.admit(address(1), at(0), 2, 1) else { panic!() };
        table.admit(address(2), at(1), 2, 2);
        assert_eq!(table.admit(address(2), at(2), 2, 3), Admission::Refused, "not a new address");
        table.remove(first);
        table.admit(address(1), at(3), 2, 1);
        assert_eq!(displaced(table.admit(address(3), at(4), 2, 4)), Some(2));
        assert_eq!(displaced(table.admit(address(4), at(5), 2, 5)), Some(1));
    }

    #[test]
    fn removing_a_displaced_connection_removes_no_other() {
        let (mut table, now) = table(1);
        let Admission::Admitted(first) = table.admit(address(1), now, 1, 1) else { panic!() };
        assert_eq!(displaced(table.admit(address(2), now, 1, 2)), Some(1));
        table.remove(first);
        assert_eq!(table.entries.len(), 1);
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_a_new_address_is_admitted(script in prop::collection::vec((0u8..12, 0u8..5), 0..300)) {
            let (mut table, start) = table(3);
            let mut admitted: Vec<EntryId> = Vec::new();
            for (step, (number, action)) in script.into_iter().enumerate() {
                let now = start + Duration::from_millis(step as u64);
                let id = admitted.get(usize::from(number)).copied();
                match (action, id) {
                    (0, Some(id)) => table.remove(id),
                    (1, Some(id)) => { table.set_idle(id, true); }
                    (2, Some(id)) => { table.set_idle(id, false); }
                    _ => {
                        let own = count(&table, address(number));
                        let is_displaceable = table.entries.iter().any(|it| it.address == address(number) && it.is_idle);
                        match table.admit(address(number), now, 8, number.into()) {
                            Admission::Admitted(id) | Admission::Displaced(id, _) => admitted.insert(0, id),
                            Admission::Refused => prop_assert!(own > 0 && !is_displaceable, "a new address, or an idle connection"),
                        }
                    }
                }
                prop_assert!(table.entries.len() <= 8 && count(&table, address(number)) <= 3);
            }
        }
    }
}
