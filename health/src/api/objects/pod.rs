//! The fields of a pod: its owner, and how close it is to being ready.

use std::sync::Arc;

use serde::Deserialize;

use super::resource::{Condition, InitContainers, ObjectKind, OwnerReference, Resource};
use crate::api::fields::{Collector, List, Name, TextLines, Timestamp, Word};
use crate::api::visitors::{Braces, object};
use crate::core::daemonset::DaemonSetId;
use crate::core::pod::{Gate, Phase, Pod};

pub type PodObject = Resource<PodKind>;

pub struct PodKind;

impl ObjectKind for PodKind {
    const LIST: &'static str = "PodList";
    const NOUN: &'static str = "pod";
    type Spec = PodSpec;
    type Status = PodStatus;
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    node_name: Option<Name>,
    init_containers: List<InitContainers>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    phase: Option<Word>,
    conditions: List<PodConditions>,
    container_statuses: List<Containers>,
    init_container_statuses: List<Containers>,
}

#[derive(Default)]
struct PodConditions {
    is_ready: bool,
    is_initialized: bool,
}

impl Collector for PodConditions {
    type Element = Braces<Condition>;

    fn add(&mut self, Braces(condition): Braces<Condition>) {
        match (&*condition.kind, &*condition.status) {
            ("Ready", "True") => self.is_ready = true,
            ("Initialized", "True") => self.is_initialized = true,
            _ => {}
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    name: Word,
    #[serde(deserialize_with = "object")]
    state: ContainerState,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    #[serde(deserialize_with = "object")]
    running: RunningState,
    #[serde(deserialize_with = "object")]
    terminated: TerminatedState,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunningState {
    started_at: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TerminatedState {
    exit_code: Option<i64>,
}

#[derive(Default)]
struct Containers {
    /// The earliest start of a running container.
    oldest_start: Option<i64>,
    /// The names of containers that have ended with exit code 0.
    succeeded: TextLines,
    /// The names of all others.
    unfinished: TextLines,
}

impl Collector for Containers {
    type Element = Braces<ContainerStatus>;

    fn add(&mut self, Braces(container): Braces<ContainerStatus>) {
        let ContainerState { running, terminated } = container.state;
        if let Some(Timestamp(start)) = running.started_at {
            self.oldest_start = Some(self.oldest_start.map_or(start, |oldest| oldest.min(start)));
        }
        let names = match terminated.exit_code {
            Some(0) => &mut self.succeeded,
            _ => &mut self.unfinished,
        };
        names.push(&container.name.0);
    }
}

impl PodObject {
    /// Whether the pod is bound to this node. The field selector requests such pods alone, but a
    /// proxy or a cache may not support the selector.
    pub fn is_on(&self, node: &str) -> bool {
        self.spec.node_name.as_ref().is_some_and(|name| name.0 == node)
    }

    pub fn uid(&self) -> &str {
        &self.metadata.uid.0
    }

    /// The pod; `None` if no DaemonSet controls it.
    pub fn into_pod(self) -> Option<Pod> {
        let PodObject { metadata, spec, status, .. } = self;
        let (owner_name, owner_uid) =
            metadata.owner_references.0.0.and_then(OwnerReference::into_daemonset)?;
        let List(conditions) = status.conditions;
        let (List(main), List(init)) = (status.container_statuses, status.init_container_statuses);
        let gate = match spec.init_containers.0.gate(&metadata.annotations) {
            None => Gate::None,
            Some(gate) if init.succeeded.contains(gate) => Gate::Passed,
            // After a reboot init containers run again, and the kubelet leaves `Initialized` as it
            // was.
            Some(gate) if conditions.is_initialized && !init.unfinished.contains(gate) => {
                Gate::Passed
            }
            Some(_) => Gate::Ahead,
        };
        Some(Pod {
            uid: metadata.uid.0.into(),
            name: metadata.name.0.into(),
            owner: Arc::new(DaemonSetId::new(&metadata.namespace.0, &owner_name, &owner_uid)),
            is_being_deleted: metadata.deletion_timestamp.is_some(),
            phase: Phase::of(&status.phase.unwrap_or_default().0),
            is_ready: conditions.is_ready,
            gate,
            created: metadata.creation_timestamp.map(|Timestamp(created)| created),
            started: [main.oldest_start, init.oldest_start].into_iter().flatten().min(),
        })
    }
}
