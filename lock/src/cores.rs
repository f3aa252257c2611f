//! How many cores the node has online.
//!
//! What the standard library counts is what this container may use, which is not the question: a
//! share of the slots is a share of the node. Falls back to it where the kernel does not tell.

use std::fs;
use std::thread;

/// The kernel's list, the host's also inside a container: `0-3,5`.
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// At least one.
pub fn online() -> usize {
    fs::read_to_string(ONLINE)
        .ok()
        .and_then(|list| count(list.trim()))
        .or_else(|| thread::available_parallelism().map(Into::into).ok())
        .unwrap_or(1)
}

/// The length of a list of ranges; nothing where it is no such list.
fn count(list: &str) -> Option<usize> {
    let mut sum = 0usize;
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        sum = sum.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        for (list, expected) in [
            ("0", Some(1)),
            ("0-1", Some(2)),
            ("0-3,5", Some(5)),
            ("0-3,5,8-15", Some(13)),
            ("", None),
            ("3-0", None),
            ("a", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(count(list), expected, "{list}");
        }
    }

    #[test]
    fn this_machine_has_some() {
        assert!(online() >= 1);
    }
}
