//! Times, addresses and requests that the tests of this directory share.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::outcome::LeaseRequest;

pub const NANO: Duration = Duration::from_nanos(1);
pub const MILLI: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "any instant serves as the zero of virtual time")]
pub fn zero() -> Instant {
    Instant::now()
}

pub fn address(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + n).into()
}

/// A request that does not wait. Without a name it has no holder.
pub fn polls(holder: &str, from: u32) -> LeaseRequest {
    LeaseRequest {
        address: address(from),
        holder: Some(holder).filter(|holder| !holder.is_empty()).map(Arc::from),
        duration: None,
        ready: None,
        baseline: None,
        wait: None,
        node: None,
    }
}

pub fn waits(holder: &str, from: u32) -> LeaseRequest {
    LeaseRequest { wait: Some(30 * SECOND), ..polls(holder, from) }
}
