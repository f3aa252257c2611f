//! An application for real clusters: busy at first, then ready.
//!
//! `e2e [--after=SECONDS] [--cpu=SECONDS] [--port=PORT | --port=0] [--watch=HOST:PORT/PATH]...`
//!
//! Sleeps, burns that much processor time, then answers every request with 200; with port 0 it ends
//! instead. It sends a request to each watched address once a second and prints the status if it
//! has changed. It makes no assertions: `scripts/e2e.sh` reads the cluster's objects.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a tool of scripts/e2e.sh, which waits on a real clock"
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The timeout of each step of a request.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() {
    let (mut after, mut cpu, mut port, mut watched) = (0.0, 0.0, 8080, Vec::new());
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').expect("--NAME=VALUE");
        match name {
            "--after" => after = value.parse().expect("--after: seconds"),
            "--cpu" => cpu = value.parse().expect("--cpu: seconds"),
            "--port" => port = value.parse().expect("--port: a port, or 0"),
            "--watch" => watched.push(value.to_owned()),
            _ => panic!("no option {name}; there are --after, --cpu, --port, --watch"),
        }
    }
    sleep(Duration::from_secs_f64(after));
    burn(Duration::from_secs_f64(cpu));
    for address in watched {
        std::thread::spawn(move || watch(&address));
    }
    if port != 0 {
        serve(port);
    }
}

/// Keeps one core busy until this process has used that much processor time.
fn burn(cpu: Duration) {
    while Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).is_ok_and(|used| used < cpu) {
        std::hint::black_box((0..100_000u32).fold(0u32, u32::wrapping_add));
    }
}

/// One connection at a time is enough for the kubelet and for a lock.
fn serve(port: u16) {
    let listener = TcpListener::bind(("::", port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        .expect("a free port");
    for stream in listener.incoming() {
        // An error of one client, such as a closed connection, does not matter.
        let _ = stream.and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            let _head = stream.read(&mut [0; 4096])?;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        });
    }
}

fn watch(address: &str) {
    let mut before = String::new();
    loop {
        let now = ask(address).unwrap_or_else(|error| error.kind().to_string());
        if now != before {
            let seconds =
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            println!("{seconds} {address} {now}");
            before = now;
        }
        sleep(Duration::from_secs(1));
    }
}

/// The status of one answer.
fn ask(address: &str) -> std::io::Result<String> {
    let (server, path) = address.split_once('/').unwrap_or((address, ""));
    let peer = server.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&peer, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!("GET /{path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(String::from_utf8_lossy(head.get(9..).unwrap_or_default()).into_owned())
}
