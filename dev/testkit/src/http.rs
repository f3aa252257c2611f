//! A raw HTTP/1.1 client: sends exactly the bytes it is told to and shows exactly the bytes that came back. Follows no
//! redirect, repeats nothing, knows no pool. It does not know which of our programs is at the other end.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::CEILING;

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

    /// What goes over the wire.
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

    /// Opens a connection, sends, reads one whole answer. The ceiling holds for all of it.
    pub fn send(&self, address: SocketAddr, ceiling: Duration) -> io::Result<Reply> {
        Connection::open(address, self.from, ceiling)?.send(self)
    }
}

/// Asks a server, and has its answer.
#[track_caller]
pub fn get(address: SocketAddr, target: &str) -> Reply {
    Request::get(target).send(address, CEILING).expect("an answer")
}

/// A whole answer.
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

    /// The value of a sample in the Prometheus text format, named with its labels as they stand there.
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

/// One connection for several requests, each given the same ceiling anew.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    ceiling: Duration,
    /// Bytes of the next answer that came with the last one.
    left: Vec<u8>,
}

impl Connection {
    pub fn open(
        address: SocketAddr,
        from: Option<IpAddr>,
        ceiling: Duration,
    ) -> io::Result<Connection> {
        let stream = connect_from(from, address, ceiling)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(ceiling))?;
        Ok(Connection { stream, address, ceiling, left: Vec::new() })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn send(&mut self, request: &Request) -> io::Result<Reply> {
        let start = Instant::now();
        let bytes = request.bytes(&self.address.to_string());
        // A server may answer and close before it has read everything: then the answer counts, not the broken pipe.
        let written = self.write(&bytes);
        let bodiless = request.method == "HEAD";
        match (self.read(start, bodiless), written) {
            (Ok(reply), _) => Ok(reply),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }

    /// Reads the next answer, to a request written before (not to a HEAD).
    pub fn reply(&mut self) -> io::Result<Reply> {
        self.read(Instant::now(), false)
    }

    /// Breaks the connection: the other side sees a reset, and cannot write any more.
    pub fn reset(self) {
        // No lingering is what makes the close a reset; it can fail only where there is no socket.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Whether the other side ends the connection, be it by a reset, before the ceiling; what it still sends is dropped.
    pub fn closed(&mut self) -> bool {
        let deadline = Instant::now() + self.ceiling;
        loop {
            match read_some(&mut self.stream, deadline) {
                Ok(bytes) if bytes.is_empty() => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::TimedOut,
            }
        }
    }

    fn read(&mut self, start: Instant, bodiless: bool) -> io::Result<Reply> {
        let deadline = Instant::now() + self.ceiling;
        let mut raw = std::mem::take(&mut self.left);
        loop {
            let head =
                self.fill(&mut raw, deadline, |raw| find_bytes(raw, b"\r\n\r\n").map(|at| at + 4))?;
            let (status, reason, headers) = parse_head(&raw[..head])?;
            if (100..200).contains(&status) && status != 101 {
                raw.drain(..head);
                continue;
            }
            let (end, body) =
                self.read_body(&mut raw, head, status, &headers, bodiless, deadline)?;
            self.left = raw.split_off(end);
            return Ok(Reply {
                status,
                reason,
                headers,
                body: String::from_utf8_lossy(&body).into_owned(),
                raw,
                took: start.elapsed(),
            });
        }
    }

    /// The place in `raw` where the answer ends, and its body with the chunks joined.
    fn read_body(
        &mut self,
        raw: &mut Vec<u8>,
        head: usize,
        status: u16,
        headers: &[(String, String)],
        bodiless: bool,
        deadline: Instant,
    ) -> io::Result<(usize, Vec<u8>)> {
        if bodiless || status == 204 || status == 304 {
            return Ok((head, Vec::new()));
        }
        if find(headers, "transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks(raw, head, deadline);
        }
        if let Some(length) = find(headers, "content-length") {
            let length: usize = length.parse().map_err(|_| invalid("Content-Length", length))?;
            let end = head + length;
            self.fill(raw, deadline, |raw| (raw.len() >= end).then_some(end))?;
            return Ok((end, raw[head..end].to_vec()));
        }
        loop {
            let more = read_some(&mut self.stream, deadline)?;
            if more.is_empty() {
                return Ok((raw.len(), raw[head..].to_vec()));
            }
            raw.extend_from_slice(&more);
        }
    }

    fn read_chunks(
        &mut self,
        raw: &mut Vec<u8>,
        head: usize,
        deadline: Instant,
    ) -> io::Result<(usize, Vec<u8>)> {
        let (mut at, mut body) = (head, Vec::new());
        loop {
            let line =
                self.fill(raw, deadline, |raw| find_bytes(&raw[at..], b"\r\n").map(|n| at + n))?;
            let text = String::from_utf8_lossy(&raw[at..line]).into_owned();
            let size = text.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| invalid("chunk size", &text))?;
            let end = line + 2 + size + 2;
            self.fill(raw, deadline, |raw| (raw.len() >= end).then_some(end))?;
            body.extend_from_slice(&raw[line + 2..end - 2]);
            at = end;
            if size == 0 {
                return Ok((at, body));
            }
        }
    }

    /// Reads until `found` names a place.
    fn fill(
        &mut self,
        raw: &mut Vec<u8>,
        deadline: Instant,
        found: impl Fn(&[u8]) -> Option<usize>,
    ) -> io::Result<usize> {
        loop {
            if let Some(place) = found(raw) {
                return Ok(place);
            }
            let more = read_some(&mut self.stream, deadline)?;
            if more.is_empty() {
                let so_far = String::from_utf8_lossy(&raw[..raw.len().min(400)]);
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("connection closed within the answer, which began {so_far:?}"),
                ));
            }
            raw.extend_from_slice(&more);
        }
    }
}

/// Sends bytes and reads until the other side closes or resets, or until the ceiling; gives what came until then.
pub fn raw(
    address: SocketAddr,
    from: Option<IpAddr>,
    bytes: &[u8],
    ceiling: Duration,
) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + ceiling;
    let mut stream = connect_from(from, address, ceiling)?;
    stream.set_write_timeout(Some(ceiling))?;
    // The server may close while it is still being written to: what it answered is what is asked for.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    while let Ok(more) = read_some(&mut stream, deadline) {
        if more.is_empty() {
            break;
        }
        answer.extend_from_slice(&more);
    }
    Ok(answer)
}

/// Connects from an address of choice; on loopback all of 127.0.0.0/8 is there without being set up.
pub fn connect_from(
    from: Option<IpAddr>,
    to: SocketAddr,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(from) = from {
        // Else ports that wait out their last connection are missing after some thousand connections.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.connect_timeout(&to.into(), timeout)?;
    Ok(socket.into())
}

/// One read, at most until the deadline; empty at the end of the stream.
fn read_some(stream: &mut TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no whole answer in time"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(read) => return Ok(buffer[..read].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

type Head = (u16, String, Vec<(String, String)>);

fn parse_head(head: &[u8]) -> io::Result<Head> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default();
    let mut words = first.splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| word.parse().ok());
    let (true, Some(status)) = (version.starts_with("HTTP/1."), status) else {
        return Err(invalid("status line", first));
    };
    let reason = words.next().unwrap_or_default().to_string();
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("header", line))?;
            Ok((name.to_string(), value.trim().to_string()))
        })
        .collect::<io::Result<_>>()?;
    Ok((status, reason, headers))
}

fn invalid(what: &str, text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} {text:?} is not HTTP"))
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::CEILING;

    /// Answers one connection with these bytes once a head has come, then closes; gives what it was sent and by whom.
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
            let expected =
                format!("GET /x HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
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
    fn pipelined_answers_are_told_apart() {
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
    fn samples_are_found_by_their_whole_name() {
        let (address, _thread) =
            answering(b"HTTP/1.0 200 OK\r\n\r\n# TYPE a counter\na_b 1\na{c=\"d\"} 2.5\na 3\n");
        let reply = Request::get("/").send(address, CEILING).unwrap();
        assert_eq!(
            (reply.sample("a"), reply.sample("a{c=\"d\"}"), reply.sample("a_b")),
            (3.0, 2.5, 1.0)
        );
    }

    #[test]
    fn a_silent_server_runs_into_the_ceiling() {
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
}
