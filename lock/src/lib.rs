//! Lets N callers of a node through at a time, each for a limited while.
//!
//! How a request flows: `psl::serve` → `http` (bytes to a question, outcome to an answer) →
//! `state` (the one mutex) → `lease` and `gate`, which are pure. Beside it `checks` asks the
//! endpoints that must be up and tells the gate, and `view` renders what is seen from outside.

mod checks;
pub mod config;
mod cores;
pub mod gate;
pub mod http;
pub mod lease;
pub mod state;
mod view;

use std::sync::Arc;
use std::time::Instant;

use log::info;
use psl::end::{DONE, End, given};
use psl::serve::Request;
use psl::{listen, logging, serve, signals};

use config::Config;
pub use config::PROGRAM;
use http::Service;
use state::{Shared, State};

/// Runs until a signal ends it.
#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock once for each request")]
pub fn run() -> Result<u8, End> {
    signals::on_stop(|_| i32::from(DONE)).map_err(|e| End::Failed(format!("cannot handle signals: {e}")))?;
    let config = Config::from(given(&PROGRAM)?).map_err(End::Mistakes)?;
    logging::start(&config.logging);
    let slots = config.locks.slots(cores::online());
    let listener = listen::bind(config.host.as_ref(), config.port).map_err(End::Failed)?;
    let shared = Shared::new(State::new(slots, &config, Instant::now()));
    checks::start(config.checks.clone(), Arc::clone(&shared)).map_err(End::Failed)?;
    let default = psl::duration::Text(config.rules.default);
    info!(version = env!("CARGO_PKG_VERSION"), slots, duration:% = default, checks = config.checks.endpoints.len(); "lock started");
    let service = Service::new(config.rules, shared);
    Err(End::Failed(serve::run(listener, move |request: &Request| service.answer(request, Instant::now()))))
}
