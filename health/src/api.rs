//! The client of the API server: reads the node, DaemonSets and pods, and watches them.
//!
//! Every failure is an [`ApiError`]; none ends the process. The file does not know when to make a
//! request, or the purpose of the objects.

mod call;
mod credentials;
mod error;
mod fields;
mod json;
mod json_bounds;
pub mod objects;
mod request;
mod visitors;

use std::io::ErrorKind;
use std::time::Duration;

use psl::client::HttpClient;

pub use json::{ApiObject, Event, ListPage, read_events, read_list, read_one};

use crate::config::{ApiServer, PROGRAM};
use crate::core::api_error::ApiError;
use crate::core::daemonset::DaemonSet;
use crate::core::newest_version::NewestVersion;
use crate::core::node::Node;
use crate::core::quantity::Quantity;
use call::{Call, OnItem, OnResponse, Transport};
use objects::{DaemonSetObject, NodeMetricsObject, NodeObject, PodObject};
use request::ApiRequest;

/// Bookmarks arrive about once a minute. A watch without any data for this long is dead.
const SILENCE: Duration = Duration::from_secs(150);

/// The requested length of a watch, and the most that is added at random, so that the watches of
/// nodes that started together do not end together.
const WATCH: Duration = Duration::from_secs(600);
const WATCH_SPREAD: Duration = Duration::from_secs(600);

/// Takes an event of a watch. An error ends the watch.
pub type OnEvent<'f, T> = dyn FnMut(Event<T>) -> Result<(), ApiError> + 'f;

pub struct Api {
    transport: Transport,
    node: String,
    /// DaemonSets and pods of this namespace alone are requested.
    namespace: Option<String>,
    silence: Duration,
}

/// The end of a watch.
pub enum WatchResult {
    /// The server has ended the watch.
    Ended,
    /// The server does not remember the version any more: 410.
    Expired,
    Forbidden(ApiError),
    /// The connection has ended early. The next watch may continue from the last version.
    Interrupted(ApiError),
    /// An event was not readable or there was no data for too long, so that events may be missing.
    Lost(ApiError),
}

impl Api {
    pub fn new(
        server: ApiServer,
        node: String,
        namespace: Option<String>,
        on_response: OnResponse,
    ) -> Api {
        let client = HttpClient::new(PROGRAM.name);
        let transport = Transport { server, client, on_response };
        Api { transport, node, namespace, silence: SILENCE }
    }

    #[cfg(test)]
    pub fn with_silence(self, silence: Duration) -> Api {
        Api { silence, ..self }
    }

    /// The longest time without a byte of a watch.
    pub fn silence(&self) -> Duration {
        self.silence
    }

    pub fn node_name(&self) -> &str {
        &self.node
    }

    /// The node, at least as new as the newest known version, and its version.
    pub fn node(&self, newest: &NewestVersion) -> Result<(Node, String), ApiError> {
        let request = ApiRequest::node(&self.node);
        let call = Call::new(&self.transport)?;
        let response = call.get_from(&request, newest)?;
        let node: NodeObject = call.read(&request, response)?;
        if !node.is_called(&self.node) {
            return Err(request.error("unexpected response", ": another object"));
        }
        let version = node.version().to_owned();
        match node.into_node() {
            Ok(node) => Ok((node, version)),
            Err(why) => Err(request.error("limit exceeded", &format!(": {why}"))),
        }
    }

    /// The CPUs of the node that are in use.
    pub fn cpus_in_use(&self) -> Result<Quantity, ApiError> {
        let request = ApiRequest::node_metrics(&self.node);
        let call = Call::new(&self.transport)?;
        let response = call.get(&request, &request.target())?;
        let metrics: NodeMetricsObject = call.read(&request, response)?;
        metrics.cpus().ok_or_else(|| request.error("unexpected response", ": no CPU usage"))
    }

    /// Reads all DaemonSets, at least as new as the newest known version, and returns their
    /// version.
    pub fn daemonsets(
        &self,
        newest: &NewestVersion,
        on_item: &mut OnItem<DaemonSetObject>,
    ) -> Result<String, ApiError> {
        let request = ApiRequest::daemonsets(self.namespace.as_deref());
        Call::new(&self.transport)?.list(&request, newest, on_item)
    }

    /// Reads one DaemonSet from the store, with the labels whose keys are needed. Also returns its
    /// version.
    pub fn daemonset(
        &self,
        namespace: &str,
        name: &str,
        is_needed: impl Fn(&str) -> bool,
    ) -> Result<Option<(DaemonSet, String)>, ApiError> {
        let mut found = None;
        let mut on_item = |set: Option<DaemonSetObject>| match set {
            None => found = None,
            // A proxy may not support the field selector.
            Some(set) if set.is_called(namespace, name) => found = Some(set),
            Some(_) => {}
        };
        let request = ApiRequest::daemonset(namespace, name);
        Call::new(&self.transport)?.list(&request, &NewestVersion::default(), &mut on_item)?;
        Ok(found.map(|set| {
            let version = set.version().to_owned();
            (set.into_daemonset(is_needed), version)
        }))
    }

    /// Reads all pods on the node, at least as new as the newest known version, and returns the
    /// version that a watch may continue from.
    pub fn pods(
        &self,
        newest: &NewestVersion,
        on_item: &mut OnItem<PodObject>,
    ) -> Result<String, ApiError> {
        let request = ApiRequest::pods(self.namespace.as_deref(), &self.node);
        Call::new(&self.transport)?.list(&request, newest, on_item)
    }

    pub fn watch_node(
        &self,
        version: &str,
        chance: f64,
        on_event: &mut OnEvent<NodeObject>,
    ) -> WatchResult {
        let length = WATCH + WATCH_SPREAD.mul_f64(chance);
        let request = ApiRequest::node_watch(&self.node, version, length.as_secs());
        self.watch(&request, length, on_event)
    }

    pub fn watch_pods(
        &self,
        version: &str,
        chance: f64,
        on_event: &mut OnEvent<PodObject>,
    ) -> WatchResult {
        let length = WATCH + WATCH_SPREAD.mul_f64(chance);
        let namespace = self.namespace.as_deref();
        let request = ApiRequest::pods_watch(namespace, &self.node, version, length.as_secs());
        self.watch(&request, length, on_event)
    }

    fn watch<T: ApiObject>(
        &self,
        request: &ApiRequest,
        length: Duration,
        on_event: &mut OnEvent<T>,
    ) -> WatchResult {
        let stream = Call::new(&self.transport).and_then(|call| {
            let response = call.stream(request, length, self.silence)?;
            Ok((call, response))
        });
        let (call, response) = match stream {
            Ok(stream) => stream,
            Err(error) => return WatchResult::Interrupted(error),
        };
        match response.status {
            200 => {}
            410 => return WatchResult::Expired,
            403 => return WatchResult::Forbidden(call.refused(request, response)),
            _ => return WatchResult::Interrupted(call.refused(request, response)),
        }
        for event in read_events(response.body) {
            match event {
                Ok(Event::Error(410, _)) => return WatchResult::Expired,
                Ok(Event::Error(status, message)) => {
                    let error = error::of_status(request, &self.transport.server, status);
                    return WatchResult::Lost(error.with_details(message));
                }
                Ok(event) => {
                    if let Err(error) = on_event(event) {
                        return WatchResult::Lost(error);
                    }
                }
                Err(error) => return unreadable_event(&request.object, error),
            }
        }
        WatchResult::Ended
    }
}

/// The end of a watch whose next event is not readable.
fn unreadable_event(object: &str, error: serde_json::Error) -> WatchResult {
    // A server that holds a connection open without data may do the same with the next one.
    let is_silence =
        matches!(error.io_error_kind(), Some(ErrorKind::TimedOut | ErrorKind::WouldBlock));
    let is_cut = error.is_eof() || error.is_io();
    let error = error::unreadable(object, None, error);
    if is_cut && !is_silence { WatchResult::Interrupted(error) } else { WatchResult::Lost(error) }
}

#[cfg(test)]
mod tests;
