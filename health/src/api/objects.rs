//! The fields that are read of Kubernetes' objects, and their conversion to the types of the core.
//! All other fields are skipped while the JSON streams.
//!
//! The file does not know HTTP, or the meaning of the fields for the verdict.

mod daemonset;
mod node;
mod pod;
mod resource;

pub use daemonset::DaemonSetObject;
pub use node::{NodeMetricsObject, NodeObject};
pub use pod::PodObject;
pub use resource::StatusObject;
