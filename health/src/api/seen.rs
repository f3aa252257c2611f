//! The newest known version of a source, so that no later answer leads back: API servers answer from caches, and one may
//! lag behind another.
//!
//! Pure. Does not know the requests.

/// The newest known version of a source; empty before the first answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(String);

/// The source of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From<'s> {
    /// The server's cache, however old.
    Cache,
    /// The server's cache, once it has reached this version.
    NotOlderThan(&'s str),
    /// The cluster's store, which always has the newest version.
    Store,
}

impl Seen {
    /// The source for the next answer.
    pub fn from(&self) -> From<'_> {
        if number(&self.0).is_some() { From::NotOlderThan(&self.0) } else { From::Cache }
    }

    /// A whole answer had this version. The store's answer may be older, if the store was restored from a backup.
    pub fn set(&mut self, version: &str) {
        version.clone_into(&mut self.0);
    }

    /// An object, or an event, had this version.
    pub fn reached(&mut self, version: &str) {
        if !self.is_past(version) {
            self.set(version);
        }
    }

    /// Whether a newer version than this is known. Only numbers are compared.
    pub fn is_past(&self, version: &str) -> bool {
        let numbers = number(&self.0).zip(number(version));
        numbers.is_some_and(|(known, version)| known > version)
    }
}

/// Versions of Kubernetes' own objects are whole numbers without leading zeros; 0 stands for any.
fn number(version: &str) -> Option<u64> {
    let number = version.parse().ok().filter(|number| *number > 0)?;
    version.bytes().all(|b| b.is_ascii_digit()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_the_least_that_is_asked_for() {
        let mut seen = Seen::default();
        assert_eq!(seen.from(), From::Cache);
        for (version, expected) in [
            ("0", From::Cache),
            ("100", From::NotOlderThan("100")),
            ("50", From::NotOlderThan("100")),
            ("99", From::NotOlderThan("100")),
            ("101", From::NotOlderThan("101")),
            ("9223372036854775808", From::NotOlderThan("9223372036854775808")),
            ("odd", From::Cache),
            ("7", From::NotOlderThan("7")),
        ] {
            seen.reached(version);
            assert_eq!(seen.from(), expected, "{version}");
        }
        seen.set("5");
        assert_eq!(seen.from(), From::NotOlderThan("5"), "the store itself was set back");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (seen, version, expected) in [
            ("100", "50", true),
            ("100", "99", true),
            ("100", "100", false),
            ("100", "101", false),
            ("9", "10", false),
        ] {
            assert_eq!(Seen(seen.to_owned()).is_past(version), expected, "{seen} {version}");
        }
        for odd in ["", "0", "+5", "a", "1e9"] {
            assert!(
                !Seen("100".to_owned()).is_past(odd) && !Seen(odd.to_owned()).is_past("1"),
                "{odd}"
            );
        }
    }
}
