//! One node's morning: cores that are shared fairly, a kubelet that kills and restarts, and lock.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lock::book::Target;
use lock::config::{Config, Rules, Slots};
use lock::lease::Seen;
use lock::queue::Seat;
use lock::state::{Ask, Decision, Outcome, State};
use lock::window::Reading;
use psl::ready::Ready;

use crate::chance::Chance;
use crate::herd::{Application, Phase};

/// The node, and what its operator has set.
#[derive(Clone, Debug)]
pub struct Node {
    /// Shared fairly among all threads.
    pub cores: usize,
    /// Threads that burn all the time, and are nobody's start.
    pub background: usize,
    /// Who is not ready so long after its container started is killed.
    pub deadline: f64,
    /// The first back-off; each is twice the one before.
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
#[derive(Clone, Debug, Default)]
pub struct Morning {
    /// When the last was ready; nothing where one was not at the cut-off.
    pub home: Option<f64>,
    /// Starts that were killed and need not have been.
    pub kills: usize,
    /// From asking to the grant.
    pub waits: Vec<f64>,
    /// CPU seconds of killed starts.
    pub wasted: f64,
    /// When each was ready.
    pub ready: Vec<f64>,
    /// The most slots at any time.
    pub peak: usize,
    /// Slots by time.
    pub slots: Vec<(f64, usize)>,
}

#[derive(Clone, Debug)]
enum Does {
    /// Asks then.
    Asks(f64),
    Sits(Seat, Instant),
    /// Its container starts then.
    Gap(f64),
    /// In this phase, with so much left of it, since then.
    Starts {
        nth: usize,
        left: f64,
        since: f64,
        burnt: f64,
    },
    BackOff(f64),
    Ready,
    /// Never gets ready, and is not killed any more.
    Stuck,
}

struct Pod<'a> {
    application: &'a Application,
    holder: Box<str>,
    address: IpAddr,
    does: Does,
    restarts: u32,
    target: Option<Target>,
    seen_at: Option<f64>,
    granted: f64,
    asked: Option<f64>,
}

struct Run<'a> {
    node: &'a Node,
    zero: Instant,
    now: f64,
    state: State,
    rules: Rules,
    pods: Vec<Pod<'a>>,
    morning: Morning,
    busy: f64,
    look: Ready,
    alarm: Option<f64>,
    chance: Chance,
}

const CLOSE: f64 = 1e-9;

/// Lets them start.
pub fn run(node: &Node, herd: &[Application], config: &Config, zero: Instant) -> Morning {
    let pods = herd.iter().enumerate().map(|(n, application)| Pod {
        application,
        holder: format!("default/app-{n}/7c1e6b0a-5f3d-4e7b-9a51-0f6f0c5f0a{n:04}").into(),
        address: Ipv4Addr::from(0x0a00_0000 + n as u32).into(),
        does: Does::Asks(application.arrives),
        restarts: 0,
        target: None,
        seen_at: None,
        granted: 0.0,
        asked: None,
    });
    let run = Run {
        node,
        zero,
        now: 0.0,
        state: State::new(node.slots, config, zero),
        rules: config.rules.clone(),
        pods: pods.collect(),
        morning: Morning::default(),
        busy: 0.0,
        look: Ready::parse("tcp:80").unwrap_or_else(|_| unreachable!()),
        alarm: None,
        chance: Chance::new(herd.len() as u64),
    };
    run.until_home()
}

impl Run<'_> {
    fn until_home(mut self) -> Morning {
        loop {
            self.settle();
            if self.pods.iter().all(|pod| matches!(pod.does, Does::Ready | Does::Stuck) || pod.application.never) {
                self.morning.home = self.morning.ready.iter().copied().reduce(f64::max);
                return self.morning;
            }
            let next = self.next();
            if next > self.node.cut_off {
                return self.morning;
            }
            self.pass(next);
        }
    }

    fn instant(&self) -> Instant {
        self.zero + Duration::from_secs_f64(self.now)
    }

    fn threads(&self) -> usize {
        let burning = self.pods.iter().map(|pod| match pod.does {
            Does::Starts { nth, .. } => match pod.application.start.get(nth) {
                Some(Phase::Burn { threads, .. }) if !pod.hangs() => *threads as usize,
                _ => 0,
            },
            _ => 0,
        });
        burning.sum::<usize>() + self.node.background
    }

    fn speed(&self) -> f64 {
        (self.node.cores as f64 / self.threads().max(1) as f64).min(1.0)
    }

    fn next(&self) -> f64 {
        let speed = self.speed();
        let mut next = self.alarm.unwrap_or(f64::MAX);
        for pod in &self.pods {
            let at = match &pod.does {
                Does::Asks(at) | Does::Gap(at) | Does::BackOff(at) => *at,
                Does::Sits(_, until) => until.saturating_duration_since(self.zero).as_secs_f64(),
                Does::Starts { nth, left, since, .. } => {
                    let killed = since + self.node.deadline;
                    let done = match pod.application.start.get(*nth) {
                        _ if pod.hangs() => f64::MAX,
                        Some(Phase::Wait(_)) => self.now + left,
                        Some(Phase::Burn { .. }) => self.now + left / speed,
                        None => f64::MAX,
                    };
                    killed.min(done)
                }
                Does::Ready | Does::Stuck => f64::MAX,
            };
            next = next.min(at);
            if let Some(at) = pod.seen_at {
                next = next.min(at);
            }
        }
        next.max(self.now)
    }

    fn pass(&mut self, next: f64) {
        let speed = self.speed();
        let dt = next - self.now;
        self.busy += (self.threads() as f64).min(self.node.cores as f64) * dt;
        for pod in &mut self.pods {
            if pod.hangs() {
                continue;
            }
            if let Does::Starts { nth, left, burnt, .. } = &mut pod.does {
                match pod.application.start.get(*nth) {
                    Some(Phase::Wait(_)) => *left -= dt,
                    Some(Phase::Burn { threads, .. }) => {
                        *left -= dt * speed;
                        *burnt += dt * speed * f64::from(*threads);
                    }
                    None => {}
                }
            }
        }
        self.now = next;
    }

    fn settle(&mut self) {
        for n in 0..self.pods.len() {
            self.advance(n);
        }
        let now = self.instant();
        if self.state.reading_due(now) {
            let busy = Duration::from_secs_f64(self.busy);
            let idle = Duration::from_secs_f64((self.now * self.node.cores as f64 - self.busy).max(0.0));
            let reading =
                Reading { at: now, busy, idle, runnable: self.threads(), cores: self.node.cores, stalled: 0.0 };
            self.state.read(Some(reading), now);
        }
        loop {
            let (next, has_look) = self.state.tick(now);
            self.alarm = next.map(|at| at.saturating_duration_since(self.zero).as_secs_f64());
            if has_look {
                while let Some(target) = self.state.due_look(now) {
                    if let Some(pod) = self.pods.iter_mut().find(|pod| pod.address == target.address) {
                        if matches!(pod.does, Does::Ready) {
                            pod.seen_at = Some(self.now + 0.02);
                        }
                        pod.target = Some(target);
                    }
                }
            }
            let news = self.state.news();
            if news.called.is_empty() && !has_look {
                break;
            }
            for seat in news.called {
                let sits = |pod: &Pod| match pod.does {
                    Does::Sits(other, until) if other == seat => Some(until),
                    _ => None,
                };
                let found = self.pods.iter().enumerate().find_map(|(n, pod)| Some((n, sits(pod)?)));
                if let Some((n, until)) = found {
                    let ask = self.question(n);
                    let decision = self.state.resume(&ask, &self.rules, seat, until, now);
                    self.told(n, decision);
                }
            }
        }
        let slots = self.state.book.slots();
        if self.morning.slots.last().is_none_or(|(_, last)| *last != slots) {
            self.morning.slots.push((self.now, slots));
        }
        self.morning.peak = self.morning.peak.max(slots);
    }

    fn question(&self, n: usize) -> Ask {
        let pod = &self.pods[n];
        Ask {
            address: pod.address,
            holder: Some(pod.holder.clone()),
            duration: Some(Duration::from_secs_f64(self.node.duration)),
            ready: self.node.ready.then(|| self.look.clone()),
            wait: Some(Duration::from_secs(30)),
            node: None,
        }
    }

    fn told(&mut self, n: usize, decision: Decision) {
        let at = self.now;
        let pod = &mut self.pods[n];
        pod.does = match decision {
            Decision::Later { seat, until } => Does::Sits(seat, until),
            Decision::Now(Outcome::Granted { id, .. }) => {
                self.morning.waits.push(at - pod.asked.unwrap_or(at));
                pod.granted = at;
                let latency = pod.application.latency;
                pod.does = Does::Gap(at + latency);
                let now = self.zero + Duration::from_secs_f64(at);
                if let Some(target) = self.state.first_look(id) {
                    self.state.first_looked(&target, Seen::Closed, now);
                }
                return;
            }
            Decision::Now(Outcome::Busy { refusal, .. } | Outcome::GateClosed { refusal, .. }) => {
                Does::Asks(at + refusal.retry_after.as_secs_f64())
            }
            Decision::Now(other) => panic!("{other:?}"),
        };
    }

    fn advance(&mut self, n: usize) {
        let now = self.instant();
        let at = self.now;
        if self.pods[n].seen_at.is_some_and(|seen| seen <= at + CLOSE) {
            self.pods[n].seen_at = None;
            if let Some(target) = self.pods[n].target.take() {
                self.state.looked(&target, Seen::Open, Duration::from_millis(1), now);
            }
        }
        loop {
            match self.pods[n].does.clone() {
                Does::Asks(when) if when <= at + CLOSE => {
                    self.pods[n].asked.get_or_insert(at);
                    let ask = self.question(n);
                    let decision = self.state.ask(&ask, &self.rules, now);
                    self.told(n, decision);
                }
                Does::Sits(seat, until) if until <= now => {
                    let ask = self.question(n);
                    let decision = self.state.resume(&ask, &self.rules, seat, until, now);
                    self.told(n, decision);
                    if matches!(self.pods[n].does, Does::Sits(..)) {
                        return;
                    }
                }
                Does::Gap(when) | Does::BackOff(when) if when <= at + CLOSE => {
                    let left = self.pods[n].left(0);
                    self.pods[n].does = Does::Starts { nth: 0, left, since: at, burnt: 0.0 };
                }
                Does::Starts { since, burnt, .. } if since + self.node.deadline <= at + CLOSE => {
                    let back_off = self.node.back_off * f64::from(1 << self.pods[n].restarts.min(5))
                        + self.chance.between(0.0, 1.5);
                    let pod = &mut self.pods[n];
                    if !(pod.hangs() || pod.application.never) {
                        self.morning.kills += 1;
                        self.morning.wasted += burnt;
                    }
                    pod.restarts += 1;
                    pod.does = if pod.application.never { Does::Stuck } else { Does::BackOff(at + back_off) };
                }
                Does::Starts { nth, left, since, burnt }
                    if left <= CLOSE && !self.pods[n].hangs() && nth < self.pods[n].application.start.len() =>
                {
                    let nth = nth + 1;
                    let pod = &mut self.pods[n];
                    if nth == pod.application.start.len() && !pod.application.never {
                        pod.does = Does::Ready;
                        let late = ((at - pod.granted) * 0.05).clamp(0.01, 0.25);
                        pod.seen_at = pod.target.is_some().then_some(at + late);
                        self.morning.ready.push(at);
                    } else {
                        let left = pod.left(nth);
                        pod.does = Does::Starts { nth, left, since, burnt };
                    }
                }
                _ => return,
            }
        }
    }
}

impl Pod<'_> {
    fn hangs(&self) -> bool {
        self.application.hangs && self.restarts == 0
    }

    fn left(&self, nth: usize) -> f64 {
        match self.application.start.get(nth) {
            Some(Phase::Wait(left)) => *left,
            Some(Phase::Burn { each, .. }) => *each,
            None => f64::MAX,
        }
    }
}
