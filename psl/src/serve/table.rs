//! Who may come in, and who has to go when it is full.
//!
//! Pure: time and addresses are arguments, a connection is whatever handle the caller keeps.
//! Invariants: the table never has more entries than its bound, except those whose last answer is being
//! written. Of one address never more than `per_address` connections ask or wait for an answer. The number of
//! connections whose answer is held back never exceeds its bound.

use std::net::IpAddr;
use std::time::Instant;

use super::Limits;

/// The connections that are open.
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
    /// When its last complete request came, or it was accepted.
    since: Instant,
    /// Its answer is held back: it is silent because it has to be.
    is_held: bool,
    /// Its last answer is being written: a client that has read it may open its next connection at once.
    is_sending: bool,
    /// Its last answer was written. The connection counts, but makes room for the next one.
    is_over: bool,
    connection: C,
}

/// How far the last answer of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// Its first byte is about to be written.
    Begun,
    /// The client does not take all of it at once.
    Stalled,
    /// It was written; the client's reaction is awaited.
    Over,
}

/// The verdict on a newcomer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<C> {
    /// There was room.
    Admitted(Id),
    /// There was none; this connection has lost its place and is to be closed.
    Displaced(Id, C),
    /// The newcomer is to be closed.
    Refused,
}

impl<C> Table<C> {
    pub(super) fn new(limits: &Limits) -> Table<C> {
        Table { per_address: limits.per_address, entries: Vec::with_capacity(limits.connections), next: 0 }
    }

    /// When it is full a *new* address displaces the connection that has been longest without a
    /// complete request, so that neither one address with many connections nor many with one can
    /// shut the door: what they hold grows old, and an honest request is complete in a moment.
    /// There is room for so many at this moment. Who is held keeps his place, and nobody else from it.
    pub(super) fn admit(&mut self, address: IpAddr, now: Instant, room: usize, connection: C) -> Admission<C> {
        let open = self.open(address).count();
        if open >= self.per_address {
            return Admission::Refused;
        }
        let displaced = if self.counted() < room {
            None
        } else {
            match self.oldest() {
                Some(oldest) if open == 0 => Some(self.entries.swap_remove(oldest).connection),
                _ => return Admission::Refused,
            }
        };
        let id = Id(self.next);
        self.next += 1;
        self.entries.push(Entry {
            id,
            address,
            since: now,
            is_held: false,
            is_sending: false,
            is_over: false,
            connection,
        });
        displaced.map_or(Admission::Admitted(id), |connection| Admission::Displaced(id, connection))
    }

    /// A complete request has come on this connection.
    pub(super) fn completed(&mut self, id: Id, now: Instant) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.since = now;
        }
    }

    /// Its answer is held back from now on, if no more than so many are. One that was displaced has
    /// nobody to hold it for.
    pub(super) fn hold(&mut self, id: Id, most: usize) -> bool {
        let held = self.entries.iter().filter(|entry| entry.is_held).count();
        match self.entries.iter_mut().find(|entry| entry.id == id) {
            Some(entry) if held < most => {
                entry.is_held = true;
                true
            }
            _ => false,
        }
    }

    /// It is answered now, and as good as one that has just asked.
    pub(super) fn let_go(&mut self, id: Id, now: Instant) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.is_held = false;
            entry.since = now;
        }
    }

    /// The connections that count against the bound on this address.
    pub(super) fn open(&self, address: IpAddr) -> impl Iterator<Item = (Id, &C)> {
        let counts = move |entry: &&Entry<C>| entry.address == address && !entry.is_held && !entry.is_sending;
        self.entries.iter().filter(counts).map(|entry| (entry.id, &entry.connection))
    }

    /// While its last answer is written the connection does not count. Afterwards it counts again if its place was not
    /// taken meanwhile; else it is out, as it is after it was displaced. Says whether it has a place.
    pub(super) fn set_sending(&mut self, id: Id, sending: Sending, room: usize) -> bool {
        let Some(at) = self.entries.iter().position(|entry| entry.id == id) else { return false };
        let is_sending = sending == Sending::Begun;
        let counts_again = self.entries[at].is_sending && !is_sending;
        if counts_again && (self.counted() >= room || self.open(self.entries[at].address).count() >= self.per_address) {
            self.entries.swap_remove(at);
            return false;
        }
        self.entries[at].is_sending = is_sending;
        self.entries[at].is_over = sending == Sending::Over;
        true
    }

    /// Takes out the oldest connection of this address whose last answer was written.
    pub(super) fn take_over(&mut self, address: IpAddr) -> Option<C> {
        let is_over = |entry: &Entry<C>| entry.address == address && entry.is_over;
        let at =
            (0..self.entries.len()).filter(|at| is_over(&self.entries[*at])).min_by_key(|at| self.entries[*at].id.0)?;
        Some(self.entries.swap_remove(at).connection)
    }

    fn counted(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.is_sending).count()
    }

    /// The connection has ended; one that was displaced is not here any more.
    pub(super) fn leave(&mut self, id: Id) {
        self.entries.retain(|entry| entry.id != id);
    }

    fn oldest(&self) -> Option<usize> {
        let open = (0..self.entries.len()).filter(|at| !self.entries[*at].is_held && !self.entries[*at].is_sending);
        open.min_by_key(|at| (!self.entries[*at].is_over, self.entries[*at].since, self.entries[*at].id.0))
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
        #[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
        let start = Instant::now();
        (Table::new(&Limits { per_address, ..super::super::LIMITS }), start)
    }

    fn displaced(admission: Admission<u32>) -> Option<u32> {
        match admission {
            Admission::Displaced(_, connection) => Some(connection),
            _ => None,
        }
    }

    /// The connections that count, and those of this address.
    fn counted(table: &Table<u32>, address: IpAddr) -> (usize, usize) {
        (table.counted(), table.open(address).count())
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
    fn a_new_address_displaces_who_was_longest_without_a_request() {
        let (mut table, start) = table(2);
        let at = |seconds| start + Duration::from_secs(seconds);
        let Admission::Admitted(first) = table.admit(address(1), at(0), 2, 1) else { panic!() };
        table.admit(address(2), at(1), 2, 2);
        assert_eq!(table.admit(address(2), at(2), 2, 3), Admission::Refused, "not a new address");
        table.completed(first, at(3));
        assert_eq!(displaced(table.admit(address(3), at(4), 2, 4)), Some(2));
        assert_eq!(displaced(table.admit(address(4), at(5), 2, 5)), Some(1));
    }

    #[test]
    fn who_was_displaced_leaves_without_taking_another_along() {
        let (mut table, now) = table(1);
        let Admission::Admitted(first) = table.admit(address(1), now, 1, 1) else { panic!() };
        assert_eq!(displaced(table.admit(address(2), now, 1, 2)), Some(1));
        table.leave(first);
        table.completed(first, now);
        assert_eq!(table.entries.len(), 1);
    }

    #[test]
    fn who_is_held_keeps_his_place_and_counts_for_nobody() {
        let (mut table, now) = table(1);
        let Admission::Admitted(first) = table.admit(address(1), now, 2, 1) else { panic!() };
        assert!(table.hold(first, 1));
        let Admission::Admitted(second) = table.admit(address(1), now, 2, 2) else { panic!("held is not open") };
        assert!(!table.hold(second, 1), "no more than one");
        assert_eq!(displaced(table.admit(address(2), now, 2, 3)), Some(2), "the older one is held");
        table.let_go(first, now);
        assert_eq!(table.admit(address(1), now, 2, 4), Admission::Refused);
        assert!(!table.hold(second, 2), "it was displaced");
    }

    #[test]
    fn a_connection_does_not_count_while_its_last_answer_is_written() {
        let (mut table, now) = table(1);
        let Admission::Admitted(first) = table.admit(address(1), now, 2, 1) else { panic!() };
        assert_eq!(table.open(address(1)).collect::<Vec<_>>(), [(first, &1)]);
        assert!(table.set_sending(first, Sending::Begun, 1));
        assert_eq!(table.open(address(1)).count(), 0);
        let Admission::Admitted(second) = table.admit(address(1), now, 1, 2) else { panic!("neither here nor in all") };
        assert!(
            table.set_sending(second, Sending::Begun, 1) && table.set_sending(second, Sending::Stalled, 1),
            "its place is free"
        );
        assert!(!table.set_sending(first, Sending::Stalled, 4), "this one's was taken by its own address");
        let Admission::Displaced(third, 2) = table.admit(address(2), now, 1, 3) else { panic!("not the older one") };
        assert!(table.set_sending(third, Sending::Begun, 1));
        assert!(matches!(table.admit(address(3), now, 1, 4), Admission::Admitted(_)));
        assert!(!table.set_sending(third, Sending::Stalled, 1), "and this one's by another");
        assert_eq!(table.entries.len(), 1);
    }

    #[test]
    fn a_connection_that_is_over_makes_room_for_the_next() {
        let (mut table, now) = table(1);
        let Admission::Admitted(first) = table.admit(address(1), now, 2, 1) else { panic!() };
        let Admission::Admitted(second) = table.admit(address(2), now, 2, 2) else { panic!() };
        assert!(table.set_sending(second, Sending::Begun, 2) && table.set_sending(second, Sending::Over, 2));
        assert_eq!(table.admit(address(2), now, 2, 3), Admission::Refused, "it counts");
        assert_eq!((table.take_over(address(1)), table.take_over(address(2))), (None, Some(2)));
        let Admission::Admitted(third) = table.admit(address(2), now, 2, 3) else { panic!("there is room") };
        assert!(table.set_sending(third, Sending::Over, 2));
        assert_eq!(displaced(table.admit(address(3), now, 2, 4)), Some(3), "before the older one, which may go on");
        table.leave(first);
        assert_eq!(table.take_over(address(2)), None);
    }

    proptest! {
        #[test]
        fn the_bounds_hold_and_a_new_address_always_comes_in(script in prop::collection::vec((0u8..12, 0u8..9), 0..300)) {
            let (mut table, start) = table(3);
            let mut inside: Vec<Id> = Vec::new();
            for (step, (who, what)) in script.into_iter().enumerate() {
                let now = start + Duration::from_millis(step as u64);
                let id = inside.get(usize::from(who)).copied();
                match (what, id) {
                    (0, Some(id)) => table.leave(id),
                    (1, Some(id)) => table.completed(id, now),
                    (2, Some(id)) => { table.hold(id, 4); }
                    (3, Some(id)) => table.let_go(id, now),
                    (4, Some(id)) => { table.set_sending(id, Sending::Begun, 8); }
                    (5, Some(id)) => { table.set_sending(id, Sending::Stalled, 8); }
                    (6, Some(id)) => { table.set_sending(id, Sending::Over, 8); }
                    (7, _) => { table.take_over(address(who)); }
                    _ => {
                        let (all, own) = counted(&table, address(who));
                        match table.admit(address(who), now, 8, who.into()) {
                            Admission::Admitted(id) | Admission::Displaced(id, _) => inside.insert(0, id),
                            Admission::Refused => prop_assert!(own > 0, "a new address"),
                        }
                        let (all_now, own_now) = counted(&table, address(who));
                        // Connections that count again may be more for a while.
                        prop_assert!(all_now <= all.max(8) && own_now <= own.max(3));
                    }
                }
                prop_assert!(table.entries.iter().filter(|entry| entry.is_held).count() <= 4);
            }
        }
    }
}
