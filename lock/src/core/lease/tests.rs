//! Leases and the probes of their ports, in named cases.

use super::*;
use crate::core::tests::{MILLI, NANO, SECOND, zero};
use crate::core::time::FAR;

const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A lease of ten seconds whose port had this baseline.
fn lease(id: u64, baseline: ProbeResult, since: Instant) -> Lease {
    Lease {
        id: LeaseId(id),
        holder: Some(id.to_string().into()),
        address: [10, 0, 0, 1].into(),
        since,
        deadline: since + 10 * SECOND,
        watch: Some(Box::new(PortWatch::new(Ready::parse("tcp:80").unwrap(), baseline, since))),
        is_quiet: false,
        has_moved: false,
        is_confirmed: false,
    }
}

fn leases(baselines: &[ProbeResult], since: Instant) -> Leases {
    let mut leases = Leases::default();
    for (id, baseline) in (1..).zip(baselines) {
        leases.insert(lease(id, *baseline, since));
    }
    leases
}

fn probed(
    leases: &mut Leases,
    target: &ProbeTarget,
    result: ProbeResult,
    now: Instant,
) -> ProbeEffect {
    leases.finish_probe(target, result, MILLI, LONGEST_PAUSE, now)
}

#[test]
fn leases_expire_in_the_order_of_their_deadlines() {
    let start = zero();
    let mut leases = Leases::default();
    for (id, seconds) in [(1, 5), (2, 3), (3, 5), (4, 9)] {
        leases.insert(Lease {
            deadline: start + seconds * SECOND,
            watch: None,
            ..lease(id, ProbeResult::Open, start)
        });
    }
    assert_eq!(leases.poll_at(start), Some(start + 3 * SECOND));
    assert_eq!(leases.remove(LeaseId(2)).map(|lease| lease.id), Some(LeaseId(2)));
    assert_eq!(leases.remove(LeaseId(2)), None);
    assert_eq!(leases.expire_one(start + 5 * SECOND - NANO), None);
    let expired: Vec<_> = std::iter::from_fn(|| leases.expire_one(start + 5 * SECOND))
        .map(|lease| lease.id.0)
        .collect();
    assert_eq!(expired, [1, 3]);
    assert!(leases.of("4").is_some() && leases.of("1").is_none() && leases.len() == 1);
}

#[test]
fn a_port_that_is_open_before_the_application_runs_ends_no_lease() {
    let start = zero();
    for baseline in [ProbeResult::Open, ProbeResult::Barred("a gateway")] {
        let mut leases = leases(&[baseline], start);
        assert!(!leases.iter().next().unwrap().is_watched());
        assert_eq!(leases.begin_probe(start + 9 * SECOND), None);
        assert_eq!(leases.poll_at(start), Some(start + 10 * SECOND));
    }
}

#[test]
fn probes_come_after_a_tenth_of_the_age_and_the_first_success_ends_the_lease() {
    let start = zero();
    let mut leases = leases(&[ProbeResult::Closed], start);
    // The age at a probe, and the pause to the next, in milliseconds.
    for (age, pause) in [(0, 20), (100, 20), (1000, 100), (4000, 400), (9000, 500)] {
        let now = start + age * MILLI;
        if age > 0 {
            let target = leases.begin_probe(now).expect("a probe is due");
            assert!(!leases.has_due_probe(now), "one probe at a time");
            assert_eq!(leases.poll_at(now), Some(start + 10 * SECOND), "its result is awaited");
            assert_eq!(
                probed(&mut leases, &target, ProbeResult::Closed, now),
                ProbeEffect::NoChange
            );
        }
        assert_eq!(leases.poll_at(now), Some(now + pause * MILLI), "{age}");
        assert_eq!(leases.begin_probe(now + pause * MILLI - NANO), None, "{age}");
    }
    let now = start + 9600 * MILLI;
    assert!(leases.poll_at(now) > Some(now), "a probe that is due waits for a prober");
    let target = leases.begin_probe(now).unwrap();
    assert_eq!(probed(&mut leases, &target, ProbeResult::Open, now), ProbeEffect::EndsLease);
}

#[test]
fn a_port_that_was_never_closed_ends_the_lease_only_once_an_application_can_run() {
    let start = zero();
    for (second, age, expected) in [
        (ProbeResult::Silent, EARLIEST_START - NANO, ProbeEffect::PortIgnored),
        (ProbeResult::Silent, EARLIEST_START, ProbeEffect::EndsLease),
        (ProbeResult::Closed, EARLIEST_START - NANO, ProbeEffect::EndsLease),
    ] {
        let mut leases = leases(&[ProbeResult::Silent], start);
        for (result, at, expected) in
            [(second, 70 * MILLI, ProbeEffect::NoChange), (ProbeResult::Open, age, expected)]
        {
            let target = leases.begin_probe(start + at).unwrap();
            assert_eq!(
                probed(&mut leases, &target, result, start + at),
                expected,
                "{second:?} {at:?}"
            );
        }
        assert_eq!(leases.iter().next().unwrap().is_watched(), expected == ProbeEffect::EndsLease);
    }
}

#[test]
fn ports_that_hang_do_not_delay_the_probes_of_others() {
    let start = zero();
    let mut leases = leases(&[ProbeResult::Closed; 5], start);
    let then = start + SECOND;
    let targets: Vec<_> = std::iter::from_fn(|| leases.begin_probe(then)).collect();
    assert_eq!(targets.len(), 5);
    for (n, target) in targets.iter().enumerate() {
        let took = if n < 4 { SLOW_PROBE } else { SLOW_PROBE - NANO };
        leases.finish_probe(target, ProbeResult::Silent, took, LONGEST_PAUSE, then);
    }
    let later = then + SECOND;
    let probes: Vec<_> =
        std::iter::from_fn(|| leases.begin_probe(later)).map(|target| target.id).collect();
    assert_eq!(probes.len(), SLOW_PROBES + 1, "two of the slow ports and the fast one");
    assert!(probes.contains(&targets[4].id) && !leases.has_due_probe(later));
}

#[test]
fn a_result_from_an_old_address_or_of_an_old_probe_is_ignored() {
    let start = zero();
    let mut leases = leases(&[ProbeResult::Closed], start);
    let now = start + SECOND;
    let target = leases.begin_probe(now).unwrap();
    leases.get_mut(LeaseId(1)).unwrap().address = [10, 0, 0, 2].into();
    assert_eq!(probed(&mut leases, &target, ProbeResult::Open, now), ProbeEffect::NoChange);
    let moved = ProbeTarget { address: [10, 0, 0, 2].into(), ..target };
    assert_eq!(probed(&mut leases, &moved, ProbeResult::Closed, now), ProbeEffect::NoChange);
    assert_eq!(
        probed(&mut leases, &moved, ProbeResult::Open, now),
        ProbeEffect::NoChange,
        "no probe is under way"
    );
    leases.remove(LeaseId(1));
    assert_eq!(probed(&mut leases, &moved, ProbeResult::Open, now), ProbeEffect::NoChange);
}

#[test]
fn a_duration_beyond_the_clock_ends_in_a_century() {
    let start = zero();
    assert_eq!(after(start, SECOND), start + SECOND);
    assert_eq!(after(start, Duration::MAX), start + FAR);
}
