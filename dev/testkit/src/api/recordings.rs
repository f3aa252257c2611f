//! The recorded answers, and which of them fits a request. Does not know the changes of tests.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Role;
use crate::http::split_target;
use crate::transcript::{blocks, parts};

pub(super) type Query = Vec<(String, String)>;

/// A request and the answer of a real server.
pub(super) struct Recording {
    pub(super) name: String,
    /// The account that sent the request, as the transcript names it.
    pub(super) account: String,
    path: String,
    query: Query,
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Recording {
    fn parse(name: &str, block: &str) -> Recording {
        let [request, head, body] = parts(block);
        let target = request.split_whitespace().nth(1).expect("GET and a target");
        let account = request.lines().find_map(|line| line.strip_prefix("token: "));
        let (path, query) = split_target(target);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        Recording {
            name: name.to_string(),
            account: account.expect("an account").to_string(),
            path,
            query,
            status: status.expect("a status"),
            headers: headers.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            body: body.to_string(),
        }
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// The recordings of one transcript.
pub(super) struct Recordings {
    file: PathBuf,
    pub(super) all: Vec<Recording>,
}

impl Recordings {
    pub(super) fn read(file: &Path) -> Recordings {
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| {
            panic!("cannot read the recorded answers in {}: {error}", file.display())
        });
        let all: Vec<_> =
            blocks(&text).map(|(name, block)| Recording::parse(name, block)).collect();
        assert!(!all.is_empty(), "no recorded answers in {}", file.display());
        Recordings { file: file.to_path_buf(), all }
    }

    #[track_caller]
    pub(super) fn get(&self, name: &str) -> &Recording {
        let found = self.all.iter().find(|recording| recording.name == name);
        found.unwrap_or_else(|| panic!("no recording {name} in {}", self.file.display()))
    }

    /// The recorded page for this token, or the page for the same item in another version.
    pub(super) fn page(&self, path: &str, token: &str) -> Option<&Recording> {
        let pages = || {
            let pages = self.all.iter().filter(|recording| recording.path == path);
            pages.filter_map(|page| Some((page, value(&page.query, "continue")?)))
        };
        if let Some((page, _)) = pages().find(|(_, of)| *of == token) {
            return Some(page);
        }
        // A token is base64 of `{"v":"meta.k8s.io/v1","rv":316,"start":…}`: a version of three
        // digits is the characters 36 to 39.
        let rest = token.get(40..)?;
        let mut good = pages().filter(|(page, _)| page.status == 200);
        good.find(|(_, of)| of.get(40..) == Some(rest)).map(|(page, _)| page)
    }

    /// The recording with the same path and query, in any order. Parameters that only bound a list
    /// may differ.
    pub(super) fn fitting(&self, role: Role, path: &str, query: &Query) -> Option<&Recording> {
        let wanted = essential(query);
        let allowed = |recording: &Recording| match role {
            // A wider role also gets the answers that were recorded for the narrower one.
            Role::Wide | Role::WithoutWatch => {
                recording.account == "health"
                    || (recording.account == "health-ns" && recording.status == 200)
            }
            Role::Narrow => recording.account == "health-ns",
        };
        let candidates = self.all.iter().filter(|recording| {
            recording.path == path && allowed(recording) && essential(&recording.query) == wanted
        });
        candidates.max_by_key(|recording| {
            let bounds = recording.query.iter().filter(|(key, _)| is_bound(key));
            // A real server ignores the limit if the version is 0, so a version weighs more.
            let weight = |pair: &(String, String)| match (query.contains(pair), pair.0.as_str()) {
                (true, "resourceVersion") => 2,
                (true, _) => 1,
                (false, _) => -1,
            };
            (bounds.map(weight).sum::<i32>(), recording.status == 200)
        })
    }
}

pub(super) fn value<'a>(query: &'a Query, key: &str) -> Option<&'a str> {
    query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// Whether a parameter bounds a list and does not select its items.
fn is_bound(key: &str) -> bool {
    ["limit", "resourceVersion", "resourceVersionMatch", "timeoutSeconds"].contains(&key)
}

fn essential(query: &Query) -> Query {
    let mut pairs: Query = query.iter().filter(|(key, _)| !is_bound(key)).cloned().collect();
    pairs.sort();
    pairs
}
