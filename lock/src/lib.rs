//! Lets a bounded number of applications on a node start at the same time.
//!
//! A request: `psl::server` → `http` (parses it) → `shared` (the mutex, and the threads that it wakes)
//! → `core::lock` (gates, limit, counts) → `core::scheduler` (leases and queue) → `responses`. A
//! client that waits is parked: `connections` has its connection until there is an outcome. Beside
//! it, `checks` asks the endpoints that must be up, `prober` probes the ports of applications,
//! `record` keeps leases and waiters over a restart, and `view` renders metrics and state.
//!
//! `core` is pure: it takes the time as an argument and does no I/O.

mod barred;
mod checks;
pub mod config;
mod connections;
pub mod core;
mod cores;
pub mod http;
mod json;
mod prober;
pub mod procstat;
pub mod psi;
pub mod record;
mod responses;
pub mod shared;
mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use log::info;
use psl::logging;
use psl::process::signals;
use psl::process::{DONE, End, read_input};
use psl::server::{self, listen};
use psl::server::{Client, Request};
use psl::settings::VERSION;

use config::Config;
pub use config::PROGRAM;
use core::lock::{Lock, Mode, Slots};
use http::Service;
use procstat::Stat;
use psi::Psi;
use record::Record;
use shared::Shared;

/// Runs until a signal ends it.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge that reads the clock once for each request"
)]
pub fn run() -> Result<u8, End> {
    signals::on_stop(|_| i32::from(DONE)).map_err(End::Failed)?;
    let config = Config::from(read_input(&PROGRAM)?).map_err(End::ConfigErrors)?;
    logging::start(&config.logging);
    let settings = config.settings(cores::online(), server::most_parked());
    let slots = settings.slots;
    let listener = listen::bind(config.host.as_ref(), config.port).map_err(End::Failed)?;
    let mut lock = Lock::new(settings, Instant::now());
    // The model's leases must not take slots after a restart, and it does not begin with real ones.
    let record =
        config.state_file.clone().filter(|_| config.mode == Mode::Enforce).map(Record::new);
    let psi = Psi::new(&config.pressure, Path::new(psi::DIRECTORY));
    if let Some(record) = &record {
        record.restore(lock.scheduler_mut(), &config.rules);
        lock.restored();
    }
    let stat = matches!(slots, Slots::Auto { .. });
    let stat = stat
        .then(|| Stat::new(Path::new(procstat::FILE), Path::new(psi::DIRECTORY), Instant::now()));
    let shared = Shared::new(lock, record.is_some(), psi).map_err(End::Failed)?;
    shared.start_clock(stat).map_err(End::Failed)?;
    if let Some(record) = record {
        record.start(Arc::clone(&shared)).map_err(End::Failed)?;
    }
    checks::start(config.checks.clone(), Arc::clone(&shared)).map_err(End::Failed)?;
    let default = psl::duration::Compact(config.rules.default);
    info!(version = VERSION, slots:% = config.locks, duration:% = default, checks = config.checks.endpoints.len(); "lock started");
    let service = Service::new(config.rules, config.mode, shared);
    let handler =
        move |request: &Request, client: &Client| service.answer(request, client, Instant::now());
    Err(End::Failed(server::run(listener, handler)))
}
