//! What all threads share, as one pure machine: leases and line, the gate, the counts.
//!
//! The time is an argument. Whoever has the mutex around it ([`crate::shared`]) only computes, for
//! microseconds, and never waits for a client, a disk or an endpoint.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use psl::metrics::Histogram;
use psl::ready::Ready;

use crate::book::{Before, Book, GivenUp, News, Refusal, Request, Target, Told};
use crate::config::{Config, Rules};
use crate::gate::{Checked, Gate, Verdict};
use crate::lease::{How, Id, Lease, Seen};
use crate::queue::{Place, Seat};

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
    },
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
const SHORTEST_TOLD: Duration = Duration::from_secs(1);

/// How many leases were told of since this second began.
#[derive(Clone, Copy, Debug)]
struct Pace {
    began: Instant,
    told: usize,
}

impl Pace {
    fn is_quiet(&mut self, duration: Duration, now: Instant) -> bool {
        if now.saturating_duration_since(self.began) >= Duration::from_secs(1) {
            *self = Pace { began: now, told: 0 };
        }
        duration < SHORTEST_TOLD || self.told >= MOST_TOLD
    }
}

/// Leases and line, gate, counts.
#[derive(Debug)]
pub struct State {
    /// Read and restored by what keeps it over a restart.
    pub book: Book,
    gate: Gate,
    counts: Counts,
    /// The time that was seen last: threads read the clock before they come here, and so may come
    /// in another order.
    latest: Instant,
    pace: Pace,
}

impl State {
    /// All slots free.
    pub fn new(slots: usize, config: &Config, now: Instant) -> State {
        let endpoints = config.checks.endpoints.iter().map(ToString::to_string).collect();
        State {
            book: Book::new(slots, config.rules.default, config.ready_period),
            gate: Gate::new(endpoints, config.checks.max_hold, now),
            counts: Counts {
                requests: [0; Counted::ALL.len()],
                waited: Histogram::new(WAITED_BOUNDS),
                held: Histogram::new(HELD_BOUNDS),
                ended: [0; How::ALL.len()],
            },
            latest: now,
            pace: Pace { began: now, told: 0 },
        }
    }

    /// Decides on a request, and counts it unless it is held back.
    pub fn ask(&mut self, ask: &Ask, rules: &Rules, now: Instant) -> Decision {
        let now = self.at(now);
        if let (Some(asks_for), Some(serves)) = (&ask.node, &rules.node)
            && asks_for != serves
        {
            self.count(Counted::Misdirected);
            return Decision::Now(Outcome::Misdirected { asks_for: asks_for.clone(), serves: serves.clone() });
        }
        if ask.duration == Some(Duration::ZERO) {
            self.count(Counted::Probe);
            return Decision::Now(self.probe(now));
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
        self.book.undo(id, before, now);
    }

    /// A holder gives up its lease or place.
    pub fn give_up(&mut self, holder: &str, from: IpAddr, now: Instant) -> GivenUp {
        let now = self.at(now);
        self.book.give_up(holder, from, now)
    }

    /// See [`Book::first_looked`].
    pub fn first_looked(&mut self, target: &Target, seen: Seen, now: Instant) {
        let now = self.at(now);
        self.book.first_looked(target, seen, now);
    }

    /// See [`Book::looked`].
    pub fn looked(&mut self, target: &Target, seen: Seen, took: Duration, now: Instant) -> bool {
        let now = self.at(now);
        self.book.looked(target, seen, took, now)
    }

    /// See [`Book::due_look`].
    pub fn due_look(&mut self, now: Instant) -> Option<Target> {
        let now = self.at(now);
        self.book.due_look(now)
    }

    /// Does what the time alone brings; says when it brings something next, and whether a port is due
    /// to be looked at.
    pub fn tick(&mut self, now: Instant) -> (Option<Instant>, bool) {
        let now = self.at(now);
        self.book.tick(self.closed_for(now), now);
        (self.book.next_event(now), self.book.has_due_look(now))
    }

    /// Takes note of a finished round of checks.
    pub fn round(&mut self, results: Vec<Checked>, now: Instant, next_round: Instant) {
        self.gate.round(results, now, next_round);
        if self.gate.verdict(now) == Verdict::Closed {
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
        let news = self.book.news();
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
            slots_in_use: self.book.leases().count(),
            leases: self.book.leases().iter().take(most).cloned().collect(),
            queue_length: self.book.queue().places().len(),
            queue: self.book.queue().line(most).into_iter().cloned().collect(),
            gate: self.gate.clone(),
            counts: self.counts.clone(),
        }
    }

    fn at(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
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
            (None, Err(refusal)) => Outcome::Busy { refusal, is_probe: true },
            (Some(closed_for), _) => {
                let refusal = self.book.closed(closed_for);
                Outcome::GateClosed { reasons: self.gate.reasons(), refusal, is_probe: true }
            }
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
            is_quiet: self.pace.is_quiet(duration, now),
        }
    }

    fn decision(&mut self, told: Told, ask: &Ask, is_quiet: bool, now: Instant) -> Decision {
        let outcome = match told {
            Told::Granted { id, duration, waited, before } => {
                self.count(Counted::Granted);
                self.counts.waited.observe(waited);
                self.pace.told += usize::from(!is_quiet);
                let is_cut = ask.duration.is_some_and(|wanted| wanted > duration);
                let is_overridden = self.gate.verdict(now) == Verdict::Overridden;
                Outcome::Granted { id, duration, waited, before, is_cut, is_overridden, is_quiet }
            }
            Told::Again { id, remaining, has_moved } => {
                self.count(Counted::Again);
                Outcome::Again { id, remaining, has_moved }
            }
            Told::Held { seat, until } => return Decision::Later { seat, until },
            Told::Refused(refusal) if self.closed_for(now).is_some() => {
                self.count(Counted::GateClosed);
                Outcome::GateClosed { reasons: self.gate.reasons(), refusal, is_probe: false }
            }
            Told::Refused(refusal) => {
                self.count(Counted::Busy);
                Outcome::Busy { refusal, is_probe: false }
            }
        };
        Decision::Now(outcome)
    }
}

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
        (State::new(slots, &config, now), config.rules, now)
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
