//! The binary against an API server that replays recorded answers over TLS and fails on demand.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed step is a failed test, and tests of real processes wait on the real clock"
)]

mod credentials;
mod documents;
mod failures;
mod filters;
mod heavy;
mod hostile;
mod large;
mod lists;
mod scale;
mod schedule;
mod settings;
mod verdicts;
mod watches;

use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::api::{Api, TOKEN};
use testkit::http::{Reply, Request};
use testkit::program::{Program, Running};
use testkit::scratch::Scratch;
use testkit::tls::Authority;
use testkit::{CEILING, eventually};

const NODE: &str = "/api/v1/nodes/node-a";
const DAEMONSETS: &str = "/apis/apps/v1/daemonsets";
const PODS: &str = "/api/v1/pods";

/// An API server with its own CA, and the files of a service account.
struct Cluster {
    api: Api,
    authority: Authority,
    files: Scratch,
}

impl Cluster {
    fn new() -> Cluster {
        let authority = Authority::new();
        let api = Api::start_tls(answers(), &authority.issue(&["127.0.0.1", "::1", "localhost"]));
        let files = Scratch::new();
        files.file("token", TOKEN);
        Cluster { api, authority, files }
    }

    fn token_file(&self) -> PathBuf {
        self.files.join("token")
    }

    /// health for node-a with the shortest periods: it repeats requests within a second or two.
    fn health(&self) -> Program {
        self.health_of("node-a", &self.api.url())
    }

    fn health_of(&self, node: &str, url: &str) -> Program {
        self.point(
            bare_health().args(["--failHc=100ms", "--passHc=100ms", "--node-name", node]),
            url,
        )
    }

    /// Sets the address of the API server and the files of the service account.
    fn point(&self, program: Program, url: &str) -> Program {
        with_api(program, url, self.authority.file(), &self.token_file())
    }

    /// Makes node-a healthy: the pod of node-exporter is the only one that is not ready.
    fn heal(&self) {
        self.node_exporter(true);
    }

    /// Sets the readiness of node-exporter's pod on node-a.
    fn node_exporter(&self, ready: bool) {
        self.api.edit(&pods_of("node-a"), |list| {
            assert_eq!(testkit::api::pods_ready(list, "node-exporter", ready), 1);
        });
    }
}

fn with_api(program: Program, url: &str, ca: &Path, token: &Path) -> Program {
    let program = program.args(["--baseUrl", url]).arg("--ca-file").arg(ca);
    program.arg("--token-file").arg(token)
}

/// health on a free port of the loopback.
fn bare_health() -> Program {
    Program::new(env!("CARGO_BIN_EXE_health")).args(["--host=127.0.0.1", "--port=0"])
}

/// The folder of recorded data.
fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn answers() -> PathBuf {
    data().join("answers")
}

fn pods_of(node: &str) -> String {
    format!("{PODS}?fieldSelector=spec.nodeName%3D{node}")
}

fn remove(list: &mut serde_json::Value, name: &str) {
    let items = list["items"].as_array_mut().unwrap();
    let before = items.len();
    items.retain(|item| item["metadata"]["name"] != name);
    assert_eq!(items.len(), before - 1, "{name}");
}

fn get(health: &mut Running, path: &str) -> Reply {
    Request::get(path)
        .send(health.addr(), CEILING)
        .unwrap_or_else(|e| panic!("{path}: {e}\n{health}"))
}

fn state(health: &mut Running) -> serde_json::Value {
    get(health, "/state").json()
}

/// Waits until `GET /` answers this, and returns it.
#[track_caller]
fn wait_for_answer(health: &mut Running, status: u16, part: &str) -> Reply {
    wait_for_answer_within(health, status, part, CEILING)
}

/// An attempt without an answer counts as a wrong answer: other tests may flood the network of this
/// machine, so that packets are lost.
#[track_caller]
fn wait_for_answer_within(
    health: &mut Running,
    status: u16,
    part: &str,
    ceiling: Duration,
) -> Reply {
    let address = health.addr();
    let start = std::time::Instant::now();
    loop {
        let reply = Request::get("/").send(address, CEILING / 4);
        match reply {
            Ok(reply) if reply.status == status && reply.body.contains(part) => return reply,
            other => assert!(
                start.elapsed() < ceiling,
                "no {status} with {part:?}; last {other:?}\n{health}"
            ),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for this many more requests of a path.
fn wait_for_more(api: &Api, path: &str, more: usize) {
    let count = || api.requests().iter().filter(|asked| asked.path == path).count();
    let before = count();
    eventually("more requests", CEILING, || (count() >= before + more).then_some(()));
}
