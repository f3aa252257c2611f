//! Tells a lock whether its node is fit for starts: whether the DaemonSets that want the node are
//! ready on it.
//!
//! The way through: `config` (what is asked for) → `poll` (round by round) → `api` (questions and
//! answers) → `verdict` and `eligibility` (pure: what the answers mean) → `status` (what is known)
//! → `http` (who asks is told).

pub mod api;
pub mod config;
pub mod eligibility;
pub mod http;
pub mod poll;
pub mod status;
pub mod verdict;

use std::sync::Arc;

use psl::end::{self, End};
use psl::{listen, logging, serve, signals};

use status::{Board, Known};

/// Runs until a signal ends the process; what comes back says why it could not.
pub fn run() -> Result<u8, End> {
    // First of all, because a container may be told to stop at any moment.
    signals::on_stop(|_| 0).map_err(|e| End::Failed(format!("cannot handle signals: {e}")))?;
    let config = config::read(end::given(&config::PROGRAM)?).map_err(End::Mistakes)?;
    logging::start(&config.logging);
    let listener = listen::bind(config.host.as_ref(), config.port).map_err(End::Failed)?;
    let board = Arc::new(Board::new(Known::at_start(config.daemonsets.is_some())));
    match config.daemonsets {
        Some(settings) => poll::start(settings, Arc::clone(&board)).map_err(End::Failed)?,
        None => log::info!("DaemonSets do not count, so the answer is always 200"),
    }
    Err(End::Failed(serve::run(listener, move |request, _| http::answer(&board, request))))
}
