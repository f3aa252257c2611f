//! Watches: the events that lead from the objects that a client knows to the current ones. Looks
//! for changes each 5 ms.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::lists::{Source, filtered, text};
use super::recordings::{Query, value};
use super::resource::Resource;
use super::wire::{Body, Out, head};
use super::{Role, Shared, WatchEnd};
use crate::http::split_target;
use crate::listening::{End, Wire};
use crate::scripted::Seen;

/// Objects by UID. Successive versions share the objects that have not changed.
pub(super) type Items = BTreeMap<String, Arc<Value>>;

/// The first version of changed objects; recorded versions are far below.
const FIRST_VERSION: u64 = 100_000;
/// The event of a real server for a version that it has forgotten.
const TOO_OLD: &[u8] = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"#,
    r#""status":"Failure","message":"too old resource version: 1 (433)","#,
    r#""reason":"Expired","code":410}}"#,
    "\n"
)
.as_bytes();

/// The requests of tests to all watches, which poll them.
#[derive(Clone, Copy)]
pub(super) struct Signals {
    /// Goes up with each change of an object; is then the version of that object.
    pub(super) version: u64,
    /// Goes up with each bookmark that the watches are to send.
    pub(super) bookmarks: u64,
    /// Goes up each time that the open watches are to end.
    pub(super) ends: u64,
    pub(super) end: Option<WatchEnd>,
    pub(super) is_repeating: bool,
    pub(super) is_stopped: bool,
}

impl Default for Signals {
    fn default() -> Signals {
        Signals {
            version: FIRST_VERSION,
            bookmarks: 0,
            ends: 0,
            end: None,
            is_repeating: false,
            is_stopped: false,
        }
    }
}

struct Watch<'a> {
    shared: &'a Shared,
    out: Out<'a>,
    role: Role,
    path: String,
    query: Query,
    /// The objects as the client knows them, and the version that it has reached.
    items: Items,
    reached: String,
    /// The signals as they were when they were last looked at.
    signals: Signals,
}

impl Shared {
    /// Sends events until the time is up, the client goes away, or the test ends the watch.
    pub(super) fn watch(&self, wire: &mut dyn Wire, request: &Seen, role: Role) -> io::Result<End> {
        let (path, query) = split_target(&request.target);
        let seconds = value(&query, "timeoutSeconds").and_then(|seconds| seconds.parse().ok());
        let deadline = Instant::now() + Duration::from_secs(seconds.unwrap_or(1800));
        let mut out = Out { wire, pause: None, chunked: true };
        let head = head(&self.ok(Body::Watch(role)), true);
        out.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
        let reached = value(&query, "resourceVersion").unwrap_or_default().to_string();
        let items = match reached.as_str() {
            "" | "0" => Some(Items::new()),
            _ => {
                let key = (watch_key(&path, &query), reached.clone());
                self.state().snapshots.get(&key).cloned()
            }
        };
        let Some(items) = items else {
            out.piece(TOO_OLD)?;
            return out.finish();
        };
        // No object has version 0, so that the first round sends the differences.
        let signals = Signals { version: 0, ..self.state().signals };
        Watch { shared: self, out, role, path, query, items, reached, signals }.run(deadline)
    }

    /// The current objects of a watch.
    fn watched(&self, role: Role, path: &str, query: &Query) -> Items {
        // As below, without the way through text and back, which takes long for many objects.
        let resource = Resource::of(path);
        if let Some(Source::Value(list)) = self.override_for(path, &resource, query)
            && list["items"].is_array()
        {
            return items_of(&filtered(&list, &resource, query));
        }
        let selector = value(query, "fieldSelector").filter(|_| path == "/api/v1/nodes");
        let response = match selector.and_then(|name| name.strip_prefix("metadata.name=")) {
            Some(name) => self.look_up(role, &format!("{path}/{name}"), &Query::new()),
            None => {
                let selectors = query.iter().filter(|(key, _)| key.ends_with("Selector"));
                self.look_up(role, path, &selectors.cloned().collect())
            }
        };
        match (response.status, &response.body) {
            (200, Body::Bytes(bytes)) => items_of(&serde_json::from_slice(bytes).unwrap()),
            _ => Items::new(),
        }
    }
}

impl Watch<'_> {
    fn run(mut self, deadline: Instant) -> io::Result<End> {
        while Instant::now() < deadline {
            let now = self.shared.state().signals;
            let before = std::mem::replace(&mut self.signals, now);
            if now.is_stopped {
                return Ok(End::Cut);
            }
            if now.ends != before.ends {
                return self.end(now.end.unwrap_or(WatchEnd::Well), deadline);
            }
            if now.version != before.version {
                self.send_changes()?;
            }
            if now.bookmarks != before.bookmarks {
                self.send_bookmark()?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.out.finish()
    }

    fn end(mut self, how: WatchEnd, deadline: Instant) -> io::Result<End> {
        match how {
            WatchEnd::Well => {}
            WatchEnd::Cut => return Ok(End::Cut),
            WatchEnd::Reset => return Ok(End::Reset),
            WatchEnd::HalfEvent => {
                self.out.piece(br#"{"type":"MODIFIED","object":{"kind":"Pod","meta"#)?;
                return Ok(End::Cut);
            }
            WatchEnd::Expired => self.out.piece(TOO_OLD)?,
            WatchEnd::Garbage => self.out.piece(b"<html>no</html>\n")?,
            WatchEnd::Silent => {
                while Instant::now() < deadline {
                    if self.shared.state().signals.is_stopped {
                        return Ok(End::Cut);
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        self.out.finish()
    }

    fn send_changes(&mut self) -> io::Result<()> {
        let now = self.shared.watched(self.role, &self.path, &self.query);
        for (kind, object) in changes(&self.items, &now) {
            let uid = uid_of(&object);
            match kind {
                "DELETED" => drop(self.items.remove(&uid)),
                _ => drop(self.items.insert(uid, Arc::clone(&object))),
            }
            {
                let mut state = self.shared.state();
                // The number of snapshots makes it unique; a new version would wake other watches.
                self.reached = format!("{}{:06}", state.signals.version, state.snapshots.len());
                state.snapshots.insert(self.snapshot_key(), self.items.clone());
            }
            let mut object = Value::clone(&object);
            object["metadata"]["resourceVersion"] = json!(self.reached);
            let event = format!("{}\n", json!({"type": kind, "object": object}));
            for _ in 0..=usize::from(self.signals.is_repeating) {
                self.out.piece(event.as_bytes())?;
            }
            self.shared.note_sent(&self.path);
        }
        Ok(())
    }

    fn send_bookmark(&mut self) -> io::Result<()> {
        self.shared.state().snapshots.insert(self.snapshot_key(), self.items.clone());
        let metadata = json!({"resourceVersion": self.reached, "creationTimestamp": null});
        let object = json!({"metadata": metadata, "spec": {"containers": null}});
        let event = format!("{}\n", json!({"type": "BOOKMARK", "object": object}));
        self.out.piece(event.as_bytes())
    }

    /// The key under which a later watch finds these objects to go on from.
    fn snapshot_key(&self) -> (String, String) {
        (watch_key(&self.path, &self.query), self.reached.clone())
    }
}

/// A path with its selectors.
pub(super) fn watch_key(path: &str, query: &Query) -> String {
    let selectors = query.iter().filter(|(key, _)| key.ends_with("Selector"));
    selectors.fold(path.to_string(), |key, (name, value)| format!("{key}&{name}={value}"))
}

fn uid_of(object: &Value) -> String {
    text(&object["metadata"]["uid"]).to_string()
}

/// The objects of a list, or the one object, with their kind, as events have them.
pub(super) fn items_of(answer: &Value) -> Items {
    let Some(kind) = text(&answer["kind"]).strip_suffix("List") else {
        return [(uid_of(answer), Arc::new(answer.clone()))].into();
    };
    let item = |item: &Value| {
        let mut item = item.clone();
        (item["kind"], item["apiVersion"]) = (json!(kind), answer["apiVersion"].clone());
        (uid_of(&item), Arc::new(item))
    };
    answer["items"].as_array().into_iter().flatten().map(item).collect()
}

/// The events that lead from these objects to those. Deletions come first, as when a pod is
/// replaced.
fn changes(from: &Items, to: &Items) -> Vec<(&'static str, Arc<Value>)> {
    let mut events = Vec::new();
    for (uid, object) in from {
        if !to.contains_key(uid) {
            events.push(("DELETED", Arc::clone(object)));
        }
    }
    for (uid, object) in to {
        match from.get(uid) {
            None => events.push(("ADDED", Arc::clone(object))),
            Some(known) if known != object => events.push(("MODIFIED", Arc::clone(object))),
            Some(_) => {}
        }
    }
    events
}
