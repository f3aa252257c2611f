//! The parameters of a request from init to lock.

pub mod holder;
pub mod node;
pub mod ready;
