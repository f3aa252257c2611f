//! The leases: at most N at the same time, each with its end.
//!
//! Pure: the time is an argument and never goes back. Knows nothing of HTTP, of gates, nor of who
//! asks: every request counts for itself.
//!
//! Invariants: there are never more leases than slots; a lease ends exactly at its deadline, so
//! that at this instant its slot is free.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Stands for deadlines that the clock cannot hold; nobody waits this long.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A slot that is taken until its deadline. Ordered by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    /// When it ends by itself.
    pub deadline: Instant,
    /// When it was granted.
    pub since: Instant,
}

/// What became of a request for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It has one.
    Granted(Lease),
    /// All are taken; this is when the first of them ends.
    Busy(Instant),
}

/// The slots of this node.
#[derive(Clone, Debug)]
pub struct Leases {
    slots: usize,
    running: BinaryHeap<Reverse<Lease>>,
}

impl Leases {
    /// All slots free; there is at least one.
    pub fn new(slots: usize) -> Leases {
        Leases { slots: slots.max(1), running: BinaryHeap::new() }
    }

    /// Takes a slot for this long if one is free. Zero would hold nothing: see [`Leases::free_at`].
    pub fn take(&mut self, now: Instant, duration: Duration) -> Taken {
        match self.free_at(now) {
            Some(busy_until) => Taken::Busy(busy_until),
            None => {
                let lease = Lease { deadline: after(now, duration), since: now };
                self.running.push(Reverse(lease));
                Taken::Granted(lease)
            }
        }
    }

    /// Nothing where a slot is free now, else when the first will be.
    pub fn free_at(&self, now: Instant) -> Option<Instant> {
        let running =
            self.running.iter().filter(|Reverse(lease)| lease.deadline > now).map(|Reverse(lease)| lease.deadline);
        if running.clone().count() < self.slots { None } else { running.min() }
    }

    /// Removes the leases that have ended, and hands them out, the earliest first.
    pub fn expire(&mut self, now: Instant) -> Vec<Lease> {
        let mut ended = Vec::new();
        while let Some(Reverse(lease)) = self.running.peek().copied() {
            if lease.deadline > now {
                break;
            }
            self.running.pop();
            ended.push(lease);
        }
        ended
    }

    /// The slots.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// How many run; [`Leases::expire`] those before that have ended.
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// Those that end first, so many at most, in the order of their ends. Never holds more than
    /// it hands out: with thousands of slots a copy of all would be most of the memory there is.
    pub fn first_to_end(&self, most: usize) -> Vec<Lease> {
        let mut first = BinaryHeap::with_capacity(most.min(self.running.len()) + 1);
        for Reverse(lease) in &self.running {
            first.push(*lease);
            if first.len() > most {
                first.pop();
            }
        }
        first.into_sorted_vec()
    }
}

fn after(now: Instant, duration: Duration) -> Instant {
    now.checked_add(duration).or_else(|| now.checked_add(FAR)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NANO: Duration = Duration::from_nanos(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
    fn zero() -> Instant {
        Instant::now()
    }

    fn granted(taken: Taken) -> bool {
        matches!(taken, Taken::Granted(_))
    }

    #[test]
    fn one_slot_is_free_again_exactly_at_the_deadline() {
        let start = zero();
        let mut leases = Leases::new(1);
        assert!(granted(leases.take(start, SECOND)));
        assert_eq!(leases.take(start, SECOND), Taken::Busy(start + SECOND));
        assert_eq!(leases.take(start + SECOND - NANO, SECOND), Taken::Busy(start + SECOND));
        assert_eq!(leases.expire(start + SECOND - NANO), []);
        assert!(granted(leases.take(start + SECOND, SECOND)));
        assert_eq!(leases.expire(start + SECOND).len(), 1);
        assert_eq!(leases.count(), 1);
    }

    #[test]
    fn the_first_to_end_is_what_others_wait_for() {
        let start = zero();
        let mut leases = Leases::new(2);
        assert!(granted(leases.take(start, 5 * SECOND)));
        assert!(granted(leases.take(start, 2 * SECOND)));
        assert_eq!(leases.take(start, SECOND), Taken::Busy(start + 2 * SECOND));
        assert_eq!(leases.free_at(start), Some(start + 2 * SECOND));
        assert_eq!(leases.free_at(start + 2 * SECOND), None);
    }

    #[test]
    fn listed_in_the_order_of_their_ends() {
        let start = zero();
        let mut leases = Leases::new(3);
        for seconds in [3, 1, 2] {
            assert!(granted(leases.take(start, SECOND * seconds)));
        }
        let ends: Vec<_> = leases.first_to_end(2).iter().map(|lease| lease.deadline - start).collect();
        assert_eq!(ends, [SECOND, 2 * SECOND]);
    }

    #[test]
    fn the_ends_of_time() {
        let start = zero();
        let mut leases = Leases::new(3);
        for duration in [Duration::MAX, Duration::from_secs(u64::MAX), NANO] {
            assert!(granted(leases.take(start, duration)));
        }
        assert!(!granted(leases.take(start, SECOND)));
        assert_eq!(leases.expire(start + FAR - NANO).len(), 1);
        assert_eq!(leases.expire(start + FAR).len(), 2);
    }

    #[test]
    fn there_is_always_a_slot() {
        assert_eq!(Leases::new(0).slots(), 1);
    }

    proptest! {
        /// The model: a plain list of ends, looked through from scratch at each step.
        #[test]
        fn agrees_with_a_naive_model(
            slots in 1usize..5,
            script in prop::collection::vec((0u64..5, prop::option::of(1u64..12)), 0..200),
        ) {
            let start = zero();
            let mut leases = Leases::new(slots);
            let mut model: Vec<u64> = Vec::new();
            let mut now = 0;
            for (pause, duration) in script {
                now += pause;
                let at = start + SECOND * now as u32;
                let live: Vec<u64> = model.iter().copied().filter(|end| *end > now).collect();
                match duration {
                    None => prop_assert_eq!(leases.expire(at).len(), model.len() - live.len()),
                    Some(duration) => {
                        let free = live.len() < slots;
                        prop_assert_eq!(leases.free_at(at).is_none(), free);
                        match leases.take(at, SECOND * duration as u32) {
                            Taken::Granted(lease) => {
                                prop_assert!(free);
                                prop_assert_eq!(lease.deadline, at + SECOND * duration as u32);
                                model.push(now + duration);
                                continue;
                            }
                            Taken::Busy(until) => {
                                prop_assert!(!free);
                                prop_assert_eq!(until, start + SECOND * *live.iter().min().unwrap() as u32);
                                continue;
                            }
                        }
                    }
                }
                model = live;
                prop_assert_eq!(leases.count(), model.len());
            }
        }
    }
}
