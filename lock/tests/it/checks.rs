//! The gate on the real binary: endpoints that come up, go down, hang, and redirect.

use std::time::Duration;

use testkit::http::Reply;
use testkit::program::{Program, Running};
use testkit::scripted::{Behaviour, Server, blackhole};
use testkit::tls::Authority;
use testkit::{CEILING, eventually};

use crate::support::program;

fn lock(arguments: &[&str]) -> Running {
    let fixed = ["--failHc=100ms", "--passHc=100ms", "--locks=4096", "--timeout=1ms"];
    program(&fixed).args(arguments).start()
}

fn ask(lock: &mut Running) -> Reply {
    lock.get("/")
}

fn wait_for_status(lock: &mut Running, status: u16) -> Reply {
    eventually(&format!("{status} of {}", lock.addr()), CEILING, || {
        Some(ask(lock)).filter(|reply| reply.status == status)
    })
}

#[track_caller]
fn wait_for_reason(lock: &mut Running, reason: &str) -> Reply {
    let until = std::time::Instant::now() + CEILING;
    loop {
        let reply = ask(lock);
        if reply.status == 423 && reply.body.contains(reason) {
            return reply;
        }
        assert!(
            std::time::Instant::now() < until,
            "no 423 with {reason:?}; at last {} {}",
            reply.status,
            reply.body
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn closed_until_all_are_up_and_again_when_one_goes_down() {
    // The answer repeats the request, as those of some servers do.
    let no = Behaviour::status(503, "nothing at /ready?token=secret");
    let (web, database) = (Server::start(no), Server::start(Behaviour::Refuse));
    let tcp = format!("tcp://{}", database.addr());
    let mut lock = lock(&["--check", &(web.url("/ready?token=secret")), "--check", &tcp]);
    let reply = wait_for_reason(&mut lock, "answered 503");
    assert_eq!(reply.first_line(), "Locked");
    assert!(reply.header("retry-after").is_some());
    assert!(
        reply.body.contains(&format!(
            "waiting for {}: answered 503: nothing at /ready?***",
            web.url("/ready")
        )),
        "{}",
        reply.body
    );
    assert!(
        reply.body.contains(&format!("waiting for {tcp}: connection refused")),
        "{}",
        reply.body
    );
    web.set(Behaviour::ok("yes"));
    wait_for_reason(&mut lock, &format!("Locked\nwaiting for {tcp}"));
    database.set(Behaviour::CloseAtOnce);
    wait_for_status(&mut lock, 200);
    lock.wait_for_text("gate open", CEILING);
    web.set(Behaviour::status(500, ""));
    wait_for_status(&mut lock, 423);
    lock.wait_for_text("gate closed", CEILING);
    assert!(!lock.stderr().contains("secret"), "{}", lock.stderr());
    assert!(web.requests().iter().all(|request| request.target == "/ready?token=secret"));
}

#[test]
fn readyz_does_not_depend_on_the_checks() {
    let mut lock = lock(&["--check", "tcp://127.0.0.1:1"]);
    wait_for_status(&mut lock, 423);
    assert_eq!(lock.get("/readyz").status, 200);
    let metrics = lock.get("/metrics").body;
    assert!(metrics.contains("psl_check_up{endpoint=\"tcp://127.0.0.1:1\"} 0"), "{metrics}");
    assert!(metrics.contains("psl_gate_open 0"), "{metrics}");
}

#[test]
fn retry_after_is_when_the_next_round_is_due() {
    let mut lock = lock(&["--check", "tcp://127.0.0.1:1", "--hc-timeout", "1s"]);
    wait_for_reason(&mut lock, "connection refused");
    drop(lock);
    let server = Server::start(Behaviour::ok(""));
    let program = Program::new(env!("CARGO_BIN_EXE_lock")).args([
        "--host=127.0.0.1",
        "--port=0",
        "--failHc=1h",
    ]);
    let mut lock = program
        .args(["--passHc=100ms", "--locks=4096", "--timeout=1ms", "--check", &server.url("/")])
        .start();
    wait_for_status(&mut lock, 200);
    server.set(Behaviour::Refuse);
    let reply = wait_for_reason(&mut lock, "connection refused");
    let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&seconds), "{seconds}");
}

#[test]
fn answers_that_are_not_up() {
    let (hole, _guard) = blackhole();
    let behaviours = [
        ("silent", Behaviour::Silent, "response timed out: no complete response in time"),
        ("cut", Behaviour::CloseAtOnce, "connection closed before the complete response"),
        ("truncated", Behaviour::Truncated200, "connection closed before the complete response"),
        ("garbage", Behaviour::Garbage, "malformed HTTP response"),
        ("a huge head", Behaviour::HugeHead(1_000_000), "malformed HTTP response"),
        ("a redirect", Behaviour::status_with(301, "", &[("Location", "/up")]), "answered 301"),
        (
            "one byte a second",
            Behaviour::Trickle(Duration::from_secs(1)),
            "no complete response in time",
        ),
    ];
    for (name, behaviour, reason) in behaviours {
        let server = Server::start(behaviour);
        let mut lock = lock(&["--check", &server.url("/"), "--hc-timeout", "300ms"]);
        let reply = wait_for_reason(&mut lock, reason);
        assert_eq!(reply.status, 423, "{name}");
    }
    let mut lock = lock(&["--check", &format!("tcp://{hole}"), "--hc-timeout", "300ms"]);
    wait_for_reason(&mut lock, "connection timed out, or no route to host");
}

#[test]
fn until_a_first_round_has_passed_rounds_come_soon() {
    let server = Server::start(Behaviour::status(412, "HealthCheck Failed\nstarting"));
    let program = Program::new(env!("CARGO_BIN_EXE_lock")).args([
        "--host=127.0.0.1",
        "--port=0",
        "--failHc=1h",
    ]);
    let mut lock = program.args(["--passHc=100ms", "--check", &server.url("/")]).start();
    let at: Vec<_> =
        server.wait_for_requests(4, CEILING).iter().map(|request| request.at).collect();
    let pauses: Vec<f64> = at.windows(2).map(|two| (two[1] - two[0]).as_secs_f64()).collect();
    assert!(pauses.iter().zip([0.5, 1.0, 2.0]).all(|(pause, least)| *pause >= least), "{pauses:?}");
    // Once one has passed the pause is the one of the settings.
    server.set(Behaviour::ok(""));
    lock.wait_for_text("gate open", CEILING);
    server.set(Behaviour::status(412, ""));
    lock.wait_for_text("gate closed", CEILING);
    let next =
        lock.get("/state").json()["gate"]["next_round_in_seconds"].as_f64().expect("a number");
    assert!((3000.0..=3600.0).contains(&next), "{next}");
}

#[test]
fn the_reason_of_an_endpoint_is_passed_on_in_one_line() {
    let long =
        format!("HealthCheck Failed\nwaiting for \u{1b}[31m{}\nsecond line", "x".repeat(3000));
    let server = Server::start(Behaviour::status(
        412,
        "HealthCheck Failed\n2 DaemonSets are not ready\nsecond line",
    ));
    let mut lock = lock(&["--check", &server.url("/")]);
    let waiting = format!("waiting for {}: answered 412", server.url("/"));
    let reply = wait_for_reason(&mut lock, "are not ready");
    assert!(
        reply.body.starts_with(&format!("Locked\n{waiting}: 2 DaemonSets are not ready\n")),
        "{}",
        reply.body
    );
    let state = lock.get("/state").json();
    assert_eq!(state["checks"][0]["reason"], "answered 412: 2 DaemonSets are not ready", "{state}");
    server.set(Behaviour::status(412, &long));
    let reply = wait_for_reason(&mut lock, "\u{fffd}[31mxxx");
    assert!(!reply.body.contains("second line") && reply.body.len() < 400, "{}", reply.body);
    server.set(Behaviour::status(412, "<html>\n<title>412</title>"));
    wait_for_reason(&mut lock, &format!("{waiting}\n"));
    // Words that change are no change of the check.
    let rounds = server.requests().len();
    server
        .set(Behaviour::call(|request| Behaviour::status(412, &format!("round {:?}", request.at))));
    server.wait_for_requests(rounds + 5, CEILING);
    assert_eq!(lock.count(|line| line.contains("msg=\"check failed\"")), 1, "{lock}");
    server.set(Behaviour::status(503, "another"));
    lock.wait_for_text("answered 503: another", CEILING);
}

#[test]
fn all_checks_of_a_round_run_side_by_side() {
    let slow: Vec<Server> = (0..8)
        .map(|_| {
            Server::start(Behaviour::After(Duration::from_secs(1), Box::new(Behaviour::ok(""))))
        })
        .collect();
    let arguments: Vec<String> =
        slow.iter().map(|server| format!("--check={}", server.url("/"))).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut lock = lock(&arguments);
    wait_for_status(&mut lock, 200);
    let first: Vec<_> = slow.iter().map(|server| server.requests()[0].at).collect();
    let spread = *first.iter().max().unwrap() - *first.iter().min().unwrap();
    assert!(
        spread < Duration::from_secs(1),
        "the last was asked {spread:?} after the first, whose answer took a second"
    );
}

#[test]
fn https_checks_trust_the_given_authority_only() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server =
        Server::start_tls(Behaviour::ok("up"), &authority.issue(&["localhost", "127.0.0.1"]));
    let endpoint = format!("https://localhost:{}/", server.port());
    let file = authority.file().to_str().unwrap();
    let mut trusting = lock(&["--check", &endpoint, "--ca-file", file]);
    wait_for_status(&mut trusting, 200);
    let mut distrusting =
        lock(&["--check", &endpoint, "--ca-file", other.file().to_str().unwrap()]);
    wait_for_reason(&mut distrusting, "certificate verify failed");
    let by_variable =
        Program::new(env!("CARGO_BIN_EXE_lock")).args(["--host=127.0.0.1", "--port=0"]);
    let mut by_variable =
        by_variable.env("PSL_HC_ENDPOINTS", &endpoint).env("SSL_CERT_FILE", file).start();
    wait_for_status(&mut by_variable, 200);
    let expired = Server::start_tls(Behaviour::ok("up"), &authority.issue_expired(&["localhost"]));
    let mut lock =
        lock(&["--check", &format!("https://localhost:{}/", expired.port()), "--ca-file", file]);
    wait_for_reason(&mut lock, "certificate verify failed: certificate has expired");
}

#[test]
fn an_authority_that_is_replaced_on_disk_is_read_anew() {
    let (old, new) = (Authority::new(), Authority::new());
    let scratch = testkit::scratch::Scratch::new();
    let file = scratch.file("ca.pem", old.pem());
    let server = Server::start_tls(Behaviour::ok("up"), &new.issue(&["localhost"]));
    let mut lock = lock(&[
        "--check",
        &format!("https://localhost:{}/", server.port()),
        "--ca-file",
        file.to_str().unwrap(),
    ]);
    wait_for_reason(&mut lock, "certificate verify failed");
    std::fs::write(&file, new.pem()).unwrap();
    wait_for_status(&mut lock, 200);
}

#[test]
fn checks_that_fail_for_too_long_are_ignored_until_they_pass() {
    let server = Server::start(Behaviour::status(500, ""));
    let mut lock = lock(&["--check", &server.url("/"), "--max-hold", "500ms"]);
    wait_for_status(&mut lock, 423);
    let reply = wait_for_status(&mut lock, 200);
    assert!(reply.body.contains("checks have failed for longer"), "{}", reply.body);
    lock.wait_for_text("gate overridden", CEILING);
    let metrics = lock.get("/metrics").body;
    assert!(
        metrics.contains("psl_gate_overridden 1") && metrics.contains("psl_gate_open 1"),
        "{metrics}"
    );
    server.set(Behaviour::ok(""));
    eventually("the override to end", CEILING, || {
        let metrics = lock.get("/metrics").body;
        metrics.contains("psl_gate_overridden 0").then_some(())
    });
}

#[test]
fn no_system_bundle_and_no_ca_file_is_an_error() {
    let program = Program::new(env!("CARGO_BIN_EXE_lock")).args(["--check=https://localhost/"]);
    let finished = program.env("SSL_CERT_FILE", "/no/such/bundle").run(CEILING).expect_code(2);
    assert!(
        finished.stderr.contains("--ca-file (PSL_CA_FILE): CA file /no/such/bundle: "),
        "{finished}"
    );
}
