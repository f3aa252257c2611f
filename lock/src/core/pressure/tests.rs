//! The pressure gate in named cases and in virtual time.

use super::*;
use crate::core::tests::{NANO, SECOND, zero};
use proptest::prelude::*;

const FLOOR: Duration = Duration::from_secs(20);

fn pressure(thresholds: [u8; 3]) -> Pressure {
    Pressure::new(PressureLimits { thresholds: thresholds.map(NonZeroU8::new), floor: FLOOR })
}

fn is_closed(pressure: &Pressure, now: Instant) -> bool {
    matches!(pressure.state(now), PressureState::Closed { .. })
}

#[test]
fn off_is_open_and_asks_for_no_reading() {
    let start = zero();
    let mut off = pressure([0; 3]);
    assert!(!off.limits.is_on() && !off.is_due(start) && off.poll_at(start).is_none());
    assert_eq!(off.read([Some(10_000); 3], start), None);
    assert_eq!((off.state(start), off.reason(start)), (PressureState::Open, None));
}

#[test]
fn closes_above_the_threshold_and_opens_ten_points_lower() {
    for (threshold, opens) in
        [(80, 7000), (100, 9000), (20, 1000), (15, 750), (10, 500), (5, 250), (1, 50)]
    {
        let start = zero();
        let mut cpu = pressure([threshold, 0, 0]);
        let above = u16::from(threshold) * 100;
        let steps = [
            (above, false),
            (above + 1, true),
            (above, true),
            (opens + 1, true),
            (opens, false),
            (above, false),
        ];
        for (at, (reading, closed)) in (0..).zip(steps) {
            let now = start + SECOND * at;
            cpu.read([Some(reading), Some(10_000), None], now);
            assert_eq!(is_closed(&cpu, now), closed, "{reading} with {threshold}");
        }
    }
}

#[test]
fn each_resource_has_its_own_threshold() {
    let start = zero();
    let mut all = pressure([80, 20, 5]);
    assert_eq!(all.read([Some(7900), Some(1900), Some(400)], start), None);
    assert_eq!(all.read([Some(7900), Some(1900), Some(501)], start + SECOND), Some(true));
    assert_eq!(
        all.reason(start + 2 * SECOND).as_deref(),
        Some(
            "the node is under pressure: memory 5.01% (closes above 5%, opens at 2.5%); one start begins in 19s at the latest"
        )
    );
    assert_eq!(
        all.read([Some(8100), Some(1900), Some(0)], start + 2 * SECOND),
        None,
        "another resource closes the gate"
    );
    assert!(
        all.reason(start + 2 * SECOND)
            .unwrap()
            .contains("cpu 81% (closes above 80%, opens at 70%);")
    );
    assert_eq!(all.read([Some(7000), Some(0), Some(0)], start + 3 * SECOND), Some(false));
}

#[test]
fn an_unreadable_resource_closes_no_gate() {
    let start = zero();
    let mut cpu = pressure([50, 0, 0]);
    assert_eq!(cpu.read([None; 3], start), None);
    assert_eq!(cpu.state(start), PressureState::Open);
    cpu.read([Some(9000), None, None], start + SECOND);
    assert!(is_closed(&cpu, start + SECOND));
    assert_eq!(cpu.read([None; 3], start + 2 * SECOND), Some(false));
    assert_eq!(cpu.state(start + 2 * SECOND), PressureState::Open);
}

#[test]
fn one_starts_in_each_floor_exactly() {
    let start = zero();
    let mut cpu = pressure([50, 0, 0]);
    let mut now = start;
    let high = |cpu: &mut Pressure, now| cpu.read([Some(9000), None, None], now);
    for n in 1..5 {
        high(&mut cpu, now);
        assert_eq!(cpu.state(now + FLOOR - NANO), PressureState::Closed { until: now + FLOOR });
        now += FLOOR;
        high(&mut cpu, now);
        assert_eq!(cpu.state(now), PressureState::One);
        cpu.start(now);
        assert_eq!(
            (cpu.state(now), cpu.starts()),
            (PressureState::Closed { until: now + FLOOR }, n)
        );
    }
    cpu.undo_start(now);
    assert_eq!(
        (cpu.state(now), cpu.starts()),
        (PressureState::One, 3),
        "an undone start begins again"
    );
    cpu.undo_start(now);
    assert_eq!(cpu.starts(), 3, "once");
}

#[test]
fn starts_through_an_open_gate_do_not_count_for_the_floor() {
    let start = zero();
    let mut cpu = pressure([50, 0, 0]);
    cpu.read([Some(0), None, None], start);
    cpu.start(start);
    cpu.read([Some(9000), None, None], start + SECOND);
    assert_eq!(cpu.state(start + SECOND), PressureState::Closed { until: start + SECOND + FLOOR });
    cpu.undo_start(start);
    assert_eq!(cpu.starts(), 0);
}

#[test]
fn the_floor_counts_anew_after_a_long_opening_only() {
    for (open_for, begins) in [(FLOOR - NANO, false), (FLOOR, true)] {
        let start = zero();
        let mut cpu = pressure([50, 0, 0]);
        cpu.read([Some(9000), None, None], start);
        let opened = start + SECOND;
        cpu.read([Some(0), None, None], opened);
        let closed = opened + open_for;
        cpu.read([Some(9000), None, None], closed);
        let expected = if begins { closed + FLOOR } else { start + FLOOR };
        let expected = if expected <= closed {
            PressureState::One
        } else {
            PressureState::Closed { until: expected }
        };
        assert_eq!(cpu.state(closed), expected, "{open_for:?}");
    }
}

#[test]
fn an_old_reading_closes_no_gate_and_has_no_hysteresis() {
    let start = zero();
    let mut cpu = Pressure::new(PressureLimits {
        thresholds: [NonZeroU8::new(50), None, None],
        floor: 600 * SECOND,
    });
    cpu.read([Some(9000), None, None], start);
    assert!(is_closed(&cpu, start + MEMORY - NANO));
    assert_eq!(cpu.state(start + MEMORY), PressureState::Open);
    assert_eq!(cpu.read([Some(4500), None, None], start + MEMORY), Some(false));
}

#[test]
fn a_start_by_an_old_reading_does_not_open_the_gate_for_good() {
    let start = zero();
    let mut cpu = pressure([50, 0, 0]);
    cpu.read([Some(9000), None, None], start);
    let later = start + MEMORY;
    cpu.start(later);
    cpu.read([Some(9000), None, None], later);
    assert_eq!(cpu.state(later), PressureState::Closed { until: later + FLOOR });
}

#[test]
fn read_once_a_second() {
    let start = zero();
    let mut cpu = pressure([50, 0, 0]);
    assert!(cpu.is_due(start));
    cpu.read([None; 3], start);
    assert!(!cpu.is_due(start + SECOND - NANO) && cpu.is_due(start + SECOND));
    assert_eq!(cpu.poll_at(start), Some(start + SECOND));
}

fn readings() -> impl Strategy<Value = Readings> {
    // Garbage in a file gives no reading, and any number is a reading.
    let one =
        || prop_oneof![Just(None), any::<u16>().prop_map(Some), (0u16..=10_000).prop_map(Some)];
    [one(), one(), one()]
}

proptest! {
    /// A client that asks at least once in a floor starts within the floor and the time between two
    /// requests.
    #[test]
    fn never_closed_for_longer_than_the_floor_without_a_start(
        thresholds in [0u8..=100, 0u8..=100, 0u8..=100],
        steps in prop::collection::vec((1u64..20_000, readings(), prop::bool::weighted(0.3)), 1..200),
    ) {
        let mut gate = pressure(thresholds);
        let mut now = zero();
        let mut last_start = now;
        for (millis, readings, asks) in steps {
            // A reading at least each second, as while a client waits.
            let next = now + Duration::from_millis(millis);
            while now + SECOND < next {
                now += SECOND;
                gate.read(readings, now);
            }
            now = next;
            gate.read(readings, now);
            match gate.state(now) {
                PressureState::Closed { until } => prop_assert!(until <= now + FLOOR && until > now),
                PressureState::One => prop_assert!(gate.limits.is_on()),
                PressureState::Open => {}
            }
            if asks || now >= last_start + FLOOR {
                if is_closed(&gate, now) {
                    // Closed anew after an opening of a whole floor at most.
                    prop_assert!(now < last_start + 2 * FLOOR + SECOND * 20, "{:?}", now - last_start);
                } else {
                    gate.start(now);
                    last_start = now;
                }
            }
        }
    }

    /// A client that asks at each reading starts within exactly the floor.
    #[test]
    fn a_waiter_that_asks_at_each_reading_starts_within_the_floor(
        threshold in 1u8..=100, steps in prop::collection::vec(readings(), 1..300),
    ) {
        let mut gate = pressure([threshold, 0, 0]);
        let mut now = zero();
        let mut last_start = now;
        for readings in steps {
            now += SECOND;
            gate.read(readings, now);
            if is_closed(&gate, now) {
                prop_assert!(now - last_start <= FLOOR + SECOND, "{:?}", now - last_start);
            } else {
                let before = gate.starts();
                gate.start(now);
                prop_assert_eq!(gate.starts() - before, u64::from(is_closed(&gate, now)));
                last_start = now;
            }
        }
    }

    /// It changes only where a reading crosses one of the two bounds.
    #[test]
    fn hysteresis(threshold in 1u8..=100, steps in prop::collection::vec(prop::option::weighted(0.9, 0u16..=10_000), 1..100)) {
        let mut gate = pressure([0, threshold, 0]);
        let (closes, opens) = (u16::from(threshold) * 100, opens_at(NonZeroU8::new(threshold).unwrap()));
        prop_assert!(opens < closes && opens >= closes.saturating_sub(1000));
        let mut now = zero();
        let mut closed = false;
        for reading in steps {
            now += SECOND;
            closed = reading.is_some_and(|reading| reading > closes || (closed && reading > opens));
            gate.read([None, reading, None], now);
            prop_assert_eq!(gate.state(now) != PressureState::Open, closed);
            prop_assert_eq!(gate.resources().next().unwrap().closes_gate, closed);
        }
    }
}
