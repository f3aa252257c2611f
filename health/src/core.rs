//! The pure part of health: objects, times and random numbers go in, verdicts and decisions come
//! out.
//!
//! Files in this folder know no clock, no I/O, no log, no JSON and no threads.

pub mod api_error;
pub mod boot;
pub mod daemonset;
pub mod eligibility;
pub mod filter;
pub mod load;
pub mod log_throttle;
pub mod newest_version;
pub mod node;
pub mod packed_placement;
pub mod pod;
pub mod quantity;
pub mod refresh_schedule;
pub mod status;
pub mod verdict;
pub mod view;
pub mod watch_schedule;
