//! The two bounds, and what happens there.

use std::time::Duration;

use testkit::program::{Finished, field};
use testkit::scripted::{Behaviour, Server, blackhole};

use crate::{CEILING, bare, init_at};

/// The last line says which bound, and the exit code what that means; not before `least` has passed.
#[track_caller]
fn ends_at(finished: Finished, bound: &str, code: i32, reason: &str, least: Duration) {
    let finished = finished.expect_code(code);
    let (level, msg) = match code {
        0 => ("warn", "starting without the lock"),
        _ => ("error", "gave up waiting for the lock"),
    };
    let last = finished.lines().pop().unwrap();
    for (key, expected) in [("level", level), ("msg", msg), ("bound", bound)] {
        assert_eq!(field(&last, key).as_deref(), Some(expected), "{finished}");
    }
    assert!(field(&last, "reason").is_some_and(|r| r.contains(reason)), "{finished}");
    assert!(finished.took >= least, "{finished}");
    let waited = psl::duration::parse(&field(&last, "waited").unwrap()).unwrap();
    // Rounded down to the millisecond.
    assert!(waited + Duration::from_millis(1) >= least && waited <= finished.took, "{finished}");
}

const HALF: Duration = Duration::from_millis(500);

#[test]
fn either_bound_starts_or_fails() {
    let server = Server::start(Behaviour::Refuse);
    for (flag, on_timeout, code) in [
        ("--max-wait", None, 0),
        ("--max-wait", Some("start"), 0),
        ("--max-wait", Some("fail"), 1),
        ("--unreachable-wait", None, 0),
        ("--unreachable-wait", Some("fail"), 1),
    ] {
        let on_timeout = on_timeout.map(|what| format!("--on-timeout={what}"));
        let program = init_at(&server).args([flag, "500ms"]).args(on_timeout);
        ends_at(program.run(CEILING), flag, code, "connection refused", HALF);
    }
}

#[test]
fn a_lock_that_says_no_is_not_unreachable() {
    for status in [423, 400, 421] {
        let server = Server::start(Behaviour::status(status, "no"));
        let program = init_at(&server).args(["--unreachable-wait=700ms", "--max-wait=2s"]);
        ends_at(program.run(CEILING), "--max-wait", 0, &status.to_string(), Duration::from_secs(2));
    }
}

#[test]
fn what_is_no_lock_is_unreachable() {
    for behaviour in [
        Behaviour::status(503, "no"),
        Behaviour::status(404, "no"),
        Behaviour::status(405, "no"),
        Behaviour::status(302, "no"),
        Behaviour::Garbage,
        Behaviour::Truncated200,
    ] {
        let server = Server::start(behaviour);
        let program = init_at(&server).args(["--unreachable-wait=500ms", "--max-wait=1h", "--on-timeout=fail"]);
        ends_at(program.run(CEILING), "--unreachable-wait", 1, "", HALF);
    }
}

#[test]
fn a_bound_cuts_an_attempt_short() {
    let server = Server::start(Behaviour::Silent);
    let (address, _hole) = blackhole();
    for (port, reason) in [
        (server.port(), "connected, but no whole answer in time"),
        (address.port(), "no lock is ready on this node yet"),
    ] {
        for flag in ["--max-wait", "--unreachable-wait"] {
            let program =
                bare().args(["--host=127.0.0.1", "--attempt-timeout=1h", flag, "500ms", "--port", &port.to_string()]);
            ends_at(program.run(CEILING), flag, 0, reason, HALF);
        }
    }
}

#[test]
fn a_bound_cuts_a_pause_short() {
    let held = Behaviour::status_with(423, "Locked", &[("Retry-After", "25")]);
    let server = Server::start(held);
    ends_at(init_at(&server).arg("--max-wait=1s").run(CEILING), "--max-wait", 0, "423 Locked", Duration::from_secs(1));
    let program =
        bare().args(["--host=127.0.0.1", "--pause=1h", "--max-wait=1s", "--port", &server.port().to_string()]);
    ends_at(program.run(CEILING), "--max-wait", 0, "423 Locked", Duration::from_secs(1));
}

#[test]
fn the_longest_durations_are_no_panic() {
    let longest = u64::MAX.to_string();
    let server = Server::start(Behaviour::ok("Lock acquired"));
    let all = ["--duration", "--attempt-timeout", "--wait", "--max-wait", "--unreachable-wait", "--pause"];
    let program =
        bare().args(["--port", &server.port().to_string()]).args(all.iter().flat_map(|flag| [*flag, &longest]));
    program.run(CEILING).expect_code(0);
    let query = server.requests()[0].query();
    for name in ["duration", "wait"] {
        assert!(query.contains(&(name.to_owned(), longest.clone())), "{query:?}");
    }

    server.set(Behaviour::status(423, "Locked"));
    let mut running = program.start();
    running.wait_for_text("423 Locked", CEILING);
    running.signal("TERM");
    running.wait(CEILING).expect_code(143);
}

#[test]
fn the_shortest_durations_are_no_panic() {
    let server = Server::start(Behaviour::Silent);
    let all = [
        "--duration=1ns",
        "--attempt-timeout=1ns",
        "--wait=1ns",
        "--max-wait=100ms",
        "--unreachable-wait=1h",
        "--pause=100ms",
    ];
    let finished = bare().args(["--port", &server.port().to_string()]).args(all).run(CEILING).expect_code(0);
    assert!(finished.stderr.contains("starting without the lock"), "{finished}");
}
