use super::*;
use crate::herd::Phase;

#[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
pub fn lock() -> Lock {
    Lock::new(Instant::now()).unwrap()
}

/// There from the beginning, without latency.
pub fn burning(threads: usize, each: f64) -> Application {
    Application { arrives: 0.0, latency: 0.0, start: vec![Phase::Burn { threads, each }], hangs: false, never: false }
}

/// Killed after six seconds, with leases that end at ready.
pub fn node(cores: usize, slots: Slots) -> Node {
    Node { cores, background: 0, deadline: 6.0, back_off: 10.0, slots, duration: 120.0, ready: true, cut_off: 1000.0 }
}
