//! Each setting by flag and by variable, and the errors, on the real binary.

use testkit::CEILING;
use testkit::http::Request;
use testkit::program::Program;

fn lock() -> Program {
    Program::new(env!("CARGO_BIN_EXE_lock"))
}

#[test]
fn each_setting_by_flag_and_by_variable() {
    let shown = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut program = lock().args(arguments);
        for (name, value) in variables {
            program = program.env(name, value);
        }
        let mut running = program.start();
        let state = Request::get("/state").send(running.addr(), CEILING).unwrap().json();
        let started = running.wait_for_text("lock started", CEILING);
        (state, started)
    };
    let (by_flag, started) = shown(
        &[
            "-host",
            "127.0.0.1",
            "-port=0",
            "--locks",
            "3",
            "-timeout",
            "7",
            "--max-duration=1m",
            "--node",
            "n",
            "--check",
            "tcp://127.0.0.1:1",
            "--failHc",
            "1h",
            "--passHc=2h",
            "--hc-timeout",
            "1s",
            "--max-hold",
            "1h",
        ],
        &[],
    );
    let (by_variable, _) = shown(
        &[],
        &[
            ("PSL_BIND_HOST", "127.0.0.1"),
            ("PSL_BIND_PORT", "0"),
            ("PSL_PARALLEL_LOCKS", "3"),
            ("PSL_LOCK_DURATION", "7s"),
            ("PSL_MAX_LOCK_DURATION", "60"),
            ("PSL_NODE_NAME", "n"),
            ("PSL_HC_ENDPOINTS", "tcp://127.0.0.1:1"),
            ("PSL_HC_ENABLED", "true"),
            ("PSL_HC_PERIOD_FAIL", "3600"),
            ("PSL_HC_PERIOD_PASS", "2h"),
            ("PSL_HC_TIMEOUT", "1"),
            ("PSL_HC_MAX_HOLD", "1h"),
            ("PSL_LOG", "info,lock=info"),
            ("PSL_LOG_FORMAT", "logfmt"),
        ],
    );
    for part in ["slots", "limits", "node", "version"] {
        assert_eq!(by_flag[part], by_variable[part], "{part}");
    }
    assert_eq!((&by_flag["slots"], &by_flag["node"]), (&3.into(), &"n".into()));
    assert_eq!(
        (
            &by_flag["limits"]["default_duration_seconds"],
            &by_flag["limits"]["max_duration_seconds"]
        ),
        (&7.0.into(), &60.0.into())
    );
    assert_eq!(by_flag["checks"][0]["endpoint"], by_variable["checks"][0]["endpoint"]);
    assert!(started.contains("slots=3 duration=7s checks=1"), "{started}");
}

#[test]
fn a_share_of_the_cores() {
    let mut running = lock().args(["--host=127.0.0.1", "--port=0", "--locks=100%"]).start();
    let state = Request::get("/state").send(running.addr(), CEILING).unwrap().json();
    let cores = std::fs::read_to_string("/proc/cpuinfo")
        .unwrap()
        .lines()
        .filter(|l| l.starts_with("processor"))
        .count();
    assert_eq!(state["slots"], cores);
}

#[test]
fn errors_are_reported_together() {
    let finished = lock()
        .args([
            "--port",
            "x",
            "--locks=0",
            "--nonsense",
            "left-over",
            "--check=http://user:secret@h/",
        ])
        .env("PSL_LOCK_DURATION", "-1")
        .env("PSL_LOG", "loud")
        .run(CEILING)
        .expect_code(2);
    let lines = finished.lines();
    assert_eq!(lines.len(), 7, "{finished}");
    for (line, start) in lines.iter().zip([
        "lock: \"--nonsense\": unknown flag",
        "lock: \"left-over\": unexpected argument",
        "lock: --port (PSL_BIND_PORT): \"x\" is not accepted; accepted: a port, 0 to 65535",
        "lock: --locks (PSL_PARALLEL_LOCKS): \"0\" is not accepted",
        "lock: --timeout (PSL_LOCK_DURATION): \"-1\" is not accepted",
        "lock: --check (PSL_HC_ENDPOINTS): \"http://***@h/\" is not accepted",
        "lock: PSL_LOG: \"loud\" is not accepted",
    ]) {
        assert!(line.starts_with(start), "{line:?} for {start:?}");
    }
    assert!(!finished.stderr.contains("secret"));
}

#[test]
fn a_period_below_a_tenth_of_a_second_is_an_error() {
    for (flag, variable) in [
        ("--failHc", "PSL_HC_PERIOD_FAIL"),
        ("--passHc", "PSL_HC_PERIOD_PASS"),
        ("--gate-floor", "PSL_GATE_FLOOR"),
    ] {
        for value in ["0", "1ns", "1us", "99ms", "99999us"] {
            for program in [lock().args([flag, value]), lock().env(variable, value)] {
                let finished = program.run(CEILING).expect_code(2);
                let words = format!(
                    "{flag} ({variable}): \"{value}\" is not accepted; accepted: whole seconds or a duration"
                );
                assert!(
                    finished.stderr.contains(&words) && finished.stderr.contains("at least 100ms"),
                    "{finished}"
                );
            }
        }
        lock()
            .args(["--host=127.0.0.1", "--port=0", flag, "100ms"])
            .start()
            .wait_for_text("listening", CEILING);
    }
}

#[test]
fn help_and_version() {
    let help = lock().args(["--nonsense", "--help"]).run(CEILING).expect_code(0);
    for setting in lock::PROGRAM.settings {
        for name in setting.names() {
            assert!(help.stdout.contains(name), "{name}");
        }
    }
    for line in help.stdout.lines() {
        assert!(line.chars().count() <= 100 && !line.contains('`'), "{line}");
    }
    assert_eq!(help.stderr, "");
    let version = lock().arg("--version").env("PSL_BIND_PORT", "x").run(CEILING).expect_code(0);
    assert!(
        version.stdout.starts_with(concat!("lock ", env!("CARGO_PKG_VERSION"), " (")),
        "{version}"
    );
}

#[test]
fn a_taken_port_is_a_failure_with_the_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let finished =
        lock().args(["--host", "127.0.0.1", "--port", &port]).run(CEILING).expect_code(1);
    assert!(
        finished.stderr.contains(&format!("level=error msg=\"cannot bind 127.0.0.1:{port}: ")),
        "{finished}"
    );
}

#[test]
fn logs_as_json() {
    let mut running = lock().args(["--host=127.0.0.1", "--port=0", "--log-format=json"]).start();
    let line = running.wait_for_text("listening", CEILING);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["level"], &line["msg"]), (&"info".into(), &"listening".into()));
}

#[test]
fn routine_refusals_are_logged_at_debug() {
    for (filter, expected) in [("info", 0), ("debug", 1)] {
        let mut running = lock()
            .args(["--host=127.0.0.1", "--port=0", "--locks=1"])
            .env("PSL_LOG", filter)
            .start();
        for _ in 0..2 {
            Request::get("/?duration=1m&token=secret").send(running.addr(), CEILING).unwrap();
        }
        running.wait_for_text("lock acquired", CEILING);
        testkit::eventually("the refusal's line, or none", CEILING, || {
            (running.count(|line| line.contains("locked: ")) >= expected).then_some(())
        });
        assert_eq!(running.count(|line| line.contains("locked: ")), expected, "{filter}");
        assert!(!running.stderr().contains("secret"));
    }
}
