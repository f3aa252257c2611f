//! The few fields that are read of Kubernetes' objects, and what they come to. Whatever else an object holds is passed
//! over while it streams by.
//!
//! Does not know of HTTP, nor what the fields are good for.

mod daemonset;
mod kept;
mod node;
mod pod;

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::json::{
    Deletion, Gather, Gathered, Item, Moment, Name, Word, object, object_or_word, optional,
};
use crate::eligibility::Effect;
use kept::{Fitting, Lines, Packed};

pub use daemonset::DaemonSet;
pub use node::{Node, NodeMetrics};
pub use pod::Pod;

/// Keeps a DaemonSet out of the verdict where its value is `true`.
const IGNORE: &str = "pod-startup-lock/ignore";
/// Names the init container that waits for the lock, where it is not called [`GATE`].
const GATE_ANNOTATION: &str = "pod-startup-lock/gate";
/// The init container that waits for the lock.
const GATE: &str = "pod-startup-lock";

/// What is particular about one kind of object.
pub trait Kind {
    /// What a list of them calls itself.
    const LIST: &'static str;
    /// What people call one.
    const NOUN: &'static str;
    /// Whether pods name it as their owner, which takes more than a name.
    const IS_OWNER: bool = false;
    /// What is read of `spec`.
    type Spec: DeserializeOwned;
    /// What is read of `status`.
    type Status: DeserializeOwned;
}

/// An object, or in a watch what stands in its place: bookmarks and a `Status`, which lack most of it.
#[derive(Deserialize)]
#[serde(bound = "")]
pub struct Resource<K: Kind> {
    #[serde(default)]
    kind: Word,
    #[serde(default, deserialize_with = "object")]
    metadata: Meta,
    #[serde(default, deserialize_with = "optional")]
    spec: Option<K::Spec>,
    #[serde(default, deserialize_with = "object_or_word")]
    status: Option<K::Status>,
    // Of a `Status`.
    code: Option<u16>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    namespace: Name,
    name: Name,
    uid: Word,
    resource_version: Word,
    creation_timestamp: Option<Moment>,
    deletion_timestamp: Option<Deletion>,
    labels: Option<Packed>,
    annotations: Option<Annotations>,
    owner_references: Option<Gathered<Controller>>,
}

impl Meta {
    fn title(&self, noun: &str) -> String {
        match &*self.namespace.0 {
            "" => format!("{noun} {}", self.name.0),
            namespace => format!("{noun} {namespace}/{}", self.name.0),
        }
    }

    fn is_named(&self, is_owner: bool) -> bool {
        let is_told_apart = !is_owner || !(self.namespace.0.is_empty() || self.uid.0.is_empty());
        !self.name.0.is_empty() && is_told_apart
    }
}

impl<K: Kind> Item for Resource<K> {
    const LIST: &'static str = K::LIST;

    fn title(&self) -> String {
        self.metadata.title(K::NOUN)
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version.0
    }

    fn is_named(&self) -> bool {
        self.metadata.is_named(K::IS_OWNER)
    }

    fn status(self) -> (u16, Option<String>) {
        (self.code.unwrap_or_default(), self.message)
    }
}

/// Annotations hold whole manifests; of theirs only these are kept.
#[derive(Default)]
struct Annotations {
    ignore: bool,
    gate: Option<Box<str>>,
}

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Annotations, D::Error> {
        deserializer.deserialize_map(AnnotationsVisitor)
    }
}

struct AnnotationsVisitor;

impl<'de> Visitor<'de> for AnnotationsVisitor {
    type Value = Annotations;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
        let mut found = Annotations::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                IGNORE => found.ignore = map.next_value::<String>()? == "true",
                // No container's name is longer.
                GATE_ANNOTATION => found.gate = map.next_value::<Fitting<63>>()?.0,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// The owner that controls the pod; there is at most one.
#[derive(Default)]
struct Controller(Option<Owner>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    #[serde(default)]
    api_version: Fitting<128>,
    #[serde(default)]
    kind: Fitting<128>,
    #[serde(default)]
    name: Fitting<253>,
    uid: Fitting<128>,
    controller: Option<bool>,
}

impl Gather for Controller {
    type Element = Owner;

    fn add(&mut self, owner: Owner) {
        if self.0.is_none() && owner.controller == Some(true) {
            self.0 = Some(owner);
        }
    }
}

impl Owner {
    /// The name and the UID of a DaemonSet. Other projects have kinds of this name too. A pod's maker may write anything
    /// for a name; a field selector with what no DaemonSet is called would be refused, as often as it is asked.
    fn daemonset(self) -> Option<(Box<str>, Box<str>)> {
        let is_one = &*self.kind.0? == "DaemonSet" && self.api_version.0?.starts_with("apps/");
        let is_named =
            |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        let name = self.name.0.filter(|name| is_one && is_named(name))?;
        Some((name, self.uid.0?))
    }
}

/// The names of init containers, all of them: the one that waits for the lock may be the last of many.
#[derive(Default)]
struct InitContainers(Lines);

#[derive(Deserialize)]
struct Container {
    name: Option<Word>,
}

impl Gather for InitContainers {
    type Element = Container;

    fn add(&mut self, container: Container) {
        self.0.push(&container.name.unwrap_or_default().0);
    }
}

impl InitContainers {
    /// The one that waits for the lock, where there is one.
    fn gate<'a>(&self, annotations: Option<&'a Annotations>) -> Option<&'a str> {
        let named = annotations.and_then(|annotations| annotations.gate.as_deref());
        named.into_iter().chain([GATE]).find(|name| self.0.contains(name))
    }
}

/// Of the effects of taints those that keep pods away.
fn effect_of(name: &str) -> Option<Effect> {
    match name {
        "NoSchedule" => Some(Effect::NoSchedule),
        "NoExecute" => Some(Effect::NoExecute),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: Box<str>,
    status: Box<str>,
}

/// What is read of the answer that says why there is none.
#[derive(Default, Deserialize)]
pub struct Status {
    message: Option<String>,
}

impl Status {
    /// The server's words on one line; nothing where it found none, or what answered was no API server.
    pub fn words(text: &str) -> Option<String> {
        let message = serde_json::from_str::<Status>(text).ok()?.message?;
        Some(psl::text::one_line(&message)).filter(|message| !message.is_empty())
    }
}
