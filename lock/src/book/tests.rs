//! The book against named cases, against a naive model, and in virtual time.

use super::*;
use crate::queue::{GRACE, MOST, RETURN};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

mod model;
mod morning;

const NANO: Duration = Duration::from_nanos(1);
const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
fn zero() -> Instant {
    Instant::now()
}

fn address(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + n).into()
}

fn book(slots: usize) -> Book {
    Book::new(slots, 10 * SECOND, 500 * MILLI)
}

fn request(holder: &str, from: u32) -> Request<'_> {
    Request {
        holder: Some(holder),
        address: address(from),
        duration: 10 * SECOND,
        ready: None,
        wait: None,
        is_quiet: false,
    }
}

fn stranger<'a>(from: u32) -> Request<'a> {
    Request { holder: None, ..request("", from) }
}

fn waiting(holder: &str, from: u32) -> Request<'_> {
    Request { wait: Some(10 * SECOND), ..request(holder, from) }
}

fn id(told: Told) -> Id {
    match told {
        Told::Granted { id, .. } | Told::Again { id, .. } => id,
        other => panic!("{other:?}"),
    }
}

fn before(told: Told) -> Before {
    match told {
        Told::Granted { before, .. } => before,
        other => panic!("{other:?}"),
    }
}

fn seat(told: Told) -> Seat {
    match told {
        Told::Held { seat, .. } => seat,
        other => panic!("{other:?}"),
    }
}

fn refusal(told: Told) -> Refusal {
    match told {
        Told::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn is_granted(told: Told) -> bool {
    matches!(told, Told::Granted { .. })
}

fn line(book: &Book) -> Vec<&str> {
    book.queue().line(usize::MAX).iter().map(|place| &*place.holder).collect()
}

#[test]
fn one_slot_is_free_again_exactly_at_the_deadline() {
    let start = zero();
    let mut book = book(1);
    assert!(is_granted(book.ask(&stranger(1), None, start)));
    assert!(!is_granted(book.ask(&stranger(2), None, start + 10 * SECOND - NANO)));
    assert_eq!(book.news().ended, []);
    assert!(is_granted(book.ask(&stranger(2), None, start + 10 * SECOND)));
    let ended = book.news().ended;
    assert_eq!((ended.len(), ended[0].1, ended[0].2), (1, How::Expired, start + 10 * SECOND));
}

#[test]
fn the_same_holder_gets_the_same_lease() {
    let start = zero();
    let mut book = book(2);
    let first = id(book.ask(&request("a", 1), None, start));
    for (from, moved) in [(1, false), (2, true), (2, false), (1, false)] {
        let told = book.ask(&request("a", from), None, start + 3 * SECOND);
        assert_eq!(told, Told::Again { id: first, remaining: 7 * SECOND, has_moved: moved }, "{from}");
        assert_eq!(book.leases().count(), 1);
    }
    assert!(matches!(book.ask(&request("a", 1), Some(SECOND), start), Told::Again { .. }), "whatever the checks say");
}

#[test]
fn a_move_takes_the_right_to_give_up_along() {
    let start = zero();
    for is_lease in [true, false] {
        let mut book = book(1);
        if !is_lease {
            book.ask(&stranger(9), None, start);
        }
        let expected = if is_lease { GivenUp::Lease } else { GivenUp::Place };
        book.ask(&request("a", 1), None, start);
        book.ask(&request("a", 2), None, start);
        assert_eq!(book.give_up("a", address(1), start), GivenUp::Nothing, "not from the old address");
        assert_eq!(book.give_up("b", address(2), start), GivenUp::Nothing, "not of somebody else");
        assert_eq!(book.give_up("a", address(2), start), expected);
        assert_eq!(book.give_up("a", address(2), start), GivenUp::Nothing, "once");
    }
}

#[test]
fn this_machine_may_give_up_for_anybody() {
    for from in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let mut book = book(1);
        book.ask(&request("a", 1), None, zero());
        assert_eq!(book.give_up("a", from, zero()), GivenUp::Lease);
    }
}

#[test]
fn a_slot_is_kept_for_the_head_until_half_a_second_after_it_was_due() {
    let start = zero();
    let mut book = book(1);
    book.ask(&stranger(9), None, start);
    let due = start + refusal(book.ask(&request("a", 1), None, start)).retry_after;
    let end = due.max(start + 10 * SECOND);
    book.ask(&request("b", 2), None, end - NANO);
    assert!(!is_granted(book.ask(&request("b", 2), None, due + GRACE - NANO)));
    assert!(!is_granted(book.ask(&stranger(3), None, due + GRACE - NANO)));
    let then = due + GRACE;
    assert!(is_granted(book.ask(&request("b", 2), None, then)), "the first behind it that asks");
    assert_eq!(line(&book), ["a"], "the head keeps its place");
    book.ask(&request("c", 3), None, then);
    assert_eq!(refusal(book.ask(&request("a", 1), None, then)).position, Some(1));
}

#[test]
fn who_lets_slots_go_by_cannot_keep_them_empty() {
    let start = zero();
    let mut book = book(1);
    book.ask(&request("first", 9), None, start);
    let mut now = start;
    let mut idle = Vec::new();
    for turn in 0..6 {
        // It asks while the slot is taken, and never when it is kept for it.
        let told = refusal(book.ask(&request("evil", 1), None, now));
        assert_eq!(told.position, Some(1), "it keeps its place");
        let name = format!("honest-{turn}");
        let waits = waiting(&name, 10 + turn);
        let honest = seat(book.ask(&waits, None, now));
        let holder = book.leases().iter().next().unwrap().holder.clone().unwrap();
        let from = book.leases().iter().next().unwrap().address;
        book.news();
        assert_eq!(book.give_up(&holder, from, now), GivenUp::Lease);
        let freed = now;
        if book.news().called.is_empty() {
            now = book.next_event(now).unwrap();
            book.tick(None, now);
            assert_eq!(book.news().called, [honest], "{turn}");
        }
        assert!(is_granted(book.resume(&waits, honest, now + SECOND, None, now)));
        idle.push(now - freed);
    }
    assert!(idle[0] > Duration::ZERO && idle[0] <= 10 * SECOND + GRACE, "{idle:?}");
    assert!(idle[2..].iter().all(Duration::is_zero), "{idle:?}");
}

#[test]
fn those_who_stay_away_do_not_put_their_neighbours_behind() {
    let start = zero();
    let mut book = book(1);
    book.ask(&stranger(9), None, start);
    for name in ["dead-1", "dead-2", "dead-3"] {
        let held = seat(book.ask(&waiting(name, 1), None, start));
        book.hung_up(held, start);
    }
    let live = seat(book.ask(&waiting("live", 1), None, start));
    let other = seat(book.ask(&waiting("other", 2), None, start));
    book.news();
    book.tick(None, start + 10 * SECOND);
    assert_eq!(book.news().called, [live], "its address was not served longer than the other's, and it came first");
    assert!(live != other);
}

#[test]
fn who_has_no_place_is_served_when_nobody_who_has_one_is_due() {
    let start = zero();
    let mut book = book(2);
    for n in 1..=2 {
        book.ask(&stranger(n), None, start);
    }
    let due = start + refusal(book.ask(&request("a", 1), None, start)).retry_after;
    let then = start + 10 * SECOND;
    assert!(then < due + GRACE);
    assert!(is_granted(book.ask(&stranger(3), None, then)), "two are free, one is kept");
    assert!(!is_granted(book.ask(&stranger(4), None, then)));
    assert!(book.is_free(then).is_err(), "a probe is told what a stranger is");
    assert!(is_granted(book.ask(&stranger(4), None, due + GRACE)));
}

#[test]
fn a_place_lives_for_a_minute_or_three_times_what_it_was_told() {
    let start = zero();
    let mut book = book(1);
    let long = Request { duration: 600 * SECOND, ..stranger(9) };
    book.ask(&long, None, start);
    let told = refusal(book.ask(&request("a", 1), None, start)).retry_after;
    let life = (told * 3).max(60 * SECOND);
    assert!(life > 60 * SECOND, "{told:?}");
    book.pass(start + life - NANO);
    assert_eq!(line(&book), ["a"]);
    book.pass(start + life);
    assert!(line(&book).is_empty());
    book.ask(&request("a", 1), Some(SECOND), start + life);
    book.pass(start + life + 60 * SECOND - NANO);
    assert_eq!(line(&book), ["a"]);
    book.pass(start + life + 60 * SECOND);
    assert!(line(&book).is_empty());
}

#[test]
fn the_order_of_the_line() {
    // (holder, address) in order of arrival; who has a lease; then the line.
    type Case<'c> = (&'c str, &'c [(&'c str, u32)], &'c [u32], &'c [&'c str]);
    let cases: &[Case] = &[
        ("an address each: arrival", &[("a", 1), ("b", 2), ("c", 3)], &[9], &["a", "b", "c"]),
        ("one for all: arrival", &[("a", 1), ("b", 1), ("c", 1)], &[9], &["a", "b", "c"]),
        ("two of one: in turn", &[("a", 1), ("b", 1), ("c", 2), ("d", 2)], &[9], &["a", "c", "b", "d"]),
        ("fewest leases", &[("a", 1), ("b", 2)], &[1], &["b", "a"]),
        ("fewest leases, then in turn", &[("a", 1), ("b", 2), ("c", 2), ("d", 2)], &[1], &["b", "a", "c", "d"]),
        (
            "an honest one among many",
            &[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("h", 2)],
            &[1],
            &["h", "a", "b", "c", "d"],
        ),
    ];
    for (name, arrivals, leases, expected) in cases {
        let start = zero();
        let mut book = book(leases.len());
        for from in *leases {
            assert!(is_granted(book.ask(&stranger(*from), None, start)));
        }
        for (holder, from) in *arrivals {
            book.ask(&request(holder, *from), None, start);
        }
        assert_eq!(line(&book), *expected, "{name}");
    }
}

#[test]
fn served_longest_ago_comes_first() {
    let start = zero();
    let mut book = book(1);
    for (from, at) in [(1, 0), (2, 10), (3, 20)] {
        assert!(is_granted(book.ask(&stranger(from), None, start + at * SECOND)));
    }
    let now = start + 25 * SECOND;
    for (holder, from) in [("b", 2), ("a", 1), ("never", 4)] {
        book.ask(&request(holder, from), None, now);
    }
    assert_eq!(line(&book), ["never", "a", "b"]);
    let mut later = self::book(1);
    later.ask(&Request { duration: SECOND, ..stranger(1) }, None, start);
    later.pass(start + SECOND);
    let now = start + SECOND + MEMORY;
    later.ask(&stranger(9), None, now);
    later.ask(&request("b", 2), None, now);
    later.ask(&request("a", 1), None, now);
    assert_eq!(line(&later), ["b", "a"], "an address without lease and place is forgotten after a minute");
}

#[test]
fn ten_thousand_holders_of_one_address_delay_an_honest_one_by_one_lease() {
    let start = zero();
    let mut book = book(1);
    let names: Vec<String> = (0..10_000).map(|n| format!("evil-{n}")).collect();
    for name in &names {
        book.ask(&request(name, 1), None, start);
    }
    assert_eq!((book.leases().count(), book.queue().places().len()), (1, MOST));
    let told = refusal(book.ask(&request("honest", 2), None, start));
    assert_eq!(told.position, Some(1));
    assert_eq!(book.queue().places().len(), MOST, "it took the place of their newest");
    for name in &names {
        book.ask(&request(name, 1), None, start + 10 * SECOND);
    }
    assert!(is_granted(book.ask(&request("honest", 2), None, start + 10 * SECOND)));
}

#[test]
fn when_the_queue_is_full_the_address_with_the_most_places_loses_its_newest() {
    let start = zero();
    let mut book = book(1);
    book.ask(&stranger(9), None, start);
    let names: Vec<String> = (0..MOST).map(|n| n.to_string()).collect();
    for (n, name) in names.iter().enumerate() {
        book.ask(&request(name, if n < MOST / 2 + 1 { 1 } else { 2 }), None, start);
    }
    let has = |book: &Book, name: &str| book.queue().of(name).is_some();
    assert_eq!(refusal(book.ask(&request("x", 1), None, start)).position, None, "it has the most itself");
    assert!(refusal(book.ask(&request("y", 3), None, start)).position.is_some());
    assert!(!has(&book, &names[MOST / 2]) && has(&book, &names[MOST / 2 - 1]) && has(&book, &names[MOST - 1]));
    assert_eq!(book.queue().places().len(), MOST);
}

#[test]
fn those_next_in_line_are_held_and_called_one_for_each_slot() {
    let start = zero();
    let mut book = book(1);
    let first = id(book.ask(&request("a", 1), None, start));
    let (b, c) = (seat(book.ask(&waiting("b", 2), None, start)), seat(book.ask(&waiting("c", 3), None, start)));
    assert_eq!(book.give_up("a", address(1), start + SECOND), GivenUp::Lease);
    assert_eq!(book.news().called, [b], "nobody else wakes");
    assert!(book.leases().of("a").is_none() && book.leases().count() == 0, "{first:?}");
    let until = start + 10 * SECOND;
    assert!(!is_granted(book.ask(&stranger(4), None, start + SECOND)), "it is kept for who is held");
    assert!(is_granted(book.resume(&waiting("b", 2), b, until, None, start + SECOND)));
    assert!(!book.news().called.contains(&c));
    book.tick(None, start + 11 * SECOND);
    assert_eq!(book.news().called, [c]);
}

#[test]
fn a_held_request_ends_when_it_has_waited_for_as_long_as_it_may() {
    let start = zero();
    let mut book = book(1);
    book.ask(&Request { duration: 600 * SECOND, ..stranger(9) }, None, start);
    for (wait, held) in [(10, 10), (30, 30), (31, 30), (u64::MAX, 30)] {
        let request = Request { wait: Some(Duration::from_secs(wait)), ..waiting("a", 1) };
        let Told::Held { seat, until } = book.ask(&request, None, start) else { panic!("{wait}") };
        assert_eq!(until, start + held * SECOND);
        assert!(matches!(book.resume(&request, seat, until, None, until - NANO), Told::Held { .. }));
        assert_eq!(refusal(book.resume(&request, seat, until, None, until)).retry_after, SECOND);
    }
}

#[test]
fn a_client_that_hung_up_keeps_its_place_but_no_slot() {
    let start = zero();
    let mut book = book(1);
    book.ask(&stranger(9), None, start);
    let a = seat(book.ask(&waiting("a", 1), None, start));
    let b = seat(book.ask(&waiting("b", 2), None, start));
    book.tick(None, start + 10 * SECOND);
    assert_eq!(book.news().called, [a]);
    book.hung_up(a, start + 10 * SECOND);
    assert_eq!(book.news().called, [b], "the next is called at once");
    assert_eq!(line(&book), ["a", "b"]);
}

#[test]
fn a_client_that_hung_up_loses_its_place_unless_it_comes_back() {
    let start = zero();
    let hung_up = start + 20 * SECOND;
    for (asks_again, expected) in [
        (None, &["b"][..]),
        (Some(hung_up + RETURN), &["b", "a"]),
        (Some(hung_up + RETURN - NANO), &["a", "b"]),
        (Some(hung_up), &["a", "b"]),
    ] {
        let mut book = book(1);
        book.ask(&Request { duration: 600 * SECOND, ..stranger(9) }, None, start);
        let a = seat(book.ask(&waiting("a", 1), None, start));
        book.ask(&waiting("b", 2), None, start);
        // Looked through for whom to forget before the client hangs up, as the clock does.
        book.tick(None, hung_up - NANO);
        book.hung_up(a, hung_up);
        let version = book.version();
        match asks_again {
            Some(at) => drop(book.ask(&waiting("a", 1), None, at)),
            None => book.tick(None, hung_up + RETURN - NANO),
        }
        assert_eq!(line(&book).len(), 2);
        book.tick(None, hung_up + RETURN);
        assert_eq!(line(&book), expected, "{asks_again:?}");
        assert!(asks_again.is_some() || book.version() > version, "a restart is to forget the place, too");
    }
}

#[test]
fn a_grant_that_cannot_be_told_is_as_if_it_had_not_been() {
    let start = zero();
    let mut book = book(1);
    book.ask(&stranger(1), None, start);
    book.ask(&request("a", 1), None, start + SECOND);
    book.ask(&request("b", 2), None, start + 2 * SECOND);
    let then = start + 13 * SECOND;
    let b = book.ask(&request("b", 2), None, then);
    book.undo(id(b), before(b), then);
    assert_eq!((book.leases().count(), line(&book)), (0, vec!["b", "a"]), "its address was never served");
    assert!(is_granted(book.ask(&request("a", 1), None, then)), "nothing is kept for who has gone");
    assert_eq!(line(&book), ["b"]);
}

#[test]
fn a_grant_that_its_holder_has_heard_of_is_not_undone() {
    let mut book = book(1);
    let granted = book.ask(&request("a", 1), None, zero());
    book.ask(&request("a", 1), None, zero());
    book.undo(id(granted), before(granted), zero());
    assert_eq!(book.leases().count(), 1);
}

#[test]
fn a_holder_that_asks_anew_is_held_once() {
    let start = zero();
    let mut book = book(1);
    book.ask(&stranger(9), None, start);
    let old = seat(book.ask(&waiting("a", 1), None, start));
    let new = seat(book.ask(&waiting("a", 1), None, start));
    assert!(old != new);
    assert_eq!(book.news().called, [old], "the old one is to answer");
    assert!(matches!(book.resume(&waiting("a", 1), old, start + SECOND, None, start), Told::Refused(_)));
    assert_eq!((book.queue().places().len(), book.queue().seats()), (1, 1));
}

#[test]
fn seats_are_for_those_who_come_next() {
    let start = zero();
    let mut book = book(1);
    book.ask(&stranger(1), None, start);
    let names: Vec<String> = (0..SEATS + 1).map(|n| n.to_string()).collect();
    let seats: Vec<_> = names[..SEATS].iter().map(|name| seat(book.ask(&waiting(name, 1), None, start))).collect();
    let late = refusal(book.ask(&waiting(&names[SEATS], 1), None, start));
    assert_eq!(late.position, Some(SEATS + 1));
    book.news();
    seat(book.ask(&waiting("honest", 2), None, start));
    assert_eq!(book.news().called, [seats[SEATS - 1]], "the last one gets up");
    assert_eq!(book.queue().seats(), SEATS);
}

#[test]
fn closed_checks_hold_everybody_back_but_take_names() {
    let start = zero();
    let mut book = book(1);
    let told = refusal(book.ask(&waiting("a", 1), Some(7 * SECOND + NANO), start));
    assert_eq!((told.retry_after, told.position), (8 * SECOND, Some(1)));
    assert_eq!(refusal(book.ask(&stranger(2), Some(7 * SECOND), start)).position, None);
    assert!(is_granted(book.ask(&waiting("a", 1), None, start)));
    let held = seat(book.ask(&waiting("b", 2), None, start));
    book.news();
    book.close();
    assert_eq!(book.news().called, [held], "who is held back is told");
    let until = start + 10 * SECOND;
    assert!(matches!(book.resume(&waiting("b", 2), held, until, Some(SECOND), start), Told::Refused(_)));
}

#[test]
fn a_port_that_is_open_before_the_application_runs_says_nothing() {
    let start = zero();
    let ready = Ready::parse("tcp:80").unwrap();
    let asked = Request { ready: Some(&ready), ..request("a", 1) };
    let mut book = book(1);
    let granted = id(book.ask(&asked, None, start));
    let target = book.first_look(granted).unwrap();
    assert_eq!((target.address, &target.ready), (address(1), &ready));
    book.first_looked(&target, Seen::Open, start);
    assert_eq!(book.due_look(start + 9 * SECOND), None);
    assert_eq!(book.leases().count(), 1);
}

#[test]
fn looks_come_after_a_tenth_of_the_age_and_the_first_success_ends_the_lease() {
    let start = zero();
    let ready = Ready::parse("tcp:80").unwrap();
    let mut book = book(1);
    let granted = id(book.ask(&Request { ready: Some(&ready), ..request("a", 1) }, None, start));
    let target = book.first_look(granted).unwrap();
    book.first_looked(&target, Seen::Closed, start);
    // Milliseconds of age at a look, and from there to the next.
    for (age, pause) in [(0, 20), (100, 20), (1000, 100), (4000, 400), (9000, 500)] {
        let now = start + age * MILLI;
        if age > 0 {
            assert_eq!(book.due_look(now), Some(target.clone()), "{age}");
            assert!(!book.has_due_look(now), "one looks at a time");
            assert!(!book.looked(&target, Seen::Closed, MILLI, now));
        }
        assert_eq!(book.next_event(now), Some(now + pause * MILLI), "{age}");
        assert_eq!(book.due_look(now + pause * MILLI - NANO), None, "{age}");
    }
    let now = start + 9600 * MILLI;
    assert_eq!(book.due_look(now), Some(target.clone()));
    assert!(!book.looked(&target, Seen::Open, MILLI, now));
    assert_eq!(book.news().ended[0].1, How::Ready);
    assert_eq!(book.leases().count(), 0);
}

#[test]
fn a_port_that_was_never_seen_closed_means_something_only_once_an_application_can_run() {
    let start = zero();
    let ready = Ready::parse("http:80/").unwrap();
    for (name, second_look, age, says_nothing, ends) in [
        ("too soon", Seen::Silent, TOO_SOON - NANO, true, false),
        ("late enough", Seen::Silent, TOO_SOON, false, true),
        ("seen closed before", Seen::Closed, TOO_SOON - NANO, false, true),
    ] {
        let mut book = book(1);
        let granted = id(book.ask(&Request { ready: Some(&ready), ..request("a", 1) }, None, start));
        let target = book.first_look(granted).unwrap();
        book.first_looked(&target, Seen::Silent, start + 50 * MILLI);
        let target = book.due_look(start + 70 * MILLI).unwrap();
        book.looked(&target, second_look, MILLI, start + 70 * MILLI);
        let target = book.due_look(start + age).unwrap();
        assert_eq!(book.looked(&target, Seen::Open, MILLI, start + age), says_nothing, "{name}");
        assert_eq!(book.leases().count() == 0, ends, "{name}");
        assert_eq!(book.due_look(start + 9 * SECOND), None, "{name}");
    }
}

#[test]
fn ports_that_hang_do_not_hold_up_the_looks_at_others() {
    let start = zero();
    let ready = Ready::parse("tcp:80").unwrap();
    let mut book = book(9);
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        let granted = id(book.ask(&Request { ready: Some(&ready), ..request(name, 1) }, None, start));
        let target = book.first_look(granted).unwrap();
        book.first_looked(&target, Seen::Closed, start);
    }
    let then = start + SECOND;
    let targets: Vec<_> = names.iter().map(|_| book.due_look(then).unwrap()).collect();
    for target in &targets[..4] {
        book.looked(target, Seen::Silent, LONG_LOOK, then);
    }
    book.looked(&targets[4], Seen::Closed, LONG_LOOK - NANO, then);
    let later = then + SECOND;
    let looks: Vec<_> = std::iter::from_fn(|| book.due_look(later)).map(|target| target.id).collect();
    assert_eq!(looks.len(), AT_SLOW_PORTS + 1, "two of the slow ones and the quick one");
    assert!(looks.contains(&targets[4].id) && !book.has_due_look(later));
}

#[test]
fn looks_follow_the_holder_to_its_new_address() {
    let start = zero();
    let ready = Ready::parse("http:80/").unwrap();
    let mut book = book(1);
    let asked = |from| Request { ready: Some(&ready), ..request("a", from) };
    let granted = id(book.ask(&asked(1), None, start));
    let old = book.first_look(granted).unwrap();
    book.first_looked(&old, Seen::Closed, start);
    let old = book.due_look(start + SECOND).unwrap();
    book.ask(&asked(2), None, start + SECOND);
    book.looked(&old, Seen::Open, MILLI, start + SECOND);
    assert_eq!(book.leases().count(), 1, "what answered at the old address is not it");
    assert_eq!(book.first_look(granted).unwrap().address, address(2));
}

#[test]
fn a_barred_address_is_not_looked_at_again() {
    let (ready, start) = (Ready::parse("tcp:80").unwrap(), zero());
    let mut book = book(1);
    let asked = |from| Request { ready: Some(&ready), ..request("a", from) };
    let granted = id(book.ask(&asked(1), None, start));
    let target = book.first_look(granted).unwrap();
    book.first_looked(&target, Seen::Barred("a gateway"), start);
    assert!(!book.is_watching() && book.first_look(granted).is_none() && book.due_look(start + SECOND).is_none());
    book.ask(&asked(2), None, start);
    assert_eq!(book.first_look(granted).map(|target| target.address), Some(address(2)), "it has moved");
}

#[test]
fn the_ends_of_time() {
    let start = zero();
    for duration in [Duration::MAX, Duration::from_secs(u64::MAX), NANO] {
        let mut book = book(1);
        let ready = Ready::parse("tcp:1").unwrap();
        let request = Request { duration, wait: Some(duration), ready: Some(&ready), ..request("a", 1) };
        let granted = id(book.ask(&request, None, start));
        book.first_look(granted);
        for name in ["b", "c"] {
            let other = Request { holder: Some(name), ..request };
            book.ask(&other, None, start);
            book.ask(&other, Some(Duration::MAX), start);
        }
        book.ask(&stranger(2), None, start);
        book.ask(&stranger(2), Some(Duration::MAX), start);
        book.tick(None, start + Duration::from_secs(300 * 365 * 86_400));
        assert_eq!(book.leases().count(), 0);
    }
}

#[test]
fn a_retry_after_is_a_second_at_least_also_at_the_ends_of_time() {
    let start = zero();
    let longest = Duration::from_secs(u64::MAX);
    let mut book = Book::new(1, longest, SECOND);
    book.ask(&Request { duration: longest, ..stranger(1) }, None, start);
    for n in 0..50 {
        for closed_for in [None, Some(longest)] {
            let name = n.to_string();
            for request in [stranger(n), request(&name, n)] {
                let told = refusal(book.ask(&request, closed_for, start));
                assert!(told.retry_after >= SECOND, "{told:?}");
            }
        }
    }
}

#[test]
fn there_is_always_a_slot() {
    assert_eq!(book(0).slots(), 1);
}

#[test]
fn a_restart_gives_everybody_what_he_had() {
    let start = zero();
    let mut old = book(2);
    for (name, from) in [("a", 1), ("b", 2), ("c", 1), ("d", 3)] {
        old.ask(&request(name, from), None, start);
    }
    let now = start + 4 * SECOND;
    let mut new = book(2);
    for lease in old.leases().iter() {
        new.restore_lease(lease.clone(), now);
        new.restore_lease(lease.clone(), now);
    }
    for place in old.queue().places() {
        new.restore_place(place.holder.clone(), place.address, place.since, now);
        new.restore_place(place.holder.clone(), place.address, place.since, now);
    }
    assert_eq!(line(&new), line(&old));
    assert_eq!(line(&new), ["d", "c"]);
    assert!(matches!(new.ask(&request("a", 1), None, now), Told::Again { remaining, .. } if remaining == 6 * SECOND));
    assert_eq!((new.leases().count(), new.next_event(now)), (2, Some(start + 10 * SECOND)));
    let mut smaller = book(1);
    for lease in old.leases().iter() {
        smaller.restore_lease(lease.clone(), now);
    }
    assert_eq!(smaller.leases().count(), 2, "who was let in stays");
    assert!(!is_granted(smaller.ask(&stranger(9), None, now)));
    let mut late = book(2);
    for lease in old.leases().iter() {
        late.restore_lease(lease.clone(), start + 10 * SECOND);
    }
    assert_eq!(late.leases().count(), 0);
}

#[test]
fn a_hundred_strangers_do_not_come_back_in_the_same_second() {
    let start = zero();
    for duration in [5, 20, 600] {
        let mut book = book(1);
        book.ask(&Request { duration: duration * SECOND, ..stranger(9) }, None, start);
        let mut at = std::collections::BTreeMap::new();
        for n in 0..100 {
            *at.entry(refusal(book.ask(&stranger(n), None, start)).retry_after).or_insert(0) += 1;
        }
        assert!(at.len() >= 4 && at.values().all(|many| *many <= 34), "{duration}: {at:?}");
        assert!(at.keys().all(|at| *at >= SECOND && *at <= 30 * SECOND), "{duration}: {at:?}");
    }
}

#[test]
fn a_hundred_holders_do_not_come_back_in_the_same_second() {
    let start = zero();
    let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    for duration in [5, 20, 600] {
        let mut book = book(1);
        book.ask(&Request { duration: duration * SECOND, ..stranger(200) }, None, start);
        let mut at = std::collections::BTreeMap::new();
        for (n, name) in names.iter().enumerate() {
            *at.entry(refusal(book.ask(&request(name, n as u32), None, start)).retry_after).or_insert(0) += 1;
        }
        assert!(at.len() >= 10 && at.values().all(|many| *many <= 12), "{duration}: {at:?}");
    }
}

#[test]
fn a_retry_after_says_when_a_slot_is_due() {
    let start = zero();
    let mut book = book(2);
    for duration in [12, 7] {
        book.ask(&Request { duration: duration * SECOND, ..stranger(9) }, None, start);
    }
    let told: Vec<_> = [("a", 1), ("b", 2), ("c", 3)]
        .iter()
        .map(|(name, from)| refusal(book.ask(&request(name, *from), None, start)).retry_after.as_secs())
        .collect();
    assert_eq!(told, [7, 12, 17], "the first lease's end, the second's, and a lease later");
}
