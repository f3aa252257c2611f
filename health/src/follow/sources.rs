//! What is listed and then watched: this node, and the DaemonSets' pods on it.
//!
//! Takes what the API tells into what is known. Does not know when to list and when to watch.

use psl::random;

use super::Follower;
use crate::api::{Ended, Event, Item, Problem, Seen, Watcher, objects};
use crate::status::Source;

/// Something that is listed and then watched.
pub(super) trait Followed {
    const SOURCE: Source;

    /// Takes a list of all objects, at least as new as the last known version, and returns the version to watch from.
    fn list(follower: &Follower, seen: &mut Seen) -> Result<String, Problem>;

    fn watch(follower: &Follower, watching: &mut Watching) -> Ended;
}

/// A watch while it lasts.
pub(super) struct Watching<'f> {
    pub follower: &'f Follower,
    /// Up to where everything is known.
    pub version: String,
    /// The next list must not be older than this.
    pub seen: &'f mut Seen,
    /// Whether this watch has told anything.
    pub has_news: bool,
}

impl Watching<'_> {
    fn reached(&mut self, version: &str, source: Source) {
        self.has_news = true;
        if !version.is_empty() {
            version.clone_into(&mut self.version);
        }
        self.follower.well(source);
    }
}

/// From whatever the server has, which the watch tells first.
const WHATEVER_THERE_IS: &str = "0";

pub(super) struct OfNode;

impl Followed for OfNode {
    const SOURCE: Source = Source::Node;

    /// The watch goes on from whatever the server has, and not from the object's own version, which
    /// may be older than what the server remembers.
    fn list(follower: &Follower, seen: &mut Seen) -> Result<String, Problem> {
        let (node, version) = follower.api.node(seen)?;
        seen.set(&version);
        follower.update(|known| known.view.set_node(node));
        Ok(WHATEVER_THERE_IS.to_owned())
    }

    fn watch(follower: &Follower, watching: &mut Watching) -> Ended {
        let version = watching.version.clone();
        follower.api.watch_node(&version, random::fraction(), watching)
    }
}

impl Watcher<objects::Node> for Watching<'_> {
    fn take(&mut self, event: Event<objects::Node>) -> Result<(), Problem> {
        let name = self.follower.api.node_name();
        match event {
            Event::Is(node) => {
                self.reached(node.version(), Source::Node);
                // The server's cache may be older than the answer before.
                if node.is_called(name) && !self.seen.is_past(node.version()) {
                    self.seen.reached(node.version());
                    let node = node
                        .counting()
                        .map_err(|why| Problem::new(format!("node {name}: {why}")))?;
                    self.follower.update(|known| known.view.set_node(node));
                }
            }
            Event::Gone(node) => {
                self.reached(node.version(), Source::Node);
                if node.is_called(name) && !self.seen.is_past(node.version()) {
                    self.follower.update(|known| known.view.remove_node());
                }
            }
            Event::Bookmark(version) => {
                // The node would have come before, unless it was deleted after it was asked for.
                let is_missing = self.version == WHATEVER_THERE_IS && !self.seen.is_past(&version);
                self.reached(&version, Source::Node);
                if is_missing {
                    self.follower.update(|known| known.view.remove_node());
                }
            }
            Event::Error(..) | Event::Other => {}
        }
        Ok(())
    }
}

pub(super) struct OfPods;

impl Followed for OfPods {
    const SOURCE: Source = Source::Pods;

    fn list(follower: &Follower, seen: &mut Seen) -> Result<String, Problem> {
        let node = follower.api.node_name();
        let mut each = |pod: Option<objects::Pod>| match pod {
            None => follower.lock().view.begin_pods(),
            Some(pod) if pod.is_on(node) => {
                if let Some(pod) = pod.of_daemonset() {
                    follower.lock().take_pod(pod);
                }
            }
            Some(_) => {}
        };
        let version = follower.api.pods(seen, &mut each)?;
        seen.set(&version);
        follower.update(|known| {
            for owner in known.view.finish_pods() {
                known.agenda.is_unknown(owner);
            }
            known.tell_bounds();
        });
        Ok(version)
    }

    fn watch(follower: &Follower, watching: &mut Watching) -> Ended {
        let version = watching.version.clone();
        follower.api.watch_pods(&version, random::fraction(), watching)
    }
}

impl Watcher<objects::Pod> for Watching<'_> {
    fn take(&mut self, event: Event<objects::Pod>) -> Result<(), Problem> {
        let follower = self.follower;
        match event {
            Event::Is(pod) => {
                self.reached(pod.version(), Source::Pods);
                self.seen.reached(pod.version());
                let uid: Box<str> = pod.uid().into();
                let pod =
                    if pod.is_on(follower.api.node_name()) { pod.of_daemonset() } else { None };
                match pod {
                    Some(pod) => follower.update(|known| {
                        known.take_pod(pod);
                        known.tell_bounds();
                    }),
                    // Nobody's, or it has been let go: an orphan is not its DaemonSet's any more.
                    None if follower.lock().view.has_pod(&uid) => {
                        follower.update(|known| known.view.remove_pod(&uid));
                    }
                    None => {}
                }
            }
            Event::Gone(pod) => {
                self.reached(pod.version(), Source::Pods);
                self.seen.reached(pod.version());
                if follower.lock().view.has_pod(pod.uid()) {
                    follower.update(|known| known.view.remove_pod(pod.uid()));
                }
            }
            Event::Bookmark(version) => {
                self.reached(&version, Source::Pods);
                self.seen.reached(&version);
            }
            Event::Error(..) | Event::Other => {}
        }
        Ok(())
    }
}
