//! The rate at which changes of the verdict are logged. A flapping pod must not fill the log, and
//! the state that it ends in must still be logged.
//!
//! The file does not know the verdict or the log.

use std::time::{Duration, Instant};

use psl::rate::RateLimiter;

/// DaemonSets cause at most this many changes a minute when a node starts.
const MOST_LOGGED: usize = 20;
const PERIOD: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct LogThrottle {
    last: Option<Vec<String>>,
    /// The changes since the last line.
    pending: usize,
    limiter: RateLimiter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogDecision {
    /// Log the state. It has changed this many times since the last line.
    Log(usize),
    Unchanged,
    /// The rate is exceeded. Observe the state again at [`LogThrottle::poll_at`].
    Later,
}

impl LogThrottle {
    pub fn new(now: Instant) -> LogThrottle {
        LogThrottle { last: None, pending: 0, limiter: RateLimiter::new(MOST_LOGGED, PERIOD, now) }
    }

    /// Takes the reasons why the gate is closed; none if it is open.
    pub fn observe(&mut self, reasons: Vec<String>, now: Instant) -> LogDecision {
        self.pending += usize::from(self.last.as_ref() != Some(&reasons));
        self.last = Some(reasons);
        if self.pending == 0 {
            return LogDecision::Unchanged;
        }
        if !self.limiter.allows(now) {
            return LogDecision::Later;
        }
        self.limiter.note();
        LogDecision::Log(std::mem::take(&mut self.pending))
    }

    #[cfg(test)]
    pub fn last(&self) -> &[String] {
        self.last.as_deref().unwrap_or_default()
    }

    pub fn poll_at(&self) -> Option<Instant> {
        (self.pending > 0).then(|| self.limiter.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "only differences to it count")]
        Instant::now()
    }

    fn closed(why: &str) -> Vec<String> {
        vec![why.to_owned()]
    }

    #[test]
    fn a_change_is_logged_and_a_repetition_is_not() {
        let now = start();
        let mut throttle = LogThrottle::new(now);
        assert_eq!(throttle.observe(closed("a"), now), LogDecision::Log(1));
        assert_eq!(throttle.observe(closed("a"), now), LogDecision::Unchanged);
        assert_eq!(throttle.observe(closed("b"), now), LogDecision::Log(1));
        assert_eq!(throttle.observe(vec![], now), LogDecision::Log(1));
        assert_eq!(
            (throttle.observe(vec![], now), throttle.poll_at()),
            (LogDecision::Unchanged, None)
        );
    }

    #[test]
    fn a_flapping_pod_is_logged_at_a_bounded_rate() {
        let now = start();
        let mut throttle = LogThrottle::new(now);
        let mut logged = 0;
        for second in 0..50 {
            let reasons = if second % 2 == 0 { closed("flaps") } else { vec![] };
            let line = throttle.observe(reasons, now + Duration::from_secs(second));
            logged += usize::from(line == LogDecision::Log(1));
        }
        assert_eq!((logged, throttle.poll_at()), (MOST_LOGGED, Some(now + PERIOD)));
        let just_before = now + PERIOD - Duration::from_nanos(1);
        assert_eq!(
            throttle.observe(vec![], just_before),
            LogDecision::Later,
            "the last state is logged after the period as well"
        );
        assert_eq!(throttle.observe(vec![], now + PERIOD), LogDecision::Log(50 - MOST_LOGGED));
        assert_eq!(
            (throttle.observe(vec![], now + PERIOD), throttle.poll_at()),
            (LogDecision::Unchanged, None)
        );
    }
}
