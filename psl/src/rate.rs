//! A limit on log lines of one kind, so that a condition that changes often does not fill the log.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct RateLimiter {
    most: usize,
    period: Duration,
    began: Instant,
    written: usize,
}

impl RateLimiter {
    /// Allows `most` lines in each period; the first period begins now.
    pub fn new(most: usize, period: Duration, now: Instant) -> RateLimiter {
        RateLimiter { most, period, began: now, written: 0 }
    }

    /// Begins a new period if the last one is over; `true` if it has room for one more line.
    pub fn allows(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.began) >= self.period {
            (self.began, self.written) = (now, 0);
        }
        self.written < self.most
    }

    /// Counts one written line.
    pub fn note(&mut self) {
        self.written += 1;
    }

    /// The begin of the next period.
    pub fn next(&self) -> Instant {
        self.began + self.period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_period_allows_two_lines() {
        #[expect(clippy::disallowed_methods, reason = "only differences to it count")]
        let start = Instant::now();
        let mut limiter = RateLimiter::new(2, Duration::from_secs(10), start);
        for (after, expected) in
            [(0, true), (9, true), (9, false), (10, true), (10, true), (19, false), (50, true)]
        {
            let now = start + Duration::from_secs(after);
            assert_eq!(limiter.allows(now), expected, "{after}");
            if expected {
                limiter.note();
            }
        }
        assert_eq!(limiter.next(), start + Duration::from_secs(60));
    }
}
