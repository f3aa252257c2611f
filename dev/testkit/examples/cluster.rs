//! A recorded Kubernetes API server whose last DaemonSet becomes ready after a while.
//!
//! `cluster ANSWERS SECONDS` prints its base URL and serves the recorded answers of that file,
//! without a token, until its standard input ends.

#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a tool of the demonstration")]

use std::io::Read as _;
use std::time::Duration;

use testkit::api::{Api, pods_ready};

const PODS: &str = "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-a";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let answers = arguments.next().expect("the folder of the recorded answers");
    let seconds = arguments
        .next()
        .and_then(|s| s.parse().ok())
        .expect("whole seconds until the DaemonSet turns ready");
    let api = Api::start(answers);
    api.open(true);
    println!("{}", api.url());
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(seconds));
        api.edit(PODS, |pods| {
            pods_ready(pods, "node-exporter", true);
        });
        std::thread::park();
    });
    // The end of standard input, or an error of it, is the end of the demonstration.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
