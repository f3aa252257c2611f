//! Reads the load of the node from the kernel's `/proc/stat`, and its stalls on memory and disks
//! from `/proc/pressure` if the kernel has these files.
//!
//! Inside a container the files are the host's as well (proc(5), "/proc/stat"; the kernel's "PSI -
//! Pressure Stall Information"), and need no rights. If lxcfs is mounted over them, they are the
//! container's own and do not show the node. This file knows their form; [`crate::core::limit`]
//! decides how they bound starts.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::core::limit::Reading;
use crate::psi;

pub const FILE: &str = "/proc/stat";

/// A node of 1,024 cores with as many interrupts has some 200 KiB.
const LARGEST: u64 = 1 << 20;

/// The kernel shows hundredths of a second to user space, at any clock of its own (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Stat {
    file: PathBuf,
    stalls: [PathBuf; 2],
    /// The failure of the first file is logged already.
    has_failed: bool,
    text: Vec<u8>,
}

impl Stat {
    /// If the file cannot be read, this is logged at once, not when a client waits.
    pub fn new(file: &Path, pressure: &Path, now: Instant) -> Stat {
        let stalls = [pressure.join("memory"), pressure.join("io")];
        let mut stat = Stat { file: file.to_owned(), stalls, has_failed: false, text: Vec::new() };
        stat.read(now);
        stat
    }

    /// A reading of the node. The first failure is logged, and the first success after it.
    pub fn read(&mut self, now: Instant) -> Option<Reading> {
        let reading = self.try_read(now);
        let had_failed = std::mem::replace(&mut self.has_failed, reading.is_err());
        let file = self.file.display();
        match &reading {
            Err(error) if !had_failed => {
                warn!(
                    file:%, reason:% = error;
                    "cannot read the node's load: one start for each core at a time"
                );
            }
            Ok(_) if had_failed => info!(file:%; "the node's load can be read again"),
            _ => {}
        }
        reading.ok()
    }

    fn try_read(&mut self, now: Instant) -> io::Result<Reading> {
        self.text.clear();
        File::open(&self.file)?.take(LARGEST).read_to_end(&mut self.text)?;
        let Some(mut reading) = parse(&self.text, now) else {
            return Err(io::Error::other("unexpected content"));
        };
        // Without these files the node counts as not stalled.
        for file in &self.stalls {
            let hundredths = psi::read(file, psi::FULL).unwrap_or(0);
            reading.stalled = reading.stalled.max(f64::from(hundredths) / 10_000.0);
        }
        Ok(reading)
    }
}

/// Time that a hypervisor gave to other machines is not free for starts here, and counts as used.
pub fn parse(text: &[u8], now: Instant) -> Option<Reading> {
    let text = str::from_utf8(text).ok()?;
    let mut ticks = None;
    let (mut cores, mut runnable) = (0, None::<usize>);
    for line in text.lines() {
        let (name, values) = line.split_once(' ').unwrap_or((line, ""));
        match name.strip_prefix("cpu") {
            Some("") => ticks = Some(sums(values)?),
            Some(_) => cores += 1,
            None if name == "procs_running" => runnable = Some(values.trim().parse().ok()?),
            None => {}
        }
    }
    let (busy, idle) = ticks.filter(|_| cores > 0)?;
    // The reading thread itself is one of them.
    let runnable = runnable?.saturating_sub(1);
    Some(Reading { at: now, busy: time(busy), idle: time(idle), runnable, cores, stalled: 0.0 })
}

/// Used and unused: user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
fn sums(values: &str) -> Option<(u64, u64)> {
    let mut ticks = [0u64; 8];
    let mut words = values.split_ascii_whitespace();
    for (at, tick) in ticks.iter_mut().enumerate() {
        match words.next() {
            Some(word) => *tick = word.parse().ok()?,
            // Kernels before 2.6.11 have fewer.
            None if at > 3 => {}
            None => return None,
        }
    }
    let idle = ticks[3].saturating_add(ticks[4]);
    let all = ticks.iter().fold(0u64, |sum, tick| sum.saturating_add(*tick));
    Some((all - idle, idle))
}

fn time(ticks: u64) -> Duration {
    Duration::from_secs(ticks / 100).saturating_add(TICK * (ticks % 100) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
    fn zero() -> Instant {
        Instant::now()
    }

    const TWO_CORES: &str = "cpu  200 10 90 1000 50 3 2 45 20 0\n\
        cpu0 100 5 45 500 25 2 1 20 10 0\n\
        cpu1 100 5 45 500 25 1 1 25 10 0\n\
        intr 12345 0 9 0\nctxt 99\nbtime 1700000000\nprocesses 42\nprocs_running 3\nprocs_blocked 1\n";

    #[test]
    fn sums_of_all_cores() {
        let reading = parse(TWO_CORES.as_bytes(), zero()).unwrap();
        assert_eq!(reading.busy, TICK * 350);
        assert_eq!(reading.idle, TICK * 1050);
        assert_eq!((reading.cores, reading.runnable), (2, 2));
    }

    #[test]
    fn invalid_content_gives_no_reading() {
        for text in [
            "",
            "cpu\nprocs_running 1\n",
            "cpu  1 2 3\nprocs_running 1\n",
            "cpu  1 2 3 x\nprocs_running 1\n",
            "cpu  1 2 3 -4\nprocs_running 1\n",
            "cpu  1 2 3 4 5 6 7 8\n",
            "cpu  1 2 3 4 5 6 7 8\ncpu0 1 2 3 4\nprocs_running many\n",
            "cpu  1 2 3 4 5 6 7 8\nprocs_running 1\n",
            "\u{0}\u{0}",
        ] {
            assert!(parse(text.as_bytes(), zero()).is_none(), "{text:?}");
        }
        assert!(parse(&[0xff, 0xfe], zero()).is_none());
    }

    #[test]
    fn the_file_of_this_machine_is_read() {
        let reading =
            Stat::new(Path::new(FILE), Path::new(psi::DIRECTORY), zero()).read(zero()).unwrap();
        assert!(reading.cores >= 1 && reading.busy > Duration::ZERO);
    }

    #[test]
    fn a_missing_file_gives_no_reading() {
        assert!(
            Stat::new(Path::new("/no/such/file"), Path::new("/no/such"), zero())
                .read(zero())
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn garbage_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            parse(&bytes, zero());
        }

        #[test]
        fn any_numbers_do_no_harm(numbers in prop::collection::vec(any::<u64>(), 4..12), running: u64) {
            let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
            let text = format!("cpu  {}\ncpu0 1\nprocs_running {running}\n", words.join(" "));
            let reading = parse(text.as_bytes(), zero());
            prop_assert!(reading.is_some());
        }
    }
}
