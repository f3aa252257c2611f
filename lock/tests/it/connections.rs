//! Clients at the bounds on connections: as soon as a connection is over its successor is served.
//!
//! Against the real binary, while every core is busy: a server that is late for its client shows
//! only while it waits for a core.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use psl::server::LIMITS;
use testkit::CEILING;
use testkit::http::{Connection, Request};
use testkit::program::Running;

use crate::support::program;

/// Requests of each client.
const REQUESTS: usize = 200;

/// These have all connections of the server.
const ADDRESSES: usize = LIMITS.connections / LIMITS.per_address;

fn lock() -> Running {
    // A lease for each request of `takes_leases`, and more than one at a time.
    program(&["--locks=4096"]).start()
}

fn address(last: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 2, last as u8 + 1).into()
}

fn connect(to: SocketAddr, from: IpAddr) -> io::Result<Connection> {
    Connection::open(to, Some(from), CEILING)
}

/// A connection that was answered and stays open.
fn kept(to: SocketAddr, from: IpAddr) -> Connection {
    let mut connection = connect(to, from).unwrap();
    assert_eq!(connection.send(&Request::get("/livez").keep_alive()).unwrap().status, 200);
    connection
}

/// The result of each request that did not get the expected answer.
type Client = fn(SocketAddr, IpAddr) -> Vec<String>;

/// As many clients of each address ask again and again, each on its own, while all cores are busy
/// and other clients keep all other connections that these addresses may have.
fn are_served(client: Client, addresses: usize, clients: usize) {
    let mut lock = lock();
    let to = lock.addr();
    let places = 0..addresses * (LIMITS.per_address - clients);
    let _kept: Vec<_> = places.map(|place| kept(to, address(place % addresses))).collect();
    let is_over = AtomicBool::new(false);
    let failures: Vec<String> = thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, Into::into) {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let clients = (0..addresses * clients)
            .map(|n| scope.spawn(move || client(to, address(n % addresses))));
        let clients: Vec<_> = clients.collect();
        let failures = clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client that ends"))
            .collect();
        is_over.store(true, Ordering::Relaxed);
        failures
    });
    let asked = addresses * clients * REQUESTS;
    assert!(
        failures.is_empty(),
        "{} of {asked} requests failed, the first with {}",
        failures.len(),
        failures[0]
    );
}

fn failure(answer: io::Result<u16>, expected: u16) -> Option<String> {
    match answer {
        Ok(status) if status == expected => None,
        Ok(status) => Some(format!("status {status}")),
        Err(error) => Some(error.to_string()),
    }
}

/// Reads each answer to its end and opens the next connection before it closes the last one.
fn closes_late(to: SocketAddr, from: IpAddr) -> Vec<String> {
    opens_before_it_closes(to, from, "/livez")
}

/// Each answer grants a lease, after which lock waits for the next act of the client.
fn takes_leases(to: SocketAddr, from: IpAddr) -> Vec<String> {
    opens_before_it_closes(to, from, "/?duration=10m")
}

fn opens_before_it_closes(to: SocketAddr, from: IpAddr, target: &str) -> Vec<String> {
    let mut last = None;
    let mut ask = || {
        let mut connection = connect(to, from)?;
        let reply = connection.send(&Request::get(target));
        last = Some(connection);
        Ok(reply?.status)
    };
    (0..REQUESTS).filter_map(|_| failure(ask(), 200)).collect()
}

/// Reads each answer to its end, closes a connection that the server would keep, and opens the next
/// one.
fn closes_first(to: SocketAddr, from: IpAddr) -> Vec<String> {
    let ask = || Ok(connect(to, from)?.send(&Request::get("/livez").keep_alive())?.status);
    (0..REQUESTS).filter_map(|_| failure(ask(), 200)).collect()
}

/// The client sends a request that lock refuses, closes, and opens the next connection.
fn is_refused(to: SocketAddr, from: IpAddr) -> Vec<String> {
    let ask = || {
        let mut connection = connect(to, from)?;
        connection.write(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")?;
        Ok(connection.reply()?.status)
    };
    (0..REQUESTS).filter_map(|_| failure(ask(), 400)).collect()
}

#[test]
fn an_answered_connection_makes_room_for_the_next() {
    are_served(closes_late, 1, 1);
}

#[test]
fn a_connection_that_was_answered_with_a_lease_makes_room_for_the_next() {
    are_served(takes_leases, 1, 1);
}

#[test]
fn a_closed_connection_makes_room_for_the_next() {
    are_served(closes_first, 1, 1);
}

#[test]
fn a_refused_connection_makes_room_for_the_next() {
    are_served(is_refused, 1, 1);
}

#[test]
fn clients_are_served_while_all_connections_are_in_use() {
    are_served(closes_late, ADDRESSES, 1);
    are_served(takes_leases, ADDRESSES, 1);
}

#[test]
fn clients_are_served_while_each_client_replaces_its_connection() {
    for client in [closes_late as Client, closes_first, is_refused] {
        are_served(client, ADDRESSES, LIMITS.per_address);
    }
    // All leases are lock's slots.
    are_served(takes_leases, 1, LIMITS.per_address);
}

/// A connection is idle after its answer, and closed for the next one of its address. One that has
/// begun a request is not.
#[test]
fn an_idle_connection_makes_room_and_a_begun_request_does_not() {
    let mut lock = lock();
    let to = lock.addr();
    let mut open: Vec<_> = (0..LIMITS.per_address).map(|_| kept(to, address(0))).collect();
    let mut begin =
        |connection: &mut Connection| connection.write(b"GET /livez HTTP/1.1\r\n").unwrap();
    // The last one stays idle.
    let mut idle = open.pop().unwrap();
    open.iter_mut().for_each(&mut begin);
    let mut next = connect(to, address(0)).unwrap();
    assert_eq!(next.send(&Request::get("/livez").keep_alive()).unwrap().status, 200);
    assert!(idle.closed());
    begin(&mut next);
    assert!(connect(to, address(0)).unwrap().closed(), "one more than an address may have");
    kept(to, address(1));
}
