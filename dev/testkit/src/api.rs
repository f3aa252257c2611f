//! A Kubernetes API server that answers from recordings: plain or with TLS, keep-alive, lists in chunks, errors with
//! their length, compact JSON unless a browser or curl asks, as the real one. Where no recording fits, it derives an
//! answer from those that there are (another namespace, another selector). A watch tells what tests change from then on.
//! It can be told to fail in every way that matters. It does not know who asks, nor what health makes of the answers.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, Stream};
use serde_json::{Value, json};

use crate::http::{find, split_target};
use crate::listening::{Accepted, Listening};
use crate::scripted::{Seen, read_request, reason};
use crate::tls::Identity;

/// The token of [`Role::Wide`], known from the start.
pub const TOKEN: &str = "a-token-for-the-whole-cluster";
/// The token of [`Role::Narrow`], known from the start.
pub const NARROW_TOKEN: &str = "a-token-for-one-namespace";

/// The namespace in which [`Role::Narrow`] may read.
const NARROW_NAMESPACE: &str = "kube-system";
const DAEMONSETS: &str = "/apis/apps/v1/daemonsets";

/// What a token allows.
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
    /// As agreed.
    Well,
    /// The connection ends without the last chunk, as when a server stops.
    Cut,
    /// In the middle of an event.
    HalfEvent,
    Reset,
    /// With an event that says 410; what went before is forgotten.
    Expired,
    /// Not at all, but nothing comes any more, not even a bookmark.
    Silent,
    /// With bytes that are no event.
    Garbage,
}

/// A way to fail a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Status, headers, body.
    Status(u16, Vec<(String, String)>, String),
    /// Ends the connection instead of an answer.
    Close,
    /// Never answers.
    Hang,
    Reset,
    /// A whole HTTP answer with the first half of its JSON.
    HalfJson,
    /// The connection ends in the middle of the body.
    Cut,
    /// Bytes that are not HTTP.
    Garbage,
    /// The right answer, one byte in each such time.
    SlowBytes(Duration),
}

/// A request, as far as it may be shown.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Instant,
    /// How many connections were accepted before its own.
    pub connection: usize,
    pub method: String,
    pub path: String,
    /// In its order, decoded.
    pub query: Vec<(String, String)>,
    /// Whether a bearer token came with it, right or wrong.
    pub token: bool,
    pub user_agent: String,
    pub accept: String,
    /// What it was answered; 0 where it was failed without a status.
    pub status: u16,
}

/// A running API server; ends on drop.
pub struct Api {
    listening: Listening,
    world: Arc<World>,
    scheme: &'static str,
}

struct World {
    folder: PathBuf,
    recordings: Vec<Recording>,
    state: Mutex<State>,
    /// Nothing where it is plain.
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
    asked: Vec<Asked>,
    /// The answers of lagging caches by path, and the version that each has reached.
    lagging: Vec<(String, u64, Value)>,
    /// Goes up with each change; what is changed has this as its version.
    version: u64,
    /// What was told up to a version, by what was asked.
    snapshots: HashMap<(String, String), Items>,
    /// Goes up where open watches are to end, and how.
    ends: (u64, Option<WatchEnd>),
    /// Goes up with each bookmark that is to be told.
    bookmarks: u64,
    told_twice: bool,
    watches: usize,
    /// When the last byte of an answer, or of an event of a watch, was last sent, by path.
    sent: HashMap<String, Instant>,
    stopped: bool,
}

/// Objects by UID. Each version that can be gone on from shares what has not changed.
type Items = BTreeMap<String, Arc<Value>>;

/// The first version of what tests change; recorded ones are far below.
const FIRST_VERSION: u64 = 100_000;

#[derive(Clone)]
enum Source {
    Value(Arc<Value>),
    Big(Arc<BigList>),
}

struct BigList {
    count: usize,
    honour_limit: bool,
    kind: String,
    api_version: String,
    item: Value,
    edit: Edit,
}

/// One question and answer of a real server.
struct Recording {
    name: String,
    /// As the recording calls the account that asked.
    account: String,
    path: String,
    query: Query,
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

type Query = Vec<(String, String)>;

/// Changes the item of this number.
type Edit = Box<dyn Fn(usize, &mut Value) + Send + Sync>;

impl Api {
    /// Serves the recordings of this folder on 127.0.0.1.
    pub fn start(answers: impl AsRef<Path>) -> Api {
        Api::serve(answers.as_ref(), None)
    }

    pub fn start_tls(answers: impl AsRef<Path>, identity: &Identity) -> Api {
        Api::serve(answers.as_ref(), Some(Arc::clone(&identity.config)))
    }

    fn serve(folder: &Path, tls: Option<Arc<ServerConfig>>) -> Api {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let tokens = [(TOKEN, Role::Wide), (NARROW_TOKEN, Role::Narrow)];
        let tokens = tokens.map(|(token, role)| (token.to_string(), role)).into();
        let world = Arc::new(World {
            folder: folder.to_path_buf(),
            recordings: recordings(folder),
            state: Mutex::new(State { tokens, version: FIRST_VERSION, ..State::default() }),
            tls: tls.map(Mutex::new),
        });
        let of_thread = Arc::clone(&world);
        let listening = Listening::start(([127, 0, 0, 1], 0).into(), move |accepted| {
            of_thread.connection(accepted)
        });
        Api { listening, world, scheme }
    }

    /// Shows this certificate from the next connection on. Those that are open go on.
    #[track_caller]
    pub fn present(&self, identity: &Identity) {
        let config = self.world.tls.as_ref().expect("an API server with TLS");
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

    /// Accepts a token from now on.
    pub fn accept(&self, token: &str, role: Role) {
        self.world.state().tokens.insert(token.to_string(), role);
    }

    /// Refuses a token from now on with 401.
    pub fn forget(&self, token: &str) {
        self.world.state().tokens.remove(token);
    }

    /// Whether it asks for no token, as behind `kubectl proxy`.
    pub fn open(&self, open: bool) {
        self.world.state().open = open;
    }

    /// The body of the recording of this name.
    #[track_caller]
    pub fn recorded(&self, name: &str) -> Value {
        serde_json::from_slice(&self.world.recording(name).body).unwrap()
    }

    /// Answers GETs of this path with this from now on. `?key=value` behind the path narrows it to requests that have
    /// these. A list is filtered by namespace and selectors as a server would, and also answers for the same resource
    /// in each namespace.
    pub fn set(&self, path: &str, body: Value) {
        self.world.set(path, Source::Value(Arc::new(body)));
    }

    /// From now on the server's cache has this version of this path and no newer one: a request with `resourceVersion=0` gets
    /// it, a request for a newer version gets 504, and a request to the store gets the current objects.
    pub fn lag(&self, path: &str, version: u64, mut body: Value) {
        body["metadata"]["resourceVersion"] = json!(version.to_string());
        let mut state = self.world.state();
        state.lagging.retain(|(of, ..)| of != path);
        state.lagging.push((path.to_string(), version, body));
    }

    /// Goes back to the recordings.
    pub fn unset(&self, path: &str) {
        let mut state = self.world.state();
        state.version += 1;
        state.overrides.retain(|(of, _)| of != path);
    }

    /// Changes what is now answered to a GET of this path.
    #[track_caller]
    pub fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let (bare, query) = split_target(path);
        let answer = self.world.read(Role::Wide, &bare, &query);
        let Body::Bytes(bytes) = &answer.body else { panic!("{path} is a streamed list") };
        assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(bytes));
        let mut value = serde_json::from_slice(bytes).unwrap();
        change(&mut value);
        self.set(path, value);
    }

    /// Whether DaemonSets come in the four recorded pages, whatever the limit. As with a real server, a request with
    /// `resourceVersion=0` gets the whole list all the same.
    pub fn paged(&self, paged: bool) {
        self.world.state().paged = paged;
    }

    /// Answers the next request that continues a list with the recorded 410.
    pub fn expire_continue_once(&self) {
        self.world.state().expire_continue = true;
    }

    /// Answers this path with a list of that many items, made one by one while they are sent. Each is a copy of the
    /// recorded first item (of the DaemonSets, or of the pods of node-a) with a name and UID of its own, after which
    /// `edit` may change it. Selectors are not looked at.
    #[track_caller]
    pub fn big_list(
        &self,
        path: &str,
        count: usize,
        honour_limit: bool,
        edit: impl Fn(usize, &mut Value) + Send + Sync + 'static,
    ) {
        let recorded = match Resource::of(path).resource.as_str() {
            "daemonsets" => self.recorded("daemonsets-all"),
            "pods" => self.recorded("pods-node-a"),
            _ => panic!("no recorded list is like {path}"),
        };
        let big = BigList {
            count,
            honour_limit,
            kind: text(&recorded["kind"]).to_string(),
            api_version: text(&recorded["apiVersion"]).to_string(),
            item: recorded["items"][0].clone(),
            edit: Box::new(edit),
        };
        self.world.set(path, Source::Big(Arc::new(big)));
    }

    /// Fails the requests whose path is this or lies below it until [`Api::clear_faults`]. `?key` behind the path narrows
    /// it to requests that have this key. The fault set first wins.
    pub fn fault(&self, path: &str, fault: Fault) {
        self.fault_times(path, fault, usize::MAX);
    }

    /// Fails that many of them.
    pub fn fault_times(&self, path: &str, fault: Fault, times: usize) {
        self.world.state().faults.push((path.to_string(), fault, times));
    }

    pub fn clear_faults(&self) {
        self.world.state().faults.clear();
    }

    /// Refuses connections and ends the open ones, or listens again on the same port.
    pub fn refuse(&self, refuse: bool) {
        self.listening.refuse(refuse);
    }

    pub fn requests(&self) -> Vec<Asked> {
        self.world.state().asked.clone()
    }

    /// The first request that fits.
    #[track_caller]
    pub fn wait_for_request(&self, fits: impl Fn(&Asked) -> bool, ceiling: Duration) -> Asked {
        crate::eventually("a fitting request", ceiling, || self.requests().into_iter().find(&fits))
    }

    /// Ends the watches that are open.
    pub fn end_watches(&self, how: WatchEnd) {
        let mut state = self.world.state();
        if how == WatchEnd::Expired {
            state.snapshots.clear();
        }
        state.ends = (state.ends.0 + 1, Some(how));
    }

    /// Forgets what watches may go on from, so that the next ones are answered with 410.
    pub fn forget_versions(&self) {
        self.world.state().snapshots.clear();
    }

    /// Tells each open watch that nothing has changed.
    pub fn bookmark(&self) {
        self.world.state().bookmarks += 1;
    }

    /// Whether watches tell everything twice.
    pub fn tell_twice(&self, twice: bool) {
        self.world.state().told_twice = twice;
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        self.world.state().watches
    }

    /// When the last answer about this path was sent whole, or the last event of a watch of it.
    pub fn last_sent(&self, path: &str) -> Option<Instant> {
        self.world.state().sent.get(path).copied()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.listening.accepted()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.world.state().stopped = true;
    }
}

/// Sets the phase and the Ready condition of the pods that this DaemonSet owns; says how many.
pub fn pods_ready(list: &mut Value, daemonset: &str, ready: bool) -> usize {
    let owned = |pod: &&mut Value| {
        let owners = pod["metadata"]["ownerReferences"].as_array();
        owners.is_some_and(|owners| {
            owners.iter().any(|o| o["kind"] == "DaemonSet" && o["name"] == daemonset)
        })
    };
    let mut count = 0;
    for pod in list["items"].as_array_mut().into_iter().flatten().filter(owned) {
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

fn recordings(folder: &Path) -> Vec<Recording> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| {
        panic!("cannot read the recorded answers in {}: {error}", folder.display())
    });
    let files = entries.map(|entry| entry.unwrap().path());
    let mut names: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|e| e == "request")).collect();
    names.sort();
    assert!(!names.is_empty(), "no recorded answers in {}", folder.display());
    names.iter().map(|path| recording(path)).collect()
}

fn recording(request: &Path) -> Recording {
    let read = |extension: &str| {
        let path = request.with_extension(extension);
        std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    };
    let (asked, head) = (read("request"), read("headers"));
    let target = asked.split_whitespace().nth(1).expect("GET and a target");
    let account = asked.lines().find_map(|line| line.strip_prefix("token: ")).expect("an account");
    let (path, query) = split_target(target);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    Recording {
        name: request.file_stem().unwrap().to_string_lossy().into_owned(),
        account: account.to_string(),
        path,
        query,
        status,
        headers: headers
            .map(|(name, value)| (name.to_string(), value.trim().to_string()))
            .collect(),
        body: read("json").into_bytes(),
    }
}

/// What a path of the API is about.
struct Resource {
    group: String,
    namespace: Option<String>,
    resource: String,
    name: Option<String>,
}

impl Resource {
    fn of(path: &str) -> Resource {
        let path = path.split('?').next().unwrap_or_default();
        let mut parts = path.trim_start_matches('/').split('/').map(str::to_string);
        let group = if parts.next().as_deref() == Some("apis") { parts.next() } else { None };
        let _version = parts.next();
        let rest: Vec<String> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            [word, namespace, rest @ ..] if word == "namespaces" && !rest.is_empty() => {
                (Some(namespace.clone()), rest)
            }
            rest => (None, rest),
        };
        Resource {
            group: group.unwrap_or_default(),
            namespace,
            resource: rest.first().cloned().unwrap_or_default(),
            name: rest.get(1).cloned(),
        }
    }

    /// The path of the same resource in all namespaces.
    fn everywhere(&self) -> String {
        match self.group.as_str() {
            "" => format!("/api/v1/{}", self.resource),
            group => format!("/apis/{group}/v1/{}", self.resource),
        }
    }

    /// What the server says to who may not read it.
    fn forbidden(&self, user: &str, verb: Option<&str>) -> String {
        let (resource, group) = (&self.resource, &self.group);
        let subject = match &self.name {
            Some(name) => format!("{resource} {name:?}"),
            None if group.is_empty() => resource.clone(),
            None => format!("{resource}.{group}"),
        };
        let verb = verb.unwrap_or(if self.name.is_some() { "get" } else { "list" });
        let place = match &self.namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "at the cluster scope".to_string(),
        };
        format!(
            "{subject} is forbidden: User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}"
        )
    }
}

/// An answer before it is put on the wire.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    chunked: bool,
    body: Body,
}

enum Body {
    Bytes(Vec<u8>),
    /// From this item up to that one.
    Big(Arc<BigList>, usize, usize),
    /// What changes from now on, for one who may read this much.
    Watch(Role),
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn set(&self, path: &str, source: Source) {
        let mut state = self.state();
        state.version += 1;
        state.overrides.retain(|(of, _)| of != path);
        state.overrides.push((path.to_string(), source));
    }

    #[track_caller]
    fn recording(&self, name: &str) -> &Recording {
        let found = self.recordings.iter().find(|recording| recording.name == name);
        found.unwrap_or_else(|| panic!("no recording {name} in {}", self.folder.display()))
    }

    fn connection(&self, mut accepted: Accepted) {
        let (from, number) = (accepted.peer, accepted.number);
        let end = match &self.tls {
            None => self.requests(&mut accepted.stream, from, number),
            Some(config) => {
                let config = Arc::clone(&config.lock().unwrap());
                let mut tls = ServerConnection::new(config).unwrap();
                let mut stream = Stream::new(&mut tls, &mut accepted.stream);
                let end = self.requests(&mut stream, from, number);
                if matches!(end, Ok(End::Close)) {
                    tls.send_close_notify();
                    // The client may have gone.
                    let _ = tls.write_tls(&mut accepted.stream);
                }
                end
            }
        };
        match end {
            Ok(End::Hold) => accepted.hold(),
            Ok(End::Reset) => accepted.reset(),
            // A client that goes away between two requests is the usual end of a connection.
            Ok(End::Close | End::Cut) | Err(_) => accepted.finish(),
        }
    }

    fn requests(
        &self,
        wire: &mut (impl Read + Write),
        from: SocketAddr,
        connection: usize,
    ) -> io::Result<End> {
        loop {
            let seen = read_request(wire, from)?;
            let last = seen.version == "HTTP/1.0"
                || seen
                    .header("connection")
                    .is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let (answer, fault) = self.decide(&seen, connection);
            if let (Body::Watch(role), None) = (&answer.body, &fault) {
                self.state().watches += 1;
                let end = self.watch(wire, &seen, *role);
                self.state().watches -= 1;
                return end;
            }
            let end = put(wire, &seen, answer, fault, last)?;
            self.has_sent(split_target(&seen.target).0);
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }

    fn has_sent(&self, path: String) {
        self.state().sent.insert(path, Instant::now());
    }

    /// The answer and what is to go wrong with it; keeps a record of the request.
    fn decide(&self, seen: &Seen, connection: usize) -> (Answer, Option<Fault>) {
        let (path, query) = split_target(&seen.target);
        let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let fault = self.take_fault(&path, &query);
        let mut answer = self.judge(token, seen, &path, &query);
        if let Some(Fault::Status(status, headers, body)) = &fault {
            let body = Body::Bytes(body.clone().into_bytes());
            answer = Answer { status: *status, headers: headers.clone(), chunked: false, body };
        }
        let mute =
            matches!(fault, Some(Fault::Close | Fault::Hang | Fault::Reset | Fault::Garbage));
        let header = |name: &str| seen.header(name).unwrap_or_default().to_string();
        let (user_agent, accept) = (header("user-agent"), header("accept"));
        self.state().asked.push(Asked {
            at: seen.at,
            connection,
            method: seen.method.clone(),
            path,
            query,
            token: token.is_some(),
            user_agent,
            accept,
            status: if mute { 0 } else { answer.status },
        });
        (answer, fault)
    }

    fn take_fault(&self, path: &str, query: &Query) -> Option<Fault> {
        let mut state = self.state();
        let below = |prefix: &str| {
            let (prefix, key) = prefix.split_once('?').unwrap_or((prefix, ""));
            let rest = path.strip_prefix(prefix);
            rest.is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/')
            }) && (key.is_empty() || value(query, key).is_some())
        };
        let live =
            state.faults.iter_mut().find(|(prefix, _, times)| *times > 0 && below(prefix))?;
        live.2 -= 1;
        Some(live.1.clone())
    }

    fn judge(&self, token: Option<&str>, seen: &Seen, path: &str, query: &Query) -> Answer {
        let role = {
            let state = self.state();
            if state.open {
                Some(Role::Wide)
            } else {
                token.and_then(|token| state.tokens.get(token).copied())
            }
        };
        let resource = Resource::of(path);
        let narrow = resource.namespace.as_deref() == Some(NARROW_NAMESPACE);
        match (role, token) {
            _ if seen.method != "GET" => Answer::of(self.recording("error-404-path")),
            (None, Some(_)) => Answer::of(self.recording("error-401-bad-token")),
            _ if path == "/version" => Answer::of(self.recording("version")),
            (None, None) => self.error(
                "error-403-anonymous",
                &resource,
                &resource.forbidden("system:anonymous", None),
            ),
            (Some(Role::Narrow), _) if !narrow => self.error(
                "error-403-node",
                &resource,
                &resource.forbidden("system:serviceaccount:psl:health-ns", None),
            ),
            (Some(Role::WithoutWatch), _) if is_watch(query) => {
                let message = resource.forbidden("system:serviceaccount:psl:health", Some("watch"));
                self.error("error-403-node", &resource, &message)
            }
            (Some(role), _) if is_watch(query) => {
                let mut answer = Answer::of(self.recording("daemonsets-all"));
                answer.body = Body::Watch(role);
                answer
            }
            (Some(role), _) => self.read(role, path, query),
        }
    }

    /// A recorded error about another resource.
    fn error(&self, recording: &str, resource: &Resource, message: &str) -> Answer {
        let mut body: Value = serde_json::from_slice(&self.recording(recording).body).unwrap();
        body["message"] = json!(message);
        body["details"] = json!({"kind": resource.resource});
        if !resource.group.is_empty() {
            body["details"]["group"] = json!(resource.group);
        }
        if let Some(name) = &resource.name {
            body["details"]["name"] = json!(name);
        }
        let mut answer = Answer::of(self.recording(recording));
        answer.body = Body::Bytes(serde_json::to_vec(&body).unwrap());
        answer
    }

    fn look_up(&self, role: Role, path: &str, query: &Query) -> Answer {
        let resource = Resource::of(path);
        if let Some(answer) = self.lagging_answer(path, &resource, query) {
            return answer;
        }
        if let Some(source) = self.override_for(path, &resource, query) {
            return self.answer_from(&source, &resource, query);
        }
        let continued = value(query, "continue");
        if continued.is_some() && std::mem::take(&mut self.state().expire_continue) {
            return Answer::of(self.recording("error-410-continue"));
        }
        let recording = match continued {
            Some(token) => self.page(path, token).or_else(|| self.fitting(role, path, query)),
            None if self.state().paged
                && path == DAEMONSETS
                && value(query, "resourceVersion") != Some("0") =>
            {
                Some(self.recording("daemonsets-limit1-page1"))
            }
            None => self.fitting(role, path, query),
        };
        match recording {
            Some(recording) => Answer::of(recording),
            None => self.derived(&resource, query),
        }
    }

    /// Reads, and remembers what a watch may go on from.
    fn read(&self, role: Role, path: &str, query: &Query) -> Answer {
        let answer = self.look_up(role, path, query);
        if let Body::Bytes(bytes) = &answer.body
            && answer.status == 200
            && path.ends_with("/pods")
            && let Ok(list) = serde_json::from_slice::<Value>(bytes)
        {
            let key =
                (watched(path, query), text(&list["metadata"]["resourceVersion"]).to_string());
            self.state().snapshots.insert(key, items_of(&list));
        }
        answer
    }

    /// Tells what changes until the time is up, the client goes away, or the test has enough.
    fn watch(&self, wire: &mut (impl Read + Write), seen: &Seen, role: Role) -> io::Result<End> {
        let (path, query) = split_target(&seen.target);
        let seconds = value(&query, "timeoutSeconds")
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(1800);
        let end = Instant::now() + Duration::from_secs(seconds);
        let answer = Answer::of(self.recording("daemonsets-all"));
        let mut out = Out { wire, pause: None, chunked: true };
        out.send(format!("{}Transfer-Encoding: chunked\r\n\r\n", head(&answer, true)).as_bytes())?;
        let key = watched(&path, &query);
        let from = value(&query, "resourceVersion").unwrap_or_default();
        let mut told = match from {
            "" | "0" => Items::new(),
            from => match self.state().snapshots.get(&(key.clone(), from.to_string())) {
                Some(items) => items.clone(),
                None => {
                    out.piece(TOO_OLD)?;
                    out.send(b"0\r\n\r\n")?;
                    return Ok(End::Close);
                }
            },
        };
        let (mut looked_at, mut reached) = (0, from.to_string());
        let (mut bookmarks, ends) = {
            let state = self.state();
            (state.bookmarks, state.ends.0)
        };
        let mut silent = false;
        while Instant::now() < end {
            let (version, marks, (ended, how), twice, stopped) = {
                let state = self.state();
                (state.version, state.bookmarks, state.ends, state.told_twice, state.stopped)
            };
            if stopped {
                return Ok(End::Cut);
            }
            if ended != ends && !silent {
                match how {
                    Some(WatchEnd::Well) | None => break,
                    Some(WatchEnd::Cut) => return Ok(End::Cut),
                    Some(WatchEnd::Reset) => return Ok(End::Reset),
                    Some(WatchEnd::Silent) => silent = true,
                    Some(WatchEnd::Expired) => {
                        out.piece(TOO_OLD)?;
                        break;
                    }
                    Some(WatchEnd::HalfEvent) => {
                        out.piece(br#"{"type":"MODIFIED","object":{"kind":"Pod","meta"#)?;
                        return Ok(End::Cut);
                    }
                    Some(WatchEnd::Garbage) => {
                        out.piece(b"<html>no</html>\n")?;
                        break;
                    }
                }
            }
            if version != looked_at && !silent {
                looked_at = version;
                for (kind, object) in changes(&told, &self.now(role, &path, &query)) {
                    let uid = uid_of(&object);
                    match kind {
                        "DELETED" => drop(told.remove(&uid)),
                        _ => drop(told.insert(uid, Arc::clone(&object))),
                    }
                    reached = {
                        let mut state = self.state();
                        // Only a change of the world is one that the others have to look at.
                        let reached = format!("{}{:06}", state.version, state.snapshots.len());
                        state.snapshots.insert((key.clone(), reached.clone()), told.clone());
                        reached
                    };
                    let mut object = Value::clone(&object);
                    object["metadata"]["resourceVersion"] = json!(reached);
                    let event = format!("{}\n", json!({"type": kind, "object": object}));
                    (0..=usize::from(twice)).try_for_each(|_| out.piece(event.as_bytes()))?;
                    self.has_sent(path.clone());
                }
            }
            if marks != bookmarks && !silent {
                bookmarks = marks;
                self.state().snapshots.insert((key.clone(), reached.clone()), told.clone());
                let object = json!({"metadata": {"resourceVersion": reached, "creationTimestamp": null}, "spec": {"containers": null}});
                out.piece(
                    format!("{}\n", json!({"type": "BOOKMARK", "object": object})).as_bytes(),
                )?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        out.send(b"0\r\n\r\n")?;
        Ok(End::Close)
    }

    /// What a watch of this is about, as it is now.
    fn now(&self, role: Role, path: &str, query: &Query) -> Items {
        // As below, but without the way through text and back, which takes long for many objects.
        let resource = Resource::of(path);
        if let Some(Source::Value(list)) = self.override_for(path, &resource, query)
            && list["items"].is_array()
        {
            return items_of(&filtered(&list, &resource, query));
        }
        let name = value(query, "fieldSelector")
            .and_then(|selector| selector.strip_prefix("metadata.name="));
        let answer = match name.filter(|_| path == "/api/v1/nodes") {
            Some(name) => self.look_up(role, &format!("{path}/{name}"), &Query::new()),
            None => {
                let selectors =
                    query.iter().filter(|(key, _)| key.ends_with("Selector")).cloned().collect();
                self.look_up(role, path, &selectors)
            }
        };
        match (answer.status, &answer.body) {
            (200, Body::Bytes(bytes)) => items_of(&serde_json::from_slice(bytes).unwrap()),
            _ => Items::new(),
        }
    }

    fn override_for(&self, path: &str, resource: &Resource, query: &Query) -> Option<Source> {
        let everywhere = resource.everywhere();
        let state = self.state();
        let fitting = state.overrides.iter().filter_map(|(target, source)| {
            let (of, wanted) = split_target(target);
            let here = of == path;
            let lists_it = resource.name.is_none() && of == everywhere;
            let narrowed = wanted.iter().all(|pair| query.contains(pair));
            ((here || lists_it) && narrowed).then_some(((here, wanted.len()), source))
        });
        fitting.max_by_key(|(weight, _)| *weight).map(|(_, source)| source.clone())
    }

    /// The answer of a lagging cache, if the request goes to it.
    fn lagging_answer(&self, path: &str, resource: &Resource, query: &Query) -> Option<Answer> {
        let wanted: u64 = value(query, "resourceVersion")?.parse().ok()?;
        let lagging = self.state().lagging.iter().find(|(of, ..)| of == path).cloned();
        let (_, reached, body) = lagging?;
        if wanted <= reached {
            let mut answer = Answer::of(self.recording("daemonsets-all"));
            answer.body =
                Body::Bytes(serde_json::to_vec(&filtered(&body, resource, query)).unwrap());
            return Some(answer);
        }
        // As Kubernetes 1.36 says it, after three seconds.
        let message = format!("Too large resource version: {wanted}, current: {reached}");
        let mut answer = self.error("error-404-path", resource, &message);
        let mut status: Value =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"});
        status["message"] = json!(message);
        (status["reason"], status["code"]) = (json!("Timeout"), json!(504));
        status["details"] = json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        });
        (answer.status, answer.body) = (504, Body::Bytes(serde_json::to_vec(&status).unwrap()));
        Some(answer)
    }

    fn answer_from(&self, source: &Source, resource: &Resource, query: &Query) -> Answer {
        let mut answer = Answer::of(self.recording("daemonsets-all"));
        answer.body = match source {
            Source::Value(value) => {
                let mut value = filtered(value, resource, query);
                if value["items"].is_array() && value["metadata"].is_object() {
                    value["metadata"]["resourceVersion"] = json!(self.state().version.to_string());
                }
                Body::Bytes(serde_json::to_vec(&value).unwrap())
            }
            Source::Big(big) => {
                let start = value(query, "continue")
                    .and_then(|token| token.strip_prefix("item-")?.parse().ok());
                let start: usize = start.unwrap_or(0).min(big.count);
                let limit = value(query, "limit")
                    .and_then(|limit| limit.parse().ok())
                    .filter(|limit: &usize| *limit > 0);
                let whole = !big.honour_limit || value(query, "resourceVersion") == Some("0");
                let end = limit
                    .filter(|_| !whole)
                    .map_or(big.count, |limit| big.count.min(start + limit));
                Body::Big(Arc::clone(big), start, end)
            }
        };
        answer
    }

    /// The recorded page that goes on from this token, else the one that goes on from the same item.
    fn page(&self, path: &str, token: &str) -> Option<&Recording> {
        let of = |recording: &&Recording| {
            recording.path == path && value(&recording.query, "continue").is_some()
        };
        let pages = || self.recordings.iter().filter(of);
        let exact = pages().find(|page| value(&page.query, "continue") == Some(token));
        exact.or_else(|| {
            let start = continue_start(token)?;
            let mut good = pages().filter(|page| page.status == 200);
            good.find(|page| {
                value(&page.query, "continue").and_then(continue_start).as_ref() == Some(&start)
            })
        })
    }

    /// The recording with the same path and query, whatever their order; what merely bounds a list may differ.
    fn fitting(&self, role: Role, path: &str, query: &Query) -> Option<&Recording> {
        let wanted = essential(query);
        let allowed = |recording: &Recording| match role {
            // Who may read everything also gets what was recorded with less.
            Role::Wide | Role::WithoutWatch => {
                recording.account == "health"
                    || (recording.account == "health-ns" && recording.status == 200)
            }
            Role::Narrow => recording.account == "health-ns",
        };
        let candidates = self.recordings.iter().filter(|recording| {
            recording.path == path && allowed(recording) && essential(&recording.query) == wanted
        });
        candidates.max_by_key(|recording| {
            let own = recording.query.iter().filter(|(key, _)| is_bound(key));
            // A version is a stronger wish than a limit: a real server ignores the limit where the version is 0.
            let weight = |(key, value): &(String, String)| match (
                query.contains(&(key.clone(), value.clone())),
                key.as_str(),
            ) {
                (true, "resourceVersion") => 2,
                (true, _) => 1,
                (false, _) => -1,
            };
            (own.map(weight).sum::<i32>(), recording.status == 200)
        })
    }

    /// What the recorded cluster would say to a question that was not recorded.
    fn derived(&self, resource: &Resource, query: &Query) -> Answer {
        let (lists, kind, version) = match resource.resource.as_str() {
            "daemonsets" if resource.group == "apps" => {
                (vec!["daemonsets-all"], "DaemonSetList", "apps/v1")
            }
            "pods" if resource.group.is_empty() => {
                (vec!["pods-node-a", "pods-node-b"], "PodList", "v1")
            }
            "nodes" if resource.group.is_empty() && resource.name.is_some() => {
                let name = resource.name.as_deref().unwrap_or_default();
                return self.error(
                    "error-404-node",
                    resource,
                    &format!("nodes {name:?} not found"),
                );
            }
            _ => return Answer::of(self.recording("error-404-path")),
        };
        let recorded = lists
            .into_iter()
            .map(|name| serde_json::from_slice::<Value>(&self.recording(name).body).unwrap());
        let items: Vec<Value> = recorded
            .flat_map(|list| list["items"].as_array().cloned().unwrap_or_default())
            .collect();
        let list = json!({"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": "316"}, "items": items});
        let mut answer = Answer::of(self.recording("daemonsets-all"));
        answer.body = Body::Bytes(serde_json::to_vec(&filtered(&list, resource, query)).unwrap());
        answer
    }
}

impl Answer {
    fn of(recording: &Recording) -> Answer {
        let framing = |name: &str| {
            ["content-length", "transfer-encoding"].iter().any(|f| name.eq_ignore_ascii_case(f))
        };
        let headers = recording.headers.iter().filter(|(name, _)| !framing(name)).cloned();
        Answer {
            status: recording.status,
            headers: headers.collect(),
            chunked: find(&recording.headers, "transfer-encoding").is_some(),
            body: Body::Bytes(recording.body.clone()),
        }
    }
}

/// What a real server says to who wants to go on from too far back.
const TOO_OLD: &[u8] = br#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version: 1 (433)","reason":"Expired","code":410}}
"#;

fn is_watch(query: &Query) -> bool {
    matches!(value(query, "watch"), Some("1" | "true"))
}

/// What is watched: a path with its selectors.
fn watched(path: &str, query: &Query) -> String {
    let selectors = query.iter().filter(|(key, _)| key.ends_with("Selector"));
    selectors.fold(path.to_string(), |key, (name, value)| format!("{key}&{name}={value}"))
}

fn uid_of(object: &Value) -> String {
    text(&object["metadata"]["uid"]).to_string()
}

/// The objects of a list, or the one that there is, with their kind, as events have them.
fn items_of(answer: &Value) -> Items {
    let kind = text(&answer["kind"]);
    let Some(kind) = kind.strip_suffix("List") else {
        return [(uid_of(answer), Arc::new(answer.clone()))].into();
    };
    let item = |item: &Value| {
        let mut item = item.clone();
        (item["kind"], item["apiVersion"]) = (json!(kind), answer["apiVersion"].clone());
        (uid_of(&item), Arc::new(item))
    };
    answer["items"].as_array().map(|items| items.iter().map(item).collect()).unwrap_or_default()
}

/// What leads from these to those. Who goes, goes first, as with a pod that is replaced.
fn changes(from: &Items, to: &Items) -> Vec<(&'static str, Arc<Value>)> {
    let gone = from
        .iter()
        .filter(|(uid, _)| !to.contains_key(*uid))
        .map(|(_, object)| ("DELETED", Arc::clone(object)));
    let kind = |uid: &String, object: &Arc<Value>| match from.get(uid) {
        None => Some("ADDED"),
        Some(known) if known != object => Some("MODIFIED"),
        Some(_) => None,
    };
    gone.chain(to.iter().filter_map(|(uid, object)| Some((kind(uid, object)?, Arc::clone(object)))))
        .collect()
}

fn value<'a>(query: &'a Query, key: &str) -> Option<&'a str> {
    query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// Whether a parameter says how much is wanted, and not what.
fn is_bound(key: &str) -> bool {
    ["limit", "resourceVersion", "resourceVersionMatch", "timeoutSeconds"].contains(&key)
}

fn essential(query: &Query) -> Query {
    let mut pairs: Query = query.iter().filter(|(key, _)| !is_bound(key)).cloned().collect();
    pairs.sort();
    pairs
}

/// The item after which a real server's token goes on. The token is base64 over JSON.
fn continue_start(token: &str) -> Option<String> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in token.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            b'=' => break,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    let token: Value = serde_json::from_slice(&bytes).ok()?;
    Some(token["start"].as_str()?.trim_matches(['/', '\0']).to_string())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A list with the items that the request is about; anything else as it is.
fn filtered(body: &Value, resource: &Resource, query: &Query) -> Value {
    let mut body = body.clone();
    if let Some(items) = body.get_mut("items").and_then(Value::as_array_mut) {
        items.retain(|item| {
            let namespace = &item["metadata"]["namespace"];
            let here = resource.namespace.as_ref().is_none_or(|wanted| text(namespace) == wanted);
            let field = |path: &str| {
                Some(text(item.pointer(&format!("/{}", path.replace('.', "/")))?).to_string())
            };
            let label = |key: &str| Some(text(item["metadata"]["labels"].get(key)?).to_string());
            here && selects(value(query, "fieldSelector"), &field)
                && selects(value(query, "labelSelector"), &label)
        });
    }
    body
}

/// Equality selectors, which are all that fields have and all of labels that is needed.
fn selects(selector: Option<&str>, get: &dyn Fn(&str) -> Option<String>) -> bool {
    let terms = selector.unwrap_or_default().split(',').filter(|term| !term.is_empty());
    terms.into_iter().all(|term| {
        assert!(!term.contains(['(', ')']), "set-based selectors are not replayed: {term}");
        if let Some((key, value)) = term.split_once("!=") {
            get(key).as_deref() != Some(value)
        } else if let Some((key, value)) = term.split_once('=') {
            get(key).unwrap_or_default() == value.trim_start_matches('=') && get(key).is_some()
        } else if let Some(key) = term.strip_prefix('!') {
            get(key).is_none()
        } else {
            get(term).is_some()
        }
    })
}

/// How a connection ends.
enum End {
    Close,
    /// As `Close`, but without TLS's goodbye.
    Cut,
    Hold,
    Reset,
}

/// Puts an answer on the wire with what is to go wrong with it; without an end, the connection goes on.
fn put(
    wire: &mut dyn Write,
    seen: &Seen,
    answer: Answer,
    fault: Option<Fault>,
    last: bool,
) -> io::Result<Option<End>> {
    match &fault {
        Some(Fault::Close) => return Ok(Some(End::Close)),
        Some(Fault::Hang) => return Ok(Some(End::Hold)),
        Some(Fault::Reset) => return Ok(Some(End::Reset)),
        Some(Fault::Garbage) => {
            wire.write_all(b"\x7fELF\x02\x01\x01\x00 this is not HTTP \xff\xfe\x00\r\n\r\n")?;
            wire.flush()?;
            return Ok(Some(End::Close));
        }
        _ => {}
    }
    let cut = matches!(fault, Some(Fault::Cut));
    let half = cut || matches!(fault, Some(Fault::HalfJson));
    let chunked =
        seen.version != "HTTP/1.0" && (answer.chunked || matches!(answer.body, Body::Big(..)));
    let pause = match fault {
        Some(Fault::SlowBytes(pause)) => Some(pause),
        _ => None,
    };
    let mut out = Out { wire, pause, chunked };
    let mut head = head(&answer, last);
    match answer.body {
        Body::Bytes(bytes) => {
            let agent = seen.header("user-agent").unwrap_or_default();
            let pretty = ["curl", "Mozilla"].iter().any(|start| agent.starts_with(start));
            // A fault's body need not be JSON, and is sent as it is.
            let bytes = if pretty || matches!(fault, Some(Fault::Status(..))) {
                bytes
            } else {
                compact(&bytes)
            };
            // As the real one, which leaves short answers and watches alone.
            let asks = seen.header("accept-encoding").is_some_and(|value| value.contains("gzip"));
            let bytes = match asks && chunked && bytes.len() > SHORTEST_COMPRESSED {
                true => {
                    head.push_str("Content-Encoding: gzip\r\n");
                    compressed(&bytes)
                }
                false => bytes,
            };
            let sent = if half { &bytes[..bytes.len() / 2] } else { &bytes[..] };
            if chunked {
                head.push_str("Transfer-Encoding: chunked\r\n\r\n");
            } else {
                let announced = if cut { bytes.len() } else { sent.len() };
                head.push_str(&format!("Content-Length: {announced}\r\n\r\n"));
            }
            out.send(head.as_bytes())?;
            // As often as not a real server's chunk ends in the middle of a word.
            sent.chunks(4096).try_for_each(|piece| out.piece(piece))?;
        }
        // Without a fault it does not come here, and the faults that do have no answer.
        Body::Watch(_) => return Ok(Some(End::Close)),
        Body::Big(big, start, end) => {
            head.push_str(if chunked { "Transfer-Encoding: chunked\r\n\r\n" } else { "\r\n" });
            out.send(head.as_bytes())?;
            big.send(&mut out, start, end, half)?;
        }
    }
    if chunked && !cut {
        out.send(b"0\r\n\r\n")?;
    }
    Ok(match (cut, last) {
        (true, _) => Some(End::Cut),
        (false, true) => Some(End::Close),
        (false, false) => None,
    })
}

/// A real server compresses longer answers, quickly rather than well.
const SHORTEST_COMPRESSED: usize = 128 * 1024;

/// As it goes over the wire.
pub fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(4));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The head but for the framing and the empty line.
fn head(answer: &Answer, last: bool) -> String {
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if last {
        head.push_str("Connection: close\r\n");
    }
    head
}

/// The wire with its framing and its pace.
struct Out<'a> {
    wire: &'a mut dyn Write,
    pause: Option<Duration>,
    chunked: bool,
}

impl Out<'_> {
    fn piece(&mut self, piece: &[u8]) -> io::Result<()> {
        if !self.chunked || piece.is_empty() {
            return self.send(piece);
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        self.send(&chunk)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(pause) = self.pause else {
            self.wire.write_all(bytes)?;
            return self.wire.flush();
        };
        for byte in bytes {
            self.wire.write_all(&[*byte])?;
            self.wire.flush()?;
            std::thread::sleep(pause);
        }
        Ok(())
    }
}

impl BigList {
    /// Sends the items from `start` up to `end`, or the first half of them and then not even the closing bracket.
    fn send(&self, out: &mut Out<'_>, start: usize, end: usize, half: bool) -> io::Result<()> {
        let mut metadata = json!({"resourceVersion": "316"});
        if end < self.count {
            metadata["continue"] = json!(format!("item-{end}"));
            metadata["remainingItemCount"] = json!(self.count - end);
        }
        let (kind, version) = (&self.kind, &self.api_version);
        let opening = format!(
            r#"{{"kind":"{kind}","apiVersion":"{version}","metadata":{metadata},"items":["#
        );
        let mut piece = opening.into_bytes();
        let last = if half { start + (end - start) / 2 } else { end };
        for number in start..last {
            if number > start {
                piece.push(b',');
            }
            serde_json::to_writer(&mut piece, &self.item(number)).expect("JSON in memory");
            if piece.len() >= 64 * 1024 {
                out.piece(&piece)?;
                piece.clear();
            }
        }
        if !half {
            piece.extend_from_slice(b"]}\n");
        }
        out.piece(&piece)
    }

    fn item(&self, number: usize) -> Value {
        let mut item = self.item.clone();
        let name = format!("{}-{number:06}", text(&item["metadata"]["name"]));
        item["metadata"]["name"] = json!(name);
        item["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{number:012}"));
        (self.edit)(number, &mut item);
        item
    }
}

/// JSON without the space between its words.
fn compact(json: &[u8]) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    let mut kept = json.to_vec();
    kept.retain(|byte| {
        let was_in_string = in_string;
        match byte {
            b'"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && *byte == b'\\' && !escaped;
        was_in_string || !byte.is_ascii_whitespace()
    });
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CEILING;
    use crate::http::{Connection, Reply, Request, find_bytes};
    use crate::tls::Authority;

    const PODS_A: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-a";

    fn folder() -> PathBuf {
        crate::root().join("health/tests/data/answers")
    }

    fn api() -> Api {
        Api::start(folder())
    }

    fn request(target: &str, token: &str) -> Request {
        let request = Request::get(target).header("User-Agent", "test/1");
        if token.is_empty() {
            request
        } else {
            request.header("Authorization", &format!("Bearer {token}"))
        }
    }

    fn ask(api: &Api, target: &str) -> Reply {
        request(target, TOKEN).send(api.addr(), CEILING).unwrap()
    }

    fn names(list: &Value) -> Vec<&str> {
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| text(&item["metadata"]["name"]))
            .collect()
    }

    #[test]
    fn every_recording_is_replayed() {
        let api = api();
        for recording in &api.world.recordings {
            let token = match recording.account.as_str() {
                "health" => TOKEN,
                "health-ns" => NARROW_TOKEN,
                "none" => "",
                _ => "unknown",
            };
            let asked =
                std::fs::read_to_string(folder().join(format!("{}.request", recording.name)))
                    .unwrap();
            let target = asked.split_whitespace().nth(1).unwrap();
            let reply = request(target, token).send(api.addr(), CEILING).unwrap();
            let expected: Value = serde_json::from_slice(&recording.body).unwrap();
            assert_eq!(reply.status, recording.status, "{}: {reply}", recording.name);
            assert_eq!(reply.json(), expected, "{}", recording.name);
            assert!(!reply.body.contains('\n'), "{}: {}", recording.name, reply.body);
            let chunked = find(&recording.headers, "transfer-encoding").is_some();
            assert_eq!(reply.header("transfer-encoding").is_some(), chunked, "{}", recording.name);
        }
        let requests = api.requests();
        assert_eq!(requests.len(), api.world.recordings.len());
        assert!(!format!("{requests:?}").contains(TOKEN));
        assert_eq!(requests.iter().filter(|asked| !asked.token).count(), 2);
    }

    #[test]
    fn what_was_not_recorded_is_derived() {
        let api = api();
        for (target, expected) in [
            (
                "/apis/apps/v1/daemonsets?limit=500&timeoutSeconds=10",
                &["gpu-plugin", "kube-proxy", "fluentd", "node-exporter"][..],
            ),
            ("/apis/apps/v1/daemonsets?timeoutSeconds=9&limit=1", &["gpu-plugin"]),
            (
                "/apis/apps/v1/daemonsets?limit=1&resourceVersion=0",
                &["gpu-plugin", "kube-proxy", "fluentd", "node-exporter"],
            ),
            ("/apis/apps/v1/namespaces/logging/daemonsets?limit=9", &["fluentd"]),
            ("/apis/apps/v1/namespaces/nowhere/daemonsets", &[]),
            ("/apis/apps/v1/daemonsets?labelSelector=version%3D1.1%2Capp%3Dfluentd", &["fluentd"]),
            (
                "/apis/apps/v1/daemonsets?labelSelector=app%3Dfluentd%2Cversion%3D1.1&limit=5",
                &["fluentd"],
            ),
            (
                "/api/v1/pods?limit=500&resourceVersion=0&fieldSelector=spec.nodeName%3Dnode-b",
                &["gpu-plugin-tcj4v", "kube-proxy-4cgr9"],
            ),
            (
                "/api/v1/namespaces/logging/pods?fieldSelector=spec.nodeName%3Dnode-a",
                &["fluentd-p6s9t"],
            ),
            ("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-c", &[]),
        ] {
            let reply = ask(&api, target);
            assert_eq!(reply.status, 200, "{target}: {reply}");
            assert_eq!(names(&reply.json()), expected, "{target}");
        }
        for (target, token, status, part) in [
            ("/api/v1/nodes/node-z", TOKEN, 404, r#"nodes \"node-z\" not found"#),
            ("/apis/apps/v1/replicasets", TOKEN, 404, "could not find the requested resource"),
            (
                "/api/v1/pods",
                NARROW_TOKEN,
                403,
                r#"cannot list resource \"pods\" in API group \"\" at the cluster scope"#,
            ),
            (
                "/apis/apps/v1/namespaces/logging/daemonsets",
                NARROW_TOKEN,
                403,
                r#"in API group \"apps\" in the namespace \"logging\""#,
            ),
            (
                "/api/v1/nodes/node-b",
                "",
                403,
                r#"nodes \"node-b\" is forbidden: User \"system:anonymous\" cannot get"#,
            ),
        ] {
            let reply = request(target, token).send(api.addr(), CEILING).unwrap();
            assert_eq!(reply.status, status, "{target}: {reply}");
            assert!(reply.body.contains(part), "{target}: {}", reply.body);
        }
    }

    #[test]
    fn tokens_come_and_go() {
        let api = api();
        let status = |token: &str| {
            request("/api/v1/nodes/node-a", token).send(api.addr(), CEILING).unwrap().status
        };
        assert_eq!((status(TOKEN), status(""), status("next")), (200, 403, 401));
        api.accept("next", Role::Wide);
        api.forget(TOKEN);
        assert_eq!((status(TOKEN), status("next")), (401, 200));
        api.open(true);
        assert_eq!((status(""), status(TOKEN)), (200, 200));
    }

    #[test]
    fn a_person_gets_readable_json() {
        let api = api();
        let reply = Request::get("/version")
            .header("User-Agent", "curl/8")
            .send(api.addr(), CEILING)
            .unwrap();
        assert_eq!(reply.body, std::fs::read_to_string(folder().join("version.json")).unwrap());
    }

    #[test]
    fn pages_follow_each_other_and_may_expire() {
        let api = api();
        api.paged(true);
        let next = |token: &str| ask(&api, &format!("{DAEMONSETS}?limit=500&continue={token}"));
        let token = |list: &Value| text(&list["metadata"]["continue"]).to_string();
        let walk = |mut list: Value| {
            let mut seen: Vec<String> = names(&list).into_iter().map(str::to_string).collect();
            while !token(&list).is_empty() {
                list = next(&token(&list)).json();
                seen.extend(names(&list).into_iter().map(str::to_string));
            }
            seen
        };
        let first = ask(&api, &format!("{DAEMONSETS}?limit=500")).json();
        assert_eq!(walk(first.clone()), ["gpu-plugin", "kube-proxy", "fluentd", "node-exporter"]);
        api.expire_continue_once();
        let expired = next(&token(&first));
        assert_eq!((expired.status, text(&expired.json()["reason"])), (410, "Expired"));
        let rest = next(&token(&expired.json()));
        assert_eq!(walk(rest.json()), ["kube-proxy", "fluentd", "node-exporter"]);
        assert_eq!(next(&token(&first)).status, 200);
        assert_eq!(
            names(&ask(&api, &format!("{DAEMONSETS}?limit=500&resourceVersion=0")).json()).len(),
            4
        );
    }

    #[test]
    fn the_world_can_be_changed() {
        let api = api();
        let ready = |list: &Value, name: &str| {
            let pod = list["items"]
                .as_array()
                .unwrap()
                .iter()
                .find(|pod| text(&pod["metadata"]["name"]) == name)
                .cloned();
            let conditions = pod.unwrap()["status"]["conditions"].clone();
            conditions
                .as_array()
                .unwrap()
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let pod = "node-exporter-szjrd";
        assert!(!ready(&ask(&api, PODS_A).json(), pod));
        api.edit(PODS_A, |list| assert_eq!(pods_ready(list, "node-exporter", true), 1));
        assert!(ready(&ask(&api, &format!("{PODS_A}&limit=50")).json(), pod));
        assert_eq!(
            names(&ask(&api, "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-b").json()).len(),
            2
        );
        api.unset(PODS_A);
        assert!(!ready(&ask(&api, PODS_A).json(), pod));

        api.edit(DAEMONSETS, |list| {
            list["items"]
                .as_array_mut()
                .unwrap()
                .retain(|item| item["metadata"]["name"] != "fluentd");
        });
        assert_eq!(
            names(&ask(&api, "/apis/apps/v1/namespaces/logging/daemonsets").json()).len(),
            0
        );
        assert_eq!(names(&ask(&api, &format!("{DAEMONSETS}?limit=1")).json()).len(), 3);
        api.edit("/api/v1/nodes/node-a", |node| node["metadata"]["labels"]["new"] = json!("yes"));
        assert_eq!(ask(&api, "/api/v1/nodes/node-a").json()["metadata"]["labels"]["new"], "yes");
    }

    #[test]
    fn faults_happen_where_and_as_often_as_they_should() {
        let api = api();
        let short = Duration::from_millis(300);
        let busy = Fault::Status(
            429,
            vec![("Retry-After".into(), "3".into())],
            "too many requests".into(),
        );
        for (name, fault, expected) in [
            ("status", busy, Ok(429)),
            ("close", Fault::Close, Err(io::ErrorKind::UnexpectedEof)),
            ("hang", Fault::Hang, Err(io::ErrorKind::TimedOut)),
            ("reset", Fault::Reset, Err(io::ErrorKind::ConnectionReset)),
            ("half", Fault::HalfJson, Ok(200)),
            ("cut", Fault::Cut, Err(io::ErrorKind::UnexpectedEof)),
            ("garbage", Fault::Garbage, Err(io::ErrorKind::InvalidData)),
            ("slow", Fault::SlowBytes(Duration::from_millis(50)), Err(io::ErrorKind::TimedOut)),
        ] {
            api.fault_times("/api/v1/pods", fault, 1);
            let ceiling =
                if matches!(expected, Err(io::ErrorKind::TimedOut)) { short } else { CEILING };
            let reply = request(PODS_A, TOKEN).send(api.addr(), ceiling);
            let got = reply.as_ref().map(|reply| reply.status).map_err(io::Error::kind);
            assert_eq!(got, expected, "{name}: {reply:?}");
            match (name, reply) {
                ("half", Ok(reply)) => assert!(serde_json::from_str::<Value>(&reply.body).is_err()),
                ("status", Ok(reply)) => {
                    assert_eq!(
                        (reply.header("retry-after"), reply.body.as_str()),
                        (Some("3"), "too many requests")
                    );
                }
                _ => {}
            }
            assert_eq!(ask(&api, PODS_A).status, 200, "{name}");
        }
        api.fault("/api/v1", Fault::Close);
        assert_eq!(ask(&api, DAEMONSETS).status, 200);
        assert!(request(PODS_A, TOKEN).send(api.addr(), CEILING).is_err());
        api.clear_faults();
        assert_eq!(ask(&api, PODS_A).status, 200);
        api.refuse(true);
        let refused = request(PODS_A, TOKEN).send(api.addr(), CEILING).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        api.refuse(false);
        assert_eq!(ask(&api, PODS_A).status, 200);
    }

    #[test]
    fn a_connection_serves_many_requests_until_it_is_told_not_to() {
        let api = api();
        let mut connection = Connection::open(api.addr(), None, CEILING).unwrap();
        for _ in 0..3 {
            assert_eq!(connection.send(&request(PODS_A, TOKEN).keep_alive()).unwrap().status, 200);
            assert_eq!(
                connection.send(&request("/api/v1/nodes/x", TOKEN).keep_alive()).unwrap().status,
                404
            );
        }
        assert_eq!(api.connections(), 1);
        assert_eq!(
            connection.send(&request(PODS_A, TOKEN)).unwrap().header("connection"),
            Some("close")
        );
        assert!(connection.closed());
    }

    #[test]
    fn big_lists_are_streamed_whole_or_in_pages() {
        let api = api();
        let host_network = |number: usize, item: &mut Value| item["spec"]["number"] = json!(number);
        api.big_list(DAEMONSETS, 1200, true, host_network);
        let whole = ask(&api, DAEMONSETS);
        let list = whole.json();
        assert_eq!(names(&list).len(), 1200);
        assert_eq!(list["items"][1199]["spec"]["number"], 1199);
        assert!(whole.body.len() > 3_000_000, "{}", whole.body.len());
        let page = ask(&api, &format!("{DAEMONSETS}?limit=500&continue=item-1000")).json();
        assert_eq!((names(&page).len(), names(&page)[0]), (200, "gpu-plugin-001000"));
        assert!(page["metadata"]["continue"].is_null());
        let page = ask(&api, &format!("{DAEMONSETS}?limit=500")).json();
        assert_eq!((names(&page).len(), text(&page["metadata"]["continue"])), (500, "item-500"));
        api.fault_times(DAEMONSETS, Fault::Cut, 1);
        let cut = request(DAEMONSETS, TOKEN).send(api.addr(), CEILING).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn it_speaks_tls() {
        let ca = Authority::new();
        let api = Api::start_tls(folder(), &ca.issue(&["127.0.0.1"]));
        let request = format!(
            "GET {PODS_A} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        );
        let answer =
            crate::tls::tests::ask(&ca, api.addr(), "127.0.0.1", request.as_bytes()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0\r\n\r\n"), "{answer}");
        assert!(find_bytes(answer.as_bytes(), b"kube-proxy-pq68d").is_some());
        let asked = api.wait_for_request(|asked| asked.path == "/api/v1/pods", CEILING);
        assert_eq!((asked.token, asked.status), (true, 200));
    }
}
