//! Sums of times that do not overflow, and whole seconds.

use std::time::{Duration, Instant};

/// Replaces a deadline that the clock cannot represent. No process lives that long.
pub const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The end of a duration that begins now, also if the clock cannot represent it.
pub fn after(now: Instant, duration: Duration) -> Instant {
    now.checked_add(duration).or_else(|| now.checked_add(FAR)).unwrap_or(now)
}

/// The duration, rounded up to whole seconds.
pub fn whole_seconds(duration: Duration) -> Duration {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    Duration::from_secs(seconds)
}
