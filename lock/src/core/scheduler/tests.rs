//! The scheduler in named cases; the directory has the naive model.

use super::*;
use crate::core::queue::GRACE;
use crate::core::tests::{MILLI, NANO, SECOND, address, polls, waits, zero};
use std::net::{Ipv4Addr, Ipv6Addr};

mod bounds;
mod model;

fn durations() -> Durations {
    Durations { default: 10 * SECOND, longest: 600 * SECOND, probe_pause: 500 * MILLI }
}

/// Plays the owner of a scheduler, with a quota of grants.
struct Node {
    scheduler: Scheduler,
    quota: usize,
    /// Names of parked requests so far.
    parks: u64,
    ended: Vec<EndedLease>,
    dismissed: Vec<WaiterId>,
    /// Grants to parked waiters.
    granted: Vec<(WaiterId, LeaseRequest, Start)>,
}

impl Node {
    fn new(slots: usize, most_parked: usize) -> Node {
        let scheduler = Scheduler::new(slots, most_parked, durations());
        let (ended, dismissed, granted) = Default::default();
        Node { scheduler, quota: usize::MAX, parks: 0, ended, dismissed, granted }
    }

    fn advance(&mut self, now: Instant) {
        self.scheduler.expire(now);
        while self.quota > 0
            && let Some(grant) = self.scheduler.grant_next(now)
        {
            self.quota = self.quota.saturating_sub(1);
            self.granted.push(grant);
        }
        let SchedulerEffects { ended, dismissed } = self.scheduler.take_effects();
        self.ended.extend(ended);
        for parked in dismissed {
            self.scheduler.expect(parked.request.holder.as_deref().unwrap(), now + SECOND);
            self.dismissed.push(parked.id);
        }
    }

    fn request(&mut self, request: &LeaseRequest, now: Instant) -> Placement {
        self.advance(now);
        let park = request.wait.map(|wait| {
            self.parks += 1;
            (WaiterId(self.parks), now + wait)
        });
        let response = self.scheduler.request(request, park, self.quota > 0, now);
        match &response {
            Placement::Granted(_) => self.quota -= 1,
            Placement::Refused => {
                if let Some(holder) = &request.holder {
                    self.scheduler.expect(holder, now + SECOND);
                }
            }
            Placement::AlreadyGranted(_) | Placement::Parked => {}
        }
        self.advance(now);
        response
    }

    /// The names of the parked waiters that were granted a lease since the last call.
    fn granted(&mut self) -> Vec<String> {
        self.granted.drain(..).map(|(_, request, _)| request.holder.unwrap().to_string()).collect()
    }

    fn order(&self) -> Vec<&str> {
        self.scheduler.queue().order(usize::MAX).iter().map(|waiter| &*waiter.holder).collect()
    }

    fn release(&mut self, holder: &str, from: u32, now: Instant) -> ReleaseEffect {
        let released = self.scheduler.release(holder, address(from), now);
        self.advance(now);
        released
    }
}

fn start_of(response: &Placement) -> Start {
    match response {
        Placement::Granted(start) => *start,
        other => panic!("{other:?}"),
    }
}

fn is_granted(response: &Placement) -> bool {
    matches!(response, Placement::Granted(_))
}

#[test]
fn one_slot_is_free_again_exactly_at_the_deadline() {
    let start = zero();
    let mut node = Node::new(1, 9);
    assert!(is_granted(&node.request(&polls("", 1), start)));
    assert_eq!(node.request(&polls("", 2), start + 10 * SECOND - NANO), Placement::Refused);
    assert_eq!(node.ended, []);
    assert!(is_granted(&node.request(&polls("", 2), start + 10 * SECOND)));
    assert_eq!(
        (node.ended.len(), node.ended[0].end, node.ended[0].at),
        (1, LeaseEnd::Expired, start + 10 * SECOND)
    );
    assert_eq!(Node::new(0, 9).scheduler.slots(), 1, "there is always a slot");
}

#[test]
fn the_same_holder_gets_the_same_lease() {
    let start = zero();
    let mut node = Node::new(2, 9);
    let lease = start_of(&node.request(&polls("a", 1), start)).lease;
    node.quota = 0;
    for (from, has_moved) in [(1, false), (2, true), (2, false), (1, false)] {
        for request in [polls("a", from), waits("a", from)] {
            let response = node.request(&request, start + 3 * SECOND);
            let has_moved = has_moved && request.wait.is_none();
            let again = Outcome::AlreadyGranted { lease, remaining: 7 * SECOND, has_moved };
            assert_eq!(response, Placement::AlreadyGranted(again), "{from}, whatever the quota");
            assert_eq!(node.scheduler.leases().len(), 1);
        }
    }
}

#[test]
fn a_duration_is_cut_to_the_longest() {
    let start = zero();
    for (asked, duration, is_cut) in
        [(None, 10, false), (Some(600), 600, false), (Some(601), 600, true)]
    {
        let request = LeaseRequest { duration: asked.map(Duration::from_secs), ..polls("a", 1) };
        let start = start_of(&Node::new(1, 9).request(&request, start));
        assert_eq!((start.duration, start.is_cut), (duration * SECOND, is_cut));
    }
}

#[test]
fn the_holder_releases_from_its_last_address_and_this_machine_for_all() {
    let start = zero();
    for is_lease in [true, false] {
        let prepared = || {
            let mut node = Node::new(1, 9);
            if !is_lease {
                node.request(&polls("", 9), start);
            }
            node.request(&waits("a", 1), start);
            node.request(&waits("a", 2), start);
            node
        };
        let expected = if is_lease { ReleaseEffect::Lease } else { ReleaseEffect::Waiter };
        let mut node = prepared();
        assert_eq!(node.release("a", 1, start), ReleaseEffect::Nothing, "not from the old address");
        assert_eq!(node.release("b", 2, start), ReleaseEffect::Nothing, "not another holder's");
        node.dismissed.clear();
        assert_eq!(node.release("a", 2, start), expected);
        assert_eq!(node.dismissed.len(), usize::from(!is_lease), "the parked request is answered");
        assert_eq!(node.release("a", 2, start), ReleaseEffect::Nothing, "once");
        for loopback in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            assert_eq!(prepared().scheduler.release("a", loopback, start), expected);
        }
    }
}

#[test]
fn a_freed_slot_goes_to_the_first_parked_waiter_at_once() {
    let start = zero();
    let mut node = Node::new(1, 9);
    node.request(&polls("first", 9), start);
    for (name, from) in [("away", 1), ("a", 2), ("b", 3)] {
        let request = if name == "away" { polls(name, from) } else { waits(name, from) };
        node.request(&request, start);
    }
    assert_eq!(node.order(), ["away", "a", "b"]);
    node.release("first", 9, start + SECOND);
    assert_eq!(node.granted(), ["a"], "the slot is kept for no absent client");
    node.advance(start + 11 * SECOND - NANO);
    assert_eq!(node.granted(), Vec::<String>::new());
    node.advance(start + 11 * SECOND);
    assert_eq!(node.granted(), ["b"]);
}

#[test]
fn a_client_that_does_not_wait_passes_no_parked_waiter() {
    let start = zero();
    let mut node = Node::new(1, 9);
    node.quota = 0;
    node.request(&waits("a", 1), start);
    assert_eq!(node.request(&polls("", 2), start), Placement::Refused);
    node.quota = 1;
    assert_eq!(node.request(&polls("b", 2), start), Placement::Refused);
    assert_eq!(node.granted(), ["a"]);
    node.release("a", 1, start);
    node.quota = 1;
    assert!(is_granted(&node.request(&polls("b", 2), start)), "no waiter is before it");
}

#[test]
fn the_order_of_service() {
    // Name, (holder, address) in order of arrival, addresses with a lease, order of service.
    type Case<'c> = (&'c str, &'c [(&'c str, u32)], &'c [u32], &'c [&'c str]);
    let cases: &[Case] = &[
        ("an address each: arrival", &[("a", 1), ("b", 2), ("c", 3)], &[9], &["a", "b", "c"]),
        ("one for all: arrival", &[("a", 1), ("b", 1), ("c", 1)], &[9], &["a", "b", "c"]),
        (
            "two of one: in turn",
            &[("a", 1), ("b", 1), ("c", 2), ("d", 2)],
            &[9],
            &["a", "c", "b", "d"],
        ),
        ("fewest leases", &[("a", 1), ("b", 2)], &[1], &["b", "a"]),
        (
            "fewest leases, then in turn",
            &[("a", 1), ("b", 2), ("c", 2), ("d", 2)],
            &[1],
            &["b", "a", "c", "d"],
        ),
        ("one among many", &[("a", 1), ("b", 1), ("c", 1), ("h", 2)], &[1], &["h", "a", "b", "c"]),
    ];
    for (name, arrivals, leases, expected) in cases {
        let start = zero();
        let mut node = Node::new(leases.len(), 9);
        for from in *leases {
            assert!(is_granted(&node.request(&polls("", *from), start)));
        }
        for (holder, from) in *arrivals {
            node.request(&waits(holder, *from), start);
        }
        assert_eq!(node.order(), *expected, "{name}");
        for (at, holder) in expected.iter().enumerate() {
            assert_eq!(node.scheduler.queue().before(holder), Some(at), "{name}");
        }
        // The positions hold if all slots come free and no lease ends.
        node.scheduler.slots = 99;
        node.advance(start);
        assert_eq!(node.granted(), *expected, "{name}");
    }
}

#[test]
fn the_address_that_was_served_longest_ago_comes_first() {
    let start = zero();
    let mut node = Node::new(1, 9);
    for (from, at) in [(1, 0), (2, 10), (3, 20)] {
        assert!(is_granted(&node.request(&polls("", from), start + at * SECOND)));
    }
    for (holder, from) in [("b", 2), ("a", 1), ("never", 4)] {
        node.request(&waits(holder, from), start + 25 * SECOND);
    }
    assert_eq!(node.order(), ["never", "a", "b"]);
}

#[test]
fn a_holder_that_comes_back_within_the_grace_keeps_its_order() {
    let start = zero();
    let left = start + 20 * SECOND;
    for (how, returns, order) in [
        ("hangs up", GRACE - NANO, ["a", "b"]),
        ("hangs up", GRACE, ["b", "a"]),
        // The refusal asks the client to return after a second.
        ("wait ends", SECOND + GRACE - NANO, ["a", "b"]),
        ("wait ends", SECOND + GRACE, ["b", "a"]),
    ] {
        let mut node = Node::new(1, 9);
        node.request(&LeaseRequest { duration: Some(600 * SECOND), ..polls("", 9) }, start);
        node.request(&LeaseRequest { wait: Some(20 * SECOND), ..waits("a", 1) }, start);
        node.request(&waits("b", 2), start);
        if how == "hangs up" {
            assert!(node.scheduler.hang_up(WaiterId(1), left));
            assert!(!node.scheduler.hang_up(WaiterId(1), left), "once");
        }
        node.advance(left);
        let version = node.scheduler.version();
        node.advance(left + returns);
        assert_eq!(node.order().len(), if order[0] == "a" { 2 } else { 1 });
        assert_eq!(
            node.scheduler.version() > version,
            order[0] == "b",
            "a restart forgets the place, too"
        );
        node.request(&waits("a", 1), left + returns);
        assert_eq!(node.order(), order, "{how} {returns:?}");
    }
}

#[test]
fn no_slot_waits_for_a_holder_within_its_grace() {
    let start = zero();
    let mut node = Node::new(1, 9);
    node.request(&polls("first", 9), start);
    node.request(&waits("a", 1), start);
    node.scheduler.hang_up(WaiterId(1), start);
    node.request(&waits("b", 2), start);
    node.release("first", 9, start + MILLI);
    assert_eq!((node.granted(), node.order()), (vec!["b".to_owned()], vec!["a"]));
    node.release("b", 2, start + MILLI);
    assert!(is_granted(&node.request(&polls("", 3), start + MILLI)), "nor is it kept from others");
}

#[test]
fn a_holder_that_asks_anew_waits_once() {
    let start = zero();
    let mut node = Node::new(1, 9);
    node.request(&polls("first", 9), start);
    node.request(&waits("a", 1), start);
    node.request(&waits("b", 2), start);
    node.request(&waits("a", 1), start + SECOND);
    assert_eq!((node.dismissed.as_slice(), node.order()), (&[WaiterId(1)][..], vec!["a", "b"]));
    node.request(&polls("a", 1), start + 2 * SECOND);
    assert_eq!(node.dismissed, [WaiterId(1), WaiterId(3)]);
    assert_eq!((node.scheduler.queue().waiters().len(), node.scheduler.queue().parked()), (2, 1));
    node.release("first", 9, start + 3 * SECOND);
    let (_, _, grant) = &node.granted[0];
    assert_eq!(grant.waited, 3 * SECOND, "b was the only one on a connection");
}

#[test]
fn a_grant_that_was_never_read_goes_to_the_next() {
    let start = zero();
    let mut node = Node::new(1, 9);
    node.request(&polls("first", 9), start);
    for (name, from) in [("a", 1), ("b", 2)] {
        node.request(&waits(name, from), start + SECOND);
    }
    node.advance(start + 10 * SECOND);
    let typical = node.scheduler.typical;
    let (_, _, grant) = node.granted.remove(0);
    assert_eq!(
        node.scheduler.undo(grant.lease, grant.arrival, start + 10 * SECOND),
        Some(start + 10 * SECOND)
    );
    assert_eq!(node.scheduler.undo(grant.lease, grant.arrival, start + 10 * SECOND), None, "once");
    assert_eq!(node.scheduler.typical, typical, "an undone grant is no start");
    node.advance(start + 10 * SECOND);
    assert_eq!((node.granted(), node.order()), (vec!["b".to_owned()], vec!["a"]));
    node.request(&waits("a", 1), start + 11 * SECOND);
    node.advance(start + 20 * SECOND);
    assert_eq!(node.granted[0].2.waited, 19 * SECOND, "from its first request");
}

#[test]
fn a_grant_that_its_holder_has_read_is_not_undone() {
    let mut node = Node::new(1, 9);
    let grant = start_of(&node.request(&polls("a", 1), zero()));
    node.request(&polls("a", 1), zero());
    assert_eq!(node.scheduler.undo(grant.lease, grant.arrival, zero()), None);
    assert_eq!(node.scheduler.leases().len(), 1);
}
