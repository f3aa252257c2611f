//! One pod, from its init's first question to its open port. Knows neither lock nor the others.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use lock::book::Target;
use lock::queue::Seat;
use lock::state::Ask;

use crate::herd::{Application, Phase};

/// Nearer than this is the same instant, for sums of floating-point numbers are never exact.
pub const CLOSE: f64 = 1e-9;

/// The first pod's address.
const FIRST: u32 = 0x0a00_0000;

/// What a pod does.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// Its init asks then.
    Asks(f64),
    /// Its init's question is held back until then at most.
    Sits(Seat, Instant),
    /// It has its slot; the container starts then.
    Gap(f64),
    /// On its way to its open port.
    Starts(Progress),
    /// It was killed, and starts anew then.
    BackOff(f64),
    /// Its port is open.
    Ready,
    /// Never gets ready, and is not killed any more.
    Stuck,
}

/// How far a start is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// In this phase.
    nth: usize,
    /// Seconds of it that are left.
    left: f64,
    /// When the container started.
    pub since: f64,
    /// CPU seconds so far.
    pub burnt: f64,
}

/// One application and what has become of it.
#[derive(Debug)]
pub struct Pod<'a> {
    pub application: &'a Application,
    /// What its init asks lock, each time.
    pub ask: Ask,
    pub stage: Stage,
    /// How often it was killed.
    pub restarts: u32,
    /// The look at its port that is under way, and when that will find it open.
    pub look: Option<Target>,
    pub seen_at: f64,
    /// When its init first asked.
    pub asked: Option<f64>,
    /// When it got its slot.
    pub granted: f64,
}

impl<'a> Pod<'a> {
    pub fn new(application: &'a Application, ask: Ask) -> Pod<'a> {
        Pod {
            application,
            ask,
            stage: Stage::Asks(application.arrives),
            restarts: 0,
            look: None,
            seen_at: f64::MAX,
            asked: None,
            granted: 0.0,
        }
    }

    /// Nothing is to be waited for any more.
    pub fn is_settled(&self) -> bool {
        self.application.never || matches!(self.stage, Stage::Ready | Stage::Stuck)
    }

    /// Its start burns nothing and goes on for ever.
    pub fn hangs(&self) -> bool {
        self.application.hangs && self.restarts == 0
    }

    /// Whether killing it is right: it would not have become ready.
    pub fn is_hopeless(&self) -> bool {
        self.hangs() || self.application.never
    }

    /// Threads that run or want to.
    pub fn threads(&self) -> usize {
        match self.stage {
            Stage::Starts(progress) => self.phase(progress).map_or(0, Phase::threads),
            _ => 0,
        }
    }

    /// The container starts.
    pub fn begin(&mut self, now: f64) {
        self.stage = Stage::Starts(Progress { nth: 0, left: self.length(0), since: now, burnt: 0.0 });
    }

    /// Its start goes on for so long, each thread at this share of a core.
    pub fn go_on(&mut self, seconds: f64, speed: f64) {
        let Stage::Starts(mut progress) = self.stage else { return };
        match self.phase(progress) {
            Some(Phase::Wait(_)) => progress.left -= seconds,
            Some(Phase::Burn { threads, .. }) => {
                progress.left -= seconds * speed;
                progress.burnt += seconds * speed * threads as f64;
            }
            None => {}
        }
        self.stage = Stage::Starts(progress);
    }

    /// Its phase is over.
    pub fn is_phase_over(&self, progress: Progress) -> bool {
        progress.left <= CLOSE && self.phase(progress).is_some()
    }

    /// To its next phase; whether that was the last one, and its port is open.
    pub fn end_phase(&mut self, mut progress: Progress) -> bool {
        progress.nth += 1;
        let is_ready = progress.nth == self.application.start.len() && !self.application.never;
        progress.left = self.length(progress.nth);
        self.stage = if is_ready { Stage::Ready } else { Stage::Starts(progress) };
        is_ready
    }

    /// When it does something next, at this share of a core for each thread; a start is killed
    /// `deadline` after it began.
    pub fn next(&self, now: f64, speed: f64, deadline: f64, zero: Instant) -> f64 {
        let next = match self.stage {
            Stage::Asks(at) | Stage::Gap(at) | Stage::BackOff(at) => at,
            Stage::Sits(_, until) => until.saturating_duration_since(zero).as_secs_f64(),
            Stage::Starts(progress) => (progress.since + deadline).min(self.phase_ends(progress, now, speed)),
            Stage::Ready | Stage::Stuck => f64::MAX,
        };
        next.min(self.seen_at)
    }

    fn phase_ends(&self, progress: Progress, now: f64, speed: f64) -> f64 {
        match self.phase(progress) {
            Some(Phase::Wait(_)) => now + progress.left,
            Some(Phase::Burn { .. }) => now + progress.left / speed,
            None => f64::MAX,
        }
    }

    /// What it does now; nothing where it hangs, or has done all and never opens its port.
    fn phase(&self, progress: Progress) -> Option<Phase> {
        self.application.start.get(progress.nth).copied().filter(|_| !self.hangs())
    }

    fn length(&self, nth: usize) -> f64 {
        self.application.start.get(nth).map_or(f64::MAX, |phase| phase.alone())
    }
}

/// Where a pod's init asks from.
pub fn address(nth: usize) -> IpAddr {
    Ipv4Addr::from(FIRST + nth as u32).into()
}

/// Whose address that is.
pub fn nth(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(v4) => (u32::from(v4) - FIRST) as usize,
        IpAddr::V6(_) => usize::MAX,
    }
}
