use super::*;
use crate::herd::Phase;

#[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
pub fn zero() -> Instant {
    Instant::now()
}

/// There from the beginning, without latency.
pub fn burning(threads: usize, each: f64) -> Application {
    Application {
        arrives: 0.0,
        latency: 0.0,
        overhead: 0.0,
        start: vec![Phase::Burn { threads, each }],
        hangs: false,
        never: false,
    }
}

/// Killed after six seconds, with leases that end at ready.
pub fn node(cores: usize, slots: Slots) -> Node {
    Node {
        cores,
        background: 0,
        batch: 0,
        frozen: false,
        deadline: 6.0,
        back_off: 10.0,
        slots,
        duration: 120.0,
        ready: true,
        cut_off: 1000.0,
    }
}

fn fixed(cores: usize, slots: usize) -> Node {
    node(cores, Slots::Fixed(slots))
}

/// When each was ready, to the millisecond.
fn ready(node: &Node, herd: &[Application]) -> Vec<Option<u64>> {
    run(node, herd, zero())
        .ready
        .iter()
        .map(|at| at.map(|at| (at * 1000.0).round() as u64))
        .collect()
}

#[test]
fn those_who_start_share_the_cores() {
    let second = || burning(1, 1.0);
    for (cores, slots, background, herd, expected) in [
        (1, 2, 0, vec![second(), second()], [2000, 2000]),
        (2, 2, 0, vec![second(), second()], [1000, 1000]),
        // Half a core each, until the shorter one is ready.
        (1, 2, 0, vec![burning(1, 0.5), second()], [1000, 1500]),
        // Three threads on two cores; the last one has one core, as many threads as it
        // has.
        (2, 2, 0, vec![burning(2, 1.0), second()], [1500, 1500]),
        (1, 1, 1, vec![second(), burning(1, 0.0)], [2000, 2100]),
    ] {
        let node = Node { background, ..fixed(cores, slots) };
        assert_eq!(ready(&node, &herd), expected.map(Some), "{node:?} {herd:?}");
    }
}

#[test]
fn a_phase_of_waiting_burns_nothing() {
    let waits = Application {
        start: vec![Phase::Wait(1.0), Phase::Burn { threads: 1, each: 1.0 }],
        ..burning(1, 0.0)
    };
    assert_eq!(ready(&fixed(1, 2), &[waits, burning(1, 1.5)]), [Some(2500), Some(2000)]);
}

#[test]
fn a_lease_that_ends_at_ready_is_seen_to_a_little_later() {
    let herd = [burning(1, 1.0), burning(1, 1.0)];
    // A twentieth of the lease's age passes before lock looks.
    assert_eq!(ready(&fixed(2, 1), &herd), [Some(1000), Some(2050)]);
    let by_time = Node { ready: false, duration: 10.0, ..fixed(2, 1) };
    assert_eq!(ready(&by_time, &herd), [Some(1000), Some(11_000)]);
}

#[test]
fn latency_lies_between_the_grant_and_the_start() {
    let late = |arrives| Application { arrives, latency: 0.8, ..burning(1, 1.0) };
    let herd = [late(0.0), late(0.5)];
    assert_eq!(
        ready(&fixed(1, 2), &herd),
        [Some(2300), Some(2800)],
        "half a second each has the core alone"
    );
    let result = run(&fixed(1, 1), &herd, zero());
    let expected = 1.8 + 1.8 * SEEN_LATE - 0.5;
    assert!((result.waits[1].unwrap() - expected).abs() < 1e-6, "{result:?}");
}

#[test]
fn who_is_not_ready_at_the_deadline_is_killed_and_starts_anew_later_each_time() {
    let result = run(&Node { cut_off: 55.0, ..fixed(1, 1) }, &[burning(1, 6.1)], zero());
    // At 6; then between 12.5 and 14.5, for it starts anew at once; then 10 s later, and the time
    // of a restart and a start.
    assert_eq!((result.home, result.kills), (None, 3));
    assert!((result.wasted - 18.0).abs() < 1e-6, "{result:?}");
    let before = run(&Node { cut_off: 28.9, ..fixed(1, 1) }, &[burning(1, 6.1)], zero());
    assert_eq!(before.kills, 2, "10 s and three starts are not over by then");
    assert_eq!(ready(&fixed(1, 1), &[burning(1, 5.9)]), [Some(5900)]);
}

#[test]
fn who_was_killed_gets_ready_where_it_has_the_core_alone() {
    // The second is ready after 5.8 s, and has left the first 0.2 s alone: 3.1 s of its work are
    // lost. It starts anew half a second to 2.5 s later.
    let herd = [burning(1, 4.0), burning(1, 2.9)];
    let result = run(&fixed(1, 2), &herd, zero());
    assert!((result.wasted - 3.1).abs() < 1e-6 && result.kills == 1, "{result:?}");
    assert!(result.home.is_some_and(|home| (10.5..12.5).contains(&home)), "{result:?}");
}

#[test]
fn one_that_hangs_holds_its_slot_until_its_second_start() {
    let herd = [Application { hangs: true, ..burning(1, 1.0) }, burning(1, 1.0)];
    let alone = run(&fixed(1, 1), &herd, zero());
    let first = alone.ready[0].unwrap();
    assert!((7.5..9.5).contains(&first), "killed at 6, and started anew soon: {alone:?}");
    assert!(alone.ready[1].unwrap() > first + 1.0, "{alone:?}");
    assert_eq!((alone.kills, alone.wasted), (0, 0.0), "it had to be killed");
    assert_eq!(run(&fixed(1, 2), &herd, zero()).ready[1], Some(1.0));
}

#[test]
fn an_application_that_never_gets_ready_delays_no_other() {
    let herd = [burning(1, 1.0), Application { never: true, ..burning(1, 1.0) }];
    let result = run(&fixed(2, 2), &herd, zero());
    assert_eq!((result.home, &result.ready[1], result.kills), (Some(1.0), &None, 0));
}

#[test]
fn first_come_first_served() {
    for pods in [5, 60] {
        let herd: Vec<Application> = (0..pods)
            .map(|nth| Application { arrives: nth as f64 / 1000.0, ..burning(1, 0.1) })
            .collect();
        let ready = ready(&fixed(2, 1), &herd);
        assert!(ready.is_sorted() && ready[0].is_some(), "{ready:?}");
    }
}

#[test]
fn the_automatic_limit_keeps_its_floor_and_goes_beyond() {
    let herd = crate::herd::Mix::Cpu.herd(40, 2, 1.0, 1);
    let auto = Slots::Auto { cores: 2, most: 32 };
    let result = run(&node(2, auto), &herd, zero());
    assert_eq!(result.kills, 0);
    assert!((4..=10).contains(&result.peak), "{result:?}");
    for node in [Node { frozen: true, ..node(2, auto) }, Node { batch: 6, ..node(2, auto) }] {
        let one_a_core = Node { slots: Slots::Fixed(2), ..node.clone() };
        let (auto, fixed) = (run(&node, &herd, zero()), run(&one_a_core, &herd, zero()));
        assert!(
            auto.peak <= 3 && auto.home.unwrap() <= 1.02 * fixed.home.unwrap(),
            "{auto:?} {fixed:?}"
        );
    }
}

#[test]
fn low_weight_batch_threads_do_not_hold_a_herd_back() {
    // 24 of them on eight cores, and 110 starts of half a CPU second, all at once.
    let herd: Vec<Application> =
        (0..110).map(|_| Application { latency: 0.75, ..burning(1, 0.5) }).collect();
    let home = |slots| run(&Node { batch: 24, ..node(8, slots) }, &herd, zero());
    let (auto, fixed) = (home(Slots::Auto { cores: 8, most: 128 }), home(Slots::Fixed(8)));
    println!("auto {:?}, one a core {:?}", auto.home, fixed.home);
    assert!(auto.home.unwrap() <= 1.02 * fixed.home.unwrap() && auto.kills == 0, "{auto:?}");
}

#[test]
fn low_weight_takes_what_is_left() {
    let node = Node { batch: 4, ..fixed(2, 2) };
    let home = run(&node, &[burning(1, 1.0)], zero()).home.unwrap();
    assert!((1.0..1.05).contains(&home), "{home}");
    // Beside as many threads as cores, and their weight.
    let home = run(&node, &[burning(1, 1.0), burning(1, 1.0)], zero()).home.unwrap();
    assert!((1.05..1.06).contains(&home), "{home}");
    assert_eq!(run(&Node { batch: 2, ..fixed(4, 1) }, &[burning(2, 1.0)], zero()).busy, 4.0);
}

#[test]
fn the_kubelet_burns_before_the_question_and_after_the_grant() {
    let start = Application { latency: 0.5, overhead: 0.8, ..burning(1, 1.0) };
    let result = run(&fixed(2, 1), &[start.clone(), start], zero());
    assert_eq!(result.ready[0], Some(0.4 + 0.5 + 0.4 + 1.0));
    assert!(result.waits[0] == Some(0.0) && (result.busy - 3.6).abs() < 1e-9, "{result:?}");
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn phases() -> impl Strategy<Value = Vec<Phase>> {
        let phase = prop_oneof![
            (0.0..1.0).prop_map(Phase::Wait),
            (1usize..6, 0.0..1.0).prop_map(|(threads, each)| Phase::Burn { threads, each }),
        ];
        prop::collection::vec(phase, 1..4)
    }

    fn application() -> impl Strategy<Value = Application> {
        let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
        (0.0..8.0, prop_oneof![Just(0.0), 0.0..3.0], phases(), flags).prop_map(
            |(arrives, latency, start, (hangs, never))| {
                let overhead = if latency > 2.0 { 0.8 } else { 0.0 };
                Application { arrives, latency, overhead, start, hangs, never }
            },
        )
    }

    fn slots() -> impl Strategy<Value = Slots> {
        let auto = (1usize..5, 1usize..40).prop_map(|(cores, most)| Slots::Auto { cores, most });
        prop_oneof![(1usize..12).prop_map(Slots::Fixed), auto]
    }

    proptest! {
        #[test]
        fn work_is_conserved_and_time_passes(
            herd in prop::collection::vec(application(), 1..30),
            (cores, background) in (1usize..9, 0usize..3),
            slots in slots(),
            (ready, duration) in (any::<bool>(), 1.0..20.0),
        ) {
            let node = Node { background, ready, duration, cut_off: 300.0, ..node(cores, slots) };
            let result = run(&node, &herd, zero());
            prop_assert_eq!(&result, &run(&node, &herd, zero()), "the same once more");

            let mut work = result.wasted;
            for (application, ready) in herd.iter().zip(&result.ready) {
                let Some(ready) = ready else { continue };
                work += application.work();
                prop_assert!(*ready >= application.arrives + application.alone() - 1e-6, "{} {:?}", ready, application);
                prop_assert!(!application.never);
            }
            let hopeful = run_while_hopeful(&node, &herd, zero());
            prop_assert_eq!(hopeful.home, result.home);
            if result.home.is_some() {
                prop_assert_eq!(&hopeful, &result);
            }
            let end = result.home.unwrap_or(node.cut_off);
            prop_assert!(result.busy >= work - 1e-6, "{} done, {} burnt", work, result.busy);
            prop_assert!(result.busy <= end * cores as f64 + 1e-6, "{} burnt by {}", result.busy, end);
        }

        #[test]
        fn never_more_leases_than_slots(
            herd in prop::collection::vec(application(), 1..30),
            slots in 1usize..6,
            duration in 0.5..5.0,
        ) {
            let herd: Vec<_> = herd.into_iter().map(|it| Application { overhead: 0.0, ..it }).collect();
            let node = Node { ready: false, duration, cut_off: 1000.0, ..fixed(4, slots) };
            let result = run(&node, &herd, zero());
            let granted = herd.iter().zip(&result.waits).filter_map(|(it, waited)| Some(it.arrives + (*waited)?));
            let mut granted: Vec<f64> = granted.collect();
            granted.sort_by(f64::total_cmp);
            for pair in granted.windows(slots + 1) {
                prop_assert!(pair[slots] - pair[0] >= duration - 1e-6, "{:?}", pair);
            }
        }
    }
}
