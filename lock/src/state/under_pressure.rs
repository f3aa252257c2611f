//! The pressure gate and the line together, in virtual time.

use std::ffi::OsString;

use super::*;
use crate::book::Cause;
use crate::config::PROGRAM;
use psl::args::Given;

const NANO: Duration = Duration::from_nanos(1);
const SECOND: Duration = Duration::from_secs(1);
const HIGH: Readings = [Some(9000), None, None];
const LOW: Readings = [Some(0), None, None];

#[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
fn state(slots: usize) -> (State, Rules, Instant) {
    let variables = [("PSL_CPU_PRESSURE", "80"), ("PSL_GATE_FLOOR", "20s")];
    let lookup = move |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
    let config = Config::from(Given::read(&PROGRAM, Vec::new(), lookup).unwrap()).unwrap();
    let now = Instant::now();
    (State::new(crate::config::Slots::Fixed(slots), &config, now), config.rules, now)
}

fn by(holder: &str, from: u8) -> Ask {
    let address = [10, 0, 0, from].into();
    Ask { address, holder: Some(holder.into()), duration: None, ready: None, wait: None, node: None }
}

fn held(holder: &str, from: u8) -> Ask {
    Ask { wait: Some(10 * SECOND), ..by(holder, from) }
}

fn seat(decision: &Decision) -> Seat {
    match decision {
        Decision::Later { seat, .. } => *seat,
        now => panic!("{now:?}"),
    }
}

fn is_granted(decision: &Decision) -> bool {
    matches!(decision, Decision::Now(Outcome::Granted { .. }))
}

#[test]
fn nobody_starts_under_pressure_and_everybody_keeps_what_he_has() {
    let (mut state, rules, start) = state(4);
    assert!(state.pressure_due(true, start) && !state.pressure_due(false, start), "nobody waits");
    state.feel(LOW, start);
    assert!(is_granted(&state.ask(&by("a", 1), &rules, start)));
    assert_eq!(state.feel(HIGH, start + SECOND).map(|(holds, _)| holds), Some(true));
    let at = start + SECOND;
    assert!(matches!(state.ask(&by("a", 1), &rules, at), Decision::Now(Outcome::Again { .. })));
    let Decision::Now(Outcome::Busy { refusal, pressure: Some(reason), .. }) = state.ask(&by("b", 2), &rules, at)
    else {
        panic!()
    };
    assert_eq!((refusal.position, refusal.free_in, refusal.cause), (Some(1), 20 * SECOND, Cause::NoRoom));
    assert!((3..=5).contains(&refusal.retry_after.as_secs()), "it may open at any time: {refusal:?}");
    assert!(reason.contains("cpu 90%") && reason.ends_with("one starts in 20s at the latest"), "{reason}");
    let probe = Ask { duration: Some(Duration::ZERO), ..by("b", 2) };
    let probe = state.ask(&probe, &rules, at);
    assert!(matches!(probe, Decision::Now(Outcome::Busy { pressure: Some(_), is_probe: true, .. })), "{probe:?}");
    let later = state.ask(&held("c", 3), &rules, at);
    assert_eq!(state.next_event(at), Some(at + SECOND), "somebody waits: it is read again");
    state.news();
    assert_eq!(state.feel(LOW, at + SECOND).map(|(holds, _)| holds), Some(false));
    assert_eq!(state.news().called, [seat(&later)]);
    assert_eq!(state.counts.requests[Counted::Busy as usize], 1, "{:?}", state.counts);
}

#[test]
fn the_floor_lets_one_through_and_it_is_the_head_of_the_line() {
    let (mut state, rules, start) = state(4);
    state.feel(HIGH, start);
    let seats: Vec<_> = (0..3).map(|n| seat(&state.ask(&held(&n.to_string(), n), &rules, start))).collect();
    let due = start + 20 * SECOND;
    let until = start + 3600 * SECOND;
    for second in 1..20 {
        state.feel(HIGH, start + SECOND * second);
    }
    assert_eq!(state.next_event(due - SECOND), Some(due), "the clock wakes for it");
    state.tick(due - NANO);
    assert!(state.news().called.is_empty());
    state.tick(due);
    assert_eq!(state.news().called, [seats[0]]);
    // Whoever comes in between does not take it.
    assert!(!is_granted(&state.ask(&by("stranger", 9), &rules, due)));
    assert!(is_granted(&state.resume(&held("0", 0), &rules, seats[0], until, due)));
    assert!(!is_granted(&state.resume(&held("1", 1), &rules, seats[1], until, due)));
    assert!(!state.news().called.contains(&seats[1]), "one, and the next 20 s later");
    state.feel(HIGH, due + 19 * SECOND);
    state.tick(due + 20 * SECOND);
    assert_eq!(state.news().called, [seats[1]]);
    assert_eq!(state.pressure.let_through(), 1);
}

#[test]
fn a_start_that_could_not_be_told_does_not_use_the_floor_up() {
    let (mut state, rules, start) = state(4);
    state.feel(HIGH, start);
    let later = state.ask(&held("a", 1), &rules, start);
    let next = seat(&state.ask(&held("b", 2), &rules, start));
    let due = start + 20 * SECOND;
    state.feel(HIGH, due);
    let until = start + 3600 * SECOND;
    let granted = state.resume(&held("a", 1), &rules, seat(&later), until, due);
    let Decision::Now(Outcome::Granted { id, before, .. }) = granted else { panic!("{granted:?}") };
    state.news();
    state.undo(id, before, due + SECOND);
    assert_eq!(state.news().called, [next], "nothing is kept for who has gone");
    assert!(is_granted(&state.resume(&held("b", 2), &rules, next, until, due + SECOND)));
    assert_eq!(state.pressure.let_through(), 1);
}

#[test]
fn without_a_reading_nobody_waits() {
    let (mut state, rules, start) = state(1);
    state.feel([None; 3], start);
    assert!(is_granted(&state.ask(&by("a", 1), &rules, start)));
    state.feel(HIGH, start + SECOND);
    state.ask(&by("b", 2), &rules, start + SECOND);
    // The files have gone, and a's lease has ended.
    state.feel([None; 3], start + 10 * SECOND);
    assert!(is_granted(&state.ask(&by("b", 2), &rules, start + 10 * SECOND)));
}

#[test]
fn the_checks_come_first() {
    let (mut state, rules, start) = state(1);
    state.gate = Gate::new(vec!["tcp://db:1".to_owned()], None, start);
    state.feel(HIGH, start);
    assert!(matches!(state.ask(&by("a", 1), &rules, start), Decision::Now(Outcome::GateClosed { .. })));
    state.round(vec![Ok(())], start + SECOND, start + 60 * SECOND);
    let then = state.ask(&by("a", 1), &rules, start + SECOND);
    assert!(matches!(then, Decision::Now(Outcome::Busy { pressure: Some(_), .. })), "{then:?}");
    state.feel(HIGH, start + 20 * SECOND);
    assert!(is_granted(&state.ask(&by("a", 1), &rules, start + 20 * SECOND)), "the floor counts from when it closed");
}
