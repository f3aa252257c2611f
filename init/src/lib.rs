//! Waits in an init container until the node's lock grants a lease.
//!
//! `main` → [`run`] → settings, signals, the client → the wait, which is pure.

pub mod config;

mod client;
mod termination;
mod throttle;
pub mod wait;

use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{fs, thread};

use log::{debug, info, warn};
use psl::duration::Compact;
use psl::process::End;
use psl::process::signals;
use psl::{logging, random};

use client::Client;
use config::{Config, PROGRAM};
use termination::{LastWords, Outcome};
use wait::{Answer, Attempt, Next, Refusal, Say, Waiting, Why};

/// The pod's name, or the node's on the host network.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The whole program; the result is its exit code.
pub fn run() -> Result<u8, End> {
    let last_words = LastWords::begin();
    let client = Arc::new(OnceLock::new());
    let handled = handle_signals(&last_words, &client);
    let (config, log_settings) = settings()?;
    logging::start(&log_settings);
    if let Err(error) = handled {
        // Where no thread can be had, a pod that waits is still better than one that fails.
        warn!(error:% = error; "signals will not end this program at once");
    }
    last_words.before_the_end(|| announce(&config));
    let client = client.get_or_init(|| Client::new(config.question.clone()));
    let outcome = wait(&config, client, &last_words);
    if !last_words.end(outcome) {
        until_the_signal_ends_it();
    }
    // Under `fail` the kubelet runs this program again, and its place in the queue should stand.
    if matches!(outcome, Outcome::StartedWithout(_)) {
        client.give_up_place();
    }
    Ok(outcome.exit_code())
}

/// Before *anything else*: as process 1 of a container it would not end at all without this.
/// The client comes later, and a signal that comes before it has no place to give up.
fn handle_signals(last_words: &LastWords, client: &Arc<OnceLock<Client>>) -> Result<(), String> {
    let (last_words, client) = (last_words.clone(), Arc::clone(client));
    let on_stop = move |stop| {
        let outcome = Outcome::Stopped(stop);
        // First, so that the log is written while the lock is told.
        let is_first = last_words.end(outcome);
        if let Some(client) = client.get().filter(|_| is_first) {
            client.give_up_place();
        }
        i32::from(outcome.exit_code())
    };
    signals::on_stop(on_stop)
}

fn settings() -> Result<(Config, logging::LogConfig), End> {
    let mut input = psl::process::read_input(&PROGRAM)?;
    let config = Config::take(&mut input, drawn_holder);
    let log_settings = logging::LogConfig::take(&mut input);
    input.finish().map_err(End::ConfigErrors)?;
    Ok((config, log_settings))
}

fn drawn_holder() -> Box<str> {
    // Without a name the random bits alone tell pods apart.
    let host_name = fs::read_to_string(HOST_NAME).unwrap_or_default();
    config::drawn_holder(&host_name, random::bits())
}

fn announce(config: &Config) {
    let bound = |bound: Option<Duration>| {
        bound.map_or_else(|| "none".to_owned(), |b| Compact(b).to_string())
    };
    let (max_wait, unreachable_wait) =
        (bound(config.rules.max_wait), bound(config.rules.unreachable_wait));
    let holder = &*config.holder;
    info!(lock:% = config.lock, holder, max_wait = max_wait, unreachable_wait = unreachable_wait; "asking for the lock");
}

fn wait(config: &Config, client: &Client, last_words: &LastWords) -> Outcome {
    let mut waiting =
        Waiting::new(config.rules, config.loopback, [random::fraction(), random::fraction()]);
    let mut next = waiting.next(last_words.waited());
    loop {
        next = match next {
            Next::Ask(attempt) => ask(client, &mut waiting, &attempt, last_words),
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

fn ask(client: &Client, waiting: &mut Waiting, attempt: &Attempt, last_words: &LastWords) -> Next {
    if last_words.is_over() {
        // One more question would take the place anew that is being given up.
        until_the_signal_ends_it();
    }
    let asked = last_words.waited();
    let answer = client.ask(attempt);
    let waited = last_words.waited();
    let (next, say) = waiting.answered(&answer, asked, waited, random::fraction());
    if let Answer::Refusal(refusal) = &answer {
        // An attempt that `--max-wait` cut short tells nothing about the lock.
        let is_cut_short =
            waited.saturating_sub(asked) >= attempt.within && !refusal.kind.is_of_a_lock();
        if !(is_cut_short && last_words.knows_a_reason()) {
            last_words.remember(&refusal.words);
        }
        last_words.before_the_end(|| report(refusal, waited, next, say));
    }
    next
}

fn report(refusal: &Refusal, waited: Duration, next: Next, say: Option<Say>) {
    let reason = refusal.words.as_str();
    let waited = Compact::in_millis(waited);
    let pause = match next {
        Next::Pause(length) => Compact::in_millis(length).to_string(),
        _ => "none".to_owned(),
    };
    match say {
        None => debug!(reason, waited:%, pause; "still waiting for the lock"),
        Some(Say::Warning) => {
            warn!(reason, waited:%, pause; "waiting for the lock, but waiting will hardly mend this");
        }
        Some(Say::Reason | Say::LocalhostRefused) => {
            info!(reason, waited:%, pause; "waiting for the lock");
        }
    }
    if say == Some(Say::LocalhostRefused) {
        info!(
            "localhost is the node only on the host network, else this pod alone: set --host (PSL_LOCK_HOST) to the lock's Service or the node's address"
        );
    }
}

/// Whatever this thread would do now, above all ending with another code, the signal was first.
fn until_the_signal_ends_it() -> ! {
    loop {
        thread::park();
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that waits")]
fn pause(length: Duration) {
    thread::sleep(length);
}
