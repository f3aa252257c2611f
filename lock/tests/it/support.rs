//! Programs, requests and readings that the tests share.

use std::net::SocketAddr;

use serde_json::Value;
use testkit::CEILING;
use testkit::http::{Reply, Request, get};
use testkit::program::Program;

/// The binary on a free port of the loopback.
pub fn program(arguments: &[&str]) -> Program {
    Program::new(env!("CARGO_BIN_EXE_lock")).args(["--host=127.0.0.1", "--port=0"]).args(arguments)
}

#[track_caller]
pub fn get_from(from: &str, address: SocketAddr, target: &str) -> Reply {
    Request::get(target).from(from).send(address, CEILING).expect("an answer")
}

pub fn state(address: SocketAddr) -> Value {
    get(address, "/state").json()
}

/// The holders of a list of `/state`.
pub fn holders(entries: &Value) -> Vec<String> {
    let entries = entries.as_array().expect("a list").iter();
    entries.map(|entry| entry["holder"].as_str().expect("a name").to_owned()).collect()
}
