//! What the three programs share, as a closed list: settings, durations, addresses, what
//! init and lock say to each other (`holder`, `ready`), logging and its `pace`, signals, a little chance; and, where a program asks for the feature, serving HTTP (`serve`),
//! calling HTTP (`call`) and HTTPS (`tls`).
//!
//! Nothing here knows of leases, gates or DaemonSets.

pub mod address;
pub mod args;
pub mod duration;
pub mod end;
pub mod holder;
pub mod logging;
pub mod pace;
pub mod random;
pub mod ready;
pub mod signals;
pub mod stderr;
pub mod text;

#[cfg(feature = "resolve")]
pub mod resolve;

#[cfg(feature = "call")]
pub mod call;
#[cfg(feature = "gzip")]
pub mod gunzip;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "call")]
pub mod url;

#[cfg(feature = "serve")]
pub mod listen;
#[cfg(feature = "serve")]
pub mod metrics;
#[cfg(feature = "serve")]
pub mod serve;
