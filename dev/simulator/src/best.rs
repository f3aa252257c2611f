//! The best fixed number of slots for a herd.

use std::time::Instant;

use lock::core::settings::Slots;

use crate::herd::Application;
use crate::node::{Node, run_while_hopeful};

/// The run of a number is cut off this many seconds after the best time so far.
const HOPELESS: f64 = 1.0;

/// The longest time for the first number with which all applications get ready.
const LONGEST: f64 = 10_000.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// X
    pub home: f64,
    /// The smallest number with this time.
    pub slots: usize,
    /// Killed starts.
    pub kills: usize,
}

/// Tries numbers up to all at once; `None` if no number gets all applications ready.
pub fn best(node: &Node, herd: &[Application], zero: Instant) -> Option<Best> {
    let mut best: Option<Best> = None;
    let mut enough = usize::MAX;
    let slot_seconds = slot_seconds(node, herd);
    for slots in in_turn(&numbers(herd.len()), 2 * node.cores) {
        let is_too_few =
            best.is_some_and(|best| slot_seconds / slots as f64 > best.home + HOPELESS);
        if is_too_few || slots > enough {
            continue;
        }
        let cut_off = best.map_or(LONGEST, |best| best.home) + HOPELESS;
        let result = run_while_hopeful(
            &Node { slots: Slots::Fixed(slots), cut_off, ..node.clone() },
            herd,
            zero,
        );
        let Some(home) = result.home else { continue };
        if result.waits.iter().flatten().all(|waited| *waited == 0.0) {
            enough = enough.min(slots);
        }
        let found = Best { home, slots, kills: result.kills };
        if best.is_none_or(|best| (found.home, found.slots) < (best.home, best.slots)) {
            best = Some(found);
        }
    }
    best
}

/// A lower bound of the sum of all leases, in seconds.
fn slot_seconds(node: &Node, herd: &[Application]) -> f64 {
    let needed = herd.iter().filter(|application| !application.never);
    needed.map(|application| application.alone().min(node.duration)).sum()
}

/// From one up, each a quarter more than the one before, to the first with which no start waits.
pub fn numbers(pods: usize) -> Vec<usize> {
    let mut numbers = vec![1];
    while let Some(last) = numbers.last().copied().filter(|last| *last < pods) {
        numbers.push((last + 1).max(last * 5 / 4));
    }
    numbers
}

/// Numbers near a good guess come first, so that the runs of the others are cut off early.
fn in_turn(numbers: &[usize], guess: usize) -> Vec<usize> {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(|a, b| distance(*a, guess).total_cmp(&distance(*b, guess)));
    numbers
}

fn distance(number: usize, guess: usize) -> f64 {
    (number as f64 / guess as f64).ln().abs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::{burning, node, zero};

    #[test]
    fn numbers_reach_from_one_to_all() {
        assert_eq!(numbers(1), [1]);
        assert_eq!(numbers(9), [1, 2, 3, 4, 5, 6, 7, 8, 10]);
        assert_eq!(numbers(20).last(), Some(&22));
        assert_eq!(in_turn(&numbers(9), 4), [4, 5, 3, 6, 7, 2, 8, 10, 1]);
    }

    #[test]
    fn the_best_number_overlaps_latency_without_a_kill() {
        // One core, a second of latency and one of work: four at a time are two rounds of a second
        // of idling
        // and four of work, and a probe that comes 0.25 s late. Eight at a time would all be killed
        // after 6 s.
        let herd: Vec<Application> =
            (0..8).map(|_| Application { latency: 1.0, ..burning(1, 1.0) }).collect();
        let best = best(&node(1, Slots::Fixed(1)), &herd, zero()).unwrap();
        assert_eq!((best.slots, best.kills), (4, 0), "{best:?}");
        assert!((best.home - 10.25).abs() < 1e-6, "{best:?}");
    }

    #[test]
    fn a_start_longer_than_the_deadline_has_no_best_number() {
        let herd = [burning(1, 7.0)];
        assert_eq!(
            best(&Node { back_off: 1000.0, ..node(2, Slots::Fixed(1)) }, &herd, zero()),
            None
        );
    }
}
