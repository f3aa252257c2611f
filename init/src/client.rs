//! Asks the lock once. The only place that sends anything.
//!
//! Turns what comes back into plain data, with words for people that are bounded and on one line.
//! Does not know when to ask again, nor what an answer leads to.

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::debug;
use psl::client::{HttpClient, HttpError, HttpResponse, Timeouts};
use psl::text::one_line;

use crate::config::Question;
use crate::wait::{Answer, Attempt, Kind, Refusal};

/// A grant is a line; a body longer than this comes from no lock.
const LARGEST_GRANT: u64 = 64 * 1024;

/// As much of a refusal's text is read; fewer characters than this are shown.
const MOST_WORDS: u64 = 1024;

/// In all, so that a signal and the last line of the log together end the program within 100 ms.
const FAREWELL: Duration = Duration::from_millis(40);

/// Asks one lock.
pub struct Client {
    caller: HttpClient,
    question: Question,
    /// Whether the last answer of a lock came from one that knows holders.
    knows_holders: AtomicBool,
}

impl Client {
    /// Asks this question.
    pub fn new(question: Question) -> Client {
        Client { caller: HttpClient::new("init"), question, knows_holders: AtomicBool::new(false) }
    }

    /// One attempt, which ends in its time whatever the lock does.
    pub fn ask(&self, attempt: &Attempt) -> Answer {
        let patience = Timeouts {
            reach: attempt.timeout,
            answer: attempt.answer_timeout(),
            whole: attempt.whole_timeout(),
        };
        match self.caller.get(
            &self.question.for_lease(attempt.wait),
            &[],
            patience.at_most(attempt.within),
        ) {
            Ok(reply) => {
                self.learn(&reply);
                if reply.status == 200 { granted(reply) } else { refused(reply) }
            }
            Err(failure) => unanswered(&failure),
        }
    }

    /// Gives up the place in the queue, or a lease whose grant is on its way: its slot would be taken
    /// for a pod that does not start. One request, 40 ms at most. A lock of the Go generations gets
    /// none, because it takes every method for a request for a lease.
    pub fn give_up_place(&self) {
        if !self.knows_holders.load(Ordering::Relaxed) {
            return;
        }
        let patience = Timeouts { reach: FAREWELL / 2, answer: FAREWELL, whole: FAREWELL };
        match self.caller.delete(&self.question.of_place(), &[], patience) {
            Ok(reply) => debug!(status = reply.status; "gave up the place in the queue"),
            Err(error) => debug!(error:% = error; "could not give up the place in the queue"),
        }
    }

    /// What stands in a lock's place for a moment, such as a proxy, says nothing about the lock.
    fn learn(&self, reply: &HttpResponse) {
        if reply.status == 200 || kind(reply.status).is_of_a_lock() {
            self.knows_holders.store(reply.is_ours, Ordering::Relaxed);
        }
    }
}

/// A 200 counts only when all of it has come: half of one may be anybody's.
fn granted(reply: HttpResponse) -> Answer {
    let why_not = match io::copy(&mut reply.body.take(LARGEST_GRANT + 1), &mut io::sink()) {
        Ok(length) if length <= LARGEST_GRANT => return Answer::Acquired,
        Ok(_) => format!("its body is longer than {LARGEST_GRANT} bytes"),
        Err(error) => HttpError::from(error).to_string(),
    };
    refusal(
        Kind::NotALock,
        format!("200, but not the answer of a lock: {why_not}"),
        reply.retry_after,
    )
}

fn refused(reply: HttpResponse) -> Answer {
    let mut text = Vec::new();
    // The status says what matters; of its words, those that came are shown.
    let _ = reply.body.take(MOST_WORDS).read_to_end(&mut text);
    refusal(
        kind(reply.status),
        words(reply.status, &String::from_utf8_lossy(&text)),
        reply.retry_after,
    )
}

fn unanswered(failure: &HttpError) -> Answer {
    let (kind, words) = match failure {
        HttpError::Refused => (Kind::Refused, failure.to_string()),
        // A Service with `internalTrafficPolicy: Local` and no endpoint on this node drops packets.
        HttpError::NoRoute => {
            (Kind::Unreachable, format!("no lock is ready on this node yet ({failure})"))
        }
        HttpError::Garbage(_) => (Kind::NotALock, failure.to_string()),
        HttpError::Cut => (Kind::Cut, format!("{failure}: the lock may have restarted")),
        _ => (Kind::Unreachable, failure.to_string()),
    };
    refusal(kind, words, None)
}

fn refusal(kind: Kind, words: String, retry_after: Option<Duration>) -> Answer {
    Answer::Refusal(Refusal { kind, words, retry_after })
}

fn kind(status: u16) -> Kind {
    match status {
        423 => Kind::Held,
        400 | 421 => Kind::Rejected,
        404 | 405 => Kind::Elsewhere,
        _ => Kind::NotALock,
    }
}

/// The status and the server's own words, its lines joined.
fn words(status: u16, text: &str) -> String {
    if (300..400).contains(&status) && status != 304 {
        return format!("{status}, a redirect, which is not followed");
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let text = one_line(&lines.join("; "));
    if text.is_empty() { status.to_string() } else { format!("{status} {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use psl::resolve::ResolveError;

    #[test]
    fn kinds_of_statuses() {
        for (status, expected) in [
            (423, Kind::Held),
            (400, Kind::Rejected),
            (421, Kind::Rejected),
            (404, Kind::Elsewhere),
            (405, Kind::Elsewhere),
            (204, Kind::NotALock),
            (206, Kind::NotALock),
            (301, Kind::NotALock),
            (401, Kind::NotALock),
            (429, Kind::NotALock),
            (500, Kind::NotALock),
            (503, Kind::NotALock),
        ] {
            assert_eq!(kind(status), expected, "{status}");
        }
    }

    #[test]
    fn words_of_answers() {
        for (status, text, expected) in [
            (423, "Locked", "423 Locked"),
            (423, "Locked\n\n  all 2 slots are taken\r\n", "423 Locked; all 2 slots are taken"),
            (421, "", "421"),
            (404, "say \"no\"\u{1b}[31m\n", "404 say \"no\"\u{fffd}[31m"),
            (302, "<html>", "302, a redirect, which is not followed"),
        ] {
            assert_eq!(words(status, text), expected);
        }
        assert!(words(500, &"x".repeat(10_000)).chars().count() < 300);
    }

    #[test]
    fn failures() {
        let unresolved = || {
            HttpError::ResolveError(ResolveError::new(
                "lock",
                "NXDOMAIN from 10.96.0.10".to_owned(),
            ))
        };
        for (failure, kind, part) in [
            (HttpError::Refused, Kind::Refused, "refused"),
            (HttpError::NoRoute, Kind::Unreachable, "no lock is ready on this node yet"),
            (HttpError::Silent, Kind::Unreachable, "in time"),
            (
                HttpError::Cut,
                Kind::Cut,
                "connection closed before the whole answer: the lock may have restarted",
            ),
            (HttpError::Garbage("x".to_owned()), Kind::NotALock, "not an HTTP answer"),
            (
                unresolved(),
                Kind::Unreachable,
                "name does not resolve: lock: NXDOMAIN from 10.96.0.10",
            ),
        ] {
            let Answer::Refusal(refusal) = unanswered(&failure) else { panic!("{failure}") };
            assert_eq!((refusal.kind, refusal.retry_after), (kind, None), "{failure}");
            assert!(refusal.words.contains(part), "{}", refusal.words);
        }
    }
}
