//! The static binary's memory and threads; attacks have their own budget in `attacks`.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use testkit::http::{Connection, Request};
use testkit::program::Program;
use testkit::tls::Authority;
use testkit::{CEILING, eventually, scripted, skip};

/// Peak memory in KiB.
const IDLE: u64 = 2 * 1024;
/// The program's own pages take 1.6 MiB, 65 stacks of 16 to 28 KiB 1.3, the leases 0.3, and an
/// answer of 8.4 KiB for each of 64 threads 0.6; while JSON is written its buffer may have twice
/// its size.
const UNDER_LOAD: u64 = 4 * 1024;

#[test]
fn idle_and_under_load() {
    if Program::static_dir().is_none() {
        return skip(
            "the budget on memory is that of the static binary: PSL_TEST_BIN_DIR is not set",
        );
    }
    let mut lock = Program::new(env!("CARGO_BIN_EXE_lock"))
        .args(["--host=127.0.0.1", "--port=0", "--locks=4096"])
        .start();
    let address = lock.addr();
    let idle = lock.memory_peak_kib();
    let clients: Vec<_> = (0..4u8)
        .flat_map(|n| std::iter::repeat_n(n, 16))
        .map(|n| {
            thread::spawn(move || {
                let from = Ipv4Addr::new(127, 0, 2, n + 1).into();
                let mut connection =
                    Connection::open(address, Some(from), CEILING).expect("a connection");
                for path in ["/?duration=1h", "/state", "/metrics", "/?duration=0", "/livez"]
                    .iter()
                    .cycle()
                    .take(100)
                {
                    connection.send(&Request::get(path).keep_alive()).expect("an answer");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client that ends");
    }
    // How many answers were in memory at the same time is chance. Here it is one for each
    // connection.
    let unread = unread_states(address, 16);
    let load = lock.memory_peak_kib();
    drop(unread);
    eprintln!("idle {idle} KiB, under load {load} KiB, {} threads", lock.threads());
    assert!(idle <= IDLE, "idle {idle} KiB, budget {IDLE}");
    assert!(load <= UNDER_LOAD, "under load {load} KiB, budget {UNDER_LOAD}");
}

/// `each` clients at each of four addresses ask for `/state` until the kernel's buffers are full,
/// and do not read.
fn unread_states(address: SocketAddr, each: usize) -> Vec<Connection> {
    let clients: Vec<_> = (0..4u8)
        .flat_map(|n| std::iter::repeat_n(n, each))
        .map(|n| {
            let from = Ipv4Addr::new(127, 0, 2, n + 1).into();
            let mut connection =
                Connection::open(address, Some(from), CEILING).expect("a connection");
            // More than the kernel takes: the answer is begun, and waits for a reader.
            let bytes = Request::get("/state").keep_alive().bytes("lock").repeat(64);
            connection.write(&bytes).expect("requests that are sent");
            connection
        })
        .collect();
    eventually("an answer for each", CEILING, || {
        let mut first = [0];
        clients.iter().all(|client| matches!(client.stream().peek(&mut first), Ok(1))).then_some(())
    });
    // Now the answers fill the buffers between them, until lock gives up after two seconds.
    thread::sleep(Duration::from_secs(1));
    clients
}

/// Peak memory in KiB while as many clients as there is room for do not read the largest `/state`.
const LARGEST_STATE: u64 = 7 * 1024;

#[test]
fn the_largest_state_for_the_largest_number_of_clients() {
    let program = Program::new(env!("CARGO_BIN_EXE_lock")).args([
        "--host=127.0.0.1",
        "--port=0",
        "--locks=120",
    ]);
    let mut lock = program.start();
    let address = lock.addr();
    // Each character of these names takes two bytes in JSON.
    let name = |n: usize| format!("{n:0>8}{}", "%22".repeat(504));
    let ready = format!("http:1/{}", "x".repeat(255));
    for n in 0..240 {
        let reply =
            testkit::http::get(address, &format!("/?duration=5m&holder={}&ready={ready}", name(n)));
        assert_eq!(reply.status, if n < 120 { 200 } else { 423 }, "{n}");
    }
    let whole = testkit::http::get(address, "/state");
    let state = whole.json();
    let count = |list: &str| state[list].as_array().map_or(0, Vec::len);
    assert!(
        count("leases") >= 20 && count("queue") >= 20,
        "{} and {}",
        count("leases"),
        count("queue")
    );
    assert_eq!((&state["slots_in_use"], &state["queue_length"]), (&120.into(), &120.into()));
    assert!(whole.raw.len() <= 64 * 1024, "{} bytes", whole.raw.len());
    let before = lock.memory_peak_kib();
    let clients = unread_states(address, 15);
    let peak = lock.memory_peak_kib();
    eprintln!(
        "{} bytes for each of {} clients: {before} KiB before, {peak} KiB in all",
        whole.raw.len(),
        clients.len()
    );
    if Program::static_dir().is_none() {
        return skip(
            "the budget on memory is that of the static binary: PSL_TEST_BIN_DIR is not set",
        );
    }
    assert!(peak <= LARGEST_STATE, "{peak} KiB, budget {LARGEST_STATE}");
}

/// A parked waiter has a connection and no thread: the threads are those of an idle lock and a few
/// that have answered.
const PARKED: usize = 500;
const THREADS_WITH_PARKED: usize = 12;
const WITH_PARKED: u64 = 2560;

#[test]
fn five_hundred_parked_waiters() {
    let program = Program::new(env!("CARGO_BIN_EXE_lock")).args([
        "--host=127.0.0.1",
        "--port=0",
        "--locks=1",
    ]);
    let mut lock = program.start();
    let address = lock.addr();
    assert_eq!(testkit::http::get(address, "/?holder=first&duration=5m").status, 200);
    let waiters: Vec<_> = (0..PARKED)
        .map(|n| {
            let from = Ipv4Addr::new(127, 0, 2, (n % 250) as u8 + 1).into();
            let mut connection =
                Connection::open(address, Some(from), CEILING).expect("a connection");
            let ask = Request::get(&format!("/?holder=waiter-{n}&ready=tcp:9&wait=30"));
            connection.write(&ask.bytes("lock")).expect("a request that is sent");
            connection
        })
        .collect();
    eventually("the waiters to be parked", CEILING, || {
        let state = testkit::http::get(address, "/state").json();
        let is_parked = state["queue"].as_array()?.iter().all(|waiter| waiter["held"] == true);
        (is_parked && state["queue_length"] == PARKED).then_some(())
    });
    let (threads, peak) = (lock.threads(), lock.memory_peak_kib());
    eprintln!("{threads} threads, {peak} KiB with {} parked waiters", waiters.len());
    assert!(threads <= THREADS_WITH_PARKED, "{threads} threads");
    if Program::static_dir().is_none() {
        return skip(
            "the budget on memory is that of the static binary: PSL_TEST_BIN_DIR is not set",
        );
    }
    assert!(peak <= WITH_PARKED, "{peak} KiB, budget {WITH_PARKED}");
}

#[test]
fn tls_checks_stay_within_the_budget() {
    if Program::static_dir().is_none() {
        return skip(
            "the budget on memory is that of the static binary: PSL_TEST_BIN_DIR is not set",
        );
    }
    let authority = Authority::new();
    let server = scripted::Server::start_tls(
        scripted::Behaviour::ok("up"),
        &authority.issue(&["localhost"]),
    );
    let endpoint = format!("https://localhost:{}/", server.port());
    let program = Program::new(env!("CARGO_BIN_EXE_lock")).args([
        "--host=127.0.0.1",
        "--port=0",
        "--passHc=100ms",
    ]);
    let lock = program
        .args(["--ca-file", authority.file().to_str().expect("UTF-8"), "--check", &endpoint])
        .start();
    server.wait_for_requests(20, CEILING);
    let peak = lock.memory_peak_kib();
    eprintln!("{peak} KiB after 20 checks by TLS");
    assert!(peak <= UNDER_LOAD, "{peak} KiB, budget {UNDER_LOAD}");
}

#[test]
fn threads_start_when_needed_and_hanging_names_do_not_pile_up() {
    let mut lock =
        Program::new(env!("CARGO_BIN_EXE_lock")).args(["--host=127.0.0.1", "--port=0"]).start();
    let address = lock.addr();
    let few = eventually("the first threads", CEILING, || {
        Some(lock.threads()).filter(|threads| *threads == 7)
    });
    let connections: Vec<_> =
        (0..10).map(|_| Connection::open(address, None, CEILING).expect("a connection")).collect();
    eventually("a thread for each silent connection and one more", CEILING, || {
        (lock.threads() == 14).then_some(())
    });
    drop(connections);
    // The main thread may be one more.
    eventually("the first threads alone", CEILING, || (lock.threads() <= few + 1).then_some(()));
}
