//! One pod, from its creation to its open port. Knows neither lock nor the other pods.

use crate::herd::{Application, Phase};

/// Two times that are nearer are one instant, because sums of floating-point numbers are not exact.
pub const CLOSE: f64 = 1e-9;

#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// The pod is created at this time.
    Comes(f64),
    /// The kubelet sets the pod up; then its init asks for a lease.
    SetUp(Progress),
    Waits,
    /// The pod has its lease, and the kubelet starts the container.
    Gap(Progress),
    Starts(Progress),
    /// The start was killed, and begins anew at this time.
    BackOff(f64),
    Ready,
    /// The application never gets ready, and is not killed any more.
    Stuck,
}

#[derive(Clone, Copy, Debug)]
pub struct Progress {
    nth: usize,
    /// Seconds of this phase that are left.
    left: f64,
    pub since: f64,
    pub burnt: f64,
}

#[derive(Debug)]
pub struct Pod<'a> {
    pub application: &'a Application,
    set_up: [Phase; 1],
    gap: [Phase; 2],
    pub stage: Stage,
    pub restarts: u32,
    /// The time of the init's first request.
    pub asked: f64,
}

impl<'a> Pod<'a> {
    pub fn new(application: &'a Application) -> Pod<'a> {
        let kubelet = Phase::Burn { threads: 1, each: application.overhead / 2.0 };
        Pod {
            application,
            set_up: [kubelet],
            gap: [Phase::Wait(application.latency), kubelet],
            stage: Stage::Comes(application.arrives),
            restarts: 0,
            asked: 0.0,
        }
    }

    /// The run does not wait for this pod any more.
    pub fn is_settled(&self) -> bool {
        self.application.never || matches!(self.stage, Stage::Ready | Stage::Stuck)
    }

    /// The current start would not become ready.
    pub fn is_hopeless(&self) -> bool {
        self.hangs() || self.application.never
    }

    /// Threads that are runnable.
    pub fn threads(&self) -> usize {
        self.phase().map_or(0, Phase::threads)
    }

    /// The first phase of a stage.
    pub fn begin(&mut self, stage: fn(Progress) -> Stage, now: f64) {
        self.stage = stage(Progress { nth: 0, left: 0.0, since: now, burnt: 0.0 });
        let left = self.phase().map_or(f64::MAX, Phase::alone);
        self.stage = stage(Progress { nth: 0, left, since: now, burnt: 0.0 });
    }

    /// It goes on for so long, each thread at this share of a core.
    pub fn advance(&mut self, seconds: f64, speed: f64) {
        let phase = self.phase();
        let Some(progress) = self.progress_mut() else { return };
        match phase {
            Some(Phase::Wait(_)) => progress.left -= seconds,
            Some(Phase::Burn { threads, .. }) => {
                progress.left -= seconds * speed;
                progress.burnt += seconds * speed * threads as f64;
            }
            None => {}
        }
    }

    /// Its phase is over.
    pub fn is_phase_over(&self) -> bool {
        self.phase().is_some() && self.progress().is_some_and(|progress| progress.left <= CLOSE)
    }

    /// To its next phase; whether that was the last one of the stage.
    pub fn end_phase(&mut self) -> bool {
        let count = self.phases().len();
        let Some(progress) = self.progress_mut() else { return false };
        progress.nth += 1;
        let nth = progress.nth;
        let left = self.phases().get(nth).map_or(f64::MAX, |phase| phase.alone());
        if let Some(progress) = self.progress_mut() {
            progress.left = left;
        }
        let is_start = matches!(self.stage, Stage::Starts(_));
        nth == count && !(is_start && self.application.never)
    }

    /// The next event; a start is killed `deadline` after its begin.
    pub fn next(&self, now: f64, speed: f64, deadline: f64) -> f64 {
        match self.stage {
            Stage::Comes(at) | Stage::BackOff(at) => at,
            Stage::Starts(progress) => (progress.since + deadline).min(self.phase_ends(now, speed)),
            Stage::SetUp(_) | Stage::Gap(_) => self.phase_ends(now, speed),
            Stage::Waits | Stage::Ready | Stage::Stuck => f64::MAX,
        }
    }

    fn phase_ends(&self, now: f64, speed: f64) -> f64 {
        let left = self.progress().map_or(f64::MAX, |progress| progress.left);
        match self.phase() {
            Some(Phase::Wait(_)) => now + left,
            Some(Phase::Burn { .. }) => now + left / speed,
            None => f64::MAX,
        }
    }

    fn phase(&self) -> Option<Phase> {
        self.phases().get(self.progress()?.nth).copied()
    }

    /// Empty if the start hangs.
    fn phases(&self) -> &[Phase] {
        match self.stage {
            Stage::SetUp(_) => &self.set_up,
            Stage::Gap(_) => &self.gap,
            Stage::Starts(_) if !self.hangs() => &self.application.start,
            _ => &[],
        }
    }

    fn progress(&self) -> Option<&Progress> {
        match &self.stage {
            Stage::SetUp(progress) | Stage::Gap(progress) | Stage::Starts(progress) => {
                Some(progress)
            }
            _ => None,
        }
    }

    fn progress_mut(&mut self) -> Option<&mut Progress> {
        match &mut self.stage {
            Stage::SetUp(progress) | Stage::Gap(progress) | Stage::Starts(progress) => {
                Some(progress)
            }
            _ => None,
        }
    }

    /// The start uses no CPU and never ends.
    fn hangs(&self) -> bool {
        self.application.hangs && self.restarts == 0
    }
}
