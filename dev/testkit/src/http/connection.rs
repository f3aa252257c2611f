//! A connection of the raw HTTP client: sends requests and reads whole answers.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Reply, Request, find, find_bytes, head_end, headers, invalid, read_until};

/// A connection for several requests. Each request has the whole ceiling.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    ceiling: Duration,
    /// Bytes of the next answer that came with the last answer.
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
        // A server may answer and close before it has read the whole request. Its answer counts.
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

    /// Ends the connection by a reset.
    pub fn reset(self) {
        // Without lingering the close is a reset.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Whether the server ends the connection, by a FIN or a reset, before the ceiling.
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
            let head = self.fill(&mut raw, deadline, head_end)?;
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

    /// The end of the answer in `raw`, and its body with the chunks joined.
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

    fn fill(
        &mut self,
        raw: &mut Vec<u8>,
        deadline: Instant,
        found: impl Fn(&[u8]) -> Option<usize>,
    ) -> io::Result<usize> {
        read_until(raw, || read_some(&mut self.stream, deadline), found)
    }
}

/// Sends bytes and returns the bytes that come until the server closes or resets, or until the
/// ceiling.
pub fn raw(
    address: SocketAddr,
    from: Option<IpAddr>,
    bytes: &[u8],
    ceiling: Duration,
) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + ceiling;
    let mut stream = connect_from(from, address, ceiling)?;
    stream.set_write_timeout(Some(ceiling))?;
    // The server may close before it has read all bytes. Its answer counts.
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

/// Connects from this address. On loopback, all of 127.0.0.0/8 exists without being set up.
pub fn connect_from(
    from: Option<IpAddr>,
    to: SocketAddr,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(from) = from {
        // Without it, some thousand connections use up the ports, which stay in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.connect_timeout(&to.into(), timeout)?;
    Ok(socket.into())
}

/// One read, at most until the deadline; empty at the end of the stream.
pub(super) fn read_some(stream: &mut TcpStream, deadline: Instant) -> io::Result<Vec<u8>> {
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
    Ok((status, reason, headers(lines)?))
}
