//! The thread that reads DaemonSets when the schedule says so.

use std::sync::Arc;

use psl::{random, sync};

use super::follower::{Follower, IDLE, now, retry_pause};
use crate::api::objects::DaemonSetObject;
use crate::core::api_error::ApiError;
use crate::core::daemonset::DaemonSetId;
use crate::core::newest_version::NewestVersion;
use crate::core::refresh_schedule::Task;
use crate::core::status::Source;
use crate::core::verdict::Verdict;

impl Follower {
    pub(super) fn read_daemonsets(&self) {
        let mut newest = NewestVersion::default();
        loop {
            let result = match self.next_task() {
                Task::ReadAll => self.read_all(&mut newest),
                Task::ReadOne(id) => self.read_one(&id, &mut newest),
                Task::WaitUntil(_) => continue,
            };
            match result {
                Ok(()) => self.record_success(Source::DaemonSets),
                Err(error) => {
                    let retry_after = retry_pause(error.retry_after, random::fraction());
                    self.record_failure(Source::DaemonSets, error);
                    self.lock().schedule.fail(retry_after, now(), random::fraction());
                }
            }
        }
    }

    /// Waits for the next task.
    fn next_task(&self) -> Task {
        let mut cluster = self.lock();
        loop {
            let mut wait = IDLE;
            if self.config.filter.is_some() {
                let now = now();
                let verdict = self.status.verdict();
                let waiting = verdict.as_deref().map(Verdict::waiting).unwrap_or_default();
                match cluster.schedule.poll(waiting, now, random::fraction()) {
                    Task::WaitUntil(until) => wait = until.saturating_duration_since(now),
                    task => return task,
                }
            }
            cluster = sync::wait_timeout(&self.changed, cluster, wait);
        }
    }

    fn read_all(&self, newest: &mut NewestVersion) -> Result<(), ApiError> {
        let filter = self.lock().view.filter();
        let mut on_item = |set: Option<DaemonSetObject>| match set {
            None => self.lock().view.daemonsets.begin(),
            Some(set) => {
                let set = set.into_daemonset(|key| filter.names(key));
                self.lock().view.daemonsets.add(set, &filter);
            }
        };
        let version = self.api.daemonsets(newest, &mut on_item)?;
        newest.set(&version);
        self.update(|cluster| {
            cluster.view.daemonsets.finish();
            let unknown = cluster.view.unknown_owners();
            cluster.schedule.finish_list(unknown, now(), random::fraction());
            cluster.log_limits();
        });
        Ok(())
    }

    fn read_one(&self, id: &Arc<DaemonSetId>, newest: &mut NewestVersion) -> Result<(), ApiError> {
        let filter = self.lock().view.filter();
        let (namespace, name) = (id.namespace(), id.name());
        let found = self.api.daemonset(namespace, name, |key| filter.names(key))?;
        let set = found.map(|(set, version)| {
            newest.advance(&version);
            set
        });
        self.update(|cluster| {
            cluster.view.set_daemonset(namespace, name, set);
            cluster.schedule.finish_read(id, cluster.view.knows(id));
            cluster.log_limits();
        });
        Ok(())
    }
}
