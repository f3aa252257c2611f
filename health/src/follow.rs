//! The threads that follow the cluster: they watch the node and its pods, and read DaemonSets and
//! the node's CPU usage. The thread that learns of a change also makes the new verdict.
//!
//! The file does not know the format of answers or their readers.

mod daemonsets;
mod follower;
mod load;
mod watched;

use std::sync::Arc;

use psl::thread::spawn;

use crate::config::ClusterConfig;
use crate::status_cell::StatusCell;
use follower::Follower;
use watched::{NodeWatch, PodWatch};

/// The verification of a certificate takes most of it: 56 KiB in a release build, 156 KiB in one
/// without optimisation. Untouched pages take no memory.
const STACK: usize = 256 * 1024;

pub fn start(config: ClusterConfig, status: Arc<StatusCell>) -> Result<(), String> {
    let follower = Arc::new(Follower::new(config, status));
    start_thread("node", &follower, Follower::follow::<NodeWatch>)?;
    start_thread("daemonsets", &follower, Follower::read_daemonsets)?;
    start_thread("clock", &follower, Follower::judge_on_time)?;
    if follower.config.filter.is_some() {
        start_thread("pods", &follower, Follower::follow::<PodWatch>)?;
    }
    if follower.config.load.is_some() {
        start_thread("load", &follower, Follower::measure_load)?;
    }
    Ok(())
}

fn start_thread(name: &str, follower: &Arc<Follower>, run: fn(&Follower)) -> Result<(), String> {
    let follower = Arc::clone(follower);
    spawn(name, STACK, move || run(&follower))
}

#[cfg(test)]
mod tests;
