//! Tells a lock whether its node is fit for starts: whether the DaemonSets that want the node are
//! ready on it, and the node's own conditions and load are good.
//!
//! The way through: `config` (what is asked for) → `follow` (threads that watch and ask) → `api`
//! (questions and answers) → `view` (what is known of the cluster), judged by `verdict`,
//! `eligibility` and `boot` (pure) → `status` (what is known) → `http` (who asks is told). `agenda`
//! says when to ask for DaemonSets, `course` when to list and when to watch what is watched, `changes`
//! what is worth a line in the log, `load` what a busy node means.

pub mod agenda;
pub mod api;
pub mod boot;
pub mod changes;
pub mod config;
pub mod course;
pub mod eligibility;
pub mod follow;
pub mod http;
pub mod load;
pub mod status;
pub mod verdict;
pub mod view;

use std::sync::Arc;
use std::time::Instant;

use psl::logging;
use psl::process::signals;
use psl::process::{self, DONE, End};
use psl::server::{self, listen};

use load::Load;
use status::{Board, Known};

/// Runs until a signal ends the process; what comes back says why it could not.
pub fn run() -> Result<u8, End> {
    // First of all, because a container may be told to stop at any moment.
    signals::on_stop(|_| i32::from(DONE)).map_err(End::Failed)?;
    let config = config::read(process::read_input(&config::PROGRAM)?).map_err(End::ConfigErrors)?;
    logging::start(&config.logging);
    let listener = listen::bind(config.host.as_ref(), config.port).map_err(End::Failed)?;
    let board = Arc::new(Board::new(at_start(config.cluster.as_ref())));
    match config.cluster {
        Some(cluster) => follow::start(cluster, Arc::clone(&board)).map_err(End::Failed)?,
        None => log::info!("nothing of the cluster counts, so the answer is always 200"),
    }
    Err(End::Failed(server::run(listener, move |request, _| http::answer(&board, request))))
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
fn at_start(cluster: Option<&config::Cluster>) -> Known {
    let load = cluster
        .and_then(|cluster| cluster.load)
        .map(|settings| Load::new(settings, Instant::now()));
    Known::at_start(cluster.map(|cluster| cluster.stale_after), load)
}
