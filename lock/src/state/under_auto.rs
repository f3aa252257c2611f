//! Slots that follow the node, the gates and the line together, in virtual time.

use std::ffi::OsString;
use std::net::Ipv4Addr;

use super::*;
use crate::book::Cause;
use crate::config::PROGRAM;
use crate::core::limit::{FIRST_COST, Reason};
use psl::args::Given;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const CORES: usize = 2;

#[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
fn state(variables: &[(&str, &str)]) -> (State, Rules, Instant) {
    let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let lookup = move |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
    let config = Config::from(Given::read(&PROGRAM, Vec::new(), lookup).unwrap()).unwrap();
    let now = Instant::now();
    (State::new(Slots::Auto { cores: CORES, most: 16 * CORES }, &config, now), config.rules, now)
}

fn by(holder: &str) -> Ask {
    let address = Ipv4Addr::new(10, 0, 0, holder.as_bytes()[0]).into();
    let wait = Some(30 * SECOND);
    Ask { address, holder: Some(holder.into()), duration: Some(600 * SECOND), ready: None, wait, node: None }
}

fn polling(holder: &str) -> Ask {
    Ask { wait: None, ..by(holder) }
}

fn seat(decision: &Decision) -> Seat {
    match decision {
        Decision::Later { seat, .. } => *seat,
        now => panic!("{now:?}"),
    }
}

fn granted(decision: Decision) -> (Id, Before) {
    match decision {
        Decision::Now(Outcome::Granted { id, before, .. }) => (id, before),
        other => panic!("{other:?}"),
    }
}

/// As many as may begin at once.
fn fill(state: &mut State, rules: &Rules, now: Instant) {
    for holder in ["0", "1"] {
        granted(state.ask(&by(holder), rules, now));
    }
    state.news();
}

/// A node half of which has been busy for a minute more than since `start`.
fn reading(start: Instant, now: Instant, runnable: usize) -> Option<Reading> {
    let all = 60 * SECOND + now.saturating_duration_since(start);
    Some(Reading { at: now, busy: all, idle: all, runnable, cores: CORES, stalled: 0.0 })
}

/// Reads such a node for this long.
fn watch(state: &mut State, start: Instant, time: Duration) -> Instant {
    let mut at = start;
    while at < start + time {
        at = (at + 100 * MILLI).min(start + time);
        state.read(reading(start, at, 1), at);
    }
    at
}

#[test]
fn who_lets_its_grants_die_takes_no_room_from_the_next() {
    let (mut state, rules, start) = state(&[]);
    fill(&mut state, &rules, start);
    let evil = seat(&state.ask(&by("e"), &rules, start));
    let honest = seat(&state.ask(&by("h"), &rules, start));
    let until = start + 30 * SECOND;
    let at = watch(&mut state, start, 1001 * MILLI);
    state.tick(at);
    assert_eq!(state.news().called, [evil]);
    let (id, before) = granted(state.resume(&by("e"), &rules, evil, until, at));
    state.news();
    let at = at + MILLI;
    assert_eq!(seat(&state.resume(&by("h"), &rules, honest, until, at)), honest, "there is no room for two");
    state.undo(id, before, at);
    assert_eq!(state.news().called, [honest], "at once");
    granted(state.resume(&by("h"), &rules, honest, until, at));
    assert_eq!(state.view(at, 0).slots_in_use, CORES + 1);
}

#[test]
fn a_grant_that_dies_late_teaches_nothing() {
    let (mut state, rules, start) = state(&[]);
    let (id, before) = granted(state.ask(&by("e"), &rules, start));
    state.news();
    let at = start + 900 * MILLI;
    state.undo(id, before, at);
    state.news();
    let at = watch(&mut state, at, SECOND);
    assert_eq!(state.view(at, 0).limit.unwrap().cost, FIRST_COST);
}

#[test]
fn a_lease_tells_of_a_start_by_how_it_ends() {
    let cost = |duration: Duration, released: Option<Duration>| {
        let (mut state, rules, start) = state(&[]);
        watch(&mut state, start, SECOND);
        let begin = start + SECOND;
        granted(state.ask(&Ask { duration: Some(duration), ..by("a") }, &rules, begin));
        state.news();
        if let Some(after) = released {
            state.give_up("a", by("a").address, begin + after);
            state.news();
        }
        let at = watch(&mut state, begin, 2500 * MILLI);
        state.news();
        let at = watch(&mut state, at, SECOND);
        state.view(at, 0).limit.unwrap().cost
    };
    for (name, duration, released, was_start) in [
        ("by time", 2 * SECOND, None, true),
        ("given back when it was ready", 600 * SECOND, Some(2 * SECOND), true),
        ("given back at once", 600 * SECOND, Some(199 * MILLI), false),
    ] {
        assert_eq!(cost(duration, released) != FIRST_COST, was_start, "{name}");
    }
}

#[test]
fn nobody_looks_at_the_node_while_nothing_is_held_that_could_end() {
    let (mut state, rules, start) = state(&[]);
    fill(&mut state, &rules, start);
    state.ask(&polling("a"), &rules, start);
    assert!(state.reading_due(start));
    for holder in ["0", "1"] {
        state.give_up(holder, by(holder).address, start + SECOND);
    }
    state.news();
    assert!(!state.reading_due(start + SECOND), "whoever asks now is let in");
}

#[test]
fn what_is_undone_again_and_again_leaves_as_much_room_as_there_was() {
    let (mut state, rules, start) = state(&[]);
    for n in 0..100 {
        let at = start + MILLI * n;
        let (id, before) = granted(state.ask(&by("e"), &rules, at));
        state.news();
        state.undo(id, before, at);
        state.news();
    }
    fill(&mut state, &rules, start + SECOND);
    seat(&state.ask(&by("h"), &rules, start + SECOND));
}

#[test]
fn a_refusal_names_its_cause() {
    let reason = |state: &mut State, rules: &Rules, ask: &Ask, now| match state.ask(ask, rules, now) {
        Decision::Now(Outcome::Busy { refusal, pressure: None, .. }) => refusal.cause,
        Decision::Now(Outcome::Granted { would: Some(would), .. }) | Decision::Now(Outcome::Passed(would)) => {
            let Outcome::Busy { refusal, pressure: None, .. } = *would else { panic!("{would:?}") };
            refusal.cause
        }
        other => panic!("{other:?}"),
    };
    let probe = Ask { duration: Some(Duration::ZERO), ..polling("p") };
    for mode in ["enforce", "shadow"] {
        let (mut state, rules, start) = state(&[("PSL_MODE", mode)]);
        fill(&mut state, &rules, start);
        for ask in [&probe, &polling("a"), &probe] {
            assert_eq!(reason(&mut state, &rules, ask, start), Cause::NoRoom, "{mode}: {ask:?}");
        }
        let slots = state.view(start, 0).slots;
        assert_eq!(slots, 16 * CORES, "{mode}: free they are");
        state.limit = None;
        state.book.set_slots(CORES);
        assert_eq!(reason(&mut state, &rules, &probe, start), Cause::Taken, "{mode}");
    }
}

#[test]
fn nobody_looks_at_the_node_while_the_checks_hold_everybody_back() {
    for mode in ["enforce", "shadow"] {
        let (mut state, rules, start) = state(&[("PSL_MODE", mode), ("PSL_HC_ENDPOINTS", "tcp://db:1")]);
        let round = |state: &mut State, result, now| state.round(vec![result], now, now + 60 * SECOND);
        round(&mut state, Ok(()), start);
        fill(&mut state, &rules, start);
        state.ask(&by("a"), &rules, start);
        assert!(state.reading_due(start), "{mode}: somebody waits for a slot");
        round(&mut state, Err("refused".to_owned()), start + SECOND);
        state.ask(&polling("b"), &rules, start + SECOND);
        assert!(state.view(start + SECOND, 0).queue_length > 0, "{mode}: both wait, but not for a slot");
        assert!(!state.reading_due(start + SECOND), "{mode}");
        let next = state.next_event(start + SECOND).unwrap();
        assert!(next > start + 20 * SECOND, "{mode}: the clock sleeps, next in {:?}", next - start);
        let late = start + 62 * SECOND;
        state.tick(late);
        assert!(state.next_event(late).unwrap() > late, "{mode}: nor does it spin while a round takes its time");
        round(&mut state, Ok(()), late);
        state.ask(&polling("b"), &rules, late);
        assert!(state.reading_due(late), "{mode}");
    }
}

#[test]
fn the_floor_lets_one_start_also_where_the_window_has_no_room() {
    let (mut state, rules, start) = state(&[("PSL_CPU_PRESSURE", "50"), ("PSL_GATE_FLOOR", "2s")]);
    let high = [Some(9000), None, None];
    fill(&mut state, &rules, start);
    state.feel(high, start);
    let first = seat(&state.ask(&by("a"), &rules, start));
    let second = seat(&state.ask(&by("b"), &rules, start));
    // Far more threads than cores all the time, and nothing ends.
    for tenth in 0..=20 {
        let at = start + 100 * MILLI * tenth;
        state.read(reading(start, at, 9 * CORES), at);
        state.feel(high, at);
    }
    let due = start + 2 * SECOND;
    assert_eq!(state.view(due, 0).limit.unwrap().reason, Reason::Busy);
    assert_eq!(state.news().called, [first], "one");
    granted(state.resume(&by("a"), &rules, first, start + 30 * SECOND, due));
    assert_eq!(seat(&state.resume(&by("b"), &rules, second, start + 30 * SECOND, due)), second, "the next 2 s later");
    assert_eq!(state.next_event(due).map(|at| at <= due + 2 * SECOND), Some(true));
}

#[test]
fn the_clock_wakes_when_there_is_room() {
    let (mut state, rules, start) = state(&[]);
    fill(&mut state, &rules, start);
    let waits = seat(&state.ask(&by("a"), &rules, start));
    let mut at = start;
    for wakes in 1.. {
        if state.reading_due(at) {
            state.read(reading(start, at, 1), at);
        }
        at = state.next_event(at).unwrap();
        assert!(wakes <= 30, "the clock spins");
        state.tick(at);
        if state.news().called == [waits] {
            break;
        }
    }
    assert!(at - start >= SECOND && at - start < 1200 * MILLI, "{:?}", at - start);
}

#[test]
fn in_shadow_mode_an_application_that_never_got_ready_is_no_start() {
    let expires = Some(2 * SECOND);
    for (name, is_watched, is_open, was_start) in [
        ("no port", false, false, true),
        ("a port that never answers", true, false, false),
        ("a port that is open before the application can run", true, true, true),
    ] {
        let (mut state, rules, start) = state(&[("PSL_MODE", "shadow")]);
        let ready = is_watched.then(|| Ready::parse("tcp:1").unwrap());
        let (id, _) = granted(state.ask(&Ask { ready, duration: expires, ..by("a") }, &rules, start));
        if let Some(target) = state.first_look(id) {
            state.first_looked(&target, if is_open { Seen::Open } else { Seen::Closed }, start);
        }
        let at = watch(&mut state, start, 2 * SECOND);
        state.tick(at);
        assert_eq!(state.news().ended.len(), 1, "{name}");
        let at = watch(&mut state, at, SECOND);
        assert_eq!(state.view(at, 0).limit.unwrap().cost != FIRST_COST, was_start, "{name}");
    }
}

#[test]
fn the_log_explains_once_a_minute_why_the_first_waiter_waits() {
    let (mut state, rules, start) = state(&[]);
    fill(&mut state, &rules, start);
    state.ask(&polling("a"), &rules, start);
    let mut explained = Vec::new();
    for tenth in 0..1300 {
        let at = start + 100 * MILLI * tenth;
        // It asks again, as its place would lapse.
        state.ask(&polling("a"), &rules, at);
        if let Some((status, waited)) = state.read(None, at) {
            assert_eq!(status.reason, Reason::Blind);
            explained.push(waited);
        }
    }
    assert_eq!(explained, [60 * SECOND, 120 * SECOND]);
}
