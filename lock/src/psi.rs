//! Reads the pressure of the node from the kernel's files.
//!
//! Inside a container the files are the host's as well (the kernel's "PSI - Pressure Stall
//! Information"). This file knows their paths and their form; [`crate::core::pressure`] decides
//! which pressure is too high.

use std::io;
use std::path::{Path, PathBuf};

use log::{info, warn};

use crate::core::pressure::{PressureLimits, Readings, Resource};
use crate::file;

pub const DIRECTORY: &str = "/proc/pressure";

/// The line of the time in which at least one task waited.
pub const SOME: &str = "some";

/// The line of the time in which all tasks that were not idle waited.
pub const FULL: &str = "full";

/// The kernel writes two lines of some 70 bytes.
const LARGEST: u64 = 1024;

/// The files of the resources that have a threshold.
#[derive(Debug)]
pub struct Psi {
    files: [Option<PathBuf>; Resource::ALL.len()],
    /// The files whose failure is logged already.
    has_failed: [bool; Resource::ALL.len()],
}

impl Psi {
    /// `None` without thresholds. If a file cannot be read, this is logged at once, not when a
    /// client waits.
    pub fn new(limits: &PressureLimits, directory: &Path) -> Option<Psi> {
        let mut files = [const { None }; Resource::ALL.len()];
        for (at, (_, name)) in Resource::ALL.iter().enumerate() {
            files[at] = limits.thresholds[at].map(|_| directory.join(name));
        }
        let mut psi = Psi { files, has_failed: Default::default() };
        psi.read();
        limits.is_on().then_some(psi)
    }

    /// Reads all files. The first failure of a file is logged, and the first success after it.
    pub fn read(&mut self) -> Readings {
        // The files of each reason: a kernel without PSI is logged once.
        let mut failed: Vec<(String, String)> = Vec::new();
        let mut readings = Readings::default();
        for (at, path) in self.files.iter().enumerate() {
            let Some(path) = path else { continue };
            let reading = read(path, SOME);
            let had_failed = std::mem::replace(&mut self.has_failed[at], reading.is_err());
            let file = path.display();
            match &reading {
                Err(error) if !had_failed => {
                    let reason = error.to_string();
                    match failed.iter_mut().find(|(_, other)| *other == reason) {
                        Some((files, _)) => *files += &format!(", {file}"),
                        None => failed.push((file.to_string(), reason)),
                    }
                }
                Ok(_) if had_failed => info!(file:%; "pressure can be read again"),
                _ => {}
            }
            readings[at] = reading.ok();
        }
        for (file, reason) in failed {
            warn!(file, reason; "cannot read the node's pressure: its threshold is ignored");
        }
        readings
    }
}

pub fn read(file: &Path, line: &str) -> io::Result<u16> {
    let text = file::read(file, LARGEST)?;
    parse(text.as_bytes(), line).ok_or_else(|| io::Error::other("unexpected content"))
}

/// Hundredths of a percent of the last ten seconds in this line, [`SOME`] or [`FULL`]:
/// `some avg10=12.34 avg60=…`.
pub fn parse(text: &[u8], line: &str) -> Option<u16> {
    let text = str::from_utf8(text).ok()?;
    let fields = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(' '))?;
    let average = fields.split(' ').find_map(|field| field.strip_prefix("avg10="))?;
    let (percent, hundredths) = average.split_once('.')?;
    let number = |digits: &str, length| {
        let is_number =
            (1..=length).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|_| is_number)
    };
    let hundredths = number(hundredths, 2).filter(|_| hundredths.len() == 2)?;
    let percent = number(percent, 3).filter(|percent| *percent <= 100)?;
    Some(percent * 100 + hundredths).filter(|sum| *sum <= 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU8;
    use std::time::Duration;
    use testkit::scratch::Scratch;

    #[test]
    fn averages() {
        for (text, expected) in [
            (
                "some avg10=21.58 avg60=21.80 avg300=17.38 total=119533494\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
                Some(2158),
            ),
            ("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", Some(0)),
            ("some avg10=100.00 avg60=0.00 avg300=0.00 total=0", Some(10_000)),
            ("full avg10=9.00 avg60=0.00\nsome avg10=0.07 avg60=0.00", Some(7)),
            ("some avg10=100.01 avg60=0.00", None),
            ("some avg10=999.99", None),
            ("some avg10=65535.99", None),
            ("some avg10=1.5", None),
            ("some avg10=1", None),
            ("some avg10=-1.00", None),
            ("some avg10=+1.00", None),
            ("some avg10=.00", None),
            ("some avg60=1.00", None),
            ("full avg10=1.00", None),
            ("awesome avg10=1.00", None),
            ("some", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes(), SOME), expected, "{text:?}");
        }
        let both = b"some avg10=21.58 avg60=21.80\nfull avg10=3.40 avg60=0.00\n";
        assert_eq!((parse(both, SOME), parse(both, FULL)), (Some(2158), Some(340)));
        assert_eq!(parse(b"some avg10=1.00\xff", SOME), None);
    }

    #[test]
    fn only_resources_with_a_threshold_are_read() {
        let directory = Scratch::new();
        let two = [NonZeroU8::new(80), None, NonZeroU8::new(1)];
        let limits = |thresholds| PressureLimits { thresholds, floor: Duration::from_secs(60) };
        assert!(Psi::new(&limits([None; 3]), directory.path()).is_none());
        let mut psi = Psi::new(&limits(two), directory.path()).unwrap();
        assert_eq!(psi.read(), [None; 3]);
        for (name, average) in [("cpu", "12.34"), ("io", "99.00"), ("memory", "0.01")] {
            directory.file(name, format!("some avg10={average} avg60=0.00 avg300=0.00 total=1\n"));
        }
        assert_eq!(psi.read(), [Some(1234), None, Some(1)]);
        directory.file("cpu", "x".repeat(1 << 20));
        directory.file("memory", "some avg10=1.00".to_owned() + &"\0".repeat(1 << 20));
        assert_eq!(psi.read(), [None, None, None]);
    }

    proptest! {
        #[test]
        fn the_kernels_format_is_read(hundredths in 0u16..=10_000, total in any::<u64>(), rest in 0u16..=9_999) {
            let percent = |n: u16| format!("{}.{:02}", n / 100, n % 100);
            let text = format!("some avg10={} avg60={} avg300=0.00 total={total}\n", percent(hundredths), percent(rest));
            prop_assert_eq!(parse(text.as_bytes(), SOME), Some(hundredths));
        }

        #[test]
        fn no_bytes_are_more_than_all_of_the_time(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "(some |full )?(avg10=|avg60=)?[0-9.]{0,8}[ \n]?[a-z0-9=. ]{0,40}") {
            prop_assert!(parse(&bytes, SOME).is_none_or(|reading| reading <= 10_000));
            prop_assert!(parse(text.as_bytes(), SOME).is_none_or(|reading| reading <= 10_000));
        }
    }
}
