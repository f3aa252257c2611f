//! The check that readiness is of this boot. After a restart the API server shows the node and its
//! pods as they were before, for up to a minute after a power loss.
//!
//! The file does not know DaemonSets, or where the machine's values come from.

use std::time::Duration;

/// The value of `--boot-check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootCheckMode {
    On,
    Off,
    /// On from the moment that the API server's boot ID of this node has equalled this machine's.
    /// The two never match if health runs in a virtual machine of its own.
    Auto,
}

/// Seconds that the wall clock may move against the uptime without counting as stepped, and that a
/// container may start before the boot and count as of this boot. Times of the API are whole
/// seconds, and a clock that is slewed stays far below this value within any grace period.
const TOLERANCE: i64 = 2;

/// The machine at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `/proc/sys/kernel/random/boot_id`; empty if it cannot be read.
    pub boot_id: String,
    pub uptime: Duration,
    /// Seconds since 1970 by the wall clock.
    pub wall: i64,
}

impl Machine {
    pub(crate) fn booted_at(&self) -> i64 {
        self.wall.saturating_sub_unsigned(self.uptime.as_secs())
    }
}

/// The limit between readiness of this boot and of an earlier one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootCutoff {
    /// The node object is from before this boot, and so are all of its pods.
    pub node_is_old: bool,
    /// Containers that started before this second ran in an earlier boot. `None` if the check is
    /// off or the wall clock was stepped since the boot.
    pub oldest_start: Option<i64>,
}

impl BootCutoff {
    /// Whether a pod's readiness is from an earlier boot. A container that is older than its pod
    /// was started before the clock was set, so its start time is invalid.
    pub fn is_old(&self, started: Option<i64>, created: Option<i64>) -> bool {
        let (Some(oldest), Some(started)) = (self.oldest_start, started) else {
            return self.node_is_old;
        };
        let is_comparable = created.is_none_or(|created| started + TOLERANCE >= created);
        self.node_is_old || (is_comparable && started < oldest)
    }
}

#[derive(Clone, Debug)]
pub struct BootCheck {
    mode: BootCheckMode,
    grace: Duration,
    /// The boot by the wall clock when this check was created.
    booted_at: i64,
    clock_was_stepped: bool,
    ids_have_matched: bool,
}

impl BootCheck {
    pub fn new(mode: BootCheckMode, grace: Duration, machine: &Machine) -> BootCheck {
        BootCheck {
            mode,
            grace,
            booted_at: machine.booted_at(),
            clock_was_stepped: false,
            ids_have_matched: false,
        }
    }

    fn is_over(&self, machine: &Machine) -> bool {
        self.mode == BootCheckMode::Off || machine.uptime >= self.grace
    }

    /// The time until the end of the grace period.
    pub fn remaining(&self, machine: &Machine) -> Option<Duration> {
        (!self.is_over(machine)).then(|| self.grace.saturating_sub(machine.uptime))
    }

    /// Compares the boot ID of the node object with the machine.
    pub fn update(&mut self, node_boot_id: &str, machine: &Machine) -> BootCutoff {
        let is_same = !node_boot_id.is_empty() && node_boot_id == machine.boot_id;
        let moved = machine.booted_at().abs_diff(self.booted_at);
        self.ids_have_matched |= is_same;
        self.clock_was_stepped |= moved > TOLERANCE.unsigned_abs();
        let is_on = self.mode == BootCheckMode::On || self.ids_have_matched;
        if self.is_over(machine) || !is_on {
            return BootCutoff::default();
        }
        let oldest_start = (!self.clock_was_stepped).then_some(self.booted_at - TOLERANCE);
        BootCutoff { node_is_old: !is_same, oldest_start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_800_000_000;

    fn machine(uptime: u64) -> Machine {
        Machine {
            boot_id: "this".to_owned(),
            uptime: Duration::from_secs(uptime),
            wall: NOW + uptime as i64,
        }
    }

    fn boot(mode: BootCheckMode) -> BootCheck {
        BootCheck::new(mode, Duration::from_secs(300), &machine(10))
    }

    #[test]
    fn each_mode_of_the_check() {
        let none = BootCutoff::default();
        let of_this = BootCutoff { node_is_old: false, oldest_start: Some(NOW - 2) };
        let before = BootCutoff { node_is_old: true, oldest_start: Some(NOW - 2) };
        for (check, shown, uptime, expected) in [
            (BootCheckMode::On, "this", 20, of_this),
            (BootCheckMode::On, "other", 20, before),
            (BootCheckMode::On, "", 20, before),
            (BootCheckMode::On, "other", 299, before),
            (BootCheckMode::On, "other", 300, none),
            (BootCheckMode::Off, "other", 20, none),
            (BootCheckMode::Auto, "other", 20, none),
            (BootCheckMode::Auto, "this", 20, of_this),
        ] {
            assert_eq!(
                boot(check).update(shown, &machine(uptime)),
                expected,
                "{check:?} {shown} {uptime}"
            );
        }
        let mut auto = boot(BootCheckMode::Auto);
        assert_eq!(auto.update("this", &machine(20)), of_this);
        assert_eq!(
            auto.update("other", &machine(21)),
            before,
            "IDs that matched once are compared from then on"
        );
        assert_eq!(auto.update("other", &machine(300)), none);
    }

    #[test]
    fn an_unreadable_boot_id_matches_no_node() {
        let unreadable = Machine { boot_id: String::new(), ..machine(20) };
        assert!(boot(BootCheckMode::On).update("", &unreadable).node_is_old);
    }

    #[test]
    fn a_stepped_clock_disables_the_comparison() {
        let mut boot = boot(BootCheckMode::On);
        for (step, expected) in [(0, Some(NOW - 2)), (2, Some(NOW - 2)), (3, None), (0, None)] {
            let machine = Machine { wall: NOW + 20 + step, ..machine(20) };
            assert_eq!(boot.update("this", &machine).oldest_start, expected, "{step}");
        }
    }

    #[test]
    fn container_start_times() {
        let cutoff = BootCutoff { node_is_old: false, oldest_start: Some(1000) };
        for (started, created, expected) in [
            (None, None, false),
            (Some(999), None, true),
            (Some(1000), None, false),
            (Some(999), Some(500), true),
            (Some(999), Some(1001), true),
            (Some(999), Some(1002), false),
            (Some(20), Some(500), false),
        ] {
            assert_eq!(cutoff.is_old(started, created), expected, "{started:?} {created:?}");
        }
        assert!(BootCutoff { node_is_old: true, oldest_start: None }.is_old(None, None));
    }

    #[test]
    fn remaining_grace() {
        assert_eq!(boot(BootCheckMode::On).remaining(&machine(20)), Some(Duration::from_secs(280)));
        assert_eq!(boot(BootCheckMode::On).remaining(&machine(300)), None);
        assert_eq!(boot(BootCheckMode::Off).remaining(&machine(20)), None);
    }

    proptest! {
        #[test]
        fn the_check_ends_with_the_grace(uptime in 0u64..1000, grace in 0u64..1000, shown in "this|other|") {
            let mut boot = BootCheck::new(BootCheckMode::On, Duration::from_secs(grace), &machine(0));
            let cutoff = boot.update(&shown, &machine(uptime));
            prop_assert!(uptime < grace || cutoff == BootCutoff::default());
            prop_assert!(uptime >= grace || cutoff.node_is_old == (shown != "this"));
        }
    }
}
