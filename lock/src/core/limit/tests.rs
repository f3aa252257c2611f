//! The limit on nodes of constant and of random load.

use super::*;
use crate::core::tests::{SECOND, zero};
use proptest::prelude::*;

/// A node of constant load, read in every period, and a queue that never runs dry.
struct Node {
    limit: Limit,
    start: Instant,
    now: Instant,
    active: usize,
    cores: usize,
}

impl Node {
    fn new(cores: usize, most: usize) -> Node {
        let start = zero();
        Node { limit: Limit::new(cores, most, start), start, now: start, active: 0, cores }
    }

    fn reading(&self, busy_cores: f64, runnable: usize) -> Reading {
        // As if the node had run for a minute.
        let since = (self.now - self.start + 60 * SECOND).as_secs_f64();
        Reading {
            at: self.now,
            busy: Duration::from_secs_f64(since * busy_cores),
            idle: Duration::from_secs_f64(since * (self.cores as f64 - busy_cores)),
            runnable,
            cores: self.cores,
            stalled: 0.0,
        }
    }

    /// Admits as many as the quota has; how many that were.
    fn admit(&mut self) -> usize {
        let mut admitted = 0;
        while self.limit.quota(self.active, self.now).more > 0 {
            self.limit.add_start(self.now);
            self.active += 1;
            admitted += 1;
        }
        admitted
    }

    /// Lets this time pass with readings; how many began.
    fn run(&mut self, time: Duration, reading: impl Fn(&Node) -> Option<Reading>) -> usize {
        let until = self.now + time;
        let mut began = self.admit();
        while self.now < until {
            self.now += PERIOD;
            let reading = reading(self);
            self.limit.read(reading, self.active, self.now);
            began += self.admit();
        }
        began
    }

    /// The oldest start ends, at this age.
    fn end(&mut self, age: Duration, was_start: bool) {
        let at = self.limit.starts.front().map_or(self.now, |start| start.at);
        self.limit.end_start(at, age, was_start, self.now);
        self.active = self.active.saturating_sub(1);
    }

    fn reason(&self) -> Reason {
        self.limit.status(self.active, self.now).reason
    }
}

#[test]
fn an_idle_node_starts_one_per_core_at_once_and_one_for_each_first_cost_after() {
    let mut node = Node::new(8, 128);
    assert_eq!(node.admit(), 8);
    assert_eq!(node.reason(), Reason::Pace);
    // Four starts a second on eight cores, until too many may not have reached a core yet.
    assert_eq!(node.run(2 * SECOND, |node| Some(node.reading(0.0, 0))), 8);
    let status = node.limit.status(node.active, node.now);
    assert_eq!((status.pace, status.idle_cores, status.floor), (8.0 / FIRST_COST, Some(8.0), 8));
    assert_eq!(node.limit.cost.of_start(), FIRST_COST);
}

#[test]
fn image_pulls_in_every_slot_do_not_keep_an_idle_node_empty() {
    let mut node = Node::new(2, 32);
    let begun = node.run(30 * SECOND, |node| Some(node.reading(0.0, 0)));
    assert!((28..=32).contains(&begun), "one a second: {begun}");
    assert_eq!(node.run(10 * SECOND, |node| Some(node.reading(0.0, 0))), 32 - begun);
    assert_eq!(node.reason(), Reason::Max);
}

#[test]
fn a_node_full_of_threads_starts_one_per_core_and_one_more_after_a_stale_time() {
    let mut node = Node::new(8, 128);
    let full = |node: &Node| Some(node.reading(8.0, 24));
    // The first span is not known yet, so no start is admitted above the floor.
    assert_eq!(node.run(29 * SECOND, full), 8);
    assert_eq!(node.reason(), Reason::Busy);
    let words = node.limit.status(node.active, node.now).to_string();
    assert_eq!(
        words,
        "the node is busy: 0.0 of 8 cores idle; the next start begins in 1s at the latest"
    );
    assert_eq!(node.run(2 * SECOND, full), 1);
    // The floor holds under any load: each start that ends makes room for one.
    for _ in 0..40 {
        node.end(10 * SECOND, true);
        node.end(10 * SECOND, true);
        let below = 8usize.saturating_sub(node.active);
        assert_eq!(node.run(SECOND, full), below);
    }
}

#[test]
fn counters_that_stand_still_are_the_floor() {
    let zeros = |node: &Node| {
        Some(Reading { busy: Duration::ZERO, idle: Duration::ZERO, ..node.reading(0.0, 0) })
    };
    let frozen = |node: &Node| Some(Reading { busy: SECOND, idle: SECOND, ..node.reading(0.0, 0) });
    let half = |node: &Node| {
        let reading = node.reading(0.4, 0);
        Some(Reading { idle: SECOND, ..reading })
    };
    for (name, reading) in [
        ("none", &(|_: &Node| None) as &dyn Fn(&Node) -> Option<Reading>),
        ("zeros", &zeros),
        ("frozen", &frozen),
        ("a part of the time", &half),
    ] {
        let mut node = Node::new(2, 32);
        assert_eq!(node.run(60 * SECOND, reading), 2, "{name}");
        assert_eq!(node.reason(), Reason::Blind, "{name}");
        let status = node.limit.status(2, node.now);
        assert_eq!(
            (status.limit, status.floor, status.pace, status.next),
            (2, 2, 0.0, None),
            "{name}"
        );
        assert_eq!(
            status.to_string(),
            "the node's load is unknown: 2 starts at a time; the next start begins when a lease ends"
        );
        // The counters count again.
        assert!(node.run(3 * SECOND, |node| Some(node.reading(0.0, 0))) > 0, "{name}");
    }
}

#[test]
fn stalls_go_below_the_floor_down_to_one() {
    let mut node = Node::new(8, 128);
    let stall = |node: &Node| Some(Reading { stalled: 0.51, ..node.reading(0.0, 0) });
    node.now += PERIOD;
    let reading = stall(&node);
    node.limit.read(reading, 0, node.now);
    assert_eq!(node.run(60 * SECOND, stall), 1);
    assert_eq!(node.reason(), Reason::Stalled);
    node.active = 0;
    assert_eq!(node.admit(), 1);
    assert_eq!(node.run(PERIOD, |node| Some(Reading { stalled: 0.5, ..node.reading(0.0, 0) })), 7);
}

#[test]
fn load_of_others_is_not_charged_to_starts() {
    // Each second one start ends that used half a CPU second, with and without a core of others.
    let cost_beside = |others: f64| {
        let mut node = Node::new(4, 64);
        node.run(SECOND, |node| Some(node.reading(others, 0)));
        let start = node.now;
        for second in 0..200 {
            let used = move |node: &Node| {
                let beside = node.reading(others, 1);
                let used = 0.5 * (node.now - start).as_secs_f64();
                Some(Reading {
                    busy: beside.busy + Duration::from_secs_f64(used),
                    idle: beside.idle - Duration::from_secs_f64(used),
                    ..beside
                })
            };
            node.end(SECOND, true);
            node.run(SECOND, used);
            assert!(node.active <= 64, "{second}");
        }
        node.limit.cost.of_start()
    };
    let (alone, beside) = (cost_beside(0.0), cost_beside(0.15));
    assert!((beside / alone - 1.0).abs() < 0.01, "{alone} alone, {beside} beside others");
}

#[test]
fn a_grant_that_is_undone_leaves_no_trace() {
    let mut node = Node::new(2, 32);
    node.admit();
    let before = (node.limit.credit, node.limit.starts.len(), node.limit.last_starts[0]);
    for _ in 0..100 {
        node.limit.add_start(node.now);
        node.limit.undo_start(node.now, node.now);
    }
    assert_eq!((node.limit.credit, node.limit.starts.len(), node.limit.last_starts[0]), before);
    assert_eq!(node.admit(), 0);
}

#[test]
fn an_old_cost_is_forgotten() {
    let mut node = Node::new(2, 32);
    node.run(SECOND, |node| Some(node.reading(0.1, 1)));
    for _ in 0..9 {
        node.end(SECOND, true);
        node.active = 0;
        node.run(SECOND, |node| Some(node.reading(0.1, 1)));
    }
    assert!(node.limit.cost.of_start() < 1.0, "{}", node.limit.cost.of_start());
    node.now += STALE;
    node.limit.advance(node.now);
    assert_eq!(node.limit.cost.of_start(), FIRST_COST);
}

#[test]
fn a_lease_that_did_not_begin_here_ends_no_other() {
    let mut node = Node::new(2, 32);
    node.run(10 * SECOND, |node| Some(node.reading(0.0, 0)));
    let unseen = node.limit.unseen(node.now);
    assert!(unseen > 0);
    for _ in 0..20 {
        node.limit.end_start(node.start - SECOND, 11 * SECOND, true, node.now);
    }
    assert_eq!(node.limit.unseen(node.now), unseen);
    // Not the last grant is undone, but the one before.
    let (first, last) = (node.now, node.now + PERIOD);
    node.limit.add_start(first);
    node.limit.add_start(last);
    node.limit.undo_start(first, last);
    assert_eq!(node.limit.starts.back().map(|start| start.at), Some(last));
    assert_eq!(node.limit.last_starts[0], last);
}

/// Nine starts of a tenth of a CPU second have ended on two cores.
fn cheap() -> Node {
    let mut node = Node::new(2, 1000);
    node.run(SECOND, |node| Some(node.reading(0.1, 1)));
    for _ in 0..9 {
        node.end(SECOND, true);
        node.run(SECOND, |node| Some(node.reading(0.1, 1)));
    }
    node
}

#[test]
fn counters_that_jump_or_go_back_do_not_decide_for_hours() {
    let mut node = cheap();
    let cost = node.limit.cost.of_start();
    let jump = |node: &Node| {
        let reading = node.reading(0.1, 1);
        Some(Reading { busy: reading.busy + 100_000_000 * SECOND, ..reading })
    };
    node.run(SECOND, jump);
    assert!(node.limit.cost.of_start() < 2.0 * cost, "{} after {cost}", node.limit.cost.of_start());
    // Back to where they were, and then with as many threads as a number can hold.
    node.run(SECOND, |node| Some(node.reading(0.1, 1)));
    assert!(node.limit.cost.of_start() < 2.0 * cost, "{} after {cost}", node.limit.cost.of_start());
    node.run(SECOND, |node| Some(node.reading(0.1, usize::MAX)));
    assert_eq!(node.reason(), Reason::Busy);
}

#[test]
fn starts_that_end_while_the_counters_stand_still_are_not_cheap() {
    let mut node = cheap();
    let cost = node.limit.cost.of_start();
    let since = node.now;
    let frozen = |node: &Node| {
        let then = Node { now: since, limit: node.limit.clone(), ..*node };
        Some(Reading { at: node.now, ..then.reading(0.1, 1) })
    };
    node.run(SECOND, frozen);
    for _ in 0..100 {
        node.end(SECOND, true);
        node.active = 2;
        node.run(SECOND, frozen);
    }
    let after = node.limit.cost.of_start();
    assert!((after / cost - 1.0).abs() < 0.25, "{after} after {cost}");
}

#[test]
fn no_start_above_the_floor_before_a_whole_span_was_read() {
    let mut node = Node::new(2, 32);
    node.admit();
    // Leases from before a restart are above the floor, and no start has used the credit.
    node.limit.credit = 2.0;
    let next = node.limit.quota(node.active, node.now).next.unwrap();
    assert!(next >= node.now + SPAN, "{:?}", next - node.now);
    let next = node.limit.status(node.active, node.now);
    assert_eq!((next.reason, next.next, next.idle_cores), (Reason::Pace, Some(SPAN), None));
}

#[test]
fn a_steady_state_does_not_swing() {
    // Starts of one CPU second in one thread, a second after their grant, on four cores.
    let (cores, mut running) = (4usize, VecDeque::<(Instant, f64)>::new());
    let mut node = Node::new(cores, 64);
    let (mut busy, mut counts) = (0.0, Vec::new());
    for tick in 0..1200u32 {
        let began = node.admit();
        running.extend(std::iter::repeat_n((node.now, 1.0), began));
        node.now += PERIOD;
        let now = node.now;
        let burns = |it: &(Instant, f64)| now - it.0 > SECOND;
        let threads = running.iter().filter(|it| burns(it)).count();
        let each = 0.1 * (cores as f64 / threads.max(1) as f64).min(1.0);
        busy += each * threads as f64;
        running.iter_mut().filter(|it| now - it.0 > SECOND).for_each(|it| it.1 -= each);
        while let Some(nth) = running.iter().position(|it| it.1 <= 1e-9) {
            let (began, _) = running.remove(nth).unwrap();
            node.active -= 1;
            node.limit.end_start(began, now - began, true, now);
        }
        let all = 60.0 + f64::from(tick + 1) * 0.1;
        let idle = Duration::from_secs_f64(all * cores as f64 - busy);
        let reading = node.reading(0.0, threads);
        node.limit.read(
            Some(Reading { busy: Duration::from_secs_f64(busy), idle, ..reading }),
            node.active,
            now,
        );
        if tick >= 300 {
            counts.push(node.active);
        }
    }
    let (least, most) = (*counts.iter().min().unwrap(), *counts.iter().max().unwrap());
    // Eight keep the cores busy.
    assert!(least >= 6 && most <= 17, "from {least} to {most} in flight");
    assert!(busy > 0.9 * 4.0 * 117.0, "{busy} of 480 CPU seconds");
}

/// Anything that may happen to a limit.
#[derive(Clone, Debug)]
enum Event {
    Began,
    Undone,
    End(u64, bool),
    Read { busy: f64, runnable: usize, stalled: f64 },
    Blind,
    Later(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Began),
        1 => Just(Event::Undone),
        2 => (0u64..100_000, any::<bool>()).prop_map(|(age, was_start)| Event::End(age, was_start)),
        4 => (0.0..1.0f64, 0usize..60, 0.0..1.0f64)
            .prop_map(|(busy, runnable, stalled)| Event::Read { busy, runnable, stalled: stalled.powi(8) }),
        1 => Just(Event::Blind),
        4 => (0u64..5000).prop_map(Event::Later),
    ]
}

proptest! {
    #[test]
    fn the_limit_stays_in_its_bounds(
        events in prop::collection::vec(event(), 1..200),
        (cores, most) in (1usize..9, 1usize..40),
    ) {
        let mut node = Node::new(cores, most);
        let (mut busy, mut read_at) = (60.0, node.now);
        for event in events {
            match event {
                Event::Began if node.limit.quota(node.active, node.now).more > 0 => {
                    node.limit.add_start(node.now);
                    node.active += 1;
                }
                Event::Began => {}
                Event::Undone if node.active > 0 => {
                    let at = node.limit.starts.back().map_or(node.now, |start| start.at);
                    node.limit.undo_start(at, node.now);
                    node.active -= 1;
                }
                Event::Undone => {}
                Event::End(age, was_start) => {
                    node.end(Duration::from_millis(age), was_start);
                }
                Event::Read { busy: share, runnable, stalled } => {
                    busy += share * (node.now - read_at).as_secs_f64() * cores as f64;
                    read_at = node.now;
                    let all = (node.now - node.start + 90 * SECOND).as_secs_f64() * cores as f64;
                    let (used, idle) = (Duration::from_secs_f64(busy), Duration::from_secs_f64((all - busy).max(0.0)));
                    let reading = Reading { busy: used, idle, stalled, ..node.reading(0.0, runnable) };
                    node.limit.read(Some(reading), node.active, node.now);
                }
                Event::Blind => node.limit.read(None, node.active, node.now),
                Event::Later(millis) => node.now += Duration::from_millis(millis),
            }
            let (active, now) = (node.active, node.now);
            let (quota, status) = (node.limit.quota(active, now), node.limit.status(active, now));
            prop_assert!(active <= most && active + quota.more <= most);
            prop_assert!((1..=most).contains(&status.limit) && status.floor <= status.limit);
            let floor = if status.reason == Reason::Stalled || node.limit.load.is_stalled() { 1 } else { cores.min(most) };
            prop_assert_eq!(status.floor, floor);
            prop_assert!(active + quota.more >= floor.min(most), "{:?} beside {}", quota, active);
            if node.limit.load.is_blind() {
                prop_assert_eq!(quota.more, floor.saturating_sub(active));
            }
            // One reason, and the strongest.
            let expected = [
                (Reason::Max, active >= most),
                (Reason::Free, quota.more > 0),
                (Reason::Stalled, node.limit.load.is_stalled()),
                (Reason::Blind, node.limit.load.is_blind()),
                (Reason::Busy, status.pace == 0.0),
                (Reason::Pace, true),
            ];
            let first = expected.iter().find(|(_, holds)| *holds).map(|(reason, _)| *reason);
            prop_assert_eq!(Some(status.reason), first);
            if let Some(next) = quota.next {
                prop_assert!(next > now && next <= now + STALE + GAP, "{:?}", next - now);
            }
            prop_assert!(node.limit.next_reading(now) <= now + PERIOD);
            prop_assert!(node.limit.cost.of_start() > 0.0 && node.limit.cost.of_start().is_finite());
            prop_assert!(!status.to_string().is_empty());
        }
    }

    /// Counters that go back, jump or stand still; cores that come and go.
    #[test]
    fn no_counters_break_the_limit(
        readings in prop::collection::vec(
            (any::<u64>(), any::<u64>(), any::<usize>(), 1usize..300, 0.0..=1.0f64, 0u64..3000), 1..60,
        ),
        most in 1usize..40,
    ) {
        let mut node = Node::new(4, most);
        for (busy, idle, runnable, cores, stalled, millis) in readings {
            node.now += Duration::from_millis(millis);
            let (busy, idle) = (Duration::from_millis(busy), Duration::from_millis(idle));
            let reading = Reading { at: node.now, busy, idle, runnable, cores, stalled };
            node.limit.read(Some(reading), node.active, node.now);
            node.admit();
            let status = node.limit.status(node.active, node.now);
            prop_assert!((status.floor..=most).contains(&node.active), "{:?}", status);
            prop_assert!(status.pace.is_finite() && status.pace >= 0.0, "{:?}", status);
            prop_assert!(status.cost.is_finite() && status.cost > 0.0, "{:?}", status);
            prop_assert!(status.idle_cores.is_none_or(|idle| (0.0..=cores as f64).contains(&idle)), "{:?}", status);
            node.end(SECOND, true);
        }
    }

    /// The same node with more threads that want to run never admits more.
    #[test]
    fn more_load_never_admits_more(threads in prop::collection::vec(0usize..40, 1..60), more in 1usize..20) {
        let begun = |extra: usize| {
            let mut node = Node::new(4, 64);
            let mut begun = node.admit();
            for threads in &threads {
                begun += node.run(PERIOD, |node| Some(node.reading(2.0, threads + extra)));
            }
            begun
        };
        prop_assert!(begun(more) <= begun(0));
    }
}
