//! Each setting by flag and by variable, invalid values, and `--help`.

use std::time::Duration;

use testkit::program::{Finished, Program, field};
use testkit::scripted::{Behaviour, Server};

use crate::{CEILING, bare, wait_for_reason};

/// The setting by flag, in each form, and by variable.
fn each_way(flag: &str, variable: &str, value: &str) -> Vec<Program> {
    vec![
        bare().args([flag, value]),
        bare().arg(format!("{flag}={value}")),
        bare().args([&flag[1..], value]),
        bare().arg(format!("{}={value}", &flag[1..])),
        bare().env(variable, value),
        // A flag wins over its variable.
        bare().args([flag, value]).env(variable, "nonsense \u{1}"),
    ]
}

fn at(server: &Server, program: Program) -> Program {
    program.env("PSL_LOCK_PORT", server.port().to_string())
}

fn free() -> Server {
    Server::start(Behaviour::ok("Lock acquired"))
}

#[test]
fn host() {
    let server = Server::start_at(([127, 0, 0, 7], 0).into(), Behaviour::ok("Lock acquired"));
    for program in each_way("--host", "PSL_LOCK_HOST", "127.0.0.7") {
        at(&server, program).run(CEILING).expect_code(0);
    }
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn host_by_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return testkit::skip("this machine has no IPv6");
    }
    let server = Server::start_at("[::1]:0".parse().unwrap(), Behaviour::ok("Lock acquired"));
    for host in ["::1", "[::1]", "localhost"] {
        for program in each_way("--host", "PSL_LOCK_HOST", host) {
            at(&server, program).run(CEILING).expect_code(0);
        }
    }
    let expected = format!("[::1]:{}", server.port());
    assert_eq!(server.requests()[0].header("host"), Some(expected.as_str()));
}

#[test]
fn port() {
    let server = free();
    for program in each_way("--port", "PSL_LOCK_PORT", &server.port().to_string()) {
        program.run(CEILING).expect_code(0);
    }
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn a_port_that_kubernetes_injects_counts_as_unset() {
    for value in
        ["tcp://10.0.0.1:8080", "udp://10.0.0.1:53", "sctp://[fd00::1]:7", "SCTP://10.0.0.1:7", ""]
    {
        let finished = bare()
            .env("PSL_LOCK_PORT", value)
            .args(["--host=127.0.0.1", "--max-wait=1ms"])
            .run(CEILING)
            .expect_code(0);
        assert!(finished.stderr.contains("lock=http://127.0.0.1:8888/"), "{finished}");
    }
}

/// Kubernetes replaces only `$(NAME)`: with any other reference all pods would be one holder.
#[test]
fn a_reference_that_kubernetes_did_not_replace_is_not_a_holder() {
    for value in ["$POD_UID", "${POD_UID}", "shop/web-0/$(POD_UID)", "$$(POD_UID)", "a$b", "$"] {
        for program in [bare().args(["--holder", value]), bare().env("PSL_HOLDER", value)] {
            let (finished, lines) = config_errors(&program);
            let start = format!(
                "init: --holder (PSL_HOLDER): \"{value}\" is not accepted; accepted: a name without $"
            );
            assert!(lines.len() == 1 && lines[0].starts_with(&start), "{finished}");
            assert!(
                lines[0].contains("Write $(NAME) and define the variable NAME above this one"),
                "{finished}"
            );
        }
    }
}

#[test]
fn settings_become_query_parameters() {
    let server = free();
    for (flag, variable, value, sent) in [
        ("--duration", "PSL_LOCK_DURATION", "20", "duration=20"),
        ("--duration", "PSL_LOCK_DURATION", "1m30s", "duration=90"),
        ("--duration", "PSL_LOCK_DURATION", "1500ms", "duration=1.5s"),
        ("--holder", "PSL_HOLDER", "shop/web-0/8d1f", "holder=shop%2Fweb-0%2F8d1f"),
        ("--holder", "PSL_HOLDER", "a&wait=0#+%~", "holder=a%26wait%3D0%23%2B%25~"),
        ("--ready", "PSL_READY", "tcp:5432", "ready=tcp%3A5432"),
        ("--ready", "PSL_READY", "http:8080", "ready=http%3A8080%2F"),
        (
            "--ready",
            "PSL_READY",
            "http:8080/healthz?a=b&c",
            "ready=http%3A8080%2Fhealthz%3Fa%3Db%26c",
        ),
        ("--wait", "PSL_WAIT", "1", "wait=1"),
        // The first request is parked only briefly.
        ("--wait", "PSL_WAIT", "1m", "wait=2"),
        ("--wait", "PSL_WAIT", "250ms", "wait=250ms"),
        ("--node", "PSL_NODE_NAME", "node-1.example", "node=node-1.example"),
    ] {
        let before = server.requests().len();
        for program in each_way(flag, variable, value) {
            at(&server, program).run(CEILING).expect_code(0);
        }
        let requests = server.requests();
        assert_eq!(requests.len(), before + 6);
        let has = |target: &str| {
            target.strip_prefix("/?").is_some_and(|query| query.split('&').any(|one| one == sent))
        };
        assert!(requests[before..].iter().all(|seen| has(&seen.target)), "{:?}", requests.last());
    }
    let before = server.requests().len();
    for program in each_way("--wait", "PSL_WAIT", "0") {
        at(&server, program).run(CEILING).expect_code(0);
    }
    assert!(
        server.requests()[before..].iter().all(|seen| !seen.target.contains("wait=")),
        "zero is not sent"
    );
}

#[test]
fn pause() {
    for program in each_way("--pause", "PSL_LOCK_CHECK_PERIOD", "250ms") {
        let server = Server::start(Behaviour::status(423, "Locked"));
        let running = at(&server, program).start();
        let requests = server.wait_for_requests(3, CEILING);
        drop(running);
        let gap = requests[2].at - requests[0].at;
        assert!(gap >= Duration::from_millis(500), "{gap:?}");
    }
}

#[test]
fn attempt_timeout() {
    let server = Server::start(Behaviour::Silent);
    // Longer than the default, so that the two differ without an upper bound.
    let programs = each_way("--attempt-timeout", "PSL_LOCK_CHECK_TIMEOUT", "1500ms");
    let running: Vec<_> =
        programs.into_iter().map(|program| at(&server, program).arg("--wait=0").start()).collect();
    for mut running in running {
        let line = wait_for_reason(&mut running, "no complete response in time");
        let waited = psl::duration::parse(&field(&line, "waited").unwrap()).unwrap();
        assert!(waited >= Duration::from_millis(1499), "{line}");
    }
}

#[test]
fn bounds_and_on_timeout() {
    let server = Server::start(Behaviour::Refuse);
    for (flag, variable) in
        [("--max-wait", "PSL_MAX_WAIT"), ("--unreachable-wait", "PSL_UNREACHABLE_WAIT")]
    {
        for program in each_way(flag, variable, "100ms") {
            let finished = at(&server, program).run(CEILING).expect_code(0);
            assert!(finished.stderr.contains(&format!("bound={flag}")), "{finished}");
        }
    }
    for (value, code) in [("fail", 1), ("start", 0)] {
        for program in each_way("--on-timeout", "PSL_ON_TIMEOUT", value) {
            at(&server, program).arg("--max-wait=50ms").run(CEILING).expect_code(code);
        }
    }
}

#[test]
fn zero_means_no_bound() {
    let server = Server::start(Behaviour::Sequence(vec![
        Behaviour::status(503, ""),
        Behaviour::ok("Lock acquired"),
    ]));
    let program =
        bare().args(["--max-wait=0", "--unreachable-wait=0s", "--pause=100ms", "--duration=0"]);
    let finished = at(&server, program).env("PSL_MAX_WAIT", "1ms").run(CEILING).expect_code(0);
    assert!(finished.stderr.contains("max_wait=none unreachable_wait=none"), "{finished}");
}

#[test]
fn log_format_and_level() {
    let server = free();
    for program in each_way("--log-format", "PSL_LOG_FORMAT", "json") {
        let finished = at(&server, program).run(CEILING).expect_code(0);
        assert!(
            finished.lines().iter().all(|line| line.starts_with("{\"level\":\"info\",\"msg\":") && line.ends_with('}')),
            "{finished}"
        );
    }
    for (filter, lines) in [("off", 0), ("error", 0), ("info", 2), ("init=warn", 0), ("", 2)] {
        let finished = at(&server, bare()).env("PSL_LOG", filter).run(CEILING).expect_code(0);
        assert_eq!(finished.lines().len(), lines, "{filter}: {finished}");
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn empty_variables_count_as_unset() {
    let server = free();
    let names = [
        "PSL_LOCK_HOST",
        "PSL_LOCK_DURATION",
        "PSL_LOCK_CHECK_PERIOD",
        "PSL_LOCK_CHECK_TIMEOUT",
        "PSL_HOLDER",
        "PSL_READY",
        "PSL_WAIT",
        "PSL_NODE_NAME",
        "PSL_MAX_WAIT",
        "PSL_UNREACHABLE_WAIT",
        "PSL_ON_TIMEOUT",
        "PSL_LOG_FORMAT",
        "PSL_LOG",
    ];
    let program = names.iter().fold(at(&server, bare()), |program, name| program.env(name, ""));
    program.run(CEILING).expect_code(0);
    let names: Vec<_> = server.requests()[0].query().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["holder", "wait"], "the defaults");
}

#[track_caller]
fn config_errors(program: &Program) -> (Finished, Vec<String>) {
    let finished = program.run(CEILING).expect_code(2);
    assert_eq!(finished.stdout, "", "{finished}");
    let lines = finished.lines();
    assert!(lines.iter().all(|line| line.starts_with("init: ")), "{finished}");
    (finished, lines)
}

#[test]
fn all_errors_are_printed_together() {
    let program = bare()
        .args([
            "--host",
            "http://x",
            "--pause=0",
            "--nonsense",
            "left-over",
            "--port=80",
            "--port=81",
            "--timeout",
            "5",
        ])
        .args(["--holder=a b", "--ready=8080", "--wait=1 s"])
        .env("PSL_MAX_WAIT", "8 m")
        .env("PSL_ON_TIMEOUT", "explode")
        .env("PSL_LOG", "a=b=c")
        .env("PSL_LOG_FORMAT", "xml");
    let (finished, lines) = config_errors(&program);
    for part in [
        "--host (PSL_LOCK_HOST): \"http://x\"",
        "--pause (PSL_LOCK_CHECK_PERIOD): \"0\"",
        "\"--nonsense\": unknown flag",
        "\"left-over\": unexpected argument",
        "--port (PSL_LOCK_PORT): given twice",
        "--timeout: unknown flag: use --duration (PSL_LOCK_DURATION)",
        "--holder (PSL_HOLDER): \"a b\" is not accepted; accepted: 1 to 512 visible ASCII characters",
        "--ready (PSL_READY): \"8080\" is not accepted; accepted: tcp:PORT, http:PORT or http:PORT/PATH",
        "--wait (PSL_WAIT): \"1 s\" is not accepted; accepted: whole seconds or a duration",
        "--max-wait (PSL_MAX_WAIT): \"8 m\"",
        "--on-timeout (PSL_ON_TIMEOUT): \"explode\" is not accepted; accepted: start or fail",
        "PSL_LOG: \"a=b=c\"",
        "--log-format (PSL_LOG_FORMAT): \"xml\"",
    ] {
        assert_eq!(
            lines.iter().filter(|line| line.contains(part)).count(),
            1,
            "{part}\n{finished}"
        );
    }
    assert_eq!(lines.len(), 13, "{finished}");
}

#[test]
fn each_error_names_flag_and_variable() {
    for (flag, variable, value) in [
        ("--host", "PSL_LOCK_HOST", "a b"),
        ("--port", "PSL_LOCK_PORT", "0"),
        ("--port", "PSL_LOCK_PORT", "70000"),
        ("--port", "PSL_LOCK_PORT", "://10.0.0.1:80"),
        ("--duration", "PSL_LOCK_DURATION", "1.5"),
        ("--pause", "PSL_LOCK_CHECK_PERIOD", "0s"),
        ("--pause", "PSL_LOCK_CHECK_PERIOD", "99ms"),
        ("--attempt-timeout", "PSL_LOCK_CHECK_TIMEOUT", "0"),
        ("--holder", "PSL_HOLDER", "a b"),
        ("--holder", "PSL_HOLDER", "$(POD_NAMESPACE)/$(POD_NAME)"),
        ("--holder", "PSL_HOLDER", "${POD_UID}"),
        ("--ready", "PSL_READY", "http:0/"),
        ("--ready", "PSL_READY", "http:80/a b"),
        ("--wait", "PSL_WAIT", "1.5"),
        ("--node", "PSL_NODE_NAME", "a b"),
        ("--node", "PSL_NODE_NAME", "$(NODE_NAME)"),
        ("--max-wait", "PSL_MAX_WAIT", "1d"),
        ("--unreachable-wait", "PSL_UNREACHABLE_WAIT", "18446744073709551616"),
        ("--on-timeout", "PSL_ON_TIMEOUT", "Start"),
        ("--log-format", "PSL_LOG_FORMAT", "text"),
    ] {
        for program in [bare().args([flag, value]), bare().env(variable, value)] {
            let (finished, lines) = config_errors(&program);
            assert!(
                lines.len() == 1
                    && lines[0].contains(&format!(
                        "{flag} ({variable}): \"{value}\" is not accepted; accepted: "
                    )),
                "{finished}"
            );
        }
    }
    let (finished, lines) = config_errors(&bare().arg("--duration=-5s"));
    assert!(lines.len() == 1 && lines[0].contains("--duration (PSL_LOCK_DURATION)"), "{finished}");
}

#[test]
fn help_and_version_always_work() {
    for flag in ["--help", "-help", "-h"] {
        let finished = bare()
            .args(["--nonsense", flag])
            .env("PSL_ON_TIMEOUT", "explode")
            .run(CEILING)
            .expect_code(0);
        assert_eq!(finished.stderr, "");
        for part in [
            "--host",
            "PSL_LOCK_HOST",
            "--holder",
            "--ready",
            "--wait ",
            "--unreachable-wait",
            "PSL_LOG",
            "143",
            "/dev/termination-log",
        ] {
            assert!(finished.stdout.contains(part), "{part}: {finished}");
        }
        assert!(!finished.stdout.contains("--timeout"), "{finished}");
    }
    let finished = bare().arg("--version").run(CEILING).expect_code(0);
    assert!(
        finished.stdout.starts_with(concat!("init ", env!("CARGO_PKG_VERSION"), " (")),
        "{finished}"
    );
}

/// `--help` is for terminals: one line for each setting, and no Markdown.
#[test]
fn help_fits_100_columns_without_markdown() {
    let help = bare().arg("--help").run(CEILING).expect_code(0).stdout;
    for line in help.lines() {
        assert!(line.chars().count() <= 100 && !line.contains('`'), "{line}");
    }
}
