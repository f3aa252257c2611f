//! The code that lock, init and health share:
//!
//! - `settings`, `duration`, `address`: flags and variables, and their values
//! - `process`, `thread`, `sync`: start and end of a program, signals, threads, mutexes
//! - `file`: regular files
//! - `logging`, `rate`, `text`: log lines and the text in them
//! - `protocol`: the parameters of a request from init to lock
//! - `server` (feature), `metrics`: HTTP for untrusted clients
//! - `client` (feature), `resolve`: HTTP requests and name lookups
//! - `random`, `version`: jitter, and the version of the build
//!
//! This crate does not know leases, gates or DaemonSets.

pub mod address;
pub mod duration;
pub mod file;
pub mod logging;
pub mod process;
pub mod protocol;
pub mod random;
pub mod rate;
pub mod settings;
pub mod sync;
pub mod text;
pub mod thread;
pub mod version;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "resolve")]
pub mod resolve;
#[cfg(feature = "server")]
pub mod server;
