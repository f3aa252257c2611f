//! Reads the machine's boot ID, uptime and wall clock.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use psl::duration;

use crate::core::boot::Machine;

/// If `/proc` is not readable, the machine counts as up for ever, so that the boot check is over.
#[expect(clippy::disallowed_methods, reason = "the edge that reads the wall clock")]
pub fn read() -> Machine {
    let text = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let boot_id = text("/proc/sys/kernel/random/boot_id").trim().to_owned();
    // Parsed as a setting: the standard library's parser of fractions brings 15 kB of tables.
    let seconds = text("/proc/uptime").split(' ').next().unwrap_or_default().to_owned();
    let uptime = duration::parse(&format!("{seconds}s")).unwrap_or(Duration::MAX);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Machine { boot_id, uptime, wall: i64::try_from(wall.as_secs()).unwrap_or(i64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_readable() {
        let machine = read();
        assert_eq!(machine.boot_id.len(), 36, "{machine:?}");
        assert!(machine.uptime > Duration::ZERO && machine.booted_at() > 0, "{machine:?}");
    }
}
