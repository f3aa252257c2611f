//! The two bounds and their effects.

use std::time::Duration;

use testkit::program::{Finished, Program, field};
use testkit::scripted::{Behaviour, Seen, Server, blackhole};

use crate::{CEILING, bare, init_at};

/// Asserts the exit code and the last line, which names the bound. The wait lasts at least `least`.
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
fn a_lock_that_refuses_is_not_unreachable() {
    for status in [423, 400, 421] {
        let server = Server::start(Behaviour::status(status, "no"));
        let program = init_at(&server).args(["--unreachable-wait=700ms", "--max-wait=2s"]);
        ends_at(program.run(CEILING), "--max-wait", 0, &status.to_string(), Duration::from_secs(2));
    }
}

#[test]
fn another_server_counts_as_unreachable() {
    for behaviour in [
        Behaviour::status(503, "no"),
        Behaviour::status(404, "no"),
        Behaviour::status(405, "no"),
        Behaviour::status(302, "no"),
        Behaviour::Garbage,
        Behaviour::Truncated200,
    ] {
        let server = Server::start(behaviour);
        let program = init_at(&server).args([
            "--unreachable-wait=500ms",
            "--max-wait=1h",
            "--on-timeout=fail",
        ]);
        ends_at(program.run(CEILING), "--unreachable-wait", 1, "", HALF);
    }
}

#[test]
fn a_bound_cuts_an_attempt_short() {
    let server = Server::start(Behaviour::Silent);
    let (address, _hole) = blackhole();
    for (port, reason) in [
        (server.port(), "response timed out: no complete response in time"),
        (address.port(), "no lock is ready on this node yet"),
    ] {
        for flag in ["--max-wait", "--unreachable-wait"] {
            let program = at(port).args(["--attempt-timeout=1h", "--wait=0", flag, "500ms"]);
            ends_at(program.run(CEILING), flag, 0, reason, HALF);
        }
    }
}

/// With the default pause, timeout and wait.
fn at(port: u16) -> Program {
    bare().args(["--host=127.0.0.1", "--port", &port.to_string()])
}

fn wait_of(seen: &Seen) -> Option<Duration> {
    let wait = seen.query().into_iter().find(|(name, _)| name == "wait")?.1;
    Some(psl::duration::parse(&wait).unwrap())
}

/// A lock that parks each request for the requested time.
fn parking(status: u16, body: &'static str, headers: &'static [(&str, &str)]) -> Behaviour {
    Behaviour::call(move |seen| {
        let answer = Behaviour::status_with(status, body, headers);
        Behaviour::After(wait_of(seen).unwrap_or_default(), Box::new(answer))
    })
}

#[test]
fn a_pause_that_the_lock_asks_for_is_not_silence() {
    let away: &[(&str, &str)] = &[("Retry-After", "28")];
    for (name, behaviour, arguments) in [
        ("423", Behaviour::status_with(423, "no", away), &[][..]),
        ("400", Behaviour::status_with(400, "no", away), &[]),
        ("421", Behaviour::status_with(421, "no", away), &[]),
        ("--pause", Behaviour::status(423, "no"), &["--pause=1h"]),
        ("parked", parking(423, "no", &[("Server", "psl"), ("Retry-After", "1")]), &["--wait=2s"]),
        ("another server asks for a pause", Behaviour::status_with(503, "no", away), &[]),
        ("another server asks for a pause, 429", Behaviour::status_with(429, "no", away), &[]),
    ] {
        let server = Server::start(behaviour);
        let bounds = ["--unreachable-wait=1s", "--max-wait=4s", "--on-timeout=fail"];
        let finished = at(server.port()).args(bounds).args(arguments).run(CEILING);
        eprintln!("{name}");
        ends_at(finished, "--max-wait", 1, "no", Duration::from_secs(4));
    }
}

#[test]
fn a_lock_that_becomes_silent_ends_the_wait() {
    for (name, then, least) in [
        ("refuses", Behaviour::Refuse, HALF),
        ("closes", Behaviour::CloseAtOnce, HALF),
        // A request gets the time for which it may be parked.
        ("silent", Behaviour::Silent, Duration::from_secs(2)),
        ("a proxy without a lock", Behaviour::status(503, "no upstream"), HALF),
    ] {
        let server = Server::start(Behaviour::status_with(423, "no", &[("Retry-After", "2")]));
        let bounds = ["--unreachable-wait=500ms", "--max-wait=1h", "--wait=2s", "--pause=100ms"];
        let mut running = at(server.port()).args(bounds).start();
        crate::wait_for_reason(&mut running, "423 no");
        server.set(then);
        eprintln!("{name}");
        // The pause of two seconds after the answer comes first.
        ends_at(running.wait(CEILING), "--unreachable-wait", 0, "", Duration::from_secs(2) + least);
    }
}

#[test]
fn no_request_is_parked_past_the_bound() {
    let server =
        Server::start(parking(423, "Locked\nall slots are taken\n", &[("Retry-After", "1")]));
    for wait in ["--wait=10", "--wait=2m", "--wait=2s"] {
        let before = server.requests().len();
        let finished = at(server.port()).args([wait, "--max-wait=3s"]).run(CEILING);
        let took = finished.took;
        ends_at(
            finished,
            "--max-wait",
            0,
            "423 Locked; all slots are taken",
            Duration::from_secs(3),
        );
        let requests = &server.requests()[before..];
        let waits: Vec<_> = requests.iter().map(wait_of).collect();
        eprintln!("{wait}: {waits:?}");
        // The bound is lengthened by a quarter at most.
        assert!(
            waits[0] > Some(Duration::from_secs(1))
                && waits[0] <= Some(Duration::from_millis(3750)),
            "{waits:?}"
        );
        for seen in requests {
            let left = took.saturating_sub(seen.at - requests[0].at);
            assert!(wait_of(seen).unwrap_or_default() <= left, "{left:?} left: {seen:?}");
        }
        let last = waits.last().copied().flatten().unwrap_or_default();
        assert!(
            last < Duration::from_secs(2),
            "the answer of the last request comes before the bound: {waits:?}"
        );
    }
}

#[test]
fn a_very_short_bound_asks_for_immediate_answers() {
    let server = Server::start(parking(423, "Locked", &[("Server", "psl")]));
    let finished = at(server.port()).args(["--wait=30", "--max-wait=500ms"]).run(CEILING);
    ends_at(finished, "--max-wait", 0, "423 Locked", HALF);
    let requests = server.requests();
    assert!(
        requests.iter().filter(|seen| seen.method == "GET").all(|seen| wait_of(seen).is_none()),
        "{requests:?}"
    );
}

#[test]
fn a_bound_ends_a_pause() {
    let held = Behaviour::status_with(423, "Locked", &[("Retry-After", "25")]);
    let server = Server::start(held);
    ends_at(
        init_at(&server).arg("--max-wait=1s").run(CEILING),
        "--max-wait",
        0,
        "423 Locked",
        Duration::from_secs(1),
    );
    let program = bare().args([
        "--host=127.0.0.1",
        "--pause=1h",
        "--max-wait=1s",
        "--port",
        &server.port().to_string(),
    ]);
    ends_at(program.run(CEILING), "--max-wait", 0, "423 Locked", Duration::from_secs(1));
}

#[test]
fn the_longest_durations_do_not_panic() {
    let longest = u64::MAX.to_string();
    let server = Server::start(Behaviour::ok("Lock acquired"));
    let all = [
        "--duration",
        "--attempt-timeout",
        "--wait",
        "--max-wait",
        "--unreachable-wait",
        "--pause",
    ];
    let program = bare()
        .args(["--port", &server.port().to_string()])
        .args(all.iter().flat_map(|flag| [*flag, &longest]));
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
fn the_shortest_durations_do_not_panic() {
    let server = Server::start(Behaviour::Silent);
    let all = [
        "--duration=1ns",
        "--attempt-timeout=1ns",
        "--wait=1ns",
        "--max-wait=100ms",
        "--unreachable-wait=1h",
        "--pause=100ms",
    ];
    let finished =
        bare().args(["--port", &server.port().to_string()]).args(all).run(CEILING).expect_code(0);
    assert!(finished.stderr.contains("starting without the lock"), "{finished}");
}
