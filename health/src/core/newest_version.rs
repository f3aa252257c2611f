//! The newest known version of a resource. A later response must not lead back: API servers answer
//! from caches, and one cache may lag behind another.
//!
//! The file does not know requests.

/// Empty before the first response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewestVersion(String);

/// The source that a read may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom<'v> {
    /// The server's cache, of any age.
    Cache,
    /// The server's cache, once it has reached this version.
    NotOlderThan(&'v str),
    Store,
}

impl NewestVersion {
    pub fn read_from(&self) -> ReadFrom<'_> {
        match number(&self.0) {
            Some(_) => ReadFrom::NotOlderThan(&self.0),
            None => ReadFrom::Cache,
        }
    }

    /// Takes the version of a complete response. It may be older if the store was restored.
    pub fn set(&mut self, version: &str) {
        version.clone_into(&mut self.0);
    }

    /// Takes the version of an object or an event, unless it is older.
    pub fn advance(&mut self, version: &str) {
        if !self.is_past(version) {
            self.set(version);
        }
    }

    /// Whether a newer version is known. Only numbers are compared.
    pub fn is_past(&self, version: &str) -> bool {
        let numbers = number(&self.0).zip(number(version));
        numbers.is_some_and(|(newest, version)| newest > version)
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
    fn the_newest_version_is_the_minimum_of_the_next_read() {
        let mut newest = NewestVersion::default();
        assert_eq!(newest.read_from(), ReadFrom::Cache);
        for (version, expected) in [
            ("0", ReadFrom::Cache),
            ("100", ReadFrom::NotOlderThan("100")),
            ("50", ReadFrom::NotOlderThan("100")),
            ("99", ReadFrom::NotOlderThan("100")),
            ("101", ReadFrom::NotOlderThan("101")),
            ("9223372036854775808", ReadFrom::NotOlderThan("9223372036854775808")),
            ("odd", ReadFrom::Cache),
            ("7", ReadFrom::NotOlderThan("7")),
        ] {
            newest.advance(version);
            assert_eq!(newest.read_from(), expected, "{version}");
        }
        newest.set("5");
        assert_eq!(
            newest.read_from(),
            ReadFrom::NotOlderThan("5"),
            "the store was restored from a backup"
        );
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (newest, version, expected) in [
            ("100", "50", true),
            ("100", "99", true),
            ("100", "100", false),
            ("100", "101", false),
            ("9", "10", false),
        ] {
            assert_eq!(
                NewestVersion(newest.to_owned()).is_past(version),
                expected,
                "{newest} {version}"
            );
        }
        for odd in ["", "0", "+5", "a", "1e9"] {
            assert!(
                !NewestVersion("100".to_owned()).is_past(odd)
                    && !NewestVersion(odd.to_owned()).is_past("1"),
                "{odd}"
            );
        }
    }
}
