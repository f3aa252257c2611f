//! Decides after each attempt: end the wait, or pause and ask again.
//!
//! Pure: time since the start of the wait and random numbers are arguments. Does not know HTTP.

#[cfg(test)]
mod tests;

use std::time::Duration;

use psl::duration::with_jitter;

use super::reason::{Reason, ReasonKind};
use super::throttle::LogThrottle;

/// The longest pause that `Retry-After` may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The first request is parked only briefly: its answer tells the reason, and an operator who looks
/// at the log of a new pod should find the reason there.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// Each pause grows by a random share up to this one, so that pods that came together spread out.
const PAUSE_JITTER: f64 = 0.2;

/// Each bound grows by a random share up to this one. Without it, all pods of a node would start in
/// the same second after the lock is gone.
const BOUND_JITTER: f64 = 0.25;

/// A lock parks no request for longer, whatever `wait` says.
const LONGEST_PARKED: Duration = Duration::from_secs(30);

/// A lock should answer a parked request this long before `--max-wait` ends, so that the answer
/// still arrives. A shorter attempt timeout counts instead.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Between two attempts; more than zero.
    pub pause: Duration,
    /// How long a lock may park the request; zero asks for an immediate answer.
    pub wait: Duration,
    /// To reach the lock, and again for the answer after `wait`; more than zero.
    pub attempt_timeout: Duration,
    pub max_wait: Option<Duration>,
    pub unreachable_wait: Option<Duration>,
    pub at_bound: AtBound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtBound {
    /// The pod starts without a lease: a guard must not cause the outage.
    Start,
    /// The pod does not start; the kubelet runs init again.
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    MaxWait,
    UnreachableWait,
}

/// One request to the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// How long the lock may park this request; zero asks for an immediate answer.
    pub wait: Duration,
    /// To reach the lock, and again for the answer after `wait`.
    pub timeout: Duration,
    /// For the whole attempt, whatever the other two say.
    pub within: Duration,
}

impl Attempt {
    /// From the end of the request to the end of the answer's head.
    pub fn answer_timeout(&self) -> Duration {
        self.timeout.saturating_add(self.wait.min(LONGEST_PARKED))
    }

    /// From name resolution to the last byte of the answer.
    pub fn request_timeout(&self) -> Duration {
        self.timeout.saturating_add(self.answer_timeout())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Ask(Attempt),
    /// Pause, then call [`WaitState::next`].
    Pause(Duration),
    /// End: the lease is granted.
    Granted,
    /// End: the pod starts without a lease.
    Start(Bound),
    /// End: the pod does not start.
    Fail(Bound),
}

/// How to log the result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Info,
    /// Info, with the hint that `localhost` is the pod itself.
    InfoWithHint,
    Warn,
}

/// A wait in progress.
///
/// The silence that `--unreachable-wait` limits begins with the first request that no lock answers,
/// and ends with an answer from a lock. It does not include:
/// - the pause after an answer from a lock,
/// - the time of a parked request: a request gets its whole timeout before the bound is checked,
/// - the part of a pause that `Retry-After` adds to `--pause`,
/// - a parked request that the server cuts, because the lock may have restarted. A second cut in a
///   row counts: a server that cuts each connection is not a lock.
///
/// Invariants: no pause outlasts a bound, and no attempt outlasts `--max-wait`.
#[derive(Clone, Debug)]
pub struct WaitState {
    rules: Rules,
    /// The lock's host is a loopback address.
    is_loopback: bool,
    max_wait_ends: Option<Duration>,
    /// With its random share, which stays the same for the whole wait.
    unreachable_wait: Option<Duration>,
    unreachable_wait_ends: Option<Duration>,
    /// The last attempt got no answer from a lock.
    is_silent: bool,
    /// A lock has answered 423, so the log has a reason.
    has_reason: bool,
    throttle: LogThrottle,
    has_given_hint: bool,
}

impl WaitState {
    /// `chances` (0 to 1 each) lengthen the two bounds.
    pub fn new(rules: Rules, is_loopback: bool, chances: [f64; 2]) -> WaitState {
        let bound_of = |bound: Option<Duration>, chance| {
            bound.map(|bound| with_jitter(bound, BOUND_JITTER, chance))
        };
        let unreachable_wait = bound_of(rules.unreachable_wait, chances[1]);
        WaitState {
            rules,
            is_loopback,
            max_wait_ends: bound_of(rules.max_wait, chances[0]),
            unreachable_wait,
            unreachable_wait_ends: unreachable_wait,
            is_silent: false,
            has_reason: false,
            throttle: LogThrottle::default(),
            has_given_hint: false,
        }
    }

    /// The action at the start and after each pause.
    pub fn next(&self, now: Duration) -> Action {
        match self.deadline() {
            Some((ends, bound)) if ends <= now => match self.rules.at_bound {
                AtBound::Start => Action::Start(bound),
                AtBound::Fail => Action::Fail(bound),
            },
            _ => Action::Ask(self.attempt(now)),
        }
    }

    /// The action after an attempt that lasted from `began` to `now`. `chance` (0 to 1) lengthens
    /// the pause.
    pub fn process(
        &mut self,
        result: &Result<(), Reason>,
        began: Duration,
        now: Duration,
        chance: f64,
    ) -> (Action, LogLevel) {
        let Err(reason) = result else { return (Action::Granted, LogLevel::Debug) };
        let took = now.saturating_sub(began);
        let pause = self.pause(reason, self.attempt(began).wait, took, chance);
        if reason.kind.is_from_lock() {
            self.unreachable_wait_ends =
                self.unreachable_wait.map(|wait| now.saturating_add(pause).saturating_add(wait));
        } else if reason.kind == ReasonKind::ConnectionClosed && !self.is_silent {
            self.extend_silence(took);
        }
        self.is_silent = !reason.kind.is_from_lock();
        self.has_reason |= reason.kind == ReasonKind::Locked;
        if let end @ (Action::Start(_) | Action::Fail(_)) = self.next(now) {
            return (end, LogLevel::Debug);
        }
        if self.is_silent {
            let own_pause = with_jitter(self.rules.pause, PAUSE_JITTER, chance);
            self.extend_silence(pause.saturating_sub(own_pause));
        }
        let left = self.deadline().map_or(Duration::MAX, |(ends, _)| ends.saturating_sub(now));
        (Action::Pause(pause.min(left)), self.log_level(reason, now))
    }

    fn extend_silence(&mut self, by: Duration) {
        self.unreachable_wait_ends = self.unreachable_wait_ends.map(|ends| ends.saturating_add(by));
    }

    /// The end of the wait if no lock answers from now on.
    pub fn deadline(&self) -> Option<(Duration, Bound)> {
        let max_wait = self.max_wait_ends.map(|ends| (ends, Bound::MaxWait));
        let unreachable_wait =
            self.unreachable_wait_ends.map(|ends| (ends, Bound::UnreachableWait));
        max_wait.into_iter().chain(unreachable_wait).min_by_key(|(ends, _)| *ends)
    }

    /// A request that stays parked at the end of `--max-wait` would be cut off and lose its reason,
    /// so the lock is asked for an earlier answer, in whole milliseconds.
    fn attempt(&self, now: Duration) -> Attempt {
        let Rules { wait, attempt_timeout, .. } = self.rules;
        let within = self.max_wait_ends.map_or(Duration::MAX, |ends| ends.saturating_sub(now));
        let timeout = self.unreachable_wait.map_or(attempt_timeout, |u| u.min(attempt_timeout));
        let longest = within.saturating_sub(timeout.min(ANSWER_MARGIN));
        // Longer than a pause, so that init asks again at once after the first answer.
        let first_wait = FIRST_WAIT.max(with_jitter(self.rules.pause, PAUSE_JITTER, 1.0));
        let wait = if self.has_reason { wait } else { wait.min(first_wait) };
        let wait = if longest < wait.min(LONGEST_PARKED) { whole_millis(longest) } else { wait };
        Attempt { wait, timeout, within }
    }

    /// The pause after an attempt, counted from now.
    ///
    /// A lock gives a free slot only to a parked request, so the time without one must be short. A
    /// 423 after the whole `wait`, or one whose `Retry-After` is at most `--pause`, lets the pause
    /// count from the start of the attempt. After any other answer the pause counts from now: an
    /// early 423 with a long `Retry-After` comes from a lock that cannot park the request, and a
    /// slow server may be overloaded. Either way, attempts begin at most once a pause.
    fn pause(&self, reason: &Reason, wait: Duration, took: Duration, chance: f64) -> Duration {
        let asked_for = reason.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        let was_parked = !wait.is_zero() && took >= wait.min(LONGEST_PARKED);
        if reason.kind == ReasonKind::Locked && (was_parked || asked_for <= self.rules.pause) {
            return with_jitter(self.rules.pause, PAUSE_JITTER, chance).saturating_sub(took);
        }
        with_jitter(self.rules.pause.max(asked_for), PAUSE_JITTER, chance)
    }

    fn log_level(&mut self, reason: &Reason, now: Duration) -> LogLevel {
        if !self.throttle.admit(reason.kind, &reason.text, now) {
            return LogLevel::Debug;
        }
        if reason.kind.is_permanent() {
            return LogLevel::Warn;
        }
        let is_refused = reason.kind == ReasonKind::ConnectionRefused;
        if is_refused && self.is_loopback && !self.has_given_hint {
            self.has_given_hint = true;
            return LogLevel::InfoWithHint;
        }
        LogLevel::Info
    }
}

fn whole_millis(duration: Duration) -> Duration {
    Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000)
}
