//! The requests to the API server: paths, queries, and how errors name each request.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::core::api_error::ApiError;
use crate::core::newest_version::ReadFrom;

/// `resourceVersion=0` lets the server answer from its cache: otherwise every list of every node
/// reads the cluster's store. The cache ignores `limit`, but an older server without a cache
/// respects it, which saves memory on its side.
const FROM_CACHE: &str = "resourceVersion=0&limit=500";

const ONE_FROM_CACHE: &str = "resourceVersion=0";

/// Without a version: the server rejects a version in requests for later pages.
const LATER_PAGE: &str = "limit=500";

/// Real tokens have some hundred bytes; a longer one would not fit into a request's head.
const LONGEST_CONTINUE: usize = 4 * 1024;

/// Names contain `-` and `.`, which need no escape.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.');

pub struct ApiRequest {
    /// The name of the request in errors.
    pub object: String,
    pub path: String,
    /// Ends with `&` unless it is empty.
    selector: String,
    /// The rest of the query if a cache may answer.
    query: String,
    /// The verb and the resource that the role must allow.
    pub permission: String,
}

impl ApiRequest {
    /// The name of the node needs no escapes, by its validation.
    pub fn node(name: &str) -> ApiRequest {
        ApiRequest {
            object: format!("node {name}"),
            path: format!("/api/v1/nodes/{name}"),
            selector: String::new(),
            query: ONE_FROM_CACHE.to_owned(),
            permission: "get nodes".to_owned(),
        }
    }

    pub fn node_watch(name: &str, version: &str, seconds: u64) -> ApiRequest {
        ApiRequest {
            object: format!("watch of node {name}"),
            path: "/api/v1/nodes".to_owned(),
            selector: format!("fieldSelector=metadata.name%3D{name}&"),
            query: watch_query(version, seconds),
            permission: "watch nodes".to_owned(),
        }
    }

    pub fn node_metrics(name: &str) -> ApiRequest {
        ApiRequest {
            object: format!("metrics of node {name}"),
            path: format!("/apis/metrics.k8s.io/v1beta1/nodes/{name}"),
            selector: String::new(),
            query: String::new(),
            permission: "get nodes.metrics.k8s.io".to_owned(),
        }
    }

    /// All DaemonSets, or those of one namespace.
    pub fn daemonsets(namespace: Option<&str>) -> ApiRequest {
        ApiRequest {
            object: format!("list of DaemonSets{}", in_namespace(namespace)),
            path: format!("/apis/apps/v1{}/daemonsets", namespace_path(namespace)),
            selector: String::new(),
            query: FROM_CACHE.to_owned(),
            permission: format!("list daemonsets.apps{}", scope(namespace)),
        }
    }

    /// One DaemonSet, as a list of one or none, so that the role needs no other verb. The cache may
    /// not know a new DaemonSet yet; in the store it is one key.
    pub fn daemonset(namespace: &str, name: &str) -> ApiRequest {
        ApiRequest {
            object: format!("DaemonSet {namespace}/{name}"),
            path: format!("/apis/apps/v1/namespaces/{}/daemonsets", escaped(namespace)),
            selector: format!("fieldSelector=metadata.name%3D{}&", escaped(name)),
            query: LATER_PAGE.to_owned(),
            permission: format!("list daemonsets.apps in namespace {namespace}"),
        }
    }

    /// The pods on a node, or those of one namespace on it.
    pub fn pods(namespace: Option<&str>, node: &str) -> ApiRequest {
        ApiRequest {
            object: format!("list of pods on node {node}{}", in_namespace(namespace)),
            path: format!("/api/v1{}/pods", namespace_path(namespace)),
            selector: format!("fieldSelector=spec.nodeName%3D{node}&"),
            query: FROM_CACHE.to_owned(),
            permission: format!("list pods{}", scope(namespace)),
        }
    }

    pub fn pods_watch(
        namespace: Option<&str>,
        node: &str,
        version: &str,
        seconds: u64,
    ) -> ApiRequest {
        ApiRequest {
            object: format!("watch of pods on node {node}{}", in_namespace(namespace)),
            query: watch_query(version, seconds),
            permission: format!("watch pods{}", scope(namespace)),
            ..ApiRequest::pods(namespace, node)
        }
    }

    /// An error of this request.
    pub fn error(&self, phrase: &str, details: &str) -> ApiError {
        ApiError::new(format!("{phrase}: {}{details}", self.object))
    }

    /// Path and query of the request, or of its first page.
    pub fn target(&self) -> String {
        self.with_query(&self.query)
    }

    /// The same for a source of the response. It has no limit: with one, servers older than 1.19
    /// take the version as the exact one.
    pub fn list_target(&self, from: ReadFrom) -> String {
        let is_list = self.query != ONE_FROM_CACHE;
        match (from, is_list) {
            (ReadFrom::Cache, _) => self.target(),
            (ReadFrom::NotOlderThan(version), true) => self.with_query(&format!(
                "resourceVersion={}&resourceVersionMatch=NotOlderThan",
                escaped(version)
            )),
            (ReadFrom::NotOlderThan(version), false) => {
                self.with_query(&format!("resourceVersion={}", escaped(version)))
            }
            (ReadFrom::Store, true) => self.with_query(LATER_PAGE),
            (ReadFrom::Store, false) => self.with_query(""),
        }
    }

    /// Path and query of the page after the one with this token.
    pub fn next_page(&self, token: &str) -> Result<String, ApiError> {
        if token.len() > LONGEST_CONTINUE {
            let details = format!(": a continue token of {} bytes", token.len());
            return Err(self.error("limit exceeded", &details));
        }
        Ok(self.with_query(&format!("{LATER_PAGE}&continue={}", escaped(token))))
    }

    fn with_query(&self, query: &str) -> String {
        let ApiRequest { path, selector, .. } = self;
        if query.is_empty() { path.clone() } else { format!("{path}?{selector}{query}") }
    }
}

/// With bookmarks, which tell that there were no events up to a version. Otherwise every pause
/// longer than the server's memory would end in a list.
fn watch_query(version: &str, seconds: u64) -> String {
    let version = escaped(version);
    format!("watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={seconds}")
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

fn in_namespace(namespace: Option<&str>) -> String {
    namespace.map(|name| format!(" in namespace {name}")).unwrap_or_default()
}

fn scope(namespace: Option<&str>) -> String {
    match namespace {
        Some(name) => format!(" in namespace {name}"),
        None => " in all namespaces".to_owned(),
    }
}

fn namespace_path(namespace: Option<&str>) -> String {
    namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::newest_version::ReadFrom;

    #[test]
    fn targets() {
        for (request, first, next) in [
            (ApiRequest::node("n-1.example"), "/api/v1/nodes/n-1.example?resourceVersion=0", None),
            (
                ApiRequest::node_watch("n-1.example", "7", 60),
                "/api/v1/nodes?fieldSelector=metadata.name%3Dn-1.example&watch=1&allowWatchBookmarks=true&resourceVersion=7&timeoutSeconds=60",
                None,
            ),
            (ApiRequest::node_metrics("n"), "/apis/metrics.k8s.io/v1beta1/nodes/n", None),
            (
                ApiRequest::daemonset("a/b", "c&d"),
                "/apis/apps/v1/namespaces/a%2Fb/daemonsets?fieldSelector=metadata.name%3Dc%26d&limit=500",
                None,
            ),
            (
                ApiRequest::pods_watch(Some("x"), "n", "1&2", 900),
                "/api/v1/namespaces/x/pods?fieldSelector=spec.nodeName%3Dn&watch=1&allowWatchBookmarks=true&resourceVersion=1%262&timeoutSeconds=900",
                None,
            ),
            (
                ApiRequest::daemonsets(None),
                "/apis/apps/v1/daemonsets?resourceVersion=0&limit=500",
                Some("/apis/apps/v1/daemonsets?limit=500&continue=a%2Fb%2B%3D"),
            ),
            (
                ApiRequest::daemonsets(Some("x")),
                "/apis/apps/v1/namespaces/x/daemonsets?resourceVersion=0&limit=500",
                Some("/apis/apps/v1/namespaces/x/daemonsets?limit=500&continue=a%2Fb%2B%3D"),
            ),
            (
                ApiRequest::pods(None, "n"),
                "/api/v1/pods?fieldSelector=spec.nodeName%3Dn&resourceVersion=0&limit=500",
                Some("/api/v1/pods?fieldSelector=spec.nodeName%3Dn&limit=500&continue=a%2Fb%2B%3D"),
            ),
            (
                ApiRequest::pods(Some("x"), "n"),
                "/api/v1/namespaces/x/pods?fieldSelector=spec.nodeName%3Dn&resourceVersion=0&limit=500",
                Some(
                    "/api/v1/namespaces/x/pods?fieldSelector=spec.nodeName%3Dn&limit=500&continue=a%2Fb%2B%3D",
                ),
            ),
        ] {
            assert_eq!(request.target(), first);
            if let Some(next) = next {
                assert_eq!(request.next_page("a/b+=").as_deref(), Ok(next));
            }
        }
    }

    #[test]
    fn the_source_of_a_response() {
        let (node, pods, all) =
            (ApiRequest::node("n"), ApiRequest::pods(None, "n"), ApiRequest::daemonsets(Some("x")));
        let selector = "/api/v1/pods?fieldSelector=spec.nodeName%3Dn&";
        let all_of_x = "/apis/apps/v1/namespaces/x/daemonsets?";
        for (request, from, expected) in [
            (&node, ReadFrom::Cache, "/api/v1/nodes/n?resourceVersion=0".to_owned()),
            (&node, ReadFrom::NotOlderThan("7"), "/api/v1/nodes/n?resourceVersion=7".to_owned()),
            (&node, ReadFrom::Store, "/api/v1/nodes/n".to_owned()),
            (&pods, ReadFrom::Cache, format!("{selector}resourceVersion=0&limit=500")),
            (
                &pods,
                ReadFrom::NotOlderThan("7"),
                format!("{selector}resourceVersion=7&resourceVersionMatch=NotOlderThan"),
            ),
            (&pods, ReadFrom::Store, format!("{selector}limit=500")),
            (&all, ReadFrom::Cache, format!("{all_of_x}resourceVersion=0&limit=500")),
            (
                &all,
                ReadFrom::NotOlderThan("7"),
                format!("{all_of_x}resourceVersion=7&resourceVersionMatch=NotOlderThan"),
            ),
            (&all, ReadFrom::Store, format!("{all_of_x}limit=500")),
        ] {
            assert_eq!(request.list_target(from), expected);
        }
    }

    #[test]
    fn a_continue_token_is_bounded() {
        assert!(ApiRequest::daemonsets(None).next_page(&"x".repeat(4096)).is_ok());
        let error = ApiRequest::daemonsets(None).next_page(&"x".repeat(4097)).unwrap_err();
        assert_eq!(
            error.full_text(),
            "limit exceeded: list of DaemonSets: a continue token of 4097 bytes"
        );
    }
}
