//! A request for a lease and its outcome: the one type that answer, log, metrics and shadow mode
//! share.
//!
//! A new outcome is a variant of [`Outcome`], a new reason for a refusal a variant of [`Cause`].
//! Answer and log line are in `responses`; counts follow from the [`Kind`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use psl::protocol::node::NodeName;
use psl::protocol::ready::Ready;

use crate::core::lease::{LeaseId, ProbeResult};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    pub address: IpAddr,
    pub holder: Option<Arc<str>>,
    /// `None` for the default. Zero takes no lease: it asks whether a slot is free.
    pub duration: Option<Duration>,
    /// The port that ends the lease early.
    pub ready: Option<Ready>,
    /// The result of the baseline probe of that port; `None` before it.
    pub baseline: Option<ProbeResult>,
    /// The longest wait of the client; `None` if it does not wait, or names no holder.
    pub wait: Option<Duration>,
    /// The node that the client runs on.
    pub node: Option<NodeName>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Granted(Grant),
    /// The holder has an active lease.
    AlreadyGranted {
        lease: LeaseId,
        remaining: Duration,
        /// This is the holder's first request from another address.
        has_moved: bool,
    },
    /// A slot is free; the request had `duration=0`.
    SlotFree,
    Locked(Refusal),
    /// The client runs on another node.
    Misdirected {
        from: NodeName,
        serves: NodeName,
    },
    /// Shadow mode: the client starts without a lease, although this would have been its outcome.
    LetThrough(Box<Outcome>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub lease: LeaseId,
    pub duration: Duration,
    /// From the holder's first request.
    pub waited: Duration,
    /// The client requested a longer lease.
    pub is_cut: bool,
    /// Checks fail, and have failed for longer than the bound.
    pub is_overridden: bool,
    /// Its log lines have level debug.
    pub is_quiet: bool,
    /// Restored if the client never reads its grant.
    pub arrival: Arrival,
    /// Shadow mode: the outcome without shadow mode.
    pub would: Option<Box<Outcome>>,
}

/// A holder's place in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub ticket: u64,
    /// The holder's first request.
    pub since: Instant,
}

/// The scheduler's part of a request's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The holder has an active lease.
    AlreadyGranted(Outcome),
    Granted(Start),
    /// The request waits on its connection.
    Parked,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub lease: LeaseId,
    pub duration: Duration,
    pub is_cut: bool,
    pub is_quiet: bool,
    pub waited: Duration,
    pub arrival: Arrival,
}

/// The object that a DELETE ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseEffect {
    Lease,
    Waiter,
    /// The holder has neither, or its last request came from another address.
    Nothing,
}

impl ReleaseEffect {
    /// The value in JSON and log.
    pub fn name(self) -> &'static str {
        match self {
            ReleaseEffect::Lease => "lease",
            ReleaseEffect::Waiter => "place",
            ReleaseEffect::Nothing => "nothing",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub cause: Cause,
    /// The request had `duration=0`.
    pub is_probe: bool,
    /// Whole seconds, at least one.
    pub retry_after: Duration,
    /// The position in the queue, from 1; `None` for a client that is not in the queue.
    pub position: Option<usize>,
    /// The time to the expected grant; `None` if it cannot be known.
    pub expected: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// One reason for each endpoint that is not up.
    Checks(Vec<String>),
    /// The pressure gate is closed, for this reason.
    Pressure(String),
    /// Every slot has a lease.
    SlotsInUse,
    /// Slots are free, but the limit that follows the node admits no start yet, for this reason.
    Limit(String),
}

/// The closed list of outcomes that metrics distinguish. [`Kind::Invalid`] stays the last variant:
/// [`Tally`] has its size from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Granted,
    AlreadyGranted,
    Busy,
    GateClosed,
    Pressure,
    Probe,
    Misdirected,
    Invalid,
}

impl Kind {
    /// The results of `psl_lock_requests_total`. A closed pressure gate counts as busy.
    pub const REQUESTS: [Kind; 7] = [
        Kind::Granted,
        Kind::AlreadyGranted,
        Kind::Busy,
        Kind::GateClosed,
        Kind::Probe,
        Kind::Misdirected,
        Kind::Invalid,
    ];

    /// The results of `psl_shadow_requests_total`.
    pub const SHADOW: [Kind; 5] =
        [Kind::Granted, Kind::Busy, Kind::GateClosed, Kind::Pressure, Kind::Misdirected];

    /// The value of the label `result`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Granted => "granted",
            Kind::AlreadyGranted => "again",
            Kind::Busy => "busy",
            Kind::GateClosed => "gate_closed",
            Kind::Pressure => "pressure",
            Kind::Probe => "probe",
            Kind::Misdirected => "misdirected",
            Kind::Invalid => "invalid",
        }
    }
}

impl Outcome {
    pub fn kind(&self) -> Kind {
        match self {
            Outcome::Granted(_) => Kind::Granted,
            Outcome::AlreadyGranted { .. } => Kind::AlreadyGranted,
            Outcome::SlotFree | Outcome::Locked(Refusal { is_probe: true, .. }) => Kind::Probe,
            Outcome::Locked(refusal) => match refusal.cause {
                Cause::Checks(_) => Kind::GateClosed,
                Cause::Pressure(_) => Kind::Pressure,
                Cause::SlotsInUse | Cause::Limit(_) => Kind::Busy,
            },
            Outcome::Misdirected { .. } => Kind::Misdirected,
            // The client starts as if it had a grant.
            Outcome::LetThrough(would) => match would.kind() {
                kind @ (Kind::Probe | Kind::Misdirected) => kind,
                _ => Kind::Granted,
            },
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([u64; Kind::Invalid as usize + 1]);

impl Tally {
    pub fn add(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }

    pub fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }
}
