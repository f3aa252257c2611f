//! The version and the commit of this build.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that `scripts/build.sh` has built; any other build has no commit.
pub const COMMIT: &str = match option_env!("PSL_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
