//! A server that follows a script, right or wrong, and keeps the requests. One request a
//! connection. It speaks only the HTTP of its script, and does not know the programs.

use std::fmt;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};

use crate::http::{find, head_end, headers, read_until, split_target};
use crate::listening::{Accepted, End, Listener, Wire};
use crate::tls::Identity;

/// The server's behaviour on a connection.
#[derive(Clone)]
pub enum Behaviour {
    /// The port is bound and not listened on. It holds for the whole server, so not within a
    /// sequence.
    Refuse,
    /// Accepts, and sends no byte.
    Silent,
    CloseAtOnce,
    /// Resets the connection as soon as it is open.
    Reset,
    CloseAfterRequest,
    ResetAfterRequest,
    SilentAfterRequest,
    /// A valid `200`, with this pause after each byte.
    Trickle(Duration),
    /// Bytes that are not HTTP.
    Garbage,
    /// A `200` whose head has about this many bytes, in lines of one kilobyte.
    HugeHead(usize),
    /// A header line that never ends.
    EndlessHead,
    /// A `200` whose body never ends.
    EndlessBody,
    /// A `200` that announces more than it sends before it closes.
    Truncated200,
    Status(u16, String, Vec<(String, String)>),
    /// The other behaviour, this much later than the request.
    After(Duration, Box<Behaviour>),
    /// Decides on the request, and so acts after it, whatever the behaviour.
    Call(Arc<dyn Fn(&Seen) -> Behaviour + Send + Sync>),
    /// One for each connection; the last repeats.
    Sequence(Vec<Behaviour>),
}

impl Behaviour {
    pub fn ok(body: &str) -> Behaviour {
        Behaviour::status(200, body)
    }

    pub fn status(status: u16, body: &str) -> Behaviour {
        Behaviour::status_with(status, body, &[])
    }

    pub fn status_with(status: u16, body: &str, headers: &[(&str, &str)]) -> Behaviour {
        let headers =
            headers.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string()));
        Behaviour::Status(status, body.to_string(), headers.collect())
    }

    pub fn call(decide: impl Fn(&Seen) -> Behaviour + Send + Sync + 'static) -> Behaviour {
        Behaviour::Call(Arc::new(decide))
    }
}

/// A request that was received whole.
#[derive(Clone)]
pub struct Seen {
    pub at: Instant,
    pub from: SocketAddr,
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub raw: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The query's pairs, decoded.
    pub fn query(&self) -> Vec<(String, String)> {
        split_target(&self.target).1
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", String::from_utf8_lossy(&self.raw), self.from)
    }
}

/// A running scripted server; ends on drop.
pub struct Server {
    listening: Listener,
    script: Arc<Script>,
    scheme: &'static str,
}

struct Script {
    /// The behaviour, and the number of the connection from which its sequence counts.
    behaviour: Mutex<(Behaviour, usize)>,
    seen: Mutex<Vec<Seen>>,
    tls: Option<Arc<ServerConfig>>,
}

impl Server {
    /// On 127.0.0.1, port chosen by the system.
    pub fn start(behaviour: Behaviour) -> Server {
        Server::start_at(([127, 0, 0, 1], 0).into(), behaviour)
    }

    pub fn start_at(address: SocketAddr, behaviour: Behaviour) -> Server {
        Server::serve(address, behaviour, None)
    }

    /// With TLS. Behaviours that act before the request, such as [`Behaviour::Silent`], act before
    /// the handshake.
    pub fn start_tls(behaviour: Behaviour, identity: &Identity) -> Server {
        let config = Arc::clone(&identity.config);
        Server::serve(([127, 0, 0, 1], 0).into(), behaviour, Some(config))
    }

    fn serve(address: SocketAddr, behaviour: Behaviour, tls: Option<Arc<ServerConfig>>) -> Server {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let script = Arc::new(Script {
            behaviour: Mutex::new((Behaviour::Silent, 0)),
            seen: Mutex::default(),
            tls,
        });
        let handler = Arc::clone(&script);
        let listening = Listener::start(address, move |accepted| handler.play(accepted));
        let server = Server { listening, script, scheme };
        server.set(behaviour);
        server
    }

    pub fn addr(&self) -> SocketAddr {
        self.listening.address()
    }

    pub fn port(&self) -> u16 {
        self.addr().port()
    }

    /// The whole URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.addr())
    }

    /// From the next connection on. A sequence begins anew.
    pub fn set(&self, behaviour: Behaviour) {
        let refuse = matches!(behaviour, Behaviour::Refuse);
        *self.script.behaviour.lock().unwrap() = (behaviour, self.listening.accepted());
        self.listening.refuse(refuse);
    }

    /// The requests so far that came whole.
    pub fn requests(&self) -> Vec<Seen> {
        self.script.seen.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn wait_for_requests(&self, count: usize, ceiling: Duration) -> Vec<Seen> {
        crate::eventually(&format!("{count} requests"), ceiling, || {
            Some(self.requests()).filter(|requests| requests.len() >= count)
        })
    }

    /// The number of accepted connections.
    pub fn connections(&self) -> usize {
        self.listening.accepted()
    }
}

impl Script {
    fn play(&self, accepted: Accepted) {
        let behaviour = self.behaviour_of(accepted.number);
        match behaviour {
            Behaviour::Silent => accepted.hold(),
            Behaviour::CloseAtOnce => accepted.finish(),
            Behaviour::Reset => accepted.reset(),
            _ => accepted.serve(self.tls.clone(), |wire, from| {
                let seen = read_request(wire, from)?;
                self.seen.lock().unwrap().push(seen.clone());
                answer(wire, &seen, behaviour)
            }),
        }
    }

    fn behaviour_of(&self, number: usize) -> Behaviour {
        let (behaviour, first) = &*self.behaviour.lock().unwrap();
        match behaviour {
            Behaviour::Sequence(steps) => {
                let last = steps.len().checked_sub(1).expect("a sequence has a step");
                steps[number.saturating_sub(*first).min(last)].clone()
            }
            other => other.clone(),
        }
    }
}

fn answer(wire: &mut dyn Wire, seen: &Seen, behaviour: Behaviour) -> io::Result<End> {
    match behaviour {
        Behaviour::CloseAtOnce | Behaviour::CloseAfterRequest => Ok(End::Close),
        Behaviour::Silent | Behaviour::SilentAfterRequest => Ok(End::Hold),
        Behaviour::Refuse | Behaviour::Reset | Behaviour::ResetAfterRequest => Ok(End::Reset),
        Behaviour::Trickle(pause) => {
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nLock acquired" {
                send(wire, &[*byte])?;
                std::thread::sleep(pause);
            }
            Ok(End::Close)
        }
        Behaviour::Garbage => {
            let noise: Vec<u8> = (0..4096_u32)
                .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3] | 0x80)
                .collect();
            send(wire, &noise)?;
            Ok(End::Close)
        }
        Behaviour::HugeHead(size) => huge_head(wire, size),
        Behaviour::EndlessHead => endless(wire, "X-Filler: "),
        Behaviour::EndlessBody => endless(wire, "Content-Type: text/plain\r\n\r\n"),
        Behaviour::Truncated200 => {
            send(wire, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nLock acq")?;
            Ok(End::Cut)
        }
        Behaviour::Status(status, body, headers) => {
            send(wire, &status_answer(status, &body, &headers))?;
            Ok(End::Close)
        }
        Behaviour::After(pause, then) => {
            std::thread::sleep(pause);
            answer(wire, seen, *then)
        }
        Behaviour::Call(decide) => answer(wire, seen, decide(seen)),
        Behaviour::Sequence(_) => {
            panic!("a sequence counts connections: it cannot stand within another behaviour")
        }
    }
}

fn send(wire: &mut dyn Wire, bytes: &[u8]) -> io::Result<()> {
    wire.write_all(bytes)?;
    wire.flush()
}

fn huge_head(wire: &mut dyn Wire, size: usize) -> io::Result<End> {
    send(wire, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")?;
    for number in 0..size.div_ceil(1024) {
        let name = format!("X-Filler-{number}: ");
        let filler = "a".repeat(1024 - 2 - name.len());
        send(wire, format!("{name}{filler}\r\n").as_bytes())?;
    }
    send(wire, b"\r\nOK")?;
    Ok(End::Close)
}

/// Ends with an error when the client closes the connection.
fn endless(wire: &mut dyn Wire, start: &str) -> io::Result<End> {
    send(wire, format!("HTTP/1.1 200 OK\r\n{start}").as_bytes())?;
    let filler = [b'a'; 32 * 1024];
    loop {
        send(wire, &filler)?;
        // Fast enough to fill any memory, slow enough to leave the processor to others.
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn status_answer(status: u16, body: &str, headers: &[(String, String)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if find(headers, "content-length").is_none() && find(headers, "transfer-encoding").is_none() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    if find(headers, "connection").is_none() {
        head.push_str("Connection: close\r\n");
    }
    format!("{head}\r\n{body}").into_bytes()
}

pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        410 => "Gone",
        412 => "Precondition Failed",
        423 => "Locked",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Other",
    }
}

/// A request with its head and, if its length is announced, its body.
pub(crate) fn read_request(wire: &mut (impl Read + ?Sized), from: SocketAddr) -> io::Result<Seen> {
    let mut raw = Vec::new();
    let mut read = || {
        let mut buffer = vec![0; 4096];
        let read = wire.read(&mut buffer)?;
        buffer.truncate(read);
        Ok(buffer)
    };
    let head = read_until(&mut raw, &mut read, head_end)?;
    let text = String::from_utf8_lossy(&raw[..head]).into_owned();
    let mut lines = text.trim_end().split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().splitn(3, ' ').collect();
    let headers = headers(lines)?;
    let length = find(&headers, "content-length").and_then(|length| length.parse().ok());
    let end = head.saturating_add(length.unwrap_or(0));
    read_until(&mut raw, &mut read, |raw| (raw.len() >= end).then_some(end))?;
    let word = |at: usize| words.get(at).copied().unwrap_or_default().to_string();
    let (method, target, version, body) = (word(0), word(1), word(2), raw[head..].to_vec());
    Ok(Seen { at: Instant::now(), from, method, target, version, headers, body, raw })
}

/// A listener whose backlog is full and stays full.
pub struct Blackhole {
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

/// An address at which connecting hangs while the guard lives, as behind a firewall that drops
/// packets.
pub fn blackhole() -> (SocketAddr, Blackhole) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    // On loopback the kernel accepts a connection at once or never.
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "this system does not drop connections to a full line");
    }
    (address, Blackhole { _listener: listener, _waiting: waiting })
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::CEILING;
    use crate::http::{Request, raw};

    #[test]
    fn each_behaviour_has_its_effect_on_a_client() {
        let short = Duration::from_millis(300);
        let decide =
            Behaviour::call(|seen| Behaviour::ok(&format!("{} {:?}", seen.path(), seen.query())));
        for (name, behaviour, ceiling, expected) in [
            ("refuse", Behaviour::Refuse, CEILING, Err(ErrorKind::ConnectionRefused)),
            ("silent", Behaviour::Silent, short, Err(ErrorKind::TimedOut)),
            ("close", Behaviour::CloseAtOnce, CEILING, Err(ErrorKind::UnexpectedEof)),
            ("close later", Behaviour::CloseAfterRequest, CEILING, Err(ErrorKind::UnexpectedEof)),
            ("reset later", Behaviour::ResetAfterRequest, CEILING, Err(ErrorKind::ConnectionReset)),
            ("silent later", Behaviour::SilentAfterRequest, short, Err(ErrorKind::TimedOut)),
            ("slow", Behaviour::Trickle(Duration::from_secs(1)), short, Err(ErrorKind::TimedOut)),
            ("trickle", Behaviour::Trickle(Duration::from_millis(1)), CEILING, Ok("Lock acquired")),
            ("garbage", Behaviour::Garbage, CEILING, Err(ErrorKind::UnexpectedEof)),
            ("huge head", Behaviour::HugeHead(100_000), CEILING, Ok("OK")),
            ("endless head", Behaviour::EndlessHead, short, Err(ErrorKind::TimedOut)),
            ("endless body", Behaviour::EndlessBody, short, Err(ErrorKind::TimedOut)),
            ("truncated", Behaviour::Truncated200, CEILING, Err(ErrorKind::UnexpectedEof)),
            ("status", Behaviour::status(200, "yes"), CEILING, Ok("yes")),
            (
                "later",
                Behaviour::After(Duration::from_millis(20), Box::new(Behaviour::ok("late"))),
                CEILING,
                Ok("late"),
            ),
            ("call", decide, CEILING, Ok("/a [(\"b\", \"c d\")]")),
        ] {
            let server = Server::start(behaviour);
            let reply = Request::get("/a?b=c%20d").send(server.addr(), ceiling);
            let got = reply.as_ref().map(|reply| reply.body.as_str()).map_err(io::Error::kind);
            assert_eq!(got, expected, "{name}: {reply:?}");
        }
    }

    #[test]
    fn a_sequence_has_one_behaviour_for_each_connection() {
        let server = Server::start(Behaviour::Sequence(vec![
            Behaviour::Reset,
            Behaviour::status_with(423, "Locked", &[("Retry-After", "1")]),
            Behaviour::ok("Lock acquired"),
        ]));
        let mut stream = TcpStream::connect(server.addr()).unwrap();
        let reset = stream.read(&mut [0]).unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        let ask = || {
            Request::post("/?x=1")
                .header("X-A", "b")
                .body("text")
                .send(server.addr(), CEILING)
                .unwrap()
        };
        let locked = ask();
        assert_eq!((locked.status, locked.header("retry-after")), (423, Some("1")));
        assert_eq!((ask().status, ask().status), (200, 200));
        let seen = server.wait_for_requests(3, CEILING);
        assert_eq!(seen.len(), 3);
        assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("POST", "/?x=1"));
        assert_eq!((seen[0].header("x-a"), seen[0].body.as_slice()), (Some("b"), &b"text"[..]));
        assert!(seen[0].at <= seen[1].at);
        assert_eq!(server.connections(), 4);
    }

    #[test]
    fn a_server_refuses_and_listens_again_on_its_port() {
        let server = Server::start(Behaviour::ok("one"));
        let ask = || Request::get("/").send(server.addr(), CEILING);
        assert_eq!(ask().unwrap().body, "one");
        for _ in 0..3 {
            server.set(Behaviour::Refuse);
            assert_eq!(ask().unwrap_err().kind(), ErrorKind::ConnectionRefused);
            server.set(Behaviour::ok("two"));
            assert_eq!(ask().unwrap().body, "two");
        }
    }

    #[test]
    fn a_dropped_server_ends_its_connections() {
        let server = Server::start(Behaviour::Silent);
        let address = server.addr();
        let client = std::thread::spawn(move || raw(address, None, b"x", CEILING).unwrap());
        crate::eventually("a connection", CEILING, || (server.connections() == 1).then_some(()));
        drop(server);
        let start = Instant::now();
        assert_eq!(client.join().unwrap(), b"");
        assert!(start.elapsed() < CEILING / 2);
        crate::eventually("the port is free", CEILING, || TcpListener::bind(address).ok());
    }

    #[test]
    fn connecting_to_a_blackhole_times_out() {
        let (address, _guard) = blackhole();
        let error = TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
