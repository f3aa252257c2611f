//! Hostile clients at some addresses while an honest one at another is answered every time.
//!
//! With the static binaries each attack lasts ten seconds and memory has its budget, and where a
//! Docker engine is at hand lock runs as the container that the manifests make: 16 MiB, read-only,
//! without rights. All traffic stays on the loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::attack::waiters::{grants_never_read, park_and_flood, park_and_stay};
use testkit::attack::{ATTACKS, Attack, addresses, honest, idle_connections, slow_trickle};
use testkit::http::Request;
use testkit::program::{Program, Running, field};
use testkit::{CEILING, eventually, skip};

const HONEST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 9, 9));
const SLOWEST: Duration = Duration::from_secs(2);
/// Peak memory that lock may have used, in KiB.
const BUDGET: u64 = 3 * 1024;

/// A lock as a process of this machine, in a container or not.
enum Target {
    Process(Running),
    Container(Container),
}

/// The container is removed on drop.
struct Container {
    name: String,
    address: SocketAddr,
    pid: u32,
}

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.name]).expect("a container that can be removed");
    }
}

fn docker(arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new("docker").args(arguments).output().map_err(|e| format!("docker: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        // `docker logs` passes the container's stderr on.
        true => Ok(text(&output.stdout) + &text(&output.stderr)),
        false => Err(format!("docker {arguments:?}: {}", text(&output.stderr))),
    }
}

impl Container {
    fn start() -> Result<Container, String> {
        let directory =
            Program::static_dir().ok_or("the static binaries are not given by PSL_TEST_BIN_DIR")?;
        docker(&["version", "--format", "{{.Server.Version}}"])?;
        let context = testkit::scratch::Scratch::new();
        std::fs::copy(directory.join("lock"), context.join("lock")).map_err(|e| e.to_string())?;
        context.file(
            "Dockerfile",
            "FROM scratch\nCOPY lock /lock\nUSER 65532:65532\nENTRYPOINT [\"/lock\"]\n",
        );
        // A name for each test, which may run side by side.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("psl-lock-attacked-{}-{number}", std::process::id());
        docker(&["build", "--quiet", "--tag", &name, context.path().to_str().expect("UTF-8")])?;
        let limits = [
            "--memory",
            "16m",
            "--read-only",
            "--cap-drop",
            "ALL",
            "--security-opt",
            "no-new-privileges",
            "--network",
            "host",
        ];
        let mut run = vec!["run", "--detach", "--name", &name];
        run.extend(limits);
        run.extend([&name, "--host", "127.0.0.1", "--port", "0"]);
        docker(&run)?;
        let logs = eventually("the container to listen", CEILING, || {
            docker(&["logs", &name]).ok().filter(|logs| logs.contains("address="))
        });
        let line = logs.lines().find(|line| line.contains("listening")).expect("a listening line");
        let address =
            field(line, "address").expect("an address").parse().expect("a socket's address");
        let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &name])?
            .parse()
            .expect("a process ID");
        Ok(Container { name, address, pid })
    }
}

impl Target {
    fn start() -> Target {
        match Container::start() {
            Ok(container) => Target::Container(container),
            Err(why) => {
                skip(&format!(
                    "lock under attack in a container: {why}; it runs as a process instead"
                ));
                Target::Process(
                    Program::new(env!("CARGO_BIN_EXE_lock"))
                        .args(["--host", "127.0.0.1", "--port", "0"])
                        .start(),
                )
            }
        }
    }

    fn address(&mut self) -> SocketAddr {
        match self {
            Target::Process(running) => running.addr(),
            Target::Container(container) => container.address,
        }
    }

    fn status(&mut self, key: &str) -> u64 {
        let pid = match self {
            Target::Process(running) => running.pid() as u32,
            Target::Container(container) => container.pid,
        };
        let status =
            std::fs::read_to_string(format!("/proc/{pid}/status")).expect("lock to be alive");
        let line = status.lines().find(|line| line.starts_with(key)).expect("the key");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    }

    fn descriptors(&mut self) -> usize {
        let pid = match self {
            Target::Process(running) => running.pid() as u32,
            Target::Container(container) => container.pid,
        };
        std::fs::read_dir(format!("/proc/{pid}/fd")).expect("lock to be alive").count()
    }
}

fn attacked(
    target: &mut Target,
    name: &str,
    attack: Attack,
    from: Vec<Ipv4Addr>,
    length: Duration,
) {
    let address = target.address();
    let until = Instant::now() + length;
    let attacker = thread::spawn(move || attack(address, from, until));
    let latencies = honest(address, Some(HONEST), "", Duration::from_millis(50), until);
    let report = attacker.join().expect("an attacker that ends");
    eprintln!("{name}: honest {latencies}; {report}; peak {} KiB", target.status("VmHWM"));
    assert!(latencies.failures.is_empty(), "{name}: {:?}", latencies.failures);
    assert!(
        latencies.n() as u128 >= length.as_millis() / 50 / 20,
        "{name}: only {} answers",
        latencies.n()
    );
    assert!(latencies.max() <= SLOWEST, "{name}: {:?}", latencies.max());
    assert_eq!(latencies.statuses.keys().copied().collect::<Vec<_>>(), [200], "{name}");
}

#[test]
fn an_honest_client_is_answered_under_each_attack() {
    let is_static = Program::static_dir().is_some();
    let length = Duration::from_secs(if is_static { 10 } else { 2 });
    let mut target = Target::start();
    for (name, attack) in ATTACKS {
        attacked(&mut target, name, *attack, addresses(1), length);
    }
    attacked(&mut target, "idle_connections from eight", idle_connections, addresses(8), length);
    attacked(&mut target, "slow_trickle from eight", slow_trickle, addresses(8), length);
    if is_static {
        let peak = target.status("VmHWM");
        assert!(peak <= BUDGET, "peak {peak} KiB, budget {BUDGET}");
    } else {
        skip("the budget on memory: it is that of the static binary");
    }
    // All descriptors of the attackers are closed: standard streams, listener, signals' pipe.
    eventually("the descriptors to be closed", CEILING, || {
        (target.descriptors() <= 12).then_some(())
    });
    assert!(target.status("Threads") <= 68, "{}", target.status("Threads"));
    let reply = Request::get("/").from(HONEST).send(target.address(), CEILING).expect("an answer");
    assert_eq!(reply.status, 200, "none of the attacks has taken a lease");
}

/// The kernel's buffers count as the container's memory: 512 parked connections that are full of
/// bytes, and 512 whose clients do not read.
#[test]
fn lock_survives_parked_clients_that_fill_the_buffers() {
    let length = Duration::from_secs(if Program::static_dir().is_some() { 10 } else { 2 });
    let mut target = Target::start();
    let address = target.address();
    for attack in [park_and_stay, park_and_flood, grants_never_read] {
        let report = attack(address, addresses(8), Instant::now() + length);
        eprintln!("{report}; peak {} KiB", target.status("VmHWM"));
        assert!(report.opened > 64, "{report}");
        let reply = Request::get("/livez").from(HONEST).send(address, CEILING).expect("an answer");
        assert_eq!(reply.status, 200);
    }
}

#[test]
fn lock_keeps_serving_without_free_descriptors() {
    let limited = ["sh", "-c", "ulimit -n 24 && exec \"$0\" \"$@\""];
    let program = Program::new(env!("CARGO_BIN_EXE_lock"))
        .args(["--host", "127.0.0.1", "--port", "0"])
        .env("PATH", "/usr/bin:/bin");
    let mut lock = program.under(limited).start();
    let address = lock.addr();
    let until = Instant::now() + Duration::from_secs(3);
    let attacker = thread::spawn(move || idle_connections(address, addresses(8), until));
    eprintln!("{}", attacker.join().expect("an attacker that ends"));
    let reply = eventually("an answer", CEILING, || {
        Request::get("/livez").from(HONEST).send(address, CEILING).ok()
    });
    assert_eq!(reply.status, 200);
}

#[test]
fn the_bounds_have_their_own_answers() {
    let mut lock = Program::new(env!("CARGO_BIN_EXE_lock"))
        .args(["--host", "127.0.0.1", "--port", "0"])
        .start();
    let long = "x".repeat(60_000);
    let many: String = (0..100).map(|n| format!("a{n}: b\r\n")).collect();
    for (name, bytes, status) in [
        ("a long path", format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), "414"),
        ("a long header", format!("GET / HTTP/1.1\r\nHost: h\r\na: {long}\r\n\r\n"), "431"),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n"), "431"),
        (
            "a huge body",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n".to_owned(),
            "413",
        ),
        (
            "chunks",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            "413",
        ),
        (
            "conflicting lengths",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
                .to_owned(),
            "400",
        ),
        ("bare line feeds", "GET / HTTP/1.1\nHost: h\n\n".to_owned(), "400"),
        ("a TLS hello", "\u{16}\u{3}\u{1}\0\u{1}".to_owned(), "400"),
        ("an HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "505"),
        ("half a head", "GET / HTTP/1.1\r\nHost:".to_owned(), "408"),
    ] {
        let reply =
            testkit::http::raw(lock.addr(), None, bytes.as_bytes(), CEILING).expect("an answer");
        let reply = String::from_utf8_lossy(&reply);
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {reply}");
        assert!(reply.contains("\r\nConnection: close\r\n"), "{name}: {reply}");
    }
    let reply = Request::get("/").send(lock.addr(), CEILING).expect("an answer");
    assert_eq!(reply.status, 200, "none of these has taken a lease");
}

/// The connection of each grant stays open for a moment, in which many others can be granted a
/// lease.
#[test]
fn many_short_leases_leave_descriptors_for_others() {
    let limited = ["sh", "-c", "ulimit -n 64 && exec \"$0\" \"$@\""];
    let program = Program::new(env!("CARGO_BIN_EXE_lock"))
        .args(["--host", "127.0.0.1", "--port", "0", "--locks", "8"])
        .env("PATH", "/usr/bin:/bin");
    let mut lock = program.under(limited).start();
    let address = lock.addr();
    let until = Instant::now() + Duration::from_secs(2);
    let takes_leases = |from: Ipv4Addr| {
        move || {
            let target = format!("/?holder=taker-{from}&wait=30&duration=1ms");
            while Instant::now() < until {
                drop(Request::get(&target).from(from).send(address, CEILING));
            }
        }
    };
    let takers: Vec<_> =
        addresses(8).into_iter().map(|from| thread::spawn(takes_leases(from))).collect();
    takers.into_iter().for_each(|taker| taker.join().expect("an attacker that ends"));
    let granted = Request::get("/metrics").send(address, CEILING).expect("metrics");
    let granted = granted.sample("psl_lock_requests_total{result=\"granted\"}");
    assert!(granted > 64.0, "{granted}");
    assert_eq!(lock.count(|line| line.contains("cannot accept a connection")), 0, "{lock}");
}
