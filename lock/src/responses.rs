//! Renders the outcome of a request: the HTTP answer and the log line.
//!
//! The first line of each answer is byte for byte that of 1.x; the next lines give the reason.

use std::borrow::Cow;
use std::time::Duration;

use log::{Level, debug, info, log};
use psl::duration::Compact;
use psl::protocol::ready::Ready;
use psl::server::Response;
use psl::text::one_line;
use serde::Serialize;

use crate::core::lease::{Ended, ProbeResult};
use crate::core::lock::Stalled;
use crate::core::outcome::{Cause, Grant, LeaseRequest, Outcome, Refusal};
use crate::core::scheduler::Released;
use crate::core::shadow::Overdue;
use crate::json;

/// The HTTP answer for an outcome.
pub fn answer(outcome: &Outcome, baseline: Option<ProbeResult>, json: bool) -> Response {
    let barred = match baseline {
        Some(ProbeResult::Barred(why)) => {
            format!("; ready is not probed at {why}: the lease lasts its duration")
        }
        _ => String::new(),
    };
    match outcome {
        Outcome::Granted(grant) => {
            granted(&grant_reason(grant, &barred), Some(grant.duration), json)
        }
        Outcome::AlreadyGranted { remaining, .. } => {
            let remaining_text = Compact::in_millis(*remaining);
            let reason = format!("lease already held, {remaining_text} left{barred}");
            granted(&reason, Some(*remaining), json)
        }
        Outcome::LetThrough(would) => granted(&shadow(would), None, json),
        Outcome::SlotFree => granted("a slot is free; a duration of 0 takes none", None, json),
        Outcome::Locked(refusal) => refused(&cause(&refusal.cause), refusal, json),
        Outcome::Misdirected { .. } => Response::error(421, "misdirected", &reason(outcome), json),
    }
}

fn grant_reason(grant: &Grant, barred: &str) -> String {
    let cut = if grant.is_cut { ", the longest that this lock grants" } else { "" };
    let overridden = if grant.is_overridden {
        "; checks fail, but have failed for longer than --max-hold"
    } else {
        ""
    };
    let would = grant.would.as_ref().map(|would| format!("\n{}", shadow(would)));
    let shadow = would.unwrap_or_default();
    format!("for {}{cut}{overridden}{barred}{shadow}", Compact(grant.duration))
}

/// The reason why a request is not granted; empty if it is.
fn reason(outcome: &Outcome) -> Cow<'_, str> {
    match outcome {
        Outcome::Locked(refusal) => cause(&refusal.cause),
        Outcome::Misdirected { from, serves } => {
            let from = one_line(from);
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
fn shadow(would: &Outcome) -> String {
    let position = match would {
        Outcome::Locked(refusal) => refusal.position,
        Outcome::Misdirected { .. } => None,
        _ => return "shadow mode: this lock holds nobody back, and would not have here".to_owned(),
    };
    let place = position.map(|position| format!(", at position {position} in line"));
    let place = place.unwrap_or_default();
    let reason = reason(would);
    format!("shadow mode: this lock holds nobody back, but would have here{place}: {reason}")
}

/// The HTTP answer to a DELETE.
pub fn released(released: Released, json: bool) -> Response {
    let what = match released {
        Released::Lease => "lease",
        Released::Waiter => "place",
        Released::Nothing => {
            let why = "this holder has neither a lease nor a place in line, or asked from another address last";
            return Response::error(404, "no_such_holder", why, json);
        }
    };
    match json {
        true => Response::json(200, serde_json::json!({ "released": what }).to_string()),
        false => Response::text(200, format!("Released\nthe {what} of this holder\n")),
    }
}

/// The JSON of an answer about a lease.
#[derive(Serialize)]
struct Body<'a> {
    granted: bool,
    reason: &'a str,
    retry_after_seconds: Option<u64>,
    position: Option<usize>,
    expires_in_seconds: Option<f64>,
}

fn granted(reason: &str, expires_in: Option<Duration>, json: bool) -> Response {
    if !json {
        return Response::text(200, format!("Lock acquired\n{reason}\n"));
    }
    let expires_in_seconds = expires_in.map(json::seconds);
    let (retry_after_seconds, position) = (None, None);
    let body = Body { granted: true, reason, retry_after_seconds, position, expires_in_seconds };
    Response::json(200, json::text(&body))
}

fn refused(reason: &str, refusal: &Refusal, json: bool) -> Response {
    let Refusal { retry_after, position, expected, .. } = refusal;
    let seconds = retry_after.as_secs();
    let answer = if json {
        let retry_after_seconds = Some(seconds);
        let (position, expires_in_seconds) = (*position, None);
        let body =
            Body { granted: false, reason, retry_after_seconds, position, expires_in_seconds };
        Response::json(423, json::text(&body))
    } else {
        let expected =
            expected.map(|left| format!(", a slot is expected in {}", Compact(up(left))));
        let expected = expected.unwrap_or_default();
        let place = position.map(|position| format!("position {position} in line{expected}\n"));
        let place = place.unwrap_or_default();
        Response::text(423, format!("Locked\n{reason}\n{place}"))
    };
    answer.with_header("Retry-After", seconds.to_string())
}

/// Whole seconds, rounded up.
fn up(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

/// Logs the outcome of a request.
pub fn log(outcome: &Outcome, request: &LeaseRequest) {
    let (holder, peer) = (named(request.holder.as_deref()), request.address);
    match outcome {
        Outcome::Granted(grant) => log_grant(grant, request),
        Outcome::LetThrough(would) => {
            let would_wait = reason(would);
            debug!(holder, peer:%, would_wait = would_wait.as_ref(); "shadow: let through");
        }
        Outcome::AlreadyGranted { has_moved: true, .. } => {
            let ready = watched(request);
            info!(holder, peer:%, ready = ready.as_ref(); "lease follows its holder to another address");
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
            debug!(peer:%, node = one_line(from); "misdirected: another node's request");
        }
    }
}

fn log_grant(grant: &Grant, request: &LeaseRequest) {
    let (holder, peer) = (named(request.holder.as_deref()), request.address);
    let (level, ready) = (level_of(grant.is_quiet), watched(request));
    let duration = Compact(grant.duration);
    if let Some(would) = &grant.would {
        let would_wait = reason(would);
        let would_wait = if would_wait.is_empty() { "no" } else { &would_wait };
        log!(level, holder, peer:%, duration:%, ready = ready.as_ref(), would_wait; "shadow: lock acquired");
        return;
    }
    let waited = Compact::in_millis(grant.waited);
    let overridden = grant.is_overridden;
    log!(level, holder, peer:%, duration:%, waited:%, ready = ready.as_ref(), overridden; "lock acquired");
}

/// Logs the end of a lease.
pub fn log_end(ended: &Ended) {
    let (lease, how) = (&ended.lease, ended.end.name());
    let (level, peer) = (level_of(lease.is_quiet), lease.address);
    let holder = named(lease.holder.as_deref());
    if ended.is_unread {
        log!(level, holder, peer:%; "the answer could not be sent: the lease is given back");
    }
    log!(level, holder, peer:%, how, held:% = Compact::in_millis(ended.age()); "lease ended");
}

/// Logs a start that would have waited.
pub fn log_overdue(overdue: &Overdue) {
    let (level, peer) = (level_of(overdue.is_quiet), overdue.address);
    let holder = named(overdue.holder.as_deref());
    let waited = Compact::in_millis(overdue.waited);
    let what =
        if overdue.is_cut { "it would wait still, and is left out" } else { "its turn comes now" };
    log!(level, holder, peer:%, would_have_waited:% = waited; "shadow: {what}");
}

/// Logs a long wait beside free slots.
pub fn log_stalled(stalled: &Stalled) {
    let Stalled { holder, waited, reason } = stalled;
    let waited = Compact::in_millis(*waited);
    info!(holder = holder.as_ref(), waited:%, reason = reason.as_str(); "the first waiter waits beside free slots");
}

/// The port that ends the lease early, in a log line.
fn watched(request: &LeaseRequest) -> Cow<'static, str> {
    let Some(ready) = &request.ready else { return "none".into() };
    match request.baseline {
        Some(ProbeResult::Open) => is_open(ready).into(),
        Some(ProbeResult::Barred(why)) => {
            format!("{ready} is not probed at {why}: the lease lasts its duration").into()
        }
        _ => ready.to_string().into(),
    }
}

fn is_open(ready: &Ready) -> String {
    format!("{ready} is open before the application can run: the duration alone counts")
}

fn level_of(is_quiet: bool) -> Level {
    if is_quiet { Level::Debug } else { Level::Info }
}

/// A holder in a log line.
pub fn named(holder: Option<&str>) -> &str {
    holder.unwrap_or("none")
}
