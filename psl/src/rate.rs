//! How many lines of one kind the log gets in a time, so that what changes all the time does not fill it. Does not know
//! what the lines say, nor the clock.

use std::time::{Duration, Instant};

/// How many were written since this period began.
#[derive(Clone, Copy, Debug)]
pub struct RateLimiter {
    most: usize,
    period: Duration,
    began: Instant,
    written: usize,
}

impl RateLimiter {
    /// So many in each such period, of which the first begins now.
    pub fn new(most: usize, period: Duration, now: Instant) -> RateLimiter {
        RateLimiter { most, period, began: now, written: 0 }
    }

    /// Whether there is room for one more.
    pub fn has_room(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.began) >= self.period {
            (self.began, self.written) = (now, 0);
        }
        self.written < self.most
    }

    /// One was written.
    pub fn note(&mut self) {
        self.written += 1;
    }

    /// When the next period begins.
    pub fn next(&self) -> Instant {
        self.began + self.period
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_each_period() {
        #[expect(clippy::disallowed_methods, reason = "only differences to it count")]
        let start = Instant::now();
        let mut pace = RateLimiter::new(2, Duration::from_secs(10), start);
        for (after, expected) in
            [(0, true), (9, true), (9, false), (10, true), (10, true), (19, false), (50, true)]
        {
            let now = start + Duration::from_secs(after);
            assert_eq!(pace.has_room(now), expected, "{after}");
            if expected {
                pace.note();
            }
        }
        assert_eq!(pace.next(), start + Duration::from_secs(60));
    }
}
