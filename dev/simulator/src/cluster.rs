//! Many nodes after a power cut: the time until all pods are ready, and the killed starts.
//!
//! Each node has a lock of its own. The model has no bound for the API server and the registry, so
//! the nodes do not
//! affect each other.

use std::time::Instant;

use lock::core::settings::Slots;

use crate::chance::Chance;
use crate::compare::MOST_A_CORE;
use crate::herd::{Application, Arrival, Phase, waiting};
use crate::node::{Node, RunResult, run};
use crate::parallel;

/// The assumptions. A pair is the least and the most of a drawn value.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub nodes: usize,
    /// Pods on each node.
    pub pods: usize,
    /// The cores of a node; each number is as likely.
    pub cores: Vec<usize>,
    /// From the return of the power to the first init of a node.
    pub boot: (f64, f64),
    /// Inits a second for each core.
    pub arrival: f64,
    /// From the end of an init to the start of the application.
    pub latency: (f64, f64),
    /// Share of the pods whose image is not on the node any more, and how long its pull takes.
    pub pulls: (f64, (f64, f64)),
    /// CPU seconds of a start.
    pub work: (f64, f64),
    /// The kubelet kills a start that is not ready this long after its container started.
    pub deadline: f64,
    /// The pause before the second restart; each later one is twice as long.
    pub back_off: f64,
    /// A pod that is not ready this long after the first init of its node is given up.
    pub cut_off: f64,
    pub seed: u64,
}

/// The slots of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// A slot for each pod.
    All,
    Fixed(usize),
    /// This many for each core.
    ACore(usize),
    /// `--locks auto`.
    Auto,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lease {
    /// A lease ends when its application is ready, after this time at the latest.
    Ready(f64),
    /// A lease ends after this time.
    Time(f64),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// From the return of the power until the last pod is ready; `None` if one was cut off.
    pub home: Option<f64>,
    /// Nodes with a pod that was cut off.
    pub nodes_lost: usize,
    /// Pods that were cut off.
    pub pods_lost: usize,
    /// From each pod's first init to its open port, sorted, without the pods that were cut off.
    pub waits: Vec<f64>,
    /// Killed starts.
    pub kills: usize,
    /// CPU seconds of killed starts.
    pub wasted: f64,
    /// CPU seconds of the starts of all pods, each counted once.
    pub work: f64,
}

struct Drawn {
    boots: f64,
    cores: usize,
    herd: Vec<Application>,
}

impl Cluster {
    /// Runs all nodes on this many threads.
    pub fn run(&self, number: Number, lease: Lease, zero: Instant, threads: usize) -> Outcome {
        let nodes: Vec<usize> = (0..self.nodes).collect();
        let results = parallel::map(threads, &nodes, |nth| {
            let drawn = self.draw(*nth);
            let result = run(&self.node(&drawn, number, lease), &drawn.herd, zero);
            (drawn, result)
        });
        let mut outcome = Outcome { home: Some(0.0), ..Outcome::default() };
        for (drawn, result) in &results {
            outcome.add(drawn, result);
        }
        outcome.waits.sort_by(f64::total_cmp);
        outcome
    }

    /// The same number gives the same node.
    fn draw(&self, nth: usize) -> Drawn {
        let mut chance = Chance::new(self.seed.wrapping_mul(1 << 32).wrapping_add(nth as u64));
        let boots = within(self.boot, &mut chance);
        let cores = self.cores.get(chance.below(self.cores.len())).copied().unwrap_or(1);
        let mut herd: Vec<Application> =
            (0..self.pods).map(|_| self.application(&mut chance)).collect();
        Arrival::ACore(self.arrival).set(&mut herd, cores);
        Drawn { boots, cores, herd }
    }

    fn application(&self, chance: &mut Chance) -> Application {
        let work = within(self.work, chance);
        // Half of the starts have one thread, a quarter two threads, and a quarter waits for half
        // of its time.
        let start = match chance.below(4) {
            0 => waiting(0.5, 2.0 * work),
            1 => vec![Phase::Burn { threads: 2, each: work / 2.0 }],
            _ => vec![Phase::Burn { threads: 1, each: work }],
        };
        let (share, seconds) = self.pulls;
        let pull = if chance.between(0.0, 1.0) < share { within(seconds, chance) } else { 0.0 };
        Application {
            arrives: 0.0,
            latency: within(self.latency, chance) + pull,
            overhead: 0.0,
            start,
            hangs: false,
            never: false,
        }
    }

    fn node(&self, drawn: &Drawn, number: Number, lease: Lease) -> Node {
        let cores = drawn.cores;
        let slots = match number {
            Number::All => Slots::Fixed(self.pods),
            Number::Fixed(slots) => Slots::Fixed(slots),
            Number::ACore(slots) => Slots::Fixed(slots * cores),
            Number::Auto => Slots::Auto { cores, most: MOST_A_CORE * cores },
        };
        let (ready, duration) = match lease {
            Lease::Ready(longest) => (true, longest),
            Lease::Time(duration) => (false, duration),
        };
        let &Cluster { deadline, back_off, cut_off, .. } = self;
        Node {
            cores,
            background: 0,
            batch: 0,
            frozen: false,
            deadline,
            back_off,
            slots,
            duration,
            ready,
            cut_off,
        }
    }
}

impl Outcome {
    fn add(&mut self, drawn: &Drawn, result: &RunResult) {
        let home = result.home.map(|home| drawn.boots + home);
        self.home = self.home.zip(home).map(|(last, home)| last.max(home));
        let waits = drawn
            .herd
            .iter()
            .zip(&result.ready)
            .filter_map(|(it, ready)| Some((*ready)? - it.arrives));
        let before = self.waits.len();
        self.waits.extend(waits);
        let lost = drawn.herd.len() - (self.waits.len() - before);
        self.pods_lost += lost;
        self.nodes_lost += usize::from(lost > 0);
        self.kills += result.kills;
        self.wasted += result.wasted;
        self.work += drawn.herd.iter().map(Application::work).sum::<f64>();
    }

    /// The quantile of the waits of all pods; `None` if it falls on a pod that was cut off.
    pub fn waited(&self, share: f64) -> Option<f64> {
        let all = self.waits.len() + self.pods_lost;
        let place = (share * all as f64).ceil() as usize;
        self.waits.get(place.saturating_sub(1)).copied()
    }
}

fn within((least, most): (f64, f64), chance: &mut Chance) -> f64 {
    chance.between(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::zero;

    fn cluster() -> Cluster {
        Cluster {
            nodes: 6,
            pods: 4,
            cores: vec![1],
            boot: (60.0, 60.0),
            arrival: 1000.0,
            latency: (0.0, 0.0),
            pulls: (0.0, (0.0, 0.0)),
            work: (2.0, 2.0),
            deadline: 100.0,
            back_off: 10.0,
            cut_off: 1000.0,
            seed: 1,
        }
    }

    const READY: Lease = Lease::Ready(120.0);

    #[test]
    fn all_at_once_share_the_core_of_their_node() {
        let outcome = cluster().run(Number::All, READY, zero(), 2);
        // Four starts of two seconds on one core; some wait for half of their time.
        let home = outcome.home.unwrap();
        assert!((68.0..72.0).contains(&home), "{home}");
        assert_eq!(
            (outcome.nodes_lost, outcome.pods_lost, outcome.kills, outcome.waits.len()),
            (0, 0, 0, 24)
        );
        assert!((outcome.work - 48.0).abs() < 1e-6 && outcome.wasted == 0.0, "{outcome:?}");
        assert!((outcome.waited(1.0).unwrap() - (home - 60.0)).abs() < 0.01, "{outcome:?}");
        assert!(outcome.waits.is_sorted() && outcome.waited(0.5).unwrap() >= outcome.waits[0]);
    }

    #[test]
    fn one_slot_serves_one_after_the_other() {
        let by_time = cluster().run(Number::Fixed(1), Lease::Time(10.0), zero(), 1);
        assert!(
            by_time.home.is_some_and(|home| (92.0..94.1).contains(&home)),
            "three leases, and a start: {by_time:?}"
        );
        assert_eq!(
            by_time,
            cluster().run(Number::ACore(1), Lease::Time(10.0), zero(), 3),
            "one core has each node"
        );
        let auto = cluster().run(Number::Auto, READY, zero(), 2);
        assert!(auto.home.unwrap() < by_time.home.unwrap() && auto.kills == 0, "{auto:?}");
    }

    #[test]
    fn who_is_never_ready_is_given_up() {
        let herd = Cluster { deadline: 5.0, cut_off: 40.0, ..cluster() };
        let outcome = herd.run(Number::All, READY, zero(), 2);
        assert_eq!((outcome.home, outcome.waited(1.0)), (None, None));
        assert!(outcome.nodes_lost > 0 && outcome.nodes_lost <= outcome.pods_lost, "{outcome:?}");
        assert_eq!(outcome.waits.len() + outcome.pods_lost, 24);
        assert!(outcome.kills >= outcome.pods_lost && outcome.wasted > 0.0, "{outcome:?}");
    }
}
