//! The threads that follow the cluster: they watch the node and its pods, and read DaemonSets and
//! the node's CPU usage. The thread that learns of a change also makes the new verdict.
//!
//! The file does not know the format of answers or their readers.

mod daemonsets;
mod follower;
mod load;
mod watched;

use std::sync::Arc;

use psl::thread;

use crate::config::ClusterConfig;
use crate::status_cell::StatusCell;
use follower::Follower;
use watched::{NodeWatch, PodWatch};

/// The verification of a certificate takes most of it: 56 KiB in a release build, 156 KiB in one
/// without optimisation. Untouched pages take no memory.
const STACK: usize = 256 * 1024;

pub fn start(config: ClusterConfig, status: Arc<StatusCell>) -> Result<(), String> {
    let follower = Arc::new(Follower::new(config, status));
    spawn("node", &follower, Follower::follow::<NodeWatch>)?;
    spawn("daemonsets", &follower, Follower::read_daemonsets)?;
    spawn("clock", &follower, Follower::judge_on_time)?;
    if follower.config.filter.is_some() {
        spawn("pods", &follower, Follower::follow::<PodWatch>)?;
    }
    if follower.config.load.is_some() {
        spawn("load", &follower, Follower::measure_load)?;
    }
    Ok(())
}

fn spawn(name: &str, follower: &Arc<Follower>, run: fn(&Follower)) -> Result<(), String> {
    let follower = Arc::clone(follower);
    thread::spawn(name, STACK, move || run(&follower))
}

#[cfg(test)]
mod tests;
