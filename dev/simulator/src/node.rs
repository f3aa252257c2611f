//! One node: cores that threads share by weight, a kubelet that kills and restarts, and a queue.
//!
//! The time goes from one event to the next. Lock's own code (`lock::core::limit`) says how many
//! leases may begin. The
//! queue is first come, first served, and every waiter is parked, so a free slot goes to the first
//! waiter at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lock::core::limit::{Limit, Reading};
use lock::core::settings::Slots;

use crate::chance::Chance;
use crate::herd::Application;
use crate::pod::{CLOSE, Pod, Progress, Stage};

/// From the opening of a port to the probe that finds it open: half of the pause between two
/// probes,
/// which is a tenth of the lease's age within these bounds.
const SEEN_LATE: f64 = 0.05;
const LEAST_LATE: f64 = 0.01;
const MOST_LATE: f64 = 0.25;

/// The kubelet doubles its back-off this many times at most.
const MOST_DOUBLED: u32 = 5;

/// The bounds of the length of a restart: 1.5 s on real nodes, where the first restart has no
/// back-off.
const RESTART: (f64, f64) = (0.5, 2.5);

/// A batch thread's share of a core beside one of a start: `cpu.weight` 1 of a container without
/// requests beside 39, which is that of a request of one core.
const BATCH_WEIGHT: f64 = 1.0 / 39.0;

#[derive(Clone, Debug)]
pub struct Node {
    /// Shared by weight among all threads.
    pub cores: usize,
    /// Threads of other programs that always use CPU, with the weight of starts.
    pub background: usize,
    /// The same at low weight.
    pub batch: usize,
    /// The kernel's counters stand still.
    pub frozen: bool,
    /// The kubelet kills a start that is not ready this long after its container started.
    pub deadline: f64,
    /// The pause before the second restart; each later one is twice as long. The first comes at
    /// once.
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
pub struct RunResult {
    /// The time at which the last application is ready; `None` if one is not ready at the cut-off.
    pub home: Option<f64>,
    pub ready: Vec<Option<f64>>,
    /// From each holder's first request to its grant.
    pub waits: Vec<Option<f64>>,
    /// Starts that were killed and would have become ready.
    pub kills: usize,
    /// CPU seconds of killed starts.
    pub wasted: f64,
    /// CPU seconds of all starts.
    pub busy: f64,
    /// The most leases at any time.
    pub peak: usize,
}

/// Any instant serves as the zero of virtual time.
pub fn run(node: &Node, herd: &[Application], zero: Instant) -> RunResult {
    Run::new(node, herd, zero).until(|_| false)
}

/// The same, but ends as soon as an application cannot be ready at the cut-off: the cores cannot do
/// the rest of the work
/// by then, or a killed start begins anew too late.
pub fn run_while_hopeful(node: &Node, herd: &[Application], zero: Instant) -> RunResult {
    Run::new(node, herd, zero).until(|run| run.home_at_least > run.node.cut_off)
}

struct Lease {
    nth: usize,
    since: f64,
    /// The end of its duration, or the probe that finds its port open.
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
    result: RunResult,
    /// The next deadline of the limit.
    alarm: f64,
    chance: Chance,
    /// CPU seconds of the starts of all applications that get ready.
    needed: f64,
    /// A lower bound of the time at which the last application is ready.
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
            result: RunResult {
                ready: vec![None; herd.len()],
                waits: vec![None; herd.len()],
                ..RunResult::default()
            },
            alarm: f64::MAX,
            chance: Chance::new(herd.len() as u64),
            needed,
            home_at_least: needed / node.cores as f64,
        }
    }

    fn until(mut self, is_over: impl Fn(&Run) -> bool) -> RunResult {
        loop {
            self.process_events();
            if self.pods.iter().all(Pod::is_settled) {
                self.result.home = self.result.ready.iter().copied().flatten().reduce(f64::max);
                return self.result;
            }
            let threads = self.threads();
            let (speed, batch_speed) = self.speeds(threads);
            let next = self.next(speed);
            if next > self.node.cut_off || is_over(&self) {
                return self.result;
            }
            self.advance(next, threads, speed, batch_speed);
        }
    }

    /// Processes all events that are due.
    fn process_events(&mut self) {
        for nth in 0..self.pods.len() {
            while self.process_pod(nth) {}
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

    fn advance(&mut self, next: f64, threads: usize, speed: f64, batch_speed: f64) {
        let seconds = next - self.now;
        self.result.busy +=
            (threads as f64 * speed + self.node.batch as f64 * batch_speed) * seconds;
        for pod in &mut self.pods {
            pod.advance(seconds, speed);
        }
        self.now = next;
    }

    /// Processes one event of a pod. Returns whether there was one.
    fn process_pod(&mut self, nth: usize) -> bool {
        let (now, pod) = (self.now, &mut self.pods[nth]);
        match pod.stage {
            Stage::Comes(at) if at <= now + CLOSE => pod.begin(Stage::SetUp, now),
            Stage::BackOff(at) if at <= now + CLOSE => pod.begin(Stage::Starts, now),
            Stage::Starts(progress) if progress.since + self.node.deadline <= now + CLOSE => {
                self.kill(nth, progress);
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

    /// A port opens, and a probe finds it open a little later.
    fn open(&mut self, nth: usize) {
        self.result.ready[nth] = Some(self.now);
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
                limit.end_start(since, Duration::from_secs_f64(now - lease.since), was_start, at);
            }
        }
    }

    /// Slots go to the waiters that came first.
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
                limit.add_start(at);
            }
            let pod = &mut self.pods[nth];
            self.result.waits[nth] = Some(self.now - pod.asked);
            pod.begin(Stage::Gap, self.now);
        }
        self.result.peak = self.result.peak.max(self.leases.len());
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

    /// lock reads the node's counters while the queue has a waiter.
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
        let idle = (self.now * node.cores as f64 - self.result.busy).max(0.0);
        let reading = Reading {
            at,
            busy: Duration::from_secs_f64(if node.frozen { 1.0 } else { self.result.busy }),
            idle: Duration::from_secs_f64(if node.frozen { 1.0 } else { idle }),
            runnable: pods.iter().map(Pod::threads).sum::<usize>() + node.background + node.batch,
            cores: node.cores,
            stalled: 0.0,
        };
        limit.read(Some(reading), self.leases.len(), at);
    }

    /// The start-up probe kills a start.
    fn kill(&mut self, nth: usize, progress: Progress) {
        let pod = &mut self.pods[nth];
        let doubled =
            pod.restarts.checked_sub(1).map_or(0.0, |nth| f64::from(1 << nth.min(MOST_DOUBLED)));
        let back_off = self.node.back_off * doubled + self.chance.between(RESTART.0, RESTART.1);
        if !pod.is_hopeless() {
            self.result.kills += 1;
            self.result.wasted += progress.burnt;
        }
        pod.restarts += 1;
        if pod.application.never {
            pod.stage = Stage::Stuck;
            return;
        }
        pod.stage = Stage::BackOff(self.now + back_off);
        let alone = pod.application.alone() - pod.application.latency;
        let work = (self.needed + self.result.wasted) / self.node.cores as f64;
        self.home_at_least = self.home_at_least.max(self.now + back_off + alone).max(work);
    }
}

#[cfg(test)]
pub(crate) mod tests;
