//! `--locks auto` against the best fixed number for each herd.

use std::time::Instant;

use lock::core::settings::Slots;

use crate::best::{Best, best};
use crate::herd::{Application, Arrival, Mix};
use crate::node::{Node, run};

/// The kubelet kills a start that is not ready after `DEADLINE`. The first restart comes at once,
/// the second after
/// `BACK_OFF`.
const DEADLINE: f64 = 6.0;
const BACK_OFF: f64 = 10.0;

/// The duration of a lease that ends at ready, if the application never is.
const LONGEST_LEASE: f64 = 120.0;

/// The duration of a lease that ends by time alone.
const FIXED_LEASE: f64 = 10.0;

/// A herd is cut off at this multiple of the best number's time, and counts as this ratio.
const CUT_OFF: f64 = 10.0;

/// The default of lock.
pub const MOST_A_CORE: usize = 16;

/// One herd on one node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    pub mix: Mix,
    pub cores: usize,
    pub pods: usize,
    /// The kubelet's latency, with up to 30 % more or less.
    pub latency: f64,
    pub arrival: Arrival,
    /// A lease ends when its application is ready.
    pub ready: bool,
    pub seed: u64,
}

/// The constants of `lock::core::limit` were chosen on herds of these seeds.
pub const CHOSEN_ON: [u64; 6] = [0, 1, 2, 3, 4, 5];

/// Goals are judged on herds of these seeds, which were not used before the choice.
pub const JUDGED_ON: [u64; 6] = [10, 11, 12, 13, 14, 15];

/// Each mix with goals, with latencies of 0, 1 and 2 s on 2, 8 and 64 cores with 20, 60 and 200
/// pods.
pub fn cases(arrival: Arrival, ready: bool, seed: u64) -> Vec<Case> {
    cases_of(&Mix::ALL[..Mix::JUDGED], arrival, ready, seed)
}

/// The same with the other mixes.
pub fn others(arrival: Arrival, ready: bool, seed: u64) -> Vec<Case> {
    cases_of(&Mix::ALL[Mix::JUDGED..], arrival, ready, seed)
}

fn cases_of(mixes: &[(Mix, &str)], arrival: Arrival, ready: bool, seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for &(mix, _) in mixes {
        for cores in [2, 8, 64] {
            for pods in [20, 60, 200] {
                for latency in [0.0, 1.0, 2.0] {
                    cases.push(Case { mix, cores, pods, latency, arrival, ready, seed });
                }
            }
        }
    }
    cases
}

/// The result of a number of slots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Its time over that of the best fixed number.
    pub ratio: f64,
    /// All applications were ready before the cut-off.
    pub is_home: bool,
    /// Starts that were killed and would have become ready.
    pub kills: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub case: Case,
    pub best: Best,
    /// `--locks auto`.
    pub auto: Outcome,
    /// Fixed numbers for each core, in the order of the request.
    pub fixed: Vec<Outcome>,
}

impl Case {
    pub fn herd(&self) -> Vec<Application> {
        let mut herd = self.mix.herd(
            self.pods,
            self.cores,
            self.latency,
            7 + self.pods as u64 + 1000 * self.seed,
        );
        self.arrival.set(&mut herd, self.cores);
        herd
    }

    pub fn node(&self, slots: Slots) -> Node {
        Node {
            cores: self.cores,
            background: self.mix.background(self.cores),
            batch: self.mix.batch(self.cores),
            frozen: self.mix == Mix::Frozen,
            deadline: DEADLINE,
            back_off: BACK_OFF,
            slots,
            duration: if self.ready { LONGEST_LEASE } else { FIXED_LEASE },
            ready: self.ready,
            cut_off: f64::MAX,
        }
    }

    /// The slots of `--locks auto`.
    pub fn auto(&self) -> Slots {
        Slots::Auto { cores: self.cores, most: MOST_A_CORE * self.cores }
    }

    /// `None` if no fixed number gets this herd ready.
    pub fn compare(&self, a_core: &[usize], zero: Instant) -> Option<Comparison> {
        let herd = self.herd();
        let best = best(&self.node(Slots::Fixed(1)), &herd, zero)?;
        let outcome = |slots| {
            let node = Node { cut_off: CUT_OFF * best.home, ..self.node(slots) };
            let result = run(&node, &herd, zero);
            let ratio = result.home.map_or(CUT_OFF, |home| home / best.home);
            Outcome { ratio, is_home: result.home.is_some(), kills: result.kills }
        };
        let fixed =
            a_core.iter().map(|number| outcome(Slots::Fixed(number * self.cores))).collect();
        Some(Comparison { case: *self, best, auto: outcome(self.auto()), fixed })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    pub herds: usize,
    pub mean: f64,
    pub worst: f64,
    /// Herds above [`ABOVE`].
    pub above: usize,
    /// Herds that were cut off.
    pub lost: usize,
    pub kills: usize,
    /// The most killed starts of one herd.
    pub most_kills: usize,
}

pub const ABOVE: f64 = 1.5;

pub fn summary<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Summary {
    let mut summary = Summary::default();
    let mut sum = 0.0;
    for outcome in outcomes {
        summary.herds += 1;
        sum += outcome.ratio;
        summary.worst = summary.worst.max(outcome.ratio);
        summary.above += usize::from(outcome.ratio > ABOVE);
        summary.lost += usize::from(!outcome.is_home);
        summary.kills += outcome.kills;
        summary.most_kills = summary.most_kills.max(outcome.kills);
    }
    summary.mean = sum / summary.herds as f64;
    summary
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::zero;

    #[test]
    fn cases_are_all_that_were_asked_for() {
        let cases = cases(Arrival::AtOnce, true, 0);
        assert_eq!(cases.len(), 8 * 3 * 3 * 3);
        assert_eq!(others(Arrival::AtOnce, true, 0).len(), 10 * 3 * 3 * 3);
        let distinct: Vec<_> =
            cases.iter().enumerate().filter(|(at, case)| !cases[..*at].contains(case)).collect();
        assert_eq!(distinct.len(), cases.len());
    }

    #[test]
    fn a_herd_that_all_numbers_suit_is_as_good_with_each() {
        // A core for each, so no wait.
        let case = Case {
            mix: Mix::Cpu,
            cores: 64,
            pods: 20,
            latency: 0.0,
            arrival: Arrival::AtOnce,
            ready: true,
            seed: 3,
        };
        let comparisons = case.compare(&[1, 4], zero()).unwrap();
        for outcome in comparisons.fixed.iter().chain([&comparisons.auto]) {
            assert_eq!(*outcome, Outcome { ratio: 1.0, is_home: true, kills: 0 });
        }
        let slow = Case { pods: 60, cores: 2, latency: 2.0, ..case }.compare(&[1], zero()).unwrap();
        assert!(
            slow.fixed[0].ratio > 2.0 && slow.best.slots > 2,
            "one a core waits for the kubelet: {slow:?}"
        );
    }

    #[test]
    fn summaries() {
        let outcome = |ratio: f64, kills| Outcome { ratio, is_home: ratio < CUT_OFF, kills };
        let of = [outcome(1.0, 0), outcome(1.5, 3), outcome(CUT_OFF, 1), outcome(1.5, 0)];
        let expected = Summary {
            herds: 4,
            mean: 3.5,
            worst: 10.0,
            above: 1,
            lost: 1,
            kills: 4,
            most_kills: 3,
        };
        assert_eq!(summary(&of), expected);
    }
}
