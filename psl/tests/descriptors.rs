//! The shares of descriptors, in a process of its own because a lowered limit stays.

#![cfg(feature = "server")]

use psl::server::{LIMITS, most_parked};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn set(current: u64, maximum: Option<u64>) {
    let limit = Rlimit { current: Some(current), maximum };
    assert_eq!(setrlimit(Resource::Nofile, limit), Ok(()), "{limit:?}");
}

#[test]
fn the_soft_limit_is_raised_and_descriptors_are_shared() {
    let hard = getrlimit(Resource::Nofile).maximum;
    if hard.is_none_or(|hard| hard >= 1024) {
        set(100, hard);
        assert_eq!(most_parked(), LIMITS.parked);
        let raised = getrlimit(Resource::Nofile);
        assert_eq!((raised.current, raised.maximum), (Some(1024), hard));
        // A higher limit stays.
        if hard.is_none_or(|hard| hard >= 2000) {
            set(2000, hard);
            assert_eq!(
                (most_parked(), getrlimit(Resource::Nofile).current),
                (LIMITS.parked, Some(2000))
            );
        }
    }
    // Half are for server connections, a sixth for parked connections with a response, and
    // some for everything else.
    for (all, parked) in
        [(848, 512), (300, 146), (144, 42), (100, 28), (24, 2), (20, 1), (17, 0), (10, 0)]
    {
        set(all, Some(all));
        assert_eq!(most_parked(), parked, "of {all}");
    }
}
