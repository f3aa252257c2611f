//! The identity of both sides: CA, certificate and token; and the address of the API server.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use testkit::CEILING;
use testkit::api::{NARROW_TOKEN, Role};

use super::*;

#[test]
fn a_replaced_token_is_used_for_the_next_request() {
    let cluster = Cluster::new();
    cluster.heal();
    let mut health = cluster.health().arg("--stale-after=1ms").start();
    wait_for_answer(&mut health, 200, "");
    testkit::eventually("two watches", CEILING, || (cluster.api.watches() == 2).then_some(()));
    cluster.api.forget(TOKEN);
    cluster.api.accept("the-next-token", Role::Wide);
    cluster.api.end_watches(testkit::api::WatchEnd::Expired);
    let refused = format!(
        "unauthorized: node node-a (401): token in {} not accepted: Unauthorized\n",
        cluster.token_file().display()
    );
    wait_for_answer(&mut health, 412, &refused);
    cluster.files.file("token", "the-next-token\n");
    wait_for_answer(&mut health, 200, "");
    for token in ["the-next-token", TOKEN] {
        assert!(
            !health.lines().concat().contains(token)
                && !get(&mut health, "/state").body.contains(token),
            "{health}"
        );
    }
}

#[test]
fn a_missing_or_invalid_token_file_is_a_reason() {
    let cluster = Cluster::new();
    cluster.heal();
    let file = cluster.token_file();
    std::fs::remove_file(&file).unwrap();
    let mut health = cluster.health().start();
    let at = file.display();
    wait_for_answer(
        &mut health,
        412,
        &format!("cannot read token file {at}: No such file or directory (os error 2)\n"),
    );
    cluster.files.file("token", "\n");
    wait_for_answer(&mut health, 412, &format!("invalid token in file {at}: empty\n"));
    cluster.files.file("token", "two words");
    wait_for_answer(
        &mut health,
        412,
        &format!("invalid token in file {at}: characters that no token contains\n"),
    );
    assert!(cluster.api.requests().is_empty(), "nothing is asked without a token");
    cluster.files.file("token", TOKEN);
    wait_for_answer(&mut health, 200, "");
}

#[test]
fn the_longest_token_is_sent() {
    let cluster = Cluster::new();
    cluster.heal();
    let long = "x".repeat(8 * 1024);
    cluster.api.accept(&long, Role::Wide);
    cluster.files.file("token", &long);
    let mut health = cluster.health().start();
    wait_for_answer(&mut health, 200, "");
}

#[test]
fn a_missing_permission_is_named() {
    let cluster = Cluster::new();
    cluster.heal();
    cluster.files.file("token", NARROW_TOKEN);
    let mut health = cluster.health().start();
    wait_for_answer(
        &mut health,
        412,
        "HealthCheck Failed\npermission denied: get nodes (403), add it to the role of health: nodes 'node-a' is forbidden: User \
         'system:serviceaccount:psl:health-ns' cannot get resource 'nodes' in API group '' at the cluster scope\n",
    );
    for lacking in ["list daemonsets.apps in all namespaces", "list pods in all namespaces"] {
        wait_for_answer(
            &mut health,
            412,
            &format!("permission denied: {lacking} (403), add it to the role of health: "),
        );
    }
    health.wait_for_text(
        "level=warn msg=\"API request failed\" why=\"permission denied: get nodes (403), add it to the role of health",
        CEILING,
    );
}

#[test]
fn a_wrong_ca_is_a_reason() {
    let cluster = Cluster::new();
    cluster.heal();
    let other = Authority::new();
    let file = cluster.files.file("ca.crt", other.pem());
    let health = bare_health().args([
        "--failHc=100ms",
        "--passHc=100ms",
        "--stale-after=1ms",
        "--node-name=node-a",
    ]);
    let mut health = with_api(health, &cluster.api.url(), &file, &cluster.token_file()).start();
    // Each source fails on its own; the error of the node is the first as soon as it is there.
    let reply = wait_for_answer(&mut health, 412, ": node node-a at ");
    let first = reply.body.lines().nth(1).unwrap();
    assert!(first.starts_with("certificate verify failed: "), "{first}");
    let end = format!(": node node-a at {}/ (CA file {})", cluster.api.url(), file.display());
    assert!(first.ends_with(&end), "{first}");
    assert!(cluster.api.requests().is_empty(), "no token goes to a server that is not verified");
    // The CA file is replaced while health runs.
    cluster.files.file("ca.crt", cluster.authority.pem());
    wait_for_answer(&mut health, 200, "");
    cluster.files.file("ca.crt", "");
    wait_for_answer(&mut health, 412, "no certificate in it (PEM, BEGIN CERTIFICATE)");
    std::fs::remove_file(&file).unwrap();
    wait_for_answer(
        &mut health,
        412,
        &format!("CA file {}: No such file or directory", file.display()),
    );
}

/// Ends all connections, like a server that restarts with another certificate. Returns the number
/// of the first connection that certainly gets the new certificate: a request on an older one may
/// still be sent.
fn restart_with(cluster: &Cluster, authority: &Authority) -> usize {
    cluster.api.refuse(true);
    cluster.api.present(&authority.issue(&["127.0.0.1"]));
    let first = cluster.api.connections();
    cluster.api.refuse(false);
    first
}

#[test]
fn the_server_s_certificate_may_be_replaced_under_it() {
    let cluster = Cluster::new();
    cluster.heal();
    let file = cluster.files.file("ca.crt", cluster.authority.pem());
    let health = bare_health().args([
        "--failHc=100ms",
        "--passHc=1h",
        "--stale-after=1ms",
        "--node-name=node-a",
    ]);
    let mut health = with_api(health, &cluster.api.url(), &file, &cluster.token_file()).start();
    let follows = |health: &mut Running| {
        for (ready, status) in [(false, 412), (true, 200)] {
            cluster.node_exporter(ready);
            wait_for_answer(
                health,
                status,
                if ready { "" } else { "monitoring/node-exporter: pod" },
            );
        }
    };
    wait_for_answer(&mut health, 200, "");
    // By the same CA: only the connections end.
    restart_with(&cluster, &cluster.authority);
    follows(&mut health);
    // By a CA that the file already contains beside the old one.
    let next = Authority::new();
    cluster.files.file("ca.crt", format!("{}{}", cluster.authority.pem(), next.pem()));
    restart_with(&cluster, &next);
    follows(&mut health);
    let tls = |line: &str| line.contains("certificate verify failed");
    assert_eq!(health.count(tls), 0, "no certificate was refused so far\n{health}");
    // By a CA that the file contains only afterwards.
    let last = Authority::new();
    let first = restart_with(&cluster, &last);
    wait_for_answer(&mut health, 412, "certificate verify failed: ");
    cluster.node_exporter(false);
    let asked: Vec<_> =
        cluster.api.requests().into_iter().filter(|asked| asked.connection >= first).collect();
    assert!(asked.is_empty(), "no token goes to a server that is not verified: {asked:?}");
    cluster.files.file("ca.crt", last.pem());
    wait_for_answer(&mut health, 412, "monitoring/node-exporter: pod");
    cluster.node_exporter(true);
    wait_for_answer(&mut health, 200, "");
}

/// Like the certificates of `openssl req -x509`, CA:TRUE.
#[test]
fn a_self_signed_certificate_is_accepted_if_the_ca_file_contains_it() {
    let (shown, another) =
        (testkit::tls::self_signed(&["127.0.0.1"]), testkit::tls::self_signed(&["127.0.0.1"]));
    let api = Api::start_tls(answers(), &shown);
    let files = Scratch::new();
    let token = files.file("token", TOKEN);
    let health = |ca: &Path| {
        let health = bare_health().args(["--failHc=100ms", "--node-name=node-a"]);
        with_api(health, &api.url(), ca, &token).start()
    };
    let mut believing = health(&files.file("shown.pem", &shown.chain_pem));
    wait_for_answer(
        &mut believing,
        412,
        "monitoring/node-exporter: pod node-exporter-szjrd is Running, but not ready",
    );
    let mut doubting = health(&files.file("another.pem", &another.chain_pem));
    wait_for_answer(
        &mut doubting,
        412,
        "certificate verify failed: the server shows a CA certificate (CA:TRUE, as",
    );
}

#[test]
fn an_invalid_certificate_is_a_reason() {
    let authority = Authority::new();
    for (identity, expected) in [
        (
            authority.issue_expired(&["127.0.0.1"]),
            "certificate verify failed: certificate has expired",
        ),
        (
            authority.issue(&["another.example"]),
            "certificate verify failed: certificate not valid for name",
        ),
    ] {
        let api = Api::start_tls(answers(), &identity);
        let files = Scratch::new();
        let token = files.file("token", TOKEN);
        let health = bare_health().args(["--failHc=100ms", "--node-name=node-a"]);
        let mut health = with_api(health, &api.url(), authority.file(), &token).start();
        wait_for_answer(&mut health, 412, expected);
        assert!(api.requests().is_empty());
    }
}

#[test]
fn a_proxy_needs_no_token() {
    let api = Api::start(answers());
    api.open(true);
    let mut health = bare_health().args(["--node-name=node-a", "--baseUrl", &api.url()]).start();
    wait_for_answer(&mut health, 412, "node-exporter");
    assert!(api.requests().iter().all(|asked| !asked.token), "no token is sent in the clear");
}

#[test]
fn a_proxy_on_the_loopback_may_get_a_token() {
    let api = Api::start(answers());
    let files = Scratch::new();
    let health =
        bare_health().args(["--node-name=node-a", "--baseUrl", &api.url(), "--failHc=100ms"]);
    let mut without = health.clone().start();
    wait_for_answer(
        &mut without,
        412,
        "permission denied: get nodes (403), add it to the role of health: nodes 'node-a' is forbidden: User 'system:anonymous'",
    );
    let mut with = health.arg("--token-file").arg(files.file("token", TOKEN)).start();
    wait_for_answer(&mut with, 412, "node-exporter");
}

/// Forwards connections from `[::1]` to the API server.
fn over_ipv6(to: SocketAddr) -> Option<SocketAddr> {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok()?;
    let address = listener.local_addr().ok()?;
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(to) else { continue };
            let (mut near_in, mut far_in) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let (mut near_out, mut far_out) = (near, far);
            thread::spawn(move || io::copy(&mut near_in, &mut far_out));
            thread::spawn(move || {
                let _ = io::copy(&mut far_in, &mut near_out);
                near_out.shutdown(std::net::Shutdown::Write)
            });
        }
    });
    Some(address)
}

#[test]
fn ipv6_with_a_base_url_and_in_a_cluster() {
    let cluster = Cluster::new();
    cluster.heal();
    let Some(address) = over_ipv6(cluster.api.addr()) else {
        return testkit::skip("there is no ::1 here");
    };
    let mut health = cluster.health_of("node-a", &format!("https://{address}")).start();
    wait_for_answer(&mut health, 200, "");
    for host in ["::1", "[::1]"] {
        let mut health = in_cluster(&cluster, host, address.port()).start();
        wait_for_answer(&mut health, 200, "");
    }
}

fn in_cluster(cluster: &Cluster, host: &str, port: u16) -> Program {
    let health =
        bare_health().env("NODE_NAME", "node-a").env("PSL_K8S_CA_FILE", cluster.authority.file());
    let health = health
        .env("PSL_K8S_TOKEN_FILE", cluster.token_file())
        .env("PSL_HC_DAEMONSET_PERIOD_FAIL", "100ms");
    health.env("KUBERNETES_SERVICE_HOST", host).env("KUBERNETES_SERVICE_PORT", port.to_string())
}

#[test]
fn variables_of_kubernetes_name_the_api_server() {
    let cluster = Cluster::new();
    cluster.heal();
    for host in ["127.0.0.1", "localhost"] {
        let mut health = in_cluster(&cluster, host, cluster.api.port()).start();
        wait_for_answer(&mut health, 200, "");
    }
}

#[test]
fn a_missing_service_account_is_a_reason() {
    if Path::new("/var/run/secrets/kubernetes.io/serviceaccount").exists() {
        return testkit::skip("this machine is a pod with a service account");
    }
    let health =
        bare_health().arg("--node-name=node-a").env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
    let mut health = health.env("KUBERNETES_SERVICE_PORT", "1").start();
    wait_for_answer(
        &mut health,
        412,
        "cannot read token file /var/run/secrets/kubernetes.io/serviceaccount/token: No such file or directory",
    );
}
