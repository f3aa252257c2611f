//! Lets a bounded number of applications on a node start at the same time.
//!
//! A request: `psl::server` → `http` (parses it) → `shared` (the mutex, and the threads that it
//! wakes) → `core::lock` (gates, limit, counts) → `core::scheduler` (leases and queue) →
//! `responses`. The connection of a client that waits is parked in `connections` until there is an
//! outcome. Beside it, `checks` checks the endpoints that must be up, `prober` probes the ports of
//! applications, `state_file` keeps leases and waiters over a restart, and `metrics` and `state`
//! render the state.
//!
//! `core` is pure: it takes the time as an argument and does no I/O.

mod barred;
mod checks;
pub mod config;
mod connections;
pub mod core;
mod cores;
mod file;
pub mod http;
mod json;
mod metrics;
mod prober;
pub mod procstat;
pub mod psi;
mod responses;
pub mod shared;
mod state;
pub mod state_file;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use log::info;
use psl::duration::Compact;
use psl::logging;
use psl::process::{DONE, EarlyExit, read_input, signals};
use psl::server::{self, Request, RequestPeer, listen};
use psl::version::VERSION;

use config::Config;
pub use config::PROGRAM;
use core::lock::{Lock, Mode, Slots};
use http::Service;
use procstat::Stat;
use psi::Psi;
use shared::Shared;
use state_file::StateFile;

/// Runs until a signal ends it.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge that reads the clock once for each request"
)]
pub fn run() -> Result<u8, EarlyExit> {
    signals::on_stop(|_| i32::from(DONE)).map_err(EarlyExit::Failed)?;
    let config = Config::from(read_input(&PROGRAM)?).map_err(EarlyExit::ConfigErrors)?;
    logging::start(&config.logging);
    let listener = listen::bind(config.host.as_ref(), config.port).map_err(EarlyExit::Failed)?;
    let shared = start(&config).map_err(EarlyExit::Failed)?;
    let (slots, duration) = (config.locks, Compact(config.rules.default));
    info!(
        version = VERSION, slots:%, duration:%, checks = config.checks.endpoints.len();
        "lock started"
    );
    let service = Service::new(config.rules, config.mode, shared);
    let handler = move |request: &Request, client: &RequestPeer| {
        service.answer(request, client, Instant::now())
    };
    Err(EarlyExit::Failed(server::run(listener, handler)))
}

/// Restores the state, and starts the threads beside those of the server.
#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock at the start")]
fn start(config: &Config) -> Result<Arc<Shared>, String> {
    let settings = config.settings(cores::online(), server::most_parked());
    let (proc_stat, pressure) = (Path::new(procstat::FILE), Path::new(psi::DIRECTORY));
    let follows_node = matches!(settings.slots, Slots::Auto { .. });
    let now = Instant::now();
    let mut lock = Lock::new(settings, now);
    let psi = Psi::new(&config.pressure, pressure);
    // The model's leases must not take slots after a restart, and it does not begin with real ones.
    let path = config.state_file.clone().filter(|_| config.mode == Mode::Enforce);
    let state_file = path.map(StateFile::new);
    if let Some(state_file) = &state_file {
        state_file.restore(lock.scheduler_mut(), &config.rules);
        lock.finish_restore();
    }
    let stat = follows_node.then(|| Stat::new(proc_stat, pressure, now));
    let shared = Shared::new(lock, state_file.is_some(), psi)?;
    shared.start_clock(stat)?;
    if let Some(state_file) = state_file {
        state_file.start(Arc::clone(&shared))?;
    }
    checks::start(config.checks.clone(), Arc::clone(&shared))?;
    Ok(shared)
}
