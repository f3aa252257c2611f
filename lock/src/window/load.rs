//! What the node does: how much of its CPU is idle, and how many threads want to run, over the last half second.
//!
//! Pure. Knows neither leases nor where readings come from.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What the shares of the CPU and the threads are averaged over.
pub const SPAN: Duration = Duration::from_millis(500);

/// Readings further apart than this tell of what was before anybody waited.
const GAP: Duration = Duration::from_secs(3);

/// Less idle than this, and the cores have been seen to be busy.
const BUSY: f64 = 0.37;

/// One look at the node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// When.
    pub at: Instant,
    /// CPU time used since boot, of all cores together.
    pub busy: Duration,
    /// CPU time not used since boot.
    pub idle: Duration,
    /// Threads that run or want to, at this instant.
    pub runnable: usize,
    /// Online.
    pub cores: usize,
    /// Share of the last ten seconds in which all that was to be done waited for memory, or for a disk.
    pub stalled: f64,
}

/// The readings of the last half second in which somebody waited.
#[derive(Clone, Debug)]
pub struct Load {
    readings: VecDeque<Reading>,
    /// Share of the CPU that was idle.
    pub idle: f64,
    /// Threads that ran or wanted to, in the mean.
    pub runnable: f64,
    /// As the last reading has it.
    pub stalled: f64,
    /// The cores have been seen to be busy in this herd.
    pub was_busy: bool,
}

impl Load {
    /// Nothing is known of the node.
    pub fn unknown() -> Load {
        Load { readings: VecDeque::new(), idle: 1.0, runnable: 0.0, stalled: 0.0, was_busy: false }
    }

    /// What was seen is no more; that the cores were busy in this herd is.
    pub fn lose(&mut self) {
        *self = Load { was_busy: self.was_busy, ..Load::unknown() };
    }

    /// CPU seconds that were used since the last reading; nothing where that is none, or too long ago, so that the
    /// instant is all that is known.
    pub fn read(&mut self, reading: Reading) -> Option<f64> {
        let since = |last: &Reading| reading.at.saturating_duration_since(last.at);
        let Some(last) = self.readings.back().copied().filter(|last| since(last) < GAP) else {
            self.lose();
            (self.runnable, self.stalled) = (reading.runnable as f64, reading.stalled);
            self.readings.push_back(reading);
            return None;
        };
        self.average(reading);
        // Counters that go back have told nothing.
        Some(reading.busy.saturating_sub(last.busy).as_secs_f64())
    }

    fn average(&mut self, reading: Reading) {
        self.readings.push_back(reading);
        while self.readings.len() > 2 && reading.at.saturating_duration_since(self.readings[1].at) >= SPAN {
            self.readings.pop_front();
        }
        let first = self.readings[0];
        let busy = reading.busy.saturating_sub(first.busy).as_secs_f64();
        let idle = reading.idle.saturating_sub(first.idle).as_secs_f64();
        self.idle = if busy + idle > 0.0 { idle / (busy + idle) } else { 1.0 };
        let runnable: f64 = self.readings.iter().map(|reading| reading.runnable as f64).sum();
        self.runnable = runnable / self.readings.len() as f64;
        self.stalled = reading.stalled;
        self.was_busy |= self.idle < BUSY;
    }

    /// The averages are those of the whole half second.
    pub fn is_full(&self) -> bool {
        let (first, last) = (self.readings.front(), self.readings.back());
        first.zip(last).is_some_and(|(first, last)| last.at.saturating_duration_since(first.at) >= SPAN)
    }
}
