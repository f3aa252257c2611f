//! What is asked of the API server: paths, queries, and how each question is called in a reason.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use psl::client::HttpError;

use super::problem::Problem;
use super::seen::From;
use crate::config::Server;

/// `resourceVersion=0` lets the server answer from its cache: without it every node's every list
/// reads the cluster's store. The cache pays no heed to `limit`, but a server without one, or an
/// older one, does, and then memory on its side stays small.
const FROM_CACHE: &str = "resourceVersion=0&limit=500";

/// Of one object.
const ONE_FROM_CACHE: &str = "resourceVersion=0";

/// The version is the first page's; the server refuses to be told it twice.
const FURTHER: &str = "limit=500";

/// Real tokens have some hundred bytes; a longer one would not fit into a request's head.
const LONGEST_CONTINUE: usize = 4 * 1024;

/// Names hold these two, which need no escape.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.');

/// One question.
pub struct Question {
    /// What it asks for, for people.
    pub object: String,
    path: String,
    /// With an `&` at its end.
    selector: String,
    /// The part after the selector in the first request, if a cache may answer.
    first: String,
    /// What the role must allow.
    permission: String,
}

impl Question {
    /// About one node. Its name was checked to need no escapes.
    pub fn node(name: &str) -> Question {
        Question {
            object: format!("node {name}"),
            path: format!("/api/v1/nodes/{name}"),
            selector: String::new(),
            first: ONE_FROM_CACHE.to_owned(),
            permission: "get on nodes".to_owned(),
        }
    }

    /// What has changed about one node since this version.
    pub fn node_watch(name: &str, version: &str, seconds: u64) -> Question {
        Question {
            object: format!("watch of node {name}"),
            path: "/api/v1/nodes".to_owned(),
            selector: format!("fieldSelector=metadata.name%3D{name}&"),
            first: watching(version, seconds),
            permission: "watch on nodes".to_owned(),
        }
    }

    /// What a node uses.
    pub fn node_metrics(name: &str) -> Question {
        Question {
            object: format!("metrics of node {name}"),
            path: format!("/apis/metrics.k8s.io/v1beta1/nodes/{name}"),
            selector: String::new(),
            first: String::new(),
            permission: "get on nodes.metrics.k8s.io".to_owned(),
        }
    }

    /// About all DaemonSets, or those of a namespace.
    pub fn daemonsets(namespace: Option<&str>) -> Question {
        Question {
            object: format!("list of DaemonSets{}", inside(namespace)),
            path: format!("/apis/apps/v1{}/daemonsets", below(namespace)),
            selector: String::new(),
            first: FROM_CACHE.to_owned(),
            permission: format!("list on daemonsets.apps{}", scope(namespace)),
        }
    }

    /// About one DaemonSet, as a list of one or none: the role then needs no further verb. Not from
    /// the cache, which may not have heard of it yet; of the store it is a look at a single key.
    pub fn daemonset(namespace: &str, name: &str) -> Question {
        Question {
            object: format!("DaemonSet {namespace}/{name}"),
            path: format!("/apis/apps/v1/namespaces/{}/daemonsets", escaped(namespace)),
            selector: format!("fieldSelector=metadata.name%3D{}&", escaped(name)),
            first: FURTHER.to_owned(),
            permission: format!("list on daemonsets.apps in namespace {namespace}"),
        }
    }

    /// About the pods on a node, or those of a namespace on it.
    pub fn pods(namespace: Option<&str>, node: &str) -> Question {
        Question {
            object: format!("list of pods on node {node}{}", inside(namespace)),
            path: format!("/api/v1{}/pods", below(namespace)),
            selector: format!("fieldSelector=spec.nodeName%3D{node}&"),
            first: FROM_CACHE.to_owned(),
            permission: format!("list on pods{}", scope(namespace)),
        }
    }

    /// What has changed about these pods since this version.
    pub fn pods_watch(
        namespace: Option<&str>,
        node: &str,
        version: &str,
        seconds: u64,
    ) -> Question {
        Question {
            object: format!("watch of pods on node {node}{}", inside(namespace)),
            first: watching(version, seconds),
            permission: format!("watch on pods{}", scope(namespace)),
            ..Question::pods(namespace, node)
        }
    }

    /// Path and query of the question, of its first page.
    pub fn first(&self) -> String {
        self.with(&self.first)
    }

    /// The same with the source of the answer. It has no limit, because with one older servers take the version
    /// for the exact one.
    pub fn first_from(&self, from: From) -> String {
        let is_list = self.first != ONE_FROM_CACHE;
        match (from, is_list) {
            (From::Cache, _) => self.first(),
            (From::NotOlderThan(version), true) => self.with(&format!(
                "resourceVersion={}&resourceVersionMatch=NotOlderThan",
                escaped(version)
            )),
            (From::NotOlderThan(version), false) => {
                self.with(&format!("resourceVersion={}", escaped(version)))
            }
            (From::Store, true) => self.with(FURTHER),
            (From::Store, false) => self.with(""),
        }
    }

    fn with(&self, rest: &str) -> String {
        let Question { path, selector, .. } = self;
        if rest.is_empty() { path.clone() } else { format!("{path}?{selector}{rest}") }
    }

    /// Path and query of the page after the one that ended with this token.
    pub fn next(&self, token: &str) -> Result<String, Problem> {
        let Question { object, path, selector, .. } = self;
        if token.len() > LONGEST_CONTINUE {
            return Err(Problem::new(format!(
                "{object}: a continue token of {} bytes",
                token.len()
            )));
        }
        Ok(format!("{path}?{selector}{FURTHER}&continue={}", escaped(token)))
    }

    /// Why no answer came.
    pub fn unanswered(&self, server: &Server, failure: &HttpError) -> Problem {
        let file = match failure {
            HttpError::Tls(_) => {
                format!(" (verified against CA file {})", server.ca_file.display())
            }
            _ => String::new(),
        };
        Problem::new(format!(
            "{}: no answer of the API at {}: {failure}{file}",
            self.object, server.url
        ))
    }

    /// Why the answer is none.
    pub fn refused(&self, server: &Server, status: u16) -> Problem {
        let is_one = self.path.starts_with("/api/v1/nodes/");
        let why = match (status, &server.token_file) {
            (401, Some(file)) => format!("401, the token in {} is not accepted", file.display()),
            (401, None) => "401, a token is asked for (--token-file)".to_owned(),
            (403, _) => format!("403, the role must allow {}", self.permission),
            (404, _) if is_one => "404, there is none of that name".to_owned(),
            (404, _) => format!("404, the API at {} has no {}", server.url, self.path),
            (410, _) => "410, gone".to_owned(),
            (429, _) => "429, the API asks for fewer requests".to_owned(),
            (300..=399, _) => format!("{status}, a redirect, which is not followed"),
            (500..=599, _) => format!("{status}, the API failed"),
            _ => format!("{status}, no answer of an API"),
        };
        Problem::new(format!("{}: {why}", self.object))
    }
}

/// Bookmarks tell up to which version nothing has changed; without them every pause that is longer
/// than the server's memory would end in a list.
fn watching(version: &str, seconds: u64) -> String {
    format!(
        "watch=1&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={seconds}",
        escaped(version)
    )
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

fn inside(namespace: Option<&str>) -> String {
    namespace.map(|name| format!(" in namespace {name}")).unwrap_or_default()
}

fn scope(namespace: Option<&str>) -> String {
    namespace
        .map_or_else(|| " in all namespaces".to_owned(), |name| format!(" in namespace {name}"))
}

fn below(namespace: Option<&str>) -> String {
    namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (question, first, next) in [
            (Question::node("n-1.example"), "/api/v1/nodes/n-1.example?resourceVersion=0", None),
            (
                Question::node_watch("n-1.example", "7", 60),
                "/api/v1/nodes?fieldSelector=metadata.name%3Dn-1.example&watch=1&allowWatchBookmarks=true&resourceVersion=7&timeoutSeconds=60",
                None,
            ),
            (Question::node_metrics("n"), "/apis/metrics.k8s.io/v1beta1/nodes/n", None),
            (
                Question::daemonset("a/b", "c&d"),
                "/apis/apps/v1/namespaces/a%2Fb/daemonsets?fieldSelector=metadata.name%3Dc%26d&limit=500",
                None,
            ),
            (
                Question::pods_watch(Some("x"), "n", "1&2", 900),
                "/api/v1/namespaces/x/pods?fieldSelector=spec.nodeName%3Dn&watch=1&allowWatchBookmarks=true&resourceVersion=1%262&timeoutSeconds=900",
                None,
            ),
            (
                Question::daemonsets(None),
                "/apis/apps/v1/daemonsets?resourceVersion=0&limit=500",
                Some("/apis/apps/v1/daemonsets?limit=500&continue=a%2Fb%2B%3D"),
            ),
            (
                Question::daemonsets(Some("x")),
                "/apis/apps/v1/namespaces/x/daemonsets?resourceVersion=0&limit=500",
                Some("/apis/apps/v1/namespaces/x/daemonsets?limit=500&continue=a%2Fb%2B%3D"),
            ),
            (
                Question::pods(None, "n"),
                "/api/v1/pods?fieldSelector=spec.nodeName%3Dn&resourceVersion=0&limit=500",
                Some("/api/v1/pods?fieldSelector=spec.nodeName%3Dn&limit=500&continue=a%2Fb%2B%3D"),
            ),
            (
                Question::pods(Some("x"), "n"),
                "/api/v1/namespaces/x/pods?fieldSelector=spec.nodeName%3Dn&resourceVersion=0&limit=500",
                Some(
                    "/api/v1/namespaces/x/pods?fieldSelector=spec.nodeName%3Dn&limit=500&continue=a%2Fb%2B%3D",
                ),
            ),
        ] {
            assert_eq!(question.first(), first);
            if let Some(next) = next {
                assert_eq!(question.next("a/b+=").as_deref(), Ok(next));
            }
        }
    }

    #[test]
    fn where_an_answer_comes_from() {
        let (node, pods, all) =
            (Question::node("n"), Question::pods(None, "n"), Question::daemonsets(Some("x")));
        let selector = "/api/v1/pods?fieldSelector=spec.nodeName%3Dn&";
        let all_of_x = "/apis/apps/v1/namespaces/x/daemonsets?";
        for (question, from, expected) in [
            (&node, From::Cache, "/api/v1/nodes/n?resourceVersion=0".to_owned()),
            (&node, From::NotOlderThan("7"), "/api/v1/nodes/n?resourceVersion=7".to_owned()),
            (&node, From::Store, "/api/v1/nodes/n".to_owned()),
            (&pods, From::Cache, format!("{selector}resourceVersion=0&limit=500")),
            (
                &pods,
                From::NotOlderThan("7"),
                format!("{selector}resourceVersion=7&resourceVersionMatch=NotOlderThan"),
            ),
            (&pods, From::Store, format!("{selector}limit=500")),
            (&all, From::Cache, format!("{all_of_x}resourceVersion=0&limit=500")),
            (
                &all,
                From::NotOlderThan("7"),
                format!("{all_of_x}resourceVersion=7&resourceVersionMatch=NotOlderThan"),
            ),
            (&all, From::Store, format!("{all_of_x}limit=500")),
        ] {
            assert_eq!(question.first_from(from), expected);
        }
    }

    #[test]
    fn a_continue_token_is_bounded() {
        assert!(Question::daemonsets(None).next(&"x".repeat(4096)).is_ok());
        let problem = Question::daemonsets(None).next(&"x".repeat(4097)).unwrap_err();
        assert_eq!(problem.whole(), "list of DaemonSets: a continue token of 4097 bytes");
    }
}
