//! What is read of a pod: whose it is, and how far it has come.

use std::sync::Arc;

use serde::Deserialize;

use super::kept::Lines;
use super::{Condition, InitContainers, Kind, Owner, Resource};
use crate::api::json::{Gather, Gathered, Moment, Name, Word, optional};
use crate::verdict::{self, Gate, Identity, Phase};

/// A pod.
pub type Pod = Resource<OfPod>;

/// What is particular about it.
pub struct OfPod;

impl Kind for OfPod {
    const LIST: &'static str = "PodList";
    const NOUN: &'static str = "pod";
    type Spec = PodSpec;
    type Status = PodStatus;
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    node_name: Option<Name>,
    init_containers: Option<Gathered<InitContainers>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    phase: Option<Word>,
    conditions: Option<Gathered<PodConditions>>,
    container_statuses: Option<Gathered<Containers>>,
    init_container_statuses: Option<Gathered<Containers>>,
}

#[derive(Default)]
struct PodConditions {
    is_ready: bool,
    is_initialized: bool,
}

impl Gather for PodConditions {
    type Element = Condition;

    fn add(&mut self, condition: Condition) {
        match (&*condition.kind, &*condition.status) {
            ("Ready", "True") => self.is_ready = true,
            ("Initialized", "True") => self.is_initialized = true,
            _ => {}
        }
    }
}

#[derive(Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    name: Word,
    #[serde(default, deserialize_with = "optional")]
    state: Option<ContainerState>,
}

#[derive(Deserialize)]
struct ContainerState {
    #[serde(default, deserialize_with = "optional")]
    running: Option<RunningState>,
    #[serde(default, deserialize_with = "optional")]
    terminated: Option<TerminatedState>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunningState {
    started_at: Option<Moment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TerminatedState {
    exit_code: Option<i64>,
}

/// What is kept of a pod's containers.
#[derive(Default)]
struct Containers {
    /// When the first of those that run has started.
    oldest: Option<i64>,
    /// Those that have ended well.
    done: Lines,
    /// And those that have not.
    undone: Lines,
}

impl Gather for Containers {
    type Element = ContainerStatus;

    fn add(&mut self, container: ContainerStatus) {
        let (running, terminated) =
            container.state.map(|state| (state.running, state.terminated)).unwrap_or_default();
        if let Some(Moment(start)) = running.and_then(|running| running.started_at) {
            self.oldest = Some(self.oldest.map_or(start, |oldest| oldest.min(start)));
        }
        let is_done = terminated.is_some_and(|terminated| terminated.exit_code == Some(0));
        if is_done { &mut self.done } else { &mut self.undone }.push(&container.name.0);
    }
}

impl Pod {
    /// Whether it is bound to this node. The server is asked for these alone, but what answers
    /// may be a proxy or a cache that does not know the selector.
    pub fn is_on(&self, node: &str) -> bool {
        self.spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_ref())
            .is_some_and(|name| name.0 == node)
    }

    /// Which pod it is.
    pub fn uid(&self) -> &str {
        &self.metadata.uid.0
    }

    /// What counts of it; nothing where no DaemonSet controls it.
    pub fn of_daemonset(self) -> Option<verdict::Pod> {
        let (metadata, spec) = (self.metadata, self.spec.unwrap_or_default());
        let (name, uid) =
            metadata.owner_references.and_then(|owners| owners.0.0).and_then(Owner::daemonset)?;
        let status = self.status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default().0;
        let (main, init) = (
            status.container_statuses.unwrap_or_default().0,
            status.init_container_statuses.unwrap_or_default().0,
        );
        let containers = spec.init_containers.unwrap_or_default().0;
        let gate = match containers.gate(metadata.annotations.as_ref()) {
            None => Gate::None,
            Some(gate) if init.done.contains(gate) => Gate::Passed,
            // After a reboot init containers run again, and kubelets leave `Initialized` as it was all the while.
            Some(gate) if conditions.is_initialized && !init.undone.contains(gate) => Gate::Passed,
            Some(_) => Gate::Ahead,
        };
        Some(verdict::Pod {
            uid: metadata.uid.0.into(),
            name: metadata.name.0.into(),
            owner: Arc::new(Identity::new(&metadata.namespace.0, &name, &uid)),
            is_being_deleted: metadata.deletion_timestamp.is_some(),
            phase: Phase::of(&status.phase.unwrap_or_default().0),
            is_ready: conditions.is_ready,
            gate,
            created: metadata.creation_timestamp.map(|moment| moment.0),
            started: [main.oldest, init.oldest].into_iter().flatten().min(),
        })
    }
}
