//! Bounds of the queue under floods. Its order is tested with the scheduler.

use super::*;
use crate::core::tests::{NANO, SECOND, address, zero};

fn waiter(ticket: u64, from: u32, is_parked: bool, now: Instant) -> Waiter {
    let (holder, address) = (Some(Arc::from(ticket.to_string())), address(from));
    let request = LeaseRequest {
        address,
        holder,
        duration: None,
        ready: None,
        baseline: None,
        wait: None,
        node: None,
    };
    let holder = Arc::clone(request.holder.as_ref().unwrap());
    let presence = match is_parked {
        true => Presence::Parked(Box::new(ParkedRequest {
            id: WaiterId(ticket),
            request,
            until: now + 30 * SECOND,
        })),
        false => Presence::Away { due: now },
    };
    Waiter { arrival: Arrival { ticket, since: now }, holder, address, presence }
}

#[test]
fn the_address_with_the_most_waiters_of_a_kind_loses_its_newest() {
    let now = zero();
    let mut queue = Queue::new(4);
    let mut removed = Vec::new();
    for (ticket, from) in [(1, 1), (2, 2), (3, 2), (4, 1), (5, 3), (6, 2), (7, 4)] {
        removed.extend(
            queue.insert(waiter(ticket, from, true, now)).map(|waiter| waiter.arrival.ticket),
        );
    }
    // Of two addresses with two each, the newest of all; then of the one that is left with two.
    assert_eq!((removed, queue.parked()), (vec![4, 6, 3], 4));
    for n in 0..MOST_WAITERS as u64 {
        let removed = queue.insert(waiter(100 + n, if n % 3 == 0 { 1 } else { 2 }, false, now));
        assert!(removed.is_none_or(|waiter| !waiter.is_parked() && waiter.address == address(2)));
    }
    assert_eq!((queue.parked(), queue.waiters().len()), (4, MOST_WAITERS));
    assert!(queue.waiters().is_sorted_by_key(|waiter| waiter.arrival.ticket));
}

#[test]
fn waits_and_graces_end_exactly() {
    let start = zero();
    let mut queue = Queue::new(9);
    assert!(
        queue.insert(waiter(1, 1, true, start)).is_none()
            && queue.insert(waiter(2, 1, false, start)).is_none()
    );
    assert_eq!(queue.poll_at(), Some(start + GRACE));
    queue.expect("2", start + 8 * SECOND);
    queue.expect("1", start + 8 * SECOND);
    assert_eq!(
        queue.poll_at(),
        Some(start + 8 * SECOND + GRACE),
        "a parked waiter is expected at no time"
    );
    assert_eq!(queue.expire_one(start + 8 * SECOND + GRACE - NANO), None);
    assert_eq!(queue.expire_one(start + 8 * SECOND + GRACE).unwrap().arrival.ticket, 2);
    assert_eq!(queue.expire_one(start + 30 * SECOND - NANO), None);
    assert_eq!(queue.expire_one(start + 30 * SECOND).unwrap().arrival.ticket, 1);
    assert_eq!((queue.poll_at(), queue.parked()), (None, 0));
}

#[test]
fn a_flood_of_addresses_is_bounded_and_busy_ones_are_remembered() {
    let start = zero();
    let mut queue = Queue::new(9);
    for n in 0..8 {
        queue.note_lease(address(n), start);
    }
    assert!(queue.insert(waiter(1, 50, true, start)).is_none());
    queue.note_lease(address(50), start);
    queue.note_end(address(50), start);
    let most = 8 + 1 + MOST_REMEMBERED + 1;
    for n in 0..5 * MOST_REMEMBERED as u32 {
        queue.note_request(address(1000 + n), start);
        assert!(queue.addresses.len() <= most, "{}", queue.addresses.len());
    }
    assert!((0..8).all(|n| queue.addresses[&address(n)].leases == 1));
    assert_eq!(queue.standing(address(50)).0, 0);
    for n in 0..8 {
        queue.note_end(address(n), start);
    }
    queue.note_request(address(60), start + MEMORY - NANO);
    let served = queue.standing(address(0)).1;
    assert!(served.is_some());
    queue.note_request(address(60), start + MEMORY + SECOND);
    let known: Vec<_> = queue.addresses.keys().copied().collect();
    assert!(
        known.len() == 2 && known.contains(&address(50)) && known.contains(&address(60)),
        "{known:?}"
    );
    assert!(queue.standing(address(0)).1 >= served, "an unknown address counts as served then");
}
