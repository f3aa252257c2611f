//! Addresses that lock never probes, and the query of a `ready` path, which it never shows, on the
//! real binary.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use psl::server::LIMITS;
use testkit::http::{Connection, Reply, Request, get};
use testkit::program::{Program, Running, field};
use testkit::scratch::Scratch;
use testkit::scripted::{Behaviour, Server};
use testkit::{CEILING, eventually, own_address, skip};

fn lock() -> Program {
    let fixed = ["--port", "0", "--locks", "64", "--ready-period", "50ms"];
    Program::new(env!("CARGO_BIN_EXE_lock")).args(fixed)
}

#[track_caller]
fn ask(from: IpAddr, lock: SocketAddr, target: &str) -> Reply {
    Request::get(target).from(from).send(lock, CEILING).expect("an answer")
}

fn is_about(line: &str, holder: &str) -> bool {
    field(line, "holder").as_deref() == Some(holder)
}

/// The lease ends by its duration alone, and the answer, the log and `/state` say so.
#[track_caller]
fn is_not_probed(running: &mut Running, lock: SocketAddr, from: IpAddr, holder: &str, why: &str) {
    let server = Server::start_at(SocketAddr::new(from, 0), Behaviour::ok("up"));
    for (kind, ready) in [
        ("http", format!("http:{}/x?token=hidden", server.port())),
        ("tcp", format!("tcp:{}", server.port())),
    ] {
        let holder = format!("{holder}-{kind}");
        let reply = ask(
            from,
            lock,
            &format!("/?holder={holder}&duration=2s&ready={}", ready.replace('?', "%3F")),
        );
        let expected = format!(
            "Lock acquired\nfor 2s; the ready port is not probed at {why}: the lease lasts its full duration\n"
        );
        assert_eq!((reply.status, reply.body), (200, expected), "{holder}");
        let line = running
            .wait_for(|line| is_about(line, &holder) && line.contains("lock acquired"), CEILING);
        let shown = ready.split('?').next().unwrap_or_default();
        let expected = format!("{shown} is not probed at {why}: the lease lasts its full duration");
        assert_eq!(field(&line, "ready"), Some(expected), "{line}");
        let line = running
            .wait_for(|line| is_about(line, &holder) && line.contains("lease ended"), CEILING);
        assert_eq!(field(&line, "how").as_deref(), Some("expired"), "{line}");
    }
    assert_eq!(server.connections(), 0, "{holder}: no probe was sent");
    assert!(!running.stderr().contains("hidden"), "{running}");
}

#[test]
fn an_address_of_the_node_from_the_settings() {
    let from: IpAddr = Ipv4Addr::new(127, 0, 6, 7).into();
    for mut lock in [
        lock().args(["--node-ip", "127.0.6.8", "--node-ip", "127.0.6.7"]),
        lock().env("PSL_NODE_IP", "fd00::1,127.0.6.7"),
    ]
    .map(|program| program.start())
    {
        let address = lock.addr();
        is_not_probed(&mut lock, address, from, "node", "an address of the node");
    }
}

#[test]
fn an_address_of_this_machine() {
    let Some(own) = own_address() else {
        return skip("requests from an address of this machine: it has the loopback only");
    };
    let mut lock = lock().start();
    let address = SocketAddr::new(own, lock.port());
    is_not_probed(&mut lock, address, own, "own", "an address of this lock");
}

#[test]
fn a_holder_that_moves_to_a_barred_address_is_not_probed_there() {
    let mut lock = lock().args(["--node-ip", "127.0.6.7"]).start();
    let address = lock.addr();
    let server =
        Server::start_at("127.0.6.7:0".parse().unwrap(), Behaviour::status(503, "starting"));
    let target = format!("/?holder=a&duration=1h&ready=http:{}/", server.port());
    assert_eq!(
        ask(Ipv4Addr::LOCALHOST.into(), address, &target).body,
        "Lock acquired\nfor 10m, the longest that this lock grants\n"
    );
    let reply = ask("127.0.6.7".parse().unwrap(), address, &target);
    assert_eq!(reply.status, 200);
    assert!(
        reply.body.contains(
            "; the ready port is not probed at an address of the node: the lease lasts its full duration"
        ),
        "{reply}"
    );
    assert_eq!(get(address, "/state").json()["leases"][0]["watched"], false);
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_lease_from_before_a_restart_is_not_probed_at_a_barred_address() {
    let directory = Scratch::new();
    let file = directory.join("state.json");
    let mut first = lock().arg("--state-file").arg(&file).start();
    let server =
        Server::start_at("127.0.6.7:0".parse().unwrap(), Behaviour::status(503, "starting"));
    let target = format!("/?holder=a&duration=5m&ready=http:{}/x%3Ftoken=hidden", server.port());
    assert_eq!(ask("127.0.6.7".parse().unwrap(), first.addr(), &target).status, 200);
    let probes = server.wait_for_requests(3, CEILING);
    assert_eq!(probes[0].target, "/x?token=hidden", "the query is asked for, though never shown");
    first.signal("KILL");
    assert!(!first.wait(CEILING).stderr.contains("hidden"));
    // At an address that may be probed, the whole path has come through the file.
    let mut second = lock().arg("--state-file").arg(&file).env("PSL_LOG", "debug").start();
    let before = server.requests().len();
    let probes = server.wait_for_requests(before + 2, CEILING);
    assert!(probes.iter().all(|request| request.target == "/x?token=hidden"), "{probes:?}");
    for path in ["/state", "/metrics"] {
        assert!(!get(second.addr(), path).body.contains("hidden"), "{path}");
    }
    second.signal("KILL");
    assert!(!second.wait(CEILING).stderr.contains("hidden"));
    let mut third = lock().args(["--node-ip=127.0.6.7", "--state-file"]).arg(&file).start();
    let state = get(third.addr(), "/state").json();
    assert_eq!(
        (&state["slots_in_use"], &state["leases"][0]["watched"]),
        (&1.into(), &false.into()),
        "{state}"
    );
    let before = server.connections();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(server.connections(), before);
}

#[test]
fn a_query_is_never_shown() {
    let mut lock = lock().env("PSL_LOG", "debug").start();
    let address = lock.addr();
    let server = Server::start(Behaviour::ok("up"));
    // Open at the baseline probe, then a holder that moves, then invalid requests.
    for (target, status) in [
        (format!("/?holder=a&ready=http:{}/x%3Ftoken=hidden", server.port()), 200),
        (format!("/?holder=a&ready=http:{}/x%3Ftoken=hidden", server.port()), 200),
        ("/?holder=b&ready=http:1/x%3Ftoken=hidden".to_owned(), 200),
        ("/?ready=http:0/x%3Ftoken=hidden".to_owned(), 400),
        ("/?ready=http:80/a%20b%23token=hidden".to_owned(), 400),
        ("/?ready=https://u:hidden@h/%3Ftoken=hidden".to_owned(), 400),
        ("/nothing?token=hidden".to_owned(), 404),
        ("/state?token=hidden".to_owned(), 200),
        ("/#hidden".to_owned(), 400),
    ] {
        let reply = get(address, &target);
        assert_eq!(reply.status, status, "{target}");
        assert!(!reply.body.contains("hidden"), "{target}: {reply}");
    }
    let moved =
        ask("127.0.6.9".parse().unwrap(), address, "/?holder=b&ready=http:1/x%3Ftoken=hidden");
    assert_eq!(moved.status, 200);
    for path in ["/state", "/metrics"] {
        assert!(!get(address, path).body.contains("hidden"), "{path}");
    }
    lock.wait_for_text("holder has a new address", CEILING);
    assert!(!lock.stderr().contains("hidden"), "{lock}");
    assert_eq!(server.requests()[0].target, "/x?token=hidden");
}

/// Another network namespace, whose default gateway is this one.
struct Namespace(String);

impl Namespace {
    fn new() -> Result<Namespace, String> {
        let name = format!("psl-{}", std::process::id());
        let run = |command: &str| {
            let output = Command::new("ip")
                .args(command.split(' '))
                .output()
                .map_err(|error| format!("ip: {error}"))?;
            output
                .status
                .success()
                .then_some(())
                .ok_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned())
        };
        run(&format!("netns add {name}"))?;
        let namespace = Namespace(name.clone());
        let near = format!("p{}", std::process::id());
        for command in [
            format!("link add {near} type veth peer name far netns {name}"),
            format!("addr add 198.18.77.1/29 dev {near}"),
            format!("addr add 198.18.77.3/29 dev {near}"),
            format!("link set {near} up"),
            format!("-n {name} addr add 198.18.77.2/29 dev far"),
            format!("-n {name} link set far up"),
            format!("-n {name} link set lo up"),
            format!("-n {name} route add default via 198.18.77.1"),
        ] {
            run(&command)?;
        }
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The pair of interfaces goes with it.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
fn a_gateway() {
    let namespace = match Namespace::new() {
        Ok(namespace) => namespace,
        Err(why) => {
            return skip(&format!(
                "requests from lock's gateway: no network namespace: {}",
                why.trim()
            ));
        }
    };
    let mut lock = lock()
        .under(["ip", "netns", "exec", &namespace.0])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .start();
    let address: SocketAddr = format!("198.18.77.2:{}", lock.port()).parse().unwrap();
    eventually("a way there", CEILING, || Request::get("/livez").send(address, CEILING).ok());
    is_not_probed(&mut lock, address, "198.18.77.1".parse().unwrap(), "gateway", "a gateway");
    // Another address is probed, also if sockets may be bound to any address.
    let server =
        Server::start_at("198.18.77.3:0".parse().unwrap(), Behaviour::status(503, "starting"));
    let target = format!("/?duration=1m&ready=http:{}/", server.port());
    for may_bind_any in ["0", "1"] {
        let file = "/proc/sys/net/ipv4/ip_nonlocal_bind";
        let write = format!("echo {may_bind_any} > {file}");
        let status =
            Command::new("ip").args(["netns", "exec", &namespace.0, "sh", "-c", &write]).status();
        assert!(status.unwrap().success(), "{write}");
        let reply = ask("198.18.77.3".parse().unwrap(), address, &target);
        assert_eq!(reply.body, "Lock acquired\nfor 1m\n", "{write}");
        let own = ask("198.18.77.1".parse().unwrap(), address, &target);
        assert!(own.body.contains("the ready port is not probed at a gateway"), "{write}: {own}");
    }
}

/// A request gets no baseline probe while its address has all connections that it may have.
#[test]
fn an_address_with_too_many_connections_is_not_probed_either() {
    let from: IpAddr = Ipv4Addr::new(127, 0, 6, 7).into();
    let mut running = lock().args(["--node-ip", "127.0.6.7"]).start();
    let address = running.addr();
    let server = Server::start_at(SocketAddr::new(from, 0), Behaviour::ok("up"));
    let connect = |bytes: &[u8]| {
        let mut connection = Connection::open(address, Some(from), CEILING).expect("a connection");
        connection.write(bytes).expect("bytes that are sent");
        connection
    };
    // They have begun a request, so that none gives way.
    let _begun: Vec<_> =
        (0..LIMITS.per_address).map(|_| connect(b"GET /livez HTTP/1.1\r\n")).collect();
    let target = format!("/?holder=a&duration=2s&ready=tcp:{}", server.port());
    // A connection is refused if lock accepts it before its bytes have come.
    let reply = eventually("an answer", CEILING, || {
        connect(&Request::get(&target).bytes("lock")).reply().ok()
    });
    assert_eq!(reply.status, 200);
    assert!(
        reply.body.contains("; the ready port is not probed at an address of the node"),
        "{reply}"
    );
    running.wait_for(
        |line| is_about(line, "a") && line.contains("lease ended") && line.contains("expired"),
        CEILING,
    );
    assert_eq!(server.connections(), 0);
}
