//! Asks the API server: about this node, DaemonSets, the pods on this node, and what changes.
//!
//! Every way in which that can fail is a [`Problem`]; nothing here ends the process. Does not know
//! when to ask, nor what the answers are good for.

mod bounded;
mod credentials;
mod json;
pub mod objects;
mod problem;
mod question;
mod seen;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use psl::client::{HttpClient, HttpError, HttpResponse, Timeouts};

pub use json::{Event, Item, Page, read_events, read_list, read_one};
pub use problem::Problem;
pub use seen::Seen;

use crate::config::{PROGRAM, Server};
use crate::load::Quantity;
use crate::verdict;
use credentials::Credentials;
use objects::Status;
use question::Question;
use seen::From;

/// Name look-up, connecting, the TLS handshake and sending.
const REACH: Duration = Duration::from_secs(10);
/// From there to the end of an answer's head, and from the head to its last byte: a list of 60 MB
/// comes with 2 MB a second.
const ANSWER: Duration = Duration::from_secs(30);
/// One request in all.
const WHOLE: Duration = Duration::from_secs(60);
/// All pages of a list, restarts included.
const LIST: Duration = Duration::from_secs(180);

/// Bookmarks come about once a minute: a watch on which nothing came for so long is dead.
const SILENCE: Duration = Duration::from_secs(150);
/// How long a watch is asked to last, and by up to how much longer, so that the watches of nodes
/// that came up together do not end together.
const WATCH: Duration = Duration::from_secs(600);
/// Drawn by lot and added.
const WATCH_SPREAD: Duration = Duration::from_secs(600);
/// The server ends a watch; who has not by then has forgotten it.
const OVERTIME: Duration = Duration::from_secs(60);

/// Of 500 objects each. A server whose pages lead in a circle would otherwise be asked for as long
/// as a list may take, without a pause.
const MOST_PAGES: usize = 1000;
/// How often a list whose pages expire is begun anew.
const MOST_RESTARTS: usize = 3;

/// The body of an error is some hundred bytes of JSON; what is longer is not worth reading.
const LARGEST_ERROR: u64 = 16 * 1024;

/// Gets each item of a list, or `None` when the list begins, or begins again.
pub type Each<'e, T> = dyn FnMut(Option<T>) + 'e;

/// Told of each answer's status, or of nothing where no answer came.
pub type Count = Box<dyn Fn(Option<u16>) + Send + Sync>;

/// Whom to ask.
pub struct Api {
    server: Server,
    caller: HttpClient,
    node: String,
    namespace: Option<String>,
    count: Count,
    /// After so long without a word a watch is dead.
    silence: Duration,
}

/// How a watch has ended.
pub enum Ended {
    /// As agreed.
    Well,
    /// What it was to go on from is too old: 410.
    Expired,
    /// The role does not allow it.
    Forbidden(Problem),
    /// The connection, before its time. It may go on where it was.
    Broken(Problem),
    /// What came could not be understood, or nothing came for too long, so that something may have been missed.
    Lost(Problem),
}

/// What became of the request for one page.
enum Turn {
    Last(String),
    Next(String),
    Expired,
}

impl Api {
    /// Nothing is asked yet. Of a namespace's objects alone, where one is given.
    pub fn new(server: Server, node: String, namespace: Option<String>, count: Count) -> Api {
        Api {
            server,
            caller: HttpClient::new(PROGRAM.name),
            node,
            namespace,
            count,
            silence: SILENCE,
        }
    }

    /// The same with another bound on a watch's silence.
    #[cfg(test)]
    pub fn with_silence(self, silence: Duration) -> Api {
        Api { silence, ..self }
    }

    /// This node, at least as new as the last known version, and its version.
    pub fn node(&self, seen: &Seen) -> Result<(verdict::Node, String), Problem> {
        let question = Question::node(&self.node);
        let reply = Call::new(self)?.ask_from(&question, seen)?;
        let node: objects::Node = self.read(&question, reply)?;
        if !node.is_called(&self.node) {
            return Err(Problem::new(format!(
                "{}: the answer is about something else",
                question.object
            )));
        }
        let version = node.version().to_owned();
        let node =
            node.counting().map_err(|why| Problem::new(format!("{}: {why}", question.object)))?;
        Ok((node, version))
    }

    /// The CPUs that it uses.
    pub fn cpus_in_use(&self) -> Result<Quantity, Problem> {
        let question = Question::node_metrics(&self.node);
        let reply = Call::new(self)?.ask(&question, &question.first())?;
        let metrics: objects::NodeMetrics = self.read(&question, reply)?;
        metrics
            .cpus()
            .ok_or_else(|| Problem::new(format!("{}: no usage of CPU in it", question.object)))
    }

    /// All DaemonSets, at least as new as the last known version, and their version. `each` gets `None` at a beginning:
    /// the items before it do not count.
    pub fn daemonsets(
        &self,
        seen: &Seen,
        each: &mut Each<objects::DaemonSet>,
    ) -> Result<String, Problem> {
        self.list(&Question::daemonsets(self.namespace.as_deref()), seen, each)
    }

    /// The DaemonSet of this name, if it exists, from the store.
    pub fn daemonset(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<objects::DaemonSet>, Problem> {
        let mut found = None;
        let mut each = |set: Option<objects::DaemonSet>| match set {
            None => found = None,
            // What answers may be a proxy that does not know the selector.
            Some(set) if set.is_called(namespace, name) => found = Some(set),
            Some(_) => {}
        };
        self.list(&Question::daemonset(namespace, name), &Seen::default(), &mut each)?;
        Ok(found)
    }

    /// All pods on this node, at least as new as the last known version, and the version from which a watch may
    /// continue. `each` is called as above.
    pub fn pods(&self, seen: &Seen, each: &mut Each<objects::Pod>) -> Result<String, Problem> {
        self.list(&Question::pods(self.namespace.as_deref(), &self.node), seen, each)
    }

    /// Watches this node from a version on.
    pub fn watch_node(
        &self,
        version: &str,
        chance: f64,
        watcher: &mut dyn Watcher<objects::Node>,
    ) -> Ended {
        let time = lasting(chance);
        self.watch(&Question::node_watch(&self.node, version, time.as_secs()), time, watcher)
    }

    /// Watches the pods on this node from a version on.
    pub fn watch_pods(
        &self,
        version: &str,
        chance: f64,
        watcher: &mut dyn Watcher<objects::Pod>,
    ) -> Ended {
        let (time, namespace) = (lasting(chance), self.namespace.as_deref());
        self.watch(
            &Question::pods_watch(namespace, &self.node, version, time.as_secs()),
            time,
            watcher,
        )
    }

    /// After so long without a word a watch is dead.
    pub fn silence(&self) -> Duration {
        self.silence
    }

    /// The node that all of this is about.
    pub fn node_name(&self) -> &str {
        &self.node
    }

    fn read<T: serde::de::DeserializeOwned>(
        &self,
        question: &Question,
        reply: HttpResponse,
    ) -> Result<T, Problem> {
        if reply.status != 200 {
            return Err(self.refused(question, reply));
        }
        read_one(reply.body).map_err(|e| problem::unreadable(&question.object, None, e))
    }

    /// Reads a list, in as many pages as the server makes. If its pages expire on the way, the list begins again: the
    /// rest that the server offers instead is of another state of the cluster, and an object could be missed.
    fn list<T: Item>(
        &self,
        question: &Question,
        seen: &Seen,
        each: &mut Each<T>,
    ) -> Result<String, Problem> {
        let call = Call::new(self)?;
        for _ in 0..=MOST_RESTARTS {
            each(None);
            let mut reply = call.ask_from(question, seen)?;
            let mut pages = 0..MOST_PAGES;
            loop {
                if pages.next().is_none() {
                    return Err(Problem::new(format!(
                        "{}: more than {MOST_PAGES} pages",
                        question.object
                    )));
                }
                match call.page(question, reply, each)? {
                    Turn::Last(version) => return Ok(version),
                    Turn::Next(token) => reply = call.ask(question, &question.next(&token)?)?,
                    Turn::Expired => break,
                }
            }
        }
        let times = MOST_RESTARTS + 1;
        Err(Problem::new(format!(
            "{}: 410, its pages expired before they were read, {times} times",
            question.object
        )))
    }

    fn watch<T: Item>(
        &self,
        question: &Question,
        time: Duration,
        watcher: &mut dyn Watcher<T>,
    ) -> Ended {
        let reply = match Call::new(self).and_then(|call| call.stream(question, time)) {
            Ok(reply) => reply,
            Err(problem) => return Ended::Broken(problem),
        };
        match reply.status {
            200 => {}
            410 => return Ended::Expired,
            403 => return Ended::Forbidden(self.refused(question, reply)),
            _ => return Ended::Broken(self.refused(question, reply)),
        }
        for event in read_events(reply.body) {
            match event {
                Ok(Event::Error(410, _)) => return Ended::Expired,
                Ok(Event::Error(status, words)) => {
                    let problem = question.refused(&self.server, status);
                    return Ended::Lost(problem.with_words(words));
                }
                Ok(event) => {
                    if let Err(problem) = watcher.take(event) {
                        return Ended::Lost(problem);
                    }
                }
                Err(error) => return broken_off(&question.object, error),
            }
        }
        Ended::Well
    }

    fn refused(&self, question: &Question, reply: HttpResponse) -> Problem {
        let HttpResponse { status, retry_after, .. } = reply;
        // Without words the status still tells enough.
        let text = reply.text(LARGEST_ERROR).unwrap_or_default();
        self.refusal(question, status, retry_after, &text)
    }

    fn refusal(
        &self,
        question: &Question,
        status: u16,
        retry_after: Option<Duration>,
        text: &str,
    ) -> Problem {
        Problem { retry_after, ..question.refused(&self.server, status) }
            .with_words(Status::words(text))
    }
}

/// How a watch has ended whose next event could not be read.
fn broken_off(object: &str, error: serde_json::Error) -> Ended {
    // Who holds a connection open and says nothing may do the same with the next one.
    let is_silence =
        matches!(error.io_error_kind(), Some(ErrorKind::TimedOut | ErrorKind::WouldBlock));
    let is_cut = error.is_eof() || error.is_io();
    let problem = problem::unreadable(object, None, error);
    if is_cut && !is_silence { Ended::Broken(problem) } else { Ended::Lost(problem) }
}

fn lasting(chance: f64) -> Duration {
    WATCH + Duration::from_secs_f64(WATCH_SPREAD.as_secs_f64() * chance)
}

/// Who is told what a watch says.
pub trait Watcher<T> {
    /// It says this. A problem ends the watch.
    fn take(&mut self, event: Event<T>) -> Result<(), Problem>;
}

/// One question with all that belongs to it, and its bound.
struct Call<'a> {
    api: &'a Api,
    credentials: Credentials,
    end: Instant,
}

impl<'a> Call<'a> {
    #[expect(clippy::disallowed_methods, reason = "the edge that bounds a list's time")]
    fn new(api: &'a Api) -> Result<Call<'a>, Problem> {
        let credentials = Credentials::read(&api.caller, &api.server)?;
        Ok(Call { api, credentials, end: Instant::now() + LIST })
    }

    fn page<T: Item>(
        &self,
        question: &Question,
        reply: HttpResponse,
        each: &mut Each<T>,
    ) -> Result<Turn, Problem> {
        match reply.status {
            200 => {
                let mut last = None;
                let read = read_list(reply.body, &mut |item: T| {
                    last = Some(item.title());
                    each(Some(item));
                });
                let page =
                    read.map_err(|e| problem::unreadable(&question.object, last.as_deref(), e))?;
                Ok(page.token.map_or(Turn::Last(page.version), Turn::Next))
            }
            410 => Ok(Turn::Expired),
            _ => Err(self.api.refused(question, reply)),
        }
    }

    /// The answer of a server whose cache has reached the last known version. If it has not, the store answers.
    fn ask_from(&self, question: &Question, seen: &Seen) -> Result<HttpResponse, Problem> {
        let reply = self.ask(question, &question.first_from(seen.from()))?;
        match (seen.from(), reply.status) {
            (From::NotOlderThan(_), 410) => {}
            (From::NotOlderThan(_), 504) => {
                let HttpResponse { status, retry_after, .. } = reply;
                let text = reply.text(LARGEST_ERROR).unwrap_or_default();
                // Servers before 1.19 send the message without a reason.
                if !text.contains("ResourceVersionTooLarge")
                    && !text.contains("Too large resource version")
                {
                    return Err(self.api.refusal(question, status, retry_after, &text));
                }
            }
            _ => return Ok(reply),
        }
        self.ask(question, &question.first_from(From::Store))
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that bounds a list's time")]
    fn ask(&self, question: &Question, target: &str) -> Result<HttpResponse, Problem> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let bound = psl::duration::Compact(LIST);
            return Err(Problem::new(format!(
                "{}: the list took longer than {bound}",
                question.object
            )));
        }
        let patience =
            Timeouts { reach: REACH.min(left), answer: ANSWER.min(left), whole: WHOLE.min(left) };
        let mut headers = self.headers();
        headers.push(("accept-encoding", "gzip"));
        self.told(question, self.credentials.caller.get(&self.url(target), &headers, patience))
    }

    fn stream(&self, question: &Question, time: Duration) -> Result<HttpResponse, Problem> {
        let patience = Timeouts { reach: REACH, answer: ANSWER, whole: time + OVERTIME };
        let caller = self.credentials.caller.clone().for_streams(self.api.silence);
        self.told(question, caller.get(&self.url(&question.first()), &self.headers(), patience))
    }

    fn url(&self, target: &str) -> psl::client::url::Url {
        self.api.server.url.join(target)
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = vec![("accept", "application/json")];
        headers.extend(
            self.credentials.authorization.as_deref().map(|value| ("authorization", value)),
        );
        headers
    }

    fn told(
        &self,
        question: &Question,
        reply: Result<HttpResponse, HttpError>,
    ) -> Result<HttpResponse, Problem> {
        (self.api.count)(reply.as_ref().ok().map(|reply| reply.status));
        reply.map_err(|failure| question.unanswered(&self.api.server, &failure))
    }
}

#[cfg(test)]
mod tests;
