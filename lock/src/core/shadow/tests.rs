//! Shadow mode in virtual time: no client waits, and the model counts how long each would have
//! waited.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use proptest::prelude::*;
use psl::protocol::node::NodeName;
use psl::protocol::ready::Ready;

use super::*;
use crate::core::lease::ProbeResult;
use crate::core::lock::{Lock, Mode, Settings, Slots};
use crate::core::outcome::{Cause, Outcome, Refusal};
use crate::core::pressure::PressureLimits;
use crate::core::scheduler::Durations;
use crate::core::tests::{MILLI, SECOND, zero};

fn settings(slots: usize) -> Settings {
    let durations =
        Durations { default: 10 * SECOND, longest: 600 * SECOND, probe_pause: 500 * MILLI };
    Settings {
        slots: Slots::Fixed(slots),
        mode: Mode::Shadow,
        durations,
        pressure: PressureLimits { thresholds: [None; 3], floor: 10 * SECOND },
        node: NodeName::parse("here").ok(),
        endpoints: Vec::new(),
        max_hold: None,
        most_parked: 64,
    }
}

fn shadow(slots: usize, now: Instant) -> Lock {
    Lock::new(settings(slots), now)
}

fn with_pressure_gate(slots: usize, now: Instant) -> Lock {
    let thresholds = [NonZeroU8::new(50), None, None];
    Lock::new(
        Settings { pressure: PressureLimits { thresholds, floor: 10 * SECOND }, ..settings(slots) },
        now,
    )
}

fn by(holder: &str, from: u8) -> LeaseRequest {
    let address = [10, 0, 0, from].into();
    let holder = Some(holder).filter(|holder| !holder.is_empty()).map(Arc::from);
    let wait = Some(10 * SECOND);
    LeaseRequest { address, holder, duration: None, ready: None, baseline: None, wait, node: None }
}

fn ask(lock: &mut Lock, request: &LeaseRequest, now: Instant) -> Outcome {
    match lock.request(request, Some(WaiterId(0)), now) {
        Some(outcome) => outcome,
        None => panic!("a client waits"),
    }
}

fn release(lock: &mut Lock, holder: &str, from: u8, now: Instant) {
    lock.release(holder, [10, 0, 0, from].into(), now);
}

fn would(outcome: &Outcome) -> &Outcome {
    match outcome {
        Outcome::LetThrough(would) => would,
        Outcome::Granted(grant) => grant.would.as_ref().expect("a grant in shadow mode"),
        other => panic!("{other:?}"),
    }
}

fn refusal(outcome: &Outcome) -> &Refusal {
    match would(outcome) {
        Outcome::Locked(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Passes the time event by event, as the clock does.
fn pass(lock: &mut Lock, mut from: Instant, to: Instant) -> Vec<ModelWait> {
    let mut waits = lock.take_effects().waits;
    while from < to {
        from = lock.poll_at(from).map_or(to, |at| at.min(to));
        lock.advance(from);
        waits.extend(lock.take_effects().waits);
    }
    waits
}

fn named(waits: &[ModelWait]) -> Vec<(&str, u64)> {
    waits.iter().map(|o| (o.holder.as_deref().unwrap_or("none"), o.waited.as_secs())).collect()
}

/// Requests by their outcome without shadow mode.
fn counted(lock: &mut Lock, now: Instant) -> [u64; 5] {
    let counts = lock.view(now, 0).shadow.unwrap();
    Kind::SHADOW.map(|kind| counts.requests.of(kind))
}

#[test]
fn starts_are_let_through_at_once_and_queue_in_the_model() {
    let start = zero();
    let mut lock = shadow(1, start);
    let names = ["a", "b", "c", "d"];
    for (n, name) in names.into_iter().enumerate() {
        let outcome = ask(&mut lock, &by(name, n as u8), start);
        match would(&outcome) {
            Outcome::SlotFree => assert_eq!(n, 0),
            _ => assert_eq!(
                (refusal(&outcome).position, &refusal(&outcome).cause),
                (Some(n), &Cause::SlotsInUse)
            ),
        }
    }
    let view = lock.view(start, 9);
    assert_eq!((view.active, view.waiting), (1, 3), "the model has one slot");
    let mut waits = Vec::new();
    for (n, name) in names.into_iter().enumerate() {
        // The starts run side by side, and take 3 s, 4 s, 5 s, 6 s.
        let at = start + SECOND * (3 + n as u32);
        waits.extend(pass(&mut lock, at - SECOND, at));
        release(&mut lock, name, n as u8, at);
    }
    // a ends after 3 s, b takes 4 s from then on, and c takes 5 s after that.
    waits.extend(pass(&mut lock, start + 6 * SECOND, start + 60 * SECOND));
    assert_eq!(named(&waits), [("b", 3), ("c", 7), ("d", 12)]);
    let view = lock.view(start + 60 * SECOND, 9);
    assert_eq!((view.active, view.waiting), (0, 0));
    assert_eq!(counted(&mut lock, start + 60 * SECOND), [1, 3, 0, 0, 0]);
    assert_eq!(view.totals.requests.of(Kind::Granted), 4);
    assert_eq!(view.totals.ended, [0, 4, 0]);
    assert_eq!(lock.poll_at(start + 60 * SECOND), None);
}

#[test]
fn a_port_that_opens_before_the_turn_gives_the_length_of_the_start() {
    let start = zero();
    let mut lock = shadow(1, start);
    ask(&mut lock, &LeaseRequest { duration: Some(20 * SECOND), ..by("first", 1) }, start);
    for (name, from) in [("quick", 2), ("last", 3)] {
        let (ready, baseline) = (Ready::parse("tcp:80").ok(), Some(ProbeResult::Closed));
        let request =
            LeaseRequest { ready, baseline, duration: Some(60 * SECOND), ..by(name, from) };
        assert!(matches!(ask(&mut lock, &request, start), Outcome::Granted(_)));
    }
    pass(&mut lock, start, start + 4 * SECOND);
    while let Some(target) = lock.begin_probe(start + 4 * SECOND) {
        lock.finish_probe(&target, ProbeResult::Open, MILLI, start + 4 * SECOND);
    }
    let waits = pass(&mut lock, start + 4 * SECOND, start + 60 * SECOND);
    assert_eq!(
        named(&waits),
        [("quick", 20), ("last", 24)],
        "quick has its slot for the 4 s that it took"
    );
    assert_eq!(lock.view(start + 60 * SECOND, 0).totals.ended, [2, 0, 1]);
}

#[test]
fn each_request_without_a_holder_is_a_start() {
    let start = zero();
    let mut lock = shadow(2, start);
    for n in 0..6 {
        assert!(matches!(ask(&mut lock, &by("", 1), start), Outcome::Granted(_)), "{n}");
    }
    let waits = pass(&mut lock, start, start + 60 * SECOND);
    assert_eq!(named(&waits), [("none", 10), ("none", 10), ("none", 20), ("none", 20)]);
}

#[test]
fn a_holder_that_asks_again_keeps_its_lease_and_its_place() {
    let start = zero();
    let mut lock = shadow(1, start);
    ask(&mut lock, &by("first", 1), start);
    ask(&mut lock, &by("a", 2), start);
    assert!(matches!(ask(&mut lock, &by("a", 2), start + SECOND), Outcome::AlreadyGranted { .. }));
    release(&mut lock, "a", 2, start + 2 * SECOND);
    lock.take_effects();
    // Its pod starts anew before its turn: there is one waiter, and the first start counts.
    let outcome = ask(&mut lock, &by("a", 2), start + 3 * SECOND);
    assert_eq!(refusal(&outcome).position, Some(1));
    let waits = pass(&mut lock, start + 3 * SECOND, start + 60 * SECOND);
    assert_eq!(named(&waits), [("a", 10)]);
    assert_eq!(lock.poll_at(start + 60 * SECOND), None);
}

#[test]
fn a_grant_that_was_not_read_makes_room_for_the_next() {
    let start = zero();
    let mut lock = shadow(1, start);
    let Outcome::Granted(grant) = ask(&mut lock, &by("a", 1), start) else { panic!() };
    ask(&mut lock, &by("b", 2), start);
    lock.undo(grant.lease, grant.arrival, start + MILLI);
    assert_eq!(named(&lock.take_effects().waits), [("b", 0)]);
    assert!(
        matches!(ask(&mut lock, &by("a", 1), start + SECOND), Outcome::Granted(_)),
        "it asks again"
    );
}

#[test]
fn a_request_that_takes_no_lease_is_let_through_too() {
    let start = zero();
    let mut lock = shadow(1, start);
    ask(&mut lock, &by("a", 1), start);
    let probe = LeaseRequest { duration: Some(Duration::ZERO), ..by("b", 2) };
    assert!(refusal(&ask(&mut lock, &probe, start)).is_probe);
    let elsewhere = LeaseRequest { node: NodeName::parse("there").ok(), ..by("b", 2) };
    assert!(matches!(would(&ask(&mut lock, &elsewhere, start)), Outcome::Misdirected { .. }));
    assert_eq!(counted(&mut lock, start), [1, 0, 0, 0, 1]);
    let view = lock.view(start, 9);
    assert_eq!(view.waiting, 0);
    assert_eq!(Kind::REQUESTS.map(|kind| view.totals.requests.of(kind)), [1, 0, 0, 0, 1, 1, 0]);
}

#[test]
fn checks_hold_starts_back_in_the_model_only() {
    let start = zero();
    for (max_hold, opens) in [(None, 200), (Some(90 * SECOND), 90)] {
        let endpoints = vec!["tcp://db:1".to_owned()];
        let mut lock = Lock::new(Settings { endpoints, max_hold, ..settings(4) }, start);
        for name in ["a", "b"] {
            let outcome = ask(&mut lock, &by(name, 1), start);
            assert!(matches!(refusal(&outcome).cause, Cause::Checks(_)), "{outcome:?}");
        }
        lock.finish_round(vec![Err("refused".to_owned())], start + SECOND, start + 500 * SECOND);
        let mut waits = pass(&mut lock, start + SECOND, start + 200 * SECOND - MILLI);
        lock.finish_round(vec![Ok(())], start + 200 * SECOND, start + 500 * SECOND);
        waits.extend(pass(&mut lock, start + 200 * SECOND, start + 300 * SECOND));
        assert_eq!(named(&waits), [("a", opens), ("b", opens)], "{max_hold:?}");
        assert_eq!(counted(&mut lock, start + 300 * SECOND), [0, 0, 2, 0, 0]);
    }
}

#[test]
fn pressure_holds_starts_back_in_the_model_only() {
    let start = zero();
    let mut lock = with_pressure_gate(4, start);
    lock.read_pressure([Some(9000), None, None], start);
    for name in ["a", "b", "c"] {
        let outcome = ask(&mut lock, &by(name, 1), start);
        assert!(matches!(refusal(&outcome).cause, Cause::Pressure(_)), "{outcome:?}");
    }
    let mut waits = Vec::new();
    for second in 1..=25 {
        let at = start + SECOND * second;
        assert!(
            lock.poll_at(at - SECOND).is_some_and(|next| next <= at),
            "the pressure is read for the waiters"
        );
        lock.read_pressure([Some(if second == 25 { 4000 } else { 9000 }), None, None], at);
        waits.extend(lock.take_effects().waits);
    }
    assert_eq!(named(&waits), [("a", 10), ("b", 20), ("c", 25)]);
    assert_eq!(counted(&mut lock, start + 25 * SECOND), [0, 0, 0, 3, 0]);
    assert_eq!(lock.view(start + 25 * SECOND, 0).pressure.starts(), 2);
}

#[test]
fn a_wait_in_the_model_has_an_end() {
    let start = zero();
    let mut lock =
        Lock::new(Settings { endpoints: vec!["tcp://db:1".to_owned()], ..settings(1) }, start);
    ask(&mut lock, &by("a", 1), start);
    assert_eq!(pass(&mut lock, start, start + LONGEST - MILLI), []);
    let waits = pass(&mut lock, start + LONGEST - MILLI, start + LONGEST);
    assert_eq!((named(&waits), waits[0].is_cut), (vec![("a", LONGEST.as_secs())], true));
    assert_eq!(lock.view(start + LONGEST, 0).waiting, 0);
    assert_eq!(lock.poll_at(start + LONGEST), None);
}

#[test]
fn starts_beyond_the_bound_are_let_through_without_the_model() {
    let start = zero();
    let mut lock = shadow(1, start);
    for n in 0..=MOST_WAITERS {
        let request = LeaseRequest { duration: Some(600 * SECOND), ..by(&n.to_string(), 1) };
        let outcome = ask(&mut lock, &request, start);
        assert_eq!(matches!(outcome, Outcome::Granted(_)), n < MOST_WAITERS, "{n}: {outcome:?}");
    }
    assert_eq!(lock.view(start, 0).totals.requests.of(Kind::Granted), MOST_WAITERS as u64 + 1);
    // Starts that end before their turn are bounded, too.
    let mut at = start + 600 * SECOND;
    for n in 0..2 * MOST_WAITERS {
        at += MILLI;
        let name = format!("again-{n}");
        ask(&mut lock, &by(&name, 2), at);
        release(&mut lock, &name, 2, at);
        lock.take_effects();
    }
    assert!(lock.view(at, 0).waiting <= MOST_WAITERS);
}

#[test]
fn a_turn_that_comes_with_the_next_start_of_the_same_holder_counts() {
    let start = zero();
    let mut lock = with_pressure_gate(1, start);
    lock.read_pressure([Some(0), None, None], start);
    ask(&mut lock, &by("first", 1), start);
    ask(&mut lock, &by("a", 2), start);
    release(&mut lock, "a", 2, start + 4 * SECOND);
    assert_eq!(named(&lock.take_effects().waits), []);
    // Its pod starts anew as the slot comes free, and the clock has not run yet.
    let outcome = ask(&mut lock, &by("a", 2), start + 10 * SECOND);
    assert_eq!(would(&outcome), &Outcome::SlotFree);
    assert_eq!(named(&lock.take_effects().waits), [("a", 10)]);
    assert_eq!(counted(&mut lock, start + 10 * SECOND), [2, 1, 0, 0, 0]);
}

#[test]
fn a_repeated_start_has_the_length_of_the_last_one() {
    let start = zero();
    let at = |second| start + SECOND * second;
    for is_behind_another in [true, false] {
        let mut lock = shadow(1, start);
        if is_behind_another {
            ask(&mut lock, &by("first", 1), start);
        }
        // The answer is lost, and the pod asks again at once from another address.
        let Outcome::Granted(grant) = ask(&mut lock, &by("a", 2), start) else { panic!() };
        if is_behind_another {
            lock.undo(grant.lease, grant.arrival, start);
        } else {
            release(&mut lock, "a", 2, start);
        }
        ask(&mut lock, &by("a", 3), start);
        ask(&mut lock, &by("b", 4), start);
        let mut waits = pass(&mut lock, start, at(4));
        release(&mut lock, "a", 3, at(4));
        waits.extend(pass(&mut lock, at(4), at(60)));
        let expected = if is_behind_another { vec![("a", 10), ("b", 14)] } else { vec![("b", 4)] };
        assert_eq!(named(&waits), expected);
        assert_eq!(lock.poll_at(at(60)), None);
    }
}

/// A start of the property below: its arrival in milliseconds, its address, how long it takes.
type TimedRequest = (u16, u8, u16);

fn arrivals_in_order(arrivals: &[TimedRequest]) -> Vec<(u64, usize, LeaseRequest)> {
    let named = arrivals.iter().enumerate();
    let request = |n: usize, from, took: u16| LeaseRequest {
        wait: Some(30 * SECOND),
        duration: Some(5 * SECOND),
        ..by(&format!("{n}-{took}"), from)
    };
    let mut order: Vec<_> =
        named.map(|(n, &(at, from, took))| (at.into(), n, request(n, from, took))).collect();
    order.sort_by_key(|(at, n, _)| (*at, *n));
    order
}

fn took(request: &LeaseRequest) -> u64 {
    request.holder.as_deref().unwrap().split_once('-').unwrap().1.parse().unwrap()
}

/// The waits by holder with parked clients that begin their start with the grant.
fn enforced(slots: usize, arrivals: &[TimedRequest]) -> BTreeMap<String, u64> {
    let start = zero();
    let mut lock = Lock::new(Settings { mode: Mode::Enforce, ..settings(slots) }, start);
    let mut arrivals = arrivals_in_order(arrivals);
    arrivals.reverse();
    let (mut waits, mut ends) = (BTreeMap::new(), Vec::<(u64, LeaseRequest)>::new());
    let (mut now, mut keys) = (0, 0);
    loop {
        let at = start + Duration::from_millis(now);
        lock.advance(at);
        for (_, request) in ends.extract_if(.., |(end, _)| *end <= now) {
            lock.release(request.holder.as_deref().unwrap(), request.address, at);
        }
        while let Some((_, _, request)) = arrivals.pop_if(|(arrives, ..)| *arrives <= now) {
            keys += 1;
            assert_eq!(lock.request(&request, Some(WaiterId(keys)), at), None);
        }
        for answer in lock.take_effects().answers {
            match answer.outcome {
                Outcome::Granted(grant) => {
                    let name = answer.request.holder.as_deref().unwrap().to_owned();
                    waits.insert(name, grant.waited.as_millis() as u64);
                    ends.push((now + took(&answer.request), answer.request));
                }
                // Its wait is over, and it waits again at once.
                _ => {
                    keys += 1;
                    lock.request(&answer.request, Some(WaiterId(keys)), at);
                }
            }
        }
        let poll = lock.poll_at(at).map(|at| (at - start).as_millis() as u64);
        let next = ends
            .iter()
            .map(|(end, _)| *end)
            .chain(arrivals.last().map(|(at, ..)| *at))
            .chain(poll)
            .min();
        let Some(next) = next else { return waits };
        now = next;
    }
}

/// The waits that shadow mode counts, while all starts begin at once.
fn modelled(slots: usize, arrivals: &[TimedRequest]) -> BTreeMap<String, u64> {
    let start = zero();
    let mut lock = shadow(slots, start);
    let (mut waits, mut events) = (BTreeMap::new(), BTreeMap::new());
    for (at, n, request) in arrivals_in_order(arrivals) {
        events.insert((at + took(&request), 0, n), request.clone());
        events.insert((at, 1, n), request);
    }
    let mut now = start;
    let mut reported = Vec::new();
    for ((at, is_arrival, _), request) in events {
        let at = start + Duration::from_millis(at);
        reported.extend(pass(&mut lock, now, at));
        now = at;
        let name = request.holder.as_deref().unwrap();
        if is_arrival == 0 {
            lock.release(name, request.address, now);
        } else if *would(&ask(&mut lock, &request, now)) == Outcome::SlotFree {
            waits.insert(name.to_owned(), 0);
        }
    }
    reported.extend(pass(&mut lock, now, now + 1000 * SECOND));
    waits.extend(
        reported
            .iter()
            .map(|o| (o.holder.as_deref().unwrap().to_owned(), o.waited.as_millis() as u64)),
    );
    assert_eq!(lock.view(now + 1000 * SECOND, 0).waiting, 0);
    waits
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// No start takes longer because others run, so that the model must be right to the event.
    #[test]
    fn the_model_has_the_waits_of_enforce_mode(
        slots in 1usize..4,
        arrivals in prop::collection::vec((0u16..20_000, 0u8..4, 1u16..7_000), 1..30),
    ) {
        let (enforced, modelled) = (enforced(slots, &arrivals), modelled(slots, &arrivals));
        prop_assert_eq!(enforced.len(), arrivals.len());
        prop_assert_eq!(enforced, modelled);
    }
}
