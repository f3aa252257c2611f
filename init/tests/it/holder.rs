//! The holder, parked requests, and leaving the queue at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::dns::{answering_dns, with_resolv_conf};
use testkit::program::{Running, field};
use testkit::scripted::{Behaviour, Seen, Server};

use crate::{CEILING, bare, init_at, wait_for_reason};

/// The bound on the end after a signal. Generous, because the machine may be busy.
const AT_ONCE: Duration = Duration::from_secs(1);

const PARKED_FOREVER: &[(&str, &str)] = &[("Server", "psl"), ("Retry-After", "30")];

/// The `Server` header tells that the lock knows holders.
fn ours(status: u16) -> Behaviour {
    Behaviour::status_with(status, "Locked", PARKED_FOREVER)
}

fn deletes(server: &Server) -> Vec<Seen> {
    server.requests().into_iter().filter(|seen| seen.method != "GET").collect()
}

fn query_of(seen: &Seen, name: &str) -> Option<String> {
    seen.query().into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
}

/// Ends the program by a signal and returns the time that took.
#[track_caller]
fn stop(mut running: Running, signal: &str, code: i32) -> Duration {
    let sent = Instant::now();
    running.signal(signal);
    let finished = running.wait(CEILING).expect_code(code);
    let took = sent.elapsed();
    assert!(took < AT_ONCE, "{took:?}\n{finished}");
    took
}

/// Repeats `run` until the server gets a DELETE, and returns the DELETEs. On a busy machine the
/// 40 ms for the DELETE may pass before init sends it.
#[track_caller]
fn until_a_delete_arrives(mut run: impl FnMut() -> Server) -> Vec<Seen> {
    for _ in 0..20 {
        let server = run();
        let deadline = Instant::now() + AT_ONCE;
        while Instant::now() < deadline {
            let deletes_seen = deletes(&server);
            if !deletes_seen.is_empty() {
                return deletes_seen;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    panic!("no delete in 20 runs");
}

#[test]
fn the_default_holder_is_random() {
    let server = Server::start(Behaviour::ok("Lock acquired"));
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for _ in 0..3 {
        let finished = init_at(&server).run(CEILING).expect_code(0);
        let asked =
            finished.lines().into_iter().find(|line| line.contains("asking for the lock")).unwrap();
        let sent = query_of(server.requests().last().unwrap(), "holder");
        assert_eq!(field(&asked, "holder"), sent, "{finished}");
    }
    let mut holders: Vec<_> =
        server.requests().iter().map(|seen| query_of(seen, "holder").unwrap()).collect();
    for holder in &holders {
        let (name, bits) = holder.rsplit_once('.').unwrap();
        assert_eq!(name, host_name.trim(), "{holder}");
        assert!(
            bits.len() == 16 && bits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
            "{holder}"
        );
    }
    holders.sort();
    holders.dedup();
    assert_eq!(holders.len(), 3, "each run has its own holder");
}

#[test]
fn the_holder_stays_the_same_in_all_attempts() {
    let server = Server::start(Behaviour::status(423, "Locked"));
    let running = init_at(&server).start();
    let requests = server.wait_for_requests(5, CEILING);
    drop(running);
    assert!(requests.iter().all(|seen| seen.target == requests[0].target), "{requests:?}");
}

#[test]
fn a_parked_request_gets_its_wait() {
    let held = Duration::from_millis(900);
    let server = Server::start(Behaviour::After(held, Box::new(Behaviour::ok("Lock acquired"))));
    let at = |wait: &str| {
        bare().args([
            "--host=127.0.0.1",
            "--attempt-timeout=300ms",
            "--port",
            &server.port().to_string(),
            "--wait",
            wait,
        ])
    };
    let finished = at("2s").run(CEILING).expect_code(0);
    assert!(finished.took >= held && server.requests().len() == 1, "{finished}");
    // But not more, and no wait if none is set.
    for wait in ["200ms", "0"] {
        let mut running = at(wait).start();
        wait_for_reason(&mut running, "response timed out: no complete response in time");
    }
}

#[test]
fn a_bound_ends_a_parked_request() {
    let server = Server::start(Behaviour::SilentAfterRequest);
    let port = server.port().to_string();
    let program =
        bare().args(["--host=127.0.0.1", "--wait=30", "--max-wait=300ms", "--port", &port]);
    let finished = program.run(CEILING).expect_code(0);
    assert!(finished.took < Duration::from_secs(10), "{finished}");
    assert!(finished.stderr.contains("starting without the lock"), "{finished}");
}

#[test]
fn after_a_parked_request_init_asks_again_at_once() {
    let held = Duration::from_millis(300);
    // After the whole `wait`, `Retry-After` does not delay the next request.
    for (wait, headers) in [
        ("--wait=1s", &[("Server", "psl")][..]),
        ("--wait=250ms", &[("Server", "psl"), ("Retry-After", "30")]),
    ] {
        let locked = Behaviour::status_with(423, "Locked", headers);
        let server = Server::start(Behaviour::After(held, Box::new(locked)));
        let port = server.port().to_string();
        let program = bare().args(["--host=127.0.0.1", wait, "--pause=200ms", "--port", &port]);
        let running = program.env("PSL_LOG", "debug").start();
        let requests = server.wait_for_requests(6, CEILING);
        // The pause was over before the answer came; the clock of the log is the program's own.
        testkit::eventually("five answers", CEILING, || {
            (running.count(is_waiting) >= 5).then_some(())
        });
        let pauses = |line: &str| is_waiting(line) && field(line, "pause").as_deref() != Some("0s");
        assert_eq!(running.count(pauses), 0, "{running}");
        // On a busy machine one gap may be long, but not the shortest of five.
        let gaps = requests.windows(2).map(|pair| pair[1].at - pair[0].at);
        let shortest = gaps.min().unwrap();
        assert!(
            shortest >= held && shortest < held + Duration::from_millis(200),
            "{wait}: {shortest:?}"
        );
    }
}

/// As if the lock restarts.
#[test]
fn a_closed_connection_of_a_parked_request_is_not_silence() {
    let held = Duration::from_millis(1200);
    let cut = || Behaviour::After(held, Box::new(Behaviour::CloseAfterRequest));
    let at = |server: &Server| {
        let bounds =
            ["--wait=30", "--pause=100ms", "--unreachable-wait=500ms", "--on-timeout=fail"];
        bare().args(["--host=127.0.0.1", "--port", &server.port().to_string()]).args(bounds)
    };
    let server = Server::start(Behaviour::Sequence(vec![cut(), Behaviour::ok("Lock acquired")]));
    let finished = at(&server).run(CEILING).expect_code(0);
    let reason = "connection closed before the complete response: the lock may have restarted";
    let waiting = finished.lines().into_iter().find(|line| is_waiting(line)).unwrap();
    assert_eq!(field(&waiting, "reason").as_deref(), Some(reason), "{finished}");
    assert_eq!(server.requests().len(), 2, "{finished}");
    // A server that closes each connection is not a lock.
    let server = Server::start(cut());
    let finished = at(&server).run(CEILING).expect_code(1);
    assert!(finished.lines().pop().unwrap().contains("bound=--unreachable-wait"), "{finished}");
    assert!(server.requests().len() == 2, "{finished}");
}

fn is_waiting(line: &str) -> bool {
    line.contains("waiting for the lock")
}

#[test]
fn requests_come_at_most_once_a_pause() {
    let server = Server::start(Behaviour::status_with(
        423,
        "Locked",
        &[("Server", "psl"), ("Retry-After", "0")],
    ));
    let port = server.port().to_string();
    let running = bare().args(["--host=127.0.0.1", "--pause=100ms", "--port", &port]).start();
    let requests = server.wait_for_requests(11, CEILING);
    drop(running);
    // From the first to the last, so that one late request does not shorten the next gap. The
    // server may also see the first request late.
    let whole = requests[10].at - requests[0].at;
    assert!(whole >= Duration::from_millis(600), "{whole:?}");
}

#[test]
fn a_signal_leaves_the_queue() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let deletes_seen = until_a_delete_arrives(|| {
            let server = Server::start(ours(423));
            let program =
                init_at(&server).args(["--holder=shop/web-0/8d1f&x", "--node=n-1", "--duration=5"]);
            let mut running = program.args(["--ready=tcp:1", "--wait=1"]).start();
            wait_for_reason(&mut running, "423 Locked");
            stop(running, signal, code);
            server
        });
        assert_eq!(deletes_seen.len(), 1, "{deletes_seen:?}");
        let delete = &deletes_seen[0];
        assert_eq!(delete.method, "DELETE");
        assert_eq!(delete.target, "/?holder=shop%2Fweb-0%2F8d1f%26x&node=n-1");
        assert!(delete.body.is_empty() && delete.header("content-length").is_none(), "{delete:?}");
    }
}

/// The best of ten runs: on a busy machine any run may be late.
#[test]
fn leaving_takes_50_ms_and_the_end_100_ms() {
    let server = Server::start(ours(423));
    let mut best = [Duration::MAX; 2];
    for _ in 0..10 {
        let mut running = init_at(&server).start();
        wait_for_reason(&mut running, "423 Locked");
        let sent = Instant::now();
        let took = stop(running, "TERM", 143);
        best[1] = best[1].min(took);
        // The DELETE of an earlier run is older than this signal.
        if let Some(delete) = deletes(&server).last().filter(|delete| delete.at >= sent) {
            best[0] = best[0].min(delete.at - sent);
        }
    }
    eprintln!("at best the DELETE came after {:?}, and the end after {:?}", best[0], best[1]);
    assert!(
        best[0] < Duration::from_millis(50) && best[1] < Duration::from_millis(100),
        "{best:?}"
    );
}

#[test]
fn a_signal_during_a_parked_request_leaves_the_queue() {
    until_a_delete_arrives(|| {
        let server = Server::start(Behaviour::Sequence(vec![
            Behaviour::status_with(423, "Locked", &[("Server", "psl")]),
            Behaviour::SilentAfterRequest,
            ours(200),
        ]));
        let running = init_at(&server).arg("--wait=30").start();
        server.wait_for_requests(2, CEILING);
        stop(running, "TERM", 143);
        let asked = server.requests().into_iter().filter(|seen| seen.method == "GET");
        assert_eq!(asked.count(), 2, "another request would take the place again");
        server
    });
}

/// A lock answers a parked request as soon as its holder leaves the queue.
#[test]
fn no_line_about_the_wait_follows_the_last_line() {
    until_a_delete_arrives(|| {
        let (asked, is_given_up) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
        let given_up = Arc::clone(&is_given_up);
        let server = Server::start(Behaviour::call(move |seen| {
            if seen.method == "DELETE" {
                given_up.store(true, Ordering::SeqCst);
                // The answer to the parked request comes first.
                return Behaviour::After(Duration::from_millis(30), Box::new(ours(200)));
            }
            let deadline = Instant::now() + CEILING;
            let is_held = asked.fetch_add(1, Ordering::SeqCst) > 0;
            while is_held && !given_up.load(Ordering::SeqCst) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            Behaviour::status_with(423, "no place", &[("Server", "psl")])
        }));
        let port = server.port().to_string();
        let running =
            bare().args(["--host=127.0.0.1", "--wait=30", "--pause=100ms", "--port", &port]);
        let mut running = running.env("PSL_LOG", "debug").start();
        server.wait_for_requests(2, CEILING);
        running.signal("TERM");
        let finished = running.wait(CEILING).expect_code(143);
        is_given_up.store(true, Ordering::SeqCst);
        let asked = server.requests().into_iter().filter(|seen| seen.method == "GET");
        assert_eq!(asked.count(), 2, "{finished}");
        let lines = finished.lines();
        let stopped =
            lines.iter().position(|line| field(line, "msg").as_deref() == Some("stopped")).unwrap();
        assert_eq!(
            lines[stopped..].iter().filter(|line| is_waiting(line)).count(),
            0,
            "{finished}"
        );
        server
    });
}

/// The program ends in time and with its exit code, even if the DELETE fails.
#[test]
fn a_failed_delete_does_not_delay_the_end() {
    let quick = Duration::from_millis(100);
    for (name, then) in [
        ("silent", Behaviour::Silent),
        ("silent after the request", Behaviour::SilentAfterRequest),
        ("refuses", Behaviour::Refuse),
        ("closes", Behaviour::CloseAtOnce),
        ("a byte a second", Behaviour::Trickle(Duration::from_secs(1))),
        ("a head without end", Behaviour::EndlessHead),
        ("a body without end", Behaviour::EndlessBody),
        ("no HTTP", Behaviour::Garbage),
        ("has no such place", Behaviour::status(404, "no")),
        ("a redirect", Behaviour::status_with(302, "", &[("Location", "/")])),
    ] {
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let server = Server::start(ours(423));
            let mut running = init_at(&server).start();
            wait_for_reason(&mut running, "423 Locked");
            server.set(then.clone());
            best = best.min(stop(running, "TERM", 143));
        }
        eprintln!("{name}: ended after {best:?} at best");
        assert!(best < quick, "{name}: {best:?}");
    }
}

#[test]
fn a_name_that_no_longer_resolves_does_not_delay_the_end() {
    // Ends an init whose name server stays or goes; `Err` if no name server can be started.
    let ended = |stays: bool| {
        let server = Server::start(ours(423));
        let dns = answering_dns(&[("lock.example", "127.0.0.1")], Duration::ZERO)?;
        let named = bare()
            .args(["--host=lock.example", "--pause=1h", "--wait=0"])
            .env("PSL_LOCK_PORT", server.port().to_string());
        let mut running = with_resolv_conf(&dns.resolv_conf(), named)?.start();
        wait_for_reason(&mut running, "423 Locked");
        let _dns = Some(dns).filter(|_| stays);
        let took = stop(running, "TERM", 143);
        eprintln!(
            "by name, which {}: ended after {took:?}",
            if stays { "resolves" } else { "does not resolve" }
        );
        Ok::<_, String>(server)
    };
    match ended(false) {
        Ok(server) => assert_eq!(deletes(&server).len(), 0, "a DELETE without an address"),
        Err(why) => return testkit::skip(&why),
    }
    assert_eq!(until_a_delete_arrives(|| ended(true).unwrap()).len(), 1);
}

/// A Go lock (1.x, 2.x) takes every method for a request for a lease.
#[test]
fn a_lock_without_holders_gets_no_delete() {
    for (name, behaviour) in [
        ("no server header", Behaviour::status_with(423, "Locked", &[("Retry-After", "30")])),
        (
            "another server header",
            Behaviour::status_with(423, "Locked", &[("Server", "nginx"), ("Retry-After", "30")]),
        ),
        ("another server since", {
            let first = Behaviour::status_with(423, "Locked", &[("Server", "psl")]);
            Behaviour::Sequence(vec![
                first,
                Behaviour::status_with(423, "another now", &[("Retry-After", "30")]),
            ])
        }),
        ("ours, but no lock", Behaviour::status_with(404, "another now", PARKED_FOREVER)),
    ] {
        let server = Server::start(behaviour);
        let mut running = init_at(&server).start();
        let last = if name == "no server header" || name == "another server header" {
            "423 Locked"
        } else {
            "another now"
        };
        wait_for_reason(&mut running, last);
        stop(running, "TERM", 143);
        assert!(deletes(&server).is_empty(), "{name}: {:?}", server.requests());
    }
}

#[test]
fn before_any_answer_no_delete_is_sent() {
    for behaviour in [Behaviour::SilentAfterRequest, Behaviour::Silent] {
        let server = Server::start(behaviour);
        let port = server.port().to_string();
        let running =
            bare().args(["--host=127.0.0.1", "--attempt-timeout=1h", "--port", &port]).start();
        testkit::eventually("a connection", CEILING, || (server.connections() > 0).then_some(()));
        stop(running, "TERM", 143);
        assert!(
            server.connections() == 1 && deletes(&server).is_empty(),
            "{:?}",
            server.requests()
        );
    }
}

/// An error of a proxy is no evidence of the lock.
#[test]
fn after_an_error_of_a_proxy_the_delete_is_still_sent() {
    let deletes_seen = until_a_delete_arrives(|| {
        let server = Server::start(Behaviour::Sequence(vec![
            Behaviour::status_with(423, "Locked", &[("Server", "psl")]),
            Behaviour::status_with(
                503,
                "no upstream",
                &[("Server", "envoy"), ("Retry-After", "30")],
            ),
        ]));
        let mut running = init_at(&server).start();
        wait_for_reason(&mut running, "503 no upstream");
        stop(running, "TERM", 143);
        server
    });
    assert_eq!(deletes_seen.len(), 1);
}

#[test]
fn a_start_without_a_lease_leaves_the_queue_and_a_failure_does_not() {
    // Runs an init to its bound.
    let ended = |on_timeout: &str, behaviour: Behaviour, code: i32| {
        let server = Server::start(behaviour);
        let program =
            init_at(&server).args(["--holder=h", "--max-wait=200ms", "--on-timeout", on_timeout]);
        program.run(CEILING).expect_code(code);
        server
    };
    let deletes_of_start = until_a_delete_arrives(|| ended("start", ours(423), 0));
    assert_eq!(deletes_of_start.len(), 1, "{deletes_of_start:?}");
    assert!(
        deletes_of_start.iter().all(|seen| seen.method == "DELETE" && seen.target == "/?holder=h")
    );
    for (on_timeout, behaviour, code) in
        [("fail", ours(423), 1), ("start", Behaviour::status(423, "Locked"), 0)]
    {
        let deletes_seen = deletes(&ended(on_timeout, behaviour, code));
        assert!(deletes_seen.is_empty(), "{on_timeout}: {deletes_seen:?}");
    }
    // A silent lock does not prevent the start.
    let deletes_of_silent = until_a_delete_arrives(|| {
        let server = Server::start(Behaviour::Sequence(vec![
            Behaviour::status_with(423, "Locked", &[("Server", "psl")]),
            Behaviour::SilentAfterRequest,
        ]));
        let finished =
            init_at(&server).args(["--wait=30", "--max-wait=300ms"]).run(CEILING).expect_code(0);
        assert!(finished.took < Duration::from_secs(10), "{finished}");
        server
    });
    assert_eq!(deletes_of_silent.len(), 1);
}

#[test]
fn a_granted_lease_is_kept() {
    let server = Server::start(Behaviour::Sequence(vec![
        Behaviour::status_with(423, "Locked", &[("Server", "psl")]),
        Behaviour::status_with(200, "Lock acquired", &[("Server", "psl")]),
    ]));
    init_at(&server).run(CEILING).expect_code(0);
    assert!(server.requests().len() == 2 && deletes(&server).is_empty(), "{:?}", server.requests());
}

/// The reason holds position and expected wait; new numbers do not make a new reason.
#[test]
fn a_new_position_is_not_a_new_reason() {
    let place = |n: u32| {
        Behaviour::status(
            423,
            &format!(
                "Locked\nall slots are taken\nposition {n} in the queue, a slot is expected in {}s\n",
                n * 25
            ),
        )
    };
    let server = Server::start(Behaviour::Sequence((1..=12).rev().map(place).collect()));
    let mut running = init_at(&server).start();
    let reason =
        "423 Locked; all slots are taken; position 12 in the queue, a slot is expected in 300s";
    wait_for_reason(&mut running, reason);
    server.wait_for_requests(13, CEILING);
    assert_eq!(running.count(is_waiting), 1, "{running}");
    stop(running, "TERM", 143);
}
