//! Renders the outcome of a request: the HTTP answer and the log line.
//!
//! The first line of each answer is byte for byte that of 1.x; the next lines give the reason.

use std::borrow::Cow;
use std::time::Duration;

use log::{Level, debug, info, log};
use psl::duration::Compact;
use psl::server::Response;
use serde::Serialize;

use crate::core::lease::{EndedLease, ProbeResult};
use crate::core::lock::Stall;
use crate::core::outcome::{Cause, Grant, LeaseRequest, Outcome, Refusal, ReleaseEffect};
use crate::core::shadow::ModelWait;
use crate::core::time::whole_seconds;
use crate::json;

pub fn answer(outcome: &Outcome, baseline: Option<ProbeResult>, json: bool) -> Response {
    let barred = match baseline {
        Some(ProbeResult::Barred(reason)) => {
            format!("; the ready port is not probed at {reason}: the lease lasts its full duration")
        }
        _ => String::new(),
    };
    match outcome {
        Outcome::Granted(grant) => {
            grant_response(&grant_reason(grant, &barred), Some(grant.duration), json)
        }
        Outcome::AlreadyGranted { remaining, .. } => {
            let left = Compact::in_millis(*remaining);
            grant_response(
                &format!("lease already held, {left} left{barred}"),
                Some(*remaining),
                json,
            )
        }
        Outcome::LetThrough(would) => grant_response(&shadow_reason(would), None, json),
        Outcome::SlotFree => {
            grant_response("a slot is free; a duration of 0 takes none", None, json)
        }
        Outcome::Locked(refusal) => refusal_response(&cause(&refusal.cause), refusal, json),
        Outcome::Misdirected { .. } => Response::error(421, "misdirected", &reason(outcome), json),
    }
}

fn grant_reason(grant: &Grant, barred: &str) -> String {
    let duration = Compact(grant.duration);
    let cut = if grant.is_cut { ", the longest that this lock grants" } else { "" };
    let overridden = if grant.is_overridden {
        "; checks have failed for longer than --max-hold and are ignored"
    } else {
        ""
    };
    let mut reason = format!("for {duration}{cut}{overridden}{barred}");
    if let Some(would) = &grant.would {
        reason = reason + "\n" + &shadow_reason(would);
    }
    reason
}

/// The reason why a request is not granted; empty if it is.
fn reason(outcome: &Outcome) -> Cow<'_, str> {
    match outcome {
        Outcome::Locked(refusal) => cause(&refusal.cause),
        Outcome::Misdirected { from, serves } => {
            format!("this lock serves node {serves}, the request comes from node {from}").into()
        }
        _ => "".into(),
    }
}

fn cause(cause: &Cause) -> Cow<'_, str> {
    match cause {
        Cause::Checks(reasons) => format!("waiting for {}", reasons.join("\nwaiting for ")).into(),
        Cause::Pressure(reason) | Cause::Limit(reason) => reason.into(),
        Cause::SlotsInUse => "all slots are taken".into(),
    }
}

/// The outcome without shadow mode, for a client that is let through.
fn shadow_reason(would: &Outcome) -> String {
    let position = match would {
        Outcome::Locked(refusal) => refusal.position,
        Outcome::Misdirected { .. } => None,
        _ => return "shadow mode: not enforced; this request would not have waited".to_owned(),
    };
    let outcome = match position {
        Some(position) => &format!("waited at position {position} in the queue"),
        None => "been refused",
    };
    let reason = reason(would);
    format!("shadow mode: not enforced; this request would have {outcome}: {reason}")
}

/// The HTTP answer to a DELETE.
pub fn release_response(effect: ReleaseEffect, json: bool) -> Response {
    let text = match effect {
        ReleaseEffect::Lease => "Released\nthe lease of this holder\n",
        ReleaseEffect::Waiter => "Released\nthe place of this holder in the queue\n",
        ReleaseEffect::Nothing => {
            // First lines of bodies are a promise, so this one keeps its words.
            let reason = "this holder has neither a lease nor a place in line, \
                or asked from another address last";
            return Response::error(404, "no_such_holder", reason, json);
        }
    };
    match json {
        true => Response::json(200, serde_json::json!({ "released": effect.name() }).to_string()),
        false => Response::text(200, text),
    }
}

/// The JSON of an answer about a lease.
#[derive(Default, Serialize)]
struct AnswerJson<'a> {
    granted: bool,
    reason: &'a str,
    retry_after_seconds: Option<u64>,
    position: Option<usize>,
    expires_in_seconds: Option<f64>,
}

fn grant_response(reason: &str, expires_in: Option<Duration>, json: bool) -> Response {
    if !json {
        return Response::text(200, format!("Lock acquired\n{reason}\n"));
    }
    let expires_in_seconds = expires_in.map(json::seconds);
    let answer = AnswerJson { granted: true, reason, expires_in_seconds, ..AnswerJson::default() };
    Response::json(200, json::text(&answer))
}

fn refusal_response(reason: &str, refusal: &Refusal, json: bool) -> Response {
    let Refusal { retry_after, position, expected, .. } = *refusal;
    let seconds = retry_after.as_secs();
    let response = if json {
        let retry_after_seconds = Some(seconds);
        let answer = AnswerJson { reason, retry_after_seconds, position, ..AnswerJson::default() };
        Response::json(423, json::text(&answer))
    } else {
        let mut text = format!("Locked\n{reason}\n");
        if let Some(position) = position {
            text += &format!("position {position} in the queue");
            if let Some(left) = expected {
                text += &format!(", a slot is expected in {}", Compact(whole_seconds(left)));
            }
            text.push('\n');
        }
        Response::text(423, text)
    };
    response.with_header("Retry-After", seconds.to_string())
}

pub fn log(outcome: &Outcome, request: &LeaseRequest) {
    let (holder, peer) = (holder_key(request.holder.as_deref()), request.address);
    match outcome {
        Outcome::Granted(grant) => log_grant(grant, request),
        Outcome::LetThrough(would) => {
            let would_wait = reason(would);
            debug!(holder, peer:%, would_wait = would_wait.as_ref(); "shadow: let through");
        }
        Outcome::AlreadyGranted { has_moved: true, .. } => {
            let ready = ready_key(request);
            info!(holder, peer:%, ready = ready.as_ref(); "holder has a new address: lease kept");
        }
        Outcome::AlreadyGranted { .. } => debug!(holder, peer:%; "lock acquired already"),
        Outcome::SlotFree => debug!(peer:%; "probe: a slot is free"),
        Outcome::Locked(Refusal { cause: Cause::Checks(reasons), .. }) => {
            debug!(holder, peer:%, reason = reasons.join("; "); "locked: checks fail");
        }
        Outcome::Locked(refusal) => {
            let position = refusal.position.unwrap_or(0);
            debug!(holder, peer:%, position; "locked: {}", cause(&refusal.cause));
        }
        Outcome::Misdirected { from, .. } => {
            debug!(peer:%, node = from.as_str(); "misdirected: request from another node");
        }
    }
}

fn log_grant(grant: &Grant, request: &LeaseRequest) {
    let (holder, peer) = (holder_key(request.holder.as_deref()), request.address);
    let (level, ready) = (level_of(grant.is_quiet), ready_key(request));
    let duration = Compact(grant.duration);
    if let Some(would) = &grant.would {
        let would_wait = reason(would);
        let would_wait = if would_wait.is_empty() { "no" } else { &would_wait };
        log!(
            level, holder, peer:%, duration:%, ready = ready.as_ref(), would_wait;
            "shadow: lock acquired"
        );
        return;
    }
    let waited = Compact::in_millis(grant.waited);
    let overridden = grant.is_overridden;
    log!(
        level, holder, peer:%, duration:%, waited:%, ready = ready.as_ref(), overridden;
        "lock acquired"
    );
}

pub fn log_end(ended: &EndedLease) {
    let (lease, how) = (&ended.lease, ended.end.name());
    let (level, peer) = (level_of(lease.is_quiet), lease.address);
    let holder = holder_key(lease.holder.as_deref());
    if ended.is_unread {
        log!(level, holder, peer:%; "answer not delivered: lease released");
    }
    log!(level, holder, peer:%, how, held:% = Compact::in_millis(ended.age()); "lease ended");
}

/// Logs a start that would have waited.
pub fn log_model_wait(wait: &ModelWait) {
    let (level, peer) = (level_of(wait.is_quiet), wait.address);
    let holder = holder_key(wait.holder.as_deref());
    let waited = Compact::in_millis(wait.waited);
    let message = match wait.is_cut {
        true => "shadow: start would still wait, no longer counted",
        false => "shadow: start would begin now",
    };
    log!(level, holder, peer:%, would_have_waited:% = waited; "{message}");
}

pub fn log_stall(stall: &Stall) {
    let Stall { holder, waited, reason } = stall;
    let waited = Compact::in_millis(*waited);
    info!(
        holder = holder.as_ref(), waited:%, reason = reason.as_str();
        "first waiter is not admitted although slots are free"
    );
}

/// The port that ends the lease early, in a log line.
fn ready_key(request: &LeaseRequest) -> Cow<'static, str> {
    let Some(ready) = &request.ready else { return "none".into() };
    let reason = match request.baseline {
        Some(ProbeResult::Open) => "open before the application can run".into(),
        Some(ProbeResult::Barred(reason)) => format!("not probed at {reason}"),
        _ => return ready.to_string().into(),
    };
    format!("{ready} is {reason}: the lease lasts its full duration").into()
}

fn level_of(is_quiet: bool) -> Level {
    if is_quiet { Level::Debug } else { Level::Info }
}

fn holder_key(holder: Option<&str>) -> &str {
    holder.unwrap_or("none")
}
