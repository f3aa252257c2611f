//! The attacks against a sink and against scripted servers.

use std::io::{ErrorKind, Read as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::scripted::{Behaviour, Server};

/// Accepts every connection, reads and counts all bytes in one thread, and sends none.
struct Sink {
    address: SocketAddr,
    read: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

fn sink() -> Sink {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let sink = Sink {
        address: listener.local_addr().unwrap(),
        read: Arc::default(),
        stop: Arc::default(),
    };
    let (read, stop) = (Arc::clone(&sink.read), Arc::clone(&sink.stop));
    std::thread::spawn(move || {
        let (mut streams, mut buffer) = (Vec::new(), [0; 64 * 1024]);
        while !stop.load(Ordering::SeqCst) {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true).unwrap();
                streams.push(stream);
            }
            streams.retain_mut(|stream| match stream.read(&mut buffer) {
                Ok(n) => {
                    read.fetch_add(n as u64, Ordering::SeqCst);
                    n > 0
                }
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            });
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    sink
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

#[test]
fn each_attack_reaches_its_target_and_ends_in_time() {
    for (name, attack) in ATTACKS {
        let sink = sink();
        let until = Instant::now() + Duration::from_millis(1200);
        let report = attack(sink.address, addresses(2), until);
        let late = Instant::now().saturating_duration_since(until);
        println!("{report}, {late:?} late");
        assert_eq!(report.name, *name);
        assert!(late < crate::CEILING / 4, "{name}: {late:?}");
        assert!(report.opened >= 8, "{report}");
        assert_eq!(report.failed, 0, "{report}");
        let silent = ["idle connections", "connect and reset"].contains(name);
        assert_eq!(report.bytes_sent == 0, silent, "{report}");
        assert_eq!(sink.read.load(Ordering::SeqCst) == 0, silent, "{report}");
    }
}

#[test]
fn slow_and_idle_connections_stay_open() {
    let sink = sink();
    let until = Instant::now() + Duration::from_millis(2500);
    let report = idle_connections(sink.address, addresses(8), until);
    assert_eq!(report.most_open, 2000, "{report}");
    let until = Instant::now() + Duration::from_millis(2200);
    let report = slow_trickle(sink.address, Vec::new(), until);
    assert_eq!(report.most_open, 500, "{report}");
    assert!(report.bytes_sent > 500 * 33, "{report}");
}

#[test]
fn closed_and_refused_connections_are_opened_again() {
    let server = Server::start(Behaviour::CloseAtOnce);
    let until = Instant::now() + Duration::from_secs(1);
    let report = endless_header_line(server.addr(), addresses(1), until);
    assert!(report.closed_by_server > 8, "{report}");
    server.set(Behaviour::Refuse);
    let until = Instant::now() + Duration::from_millis(500);
    let report = mix(server.addr(), addresses(1), until);
    assert!(report.failed > 64 && report.most_open == 0, "{report}");
}

#[test]
fn pipelined_answers_stay_unread() {
    let server = Server::start(Behaviour::ok("hello"));
    let until = Instant::now() + Duration::from_millis(500);
    let report = pipelining(server.addr(), addresses(1), until);
    assert!(report.bytes_read == 0 && report.closed_by_server > 0, "{report}");
}

#[test]
fn the_honest_client_counts_answers_and_failures() {
    let pause = Duration::from_millis(20);
    let server = Server::start(Behaviour::Sequence(vec![
        Behaviour::ok("a"),
        Behaviour::status(423, "b"),
        Behaviour::CloseAtOnce,
        Behaviour::After(Duration::from_millis(300), Box::new(Behaviour::ok("slow"))),
        Behaviour::status(503, "c"),
        Behaviour::ok("a"),
    ]));
    let until = Instant::now() + Duration::from_secs(2);
    let met = honest(server.addr(), Some([127, 0, 0, 9].into()), "", pause, until);
    assert!(met.n() > 3 && met.n() < 100, "{met}");
    assert_eq!(met.failures.len(), 2, "{met}");
    assert_eq!((met.statuses[&423], met.statuses[&503]), (1, 1), "{met}");
    assert!(met.max() >= Duration::from_millis(300) && met.median() < met.max(), "{met}");
    let seen = server.requests();
    assert_eq!(
        (seen[0].target.as_str(), seen[0].from.ip().to_string().as_str()),
        ("/?duration=0", "127.0.0.9")
    );
}

#[test]
fn quantiles() {
    let taken: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
    let latencies = Latencies { taken, ..Latencies::default() };
    let found = (latencies.median(), latencies.p99(), latencies.max());
    let expected = [100, 198, 200].map(Duration::from_millis);
    assert_eq!(found, expected.into());
    assert_eq!(Latencies::default().p99(), Duration::ZERO);
}
