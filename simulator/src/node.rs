//! One node's morning: cores that are shared fairly, a kubelet that kills and restarts, and lock.
//!
//! From one event to the next: whatever is due happens, lock is told and asked as its threads would,
//! and the time goes on to whatever is due next. What lock decides is lock's own code.

use std::time::{Duration, Instant};

use lock::config::{Config, PROGRAM, Slots};
use lock::lease::Seen;
use lock::queue::Seat;
use lock::state::{Ask, Decision, Outcome, State};
use lock::window::Reading;
use psl::args::Given;
use psl::ready::Ready;

use crate::chance::Chance;
use crate::herd::Application;
use crate::pod::{self, CLOSE, Pod, Progress, Stage};

/// How long an init lets its answer be held back.
const WAIT: Duration = Duration::from_secs(30);

/// A look that finds an open port took so long.
const LOOK: Duration = Duration::from_millis(1);

/// From the opening of a port to the look that finds it open: half of what lock lets pass between two
/// looks, which is a tenth of the lease's age, but no less than the first and no more than the second.
const SEEN_LATE: f64 = 0.05;
const LEAST_LATE: f64 = 0.01;
const MOST_LATE: f64 = 0.25;

/// The same where the port was open before lock looked for the first time.
const SEEN_AT_ONCE: f64 = 0.02;

/// The kubelet's back-off is doubled so often at most.
const MOST_DOUBLED: u32 = 5;

/// A restart itself takes from the first to the second: 1.5 s on real nodes, where the first came without a back-off.
const RESTART: (f64, f64) = (0.5, 2.5);

/// lock as it is started without flags but for its slots, and the zero of virtual time.
#[derive(Clone, Debug)]
pub struct Lock {
    config: Config,
    zero: Instant,
    port: Ready,
}

impl Lock {
    /// Any instant serves. An error is a mistake in lock's defaults.
    pub fn new(zero: Instant) -> Result<Lock, String> {
        let given = Given::read(&PROGRAM, Vec::new(), |_| None).map_err(|error| error.to_string())?;
        let config = Config::from(given).map_err(|mistakes| format!("{mistakes:?}"))?;
        Ok(Lock { config, zero, port: Ready::parse("tcp:80")? })
    }

    fn at(&self, seconds: f64) -> Instant {
        self.zero + Duration::from_secs_f64(seconds)
    }
}

/// The node, and what its operator has set.
#[derive(Clone, Debug)]
pub struct Node {
    /// Shared fairly among all threads.
    pub cores: usize,
    /// Threads that burn all the time, and are nobody's start.
    pub background: usize,
    /// Who is not ready so long after its container started is killed.
    pub deadline: f64,
    /// Before the second restart; each is twice the one before. The first restart comes at once.
    pub back_off: f64,
    /// What lock is given.
    pub slots: Slots,
    /// How long leases last at most.
    pub duration: f64,
    /// They end when the application is ready.
    pub ready: bool,
    /// Whatever is not ready by then never is.
    pub cut_off: f64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Morning {
    /// When the last was ready; nothing where one was not at the cut-off.
    pub home: Option<f64>,
    /// When each was ready.
    pub ready: Vec<Option<f64>>,
    /// From each one's first question to its grant.
    pub waits: Vec<Option<f64>>,
    /// Starts that were killed and would have become ready.
    pub kills: usize,
    /// CPU seconds of those.
    pub wasted: f64,
    /// CPU seconds of everybody.
    pub busy: f64,
    /// The slots, each time that they moved.
    pub slots: Vec<(f64, usize)>,
}

impl Morning {
    /// The most slots at any time.
    pub fn peak(&self) -> usize {
        self.slots.iter().map(|(_, slots)| *slots).max().unwrap_or(0)
    }
}

/// Lets them start.
pub fn run(node: &Node, herd: &[Application], lock: &Lock) -> Morning {
    Run::new(node, herd, lock).until(|_| false)
}

/// The same, but ends as soon as it is certain that somebody is not ready at the cut-off: there is more
/// work left than the cores can do by then, or somebody who was killed starts anew too late.
pub fn run_while_hopeful(node: &Node, herd: &[Application], lock: &Lock) -> Morning {
    Run::new(node, herd, lock).until(|run| run.home_at_least > run.node.cut_off)
}

fn ask(node: &Node, lock: &Lock, nth: usize) -> Ask {
    Ask {
        address: pod::address(nth),
        holder: Some(format!("default/app-{nth}/7c1e6b0a-5f3d-4e7b-9a51-0f6f0c5f0a{nth:04}").into()),
        duration: Some(Duration::from_secs_f64(node.duration)),
        ready: node.ready.then(|| lock.port.clone()),
        wait: Some(WAIT),
        node: None,
    }
}

struct Run<'a> {
    node: &'a Node,
    lock: &'a Lock,
    now: f64,
    state: State,
    pods: Vec<Pod<'a>>,
    morning: Morning,
    /// When lock's clock wakes.
    alarm: f64,
    /// Something was asked of lock or told to it since its clock was there last.
    touched: bool,
    chance: Chance,
    /// CPU seconds of the starts of all who get ready.
    needed: f64,
    /// The last of them is not ready before this.
    home_at_least: f64,
}

impl<'a> Run<'a> {
    fn new(node: &'a Node, herd: &'a [Application], lock: &'a Lock) -> Run<'a> {
        let needed = herd.iter().filter(|application| !application.never).map(Application::work).sum();
        Run {
            node,
            lock,
            now: 0.0,
            state: State::new(node.slots, &lock.config, lock.zero),
            pods: herd
                .iter()
                .enumerate()
                .map(|(nth, application)| Pod::new(application, ask(node, lock, nth)))
                .collect(),
            morning: Morning { ready: vec![None; herd.len()], waits: vec![None; herd.len()], ..Morning::default() },
            alarm: f64::MAX,
            touched: true,
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
            let next = self.next(threads);
            if next > self.node.cut_off || is_over(&self) {
                return self.morning;
            }
            self.pass(next, threads);
        }
    }

    /// Whatever is due now.
    fn happen(&mut self) {
        for nth in 0..self.pods.len() {
            self.see(nth);
            while self.act(nth) {}
        }
        self.read();
        if self.touched || self.alarm <= self.now + CLOSE {
            self.touched = false;
            while self.tick() {}
        }
        let slots = self.state.book.slots();
        if self.morning.slots.last().is_none_or(|(_, last)| *last != slots) {
            self.morning.slots.push((self.now, slots));
        }
    }

    fn threads(&self) -> usize {
        self.pods.iter().map(Pod::threads).sum::<usize>() + self.node.background
    }

    /// Each thread's share of a core.
    fn speed(&self, threads: usize) -> f64 {
        (self.node.cores as f64 / threads.max(1) as f64).min(1.0)
    }

    fn next(&self, threads: usize) -> f64 {
        let speed = self.speed(threads);
        let next = |pod: &Pod| pod.next(self.now, speed, self.node.deadline, self.lock.zero);
        self.pods.iter().map(next).fold(self.alarm, f64::min).max(self.now)
    }

    fn pass(&mut self, next: f64, threads: usize) {
        let speed = self.speed(threads);
        let seconds = next - self.now;
        self.morning.busy += (threads as f64).min(self.node.cores as f64) * seconds;
        for pod in &mut self.pods {
            pod.go_on(seconds, speed);
        }
        self.now = next;
    }

    /// A look at a port finds it open.
    fn see(&mut self, nth: usize) {
        let pod = &mut self.pods[nth];
        if pod.seen_at > self.now + CLOSE {
            return;
        }
        pod.seen_at = f64::MAX;
        if let Some(target) = pod.look.take() {
            self.touched = true;
            self.state.looked(&target, Seen::Open, LOOK, self.lock.at(self.now));
        }
    }

    /// What a pod does now; whether it may have more to do.
    fn act(&mut self, nth: usize) -> bool {
        let (now, pod) = (self.now, &mut self.pods[nth]);
        match pod.stage {
            Stage::Asks(at) if at <= now + CLOSE => {
                pod.asked.get_or_insert(now);
                let decision = self.state.ask(&pod.ask, &self.lock.config.rules, self.lock.at(now));
                self.told(nth, decision);
                true
            }
            Stage::Sits(seat, until) if until <= self.lock.at(now) => {
                self.resume(nth, seat, until);
                !matches!(self.pods[nth].stage, Stage::Sits(..))
            }
            Stage::Gap(at) | Stage::BackOff(at) if at <= now + CLOSE => {
                pod.begin(now);
                true
            }
            Stage::Starts(progress) if progress.since + self.node.deadline <= now + CLOSE => {
                self.kill(nth, progress);
                true
            }
            Stage::Starts(progress) if pod.is_phase_over(progress) => {
                if pod.end_phase(progress) {
                    self.open(nth);
                }
                true
            }
            _ => false,
        }
    }

    /// What became of an init's question.
    fn told(&mut self, nth: usize, decision: Decision) {
        self.touched = true;
        let pod = &mut self.pods[nth];
        match decision {
            Decision::Later { seat, until } => pod.stage = Stage::Sits(seat, until),
            Decision::Now(Outcome::Granted { id, .. }) => {
                self.morning.waits[nth] = pod.asked.map(|asked| self.now - asked);
                pod.granted = self.now;
                pod.stage = Stage::Gap(self.now + pod.application.latency);
                if let Some(target) = self.state.first_look(id) {
                    self.state.first_looked(&target, Seen::Closed, self.lock.at(self.now));
                }
            }
            Decision::Now(Outcome::Busy { refusal, .. } | Outcome::GateClosed { refusal, .. }) => {
                pod.stage = Stage::Asks(self.now + refusal.retry_after.as_secs_f64());
            }
            // There are no other nodes, nobody probes, and nobody asks for a lease that he has.
            Decision::Now(other) => unreachable!("{other:?}"),
        }
    }

    fn resume(&mut self, nth: usize, seat: Seat, until: Instant) {
        let (ask, now) = (&self.pods[nth].ask, self.lock.at(self.now));
        let decision = self.state.resume(ask, &self.lock.config.rules, seat, until, now);
        self.told(nth, decision);
    }

    /// The kubelet's probe has lost its patience.
    fn kill(&mut self, nth: usize, progress: Progress) {
        let pod = &mut self.pods[nth];
        let doubled = pod.restarts.checked_sub(1).map_or(0.0, |nth| f64::from(1 << nth.min(MOST_DOUBLED)));
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

    /// A port opens.
    fn open(&mut self, nth: usize) {
        let (now, pod) = (self.now, &mut self.pods[nth]);
        self.morning.ready[nth] = Some(now);
        if pod.look.is_some() {
            pod.seen_at = now + ((now - pod.granted) * SEEN_LATE).clamp(LEAST_LATE, MOST_LATE);
        }
    }

    /// lock looks at the node, as its clock does.
    fn read(&mut self) {
        let at = self.lock.at(self.now);
        if !self.state.reading_due(at) {
            return;
        }
        let cores = self.node.cores;
        let idle = (self.now * cores as f64 - self.morning.busy).max(0.0);
        let reading = Reading {
            at,
            busy: Duration::from_secs_f64(self.morning.busy),
            idle: Duration::from_secs_f64(idle),
            runnable: self.threads(),
            cores,
            stalled: 0.0,
        };
        self.touched = true;
        self.state.read(Some(reading), at);
    }

    /// What the time alone brings to lock; whether there may be more.
    fn tick(&mut self) -> bool {
        let now = self.lock.at(self.now);
        let (next, has_look) = self.state.tick(now);
        self.alarm = next.map_or(f64::MAX, |at| at.saturating_duration_since(self.lock.zero).as_secs_f64());
        if has_look {
            self.look();
        }
        let called = self.state.news().called;
        for seat in &called {
            self.call(*seat);
        }
        has_look || !called.is_empty()
    }

    /// lock looks at the ports that are due. A look at one that is not open yet is under way until it is:
    /// all that lock would have seen before would have been that it is closed.
    fn look(&mut self) {
        while let Some(target) = self.state.due_look(self.lock.at(self.now)) {
            if let Some(pod) = self.pods.get_mut(pod::nth(target.address)) {
                if matches!(pod.stage, Stage::Ready) {
                    pod.seen_at = self.now + SEEN_AT_ONCE;
                }
                pod.look = Some(target);
            }
        }
    }

    /// A held question is to be asked again.
    fn call(&mut self, seat: Seat) {
        let sits = |pod: &Pod| match pod.stage {
            Stage::Sits(other, until) if other == seat => Some(until),
            _ => None,
        };
        let found = self.pods.iter().enumerate().find_map(|(nth, pod)| Some((nth, sits(pod)?)));
        if let Some((nth, until)) = found {
            self.resume(nth, seat, until);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
