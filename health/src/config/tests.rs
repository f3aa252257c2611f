use std::ffi::OsString;

use super::*;

fn read_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let variables: Vec<(String, String)> =
        variables.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    let lookup =
        move |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, v)| OsString::from(v));
    let given = Input::read(&PROGRAM, arguments.iter().map(OsString::from).collect(), lookup);
    read(given.expect("not asked for help"))
}

/// The checks with these settings, a node and a `kubectl proxy`.
fn asked(arguments: &[&str], variables: &[(&str, &str)]) -> ClusterConfig {
    let mut all = vec!["--node-name=n", "--baseUrl=http://127.0.0.1:8001"];
    all.extend(arguments);
    read_with(&all, variables)
        .unwrap_or_else(|e| panic!("{arguments:?} {variables:?}: {e:?}"))
        .cluster
        .expect("it counts")
}

fn label(key: &str, value: &str) -> Label {
    Label { key: key.into(), value: value.into() }
}

#[test]
fn defaults() {
    let config = read_with(&["--node-name=n", "--baseUrl=http://127.0.0.1:8001"], &[]).unwrap();
    assert_eq!((config.host, config.port), (None, 9999));
    let asked = config.cluster.unwrap();
    assert_eq!((asked.node.as_str(), asked.filter), ("n", Some(Filter::default())));
    assert_eq!(
        (asked.fail_period, asked.pass_period),
        (Duration::from_secs(10), Duration::from_secs(60))
    );
    assert_eq!((asked.latch, asked.conditions, asked.load), (false, true, None));
    let five_minutes = Duration::from_secs(300);
    assert_eq!((asked.boot_grace, asked.stale_after), (five_minutes, five_minutes));
}

#[test]
fn the_boot_check_is_automatic_only_in_a_pod() {
    let outside = |check: &str| asked(&[check], &[]).boot_check;
    for (flag, expected) in [
        ("--boot-check=auto", BootCheckMode::Off),
        ("--boot-check=on", BootCheckMode::On),
        ("--boot-check=off", BootCheckMode::Off),
    ] {
        assert_eq!(outside(flag), expected, "{flag}");
    }
    assert_eq!(asked(&[], &[]).boot_check, BootCheckMode::Off);
    let variables = [
        ("NODE_NAME", "n"),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
    ];
    assert_eq!(
        read_with(&[], &variables).unwrap().cluster.unwrap().boot_check,
        BootCheckMode::Auto
    );
}

#[test]
fn settings_of_the_load() {
    let enabled = ("PSL_HC_NODELOAD_ENABLED", "true");
    let settings = |threshold, period| LoadSettings {
        threshold,
        period: Duration::from_secs(period),
        stale_after: Duration::from_secs(300),
    };
    assert_eq!(asked(&[], &[enabled]).load, Some(settings(80, 10)));
    let (threshold, period) =
        (("PSL_HC_NODELOAD_CPU_THRESHOLD", "0"), ("PSL_HC_NODELOAD_PERIOD", "30"));
    assert_eq!(asked(&[], &[enabled, threshold, period]).load, Some(settings(0, 30)));
    assert_eq!(asked(&[], &[threshold, period]).load, None);
    for value in ["101", "-1", "80%", "", "1.5"] {
        let found = read_with(
            &["--node-name=n", "--baseUrl=http://127.0.0.1"],
            &[enabled, ("PSL_HC_NODELOAD_CPU_THRESHOLD", value)],
        );
        assert_eq!(found.is_ok(), value.is_empty(), "{value}");
    }
}

#[test]
fn checks_without_daemonsets() {
    let off = ("PSL_HC_DAEMONSET_ENABLED", "false");
    let base = ["--node-name=n", "--baseUrl=http://127.0.0.1"];
    let with = |more: &[&str], variables: &[(&str, &str)]| {
        let cluster = read_with(&[&base, more].concat(), variables).unwrap().cluster;
        cluster
            .map(|cluster| (cluster.filter.is_some(), cluster.conditions, cluster.load.is_some()))
    };
    assert_eq!(with(&[], &[]), Some((true, true, false)));
    assert_eq!(with(&["--conditions=false"], &[]), Some((true, false, false)));
    assert_eq!(with(&[], &[off]), Some((false, true, false)), "conditions count by default");
    assert_eq!(with(&["--conditions=false"], &[off]), None);
    assert_eq!(with(&["--conditions"], &[off]), Some((false, true, false)));
    let load = ("PSL_HC_NODELOAD_ENABLED", "1");
    assert_eq!(with(&[], &[off, load]), Some((false, true, true)));
    assert_eq!(with(&["--conditions=false"], &[off, load]), Some((false, false, true)));
    let pod = [off, ("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443")];
    let in_pod = read_with(&["--node-name=n"], &pod).unwrap().cluster.unwrap();
    assert!(in_pod.conditions && in_pod.filter.is_none(), "in a pod there is an API server");
}

#[test]
fn each_setting_by_flag_and_by_variable() {
    let both = |flag: &str, variable: &str, value: &str| {
        let joined = format!("{flag}={value}");
        let by_flag = asked(&[&joined], &[(variable, "")]);
        assert_eq!(by_flag, asked(&[], &[(variable, value)]), "{flag} {variable}");
        by_flag
    };
    assert_eq!(
        both("--namespace", "PSL_HC_DAEMONSET_NAMESPACE", "x").filter.unwrap().namespace.as_deref(),
        Some("x")
    );
    assert!(
        both("--hostNet", "PSL_HC_DAEMONSET_HOST_NETWORK", "true").filter.unwrap().host_network
    );
    assert!(!both("--hostNet", "PSL_HC_DAEMONSET_HOST_NETWORK", "f").filter.unwrap().host_network);
    assert_eq!(
        both("--in", "PSL_HC_DAEMONSET_INCLUDE_LABELS", "a:b").filter.unwrap().include,
        [label("a", "b")]
    );
    assert_eq!(
        both("--ex", "PSL_HC_DAEMONSET_EXCLUDE_LABELS", "a:").filter.unwrap().exclude,
        [label("a", "")]
    );
    assert_eq!(
        both("--failHc", "PSL_HC_DAEMONSET_PERIOD_FAIL", "7").fail_period,
        Duration::from_secs(7)
    );
    assert_eq!(
        both("--passHc", "PSL_HC_DAEMONSET_PERIOD_PASS", "1m30s").pass_period,
        Duration::from_secs(90)
    );
    assert!(both("--latch", "PSL_LATCH", "boot").latch);
    assert!(!both("--latch", "PSL_LATCH", "off").latch);
    assert!(!both("--conditions", "PSL_HC_NODE_CONDITIONS", "false").conditions);
    assert_eq!(both("--boot-check", "PSL_BOOT_CHECK", "on").boot_check, BootCheckMode::On);
    assert_eq!(both("--boot-grace", "PSL_BOOT_GRACE", "2m").boot_grace, Duration::from_secs(120));
    assert_eq!(
        both("--stale-after", "PSL_STALE_AFTER", "1h").stale_after,
        Duration::from_secs(3600)
    );
    assert_eq!(
        both("--token-file", "PSL_K8S_TOKEN_FILE", "/t").server.token_file.as_deref(),
        Some("/t".as_ref())
    );
    assert_eq!(both("--ca-file", "PSL_K8S_CA_FILE", "/c").server.ca_file, PathBuf::from("/c"));
    let several = asked(&["--in", "a:b", "-in=x.example/c:d"], &[]).filter.unwrap().include;
    assert_eq!(several, [label("a", "b"), label("x.example/c", "d")]);
    let list =
        asked(&[], &[("PSL_HC_DAEMONSET_EXCLUDE_LABELS", "a:b, a:c,")]).filter.unwrap().exclude;
    assert_eq!(list, [label("a", "b"), label("a", "c")]);
    assert!(asked(&["-hostNet"], &[]).filter.unwrap().host_network);
}

#[test]
fn nodes_and_servers() {
    let server = |arguments: &[&str], variables: &[(&str, &str)]| {
        let asked = read_with(arguments, variables)
            .unwrap_or_else(|e| panic!("{arguments:?} {variables:?}: {e:?}"))
            .cluster;
        let ClusterConfig { node, server: ApiServer { url, token_file, ca_file }, .. } =
            asked.expect("it counts");
        let file = |path: PathBuf| path.display().to_string();
        (node.to_string(), url.to_string(), token_file.map(file), file(ca_file))
    };
    let account = |file: &str| format!("/var/run/secrets/kubernetes.io/serviceaccount/{file}");
    let in_cluster =
        |url: &str| ("n".to_owned(), url.to_owned(), Some(account("token")), account("ca.crt"));
    for (host, port, url) in [
        ("10.96.0.1", "443", "https://10.96.0.1:443/"),
        ("fd00::1", "6443", "https://[fd00::1]:6443/"),
        ("kubernetes.default.svc", "443", "https://kubernetes.default.svc:443/"),
    ] {
        let variables = [
            ("PSL_NODE_NAME", "n"),
            ("KUBERNETES_SERVICE_HOST", host),
            ("KUBERNETES_SERVICE_PORT", port),
        ];
        assert_eq!(server(&[], &variables), in_cluster(url));
    }
    // `--baseUrl` wins, and the node's second variable works.
    let variables = [
        ("NODE_NAME", "n"),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
    ];
    assert_eq!(
        server(&["--baseUrl", "https://api.example:6443/k8s"], &variables),
        in_cluster("https://api.example:6443/k8s")
    );
    assert_eq!(
        server(&[], &[variables[0], variables[1], variables[2], ("PSL_K8S_API_URL", "")]).1,
        "https://10.96.0.1:443/"
    );
    let plain = |url: &str| server(&["--node-name=n", "--baseUrl", url], &[]).2;
    assert_eq!((plain("http://127.0.0.1:8001"), plain("http://api.example")), (None, None));
    for loopback in
        ["http://127.0.0.1:8001", "http://127.1.2.3", "http://[::1]:8001", "http://localhost:8001"]
    {
        let arguments = ["--node-name=n", "--token-file=/t", "--baseUrl", loopback];
        assert_eq!(server(&arguments, &[]).2.as_deref(), Some("/t"), "{loopback}");
    }
}

#[test]
fn without_daemonsets_no_api_server_is_required() {
    for value in ["false", "0", "F"] {
        let config = read_with(&["--node-name=n"], &[("PSL_HC_DAEMONSET_ENABLED", value)]).unwrap();
        assert_eq!(config.cluster, None);
    }
}

#[test]
fn labels() {
    for (text, expected) in [
        ("a:b", Some(("a", "b"))),
        ("a:", Some(("a", ""))),
        ("example.org/a_b.c-D:1.0_x-Y", Some(("example.org/a_b.c-D", "1.0_x-Y"))),
        ("A:B", Some(("A", "B"))),
        (":b", None),
        ("a", None),
        ("", None),
        ("a=b", None),
        ("a:b:c", None),
        ("a b:c", None),
        ("-a:b", None),
        ("a-:b", None),
        ("a:-b", None),
        ("a:b.", None),
        ("/a:b", None),
        ("x/:b", None),
        ("x/y/z:b", None),
        ("Example.org/a:b", None),
        ("ä:b", None),
    ] {
        assert_eq!(
            super::parse_label(text).ok(),
            expected.map(|(key, value)| label(key, value)),
            "{text}"
        );
    }
    let (long, prefix) = ("x".repeat(63), "y".repeat(253));
    assert!(super::parse_label(&format!("{prefix}/{long}:{long}")).is_ok());
    assert!(super::parse_label(&format!("{long}x:b")).is_err());
    assert!(super::parse_label(&format!("a:{long}x")).is_err());
    assert!(super::parse_label(&format!("{prefix}y/a:b")).is_err());
}

#[test]
fn names() {
    let long = "x".repeat(253);
    for (text, is_node, is_namespace) in [
        ("a", true, true),
        ("node-1", true, true),
        ("0", true, true),
        ("ip-10-0-0-1.ec2.internal", true, false),
        (&long, true, false),
        ("", false, false),
        ("A", false, false),
        ("a_b", false, false),
        ("-a", false, false),
        ("a-", false, false),
        (".a", false, false),
        ("a..b", false, false),
        ("a/b", false, false),
        ("a%2F", false, false),
        (&format!("{long}x"), false, false),
    ] {
        assert_eq!(
            (NodeName::parse(text).is_ok(), parse_namespace(text).is_ok()),
            (is_node, is_namespace),
            "{text}"
        );
    }
}

#[test]
#[expect(clippy::type_complexity, reason = "a table of cases is easier to read whole")]
fn errors_name_the_setting() {
    let proxy = ["--node-name=n", "--baseUrl=http://127.0.0.1:8001"];
    let no_api = "--baseUrl (PSL_K8S_API_URL): no API server; set it, or run in a pod, where Kubernetes sets KUBERNETES_SERVICE_HOST \
                  and KUBERNETES_SERVICE_PORT, or set PSL_HC_DAEMONSET_ENABLED=false";
    let no_node = "--node-name (PSL_NODE_NAME, NODE_NAME): required; name of this node";
    let cases: &[(&[&str], &[(&str, &str)], &[&str])] = &[
        (&[], &[], &[no_node, no_api]),
        (&["--node-name=n"], &[], &[no_api]),
        (&["--node-name=n"], &[("KUBERNETES_SERVICE_HOST", "10.96.0.1")], &[no_api]),
        (&["--node-name=n"], &[("KUBERNETES_SERVICE_PORT", "443")], &[no_api]),
        (
            &["--node-name=n"],
            &[
                ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
                ("KUBERNETES_SERVICE_PORT", "tcp://10.96.0.1:443"),
            ],
            &[
                "KUBERNETES_SERVICE_PORT: \"tcp://10.96.0.1:443\" is not accepted; accepted: a port, 1 to 65535",
            ],
        ),
        (&["--baseUrl=http://127.0.0.1:8001"], &[], &[no_node]),
        (&[], &[("PSL_HC_DAEMONSET_ENABLED", "false")], &[no_node]),
        (&["--node-name=n", "--conditions"], &[("PSL_HC_DAEMONSET_ENABLED", "false")], &[no_api]),
        (
            &[proxy[1], "--node-name", "Node"],
            &[],
            &[
                "--node-name (PSL_NODE_NAME, NODE_NAME): \"Node\" is not accepted; accepted: a node's name: at most 253 lower-case \
               letters, digits, - and ., beginning and ending with a letter or digit",
            ],
        ),
        (
            &[proxy[0], "--baseUrl=https://h/?x=1"],
            &[],
            &[
                "--baseUrl (PSL_K8S_API_URL): \"https://h/?***\" is not accepted; accepted: an address without a query (?…)",
            ],
        ),
        (
            &[proxy[0], "--baseUrl=h:80"],
            &[],
            &[
                "--baseUrl (PSL_K8S_API_URL): \"h:80\" is not accepted; accepted: http://HOST[:PORT][/PATH] (port 80 where none is \
               given), https://HOST[:PORT][/PATH] (port 443 where none is given)",
            ],
        ),
        (
            &[proxy[0], "--baseUrl=http://api.example", "--token-file=/t"],
            &[],
            &[
                "--token-file (PSL_K8S_TOKEN_FILE): not with http://api.example:80/, the token would be sent unencrypted; \
               use https://, or http:// to the loopback",
            ],
        ),
        (
            &[proxy[0], proxy[1], "--in=a:b", "--ex=c:d"],
            &[],
            &[
                "--in (PSL_HC_DAEMONSET_INCLUDE_LABELS) and --ex (PSL_HC_DAEMONSET_EXCLUDE_LABELS): set one of them, not both",
            ],
        ),
        (
            &[proxy[0], proxy[1], "--in=a:b", "--in=a:c"],
            &[],
            &["--in (PSL_HC_DAEMONSET_INCLUDE_LABELS): no DaemonSet has both a:b and a:c"],
        ),
        (
            &[proxy[0], proxy[1], "--namespace=A", "--failHc=0", "--passHc=1x"],
            &[],
            &[
                "--namespace (PSL_HC_DAEMONSET_NAMESPACE): \"A\" is not accepted; accepted: the name of a namespace: at most 63 \
                 lower-case letters, digits and -, beginning and ending with a letter or digit",
                "--failHc (PSL_HC_DAEMONSET_PERIOD_FAIL): \"0\" is not accepted; accepted: whole seconds or a duration such as \
                 500ms, 1.5s, 1m30s, 2h, at least 100ms",
                "--passHc (PSL_HC_DAEMONSET_PERIOD_PASS): \"1x\" is not accepted; accepted: whole seconds or a duration such as \
                 500ms, 1.5s, 1m30s, 2h, at least 100ms",
            ],
        ),
        (
            &[
                proxy[0],
                proxy[1],
                "--latch=always",
                "--boot-check=maybe",
                "--boot-grace=0",
                "--stale-after=0",
                "--conditions=2",
            ],
            &[("PSL_HC_NODELOAD_ENABLED", "often"), ("PSL_HC_NODELOAD_PERIOD", "0")],
            &[
                "--conditions (PSL_HC_NODE_CONDITIONS): \"2\" is not accepted; accepted: true or false (also 1, 0, t, f, T, F, TRUE, FALSE, True, False)",
                "--stale-after (PSL_STALE_AFTER): \"0\" is not accepted; accepted: whole seconds or a duration such as \
                 500ms, 1.5s, 1m30s, 2h, more than zero",
                "PSL_HC_NODELOAD_ENABLED: \"often\" is not accepted; accepted: true or false (also 1, 0, t, f, T, F, TRUE, FALSE, True, False)",
                "PSL_HC_NODELOAD_PERIOD: \"0\" is not accepted; accepted: whole seconds or a duration such as \
                 500ms, 1.5s, 1m30s, 2h, at least 100ms",
                "--latch (PSL_LATCH): \"always\" is not accepted; accepted: boot, off",
                "--boot-check (PSL_BOOT_CHECK): \"maybe\" is not accepted; accepted: on, off, auto",
                "--boot-grace (PSL_BOOT_GRACE): \"0\" is not accepted; accepted: whole seconds or a duration such as \
                 500ms, 1.5s, 1m30s, 2h, more than zero",
            ],
        ),
    ];
    for (arguments, variables, expected) in cases {
        let mistakes =
            read_with(arguments, variables).expect_err(&format!("{arguments:?} {variables:?}"));
        assert_eq!(mistakes, *expected, "{arguments:?} {variables:?}");
    }
}
