//! Pseudorandom numbers that are the same in each run.

/// SplitMix64, after Steele, Lea and Flood, "Fast splittable pseudorandom number generators"
/// (2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * (self.any() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        (self.any() % count.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_paper() {
        let mut chance = Chance::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| chance.any()).collect();
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn they_are_spread_over_what_was_asked_for() {
        let mut chance = Chance::new(1);
        let values: Vec<f64> = (0..1000).map(|_| chance.between(2.0, 4.0)).collect();
        assert!(values.iter().all(|value| (2.0..4.0).contains(value)));
        assert!((values.iter().sum::<f64>() / 1000.0 - 3.0).abs() < 0.1);
        let below: Vec<usize> = (0..100).map(|_| chance.below(3)).collect();
        assert!(
            (0..3).all(|wanted| below.contains(&wanted)) && below.iter().all(|value| *value < 3)
        );
        assert_eq!(chance.below(0), 0);
    }
}
