//! The documents about health: tables row by row, and examples against the real binary.

use health::config::PROGRAM;
use psl::settings::Setting;
use serde_json::Value;
use testkit::api::Api;
use testkit::document::{self, codes, same_rows, shape};
use testkit::http::{Reply, Request};
use testkit::program::{Program, Running};
use testkit::{CEILING, eventually};

const CONFIGURATION: &str = "docs/configuration.md";
const OPERATIONS: &str = "docs/operations.md";
const PROTOCOL: &str = "docs/protocol.md";

#[test]
fn settings() {
    let expected: Vec<_> = PROGRAM.listed().map(Setting::markdown).collect();
    same_rows(CONFIGURATION, "## Settings of health", "|", &expected);
}

#[test]
fn exit_codes() {
    let row = |(code, meaning): &(u8, &str)| format!("| health | {code} | {meaning} |");
    let expected: Vec<_> = PROGRAM.exit_codes.iter().map(row).collect();
    same_rows(CONFIGURATION, "## Exit codes", "| health |", &expected);
}

/// health for node-a of the recorded cluster, as in the examples, after its first verdict.
fn judged() -> (Running, Api) {
    let api = Api::start(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/answers"));
    api.open(true);
    let program = Program::new(env!("CARGO_BIN_EXE_health")).args([
        "--host=127.0.0.1",
        "--port=0",
        "--node-name=node-a",
    ]);
    let mut health = program.args(["--ex=app:gpu-plugin", "--baseUrl", &api.url()]).start();
    eventually("a verdict", CEILING, || {
        (get(&mut health, "/state").json()["counts"] != Value::Null).then_some(())
    });
    (health, api)
}

fn get(health: &mut Running, path: &str) -> Reply {
    Request::get(path)
        .send(health.addr(), CEILING)
        .unwrap_or_else(|e| panic!("{path}: {e}\n{health}"))
}

#[test]
fn metrics() {
    let (mut health, _api) = judged();
    let metrics = get(&mut health, "/metrics");
    same_rows(OPERATIONS, "## Metrics", "| health |", &document::metrics("health", &metrics.body));
}

#[test]
fn examples() {
    let (mut health, _api) = judged();
    let examples = codes(PROTOCOL, "### Asking health by hand");
    let [session, state_example] = &examples[..] else { panic!("two examples: {examples:?}") };
    let (_, answer) = session.split_once('\n').expect("an answer");
    assert_eq!(answer, get(&mut health, "/").body.trim_end());
    let state = get(&mut health, "/state").json();
    let shown: Value = serde_json::from_str(state_example).unwrap();
    assert_eq!(shape(&shown), shape(&state), "{state}");
}
