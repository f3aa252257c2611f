//! The gate of the checks: whether any start may begin.
//!
//! Rounds and the time are arguments. Knows the names of the endpoints, not how they are checked.
//!
//! Invariant: after `max_hold` without a passed round the gate lets starts begin. A guard must not
//! become the outage.

use std::time::{Duration, Instant};

/// The result of one check: up, or the reason why not.
pub type CheckResult = Result<(), String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateState {
    /// The last round has passed, or there are no endpoints.
    Open,
    /// The checks have failed for longer than the bound, so starts may begin.
    Overridden,
    /// The checks fail, or have not run yet.
    Closed,
}

#[derive(Clone, Debug)]
pub struct Gate {
    endpoints: Vec<String>,
    max_hold: Option<Duration>,
    /// When the checks began to fail without a break; `None` while they pass.
    failing_since: Option<Instant>,
    /// The results of the last round, in the order of the endpoints, and its end.
    last: Option<(Vec<CheckResult>, Instant)>,
    next_round: Instant,
}

impl Gate {
    /// Closed until a first round has passed, unless there are no endpoints. `max_hold` counts from
    /// here too, because an endpoint may never come up.
    pub fn new(endpoints: Vec<String>, max_hold: Option<Duration>, now: Instant) -> Gate {
        let failing_since = (!endpoints.is_empty()).then_some(now);
        Gate { endpoints, max_hold, failing_since, last: None, next_round: now }
    }

    pub fn finish_round(&mut self, results: Vec<CheckResult>, now: Instant, next_round: Instant) {
        self.failing_since = match results.iter().all(Result::is_ok) {
            true => None,
            false => self.failing_since.or(Some(now)),
        };
        self.last = Some((results, now));
        self.next_round = next_round;
    }

    pub fn state(&self, now: Instant) -> GateState {
        match (self.failing_since, self.overridden_at()) {
            (None, _) => GateState::Open,
            (Some(_), Some(at)) if at <= now => GateState::Overridden,
            _ => GateState::Closed,
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
                Some((results, _)) => match results.get(at) {
                    Some(Err(reason)) => Some(reason.as_str()),
                    Some(Ok(())) | None => None,
                },
                None => Some("not checked yet"),
            };
            (endpoint.as_str(), failure)
        })
    }

    /// One reason for each endpoint that is not up.
    pub fn reasons(&self) -> Vec<String> {
        self.results()
            .filter_map(|(endpoint, failure)| Some(format!("{endpoint}: {}", failure?)))
            .collect()
    }

    pub fn checked_at(&self) -> Option<Instant> {
        self.last.as_ref().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tests::{NANO, SECOND, zero};
    use proptest::prelude::*;

    fn names() -> Vec<String> {
        vec!["tcp://a:1".to_owned(), "http://b:80/".to_owned()]
    }

    fn down() -> Vec<CheckResult> {
        vec![Ok(()), Err("refused".to_owned())]
    }

    fn up() -> Vec<CheckResult> {
        vec![Ok(()), Ok(())]
    }

    #[test]
    fn a_gate_without_endpoints_is_open() {
        let start = zero();
        assert_eq!(Gate::new(vec![], None, start).state(start), GateState::Open);
    }

    #[test]
    fn closed_until_a_round_has_passed() {
        let start = zero();
        let mut gate = Gate::new(names(), None, start);
        assert_eq!(gate.state(start + 1000 * SECOND), GateState::Closed);
        gate.finish_round(down(), start, start + SECOND);
        assert_eq!(gate.state(start), GateState::Closed);
        gate.finish_round(up(), start + SECOND, start + 2 * SECOND);
        assert_eq!(gate.state(start + SECOND), GateState::Open);
        gate.finish_round(down(), start + 2 * SECOND, start + 3 * SECOND);
        assert_eq!(gate.state(start + 2 * SECOND), GateState::Closed);
    }

    #[test]
    fn reasons_name_the_endpoints_that_are_not_up() {
        let start = zero();
        let mut gate = Gate::new(names(), None, start);
        assert_eq!(gate.reasons(), ["tcp://a:1: not checked yet", "http://b:80/: not checked yet"]);
        gate.finish_round(down(), start, start + SECOND);
        assert_eq!(gate.reasons(), ["http://b:80/: refused"]);
        gate.finish_round(up(), start, start + SECOND);
        assert!(gate.reasons().is_empty());
    }

    #[test]
    fn overridden_exactly_after_max_hold_without_a_break() {
        let start = zero();
        let mut gate = Gate::new(names(), Some(10 * SECOND), start);
        assert_eq!(gate.state(start + 10 * SECOND - NANO), GateState::Closed);
        assert_eq!(gate.state(start + 10 * SECOND), GateState::Overridden);
        gate.finish_round(down(), start + 11 * SECOND, start + 12 * SECOND);
        assert_eq!(
            gate.state(start + 11 * SECOND),
            GateState::Overridden,
            "a failed round does not begin anew"
        );
        gate.finish_round(up(), start + 12 * SECOND, start + 13 * SECOND);
        assert_eq!(gate.state(start + 100 * SECOND), GateState::Open);
        gate.finish_round(down(), start + 100 * SECOND, start + 101 * SECOND);
        assert_eq!(gate.state(start + 110 * SECOND - NANO), GateState::Closed);
        assert_eq!(gate.state(start + 110 * SECOND), GateState::Overridden);
    }

    #[test]
    fn a_hold_beyond_the_clock_never_ends() {
        let start = zero();
        let gate = Gate::new(names(), Some(Duration::MAX), start);
        assert_eq!(gate.overridden_at(), None);
        assert_eq!(gate.state(start + 1000 * SECOND), GateState::Closed);
    }

    proptest! {
        #[test]
        fn never_closed_for_longer_than_max_hold(hold in 1u32..20, rounds in prop::collection::vec((1u32..8, any::<bool>()), 0..60)) {
            let start = zero();
            let mut gate = Gate::new(names(), Some(SECOND * hold), start);
            let (mut now, mut last_pass) = (start, start);
            for (pause, passes) in rounds {
                now += SECOND * pause;
                prop_assert!(gate.state(now) != GateState::Closed || now - last_pass < SECOND * (hold + 8));
                gate.finish_round(if passes { up() } else { down() }, now, now + SECOND);
                prop_assert_eq!(gate.state(now) == GateState::Open, passes);
                if passes { last_pass = now; }
            }
        }
    }
}
