//! The connections that a thread waits for: which are admitted, and which are displaced when it is full.
//!
//! Pure: time and addresses are arguments, a connection is whatever handle the caller keeps.
//! Invariant: the table never has more entries than its bound, nor more than `per_address` of one address.

use std::net::IpAddr;
use std::time::Instant;

use super::Limits;

/// The connections that have a place.
pub(super) struct Table<C> {
    per_address: usize,
    entries: Vec<Entry<C>>,
    next: u64,
}

/// Names an entry for as long as it is in the table, and nothing else ever after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(u64);

struct Entry<C> {
    id: Id,
    address: IpAddr,
    /// When the wait for its client began.
    since: Instant,
    /// It was answered, and has not begun another request.
    is_idle: bool,
    connection: C,
}

/// The verdict on a newcomer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<C> {
    /// There was room.
    Admitted(Id),
    /// There was no room; this connection has lost its place and is to be closed.
    Displaced(Id, C),
    /// The newcomer is to be closed.
    Refused,
}

impl<C> Table<C> {
    pub(super) fn new(limits: &Limits) -> Table<C> {
        Table {
            per_address: limits.per_address,
            entries: Vec::with_capacity(limits.connections),
            next: 0,
        }
    }

    /// Without room an address gives up one of its own connections, the one that was idle for longest: its client has its
    /// answer, and may have closed the connection already. A *new* address displaces the connection that has been waited for
    /// longest, so that neither one address with many connections nor many with one can shut others out: their
    /// connections grow old, and an honest request is complete in a moment. `room` is the present bound.
    pub(super) fn admit(
        &mut self,
        address: IpAddr,
        now: Instant,
        room: usize,
        connection: C,
    ) -> Admission<C> {
        let own = self.entries.iter().filter(|entry| entry.address == address).count();
        let is_full = own >= self.per_address || self.entries.len() >= room;
        let gives_way = |entry: &Entry<C>| own == 0 || (entry.address == address && entry.is_idle);
        let displaced = match self.oldest(gives_way) {
            _ if !is_full => None,
            Some(oldest) => Some(self.entries.swap_remove(oldest).connection),
            None => return Admission::Refused,
        };
        let id = Id(self.next);
        self.next += 1;
        self.entries.push(Entry { id, address, since: now, is_idle: false, connection });
        displaced.map_or(Admission::Admitted(id), |connection| Admission::Displaced(id, connection))
    }

    /// Says whether the connection still has its place.
    pub(super) fn set_idle(&mut self, id: Id, is_idle: bool) -> bool {
        let entry = self.entries.iter_mut().find(|entry| entry.id == id);
        entry.map(|entry| entry.is_idle = is_idle).is_some()
    }

    /// No thread waits for it any more; one that was displaced is not here.
    pub(super) fn leave(&mut self, id: Id) {
        self.entries.retain(|entry| entry.id != id);
    }

    fn oldest(&self, is_meant: impl Fn(&Entry<C>) -> bool) -> Option<usize> {
        let meant = (0..self.entries.len()).filter(|at| is_meant(&self.entries[*at]));
        meant.min_by_key(|at| (self.entries[*at].since, self.entries[*at].id.0))
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

    fn table(per_address: usize) -> (Table<u32>, Instant) {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the zero of virtual time"
        )]
        let start = Instant::now();
        (Table::new(&Limits { per_address, ..super::super::LIMITS }), start)
    }

    fn displaced(admission: Admission<u32>) -> Option<u32> {
        match admission {
            Admission::Displaced(_, connection) => Some(connection),
            _ => None,
        }
    }

    fn of(table: &Table<u32>, address: IpAddr) -> usize {
        table.entries.iter().filter(|entry| entry.address == address).count()
    }

    #[test]
    fn one_address_gets_its_share_and_no_more() {
        let (mut table, now) = table(2);
        assert!(matches!(table.admit(address(1), now, 4, 0), Admission::Admitted(_)));
        let Admission::Admitted(second) = table.admit(address(1), now, 4, 1) else { panic!() };
        assert_eq!(table.admit(address(1), now, 4, 2), Admission::Refused);
        table.leave(second);
        assert!(matches!(table.admit(address(1), now, 4, 3), Admission::Admitted(_)));
    }

    #[test]
    fn an_idle_connection_gives_way_to_the_next_of_its_address() {
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
        assert!(!table.set_idle(ids[1], true), "it has no place");
        assert!(table.set_idle(ids[2], false));
        assert_eq!(
            table.admit(address(1), at(6), 4, 5),
            Admission::Refused,
            "all have requests under way"
        );
        assert!(table.set_idle(fourth, true) && table.set_idle(fourth, false));
        assert_eq!(table.admit(address(1), at(6), 4, 5), Admission::Refused, "it is idle no more");
        assert!(table.set_idle(ids[2], true));
        assert!(matches!(table.admit(address(2), at(7), 4, 6), Admission::Admitted(_)));
        assert_eq!(
            table.admit(address(2), at(7), 4, 7),
            Admission::Refused,
            "those of other addresses stay"
        );
        assert_eq!(
            displaced(table.admit(address(3), at(7), 4, 7)),
            Some(1),
            "the oldest, idle or not"
        );
    }

    #[test]
    fn a_new_address_displaces_the_connection_that_was_waited_for_longest() {
        let (mut table, start) = table(2);
        let at = |seconds| start + Duration::from_secs(seconds);
        let Admission::Admitted(first) = table.admit(address(1), at(0), 2, 1) else { panic!() };
        table.admit(address(2), at(1), 2, 2);
        assert_eq!(table.admit(address(2), at(2), 2, 3), Admission::Refused, "not a new address");
        table.leave(first);
        table.admit(address(1), at(3), 2, 1);
        assert_eq!(displaced(table.admit(address(3), at(4), 2, 4)), Some(2));
        assert_eq!(displaced(table.admit(address(4), at(5), 2, 5)), Some(1));
    }

    #[test]
    fn a_displaced_connection_leaves_without_taking_another_along() {
        let (mut table, now) = table(1);
        let Admission::Admitted(first) = table.admit(address(1), now, 1, 1) else { panic!() };
        assert_eq!(displaced(table.admit(address(2), now, 1, 2)), Some(1));
        table.leave(first);
        assert_eq!(table.entries.len(), 1);
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_a_new_address_always_comes_in(script in prop::collection::vec((0u8..12, 0u8..5), 0..300)) {
            let (mut table, start) = table(3);
            let mut inside: Vec<Id> = Vec::new();
            for (step, (who, what)) in script.into_iter().enumerate() {
                let now = start + Duration::from_millis(step as u64);
                let id = inside.get(usize::from(who)).copied();
                match (what, id) {
                    (0, Some(id)) => table.leave(id),
                    (1, Some(id)) => { table.set_idle(id, true); }
                    (2, Some(id)) => { table.set_idle(id, false); }
                    _ => {
                        let own = of(&table, address(who));
                        let gives_way = table.entries.iter().any(|it| it.address == address(who) && it.is_idle);
                        match table.admit(address(who), now, 8, who.into()) {
                            Admission::Admitted(id) | Admission::Displaced(id, _) => inside.insert(0, id),
                            Admission::Refused => prop_assert!(own > 0 && !gives_way, "a new address, or an idle one"),
                        }
                    }
                }
                prop_assert!(table.entries.len() <= 8 && of(&table, address(who)) <= 3);
            }
        }
    }
}
