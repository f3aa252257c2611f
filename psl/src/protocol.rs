//! The parameters of a request from init to lock, as both sides read them.

pub mod holder;
pub mod node;
pub mod ready;
