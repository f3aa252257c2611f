//! Tells a lock whether its node is fit for starts: whether the DaemonSets that want the node are
//! ready on it, and whether the node's conditions and load are good.
//!
//! `config` reads the settings. `follow` runs the threads that request objects through `api`.
//! `core` keeps the objects and makes the verdict. `status_cell` holds the result, and `http`
//! answers from it.

pub mod api;
pub mod config;
pub mod core;
pub mod follow;
pub mod http;
pub mod machine;
pub mod status_cell;

use std::sync::Arc;
use std::time::Instant;

use psl::logging;
use psl::process::signals;
use psl::process::{self, DONE, EarlyExit};
use psl::server::{self, listen};

use crate::config::ClusterConfig;
use crate::core::load::Load;
use crate::core::status::Status;
use crate::status_cell::StatusCell;

/// Runs until a signal ends the process. Returns the reason why the program cannot run.
pub fn run() -> Result<u8, EarlyExit> {
    // Before anything else, because a container may be stopped at any moment.
    signals::on_stop(|_| i32::from(DONE)).map_err(EarlyExit::Failed)?;
    let config =
        config::read(process::read_input(&config::PROGRAM)?).map_err(EarlyExit::ConfigErrors)?;
    logging::start(&config.logging);
    let listener = listen::bind(config.host.as_ref(), config.port).map_err(EarlyExit::Failed)?;
    let status = Arc::new(StatusCell::new(first_status(config.cluster.as_ref())));
    match config.cluster {
        Some(cluster) => follow::start(cluster, Arc::clone(&status)).map_err(EarlyExit::Failed)?,
        None => log::info!("no checks enabled, GET / always answers 200"),
    }
    Err(EarlyExit::Failed(server::run(listener, move |request, _| http::answer(&status, request))))
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock")]
fn first_status(cluster: Option<&ClusterConfig>) -> Status {
    let Some(cluster) = cluster else { return Status::new(None, None) };
    let load = cluster.load.map(|settings| Load::new(settings, Instant::now()));
    Status::new(Some(cluster.stale_after), load)
}
