//! Decides the answer to a request: by token, by fault, by the changes of tests, by the recordings.
//! Does not know how answers go over the wire.

use serde_json::{Value, json};

use super::lists::{Source, filtered, text};
use super::recordings::{Query, value};
use super::resource::Resource;
use super::watch::{items_of, watch_key};
use super::wire::{Body, Response};
use super::{Asked, DAEMONSETS, Fault, NARROW_NAMESPACE, Role, Shared};
use crate::http::split_target;
use crate::scripted::Seen;

/// The user names in the recorded refusals.
const ANONYMOUS: &str = "system:anonymous";
const NARROW_USER: &str = "system:serviceaccount:psl:health-ns";
const WIDE_USER: &str = "system:serviceaccount:psl:health";

impl Shared {
    /// The answer and its fault. Adds the request to those received.
    pub(super) fn decide(&self, request: &Seen, connection: usize) -> (Response, Option<Fault>) {
        let (path, query) = split_target(&request.target);
        let header = |name: &str| request.header(name).unwrap_or_default().to_string();
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let fault = self.take_fault(&path, &query);
        let mut response = self.permitted(token, request, &path, &query);
        if let Some(Fault::Status(status, headers, body)) = &fault {
            let body = Body::Bytes(body.clone().into_bytes());
            response = Response { status: *status, headers: headers.clone(), chunked: false, body };
        }
        let has_status = !fault.as_ref().is_some_and(Fault::is_without_status);
        self.state().requests.push(Asked {
            at: request.at,
            connection,
            method: request.method.clone(),
            path,
            query,
            token: token.is_some(),
            user_agent: header("user-agent"),
            accept: header("accept"),
            status: if has_status { response.status } else { 0 },
        });
        (response, fault)
    }

    /// The answer that this token permits.
    fn permitted(
        &self,
        token: Option<&str>,
        request: &Seen,
        path: &str,
        query: &Query,
    ) -> Response {
        let role = {
            let state = self.state();
            match state.open {
                true => Some(Role::Wide),
                false => token.and_then(|token| state.tokens.get(token).copied()),
            }
        };
        let resource = Resource::of(path);
        let is_narrow = resource.namespace.as_deref() == Some(NARROW_NAMESPACE);
        let is_watch = matches!(value(query, "watch"), Some("1" | "true"));
        match (role, token) {
            _ if request.method != "GET" => self.recorded("error-404-path"),
            (None, Some(_)) => self.recorded("error-401-bad-token"),
            _ if path == "/version" => self.recorded("version"),
            (None, None) => {
                self.error("error-403-anonymous", &resource, &resource.forbidden(ANONYMOUS, None))
            }
            (Some(Role::Narrow), _) if !is_narrow => {
                self.error("error-403-node", &resource, &resource.forbidden(NARROW_USER, None))
            }
            (Some(Role::WithoutWatch), _) if is_watch => {
                let message = resource.forbidden(WIDE_USER, Some("watch"));
                self.error("error-403-node", &resource, &message)
            }
            (Some(role), _) if is_watch => self.ok(Body::Watch(role)),
            (Some(role), _) => self.read(role, path, query),
        }
    }

    /// Reads, and keeps the pods so that a watch may go on from them.
    pub(super) fn read(&self, role: Role, path: &str, query: &Query) -> Response {
        let response = self.look_up(role, path, query);
        if let Body::Bytes(bytes) = &response.body
            && response.status == 200
            && path.ends_with("/pods")
            && let Ok(list) = serde_json::from_slice::<Value>(bytes)
        {
            let version = text(&list["metadata"]["resourceVersion"]).to_string();
            self.state().snapshots.insert((watch_key(path, query), version), items_of(&list));
        }
        response
    }

    pub(super) fn look_up(&self, role: Role, path: &str, query: &Query) -> Response {
        let resource = Resource::of(path);
        if let Some(response) = self.lagging_answer(path, &resource, query) {
            return response;
        }
        if let Some(source) = self.override_for(path, &resource, query) {
            return self.answer_from(&source, &resource, query);
        }
        let token = value(query, "continue");
        if token.is_some() && std::mem::take(&mut self.state().expire_continue) {
            return self.recorded("error-410-continue");
        }
        let is_whole = value(query, "resourceVersion") == Some("0");
        if token.is_none() && path == DAEMONSETS && !is_whole && self.state().paged {
            return self.recorded("daemonsets-limit1-page1");
        }
        let page = token.and_then(|token| self.recordings.page(path, token));
        match page.or_else(|| self.recordings.fitting(role, path, query)) {
            Some(recording) => Response::of(recording),
            None => self.derived(&resource, query),
        }
    }

    /// The most special of the objects that tests have set for this request.
    pub(super) fn override_for(
        &self,
        path: &str,
        resource: &Resource,
        query: &Query,
    ) -> Option<Source> {
        let everywhere = resource.everywhere();
        let state = self.state();
        let fitting = state.overrides.iter().filter_map(|(target, source)| {
            let (of, wanted) = split_target(target);
            let is_path = of == path;
            let lists_it = resource.name.is_none() && of == everywhere;
            let is_narrowed = wanted.iter().all(|pair| query.contains(pair));
            ((is_path || lists_it) && is_narrowed).then_some(((is_path, wanted.len()), source))
        });
        fitting.max_by_key(|(weight, _)| *weight).map(|(_, source)| source.clone())
    }

    /// The answer of a lagging cache, if the request goes to the cache.
    fn lagging_answer(&self, path: &str, resource: &Resource, query: &Query) -> Option<Response> {
        let wanted: u64 = value(query, "resourceVersion")?.parse().ok()?;
        let lagging = self.state().lagging.iter().find(|(of, ..)| of == path).cloned();
        let (_, reached, body) = lagging?;
        if wanted <= reached {
            return Some(self.ok(Body::json(&filtered(&body, resource, query))));
        }
        // The words of Kubernetes 1.36, which says them after three seconds.
        let cause = "Too large resource version";
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": format!("{cause}: {wanted}, current: {reached}"),
            "reason": "Timeout", "code": 504,
            "details": {
                "causes": [{"reason": "ResourceVersionTooLarge", "message": cause}],
                "retryAfterSeconds": 1,
            },
        });
        let recorded = self.recorded("error-404-path");
        Some(Response { status: 504, body: Body::json(&status), ..recorded })
    }

    fn answer_from(&self, source: &Source, resource: &Resource, query: &Query) -> Response {
        match source {
            Source::Value(value) => {
                let mut value = filtered(value, resource, query);
                if value["items"].is_array() && value["metadata"].is_object() {
                    let version = self.state().signals.version.to_string();
                    value["metadata"]["resourceVersion"] = json!(version);
                }
                self.ok(Body::json(&value))
            }
            Source::Big(big) => self.ok(Body::Big(big.clone(), big.range(query))),
        }
    }

    /// The answer of the recorded cluster to a request that was not recorded.
    fn derived(&self, resource: &Resource, query: &Query) -> Response {
        let lists = match (resource.group.as_str(), resource.resource.as_str(), &resource.name) {
            ("apps", "daemonsets", _) => &["daemonsets-all"][..],
            ("", "pods", _) => &["pods-node-a", "pods-node-b"],
            ("", "nodes", Some(name)) => {
                let message = format!("nodes {name:?} not found");
                return self.error("error-404-node", resource, &message);
            }
            _ => return self.recorded("error-404-path"),
        };
        let mut lists = lists.iter().map(|name| self.recordings.get(name).json());
        let mut list = lists.next().expect("a list");
        for mut more in lists {
            let items = list["items"].as_array_mut().unwrap();
            items.append(more["items"].as_array_mut().unwrap());
        }
        self.ok(Body::json(&filtered(&list, resource, query)))
    }

    #[track_caller]
    fn recorded(&self, name: &str) -> Response {
        Response::of(self.recordings.get(name))
    }

    /// An answer with the head of a recorded list.
    pub(super) fn ok(&self, body: Body) -> Response {
        Response { body, ..self.recorded("daemonsets-all") }
    }

    /// A recorded error about another resource.
    fn error(&self, recording: &str, resource: &Resource, message: &str) -> Response {
        let mut body = self.recordings.get(recording).json();
        body["message"] = json!(message);
        body["details"] = json!({"kind": resource.resource});
        if !resource.group.is_empty() {
            body["details"]["group"] = json!(resource.group);
        }
        if let Some(name) = &resource.name {
            body["details"]["name"] = json!(name);
        }
        Response { body: Body::json(&body), ..self.recorded(recording) }
    }
}
