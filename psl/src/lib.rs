//! The parts that lock, init and health share. The list is closed:
//!
//! - `settings`, `duration`, `address`: flags and variables, and their values
//! - `process`, `sync`: start and end of a program, signals, threads, mutexes
//! - `logging`, `rate`, `text`: log lines and the text in them
//! - `protocol`: the parameters of a request from init to lock
//! - `server` (feature), `metrics`: HTTP for clients of which any may be hostile
//! - `client` (feature), `resolve`: HTTP requests and name look-ups
//! - `random`
//!
//! No module here knows leases, gates or DaemonSets.

pub mod address;
pub mod duration;
pub mod logging;
pub mod process;
pub mod protocol;
pub mod random;
pub mod rate;
pub mod settings;
pub mod sync;
pub mod text;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "resolve")]
pub mod resolve;
#[cfg(feature = "server")]
pub mod server;
