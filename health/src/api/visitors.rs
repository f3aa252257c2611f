//! The general part of reading JSON with serde: objects in braces, and lists element by element.
//! The file does not know Kubernetes.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Passes the elements of a list to a function. `null` is an empty list.
pub struct Elements<T, F> {
    on_element: F,
    element: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, F: FnMut(T) -> Result<(), &'static str>> Elements<T, F> {
    pub fn new(on_element: F) -> Elements<T, F> {
        Elements { on_element, element: PhantomData }
    }
}

impl<'de, T, F> DeserializeSeed<'de> for Elements<T, F>
where
    T: Deserialize<'de>,
    F: FnMut(T) -> Result<(), &'static str>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, T, F> Visitor<'de> for Elements<T, F>
where
    T: Deserialize<'de>,
    F: FnMut(T) -> Result<(), &'static str>,
{
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

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            (self.on_element)(element).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// A value in braces: serde's derived code would also accept an array of the fields.
#[derive(Default)]
pub struct Braces<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Braces<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Braces<T>, D::Error> {
        let object = deserializer.deserialize_map(BracesVisitor(PhantomData))?;
        object.map(Braces).ok_or_else(|| D::Error::custom("an object is missing"))
    }
}

struct BracesVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BracesVisitor<T> {
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

/// For a field that holds an object or `null`.
pub fn object<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(optional_object(deserializer)?.unwrap_or_default())
}

/// The same, if an absent object differs from an empty one.
pub fn optional_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let object = Option::<Braces<T>>::deserialize(deserializer)?;
    Ok(object.map(|Braces(object)| object))
}

/// For the field `status`, which is a string in a `Status`.
pub fn object_or_string<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(deserializer.deserialize_any(BracesVisitor(PhantomData))?.unwrap_or_default())
}
