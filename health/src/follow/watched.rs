//! The threads that list and then watch: this node, and the pods of DaemonSets on it.

use std::time::Duration;

use log::{debug, warn};
use psl::duration::with_jitter;
use psl::random;

use super::follower::{Follower, JITTER, now};
use crate::api::objects::{NodeObject, PodObject};
use crate::api::{ApiObject as _, Event, WatchResult};
use crate::core::api_error::ApiError;
use crate::core::newest_version::NewestVersion;
use crate::core::status::Source;
use crate::core::watch_schedule::WatchSchedule;

/// A source that is listed and then watched.
pub(super) trait WatchedSource {
    const SOURCE: Source;

    /// Reads all objects, at least as new as the newest known version. Returns the version to watch
    /// from.
    fn list(follower: &Follower, newest: &mut NewestVersion) -> Result<String, ApiError>;

    fn watch(follower: &Follower, session: &mut WatchSession) -> WatchResult;
}

/// Watches that continue one another.
pub(super) struct WatchSession<'f> {
    follower: &'f Follower,
    /// The version of the last event.
    version: String,
    /// The minimum of the next list.
    newest: &'f mut NewestVersion,
    /// Whether the present watch had events.
    had_events: bool,
}

impl WatchSession<'_> {
    fn event(&mut self, version: &str, source: Source) {
        self.had_events = true;
        if !version.is_empty() {
            version.clone_into(&mut self.version);
        }
        self.follower.record_success(source);
    }
}

impl Follower {
    /// Lists and watches a source, again and again.
    pub(super) fn follow<W: WatchedSource>(&self) {
        let mut schedule = WatchSchedule::new(self.periods, now());
        let mut newest = NewestVersion::default();
        loop {
            let version = match W::list(self, &mut newest) {
                Ok(version) => version,
                Err(error) => {
                    self.fail(W::SOURCE, error, &mut schedule);
                    continue;
                }
            };
            self.record_success(W::SOURCE);
            if schedule.finish_list(now())
                && let Err(error) = self.watch::<W>(version, &mut newest, &mut schedule)
                && schedule.forbid_watch(now(), random::fraction())
            {
                let why = error.full_text();
                warn!(why; "watch not permitted, polling instead");
            }
            if schedule.is_polling(now()) {
                self.pause(self.poll_period(), None);
            }
        }
    }

    /// Watches until a list is necessary. `Err` means that watching is forbidden.
    fn watch<W: WatchedSource>(
        &self,
        version: String,
        newest: &mut NewestVersion,
        schedule: &mut WatchSchedule,
    ) -> Result<(), ApiError> {
        let mut session = WatchSession { follower: self, version, newest, had_events: false };
        loop {
            session.had_events = false;
            let start = now();
            let result = W::watch(self, &mut session);
            let is_normal = matches!(result, WatchResult::Ended);
            schedule.finish_watch(session.had_events, is_normal, start, now());
            self.status.update(|status| status.reconnects += 1);
            match result {
                WatchResult::Forbidden(error) => return Err(error),
                WatchResult::Ended => {
                    self.pause(schedule.pause_after_end(random::fraction()), None);
                    if schedule.is_silent(self.api.silence(), now()) {
                        return Ok(());
                    }
                }
                WatchResult::Expired => {
                    self.pause(schedule.pause_after_end(random::fraction()), None);
                    return Ok(());
                }
                // Not an error yet: the next watch continues from the last version.
                WatchResult::Interrupted(error) if !schedule.is_failing() => {
                    let why = error.full_text();
                    debug!(why; "watch interrupted, resuming");
                    let pause = schedule.pause_after_failure(random::fraction());
                    self.pause(pause, error.retry_after);
                }
                WatchResult::Interrupted(error) | WatchResult::Lost(error) => {
                    self.fail(W::SOURCE, error, schedule);
                    return Ok(());
                }
            }
        }
    }

    fn fail(&self, source: Source, error: ApiError, schedule: &mut WatchSchedule) {
        let retry_after = error.retry_after;
        self.record_failure(source, error);
        self.pause(schedule.pause_after_failure(random::fraction()), retry_after);
    }

    fn poll_period(&self) -> Duration {
        let is_healthy = self.status.snapshot().is_healthy(now());
        let period = if is_healthy { self.periods.pass } else { self.periods.fail };
        with_jitter(period, JITTER, random::fraction())
    }
}

/// A watch from this version begins with the present objects.
const ANY_VERSION: &str = "0";

pub(super) struct NodeWatch;

impl WatchedSource for NodeWatch {
    const SOURCE: Source = Source::Node;

    /// The watch does not continue from the node's own version: the server may not remember it.
    fn list(follower: &Follower, newest: &mut NewestVersion) -> Result<String, ApiError> {
        let (node, version) = follower.api.node(newest)?;
        newest.set(&version);
        follower.update(|cluster| cluster.view.set_node(node));
        Ok(ANY_VERSION.to_owned())
    }

    fn watch(follower: &Follower, session: &mut WatchSession) -> WatchResult {
        let version = session.version.clone();
        let mut on_event = |event| node_event(event, session);
        follower.api.watch_node(&version, random::fraction(), &mut on_event)
    }
}

fn node_event(event: Event<NodeObject>, session: &mut WatchSession) -> Result<(), ApiError> {
    let follower = session.follower;
    let name = follower.api.node_name();
    match event {
        Event::Changed(node) => {
            session.event(node.version(), Source::Node);
            // The server's cache may be older than the last response.
            if node.is_called(name) && !session.newest.is_past(node.version()) {
                session.newest.advance(node.version());
                let node = node
                    .into_node()
                    .map_err(|why| ApiError::new(format!("limit exceeded: node {name}: {why}")))?;
                follower.update(|cluster| cluster.view.set_node(node));
            }
        }
        Event::Deleted(node) => {
            session.event(node.version(), Source::Node);
            if node.is_called(name) && !session.newest.is_past(node.version()) {
                follower.update(|cluster| cluster.view.remove_node());
            }
        }
        Event::Bookmark(version) => {
            // The node itself would come first, unless it was deleted since the list.
            let is_missing = session.version == ANY_VERSION && !session.newest.is_past(&version);
            session.event(&version, Source::Node);
            if is_missing {
                follower.update(|cluster| cluster.view.remove_node());
            }
        }
        Event::Error(..) | Event::Unknown => {}
    }
    Ok(())
}

pub(super) struct PodWatch;

impl WatchedSource for PodWatch {
    const SOURCE: Source = Source::Pods;

    fn list(follower: &Follower, newest: &mut NewestVersion) -> Result<String, ApiError> {
        let node = follower.api.node_name();
        let mut on_item = |pod: Option<PodObject>| match pod {
            None => follower.lock().view.pods.begin(),
            Some(pod) if pod.is_on(node) => {
                if let Some(pod) = pod.into_pod() {
                    follower.lock().add_pod(pod);
                }
            }
            Some(_) => {}
        };
        let version = follower.api.pods(newest, &mut on_item)?;
        newest.set(&version);
        follower.update(|cluster| {
            for owner in cluster.view.finish_pods() {
                cluster.schedule.add_unknown_owner(owner);
            }
            cluster.log_limits();
        });
        Ok(version)
    }

    fn watch(follower: &Follower, session: &mut WatchSession) -> WatchResult {
        let version = session.version.clone();
        let mut on_event = |event| {
            pod_event(event, session);
            Ok(())
        };
        follower.api.watch_pods(&version, random::fraction(), &mut on_event)
    }
}

fn pod_event(event: Event<PodObject>, session: &mut WatchSession) {
    let follower = session.follower;
    match event {
        Event::Changed(pod) => {
            session.event(pod.version(), Source::Pods);
            session.newest.advance(pod.version());
            let uid: Box<str> = pod.uid().into();
            let is_here = pod.is_on(follower.api.node_name());
            match pod.into_pod().filter(|_| is_here) {
                Some(pod) => follower.update(|cluster| {
                    cluster.add_pod(pod);
                    cluster.log_limits();
                }),
                // The pod has no owner any more.
                None => remove_pod(follower, &uid),
            }
        }
        Event::Deleted(pod) => {
            session.event(pod.version(), Source::Pods);
            session.newest.advance(pod.version());
            remove_pod(follower, pod.uid());
        }
        Event::Bookmark(version) => {
            session.event(&version, Source::Pods);
            session.newest.advance(&version);
        }
        Event::Error(..) | Event::Unknown => {}
    }
}

fn remove_pod(follower: &Follower, uid: &str) {
    if follower.lock().view.pods.has(uid) {
        follower.update(|cluster| cluster.view.pods.delete(uid));
    }
}
