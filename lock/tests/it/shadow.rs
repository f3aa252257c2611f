//! Shadow mode on the real binary: no client waits, and answers, log and metrics show which starts
//! would have waited.

use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};

use testkit::application::Application;
use testkit::http::Request;
use testkit::program::{Program, Running, field};
use testkit::scratch::Scratch;
use testkit::{CEILING, eventually};

use crate::support::program;

fn lock(arguments: &[&str]) -> Running {
    program(arguments).args(["--mode=shadow"]).start()
}

#[test]
fn each_request_is_granted_at_once_with_its_outcome_in_the_model() {
    let mut lock = lock(&["--locks=1", "--node=here"]);
    let begin = Instant::now();
    let prefix = "shadow mode: not enforced; this request would";
    for (target, expected) in [
        ("/?holder=a&duration=1m", format!("for 1m\n{prefix} not have waited\n")),
        (
            "/?holder=b&wait=30",
            format!(
                "for 10s\n{prefix} have waited at position 1 in the queue: all slots are taken\n"
            ),
        ),
        (
            "/",
            format!(
                "for 10s\n{prefix} have waited at position 2 in the queue: all slots are taken\n"
            ),
        ),
        ("/?duration=0", format!("{prefix} have been refused: all slots are taken\n")),
        (
            "/?node=there",
            format!(
                "{prefix} have been refused: this lock serves node here, the request comes from node there\n"
            ),
        ),
    ] {
        let reply = lock.get(target);
        assert_eq!((reply.status, reply.header("psl-mode")), (200, Some("shadow")), "{target}");
        assert_eq!(reply.body, format!("Lock acquired\n{expected}"), "{target}");
    }
    assert!(begin.elapsed() < CEILING / 4, "no request was parked");
    let json = Request::get("/?holder=c")
        .header("Accept", "application/json")
        .send(lock.addr(), CEILING)
        .unwrap()
        .json();
    assert_eq!(
        (&json["granted"], &json["expires_in_seconds"]),
        (&true.into(), &10.0.into()),
        "{json}"
    );
    assert!(json["reason"].as_str().unwrap().contains("at position 3 in the queue"), "{json}");
    assert_eq!(
        lock.get("/?duration=x").status,
        400,
        "an invalid request is no request for a lease"
    );

    let state = lock.get("/state").json();
    assert_eq!(
        (&state["mode"], &state["slots"], &state["slots_in_use"]),
        (&"shadow".into(), &1.into(), &1.into())
    );
    let line: Vec<_> =
        state["queue"].as_array().unwrap().iter().map(|place| place["holder"].as_str()).collect();
    assert_eq!(line, [Some("b"), None, Some("c")], "{state}");
    assert!(state["queue"][0]["held"] == false && state["leases"][0]["holder"] == "a", "{state}");

    let metrics = lock.get("/metrics");
    for (name, value) in [
        ("psl_lock_shadow", 1.0),
        ("psl_lock_requests_total{result=\"granted\"}", 4.0),
        ("psl_lock_requests_total{result=\"busy\"}", 0.0),
        ("psl_lock_slots_in_use", 1.0),
        ("psl_lock_queue_length", 3.0),
        ("psl_shadow_requests_total{result=\"granted\"}", 1.0),
        ("psl_shadow_requests_total{result=\"busy\"}", 3.0),
        ("psl_shadow_requests_total{result=\"misdirected\"}", 1.0),
        ("psl_shadow_wait_seconds_count", 1.0),
    ] {
        assert_eq!(metrics.sample(name), value, "{name}");
    }
    let line = lock.wait_for(|line| field(line, "holder").as_deref() == Some("b"), CEILING);
    assert_eq!(
        ["level", "msg", "would_wait"].map(|key| field(&line, key).unwrap()),
        ["info", "shadow: lock acquired", "all slots are taken"]
    );
}

#[test]
fn a_start_that_ends_by_its_port_makes_room_for_the_next() {
    let mut lock = lock(&["--locks=1", "--ready-period=50ms"]);
    // All three start now, and are ready after half a second, side by side.
    let addresses = [1, 2, 3].map(|n| IpAddr::from(Ipv4Addr::new(127, 0, 8, n)));
    let applications = addresses.map(Application::starting);
    let begin = Instant::now();
    for (n, (address, application)) in addresses.iter().zip(&applications).enumerate() {
        let target = format!("/?holder=app-{n}&duration=1m&ready={}", application.ready());
        assert_eq!(
            Request::get(&target).from(address).send(lock.addr(), CEILING).unwrap().status,
            200
        );
    }
    let pause = Duration::from_millis(1500).saturating_sub(begin.elapsed());
    thread::sleep(pause);
    let _open = applications.map(Application::open);
    let mut waited = Vec::new();
    for n in 1..3 {
        let name = format!("app-{n}");
        let line = lock.wait_for(
            |line| {
                line.contains("shadow: start would begin now")
                    && field(line, "holder").as_deref() == Some(&name)
            },
            CEILING,
        );
        let text = field(&line, "would_have_waited").unwrap();
        waited.push(
            text.trim_end_matches('s').parse::<f64>().unwrap_or_else(|e| panic!("{line}: {e}")),
        );
    }
    assert!(waited[0] >= 1.4 && waited[1] >= 2.8, "1.5 s each, one after the other: {waited:?}");
    assert!(waited[1] < 10.0, "{waited:?}");
    let metrics = eventually("three leases of the model that are over", CEILING, || {
        Some(lock.get("/metrics")).filter(|metrics| metrics.sample("psl_lock_slots_in_use") == 0.0)
    });
    assert_eq!(metrics.sample("psl_lock_ended_total{how=\"ready\"}"), 3.0);
    assert_eq!(metrics.sample("psl_shadow_wait_seconds_count"), 3.0);
    let sum = metrics.sample("psl_shadow_wait_seconds_sum");
    assert!((sum - waited.iter().sum::<f64>()).abs() < 0.01, "{sum} of {waited:?}");
}

#[test]
fn closed_checks_end_all_waits() {
    let mut lock = lock(&["--check=tcp://127.0.0.1:1", "--failHc=1h"]);
    lock.wait_for_text("check failed", CEILING);
    let reply = lock.get("/?holder=a&wait=30");
    assert_eq!(reply.status, 200);
    assert!(
        reply.body.contains("waiting for tcp://127.0.0.1:1: connection refused"),
        "{}",
        reply.body
    );
    let metrics = lock.get("/metrics");
    assert_eq!(metrics.sample("psl_shadow_requests_total{result=\"gate_closed\"}"), 1.0);
    assert_eq!(metrics.sample("psl_gate_open"), 0.0);
}

#[test]
fn the_model_does_not_survive_a_restart() {
    let directory = Scratch::new();
    let file = directory.join("state");
    let state_file = format!("--state-file={}", file.display());
    let enforce = || {
        Program::new(env!("CARGO_BIN_EXE_lock"))
            .args(["--host=127.0.0.1", "--port=0", &state_file])
            .start()
    };
    let mut first = enforce();
    assert_eq!(first.get("/?holder=real&duration=10m").status, 200);
    first.signal("TERM");
    first.wait(CEILING).expect_code(0);
    let before = std::fs::read(&file).unwrap();

    let mut shadow = lock(&["--locks=1", &state_file]);
    for n in 0..20 {
        assert_eq!(shadow.get(&format!("/?holder={n}&duration=10m")).status, 200);
    }
    let queue = shadow.get("/state").json()["queue_length"].clone();
    assert_eq!(queue, 19, "the model does not begin with the leases of enforce mode");
    shadow.signal("TERM");
    shadow.wait(CEILING).expect_code(0);
    assert_eq!(std::fs::read(&file).unwrap(), before, "and does not write the state file");

    let mut last = enforce();
    let state = last.get("/state").json();
    assert_eq!((&state["slots_in_use"], &state["queue_length"]), (&1.into(), &0.into()), "{state}");
    assert_eq!(last.get("/?holder=real").status, 200);
}

#[test]
fn init_understands_the_answers() {
    let init = Program::static_dir().map(|directory| directory.join("init"));
    let Some(init) = init else {
        return testkit::skip("init with a lock in shadow mode: PSL_TEST_BIN_DIR is not set");
    };
    let mut lock = lock(&["--locks=1"]);
    assert_eq!(lock.get("/?duration=10m").status, 200);
    let port = lock.port().to_string();
    let finished = Program::at(init)
        .args(["--host=127.0.0.1", "--port", &port, "--holder=pod"])
        .run(CEILING)
        .expect_code(0);
    assert!(finished.stderr.contains("lock acquired"), "{finished}");
}
