//! What an attempt's answer means: go on, or pause and ask again, or stop at a bound.
//!
//! Pure. Time is counted from the start of the wait and is an argument, as chance is. Does not know
//! how a lock is asked, how long an attempt takes, or what becomes of what it says.

use std::time::Duration;

use psl::random::lengthened;

/// The longest pause that a lock may ask for by `Retry-After`.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Up to this share is added to each pause, so that pods that came together drift apart.
const JITTER: f64 = 0.2;

/// Up to this share is added to each bound, so that a lock that never came back does not let all
/// pods of a node start in the same second.
const SPREAD: f64 = 0.25;

/// The same reason is said again after this long.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// When to ask again and when to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Between two attempts; more than zero.
    pub pause: Duration,
    /// In all.
    pub max_wait: Option<Duration>,
    /// Without any answer of a lock.
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

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask the lock, and take no longer than this.
    Ask(Duration),
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
/// Invariant: no pause and no attempt goes past the next deadline.
#[derive(Clone, Debug)]
pub struct Waiting {
    rules: Rules,
    loopback: bool,
    /// When the whole wait is over. Set once.
    max_wait_ends: Option<Duration>,
    /// How long no lock need answer, its random share included, so that each time is as long.
    unreachable_wait: Option<Duration>,
    /// When it ends; each answer of a lock sets it anew.
    unreachable_wait_ends: Option<Duration>,
    last_said: Option<Said>,
    localhost_explained: bool,
}

/// Invariant: `at` is when the reason was written, not when it was last seen.
#[derive(Clone, Debug)]
struct Said {
    kind: Kind,
    gist: String,
    at: Duration,
}

impl Waiting {
    /// Begins to wait. `chances` (0 to 1 each) lengthen the two bounds; `loopback` says that the
    /// lock is looked for at a loopback address.
    pub fn new(rules: Rules, loopback: bool, chances: [f64; 2]) -> Waiting {
        let unreachable_wait = rules.unreachable_wait.map(|wait| lengthened(wait, SPREAD, chances[1]));
        Waiting {
            rules,
            loopback,
            max_wait_ends: rules.max_wait.map(|wait| lengthened(wait, SPREAD, chances[0])),
            unreachable_wait,
            unreachable_wait_ends: unreachable_wait,
            last_said: None,
            localhost_explained: false,
        }
    }

    /// What to do at the start and after each pause.
    pub fn next(&self, now: Duration) -> Next {
        match self.deadline() {
            Some((ends, bound)) if ends <= now => self.end(bound),
            Some((ends, _)) => Next::Ask(ends - now),
            None => Next::Ask(Duration::MAX),
        }
    }

    /// What to do after an attempt that began at `asked` and gave this by `now`, and what to say
    /// about it. `chance` (0 to 1) lengthens the pause.
    pub fn answered(&mut self, answer: &Answer, asked: Duration, now: Duration, chance: f64) -> (Next, Option<Say>) {
        let refusal = match answer {
            Answer::Acquired => return (Next::Start(Why::Acquired), None),
            Answer::Refusal(refusal) => refusal,
        };
        if refusal.kind.is_of_a_lock() {
            self.unreachable_wait_ends = self.unreachable_wait.map(|wait| now.saturating_add(wait));
        }
        match self.next(now) {
            Next::Ask(left) => {
                let took = now.saturating_sub(asked);
                (Next::Pause(self.pause(refusal, took, chance).min(left)), self.say(refusal, now))
            }
            end => (end, None),
        }
    }

    /// When the wait ends if nothing changes, and which bound that is.
    pub fn deadline(&self) -> Option<(Duration, Bound)> {
        let max_wait = self.max_wait_ends.map(|ends| (ends, Bound::MaxWait));
        let unreachable_wait = self.unreachable_wait_ends.map(|ends| (ends, Bound::UnreachableWait));
        max_wait.into_iter().chain(unreachable_wait).min_by_key(|(ends, _)| *ends)
    }

    fn end(&self, bound: Bound) -> Next {
        match self.rules.at_bound {
            AtBound::Start => Next::Start(Why::Bound(bound)),
            AtBound::Fail => Next::Fail(bound),
        }
    }

    /// From now to the next attempt, after one that took this long.
    ///
    /// A lock holds its answer back from whoever is next in line, and keeps a slot that becomes free
    /// for him until he asks again. So he should be away as briefly as possible: a 423 that does not
    /// ask for more than `--pause` was itself a pause, which counts from when the attempt began, and
    /// after one that was held back it is over. A longer `Retry-After` counts from the answer that
    /// says it, and so does the pause after anything else, which may be slow because it has trouble.
    /// In all cases attempts begin no more often than once in a pause, its random share included.
    fn pause(&self, refusal: &Refusal, took: Duration, chance: f64) -> Duration {
        let asked_for = refusal.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        let pause = lengthened(self.rules.pause.max(asked_for), JITTER, chance);
        let was_a_pause = refusal.kind == Kind::Held && asked_for <= self.rules.pause;
        if was_a_pause { pause.saturating_sub(took) } else { pause }
    }

    /// A changed reason at once, the same one no more often than once a minute.
    fn say(&mut self, refusal: &Refusal, now: Duration) -> Option<Say> {
        let gist = gist(&refusal.words);
        let said_already = self.last_said.as_ref().is_some_and(|said| {
            said.kind == refusal.kind && said.gist == gist && now.saturating_sub(said.at) < SAY_AGAIN
        });
        if said_already {
            return None;
        }
        self.last_said = Some(Said { kind: refusal.kind, gist, at: now });
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

/// A reason without its numbers: a count or a time that runs down does not make it another one.
/// Units go with their number, or `1m5s` would be another reason than `59s`.
fn gist(words: &str) -> String {
    let mut in_number = false;
    let mut is_of_a_number = |c: char| {
        in_number = c.is_ascii_digit() || in_number && matches!(c, '.' | 'h' | 'm' | 's' | 'u' | 'µ' | 'n');
        in_number
    };
    words.chars().filter(|c| !is_of_a_number(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use psl::duration::Text;

    const SECOND: Duration = Duration::from_secs(1);
    const NANO: Duration = Duration::from_nanos(1);

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn rules(max_wait: Option<u64>, unreachable_wait: Option<u64>, at_bound: AtBound) -> Rules {
        Rules {
            pause: SECOND,
            max_wait: max_wait.map(seconds),
            unreachable_wait: unreachable_wait.map(seconds),
            at_bound,
        }
    }

    fn endless() -> Waiting {
        Waiting::new(rules(None, None, AtBound::Start), true, [0.0; 2])
    }

    fn refusal(kind: Kind, words: &str) -> Answer {
        Answer::Refusal(Refusal { kind, words: words.to_owned(), retry_after: None })
    }

    fn held(retry_after: Option<Duration>) -> Answer {
        Answer::Refusal(Refusal { kind: Kind::Held, words: "423 Locked".to_owned(), retry_after })
    }

    impl Waiting {
        /// After an attempt that took no time.
        fn answered_at_once(&mut self, answer: &Answer, now: Duration, chance: f64) -> (Next, Option<Say>) {
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
            ("max-wait, fail", Some(8), None, AtBound::Fail, 8, Bound::MaxWait, Next::Fail(Bound::MaxWait)),
            ("unreachable", None, Some(2), AtBound::Start, 2, Bound::UnreachableWait, start(Bound::UnreachableWait)),
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
            ("the earlier of both", Some(2), Some(8), AtBound::Start, 2, Bound::MaxWait, start(Bound::MaxWait)),
            ("both at once", Some(2), Some(2), AtBound::Start, 2, Bound::MaxWait, start(Bound::MaxWait)),
        ] {
            let waiting = Waiting::new(rules(max_wait, unreachable_wait, at_bound), false, [0.0; 2]);
            let ends = seconds(at);
            assert_eq!(waiting.deadline(), Some((ends, bound)), "{name}");
            assert_eq!(waiting.next(Duration::ZERO), Next::Ask(ends), "{name}");
            assert_eq!(waiting.next(ends - NANO), Next::Ask(NANO), "{name}");
            assert_eq!(waiting.next(ends), end, "{name}");
            assert_eq!(waiting.next(ends + NANO), end, "{name}");
            let refused = refusal(Kind::Refused, "connection refused");
            assert_eq!(waiting.clone().answered_at_once(&refused, ends - NANO, 1.0).0, Next::Pause(NANO), "{name}");
            assert_eq!(waiting.clone().answered_at_once(&refused, ends, 1.0), (end, None), "{name}");
        }
    }

    #[test]
    fn without_bounds_it_waits_for_ever() {
        let mut waiting = endless();
        assert_eq!(waiting.deadline(), None);
        for now in [Duration::ZERO, seconds(1_000_000), Duration::MAX] {
            assert_eq!(waiting.next(now), Next::Ask(Duration::MAX));
            assert_eq!(waiting.answered_at_once(&held(None), now, 0.0).0, Next::Pause(SECOND));
        }
    }

    #[test]
    fn chance_lengthens_each_bound_by_a_quarter_at_most() {
        for (chances, max_wait, unreachable_wait) in
            [([0.0, 0.0], 8.0, 4.0), ([1.0, 0.0], 10.0, 4.0), ([0.0, 1.0], 8.0, 5.0), ([0.5, 0.5], 9.0, 4.5)]
        {
            let only = |max, unreachable| {
                Waiting::new(rules(max, unreachable, AtBound::Start), false, chances).deadline().map(|(ends, _)| ends)
            };
            assert_eq!(only(Some(8), None), Some(Duration::from_secs_f64(max_wait)));
            assert_eq!(only(None, Some(4)), Some(Duration::from_secs_f64(unreachable_wait)));
        }
    }

    #[test]
    fn any_answer_of_a_lock_starts_the_unreachable_wait_anew() {
        for (kind, expected) in [
            (Kind::Held, 13),
            (Kind::Rejected, 13),
            (Kind::Elsewhere, 10),
            (Kind::NotALock, 10),
            (Kind::Refused, 10),
            (Kind::Unreachable, 10),
        ] {
            let mut waiting = Waiting::new(rules(None, Some(10), AtBound::Start), false, [0.0; 2]);
            let _ = waiting.answered_at_once(&refusal(kind, "x"), seconds(3), 0.0);
            assert_eq!(waiting.deadline(), Some((seconds(expected), Bound::UnreachableWait)), "{kind:?}");
        }
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
            let rules = Rules { pause: Duration::from_millis(pause), ..rules(None, None, AtBound::Start) };
            let (next, _) = Waiting::new(rules, false, [0.0; 2]).answered_at_once(
                &held(retry_after.map(Duration::from_millis)),
                SECOND,
                chance,
            );
            assert_eq!(next, Next::Pause(Duration::from_millis(expected)), "{pause} {retry_after:?} {chance}");
        }
    }

    #[test]
    fn a_423_that_was_held_back_has_been_a_pause() {
        let answer = |kind, retry_after: Option<u64>| {
            Answer::Refusal(Refusal {
                kind,
                words: "x".to_owned(),
                retry_after: retry_after.map(Duration::from_millis),
            })
        };
        // In milliseconds: `Retry-After`, how long the attempt took, chance, what is left of the pause of a second.
        for (name, kind, retry_after, took, chance, expected) in [
            ("at once", Kind::Held, None, 0, 0.0, 1000),
            ("held a while", Kind::Held, None, 300, 0.0, 700),
            ("held as long as the pause", Kind::Held, None, 1000, 0.0, 0),
            ("held longer", Kind::Held, Some(1000), 10_000, 0.0, 0),
            ("asks for less than the pause", Kind::Held, Some(0), 300, 0.0, 700),
            ("asks for the pause", Kind::Held, Some(1000), 300, 0.0, 700),
            ("asks for more than the pause", Kind::Held, Some(1001), 300, 0.0, 1001),
            ("asks for more, held longer", Kind::Held, Some(2000), 10_000, 0.0, 2000),
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
            let (next, _) = endless().answered(&answer(kind, retry_after), asked, now, chance);
            assert_eq!(next, Next::Pause(Duration::from_millis(expected)), "{name}");
        }
        let (next, _) = endless().answered(&held(None), seconds(2), SECOND, 0.0);
        assert_eq!(next, Next::Pause(SECOND), "a clock that goes backwards lengthens nothing");
    }

    #[test]
    fn a_pause_ends_at_the_bound() {
        let mut waiting = Waiting::new(rules(Some(10), None, AtBound::Start), false, [0.0; 2]);
        assert_eq!(waiting.answered_at_once(&held(Some(seconds(30))), seconds(7), 0.0).0, Next::Pause(seconds(3)));
        assert_eq!(waiting.next(seconds(10)), Next::Start(Why::Bound(Bound::MaxWait)));
    }

    #[test]
    fn a_reason_is_said_once_then_once_a_minute() {
        let mut waiting = endless();
        let minute = seconds(60);
        for (now, answer, expected) in [
            (Duration::ZERO, held(None), Some(Say::Reason)),
            (NANO, held(None), None),
            (minute - NANO, held(None), None),
            (minute, held(None), Some(Say::Reason)),
            (minute * 2 - NANO, held(None), None),
            (minute * 2 - NANO, refusal(Kind::Held, "423 Locked; another"), Some(Say::Reason)),
            (minute * 2, refusal(Kind::Unreachable, "423 Locked; another"), Some(Say::Reason)),
            (minute * 2, held(None), Some(Say::Reason)),
        ] {
            assert_eq!(waiting.answered_at_once(&answer, now, 0.0).1, expected, "{now:?} {answer:?}");
        }
    }

    #[test]
    fn a_number_that_changes_is_no_new_reason() {
        let mut waiting = endless();
        let says: Vec<_> = (0..5)
            .map(|n| {
                waiting
                    .answered_at_once(&refusal(Kind::Held, &format!("423 Locked; {} s left", 12 - n)), seconds(n), 0.0)
                    .1
            })
            .collect();
        assert_eq!(says, [Some(Say::Reason), None, None, None, None]);
    }

    #[test]
    fn gists() {
        let words = |position: &str, expected: &str| {
            format!("423 Locked; all slots are taken; position {position} in line, a slot is expected in {expected}")
        };
        let first = gist(&words("12", "1h2m5s"));
        for (position, expected) in [("9", "59s"), ("1", "1.5s"), ("2", "2m"), ("10", "500ms"), ("3", "7µs")] {
            assert_eq!(gist(&words(position, expected)), first, "{position} {expected}");
        }
        for (one, other) in [
            ("423 Locked; all slots are taken", "423 Locked; the gate is closed"),
            ("position 3 in line", "position 3 in line, a slot is expected in 12s"),
            ("12 slots", "12 pods"),
            ("12", ""),
        ] {
            assert_eq!(gist(one) == gist(other), other.is_empty(), "{one} | {other}");
        }
    }

    #[test]
    fn the_place_in_line_is_said_once_a_minute() {
        let mut waiting = endless();
        let said: Vec<u64> = (0..180)
            .filter(|n| {
                let words = format!("423 Locked; position {} in line, a slot is expected in {}s", 12 - n / 20, 200 - n);
                waiting.answered_at_once(&refusal(Kind::Held, &words), seconds(*n), 0.0).1.is_some()
            })
            .collect();
        assert_eq!(said, [0, 60, 120]);
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
            assert_eq!(endless().answered_at_once(&refusal(kind, "x"), SECOND, 0.0).1, Some(expected), "{kind:?}");
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
            (3, &refused, Some(Say::Reason)),
            (63, &refused, Some(Say::Reason)),
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
        let kinds = [Kind::Held, Kind::Rejected, Kind::Elsewhere, Kind::NotALock, Kind::Refused, Kind::Unreachable];
        let refusal = (prop::sample::select(kinds.to_vec()), "[a-c0-9]{0,2}", proptest::option::of(any_duration()));
        refusal.prop_map(|(kind, words, retry_after)| Answer::Refusal(Refusal { kind, words, retry_after }))
    }

    proptest! {
        /// Also at durations that no clock can hold: nothing here may panic.
        #[test]
        fn no_pause_and_no_attempt_goes_past_a_bound(
            pause in any_duration(),
            max_wait in proptest::option::of(any_duration()),
            unreachable_wait in proptest::option::of(any_duration()),
            fails in any::<bool>(),
            chances in [0.0..=1.0f64, 0.0..=1.0f64],
            steps in prop::collection::vec((any_duration(), any_answer(), 0.0..=1.0f64), 0..30),
        ) {
            let at_bound = if fails { AtBound::Fail } else { AtBound::Start };
            let mut waiting = Waiting::new(Rules { pause, max_wait, unreachable_wait, at_bound }, true, chances);
            let most_of = |wait: Duration| lengthened(wait, 0.25, 1.0);
            let (mut now, mut heard) = (Duration::ZERO, Duration::ZERO);
            for (takes, answer, chance) in &steps {
                let over = |now: Duration, heard: Duration| max_wait.is_some_and(|w| now >= most_of(w)) || unreachable_wait.is_some_and(|w| now >= heard.saturating_add(most_of(w)));
                let asked = now;
                match waiting.next(now) {
                    Next::Ask(within) => {
                        prop_assert!(!within.is_zero() && !over(now, heard));
                        now = now.saturating_add((*takes).min(within));
                    }
                    end => {
                        prop_assert_eq!(matches!(end, Next::Fail(_)), fails);
                        prop_assert!(max_wait.is_some_and(|w| now >= w) || unreachable_wait.is_some_and(|w| now >= heard.saturating_add(w)), "too early");
                        return Ok(());
                    }
                }
                let Answer::Refusal(refusal) = answer else { unreachable!() };
                if refusal.kind.is_of_a_lock() {
                    heard = now;
                }
                let (next, _) = waiting.answered(answer, asked, now, *chance);
                if let Next::Pause(length) = next {
                    let left = waiting.deadline().map_or(Duration::MAX, |(ends, _)| ends - now);
                    let asked_for = refusal.retry_after.unwrap_or_default().min(seconds(30));
                    let least = pause.max(asked_for);
                    // Since the question or since the answer, and nothing in between.
                    let counted = match refusal.kind {
                        Kind::Held if asked_for <= pause => now - asked,
                        _ => Duration::ZERO,
                    };
                    let (least, most) = (least.saturating_sub(counted), lengthened(least, 0.2, 1.0).saturating_sub(counted));
                    prop_assert!(length <= left && length >= least.min(left) && length <= most);
                    prop_assert!(length == left || length.saturating_add(now - asked) >= pause, "more often than once a pause");
                    now = now.saturating_add(length);
                } else {
                    prop_assert!(matches!(next, Next::Start(Why::Bound(_)) | Next::Fail(_)));
                    return Ok(());
                }
            }
        }

        #[test]
        fn no_number_and_no_duration_is_a_new_reason(
            counts in [any::<u32>(), any::<u32>()],
            expected in [any_duration(), any_duration()],
        ) {
            let words = |n: usize| format!("position {} in line, expected in {}, later", counts[n], Text(expected[n]));
            prop_assert_eq!(gist(&words(0)), gist(&words(1)));
        }

        #[test]
        fn the_log_stays_short(seconds_between in 1..30u64, answers in 1..500u64) {
            let mut waiting = endless();
            let said = (0..answers).filter(|n| waiting.answered_at_once(&held(None), seconds(n * seconds_between), 0.0).1.is_some()).count() as u64;
            prop_assert!(said <= 1 + answers * seconds_between / 60);
        }
    }
}
