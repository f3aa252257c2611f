//! The gate of the node's CPU usage: closed at a threshold, open again ten points below it.
//!
//! The file does not know where the measurements come from.

use std::time::{Duration, Instant};

use crate::core::api_error::ApiError;
use crate::core::quantity::Quantity;

/// The gate opens this many points below the threshold, so that it does not flap.
const HYSTERESIS: u8 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadSettings {
    /// The gate closes at this percentage of the CPU capacity, 0 to 100.
    pub threshold: u8,
    /// The pause between two measurements.
    pub period: Duration,
    /// A measurement stands for this long if all later ones fail.
    pub stale_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Measurement {
    percent: u64,
    at: Instant,
}

/// Invariant: without a fresh measurement, the gate is closed only during the first period.
#[derive(Clone, Debug)]
pub struct Load {
    settings: LoadSettings,
    started: Instant,
    last: Option<Measurement>,
    is_busy: bool,
    error: Option<ApiError>,
}

impl Load {
    pub fn new(settings: LoadSettings, now: Instant) -> Load {
        Load { settings, started: now, last: None, is_busy: false, error: None }
    }

    pub fn record(&mut self, used: Quantity, capacity: Quantity, now: Instant) {
        let stays_busy = self.is_busy && used.exceeds(self.reopen_at(), capacity);
        self.is_busy = stays_busy || used.reaches(self.settings.threshold, capacity);
        self.last = Some(Measurement { percent: used.percent_of(capacity), at: now });
        self.error = None;
    }

    pub fn fail(&mut self, error: ApiError) {
        self.error = Some(error);
    }

    fn reopen_at(&self) -> u8 {
        self.settings.threshold.saturating_sub(HYSTERESIS)
    }

    fn fresh(&self, now: Instant) -> Option<&Measurement> {
        let last = self.last.as_ref()?;
        (now.saturating_duration_since(last.at) < self.settings.stale_after).then_some(last)
    }

    pub fn is_open(&self, now: Instant) -> bool {
        if self.fresh(now).is_some() {
            return !self.is_busy;
        }
        let uptime = now.saturating_duration_since(self.started);
        self.last.is_some() || uptime >= self.settings.period
    }

    /// The reason why the gate is closed or the load is unknown.
    pub fn reason(&self, is_local: bool, now: Instant) -> Option<String> {
        match (self.fresh(now), &self.error) {
            (Some(last), _) if self.is_busy => Some(format!(
                "node CPU usage is {} %: closed at {} % or more, opens again at {} % or less",
                last.percent,
                self.settings.threshold,
                self.reopen_at()
            )),
            (Some(_), _) => None,
            (None, Some(error)) => {
                Some(format!("node CPU usage is unknown: {}", error.text_for(is_local)))
            }
            (None, None) => Some("node CPU usage is unknown: no measurement yet".to_owned()),
        }
    }

    /// The error of the last measurement, if it failed.
    pub fn error_text(&self, is_local: bool) -> Option<String> {
        self.error.as_ref().map(|error| error.text_for(is_local))
    }

    /// The last measurement in percent, and its age.
    pub fn last(&self, now: Instant) -> Option<(u64, Duration)> {
        let last = self.last.as_ref()?;
        Some((last.percent, now.saturating_duration_since(last.at)))
    }

    pub fn threshold(&self) -> u8 {
        self.settings.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "only differences to it count")]
    fn start() -> Instant {
        Instant::now()
    }

    const PERIOD: Duration = Duration::from_secs(10);
    const STALE: Duration = Duration::from_secs(300);

    fn load(threshold: u8, at: Instant) -> Load {
        Load::new(LoadSettings { threshold, period: PERIOD, stale_after: STALE }, at)
    }

    #[test]
    fn the_gate_opens_ten_points_below_the_threshold() {
        let at = start();
        let mut load = load(80, at);
        for (used, expected) in [
            ("3199m", true),
            ("3200m", false),
            ("3199m", false),
            ("2801m", false),
            ("2800000001n", false),
            ("2800m", true),
            ("3199999999n", true),
            ("3.2", false),
            ("0", true),
            ("4e3", false),
        ] {
            load.record(cpus(used), cpus("4"), at);
            assert_eq!(load.is_open(at), expected, "{used}");
            assert_eq!(load.reason(true, at).is_none(), expected, "{used}");
        }
    }

    #[test]
    fn the_lowest_and_the_highest_threshold() {
        let at = start();
        for (threshold, used, expected) in [
            (0, "0", false),
            (100, "3999m", true),
            (100, "4", false),
            (5, "199m", true),
            (5, "200m", false),
        ] {
            let mut load = load(threshold, at);
            load.record(cpus(used), cpus("4"), at);
            assert_eq!(load.is_open(at), expected, "{threshold} {used}");
        }
        let mut low = load(5, at);
        low.record(cpus("1"), cpus("4"), at);
        low.record(cpus("0"), cpus("4"), at);
        assert!(low.is_open(at), "a threshold below ten opens at 0 %");
    }

    #[test]
    fn a_missing_metrics_server_closes_the_gate_for_one_period_only() {
        let at = start();
        let mut load = load(80, at);
        assert_eq!(
            load.reason(true, at).as_deref(),
            Some("node CPU usage is unknown: no measurement yet")
        );
        load.fail(ApiError::new("404"));
        let nano = Duration::from_nanos(1);
        assert!(!load.is_open(at) && !load.is_open(at + PERIOD - nano));
        assert!(load.is_open(at + PERIOD));
        assert_eq!(
            load.reason(true, at + PERIOD).as_deref(),
            Some("node CPU usage is unknown: 404"),
            "the error is reported all the same"
        );
        load.record(cpus("4"), cpus("4"), at + PERIOD);
        load.fail(ApiError::new("503"));
        assert!(
            !load.is_open(at + PERIOD + STALE - nano),
            "the last measurement stands for a while"
        );
        assert!(load.is_open(at + PERIOD + STALE));
    }
}
