//! A little chance, to keep callers that came together from staying together.
//!
//! Not for secrets: the standard library seeds its hash maps from the kernel's randomness, and
//! that seed is all that is used here, so that no further crate is needed.

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

/// The duration lengthened by the share `chance` (0 to 1) of `most` (0.2 for 20 %).
pub fn lengthened(duration: Duration, most: f64, chance: f64) -> Duration {
    let more = Duration::try_from_secs_f64(duration.as_secs_f64() * most * chance)
        .unwrap_or(Duration::MAX);
    duration.saturating_add(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengthened_stays_in_its_bounds() {
        let second = Duration::from_secs(1);
        for (duration, most, chance, expected) in [
            (second, 0.2, 0.0, second),
            (second, 0.2, 1.0, Duration::from_millis(1200)),
            (Duration::ZERO, 0.2, 1.0, Duration::ZERO),
            (Duration::MAX, 0.2, 1.0, Duration::MAX),
        ] {
            assert_eq!(lengthened(duration, most, chance), expected);
        }
    }

    #[test]
    fn fractions_differ_and_stay_below_one() {
        let drawn: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(drawn.iter().all(|f| (0.0..1.0).contains(f)));
        assert!(drawn.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
