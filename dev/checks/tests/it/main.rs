//! The repository's own checks: manifests, scripts, images, documents, and the programs together.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed step is a failed test, and tests of real processes wait on the real clock"
)]

mod budget;
mod commands;
mod deploy;
mod e2e;
mod farewell;
mod herd;
mod images;
mod manifests;
mod release;
mod service_links;
mod shell;
mod tidy;
mod upgrade;
