//! The client against listeners that answer with fixed bytes.

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::time::Instant;

use super::connection::read_some;
use super::*;
use crate::CEILING;

/// Answers one connection with these bytes once a head has come, then closes. The thread returns
/// the client's address and bytes.
fn answering(
    answer: &'static [u8],
) -> (SocketAddr, std::thread::JoinHandle<(SocketAddr, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        let mut got = Vec::new();
        while find_bytes(&got, b"\r\n\r\n").is_none() {
            got.extend(read_some(&mut stream, Instant::now() + CEILING).unwrap());
        }
        stream.write_all(answer).unwrap();
        (from, got)
    });
    (address, thread)
}

#[test]
fn every_framing_gives_the_same_body() {
    for (name, answer) in [
        ("length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nx-a:b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=1\r\nllo\r\n0\r\n\r\n",
        ),
        ("close", "HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nhello"),
        (
            "interim answer",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello",
        ),
    ] {
        let (address, thread) = answering(answer.as_bytes());
        let reply = Request::get("/x").from("127.0.0.2").send(address, CEILING).unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (200, "hello"), "{name}");
        assert_eq!(reply.header("X-a"), Some("b"), "{name}");
        let (from, sent) = thread.join().unwrap();
        assert_eq!(from.ip().to_string(), "127.0.0.2", "{name}");
        let expected = format!("GET /x HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        assert_eq!(String::from_utf8(sent).unwrap(), expected, "{name}");
    }
}

#[test]
fn broken_answers_are_errors() {
    for (name, answer, kind) in [
        ("garbage", "\x01\x02\r\n\r\n", io::ErrorKind::InvalidData),
        ("nothing", "", io::ErrorKind::UnexpectedEof),
        (
            "cut body",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
            io::ErrorKind::UnexpectedEof,
        ),
        (
            "cut chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello",
            io::ErrorKind::UnexpectedEof,
        ),
    ] {
        let (address, _thread) = answering(answer.as_bytes());
        let error = Request::get("/").send(address, CEILING).unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
}

#[test]
fn pipelined_answers_are_separated() {
    let (address, _thread) =
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\nb");
    let mut connection = Connection::open(address, None, CEILING).unwrap();
    connection.write(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(connection.reply().unwrap().body, "a");
    let second = connection.reply().unwrap();
    assert_eq!((second.status, second.reason.as_str(), second.body.as_str()), (404, "No", "b"));
    assert!(connection.closed());
}

#[test]
fn a_reset_is_seen_by_the_other_side() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connection = Connection::open(listener.local_addr().unwrap(), None, CEILING).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    connection.reset();
    let error = read_some(&mut stream, Instant::now() + CEILING).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn samples_are_found_by_their_full_name() {
    let (address, _thread) =
        answering(b"HTTP/1.0 200 OK\r\n\r\n# TYPE a counter\na_b 1\na{c=\"d\"} 2.5\na 3\n");
    let reply = Request::get("/").send(address, CEILING).unwrap();
    assert_eq!(
        (reply.sample("a"), reply.sample("a{c=\"d\"}"), reply.sample("a_b")),
        (3.0, 2.5, 1.0)
    );
}

#[test]
fn a_silent_server_times_out_at_the_ceiling() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let error = Request::get("/").send(address, Duration::from_millis(100)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(raw(address, None, b"x", Duration::from_millis(100)).unwrap(), b"");
}

#[test]
fn targets_are_split_and_decoded() {
    let (path, query) = split_target("/a?x=1%2C2&y&z=a+b%");
    let pairs: Vec<_> = query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(path, "/a");
    assert_eq!(pairs, [("x", "1,2"), ("y", ""), ("z", "a b%")]);
}
