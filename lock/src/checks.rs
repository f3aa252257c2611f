//! Checks the endpoints that must be up, round after round, and reports the results to the gate.
//!
//! All checks of a round run side by side. Knows how to check; the gate decides whether starts may
//! begin.

use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use psl::client::tls::Trust;
use psl::client::url::Url;
use psl::client::{HttpClient, HttpError, Timeouts};
use psl::text::masked_line;
use psl::thread::spawn;

use crate::config::Checks;
use crate::core::gate::{CheckResult, GateState};
use crate::shared::Shared;

/// A TLS handshake was measured to touch 60 KiB; the rest is address space, not memory.
const STACK: usize = 256 * 1024;

/// An endpoint that sends a longer body is up.
const LARGEST_BODY: u64 = 1024 * 1024;

/// The pause after the first failed round. Most endpoints start at the same time as lock: the next
/// pauses double until a round has passed, or up to the pause of the settings.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Replaces a pause that the clock cannot represent.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600 * 24 * 365);

/// The bytes of an answer that are searched for a reason.
const LONGEST_REASON: u64 = 1024;

/// The line before the reason in answers of health, also of the Go generations.
const NO_REASON: &str = "HealthCheck Failed";

/// The begin of a reason with the status of an answer.
const ANSWERED: &str = "answered ";

/// Starts the rounds, unless there are no endpoints.
pub fn start(checks: Checks, shared: Arc<Shared>) -> Result<(), String> {
    if checks.endpoints.is_empty() {
        return Ok(());
    }
    let pauses = Pauses {
        early: Some(FIRST_PAUSE),
        failed: checks.pause_failed,
        passed: checks.pause_passed,
    };
    let rounds =
        CheckRounds { client: HttpClient::new("lock"), checks, shared, pauses, last: None };
    spawn("checks", STACK, move || rounds.run())
}

struct CheckRounds {
    client: HttpClient,
    checks: Checks,
    shared: Arc<Shared>,
    pauses: Pauses,
    /// The last logged results, and the last logged state of the gate.
    last: Option<(Vec<CheckResult>, GateState)>,
}

/// The pauses between rounds.
struct Pauses {
    /// The longest pause after the next failed round; `None` once a round has passed.
    early: Option<Duration>,
    failed: Duration,
    passed: Duration,
}

impl Pauses {
    fn after(&mut self, passed: bool) -> Duration {
        if passed {
            self.early = None;
            return self.passed;
        }
        let early = self.early.unwrap_or(Duration::MAX);
        self.early = self.early.map(|pause| pause.saturating_mul(2));
        early.min(self.failed)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge that waits between rounds and reads the clock after each"
)]
impl CheckRounds {
    fn run(mut self) -> ! {
        loop {
            let results = self.round();
            let passed = results.iter().all(Result::is_ok);
            let now = Instant::now();
            let next = now.checked_add(self.pauses.after(passed)).unwrap_or(now + LONGEST_PAUSE);
            let overridden_at = self.shared.with(now, |lock| {
                lock.finish_round(results.clone(), now, next);
                lock.gate().overridden_at()
            });
            self.report(results, now);
            if let Some(at) = overridden_at.filter(|at| (now..next).contains(at)) {
                thread::sleep(at - now);
                self.report_state(Instant::now());
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    /// The CA file is read in each round, because it may have been replaced.
    fn round(&mut self) -> Vec<CheckResult> {
        let plain = &self.client;
        let secure = match &self.checks.ca_file {
            Some(file) => Trust::read(file).map(|trust| plain.clone().with_trust(trust)),
            None => Ok(plain.clone()),
        };
        let (secure, timeout) = (secure.as_ref(), self.checks.timeout);
        thread::scope(|scope| {
            let begin = |endpoint| {
                let thread = thread::Builder::new().name("check".to_owned()).stack_size(STACK);
                thread.spawn_scoped(scope, move || check(plain, secure, endpoint, timeout))
            };
            let running: Vec<_> = self.checks.endpoints.iter().map(begin).collect();
            running.into_iter().map(join).collect()
        })
    }

    /// Logs changes at info, everything else at debug.
    fn report(&mut self, results: Vec<CheckResult>, now: Instant) {
        let before = self.last.take();
        for (at, (endpoint, result)) in self.checks.endpoints.iter().zip(&results).enumerate() {
            let is_same = before.as_ref().is_some_and(|(before, _)| is_alike(&before[at], result));
            match result {
                _ if is_same => debug!(endpoint:%, up = result.is_ok(); "check unchanged"),
                Ok(()) => info!(endpoint:%; "check passed"),
                Err(reason) => info!(endpoint:%, reason; "check failed"),
            }
        }
        let state = before.map_or(GateState::Closed, |(_, state)| state);
        self.last = Some((results, state));
        self.report_state(now);
    }

    fn report_state(&mut self, now: Instant) {
        let state = self.shared.with(now, |lock| lock.gate().state(now));
        let Some((_, before)) = &mut self.last else { return };
        if *before == state {
            return;
        }
        *before = state;
        match state {
            GateState::Open => info!("gate open: all checks pass"),
            GateState::Closed => info!("gate closed: checks fail"),
            GateState::Overridden => {
                warn!(
                    "gate overridden: checks have failed for longer than --max-hold and are ignored"
                );
            }
        }
    }
}

fn join(thread: io::Result<ScopedJoinHandle<'_, CheckResult>>) -> CheckResult {
    match thread.map(ScopedJoinHandle::join) {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("the thread of the check failed".to_owned()),
        Err(error) => Err(format!("cannot start a thread for the check: {error}")),
    }
}

/// Two results differ at most in the text of an answer. The text may differ each time, so the
/// status decides.
fn is_alike(one: &CheckResult, other: &CheckResult) -> bool {
    fn status(result: &CheckResult) -> Result<(), &str> {
        let Err(reason) = result else { return Ok(()) };
        match reason.split_once(':') {
            Some((status, _)) if status.starts_with(ANSWERED) => Err(status),
            _ => Err(reason),
        }
    }
    status(one) == status(other)
}

fn check(
    plain: &HttpClient,
    secure: Result<&HttpClient, &String>,
    endpoint: &Url,
    timeout: Duration,
) -> CheckResult {
    let result = match endpoint.scheme {
        "tcp" => connect(plain, endpoint, timeout),
        "https" => get(secure.map_err(Clone::clone)?, endpoint, timeout),
        _ => get(plain, endpoint, timeout),
    };
    result.map_err(|failure| failure.to_string())
}

/// 2xx to the last byte. Redirects are not followed: an endpoint that has moved is not up.
fn get(client: &HttpClient, endpoint: &Url, timeout: Duration) -> Result<(), HttpError> {
    let response = client.get(endpoint, &[], Timeouts::of(timeout))?;
    let status = response.status;
    if !(200..300).contains(&status) {
        let reason = reason(response.body).map(|reason| format!(": {reason}")).unwrap_or_default();
        return Err(HttpError::Other(format!("{ANSWERED}{status}{reason}")));
    }
    io::copy(&mut response.body.take(LARGEST_BODY), &mut io::sink())?;
    Ok(())
}

/// The first line with a reason, bounded, printable and without possible secrets in URLs: an answer
/// may repeat the request, query included. A page of HTML has no reason.
fn reason(body: impl Read) -> Option<String> {
    let mut text = Vec::new();
    // After a read error, the bytes so far are used.
    let _ = body.take(LONGEST_REASON).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && *line != NO_REASON)?;
    Some(masked_line(line)).filter(|line| !line.starts_with('<'))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge that shares one check's time between lookup and addresses"
)]
fn connect(client: &HttpClient, endpoint: &Url, timeout: Duration) -> Result<(), HttpError> {
    let start = Instant::now();
    let addresses = client.resolver().resolve(&endpoint.host, timeout)?;
    let mut failure = HttpError::Unreachable;
    // Each address has its share of the time that is left: a silent one leaves some for the next.
    for (address, untried) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
        let share = timeout.saturating_sub(start.elapsed()) / untried;
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&SocketAddr::new(*address, endpoint.port), share) {
            Ok(_) => return Ok(()),
            // A refusal tells more than silence.
            Err(error) if error.kind() == ErrorKind::TimedOut || failure == HttpError::Refused => {}
            Err(error) => failure = HttpError::from(error),
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_round_has_passed() {
        let millis = Duration::from_millis;
        let after = |failed: u64, rounds: &[bool]| -> Vec<u128> {
            let mut pauses =
                Pauses { early: Some(FIRST_PAUSE), failed: millis(failed), passed: millis(60_000) };
            rounds.iter().map(|passed| pauses.after(*passed).as_millis()).collect()
        };
        assert_eq!(after(10_000, &[false; 7]), [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(after(10_000, &[false, true, false, false]), [500, 60_000, 10_000, 10_000]);
        assert_eq!(after(10_000, &[true, false]), [60_000, 10_000]);
        assert_eq!(after(1000, &[false; 3]), [500, 1000, 1000]);
        assert_eq!(after(100, &[false; 2]), [100, 100], "never longer than the settings");
        assert_eq!(after(10_000, &[false; 99])[98], 10_000);
    }

    #[test]
    fn reasons() {
        let long = "x".repeat(2000);
        let cut = format!("{}…", "x".repeat(200));
        for (body, expected) in [
            (
                "HealthCheck Failed\nwaiting for 2 DaemonSets\nmore\n",
                Some("waiting for 2 DaemonSets"),
            ),
            ("HealthCheck Failed\n", None),
            ("\r\n  not yet \r\nmore", Some("not yet")),
            ("", None),
            ("<html>\n<body>Bad Gateway</body>", None),
            ("Cannot GET /ready?token=secret\n", Some("Cannot GET /ready?***")),
            ("{\"kind\":\"x\"}", Some("{\"kind\":\"x\"}")),
            ("a\u{1b}[31m\u{202e}b", Some("a\u{fffd}[31m\u{fffd}b")),
            (&long, Some(cut.as_str())),
        ] {
            assert_eq!(reason(body.as_bytes()).as_deref(), expected, "{body}");
        }
        assert_eq!(reason(&b"\xff\xfe\n"[..]).as_deref(), Some("\u{fffd}\u{fffd}"));
    }

    #[test]
    fn only_a_new_status_of_an_answer_is_a_change() {
        let down = |reason: &str| Err(reason.to_owned());
        for (one, other, expected) in [
            (Ok(()), Ok(()), true),
            (Ok(()), down("answered 412"), false),
            (down("answered 412"), down("answered 412: waiting for 2"), true),
            (down("answered 412: waiting for 2"), down("answered 412: waiting for 1"), true),
            (down("answered 412: waiting"), down("answered 503: waiting"), false),
            (down("answered 503"), down("connection refused"), false),
            (down("TLS: expired"), down("TLS: not valid yet"), false),
        ] {
            assert_eq!(is_alike(&one, &other), expected, "{one:?} {other:?}");
        }
    }
}
