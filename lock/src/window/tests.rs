//! The window by hand-computed cases, and against whatever a kernel may write. How well it does on whole
//! herds is held by the simulator.

use super::starts::{A_THREAD, LEAST_GUESS, MOST_GUESS, WIDEST};
use super::*;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
fn zero() -> Instant {
    Instant::now()
}

/// A node of which each second is told in tenths.
struct Node {
    window: Window,
    zero: Instant,
    tenths: u32,
    cores: usize,
    busy: Duration,
    ages: Vec<u32>,
}

impl Node {
    fn new(cores: usize, most: usize) -> Node {
        let zero = zero();
        let mut window = Window::new(cores, most);
        window.pass(0, zero);
        Node { window, zero, tenths: 0, cores, busy: Duration::ZERO, ages: Vec::new() }
    }

    /// Somebody waits, and so many have begun.
    fn with(cores: usize, most: usize, count: usize) -> Node {
        let mut node = Node::new(cores, most);
        node.tenth(0);
        node.begin(count);
        node
    }

    fn now(&self) -> Instant {
        self.zero + PERIOD * self.tenths
    }

    fn begin(&mut self, count: usize) {
        self.window.began(count, self.now());
        self.ages.extend(std::iter::repeat_n(self.tenths, count));
        self.window.pass(self.ages.len(), self.now());
    }

    fn end(&mut self) {
        let since = self.ages.remove(0);
        self.window.ended(PERIOD * (self.tenths - since), self.now());
        self.window.pass(self.ages.len(), self.now());
    }

    /// A tenth in which so many threads wanted to run.
    fn tenth(&mut self, runnable: usize) {
        self.tenths += 1;
        self.busy += PERIOD * runnable.min(self.cores) as u32;
        let all = PERIOD * self.tenths * self.cores as u32;
        let reading = Reading {
            at: self.now(),
            busy: self.busy,
            idle: all - self.busy,
            runnable,
            cores: self.cores,
            stalled: 0.0,
        };
        self.window.pass(self.ages.len(), self.now());
        let ages: Vec<Duration> = self.ages.iter().map(|since| PERIOD * (self.tenths - since)).collect();
        self.window.read(Some(reading), ages.into_iter(), self.now());
        self.window.pass(self.ages.len(), self.now());
    }

    /// So many tenths of that.
    fn go_on(&mut self, tenths: usize, runnable: usize) {
        for _ in 0..tenths {
            self.tenth(runnable);
        }
    }

    /// One start, from its grant to its end.
    fn start(&mut self, tenths: usize, runnable: usize) {
        self.begin(1);
        self.go_on(tenths, runnable);
        self.end();
    }

    fn more(&self) -> usize {
        self.window.room(self.now()).map_or(usize::MAX, |room| room.more)
    }
}

#[test]
fn one_a_core_at_once_and_then_at_the_pace_of_the_guess() {
    let mut node = Node::new(4, 64);
    assert_eq!((node.more(), node.window.slots(), node.window.why()), (4, 64, Why::Unknown));
    node.begin(4);
    assert_eq!(node.more(), 0);
    let next = node.window.room(node.now()).unwrap();
    // Four cores and two seconds a start: two starts a second.
    assert_eq!(next.each.as_millis(), 500);
    assert_eq!(next.next, node.now() + next.each);
    for _ in 0..4 {
        node.tenth(0);
        assert_eq!(node.more(), 0);
    }
    node.tenth(0);
    assert_eq!(node.more(), 1);
}

#[test]
fn what_starts_cost_and_last_makes_the_window() {
    let mut node = Node::new(2, 64);
    node.tenth(0);
    // Each burns one second, and takes another that nobody sees; two are always at it.
    node.begin(4);
    for _ in 0..40 {
        for tenth in 0..10 {
            node.tenth(2);
            if tenth == 4 || tenth == 9 {
                node.end();
                node.begin(1);
            }
        }
    }
    let seen = node.window.seen();
    // Those that have not ended are in the sum with what they have burnt.
    assert!((0.95..1.12).contains(&seen.cost), "{seen:?}");
    // The first four began together, and the one that was over first is not forgotten yet.
    assert!((1.2..2.1).contains(&seen.least.unwrap()), "{seen:?}");
    // Two cores over one second, for that long: two and a half times that, and one a core.
    assert!((8..=10).contains(&seen.slots), "{seen:?}");
    assert_eq!((seen.idle, seen.why), (0.0, Why::Measured));
}

#[test]
fn a_steady_state_moves_by_one_step_at_most() {
    for (cores, cost, latency) in [(2usize, 10u32, 0u32), (2, 10, 10), (8, 5, 20), (64, 3, 7), (1, 20, 5)] {
        let mut node = Node::new(cores, 16 * cores);
        node.tenth(0);
        // As many as keep the cores busy, one after the other on each: those that end begin anew.
        let (mut burning, mut coming): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        let all = cores + cores * latency.div_ceil(cost) as usize;
        node.begin(all);
        coming.extend((0..all as u32).map(|n| latency + n * cost / cores as u32));
        let mut sizes = Vec::new();
        for tenth in 0..1200 {
            node.tenth(burning.len());
            for left in &mut burning {
                *left -= 1;
            }
            for left in &mut coming {
                *left = left.saturating_sub(1);
            }
            let over = burning.iter().filter(|left| **left == 0).count();
            burning.retain(|left| *left > 0);
            for _ in 0..over {
                node.end();
                node.begin(1);
                coming.push(latency);
            }
            while burning.len() < cores && coming.contains(&0) {
                let at = coming.iter().position(|left| *left == 0).unwrap();
                coming.swap_remove(at);
                burning.push(cost);
            }
            if tenth >= 600 {
                sizes.push(node.window.slots());
            }
        }
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        // A step is one a core: the readings are a tenth of a second apart, and so a cost is that much off.
        assert!(most - least <= cores, "{least} to {most} on {cores} cores, {cost} and {latency} tenths");
    }
}

#[test]
fn the_pace_falls_off_when_nothing_ends() {
    let mut node = Node::with(2, 64, 2);
    let mut begun = 2;
    for _ in 0..600 {
        node.tenth(0);
        let more = node.more();
        node.begin(more);
        begun += more;
    }
    // One a second for 1.3 s, and then for 1.3 s / t: 2 + 1.3 (1 + ln 46).
    assert!((7..=9).contains(&begun), "{begun} in a minute in which nothing was seen to happen");
}

#[test]
fn nobody_is_let_in_while_the_cores_are_crowded_but_one_when_nobody_is() {
    let mut node = Node::with(2, 64, 2);
    node.go_on(30, 8);
    assert_eq!((node.more(), node.window.why()), (0, Why::Crowded));
    // Both hang, and others keep the cores busy: half a minute after the last has begun, one more does.
    node.go_on(269, 8);
    assert_eq!(node.more(), 0);
    node.tenth(8);
    assert_eq!(node.more(), 1);
    node.begin(1);
    node.tenth(8);
    assert_eq!(node.more(), 0);
    node.window.pass(0, node.now());
    node.ages.clear();
    node.tenth(8);
    assert_eq!(node.more(), 1, "one start at least");
}

#[test]
fn a_node_that_stalls_on_memory_or_disks_is_crowded() {
    let mut node = Node::with(2, 64, 2);
    let mut reading =
        Reading { at: node.now() + PERIOD, busy: Duration::ZERO, idle: SECOND, runnable: 0, cores: 2, stalled: 0.51 };
    node.window.read(Some(reading), std::iter::empty(), node.now());
    assert_eq!(node.window.why(), Why::Crowded);
    reading.at += PERIOD;
    reading.stalled = 0.5;
    node.window.read(Some(reading), std::iter::empty(), node.now());
    assert_eq!(node.window.why(), Why::Unknown);
}

#[test]
fn leases_that_hang_are_counted_beside_the_window() {
    let mut node = Node::with(2, 64, 4);
    node.go_on(10, 2);
    node.end();
    node.end();
    let before = node.window.slots();
    // Two more hang: they are not ready after five times as long.
    node.go_on(60, 0);
    assert!(node.window.slots() >= before + 2, "{before}, {:?}", node.window);
}

#[test]
fn the_next_herd_is_not_taken_for_the_last_one() {
    let mut node = Node::with(2, 64, 2);
    node.go_on(10, 2);
    node.end();
    node.tenth(2);
    assert_eq!(node.window.why(), Why::Measured);
    node.tenths += 598;
    node.tenth(0);
    assert_eq!(node.window.why(), Why::Measured, "a minute is not over");
    node.tenths += 599;
    node.tenth(0);
    assert_eq!((node.window.why(), node.window.slots(), node.window.seen().cost), (Why::Unknown, 64, FIRST_COST));
}

#[test]
fn a_node_that_cannot_be_looked_at_starts_one_a_core() {
    let mut node = Node::new(4, 64);
    node.window.read(None, std::iter::empty(), node.now());
    assert_eq!((node.window.slots(), node.window.room(node.now()), node.window.why()), (4, None, Why::Blind));
    assert_eq!(Window::new(4, 2).slots(), 2);
    node.tenth(0);
    assert_eq!((node.window.slots(), node.window.why()), (64, Why::Unknown));
}

#[test]
fn a_node_that_cannot_be_looked_at_is_looked_at_no_more_often() {
    let mut node = Node::new(4, 64);
    node.window.read(None, std::iter::empty(), node.now());
    assert_eq!(node.window.due(node.now()), node.now() + PERIOD);
}

#[test]
fn who_takes_leases_and_gives_them_back_leaves_no_debt() {
    let mut node = Node::new(2, 64);
    node.tenth(0);
    for _ in 0..10_000 {
        node.begin(1);
        node.ages.clear();
        node.window.gone(node.now());
        node.window.pass(0, node.now());
    }
    node.tenth(0);
    node.begin(1);
    let begun = (0..100).fold(0, |begun, _| {
        node.tenth(0);
        let more = node.more();
        node.begin(more);
        begun + more
    });
    // One a second for 1.3 s, and then for 1.3 s / t.
    assert!(begun >= 3, "{begun} in ten seconds");
}

#[test]
fn leases_that_end_while_nobody_waits_tell_nothing_of_what_starts_cost() {
    let mut node = Node::new(2, 64);
    for _ in 0..12 {
        node.begin(1);
        node.tenths += 100;
        node.end();
        node.tenths += 500;
    }
    node.tenths += 100;
    node.begin(2);
    node.go_on(10, 2);
    let cost = node.window.seen().cost;
    assert!(cost >= A_THREAD, "the guess, and what was burnt since: {cost}");
}

#[test]
fn what_hangs_does_not_keep_everybody_out_while_the_cores_are_busy() {
    for runnable in [0, 2, 3, 9] {
        let mut node = Node::new(2, 64);
        node.tenth(0);
        // Some that last two seconds, and then one after the other that hangs.
        for _ in 0..10 {
            node.start(20, 2);
        }
        let (mut longest, mut pause) = (0, 0);
        for _ in 0..6000 {
            node.tenth(runnable);
            let more = node.more().min(node.window.slots().saturating_sub(node.ages.len()));
            node.begin(more);
            pause = if more > 0 { 0 } else { pause + 1 };
            longest = longest.max(pause);
        }
        assert!(longest <= 310 || node.ages.len() == 64, "{runnable} threads: none began for {longest} tenths");
    }
}

#[test]
fn leases_of_before_a_restart_do_not_keep_a_crowd_in_for_ever() {
    // None of them ends, or one each twenty seconds.
    for ends in [6000, 200] {
        let mut node = Node::new(2, 64);
        node.ages = vec![0; 30];
        node.window.pass(30, node.now());
        let first = (1..6000).find(|tenth| {
            if tenth % ends == 0 {
                node.ages.pop();
                node.window.gone(node.now());
            }
            node.tenth(9);
            node.more() > 0
        });
        assert!(first.is_some_and(|first| (290..=310).contains(&first)), "{first:?}");
    }
}

#[test]
fn what_was_undone_has_put_nothing_off() {
    let mut node = Node::with(2, 64, 2);
    node.go_on(250, 9);
    node.window.began(1, node.now());
    node.window.undone();
    for _ in 250..299 {
        node.tenth(9);
        assert_eq!(node.more(), 0);
    }
    node.tenth(9);
    assert_eq!(node.more(), 1, "half a minute after the two");
}

#[test]
fn a_crowd_saves_nothing_up() {
    let mut node = Node::with(2, 64, 2);
    node.go_on(20, 9);
    node.go_on(4, 0);
    assert_eq!((node.window.why(), node.more()), (Why::Unknown, 0), "the crowd is over, and nothing is saved");
}

#[test]
fn so_many_a_core_may_be_on_their_way_in_a_crowd_whatever_starts_were_thought_to_cost() {
    let mut node = Node::new(2, 64);
    node.tenth(0);
    // Cheap ones that last two seconds, of which dozens would keep the cores busy.
    for _ in 0..40 {
        node.start(20, 0);
    }
    for (held, expected) in [(6, Why::Measured), (7, Why::Crowded)] {
        let mut node = Node { window: node.window.clone(), ages: Vec::new(), ..node };
        node.begin(held);
        node.go_on(5, 9);
        assert_eq!(node.window.why(), expected, "{held} held: {:?}", node.window);
    }
}

#[test]
fn the_pace_does_not_fall_off_before_a_lease_can_have_ended() {
    let each = |expected: Option<Duration>, ended: Option<u32>| {
        let mut node = Node::with(2, 64, 2);
        node.window.expect(expected);
        for tenth in 1..=100 {
            node.tenth(0);
            if ended == Some(tenth) {
                node.window.gone(node.now());
            }
        }
        node.window.room(node.now()).unwrap().each.as_secs_f64()
    };
    assert_eq!(each(Some(10 * SECOND), None), 1.0);
    for (name, expected, ended, slower) in [
        ("any may end at any time", None, None, 10.0 / PATIENCE),
        ("a second may have passed since", Some(5 * SECOND), None, 2.0),
        ("one was given back after five", None, Some(50), 5.0 / PATIENCE),
    ] {
        let each = each(expected, ended);
        assert!((each / slower - 1.0).abs() < 0.05, "{name}: {each} for {slower}");
    }
    let mut node = Node::new(2, 64);
    node.begin(1);
    node.ages.clear();
    node.tenths += 600;
    node.tenth(0);
    assert_eq!(node.window.room(node.now()).unwrap().each, SECOND, "nothing is held that could end");
}

#[test]
fn what_else_burns_while_nothing_ends_is_no_cost_of_starts_without_bound() {
    let mut node = Node::with(2, 64, 2);
    node.go_on(10, 2);
    node.end();
    node.go_on(3000, 2);
    // Leases of a second on two cores.
    assert_eq!(node.window.seen().cost, 2.0);
}

#[test]
fn looks_that_come_late_do_not_make_starts_cheap() {
    for late in [1, 9, 11, 21, 29, 35, 90] {
        let mut node = Node::new(2, 64);
        node.begin(2);
        // Both cores are busy: one start of two CPU seconds ends each second.
        for _ in 0..60 {
            for tenths in [late, 1] {
                let before = node.tenths / 10;
                node.tenths += tenths - 1;
                node.busy += PERIOD * 2 * (tenths - 1);
                // What has ended is told before the node is looked at.
                for _ in before..(node.tenths + 1) / 10 {
                    node.window.ended(2 * SECOND, node.now());
                    node.window.began(1, node.now());
                }
                node.tenth(2);
            }
        }
        // After a gap that tells nothing, starts are counted of which a part was not seen.
        let least = if late < 30 { 1.7 } else { 0.9 };
        let seen = node.window.seen();
        assert!((least..2.6).contains(&seen.cost), "{late} tenths: {seen:?}");
    }
}

#[test]
fn one_short_lease_does_not_shut_the_window() {
    let mut node = Node::new(2, 64);
    let steady = |node: &mut Node, leases: usize| {
        for _ in 0..leases {
            node.start(10, 1);
        }
    };
    node.tenth(0);
    node.begin(3);
    steady(&mut node, 20);
    let before = node.window.slots();
    node.window.ended(Duration::from_nanos(1), node.now());
    let after = node.window.slots();
    assert!(before >= 6 && 4 * after >= 3 * before - 4, "{before} to {after}");
    steady(&mut node, 20);
    assert!(10 * node.window.slots() >= 9 * before, "{before} to {}", node.window.slots());
}

#[test]
fn a_crowd_that_nobody_looks_at_any_more_is_none() {
    let mut node = Node::with(2, 64, 2);
    node.go_on(30, 20);
    assert_eq!(node.window.why(), Why::Crowded);
    let held = node.window.clone();
    node.window.pass(0, node.now());
    assert_ne!(node.window.why(), Why::Crowded, "nothing is held");
    // Nobody waits any more, and a lease goes on.
    node.window = held;
    node.tenths += 99;
    node.window.pass(1, node.now());
    assert_eq!(node.window.why(), Why::Crowded, "who asks within ten seconds is not let in by it");
    node.tenths += 1;
    node.window.pass(1, node.now());
    assert_eq!((node.window.why(), node.window.seen().runnable), (Why::Unknown, 0.0));
}

#[test]
fn how_long_leases_lasted_is_forgotten_where_nobody_ever_waited() {
    let mut node = Node::new(2, 64);
    node.begin(1);
    node.tenths += 6000;
    node.end();
    assert_eq!(node.window.seen().least, Some(600.0));
    node.tenths += 599;
    node.window.pass(0, node.now());
    assert_eq!(node.window.why(), Why::Measured);
    node.tenths += 1;
    node.window.pass(0, node.now());
    assert_eq!((node.window.why(), node.window.slots()), (Why::Unknown, 64));
}

#[test]
fn a_lull_does_not_make_a_herd_a_new_one() {
    let mut node = Node::with(2, 64, 2);
    node.go_on(10, 2);
    node.end();
    let pace = |node: &Node| 2.0 / node.window.starts.cost;
    node.tenth(2);
    assert_eq!(node.window.seen().pace, pace(&node), "the cores were busy");
    node.tenths += 200;
    node.tenth(0);
    assert_eq!(node.window.seen().pace, pace(&node), "and that is not forgotten after twenty seconds");
}

#[test]
fn what_starts_cost_is_forgotten_also_where_nobody_waits() {
    let mut node = Node::new(2, 64);
    node.tenth(0);
    for _ in 0..30 {
        node.start(10, 0);
    }
    assert!(node.window.seen().pace > 10.0, "{:?}", node.window.seen());
    node.tenths += 600;
    node.window.pass(0, node.now());
    let seen = node.window.seen();
    assert_eq!((seen.cost, seen.pace, seen.least, seen.slots), (FIRST_COST, 1.0, None, 64));
}

#[test]
fn a_crowd_is_seen_however_seldom_the_node_is_looked_at() {
    let mut node = Node::new(2, 64);
    node.begin(2);
    for _ in 0..10 {
        node.tenths += 15;
        node.tenth(40);
        assert_eq!((node.window.why(), node.more()), (Why::Crowded, 0));
    }
}

#[test]
fn the_guess_follows_the_threads_that_are_seen_to_burn() {
    for (threads, before, after) in
        [(0, FIRST_COST, FIRST_COST), (2, LEAST_GUESS, A_THREAD), (4, 2.0, 2.0), (8, MOST_GUESS, MOST_GUESS)]
    {
        let mut node = Node::with(2, 64, 2);
        node.go_on(6, threads);
        assert_eq!(node.window.seen().cost, before, "{threads} threads in two starts, neither over");
        node.end();
        assert!(
            (node.window.starts.guess(2.0) / after - 1.0).abs() < 0.03,
            "{threads} threads, one over: {:?}",
            node.window
        );
    }
}

#[test]
fn starts_of_more_threads_than_cores_are_let_in_more_slowly() {
    // One start after the other, each of so many threads that the cores are busy for a second.
    let pace = |threads: usize| {
        let mut node = Node::new(2, 64);
        node.tenth(0);
        for _ in 0..30 {
            node.start(10, threads);
        }
        1.0 / node.window.room(node.now()).unwrap().each.as_secs_f64()
    };
    for (threads, times) in [(4, 2f64), (8, 4.0), (100, WIDEST)] {
        let slower = pace(2) / pace(threads);
        assert!((slower / times.powf(WIDE) - 1.0).abs() < 0.05, "{threads} threads: {slower} times");
    }
}

#[test]
fn a_move_by_half_is_told_once() {
    let mut node = Node::new(2, 32);
    assert_eq!(node.window.moved(), None);
    node.tenth(0);
    node.begin(2);
    node.go_on(10, 2);
    node.end();
    let moved = node.window.moved().unwrap();
    assert_eq!((moved.from, moved.why), (32, Why::Measured));
    assert!(moved.to <= 16, "{moved:?}");
    assert_eq!(node.window.moved(), None);
}

/// Whatever may happen to a window.
#[derive(Clone, Debug)]
enum Step {
    Began(usize),
    Ended(Duration),
    Gone,
    Undone,
    Expect(Option<Duration>),
    Read(Option<(u64, u64, usize, usize, f64)>, Vec<u32>),
    Pass(usize),
    Later(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let time = prop_oneof![
        Just(Duration::ZERO),
        (0u64..5000).prop_map(Duration::from_millis),
        any::<u32>().prop_map(|s| Duration::from_secs(s.into()))
    ];
    let counter = prop_oneof![0u64..1_000_000, any::<u64>()];
    let reading = (
        counter.clone(),
        counter,
        prop_oneof![0usize..200, any::<usize>()],
        prop_oneof![0usize..130, any::<usize>()],
        any::<f64>(),
    );
    prop_oneof![
        (0usize..300).prop_map(Step::Began),
        time.clone().prop_map(Step::Ended),
        Just(Step::Gone),
        Just(Step::Undone),
        prop::option::of(time.clone()).prop_map(Step::Expect),
        (prop::option::weighted(0.9, reading), prop::collection::vec(any::<u32>(), 0..20))
            .prop_map(|(r, ages)| Step::Read(r, ages)),
        (0usize..5000).prop_map(Step::Pass),
        time.prop_map(Step::Later),
    ]
}

proptest! {
    /// Counters that go back, cores that come and go, time that stands still, garbage.
    #[test]
    fn between_one_and_the_most_whatever_happens(cores: usize, most in 0usize..5000, steps in prop::collection::vec(step(), 0..60)) {
        let mut window = Window::new(cores, most);
        let mut now = zero();
        for step in steps {
            match step {
                Step::Began(count) => window.began(count, now),
                Step::Ended(age) => window.ended(age, now),
                Step::Gone => window.gone(now),
                Step::Undone => window.undone(),
                Step::Expect(age) => window.expect(age),
                Step::Read(reading, ages) => {
                    let reading = reading.map(|(busy, idle, runnable, cores, stalled)| Reading {
                        at: now, busy: Duration::from_millis(busy), idle: Duration::from_millis(idle), runnable, cores, stalled,
                    });
                    window.read(reading, ages.into_iter().map(|age| Duration::from_secs(age.into())), now);
                }
                Step::Pass(held) => window.pass(held, now),
                Step::Later(time) => now = now.checked_add(time).unwrap_or(now),
            }
            prop_assert!((1..=most.max(1)).contains(&window.slots()), "{window:?}");
            let seen = window.seen();
            prop_assert!(seen.cost.is_finite() && seen.cost > 0.0 && (0.0..=1.0).contains(&seen.idle) && seen.runnable.is_finite(), "{seen:?}");
            window.moved();
            window.pass(0, now);
            prop_assert!((0.0..=window.cores).contains(&window.saved), "{window:?}");
            if let Some(room) = window.room(now) {
                prop_assert!(room.more >= 1, "there is always room for one: {window:?}");
            }
            prop_assert!(window.due(now) <= after(now, PERIOD), "{window:?}");
        }
    }
}
