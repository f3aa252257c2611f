//! Shadow mode in virtual time: nobody waits, and the model says what enforcing would have done.

use std::collections::BTreeMap;
use std::ffi::OsString;

use proptest::prelude::*;
use psl::args::Given;

use super::*;
use crate::config::{Config, PROGRAM, Rules};
use crate::lease::Seen;
use crate::state::{Ask, Decision, Outcome, State};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
fn zero() -> Instant {
    Instant::now()
}

fn state(slots: usize, variables: &[(&str, &str)], now: Instant) -> (State, Rules) {
    let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let lookup = move |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
    let config = Config::from(Given::read(&PROGRAM, Vec::new(), lookup).unwrap()).unwrap();
    (State::new(crate::config::Slots::Fixed(slots), &config, now), config.rules)
}

fn shadow(slots: usize, more: &[(&str, &str)], now: Instant) -> (State, Rules) {
    let variables: Vec<_> = [("PSL_MODE", "shadow")].into_iter().chain(more.iter().copied()).collect();
    state(slots, &variables, now)
}

fn by(holder: &str, from: u8) -> Ask {
    let address = [10, 0, 0, from].into();
    let holder = Some(holder).filter(|holder| !holder.is_empty()).map(Into::into);
    Ask { address, holder, duration: None, ready: None, wait: Some(10 * SECOND), node: None }
}

fn now(decision: Decision) -> Outcome {
    match decision {
        Decision::Now(outcome) => outcome,
        later => panic!("somebody is held back: {later:?}"),
    }
}

/// Lets the time pass, event by event.
fn pass(state: &mut State, mut from: Instant, to: Instant) -> Vec<Waited> {
    let mut waited = state.news().waited;
    loop {
        let next = state.next_event(from).map_or(to, |next| next.max(from));
        from = next.min(to);
        state.tick(from);
        waited.extend(state.news().waited);
        if from == to {
            return waited;
        }
        // What is due already waits for whoever looks at ports.
        from += Duration::from_nanos(1);
    }
}

fn named(waited: &[Waited]) -> Vec<(&str, u64)> {
    waited.iter().map(|w| (w.holder.as_deref().unwrap_or("none"), w.waited.as_secs())).collect()
}

fn would(outcome: &Outcome) -> &Outcome {
    match outcome {
        Outcome::Granted { would: Some(would), .. } | Outcome::Passed(would) => would,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_start_at_once_and_would_have_started_one_after_the_other() {
    let start = zero();
    let (mut state, rules) = shadow(1, &[], start);
    for (n, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let outcome = now(state.ask(&by(name, n as u8), &rules, start));
        match would(&outcome) {
            Outcome::Free if n == 0 => {}
            Outcome::Busy { refusal, .. } => assert_eq!(refusal.position, Some(n), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let view = state.view(start, 9);
    assert_eq!((view.slots_in_use, view.queue_length), (1, 3), "the model has one slot");
    for (n, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        // They run side by side, and take 3 s, 4 s, 5 s, 6 s.
        let at = start + SECOND * (3 + n as u32);
        pass(&mut state, at - SECOND, at);
        state.give_up(name, by(name, n as u8).address, at);
    }
    // a is over after 3 s, b begins then and takes 4, c begins after 7 and takes 5.
    let waited = pass(&mut state, start + 6 * SECOND, start + 60 * SECOND);
    assert_eq!(named(&waited), [("c", 7), ("d", 12)]);
    let view = state.view(start + 60 * SECOND, 9);
    assert_eq!((view.slots_in_use, view.queue_length), (0, 0));
    assert_eq!(view.shadow.unwrap().would, [1, 3, 0, 0, 0]);
    assert_eq!(view.counts.requests[0], 4, "each was granted");
    assert_eq!(view.counts.ended, [0, 4, 0]);
    assert_eq!(state.next_event(start + 60 * SECOND), None, "nothing is left to do");
}

#[test]
fn a_port_that_opens_before_the_turn_tells_how_long_the_start_took() {
    let start = zero();
    let (mut state, rules) = shadow(1, &[], start);
    state.ask(&Ask { duration: Some(20 * SECOND), ..by("first", 1) }, &rules, start);
    let ready = Some(psl::ready::Ready::parse("tcp:80").unwrap());
    for (n, name) in ["quick", "last"].into_iter().enumerate() {
        let asks = Ask { ready: ready.clone(), duration: Some(60 * SECOND), ..by(name, 2 + n as u8) };
        let Outcome::Granted { id, .. } = now(state.ask(&asks, &rules, start)) else { panic!() };
        let target = state.first_look(id).expect("the real lease is looked at from the start");
        state.first_looked(&target, Seen::Closed, start);
    }
    pass(&mut state, start, start + 4 * SECOND);
    while let Some(target) = state.due_look(start + 4 * SECOND) {
        state.looked(&target, Seen::Open, MILLI, start + 4 * SECOND);
    }
    let waited = pass(&mut state, start + 4 * SECOND, start + 60 * SECOND);
    assert_eq!(named(&waited), [("quick", 20), ("last", 24)], "quick has its slot for the 4 s that it took");
    assert_eq!(state.view(start, 0).counts.ended, [2, 0, 1]);
}

#[test]
fn who_names_nobody_counts_for_himself() {
    let start = zero();
    let (mut state, rules) = shadow(2, &[], start);
    for n in 0..6 {
        assert!(matches!(now(state.ask(&by("", 1), &rules, start)), Outcome::Granted { .. }), "{n}");
    }
    let waited = pass(&mut state, start, start + 60 * SECOND);
    assert_eq!(named(&waited), [("none", 10), ("none", 10), ("none", 20), ("none", 20)]);
}

#[test]
fn a_holder_that_asks_again_keeps_its_lease_and_its_place() {
    let start = zero();
    let (mut state, rules) = shadow(1, &[], start);
    state.ask(&by("first", 1), &rules, start);
    state.ask(&by("a", 2), &rules, start);
    assert!(matches!(now(state.ask(&by("a", 2), &rules, start + SECOND)), Outcome::Again { .. }));
    state.give_up("a", by("a", 2).address, start + 2 * SECOND);
    state.news();
    // Its pod starts anew before its turn: there is one place, and the first start counts.
    let outcome = now(state.ask(&by("a", 2), &rules, start + 3 * SECOND));
    assert!(matches!(would(&outcome), Outcome::Busy { refusal, .. } if refusal.position == Some(1)), "{outcome:?}");
    let waited = pass(&mut state, start + 3 * SECOND, start + 60 * SECOND);
    assert_eq!(named(&waited), [("a", 10)]);
    assert_eq!(state.next_event(start + 60 * SECOND), None);
}

#[test]
fn a_grant_that_could_not_be_told_makes_room_for_the_next() {
    let start = zero();
    let (mut state, rules) = shadow(1, &[], start);
    let Outcome::Granted { id, before, .. } = now(state.ask(&by("a", 1), &rules, start)) else { panic!() };
    state.ask(&by("b", 2), &rules, start);
    state.undo(id, before, start + MILLI);
    assert_eq!(named(&state.news().waited), [("b", 0)]);
    assert!(matches!(now(state.ask(&by("a", 1), &rules, start + SECOND)), Outcome::Granted { .. }), "it asks again");
}

#[test]
fn what_takes_no_lease_is_let_through_too() {
    let start = zero();
    let (mut state, mut rules) = shadow(1, &[], start);
    rules.node = Some("here".to_owned());
    state.ask(&by("a", 1), &rules, start);
    let probe = Ask { duration: Some(Duration::ZERO), ..by("b", 2) };
    assert!(matches!(would(&now(state.ask(&probe, &rules, start))), Outcome::Busy { is_probe: true, .. }));
    let elsewhere = Ask { node: Some("there".to_owned()), ..by("b", 2) };
    assert!(matches!(would(&now(state.ask(&elsewhere, &rules, start))), Outcome::Misdirected { .. }));
    let view = state.view(start, 9);
    assert_eq!((view.queue_length, view.shadow.unwrap().would), (0, [1, 0, 0, 0, 1]));
}

#[test]
fn the_checks_hold_nobody_back_but_in_the_model() {
    let start = zero();
    let checks = [("PSL_HC_ENDPOINTS", "tcp://db:1")];
    for (max_hold, opens_after) in [("0", 200), ("90", 90)] {
        let variables: Vec<_> = checks.into_iter().chain([("PSL_HC_MAX_HOLD", max_hold)]).collect();
        let (mut state, rules) = shadow(4, &variables, start);
        for name in ["a", "b"] {
            let outcome = now(state.ask(&by(name, 1), &rules, start));
            assert!(matches!(would(&outcome), Outcome::GateClosed { .. }), "{outcome:?}");
        }
        state.round(vec![Err("refused".to_owned())], start + SECOND, start + 500 * SECOND);
        // Longer than any place lives whose holder does not ask.
        let mut waited = pass(&mut state, start + SECOND, start + 200 * SECOND - MILLI);
        state.round(vec![Ok(())], start + 200 * SECOND, start + 500 * SECOND);
        waited.extend(pass(&mut state, start + 200 * SECOND, start + 300 * SECOND));
        assert_eq!(named(&waited), [("a", opens_after), ("b", opens_after)], "{max_hold}");
        assert_eq!(state.view(start, 0).shadow.unwrap().would, [0, 0, 2, 0, 0]);
    }
}

#[test]
fn pressure_holds_nobody_back_but_in_the_model() {
    let start = zero();
    let (mut state, rules) = shadow(4, &[("PSL_CPU_PRESSURE", "50"), ("PSL_GATE_FLOOR", "10")], start);
    state.feel([Some(9000), None, None], start);
    for name in ["a", "b", "c"] {
        let outcome = now(state.ask(&by(name, 1), &rules, start));
        assert!(matches!(would(&outcome), Outcome::Busy { pressure: Some(_), .. }), "{outcome:?}");
    }
    let mut waited = Vec::new();
    for second in 1..=25 {
        let at = start + SECOND * second;
        assert!(state.next_event(at - SECOND).is_some_and(|next| next <= at), "somebody waits, and it is read");
        state.feel([Some(if second == 25 { 4000 } else { 9000 }), None, None], at);
        waited.extend(state.news().waited);
    }
    assert_eq!(named(&waited), [("a", 10), ("b", 20), ("c", 25)]);
    let view = state.view(start + 25 * SECOND, 0);
    assert_eq!((view.pressure.let_through(), view.shadow.unwrap().would), (2, [0, 0, 0, 3, 0]));
}

#[test]
fn nobody_waits_for_ever() {
    let start = zero();
    let (mut state, rules) = shadow(1, &[("PSL_HC_ENDPOINTS", "tcp://db:1")], start);
    state.ask(&by("a", 1), &rules, start);
    let waited = pass(&mut state, start, start + LONGEST - MILLI);
    assert_eq!(waited, []);
    let waited = pass(&mut state, start + LONGEST - MILLI, start + LONGEST);
    assert_eq!((named(&waited), waited[0].is_cut), (vec![("a", LONGEST.as_secs())], true));
    assert_eq!(state.view(start + LONGEST, 0).queue_length, 0);
}

#[test]
fn more_starts_than_are_followed_are_let_through() {
    let start = zero();
    let (mut state, rules) = shadow(1, &[], start);
    for n in 0..MOST + 1 {
        let asks = Ask { duration: Some(600 * SECOND), ..by(&n.to_string(), 1) };
        let outcome = now(state.ask(&asks, &rules, start));
        assert_eq!(matches!(outcome, Outcome::Granted { .. }), n < MOST, "{n}: {outcome:?}");
    }
    assert_eq!(state.view(start, 0).counts.requests[0], MOST as u64 + 1);
    // Who starts again and again and again is bounded too.
    let mut at = start;
    for n in 0..MOST {
        at += MILLI;
        let name = format!("again-{n}");
        state.ask(&by(&name, 2), &rules, at);
        state.give_up(&name, by("", 2).address, at);
        state.news();
    }
    let shadow = state.view(at, 0);
    assert!(shadow.queue_length <= MOST);
}

/// A start of the property below: after how many milliseconds, from where, how long it takes.
type Arrival = (u16, u8, u16);

/// The waits by holder where everybody is held back, and asks the moment it is called.
fn enforced(slots: usize, arrivals: &[Arrival]) -> BTreeMap<String, Duration> {
    let start = zero();
    let (mut state, rules) = state(slots, &[("PSL_LOCK_DURATION", "5s")], start);
    let far = start + 100_000 * SECOND;
    let mut held: Vec<(crate::queue::Seat, Ask)> = Vec::new();
    let mut running: Vec<(Instant, Ask)> = Vec::new();
    let mut waits = BTreeMap::new();
    let mut arrivals: Vec<_> =
        arrivals.iter().enumerate().map(|(n, arrival)| (start + MILLI * arrival.0.into(), n, *arrival)).collect();
    arrivals.sort_unstable();
    arrivals.reverse();
    let mut at = start;
    loop {
        let ends = running.iter().map(|(at, _)| *at);
        let next = arrivals.last().map(|(at, ..)| *at).into_iter().chain(ends).chain(state.next_event(at)).min();
        let Some(next) = next else { return waits };
        at = next.max(at);
        state.tick(at);
        for (_, asks) in running.extract_if(.., |(end, _)| *end <= at) {
            state.give_up(asks.holder.as_deref().unwrap(), asks.address, at);
        }
        let mut decided = Vec::new();
        loop {
            let called = state.news().called;
            for seat in called {
                let Some(which) = held.iter().position(|(other, _)| *other == seat) else { continue };
                let (_, asks) = held.remove(which);
                decided.push((state.resume(&asks, &rules, seat, far, at), asks));
            }
            if arrivals.last().is_some_and(|(arrives, ..)| *arrives <= at) {
                let (_, n, (_, from, took)) = arrivals.pop().unwrap();
                let asks = Ask { wait: Some(30 * SECOND), ..by(&format!("{n}-{took}"), from) };
                decided.push((state.ask(&asks, &rules, at), asks));
            }
            if decided.is_empty() {
                break;
            }
            for (decision, asks) in decided.drain(..) {
                match decision {
                    Decision::Later { seat, .. } => held.push((seat, asks)),
                    Decision::Now(Outcome::Granted { waited, .. }) => {
                        let name = asks.holder.as_deref().unwrap().to_owned();
                        let took: u16 = name.split_once('-').unwrap().1.parse().unwrap();
                        waits.insert(name, waited);
                        running.push((at + MILLI * took.into(), asks));
                    }
                    Decision::Now(other) => panic!("{other:?}"),
                }
            }
        }
    }
}

/// The same as shadow mode works it out while all start at once.
fn worked_out(slots: usize, arrivals: &[Arrival]) -> BTreeMap<String, Duration> {
    let start = zero();
    let (mut state, rules) = shadow(slots, &[("PSL_LOCK_DURATION", "5s")], start);
    let mut waits = BTreeMap::new();
    let mut events = BTreeMap::new();
    for (n, (millis, from, took)) in arrivals.iter().enumerate() {
        let asks = by(&format!("{n}-{took}"), *from);
        let at = start + MILLI * (*millis).into();
        events.insert((at, 1, n), asks.clone());
        events.insert((at + MILLI * (*took).into(), 0, n), asks);
    }
    let mut at = start;
    for ((event, is_arrival, _), asks) in events {
        for w in pass(&mut state, at, event) {
            waits.insert(w.holder.unwrap().to_string(), w.waited);
        }
        at = event;
        let name = asks.holder.clone().unwrap();
        if is_arrival == 1 {
            let outcome = now(state.ask(&asks, &rules, at));
            if matches!(would(&outcome), Outcome::Free) {
                waits.insert(name.into(), Duration::ZERO);
            }
        } else {
            state.give_up(&name, asks.address, at);
        }
    }
    for w in pass(&mut state, at, at + 1000 * SECOND) {
        waits.insert(w.holder.unwrap().to_string(), w.waited);
    }
    assert_eq!(state.view(at + 1000 * SECOND, 0).queue_length, 0);
    waits
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No start depends on how many run, so that shadow mode has to be right to the event.
    #[test]
    fn it_says_what_enforcing_does(
        slots in 1usize..4,
        arrivals in prop::collection::vec((0u16..20_000, 0u8..4, 1u16..7_000), 1..30),
    ) {
        let (enforced, worked_out) = (enforced(slots, &arrivals), worked_out(slots, &arrivals));
        prop_assert_eq!(enforced.len(), arrivals.len());
        // Steps of virtual time are a nanosecond late now and then.
        for (name, waited) in &enforced {
            let other = worked_out.get(name).copied().unwrap_or(Duration::MAX);
            prop_assert!(waited.abs_diff(other) < MILLI, "{}: {:?} and {:?}", name, waited, other);
        }
    }
}

#[test]
fn a_turn_that_comes_with_the_next_start_of_the_same_holder_counts() {
    let start = zero();
    let (mut state, rules) = shadow(1, &[("PSL_CPU_PRESSURE", "50"), ("PSL_GATE_FLOOR", "10")], start);
    state.feel([Some(0), None, None], start);
    state.ask(&by("first", 1), &rules, start);
    state.ask(&by("a", 2), &rules, start);
    state.give_up("a", by("a", 2).address, start + 4 * SECOND);
    assert_eq!(named(&state.news().waited), []);
    // Its pod starts anew at the very moment at which the slot is free, and the clock has not run yet.
    let outcome = now(state.ask(&by("a", 2), &rules, start + 10 * SECOND));
    assert!(matches!(would(&outcome), Outcome::Free), "{outcome:?}");
    assert_eq!(named(&state.news().waited), [("a", 10)]);
    let counts = state.view(start + 10 * SECOND, 0).shadow.unwrap();
    assert_eq!(counts.would, [2, 1, 0, 0, 0]);
}

#[test]
fn a_start_lasts_as_long_as_the_last_one_of_its_holder() {
    let start = zero();
    let at = |second| start + SECOND * second;
    for first_is_slow in [true, false] {
        let (mut state, rules) = shadow(1, &[], start);
        if first_is_slow {
            state.ask(&by("first", 1), &rules, start);
        }
        // The answer is lost, and the pod asks again, at once from another address.
        let Outcome::Granted { id, before, .. } = now(state.ask(&by("a", 2), &rules, start)) else { panic!() };
        if first_is_slow {
            state.undo(id, before, start);
        } else {
            state.give_up("a", by("a", 2).address, at(0));
        }
        state.ask(&by("a", 3), &rules, start);
        state.ask(&by("b", 4), &rules, start);
        let mut waited = pass(&mut state, start, at(4));
        state.give_up("a", by("a", 3).address, at(4));
        waited.extend(pass(&mut state, at(4), at(60)));
        let expected = if first_is_slow { vec![("a", 10), ("b", 14)] } else { vec![("b", 4)] };
        assert_eq!(named(&waited), expected);
        assert_eq!(state.next_event(at(60)), None);
    }
}
