//! The thread that asks the API round by round, for as long as the process lives.
//!
//! Does not know what is asked, nor who reads what it notes.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use psl::random;

use crate::api::Api;
use crate::config::DaemonSets;
use crate::status::{Board, Known, Outcome};
use crate::verdict::Counts;

/// Verifying a certificate takes most of it: 56 KiB were touched in a release build, 156 KiB in one
/// without optimisation. Only what is touched is memory.
const STACK: usize = 256 * 1024;

/// Nodes that come up together shall not ask together for ever.
const JITTER: f64 = 0.2;

/// The server may ask for a longer pause than the settings say, up to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How many reasons a log line holds; `/state` has more.
const MOST_LOGGED: usize = 10;

/// Starts the thread. `Err` says why it could not.
pub fn start(settings: DaemonSets, board: Arc<Board>) -> Result<(), String> {
    let thread = thread::Builder::new().name("poll".to_owned()).stack_size(STACK);
    let spawned = thread.spawn(move || rounds(settings, &board));
    spawned.map(drop).map_err(|e| format!("cannot start the thread that asks the API: {e}"))
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock and waits between rounds")]
fn rounds(settings: DaemonSets, board: &Board) {
    let (fail_period, pass_period) = (settings.fail_period, settings.pass_period);
    let api = Api::new(settings);
    let mut told = None;
    loop {
        let result = api.round(&|status| board.count(status));
        let retry_after = result.as_ref().err().and_then(|problem| problem.retry_after);
        let known = board.note(result, Instant::now());
        tell(&known, &mut told);
        let period = if known.is_healthy() { pass_period } else { fail_period };
        thread::sleep(random::lengthened(pause(period, retry_after), JITTER, random::fraction()));
    }
}

fn pause(period: Duration, retry_after: Option<Duration>) -> Duration {
    period.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

/// A change is worth a line; the same again is not.
fn tell(known: &Known, told: &mut Option<Vec<String>>) {
    let reasons = known.reasons(true, MOST_LOGGED);
    let why = reasons.join("; ");
    match (&known.outcome, &known.last) {
        _ if told.as_ref() == Some(&reasons) => debug!(healthy = known.is_healthy(), why; "nothing new"),
        (Outcome::Judged, Some((verdict, _))) => {
            let Counts { waiting, ready, not_here, excluded } = verdict.counts;
            match waiting {
                0 => info!(ready, not_here, excluded; "the node is healthy"),
                _ => info!(waiting, ready, not_here, excluded, why; "the node is not healthy"),
            }
        }
        _ => warn!(why; "the API gives no verdict"),
    }
    *told = Some(reasons);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses() {
        let seconds = Duration::from_secs;
        for (period, retry_after, expected) in
            [(10, None, 10), (10, Some(5), 10), (10, Some(30), 30), (10, Some(3600), 60), (120, Some(3600), 120)]
        {
            assert_eq!(pause(seconds(period), retry_after.map(seconds)), seconds(expected));
        }
    }
}
