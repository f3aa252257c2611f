//! The pure part of init: decisions about one wait. Time and chance are arguments.

pub mod reason;
pub mod throttle;
pub mod wait;
