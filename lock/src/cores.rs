//! The number of online cores of the node.
//!
//! The standard library counts the cores that this container may use, but a share of the slots is a
//! share of the node. The standard library's number is the fallback.

use std::fs;
use std::thread;

/// The kernel's list, the host's also inside a container: `0-3,5`.
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// One core if neither source has a number.
pub fn online() -> usize {
    let list = fs::read_to_string(ONLINE).unwrap_or_default();
    let fallback = || thread::available_parallelism().map_or(1, Into::into);
    count(list.trim()).unwrap_or_else(fallback)
}

/// The length of a list of ranges; `None` if the text is no such list.
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
    fn this_machine_has_a_core() {
        assert!(online() >= 1);
    }
}
