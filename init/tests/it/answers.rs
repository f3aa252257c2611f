//! Answers and errors: each one is logged, and a 200 ends the wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testkit::program::field;
use testkit::scripted::{Behaviour, Server, blackhole};

use crate::{CEILING, init, init_at, wait_for_all, wait_for_reason};

const IN_TIME: &str = "response timed out: no complete response in time";
const CLOSED: &str = "connection closed before the complete response";
const NO_HTTP: &str = "malformed HTTP response";

/// Logs the reason while the trouble lasts, and exits with 0 once the lock grants.
#[track_caller]
fn survives(name: &str, trouble: Behaviour, level: &str, reason: &str) {
    let server = Server::start(trouble);
    let mut running = init_at(&server).start();
    let line = wait_for_reason(&mut running, reason);
    assert_eq!(field(&line, "level").as_deref(), Some(level), "{name}: {line}");
    server.set(Behaviour::ok("Lock acquired"));
    let finished = running.wait(CEILING).expect_code(0);
    assert!(finished.stderr.contains("msg=\"lock acquired\""), "{name}: {finished}");
}

#[test]
fn refused_then_granted() {
    survives("refuses", Behaviour::Refuse, "info", "connection refused");
}

#[test]
fn silence_then_granted() {
    for (name, trouble) in [
        ("accepts and stays silent", Behaviour::Silent),
        ("reads and stays silent", Behaviour::SilentAfterRequest),
        ("a byte a second", Behaviour::Trickle(Duration::from_secs(1))),
        (
            "late",
            Behaviour::After(Duration::from_secs(3), Box::new(Behaviour::ok("Lock acquired"))),
        ),
    ] {
        survives(name, trouble, "info", IN_TIME);
    }
}

#[test]
fn closed_then_granted() {
    for (name, trouble) in [
        ("closes at once", Behaviour::CloseAtOnce),
        ("closes after the request", Behaviour::CloseAfterRequest),
        ("resets", Behaviour::Reset),
        ("resets after the request", Behaviour::ResetAfterRequest),
    ] {
        survives(name, trouble, "info", CLOSED);
    }
}

#[test]
fn garbage_then_granted() {
    for (name, trouble) in [
        ("garbage", Behaviour::Garbage),
        ("a head of 10 MB", Behaviour::HugeHead(10_000_000)),
        ("a header line without end", Behaviour::EndlessHead),
    ] {
        survives(name, trouble, "info", NO_HTTP);
    }
}

#[test]
fn an_incomplete_grant_does_not_count() {
    for (name, trouble, words) in [
        ("cut", Behaviour::Truncated200, "200, but the answer is incomplete: connection closed"),
        (
            "endless",
            Behaviour::EndlessBody,
            "200, but not from a lock: body longer than 65536 bytes",
        ),
        (
            "huge",
            Behaviour::ok(&"x".repeat(100_000)),
            "200, but not from a lock: body longer than 65536 bytes",
        ),
    ] {
        survives(name, trouble, "info", words);
    }
}

#[test]
fn other_statuses_then_granted() {
    for (status, body, level, words) in [
        (423, "Locked", "info", "423 Locked"),
        (423, "Locked\nall 2 slots are in use\n", "info", "423 Locked; all 2 slots are in use"),
        (500, "oh \"no\"", "info", "500 oh \"no\""),
        (503, "", "info", "503"),
        (204, "", "info", "204"),
        (206, "Lock acquired", "info", "206 Lock acquired"),
        (400, "duration: not a duration", "warn", "400 duration: not a duration"),
        (404, "404 page not found", "warn", "404 404 page not found"),
        (405, "", "warn", "405"),
        (
            421,
            "this lock serves node a\u{1b}[31m",
            "warn",
            "421 this lock serves node a\u{fffd}[31m",
        ),
    ] {
        survives(&status.to_string(), Behaviour::status(status, body), level, words);
    }
}

#[test]
fn redirects_are_not_followed() {
    let elsewhere = Server::start(Behaviour::ok("Lock acquired"));
    for status in [301, 302, 303, 307, 308] {
        let trouble = Behaviour::status_with(status, "", &[("Location", &elsewhere.url("/"))]);
        survives(
            "redirect",
            trouble,
            "info",
            &format!("{status}, a redirect, which is not followed"),
        );
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn dropped_packets_then_granted() {
    let (address, hole) = blackhole();
    let mut running =
        init().args(["--host", "127.0.0.1", "--port", &address.port().to_string()]).start();
    let line = wait_for_reason(&mut running, "no lock is ready on this node yet");
    assert_eq!(field(&line, "level").as_deref(), Some("info"));
    assert!(!line.contains("TLS") && !line.contains("https"), "init speaks plain HTTP: {line}");
    drop(hole);
    let _server = Server::start_at(address, Behaviour::ok("Lock acquired"));
    running.wait(CEILING).expect_code(0);
}

#[test]
fn locks_of_1_x_and_2_x_grant_leases() {
    let free = Arc::new(AtomicBool::new(false));
    let lock = Arc::clone(&free);
    // Such a lock ignores the method, the path and unknown parameters.
    let server =
        Server::start(Behaviour::call(move |_| match lock.swap(false, Ordering::SeqCst) {
            true => Behaviour::ok("Lock acquired"),
            false => Behaviour::status(423, "Locked"),
        }));
    let arguments = ["--duration=1m30s", "--ready=http:80/", "--wait=2s", "--node"];
    let start = |node: &str| init_at(&server).args(arguments).arg(node).start();
    let (mut first, mut second) = (start("node-a"), start("b.c"));
    for running in [&mut first, &mut second] {
        wait_for_reason(running, "423 Locked");
    }
    free.store(true, Ordering::SeqCst);
    let ended = testkit::eventually("one of the two starts", CEILING, || {
        first.try_wait().or(second.try_wait())
    });
    assert_eq!(ended, 0);
    let both = |first: Option<i32>, second: Option<i32>| first.is_some() && second.is_some();
    assert!(!both(first.try_wait(), second.try_wait()), "both got the same grant");
    free.store(true, Ordering::SeqCst);
    first.wait(CEILING).expect_code(0);
    second.wait(CEILING).expect_code(0);
    for seen in server.requests() {
        assert_eq!(
            (seen.method.as_str(), seen.path(), seen.body.len()),
            ("GET", "/", 0),
            "{seen:?}"
        );
        // Whole seconds: 1.x reads no other form.
        assert_eq!(seen.query()[0], ("duration".to_owned(), "90".to_owned()), "{seen:?}");
        // Unknown to such a lock, all but the first.
        let names: Vec<_> = seen.query().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["duration", "holder", "ready", "wait", "node"], "{seen:?}");
        assert!(["node-a", "b.c"].contains(&seen.query()[4].1.as_str()), "{seen:?}");
    }
}

#[test]
fn unset_parameters_are_not_sent() {
    let server = Server::start(Behaviour::ok("Lock acquired"));
    for arguments in [&[][..], &["--duration", "0"], &["--duration=0s"]] {
        init_at(&server).args(arguments).run(CEILING).expect_code(0);
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 3, "one attempt each");
    for seen in requests {
        let query = seen.query();
        assert!(seen.path() == "/" && query.len() == 1 && query[0].0 == "holder", "{seen:?}");
        let agent = seen.header("user-agent").unwrap();
        assert!(agent.starts_with("psl-init/"), "{agent}");
    }
}

#[test]
fn retry_after_lengthens_the_pause() {
    let held =
        |retry_after: &str| Behaviour::status_with(423, "Locked", &[("Retry-After", retry_after)]);
    let server =
        Server::start(Behaviour::Sequence(vec![held("2"), Behaviour::ok("Lock acquired")]));
    init_at(&server).run(CEILING).expect_code(0);
    let requests = server.requests();
    let gap = requests[1].at - requests[0].at;
    assert!(gap >= Duration::from_secs(2), "{gap:?}");

    // A `Retry-After` up to the pause counts from the request, so the pause is a little shorter.
    for (value, least, most) in [
        ("3600", 30.0, 36.0),
        ("0", 0.0, 0.12),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0, 0.12),
        ("-1", 0.0, 0.12),
    ] {
        let server = Server::start(held(value));
        let line = wait_for_reason(&mut init_at(&server).start(), "423 Locked");
        let pause = psl::duration::parse(&field(&line, "pause").unwrap()).unwrap().as_secs_f64();
        assert!((least..=most).contains(&pause), "{value}: {line}");
    }
}

#[test]
fn a_known_reason_is_logged_once_and_a_new_one_at_once() {
    let server = Server::start(Behaviour::status(423, "Locked"));
    let mut running = init_at(&server).start();
    server.wait_for_requests(10, CEILING);
    assert_eq!(running.count(|line| line.contains("423 Locked")), 1, "{running}");
    server.set(Behaviour::status(423, "Locked\nthe gate is closed"));
    wait_for_reason(&mut running, "the gate is closed");
    server.set(Behaviour::status(423, "Locked"));
    server.wait_for_requests(server.requests().len() + 5, CEILING);
    assert_eq!(running.count(is_waiting), 2, "a repeated reason is not new\n{running}");
}

fn is_waiting(line: &str) -> bool {
    line.contains("waiting for the lock")
}

#[test]
fn alternating_reasons_are_logged_once_each() {
    let place = |n: usize| {
        format!(
            "Locked\nall slots are taken\nposition {n} in the queue, a slot is expected in {n}s\n"
        )
    };
    let answer = move |n: usize| match n % 3 {
        0 => Behaviour::status(423, &place(n)),
        1 => Behaviour::status(
            423,
            &format!("Locked\nwaiting for http://db:80/: answered 503 after {n}ms\n"),
        ),
        _ => Behaviour::status(503, &format!("no upstream, request 3f{n}a")),
    };
    for kinds in [2, 3] {
        let server = Server::start(Behaviour::Sequence(
            (0..30).map(|n| answer(n / kinds * 3 + n % kinds)).collect(),
        ));
        let running = init_at(&server).start();
        server.wait_for_requests(25, CEILING);
        assert_eq!(running.count(is_waiting), kinds, "{running}");
    }
}

/// The position comes from the lock and the pause from init. A third figure would contradict one of
/// them.
#[test]
fn a_line_does_not_contradict_its_reason() {
    let body = "Locked\nall slots are taken\nposition 1 in the queue, a slot is expected in 14s\n";
    let server = Server::start(Behaviour::status_with(423, body, &[("Retry-After", "1")]));
    let line = wait_for_reason(&mut init_at(&server).start(), "a slot is expected in 14s");
    assert_eq!(field(&line, "expected"), None, "{line}");
    assert!(field(&line, "pause").is_some() && field(&line, "waited").is_some(), "{line}");
}

#[test]
fn each_attempt_is_logged_at_debug() {
    let server = Server::start(Behaviour::status(423, "Locked"));
    let mut running =
        init_at(&server).env("PSL_LOG", "debug").args(["--node", "secret-query"]).start();
    wait_for_all(&mut running, &["level=debug", "423 Locked"]);
    server.wait_for_requests(5, CEILING);
    assert_eq!(
        running.count(|line| line.contains("secret-query") || line.contains('?')),
        0,
        "a query in the log\n{running}"
    );
    let ours = |line: &str| {
        ["asking for the lock", "waiting for the lock"].iter().any(|part| line.contains(part))
    };
    assert_eq!(running.count(|line| !ours(line)), 0, "a line of a library\n{running}");
}

#[test]
fn the_localhost_hint_is_logged_once() {
    let server = Server::start(Behaviour::Refuse);
    let at = |host: &str| init().args(["--host", host, "--port", &server.port().to_string()]);
    let is_hint = |line: &str| line.contains("--host (PSL_LOCK_HOST)");
    let mut running = at("localhost").env("PSL_LOG", "debug").start();
    testkit::eventually("some attempts", CEILING, || {
        (running.count(|line| line.contains("connection refused")) >= 3).then_some(())
    });
    assert_eq!(running.count(is_hint), 1, "{running}");
    // Only a refused connection gets the hint.
    server.set(Behaviour::status(423, "Locked"));
    wait_for_reason(&mut running, "423 Locked");
    server.set(Behaviour::Refuse);
    let refused = running.count(|line| line.contains("connection refused"));
    testkit::eventually("refused again", CEILING, || {
        (running.count(|line| line.contains("connection refused")) > refused + 1).then_some(())
    });
    assert_eq!(running.count(is_hint), 1, "{running}");
}
