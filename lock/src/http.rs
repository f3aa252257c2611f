//! Bytes to a question, and an outcome to an answer.
//!
//! The first line of each answer is byte for byte what 1.x said; what follows says why. Does not
//! decide anything.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{debug, info, log};
use percent_encoding::percent_decode_str;
use psl::duration::{self, Text};
use psl::holder;
use psl::ready::Ready;
use psl::serve::{Answer, Client, Method, Reply, Request, Route, dispatch};
use psl::text::{one_line, shown};
use serde::Serialize;

use crate::book::{Before, Cause, GivenUp, Refusal};
use crate::config::{Mode, Rules};
use crate::lease::{Id, Seen};
use crate::prober::Prober;
use crate::shared::{Shared, level_of, named};
use crate::state::{Ask, Counted, Outcome};
use crate::view;

/// What answers requests.
pub struct Service {
    rules: Rules,
    shared: Arc<Shared>,
    prober: Prober,
    is_shadow: bool,
    /// Held while `/state` is rendered, so that only one copy of the state exists at a time.
    rendering: Mutex<()>,
}

/// A parameter that is not understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid(String);

impl Service {
    /// Answers from this state by these rules.
    pub fn new(rules: Rules, mode: Mode, shared: Arc<Shared>) -> Service {
        let prober = Prober::new(Arc::clone(&shared), rules.node_addresses.clone());
        Service { rules, shared, prober, is_shadow: mode == Mode::Shadow, rendering: Mutex::default() }
    }

    /// The answer to a request that came now.
    pub fn answer(&self, request: &Request, client: &Client, now: Instant) -> Reply {
        let get = &[Method::Get];
        let root = &[Method::Get, Method::Post, Method::Delete];
        dispatch(
            request,
            &[
                Route { path: "/", methods: root, answer: &|request| self.root(request, client, now) },
                Route { path: "/metrics", methods: get, answer: &|_| self.metrics(now).into() },
                Route { path: "/state", methods: get, answer: &|request| self.state(request, now).into() },
            ],
        )
    }

    fn metrics(&self, now: Instant) -> Answer {
        let view = self.shared.with(now, |state| state.view(now, 0));
        view::metrics(&view, now)
    }

    fn state(&self, request: &Request, now: Instant) -> Answer {
        let _one_at_a_time = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.shared.with(now, |state| state.view(now, view::LISTED));
        view::state(&view, &self.rules, request.peer.is_loopback(), now)
    }

    fn root(&self, request: &Request, client: &Client, now: Instant) -> Reply {
        let is_question = request.method != Method::Delete;
        match ask(request) {
            Ok(ask) if is_question => self.lease(ask, request, client, now),
            Ok(ask) => self.give_up(&ask, request, now).into(),
            Err(Invalid(why)) => {
                if is_question {
                    self.shared.with(now, |state| state.count(Counted::Invalid));
                }
                Answer::error(400, "invalid_parameter", &why, request.json).into()
            }
        }
    }

    fn lease(&self, mut ask: Ask, request: &Request, client: &Client, now: Instant) -> Reply {
        let hold = ask.wait.and_then(|_| client.hold());
        if hold.is_none() {
            // He waits no time, but is told what one who waits is told.
            ask.wait = ask.wait.map(|_| Duration::ZERO);
        }
        let Some(outcome) = self.shared.ask(&ask, &self.rules, hold.as_ref(), now) else {
            debug!(holder = named(ask.holder.as_deref()), peer:% = ask.address; "a held client has gone");
            // Nobody reads this.
            return Answer::error(423, "gone", "the client has gone", request.json).into();
        };
        drop(hold);
        let seen = match &outcome {
            Outcome::Granted { id, .. } | Outcome::Again { id, .. } => self.prober.first_look(*id),
            _ => None,
        };
        self.shared.keep();
        log(&outcome, &ask, seen);
        let answer = answer(&outcome, seen, request.json);
        let reply =
            Reply::from(if self.is_shadow { answer.with_header("PSL-Mode", "shadow".to_owned()) } else { answer });
        match outcome {
            Outcome::Granted { id, before, is_quiet, .. } => {
                let (shared, holder, peer) = (Arc::clone(&self.shared), ask.holder, ask.address);
                reply.or_else(move || {
                    let (level, holder) = (level_of(is_quiet), named(holder.as_deref()));
                    log!(level, holder, peer:%; "the answer could not be sent: the lease is given back");
                    undo(&shared, id, before);
                })
            }
            _ => reply,
        }
    }

    fn give_up(&self, ask: &Ask, request: &Request, now: Instant) -> Answer {
        let Some(holder) = ask.holder.as_deref() else {
            let why = "holder: missing; DELETE takes ?holder=ID";
            return Answer::error(400, "invalid_parameter", why, request.json);
        };
        let given_up = self.shared.with(now, |state| state.give_up(holder, ask.address, now));
        self.shared.keep();
        debug!(holder, peer:% = ask.address; "given up: {given_up:?}");
        given_up_answer(given_up, request.json)
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock after a failed write")]
fn undo(shared: &Shared, id: Id, before: Before) {
    let now = Instant::now();
    shared.with(now, |state| state.undo(id, before, now));
}

/// Reads the parameters that are known and ignores the others.
pub fn ask(request: &Request) -> Result<Ask, Invalid> {
    let address = request.peer;
    let mut ask = Ask { address, holder: None, duration: None, ready: None, wait: None, node: None };
    for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = percent_decode_str(name).decode_utf8_lossy();
        let parse_duration = |text: &str| duration::parse(text).map_err(|e| e.to_string());
        match name.as_ref() {
            "holder" => once(&mut ask.holder, &name, value, |text| holder::parse(text).map_err(str::to_owned))?,
            "duration" => once(&mut ask.duration, &name, value, parse_duration)?,
            "ready" => once(&mut ask.ready, &name, value, |text| Ready::parse(text).map_err(str::to_owned))?,
            "wait" => once(&mut ask.wait, &name, value, parse_duration)?,
            "node" => once(&mut ask.node, &name, value, |text| match text.len() {
                1..=253 => Ok(text.to_owned()),
                _ => Err("the name of a node".to_owned()),
            })?,
            _ => {}
        }
    }
    // No time to wait, or nobody to wait for, is none.
    ask.wait = ask.wait.filter(|wait| !wait.is_zero() && ask.holder.is_some());
    Ok(ask)
}

fn once<T>(
    into: &mut Option<T>,
    name: &str,
    value: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<(), Invalid> {
    if into.is_some() {
        return Err(Invalid(format!("{name}: given twice, accepted once")));
    }
    let text: Cow<str> = percent_decode_str(value).decode_utf8_lossy();
    let refused = |accepted| Invalid(format!("{name}: {} is not accepted; accepted: {accepted}", shown(&text)));
    *into = Some(parse(&text).map_err(refused)?);
    Ok(())
}

/// The one place where an outcome becomes a status and a body.
pub fn answer(outcome: &Outcome, seen: Option<Seen>, json: bool) -> Answer {
    let barred = match seen {
        Some(Seen::Barred(why)) => format!("; ready is not probed at {why}: the lease lasts its duration"),
        _ => String::new(),
    };
    match outcome {
        Outcome::Granted { duration, is_cut, is_overridden, would, .. } => {
            let cut = if *is_cut { ", the longest that this lock grants" } else { "" };
            let overridden =
                if *is_overridden { "; the checks fail, but have held starts back for long enough" } else { "" };
            let shadow = would.as_ref().map(|would| format!("\n{}", shadow(would))).unwrap_or_default();
            let reason = format!("for {}{cut}{overridden}{barred}{shadow}", Text(*duration));
            granted(&reason, Some(*duration), json)
        }
        Outcome::Again { remaining, .. } => {
            let reason = format!("the lease that this holder has, for {} more{barred}", Text::in_millis(*remaining));
            granted(&reason, Some(*remaining), json)
        }
        Outcome::Passed(would) => granted(&shadow(would), None, json),
        Outcome::Free => granted("a slot is free; a duration of 0 takes none", None, json),
        Outcome::Busy { refusal, .. } | Outcome::GateClosed { refusal, .. } => refused(&reason(outcome), refusal, json),
        Outcome::Misdirected { .. } => Answer::error(421, "misdirected", &reason(outcome), json),
    }
}

/// Why it is not granted.
fn reason(outcome: &Outcome) -> Cow<'_, str> {
    match outcome {
        Outcome::Busy { pressure: Some(reason), .. } | Outcome::Busy { limit: Some(reason), .. } => reason.into(),
        Outcome::Busy { refusal, .. } => match refusal.cause {
            Cause::Taken => "all slots are taken",
            Cause::Kept => "a free slot is kept for who comes before",
            Cause::NoRoom => "slots are free, but the node has no room for another start yet",
        }
        .into(),
        Outcome::GateClosed { reasons, .. } => format!("waiting for {}", reasons.join("\nwaiting for ")).into(),
        Outcome::Misdirected { asks_for, serves } => {
            format!("this lock serves node {serves}, the request comes from node {}", one_line(asks_for)).into()
        }
        _ => "".into(),
    }
}

/// What one who is let through in shadow mode would have been told.
fn shadow(would: &Outcome) -> String {
    let refusal = match would {
        Outcome::Busy { refusal, .. } | Outcome::GateClosed { refusal, .. } => Some(refusal),
        Outcome::Misdirected { .. } => None,
        _ => return "shadow mode: this lock holds nobody back, and would not have here".to_owned(),
    };
    let place = refusal.and_then(|refusal| refusal.position);
    let place = place.map(|position| format!(", at position {position} in line")).unwrap_or_default();
    format!("shadow mode: this lock holds nobody back, but would have here{place}: {}", reason(would))
}

fn given_up_answer(given_up: GivenUp, json: bool) -> Answer {
    let what = match given_up {
        GivenUp::Lease => "lease",
        GivenUp::Place => "place",
        GivenUp::Nothing => {
            let why = "this holder has neither a lease nor a place in line, or asked from another address last";
            return Answer::error(404, "no_such_holder", why, json);
        }
    };
    match json {
        true => Answer::json(200, serde_json::json!({ "released": what }).to_string()),
        false => Answer::text(200, format!("Released\nthe {what} of this holder\n")),
    }
}

/// The JSON of an answer about a lease.
#[derive(Serialize)]
struct Told<'a> {
    granted: bool,
    reason: &'a str,
    retry_after_seconds: Option<u64>,
    position: Option<usize>,
    expires_in_seconds: Option<f64>,
}

fn granted(reason: &str, expires_in: Option<Duration>, json: bool) -> Answer {
    if !json {
        return Answer::text(200, format!("Lock acquired\n{reason}\n"));
    }
    let expires_in_seconds = expires_in.map(view::seconds);
    Answer::json(
        200,
        view::json(&Told { granted: true, reason, retry_after_seconds: None, position: None, expires_in_seconds }),
    )
}

fn refused(reason: &str, refusal: &Refusal, json: bool) -> Answer {
    let Refusal { retry_after, position, free_in, .. } = refusal;
    let seconds = retry_after.as_secs();
    let answer = if json {
        let retry_after_seconds = Some(seconds);
        Answer::json(
            423,
            view::json(&Told {
                granted: false,
                reason,
                retry_after_seconds,
                position: *position,
                expires_in_seconds: None,
            }),
        )
    } else {
        let place = match position {
            Some(position) => format!("position {position} in line, a slot is expected in {}\n", Text(up(*free_in))),
            None => String::new(),
        };
        Answer::text(423, format!("Locked\n{reason}\n{place}"))
    };
    answer.with_header("Retry-After", seconds.to_string())
}

/// Nobody plans by fractions of a second.
fn up(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)))
}

fn log(outcome: &Outcome, ask: &Ask, seen: Option<Seen>) {
    let (holder, peer) = (named(ask.holder.as_deref()), ask.address);
    match outcome {
        Outcome::Granted { duration, is_quiet, would: Some(would), .. } => {
            let ready = watched(ask.ready.as_ref(), seen);
            let would_wait = reason(would);
            let would_wait = if would_wait.is_empty() { "no" } else { &would_wait };
            log!(level_of(*is_quiet), holder, peer:%, duration:% = Text(*duration), ready = ready.as_ref(), would_wait; "shadow: lock acquired");
        }
        Outcome::Passed(would) => debug!(holder, peer:%, would_wait = reason(would).as_ref(); "shadow: let through"),
        Outcome::Granted { duration, waited, is_overridden, is_quiet, .. } => {
            let ready = watched(ask.ready.as_ref(), seen);
            let (duration, waited) = (Text(*duration), Text::in_millis(*waited));
            log!(level_of(*is_quiet), holder, peer:%, duration:%, waited:%, ready = ready.as_ref(), overridden = *is_overridden; "lock acquired");
        }
        Outcome::Again { has_moved: true, .. } => {
            let ready = watched(ask.ready.as_ref(), seen);
            info!(holder, peer:%, ready = ready.as_ref(); "lease follows its holder to another address");
        }
        Outcome::Again { .. } => debug!(holder, peer:%; "lock acquired already"),
        Outcome::Free => debug!(peer:%; "probe: a slot is free"),
        Outcome::Busy { refusal, .. } => {
            let position = refusal.position.unwrap_or(0);
            let reason = reason(outcome);
            debug!(holder, peer:%, position, free_in:% = Text::in_millis(refusal.free_in); "locked: {reason}");
        }
        Outcome::GateClosed { reasons, .. } => {
            debug!(holder, peer:%, reason = reasons.join("; "); "locked: checks fail");
        }
        Outcome::Misdirected { asks_for, .. } => {
            debug!(peer:%, node = one_line(asks_for); "misdirected: another node's request");
        }
    }
}

/// What ends a lease before its time, in a log line.
fn watched(ready: Option<&Ready>, seen: Option<Seen>) -> Cow<'static, str> {
    match (ready, seen) {
        (None, _) => "none".into(),
        (Some(ready), Some(Seen::Open)) => {
            format!("{ready} is open before the application can run: the duration alone counts").into()
        }
        (Some(ready), Some(Seen::Closed | Seen::Silent)) => ready.to_string().into(),
        (Some(ready), Some(Seen::Barred(why))) => {
            format!("{ready} is not probed at {why}: the lease lasts its duration").into()
        }
        (Some(ready), None) => format!("{ready} is not probed: the lease lasts its duration").into(),
    }
}
