//! One node's morning: cores that are shared by weight, a kubelet that kills and restarts, and a queue.
//!
//! The time goes from one event to the next. Lock's own code (`lock::core::limit`) says how many leases
//! may begin; the queue is first come, first served, and every waiter is parked, so that a free slot
//! goes to the first at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lock::core::limit::{Limit, Reading};
use lock::core::settings::Slots;

use crate::chance::Chance;
use crate::herd::Application;
use crate::pod::{CLOSE, Pod, Progress, Stage};

/// From the opening of a port to the probe that finds it open: half of the pause between two probes,
/// which is a tenth of the lease's age within these bounds.
const SEEN_LATE: f64 = 0.05;
const LEAST_LATE: f64 = 0.01;
const MOST_LATE: f64 = 0.25;

/// The kubelet doubles its back-off this many times at most.
const MOST_DOUBLED: u32 = 5;

/// A restart itself takes from the first to the second: 1.5 s on real nodes, where the first came without a back-off.
const RESTART: (f64, f64) = (0.5, 2.5);

/// A batch thread's share of a core beside one of a start: `cpu.weight` 1 of a container without
/// requests beside 39, which is that of a request of one core.
const BATCH_WEIGHT: f64 = 1.0 / 39.0;

/// The node, and what its operator has set.
#[derive(Clone, Debug)]
pub struct Node {
    /// Shared by weight among all threads.
    pub cores: usize,
    /// Threads beside the starts that burn all the time, with the weight of starts.
    pub background: usize,
    /// The same at low weight: they take what is left.
    pub batch: usize,
    /// The kernel's counters stand still.
    pub frozen: bool,
    /// The kubelet kills a start that is not ready this long after its container started.
    pub deadline: f64,
    /// The pause before the second restart; each later one is twice as long. The first comes at once.
    pub back_off: f64,
    /// `--locks`.
    pub slots: Slots,
    /// The duration of a lease.
    pub duration: f64,
    /// A lease ends when the application is ready.
    pub ready: bool,
    /// The end of the run: an application that is not ready by then never is.
    pub cut_off: f64,
}

/// The result of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Morning {
    /// When the last was ready; `None` if one was not at the cut-off.
    pub home: Option<f64>,
    /// When each was ready.
    pub ready: Vec<Option<f64>>,
    /// From each holder's first request to its grant.
    pub waits: Vec<Option<f64>>,
    /// Starts that were killed and would have become ready.
    pub kills: usize,
    /// CPU seconds of those.
    pub wasted: f64,
    /// CPU seconds of all starts.
    pub busy: f64,
    /// The most leases at any time.
    pub peak: usize,
}

/// Lets them start; any instant serves as the zero of virtual time.
pub fn run(node: &Node, herd: &[Application], zero: Instant) -> Morning {
    Run::new(node, herd, zero).until(|_| false)
}

/// The same, but ends as soon as it is certain that an application is not ready at the cut-off: more work
/// is left than the cores can do by then, or a killed start begins anew too late.
pub fn run_while_hopeful(node: &Node, herd: &[Application], zero: Instant) -> Morning {
    Run::new(node, herd, zero).until(|run| run.home_at_least > run.node.cut_off)
}

struct Lease {
    nth: usize,
    since: f64,
    /// Its duration is over then, or a probe finds its port open.
    ends: f64,
    is_ready: bool,
}

struct Run<'a> {
    node: &'a Node,
    zero: Instant,
    now: f64,
    slots: usize,
    limit: Option<Limit>,
    leases: Vec<Lease>,
    waiters: VecDeque<usize>,
    pods: Vec<Pod<'a>>,
    morning: Morning,
    /// When the limit is asked again.
    alarm: f64,
    chance: Chance,
    /// CPU seconds of the starts of all applications that get ready.
    needed: f64,
    /// The last of them is not ready before this.
    home_at_least: f64,
}

impl<'a> Run<'a> {
    fn new(node: &'a Node, herd: &'a [Application], zero: Instant) -> Run<'a> {
        let needed =
            herd.iter().filter(|application| !application.never).map(Application::work).sum();
        let (slots, limit) = match node.slots {
            Slots::Fixed(slots) => (slots, None),
            Slots::Auto { cores, most } => (most, Some(Limit::new(cores, most, zero))),
        };
        Run {
            node,
            zero,
            now: 0.0,
            slots,
            limit,
            leases: Vec::new(),
            waiters: VecDeque::new(),
            pods: herd.iter().map(Pod::new).collect(),
            morning: Morning {
                ready: vec![None; herd.len()],
                waits: vec![None; herd.len()],
                ..Morning::default()
            },
            alarm: f64::MAX,
            chance: Chance::new(herd.len() as u64),
            needed,
            home_at_least: needed / node.cores as f64,
        }
    }

    fn until(mut self, is_over: impl Fn(&Run) -> bool) -> Morning {
        loop {
            self.happen();
            if self.pods.iter().all(Pod::is_settled) {
                self.morning.home = self.morning.ready.iter().copied().flatten().reduce(f64::max);
                return self.morning;
            }
            let threads = self.threads();
            let (speed, batch_speed) = self.speeds(threads);
            let next = self.next(speed);
            if next > self.node.cut_off || is_over(&self) {
                return self.morning;
            }
            self.pass(next, threads, speed, batch_speed);
        }
    }

    /// Whatever is due now.
    fn happen(&mut self) {
        for nth in 0..self.pods.len() {
            while self.act(nth) {}
        }
        self.end_leases();
        self.read();
        self.grant();
    }

    fn threads(&self) -> usize {
        self.pods.iter().map(Pod::threads).sum::<usize>() + self.node.background
    }

    /// The share of a core of each thread, and of each at low weight.
    fn speeds(&self, threads: usize) -> (f64, f64) {
        let (cores, batch) = (self.node.cores as f64, self.node.batch as f64);
        let weights = threads as f64 + batch * BATCH_WEIGHT;
        let share = cores / weights.max(f64::MIN_POSITIVE);
        match share < 1.0 {
            true => (share, share * BATCH_WEIGHT),
            false => (1.0, ((cores - threads as f64) / batch.max(1.0)).min(1.0)),
        }
    }

    fn next(&self, speed: f64) -> f64 {
        let next = |pod: &Pod| pod.next(self.now, speed, self.node.deadline);
        let pods = self.pods.iter().map(next).fold(self.alarm, f64::min);
        self.leases.iter().map(|lease| lease.ends).fold(pods, f64::min).max(self.now)
    }

    fn pass(&mut self, next: f64, threads: usize, speed: f64, batch_speed: f64) {
        let seconds = next - self.now;
        self.morning.busy +=
            (threads as f64 * speed + self.node.batch as f64 * batch_speed) * seconds;
        for pod in &mut self.pods {
            pod.go_on(seconds, speed);
        }
        self.now = next;
    }

    /// What a pod does now; whether it may have more to do.
    fn act(&mut self, nth: usize) -> bool {
        let (now, pod) = (self.now, &mut self.pods[nth]);
        match pod.stage {
            Stage::Comes(at) if at <= now + CLOSE => pod.begin(Stage::SetUp, now),
            Stage::BackOff(at) if at <= now + CLOSE => pod.begin(Stage::Starts, now),
            Stage::Starts(progress) if progress.since + self.node.deadline <= now + CLOSE => {
                self.kill(nth, progress)
            }
            _ if pod.is_phase_over() => {
                if pod.end_phase() {
                    self.end_stage(nth);
                }
            }
            _ => return false,
        }
        true
    }

    fn end_stage(&mut self, nth: usize) {
        let (now, pod) = (self.now, &mut self.pods[nth]);
        match pod.stage {
            Stage::SetUp(_) => {
                pod.asked = now;
                pod.stage = Stage::Waits;
                self.waiters.push_back(nth);
            }
            Stage::Gap(_) => pod.begin(Stage::Starts, now),
            _ => {
                pod.stage = Stage::Ready;
                self.open(nth);
            }
        }
    }

    /// A port opens, and a probe finds it so a little later.
    fn open(&mut self, nth: usize) {
        self.morning.ready[nth] = Some(self.now);
        let lease = self.leases.iter_mut().find(|lease| lease.nth == nth);
        if let Some(lease) = lease.filter(|_| self.node.ready) {
            let late = ((self.now - lease.since) * SEEN_LATE).clamp(LEAST_LATE, MOST_LATE);
            lease.is_ready = self.now + late < lease.ends;
            lease.ends = lease.ends.min(self.now + late);
        }
    }

    fn at(&self, seconds: f64) -> Instant {
        self.zero + Duration::from_secs_f64(seconds)
    }

    fn end_leases(&mut self) {
        let (now, at) = (self.now, self.at(self.now));
        while let Some(nth) = self.leases.iter().position(|lease| lease.ends <= now + CLOSE) {
            let lease = self.leases.swap_remove(nth);
            if let Some(limit) = &mut self.limit {
                let was_start = lease.is_ready || !self.node.ready;
                let since = self.zero + Duration::from_secs_f64(lease.since);
                limit.ended(since, Duration::from_secs_f64(now - lease.since), was_start, at);
            }
        }
    }

    /// Slots go to those who came first.
    fn grant(&mut self) {
        let at = self.at(self.now);
        if let Some(limit) = &mut self.limit {
            limit.advance(at);
        }
        while let Some(nth) = self.waiters.front().copied() {
            let quota = self.limit.as_ref().map(|limit| limit.quota(self.leases.len(), at));
            let may_begin = quota.is_none_or(|quota| quota.more > 0);
            if self.leases.len() >= self.slots || !may_begin {
                break;
            }
            self.waiters.pop_front();
            let ends = self.now + self.node.duration;
            self.leases.push(Lease { nth, since: self.now, ends, is_ready: false });
            if let Some(limit) = &mut self.limit {
                limit.began(at);
            }
            let pod = &mut self.pods[nth];
            self.morning.waits[nth] = Some(self.now - pod.asked);
            pod.begin(Stage::Gap, self.now);
        }
        self.morning.peak = self.morning.peak.max(self.leases.len());
        self.alarm = self.next_alarm(at);
    }

    fn next_alarm(&self, at: Instant) -> f64 {
        let Some(limit) = self.limit.as_ref().filter(|_| !self.waiters.is_empty()) else {
            return f64::MAX;
        };
        let reading = limit.next_reading(at);
        let next =
            limit.quota(self.leases.len(), at).next.map_or(reading, |next| next.min(reading));
        next.saturating_duration_since(self.zero).as_secs_f64()
    }

    /// lock reads the node's counters while a waiter is there.
    fn read(&mut self) {
        let at = self.at(self.now);
        let Some(limit) = self
            .limit
            .as_mut()
            .filter(|limit| !self.waiters.is_empty() && limit.next_reading(at) <= at)
        else {
            return;
        };
        let (node, pods) = (self.node, &self.pods);
        let idle = (self.now * node.cores as f64 - self.morning.busy).max(0.0);
        let reading = Reading {
            at,
            busy: Duration::from_secs_f64(if node.frozen { 1.0 } else { self.morning.busy }),
            idle: Duration::from_secs_f64(if node.frozen { 1.0 } else { idle }),
            runnable: pods.iter().map(Pod::threads).sum::<usize>() + node.background + node.batch,
            cores: node.cores,
            stalled: 0.0,
        };
        limit.read(Some(reading), self.leases.len(), at);
    }

    /// The kubelet's probe has lost its patience.
    fn kill(&mut self, nth: usize, progress: Progress) {
        let pod = &mut self.pods[nth];
        let doubled =
            pod.restarts.checked_sub(1).map_or(0.0, |nth| f64::from(1 << nth.min(MOST_DOUBLED)));
        let back_off = self.node.back_off * doubled + self.chance.between(RESTART.0, RESTART.1);
        if !pod.is_hopeless() {
            self.morning.kills += 1;
            self.morning.wasted += progress.burnt;
        }
        pod.restarts += 1;
        if pod.application.never {
            pod.stage = Stage::Stuck;
            return;
        }
        pod.stage = Stage::BackOff(self.now + back_off);
        let alone = pod.application.alone() - pod.application.latency;
        let work = (self.needed + self.morning.wasted) / self.node.cores as f64;
        self.home_at_least = self.home_at_least.max(self.now + back_off + alone).max(work);
    }
}

#[cfg(test)]
pub(crate) mod tests;
