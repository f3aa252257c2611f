//! The reasons for which an attempt did not get the lease.

use std::time::Duration;

/// Why an attempt did not get the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub kind: ReasonKind,
    /// For the log and the termination message.
    pub text: String,
    pub retry_after: Option<Duration>,
}

/// A lock answers init's requests with 200, 423, 400 or 421. Any other answer comes from another
/// server on that port, or from a proxy without a lock behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasonKind {
    /// A lock answers 423.
    Locked,
    /// A lock answers 400 or 421: the request is wrong.
    BadRequest,
    /// A server answers 404 or 405: it is not a lock.
    NotFound,
    /// Any other answer: a redirect, a proxy's error, an incomplete 200, not HTTP.
    NotALock,
    ConnectionRefused,
    /// Closed before the whole answer.
    ConnectionClosed,
    NoAnswer,
}

impl ReasonKind {
    /// The answer proves that a lock runs there.
    pub fn is_from_lock(self) -> bool {
        matches!(self, ReasonKind::Locked | ReasonKind::BadRequest)
    }

    /// Unlikely to recover without intervention.
    pub fn is_permanent(self) -> bool {
        matches!(self, ReasonKind::BadRequest | ReasonKind::NotFound)
    }
}
