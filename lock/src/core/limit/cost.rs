//! The CPU seconds of one start, estimated from the starts that have ended.

use std::time::Duration;

use super::load::MeanLoad;
use super::{CROWDED, FIRST_COST, REMEMBERED, SPAN};

/// The kernel counts CPU time in hundredths of a second, so no start is cheaper.
const LEAST: f64 = 0.01;

/// CPU time used and starts ended while waiters were parked. Older values count less.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// CPU seconds of the node, and the seconds in which they were used.
    used: f64,
    seconds: f64,
    ended: f64,
    /// Starts that have ended since the last reading.
    unread: usize,
    /// The mean length of a start, in seconds.
    usual: Option<f64>,
    /// The lowest load so far, in cores: that of others.
    others: Option<f64>,
    of_start: Option<f64>,
    /// Runnable threads of the widest start for each core: more than one take each other's time.
    width: f64,
}

impl Cost {
    /// CPU seconds of one start.
    pub fn of_start(&self) -> f64 {
        self.of_start.unwrap_or(FIRST_COST)
    }

    /// The starts per second that this number of cores carries.
    pub fn carried_by(&self, cores: f64) -> f64 {
        cores / self.of_start() / self.width.max(1.0).powi(2)
    }

    /// Records the end of a start whose lease had this age.
    pub fn end(&mut self, age: Duration, cores: f64) {
        let age = age.as_secs_f64();
        let usual = self.usual.unwrap_or(age);
        // An image pull is no usual start.
        let age = age.min(2.0 * usual);
        self.usual = Some(usual + (age - usual) / (1.0 + self.ended.min(REMEMBERED * cores)));
        self.unread += 1;
    }

    /// Records the CPU seconds used in these seconds, the mean load, and the ages of the active
    /// leases.
    pub fn learn(
        &mut self,
        used: Option<(f64, f64)>,
        mean: Option<MeanLoad>,
        ages: &[f64],
        cores: f64,
    ) {
        let unread = std::mem::take(&mut self.unread) as f64;
        // The CPU time of starts that ended unobserved is not known.
        let Some((used, seconds)) = used else { return };
        let remembered = REMEMBERED * cores;
        let retained = (1.0 - 1.0 / remembered).powf(unread);
        self.used = self.used * retained + used;
        self.seconds = self.seconds * retained + seconds;
        self.ended = self.ended * retained + unread;
        if let Some(mean) = mean {
            let width = mean.runnable / ages.len().max(1) as f64 / cores;
            self.width = (self.width * retained.sqrt()).max(width.min(CROWDED));
            self.others = Some(self.others.map_or(mean.busy, |least| least.min(mean.busy)));
        }
        let Some(usual) = self.usual.map(|usual| usual.max(SPAN.as_secs_f64())) else { return };
        // Half of a start's work is done while it runs, in the mean.
        let unfinished: f64 = ages.iter().map(|age| (age / usual).min(1.0) / 2.0).sum();
        // The lowest load may be that of starts, so at most a quarter of it counts as that of
        // others.
        let others = (self.others.unwrap_or(0.0) * self.seconds).min(self.used / 4.0);
        // The first guess counts as one start until the memory is full.
        let guess = (1.0 - self.ended / remembered).max(0.0);
        let cost = (self.used - others + guess * FIRST_COST) / (self.ended + unfinished + guess);
        self.of_start = Some(cost.max(LEAST));
    }
}
