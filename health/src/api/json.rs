//! How Kubernetes' JSON streams by: lists of any length, events of a watch, single objects, and the small types
//! that its fields are read into.
//!
//! Null where an object or a list should be counts as absent: Go writes empty ones so. Everything
//! else that is not as the API documents it is an error, because an answer half understood could
//! open the gate. Does not know of HTTP, nor which fields are read.

use std::fmt;
use std::io::Read;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::StreamDeserializer;
use serde_json::de::IoRead;

use super::bounded::{Bounded, Spent};

/// An object that lists consist of.
pub trait Item: DeserializeOwned {
    /// What a list of them calls itself.
    const LIST: &'static str;

    /// What people know it by.
    fn title(&self) -> String;

    /// `metadata.resourceVersion`
    fn version(&self) -> &str;

    /// Whether it has a name, which only what stands for an object in a watch may lack.
    fn is_named(&self) -> bool;

    /// What a `Status` in its place says: its code, and the server's words.
    fn status(self) -> (u16, Option<String>);
}

/// What a list says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Asks for the next page, where there is one.
    pub token: Option<String>,
    /// What a watch may go on from.
    pub version: String,
}

/// Reads a list, hands on its items one by one, and returns what it says of itself.
pub fn read_list<T: Item>(source: impl Read, each: &mut dyn FnMut(T)) -> serde_json::Result<Page> {
    let spent = Spent::default();
    let mut deserializer = serde_json::Deserializer::from_reader(Bounded::new(source, &spent));
    let page = List { spent: &spent, each }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(page)
}

/// Reads one object.
pub fn read_one<T: DeserializeOwned>(source: impl Read) -> serde_json::Result<T> {
    let spent = Spent::default();
    let mut deserializer = serde_json::Deserializer::from_reader(Bounded::new(source, &spent));
    let object = object(&mut deserializer)?;
    deserializer.end()?;
    Ok(object)
}

struct List<'a, T> {
    spent: &'a Spent,
    each: &'a mut dyn FnMut(T),
}

impl<'de, T: Item> DeserializeSeed<'de> for List<'_, T> {
    type Value = Page;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Item> Visitor<'de> for List<'_, T> {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(T::LIST)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut kind, mut metadata, mut items) = (None, None, None);
        while let Some(key) = map.next_key()? {
            match key {
                ListKey::Kind => once(&mut kind, map.next_value::<Word>()?)?,
                ListKey::Metadata => {
                    once(&mut metadata, map.next_value::<Option<Object<ListMeta>>>()?)?
                }
                ListKey::Items => {
                    once(
                        &mut items,
                        map.next_value_seed(Items { spent: self.spent, each: &mut *self.each })?,
                    )?;
                }
                ListKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        // Any other JSON, an empty object say, must not pass for a list of nothing: nothing to wait for is "healthy".
        if kind.is_none_or(|kind: Word| kind.0 != T::LIST) || items.is_none() {
            return Err(A::Error::custom(format_args!("no {}", T::LIST)));
        }
        let metadata = metadata.flatten().map(|meta| meta.0).unwrap_or_default();
        let token = metadata.token.filter(|token| !token.is_empty());
        Ok(Page { token, version: metadata.resource_version.unwrap_or_default().0 })
    }
}

/// A second value would make the first one not have been: a token that is lost is a list cut short.
fn once<T, E: Error>(into: &mut Option<T>, value: T) -> Result<(), E> {
    match into.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("a key that stands twice")),
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum ListKey {
    Kind,
    Metadata,
    Items,
    #[serde(other)]
    Other,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(rename = "continue")]
    token: Option<String>,
    resource_version: Option<Word>,
}

struct Items<'a, T> {
    spent: &'a Spent,
    each: &'a mut dyn FnMut(T),
}

impl<'de, T: Item> DeserializeSeed<'de> for Items<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, T: Item> Visitor<'de> for Items<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        loop {
            self.spent.set(0);
            match items.next_element::<Object<T>>()? {
                Some(item) if !item.0.is_named() => {
                    return Err(A::Error::custom("an object without a name"));
                }
                Some(item) => (self.each)(item.0),
                None => break,
            }
        }
        self.spent.set(0);
        Ok(())
    }
}

/// JSON in braces: serde's derived code would also take an array, field after field.
pub(super) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object<T>, D::Error> {
        deserializer.deserialize_map(Braces(PhantomData)).map(Object)
    }
}

struct Braces<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Braces<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|object| object.0)
}

pub(super) fn optional<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::<Object<T>>::deserialize(deserializer).map(|object| object.map(|object| object.0))
}

/// A text that Kubernetes bounds ("Object Names and IDs", "Labels and Selectors"). What is longer
/// does not come from it, and would be kept for as long as the verdict stands.
#[derive(Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub(super) struct Short<const MOST: usize>(pub String);

impl<const MOST: usize> TryFrom<String> for Short<MOST> {
    type Error = String;

    fn try_from(text: String) -> Result<Short<MOST>, String> {
        if text.len() <= MOST {
            Ok(Short(text))
        } else {
            Err(format!("a text of more than {MOST} bytes"))
        }
    }
}

/// Names and namespaces are DNS subdomains.
pub(super) type Name = Short<253>;
/// UIDs are UUIDs, phases and conditions words; with room for more.
pub(super) type Word = Short<128>;

/// When the object was asked to go; that it was is all that is kept.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Deletion;

impl TryFrom<String> for Deletion {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Deletion, &'static str> {
        if text.is_empty() { Err("a moment that is empty") } else { Ok(Deletion) }
    }
}

/// What is kept of a list while its elements, however many, are read and dropped.
pub(super) trait Gather: Default {
    /// What the list consists of.
    type Element: DeserializeOwned;

    /// Takes the next one.
    fn add(&mut self, element: Self::Element);
}

/// A list that is gathered.
#[derive(Default)]
pub(super) struct Gathered<T>(pub T);

impl<'de, T: Gather> Deserialize<'de> for Gathered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Gathered<T>, D::Error> {
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

struct Elements<T>(PhantomData<T>);

impl<'de, T: Gather> Visitor<'de> for Elements<T> {
    type Value = Gathered<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Gathered<T>, A::Error> {
        let mut gathered = T::default();
        while let Some(Object(element)) = elements.next_element::<Object<T::Element>>()? {
            gathered.add(element);
        }
        Ok(Gathered(gathered))
    }
}

/// A moment as the API writes it (RFC 3339), in seconds since 1970.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Moment(pub i64);

impl TryFrom<String> for Moment {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Moment, &'static str> {
        seconds_since_1970(&text).map(Moment).ok_or("no moment")
    }
}

/// `2026-11-22T19:59:21Z`, also with a fraction, which is cut. The API writes no other zone.
fn seconds_since_1970(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let time = time.split_once('.').map_or(time, |(whole, _)| whole);
    let (year, month, day) = three(date, '-')?;
    let (hour, minute, second) = three(time, ':')?;
    // Days by the civil calendar, with years that begin in March, so that a leap day is a year's last.
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
fn three(text: &str, separator: char) -> Option<(i64, i64, i64)> {
    let mut parts = text.split(separator).map(|part| {
        let is_number = (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if is_number { part.parse::<i64>().ok() } else { None }
    });
    let found = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(found)
}

/// What a watch says.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// The object is there like this; whether it is new or has changed makes no difference.
    Is(T),
    /// It is not there any more, or does not fit the selector any more.
    Gone(T),
    /// Nothing has changed up to this version.
    Bookmark(String),
    /// The watch has ended with this status and the server's words.
    Error(u16, Option<String>),
    /// Of a kind that is not known yet.
    Other,
}

/// Reads the events of a watch one by one, each as soon as its last byte is there. After an error
/// there are no more.
pub fn read_events<T: Item>(
    source: impl Read,
) -> impl Iterator<Item = serde_json::Result<Event<T>>> {
    let spent = Spent::default();
    let stream = serde_json::Deserializer::from_reader(Bounded::new(source, &spent)).into_iter();
    Events { stream, spent }
}

struct Events<R: Read, T> {
    stream: StreamDeserializer<'static, IoRead<Bounded<R>>, Line<T>>,
    spent: Spent,
}

impl<R: Read, T: Item> Iterator for Events<R, T> {
    type Item = serde_json::Result<Event<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.spent.set(0);
        Some(self.stream.next()?.map(|line| line.0))
    }
}

/// One event.
struct Line<T>(Event<T>);

impl<'de, T: Item> Deserialize<'de> for Line<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Line<T>, D::Error> {
        let Object(line) = Object::<RawEvent<T>>::deserialize(deserializer)?;
        let Object(object) = line.object;
        Ok(Line(match line.kind {
            EventType::Added | EventType::Modified | EventType::Deleted if !object.is_named() => {
                return Err(D::Error::custom("an object without a name"));
            }
            EventType::Added | EventType::Modified => Event::Is(object),
            EventType::Deleted => Event::Gone(object),
            EventType::Bookmark => Event::Bookmark(object.version().to_owned()),
            EventType::Error => {
                let (code, words) = object.status();
                Event::Error(code, words)
            }
            EventType::Other => Event::Other,
        }))
    }
}

/// The object stands before or after the type that says what it is: bookmarks and errors are read
/// as if they were one of those that are watched.
#[derive(Deserialize)]
#[serde(bound = "T: Item")]
struct RawEvent<T> {
    #[serde(rename = "type")]
    kind: EventType,
    object: Object<T>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
    #[serde(other)]
    Other,
}

/// What is an object in all that is watched, and one word in the `Status` that may stand there.
pub(super) fn object_or_word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(BracesOrWord(PhantomData))
}

struct BracesOrWord<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BracesOrWord<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _word: &str) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
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
