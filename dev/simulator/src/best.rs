//! The best fixed number of slots for a herd.

use std::time::Instant;

use lock::core::settings::Slots;

use crate::herd::Application;
use crate::node::{Node, run_while_hopeful};

/// A number that is so much worse than the best so far is not waited for.
const HOPELESS: f64 = 1.0;

/// The longest time for the first number with which all applications get ready.
const LONGEST: f64 = 10_000.0;

/// The best fixed number and its result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// When the last was ready.
    pub home: f64,
    /// The smallest number that gets there so soon.
    pub slots: usize,
    /// Starts that were killed on the way.
    pub kills: usize,
}

/// Tries numbers up to all at once; `None` if no number gets all applications ready.
pub fn best(node: &Node, herd: &[Application], zero: Instant) -> Option<Best> {
    let mut best: Option<Best> = None;
    let mut enough = usize::MAX;
    let held = held(node, herd);
    for slots in in_turn(&numbers(herd.len()), 2 * node.cores) {
        let is_too_few = best.is_some_and(|best| held / slots as f64 > best.home + HOPELESS);
        if is_too_few || slots > enough {
            continue;
        }
        let cut_off = best.map_or(LONGEST, |best| best.home) + HOPELESS;
        let morning = run_while_hopeful(
            &Node { slots: Slots::Fixed(slots), cut_off, ..node.clone() },
            herd,
            zero,
        );
        let Some(home) = morning.home else { continue };
        if morning.waits.iter().flatten().all(|waited| *waited == 0.0) {
            enough = enough.min(slots);
        }
        let found = Best { home, slots, kills: morning.kills };
        if best.is_none_or(|best| (found.home, found.slots) < (best.home, best.slots)) {
            best = Some(found);
        }
    }
    best
}

/// Seconds for which slots are taken at least, all of them together.
fn held(node: &Node, herd: &[Application]) -> f64 {
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

/// Those near a good guess first, so that the others can be given up soon.
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
    fn the_best_number_overlaps_latency_and_kills_nobody() {
        // One core, a second of latency and one of work: four at a time are two rounds of a second of idling
        // and four of work, and a look that comes 0.25 s late. Eight at a time would all be killed after 6.
        let herd: Vec<Application> =
            (0..8).map(|_| Application { latency: 1.0, ..burning(1, 1.0) }).collect();
        let best = best(&node(1, Slots::Fixed(1)), &herd, zero()).unwrap();
        assert_eq!((best.slots, best.kills), (4, 0), "{best:?}");
        assert!((best.home - 10.25).abs() < 1e-6, "{best:?}");
    }

    #[test]
    fn nobody_gets_home_who_needs_more_than_the_deadline() {
        let herd = [burning(1, 7.0)];
        assert_eq!(
            best(&Node { back_off: 1000.0, ..node(2, Slots::Fixed(1)) }, &herd, zero()),
            None
        );
    }
}
