//! Asks the API server one round of questions: this node, the DaemonSets, the pods on this node.
//!
//! Every way in which that can fail is a [`Problem`]; nothing here ends the process. Does not know
//! when a round is due, nor what the verdict is good for.

mod bounded;
mod credentials;
pub mod objects;
mod problem;
mod question;

use std::time::{Duration, Instant};

use psl::call::{Caller, Patience, Reply};

pub use problem::Problem;

use crate::config::{DaemonSets, PROGRAM};
use crate::eligibility::Labels;
use crate::verdict::{self, Pods, Reading, Verdict};
use credentials::Credentials;
use objects::{Item, Node, Status};
use question::Question;

/// Name look-up, connecting, the TLS handshake and sending.
const REACH: Duration = Duration::from_secs(10);

/// From there to the end of an answer's head, and from the head to its last byte: a list of 60 MB
/// comes with 2 MB a second.
const ANSWER: Duration = Duration::from_secs(30);

/// One request in all.
const WHOLE: Duration = Duration::from_secs(60);

/// All of a round, pages and restarts included.
const ROUND: Duration = Duration::from_secs(180);

/// Of 500 objects each. A server whose pages lead in a circle would otherwise be asked for as long
/// as a round may take, without a pause.
const MOST_PAGES: usize = 1000;

/// How often a list whose pages expire is begun anew in one round.
const MOST_RESTARTS: usize = 3;

/// The body of an error is some hundred bytes of JSON; what is longer is not worth reading.
const LARGEST_ERROR: u64 = 16 * 1024;

/// Told of each answer's status, or of nothing where no answer came.
pub type Count<'a> = &'a dyn Fn(Option<u16>);

/// Whom to ask for what.
pub struct Api {
    settings: DaemonSets,
    caller: Caller,
}

impl Api {
    /// Nothing is asked yet.
    pub fn new(settings: DaemonSets) -> Api {
        Api { settings, caller: Caller::new(PROGRAM.name) }
    }

    /// Asks all questions and says what the answers mean.
    ///
    /// The node comes first, so that the DaemonSets can be judged, and most of them dropped, as
    /// they stream by. The pods come last: a DaemonSet made after its list was read is not in this
    /// round at all and comes in the next one with its pods, whereas with the pods first it would
    /// count as missing a pod that it had long since got. And of all the answers that about pods
    /// must be the freshest, because a pod that ceased to be ready should close the gate at once.
    #[expect(clippy::disallowed_methods, reason = "the edge that bounds a round's time")]
    pub fn round(&self, count: Count) -> Result<Verdict, Problem> {
        let credentials = Credentials::read(&self.caller, &self.settings.server)?;
        let round = Round { api: self, credentials, count, end: Instant::now() + ROUND };
        let DaemonSets { node, filter, .. } = &self.settings;
        let namespace = filter.namespace.as_deref();
        let labels = round.node(node)?;
        let sets = round.list(
            &Question::daemonsets(namespace),
            || Reading::new(filter, &labels),
            |reading, set: objects::DaemonSet| reading.add(set.with_labels(|key| filter.names(key))),
        )?;
        let wanted = sets.finish().map_err(|too_many| Problem::new(too_many.to_string()))?;
        let add = |pods: &mut Pods, pod: objects::Pod| {
            if pod.is_on(node) {
                pods.add(verdict::Pod::from(pod));
            }
        };
        let nearest = round.list(&Question::pods(namespace, node), || Pods::new(&wanted), add)?.finish();
        Ok(wanted.verdict(nearest))
    }
}

struct Round<'a> {
    api: &'a Api,
    credentials: Credentials,
    count: Count<'a>,
    end: Instant,
}

/// What became of the request for one page.
enum Page {
    Last,
    Next(String),
    Expired,
}

impl Round<'_> {
    fn node(&self, name: &str) -> Result<Labels, Problem> {
        let question = Question::node(name);
        let reply = self.ask(&question, &question.first())?;
        if reply.status != 200 {
            return Err(self.refused(&question, reply));
        }
        let node: Node = objects::read_one(reply.body).map_err(|e| problem::unreadable(&question.object, None, e))?;
        let not_it = || Problem::new(format!("{}: the answer is about something else", question.object));
        node.labels_of(name).ok_or_else(not_it)
    }

    /// Reads a list, in as many pages as the server makes of it. Where its pages expire on the way,
    /// what was read is forgotten and it begins anew: the rest that the server offers instead would
    /// come from another state of the cluster, and an object could be missed.
    fn list<T: Item, S>(
        &self,
        question: &Question,
        start: impl Fn() -> S,
        mut add: impl FnMut(&mut S, T),
    ) -> Result<S, Problem> {
        for _ in 0..=MOST_RESTARTS {
            let mut found = start();
            let mut target = question.first();
            let mut pages = 0..MOST_PAGES;
            loop {
                if pages.next().is_none() {
                    return Err(Problem::new(format!("{}: more than {MOST_PAGES} pages", question.object)));
                }
                match self.page(question, &target, &mut |item| add(&mut found, item))? {
                    Page::Last => return Ok(found),
                    Page::Next(token) => target = question.next(&token)?,
                    Page::Expired => break,
                }
            }
        }
        let times = MOST_RESTARTS + 1;
        Err(Problem::new(format!("{}: 410, its pages expired before they were read, {times} times", question.object)))
    }

    fn page<T: Item>(&self, question: &Question, target: &str, each: &mut dyn FnMut(T)) -> Result<Page, Problem> {
        let reply = self.ask(question, target)?;
        match reply.status {
            200 => {
                let mut last = None;
                let read = objects::read_list(reply.body, &mut |item: T| {
                    last = Some(item.title());
                    each(item);
                });
                let next = read.map_err(|e| problem::unreadable(&question.object, last.as_deref(), e))?;
                Ok(next.map_or(Page::Last, Page::Next))
            }
            410 => Ok(Page::Expired),
            _ => Err(self.refused(question, reply)),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that bounds a round's time")]
    fn ask(&self, question: &Question, target: &str) -> Result<Reply, Problem> {
        let server = &self.api.settings.server;
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let bound = psl::duration::Text(ROUND);
            return Err(Problem::new(format!("{}: the round took longer than {bound}", question.object)));
        }
        let mut headers = vec![("accept", "application/json")];
        headers.extend(self.credentials.authorization.as_deref().map(|value| ("authorization", value)));
        let patience = Patience { reach: REACH.min(left), answer: ANSWER.min(left), whole: WHOLE.min(left) };
        let reply = self.credentials.caller.get(&server.url.join(target), &headers, patience);
        (self.count)(reply.as_ref().ok().map(|reply| reply.status));
        reply.map_err(|failure| question.unanswered(server, &failure))
    }

    fn refused(&self, question: &Question, reply: Reply) -> Problem {
        let Reply { status, retry_after, .. } = reply;
        // Without words the status still tells enough.
        let words = reply.text(LARGEST_ERROR).ok().and_then(|text| Status::words(&text));
        Problem { retry_after, ..question.refused(&self.api.settings.server, status) }.with_words(words)
    }
}

#[cfg(test)]
mod tests;
