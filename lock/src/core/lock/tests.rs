//! The lock in virtual time: counts, gates, limit, refusals. The directory has the promises to
//! honest clients.

use super::readings::{RESOLUTION, STILL_WANTED};
use super::refusal::LONGEST_RETRY;
use super::*;
use crate::core::gate::CheckResult;
use crate::core::lease::Lease;
use crate::core::limit::Reading;
use crate::core::outcome::Cause;
use crate::core::pressure::{PressureLimits, Readings};
use crate::core::queue::Waiter;
use crate::core::scheduler::Durations;
use crate::core::tests::{MILLI, NANO, SECOND, polls, waits, zero};
use std::num::NonZeroU8;

mod promises;

const HIGH: Readings = [Some(9000), None, None];
const LOW: Readings = [Some(0), None, None];

fn settings(slots: Slots) -> Settings {
    let durations =
        Durations { default: 10 * SECOND, longest: 600 * SECOND, probe_pause: 500 * MILLI };
    Settings {
        slots,
        mode: Mode::Enforce,
        durations,
        pressure: PressureLimits { thresholds: [None; 3], floor: 20 * SECOND },
        node: NodeName::parse("here").ok(),
        endpoints: Vec::new(),
        max_hold: None,
        most_parked: 64,
    }
}

fn fixed(slots: usize, now: Instant) -> Lock {
    Lock::new(settings(Slots::Fixed(slots)), now)
}

/// Closed above 80 % of CPU pressure, with a floor of 20 s.
fn with_pressure_gate(slots: usize, now: Instant) -> Lock {
    let thresholds = [NonZeroU8::new(80), None, None];
    let pressure = PressureLimits { thresholds, floor: 20 * SECOND };
    Lock::new(Settings { pressure, ..settings(Slots::Fixed(slots)) }, now)
}

fn with_checks(slots: usize, max_hold: Option<Duration>, now: Instant) -> Lock {
    let endpoints = vec!["tcp://db:1".to_owned()];
    Lock::new(Settings { endpoints, max_hold, ..settings(Slots::Fixed(slots)) }, now)
}

fn down() -> Vec<CheckResult> {
    vec![Err("refused".to_owned())]
}

/// Asks without a connection that can wait.
fn ask(lock: &mut Lock, request: &LeaseRequest, now: Instant) -> Outcome {
    match lock.request(request, None, now) {
        Some(outcome) => outcome,
        None => panic!("parked without a name"),
    }
}

fn refusal(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Locked(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn grant(outcome: Outcome) -> Grant {
    match outcome {
        Outcome::Granted(grant) => grant,
        other => panic!("{other:?}"),
    }
}

/// The parked holders that were granted a lease since the last call.
fn granted(lock: &mut Lock) -> Vec<String> {
    let answers = lock.take_effects().answers.into_iter();
    let grants = answers.filter(|answer| matches!(answer.outcome, Outcome::Granted(_)));
    grants.map(|answer| answer.request.holder.unwrap().to_string()).collect()
}

fn park(lock: &mut Lock, name: &str, from: u32, id: u64, now: Instant) {
    assert_eq!(lock.request(&waits(name, from), Some(WaiterId(id)), now), None);
}

#[test]
fn counts_are_right_to_the_unit() {
    let start = zero();
    let mut lock = fixed(1, start);
    let elsewhere = LeaseRequest { node: NodeName::parse("there").ok(), ..polls("a", 1) };
    let here = LeaseRequest { node: NodeName::parse("here").ok(), ..polls("a", 1) };
    let probe = LeaseRequest { duration: Some(Duration::ZERO), ..polls("a", 1) };
    for request in [here, polls("a", 1), polls("b", 1), elsewhere, probe] {
        ask(&mut lock, &request, start);
    }
    lock.count(Kind::Invalid);
    park(&mut lock, "b", 1, 1, start);
    park(&mut lock, "c", 1, 2, start);
    park(&mut lock, "d", 1, 3, start);
    assert_eq!(
        lock.view(start, 9).totals.requests.of(Kind::Busy),
        1,
        "parked requests count with their outcome"
    );
    lock.hang_up(WaiterId(3), start + SECOND);
    lock.hang_up(WaiterId(3), start + SECOND);
    assert_eq!(lock.release("a", polls("a", 1).address, start + 4 * SECOND), ReleaseEffect::Lease);
    assert_eq!(lock.release("c", polls("c", 1).address, start + 5 * SECOND), ReleaseEffect::Waiter);
    lock.advance(start + 14 * SECOND);
    let view = lock.view(start + 14 * SECOND, 9);
    let requests = Kind::REQUESTS.map(|kind| view.totals.requests.of(kind));
    assert_eq!(requests, [2, 1, 3, 0, 1, 1, 1]);
    assert_eq!(view.totals.ended, [0, 1, 1]);
    assert_eq!((view.active, view.waiting, view.parked), (0, 0, 0));
    let effects = lock.take_effects();
    assert_eq!((effects.ended.len(), effects.answers.len()), (2, 2), "b's grant and c's refusal");
    assert_eq!(lock.take_effects(), Effects::default());
    let mut out = psl::metrics::Exposition::default();
    out.histogram("w", "waited", &view.totals.waited);
    out.histogram("h", "active", &view.totals.active);
    let text = out.finish();
    for line in ["w_sum 4", "w_count 2", "h_sum 14", "h_count 2"] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
}

#[test]
fn a_client_that_takes_and_releases_does_not_fill_the_log() {
    let start = zero();
    let mut lock = fixed(1, start);
    let mut logged = 0;
    for n in 0..3 * MOST_LOGGED as u32 {
        // Two seconds long in all.
        let now = start + 2 * SECOND / (3 * MOST_LOGGED as u32) * n;
        let is_quiet = grant(ask(&mut lock, &polls("a", 1), now)).is_quiet;
        logged += usize::from(!is_quiet);
        lock.release("a", polls("a", 1).address, now);
        assert_eq!(lock.take_effects().ended[0].lease.is_quiet, is_quiet);
    }
    assert_eq!(logged, 2 * MOST_LOGGED);
    let short = LeaseRequest { duration: Some(SECOND - NANO), ..polls("a", 1) };
    assert!(grant(ask(&mut lock, &short, start + 9 * SECOND)).is_quiet);
}

#[test]
fn time_that_comes_in_another_order_is_no_harm() {
    let start = zero();
    let mut lock = fixed(1, start);
    ask(&mut lock, &polls("a", 1), start + 20 * SECOND);
    refusal(ask(&mut lock, &polls("b", 2), start));
    park(&mut lock, "c", 3, 1, start);
    lock.advance(start + 5 * SECOND);
    assert_eq!(lock.view(start, 1).active, 1);
    assert_eq!(lock.poll_at(start + 20 * SECOND), Some(start + 30 * SECOND), "the lease of a");
    lock.advance(start + 30 * SECOND - NANO);
    assert_eq!(granted(&mut lock), Vec::<String>::new());
    lock.advance(start + 30 * SECOND);
    assert_eq!(granted(&mut lock), ["c"]);
}

#[test]
fn waiters_stay_parked_while_checks_fail_and_start_together() {
    for (max_hold, opens) in [(None, 25), (Some(15 * SECOND), 15)] {
        let start = zero();
        let mut lock = with_checks(3, max_hold, start);
        for n in 0..4 {
            park(&mut lock, &n.to_string(), n as u32, n, start);
        }
        refusal(ask(&mut lock, &polls("", 9), start));
        lock.finish_round(down(), start + SECOND, start + 25 * SECOND);
        let opens = start + opens * SECOND;
        lock.advance(opens - NANO);
        assert_eq!(granted(&mut lock), Vec::<String>::new());
        if max_hold.is_some() {
            assert_eq!(
                lock.poll_at(start + SECOND),
                Some(opens),
                "the clock wakes for the end of max_hold"
            );
            lock.advance(opens);
            let answers = lock.take_effects().answers;
            assert_eq!(answers.len(), 3);
            assert!(answers.into_iter().all(|answer| grant(answer.outcome).is_overridden));
        } else {
            lock.finish_round(vec![Ok(())], opens, opens + SECOND);
            assert_eq!(granted(&mut lock), ["0", "1", "2"]);
            lock.finish_round(down(), opens, opens + SECOND);
        }
        lock.release("0", polls("0", 0).address, opens);
        let expected = if max_hold.is_some() { vec!["3".to_owned()] } else { vec![] };
        assert_eq!(granted(&mut lock), expected, "a new failure closes the gate again");
    }
}

#[test]
fn a_refusal_names_no_time_that_cannot_be_known() {
    let start = zero();
    let mut lock = with_checks(2, Some(60 * SECOND), start);
    let response = refusal(ask(&mut lock, &polls("a", 1), start));
    assert_eq!(
        (response.cause, response.expected),
        (Cause::Checks(vec!["tcp://db:1: not checked yet".to_owned()]), None)
    );
    lock.finish_round(down(), start, start + 7 * SECOND + NANO);
    let response = refusal(ask(&mut lock, &polls("a", 1), start));
    assert_eq!(response.cause, Cause::Checks(vec!["tcp://db:1: refused".to_owned()]));
    assert_eq!(
        (response.retry_after, response.position, response.expected),
        (8 * SECOND, Some(1), None),
        "the next check"
    );
    lock.finish_round(down(), start + 58 * SECOND, start + 100 * SECOND);
    let response = refusal(ask(&mut lock, &polls("", 1), start + 58 * SECOND));
    assert_eq!(
        (response.retry_after, response.position, response.expected),
        (2 * SECOND, None, None),
        "the end of max_hold"
    );
    // The round is under way.
    let response = refusal(ask(&mut lock, &polls("", 1), start + 60 * SECOND - NANO));
    assert_eq!(response.retry_after, SECOND);

    let now = start + 60 * SECOND;
    lock.finish_round(vec![Ok(())], now, now + 100 * SECOND);
    for (name, seconds) in [("b", 12), ("c", 7)] {
        grant(ask(
            &mut lock,
            &LeaseRequest { duration: Some(SECOND * seconds), ..polls(name, 9) },
            now,
        ));
    }
    let response = refusal(ask(&mut lock, &polls("d", 1), now));
    assert_eq!(
        (response.cause, response.expected),
        (Cause::SlotsInUse, None),
        "no lease has ended"
    );
    assert_eq!(
        (response.retry_after, response.position),
        (7 * SECOND, Some(1)),
        "the next deadline"
    );
    lock.advance(now + 7 * SECOND);
    grant(ask(
        &mut lock,
        &LeaseRequest { duration: Some(40 * SECOND), ..polls("e", 9) },
        now + 7 * SECOND,
    ));
    let mut response = |name, from| {
        let response = refusal(ask(&mut lock, &polls(name, from), now + 7 * SECOND));
        (response.position, response.expected, response.retry_after)
    };
    // The leases end after 5 and 40 s, and one took 7 s.
    assert_eq!(response("d", 1), (Some(1), Some(5 * SECOND), 5 * SECOND));
    assert_eq!(response("f", 2), (Some(2), Some(40 * SECOND), LONGEST_RETRY));
    assert_eq!(response("g", 3), (Some(3), Some(12 * SECOND), 12 * SECOND));
    assert_eq!(response("", 4), (None, Some(47 * SECOND), LONGEST_RETRY), "behind all waiters");
}

#[test]
fn a_client_that_has_waited_is_to_come_back_at_once() {
    let start = zero();
    let mut lock = fixed(1, start);
    ask(&mut lock, &LeaseRequest { duration: Some(300 * SECOND), ..polls("a", 1) }, start);
    let long = LeaseRequest { wait: Some(600 * SECOND), ..waits("b", 2) };
    assert_eq!(lock.request(&long, Some(WaiterId(1)), start), None);
    assert_eq!(lock.poll_at(start), Some(start + LONGEST_WAIT));
    lock.advance(start + LONGEST_WAIT);
    let answers = lock.take_effects().answers;
    let response = refusal(answers[0].outcome.clone());
    assert_eq!(
        (response.retry_after, response.position, response.expected),
        (AT_ONCE, Some(1), None)
    );
    park(&mut lock, "b", 2, 2, start + 31 * SECOND);
    lock.release("a", polls("a", 1).address, start + 33 * SECOND);
    let waited = grant(lock.take_effects().answers.remove(0).outcome).waited;
    assert_eq!(waited, 33 * SECOND, "from its first request");
}

#[test]
fn a_retry_after_is_whole_seconds_also_at_the_ends_of_time() {
    let start = zero();
    let far = Duration::from_secs(u64::MAX);
    let durations = Durations { default: far, longest: far, probe_pause: far };
    let mut lock = Lock::new(Settings { durations, ..settings(Slots::Fixed(1)) }, start);
    let forever = LeaseRequest { duration: Some(far), wait: Some(far), ..polls("a", 1) };
    grant(ask(&mut lock, &forever, start));
    lock.release("a", forever.address, start + 1000 * SECOND);
    grant(ask(&mut lock, &forever, start + 1000 * SECOND));
    for n in 0..50 {
        for name in ["", &n.to_string()] {
            let response = refusal(ask(
                &mut lock,
                &LeaseRequest { duration: Some(far), ..polls(name, n) },
                start,
            ));
            assert!(
                response.retry_after >= SECOND && response.retry_after <= LONGEST_RETRY,
                "{response:?}"
            );
            assert_eq!(response.retry_after.subsec_nanos(), 0);
        }
    }
}

#[test]
fn a_probe_takes_no_lease() {
    let start = zero();
    let mut lock = fixed(1, start);
    let probe = LeaseRequest { duration: Some(Duration::ZERO), ..waits("p", 1) };
    assert_eq!(lock.request(&probe, Some(WaiterId(1)), start), Some(Outcome::SlotFree));
    grant(ask(&mut lock, &polls("a", 1), start));
    let response = refusal(ask(&mut lock, &probe, start));
    assert_eq!(
        (response.is_probe, response.position, response.retry_after),
        (true, None, 10 * SECOND)
    );
    assert_eq!((lock.view(start, 0).active, lock.view(start, 0).waiting), (1, 0));
}

#[test]
fn no_start_begins_under_pressure_and_each_lease_stays() {
    let start = zero();
    let mut lock = with_pressure_gate(4, start);
    assert!(
        lock.is_pressure_due(true, start) && !lock.is_pressure_due(false, start),
        "no client waits"
    );
    lock.read_pressure(LOW, start);
    grant(ask(&mut lock, &polls("a", 1), start));
    let at = start + SECOND;
    assert!(matches!(lock.read_pressure(HIGH, at), Some((true, text)) if text.contains("cpu 90%")));
    assert!(matches!(ask(&mut lock, &polls("a", 1), at), Outcome::AlreadyGranted { .. }));
    let response = refusal(ask(&mut lock, &polls("b", 2), at));
    let Cause::Pressure(reason) = &response.cause else { panic!("{response:?}") };
    assert!(
        reason.contains("cpu 90%") && reason.ends_with("one start begins in 20s at the latest"),
        "{reason}"
    );
    assert_eq!((response.position, response.expected), (Some(1), None), "no lease has ended");
    let probe = LeaseRequest { duration: Some(Duration::ZERO), ..polls("b", 2) };
    let response = refusal(ask(&mut lock, &probe, at));
    assert!(
        matches!(response, Refusal { cause: Cause::Pressure(_), is_probe: true, .. }),
        "{response:?}"
    );
    park(&mut lock, "c", 3, 1, at);
    assert!(
        !lock.is_pressure_due(false, at + SECOND - NANO)
            && lock.is_pressure_due(false, at + SECOND)
    );
    assert_eq!(
        lock.poll_at(at),
        Some(at + SECOND),
        "a waiter is parked: the pressure is read again"
    );
    assert_eq!(granted(&mut lock), Vec::<String>::new());
    assert!(matches!(lock.read_pressure(LOW, at + SECOND), Some((false, _))));
    assert_eq!(granted(&mut lock), ["c"]);
    let counts = lock.view(at, 0).totals.requests;
    assert_eq!((counts.of(Kind::Pressure), counts.of(Kind::Busy)), (1, 0));
}

#[test]
fn the_floor_lets_the_first_waiter_start() {
    let start = zero();
    let mut lock = with_pressure_gate(4, start);
    lock.read_pressure(HIGH, start);
    for n in 0..3 {
        park(&mut lock, &n.to_string(), n as u32, n, start);
    }
    let due = start + 20 * SECOND;
    for second in 1..20 {
        lock.read_pressure(HIGH, start + SECOND * second);
    }
    assert_eq!(lock.poll_at(due - SECOND), Some(due), "the clock wakes for it");
    lock.advance(due - NANO);
    assert_eq!(granted(&mut lock), Vec::<String>::new());
    refusal(ask(&mut lock, &polls("", 9), due));
    assert_eq!(granted(&mut lock), ["0"], "a client that comes in between does not take it");
    for second in 1..20 {
        lock.read_pressure(HIGH, due + SECOND * second);
    }
    for n in 1..3 {
        park(&mut lock, &n.to_string(), n as u32, n + 10, due + 19 * SECOND);
    }
    lock.advance(due + 20 * SECOND);
    assert_eq!(granted(&mut lock), ["1"], "one, and the next after another floor");
    assert_eq!(lock.pressure.starts(), 2);
}

#[test]
fn a_grant_that_was_not_read_gives_back_slot_and_floor() {
    let start = zero();
    let mut lock = with_pressure_gate(4, start);
    lock.read_pressure(HIGH, start);
    park(&mut lock, "a", 1, 1, start);
    park(&mut lock, "b", 2, 2, start);
    let due = start + 20 * SECOND;
    lock.read_pressure(HIGH, due);
    let answer = lock.take_effects().answers.remove(0);
    assert_eq!(answer.waiter, WaiterId(1));
    let Grant { lease, arrival, .. } = grant(answer.outcome);
    lock.undo(lease, arrival, due + SECOND);
    assert_eq!(granted(&mut lock), ["b"]);
    assert_eq!(lock.pressure.starts(), 1);
}

#[test]
fn without_a_reading_no_client_waits_for_pressure() {
    let start = zero();
    let mut lock = with_pressure_gate(1, start);
    lock.read_pressure([None; 3], start);
    grant(ask(&mut lock, &polls("a", 1), start));
    lock.read_pressure(HIGH, start + SECOND);
    park(&mut lock, "b", 2, 1, start + SECOND);
    lock.advance(start + 10 * SECOND);
    assert_eq!(granted(&mut lock), Vec::<String>::new());
    lock.read_pressure([None; 3], start + 10 * SECOND);
    assert_eq!(granted(&mut lock), ["b"]);
}

#[test]
fn the_checks_come_before_the_pressure() {
    let start = zero();
    let mut lock = with_pressure_gate(1, start);
    lock.gate = Gate::new(vec!["tcp://db:1".to_owned()], None, start);
    lock.read_pressure(HIGH, start);
    assert_eq!(ask(&mut lock, &polls("a", 1), start).kind(), Kind::GateClosed);
    lock.finish_round(vec![Ok(())], start + SECOND, start + 60 * SECOND);
    assert_eq!(ask(&mut lock, &polls("a", 1), start + SECOND).kind(), Kind::Pressure);
    lock.read_pressure(HIGH, start + 20 * SECOND);
    grant(ask(&mut lock, &polls("a", 1), start + 20 * SECOND));
}

#[test]
fn the_limit_admits_as_many_as_its_quota() {
    let start = zero();
    let mut lock = Lock::new(settings(Slots::Auto { cores: 2, most: 8 }), start);
    for n in 0..4 {
        let reply = lock.request(&waits(&n.to_string(), n as u32), Some(WaiterId(n)), start);
        assert_eq!(reply, None);
    }
    let quota = |lock: &Lock| lock.quota(start).unwrap().more;
    let mut answers = lock.take_effects().answers;
    assert_eq!((answers.len(), quota(&lock)), (2, 0), "without a reading one start for each core");
    let response = refusal(ask(&mut lock, &polls("p", 9), start));
    assert!(matches!(response.cause, Cause::Limit(_)), "slots are free: {response:?}");
    let Grant { lease, arrival, .. } = grant(answers.remove(0).outcome);
    lock.undo(lease, arrival, start);
    assert_eq!(
        (granted(&mut lock), quota(&lock)),
        (vec!["2".to_owned()], 0),
        "an undone start gives its room back"
    );
    lock.release("1", polls("1", 1).address, start);
    assert_eq!(
        (granted(&mut lock), quota(&lock)),
        (vec!["3".to_owned()], 0),
        "an ended start makes room"
    );
    for name in ["2", "3"] {
        lock.release(name, polls("", name.parse().unwrap()).address, start);
    }
    assert_eq!(quota(&lock), 2);
}

/// Two cores that are idle, or stall.
fn reading(start: Instant, at: Instant, stalled: f64) -> Reading {
    let since = at - start + 60 * SECOND;
    Reading { at, busy: SECOND, idle: 2 * since, runnable: 0, cores: 2, stalled }
}

/// Lets the clock of an automatic lock run, as the thread does; how often it woke.
fn run(lock: &mut Lock, start: Instant, mut now: Instant, until: Instant, stalled: f64) -> usize {
    let mut wakes = 0;
    while let Some(at) = lock.poll_at(now).filter(|at| *at <= until) {
        now = at;
        wakes += 1;
        if lock.is_load_due(now) {
            lock.read_load(Some(reading(start, now, stalled)), now);
        }
        lock.advance(now);
    }
    wakes
}

fn waits_for_long_lease(name: &str, from: u32) -> LeaseRequest {
    LeaseRequest { duration: Some(600 * SECOND), ..waits(name, from) }
}

fn automatic(start: Instant) -> Lock {
    Lock::new(settings(Slots::Auto { cores: 2, most: 32 }), start)
}

#[test]
fn a_waiter_wakes_the_clock_for_readings_and_starts_alone() {
    let start = zero();
    for is_closed in [false, true] {
        let mut lock = automatic(start);
        for n in 0..2 {
            lock.request(
                &waits_for_long_lease(&n.to_string(), n),
                Some(WaiterId(u64::from(n))),
                start,
            );
        }
        assert_eq!(granted(&mut lock), ["0", "1"]);
        // As much credit as an idle node has saved.
        let now = start + 10 * SECOND;
        if is_closed {
            lock.gate = Gate::new(vec!["tcp://db:1".to_owned()], None, now);
        }
        for n in 2..40 {
            lock.request(
                &waits_for_long_lease(&n.to_string(), n),
                Some(WaiterId(u64::from(n))),
                now,
            );
        }
        lock.take_effects();
        let wakes = run(&mut lock, start, now, now + 2 * SECOND, 0.0);
        assert!(wakes <= if is_closed { 1 } else { 50 }, "{wakes} with a closed gate: {is_closed}");
        assert_eq!(granted(&mut lock).is_empty(), is_closed);
    }
}

#[test]
fn an_old_reading_holds_no_start_back() {
    let start = zero();
    let mut lock = automatic(start);
    grant(ask(&mut lock, &waits_for_long_lease("a", 1), start));
    park(&mut lock, "b", 2, 1, start);
    park(&mut lock, "c", 3, 2, start);
    run(&mut lock, start, start, start + 5 * SECOND, 0.9);
    let response = refusal(ask(&mut lock, &polls("", 9), start + 5 * SECOND));
    let Cause::Limit(reason) = response.cause else { panic!("{response:?}") };
    assert!(
        reason.starts_with("the node stalls on memory or a disk: 1 start at a time"),
        "{reason}"
    );
    for (name, from) in [("b", 2), ("c", 3)] {
        lock.release(name, polls("", from).address, start + 5 * SECOND);
    }
    grant(ask(&mut lock, &polls("d", 4), start + 300 * SECOND));
}

#[test]
fn the_expected_time_beside_a_limit_is_that_of_its_pace() {
    let start = zero();
    let mut lock = automatic(start);
    grant(ask(&mut lock, &polls("first", 1), start));
    lock.release("first", polls("", 1).address, start + 5 * SECOND);
    for n in 0..20 {
        lock.request(
            &waits_for_long_lease(&n.to_string(), n),
            Some(WaiterId(u64::from(n))),
            start + 6 * SECOND,
        );
    }
    let now = start + 9 * SECOND;
    run(&mut lock, start, start + 6 * SECOND, now, 0.0);
    let response = refusal(ask(&mut lock, &polls("late", 99), now));
    let Cause::Limit(reason) = &response.cause else { panic!("{response:?}") };
    assert!(
        reason.starts_with("starts are paced: 2.0 of 2 cores idle; the next start begins in "),
        "{reason}"
    );
    // Leases last ten minutes, and one start a second is admitted at least.
    let (position, expected) = (response.position.unwrap() as u32, response.expected.unwrap());
    assert!(
        position > 5 && expected <= 4 * SECOND + position * SECOND,
        "{expected:?} at {position}"
    );
    assert!(expected >= SECOND, "{expected:?}");
}

#[test]
fn a_waiter_beside_free_slots_is_logged_once_a_minute() {
    let start = zero();
    for (slots, expected) in [(Slots::Auto { cores: 2, most: 32 }, 5), (Slots::Fixed(1), 0)] {
        let mut lock = Lock::new(settings(slots), start);
        grant(ask(&mut lock, &waits_for_long_lease("a", 1), start));
        let (mut now, mut keys, mut logged) = (start + SECOND, 1, Vec::new());
        // On the automatic lock the second start of the floor begins before the first reading.
        for (key, name) in ["b", "c"].into_iter().enumerate() {
            lock.request(&waits_for_long_lease(name, 2), Some(WaiterId(key as u64)), now);
        }
        lock.take_effects();
        while let Some(at) = lock.poll_at(now).filter(|at| *at <= start + 302 * SECOND) {
            now = at;
            if lock.is_load_due(now) {
                lock.read_load(Some(reading(start, now, 0.9)), now);
            }
            lock.advance(now);
            let Effects { answers, stall, .. } = lock.take_effects();
            for answer in answers {
                keys += 1;
                lock.request(&answer.request, Some(WaiterId(keys)), now);
            }
            logged.extend(stall.map(|stall| (now - start, stall)));
        }
        assert_eq!(logged.len(), expected, "{logged:?}");
        for (nth, (at, stall)) in (1..).zip(&logged) {
            assert!((*at - SECOND).abs_diff(60 * SECOND * nth) < SECOND, "{logged:?}");
            assert!(
                *stall.holder == *"c" && stall.reason.starts_with("the node stalls"),
                "{stall:?}"
            );
        }
    }
}

#[test]
fn restored_leases_are_starts() {
    let start = zero();
    let restored = |is_told: bool| {
        let mut lock = automatic(start);
        for n in 0..6u32 {
            let request = waits_for_long_lease(&n.to_string(), n);
            let since = start - SECOND;
            let lease = Lease {
                id: LeaseId(0),
                holder: request.holder,
                address: request.address,
                since,
                deadline: start + 60 * SECOND,
                watch: None,
                is_quiet: false,
                has_moved: false,
                is_confirmed: true,
            };
            lock.scheduler_mut().restore_lease(lease, start);
        }
        if is_told {
            lock.finish_restore();
        }
        for n in 10..20 {
            lock.request(
                &waits_for_long_lease(&n.to_string(), n),
                Some(WaiterId(u64::from(n))),
                start,
            );
        }
        run(&mut lock, start, start, start + SECOND, 0.0);
        granted(&mut lock).len()
    };
    // Six are in the kubelet's gap already: that is the most on two cores.
    assert_eq!((restored(false), restored(true)), (2, 0));
}

#[test]
fn the_load_is_read_while_a_waiter_may_be_let_in() {
    let start = zero();
    let mut lock = Lock::new(settings(Slots::Auto { cores: 1, most: 8 }), start);
    assert_eq!((lock.next_load(start), lock.is_load_due(start + 9 * SECOND)), (None, false));
    grant(ask(&mut lock, &LeaseRequest { duration: Some(90 * SECOND), ..polls("a", 1) }, start));
    assert_eq!(lock.next_load(start), None, "no client waits");
    park(&mut lock, "b", 2, 1, start);
    assert!(lock.poll_at(start).is_some_and(|at| at <= start + SECOND));
    lock.hang_up(WaiterId(1), start);
    assert_eq!(lock.next_load(start), None);
    refusal(ask(&mut lock, &polls("", 3), start));
    assert!(
        lock.next_load(start + STILL_WANTED - NANO).is_some(),
        "a polling client is a waiter, too"
    );
    assert_eq!(lock.next_load(start + STILL_WANTED), None);
    assert_eq!(fixed(1, start).next_load(start), None);
}

/// The slot is free at the same moment, and the next waiter hangs up as well.
#[test]
fn a_waiter_that_hangs_up_gets_no_slot_that_is_free_by_then() {
    let start = zero();
    let mut lock = fixed(1, start);
    ask(&mut lock, &polls("a", 1), start);
    for (name, id) in [("b", 1), ("c", 2), ("d", 3)] {
        park(&mut lock, name, id as u32 + 1, id, start);
    }
    let end = start + 10 * SECOND;
    lock.hang_up(WaiterId(1), end);
    lock.hang_up(WaiterId(2), end);
    lock.advance(end);
    assert_eq!(granted(&mut lock), ["d"]);
}

/// Also if the time of the reading has passed when the waiter parks.
#[test]
fn the_clock_wakes_for_a_reading_of_the_pressure_that_is_due() {
    let start = zero();
    let mut lock = with_pressure_gate(1, start);
    lock.read_pressure(HIGH, start);
    park(&mut lock, "a", 1, 1, start + SECOND);
    for millis in [0, 1, 500] {
        let now = start + SECOND + millis * MILLI;
        assert!(lock.is_pressure_due(false, now), "{millis}");
        assert_eq!(lock.poll_at(now), Some(now + RESOLUTION), "{millis}");
    }
    lock.read_pressure(HIGH, start + 2 * SECOND);
    assert_eq!(lock.poll_at(start + 2 * SECOND), Some(start + 3 * SECOND));
}

/// A lease that began long ago, so that the limit has saved a start.
fn begin_long_lease(lock: &mut Lock, start: Instant) -> Instant {
    grant(ask(lock, &LeaseRequest { duration: Some(600 * SECOND), ..polls("a", 1) }, start));
    start + 5 * SECOND
}

/// Without readings the time of the next start is unknown.
#[test]
fn the_clock_rests_while_a_gate_holds_the_waiters_of_an_automatic_limit_back() {
    let start = zero();
    let auto = settings(Slots::Auto { cores: 1, most: 16 });
    let mut checked =
        Lock::new(Settings { endpoints: vec!["tcp://db:1".to_owned()], ..auto.clone() }, start);
    checked.finish_round(vec![Ok(())], start, start);
    let now = begin_long_lease(&mut checked, start);
    checked.finish_round(down(), now, now + SECOND);
    park(&mut checked, "b", 2, 1, now);
    assert_eq!(checked.poll_at(now), Some(now + 30 * SECOND), "the end of the wait");

    let pressure =
        PressureLimits { thresholds: [NonZeroU8::new(80), None, None], floor: 20 * SECOND };
    let mut pressed = Lock::new(Settings { pressure, ..auto }, start);
    let now = begin_long_lease(&mut pressed, start);
    pressed.read_pressure(HIGH, now);
    park(&mut pressed, "b", 2, 1, now);
    assert_eq!(pressed.poll_at(now), Some(now + SECOND), "the next reading of the pressure");
}

#[test]
fn the_clock_rests_between_the_first_readings_of_an_automatic_limit() {
    let start = zero();
    let mut lock = Lock::new(settings(Slots::Auto { cores: 1, most: 16 }), start);
    let begin = begin_long_lease(&mut lock, start);
    park(&mut lock, "b", 2, 1, begin);
    let (mut now, mut wakes) = (begin, 0);
    while now < begin + SECOND {
        now = lock.poll_at(now).unwrap();
        wakes += 1;
        if lock.is_load_due(now) {
            // The core is busy, so that the pace admits no start.
            let reading = Reading {
                at: now,
                busy: now - start,
                idle: MILLI,
                runnable: 9,
                cores: 1,
                stalled: 0.0,
            };
            lock.read_load(Some(reading), now);
        }
        lock.advance(now);
    }
    assert!(wakes <= 24, "{wakes}");
}
