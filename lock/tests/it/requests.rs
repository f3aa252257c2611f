//! The real binary, asked over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::http::{Request, get};
use testkit::program::{Program, Running};
use testkit::{CEILING, eventually};

use crate::support::program;

fn lock(arguments: &[&str]) -> Running {
    program(arguments).start()
}

#[test]
fn the_first_client_gets_the_lease_and_the_others_wait_for_its_end() {
    let mut lock = lock(&["--timeout", "1s"]);
    let first = get(lock.addr(), "/");
    assert_eq!(
        (first.status, first.first_line(), first.body.as_str()),
        (200, "Lock acquired", "Lock acquired\nfor 1s\n")
    );
    let second = get(lock.addr(), "/");
    assert_eq!(
        (second.status, second.first_line(), second.header("retry-after")),
        (423, "Locked", Some("1"))
    );
    eventually("the lease to end", CEILING, || (get(lock.addr(), "/").status == 200).then_some(()));
    lock.wait_for(|line| line.contains("lock acquired") && line.contains("duration=1s"), CEILING);
}

#[test]
fn each_slot_admits_one_client() {
    let mut lock = lock(&["--locks=3"]);
    let statuses: Vec<u16> = (0..5).map(|_| get(lock.addr(), "/?duration=1m").status).collect();
    assert_eq!(statuses, [200, 200, 200, 423, 423]);
    // A lease may end early, so no client is asked to stay away for longer than half a minute.
    let retry_after: u64 = get(lock.addr(), "/").header("retry-after").unwrap().parse().unwrap();
    assert!((15..=30).contains(&retry_after), "{retry_after}");
}

#[test]
fn answers_to_the_letter() {
    let mut lock =
        lock(&["--max-duration", "1m", "--timeout", "20", "--node", "node-a", "--locks", "9"]);
    let address = lock.addr();
    let json = |path: &str| {
        Request::get(path).header("Accept", "application/json").send(address, CEILING).unwrap()
    };
    for (path, status, body) in [
        ("/?duration=0", 200, "Lock acquired\na slot is free; a duration of 0 takes none\n"),
        ("/?duration=2m", 200, "Lock acquired\nfor 1m, the longest that this lock grants\n"),
        (
            "/?duration=999999999999",
            200,
            "Lock acquired\nfor 1m, the longest that this lock grants\n",
        ),
        ("/?node=node-a&unknown=1&unknown=2&holder=x", 200, "Lock acquired\nfor 20s\n"),
        (
            "/?node=node-b",
            421,
            "this lock serves node node-a, the request comes from node node-b\n",
        ),
        (
            "/?duration=-5",
            400,
            "duration: \"-5\" is not accepted; accepted: whole seconds or a duration such as 500ms, 1.5s, 1m30s, 2h\n",
        ),
        (
            "/?duration=",
            400,
            "duration: \"\" is not accepted; accepted: whole seconds or a duration such as 500ms, 1.5s, 1m30s, 2h\n",
        ),
        (
            "/?duration=99999999999999999999",
            400,
            "duration: \"99999999999999999999\" is not accepted; accepted: whole seconds or a duration such as 500ms, 1.5s, 1m30s, 2h\n",
        ),
        ("/?duration=1&duration=1", 400, "duration: given twice, accepted once\n"),
        (
            "/?node=",
            400,
            "node: \"\" is not accepted; accepted: a node's name: at most 253 lower-case letters, digits, - and ., beginning and ending with a letter or digit\n",
        ),
        (
            "/?node=Node_B",
            400,
            "node: \"Node_B\" is not accepted; accepted: a node's name: at most 253 lower-case letters, digits, - and ., beginning and ending with a letter or digit\n",
        ),
        ("/?duration=1%6ds", 200, "Lock acquired\nfor 1ms\n"),
        ("/?dur%61tion=0", 200, "Lock acquired\na slot is free; a duration of 0 takes none\n"),
        ("/nothing", 404, "there are /, /metrics, /state, /livez, /readyz\n"),
        ("/livez", 200, "ok\n"),
        ("/readyz", 200, "ok\n"),
    ] {
        let reply = get(lock.addr(), path);
        assert_eq!((reply.status, reply.body.as_str()), (status, body), "{path}");
    }
    let reply = json("/?duration=1500ms");
    assert_eq!(
        (reply.status, reply.body.as_str()),
        (
            200,
            r#"{"granted":true,"reason":"for 1.5s","retry_after_seconds":null,"position":null,"expires_in_seconds":1.5}"#
        )
    );
    let reply = json("/?duration=x");
    assert_eq!(
        (reply.status, &reply.json()["kind"]),
        (400, &serde_json::json!("invalid_parameter"))
    );
    let reply = json("/?node=x");
    assert_eq!((reply.status, &reply.json()["kind"]), (421, &serde_json::json!("misdirected")));
}

#[test]
fn only_get_and_post_of_the_root_take_a_lease() {
    let mut lock = lock(&[]);
    for (method, path, status, allow) in [
        ("HEAD", "/", 405, Some("GET, POST, DELETE")),
        ("DELETE", "/", 400, None),
        ("PUT", "/", 405, Some("GET, POST, DELETE")),
        ("POST", "/livez", 405, Some("GET")),
        ("HEAD", "/state", 405, Some("GET")),
        ("POST", "/metrics", 405, Some("GET")),
        ("GET", "/favicon.ico", 404, None),
        ("GET", "/%00", 404, None),
        ("GET", "//", 404, None),
        ("OPTIONS", "*", 404, None),
        ("GET", "/#x", 400, None),
        ("POST", "/?duration=1h#x", 400, None),
        ("DELETE", "/?holder=a#x", 400, None),
        ("GET", "http://lock/#x", 400, None),
        ("GET", "http:///", 400, None),
        ("GET", "http://user@lock/", 400, None),
        ("GET", "ftp://lock/", 400, None),
        ("GET", "?duration=1h", 400, None),
        ("GET", "*", 400, None),
        ("CONNECT", "lock:8888", 400, None),
        ("GET", "/?holder=%", 400, None),
        ("GET", "/?holder=%zz", 400, None),
    ] {
        let reply = Request::new(method, path).send(lock.addr(), CEILING).unwrap();
        assert_eq!((reply.status, reply.header("allow")), (status, allow), "{method} {path}");
        if method == "HEAD" {
            assert_eq!(reply.body, "", "{path}");
        }
    }
    let reply = Request::post("/").body("duration=3").send(lock.addr(), CEILING).unwrap();
    assert_eq!(reply.status, 413);
    let reply = Request::post("/").send(lock.addr(), CEILING).unwrap();
    assert_eq!(reply.status, 200, "no earlier request has taken the slot");
}

#[test]
fn metrics_and_state_agree_with_the_events() {
    let mut lock = lock(&["--locks", "2", "--node", "n"]);
    for path in [
        "/?duration=1ms",
        "/?duration=1h",
        "/?duration=1h",
        "/",
        "/?duration=0",
        "/?duration=x",
        "/?node=m",
    ] {
        get(lock.addr(), path);
        // The first lease has to be over before the third request, and virtual time does not reach
        // here.
        eventually("the short lease to end", CEILING, || {
            (get(lock.addr(), "/state").json()["leases"][0]["remaining_seconds"] != 0.001)
                .then_some(())
        });
    }
    let metrics = get(lock.addr(), "/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in [
        "psl_lock_requests_total{result=\"granted\"} 3",
        "psl_lock_requests_total{result=\"busy\"} 1",
        "psl_lock_requests_total{result=\"gate_closed\"} 0",
        "psl_lock_requests_total{result=\"probe\"} 1",
        "psl_lock_requests_total{result=\"misdirected\"} 1",
        "psl_lock_requests_total{result=\"invalid\"} 1",
        "psl_lock_slots 2",
        "psl_lock_slots_in_use 2",
        "psl_lock_ended_total{how=\"expired\"} 1",
        "psl_lock_held_seconds_count 1",
        "psl_gate_open 1",
        "psl_gate_overridden 0",
    ] {
        assert!(metrics.body.lines().any(|l| l == line), "{line} in {}", metrics.body);
    }
    let state = get(lock.addr(), "/state").json();
    assert_eq!(
        (&state["version"], &state["slots"], &state["slots_in_use"]),
        (&1.into(), &2.into(), &2.into())
    );
    assert_eq!(state["leases"].as_array().map(Vec::len), Some(2));
    assert_eq!(state["limits"]["max_duration_seconds"], 600.0);
    assert_eq!(state["gate"]["open"], true);
}

#[test]
fn keep_alive_pipelining_and_old_clients() {
    let mut lock = lock(&[]);
    let mut connection = testkit::http::Connection::open(lock.addr(), None, CEILING).unwrap();
    for _ in 0..3 {
        assert_eq!(connection.send(&Request::get("/livez").keep_alive()).unwrap().status, 200);
    }
    let two = "GET /livez HTTP/1.1\r\nHost: h\r\n\r\nGET /nothing HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    connection.write(two.as_bytes()).unwrap();
    assert_eq!(
        (connection.reply().unwrap().status, connection.reply().unwrap().status),
        (200, 404)
    );
    assert!(connection.closed());
    let old =
        testkit::http::raw(lock.addr(), None, b"GET /livez HTTP/1.0\r\n\r\n", CEILING).unwrap();
    let old = String::from_utf8(old).unwrap();
    assert!(
        old.starts_with("HTTP/1.1 200 OK\r\nConnection: close\r\n") && old.ends_with("ok\n"),
        "{old}"
    );
    let expect =
        b"GET /livez HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    let reply =
        String::from_utf8(testkit::http::raw(lock.addr(), None, expect, CEILING).unwrap()).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK"), "{reply}");
}

#[test]
fn both_families_on_all_addresses() {
    let mut lock = Program::new(env!("CARGO_BIN_EXE_lock")).args(["--port", "0"]).start();
    let port = lock.port();
    assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], port)), "/livez").status, 200);
    let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    match Request::get("/livez").send(v6, CEILING) {
        Ok(reply) => assert_eq!(reply.status, 200),
        Err(why) => testkit::skip(&format!("IPv6 is off here: {why}")),
    }
}

#[test]
fn a_signal_ends_lock_at_once() {
    for (signal, as_pid_1) in [("TERM", false), ("INT", false), ("TERM", true), ("INT", true)] {
        let program =
            Program::new(env!("CARGO_BIN_EXE_lock")).args(["--host", "127.0.0.1", "--port", "0"]);
        let program = match as_pid_1 {
            false => program,
            true => match program.as_pid_1() {
                Ok(program) => program,
                Err(why) => return testkit::skip(&why),
            },
        };
        let mut lock = program.start();
        lock.port();
        let sent = std::time::Instant::now();
        lock.signal(signal);
        lock.wait(CEILING).expect_code(0);
        assert!(sent.elapsed() < Duration::from_secs(2), "{signal} took {:?}", sent.elapsed());
    }
}

#[test]
fn a_log_without_a_reader_delays_no_answer() {
    // The harness reads everything, so the pipe is made here and left alone until it is full.
    let exe = match testkit::program::Program::static_dir() {
        Some(directory) => directory.join("lock"),
        None => env!("CARGO_BIN_EXE_lock").into(),
    };
    let mut child = std::process::Command::new(exe)
        .args(["--host=127.0.0.1", "--port=0", "--locks=4096", "--timeout=10m"])
        .env_clear()
        .env("PSL_LOG", "debug")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("lock to start");
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        std::io::BufRead::read_line(&mut stderr, &mut line).expect("a line");
    }
    let address: SocketAddr = testkit::program::field(line.trim(), "address")
        .expect("an address")
        .parse()
        .expect("a socket");
    // 64 KiB of pipe and the queue behind it are full after some 1,500 lines.
    for _ in 0..3000 {
        assert_eq!(get(address, "/").status, 200);
    }
    child.kill().expect("lock to be alive");
    child.wait().expect("lock to end");
}
