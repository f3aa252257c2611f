//! Many nodes after a power cut: when all pods are ready, and how many starts were killed.
//!
//! Each node has a lock of its own and none knows of the others: what they share (the API server, the
//! registry) is taken to bear them all, so that a cluster is as many mornings as it has nodes.

use std::time::Instant;

use lock::core::settings::Slots;

use crate::chance::Chance;
use crate::compare::MOST_A_CORE;
use crate::herd::{Application, Arrival, Phase, waiting};
use crate::node::{Morning, Node, run};
use crate::parallel;

/// What is assumed of the cluster. Pairs are the least and the most of what is drawn between them.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How many.
    pub nodes: usize,
    /// On each node.
    pub pods: usize,
    /// Of a node; each of these as often.
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
    /// And starts it anew after this, then twice that, and so on.
    pub back_off: f64,
    /// A pod that is not ready this long after the first init of its node is given up.
    pub cut_off: f64,
    /// Chance.
    pub seed: u64,
}

/// How many may start at a time on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// As many as there are.
    All,
    /// This many on each node.
    Fixed(usize),
    /// So many for each core.
    ACore(usize),
    /// `--locks auto`.
    Auto,
}

/// When a lease ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lease {
    /// When the application is ready, after this at the latest.
    Ready(f64),
    /// After this.
    Time(f64),
}

/// The result of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// From the return of the power until the last was ready; `None` if one was given up.
    pub home: Option<f64>,
    /// Nodes with one that was given up.
    pub nodes_lost: usize,
    /// Pods that were given up.
    pub pods_lost: usize,
    /// From each pod's first init to its open port, in order; those who were given up are not in it.
    pub waits: Vec<f64>,
    /// Starts that were killed.
    pub kills: usize,
    /// CPU seconds of those.
    pub wasted: f64,
    /// CPU seconds of the starts of all pods, each counted once.
    pub work: f64,
}

/// A node and the applications that start on it.
struct Drawn {
    boots: f64,
    cores: usize,
    herd: Vec<Application>,
}

impl Cluster {
    /// Runs all nodes on this many threads.
    pub fn wake(&self, number: Number, lease: Lease, zero: Instant, threads: usize) -> Outcome {
        let nodes: Vec<usize> = (0..self.nodes).collect();
        let mornings = parallel::map(threads, &nodes, |nth| {
            let drawn = self.draw(*nth);
            let morning = run(&self.node(&drawn, number, lease), &drawn.herd, zero);
            (drawn, morning)
        });
        let mut outcome = Outcome { home: Some(0.0), ..Outcome::default() };
        for (drawn, morning) in &mornings {
            outcome.add(drawn, morning);
        }
        outcome.waits.sort_by(f64::total_cmp);
        outcome
    }

    /// The same node each time.
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
        // Half of them burn in one thread, a quarter in two, a quarter waits for half of its start.
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
    fn add(&mut self, drawn: &Drawn, morning: &Morning) {
        let home = morning.home.map(|home| drawn.boots + home);
        self.home = self.home.zip(home).map(|(last, home)| last.max(home));
        let waits = drawn
            .herd
            .iter()
            .zip(&morning.ready)
            .filter_map(|(it, ready)| Some((*ready)? - it.arrives));
        let before = self.waits.len();
        self.waits.extend(waits);
        let lost = drawn.herd.len() - (self.waits.len() - before);
        self.pods_lost += lost;
        self.nodes_lost += usize::from(lost > 0);
        self.kills += morning.kills;
        self.wasted += morning.wasted;
        self.work += drawn.herd.iter().map(Application::work).sum::<f64>();
    }

    /// How long this share of all pods had waited at most; `None` if pods that were given up are among
    /// them.
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
        let outcome = cluster().wake(Number::All, READY, zero(), 2);
        // Four starts of two seconds on one core, but for those who wait for half of theirs.
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
        let by_time = cluster().wake(Number::Fixed(1), Lease::Time(10.0), zero(), 1);
        assert!(
            by_time.home.is_some_and(|home| (92.0..94.1).contains(&home)),
            "three leases, and a start: {by_time:?}"
        );
        assert_eq!(
            by_time,
            cluster().wake(Number::ACore(1), Lease::Time(10.0), zero(), 3),
            "one core has each node"
        );
        let auto = cluster().wake(Number::Auto, READY, zero(), 2);
        assert!(auto.home.unwrap() < by_time.home.unwrap() && auto.kills == 0, "{auto:?}");
    }

    #[test]
    fn who_is_never_ready_is_given_up() {
        let herd = Cluster { deadline: 5.0, cut_off: 40.0, ..cluster() };
        let outcome = herd.wake(Number::All, READY, zero(), 2);
        assert_eq!((outcome.home, outcome.waited(1.0)), (None, None));
        assert!(outcome.nodes_lost > 0 && outcome.nodes_lost <= outcome.pods_lost, "{outcome:?}");
        assert_eq!(outcome.waits.len() + outcome.pods_lost, 24);
        assert!(outcome.kills >= outcome.pods_lost && outcome.wasted > 0.0, "{outcome:?}");
    }
}
