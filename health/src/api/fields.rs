//! The small types that fields of Kubernetes' objects are read into, each within bounds. A user
//! chooses the sizes of many fields.
//!
//! The file does not know objects.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed as _, Deserializer, Error, MapAccess, Visitor};

use super::visitors::Elements;
use crate::core::eligibility::Labels;
use crate::core::quantity::Quantity;

/// A text that Kubernetes bounds ("Object Names and IDs", "Labels and Selectors"). A longer one
/// does not come from an API server, and is an error.
#[derive(Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct ShortText<const MOST: usize>(pub String);

impl<const MOST: usize> TryFrom<String> for ShortText<MOST> {
    type Error = String;

    fn try_from(text: String) -> Result<ShortText<MOST>, String> {
        match text.len() {
            length if length <= MOST => Ok(ShortText(text)),
            _ => Err(format!("a text of more than {MOST} bytes")),
        }
    }
}

/// Names and namespaces are DNS subdomains.
pub type Name = ShortText<253>;
/// UIDs are UUIDs; phases and types of conditions are shorter.
pub type Word = ShortText<128>;
/// The key of a label: a DNS subdomain, a slash, and a name.
pub type Key = ShortText<317>;
pub type Value = ShortText<63>;

/// A text that a user chooses without a bound. A text that is too long to match counts as none,
/// because an error would let the user close the gate.
#[derive(Default, Deserialize)]
#[serde(from = "String")]
pub struct MatchText<const MOST: usize>(pub Option<Box<str>>);

impl<const MOST: usize> From<String> for MatchText<MOST> {
    fn from(text: String) -> MatchText<MOST> {
        MatchText((text.len() <= MOST).then(|| text.into()))
    }
}

/// A time of the API (RFC 3339) in seconds since 1970.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct Timestamp(pub i64);

impl TryFrom<String> for Timestamp {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Timestamp, &'static str> {
        seconds_since_1970(&text).map(Timestamp).ok_or("not a timestamp")
    }
}

/// A time whose value does not matter. Any form is accepted, because an error would close the gate.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct AnyTimestamp;

impl TryFrom<String> for AnyTimestamp {
    type Error = &'static str;

    fn try_from(text: String) -> Result<AnyTimestamp, &'static str> {
        if text.is_empty() { Err("an empty timestamp") } else { Ok(AnyTimestamp) }
    }
}

/// Parses `2026-11-22T19:59:21Z`, and cuts a fraction. The API writes no other time zone.
fn seconds_since_1970(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let (year, month, day) = three_numbers(date, '-')?;
    let (hour, minute, second) = three_numbers(time, ':')?;
    // Years begin in March here, so that a leap day is the last day of a year.
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    in_range.then_some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Three numbers of one to four digits each.
fn three_numbers(text: &str, separator: char) -> Option<(i64, i64, i64)> {
    let mut parts = text.split(separator).map(|part| {
        let is_number = (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if is_number { part.parse::<i64>().ok() } else { None }
    });
    let found = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(found)
}

/// A field of the type `Quantity`.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct Amount(pub Quantity);

impl TryFrom<String> for Amount {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Amount, &'static str> {
        Quantity::parse(&text).map(Amount).ok_or("not a quantity")
    }
}

/// Takes the elements of a list one by one, however many, and stores a bounded part.
pub trait Collector: Default {
    type Element: DeserializeOwned;

    fn add(&mut self, element: Self::Element);
}

/// A field that holds a list or `null`.
#[derive(Default)]
pub struct List<C>(pub C);

impl<'de, C: Collector> Deserialize<'de> for List<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<C>, D::Error> {
        let mut collector = C::default();
        let add = |element| {
            collector.add(element);
            Ok(())
        };
        Elements::new(add).deserialize(deserializer)?;
        Ok(List(collector))
    }
}

/// The most bytes of one list of an object in memory: the names of some 3,000 nodes. The shortest
/// elements take twenty times their JSON, and an object has room for millions.
const MOST_BYTES: usize = 256 * 1024;

/// The bytes of an element without its texts.
pub const ELEMENT_BYTES: usize = 64;

/// The elements of a list up to the bound on memory.
pub struct BoundedVec<T> {
    pub items: Vec<T>,
    pub bytes: usize,
    pub is_truncated: bool,
}

impl<T> Default for BoundedVec<T> {
    fn default() -> BoundedVec<T> {
        BoundedVec { items: Vec::new(), bytes: 0, is_truncated: false }
    }
}

impl<T> BoundedVec<T> {
    pub fn push(&mut self, item: T, bytes: usize) {
        self.is_truncated |= self.bytes + bytes > MOST_BYTES;
        if !self.is_truncated {
            self.bytes += bytes;
            self.items.push(item);
        }
    }
}

impl Collector for BoundedVec<Box<str>> {
    type Element = Box<str>;

    fn add(&mut self, text: Box<str>) {
        let bytes = ELEMENT_BYTES / 2 + text.len();
        self.push(text, bytes);
    }
}

/// The most bytes of [`TextLines`]: more than an object of etcd holds.
const MOST_LINE_BYTES: usize = 2 * 1024 * 1024;

/// Short texts in one allocation, each on a line. As allocations of their own they would take ten
/// times the memory, and the text that matters may be the last.
#[derive(Default)]
pub struct TextLines {
    text: String,
    pub is_truncated: bool,
}

impl TextLines {
    /// The text must not contain a line break.
    pub fn push(&mut self, text: &str) {
        self.is_truncated |= self.text.len() + text.len() >= MOST_LINE_BYTES;
        if !self.is_truncated {
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

/// Passes the keys and values of labels to a function. `null` is an empty map.
struct LabelReader<F>(F);

impl<'de, F: FnMut(String, String) -> Result<(), &'static str>> Visitor<'de> for LabelReader<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("labels")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((ShortText(key), ShortText(value))) = map.next_entry::<Key, Value>()? {
            (self.0)(key, value).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// The most labels and taints of a node. Kubernetes has no bound; this one is far above any real
/// node.
pub const MOST_OF_NODE: usize = 1024;

/// A nodeSelector. More labels than a node may have match no node, so the rest is dropped. An error
/// would let a user who may create a DaemonSet close the gate of every node.
#[derive(Default)]
pub struct Selector(pub Labels);

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Selector, D::Error> {
        let mut labels = Labels::new();
        deserializer.deserialize_option(LabelReader(|key, value| {
            let is_full = labels.len() > MOST_OF_NODE;
            match !is_full && labels.insert(key, value).is_some() {
                true => Err("duplicate key"),
                false => Ok(()),
            }
        }))?;
        Ok(Selector(labels))
    }
}

/// The labels of an object, each key and each value on a line, because a user may set many.
#[derive(Default)]
pub struct BoundedLabels(TextLines);

impl<'de> Deserialize<'de> for BoundedLabels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BoundedLabels, D::Error> {
        let mut lines = TextLines::default();
        deserializer.deserialize_option(LabelReader(|key: String, value: String| {
            if key.contains('\n') || value.contains('\n') {
                return Err("a label with a line break");
            }
            lines.push(&key);
            lines.push(&value);
            Ok(())
        }))?;
        Ok(BoundedLabels(lines))
    }
}

impl BoundedLabels {
    /// The labels whose keys are needed.
    pub fn labels(
        &self,
        is_needed: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = (String, String)> {
        let mut lines = self.0.iter();
        std::iter::from_fn(move || {
            loop {
                let (key, value) = (lines.next()?, lines.next()?);
                if is_needed(key) {
                    return Some((key.to_owned(), value.to_owned()));
                }
            }
        })
    }

    pub fn is_truncated(&self) -> bool {
        self.0.is_truncated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T00:00:59.999Z", Some(59)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("2026-11-22T19:59:21Z", Some(1_795_377_561)),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("0001-01-01T00:00:00Z", Some(-62_135_596_800)),
            ("2026-00-22T19:59:21Z", None),
            ("2026-13-22T19:59:21Z", None),
            ("2026-11-00T19:59:21Z", None),
            ("2026-11-22T24:59:21Z", None),
            ("2026-11-22T19:59:21", None),
            ("2026-11-22 19:59:21Z", None),
            ("2026-11-22T19:59:21+01:00", None),
            ("2026-11-22T19:59Z", None),
            ("2026-11-22T+9:59:21Z", None),
            ("", None),
        ] {
            assert_eq!(seconds_since_1970(text), expected, "{text}");
        }
    }
}
