//! One HTTP(S) request as a client, bounded in time and in bytes of head.
//!
//! No proxy, no redirects, no connection kept for later. Says in a small closed set of words why
//! there is no answer. Does not know what an answer means.

#[cfg(feature = "gzip")]
mod gunzip;
#[cfg(feature = "tls")]
pub mod tls;
pub mod url;

use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::{HeaderValue, Uri};
use ureq::typestate::WithoutBody;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::{Connector, NextTimeout, TcpConnector};
use ureq::{Agent, Error, RequestBuilder, Timeout};

#[cfg(feature = "gzip")]
use crate::client::gunzip::Gunzip;
#[cfg(feature = "tls")]
use crate::client::tls::{Tls, Trust};
use crate::client::url::Url;
use crate::resolve::{ResolveError, Resolver};
use crate::settings::VERSION;
use crate::text::one_line;

/// An answer's head may have this many bytes; what these programs talk to sends a few hundred.
const LARGEST_HEAD: usize = 16 * 1024;

/// The library's own default of 128 KiB would be most of a small program's memory. A little more
/// than the head may have: the library takes a buffer that is full for the connection's end.
const BUFFER: usize = LARGEST_HEAD + 1024;

/// The library adds its bounds to the clock, which panics where the clock cannot hold the sum.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// By this much at least the whole call outlasts connecting, so that it is connecting that is named
/// when both would run out together.
const HAIR: Duration = Duration::from_millis(20);

/// How long each part of a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name look-up, connecting (TLS as well) and sending, together.
    pub reach: Duration,
    /// From there to the end of the answer's head, and once more to its last byte.
    pub answer: Duration,
    /// From the first to the last byte.
    pub whole: Duration,
}

impl Timeouts {
    /// One bound for everything.
    pub fn of(whole: Duration) -> Timeouts {
        Timeouts { reach: whole, answer: whole, whole }
    }

    /// The same, but each part cut to this.
    #[must_use]
    pub fn at_most(self, most: Duration) -> Timeouts {
        Timeouts {
            reach: self.reach.min(most),
            answer: self.answer.min(most),
            whole: self.whole.min(most),
        }
    }
}

/// The library's own way to begin a request of one method.
type Method = fn(&Agent, String) -> RequestBuilder<WithoutBody>;

/// What all calls of one caller have in common.
#[derive(Clone)]
pub struct HttpClient {
    user_agent: String,
    resolver: Resolver,
    silence: Option<Duration>,
    #[cfg(feature = "tls")]
    trust: Option<Trust>,
}

/// What came back: the head is read, the body is not.
pub struct HttpResponse {
    /// 100 to 999.
    pub status: u16,
    /// A server of this project answered (`Server: psl`). Not proof of anything: whoever answers may say so.
    pub is_ours: bool,
    /// `Retry-After` in whole seconds; its other form, a date, is not taken.
    pub retry_after: Option<Duration>,
    /// The body, unpacked where it came compressed (feature `gzip`; who may be sent such a one says so in a header); its errors are explained by [`HttpError::from`].
    pub body: Box<dyn Read>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// The host's name gives no address.
    ResolveError(ResolveError),
    /// The host says that nobody listens there.
    Refused,
    /// Nothing came back while connecting, or no route leads there.
    NoRoute,
    /// The same for `https://`, which connects with a TLS handshake.
    #[cfg(feature = "tls")]
    NoHandshake,
    /// Connected, but no whole answer in time.
    Silent,
    /// Closed or reset before the whole answer had come.
    Cut,
    /// The TLS handshake failed, for this reason.
    Tls(String),
    /// Something came back that is no HTTP answer, or too large a one.
    Garbage(String),
    /// Anything else, such as a lack of descriptors.
    Other(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::ResolveError(why) => why.fmt(f),
            HttpError::Refused => f.write_str("connection refused"),
            HttpError::NoRoute => f.write_str("connection timed out, or no route to host"),
            #[cfg(feature = "tls")]
            HttpError::NoHandshake => {
                f.write_str("connection or TLS handshake timed out, or no route to host")
            }
            HttpError::Silent => f.write_str("connected, but no whole answer in time"),
            HttpError::Cut => f.write_str("connection closed before the whole answer"),
            HttpError::Tls(why) => write!(f, "TLS: {why}"),
            HttpError::Garbage(why) => write!(f, "not an HTTP answer: {why}"),
            HttpError::Other(why) => f.write_str(why),
        }
    }
}

impl HttpClient {
    /// A caller for `http://` alone.
    pub fn new(program: &str) -> HttpClient {
        HttpClient {
            user_agent: format!("psl-{program}/{}", VERSION),
            resolver: Resolver::default(),
            silence: None,
            #[cfg(feature = "tls")]
            trust: None,
        }
    }

    /// The same caller with `https://` verified against these certificates.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_trust(self, trust: Trust) -> HttpClient {
        HttpClient { trust: Some(trust), ..self }
    }

    /// The same caller for a body that comes bit by bit for as long as the whole call may take, with
    /// pauses of no more than this.
    #[must_use]
    pub fn for_streams(self, silence: Duration) -> HttpClient {
        HttpClient { silence: Some(silence), ..self }
    }

    /// The look-ups that this caller shares with its copies.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Sends a GET with these headers and reads the answer's head.
    pub fn get(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        patience: Timeouts,
    ) -> Result<HttpResponse, HttpError> {
        self.call(Agent::get, url, headers, patience)
    }

    /// The same with DELETE.
    pub fn delete(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        patience: Timeouts,
    ) -> Result<HttpResponse, HttpError> {
        self.call(Agent::delete, url, headers, patience)
    }

    /// The addresses of a name are tried in turn until one is reached, each with its share of the
    /// time that is left. One that was reached is never followed by another: the request may have
    /// done its work there already.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for the network")]
    fn call(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&str, &str)],
        patience: Timeouts,
    ) -> Result<HttpResponse, HttpError> {
        let start = Instant::now();
        let addresses =
            self.resolver.resolve(&url.host, patience.reach).map_err(HttpError::ResolveError)?;
        let mut refused = false;
        for (ip, untried) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
            let left = |of: Duration| of.saturating_sub(start.elapsed());
            let patience = Timeouts {
                reach: left(patience.reach) / untried,
                whole: left(patience.whole),
                ..patience
            };
            match self.call_at(*ip, method, url, headers, patience) {
                Err(HttpError::Refused) => refused = true,
                Err(HttpError::NoRoute) => {}
                reached => return reached,
            }
        }
        // A host that says no tells more than an address family that this machine does not have.
        Err(if refused { HttpError::Refused } else { unreached(url) })
    }

    fn call_at(
        &self,
        ip: IpAddr,
        method: Method,
        url: &Url,
        headers: &[(&str, &str)],
        patience: Timeouts,
    ) -> Result<HttpResponse, HttpError> {
        // Zero would mean "no bound" to some of the library's time-outs.
        let bound = |of: Duration| of.clamp(Duration::from_millis(1), LONGEST);
        let reach = bound(patience.reach);
        let config = self
            .config()
            .timeout_connect(Some(reach))
            .timeout_send_request(Some(reach))
            .timeout_recv_response(Some(bound(patience.answer)))
            .timeout_recv_body(Some(bound(
                self.silence.map_or(patience.answer, |_| patience.whole),
            )))
            .timeout_per_read(self.silence)
            .timeout_global(Some(bound(patience.whole).max(reach + HAIR)))
            .build();
        let known = Known(SocketAddr::new(ip, url.port));
        let agent = Agent::with_parts(config, self.connector(), known);
        let mut request = method(&agent, url.to_request());
        for (name, value) in headers.iter().chain(&[("connection", "close")]) {
            request = request.header(*name, *value);
        }
        let response = request.call().map_err(HttpError::from)?;
        let header = |name| response.headers().get(name).map(HeaderValue::as_bytes);
        let (status, retry_after) =
            (response.status().as_u16(), header("retry-after").and_then(seconds));
        let is_ours = header("server") == Some(b"psl");
        #[cfg(feature = "gzip")]
        let is_packed =
            header("content-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip"));
        let body = response.into_body().into_reader();
        #[cfg(feature = "gzip")]
        if is_packed {
            return Ok(HttpResponse {
                status,
                is_ours,
                retry_after,
                body: Box::new(Gunzip::new(body)),
            });
        }
        Ok(HttpResponse { status, is_ours, retry_after, body: Box::new(body) })
    }

    #[cfg(feature = "tls")]
    fn connector(&self) -> impl Connector {
        Connector::<()>::chain(TcpConnector::default(), Tls(self.trust.clone()))
    }

    #[cfg(not(feature = "tls"))]
    fn connector(&self) -> impl Connector {
        TcpConnector::default()
    }

    fn config(&self) -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
        Config::builder()
            .user_agent(&self.user_agent)
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .max_response_header_size(LARGEST_HEAD)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_idle_connections(0)
    }
}

impl HttpResponse {
    /// The body up to `most` bytes; what is longer, cut or late is an error.
    pub fn text(self, most: u64) -> Result<String, HttpError> {
        let mut text = Vec::new();
        self.body.take(most + 1).read_to_end(&mut text)?;
        if text.len() as u64 > most {
            return Err(HttpError::Garbage(format!("a body of more than {most} bytes")));
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

#[cfg(feature = "tls")]
fn unreached(url: &Url) -> HttpError {
    if url.scheme == "https" { HttpError::NoHandshake } else { HttpError::NoRoute }
}

#[cfg(not(feature = "tls"))]
fn unreached(_url: &Url) -> HttpError {
    HttpError::NoRoute
}

/// The name is looked up before, by [`Resolver`]: the library's own resolver would start a thread.
#[derive(Debug)]
struct Known(SocketAddr);

impl UreqResolver for Known {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let mut found = self.empty();
        found.push(self.0);
        Ok(found)
    }
}

/// More seconds than fit are as many as fit.
fn seconds(digits: &[u8]) -> Option<Duration> {
    let value =
        |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| Duration::from_secs(digits.iter().fold(0, value)))
}

impl From<Error> for HttpError {
    fn from(error: Error) -> HttpError {
        match error {
            Error::Timeout(Timeout::Connect) => HttpError::NoRoute,
            Error::Timeout(_) => HttpError::Silent,
            Error::Io(error) => of_io(&error),
            Error::Tls(why) => HttpError::Tls(why.to_owned()),
            Error::Protocol(_) | Error::Http(_) | Error::LargeResponseHeader(..) => {
                HttpError::Garbage(one_line(&error.to_string()))
            }
            error => HttpError::Other(one_line(&error.to_string())),
        }
    }
}

impl From<io::Error> for HttpError {
    fn from(error: io::Error) -> HttpError {
        HttpError::from(Error::from(error))
    }
}

const ETIMEDOUT: i32 = 110;

fn of_io(error: &io::Error) -> HttpError {
    use io::ErrorKind as Kind;
    #[cfg(feature = "tls")]
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return HttpError::Tls(crate::client::tls::of_tls(error));
    }
    // The library's own time-outs are no errors of the system: this one is the kernel's, which has
    // given up connecting.
    if error.raw_os_error() == Some(ETIMEDOUT) {
        return HttpError::NoRoute;
    }
    match error.kind() {
        Kind::ConnectionRefused => HttpError::Refused,
        // The last is what connecting to `::1` gives on a machine without IPv6.
        Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::NetworkDown
        | Kind::AddrNotAvailable => HttpError::NoRoute,
        Kind::TimedOut | Kind::WouldBlock => HttpError::Silent,
        Kind::UnexpectedEof
        | Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe => HttpError::Cut,
        _ => HttpError::Other(one_line(&error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after() {
        for (text, expected) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("+7", None),
            ("-7", None),
            ("", None),
            ("Mon, 23 Nov 2026 01:27:06 GMT", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected.map(Duration::from_secs), "{text}");
        }
    }

    use crate::client::url::HTTP;
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::thread;

    fn url(host: &str, port: u16) -> Url {
        Url::parse(&format!("http://{host}:{port}/"), &[HTTP]).unwrap()
    }

    /// Closed at once, so that nobody listens there.
    fn free_port() -> u16 {
        TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn refused_is_said_whatever_the_other_address_family_says() {
        for host in ["localhost", "127.0.0.1"] {
            let failure = HttpClient::new("test")
                .get(&url(host, free_port()), &[], Timeouts::of(Duration::from_secs(20)))
                .err();
            assert_eq!(failure, Some(HttpError::Refused), "{host}");
        }
    }

    /// The reply to one request, and what the server read of it.
    fn answered(
        answer: impl AsRef<[u8]> + Send + 'static,
        call: impl Fn(&HttpClient, &Url) -> Result<HttpResponse, HttpError>,
    ) -> (HttpResponse, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap();
            stream.write_all(answer.as_ref()).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        });
        let reply = call(&HttpClient::new("test"), &url("localhost", port)).unwrap();
        (reply, server.join().unwrap())
    }

    #[test]
    fn the_longest_patience_is_no_panic() {
        let answer = "HTTP/1.1 423 Locked\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno";
        let (reply, seen) =
            answered(answer, |caller, url| caller.get(url, &[], Timeouts::of(Duration::MAX)));
        assert_eq!((reply.status, reply.retry_after), (423, Some(Duration::from_secs(7))));
        assert_eq!(reply.text(2), Ok("no".to_owned()));
        assert!(seen.starts_with("GET / HTTP/1.1\r\n"), "{seen}");
    }

    #[cfg(feature = "gzip")]
    #[test]
    fn what_comes_compressed_is_unpacked() {
        let packed = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01\x05\0\xfa\xffhellosum?\x05\0\0\0";
        let cut = &packed[..packed.len() - 1];
        for (coding, body, expected) in [
            ("Content-Encoding: gzip", &packed[..], Ok("hello".to_owned())),
            ("content-encoding: GZip", packed, Ok("hello".to_owned())),
            ("Content-Encoding: identity", b"hello", Ok("hello".to_owned())),
            // All bytes that were announced have come.
            ("Content-Encoding: gzip", cut, Err(HttpError::Cut)),
            (
                "Content-Encoding: gzip",
                b"hello",
                Err(HttpError::Other(
                    "what came compressed does not begin as gzip does".to_owned(),
                )),
            ),
        ] {
            let head =
                format!("HTTP/1.1 200 OK\r\n{coding}\r\nContent-Length: {}\r\n\r\n", body.len());
            let patience = Timeouts::of(Duration::from_secs(20));
            let (reply, _) = answered([head.as_bytes(), body].concat(), |caller, url| {
                caller.get(url, &[], patience)
            });
            assert_eq!(reply.text(100), expected, "{coding}, {} bytes", body.len());
        }
    }

    #[test]
    fn a_delete_has_no_body() {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let patience = Timeouts::of(Duration::from_secs(20));
        let (reply, seen) =
            answered(answer, |caller, url| caller.delete(url, &[("x-y", "z")], patience));
        assert_eq!(reply.status, 200);
        let lower = seen.to_lowercase();
        assert!(
            seen.starts_with("DELETE / HTTP/1.1\r\n") && lower.contains("\r\nx-y: z\r\n"),
            "{seen}"
        );
        assert!(
            !lower.contains("content-length") && !lower.contains("transfer-encoding"),
            "{seen}"
        );
    }

    #[test]
    fn whose_answer_it_is() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nServer: psl\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 423 Locked\r\nserver: psl\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nServer: envoy\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nServer: pslx\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nVia: psl\r\nContent-Length: 0\r\n\r\n", false),
        ] {
            let patience = Timeouts::of(Duration::from_secs(20));
            let (reply, _) = answered(answer, |caller, url| caller.get(url, &[], patience));
            assert_eq!(reply.is_ours, expected, "{answer}");
        }
    }
}
