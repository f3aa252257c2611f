//! The load of the node: its idle cores and runnable threads over the last [`SPAN`](super::SPAN).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::SPAN;

/// The counters of the node at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub at: Instant,
    /// CPU time used since boot, of all cores together.
    pub busy: Duration,
    /// CPU time not used since boot.
    pub idle: Duration,
    /// Threads that run or are ready to run.
    pub runnable: usize,
    pub cores: usize,
    /// Share of the last ten seconds in which all tasks waited for memory, or for a disk.
    pub stalled: f64,
}

/// The mean of the readings of one span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanLoad {
    /// The number of cores in use.
    pub busy: f64,
    /// The number of idle cores.
    pub idle: f64,
    pub runnable: f64,
}

/// The readings of the last span with a parked waiter.
#[derive(Clone, Debug, Default)]
pub struct Load {
    readings: VecDeque<Reading>,
    read_at: Option<Instant>,
    mean: Option<MeanLoad>,
    is_blind: bool,
}

impl Load {
    pub fn forget(&mut self) {
        self.readings.clear();
        self.mean = None;
    }

    /// CPU seconds used since the last reading, and the seconds between them; `None` if there is no
    /// pair of readings.
    pub fn read(&mut self, reading: Option<Reading>, now: Instant) -> Option<(f64, f64)> {
        self.read_at = Some(now);
        // Counters of a node that has run are not zero.
        let Some(reading) =
            reading.filter(|reading| !reading.busy.is_zero() || !reading.idle.is_zero())
        else {
            self.is_blind = true;
            self.forget();
            return None;
        };
        let before = self.readings.back().copied();
        self.readings.push_back(reading);
        self.average(reading);
        // Without moving counters the CPU time of the starts that end meanwhile is unknown.
        let last = before.filter(|_| !self.is_blind)?;
        let seconds = reading.at.saturating_duration_since(last.at).as_secs_f64();
        let used = reading.busy.saturating_sub(last.busy).as_secs_f64();
        // Counters that jump do not make starts expensive for hours. Twice, because a busy node
        // delays the reading.
        Some((used.min(2.0 * seconds * reading.cores as f64), seconds))
    }

    fn average(&mut self, reading: Reading) {
        let since = |first: &Reading| reading.at.saturating_duration_since(first.at);
        while self.readings.get(1).is_some_and(|second| since(second) >= SPAN) {
            self.readings.pop_front();
        }
        let Some(first) = self.readings.front().filter(|first| since(first) >= SPAN) else {
            return;
        };
        let seconds = since(first).as_secs_f64();
        let busy = reading.busy.saturating_sub(first.busy).as_secs_f64() / seconds;
        let idle = reading.idle.saturating_sub(first.idle).as_secs_f64() / seconds;
        // Counters that account for less than half of the time stand still.
        self.is_blind = 2.0 * (busy + idle) < reading.cores as f64;
        let runnable: f64 = self.readings.iter().map(|reading| reading.runnable as f64).sum();
        let runnable = runnable / self.readings.len() as f64;
        self.mean = (!self.is_blind).then_some(MeanLoad { busy, idle, runnable });
    }

    /// The mean of the last span; `None` before a whole span was read.
    pub fn mean(&self) -> Option<MeanLoad> {
        self.mean
    }

    pub fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// The counters cannot be read, or stand still.
    pub fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// All tasks waited for memory or a disk in more than half of the last ten seconds.
    pub fn is_stalled(&self) -> bool {
        self.readings.back().is_some_and(|last| last.stalled > 0.5)
    }
}
