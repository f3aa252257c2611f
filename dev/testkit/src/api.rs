//! A Kubernetes API server that answers from recordings, over plain TCP or TLS, as the real server
//! frames its answers: keep-alive, chunked lists, errors with their length, compact JSON for all
//! clients but browsers and curl. If no recording fits a request, the server derives an answer from
//! those of other namespaces or selectors. Tests change objects, which watches then report, and
//! make the server fail. It does not know its clients or how health judges the objects.

mod faults;
mod lists;
mod recordings;
mod resource;
mod respond;
#[cfg(test)]
mod tests;
mod watch;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use serde_json::{Value, json};

pub use faults::Fault;
pub use wire::compressed;

use crate::http::split_target;
use crate::listening::{Accepted, End, Listener, Wire};
use crate::scripted::read_request;
use crate::tls::Identity;
use lists::{BigList, Source};
use recordings::Recordings;
use resource::Resource;
use watch::{Items, Signals};
use wire::Body;

/// The token of [`Role::Wide`], known from the start.
pub const TOKEN: &str = "a-token-for-the-whole-cluster";
/// The token of [`Role::Narrow`], known from the start.
pub const NARROW_TOKEN: &str = "a-token-for-one-namespace";

/// The namespace in which [`Role::Narrow`] may read.
const NARROW_NAMESPACE: &str = "kube-system";
const DAEMONSETS: &str = "/apis/apps/v1/daemonsets";

/// The permissions of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To read nodes, pods and DaemonSets everywhere.
    Wide,
    /// To read pods and DaemonSets in kube-system.
    Narrow,
    /// As `Wide`, but not to watch.
    WithoutWatch,
}

/// How open watches end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// With the last chunk.
    Well,
    /// Without the last chunk, as when a server stops.
    Cut,
    /// In the middle of an event.
    HalfEvent,
    Reset,
    /// With an event that says 410. The server forgets all versions before.
    Expired,
    /// The connection stays open, and no event or bookmark follows.
    Silent,
    /// With bytes that are no event.
    Garbage,
}

/// A request that the server received. It does not contain the token.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Instant,
    /// The number of connections that were accepted before this one.
    pub connection: usize,
    pub method: String,
    pub path: String,
    /// In its order, decoded.
    pub query: Vec<(String, String)>,
    /// Whether the request has a bearer token, right or wrong.
    pub token: bool,
    pub user_agent: String,
    pub accept: String,
    /// The status of the answer; 0 if a fault left no status.
    pub status: u16,
}

/// A running API server; ends on drop.
pub struct Api {
    listening: Listener,
    shared: Arc<Shared>,
    scheme: &'static str,
}

struct Shared {
    recordings: Recordings,
    state: Mutex<State>,
    /// `None` for plain TCP.
    tls: Option<Mutex<Arc<ServerConfig>>>,
}

#[derive(Default)]
struct State {
    tokens: HashMap<String, Role>,
    open: bool,
    overrides: Vec<(String, Source)>,
    faults: Vec<(String, Fault, usize)>,
    paged: bool,
    expire_continue: bool,
    requests: Vec<Asked>,
    /// By path: the answer of a lagging cache and the version that the cache has reached.
    lagging: Vec<(String, u64, Value)>,
    signals: Signals,
    /// The objects that a watch may go on from, by its path with selectors and by version.
    snapshots: HashMap<(String, String), Items>,
    watches: usize,
    /// By path: the time of the last byte of an answer, or of an event of a watch.
    last_sent: HashMap<String, Instant>,
}

impl Api {
    /// Serves the recordings of this transcript on 127.0.0.1.
    pub fn start(answers: impl AsRef<Path>) -> Api {
        Api::serve(answers.as_ref(), None)
    }

    pub fn start_tls(answers: impl AsRef<Path>, identity: &Identity) -> Api {
        Api::serve(answers.as_ref(), Some(Arc::clone(&identity.config)))
    }

    fn serve(answers: &Path, tls: Option<Arc<ServerConfig>>) -> Api {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let tokens = [(TOKEN, Role::Wide), (NARROW_TOKEN, Role::Narrow)];
        let tokens = tokens.map(|(token, role)| (token.to_string(), role)).into();
        let shared = Arc::new(Shared {
            recordings: Recordings::read(answers),
            state: Mutex::new(State { tokens, ..State::default() }),
            tls: tls.map(Mutex::new),
        });
        let handler = Arc::clone(&shared);
        let listening = Listener::start(([127, 0, 0, 1], 0).into(), move |accepted| {
            handler.connection(accepted);
        });
        Api { listening, shared, scheme }
    }

    /// Shows this certificate on new connections. Open connections go on.
    #[track_caller]
    pub fn present(&self, identity: &Identity) {
        let config = self.shared.tls.as_ref().expect("an API server with TLS");
        *config.lock().unwrap() = Arc::clone(&identity.config);
    }

    pub fn addr(&self) -> SocketAddr {
        self.listening.address()
    }

    pub fn port(&self) -> u16 {
        self.addr().port()
    }

    /// The base URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr())
    }

    pub fn accept(&self, token: &str, role: Role) {
        self.shared.state().tokens.insert(token.to_string(), role);
    }

    /// Refuses a token with 401.
    pub fn forget(&self, token: &str) {
        self.shared.state().tokens.remove(token);
    }

    /// Whether requests need no token, as behind `kubectl proxy`.
    pub fn open(&self, open: bool) {
        self.shared.state().open = open;
    }

    /// The body of the recording of this name.
    #[track_caller]
    pub fn recorded(&self, name: &str) -> Value {
        self.shared.recordings.get(name).json()
    }

    /// Answers GETs of this path with this body. `?key=value` behind the path narrows it to
    /// requests that have these pairs. A list is filtered by namespace and selectors as by a real
    /// server, and also answers for the same resource in each namespace.
    pub fn set(&self, path: &str, body: Value) {
        self.shared.set(path, Source::Value(Arc::new(body)));
    }

    /// Makes the server's cache of this path lag at this version: a request with
    /// `resourceVersion=0` gets this body, a request for a newer version gets 504, and a request to
    /// the store gets the current objects.
    pub fn lag(&self, path: &str, version: u64, mut body: Value) {
        body["metadata"]["resourceVersion"] = json!(version.to_string());
        let mut state = self.shared.state();
        state.lagging.retain(|(of, ..)| of != path);
        state.lagging.push((path.to_string(), version, body));
    }

    /// Changes the current answer to a GET of this path.
    #[track_caller]
    pub fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let (bare, query) = split_target(path);
        let response = self.shared.read(Role::Wide, &bare, &query);
        let Body::Bytes(bytes) = &response.body else { panic!("{path} is a streamed list") };
        assert_eq!(response.status, 200, "{path}: {}", String::from_utf8_lossy(bytes));
        let mut value = serde_json::from_slice(bytes).unwrap();
        change(&mut value);
        self.set(path, value);
    }

    /// Whether DaemonSets come in the four recorded pages, whatever the limit. As with a real
    /// server, a request with `resourceVersion=0` gets the whole list all the same.
    pub fn paged(&self, paged: bool) {
        self.shared.state().paged = paged;
    }

    /// Answers the next request that continues a list with the recorded 410.
    pub fn expire_continue_once(&self) {
        self.shared.state().expire_continue = true;
    }

    /// Answers this path with a list of `count` items that are made while they are sent. Each is a
    /// copy of the recorded first item (of the DaemonSets, or of the pods of node-a) with a name
    /// and UID of its own, which `edit` may change. The list ignores selectors.
    #[track_caller]
    pub fn big_list(
        &self,
        path: &str,
        count: usize,
        honour_limit: bool,
        edit: impl Fn(usize, &mut Value) + Send + Sync + 'static,
    ) {
        let list = match Resource::of(path).resource.as_str() {
            "daemonsets" => self.recorded("daemonsets-all"),
            "pods" => self.recorded("pods-node-a"),
            _ => panic!("no recorded list is like {path}"),
        };
        let big = BigList { count, honour_limit, list, edit: Box::new(edit) };
        self.shared.set(path, Source::Big(Arc::new(big)));
    }

    /// Fails the requests whose path is this or lies below it until [`Api::clear_faults`]. `?key`
    /// behind the path narrows it to requests that have this key. The fault set first wins.
    pub fn fault(&self, path: &str, fault: Fault) {
        self.fault_times(path, fault, usize::MAX);
    }

    /// As [`Api::fault`], for the next `times` requests.
    pub fn fault_times(&self, path: &str, fault: Fault, times: usize) {
        self.shared.state().faults.push((path.to_string(), fault, times));
    }

    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// Refuses connections and ends the open ones, or listens again on the same port.
    pub fn refuse(&self, refuse: bool) {
        self.listening.refuse(refuse);
    }

    pub fn requests(&self) -> Vec<Asked> {
        self.shared.state().requests.clone()
    }

    /// The first request that fits.
    #[track_caller]
    pub fn wait_for_request(&self, fits: impl Fn(&Asked) -> bool, ceiling: Duration) -> Asked {
        crate::eventually("a fitting request", ceiling, || self.requests().into_iter().find(&fits))
    }

    /// Ends the watches that are open.
    pub fn end_watches(&self, how: WatchEnd) {
        let mut state = self.shared.state();
        if how == WatchEnd::Expired {
            state.snapshots.clear();
        }
        state.signals.ends += 1;
        state.signals.end = Some(how);
    }

    /// Sends a bookmark to each open watch.
    pub fn bookmark(&self) {
        self.shared.state().signals.bookmarks += 1;
    }

    /// Whether watches send each event twice.
    pub fn tell_twice(&self, twice: bool) {
        self.shared.state().signals.is_repeating = twice;
    }

    /// The number of open watches.
    pub fn watches(&self) -> usize {
        self.shared.state().watches
    }

    /// The time at which the last answer for this path, or the last event of a watch of it, was
    /// sent whole.
    pub fn last_sent(&self, path: &str) -> Option<Instant> {
        self.shared.state().last_sent.get(path).copied()
    }

    /// The number of accepted connections.
    pub fn connections(&self) -> usize {
        self.listening.accepted()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shared.state().signals.is_stopped = true;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn set(&self, path: &str, source: Source) {
        let mut state = self.state();
        state.signals.version += 1;
        state.overrides.retain(|(of, _)| of != path);
        state.overrides.push((path.to_string(), source));
    }

    fn connection(&self, accepted: Accepted) {
        let number = accepted.number;
        let tls = self.tls.as_ref().map(|config| Arc::clone(&config.lock().unwrap()));
        accepted.serve(tls, |wire, from| self.serve(wire, from, number));
    }

    /// Answers requests until the connection ends.
    fn serve(&self, wire: &mut dyn Wire, from: SocketAddr, connection: usize) -> io::Result<End> {
        loop {
            let request = read_request(wire, from)?;
            let (response, fault) = self.decide(&request, connection);
            if let (Body::Watch(role), None) = (&response.body, &fault) {
                self.state().watches += 1;
                let end = self.watch(wire, &request, *role);
                self.state().watches -= 1;
                return end;
            }
            let end = wire::put(wire, &request, response, fault)?;
            self.note_sent(request.path());
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    fn note_sent(&self, path: &str) {
        self.state().last_sent.insert(path.to_string(), Instant::now());
    }
}

/// Sets the phase and the Ready condition of the pods that this DaemonSet owns; returns their
/// number.
pub fn pods_ready(list: &mut Value, daemonset: &str, ready: bool) -> usize {
    let mut count = 0;
    for pod in list["items"].as_array_mut().into_iter().flatten() {
        let mut owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        if !owners.any(|owner| owner["kind"] == "DaemonSet" && owner["name"] == daemonset) {
            continue;
        }
        pod["status"]["phase"] = json!("Running");
        if !pod["status"]["conditions"].is_array() {
            pod["status"]["conditions"] = json!([]);
        }
        let conditions = pod["status"]["conditions"].as_array_mut().unwrap();
        conditions.retain(|condition| condition["type"] != "Ready");
        conditions.push(json!({"type": "Ready", "status": if ready { "True" } else { "False" }}));
        count += 1;
    }
    count
}
