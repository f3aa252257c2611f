//! Settings, configuration errors, help, logs and signals, as a user sees them.

use testkit::CEILING;
use testkit::program::field;

use super::*;

/// The requested paths and the counts of the first verdict.
fn round(health: Program, cluster: &Cluster) -> (Vec<String>, String) {
    let mut health = health.start();
    let state = testkit::eventually("a verdict", CEILING, || {
        let state = state(&mut health);
        state["last_success_seconds_ago"].is_u64().then_some(state)
    });
    let mut paths: Vec<_> = cluster.api.requests().into_iter().map(|asked| asked.path).collect();
    // The order of the threads is random, and a watch may not have been requested yet.
    paths.retain(|path| path != "/api/v1/nodes");
    paths.sort();
    paths.dedup();
    (paths, state["counts"].to_string())
}

#[test]
fn each_setting_by_flag_and_by_variable() {
    let rows: &[(&str, &str, &str)] = &[
        ("--namespace", "PSL_HC_DAEMONSET_NAMESPACE", "kube-system"),
        ("--hostNet", "PSL_HC_DAEMONSET_HOST_NETWORK", "true"),
        ("--in", "PSL_HC_DAEMONSET_INCLUDE_LABELS", "app:fluentd"),
        ("--ex", "PSL_HC_DAEMONSET_EXCLUDE_LABELS", "app:fluentd"),
        ("--failHc", "PSL_HC_DAEMONSET_PERIOD_FAIL", "7s"),
        ("--passHc", "PSL_HC_DAEMONSET_PERIOD_PASS", "7s"),
    ];
    let plain = |cluster: &Cluster| {
        cluster.point(bare_health().arg("--node-name=node-a"), &cluster.api.url())
    };
    let cluster = Cluster::new();
    let unset = round(plain(&cluster), &cluster);
    for (flag, variable, value) in rows {
        let (one, two) = (Cluster::new(), Cluster::new());
        let by_flag = round(plain(&one).arg(format!("{flag}={value}")), &one);
        let by_variable = round(plain(&two).env(variable, value), &two);
        assert_eq!(by_flag, by_variable, "{flag} {variable}");
        assert_eq!(by_flag == unset, flag.ends_with("Hc"), "{flag} makes a difference");
    }
}

#[test]
fn addresses_by_variable() {
    let cluster = Cluster::new();
    let health = Program::new(env!("CARGO_BIN_EXE_health"))
        .env("PSL_BIND_HOST", "127.0.0.2")
        .env("PSL_BIND_PORT", "0")
        .env("PSL_NODE_NAME", "node-b")
        .env("NODE_NAME", "node-a")
        .env("PSL_K8S_API_URL", cluster.api.url())
        .env("PSL_K8S_CA_FILE", cluster.authority.file())
        .env("PSL_K8S_TOKEN_FILE", cluster.token_file())
        .env("PSL_LOG_FORMAT", "json")
        .env("PSL_LOG", "debug");
    let mut health = health.start();
    let line = health.wait_for_text("\"msg\":\"listening\"", CEILING);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address: std::net::SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(address.ip().to_string(), "127.0.0.2");
    cluster.api.wait_for_request(|asked| asked.path == "/api/v1/nodes/node-b", CEILING);
    assert_eq!(Request::get("/livez").send(address, CEILING).unwrap().status, 200);
    for line in health.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
    }
}

#[test]
fn the_node_by_its_second_variable() {
    let cluster = Cluster::new();
    let health = bare_health().env("NODE_NAME", "node-b").env("PSL_NODE_NAME", "");
    let _health = cluster.point(health, &cluster.api.url()).start();
    cluster.api.wait_for_request(|asked| asked.path == "/api/v1/nodes/node-b", CEILING);
}

#[test]
fn health_binds_all_addresses_by_default() {
    let health = Program::new(env!("CARGO_BIN_EXE_health")).args(["--port=0", "--node-name=a"]);
    let mut health = health.env("PSL_HC_DAEMONSET_ENABLED", "false").start();
    let port = health.port();
    for address in ["127.0.0.1", "127.0.0.5"] {
        let address = std::net::SocketAddr::new(address.parse().unwrap(), port);
        assert_eq!(Request::get("/").send(address, CEILING).unwrap().status, 200);
    }
    let v6 = std::net::SocketAddr::new("::1".parse().unwrap(), port);
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        assert_eq!(Request::get("/").send(v6, CEILING).unwrap().status, 200);
    } else {
        testkit::skip("there is no ::1 here");
    }
}

#[test]
fn all_configuration_errors_are_reported_at_once() {
    let health = Program::new(env!("CARGO_BIN_EXE_health"))
        .args([
            "--port=70000",
            "--host",
            "--nonsense",
            "left-over",
            "--failHc=0",
            "--in=a:b",
            "--latch=never",
        ])
        .args(["--hostNet=maybe", "--namespace", "A", "--namespace", "b"])
        .env("PSL_HC_DAEMONSET_EXCLUDE_LABELS", "c:d,broken")
        .env("PSL_HC_DAEMONSET_ENABLED", "perhaps")
        .env("PSL_HC_DAEMONSET_PERIOD_PASS", "soon")
        .env("PSL_LOG_FORMAT", "xml")
        .env("PSL_LOG", "a=b=c")
        .env("PSL_K8S_API_URL", "http://user:secret@h/")
        .env("NODE_NAME", "Node");
    let finished = health.run(CEILING).expect_code(2);
    let lines = finished.lines();
    for part in [
        "--host (PSL_BIND_HOST): a value is missing",
        "\"--nonsense\": unknown flag",
        "\"left-over\": unexpected argument",
        "--latch (PSL_LATCH): \"never\" is not accepted; accepted: boot, off",
        "--port (PSL_BIND_PORT): \"70000\" is not accepted",
        "--node-name (PSL_NODE_NAME, NODE_NAME): \"Node\" is not accepted",
        "--baseUrl (PSL_K8S_API_URL): \"http://***@h/\" is not accepted; accepted: an address without user and password",
        "PSL_HC_DAEMONSET_ENABLED: \"perhaps\" is not accepted",
        "--namespace (PSL_HC_DAEMONSET_NAMESPACE): given twice",
        "--hostNet (PSL_HC_DAEMONSET_HOST_NETWORK): \"maybe\" is not accepted",
        "--ex (PSL_HC_DAEMONSET_EXCLUDE_LABELS): \"broken\" is not accepted; accepted: KEY:VALUE of a Kubernetes label",
        "--in (PSL_HC_DAEMONSET_INCLUDE_LABELS) and --ex (PSL_HC_DAEMONSET_EXCLUDE_LABELS): set one of them, not both",
        "--failHc (PSL_HC_DAEMONSET_PERIOD_FAIL): \"0\" is not accepted",
        "--passHc (PSL_HC_DAEMONSET_PERIOD_PASS): \"soon\" is not accepted",
        "--log-format (PSL_LOG_FORMAT): \"xml\" is not accepted",
        "PSL_LOG: \"a=b=c\" is not accepted",
    ] {
        let found =
            lines.iter().filter(|line| line.starts_with(&format!("health: {part}"))).count();
        assert_eq!(found, 1, "{part}\n{finished}");
    }
    assert!(
        lines.iter().all(|line| line.starts_with("health: ") && !line.contains("secret")),
        "{finished}"
    );
}

#[test]
fn missing_settings_are_named() {
    let finished = Program::new(env!("CARGO_BIN_EXE_health")).run(CEILING).expect_code(2);
    assert_eq!(
        finished.stderr,
        "health: --node-name (PSL_NODE_NAME, NODE_NAME): required; name of this node\n\
         health: --baseUrl (PSL_K8S_API_URL): no API server; set it, or run in a pod, where Kubernetes sets KUBERNETES_SERVICE_HOST \
         and KUBERNETES_SERVICE_PORT, or set PSL_HC_DAEMONSET_ENABLED=false\n"
    );
}

#[test]
fn help_and_version() {
    let help = Program::new(env!("CARGO_BIN_EXE_health"))
        .args(["--nonsense", "--help"])
        .run(CEILING)
        .expect_code(0);
    for setting in health::config::PROGRAM.settings {
        assert!(setting.names().all(|name| help.stdout.contains(name)), "{help}");
        assert!(help.stdout.contains(setting.purpose()), "{help}");
    }
    for line in help.stdout.lines() {
        assert!(line.chars().count() <= 100 && !line.contains('`'), "{line}");
    }
    let version =
        Program::new(env!("CARGO_BIN_EXE_health")).arg("--version").run(CEILING).expect_code(0);
    assert!(
        version.stdout.starts_with(concat!("health ", env!("CARGO_PKG_VERSION"), " (")),
        "{version}"
    );
    assert!(version.stderr.is_empty() && help.stderr.is_empty());
}

#[test]
fn a_port_in_use_is_a_failure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let health =
        Program::new(env!("CARGO_BIN_EXE_health")).args(["--host=127.0.0.1", "--node-name=a"]);
    let health = health.arg(format!("--port={port}")).env("PSL_HC_DAEMONSET_ENABLED", "false");
    let finished = health.run(CEILING).expect_code(1);
    assert!(
        finished.stderr.starts_with(&format!("level=error msg=\"cannot bind 127.0.0.1:{port}: ")),
        "{finished}"
    );
}

#[test]
fn signals_end_the_program_at_once() {
    for (signal, fault) in
        [("TERM", None), ("INT", None), ("TERM", Some(testkit::api::Fault::Hang))]
    {
        let cluster = Cluster::new();
        if let Some(fault) = fault {
            cluster.api.fault(NODE, fault);
        }
        let mut health = cluster.health().start();
        health.port();
        cluster.api.wait_for_request(|asked| asked.path == NODE, CEILING);
        let start = std::time::Instant::now();
        health.signal(signal);
        let finished = health.wait(CEILING).expect_code(0);
        // Well under 100 ms on an idle machine; this one is shared.
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}\n{finished}", start.elapsed());
    }
}

#[test]
fn signals_end_the_program_as_process_1() {
    let cluster = Cluster::new();
    let mut health = match cluster.health().as_pid_1() {
        Ok(health) => health.start(),
        Err(why) => return testkit::skip(&why),
    };
    wait_for_answer(&mut health, 412, "node-exporter");
    health.signal("TERM");
    health.wait(CEILING).expect_code(0);
}

#[test]
fn changes_are_logged_and_at_debug_each_verdict() {
    let cluster = Cluster::new();
    let mut health = cluster.health().env("PSL_LOG", "debug").start();
    let line = health.wait_for_text("msg=\"the node is not healthy\"", CEILING);
    assert!(line.starts_with("level=info "), "{line}");
    assert_eq!(field(&line, "waiting").as_deref(), Some("1"));
    assert_eq!(
        field(&line, "why").as_deref(),
        Some("monitoring/node-exporter: pod node-exporter-szjrd is Running, but not ready")
    );
    let line = health.wait_for_text("msg=\"verdict unchanged\"", CEILING);
    assert!(line.starts_with("level=debug "), "{line}");
    assert_eq!(health.count(|line| line.contains("the node is not healthy")), 1);
    assert!(!health.lines().concat().contains(TOKEN), "{health}");
}

#[test]
fn paths_and_methods() {
    let health = bare_health().arg("--node-name=a").env("PSL_HC_DAEMONSET_ENABLED", "false");
    let mut health = health.start();
    let address = health.addr();
    for (method, path, status) in [
        ("GET", "/", 200),
        ("GET", "/livez", 200),
        ("GET", "/readyz", 200),
        ("GET", "/state", 200),
        ("GET", "/metrics", 200),
        ("GET", "/?x=1", 200),
        ("GET", "/healthz", 404),
        ("POST", "/", 405),
        ("HEAD", "/", 405),
        ("DELETE", "/metrics", 405),
    ] {
        let reply = Request::new(method, path).send(address, CEILING).unwrap();
        assert_eq!(reply.status, status, "{method} {path}");
        assert_eq!(reply.header("allow"), (status == 405).then_some("GET"), "{method} {path}");
    }
}
