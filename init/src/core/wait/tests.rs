use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn rules(max_wait: Option<u64>, unreachable_wait: Option<u64>, at_bound: AtBound) -> Rules {
    Rules {
        pause: SECOND,
        wait: 10 * SECOND,
        attempt_timeout: SECOND,
        max_wait: max_wait.map(seconds),
        unreachable_wait: unreachable_wait.map(seconds),
        at_bound,
    }
}

fn endless() -> WaitState {
    with_reason(rules(None, None, AtBound::Start))
}

/// A lock has answered before, so requests are parked for the full `--wait`.
fn with_reason(rules: Rules) -> WaitState {
    WaitState { has_reason: true, ..WaitState::new(rules, true, [0.0; 2]) }
}

#[test]
fn first_wait_is_short_and_longer_than_the_pause() {
    let wait = |pause: u64, answered: Option<Result<(), Reason>>| {
        let mut waiting = WaitState::new(
            Rules { pause: seconds(pause), ..rules(None, None, AtBound::Start) },
            true,
            [0.0; 2],
        );
        if let Some(answer) = answered {
            waiting.process(&answer, Duration::ZERO, SECOND, 0.0);
        }
        asks(waiting.next(SECOND)).wait
    };
    assert_eq!([wait(1, None), wait(5, None)], [FIRST_WAIT, seconds(6)]);
    assert_eq!(
        wait(1, Some(no_lease(ReasonKind::ConnectionRefused, "refused"))),
        FIRST_WAIT,
        "no lock has given a reason"
    );
    assert_eq!(wait(1, Some(locked(None))), seconds(10));
}

fn asks(next: Action) -> Attempt {
    match next {
        Action::Ask(attempt) => attempt,
        other => panic!("{other:?}"),
    }
}

fn no_lease(kind: ReasonKind, text: &str) -> Result<(), Reason> {
    Err(Reason { kind, text: text.to_owned(), retry_after: None })
}

fn answer(kind: ReasonKind, retry_after: Option<Duration>) -> Result<(), Reason> {
    Err(Reason { kind, text: "423 Locked".to_owned(), retry_after })
}

fn locked(retry_after: Option<Duration>) -> Result<(), Reason> {
    answer(ReasonKind::Locked, retry_after)
}

impl WaitState {
    /// Processes an attempt that took no time.
    fn process_at_once(
        &mut self,
        answer: &Result<(), Reason>,
        now: Duration,
        chance: f64,
    ) -> (Action, LogLevel) {
        self.process(answer, now, now, chance)
    }
}

#[test]
fn a_late_grant_still_counts() {
    let mut waiting = WaitState::new(rules(Some(8), Some(2), AtBound::Fail), false, [0.0; 2]);
    for now in [Duration::ZERO, seconds(7), seconds(100)] {
        assert_eq!(
            waiting.process_at_once(&Ok(()), now, 0.5),
            (Action::Granted, LogLevel::Debug),
            "a late grant"
        );
    }
}

#[test]
fn bounds_are_exact() {
    let start = |bound| Action::Start(bound);
    for (name, max_wait, unreachable_wait, at_bound, at, bound, end) in [
        ("max-wait", Some(8), None, AtBound::Start, 8, Bound::MaxWait, start(Bound::MaxWait)),
        (
            "max-wait, fail",
            Some(8),
            None,
            AtBound::Fail,
            8,
            Bound::MaxWait,
            Action::Fail(Bound::MaxWait),
        ),
        (
            "unreachable",
            None,
            Some(2),
            AtBound::Start,
            2,
            Bound::UnreachableWait,
            start(Bound::UnreachableWait),
        ),
        (
            "unreachable, fail",
            None,
            Some(2),
            AtBound::Fail,
            2,
            Bound::UnreachableWait,
            Action::Fail(Bound::UnreachableWait),
        ),
        (
            "the earlier of both",
            Some(8),
            Some(2),
            AtBound::Start,
            2,
            Bound::UnreachableWait,
            start(Bound::UnreachableWait),
        ),
        (
            "the earlier of both",
            Some(2),
            Some(8),
            AtBound::Start,
            2,
            Bound::MaxWait,
            start(Bound::MaxWait),
        ),
        (
            "both at once",
            Some(2),
            Some(2),
            AtBound::Start,
            2,
            Bound::MaxWait,
            start(Bound::MaxWait),
        ),
    ] {
        let waiting = WaitState::new(rules(max_wait, unreachable_wait, at_bound), false, [0.0; 2]);
        let ends = seconds(at);
        assert_eq!(waiting.deadline(), Some((ends, bound)), "{name}");
        for now in [Duration::ZERO, ends - NANO] {
            let left = max_wait.map_or(Duration::MAX, |wait| seconds(wait) - now);
            assert_eq!(asks(waiting.next(now)).within, left, "{name}");
        }
        assert_eq!(waiting.next(ends), end, "{name}");
        assert_eq!(waiting.next(ends + NANO), end, "{name}");
        let refused = no_lease(ReasonKind::ConnectionRefused, "connection refused");
        assert_eq!(
            waiting.clone().process_at_once(&refused, ends - NANO, 1.0).0,
            Action::Pause(NANO),
            "{name}"
        );
        assert_eq!(
            waiting.clone().process_at_once(&refused, ends, 1.0),
            (end, LogLevel::Debug),
            "{name}"
        );
    }
}

#[test]
fn without_bounds_the_wait_never_ends() {
    let mut waiting = endless();
    assert_eq!(waiting.deadline(), None);
    for now in [Duration::ZERO, seconds(1_000_000), Duration::MAX] {
        let expected = Attempt { wait: 10 * SECOND, timeout: SECOND, within: Duration::MAX };
        assert_eq!(waiting.next(now), Action::Ask(expected));
        assert_eq!(waiting.process_at_once(&locked(None), now, 0.0).0, Action::Pause(SECOND));
    }
}

#[test]
fn chance_lengthens_each_bound_by_at_most_a_quarter() {
    for (chances, max_wait, unreachable_wait) in [
        ([0.0, 0.0], 8.0, 4.0),
        ([1.0, 0.0], 10.0, 4.0),
        ([0.0, 1.0], 8.0, 5.0),
        ([0.5, 0.5], 9.0, 4.5),
    ] {
        let only = |max, unreachable| {
            WaitState::new(rules(max, unreachable, AtBound::Start), false, chances)
                .deadline()
                .map(|(ends, _)| ends)
        };
        assert_eq!(only(Some(8), None), Some(Duration::from_secs_f64(max_wait)));
        assert_eq!(only(None, Some(4)), Some(Duration::from_secs_f64(unreachable_wait)));
    }
}

#[test]
fn silence_begins_with_the_first_request_without_an_answer_from_a_lock() {
    // Kind and `Retry-After` of an answer at second 3, then the second at which silence has lasted
    // for ten seconds.
    for (kind, retry_after, expected) in [
        (ReasonKind::Locked, None, 14),
        (ReasonKind::Locked, Some(0), 14),
        (ReasonKind::Locked, Some(28), 41),
        (ReasonKind::Locked, Some(3600), 43),
        (ReasonKind::BadRequest, None, 14),
        (ReasonKind::BadRequest, Some(28), 41),
        (ReasonKind::NotFound, None, 10),
        (ReasonKind::NotFound, Some(1), 10),
        (ReasonKind::NotFound, Some(28), 37),
        (ReasonKind::NotALock, None, 10),
        (ReasonKind::NotALock, Some(28), 37),
        (ReasonKind::NotALock, Some(3600), 39),
        (ReasonKind::ConnectionRefused, None, 10),
        (ReasonKind::NoAnswer, None, 10),
    ] {
        let mut waiting = WaitState::new(rules(None, Some(10), AtBound::Start), false, [0.0; 2]);
        let answer = answer(kind, retry_after.map(seconds));
        let (next, _) = waiting.process_at_once(&answer, seconds(3), 0.0);
        let deadline = Some((seconds(expected), Bound::UnreachableWait));
        assert_eq!(waiting.deadline(), deadline, "{kind:?} {retry_after:?}");
        let pause = seconds(retry_after.unwrap_or(1).clamp(1, 30));
        assert_eq!(next, Action::Pause(pause), "{kind:?} {retry_after:?}: no pause is cut");
    }
}

#[test]
fn after_a_parked_request_silence_begins_without_a_pause() {
    let mut waiting = WaitState::new(rules(None, Some(2), AtBound::Start), false, [0.0; 2]);
    let (next, _) = waiting.process(&locked(Some(SECOND)), Duration::ZERO, seconds(10), 0.0);
    assert_eq!(next, Action::Pause(Duration::ZERO), "a parked request is not silence");
    assert_eq!(waiting.deadline(), Some((seconds(12), Bound::UnreachableWait)));
}

#[test]
fn silence_begins_when_the_connection_of_a_parked_request_is_closed() {
    let cut = no_lease(ReasonKind::ConnectionClosed, "closed");
    let mut waiting = WaitState::new(rules(None, Some(5), AtBound::Start), false, [0.0; 2]);
    let bound = |waiting: &WaitState| waiting.deadline().map(|(ends, _)| ends);
    assert_eq!(
        waiting.process(&cut, Duration::ZERO, seconds(9), 0.0).0,
        Action::Pause(SECOND),
        "the lock restarts"
    );
    assert_eq!(bound(&waiting), Some(seconds(14)));
    assert_eq!(waiting.process(&cut, seconds(10), seconds(13), 0.0).0, Action::Pause(SECOND));
    assert_eq!(
        bound(&waiting),
        Some(seconds(14)),
        "the second cut in a row does not extend the bound"
    );
    waiting.process(&locked(None), seconds(13), seconds(13), 0.0);
    waiting.process(&cut, seconds(14), seconds(22), 0.0);
    assert_eq!(bound(&waiting), Some(seconds(27)), "the first cut after an answer");
}

#[test]
fn a_retry_after_from_another_server_does_not_end_the_silence() {
    let mut waiting = WaitState::new(rules(None, Some(5), AtBound::Start), false, [0.0; 2]);
    let busy = answer(ReasonKind::NotALock, Some(seconds(4)));
    let mut now = Duration::ZERO;
    let mut asked = 0;
    while let Action::Ask(_) = waiting.next(now) {
        asked += 1;
        match waiting.process_at_once(&busy, now, 0.0).0 {
            Action::Pause(pause) => now += pause,
            _ => break,
        }
    }
    assert_eq!((asked, now), (5, seconds(20)), "`--pause`, one second, counts of each pause");
}

#[test]
fn a_request_gets_its_whole_timeout_before_silence_ends_the_wait() {
    for (wait, attempt_timeout, unreachable_wait, timeout, whole) in [
        (10, 1, 120, 1, 12),
        (10, 1, 1, 1, 12),
        (0, 5, 2, 2, 4),
        (60, 3, 2, 2, 34),
        (0, 3600, 1, 1, 2),
    ] {
        let rules = Rules {
            wait: seconds(wait),
            attempt_timeout: seconds(attempt_timeout),
            ..rules(None, Some(unreachable_wait), AtBound::Start)
        };
        let mut waiting = WaitState { has_reason: true, ..WaitState::new(rules, false, [0.0; 2]) };
        let attempt = asks(waiting.next(seconds(unreachable_wait) - NANO));
        assert_eq!(
            (attempt.timeout, attempt.request_timeout()),
            (seconds(timeout), seconds(whole))
        );
        assert_eq!(attempt.within, Duration::MAX, "the bound does not cut the request");
        let answered = seconds(unreachable_wait + whole);
        let then = waiting
            .clone()
            .process(&locked(None), seconds(unreachable_wait) - NANO, answered, 0.0)
            .0;
        assert!(matches!(then, Action::Pause(_)), "an answer from a lock counts after the bound");
        let silent = no_lease(ReasonKind::NoAnswer, "silent");
        let then = waiting.process(&silent, seconds(unreachable_wait) - NANO, answered, 0.0).0;
        assert_eq!(then, Action::Start(Bound::UnreachableWait));
    }
}

#[test]
fn wait_fits_into_the_time_left() {
    let millis = Duration::from_millis;
    // In milliseconds: `--wait`, `--attempt-timeout`, time left of `--max-wait`, requested wait.
    for (wait, attempt_timeout, left, expected) in [
        (10_000, 1000, 480_000, 10_000),
        (10_000, 1000, 11_000, 10_000),
        (10_000, 1000, 10_999, 9_999),
        (10_000, 1000, 3_500, 2_500),
        (10_000, 1000, 1_001, 1),
        (10_000, 1000, 1_000, 0),
        (10_000, 1000, 1, 0),
        (10_000, 100, 3_500, 3_400),
        (10_000, 60_000, 3_500, 2_500),
        (250, 1000, 1_250, 250),
        (250, 1000, 1_249, 249),
        (0, 1000, 3_500, 0),
        // No lock parks a request for more than 30 seconds.
        (120_000, 1000, 31_000, 120_000),
        (120_000, 1000, 30_999, 29_999),
    ] {
        let rules = Rules {
            wait: millis(wait),
            attempt_timeout: millis(attempt_timeout),
            ..rules(Some(1000), None, AtBound::Start)
        };
        let attempt = asks(
            WaitState { has_reason: true, ..WaitState::new(rules, false, [0.0; 2]) }
                .next(seconds(1000) - millis(left)),
        );
        assert_eq!(attempt.wait, millis(expected), "{wait} {attempt_timeout} {left}");
        assert_eq!(attempt.within, millis(left));
    }
    let attempt =
        asks(WaitState::new(rules(Some(3), None, AtBound::Start), false, [0.0; 2]).next(NANO));
    assert_eq!(attempt.wait, millis(1999), "rounded down to the millisecond");
}

#[test]
fn an_answer_at_the_bound_still_counts() {
    let mut waiting = WaitState::new(rules(Some(20), Some(10), AtBound::Fail), false, [0.0; 2]);
    assert_eq!(waiting.process_at_once(&locked(None), seconds(10), 0.0).0, Action::Pause(SECOND));
    assert_eq!(waiting.process_at_once(&locked(None), seconds(19), 0.0).0, Action::Pause(SECOND));
    assert_eq!(
        waiting.process_at_once(&locked(None), seconds(20), 0.0).0,
        Action::Fail(Bound::MaxWait),
        "no answer extends --max-wait"
    );
}

#[test]
fn retry_after_lengthens_the_pause() {
    for (pause, retry_after, chance, expected) in [
        (1000, None, 0.0, 1000),
        (1000, None, 1.0, 1200),
        (1000, Some(0), 0.0, 1000),
        (1000, Some(5000), 0.0, 5000),
        (1000, Some(5000), 0.5, 5500),
        (5000, Some(1000), 0.0, 5000),
        (1000, Some(30_000), 0.0, 30_000),
        (1000, Some(31_000), 0.0, 30_000),
        (1000, Some(u64::MAX), 1.0, 36_000),
        (60_000, Some(40_000), 0.0, 60_000),
    ] {
        let rules =
            Rules { pause: Duration::from_millis(pause), ..rules(None, None, AtBound::Start) };
        let (next, _) = WaitState::new(rules, false, [0.0; 2]).process_at_once(
            &locked(retry_after.map(Duration::from_millis)),
            SECOND,
            chance,
        );
        assert_eq!(
            next,
            Action::Pause(Duration::from_millis(expected)),
            "{pause} {retry_after:?} {chance}"
        );
    }
}

#[test]
fn the_time_of_a_parked_request_counts_as_pause() {
    // In milliseconds: `Retry-After`, time of the attempt, chance, and the rest of the pause of a
    // second.
    for (name, kind, retry_after, took, chance, expected) in [
        ("at once", ReasonKind::Locked, None, 0, 0.0, 1000),
        ("parked for 300 ms", ReasonKind::Locked, None, 300, 0.0, 700),
        ("parked for a pause", ReasonKind::Locked, None, 1000, 0.0, 0),
        ("parked for longer", ReasonKind::Locked, Some(1000), 10_000, 0.0, 0),
        ("asks for less than the pause", ReasonKind::Locked, Some(0), 300, 0.0, 700),
        ("asks for the pause", ReasonKind::Locked, Some(1000), 300, 0.0, 700),
        ("asks for more than the pause", ReasonKind::Locked, Some(1001), 300, 0.0, 1001),
        (
            "asks for more, answered before the end",
            ReasonKind::Locked,
            Some(2000),
            9_999,
            0.0,
            2000,
        ),
        ("asks for more, answered at the end", ReasonKind::Locked, Some(2000), 10_000, 0.0, 0),
        ("with jitter", ReasonKind::Locked, None, 1000, 1.0, 200),
        ("longer than the pause with jitter", ReasonKind::Locked, Some(1000), 1200, 1.0, 0),
        ("lock of another node", ReasonKind::BadRequest, None, 300, 0.0, 1000),
        ("404", ReasonKind::NotFound, None, 300, 0.0, 1000),
        ("another server", ReasonKind::NotALock, Some(1000), 300, 0.0, 1000),
        ("refused", ReasonKind::ConnectionRefused, None, 300, 0.0, 1000),
        ("no answer", ReasonKind::NoAnswer, None, 10_000, 0.0, 1000),
    ] {
        let now = seconds(60);
        let asked = now - Duration::from_millis(took);
        let answer = answer(kind, retry_after.map(Duration::from_millis));
        let (next, _) = endless().process(&answer, asked, now, chance);
        assert_eq!(next, Action::Pause(Duration::from_millis(expected)), "{name}");
    }
    let (next, _) = endless().process(&locked(None), seconds(2), SECOND, 0.0);
    assert_eq!(next, Action::Pause(SECOND), "the clock goes backwards");
}

#[test]
fn a_pause_ends_at_the_bound() {
    let mut waiting = WaitState::new(rules(Some(10), None, AtBound::Start), false, [0.0; 2]);
    assert_eq!(
        waiting.process_at_once(&locked(Some(seconds(30))), seconds(7), 0.0).0,
        Action::Pause(seconds(3))
    );
    assert_eq!(waiting.next(seconds(10)), Action::Start(Bound::MaxWait));
}

#[test]
fn permanent_errors_are_warnings() {
    for (kind, expected) in [
        (ReasonKind::Locked, LogLevel::Info),
        (ReasonKind::BadRequest, LogLevel::Warn),
        (ReasonKind::NotFound, LogLevel::Warn),
        (ReasonKind::NotALock, LogLevel::Info),
        (ReasonKind::NoAnswer, LogLevel::Info),
    ] {
        assert_eq!(
            endless().process_at_once(&no_lease(kind, "x"), SECOND, 0.0).1,
            expected,
            "{kind:?}"
        );
    }
}

#[test]
fn the_localhost_hint_is_given_once() {
    let refused = no_lease(ReasonKind::ConnectionRefused, "connection refused");
    let mut waiting = endless();
    for (now, answer, expected) in [
        (0, &refused, LogLevel::InfoWithHint),
        (1, &refused, LogLevel::Debug),
        (2, &locked(None), LogLevel::Info),
        (3, &refused, LogLevel::Debug),
        (62, &refused, LogLevel::Info),
    ] {
        assert_eq!(waiting.process_at_once(answer, seconds(now), 0.0).1, expected, "{now}");
    }
    let mut remote = WaitState::new(rules(None, None, AtBound::Start), false, [0.0; 2]);
    assert_eq!(
        remote.process_at_once(&refused, SECOND, 0.0).1,
        LogLevel::Info,
        "not a loopback address"
    );
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0..u64::MAX, 0..1_000_000_000u32).prop_map(|(s, n)| Duration::new(s, n)),
        (0..200_000u64).prop_map(Duration::from_millis),
        (0..3u64).prop_map(Duration::from_nanos),
        Just(Duration::MAX),
        Just(seconds(u64::MAX)),
    ]
}

fn any_answer() -> impl Strategy<Value = Result<(), Reason>> {
    let kinds = [
        ReasonKind::Locked,
        ReasonKind::BadRequest,
        ReasonKind::NotFound,
        ReasonKind::NotALock,
        ReasonKind::ConnectionRefused,
        ReasonKind::ConnectionClosed,
        ReasonKind::NoAnswer,
    ];
    let reason = (
        prop::sample::select(kinds.to_vec()),
        "[a-c0-9]{0,2}",
        proptest::option::of(any_duration()),
    );
    reason.prop_map(|(kind, text, retry_after)| Err(Reason { kind, text, retry_after }))
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let bound = || proptest::option::of(any_duration());
    (any_duration(), any_duration(), any_duration(), bound(), bound(), any::<bool>()).prop_map(
        |(pause, wait, attempt_timeout, max_wait, unreachable_wait, fails)| Rules {
            pause,
            wait,
            attempt_timeout,
            max_wait,
            unreachable_wait,
            at_bound: if fails { AtBound::Fail } else { AtBound::Start },
        },
    )
}

/// Durations as users set them: from zero to five minutes.
fn plain_rules() -> impl Strategy<Value = Rules> {
    let millis = || prop_oneof![0..3_000u64, 0..300_000u64].prop_map(Duration::from_millis);
    let more_than_zero = move || millis().prop_map(|length| length + Duration::from_millis(100));
    (more_than_zero(), millis(), more_than_zero(), more_than_zero()).prop_map(
        |(pause, wait, attempt_timeout, unreachable_wait)| Rules {
            pause,
            wait,
            attempt_timeout,
            unreachable_wait: Some(unreachable_wait),
            ..rules(None, None, AtBound::Fail)
        },
    )
}

proptest! {
    /// Includes durations that no clock can hold: none of them may cause a panic.
    #[test]
    fn no_pause_and_no_attempt_goes_past_a_bound(
        rules in any_rules(),
        chances in [0.0..=1.0f64, 0.0..=1.0f64],
        steps in prop::collection::vec((any_duration(), any_answer(), 0.0..=1.0f64), 0..30),
    ) {
        let Rules { pause, max_wait, unreachable_wait, .. } = rules;
        let fails = rules.at_bound == AtBound::Fail;
        let mut waiting = WaitState::new(rules, true, chances);
        let most_of: fn(Duration) -> Duration = |wait| with_jitter(wait, 0.25, 1.0);
        // `since` is the start of the current silence.
        let (mut now, mut since, mut is_silent) = (Duration::ZERO, Duration::ZERO, false);
        for (takes, answer, chance) in &steps {
            let is_past = |now: Duration, since: Duration, most: fn(Duration) -> Duration| {
                max_wait.is_some_and(|w| now >= most(w))
                    || unreachable_wait.is_some_and(|w| now >= since.saturating_add(most(w)))
            };
            let asked = now;
            let wait = match waiting.next(now) {
                Action::Ask(attempt) => {
                    prop_assert!(!attempt.within.is_zero() && !is_past(now, since, most_of));
                    prop_assert!(attempt.wait <= rules.wait);
                    prop_assert!(attempt.timeout <= rules.attempt_timeout);
                    let left =
                        max_wait.map_or(Duration::MAX, |w| most_of(w).saturating_sub(now));
                    prop_assert!(attempt.within <= left);
                    prop_assert!(attempt.wait.min(LONGEST_PARKED) <= left, "{attempt:?}");
                    let took = (*takes).min(attempt.within).min(attempt.request_timeout());
                    now = now.saturating_add(took);
                    attempt.wait.min(LONGEST_PARKED)
                }
                end => {
                    prop_assert_eq!(matches!(end, Action::Fail(_)), fails);
                    prop_assert!(is_past(now, since, |wait| wait), "too early");
                    return Ok(());
                }
            };
            let Err(reason) = answer else { unreachable!() };
            let (next, _) = waiting.process(answer, asked, now, *chance);
            let Action::Pause(length) = next else {
                prop_assert!(matches!(next, Action::Start(_) | Action::Fail(_)));
                return Ok(());
            };
            let took = now - asked;
            let left = waiting.deadline().map_or(Duration::MAX, |(ends, _)| ends - now);
            let asked_for = reason.retry_after.unwrap_or_default().min(seconds(30));
            let was_parked = !wait.is_zero() && took >= wait;
            // The pause counts from the request or from the answer.
            let (least, counted) = match reason.kind {
                ReasonKind::Locked if was_parked || asked_for <= pause => (pause, took),
                _ => (pause.max(asked_for), Duration::ZERO),
            };
            let most = with_jitter(least, 0.2, 1.0).saturating_sub(counted);
            let least = least.saturating_sub(counted);
            prop_assert!(length <= left && length >= least.min(left) && length <= most);
            let between = length.saturating_add(took);
            prop_assert!(length == left || between >= pause, "more often than once a pause");
            let forgiven = match reason.kind {
                ReasonKind::ConnectionClosed if !is_silent => took,
                _ => Duration::ZERO,
            };
            now = now.saturating_add(length);
            is_silent = !reason.kind.is_from_lock();
            let own = with_jitter(pause, 0.2, *chance);
            let longer = with_jitter(pause.max(asked_for), 0.2, *chance).saturating_sub(own);
            since = match is_silent {
                false => now,
                true => since.saturating_add(longer).saturating_add(forgiven),
            };
        }
    }

    /// With any answer, any time of parking and any `Retry-After`.
    #[test]
    fn a_lock_that_answers_in_time_is_never_unreachable(
        rules in plain_rules(),
        chances in [0.0..=1.0f64, 0.0..=1.0f64],
        steps in prop::collection::vec(
            (0.0..=1.0f64, any::<bool>(), proptest::option::of(0..100u64), 0.0..=1.0f64),
            1..50,
        ),
    ) {
        let mut waiting = WaitState::new(rules, false, chances);
        let mut now = Duration::ZERO;
        for (share, is_locked, retry_after, chance) in steps {
            let Action::Ask(attempt) = waiting.next(now) else {
                return Err(TestCaseError::fail(format!("given up at {now:?}")));
            };
            let asked = now;
            now += attempt.answer_timeout().mul_f64(share);
            let kind = if is_locked { ReasonKind::Locked } else { ReasonKind::BadRequest };
            match waiting.process(&answer(kind, retry_after.map(seconds)), asked, now, chance).0 {
                Action::Pause(length) => now += length,
                end => return Err(TestCaseError::fail(format!("{end:?} at {now:?}"))),
            }
        }
    }

    /// Silence comes at once or after the whole timeout of a request. The first closed connection
    /// does not count.
    #[test]
    fn a_silent_lock_ends_the_wait_within_the_bound_and_one_request(
        is_cut in any::<bool>(),
        rules in plain_rules(),
        chances in [0.0..=1.0f64, 0.0..=1.0f64],
        before in prop::collection::vec((0.0..=1.0f64, proptest::option::of(0..100u64)), 0..5),
        shares in prop::collection::vec((0.0..=1.0f64, 0.0..=1.0f64), 1..20),
    ) {
        let mut waiting = WaitState::new(rules, false, chances);
        let mut now = Duration::ZERO;
        for (share, retry_after) in before {
            let asked = now;
            now += asks(waiting.next(now)).answer_timeout().mul_f64(share);
            let result = locked(retry_after.map(seconds));
            let Action::Pause(length) = waiting.process(&result, asked, now, share).0 else {
                return Err(TestCaseError::fail("given up while it answered"));
            };
            now += length;
        }
        let (since, bound) = (now, rules.unreachable_wait.unwrap());
        let kind = if is_cut { ReasonKind::ConnectionClosed } else { ReasonKind::NoAnswer };
        let mut longest = Duration::ZERO;
        for (share, chance) in shares.iter().cycle() {
            let asked = now;
            let next = match waiting.next(now) {
                Action::Ask(attempt) => {
                    longest = attempt.request_timeout();
                    now += longest.mul_f64(*share);
                    waiting.process(&no_lease(kind, "silent"), asked, now, *chance).0
                }
                end => end,
            };
            match next {
                Action::Pause(length) => now += length,
                end => {
                    prop_assert_eq!(end, Action::Fail(Bound::UnreachableWait));
                    break;
                }
            }
        }
        let lasted = now - since;
        prop_assert!(lasted >= bound, "given up after {lasted:?} of {bound:?}");
        let most = with_jitter(bound, 0.25, 1.0) + longest * (1 + u32::from(is_cut));
        prop_assert!(lasted <= most, "{lasted:?} of {bound:?}");
    }
}
