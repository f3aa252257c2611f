//! A raw HTTP/1.1 client: sends exactly the given bytes and shows exactly the received bytes. It
//! follows no redirect, repeats no request and has no pool. It does not know the server.

mod connection;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::CEILING;
pub use connection::{Connection, connect_from, raw};

/// An HTTP request. Without further calls it carries `Host` and `Connection: close`.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    from: Option<IpAddr>,
    host: bool,
    keep_alive: bool,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Request {
        Request {
            method: method.to_string(),
            target: target.to_string(),
            headers: Vec::new(),
            body: None,
            from: None,
            host: true,
            keep_alive: false,
        }
    }

    pub fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    pub fn post(target: &str) -> Request {
        Request::new("POST", target)
    }

    pub fn delete(target: &str) -> Request {
        Request::new("DELETE", target)
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    /// Sends a body with its `Content-Length`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self
    }

    /// The address to connect from: an `IpAddr`, or its text.
    #[track_caller]
    pub fn from(mut self, address: impl ToString) -> Request {
        let text = address.to_string();
        let parsed = text.parse();
        self.from = Some(parsed.unwrap_or_else(|_| panic!("not an IP address: {text}")));
        self
    }

    /// Leaves out `Connection: close`.
    pub fn keep_alive(mut self) -> Request {
        self.keep_alive = true;
        self
    }

    pub fn without_host(mut self) -> Request {
        self.host = false;
        self
    }

    /// The bytes that go over the wire.
    pub fn bytes(&self, host: &str) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let mut add = |name: &str, value: &str| {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        };
        if self.host {
            add("Host", host);
        }
        if !self.keep_alive {
            add("Connection", "close");
        }
        for (name, value) in &self.headers {
            add(name, value);
        }
        if let Some(body) = &self.body {
            add("Content-Length", &body.len().to_string());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Opens a connection, sends, and reads one whole answer, all within the ceiling.
    pub fn send(&self, address: SocketAddr, ceiling: Duration) -> io::Result<Reply> {
        Connection::open(address, self.from, ceiling)?.send(self)
    }
}

/// The answer to a GET.
#[track_caller]
pub fn get(address: SocketAddr, target: &str) -> Reply {
    Request::get(target).send(address, CEILING).expect("an answer")
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub reason: String,
    /// In their order, names as they were sent.
    pub headers: Vec<(String, String)>,
    /// Chunks joined; bytes that are not UTF-8 replaced.
    pub body: String,
    /// Head and body as they came.
    pub raw: Vec<u8>,
    /// From the request's first byte to the answer's last.
    pub took: Duration,
}

impl Reply {
    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The body's first line.
    pub fn first_line(&self) -> &str {
        self.body.lines().next().unwrap_or_default()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}\n{self}"))
    }

    /// The value of a sample in the Prometheus text format. The name includes the labels as
    /// written.
    #[track_caller]
    pub fn sample(&self, name: &str) -> f64 {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        self.body.lines().find_map(value).unwrap_or_else(|| panic!("no sample {name}\n{self}"))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.raw))
    }
}

/// The first header of that name, whatever its case.
pub(crate) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut matching = headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    matching.next().map(|(_, value)| value.as_str())
}

pub(crate) fn find_bytes(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Path and query of a request target, the query's pairs decoded and in their order.
pub(crate) fn split_target(target: &str) -> (String, Vec<(String, String)>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    });
    (path.to_string(), pairs.collect())
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], escaped) {
            (_, Some(byte)) => {
                decoded.push(byte);
                at += 3;
                continue;
            }
            (b'+', None) => decoded.push(b' '),
            (byte, None) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The headers of a head's lines; an error for a line without a colon.
pub(crate) fn headers<'h>(
    lines: impl Iterator<Item = &'h str>,
) -> io::Result<Vec<(String, String)>> {
    let header = |line: &str| {
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("header", line))?;
        Ok((name.to_string(), value.trim().to_string()))
    };
    lines.map(header).collect()
}

fn invalid(part: &str, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{part} {text:?} is not HTTP"))
}

/// Reads until `found` returns a place in the bytes.
pub(crate) fn read_until(
    raw: &mut Vec<u8>,
    mut read: impl FnMut() -> io::Result<Vec<u8>>,
    found: impl Fn(&[u8]) -> Option<usize>,
) -> io::Result<usize> {
    loop {
        if let Some(place) = found(raw) {
            return Ok(place);
        }
        let more = read()?;
        if more.is_empty() {
            let so_far = String::from_utf8_lossy(&raw[..raw.len().min(400)]);
            let message = format!("connection closed within the message, which began {so_far:?}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        raw.extend_from_slice(&more);
    }
}

/// The end of the head in these bytes.
pub(crate) fn head_end(raw: &[u8]) -> Option<usize> {
    find_bytes(raw, b"\r\n\r\n").map(|at| at + 4)
}
