//! What all threads share, as one pure machine: leases and line, the gate, the counts.
//!
//! The time is an argument. Whoever has the mutex around it ([`crate::shared`]) only computes, for
//! microseconds, and never waits for a client, a disk or an endpoint.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use psl::metrics::Histogram;
use psl::pace::Pace;
use psl::ready::Ready;

use crate::book::{Before, Book, Cause, GivenUp, News, Refusal, Request, Room, TOO_SOON, Target, Told};
use crate::config::{Config, Mode, Rules, Slots};
use crate::core::limit::{self, Limit, Reading};
use crate::gate::{Checked, Gate, Verdict};
use crate::lease::{How, Id, Lease, Seen, after};
use crate::pressure::{self, Pressure, Readings};
use crate::queue::{MOST, Place, SEATS, Seat};
use crate::shadow::{self, Shadow, Would};

/// A request for a lease, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Where it comes from.
    pub address: IpAddr,
    /// Who asks.
    pub holder: Option<Box<str>>,
    /// The duration that it names.
    pub duration: Option<Duration>,
    /// What would end the lease earlier.
    pub ready: Option<Ready>,
    /// How long the answer may be held back.
    pub wait: Option<Duration>,
    /// The node that it comes from.
    pub node: Option<String>,
}

/// Whether a request is answered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is.
    Now(Outcome),
    /// It is held back; see [`State::resume`].
    Later {
        /// Names the request.
        seat: Seat,
        /// When it has waited for as long as it may.
        until: Instant,
    },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has a lease of this duration.
    Granted {
        /// The lease.
        id: Id,
        /// How long the lease lasts.
        duration: Duration,
        /// Since the holder first asked.
        waited: Duration,
        /// What to restore where it cannot be told.
        before: Before,
        /// It asked for more.
        is_cut: bool,
        /// The checks fail, but have held back for long enough.
        is_overridden: bool,
        /// Its life is not told to everybody who reads the log.
        is_quiet: bool,
        /// In shadow mode, what it would have been told instead.
        would: Option<Box<Outcome>>,
    },
    /// In shadow mode: let through without a lease, although it would have been told this.
    Passed(Box<Outcome>),
    /// Its holder has a lease already.
    Again {
        /// The lease.
        id: Id,
        /// How much of it is left.
        remaining: Duration,
        /// The holder asks from another address for the first time.
        has_moved: bool,
    },
    /// It asked for nothing but whether a slot is free, and one is.
    Free,
    /// All slots are taken, or kept for those who come before.
    Busy {
        /// When to ask again.
        refusal: Refusal,
        /// Which pressure would hold it back if a slot were free.
        pressure: Option<String>,
        /// Why the automatic limit holds it back although a slot is free.
        limit: Option<String>,
        /// It asked for nothing but whether a slot is free.
        is_probe: bool,
    },
    /// The checks do not let anybody start.
    GateClosed {
        /// One for each endpoint that is not up.
        reasons: Vec<String>,
        /// When to ask again: after the next round of checks, or when they hold nobody back any more.
        refusal: Refusal,
        /// It asked for nothing but whether a slot is free.
        is_probe: bool,
    },
    /// It comes from another node.
    Misdirected {
        /// The node that it comes from.
        asks_for: String,
        /// The node of this lock.
        serves: String,
    },
}

/// How requests ended, as the metric has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A lease was granted.
    Granted,
    /// The holder had one already.
    Again,
    /// All slots were taken.
    Busy,
    /// The checks failed.
    GateClosed,
    /// Nothing but a question.
    Probe,
    /// Another node's.
    Misdirected,
    /// Not understood.
    Invalid,
}

impl Counted {
    /// In the order of [`Counts::requests`].
    pub const ALL: [(Counted, &str); 7] = [
        (Counted::Granted, "granted"),
        (Counted::Again, "again"),
        (Counted::Busy, "busy"),
        (Counted::GateClosed, "gate_closed"),
        (Counted::Probe, "probe"),
        (Counted::Misdirected, "misdirected"),
        (Counted::Invalid, "invalid"),
    ];
}

/// What has happened since the start.
#[derive(Clone, Debug)]
pub struct Counts {
    /// By [`Counted`].
    pub requests: [u64; Counted::ALL.len()],
    /// From a holder's first request to its grant.
    pub waited: Histogram,
    /// How long the leases were held that have ended.
    pub held: Histogram,
    /// Leases that have ended, by [`How`].
    pub ended: [u64; How::ALL.len()],
}

/// A copy to render after the mutex has been given back.
#[derive(Clone, Debug)]
pub struct View {
    /// Leases that may be held at the same time.
    pub slots: usize,
    /// The automatic limit.
    pub limit: Option<limit::Status>,
    /// Leases that are held.
    pub slots_in_use: usize,
    /// Some of them, those that end first.
    pub leases: Vec<Lease>,
    /// Holders that wait.
    pub queue_length: usize,
    /// Some of them, in the order in which they are served.
    pub queue: Vec<Place>,
    /// The last round of checks.
    pub gate: Gate,
    /// The last readings of the node's pressure.
    pub pressure: Pressure,
    /// In shadow mode, what would have happened.
    pub shadow: Option<shadow::Counts>,
    /// What has happened so far.
    pub counts: Counts,
}

/// From half a second to the longest lease by default.
const HELD_BOUNDS: &[f64] = &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// From "at once" to what the manifests let an init wait.
const WAITED_BOUNDS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Leases that are told of in one second at most, and how short one may be: one client that takes
/// leases and gives them back must not fill the log.
const MOST_TOLD: usize = 100;
const TOLD_PERIOD: Duration = Duration::from_secs(1);
const SHORTEST_TOLD: Duration = Duration::from_secs(1);

/// The events of the book that the automatic limit knows.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Of the leases that have ended lately, the first so many.
    ended: usize,
    /// Leases that have begun.
    begun: usize,
}

/// The log explains the limit if the first waiter has waited for this long beside free slots, and
/// again after as long.
const EXPLAINED: Duration = Duration::from_secs(60);

/// Somebody who has no place in line still waits for so long after he was refused: he is told to ask
/// again within half a minute at most.
const STILL_WANTED: Duration = Duration::from_secs(30);

/// Leases and line, gate, counts.
#[derive(Debug)]
pub struct State {
    /// Read and restored by what keeps it over a restart. In shadow mode it is what would be.
    pub book: Book,
    gate: Gate,
    pressure: Pressure,
    /// The automatic limit, with `--locks auto`.
    limit: Option<Limit>,
    limit_knows: Known,
    /// When the log explained it last.
    explained_at: Option<Instant>,
    /// When somebody found no slot last.
    wanted: Option<Instant>,
    /// In shadow mode, what is.
    shadow: Option<Shadow>,
    counts: Counts,
    /// The time that was seen last: threads read the clock before they come here, and so may come
    /// in another order.
    latest: Instant,
    pace: Pace,
}

impl State {
    /// All slots free.
    pub fn new(slots: Slots, config: &Config, now: Instant) -> State {
        let endpoints = config.checks.endpoints.iter().map(ToString::to_string).collect();
        let (slots, limit) = match slots {
            Slots::Fixed(slots) => (slots, None),
            Slots::Auto { cores, most } => (most, Some(Limit::new(cores, most, now))),
        };
        let book = |slots| Book::new(slots, config.rules.default, config.ready_period);
        let (seats, shadow) = match config.mode {
            Mode::Enforce => (SEATS, None),
            Mode::Shadow => (MOST, Some(Shadow::new(book(Shadow::room(slots)), WAITED_BOUNDS))),
        };
        State {
            book: book(slots).with_seats(seats),
            pressure: Pressure::new(config.pressure),
            limit,
            limit_knows: Known::default(),
            explained_at: None,
            wanted: None,
            shadow,
            gate: Gate::new(endpoints, config.checks.max_hold, now),
            counts: Counts {
                requests: [0; Counted::ALL.len()],
                waited: Histogram::new(WAITED_BOUNDS),
                held: Histogram::new(HELD_BOUNDS),
                ended: [0; How::ALL.len()],
            },
            latest: now,
            pace: Pace::new(MOST_TOLD, TOLD_PERIOD, now),
        }
    }

    /// Decides on a request, and counts it unless it is held back.
    pub fn ask(&mut self, ask: &Ask, rules: &Rules, now: Instant) -> Decision {
        let now = self.at(now);
        if let (Some(asks_for), Some(serves)) = (&ask.node, &rules.node)
            && asks_for != serves
        {
            self.count(Counted::Misdirected);
            let misdirected = Outcome::Misdirected { asks_for: asks_for.clone(), serves: serves.clone() };
            return Decision::Now(self.passed(misdirected));
        }
        if ask.duration == Some(Duration::ZERO) {
            self.count(Counted::Probe);
            let probe = self.probe(now);
            return Decision::Now(self.passed(probe));
        }
        if self.shadow.is_some() {
            return Decision::Now(self.grant_all_the_same(ask, rules, now));
        }
        let request = self.request(ask, rules, now);
        let told = self.book.ask(&request, self.closed_for(now), now);
        let is_quiet = request.is_quiet;
        self.decision(told, ask, is_quiet, now)
    }

    /// Decides on a request that was held back, as [`State::ask`] does.
    pub fn resume(&mut self, ask: &Ask, rules: &Rules, seat: Seat, until: Instant, now: Instant) -> Decision {
        let now = self.at(now);
        let request = self.request(ask, rules, now);
        let told = self.book.resume(&request, seat, until, self.closed_for(now), now);
        let is_quiet = request.is_quiet;
        self.decision(told, ask, is_quiet, now)
    }

    /// The client of a held request has hung up.
    pub fn hung_up(&mut self, seat: Seat, now: Instant) {
        let now = self.at(now);
        self.count(Counted::Busy);
        self.book.hung_up(seat, now);
    }

    /// The answer with this grant could not be sent.
    pub fn undo(&mut self, id: Id, before: Before, now: Instant) {
        let now = self.at(now);
        let Some(since) = self.real_mut().undo(id, before, now) else { return };
        if self.shadow.is_none() {
            // It has ended, and was no start.
            self.limit_knows.ended = self.book.ended_lately().len();
            self.pressure.undone(since);
            if let Some(limit) = &mut self.limit {
                limit.undone(now);
            }
        }
        // Not only the slot is free again, but the room too: whoever is next must not wait for more of it.
        self.tick(now);
    }

    /// A holder gives up its lease or place.
    pub fn give_up(&mut self, holder: &str, from: IpAddr, now: Instant) -> GivenUp {
        let now = self.at(now);
        self.real_mut().give_up(holder, from, now)
    }

    /// See [`Book::first_look`].
    pub fn first_look(&mut self, id: Id) -> Option<Target> {
        self.real_mut().first_look(id)
    }

    /// See [`Book::is_watching`].
    pub fn is_watching(&self) -> bool {
        self.real().is_watching()
    }

    /// See [`Book::has_due_look`].
    pub fn has_due_look(&self, now: Instant) -> bool {
        self.real().has_due_look(now)
    }

    /// See [`Book::first_looked`].
    pub fn first_looked(&mut self, target: &Target, seen: Seen, now: Instant) {
        let now = self.at(now);
        self.real_mut().first_looked(target, seen, now);
        if matches!(seen, Seen::Open | Seen::Barred(_)) {
            self.is_open(target, now);
        }
    }

    /// See [`Book::looked`].
    pub fn looked(&mut self, target: &Target, seen: Seen, took: Duration, now: Instant) -> bool {
        let now = self.at(now);
        let is_too_early = self.real_mut().looked(target, seen, took, now);
        if is_too_early {
            self.is_open(target, now);
        }
        is_too_early
    }

    /// See [`Book::due_look`].
    pub fn due_look(&mut self, now: Instant) -> Option<Target> {
        let now = self.at(now);
        self.real_mut().due_look(now)
    }

    /// Does what the time alone brings; says when it brings something next, and whether a port is due
    /// to be looked at.
    pub fn tick(&mut self, now: Instant) -> (Option<Instant>, bool) {
        let now = self.at(now);
        self.book.tick(self.closed_for_model(now), now);
        if let Some(shadow) = &mut self.shadow {
            shadow.real.tick(None, now);
        }
        self.settle();
        (self.next_event(now), self.has_due_look(now))
    }

    /// When the time alone brings something next.
    pub fn next_event(&self, now: Instant) -> Option<Instant> {
        let somebody_waits = !self.book.queue().places().is_empty();
        let pressure = if somebody_waits { self.pressure.next_event(now) } else { None };
        let shadow = self.shadow.as_ref().map(|shadow| {
            // Nobody asks again in the model when the checks have held for long enough.
            let overridden = self.gate.overridden_at().filter(|at| somebody_waits && *at > now);
            [shadow.real.next_event(now), shadow.next_event(), overridden]
        });
        let more = shadow.into_iter().flatten().flatten();
        self.book.next_event(now).into_iter().chain(pressure).chain(more).chain(self.reading_at(now)).min()
    }

    /// Whether the pressure of the node is to be read now: by whoever asks, or because somebody waits.
    pub fn pressure_due(&self, is_asked: bool, now: Instant) -> bool {
        self.pressure.is_due(now) && (is_asked || !self.book.queue().places().is_empty())
    }

    /// Takes note of the pressure; says whether it holds starts back now, and which does, where that
    /// has changed.
    pub fn feel(&mut self, readings: Readings, now: Instant) -> Option<(bool, String)> {
        let change = self.pressure.read(readings, now);
        let now = self.at(now);
        self.book.tick(self.closed_for_model(now), now);
        change.map(|holds| (holds, self.pressure.told()))
    }

    /// Takes note of a finished round of checks.
    pub fn round(&mut self, results: Vec<Checked>, now: Instant, next_round: Instant) {
        self.gate.round(results, now, next_round);
        if self.shadow.is_some() {
            // Nobody in the model is told, and all are called where the checks pass again.
            let now = self.at(now);
            self.book.tick(None, now);
        } else if self.gate.verdict(now) == Verdict::Closed {
            self.book.close();
        }
    }

    /// The last round of checks.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Counts a request that has become nothing.
    pub fn count(&mut self, counted: Counted) {
        self.counts.requests[counted as usize] += 1;
    }

    /// What has happened that somebody has to do something about. Here it is counted.
    pub fn news(&mut self) -> News {
        self.settle();
        self.follow();
        self.limit_knows.ended = 0;
        let in_book = self.book.news();
        // Nobody outside is to do anything about what would be.
        let news = self.shadow.as_mut().map_or(in_book, Shadow::news);
        for (lease, how, at) in &news.ended {
            self.counts.ended[*how as usize] += 1;
            self.counts.held.observe(at.saturating_duration_since(lease.since));
        }
        news
    }

    /// What there is to see now; of leases and places so many at most.
    pub fn view(&mut self, now: Instant, most: usize) -> View {
        let now = self.at(now);
        self.book.pass(now);
        View {
            slots: self.book.slots(),
            limit: self.limit.as_ref().map(|limit| limit.status(self.book.leases().count(), now)),
            slots_in_use: self.book.leases().count(),
            leases: self.book.leases().iter().take(most).cloned().collect(),
            queue_length: self.book.queue().places().len(),
            queue: self.book.queue().line(most).into_iter().cloned().collect(),
            gate: self.gate.clone(),
            pressure: self.pressure.clone(),
            shadow: self.shadow.as_ref().map(|shadow| shadow.counts().clone()),
            counts: self.counts.clone(),
        }
    }

    /// Whatever is done at some instant is done with as much room as there is then.
    fn at(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.follow();
        self.latest
    }

    /// As much room as the automatic limit and the gates have.
    fn follow(&mut self) {
        self.tell_limit();
        self.book.let_in(self.room(self.latest));
    }

    /// Tells the automatic limit what has happened.
    fn tell_limit(&mut self) {
        let (now, known) = (self.latest, self.limit_knows);
        let Some(limit) = &mut self.limit else { return };
        self.book.pass(now);
        for _ in known.begun..self.book.begun() {
            limit.began(now);
        }
        let ended = self.book.ended_lately();
        for (lease, how, at) in &ended[known.ended..] {
            let age = at.saturating_duration_since(lease.since);
            // An application that never got ready was no start, nor was a lease that was given back at once.
            let was_start = match how {
                How::Ready => true,
                How::Released => age >= TOO_SOON,
                How::Expired => !lease.is_watched(),
            };
            limit.ended(age, was_start, now);
        }
        self.limit_knows = Known { ended: ended.len(), begun: self.book.begun() };
    }

    /// Whether the node is to be looked at, and when: while somebody waits for a lease to end. Who waits for the
    /// checks waits for no slot, and what the node does meanwhile is no cost of starts.
    fn reading_at(&self, now: Instant) -> Option<Instant> {
        let may_start = self.closed_for(now).is_none();
        let limit = self.limit.as_ref().filter(|_| may_start && self.book.leases().count() > 0)?;
        let is_wanted = !self.book.queue().places().is_empty()
            || self.wanted.is_some_and(|at| now.saturating_duration_since(at) < STILL_WANTED);
        is_wanted.then(|| limit.next_reading(now))
    }

    /// Whether the node is to be looked at now.
    pub fn reading_due(&self, now: Instant) -> bool {
        self.reading_at(now).is_some_and(|at| at <= now)
    }

    /// Takes note of a reading of the node; `None` if it cannot be read. Says why the limit holds the
    /// first waiter back, and for how long it has waited, if that is for the log.
    pub fn read(&mut self, reading: Option<Reading>, now: Instant) -> Option<(limit::Status, Duration)> {
        let now = self.at(now);
        let active = self.book.leases().count();
        let limit = self.limit.as_mut()?;
        limit.read(reading, active, now);
        let status = limit.status(active, now);
        let first = self.book.queue().line(1).first().map(|place| place.since)?;
        let waited = now.saturating_duration_since(first);
        let is_recent = |at: Instant| now.saturating_duration_since(at) < EXPLAINED;
        if active >= self.book.slots() || waited < EXPLAINED || self.explained_at.is_some_and(is_recent) {
            return None;
        }
        self.explained_at = Some(now);
        Some((status, waited))
    }

    /// A gate has the last word: its floor admits one start whatever the limit is.
    fn room(&self, now: Instant) -> Option<Room> {
        self.room_by_gates(now).or_else(|| self.room_by_limit(now))
    }

    fn room_by_limit(&self, now: Instant) -> Option<Room> {
        // While the checks fail, nothing hangs on the limit.
        if self.closed_for(now).is_some() {
            return None;
        }
        let active = self.book.leases().count();
        let limit = self.limit.as_ref()?;
        let quota = limit.quota(active, now);
        let pace = limit.status(active, now).pace;
        let each = Duration::try_from_secs_f64(1.0 / pace).unwrap_or(limit::STALE).min(limit::STALE);
        Some(Room { more: quota.more, next: quota.next.unwrap_or(after(now, limit::STALE)), each })
    }

    fn room_by_gates(&self, now: Instant) -> Option<Room> {
        // In the model those whom the checks hold back wait as if they were held.
        if let Some(closed_for) = self.closed_for(now).filter(|_| self.shadow.is_some()) {
            return Some(Room { more: 0, next: after(now, closed_for), each: Duration::ZERO });
        }
        let each = self.pressure.floor();
        match self.pressure.verdict(now) {
            pressure::Verdict::Open => None,
            pressure::Verdict::One => Some(Room { more: 1, next: now, each }),
            pressure::Verdict::Held { until } => Some(Room { more: 0, next: until, each }),
        }
    }

    /// The book whose leases really run.
    fn real(&self) -> &Book {
        self.shadow.as_ref().map_or(&self.book, |shadow| &shadow.real)
    }

    fn real_mut(&mut self) -> &mut Book {
        self.shadow.as_mut().map_or(&mut self.book, |shadow| &mut shadow.real)
    }

    /// See [`Shadow::settle`].
    fn settle(&mut self) {
        if let Some(shadow) = &mut self.shadow {
            shadow.settle(&mut self.book, &mut self.pressure, self.latest);
        }
    }

    /// See [`Shadow::is_open`].
    fn is_open(&mut self, target: &Target, now: Instant) {
        if let Some(shadow) = &mut self.shadow {
            shadow.is_open(target, &mut self.book, now);
        }
    }

    /// In shadow mode nobody is refused.
    fn passed(&mut self, outcome: Outcome) -> Outcome {
        let Some(shadow) = &mut self.shadow else { return outcome };
        if matches!(outcome, Outcome::Misdirected { .. }) {
            shadow.count(Would::Misdirected);
        }
        Outcome::Passed(Box::new(outcome))
    }

    /// Shadow mode: everybody gets a lease, and is told what he would have been told.
    fn grant_all_the_same(&mut self, ask: &Ask, rules: &Rules, now: Instant) -> Outcome {
        let request = Request { wait: None, ..self.request(ask, rules, now) };
        let Some(shadow) = &mut self.shadow else { return Outcome::Free };
        let told = shadow.real.ask(&request, None, now);
        let mut would = Outcome::Free;
        match told {
            Told::Granted { id, .. } => {
                let (name, is_granted) = shadow.begin(id, &request, &mut self.book, &mut self.pressure, now);
                if !is_granted {
                    would = self.refusal_of(&name, now);
                }
                let counted = match &would {
                    Outcome::GateClosed { .. } => Would::GateClosed,
                    Outcome::Busy { pressure: Some(_), .. } if self.book.has_slot() => Would::Pressure,
                    Outcome::Busy { .. } => Would::Busy,
                    _ => Would::Granted,
                };
                if let Some(shadow) = &mut self.shadow {
                    shadow.count(counted);
                }
            }
            Told::Again { .. } => {}
            // More starts than are followed: it goes, and is not told of.
            Told::Held { .. } | Told::Refused(_) => {
                shadow.count(Would::Busy);
                self.count(Counted::Granted);
                let refusal = self.book.closed(Duration::ZERO);
                return Outcome::Passed(Box::new(Outcome::Busy {
                    refusal,
                    pressure: None,
                    limit: None,
                    is_probe: false,
                }));
            }
        }
        match self.decision(told, ask, request.is_quiet, now) {
            Decision::Now(Outcome::Granted {
                id, duration, waited, before, is_cut, is_overridden, is_quiet, ..
            }) => {
                let would = Some(Box::new(would));
                Outcome::Granted { id, duration, waited, before, is_cut, is_overridden, is_quiet, would }
            }
            Decision::Now(outcome) => outcome,
            Decision::Later { .. } => Outcome::Free,
        }
    }

    /// What this holder would be told of its place in the model.
    fn refusal_of(&mut self, name: &str, now: Instant) -> Outcome {
        let refusal = self.book.expected(name, now).unwrap_or_else(|| self.book.closed(Duration::ZERO));
        self.refused(refusal, false, now)
    }

    fn refused(&self, refusal: Refusal, is_probe: bool, now: Instant) -> Outcome {
        if self.closed_for(now).is_some() {
            return Outcome::GateClosed { reasons: self.gate.reasons(), refusal, is_probe };
        }
        let limit = self.limit.as_ref().filter(|_| refusal.cause == Cause::NoRoom);
        let limit = limit.map(|limit| limit.status(self.book.leases().count(), now).to_string());
        Outcome::Busy { refusal, pressure: self.pressure.reason(now), limit, is_probe }
    }

    /// As [`State::closed_for`], for the book: in shadow mode it knows of it by its room alone.
    fn closed_for_model(&self, now: Instant) -> Option<Duration> {
        self.closed_for(now).filter(|_| self.shadow.is_none())
    }

    /// When the checks may let somebody in again; nothing while they do.
    fn closed_for(&self, now: Instant) -> Option<Duration> {
        if self.gate.verdict(now) != Verdict::Closed {
            return None;
        }
        let next_round = self.gate.next_round();
        let due = self.gate.overridden_at().map_or(next_round, |at| at.min(next_round));
        Some(due.saturating_duration_since(now))
    }

    /// A duration of zero takes nothing, and is told what a request without a name would be.
    fn probe(&mut self, now: Instant) -> Outcome {
        match (self.closed_for(now), self.book.is_free(now)) {
            (None, Ok(())) => Outcome::Free,
            (None, Err(refusal)) => self.refused(refusal, true, now),
            (Some(closed_for), _) => self.refused(self.book.closed(closed_for), true, now),
        }
    }

    fn request<'a>(&mut self, ask: &'a Ask, rules: &Rules, now: Instant) -> Request<'a> {
        let duration = ask.duration.unwrap_or(rules.default).min(rules.longest);
        Request {
            holder: ask.holder.as_deref(),
            address: ask.address,
            duration,
            ready: ask.ready.as_ref(),
            wait: ask.wait,
            is_quiet: !self.pace.has_room(now) || duration < SHORTEST_TOLD,
        }
    }

    fn decision(&mut self, told: Told, ask: &Ask, is_quiet: bool, now: Instant) -> Decision {
        let outcome = match told {
            Told::Granted { id, duration, waited, before } => {
                self.count(Counted::Granted);
                if self.shadow.is_none() {
                    self.pressure.started(now);
                }
                self.counts.waited.observe(waited);
                if !is_quiet {
                    self.pace.note();
                }
                let is_cut = ask.duration.is_some_and(|wanted| wanted > duration);
                let is_overridden = self.gate.verdict(now) == Verdict::Overridden;
                Outcome::Granted { id, duration, waited, before, is_cut, is_overridden, is_quiet, would: None }
            }
            Told::Again { id, remaining, has_moved } => {
                self.count(Counted::Again);
                Outcome::Again { id, remaining, has_moved }
            }
            Told::Held { seat, until } => {
                self.wanted = Some(now);
                return Decision::Later { seat, until };
            }
            Told::Refused(refusal) => {
                self.wanted = Some(now);
                let refused = self.refused(refusal, false, now);
                let is_busy = matches!(refused, Outcome::Busy { .. });
                self.count(if is_busy { Counted::Busy } else { Counted::GateClosed });
                refused
            }
        };
        Decision::Now(outcome)
    }
}

#[cfg(test)]
mod under_auto;
#[cfg(test)]
mod under_pressure;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PROGRAM;
    use psl::args::Given;
    use std::net::Ipv4Addr;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
    fn state(slots: usize) -> (State, Rules, Instant) {
        let config = Config::from(Given::read(&PROGRAM, Vec::new(), |_| None).unwrap()).unwrap();
        let now = Instant::now();
        (State::new(Slots::Fixed(slots), &config, now), config.rules, now)
    }

    fn by(holder: &str) -> Ask {
        let address = Ipv4Addr::new(10, 0, 0, 1).into();
        Ask { address, holder: Some(holder.into()), duration: None, ready: None, wait: None, node: None }
    }

    fn outcome(decision: Decision) -> Outcome {
        match decision {
            Decision::Now(outcome) => outcome,
            later => panic!("{later:?}"),
        }
    }

    #[test]
    fn counts_are_right_to_the_unit() {
        let (mut state, mut rules, start) = state(1);
        rules.node = Some("here".to_owned());
        let elsewhere = Ask { node: Some("there".to_owned()), ..by("a") };
        let probe = Ask { duration: Some(Duration::ZERO), ..by("a") };
        for ask in [by("a"), by("a"), by("b"), elsewhere, probe] {
            state.ask(&ask, &rules, start);
        }
        state.count(Counted::Invalid);
        state.give_up("a", by("a").address, start + 4 * SECOND);
        state.ask(&by("b"), &rules, start + 4 * SECOND);
        state.tick(start + 14 * SECOND);
        let news = state.news();
        assert_eq!(news.ended.len(), 2);
        let view = state.view(start + 14 * SECOND, 9);
        assert_eq!(view.counts.requests, [2, 1, 1, 0, 1, 1, 1]);
        assert_eq!(view.counts.ended, [0, 1, 1]);
        assert_eq!((view.slots_in_use, view.queue_length), (0, 0));
        let mut out = psl::metrics::Exposition::default();
        out.histogram("w", "waited", &view.counts.waited);
        out.histogram("h", "held", &view.counts.held);
        let text = out.finish();
        for line in ["w_sum 4", "w_count 2", "h_sum 14", "h_count 2"] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_client_that_takes_and_gives_back_does_not_fill_the_log() {
        let (mut state, rules, start) = state(1);
        let mut told = 0;
        for n in 0..3 * MOST_TOLD as u32 {
            // Two seconds long in all.
            let now = start + Duration::from_millis(2000) / (3 * MOST_TOLD as u32) * n;
            match outcome(state.ask(&by("a"), &rules, now)) {
                Outcome::Granted { is_quiet, .. } => told += usize::from(!is_quiet),
                other => panic!("{other:?}"),
            }
            state.give_up("a", by("a").address, now);
        }
        assert_eq!(told, 2 * MOST_TOLD);
        let short = Ask { duration: Some(SECOND - Duration::from_nanos(1)), ..by("a") };
        assert!(matches!(
            outcome(state.ask(&short, &rules, start + 9 * SECOND)),
            Outcome::Granted { is_quiet: true, .. }
        ));
    }

    #[test]
    fn time_that_comes_in_another_order_is_no_harm() {
        let (mut state, rules, start) = state(1);
        state.ask(&by("a"), &rules, start + 20 * SECOND);
        assert!(matches!(outcome(state.ask(&by("b"), &rules, start)), Outcome::Busy { .. }));
        state.tick(start + 5 * SECOND);
        assert_eq!(state.view(start, 1).slots_in_use, 1);
    }
}
