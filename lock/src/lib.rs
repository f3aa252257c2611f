//! Lets N callers of a node through at a time, each for a limited while.
//!
//! How a request flows: `psl::serve` → `http` (bytes to a question, outcome to an answer) →
//! `shared` (the one mutex, and who waits beside it) → `state` (the gate's verdict, the counts) →
//! `book` (`lease`: who has a slot; `queue`: who is next), pure from `state` on. Beside it `checks`
//! asks the endpoints that must be up, `prober` looks whether applications are ready, `record`
//! keeps the book over a restart, and `view` renders what is seen from outside.

mod barred;
pub mod book;
mod checks;
pub mod config;
pub mod core;
mod cores;
pub mod gate;
pub mod http;
pub mod lease;
pub mod pressure;
mod prober;
pub mod procstat;
pub mod psi;
pub mod queue;
pub mod record;
pub mod shadow;
pub mod shared;
pub mod state;
mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use log::info;
use psl::end::{DONE, End, given};
use psl::serve::{Client, Request};
use psl::{listen, logging, serve, signals};

pub use config::PROGRAM;
use config::{Config, Mode, Slots};
use http::Service;
use procstat::Stat;
use psi::Psi;
use record::Record;
use shared::Shared;
use state::State;

/// Runs until a signal ends it.
#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock once for each request")]
pub fn run() -> Result<u8, End> {
    signals::on_stop(|_| i32::from(DONE)).map_err(|e| End::Failed(format!("cannot handle signals: {e}")))?;
    let config = Config::from(given(&PROGRAM)?).map_err(End::Mistakes)?;
    logging::start(&config.logging);
    let slots = config.locks.slots(cores::online());
    let listener = listen::bind(config.host.as_ref(), config.port).map_err(End::Failed)?;
    let mut state = State::new(slots, &config, Instant::now());
    // Leases of a model hold nobody back after a restart, nor does it begin with those of a lock that did.
    let record = config.state_file.clone().filter(|_| config.mode == Mode::Enforce).map(Record::new);
    let psi = Psi::new(&config.pressure, Path::new(psi::DIRECTORY));
    if let Some(record) = &record {
        record.restore(&mut state.book, &config.rules);
    }
    let stat = matches!(slots, Slots::Auto { .. });
    let stat = stat.then(|| Stat::new(Path::new(procstat::FILE), Path::new(psi::DIRECTORY), Instant::now()));
    let shared = Shared::new(state, record.is_some(), psi);
    shared.start_clock(stat).map_err(End::Failed)?;
    if let Some(record) = record {
        record.start(Arc::clone(&shared)).map_err(End::Failed)?;
    }
    checks::start(config.checks.clone(), Arc::clone(&shared)).map_err(End::Failed)?;
    let default = psl::duration::Text(config.rules.default);
    info!(version = env!("CARGO_PKG_VERSION"), slots:% = config.locks, duration:% = default, checks = config.checks.endpoints.len(); "lock started");
    let service = Service::new(config.rules, config.mode, shared);
    let handler = move |request: &Request, client: &Client| service.answer(request, client, Instant::now());
    Err(End::Failed(serve::run(listener, handler)))
}
