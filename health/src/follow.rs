//! The threads that follow the cluster for as long as the process lives: this node and its pods by
//! watching, DaemonSets by asking, the node's load by asking too.
//!
//! Each change is judged at once by the thread that learns of it. Does not know what an answer looks
//! like, nor who reads what is noted.

mod sources;

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use psl::random;
use psl::text::one_line;
use psl::{process, sync};

use crate::agenda::{Agenda, Periods, Task};
use crate::api::{Api, Ended, Item as _, Problem, Seen, objects};
use crate::boot::{Boot, Machine};
use crate::changes::{Changes, Line};
use crate::config::Cluster;
use crate::course::Course;
use crate::status::{Board, Source};
use crate::verdict::{Counts, Identity, Judged, Pod, Verdict};
use crate::view::{Rules, View};
use sources::{Followed, OfNode, OfPods, Watching};

/// Verifying a certificate takes most of it: 56 KiB were touched in a release build, 156 KiB in one
/// without optimisation. Only what is touched is memory.
const STACK: usize = 256 * 1024;

/// Nodes that come up together shall not ask together for ever.
const JITTER: f64 = 0.2;

/// The server may ask for a longer pause than the settings say, up to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How many reasons a log line holds; `/state` has more.
const MOST_LOGGED: usize = 10;

/// Where the node's capacity is not known yet it is looked for this often.
const UNTIL_NODE: Duration = Duration::from_secs(1);

/// Without anything that time alone changes.
const IDLE: Duration = Duration::from_secs(3600);

/// Starts the threads. `Err` says why it could not.
pub fn start(settings: Cluster, board: Arc<Board>) -> Result<(), String> {
    let follower = Arc::new(Follower::new(settings, board));
    let counts = follower.settings.filter.is_some();
    spawn("node", &follower, Follower::follow::<OfNode>)?;
    spawn("daemonsets", &follower, Follower::daemonsets)?;
    spawn("clock", &follower, Follower::clock)?;
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
    process::spawn(name, STACK, move || run(&follower))
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
    changes: Changes,
    /// When time alone changes what was judged last.
    due: Option<Instant>,
    /// DaemonSets of which the log says that they are too large.
    too_large: BTreeSet<Arc<Identity>>,
    /// How many DaemonSets and pods it says are more than are kept.
    let_go: (usize, usize),
}

impl Known {
    /// One pod as it is now.
    fn take_pod(&mut self, pod: Pod) {
        if let Some(owner) = self.view.set_pod(pod) {
            self.agenda.is_unknown(owner);
        }
    }

    /// What does not count though nobody asked for that is worth a line, once.
    fn tell_bounds(&mut self) {
        let found = self.view.too_large();
        if !found.is_subset(&self.too_large) {
            let named = found
                .iter()
                .take(MOST_LOGGED)
                .map(|set| one_line(&format!("{}/{}", set.namespace(), set.name())));
            let (count, which) = (found.len(), named.collect::<Vec<_>>().join(", "));
            warn!(count, which; "DaemonSets too large to be kept do not count");
        }
        self.too_large = found;
        let (daemonsets, pods) = self.view.let_go();
        if daemonsets > 0 && self.let_go.0 == 0 {
            warn!(count = daemonsets; "more DaemonSets than are kept: of the namespaces with the most some do not count");
        }
        if pods > 0 && self.let_go.1 == 0 {
            warn!(count = pods; "more pods than are kept: of the namespaces with the most some do not count");
        }
        self.let_go = (daemonsets, pods);
    }
}

impl Follower {
    fn new(settings: Cluster, board: Arc<Board>) -> Follower {
        let boot = Boot::new(settings.boot_check, settings.boot_grace, &Machine::read());
        let rules = Rules {
            filter: settings.filter.clone(),
            conditions: settings.conditions,
            latch: settings.latch,
        };
        let periods = Periods { fail: settings.fail_period, pass: settings.pass_period };
        let namespace = settings.filter.as_ref().and_then(|filter| filter.namespace.clone());
        let counted = Arc::clone(&board);
        let count = Box::new(move |status| counted.count(status));
        let api = Api::new(settings.server.clone(), settings.node.to_string(), namespace, count);
        let known = Known {
            view: View::new(rules, boot),
            agenda: Agenda::new(periods, now()),
            changes: Changes::new(now()),
            due: None,
            too_large: BTreeSet::new(),
            let_go: (0, 0),
        };
        Follower {
            settings,
            periods,
            api,
            board,
            known: Mutex::new(known),
            changed: Condvar::new(),
        }
    }

    /// No code that holds this lock can panic half-way through a change.
    fn lock(&self) -> MutexGuard<'_, Known> {
        sync::lock(&self.known)
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
        let machine = Machine::read();
        known.due = None;
        let Some(verdict) = known.view.judge(&machine) else { return };
        known.agenda.waits(verdict.waiting(), now(), random::fraction());
        let counts = verdict.counts;
        self.board.judged(verdict);
        let now = now();
        let board = self.board.known();
        tell(&mut known.changes, &board, counts, now);
        let grace = known.view.changes_in(&machine).map(|left| now + left.min(IDLE));
        known.due = [grace, board.stale_at(now), known.changes.due()].into_iter().flatten().min();
    }

    fn well(&self, source: Source) {
        if self.board.well(source, now()) {
            info!("the API answers again");
            self.update(|_| ());
        }
    }

    fn trouble(&self, source: Source, problem: Problem) {
        let why = problem.whole();
        if self.board.trouble(source, problem, now()) {
            warn!(why; "the API gives no verdict");
            // From now on the verdict grows old.
            self.update(|_| ());
        } else {
            debug!(why; "the API still gives no verdict");
        }
    }

    /// Follows one source: a list, then a watch from there on, again and again.
    fn follow<F: Followed>(&self) {
        let mut course = Course::new(self.periods, now());
        let mut seen = Seen::default();
        loop {
            let version = match F::list(self, &mut seen) {
                Ok(version) => version,
                Err(problem) => {
                    self.fail(F::SOURCE, problem, &mut course);
                    continue;
                }
            };
            self.well(F::SOURCE);
            let forbidden = if course.listed(now()) {
                self.watch::<F>(version, &mut seen, &mut course)
            } else {
                Ok(())
            };
            if let Err(problem) = forbidden
                && course.forbidden(now(), random::fraction())
            {
                let why = problem.whole();
                warn!(why; "watching is forbidden, so the API is polled");
            }
            if course.polls(now()) {
                self.pause(self.poll_period(), None);
            }
        }
    }

    /// Watches from a version on, until there has to be a list again. `Err` says why it is forbidden.
    fn watch<F: Followed>(
        &self,
        version: String,
        seen: &mut Seen,
        course: &mut Course,
    ) -> Result<(), Problem> {
        let mut watching = Watching { follower: self, version, seen, has_news: false };
        loop {
            watching.has_news = false;
            let began = now();
            let ended = F::watch(self, &mut watching);
            course.watched(watching.has_news, matches!(ended, Ended::Well), began, now());
            self.board.count_reconnect();
            match ended {
                Ended::Forbidden(problem) => return Err(problem),
                Ended::Well => {
                    self.pause(course.after_end(random::fraction()), None);
                    if course.is_silent(self.api.silence(), now()) {
                        return Ok(());
                    }
                }
                Ended::Expired => {
                    self.pause(course.after_end(random::fraction()), None);
                    return Ok(());
                }
                // No trouble yet: the next watch goes on from here, and if it cannot, that is one.
                Ended::Broken(problem) if !course.is_failing() => {
                    let why = problem.whole();
                    debug!(why; "the watch has ended early");
                    self.pause(course.after_failure(random::fraction()), problem.retry_after);
                }
                // Where even that one fails, or it cannot be understood, a list may still do.
                Ended::Broken(problem) | Ended::Lost(problem) => {
                    self.fail(F::SOURCE, problem, course);
                    return Ok(());
                }
            }
        }
    }

    fn fail(&self, source: Source, problem: Problem, course: &mut Course) {
        let retry_after = problem.retry_after;
        self.trouble(source, problem);
        self.pause(course.after_failure(random::fraction()), retry_after);
    }

    fn poll_period(&self) -> Duration {
        let period = if self.board.known().is_healthy(now()) {
            self.periods.pass
        } else {
            self.periods.fail
        };
        random::lengthened(period, JITTER, random::fraction())
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that waits between requests")]
    fn pause(&self, pause: Duration, retry_after: Option<Duration>) {
        thread::sleep(pause.max(heeded(retry_after, random::fraction())));
    }

    /// Judges anew when time alone makes a difference: a grace or what may be believed of an API that fails has ended,
    /// or the log may be told again. Whoever asks the API cannot do this: an answer may be long in coming.
    fn clock(&self) {
        let mut known = self.lock();
        loop {
            let wait = known.due.map_or(IDLE, |due| due.saturating_duration_since(now()));
            if wait.is_zero() {
                self.judge(&mut known);
                self.changed.notify_all();
            } else {
                known = sync::wait_timeout(&self.changed, known, wait);
            }
        }
    }

    /// Asks for DaemonSets when they are due.
    fn daemonsets(&self) {
        let mut seen = Seen::default();
        loop {
            match self.next_task() {
                Task::All => self.ask_for_all(&mut seen),
                Task::One(one) => self.ask_for(&one, &mut seen),
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
            let until = match (
                &self.settings.filter,
                known.agenda.next(waiting, now, random::fraction()),
            ) {
                (None, _) => IDLE,
                (Some(_), Task::Wait(until)) => until.saturating_duration_since(now),
                (Some(_), task) => return task,
            };
            known = sync::wait_timeout(&self.changed, known, until);
        }
    }

    fn ask_for_all(&self, seen: &mut Seen) {
        let filter = self.lock().view.filter();
        let mut each = |set: Option<objects::DaemonSet>| match set
            .map(|set| set.with_labels(|key| filter.names(key)))
        {
            None => self.lock().view.begin_daemonsets(),
            Some(set) => self.lock().view.add_daemonset(set, &filter),
        };
        let result = self.api.daemonsets(seen, &mut each).map(|version| {
            seen.set(&version);
            self.update(|known| {
                known.view.finish_daemonsets();
                let unknown = known.view.unknown_owners();
                known.agenda.has_all(unknown, now(), random::fraction());
                known.tell_bounds();
            });
        });
        self.note_daemonsets(result);
    }

    fn ask_for(&self, one: &Arc<Identity>, seen: &mut Seen) {
        let filter = self.lock().view.filter();
        let result = self.api.daemonset(one.namespace(), one.name()).map(|set| {
            set.iter().for_each(|set| seen.reached(set.version()));
            let set = set.map(|set| set.with_labels(|key| filter.names(key)));
            self.update(|known| {
                known.view.set_daemonset(one.namespace(), one.name(), set);
                known.agenda.has_one(one, known.view.knows(one));
                known.tell_bounds();
            });
        });
        self.note_daemonsets(result);
    }

    fn note_daemonsets(&self, result: Result<(), Problem>) {
        match result {
            Ok(()) => self.well(Source::DaemonSets),
            Err(problem) => {
                let retry_after = heeded(problem.retry_after, random::fraction());
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
                let capacity =
                    capacity.ok_or_else(|| Problem::new("the node tells no capacity of CPU"));
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
            let until =
                if capacity.is_some() { settings.period } else { settings.period.min(UNTIL_NODE) };
            self.pause(random::lengthened(until, JITTER, random::fraction()), None);
        }
    }
}

/// What a server wants is the same for all nodes that it has refused at once: they shall not come back at once.
fn heeded(retry_after: Option<Duration>, chance: f64) -> Duration {
    random::lengthened(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER), JITTER, chance)
}

/// A change is worth a line; the same again is not.
fn tell(changes: &mut Changes, board: &crate::status::Known, counts: Counts, now: Instant) {
    let reasons = board.reasons(true, MOST_LOGGED, now);
    let Counts { waiting, ready, not_here, excluded } = counts;
    let why = reasons.join("; ");
    match (changes.look(reasons, now), board.is_healthy(now)) {
        (Line::Same, _) => debug!(why; "nothing new"),
        (Line::Later, _) => debug!(why; "it changes too often to be told each time"),
        (Line::Change(count), is_healthy) => {
            if count > 1 {
                info!(count; "so many changes, of which this is the last");
            }
            if is_healthy {
                info!(ready, not_here, excluded; "the node is healthy");
            } else {
                info!(waiting, ready, not_here, excluded, why; "the node is not healthy");
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests;
