//! The gate of the checks: whether any start may begin.
//!
//! Pure: rounds and the time are arguments. Of the endpoints it knows what they are called, not how
//! they are asked.
//!
//! Invariant: after `max_hold` without a passed round the gate lets starts begin. A guard must not
//! become the outage.

use std::time::{Duration, Instant};

/// What one check of a round gave: up, or why not.
pub type Checked = Result<(), String>;

/// What the gate says at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The last round has passed, or nothing is checked.
    Open,
    /// The checks have failed for longer than the bound, so starts may begin.
    Overridden,
    /// The checks fail, or have not run yet.
    Closed,
}

/// The last round and what came before it.
#[derive(Clone, Debug)]
pub struct Gate {
    endpoints: Vec<String>,
    max_hold: Option<Duration>,
    /// When the checks began to fail without a break; `None` while they pass.
    failing_since: Option<Instant>,
    last: Option<Round>,
    next_round: Instant,
}

/// A finished round.
#[derive(Clone, Debug)]
struct Round {
    /// In the order of the endpoints.
    results: Vec<Checked>,
    /// When it ended.
    at: Instant,
}

impl Gate {
    /// Closed until a first round has passed, unless there is nothing to check. `max_hold` counts
    /// from here too, because an endpoint may never come up.
    pub fn new(endpoints: Vec<String>, max_hold: Option<Duration>, now: Instant) -> Gate {
        let failing_since = (!endpoints.is_empty()).then_some(now);
        Gate { endpoints, max_hold, failing_since, last: None, next_round: now }
    }

    /// Records a finished round and when the next one is due.
    pub fn round(&mut self, results: Vec<Checked>, now: Instant, next_round: Instant) {
        self.failing_since = match results.iter().all(Result::is_ok) {
            true => None,
            false => self.failing_since.or(Some(now)),
        };
        self.last = Some(Round { results, at: now });
        self.next_round = next_round;
    }

    /// The state of the gate now.
    pub fn verdict(&self, now: Instant) -> Verdict {
        match (self.failing_since, self.overridden_at()) {
            (None, _) => Verdict::Open,
            (Some(_), Some(at)) if at <= now => Verdict::Overridden,
            _ => Verdict::Closed,
        }
    }

    /// When starts may begin although the checks fail, if no round passes before.
    pub fn overridden_at(&self) -> Option<Instant> {
        self.failing_since?.checked_add(self.max_hold?)
    }

    /// When the next round begins; in the past while it runs.
    pub fn next_round(&self) -> Instant {
        self.next_round
    }

    /// Each endpoint with the reason why it is not up; `None` if it is.
    pub fn results(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.endpoints.iter().enumerate().map(|(at, endpoint)| {
            let failure = match &self.last {
                Some(round) => round
                    .results
                    .get(at)
                    .and_then(|result| result.as_ref().err().map(String::as_str)),
                None => Some("not checked yet"),
            };
            (endpoint.as_str(), failure)
        })
    }

    /// The reasons of a closed gate: one line for each endpoint that is not up.
    pub fn reasons(&self) -> Vec<String> {
        self.results()
            .filter_map(|(endpoint, failure)| Some(format!("{endpoint}: {}", failure?)))
            .collect()
    }

    /// When the last round ended.
    pub fn checked_at(&self) -> Option<Instant> {
        self.last.as_ref().map(|round| round.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NANO: Duration = Duration::from_nanos(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
    fn zero() -> Instant {
        Instant::now()
    }

    fn names() -> Vec<String> {
        vec!["tcp://a:1".to_owned(), "http://b:80/".to_owned()]
    }

    fn down() -> Vec<Checked> {
        vec![Ok(()), Err("refused".to_owned())]
    }

    fn up() -> Vec<Checked> {
        vec![Ok(()), Ok(())]
    }

    #[test]
    fn nothing_to_check_is_open() {
        let start = zero();
        assert_eq!(Gate::new(vec![], None, start).verdict(start), Verdict::Open);
    }

    #[test]
    fn closed_until_a_round_has_passed() {
        let start = zero();
        let mut gate = Gate::new(names(), None, start);
        assert_eq!(gate.verdict(start + 1000 * SECOND), Verdict::Closed);
        gate.round(down(), start, start + SECOND);
        assert_eq!(gate.verdict(start), Verdict::Closed);
        gate.round(up(), start + SECOND, start + 2 * SECOND);
        assert_eq!(gate.verdict(start + SECOND), Verdict::Open);
        gate.round(down(), start + 2 * SECOND, start + 3 * SECOND);
        assert_eq!(gate.verdict(start + 2 * SECOND), Verdict::Closed);
    }

    #[test]
    fn says_which_endpoints_it_waits_for_and_why() {
        let start = zero();
        let mut gate = Gate::new(names(), None, start);
        assert_eq!(gate.reasons(), ["tcp://a:1: not checked yet", "http://b:80/: not checked yet"]);
        gate.round(down(), start, start + SECOND);
        assert_eq!(gate.reasons(), ["http://b:80/: refused"]);
        gate.round(up(), start, start + SECOND);
        assert!(gate.reasons().is_empty());
    }

    #[test]
    fn overridden_exactly_after_max_hold_without_a_break() {
        let start = zero();
        let mut gate = Gate::new(names(), Some(10 * SECOND), start);
        assert_eq!(gate.verdict(start + 10 * SECOND - NANO), Verdict::Closed);
        assert_eq!(gate.verdict(start + 10 * SECOND), Verdict::Overridden);
        gate.round(down(), start + 11 * SECOND, start + 12 * SECOND);
        assert_eq!(
            gate.verdict(start + 11 * SECOND),
            Verdict::Overridden,
            "a failed round does not begin anew"
        );
        gate.round(up(), start + 12 * SECOND, start + 13 * SECOND);
        assert_eq!(gate.verdict(start + 100 * SECOND), Verdict::Open);
        gate.round(down(), start + 100 * SECOND, start + 101 * SECOND);
        assert_eq!(gate.verdict(start + 110 * SECOND - NANO), Verdict::Closed);
        assert_eq!(gate.verdict(start + 110 * SECOND), Verdict::Overridden);
    }

    #[test]
    fn a_hold_beyond_the_clock_never_ends() {
        let start = zero();
        let gate = Gate::new(names(), Some(Duration::MAX), start);
        assert_eq!(gate.overridden_at(), None);
        assert_eq!(gate.verdict(start + 1000 * SECOND), Verdict::Closed);
    }

    proptest! {
        #[test]
        fn never_closed_for_longer_than_max_hold(hold in 1u32..20, rounds in prop::collection::vec((1u32..8, any::<bool>()), 0..60)) {
            let start = zero();
            let mut gate = Gate::new(names(), Some(SECOND * hold), start);
            let (mut now, mut last_pass) = (start, start);
            for (pause, passes) in rounds {
                now += SECOND * pause;
                prop_assert!(gate.verdict(now) != Verdict::Closed || now - last_pass < SECOND * (hold + 8));
                gate.round(if passes { up() } else { down() }, now, now + SECOND);
                prop_assert_eq!(gate.verdict(now) == Verdict::Open, passes);
                if passes { last_pass = now; }
            }
        }
    }
}
