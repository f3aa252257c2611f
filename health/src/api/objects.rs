//! The few fields that are read of Kubernetes' objects, and how a list of any length streams by.
//!
//! Null where an object or a list should be counts as absent: Go writes empty ones so. Everything
//! else that is not as the API documents it is an error, because an answer half understood could
//! open the gate. Does not know of HTTP.

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::bounded::{Bounded, Spent};
use crate::eligibility::Labels;
use crate::verdict;

/// Keeps a DaemonSet out of the verdict where its value is `true`.
const IGNORE: &str = "pod-startup-lock/ignore";

/// An object that lists consist of.
pub trait Item: DeserializeOwned {
    /// What a list of them calls itself.
    const LIST: &'static str;
}

impl Item for DaemonSet {
    const LIST: &'static str = "DaemonSetList";
}

impl Item for Pod {
    const LIST: &'static str = "PodList";
}

/// Reads a list, hands on its items one by one, and returns the token that asks for its next page.
pub fn read_list<T: Item>(source: impl Read, each: &mut dyn FnMut(T)) -> serde_json::Result<Option<String>> {
    let spent = Spent::default();
    let mut deserializer = serde_json::Deserializer::from_reader(Bounded::new(source, &spent));
    let token = List { spent: &spent, each }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(token)
}

/// Reads one object.
pub fn read_one<T: DeserializeOwned>(source: impl Read) -> serde_json::Result<T> {
    let spent = Spent::default();
    let mut deserializer = serde_json::Deserializer::from_reader(Bounded::new(source, &spent));
    let object = T::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(object)
}

struct List<'a, T> {
    spent: &'a Spent,
    each: &'a mut dyn FnMut(T),
}

impl<'de, T: Item> DeserializeSeed<'de> for List<'_, T> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Item> Visitor<'de> for List<'_, T> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(T::LIST)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut is_kind, mut has_items, mut token) = (false, false, None);
        while let Some(key) = map.next_key()? {
            match key {
                ListKey::Kind => is_kind = map.next_value::<String>()? == T::LIST,
                ListKey::Metadata => token = map.next_value::<Option<ListMeta>>()?.and_then(|meta| meta.token),
                ListKey::Items => {
                    has_items = true;
                    map.next_value_seed(Items { spent: self.spent, each: &mut *self.each })?;
                }
                ListKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        // Any other JSON, an empty object say, must not pass for a list of nothing: nothing to wait for is "healthy".
        if !is_kind || !has_items {
            return Err(A::Error::custom(format_args!("no {}", T::LIST)));
        }
        Ok(token.filter(|token| !token.is_empty()))
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

#[derive(Deserialize)]
struct ListMeta {
    #[serde(rename = "continue")]
    token: Option<String>,
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
            match items.next_element()? {
                Some(item) => (self.each)(item),
                None => break,
            }
        }
        self.spent.set(0);
        Ok(())
    }
}

/// What is read of a DaemonSet.
#[derive(Deserialize)]
pub struct DaemonSet {
    metadata: DaemonSetMeta,
    spec: Option<DaemonSetSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DaemonSetMeta {
    namespace: String,
    name: String,
    uid: String,
    labels: Option<Labels>,
    annotations: Option<Ignore>,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct DaemonSetSpec {
    template: Option<Template>,
}

#[derive(Deserialize)]
struct Template {
    spec: Option<TemplateSpec>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TemplateSpec {
    node_selector: Option<Labels>,
    host_network: Option<bool>,
}

impl From<DaemonSet> for verdict::DaemonSet {
    fn from(set: DaemonSet) -> verdict::DaemonSet {
        let template = set.spec.and_then(|spec| spec.template?.spec).unwrap_or_default();
        verdict::DaemonSet {
            namespace: set.metadata.namespace,
            name: set.metadata.name,
            uid: set.metadata.uid,
            labels: set.metadata.labels.unwrap_or_default(),
            is_ignored: set.metadata.annotations.is_some_and(|ignore| ignore.0),
            is_being_deleted: set.metadata.deletion_timestamp.is_some(),
            has_host_network: template.host_network.unwrap_or(false),
            node_selector: template.node_selector.unwrap_or_default(),
        }
    }
}

/// Annotations hold whole manifests; of theirs only the one is kept.
struct Ignore(bool);

impl<'de> Deserialize<'de> for Ignore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ignore, D::Error> {
        deserializer.deserialize_map(Annotations)
    }
}

struct Annotations;

impl<'de> Visitor<'de> for Annotations {
    type Value = Ignore;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ignore, A::Error> {
        let mut ignore = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == IGNORE {
                ignore = map.next_value::<String>()? == "true";
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Ignore(ignore))
    }
}

/// What is read of a pod.
#[derive(Deserialize)]
pub struct Pod {
    metadata: PodMeta,
    spec: Option<PodSpec>,
    status: Option<PodStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMeta {
    name: String,
    owner_references: Option<Vec<Owner>>,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Owner {
    uid: String,
    controller: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
}

#[derive(Default, Deserialize)]
struct PodStatus {
    phase: Option<String>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Pod {
    /// Whether it is bound to this node. The server is asked for these alone, but what answers
    /// may be a proxy or a cache that does not know the selector.
    pub fn is_on(&self, node: &str) -> bool {
        self.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node)
    }
}

impl From<Pod> for verdict::Pod {
    fn from(pod: Pod) -> verdict::Pod {
        let status = pod.status.unwrap_or_default();
        let mut owners = pod.metadata.owner_references.unwrap_or_default().into_iter();
        let mut conditions = status.conditions.unwrap_or_default().into_iter();
        verdict::Pod {
            name: pod.metadata.name,
            owner: owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.uid),
            is_being_deleted: pod.metadata.deletion_timestamp.is_some(),
            phase: status.phase.unwrap_or_default(),
            is_ready: conditions.any(|condition| condition.kind == "Ready" && condition.status == "True"),
        }
    }
}

/// What is read of a node.
#[derive(Deserialize)]
pub struct Node {
    kind: String,
    metadata: NodeMeta,
}

#[derive(Deserialize)]
struct NodeMeta {
    name: String,
    labels: Option<Labels>,
}

impl Node {
    /// Its labels, where it is the node that was asked for.
    pub fn labels_of(self, name: &str) -> Option<Labels> {
        let is_it = self.kind == "Node" && self.metadata.name == name;
        is_it.then(|| self.metadata.labels.unwrap_or_default())
    }
}

/// What is read of the answer that says why there is none.
#[derive(Default, Deserialize)]
pub struct Status {
    message: Option<String>,
}

impl Status {
    /// The server's words; nothing where it found none, or what answered was no API server.
    pub fn words(text: &str) -> Option<String> {
        serde_json::from_str::<Status>(text).ok()?.message.filter(|message| !message.is_empty())
    }
}
