//! Which readiness is of this boot: what the API shows of a node that has just come up again may be
//! from before, for up to a minute after a power loss.
//!
//! The pure part compares; [`Machine`] reads what the kernel says. Does not know of DaemonSets.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use psl::duration;

/// Whether readiness has to be of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// From the start.
    On,
    /// Never.
    Off,
    /// As soon as the API's boot ID of this node has once been this machine's: where health runs in
    /// a virtual machine of its own the two never are the same.
    Auto,
}

/// How far the wall clock may move against the uptime and still count as not stepped, and how much
/// earlier than the boot a container must have started to be of another one. The API's times are
/// whole seconds, and a clock that is slewed stays far below this in any grace.
const TOLERANCE: i64 = 2;

/// What the kernel says at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `/proc/sys/kernel/random/boot_id`; empty where it cannot be read.
    pub boot_id: String,
    /// Since the kernel started.
    pub uptime: Duration,
    /// Seconds since 1970 by the wall clock.
    pub wall: i64,
}

impl Machine {
    /// Reads it. A machine that does not tell counts as one that has been up for ever.
    #[expect(clippy::disallowed_methods, reason = "the edge that reads the wall clock")]
    pub fn read() -> Machine {
        let text = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let boot_id = text("/proc/sys/kernel/random/boot_id").trim().to_owned();
        // By the parser of settings: that of the standard library brings 15 kB of tables for fractions.
        let uptime = text("/proc/uptime")
            .split(' ')
            .next()
            .map(|seconds| duration::parse(&format!("{seconds}s")));
        let uptime = uptime.and_then(Result::ok).unwrap_or(Duration::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Machine { boot_id, uptime, wall: i64::try_from(wall.as_secs()).unwrap_or(i64::MAX) }
    }

    fn booted_at(&self) -> i64 {
        self.wall.saturating_sub_unsigned(self.uptime.as_secs())
    }
}

/// What of the API's readiness is old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The node object itself is from before this boot, and all with it.
    pub node_is_old: bool,
    /// Containers that started before this second ran in an earlier boot. Nothing where the wall
    /// clock has been stepped since this boot, or nobody asks.
    pub oldest_start: Option<i64>,
}

impl News {
    /// Whether a pod's readiness is from before this boot. A container that is older than its pod
    /// was started by a clock that had not been set yet, and its time says nothing.
    pub fn is_old(&self, started: Option<i64>, created: Option<i64>) -> bool {
        let is_comparable =
            |started: i64| created.is_none_or(|created| started + TOLERANCE >= created);
        let is_before = |started: i64| self.oldest_start.is_some_and(|oldest| started < oldest);
        self.node_is_old
            || started.is_some_and(|started| is_comparable(started) && is_before(started))
    }
}

/// The comparison, and what it remembers.
#[derive(Clone, Debug)]
pub struct Boot {
    check: Check,
    grace: Duration,
    /// By the wall clock when this began.
    booted_at: i64,
    has_been_stepped: bool,
    has_equalled: bool,
}

impl Boot {
    /// Begins on this machine.
    pub fn new(check: Check, grace: Duration, machine: &Machine) -> Boot {
        Boot {
            check,
            grace,
            booted_at: machine.booted_at(),
            has_been_stepped: false,
            has_equalled: false,
        }
    }

    /// Whether it can make a difference any more.
    pub fn is_over(&self, machine: &Machine) -> bool {
        self.check == Check::Off || machine.uptime >= self.grace
    }

    /// When it will be over, from now.
    pub fn remaining(&self, machine: &Machine) -> Option<Duration> {
        (!self.is_over(machine)).then(|| self.grace.saturating_sub(machine.uptime))
    }

    /// What is old where the API shows this boot ID.
    pub fn news(&mut self, shown: &str, machine: &Machine) -> News {
        let is_same = !shown.is_empty() && shown == machine.boot_id;
        self.has_equalled |= is_same;
        self.has_been_stepped |=
            machine.booted_at().abs_diff(self.booted_at) > TOLERANCE.unsigned_abs();
        let is_asked = self.check == Check::On || self.has_equalled;
        if self.is_over(machine) || !is_asked {
            return News::default();
        }
        let oldest_start = (!self.has_been_stepped).then_some(self.booted_at - TOLERANCE);
        News { node_is_old: !is_same, oldest_start }
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

    fn boot(check: Check) -> Boot {
        Boot::new(check, Duration::from_secs(300), &machine(10))
    }

    #[test]
    fn checks() {
        let none = News::default();
        let of_this = News { node_is_old: false, oldest_start: Some(NOW - 2) };
        let before = News { node_is_old: true, oldest_start: Some(NOW - 2) };
        for (check, shown, uptime, expected) in [
            (Check::On, "this", 20, of_this),
            (Check::On, "other", 20, before),
            (Check::On, "", 20, before),
            (Check::On, "other", 299, before),
            (Check::On, "other", 300, none),
            (Check::Off, "other", 20, none),
            (Check::Auto, "other", 20, none),
            (Check::Auto, "this", 20, of_this),
        ] {
            assert_eq!(
                boot(check).news(shown, &machine(uptime)),
                expected,
                "{check:?} {shown} {uptime}"
            );
        }
        let mut auto = boot(Check::Auto);
        assert_eq!(auto.news("this", &machine(20)), of_this);
        assert_eq!(
            auto.news("other", &machine(21)),
            before,
            "what has once equalled is asked for from then on"
        );
        assert_eq!(auto.news("other", &machine(300)), none);
    }

    #[test]
    fn an_unreadable_boot_id_is_nobodys() {
        let unreadable = Machine { boot_id: String::new(), ..machine(20) };
        assert!(boot(Check::On).news("", &unreadable).node_is_old);
    }

    #[test]
    fn a_clock_that_was_stepped_is_not_compared_with() {
        let mut boot = boot(Check::On);
        for (step, expected) in [(0, Some(NOW - 2)), (2, Some(NOW - 2)), (3, None), (0, None)] {
            let machine = Machine { wall: NOW + 20 + step, ..machine(20) };
            assert_eq!(boot.news("this", &machine).oldest_start, expected, "{step}");
        }
    }

    #[test]
    fn starts() {
        let news = News { node_is_old: false, oldest_start: Some(1000) };
        for (started, created, expected) in [
            (None, None, false),
            (Some(999), None, true),
            (Some(1000), None, false),
            (Some(999), Some(500), true),
            (Some(999), Some(1001), true),
            (Some(999), Some(1002), false),
            (Some(20), Some(500), false),
        ] {
            assert_eq!(news.is_old(started, created), expected, "{started:?} {created:?}");
        }
        assert!(News { node_is_old: true, oldest_start: None }.is_old(None, None));
    }

    #[test]
    fn the_grace_ends() {
        assert_eq!(boot(Check::On).remaining(&machine(20)), Some(Duration::from_secs(280)));
        assert_eq!(boot(Check::On).remaining(&machine(300)), None);
        assert_eq!(boot(Check::Off).remaining(&machine(20)), None);
    }

    #[test]
    fn this_machine_tells() {
        let machine = Machine::read();
        assert_eq!(machine.boot_id.len(), 36, "{machine:?}");
        assert!(machine.uptime > Duration::ZERO && machine.booted_at() > 0, "{machine:?}");
    }

    proptest! {
        #[test]
        fn never_longer_than_the_grace(uptime in 0u64..1000, grace in 0u64..1000, shown in "this|other|") {
            let mut boot = Boot::new(Check::On, Duration::from_secs(grace), &machine(0));
            let news = boot.news(&shown, &machine(uptime));
            prop_assert!(uptime < grace || news == News::default());
            prop_assert!(uptime >= grace || news.node_is_old == (shown != "this"));
        }
    }
}
