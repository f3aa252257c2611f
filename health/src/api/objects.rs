//! The few fields that are read of Kubernetes' objects, and how a list of any length streams by.
//!
//! Null where an object or a list should be counts as absent: Go writes empty ones so. Everything
//! else that is not as the API documents it is an error, because an answer half understood could
//! open the gate. Does not know of HTTP.

use std::fmt;
use std::io::Read;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
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

    /// What people know it by.
    fn title(&self) -> String;
}

impl Item for DaemonSet {
    const LIST: &'static str = "DaemonSetList";

    fn title(&self) -> String {
        format!("DaemonSet {}/{}", self.metadata.namespace.0, self.metadata.name.0)
    }
}

impl Item for Pod {
    const LIST: &'static str = "PodList";

    fn title(&self) -> String {
        format!("pod {}", self.metadata.name.0)
    }
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
    let object = object(&mut deserializer)?;
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
        let (mut kind, mut metadata, mut items) = (None, None, None);
        while let Some(key) = map.next_key()? {
            match key {
                ListKey::Kind => once(&mut kind, map.next_value::<Word>()?)?,
                ListKey::Metadata => once(&mut metadata, map.next_value::<Option<Object<ListMeta>>>()?)?,
                ListKey::Items => {
                    once(&mut items, map.next_value_seed(Items { spent: self.spent, each: &mut *self.each })?)?;
                }
                ListKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        // Any other JSON, an empty object say, must not pass for a list of nothing: nothing to wait for is "healthy".
        if kind.is_none_or(|kind: Word| kind.0 != T::LIST) || items.is_none() {
            return Err(A::Error::custom(format_args!("no {}", T::LIST)));
        }
        let token = metadata.flatten().and_then(|meta| meta.0.token);
        Ok(token.filter(|token| !token.is_empty()))
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
            match items.next_element::<Object<T>>()? {
                Some(item) => (self.each)(item.0),
                None => break,
            }
        }
        self.spent.set(0);
        Ok(())
    }
}

/// JSON in braces: serde's derived code would also take an array, field after field.
struct Object<T>(T);

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

fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|object| object.0)
}

fn optional<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::<Object<T>>::deserialize(deserializer).map(|object| object.map(|object| object.0))
}

/// A text that Kubernetes bounds ("Object Names and IDs", "Labels and Selectors"). What is longer
/// does not come from it, and would be kept for as long as the verdict stands.
#[derive(Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct Short<const MOST: usize>(String);

impl<const MOST: usize> TryFrom<String> for Short<MOST> {
    type Error = String;

    fn try_from(text: String) -> Result<Short<MOST>, String> {
        if text.len() <= MOST { Ok(Short(text)) } else { Err(format!("a text of more than {MOST} bytes")) }
    }
}

/// Names and namespaces are DNS subdomains.
type Name = Short<253>;
/// UIDs are UUIDs, phases and conditions words; with room for more.
type Word = Short<128>;

/// When the object was asked to go; that it was is all that is kept.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Deletion;

impl TryFrom<String> for Deletion {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Deletion, &'static str> {
        if text.is_empty() { Err("a moment that is empty") } else { Ok(Deletion) }
    }
}

/// A key has a prefix, which is a DNS subdomain, a slash, and a name.
type Key = Short<317>;
type Value = Short<63>;

/// Kubernetes does not bound how many labels a node has; these are more than anybody has use for.
const MOST_LABELS: usize = 1024;

/// A nodeSelector. Of one with more than any node has labels the rest is not looked at: it fits no
/// node either way, and an error would let whoever may make a DaemonSet close the gate of every node.
#[derive(Default)]
struct Selector(Labels);

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
            if labels.len() <= MOST_LABELS && labels.insert(key, value).is_some() {
                return Err(A::Error::custom("a key that stands twice"));
            }
        }
        Ok(Selector(labels))
    }
}

/// A node's labels, all of them: one that is left out would send away the DaemonSets that want it.
#[derive(Default, Deserialize)]
#[serde(try_from = "Selector")]
struct NodeLabels(Labels);

impl TryFrom<Selector> for NodeLabels {
    type Error = String;

    fn try_from(Selector(labels): Selector) -> Result<NodeLabels, String> {
        if labels.len() <= MOST_LABELS {
            Ok(NodeLabels(labels))
        } else {
            Err(format!("more than {MOST_LABELS} labels"))
        }
    }
}

/// A DaemonSet's own labels in one piece, each key and each value on a line: a map of as many as fit
/// into an object would take ten times their size, and what a filter asks for may be the last.
#[derive(Default)]
struct Packed(String);

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Packed, D::Error> {
        deserializer.deserialize_map(Lines)
    }
}

struct Lines;

impl<'de> Visitor<'de> for Lines {
    type Value = Packed;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Packed, A::Error> {
        let mut lines = String::new();
        while let Some((Short(key), Short(value))) = map.next_entry::<Key, Value>()? {
            for text in [key, value] {
                if text.contains('\n') {
                    return Err(A::Error::custom("a label of more than one line"));
                }
                lines.push_str(&text);
                lines.push('\n');
            }
        }
        Ok(Packed(lines))
    }
}

impl Packed {
    fn labels(&self, is_asked_for: impl Fn(&str) -> bool) -> Labels {
        let mut lines = self.0.split('\n');
        let pairs = std::iter::from_fn(|| Some((lines.next()?, lines.next()?)));
        pairs.filter(|(key, _)| is_asked_for(key)).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

/// Of a list the first element that matters; the others, however many, are read and dropped.
struct First<T>(Option<T>);

trait Matters {
    fn matters(&self) -> bool;
}

impl<'de, T: Deserialize<'de> + Matters> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<First<T>, D::Error> {
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

struct Elements<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Matters> Visitor<'de> for Elements<T> {
    type Value = First<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<First<T>, A::Error> {
        let mut first = None;
        while let Some(Object(element)) = elements.next_element::<Object<T>>()? {
            if first.is_none() && element.matters() {
                first = Some(element);
            }
        }
        Ok(First(first))
    }
}

/// What is read of a DaemonSet.
#[derive(Deserialize)]
pub struct DaemonSet {
    #[serde(deserialize_with = "object")]
    metadata: DaemonSetMeta,
    #[serde(default, deserialize_with = "optional")]
    spec: Option<DaemonSetSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DaemonSetMeta {
    namespace: Name,
    name: Name,
    uid: Word,
    labels: Option<Packed>,
    annotations: Option<Ignore>,
    deletion_timestamp: Option<Deletion>,
}

#[derive(Deserialize)]
struct DaemonSetSpec {
    #[serde(default, deserialize_with = "optional")]
    template: Option<Template>,
}

#[derive(Deserialize)]
struct Template {
    #[serde(default, deserialize_with = "optional")]
    spec: Option<TemplateSpec>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TemplateSpec {
    node_selector: Option<Selector>,
    host_network: Option<bool>,
}

impl DaemonSet {
    /// With those of its labels that are asked for.
    pub fn with_labels(self, is_asked_for: impl Fn(&str) -> bool) -> verdict::DaemonSet {
        let template = self.spec.and_then(|spec| spec.template?.spec).unwrap_or_default();
        verdict::DaemonSet {
            namespace: self.metadata.namespace.0,
            name: self.metadata.name.0,
            uid: self.metadata.uid.0,
            labels: self.metadata.labels.unwrap_or_default().labels(is_asked_for),
            is_ignored: self.metadata.annotations.is_some_and(|ignore| ignore.0),
            is_being_deleted: self.metadata.deletion_timestamp.is_some(),
            has_host_network: template.host_network.unwrap_or(false),
            node_selector: template.node_selector.unwrap_or_default().0,
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
    #[serde(deserialize_with = "object")]
    metadata: PodMeta,
    #[serde(default, deserialize_with = "optional")]
    spec: Option<PodSpec>,
    #[serde(default, deserialize_with = "optional")]
    status: Option<PodStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMeta {
    name: Name,
    owner_references: Option<First<Owner>>,
    deletion_timestamp: Option<Deletion>,
}

#[derive(Deserialize)]
struct Owner {
    uid: Word,
    controller: Option<bool>,
}

impl Matters for Owner {
    fn matters(&self) -> bool {
        self.controller == Some(true)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<Name>,
}

#[derive(Default, Deserialize)]
struct PodStatus {
    phase: Option<Word>,
    conditions: Option<First<Condition>>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Matters for Condition {
    fn matters(&self) -> bool {
        self.kind == "Ready" && self.status == "True"
    }
}

impl Pod {
    /// Whether it is bound to this node. The server is asked for these alone, but what answers
    /// may be a proxy or a cache that does not know the selector.
    pub fn is_on(&self, node: &str) -> bool {
        self.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some_and(|name| name.0 == node)
    }
}

impl From<Pod> for verdict::Pod {
    fn from(pod: Pod) -> verdict::Pod {
        let status = pod.status.unwrap_or_default();
        verdict::Pod {
            name: pod.metadata.name.0,
            owner: pod.metadata.owner_references.and_then(|owners| owners.0).map(|owner| owner.uid.0),
            is_being_deleted: pod.metadata.deletion_timestamp.is_some(),
            phase: status.phase.unwrap_or_default().0,
            is_ready: status.conditions.is_some_and(|conditions| conditions.0.is_some()),
        }
    }
}

/// What is read of a node.
#[derive(Deserialize)]
pub struct Node {
    kind: Word,
    #[serde(deserialize_with = "object")]
    metadata: NodeMeta,
}

#[derive(Deserialize)]
struct NodeMeta {
    name: Name,
    labels: Option<NodeLabels>,
}

impl Node {
    /// Its labels, where it is the node that was asked for.
    pub fn labels_of(self, name: &str) -> Option<Labels> {
        let is_it = self.kind.0 == "Node" && self.metadata.name.0 == name;
        is_it.then(|| self.metadata.labels.unwrap_or_default().0)
    }
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
