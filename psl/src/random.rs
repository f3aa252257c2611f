//! Jitter, so that requests that began together do not stay together. Not for secrets.
//!
//! The kernel seeds the standard library's hash maps; that seed saves a dependency.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

/// 64 bits that differ from call to call.
pub fn bits() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A number from 0 to 1, 1 excluded.
pub fn fraction() -> f64 {
    (bits() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_differ_and_stay_below_one() {
        let fractions: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(fractions.iter().all(|f| (0.0..1.0).contains(f)));
        assert!(fractions.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
