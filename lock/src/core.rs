//! The pure part of lock: leases, the queue, the gates, the limit, and all together in
//! [`lock::Lock`].
//!
//! The time and all readings are arguments. The code here uses no sockets, threads or
//! files, reads no environment and writes no log.

pub mod gate;
pub mod lease;
pub mod limit;
pub mod lock;
pub mod outcome;
pub mod pressure;
pub mod queue;
pub mod scheduler;
pub mod settings;
pub mod shadow;
pub mod time;

#[cfg(test)]
mod tests;
