//! What is kept of the lists, maps and texts of an object whose size others choose: within bounds, and what is beyond
//! them is known to be.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::super::json::Short;
use crate::eligibility::Labels;

/// About how many bytes one list of an object may take in memory, with all that is within it: the names of
/// some 3,000 nodes. The shortest elements take twenty times their JSON, and an object has room for millions.
const MOST_KEPT: usize = 256 * 1024;

/// What an element takes besides its texts.
pub const EACH: usize = 64;

/// A list up to where it is too large.
pub struct Kept<T> {
    pub items: Vec<T>,
    pub bytes: usize,
    pub is_cut: bool,
}

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept { items: Vec::new(), bytes: 0, is_cut: false }
    }
}

impl<T> Kept<T> {
    /// Takes an element of so many bytes, where it still fits.
    pub fn push(&mut self, item: T, bytes: usize) {
        self.is_cut |= self.bytes + bytes > MOST_KEPT;
        if !self.is_cut {
            self.bytes += bytes;
            self.items.push(item);
        }
    }
}

/// The values of a requirement.
#[derive(Default)]
pub struct Values(pub Kept<Box<str>>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        deserializer.deserialize_seq(Texts)
    }
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Values;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Values, A::Error> {
        let mut kept = Kept::default();
        while let Some(text) = texts.next_element::<Box<str>>()? {
            let bytes = EACH / 2 + text.len();
            kept.push(text, bytes);
        }
        Ok(Values(kept))
    }
}

/// More than fits into any object of etcd.
const MOST_IN_LINES: usize = 2 * 1024 * 1024;

/// Short texts in one piece, each on a line of its own: apart they would take ten times their size, and the last may
/// be the one that is looked for.
#[derive(Default)]
pub struct Lines {
    text: String,
    pub is_cut: bool,
}

impl Lines {
    /// Takes a text without a line break.
    pub fn push(&mut self, text: &str) {
        self.is_cut |= self.text.len() + text.len() >= MOST_IN_LINES;
        if !self.is_cut {
            self.text.push_str(text);
            self.text.push('\n');
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.text.split_terminator('\n')
    }

    pub fn contains(&self, wanted: &str) -> bool {
        self.iter().any(|line| line == wanted)
    }
}

/// A text that others can choose: one that is longer than any that is looked for counts as none, because an error
/// would let them close the gate.
#[derive(Deserialize)]
#[serde(from = "String")]
pub struct Fitting<const MOST: usize>(pub Option<Box<str>>);

impl<const MOST: usize> Default for Fitting<MOST> {
    fn default() -> Fitting<MOST> {
        Fitting(Some("".into()))
    }
}

impl<const MOST: usize> From<String> for Fitting<MOST> {
    fn from(text: String) -> Fitting<MOST> {
        Fitting((text.len() <= MOST).then(|| text.into()))
    }
}

/// A key has a prefix, which is a DNS subdomain, a slash, and a name.
pub type Key = Short<317>;
pub type Value = Short<63>;

/// Kubernetes does not bound how many labels or taints a node has; these are more than anybody has use for.
pub const MOST_OF_NODE: usize = 1024;

/// A nodeSelector. Of one with more than any node has labels the rest is not looked at: it fits no
/// node either way, and an error would let whoever may make a DaemonSet close the gate of every node.
#[derive(Default)]
pub struct Selector(pub Labels);

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Selector, D::Error> {
        deserializer.deserialize_map(Pairs)
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Selector;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Selector, A::Error> {
        let mut labels = Labels::new();
        while let Some((Short(key), Short(value))) = map.next_entry::<Key, Value>()? {
            if labels.len() <= MOST_OF_NODE && labels.insert(key, value).is_some() {
                return Err(A::Error::custom("a key that stands twice"));
            }
        }
        Ok(Selector(labels))
    }
}

/// An object's own labels, each key and each value on a line, since there may be as many as fit into it.
#[derive(Default)]
pub struct Packed(Lines);

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Packed, D::Error> {
        deserializer.deserialize_map(KeysAndValues)
    }
}

struct KeysAndValues;

impl<'de> Visitor<'de> for KeysAndValues {
    type Value = Packed;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Packed, A::Error> {
        let mut lines = Lines::default();
        while let Some((Short(key), Short(value))) = map.next_entry::<Key, Value>()? {
            if key.contains('\n') || value.contains('\n') {
                return Err(A::Error::custom("a label of more than one line"));
            }
            lines.push(&key);
            lines.push(&value);
        }
        Ok(Packed(lines))
    }
}

impl Packed {
    /// Those that are asked for.
    pub fn labels(
        &self,
        is_asked_for: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = (String, String)> {
        let mut lines = self.0.iter();
        let pairs = std::iter::from_fn(move || Some((lines.next()?, lines.next()?)));
        pairs
            .filter(move |(key, _)| is_asked_for(key))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
    }

    /// Whether some are missing.
    pub fn is_cut(&self) -> bool {
        self.0.is_cut
    }
}
