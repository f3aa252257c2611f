//! Waits in an init container until the node's lock grants a lease.
//!
//! [`run`] reads `config` and starts the loop of `wait_for_lease`. The loop asks the lock through
//! `client` and leaves each decision to `core::wait`. `termination` reports the end.

mod client;
pub mod config;
mod core;
mod termination;

use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{fs, thread};

use log::{debug, info, warn};
use psl::duration::Compact;
use psl::logging::{self, LogConfig};
use psl::process::EarlyExit;
use psl::process::signals;
use psl::random;

use client::LockClient;
use config::{Config, PROGRAM};
use core::reason::Reason;
use core::wait::{Action, Attempt, LogLevel, WaitState};
use termination::{Ending, TerminationMessage};

/// The name of the pod, or of the node on the host network.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

const PERMANENT: &str =
    "unlikely to recover without intervention: check the settings of this container";

/// Returns the exit code.
pub fn run() -> Result<u8, EarlyExit> {
    let message = TerminationMessage::start();
    let client = Arc::new(OnceLock::new());
    // First of all: until then, a signal does not end process 1 of a container.
    let signals = handle_signals(&message, &client);
    let (config, log_config) = read_settings()?;
    logging::start(&log_config);
    if let Err(error) = signals {
        // A pod that waits is better than a pod that fails because no thread could be started.
        let hint = "this container may stop only after its grace period";
        warn!(error:%; "cannot handle signals: {hint}");
    }
    message.log_before_end(|| log_start(&config));
    let client = client.get_or_init(|| LockClient::new(config.urls.clone()));
    let ending = wait_for_lease(&config, client, &message);
    if !message.end(ending) {
        wait_for_exit_by_signal();
    }
    // After `fail` the kubelet runs init again, and the new process takes over the place.
    if matches!(ending, Ending::StartedWithoutLease(_)) {
        client.leave_queue();
    }
    Ok(ending.exit_code())
}

/// The client is set later; a signal before that has no place in a queue to give up.
fn handle_signals(
    message: &TerminationMessage,
    client: &Arc<OnceLock<LockClient>>,
) -> Result<(), String> {
    let (message, client) = (message.clone(), Arc::clone(client));
    signals::on_stop(move |stop| {
        let ending = Ending::Stopped(stop);
        // The log thread writes the last line while the request to the lock is under way.
        let is_first = message.end(ending);
        if let Some(client) = client.get().filter(|_| is_first) {
            client.leave_queue();
        }
        i32::from(ending.exit_code())
    })
}

fn read_settings() -> Result<(Config, LogConfig), EarlyExit> {
    let mut input = psl::process::read_input(&PROGRAM)?;
    let config = Config::take(&mut input, || {
        // If the host name cannot be read, the random bits alone tell pods apart.
        let host_name = fs::read_to_string(HOST_NAME).unwrap_or_default();
        config::random_holder(&host_name, random::bits())
    });
    let log_config = LogConfig::take(&mut input);
    input.finish().map_err(EarlyExit::ConfigErrors)?;
    Ok((config, log_config))
}

fn log_start(config: &Config) {
    let text = |bound: Option<Duration>| match bound {
        Some(bound) => Compact(bound).to_string(),
        None => "none".to_owned(),
    };
    let max_wait = text(config.rules.max_wait);
    let unreachable_wait = text(config.rules.unreachable_wait);
    let holder = &*config.holder;
    info!(lock:% = config.lock, holder, max_wait, unreachable_wait; "asking for the lock");
}

fn wait_for_lease(config: &Config, client: &LockClient, message: &TerminationMessage) -> Ending {
    let chances = [random::fraction(), random::fraction()];
    let mut state = WaitState::new(config.rules, config.is_loopback, chances);
    let mut action = state.next(message.elapsed());
    loop {
        action = match action {
            Action::Ask(attempt) => ask(client, &mut state, &attempt, message),
            Action::Pause(length) => {
                pause(length);
                state.next(message.elapsed())
            }
            Action::Granted => return Ending::Granted,
            Action::Start(bound) => return Ending::StartedWithoutLease(bound),
            Action::Fail(bound) => return Ending::GaveUp(bound),
        }
    }
}

fn ask(
    client: &LockClient,
    state: &mut WaitState,
    attempt: &Attempt,
    message: &TerminationMessage,
) -> Action {
    if message.has_ended() {
        // Another request would take the place in the queue again.
        wait_for_exit_by_signal();
    }
    let began = message.elapsed();
    let result = client.ask(attempt);
    let now = message.elapsed();
    let (action, level) = state.process(&result, began, now, random::fraction());
    if let Err(reason) = &result {
        // If `--max-wait` cuts an attempt, its error does not describe the lock.
        let is_cut = now.saturating_sub(began) >= attempt.within && !reason.kind.is_from_lock();
        if !(is_cut && message.has_reason()) {
            message.set_reason(&reason.text);
        }
        message.log_before_end(|| log_attempt(reason, now, action, level));
    }
    action
}

fn log_attempt(reason: &Reason, waited: Duration, action: Action, level: LogLevel) {
    let reason = reason.text.as_str();
    let waited = Compact::in_millis(waited);
    let pause = match action {
        Action::Pause(length) => Compact::in_millis(length).to_string(),
        _ => "none".to_owned(),
    };
    match level {
        LogLevel::Debug => debug!(reason, waited:%, pause; "still waiting for the lock"),
        LogLevel::Info | LogLevel::InfoWithHint => {
            info!(reason, waited:%, pause; "waiting for the lock");
        }
        LogLevel::Warn => {
            warn!(reason, waited:%, pause; "waiting for the lock; {PERMANENT}");
        }
    }
    if level == LogLevel::InfoWithHint {
        info!(
            "connection refused at localhost, which is this pod itself unless it has hostNetwork: \
             set --host (PSL_LOCK_HOST) to the lock's Service or to the node's address"
        );
    }
}

/// The signal thread ends the process with its own exit code.
fn wait_for_exit_by_signal() -> ! {
    loop {
        thread::park();
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that waits")]
fn pause(length: Duration) {
    thread::sleep(length);
}
