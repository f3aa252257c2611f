//! What an attempt's answer means: go on, or pause and ask again, or stop at a bound.
//!
//! Pure. Time is counted from the start of the wait and is an argument, as chance is. Does not know
//! how a lock is asked, how long an attempt takes, or what becomes of what it says.

use std::time::Duration;

use psl::random::lengthened;

use crate::throttle::LogThrottle;

/// The longest pause that a lock may ask for by `Retry-After`.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The first wait for an answer, if `--pause` is shorter: an operator who looks at the log of a new pod
/// finds the reason there.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// Up to this share is added to each pause, so that pods that came together drift apart.
const JITTER: f64 = 0.2;

/// Up to this share is added to each bound, so that a lock that never came back does not let all
/// pods of a node start in the same second.
const SPREAD: f64 = 0.25;

/// No lock parks a request for longer, however long `wait` is.
const LONGEST_HELD: Duration = Duration::from_secs(30);

/// A lock is to answer a parked request this much before `--max-wait` ends, so that the answer still
/// arrives. The default time-out of an attempt; a shorter one counts instead.
const WAY_BACK: Duration = Duration::from_secs(1);

/// When to ask again and when to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Between two attempts; more than zero.
    pub pause: Duration,
    /// How long a lock may park the request; zero asks for an answer at once.
    pub wait: Duration,
    /// For reaching the lock, and once more for its answer beyond `wait`; more than zero.
    pub attempt_timeout: Duration,
    /// In all.
    pub max_wait: Option<Duration>,
    /// The bound on silence, see [`Waiting`].
    pub unreachable_wait: Option<Duration>,
    /// What to do at either of them.
    pub at_bound: AtBound,
}

/// What happens at a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtBound {
    /// The pod starts without the lock: a guard must not become the outage.
    Start,
    /// The pod does not start; the kubelet runs this program again.
    Fail,
}

/// What one attempt gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The lease is granted.
    Acquired,
    /// It is not, or nobody knows.
    Refusal(Refusal),
}

/// Why the lease is not there yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What matters to the decision.
    pub kind: Kind,
    /// For people.
    pub words: String,
    /// How long the answer asks to stay away.
    pub retry_after: Option<Duration>,
}

/// What kind of answer it was, if any.
///
/// A lock answers 200, 423, 400 or 421 to what is asked here. Everything else comes from something
/// that stands in its place (another server on that port, a proxy without a lock behind it) and
/// says nothing about whether there is a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A lock says: not yet (423).
    Held,
    /// A lock says what is wrong with the request (400, 421). Waiting will hardly mend it.
    Rejected,
    /// A server that has no lock at this path (404, 405). Waiting will hardly mend it.
    Elsewhere,
    /// Some other answer: a redirect, an error of a proxy, a 200 that is not whole, no HTTP at all.
    NotALock,
    /// The host says that nobody listens there.
    Refused,
    /// The connection was there, and ended before the whole answer.
    Cut,
    /// No answer.
    Unreachable,
}

impl Kind {
    /// Shows that there is a lock.
    pub fn is_of_a_lock(self) -> bool {
        matches!(self, Kind::Held | Kind::Rejected)
    }

    /// Calls for somebody to mend it.
    pub fn will_hardly_change(self) -> bool {
        matches!(self, Kind::Rejected | Kind::Elsewhere)
    }
}

/// One of the two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `--max-wait`.
    MaxWait,
    /// `--unreachable-wait`.
    UnreachableWait,
}

/// Why the pod may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The lease is granted.
    Acquired,
    /// The wait is over, and the rule there is to start.
    Bound(Bound),
}

/// One request to the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// How long the lock may park this request; zero asks for an answer at once.
    pub wait: Duration,
    /// For reaching the lock, and once more for its answer beyond `wait`.
    pub timeout: Duration,
    /// In all; it overrides the other two.
    pub within: Duration,
}

impl Attempt {
    /// From the end of the request to the end of the answer's head.
    pub fn answer_timeout(&self) -> Duration {
        self.timeout.saturating_add(self.wait.min(LONGEST_HELD))
    }

    /// The request time-out: from the look-up of the name to the last byte of the answer.
    pub fn whole_timeout(&self) -> Duration {
        self.timeout.saturating_add(self.answer_timeout())
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask the lock.
    Ask(Attempt),
    /// Pause this long, then call [`Waiting::next`].
    Pause(Duration),
    /// End, and let the pod start.
    Start(Why),
    /// End, and do not let it start.
    Fail(Bound),
}

/// What to say about an attempt, besides doing what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// Why it waits.
    Reason,
    /// The same as a warning: somebody has to mend it.
    Warning,
    /// Why it waits, and that `localhost` is this pod alone in most pods.
    LocalhostRefused,
}

/// A wait under way.
///
/// Silence begins when init sends a request that no lock answers, and lasts until a lock answers.
/// A request gets its whole time-out, `wait` included, before the bound is checked, and the part of
/// a pause that `Retry-After` asks for beyond `--pause` does not count. So a pause after an answer
/// of a lock is no silence, and neither is a parked request. If the connection of a parked request is
/// cut, because the lock restarts, silence begins with the cut; a second cut in a row moves nothing,
/// because a server that cuts each connection is no lock.
///
/// Invariants: no pause goes past a deadline, and no attempt past that of `--max-wait`.
#[derive(Clone, Debug)]
pub struct Waiting {
    rules: Rules,
    loopback: bool,
    /// When the whole wait is over. Set once.
    max_wait_ends: Option<Duration>,
    /// How long silence may last, its random share included, so that each time is as long.
    unreachable_wait: Option<Duration>,
    /// When it has lasted that long, if no lock answers before.
    unreachable_wait_ends: Option<Duration>,
    /// The last attempt had no answer of a lock.
    is_silent: bool,
    /// A lock has told why init waits.
    has_reason: bool,
    throttle: LogThrottle,
    localhost_explained: bool,
}

impl Waiting {
    /// Begins to wait. `chances` (0 to 1 each) lengthen the two bounds; `loopback` says that the
    /// lock is looked for at a loopback address.
    pub fn new(rules: Rules, loopback: bool, chances: [f64; 2]) -> Waiting {
        let unreachable_wait =
            rules.unreachable_wait.map(|wait| lengthened(wait, SPREAD, chances[1]));
        Waiting {
            rules,
            loopback,
            max_wait_ends: rules.max_wait.map(|wait| lengthened(wait, SPREAD, chances[0])),
            unreachable_wait,
            unreachable_wait_ends: unreachable_wait,
            is_silent: false,
            has_reason: false,
            throttle: LogThrottle::default(),
            localhost_explained: false,
        }
    }

    /// What to do at the start and after each pause.
    pub fn next(&self, now: Duration) -> Next {
        match self.deadline() {
            Some((ends, bound)) if ends <= now => self.end(bound),
            _ => Next::Ask(self.attempt(now)),
        }
    }

    /// What to do after an attempt that began at `asked` and gave this by `now`, and what to say
    /// about it. `chance` (0 to 1) lengthens the pause.
    pub fn answered(
        &mut self,
        answer: &Answer,
        asked: Duration,
        now: Duration,
        chance: f64,
    ) -> (Next, Option<Say>) {
        let refusal = match answer {
            Answer::Acquired => return (Next::Start(Why::Acquired), None),
            Answer::Refusal(refusal) => refusal,
        };
        let took = now.saturating_sub(asked);
        let pause = self.pause(refusal, self.attempt(asked).wait, took, chance);
        if refusal.kind.is_of_a_lock() {
            let asks_again = now.saturating_add(pause);
            self.unreachable_wait_ends =
                self.unreachable_wait.map(|wait| asks_again.saturating_add(wait));
        } else if refusal.kind == Kind::Cut && !self.is_silent {
            self.unreachable_wait_ends =
                self.unreachable_wait_ends.map(|ends| ends.saturating_add(took));
        }
        self.is_silent = !refusal.kind.is_of_a_lock();
        self.has_reason |= refusal.kind == Kind::Held;
        if let end @ (Next::Start(_) | Next::Fail(_)) = self.next(now) {
            return (end, None);
        }
        if !refusal.kind.is_of_a_lock() {
            let asked_for = pause.saturating_sub(lengthened(self.rules.pause, JITTER, chance));
            self.unreachable_wait_ends =
                self.unreachable_wait_ends.map(|ends| ends.saturating_add(asked_for));
        }
        let left = self.deadline().map_or(Duration::MAX, |(ends, _)| ends.saturating_sub(now));
        (Next::Pause(pause.min(left)), self.say(refusal, now))
    }

    /// When the wait ends if no lock answers from now on, and which bound that is.
    pub fn deadline(&self) -> Option<(Duration, Bound)> {
        let max_wait = self.max_wait_ends.map(|ends| (ends, Bound::MaxWait));
        let unreachable_wait =
            self.unreachable_wait_ends.map(|ends| (ends, Bound::UnreachableWait));
        max_wait.into_iter().chain(unreachable_wait).min_by_key(|(ends, _)| *ends)
    }

    fn end(&self, bound: Bound) -> Next {
        match self.rules.at_bound {
            AtBound::Start => Next::Start(Why::Bound(bound)),
            AtBound::Fail => Next::Fail(bound),
        }
    }

    /// If the lock parked the request for longer than `--max-wait` lasts, the bound would cut it off and
    /// lose the reason. In whole milliseconds, rounded down.
    fn attempt(&self, now: Duration) -> Attempt {
        let within = self.max_wait_ends.map_or(Duration::MAX, |ends| ends.saturating_sub(now));
        let timeout = self
            .unreachable_wait
            .map_or(self.rules.attempt_timeout, |wait| wait.min(self.rules.attempt_timeout));
        let most = within.saturating_sub(timeout.min(WAY_BACK));
        let rule =
            if self.has_reason { self.rules.wait } else { self.rules.wait.min(self.first_wait()) };
        let wait = if most < rule.min(LONGEST_HELD) { whole_millis(most) } else { rule };
        Attempt { wait, timeout, within }
    }

    /// A lock tells its reason when the wait is over. The first wait is short, so that the log has the
    /// reason soon; it is longer than the pause, so that init asks again at once.
    fn first_wait(&self) -> Duration {
        FIRST_WAIT.max(lengthened(self.rules.pause, JITTER, 1.0))
    }

    /// From now to the next attempt, after one that took this long.
    ///
    /// A lock gives a free slot to a parked waiter, so init should be away as briefly as possible. A
    /// 423 at the end of `wait`, or one that does not ask for more than `--pause`, was itself a pause:
    /// the pause counts from when the attempt began, and is over if the request was parked for that
    /// long. A longer `Retry-After` of a 423 that came earlier tells a client that could not be parked
    /// when to come; it counts from the answer, and so does the pause after anything else, because a
    /// slow peer may have trouble. In all cases attempts begin no more often than once in a
    /// pause, its random share included.
    fn pause(&self, refusal: &Refusal, wait: Duration, took: Duration, chance: f64) -> Duration {
        let asked_for = refusal.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        let was_held = !wait.is_zero() && took >= wait.min(LONGEST_HELD);
        if refusal.kind == Kind::Held && (was_held || asked_for <= self.rules.pause) {
            return lengthened(self.rules.pause, JITTER, chance).saturating_sub(took);
        }
        lengthened(self.rules.pause.max(asked_for), JITTER, chance)
    }

    fn say(&mut self, refusal: &Refusal, now: Duration) -> Option<Say> {
        if !self.throttle.admits(refusal.kind, &refusal.words, now) {
            return None;
        }
        if refusal.kind.will_hardly_change() {
            return Some(Say::Warning);
        }
        if refusal.kind == Kind::Refused && self.loopback && !self.localhost_explained {
            self.localhost_explained = true;
            return Some(Say::LocalhostRefused);
        }
        Some(Say::Reason)
    }
}

fn whole_millis(duration: Duration) -> Duration {
    Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000)
}

#[cfg(test)]
mod tests {
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

    fn endless() -> Waiting {
        with_reason(rules(None, None, AtBound::Start))
    }

    /// A lock has answered before, so that the first short wait is over.
    fn with_reason(rules: Rules) -> Waiting {
        Waiting { has_reason: true, ..Waiting::new(rules, true, [0.0; 2]) }
    }

    #[test]
    fn the_first_wait_is_short_and_longer_than_the_pause() {
        let wait = |pause: u64, answered: Option<Answer>| {
            let mut waiting = Waiting::new(
                Rules { pause: seconds(pause), ..rules(None, None, AtBound::Start) },
                true,
                [0.0; 2],
            );
            if let Some(answer) = answered {
                waiting.answered(&answer, Duration::ZERO, SECOND, 0.0);
            }
            asks(waiting.next(SECOND)).wait
        };
        assert_eq!([wait(1, None), wait(5, None)], [FIRST_WAIT, seconds(6)]);
        assert_eq!(
            wait(1, Some(refusal(Kind::Refused, "refused"))),
            FIRST_WAIT,
            "no lock has given a reason"
        );
        assert_eq!(wait(1, Some(held(None))), seconds(10));
    }

    fn asks(next: Next) -> Attempt {
        match next {
            Next::Ask(attempt) => attempt,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(kind: Kind, words: &str) -> Answer {
        Answer::Refusal(Refusal { kind, words: words.to_owned(), retry_after: None })
    }

    fn answer(kind: Kind, retry_after: Option<Duration>) -> Answer {
        Answer::Refusal(Refusal { kind, words: "423 Locked".to_owned(), retry_after })
    }

    fn held(retry_after: Option<Duration>) -> Answer {
        answer(Kind::Held, retry_after)
    }

    impl Waiting {
        /// After an attempt that took no time.
        fn answered_at_once(
            &mut self,
            answer: &Answer,
            now: Duration,
            chance: f64,
        ) -> (Next, Option<Say>) {
            self.answered(answer, now, now, chance)
        }
    }

    #[test]
    fn granted_at_any_time() {
        let mut waiting = Waiting::new(rules(Some(8), Some(2), AtBound::Fail), false, [0.0; 2]);
        for now in [Duration::ZERO, seconds(7), seconds(100)] {
            assert_eq!(
                waiting.answered_at_once(&Answer::Acquired, now, 0.5),
                (Next::Start(Why::Acquired), None),
                "a grant counts also when it comes late"
            );
        }
    }

    #[test]
    fn bounds_to_the_nanosecond() {
        let start = |bound| Next::Start(Why::Bound(bound));
        for (name, max_wait, unreachable_wait, at_bound, at, bound, end) in [
            ("max-wait", Some(8), None, AtBound::Start, 8, Bound::MaxWait, start(Bound::MaxWait)),
            (
                "max-wait, fail",
                Some(8),
                None,
                AtBound::Fail,
                8,
                Bound::MaxWait,
                Next::Fail(Bound::MaxWait),
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
                Next::Fail(Bound::UnreachableWait),
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
            let waiting =
                Waiting::new(rules(max_wait, unreachable_wait, at_bound), false, [0.0; 2]);
            let ends = seconds(at);
            assert_eq!(waiting.deadline(), Some((ends, bound)), "{name}");
            for now in [Duration::ZERO, ends - NANO] {
                let left = max_wait.map_or(Duration::MAX, |wait| seconds(wait) - now);
                assert_eq!(asks(waiting.next(now)).within, left, "{name}");
            }
            assert_eq!(waiting.next(ends), end, "{name}");
            assert_eq!(waiting.next(ends + NANO), end, "{name}");
            let refused = refusal(Kind::Refused, "connection refused");
            assert_eq!(
                waiting.clone().answered_at_once(&refused, ends - NANO, 1.0).0,
                Next::Pause(NANO),
                "{name}"
            );
            assert_eq!(
                waiting.clone().answered_at_once(&refused, ends, 1.0),
                (end, None),
                "{name}"
            );
        }
    }

    #[test]
    fn without_bounds_it_waits_for_ever() {
        let mut waiting = endless();
        assert_eq!(waiting.deadline(), None);
        for now in [Duration::ZERO, seconds(1_000_000), Duration::MAX] {
            let expected = Attempt { wait: 10 * SECOND, timeout: SECOND, within: Duration::MAX };
            assert_eq!(waiting.next(now), Next::Ask(expected));
            assert_eq!(waiting.answered_at_once(&held(None), now, 0.0).0, Next::Pause(SECOND));
        }
    }

    #[test]
    fn chance_lengthens_each_bound_by_a_quarter_at_most() {
        for (chances, max_wait, unreachable_wait) in [
            ([0.0, 0.0], 8.0, 4.0),
            ([1.0, 0.0], 10.0, 4.0),
            ([0.0, 1.0], 8.0, 5.0),
            ([0.5, 0.5], 9.0, 4.5),
        ] {
            let only = |max, unreachable| {
                Waiting::new(rules(max, unreachable, AtBound::Start), false, chances)
                    .deadline()
                    .map(|(ends, _)| ends)
            };
            assert_eq!(only(Some(8), None), Some(Duration::from_secs_f64(max_wait)));
            assert_eq!(only(None, Some(4)), Some(Duration::from_secs_f64(unreachable_wait)));
        }
    }

    #[test]
    fn silence_begins_with_the_request_that_no_lock_answers() {
        // Kind, `Retry-After` in seconds, when silence has lasted for ten seconds after an answer at 3.
        for (kind, retry_after, expected) in [
            (Kind::Held, None, 14),
            (Kind::Held, Some(0), 14),
            (Kind::Held, Some(28), 41),
            (Kind::Held, Some(3600), 43),
            (Kind::Rejected, None, 14),
            (Kind::Rejected, Some(28), 41),
            (Kind::Elsewhere, None, 10),
            (Kind::Elsewhere, Some(1), 10),
            (Kind::Elsewhere, Some(28), 37),
            (Kind::NotALock, None, 10),
            (Kind::NotALock, Some(28), 37),
            (Kind::NotALock, Some(3600), 39),
            (Kind::Refused, None, 10),
            (Kind::Unreachable, None, 10),
        ] {
            let mut waiting = Waiting::new(rules(None, Some(10), AtBound::Start), false, [0.0; 2]);
            let answer = answer(kind, retry_after.map(seconds));
            let (next, _) = waiting.answered_at_once(&answer, seconds(3), 0.0);
            let deadline = Some((seconds(expected), Bound::UnreachableWait));
            assert_eq!(waiting.deadline(), deadline, "{kind:?} {retry_after:?}");
            let pause = seconds(retry_after.unwrap_or(1).clamp(1, 30));
            assert_eq!(next, Next::Pause(pause), "{kind:?} {retry_after:?}: no pause is cut");
        }
    }

    #[test]
    fn the_pause_after_an_answer_that_was_held_back_is_over_and_silence_begins_at_once() {
        let mut waiting = Waiting::new(rules(None, Some(2), AtBound::Start), false, [0.0; 2]);
        let (next, _) = waiting.answered(&held(Some(SECOND)), Duration::ZERO, seconds(10), 0.0);
        assert_eq!(
            next,
            Next::Pause(Duration::ZERO),
            "ten seconds without an answer, and no silence"
        );
        assert_eq!(waiting.deadline(), Some((seconds(12), Bound::UnreachableWait)));
    }

    #[test]
    fn silence_begins_with_the_first_cut_of_a_held_connection() {
        let cut = refusal(Kind::Cut, "closed");
        let mut waiting = Waiting::new(rules(None, Some(5), AtBound::Start), false, [0.0; 2]);
        let bound = |waiting: &Waiting| waiting.deadline().map(|(ends, _)| ends);
        assert_eq!(
            waiting.answered(&cut, Duration::ZERO, seconds(9), 0.0).0,
            Next::Pause(SECOND),
            "a lock restarts"
        );
        assert_eq!(bound(&waiting), Some(seconds(14)));
        assert_eq!(waiting.answered(&cut, seconds(10), seconds(13), 0.0).0, Next::Pause(SECOND));
        assert_eq!(bound(&waiting), Some(seconds(14)), "the second one in a row moves nothing");
        waiting.answered(&held(None), seconds(13), seconds(13), 0.0);
        waiting.answered(&cut, seconds(14), seconds(22), 0.0);
        assert_eq!(bound(&waiting), Some(seconds(27)), "the first one after an answer");
    }

    #[test]
    fn a_pause_that_no_lock_asked_for_does_not_end_the_silence() {
        let mut waiting = Waiting::new(rules(None, Some(5), AtBound::Start), false, [0.0; 2]);
        let busy = answer(Kind::NotALock, Some(seconds(4)));
        let mut now = Duration::ZERO;
        let mut asked = 0;
        while let Next::Ask(_) = waiting.next(now) {
            asked += 1;
            match waiting.answered_at_once(&busy, now, 0.0).0 {
                Next::Pause(pause) => now += pause,
                _ => break,
            }
        }
        assert_eq!(
            (asked, now),
            (5, seconds(20)),
            "a second of each pause counts, which is `--pause`"
        );
    }

    #[test]
    fn a_request_gets_its_time_out_before_silence_ends_the_wait() {
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
            let mut waiting = Waiting { has_reason: true, ..Waiting::new(rules, false, [0.0; 2]) };
            let attempt = asks(waiting.next(seconds(unreachable_wait) - NANO));
            assert_eq!(
                (attempt.timeout, attempt.whole_timeout()),
                (seconds(timeout), seconds(whole))
            );
            assert_eq!(attempt.within, Duration::MAX, "the bound does not cut it");
            let answered = seconds(unreachable_wait + whole);
            let then = waiting
                .clone()
                .answered(&held(None), seconds(unreachable_wait) - NANO, answered, 0.0)
                .0;
            assert!(
                matches!(then, Next::Pause(_)),
                "an answer of a lock counts also after the bound"
            );
            let silent = refusal(Kind::Unreachable, "silent");
            let then = waiting.answered(&silent, seconds(unreachable_wait) - NANO, answered, 0.0).0;
            assert_eq!(then, Next::Start(Why::Bound(Bound::UnreachableWait)));
        }
    }

    #[test]
    fn no_more_is_asked_for_than_is_left() {
        let millis = Duration::from_millis;
        // In milliseconds: `--wait`, `--attempt-timeout`, what is left of `--max-wait`, what is asked for.
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
            // No lock parks a request for more than half a minute.
            (120_000, 1000, 31_000, 120_000),
            (120_000, 1000, 30_999, 29_999),
        ] {
            let rules = Rules {
                wait: millis(wait),
                attempt_timeout: millis(attempt_timeout),
                ..rules(Some(1000), None, AtBound::Start)
            };
            let attempt = asks(
                Waiting { has_reason: true, ..Waiting::new(rules, false, [0.0; 2]) }
                    .next(seconds(1000) - millis(left)),
            );
            assert_eq!(attempt.wait, millis(expected), "{wait} {attempt_timeout} {left}");
            assert_eq!(attempt.within, millis(left));
        }
        let attempt =
            asks(Waiting::new(rules(Some(3), None, AtBound::Start), false, [0.0; 2]).next(NANO));
        assert_eq!(attempt.wait, millis(1999), "rounded down to the millisecond");
    }

    #[test]
    fn an_answer_that_comes_at_the_very_bound_still_counts() {
        let mut waiting = Waiting::new(rules(Some(20), Some(10), AtBound::Fail), false, [0.0; 2]);
        assert_eq!(waiting.answered_at_once(&held(None), seconds(10), 0.0).0, Next::Pause(SECOND));
        assert_eq!(waiting.answered_at_once(&held(None), seconds(19), 0.0).0, Next::Pause(SECOND));
        assert_eq!(
            waiting.answered_at_once(&held(None), seconds(20), 0.0).0,
            Next::Fail(Bound::MaxWait),
            "no answer moves this one"
        );
    }

    #[test]
    fn pauses() {
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
            let (next, _) = Waiting::new(rules, false, [0.0; 2]).answered_at_once(
                &held(retry_after.map(Duration::from_millis)),
                SECOND,
                chance,
            );
            assert_eq!(
                next,
                Next::Pause(Duration::from_millis(expected)),
                "{pause} {retry_after:?} {chance}"
            );
        }
    }

    #[test]
    fn a_423_that_was_held_back_has_been_a_pause() {
        // In milliseconds: `Retry-After`, how long the attempt took, chance, what is left of the pause of a second.
        for (name, kind, retry_after, took, chance, expected) in [
            ("at once", Kind::Held, None, 0, 0.0, 1000),
            ("held a while", Kind::Held, None, 300, 0.0, 700),
            ("held as long as the pause", Kind::Held, None, 1000, 0.0, 0),
            ("held longer", Kind::Held, Some(1000), 10_000, 0.0, 0),
            ("asks for less than the pause", Kind::Held, Some(0), 300, 0.0, 700),
            ("asks for the pause", Kind::Held, Some(1000), 300, 0.0, 700),
            ("asks for more than the pause", Kind::Held, Some(1001), 300, 0.0, 1001),
            ("asks for more, not held to the end", Kind::Held, Some(2000), 9_999, 0.0, 2000),
            ("asks for more, held to the end", Kind::Held, Some(2000), 10_000, 0.0, 0),
            ("the random share counts", Kind::Held, None, 1000, 1.0, 200),
            ("and is over, too", Kind::Held, Some(1000), 1200, 1.0, 0),
            ("no lock of this node", Kind::Rejected, None, 300, 0.0, 1000),
            ("no lock there", Kind::Elsewhere, None, 300, 0.0, 1000),
            ("no lock", Kind::NotALock, Some(1000), 300, 0.0, 1000),
            ("refused", Kind::Refused, None, 300, 0.0, 1000),
            ("no answer", Kind::Unreachable, None, 10_000, 0.0, 1000),
        ] {
            let now = seconds(60);
            let asked = now - Duration::from_millis(took);
            let answer = answer(kind, retry_after.map(Duration::from_millis));
            let (next, _) = endless().answered(&answer, asked, now, chance);
            assert_eq!(next, Next::Pause(Duration::from_millis(expected)), "{name}");
        }
        let (next, _) = endless().answered(&held(None), seconds(2), SECOND, 0.0);
        assert_eq!(next, Next::Pause(SECOND), "a clock that goes backwards lengthens nothing");
    }

    #[test]
    fn a_pause_ends_at_the_bound() {
        let mut waiting = Waiting::new(rules(Some(10), None, AtBound::Start), false, [0.0; 2]);
        assert_eq!(
            waiting.answered_at_once(&held(Some(seconds(30))), seconds(7), 0.0).0,
            Next::Pause(seconds(3))
        );
        assert_eq!(waiting.next(seconds(10)), Next::Start(Why::Bound(Bound::MaxWait)));
    }

    #[test]
    fn what_waiting_will_hardly_mend_is_a_warning() {
        for (kind, expected) in [
            (Kind::Held, Say::Reason),
            (Kind::Rejected, Say::Warning),
            (Kind::Elsewhere, Say::Warning),
            (Kind::NotALock, Say::Reason),
            (Kind::Unreachable, Say::Reason),
        ] {
            assert_eq!(
                endless().answered_at_once(&refusal(kind, "x"), SECOND, 0.0).1,
                Some(expected),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn localhost_refused_is_explained_once() {
        let refused = refusal(Kind::Refused, "connection refused");
        let mut waiting = endless();
        for (now, answer, expected) in [
            (0, &refused, Some(Say::LocalhostRefused)),
            (1, &refused, None),
            (2, &held(None), Some(Say::Reason)),
            (3, &refused, None),
            (62, &refused, Some(Say::Reason)),
        ] {
            assert_eq!(waiting.answered_at_once(answer, seconds(now), 0.0).1, expected, "{now}");
        }
        let mut elsewhere = Waiting::new(rules(None, None, AtBound::Start), false, [0.0; 2]);
        assert_eq!(
            elsewhere.answered_at_once(&refused, SECOND, 0.0).1,
            Some(Say::Reason),
            "only where it is localhost"
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

    fn any_answer() -> impl Strategy<Value = Answer> {
        let kinds = [
            Kind::Held,
            Kind::Rejected,
            Kind::Elsewhere,
            Kind::NotALock,
            Kind::Refused,
            Kind::Cut,
            Kind::Unreachable,
        ];
        let refusal = (
            prop::sample::select(kinds.to_vec()),
            "[a-c0-9]{0,2}",
            proptest::option::of(any_duration()),
        );
        refusal.prop_map(|(kind, words, retry_after)| {
            Answer::Refusal(Refusal { kind, words, retry_after })
        })
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

    /// The rules of a user: each length from nothing to five minutes.
    fn plain_rules() -> impl Strategy<Value = Rules> {
        let millis = || prop_oneof![0..3_000u64, 0..300_000u64].prop_map(Duration::from_millis);
        let more_than_zero =
            move || millis().prop_map(|length| length + Duration::from_millis(100));
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
        /// Also at durations that no clock can hold: nothing here may panic.
        #[test]
        fn no_pause_and_no_attempt_goes_past_a_bound(
            rules in any_rules(),
            chances in [0.0..=1.0f64, 0.0..=1.0f64],
            steps in prop::collection::vec((any_duration(), any_answer(), 0.0..=1.0f64), 0..30),
        ) {
            let Rules { pause, max_wait, unreachable_wait, .. } = rules;
            let fails = rules.at_bound == AtBound::Fail;
            let mut waiting = Waiting::new(rules, true, chances);
            let most_of = |wait: Duration| lengthened(wait, 0.25, 1.0);
            // When the silence of the moment began.
            let (mut now, mut since, mut is_silent) = (Duration::ZERO, Duration::ZERO, false);
            for (takes, answer, chance) in &steps {
                let over = |now: Duration, since: Duration| max_wait.is_some_and(|w| now >= most_of(w)) || unreachable_wait.is_some_and(|w| now >= since.saturating_add(most_of(w)));
                let asked = now;
                let wait = match waiting.next(now) {
                    Next::Ask(attempt) => {
                        prop_assert!(!attempt.within.is_zero() && !over(now, since));
                        prop_assert!(attempt.wait <= rules.wait && attempt.timeout <= rules.attempt_timeout);
                        let left = max_wait.map_or(Duration::MAX, |w| most_of(w).saturating_sub(now));
                        prop_assert!(attempt.within <= left);
                        prop_assert!(attempt.wait.min(LONGEST_HELD) <= left, "more than is left");
                        now = now.saturating_add((*takes).min(attempt.within).min(attempt.whole_timeout()));
                        attempt.wait.min(LONGEST_HELD)
                    }
                    end => {
                        prop_assert_eq!(matches!(end, Next::Fail(_)), fails);
                        prop_assert!(max_wait.is_some_and(|w| now >= w) || unreachable_wait.is_some_and(|w| now >= since.saturating_add(w)), "too early");
                        return Ok(());
                    }
                };
                let Answer::Refusal(refusal) = answer else { unreachable!() };
                let (next, _) = waiting.answered(answer, asked, now, *chance);
                if let Next::Pause(length) = next {
                    let left = waiting.deadline().map_or(Duration::MAX, |(ends, _)| ends - now);
                    let asked_for = refusal.retry_after.unwrap_or_default().min(seconds(30));
                    let was_held = !wait.is_zero() && now - asked >= wait;
                    // Since the question or since the answer, and nothing in between.
                    let (least, counted) = match refusal.kind {
                        Kind::Held if was_held || asked_for <= pause => (pause, now - asked),
                        _ => (pause.max(asked_for), Duration::ZERO),
                    };
                    let (least, most) = (least.saturating_sub(counted), lengthened(least, 0.2, 1.0).saturating_sub(counted));
                    prop_assert!(length <= left && length >= least.min(left) && length <= most);
                    prop_assert!(length == left || length.saturating_add(now - asked) >= pause, "more often than once a pause");
                    let held = if refusal.kind == Kind::Cut && !is_silent { now - asked } else { Duration::ZERO };
                    now = now.saturating_add(length);
                    let own = lengthened(pause, 0.2, *chance);
                    is_silent = !refusal.kind.is_of_a_lock();
                    since = match is_silent {
                        false => now,
                        true => since.saturating_add(lengthened(pause.max(asked_for), 0.2, *chance).saturating_sub(own)).saturating_add(held),
                    };
                } else {
                    prop_assert!(matches!(next, Next::Start(Why::Bound(_)) | Next::Fail(_)));
                    return Ok(());
                }
            }
        }

        /// Whatever it answers, however long it holds answers back and lets the client stay away.
        #[test]
        fn a_lock_that_answers_in_its_time_is_never_unreachable(
            rules in plain_rules(),
            chances in [0.0..=1.0f64, 0.0..=1.0f64],
            steps in prop::collection::vec((0.0..=1.0f64, any::<bool>(), proptest::option::of(0..100u64), 0.0..=1.0f64), 1..50),
        ) {
            let mut waiting = Waiting::new(rules, false, chances);
            let mut now = Duration::ZERO;
            for (share, is_held, retry_after, chance) in steps {
                let Next::Ask(attempt) = waiting.next(now) else {
                    return Err(TestCaseError::fail(format!("given up at {now:?}")));
                };
                let asked = now;
                now += attempt.answer_timeout().mul_f64(share);
                let kind = if is_held { Kind::Held } else { Kind::Rejected };
                match waiting.answered(&answer(kind, retry_after.map(seconds)), asked, now, chance).0 {
                    Next::Pause(length) => now += length,
                    end => return Err(TestCaseError::fail(format!("{end:?} at {now:?}"))),
                }
            }
        }

        /// However it is silent: at once or after the whole time-out of a request. A first connection that
        /// is cut is forgiven.
        #[test]
        fn a_silent_lock_is_given_up_within_the_bound_and_one_request(
            is_cut in any::<bool>(),
            rules in plain_rules(),
            chances in [0.0..=1.0f64, 0.0..=1.0f64],
            before in prop::collection::vec((0.0..=1.0f64, proptest::option::of(0..100u64)), 0..5),
            shares in prop::collection::vec((0.0..=1.0f64, 0.0..=1.0f64), 1..20),
        ) {
            let mut waiting = Waiting::new(rules, false, chances);
            let mut now = Duration::ZERO;
            for (share, retry_after) in before {
                let asked = now;
                now += asks(waiting.next(now)).answer_timeout().mul_f64(share);
                let Next::Pause(length) = waiting.answered(&held(retry_after.map(seconds)), asked, now, share).0 else {
                    return Err(TestCaseError::fail("given up while it answered"));
                };
                now += length;
            }
            let (since, bound) = (now, rules.unreachable_wait.unwrap());
            let mut longest = Duration::ZERO;
            for (share, chance) in shares.iter().cycle() {
                let asked = now;
                let next = match waiting.next(now) {
                    Next::Ask(attempt) => {
                        longest = attempt.whole_timeout();
                        now += longest.mul_f64(*share);
                        let kind = if is_cut { Kind::Cut } else { Kind::Unreachable };
                        waiting.answered(&refusal(kind, "silent"), asked, now, *chance).0
                    }
                    end => end,
                };
                match next {
                    Next::Pause(length) => now += length,
                    end => {
                        prop_assert_eq!(end, Next::Fail(Bound::UnreachableWait));
                        break;
                    }
                }
            }
            prop_assert!(now - since >= bound, "given up after {:?} of {:?}", now - since, bound);
            let requests = longest * (1 + u32::from(is_cut));
            prop_assert!(now - since <= lengthened(bound, 0.25, 1.0) + requests, "{:?} of {:?}", now - since, bound);
        }
    }
}
