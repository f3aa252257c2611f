//! Jitter, so that requests that began together do not stay together. Not for secrets.
//!
//! The kernel seeds the standard library's hash maps; that seed saves a dependency.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

/// 64 bits that differ from call to call.
pub fn bits() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A number from 0 to 1, 1 excluded.
pub fn fraction() -> f64 {
    (bits() >> 11) as f64 / (1u64 << 53) as f64
}

/// Adds `chance` (0 to 1) of the share `most` (0.2 for 20 %) to the duration.
pub fn with_jitter(duration: Duration, most: f64, chance: f64) -> Duration {
    let more = Duration::try_from_secs_f64(duration.as_secs_f64() * most * chance);
    duration.saturating_add(more.unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_jitter_stays_in_its_bounds() {
        let second = Duration::from_secs(1);
        for (duration, most, chance, expected) in [
            (second, 0.2, 0.0, second),
            (second, 0.2, 1.0, Duration::from_millis(1200)),
            (Duration::ZERO, 0.2, 1.0, Duration::ZERO),
            (Duration::MAX, 0.2, 1.0, Duration::MAX),
        ] {
            assert_eq!(with_jitter(duration, most, chance), expected);
        }
    }

    #[test]
    fn fractions_differ_and_stay_below_one() {
        let fractions: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(fractions.iter().all(|f| (0.0..1.0).contains(f)));
        assert!(fractions.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
