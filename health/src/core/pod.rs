//! A DaemonSet's pod on the node, and how close the pod is to being ready.

use std::fmt;
use std::sync::Arc;

use crate::core::boot::BootCutoff;
use crate::core::daemonset::DaemonSetId;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub uid: Arc<str>,
    pub name: Arc<str>,
    /// The controlling DaemonSet, in the pod's own namespace.
    pub owner: Arc<DaemonSetId>,
    pub is_being_deleted: bool,
    /// `status.phase`
    pub phase: Phase,
    /// The condition `Ready` is `True`.
    pub is_ready: bool,
    pub gate: Gate,
    /// `metadata.creationTimestamp` in seconds since 1970, by the API server's clock.
    pub created: Option<i64>,
    /// The earliest start of a running container in seconds since 1970, by the node's clock.
    pub started: Option<i64>,
}

/// The state of the init container that waits for the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// The pod has no such init container.
    #[default]
    None,
    /// The init container has not succeeded yet.
    Ahead,
    /// The init container has succeeded.
    Passed,
}

/// `status.phase`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    None,
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

impl Phase {
    pub fn of(name: &str) -> Phase {
        match name {
            "" => Phase::None,
            "Pending" => Phase::Pending,
            "Running" => Phase::Running,
            "Succeeded" => Phase::Succeeded,
            "Failed" => Phase::Failed,
            _ => Phase::Unknown,
        }
    }
}

/// The progress of a pod. Later stages are closer to being ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    BeingDeleted,
    Failed,
    Succeeded,
    UnknownPhase,
    NoPhase,
    Pending,
    NotReady,
    /// `Ready`, but only since before this boot.
    OfEarlierBoot,
    /// The pod waits for the lock, which waits for health: waiting for this pod would be a
    /// deadlock.
    AtTheGate,
    Ready,
}

impl Pod {
    pub fn stage(&self, cutoff: &BootCutoff) -> Stage {
        match self.phase {
            _ if self.is_being_deleted => Stage::BeingDeleted,
            Phase::None => Stage::NoPhase,
            Phase::Succeeded => Stage::Succeeded,
            Phase::Failed => Stage::Failed,
            Phase::Unknown => Stage::UnknownPhase,
            Phase::Running if self.is_ready && !cutoff.is_old(self.started, self.created) => {
                Stage::Ready
            }
            _ if self.gate == Gate::Ahead => Stage::AtTheGate,
            Phase::Running if self.is_ready => Stage::OfEarlierBoot,
            Phase::Running => Stage::NotReady,
            Phase::Pending => Stage::Pending,
        }
    }
}

impl Stage {
    /// The DaemonSet controller replaces a pod in this stage.
    pub fn is_replaceable(self) -> bool {
        matches!(self, Stage::BeingDeleted | Stage::Failed | Stage::Succeeded)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::BeingDeleted => "is being deleted",
            Stage::NoPhase => "has no phase yet",
            Stage::UnknownPhase => "is in an unknown phase",
            Stage::Failed => "is Failed",
            Stage::Succeeded => "is Succeeded",
            Stage::Pending => "is Pending",
            Stage::NotReady => "is Running, but not ready",
            Stage::OfEarlierBoot => "was ready before this boot",
            Stage::AtTheGate => "waits for the lock",
            Stage::Ready => "is ready",
        })
    }
}
