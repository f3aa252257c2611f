//! Bytes to a question, and an outcome to an answer.
//!
//! The first line of each answer is byte for byte what 1.x said; what follows says why. Does not
//! decide anything.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{Level, debug, log};
use percent_encoding::percent_decode_str;
use psl::duration::{self, Text};
use psl::serve::{Answer, Method, Request, Route, dispatch};
use psl::text::{one_line, shown};
use serde::Serialize;

use crate::config::Rules;
use crate::state::{Ask, Counted, Outcome, Shared};
use crate::view;

/// What answers requests.
#[derive(Debug)]
pub struct Service {
    rules: Rules,
    shared: Arc<Shared>,
}

/// A parameter that is not understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid(String);

impl Service {
    /// Answers from this state by these rules.
    pub fn new(rules: Rules, shared: Arc<Shared>) -> Service {
        Service { rules, shared }
    }

    /// The answer to a request that came now.
    pub fn answer(&self, request: &Request, now: Instant) -> Answer {
        let get = &[Method::Get];
        dispatch(
            request,
            &[
                Route { path: "/", methods: &[Method::Get, Method::Post], answer: &|request| self.lease(request, now) },
                Route { path: "/metrics", methods: get, answer: &|_| self.metrics(now) },
                Route { path: "/state", methods: get, answer: &|_| self.state(now) },
            ],
        )
    }

    fn metrics(&self, now: Instant) -> Answer {
        let view = self.shared.lock().view(now, 0);
        view::metrics(&view, now)
    }

    fn state(&self, now: Instant) -> Answer {
        let view = self.shared.lock().view(now, view::LISTED);
        view::state(&view, &self.rules, now)
    }

    fn lease(&self, request: &Request, now: Instant) -> Answer {
        let ask = match ask(&request.query) {
            Ok(ask) => ask,
            Err(Invalid(why)) => {
                self.shared.lock().count(Counted::Invalid);
                return Answer::error(400, "invalid_parameter", &why, request.json);
            }
        };
        let outcome = self.shared.lock().ask(&ask, &self.rules, now);
        log(&outcome, request);
        answer(&outcome, request.json)
    }
}

/// Reads the parameters that are known and ignores the others.
pub fn ask(query: &str) -> Result<Ask, Invalid> {
    let mut ask = Ask::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = percent_decode_str(name).decode_utf8_lossy();
        match name.as_ref() {
            "duration" => {
                once(&mut ask.duration, &name, value, |text| duration::parse(text).map_err(|e| e.to_string()))?;
            }
            "node" => once(&mut ask.node, &name, value, |text| match text.len() {
                1..=253 => Ok(text.to_owned()),
                _ => Err("the name of a node".to_owned()),
            })?,
            _ => {}
        }
    }
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
pub fn answer(outcome: &Outcome, json: bool) -> Answer {
    match outcome {
        Outcome::Granted { duration, is_cut, is_overridden } => {
            let cut = if *is_cut { ", the longest that this lock grants" } else { "" };
            let overridden =
                if *is_overridden { "; the checks fail, but have held starts back for long enough" } else { "" };
            let reason = format!("for {}{cut}{overridden}", Text(*duration));
            told(200, &reason, None, Some(*duration), json)
        }
        Outcome::Free => told(200, "a slot is free; a duration of 0 takes none", None, None, json),
        Outcome::Busy { free_in, .. } => told(423, "all slots are taken", Some(*free_in), None, json),
        Outcome::GateClosed { reasons, next_round_in, .. } => {
            let reason = format!("waiting for {}", reasons.join("\nwaiting for "));
            told(423, &reason, Some(*next_round_in), None, json)
        }
        Outcome::Misdirected { asks_for, serves } => {
            let why = format!("this lock serves node {serves}, the request comes from node {}", one_line(asks_for));
            Answer::error(421, "misdirected", &why, json)
        }
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

fn told(status: u16, reason: &str, retry_after: Option<Duration>, expires_in: Option<Duration>, json: bool) -> Answer {
    let granted = status == 200;
    let retry_after_seconds = retry_after.map(whole_seconds);
    let expires_in_seconds = expires_in.map(view::seconds);
    let answer = if json {
        let told = Told { granted, reason, retry_after_seconds, position: None, expires_in_seconds };
        Answer::json(status, view::json(&told))
    } else {
        Answer::text(status, format!("{}\n{reason}\n", if granted { "Lock acquired" } else { "Locked" }))
    };
    match retry_after_seconds {
        Some(seconds) => answer.with_header("Retry-After", seconds.to_string()),
        None => answer,
    }
}

/// `Retry-After` knows whole seconds alone: up, so that nobody comes too early, and at least 1.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)).max(1)
}

/// Leases of no length at all would let one client fill the log; those of a second and more come
/// no faster than the slots allow.
fn level_of(duration: Duration) -> Level {
    if duration < Duration::from_secs(1) { Level::Debug } else { Level::Info }
}

fn log(outcome: &Outcome, request: &Request) {
    let peer = request.peer;
    match outcome {
        Outcome::Granted { duration, is_overridden, .. } => {
            log!(level_of(*duration), peer:%, duration:% = Text(*duration), overridden = *is_overridden; "lock acquired");
        }
        Outcome::Free => debug!(peer:%; "probe: a slot is free"),
        Outcome::Busy { free_in, .. } => debug!(peer:%, free_in:% = Text(*free_in); "locked: all slots are taken"),
        Outcome::GateClosed { reasons, .. } => debug!(peer:%, reason = reasons.join("; "); "locked: checks fail"),
        Outcome::Misdirected { asks_for, .. } => {
            debug!(peer:%, node = one_line(asks_for); "misdirected: another node's request");
        }
    }
}
