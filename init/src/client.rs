//! Sends requests to the lock, and turns answers and errors into a grant or a [`Reason`].
//!
//! Does not know when to ask again or how an answer changes the wait.

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::debug;
use psl::client::{HttpClient, HttpError, HttpResponse, Timeouts};
use psl::text::one_line;

use crate::config::LockUrls;
use crate::core::reason::{Reason, ReasonKind};
use crate::core::wait::Attempt;

/// A grant is one line; a longer body does not come from a lock.
const LARGEST_GRANT: u64 = 64 * 1024;

/// Bytes read of any other answer; the log shows fewer.
const LARGEST_REASON: u64 = 1024;

/// A signal must end the program within 100 ms, the last log line included.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(40);

pub struct LockClient {
    http: HttpClient,
    urls: LockUrls,
    /// The last answer of a lock had this project's `Server` header, so the lock knows holders.
    knows_holders: AtomicBool,
}

impl LockClient {
    pub fn new(urls: LockUrls) -> LockClient {
        LockClient { http: HttpClient::new("init"), urls, knows_holders: AtomicBool::new(false) }
    }

    pub fn ask(&self, attempt: &Attempt) -> Result<(), Reason> {
        let timeouts = Timeouts {
            reach: attempt.timeout,
            answer: attempt.answer_timeout(),
            whole: attempt.request_timeout(),
        };
        let url = self.urls.lease(attempt.wait);
        match self.http.get(&url, &[], timeouts.at_most(attempt.within)) {
            Ok(response) => {
                let kind = reason_kind(response.status);
                // Any other server, such as a proxy in between, is no evidence of the lock.
                if response.status == 200 || kind.is_from_lock() {
                    self.knows_holders.store(response.is_ours, Ordering::Relaxed);
                }
                if response.status == 200 { granted(response) } else { Err(not_granted(response)) }
            }
            Err(error) => Err(no_response(&error)),
        }
    }

    /// Gives up the place in the queue, or a lease whose grant is on its way. A Go lock (1.x, 2.x)
    /// gets no request, because it takes every method for a request for a lease.
    pub fn leave_queue(&self) {
        if !self.knows_holders.load(Ordering::Relaxed) {
            return;
        }
        let timeouts =
            Timeouts { reach: LEAVE_TIMEOUT / 2, answer: LEAVE_TIMEOUT, whole: LEAVE_TIMEOUT };
        match self.http.delete(&self.urls.holder(), &[], timeouts) {
            Ok(response) => debug!(status = response.status; "left the queue"),
            Err(error) => debug!(error:% = error; "cannot leave the queue"),
        }
    }
}

/// An incomplete 200 is no grant, because any server may have sent it.
fn granted(response: HttpResponse) -> Result<(), Reason> {
    let text = match io::copy(&mut response.body.take(LARGEST_GRANT + 1), &mut io::sink()) {
        Ok(length) if length <= LARGEST_GRANT => return Ok(()),
        Ok(_) => format!("200, but not from a lock: body longer than {LARGEST_GRANT} bytes"),
        Err(error) => format!("200, but the answer is incomplete: {}", HttpError::from(error)),
    };
    Err(Reason { kind: ReasonKind::NotALock, text, retry_after: response.retry_after })
}

fn not_granted(response: HttpResponse) -> Reason {
    let mut body = Vec::new();
    // The status decides. If the body is cut, the part that came is shown.
    let _ = response.body.take(LARGEST_REASON).read_to_end(&mut body);
    let text = reason_text(response.status, &String::from_utf8_lossy(&body));
    Reason { kind: reason_kind(response.status), text, retry_after: response.retry_after }
}

fn no_response(error: &HttpError) -> Reason {
    let (kind, text) = match error {
        HttpError::Refused => (ReasonKind::ConnectionRefused, error.to_string()),
        // A Service with `internalTrafficPolicy: Local` and no endpoint on this node drops packets.
        HttpError::Unreachable => {
            (ReasonKind::NoAnswer, format!("{error}: no lock is ready on this node yet"))
        }
        HttpError::Malformed(_) => (ReasonKind::NotALock, error.to_string()),
        HttpError::Closed => {
            (ReasonKind::ConnectionClosed, format!("{error}: the lock may have restarted"))
        }
        _ => (ReasonKind::NoAnswer, error.to_string()),
    };
    Reason { kind, text, retry_after: None }
}

fn reason_kind(status: u16) -> ReasonKind {
    match status {
        423 => ReasonKind::Locked,
        400 | 421 => ReasonKind::BadRequest,
        404 | 405 => ReasonKind::NotFound,
        _ => ReasonKind::NotALock,
    }
}

/// The status and the lines of the body.
fn reason_text(status: u16, body: &str) -> String {
    if (300..400).contains(&status) && status != 304 {
        return format!("{status}, a redirect, which is not followed");
    }
    let lines: Vec<&str> = body.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let text = one_line(&lines.join("; "));
    if text.is_empty() { status.to_string() } else { format!("{status} {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use psl::resolve::ResolveError;

    #[test]
    fn statuses_map_to_kinds() {
        for (status, expected) in [
            (423, ReasonKind::Locked),
            (400, ReasonKind::BadRequest),
            (421, ReasonKind::BadRequest),
            (404, ReasonKind::NotFound),
            (405, ReasonKind::NotFound),
            (204, ReasonKind::NotALock),
            (206, ReasonKind::NotALock),
            (301, ReasonKind::NotALock),
            (401, ReasonKind::NotALock),
            (429, ReasonKind::NotALock),
            (500, ReasonKind::NotALock),
            (503, ReasonKind::NotALock),
        ] {
            assert_eq!(reason_kind(status), expected, "{status}");
        }
    }

    #[test]
    fn reason_texts_are_short_single_lines() {
        for (status, body, expected) in [
            (423, "Locked", "423 Locked"),
            (423, "Locked\n\n  all 2 slots are taken\r\n", "423 Locked; all 2 slots are taken"),
            (421, "", "421"),
            (404, "say \"no\"\u{1b}[31m\n", "404 say \"no\"\u{fffd}[31m"),
            (302, "<html>", "302, a redirect, which is not followed"),
        ] {
            assert_eq!(reason_text(status, body), expected);
        }
        assert!(reason_text(500, &"x".repeat(10_000)).chars().count() < 300);
    }

    #[test]
    fn errors_map_to_kinds_and_texts() {
        let unresolved =
            || HttpError::Resolve(ResolveError::new("lock", "NXDOMAIN from 10.96.0.10".to_owned()));
        for (error, kind, part) in [
            (HttpError::Refused, ReasonKind::ConnectionRefused, "refused"),
            (HttpError::Unreachable, ReasonKind::NoAnswer, ": no lock is ready on this node yet"),
            (HttpError::Timeout, ReasonKind::NoAnswer, "in time"),
            (HttpError::Closed, ReasonKind::ConnectionClosed, ": the lock may have restarted"),
            (HttpError::Malformed("x".to_owned()), ReasonKind::NotALock, "HTTP"),
            (
                unresolved(),
                ReasonKind::NoAnswer,
                "name does not resolve: lock: NXDOMAIN from 10.96.0.10",
            ),
        ] {
            let reason = no_response(&error);
            assert_eq!((reason.kind, reason.retry_after), (kind, None), "{error}");
            assert!(reason.text.contains(part), "{}", reason.text);
        }
    }
}
