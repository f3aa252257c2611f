//! Waits in an init container until the node's lock grants a lease.
//!
//! `main` → [`run`] → settings, signals, the client → the wait, which is pure.

pub mod config;

mod client;
mod termination;
pub mod wait;

use std::io;
use std::thread;
use std::time::Duration;

use log::{debug, info, warn};
use psl::duration::Text;
use psl::end::End;
use psl::{logging, random, signals};

use client::Client;
use config::{Config, PROGRAM};
use termination::{LastWords, Outcome, rounded};
use wait::{Answer, Kind, Next, Refusal, Say, Waiting, Why};

/// The whole program; the result is its exit code.
pub fn run() -> Result<u8, End> {
    let last_words = LastWords::begin();
    let handled = handle_signals(&last_words);
    let (config, log_settings) = settings()?;
    logging::start(&log_settings);
    if let Err(error) = handled {
        // Where no thread can be had, a pod that waits is still better than one that fails.
        warn!(error:% = error; "signals will not end this program at once");
    }
    announce(&config);
    let outcome = wait(&config, &last_words);
    last_words.end(outcome);
    Ok(outcome.exit_code())
}

/// Before *anything else*: as process 1 of a container it would not end at all without this.
fn handle_signals(last_words: &LastWords) -> io::Result<()> {
    let last_words = last_words.clone();
    let on_stop = move |stop| {
        let outcome = Outcome::Stopped(stop);
        last_words.end(outcome);
        i32::from(outcome.exit_code())
    };
    signals::on_stop(on_stop)
}

fn settings() -> Result<(Config, logging::Settings), End> {
    let mut given = psl::end::given(&PROGRAM)?;
    let config = Config::take(&mut given);
    let log_settings = logging::Settings::take(&mut given);
    given.finish().map_err(End::Mistakes)?;
    Ok((config, log_settings))
}

fn announce(config: &Config) {
    let bound = |bound: Option<Duration>| bound.map_or_else(|| "none".to_owned(), |b| Text(b).to_string());
    let (max_wait, unreachable_wait) = (bound(config.rules.max_wait), bound(config.rules.unreachable_wait));
    info!(lock:% = config.lock, max_wait = max_wait, unreachable_wait = unreachable_wait; "asking for the lock");
}

fn wait(config: &Config, last_words: &LastWords) -> Outcome {
    let client = Client::new(config.lock.clone(), config.attempt_timeout);
    let mut waiting = Waiting::new(config.rules, config.loopback, [random::fraction(), random::fraction()]);
    let mut next = waiting.next(last_words.waited());
    loop {
        next = match next {
            Next::Ask(within) => attempt(&client, &mut waiting, within, last_words),
            Next::Pause(length) => {
                pause(length);
                waiting.next(last_words.waited())
            }
            Next::Start(Why::Acquired) => return Outcome::Acquired,
            Next::Start(Why::Bound(bound)) => return Outcome::StartedWithout(bound),
            Next::Fail(bound) => return Outcome::GaveUp(bound),
        }
    }
}

fn attempt(client: &Client, waiting: &mut Waiting, within: Duration, last_words: &LastWords) -> Next {
    let answer = client.ask(within);
    let waited = last_words.waited();
    let (next, say) = waiting.answered(&answer, waited, random::fraction());
    if let Answer::Refusal(refusal) = &answer {
        // An attempt that the bound cut short says nothing of the lock.
        let is_cut_short = matches!(next, Next::Start(_) | Next::Fail(_)) && refusal.kind == Kind::Unreachable;
        if !(is_cut_short && last_words.knows_a_reason()) {
            last_words.remember(&refusal.words);
        }
        report(refusal, waited, next, say);
    }
    next
}

fn report(refusal: &Refusal, waited: Duration, next: Next, say: Option<Say>) {
    let reason = refusal.words.as_str();
    let waited = rounded(waited);
    let pause = match next {
        Next::Pause(length) => rounded(length).to_string(),
        _ => "none".to_owned(),
    };
    // What the lock itself expects; the pause is never longer than its own cap.
    let expected = refusal.retry_after.map_or_else(|| "unknown".to_owned(), |d| rounded(d).to_string());
    match say {
        None => debug!(reason, waited:%, pause, expected; "still waiting for the lock"),
        Some(Say::Warning) => {
            warn!(reason, waited:%, pause, expected; "waiting for the lock, but waiting will hardly mend this");
        }
        Some(Say::Reason | Say::LocalhostRefused) => {
            info!(reason, waited:%, pause, expected; "waiting for the lock");
        }
    }
    if say == Some(Say::LocalhostRefused) {
        info!(
            "localhost is the node only on the host network, else this pod alone: set --host (PSL_LOCK_HOST) to the lock's Service or the node's address"
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that waits")]
fn pause(length: Duration) {
    thread::sleep(length);
}
