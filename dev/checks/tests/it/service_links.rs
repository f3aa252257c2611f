//! Kubernetes sets variables in each pod for the Services of its namespace. They must not configure
//! the programs.

use std::collections::BTreeSet;

use testkit::CEILING;
use testkit::program::Program;

use crate::shell;

/// Likely names of Services in the namespace of the pods.
const PLAUSIBLE: [&str; 16] = [
    "psl",
    "psl-lock",
    "psl-init",
    "psl-health",
    "psl-bind",
    "psl-hc",
    "psl-log",
    "psl-k8s",
    "psl-k8s-api",
    "psl-node",
    "psl-wait",
    "lock",
    "init",
    "health",
    "node",
    "pod-startup-lock",
];

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];

/// The variables that the kubelet sets for a Service of one port with this name.
fn links(service: &str, port_name: &str, port: u16, protocol: &str) -> Vec<(String, String)> {
    let name = service.to_uppercase().replace('-', "_");
    let url = format!("{}://10.96.7.7:{port}", protocol.to_lowercase());
    let of_port = format!("PORT_{port}_{protocol}");
    let variables = [
        ("SERVICE_HOST".to_owned(), "10.96.7.7".to_owned()),
        ("SERVICE_PORT".to_owned(), port.to_string()),
        (format!("SERVICE_PORT_{}", port_name.to_uppercase().replace('-', "_")), port.to_string()),
        ("PORT".to_owned(), url.clone()),
        (of_port.clone(), url),
        (format!("{of_port}_PROTO"), protocol.to_lowercase()),
        (format!("{of_port}_PORT"), port.to_string()),
        (format!("{of_port}_ADDR"), "10.96.7.7".to_owned()),
    ];
    variables.into_iter().map(|(suffix, value)| (format!("{name}_{suffix}"), value)).collect()
}

/// The variables in a program's `--help`.
fn variables(program: &Program) -> BTreeSet<String> {
    let help = program.clone().arg("--help").run(CEILING).expect_code(0).stdout;
    let words = help.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.contains('_') && !word.starts_with('_')).map(str::to_owned).collect()
}

/// The Services that would set this variable, whatever the name of their port.
fn services_that_set(variable: &str) -> Vec<String> {
    let splits = variable.match_indices('_').map(|(at, _)| variable.split_at(at));
    let sets = |(name, rest): (&str, &str)| {
        let service = name.to_lowercase().replace('_', "-");
        let port_name = rest.strip_prefix("_SERVICE_PORT_").unwrap_or("HTTP").to_lowercase();
        let port = rest.split('_').find_map(|word| word.parse().ok()).unwrap_or(80);
        let all = PROTOCOLS.iter().flat_map(|protocol| links(&service, &port_name, port, protocol));
        all.into_iter().any(|(name, _)| name == variable).then_some(service)
    };
    splits.filter_map(sets).collect()
}

#[test]
fn services_set_these_variables() {
    for (variable, expected) in [
        ("PSL_LOCK_PORT", &["psl-lock"][..]),
        ("PSL_SERVICE_HOST", &["psl"]),
        ("A_SERVICE_PORT", &["a", "a-service"]),
        ("A_SERVICE_PORT_HTTP", &["a"]),
        ("A_PORT_53_UDP_ADDR", &["a"]),
        ("A_PORT_53_UDP_PORT", &["a", "a-port-53-udp"]),
        ("PSL_LOCK_HOST", &[]),
    ] {
        let mut services = services_that_set(variable);
        services.sort();
        assert_eq!(services, expected, "{variable}");
    }
}

/// Each variable that a Service can set ends in `_PORT`, and a Service link in it counts as unset.
#[test]
fn no_service_configures_a_program() {
    for (name, may_be_set) in
        [("init", "PSL_LOCK_PORT"), ("lock", "PSL_BIND_PORT"), ("health", "PSL_BIND_PORT")]
    {
        let Some(program) = shell::program(name) else { return };
        let variables = variables(&program);
        assert!(variables.len() > 5 && variables.contains(may_be_set), "{variables:?}");
        let is_set = |variable: &&String| {
            services_that_set(variable)
                .iter()
                .any(|service| service != "kubernetes" && service != "kubernetes-service")
        };
        let set: Vec<_> = variables.iter().filter(is_set).collect();
        assert_eq!(set, [may_be_set], "{name}");
        for service in PLAUSIBLE {
            for protocol in PROTOCOLS {
                let links = links(service, "http", 8888, protocol);
                let read: Vec<_> =
                    links.iter().filter(|(name, _)| variables.contains(name)).collect();
                assert!(
                    read.iter().all(|(name, _)| name == may_be_set),
                    "{name}: {service} sets {read:?}"
                );
            }
        }
    }
}

fn beside(program: Program, protocol: &str) -> Program {
    let all = PLAUSIBLE.iter().flat_map(|service| links(service, "http", 8888, protocol));
    all.into_iter().fold(program, |program, (name, value)| program.env(name, value))
}

#[test]
fn the_programs_start_beside_such_services() {
    for protocol in PROTOCOLS {
        let (Some(init), Some(lock), Some(health)) =
            (shell::program("init"), shell::program("lock"), shell::program("health"))
        else {
            return;
        };
        let program =
            beside(init, protocol).env("PSL_LOCK_HOST", "127.0.0.73").env("PSL_MAX_WAIT", "1ms");
        let finished = program.run(CEILING).expect_code(0);
        assert!(finished.stderr.contains("lock=http://127.0.0.73:8888/"), "{finished}");
        let mut lock = beside(lock, protocol).env("PSL_BIND_HOST", "127.0.0.73").start();
        assert_eq!(lock.port(), 8888);
        let mut health = beside(health, protocol)
            .env("PSL_BIND_HOST", "127.0.0.73")
            .env("PSL_NODE_NAME", "node-a")
            .env("PSL_HC_DAEMONSET_ENABLED", "false")
            .env("PSL_HC_NODE_CONDITIONS", "false")
            .start();
        assert_eq!(health.port(), 9999);
    }
}
