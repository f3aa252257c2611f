//! Hostile clients, floods, the ends of time, and a restart.

use super::*;
use crate::core::queue::MOST_WAITERS;
use proptest::prelude::*;

#[test]
fn grants_that_are_never_read_do_not_keep_others_from_the_slot() {
    let start = zero();
    let mut node = Node::new(1, 9);
    node.request(&polls("first", 9), start);
    node.request(&waits("evil-1", 1), start);
    node.request(&waits("evil-2", 1), start);
    node.request(&waits("honest", 2), start);
    node.release("first", 9, start);
    // The hostile clients break the connection with the grant and come back in their grace.
    let (_, request, grant) = node.granted.remove(0);
    let now = start + 50 * MILLI;
    node.scheduler.undo(grant.lease, grant.arrival, now);
    node.advance(now);
    node.request(&request, now);
    assert_eq!(node.granted(), ["honest"], "one lease of the hostile address");
}

#[test]
fn addresses_that_are_forgotten_and_return_do_not_pass_others() {
    let start = zero();
    let mut node = Node::new(1, 9);
    node.request(&polls("honest-1", 1), start);
    node.release("honest-1", 1, start);
    let evil = |from: u32| LeaseRequest {
        duration: Some(600 * SECOND),
        ..waits(&format!("evil-{from}"), from)
    };
    node.request(&evil(2), start + SECOND);
    node.request(
        &LeaseRequest { wait: Some(9000 * SECOND), ..waits("honest", 1) },
        start + 2 * SECOND,
    );
    // Each hostile address stays away for longer than it is remembered, while another has the slot.
    for turn in 0..4 {
        let now = start + 100 * SECOND * (turn + 1);
        let (active, other) = (2 + turn % 2, 2 + (turn + 1) % 2);
        node.request(&evil(other), now);
        node.granted.clear();
        node.release(&format!("evil-{active}"), active, now);
        if node.granted() == ["honest"] {
            return;
        }
        assert!(turn == 0, "one lease of each hostile address");
    }
}

#[test]
fn floods_are_bounded_and_the_address_with_the_most_loses_its_newest() {
    let start = zero();
    let mut node = Node::new(1, 64);
    node.request(&LeaseRequest { duration: Some(600 * SECOND), ..polls("", 9) }, start);
    node.request(&waits("early", 2), start);
    for n in 0..500 {
        node.request(&waits(&format!("evil-{n}"), 1), start);
    }
    node.request(&waits("late", 3), start);
    let queue = node.scheduler.queue();
    assert_eq!(
        (queue.parked(), queue.waiters().len()),
        (64, 502),
        "the dismissed keep their order for the grace"
    );
    let is_parked = |name: &str| queue.of(name).is_some_and(Waiter::is_parked);
    assert!(is_parked("early") && is_parked("late") && is_parked("evil-61"));
    assert!(!is_parked("evil-62") && !is_parked("evil-499"));
    assert_eq!((node.dismissed.len(), node.dismissed.last()), (500 - 62, Some(&WaiterId(64))));
    assert_eq!((queue.before("early"), queue.before("late")), (Some(0), Some(2)));

    for n in 0..2 * MOST_WAITERS {
        node.request(&polls(&format!("poll-{n}"), 1), start);
        assert!(node.scheduler.queue().waiters().len() <= MOST_WAITERS);
    }
    for n in 0..2 * MOST_WAITERS as u32 {
        node.request(&polls("", 1000 + n), start);
    }
    let queue = node.scheduler.queue();
    assert!(queue.of("early").is_some() && queue.of("late").is_some());
    assert_eq!(node.scheduler.take_effects(), SchedulerEffects::default());
    node.advance(start + 40 * SECOND);
    node.advance(start + 50 * SECOND);
    let queue = node.scheduler.queue();
    assert_eq!(
        (queue.parked(), queue.waiters().len()),
        (0, 0),
        "no waiter is left after its grace"
    );
}

#[test]
fn the_ends_of_time() {
    let start = zero();
    let far = Duration::from_secs(u64::MAX);
    let mut node = Node::new(1, 9);
    node.scheduler.durations = Durations { default: far, longest: far, probe_pause: far };
    node.scheduler.request(&polls("a", 1), None, true, start);
    node.scheduler.request(&waits("b", 1), Some((WaiterId(1), after(start, far))), true, start);
    node.scheduler.expect("b", after(start, far));
    node.advance(start + Duration::from_secs(99 * 365 * 86_400));
    assert_eq!((node.scheduler.leases().len(), node.scheduler.queue().parked()), (1, 1));
    node.advance(start + Duration::from_secs(300 * 365 * 86_400));
    assert_eq!(node.scheduler.leases().len(), 0);
}

#[test]
fn a_restart_gives_each_holder_its_lease_or_its_place() {
    let start = zero();
    let mut old = Node::new(2, 9);
    for (name, from) in [("a", 1), ("b", 2), ("c", 1), ("d", 3)] {
        old.request(&waits(name, from), start);
    }
    let now = start + 4 * SECOND;
    let restored = |slots| {
        let mut new = Node::new(slots, 9);
        for _ in 0..2 {
            for lease in old.scheduler.leases().iter() {
                new.scheduler.restore_lease(lease.clone(), now);
            }
            for waiter in old.scheduler.queue().waiters() {
                new.scheduler.restore_waiter(
                    Arc::clone(&waiter.holder),
                    waiter.address,
                    waiter.arrival.since,
                    now,
                );
            }
        }
        new
    };
    let mut new = restored(2);
    assert_eq!(new.order(), old.order());
    assert_eq!(new.order(), ["d", "c"]);
    assert_eq!(new.scheduler.poll_at(now), Some(now + GRACE), "the waiters are away");
    let Placement::AlreadyGranted(Outcome::AlreadyGranted { remaining, .. }) =
        new.request(&polls("a", 1), now)
    else {
        panic!()
    };
    assert_eq!(remaining, 6 * SECOND);
    new.request(&waits("c", 1), now + SECOND);
    new.advance(now + GRACE);
    assert_eq!(new.order(), ["c"]);
    new.advance(start + 10 * SECOND);
    assert_eq!(new.granted[0].2.waited, 10 * SECOND);

    let mut late = Node::new(2, 9);
    for lease in old.scheduler.leases().iter() {
        late.scheduler.restore_lease(lease.clone(), start + 10 * SECOND);
    }
    assert!(late.scheduler.leases().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn after_a_restart_with_fewer_slots_no_grant_until_enough_have_ended(
        slots in 1usize..4, leases in 0usize..8, released in prop::collection::vec(0usize..8, 8),
    ) {
        let start = zero();
        let mut old = Node::new(9, 9);
        for n in 0..leases {
            old.request(&polls(&n.to_string(), n as u32), start);
        }
        let mut new = Node::new(slots, 9);
        for lease in old.scheduler.leases().iter() {
            new.scheduler.restore_lease(lease.clone(), start);
        }
        prop_assert_eq!(new.scheduler.leases().len(), leases, "a restored lease is kept");
        for n in 0..8 {
            new.request(&waits(&format!("w{n}"), 100 + n), start);
        }
        for (n, at) in released.iter().enumerate() {
            let granted = new.granted.len();
            let before = new.scheduler.leases().len();
            let expected = slots.saturating_sub(before);
            prop_assert_eq!(expected, 0, "a slot is free while waiters are parked");
            let ended = usize::from(new.release(&at.to_string(), *at as u32, start + n as u32 * MILLI) == ReleaseEffect::Lease);
            let grants = new.granted.len() - granted;
            prop_assert_eq!(grants, if before <= slots { ended } else { 0 });
        }
    }
}
