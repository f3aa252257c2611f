//! The threads that follow the cluster for as long as the process lives: this node and its pods by
//! watching, DaemonSets by asking, the node's load by asking too.
//!
//! Each change is judged at once by the thread that learns of it. Does not know what an answer looks
//! like, nor who reads what is noted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use psl::random;
use psl::text::one_line;

use crate::agenda::{Agenda, Periods, Task, between};
use crate::api::{Api, Ended, Event, Item, Problem, Watcher, objects};
use crate::boot::{Boot, Machine};
use crate::config::Cluster;
use crate::status::{Board, Source};
use crate::verdict::{Counts, Identity, Judged, Verdict};
use crate::view::{Rules, Sets, View, add_pod, owner_of};

/// Verifying a certificate takes most of it: 56 KiB were touched in a release build, 156 KiB in one
/// without optimisation. Only what is touched is memory.
const STACK: usize = 256 * 1024;

/// Nodes that come up together shall not ask together for ever.
const JITTER: f64 = 0.2;

/// The server may ask for a longer pause than the settings say, up to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// After a watch that has ended as agreed, or by 410, at most.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// A watch that lasts less has not done its work.
const SHORTEST_WATCH: Duration = Duration::from_secs(5);

/// Where watching is forbidden it is tried again after about this long: the role may have grown.
const UNTIL_NEXT_TRY: Duration = Duration::from_secs(600);

/// How many reasons a log line holds; `/state` has more.
const MOST_LOGGED: usize = 10;

/// Without anything that time alone changes.
const IDLE: Duration = Duration::from_secs(3600);

/// Starts the threads. `Err` says why it could not.
pub fn start(settings: Cluster, board: Arc<Board>) -> Result<(), String> {
    let follower = Arc::new(Follower::new(settings, board));
    let counts = follower.settings.filter.is_some();
    spawn("node", &follower, Follower::follow::<OfNode>)?;
    spawn("daemonsets", &follower, Follower::daemonsets)?;
    spawn("grace", &follower, Follower::grace)?;
    if counts {
        spawn("pods", &follower, Follower::follow::<OfPods>)?;
    }
    if follower.settings.load.is_some() {
        spawn("load", &follower, Follower::load)?;
    }
    Ok(())
}

fn spawn(name: &str, follower: &Arc<Follower>, run: fn(&Follower)) -> Result<(), String> {
    let follower = Arc::clone(follower);
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(STACK);
    let spawned = thread.spawn(move || run(&follower));
    spawned.map(drop).map_err(|e| format!("cannot start the thread that asks the API: {e}"))
}

/// What the threads share.
struct Follower {
    settings: Cluster,
    periods: Periods,
    api: Api,
    board: Arc<Board>,
    known: Mutex<Known>,
    changed: Condvar,
}

struct Known {
    view: View,
    agenda: Agenda,
    told: Option<Vec<String>>,
    /// DaemonSets of which the log says that they are too large.
    too_large: BTreeSet<Arc<Identity>>,
}

impl Known {
    /// What does not count though nobody asked for that is worth a line, once.
    fn tell_too_large(&mut self) {
        let found = self.view.too_large();
        if !found.is_subset(&self.too_large) {
            let named = found.iter().take(MOST_LOGGED).map(|set| one_line(&format!("{}/{}", set.namespace, set.name)));
            let (count, which) = (found.len(), named.collect::<Vec<_>>().join(", "));
            warn!(count, which; "DaemonSets too large to be kept do not count");
        }
        self.too_large = found;
    }
}

impl Follower {
    fn new(settings: Cluster, board: Arc<Board>) -> Follower {
        let boot = Boot::new(settings.boot_check, settings.boot_grace, &Machine::read());
        let rules = Rules { filter: settings.filter.clone(), conditions: settings.conditions, latch: settings.latch };
        let periods = Periods { fail: settings.fail_period, pass: settings.pass_period };
        let namespace = settings.filter.as_ref().and_then(|filter| filter.namespace.clone());
        let counted = Arc::clone(&board);
        let count = Box::new(move |status| counted.count(status));
        let api = Api::new(settings.server.clone(), settings.node.clone(), namespace, count);
        let known = Known {
            view: View::new(rules, boot),
            agenda: Agenda::new(periods, now()),
            told: None,
            too_large: BTreeSet::new(),
        };
        Follower { settings, periods, api, board, known: Mutex::new(known), changed: Condvar::new() }
    }

    /// No code that holds this lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, and judges it.
    fn update<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.lock();
        let result = change(&mut known);
        self.judge(&mut known);
        self.changed.notify_all();
        result
    }

    fn judge(&self, known: &mut Known) {
        let Some(verdict) = known.view.judge(&Machine::read()) else { return };
        known.agenda.waits(verdict.waiting(), now(), random::fraction());
        let counts = verdict.counts;
        self.board.judged(verdict);
        self.tell(known, counts);
    }

    /// A change is worth a line; the same again is not.
    fn tell(&self, known: &mut Known, counts: Counts) {
        let now = now();
        let board = self.board.known();
        let reasons = board.reasons(true, MOST_LOGGED, now);
        let Counts { waiting, ready, not_here, excluded } = counts;
        let why = reasons.join("; ");
        match board.is_healthy(now) {
            _ if known.told.as_ref() == Some(&reasons) => debug!(why; "nothing new"),
            true => info!(ready, not_here, excluded; "the node is healthy"),
            false => info!(waiting, ready, not_here, excluded, why; "the node is not healthy"),
        }
        known.told = Some(reasons);
    }

    fn well(&self, source: Source) {
        if self.board.well(source, now()) {
            info!("the API answers again");
        }
    }

    fn trouble(&self, source: Source, problem: Problem) {
        let why = problem.whole();
        if self.board.trouble(source, problem, now()) {
            warn!(why; "the API gives no verdict");
        } else {
            debug!(why; "the API still gives no verdict");
        }
    }

    /// Follows one source: a list, then a watch from there on, again and again.
    fn follow<F: Followed>(&self) {
        let mut pace = Pace::default();
        let mut polls_until: Option<Instant> = None;
        loop {
            match F::list(self) {
                Err(problem) => {
                    let retry_after = problem.retry_after;
                    self.trouble(F::SOURCE, problem);
                    self.pause(pace.after_failure(&self.periods), retry_after);
                    continue;
                }
                Ok(version) => {
                    self.well(F::SOURCE);
                    match polls_until {
                        Some(until) if now() < until => self.pause(self.poll_period(), None),
                        _ => {
                            let forbidden = self.watch::<F>(version, &mut pace);
                            if let Some(problem) = forbidden {
                                if polls_until.is_none() {
                                    let why = problem.whole();
                                    warn!(why; "watching is forbidden, so the API is polled");
                                }
                                polls_until = Some(now() + between(UNTIL_NEXT_TRY, 1.0, 1.5, random::fraction()));
                                self.pause(self.poll_period(), None);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Watches from a version on, until there has to be a list again; returns why watching is
    /// forbidden, where it is.
    fn watch<F: Followed>(&self, version: String, pace: &mut Pace) -> Option<Problem> {
        let mut watching = Watching { follower: self, version, has_news: false };
        loop {
            watching.has_news = false;
            let begin = now();
            let ended = F::watch(self, &mut watching);
            // That the server has agreed says nothing yet: it may hold the watch open and never tell anything.
            let has_lasted = now().saturating_duration_since(begin) >= SHORTEST_WATCH;
            if watching.has_news || (matches!(ended, Ended::Well) && has_lasted) {
                pace.failures = 0;
            }
            self.board.count_reconnect();
            match ended {
                Ended::Forbidden(problem) => return Some(problem),
                Ended::Well => self.pause(pace.after_end(&self.periods), None),
                Ended::Expired => {
                    self.pause(pace.after_end(&self.periods), None);
                    return None;
                }
                Ended::Broken(problem) | Ended::Lost(problem) if pace.failures > 0 => {
                    // Where even the watch after that fails, or it cannot be understood, a list may still do.
                    self.fail(F::SOURCE, problem, pace);
                    return None;
                }
                // No trouble yet: the next watch goes on from here, and if it cannot, that is one.
                Ended::Broken(problem) => {
                    let why = problem.whole();
                    debug!(why; "the watch has ended early");
                    self.pause(pace.after_failure(&self.periods), problem.retry_after);
                }
                Ended::Lost(problem) => {
                    self.fail(F::SOURCE, problem, pace);
                    return None;
                }
            }
        }
    }

    fn fail(&self, source: Source, problem: Problem, pace: &mut Pace) {
        let retry_after = problem.retry_after;
        self.trouble(source, problem);
        self.pause(pace.after_failure(&self.periods), retry_after);
    }

    fn poll_period(&self) -> Duration {
        let period = if self.board.known().is_healthy(now()) { self.periods.pass } else { self.periods.fail };
        random::lengthened(period, JITTER, random::fraction())
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that waits between requests")]
    fn pause(&self, pause: Duration, retry_after: Option<Duration>) {
        thread::sleep(pause.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER)));
    }

    /// Judges anew when time alone makes a difference, and ends once it makes none any more. Whoever
    /// asks the API cannot do this: an answer may be long in coming.
    fn grace(&self) {
        let changes_in = || self.lock().view.changes_in(&Machine::read());
        while let Some(changes) = changes_in() {
            self.pause(changes.min(IDLE), None);
        }
        self.update(|_| ());
    }

    /// Asks for DaemonSets when they are due.
    fn daemonsets(&self) {
        loop {
            match self.next_task() {
                Task::All => self.ask_for_all(),
                Task::One(one) => self.ask_for(&one),
                Task::Wait(_) => {}
            }
        }
    }

    /// Waits until there is something to ask for.
    fn next_task(&self) -> Task {
        let mut known = self.lock();
        loop {
            let now = now();
            let verdict = self.board.verdict();
            let waiting: &[Judged] = verdict.as_deref().map(Verdict::waiting).unwrap_or_default();
            let until = match (&self.settings.filter, known.agenda.next(waiting, now, random::fraction())) {
                (None, _) => IDLE,
                (Some(_), Task::Wait(until)) => until.saturating_duration_since(now),
                (Some(_), task) => return task,
            };
            let (locked, _) = self.changed.wait_timeout(known, until).unwrap_or_else(PoisonError::into_inner);
            known = locked;
        }
    }

    fn ask_for_all(&self) {
        let filter = self.lock().view.filter();
        let add = |sets: &mut Sets, set: objects::DaemonSet| {
            sets.add(set.with_labels(|key| filter.names(key)), &filter);
        };
        let result = self.api.daemonsets(Sets::default, add).and_then(|sets| {
            self.update(|known| {
                known.view.set_daemonsets(sets)?;
                let unknown = known.view.unknown_owners();
                known.agenda.has_all(unknown, now(), random::fraction());
                known.tell_too_large();
                Ok(())
            })
        });
        self.note_daemonsets(result);
    }

    fn ask_for(&self, one: &Arc<Identity>) {
        let filter = self.lock().view.filter();
        let result = self.api.daemonset(&one.namespace, &one.name).and_then(|set| {
            let set = set.map(|set| set.with_labels(|key| filter.names(key)));
            self.update(|known| {
                known.agenda.has_one(one, set.as_ref().map(|set| set.uid.as_str()));
                known.view.set_daemonset(&one.namespace, &one.name, set)?;
                known.tell_too_large();
                Ok(())
            })
        });
        self.note_daemonsets(result);
    }

    fn note_daemonsets(&self, result: Result<(), Problem>) {
        match result {
            Ok(()) => self.well(Source::DaemonSets),
            Err(problem) => {
                let retry_after = problem.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
                self.trouble(Source::DaemonSets, problem);
                self.lock().agenda.has_failed(retry_after, now(), random::fraction());
            }
        }
    }

    /// Looks at the node's load, period by period.
    fn load(&self) {
        let Some(settings) = &self.settings.load else { return };
        let mut told = None;
        loop {
            let capacity = self.lock().view.node().map(|node| node.cpus);
            // Without the node there is nothing to compare with, and its own trouble is told already.
            if let Some(capacity) = capacity {
                let capacity = capacity.ok_or_else(|| Problem::new("the node tells no capacity of CPU"));
                let looked = capacity.and_then(|capacity| Ok((self.api.cpus_in_use()?, capacity)));
                let problem = looked.as_ref().err().map(Problem::whole);
                self.board.load(|load| match looked {
                    Ok((used, capacity)) => load.note(used, capacity, now()),
                    Err(problem) => load.fail(problem),
                });
                if problem != told {
                    match &problem {
                        Some(why) => warn!(why; "the node's load is not known"),
                        None => info!("the node's load is known again"),
                    }
                    told = problem;
                }
                self.update(|_| ());
            }
            let until = if capacity.is_some() { settings.period } else { settings.period.min(SHORT_PAUSE) };
            self.pause(random::lengthened(until, JITTER, random::fraction()), None);
        }
    }
}

/// How often something has failed in a row.
#[derive(Default)]
struct Pace {
    failures: u32,
}

impl Pace {
    fn after_failure(&mut self, periods: &Periods) -> Duration {
        self.failures = self.failures.saturating_add(1);
        periods.after_failures(self.failures, random::fraction())
    }

    /// A server that ends every watch at once would otherwise be asked without a pause.
    fn after_end(&mut self, periods: &Periods) -> Duration {
        self.failures = self.failures.saturating_add(1);
        match self.failures {
            1 => between(SHORT_PAUSE.min(periods.fail), 0.0, 1.0, random::fraction()),
            more => periods.after_failures(more - 1, random::fraction()),
        }
    }
}

/// Something that is listed and then watched.
trait Followed {
    type Object: Item;
    const SOURCE: Source;

    /// Takes note of all there is, and returns the version to watch from.
    fn list(follower: &Follower) -> Result<String, Problem>;

    fn watch(follower: &Follower, watching: &mut Watching) -> Ended;
}

/// A watch while it lasts.
struct Watching<'f> {
    follower: &'f Follower,
    /// Up to where everything is known.
    version: String,
    has_news: bool,
}

impl Watching<'_> {
    fn reached(&mut self, version: &str, source: Source) {
        self.has_news = true;
        if !version.is_empty() {
            version.clone_into(&mut self.version);
        }
        self.follower.well(source);
    }
}

struct OfNode;

impl Followed for OfNode {
    type Object = objects::Node;
    const SOURCE: Source = Source::Node;

    /// The watch goes on from whatever the server has, and not from the object's own version, which
    /// may be older than what the server remembers.
    fn list(follower: &Follower) -> Result<String, Problem> {
        let node = follower.api.node()?;
        follower.update(|known| known.view.set_node(node));
        Ok("0".to_owned())
    }

    fn watch(follower: &Follower, watching: &mut Watching) -> Ended {
        let version = watching.version.clone();
        follower.api.watch_node(&version, random::fraction(), watching)
    }
}

impl Watcher<objects::Node> for Watching<'_> {
    fn take(&mut self, event: Event<objects::Node>) -> Result<(), Problem> {
        let name = self.follower.api.node_name();
        match event {
            Event::Is(node) => {
                self.reached(node.version(), Source::Node);
                if let Some(node) = node.called(name) {
                    self.follower.update(|known| known.view.set_node(node));
                }
            }
            Event::Gone(node) => {
                self.reached(node.version(), Source::Node);
                if node.called(name).is_some() {
                    self.follower.update(|known| known.view.remove_node());
                }
            }
            Event::Bookmark(version) => self.reached(&version, Source::Node),
            Event::Error(..) | Event::Other => {}
        }
        Ok(())
    }
}

struct OfPods;

impl Followed for OfPods {
    type Object = objects::Pod;
    const SOURCE: Source = Source::Pods;

    fn list(follower: &Follower) -> Result<String, Problem> {
        let node = follower.api.node_name();
        let add = |pods: &mut Result<BTreeMap<_, _>, _>, pod: objects::Pod| {
            let pod = if pod.is_on(node) { pod.of_daemonset() } else { None };
            if let (Ok(found), Some(pod)) = (&mut *pods, pod)
                && let Err(too_many) = add_pod(found, pod)
            {
                *pods = Err(too_many);
            }
        };
        let (pods, version) = follower.api.pods(|| Ok(BTreeMap::new()), add)?;
        let pods = pods?;
        follower.update(|known| {
            for owner in known.view.set_pods(pods) {
                known.agenda.is_unknown(owner);
            }
        });
        Ok(version)
    }

    fn watch(follower: &Follower, watching: &mut Watching) -> Ended {
        let version = watching.version.clone();
        follower.api.watch_pods(&version, random::fraction(), watching)
    }
}

impl Watcher<objects::Pod> for Watching<'_> {
    fn take(&mut self, event: Event<objects::Pod>) -> Result<(), Problem> {
        let follower = self.follower;
        match event {
            Event::Is(pod) => {
                self.reached(pod.version(), Source::Pods);
                let uid: Box<str> = pod.uid().into();
                let pod = if pod.is_on(follower.api.node_name()) { pod.of_daemonset() } else { None };
                match pod {
                    Some(pod) => follower.update(|known| {
                        if known.view.is_surprising(&pod) {
                            known.agenda.is_unknown(owner_of(&pod));
                        }
                        known.view.set_pod(pod)
                    })?,
                    // Nobody's, or it has been let go: an orphan is not its DaemonSet's any more.
                    None if follower.lock().view.has_pod(&uid) => {
                        follower.update(|known| known.view.remove_pod(&uid));
                    }
                    None => {}
                }
            }
            Event::Gone(pod) => {
                self.reached(pod.version(), Source::Pods);
                if follower.lock().view.has_pod(pod.uid()) {
                    follower.update(|known| known.view.remove_pod(pod.uid()));
                }
            }
            Event::Bookmark(version) => self.reached(&version, Source::Pods),
            Event::Error(..) | Event::Other => {}
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
