//! Parked connections of a server on the loopback.

#![cfg(feature = "server")]
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests of sockets wait on a real clock, and a failed step is a failed test"
)]

use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use psl::address::Host;
use psl::server::listen;
use psl::server::{
    self, ClientEvent, HandlerResult, ParkedConnection, Poller, Request, RequestPeer, Response,
};
use testkit::http::{self, Connection};
use testkit::{CEILING, eventually};

/// The wait for an event that must not come; longer than for those that do.
const SILENCE: Duration = Duration::from_millis(150);

struct Server {
    address: SocketAddr,
    /// `None` for a request that could not be parked.
    parked: Receiver<Option<ParkedConnection>>,
}

impl Server {
    /// Parks requests for `/park` and responds to all others.
    fn start() -> Server {
        let listener = listen::bind(Some(&Host::Ip(Ipv4Addr::LOCALHOST.into())), 0).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, parked) = channel();
        let handler = move |request: &Request, client: &RequestPeer| -> HandlerResult {
            if request.path != "/park" {
                return Response::text(200, "at once\n").into();
            }
            let parked = client.park();
            let is_parked = parked.is_some();
            sender.send(parked).unwrap();
            if is_parked { HandlerResult::Parked } else { Response::text(423, "Locked\n").into() }
        };
        run(listener, handler);
        Server { address, parked }
    }

    fn connect(&self) -> Connection {
        Connection::open(self.address, None, CEILING).unwrap()
    }

    /// Sends a request that is parked.
    fn park(&self) -> (Connection, ParkedConnection) {
        let mut client = self.connect();
        client.write(&http::Request::get("/park").keep_alive().bytes("h")).unwrap();
        let parked = self.parked.recv_timeout(CEILING).unwrap();
        (client, parked.expect("a request that can be parked"))
    }
}

fn run(
    listener: TcpListener,
    handler: impl Fn(&Request, &RequestPeer) -> HandlerResult + Send + 'static,
) {
    let handler = Mutex::new(handler);
    thread::spawn(move || {
        server::run(listener, move |request, client| (handler.lock().unwrap())(request, client))
    });
}

/// The events of the first wait that reports any.
fn next_events(poller: &Poller) -> Vec<ClientEvent> {
    let mut events = Vec::new();
    eventually("an event", CEILING, || {
        poller.wait(Some(SILENCE), &mut events);
        (!events.is_empty()).then_some(())
    });
    events
}

fn is_silent(poller: &Poller) -> bool {
    let mut events = Vec::new();
    poller.wait(Some(SILENCE), &mut events);
    events.is_empty()
}

const CLOSED: [ClientEvent; 1] = [ClientEvent { key: 7, is_broken: false }];
const BROKEN: [ClientEvent; 1] = [ClientEvent { key: 7, is_broken: true }];

#[test]
fn a_later_response_ends_the_connection() {
    let server = Server::start();
    let (mut client, parked) = server.park();
    assert!(parked.answer(Response::text(200, "Lock acquired\n").with_header("Retry-After", "1")));
    let reply = client.reply().unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (200, "Lock acquired\n"));
    assert_eq!(
        (reply.header("connection"), reply.header("retry-after")),
        (Some("close"), Some("1"))
    );
    assert!(client.closed(), "the server's half");
}

#[test]
fn the_response_to_head_has_no_body() {
    let server = Server::start();
    let mut client = server.connect();
    client.write(b"HEAD /park HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let parked = server.parked.recv_timeout(CEILING).unwrap().unwrap();
    assert!(parked.answer(Response::text(200, "Lock acquired\n")));
    drop(parked);
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut client.stream(), &mut answer).unwrap();
    assert!(answer.contains("Content-Length: 14\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn a_dropped_connection_is_closed() {
    let server = Server::start();
    let (mut client, parked) = server.park();
    drop(parked);
    assert!(client.closed());
}

#[test]
fn a_client_that_has_sent_more_or_closed_is_not_parked() {
    let server = Server::start();
    let request = http::Request::get("/park").keep_alive().bytes("h");
    let mut pipelining = server.connect();
    pipelining.write(&[&request[..], b"G"].concat()).unwrap();
    assert!(server.parked.recv_timeout(CEILING).unwrap().is_none());
    assert_eq!(pipelining.reply().unwrap().status, 423);

    // The end of the stream must arrive before the head is complete.
    let mut half_closed = server.connect();
    half_closed.write(&request[..10]).unwrap();
    thread::sleep(Duration::from_millis(50));
    half_closed.write(&request[10..]).unwrap();
    half_closed.stream().shutdown(Shutdown::Write).unwrap();
    // If both arrive separately, the end is an event of a parked client.
    match server.parked.recv_timeout(CEILING).unwrap() {
        None => assert_eq!(half_closed.reply().unwrap().status, 423),
        Some(parked) => {
            let poller = Poller::new().unwrap();
            poller.watch(&parked, 7).unwrap();
            assert_eq!(next_events(&poller), CLOSED);
        }
    }
}

#[test]
fn each_close_byte_and_reset_is_reported_once() {
    let server = Server::start();
    for (name, action, expected) in [
        ("close", (|client| drop(client)) as fn(Connection), CLOSED),
        ("reset", Connection::reset, BROKEN),
    ] {
        for is_early in [false, true] {
            let poller = Poller::new().unwrap();
            let (client, parked) = server.park();
            if is_early {
                action(client);
                thread::sleep(Duration::from_millis(20));
                poller.watch(&parked, 7).unwrap();
            } else {
                poller.watch(&parked, 7).unwrap();
                assert!(is_silent(&poller), "{name}: the client only waits");
                action(client);
            }
            assert_eq!(next_events(&poller), expected, "{name}, before the watch: {is_early}");
            assert!(is_silent(&poller), "{name}: reported once");
        }
    }
    let poller = Poller::new().unwrap();
    let (mut client, parked) = server.park();
    poller.watch(&parked, 7).unwrap();
    client.write(b"x").unwrap();
    assert_eq!(next_events(&poller), CLOSED, "bytes");
    assert!(is_silent(&poller), "bytes: reported once");
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(next_events(&poller), CLOSED, "the end after the bytes");
    drop(parked);
    assert!(is_silent(&poller), "a closed connection is not watched");
}

#[test]
fn an_unread_response_resets_the_connection() {
    let server = Server::start();
    let poller = Poller::new().unwrap();
    let granted = || Response::text(200, "Lock acquired\n");

    let (client, parked) = server.park();
    poller.watch(&parked, 7).unwrap();
    assert!(parked.answer(granted()));
    // The response has arrived, unread.
    drop(client);
    assert_eq!(next_events(&poller), BROKEN);

    let (mut client, parked) = server.park();
    poller.watch(&parked, 7).unwrap();
    assert!(parked.answer(granted()));
    assert!(client.reply().is_ok() && client.closed());
    drop(client);
    assert_eq!(next_events(&poller), CLOSED, "the response was read");
    assert!(is_silent(&poller));

    // Close and response may cross: the response then reaches a closed socket.
    let (client, parked) = server.park();
    poller.watch(&parked, 7).unwrap();
    drop(client);
    assert_eq!(next_events(&poller), CLOSED);
    parked.answer(granted());
    assert_eq!(next_events(&poller), BROKEN);

    let (client, parked) = server.park();
    client.reset();
    thread::sleep(Duration::from_millis(20));
    assert!(!parked.answer(granted()), "no client is connected");
}

#[test]
fn a_response_that_does_not_fit_fails_at_once() {
    let server = Server::start();
    let (_client, parked) = server.park();
    let start = Instant::now();
    assert!(!parked.answer(Response::text(200, "x".repeat(16 << 20))));
    assert!(start.elapsed() < CEILING);
}

#[test]
fn a_wake_up_ends_the_wait() {
    let poller = Arc::new(Poller::new().unwrap());
    let mut events = Vec::new();
    poller.wake();
    poller.wake();
    poller.wait(None, &mut events);
    let waiting = Arc::clone(&poller);
    let thread = thread::spawn(move || waiting.wait(None, &mut Vec::new()));
    thread::sleep(Duration::from_millis(20));
    poller.wake();
    thread.join().unwrap();
    for timeout in [Duration::ZERO, Duration::from_micros(100), Duration::from_millis(30)] {
        let start = Instant::now();
        poller.wait(Some(timeout), &mut events);
        let took = start.elapsed();
        assert!(took >= timeout && took < CEILING, "{timeout:?}: {took:?}");
    }
    assert!(events.is_empty(), "a wake-up is no event");
}

#[test]
fn parked_connections_do_not_count_and_all_are_watched() {
    const MANY: usize = 200;
    let server = Server::start();
    let poller = Poller::new().unwrap();
    // More than the bounds of one address and of the server.
    let (mut clients, parked): (Vec<_>, Vec<_>) = (0..MANY).map(|_| server.park()).unzip();
    for (key, parked) in parked.iter().enumerate() {
        poller.watch(parked, key as u64).unwrap();
    }
    let reply = http::get(server.address, "/");
    assert_eq!((reply.status, reply.body.as_str()), (200, "at once\n"));
    assert!(parked[5].answer(Response::text(200, "Lock acquired\n")));
    assert_eq!(clients[5].reply().unwrap().status, 200);
    clients.clear();
    let mut keys = Vec::new();
    eventually("an event of each client", CEILING, || {
        let mut events = Vec::new();
        poller.wait(Some(SILENCE), &mut events);
        assert!(events.len() <= 64, "{} at a time", events.len());
        keys.extend(events.iter().map(|event| event.key));
        keys.sort_unstable();
        keys.dedup();
        (keys.len() == MANY).then_some(())
    });
}

/// The bytes in the kernel's receive buffer of the server's end.
fn unread(server: SocketAddr, client: SocketAddr) -> usize {
    let ends = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let mut port = || u16::from_str_radix(words.next()?.rsplit(':').next()?, 16).ok();
        Some((port()?, port()?)).zip(words.nth(1)?.rsplit(':').next().map(str::to_owned))
    };
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let own = connections
        .lines()
        .filter_map(ends)
        .find(|(ports, _)| *ports == (server.port(), client.port()));
    usize::from_str_radix(&own.expect("the connection").1, 16).unwrap()
}

#[test]
fn a_parked_client_fills_a_small_buffer_only() {
    let server = Server::start();
    let (client, _parked) = server.park();
    let mut stream = client.stream();
    stream.set_nonblocking(true).unwrap();
    // Moving bytes from the client's buffer to the server's takes some time.
    for _ in 0..20 {
        loop {
            match stream.write(&[0; 64 * 1024]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    let unread = unread(server.address, stream.local_addr().unwrap());
    eprintln!("{unread} bytes unread");
    assert!(unread <= 20 * 1024, "{unread}");
}
