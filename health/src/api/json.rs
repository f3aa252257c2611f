//! Kubernetes' JSON as a stream: lists of any length, events of a watch, single objects.
//!
//! `null` in place of an object or a list counts as absent, because Go writes empty ones so. Any
//! other deviation from the API's documentation is an error: a response that is half understood
//! could open the gate. The file does not know HTTP, or which fields are read.

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor,
};

use super::fields::Word;
use super::json_bounds::{Bounded, ObjectBytes};
use super::visitors::{Braces, Elements};

/// An object of lists and watches.
pub trait ApiObject: DeserializeOwned {
    /// The `kind` of a list of them.
    const LIST: &'static str;

    /// `DaemonSet kube-system/kube-proxy`
    fn title(&self) -> String;

    /// `metadata.resourceVersion`
    fn version(&self) -> &str;

    /// Whether the object has the names that it needs. In a watch, bookmarks and errors lack them.
    fn is_named(&self) -> bool;

    /// The code and the message of a `Status` in place of the object.
    fn into_status(self) -> (u16, Option<String>);
}

/// The metadata of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// The token of the next page.
    pub token: Option<String>,
    /// The version that a watch may continue from.
    pub version: String,
}

/// Reads a list, passes its items on one by one, and returns its metadata.
pub fn read_list<T: ApiObject>(
    source: impl Read,
    on_item: &mut dyn FnMut(T),
) -> serde_json::Result<ListPage> {
    let bytes = ObjectBytes::default();
    let mut deserializer = serde_json::Deserializer::from_reader(Bounded::new(source, &bytes));
    let page = ListReader { bytes: &bytes, on_item }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(page)
}

/// Reads a single object.
pub fn read_one<T: DeserializeOwned>(source: impl Read) -> serde_json::Result<T> {
    let source = Bounded::new(source, &ObjectBytes::default());
    let mut deserializer = serde_json::Deserializer::from_reader(source);
    let Braces(object) = Braces::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(object)
}

struct ListReader<'a, T> {
    bytes: &'a ObjectBytes,
    on_item: &'a mut dyn FnMut(T),
}

impl<'de, T: ApiObject> DeserializeSeed<'de> for ListReader<'_, T> {
    type Value = ListPage;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ListPage, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: ApiObject> Visitor<'de> for ListReader<'_, T> {
    type Value = ListPage;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(T::LIST)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ListPage, A::Error> {
        let (mut kind, mut metadata, mut items) = (None, None, None);
        while let Some(key) = map.next_key()? {
            match key {
                ListKey::Kind => set_once(&mut kind, map.next_value::<Word>()?)?,
                ListKey::Metadata => {
                    set_once(&mut metadata, map.next_value::<Option<Braces<ListMetadata>>>()?)?;
                }
                ListKey::Items => {
                    self.bytes.set(0);
                    let add = |Braces(item): Braces<T>| {
                        if !item.is_named() {
                            return Err("an object without a name");
                        }
                        (self.on_item)(item);
                        self.bytes.set(0);
                        Ok(())
                    };
                    set_once(&mut items, map.next_value_seed(Elements::new(add))?)?;
                }
                ListKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        // Other JSON, such as an empty object, must not count as an empty list: a node without
        // DaemonSets is healthy.
        if kind.is_none_or(|kind: Word| kind.0 != T::LIST) || items.is_none() {
            return Err(A::Error::custom(format_args!("no {}", T::LIST)));
        }
        let Braces(metadata) = metadata.flatten().unwrap_or_default();
        let token = metadata.token.filter(|token| !token.is_empty());
        Ok(ListPage { token, version: metadata.resource_version.unwrap_or_default().0 })
    }
}

/// A second value must not replace the first: a lost token would end the list too early.
fn set_once<T, E: Error>(field: &mut Option<T>, value: T) -> Result<(), E> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("duplicate key")),
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
struct ListMetadata {
    #[serde(rename = "continue")]
    token: Option<String>,
    resource_version: Option<Word>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "Braces<RawEvent<T>>", bound = "T: ApiObject")]
pub enum Event<T> {
    /// The object was added or modified.
    Changed(T),
    /// The object was deleted, or does not match the selector any more.
    Deleted(T),
    /// There were no other events up to this version.
    Bookmark(String),
    /// The watch has ended with this status and message.
    Error(u16, Option<String>),
    Unknown,
}

/// Reads the events of a watch, each as soon as its last byte has arrived. The first error is the
/// last item.
pub fn read_events<T: ApiObject>(
    source: impl Read,
) -> impl Iterator<Item = serde_json::Result<Event<T>>> {
    let bytes = ObjectBytes::default();
    let source = Bounded::new(source, &bytes);
    let mut events = serde_json::Deserializer::from_reader(source).into_iter();
    std::iter::from_fn(move || {
        bytes.set(0);
        events.next()
    })
}

/// The object may stand before the type of the event. So a bookmark or an error is read as if it
/// were an object of the watched kind.
#[derive(Deserialize)]
#[serde(bound = "T: ApiObject")]
struct RawEvent<T> {
    #[serde(rename = "type")]
    kind: EventType,
    object: Braces<T>,
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

impl<T: ApiObject> TryFrom<Braces<RawEvent<T>>> for Event<T> {
    type Error = &'static str;

    fn try_from(Braces(event): Braces<RawEvent<T>>) -> Result<Event<T>, &'static str> {
        let Braces(object) = event.object;
        match event.kind {
            EventType::Added | EventType::Modified | EventType::Deleted if !object.is_named() => {
                Err("an object without a name")
            }
            EventType::Added | EventType::Modified => Ok(Event::Changed(object)),
            EventType::Deleted => Ok(Event::Deleted(object)),
            EventType::Bookmark => Ok(Event::Bookmark(object.version().to_owned())),
            EventType::Error => {
                let (code, message) = object.into_status();
                Ok(Event::Error(code, message))
            }
            EventType::Other => Ok(Event::Unknown),
        }
    }
}
