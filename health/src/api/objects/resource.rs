//! The parts of objects that several kinds have in common.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::api::fields::{
    AnyTimestamp, BoundedLabels, Collector, List, MatchText, Name, TextLines, Timestamp, Word,
};
use crate::api::json::ApiObject;
use crate::api::visitors::{Braces, object, object_or_string};
use crate::core::eligibility::TaintEffect;

/// The name of the init container that waits for the lock, unless the annotation
/// `pod-startup-lock/gate` gives another name.
const GATE: &str = "pod-startup-lock";

/// The part of an object that depends on its kind.
pub trait ObjectKind {
    /// The `kind` of a list.
    const LIST: &'static str;
    const NOUN: &'static str;
    /// Pods name the object as their owner, which takes a namespace and a UID.
    const IS_OWNER: bool = false;
    type Spec: Default + DeserializeOwned;
    type Status: Default + DeserializeOwned;
}

/// An object. In a watch it may also be a bookmark or a `Status`, which lack most fields.
#[derive(Deserialize)]
#[serde(bound = "")]
pub struct Resource<K: ObjectKind> {
    #[serde(default)]
    pub kind: Word,
    #[serde(default, deserialize_with = "object_in_braces")]
    pub metadata: Metadata,
    #[serde(default, deserialize_with = "object")]
    pub spec: K::Spec,
    #[serde(default, deserialize_with = "object_or_string")]
    pub status: K::Status,
    /// Of a `Status`.
    code: Option<u16>,
    /// Of a `Status`.
    message: Option<String>,
}

/// For a field that must not be `null`.
fn object_in_braces<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Braces::deserialize(deserializer).map(|Braces(object)| object)
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    pub namespace: Name,
    pub name: Name,
    pub uid: Word,
    resource_version: Word,
    pub creation_timestamp: Option<Timestamp>,
    pub deletion_timestamp: Option<AnyTimestamp>,
    pub labels: BoundedLabels,
    #[serde(deserialize_with = "object")]
    pub annotations: Annotations,
    pub owner_references: List<Controller>,
}

impl<K: ObjectKind> ApiObject for Resource<K> {
    const LIST: &'static str = K::LIST;

    fn title(&self) -> String {
        let Metadata { namespace, name, .. } = &self.metadata;
        match namespace.0.as_str() {
            "" => format!("{} {}", K::NOUN, name.0),
            namespace => format!("{} {namespace}/{}", K::NOUN, name.0),
        }
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version.0
    }

    fn is_named(&self) -> bool {
        let Metadata { namespace, name, uid, .. } = &self.metadata;
        let is_complete = !namespace.0.is_empty() && !uid.0.is_empty();
        !name.0.is_empty() && (is_complete || !K::IS_OWNER)
    }

    fn into_status(self) -> (u16, Option<String>) {
        (self.code.unwrap_or_default(), self.message)
    }
}

/// The annotations of this project. Other annotations may hold whole manifests. Of a duplicate key
/// the last value counts, as in Go.
#[derive(Default)]
pub struct Annotations {
    /// `true` excludes a DaemonSet from the verdict.
    pub ignore: MatchText<4>,
    /// The name of a container has at most 63 bytes.
    gate: MatchText<63>,
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum AnnotationKey {
    #[serde(rename = "pod-startup-lock/ignore")]
    Ignore,
    #[serde(rename = "pod-startup-lock/gate")]
    Gate,
    #[serde(other)]
    Other,
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
        while let Some(key) = map.next_key()? {
            match key {
                AnnotationKey::Ignore => found.ignore = map.next_value()?,
                AnnotationKey::Gate => found.gate = map.next_value()?,
                AnnotationKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// The owner that controls a pod; there is at most one.
#[derive(Default)]
pub struct Controller(pub Option<OwnerReference>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    #[serde(default)]
    api_version: MatchText<128>,
    #[serde(default)]
    kind: MatchText<128>,
    name: Option<MatchText<253>>,
    uid: MatchText<128>,
    controller: Option<bool>,
}

impl Collector for Controller {
    type Element = Braces<OwnerReference>;

    fn add(&mut self, Braces(owner): Braces<OwnerReference>) {
        if self.0.is_none() && owner.controller == Some(true) {
            self.0 = Some(owner);
        }
    }
}

impl OwnerReference {
    /// The name and the UID, if the owner may be a DaemonSet. Other projects have kinds of this
    /// name. A user may write any text as the name; the API server would reject it in a field
    /// selector, and the read would fail each time.
    pub fn into_daemonset(self) -> Option<(Box<str>, Box<str>)> {
        let is_daemonset =
            *self.kind.0? == *"DaemonSet" && self.api_version.0?.starts_with("apps/");
        let name = self.name.unwrap_or_else(|| MatchText(Some("".into()))).0?;
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        let uid = self.uid.0?;
        (is_daemonset && is_name).then_some((name, uid))
    }
}

/// The names of all init containers: the one that waits for the lock may be the last of many.
#[derive(Default)]
pub struct InitContainers(pub TextLines);

#[derive(Deserialize)]
pub struct Container {
    name: Option<Word>,
}

impl Collector for InitContainers {
    type Element = Braces<Container>;

    fn add(&mut self, Braces(container): Braces<Container>) {
        self.0.push(&container.name.unwrap_or_default().0);
    }
}

impl InitContainers {
    /// The name of the init container that waits for the lock.
    pub fn gate<'a>(&self, annotations: &'a Annotations) -> Option<&'a str> {
        let named = annotations.gate.0.as_deref();
        named.into_iter().chain([GATE]).find(|name| self.0.contains(name))
    }
}

/// The effects that exclude pods.
pub fn taint_effect(name: &str) -> Option<TaintEffect> {
    match name {
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "NoExecute" => Some(TaintEffect::NoExecute),
        _ => None,
    }
}

#[derive(Deserialize)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: Box<str>,
    pub status: Box<str>,
}

/// The body of an error response.
#[derive(Default, Deserialize)]
pub struct StatusObject {
    message: Option<String>,
}

impl StatusObject {
    /// The server's message on one line, if the body is a `Status`.
    pub fn message(text: &str) -> Option<String> {
        let message = serde_json::from_str::<StatusObject>(text).ok()?.message?;
        Some(psl::text::one_line(&message)).filter(|message| !message.is_empty())
    }
}
