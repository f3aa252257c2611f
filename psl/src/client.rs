//! One HTTP(S) request, bounded in time and in the size of the response's head.
//!
//! Uses no proxy, follows no redirect and keeps no connection. Reports failures as a small closed
//! set. Does not know the meaning of a response.

mod error;
#[cfg(feature = "gzip")]
mod gunzip;
#[cfg(feature = "tls")]
pub mod tls;
pub mod url;

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::{HeaderValue, Uri};
use ureq::typestate::WithoutBody;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::{Connector, NextTimeout, TcpConnector};
use ureq::{Agent, Body, Error, RequestBuilder, http};

pub use error::HttpError;

use crate::client::url::Url;
use crate::resolve::Resolver;
use crate::version::VERSION;

/// The bytes of a response's head; the peers of these programs send a few hundred.
const LARGEST_HEAD: usize = 16 * 1024;

/// The library's default of 128 KiB would be most of a small program's memory. It has to be larger
/// than the head, because the library takes a full buffer for the end of the connection.
const BUFFER: usize = LARGEST_HEAD + 1024;

/// The library adds its timeouts to the clock, which panics if the clock cannot hold the sum.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// The timeout of the whole request exceeds that of connecting by at least this. If both would end
/// together, the error then names the connect.
const MARGIN: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For name lookup, connect, TLS handshake and sending, together.
    pub reach: Duration,
    /// From there to the end of the response's head, and again to the last byte of its body.
    pub answer: Duration,
    pub whole: Duration,
}

impl Timeouts {
    /// The same timeout for all parts.
    pub fn of(whole: Duration) -> Timeouts {
        Timeouts { reach: whole, answer: whole, whole }
    }

    #[must_use]
    pub fn at_most(self, most: Duration) -> Timeouts {
        Timeouts {
            reach: self.reach.min(most),
            answer: self.answer.min(most),
            whole: self.whole.min(most),
        }
    }
}

type Result<T> = std::result::Result<T, HttpError>;
type Headers<'h> = &'h [(&'h str, &'h str)];

/// The library's function that begins a request of one method.
type BeginRequest = fn(&Agent, String) -> RequestBuilder<WithoutBody>;

#[derive(Clone)]
pub struct HttpClient {
    user_agent: String,
    resolver: Resolver,
    silence: Option<Duration>,
    #[cfg(feature = "tls")]
    trust: Option<tls::Trust>,
}

/// A response: its head has been read, its body has not.
pub struct HttpResponse {
    /// 100 to 999.
    pub status: u16,
    /// The response has `Server: psl`. Any server can send this header, so it is no proof.
    pub is_ours: bool,
    /// `Retry-After` in whole seconds; the other form, a date, is ignored.
    pub retry_after: Option<Duration>,
    /// The body, decompressed (feature `gzip`). [`HttpError::from`] describes its errors.
    pub body: Box<dyn Read>,
}

impl HttpClient {
    /// A client for `http://` only.
    pub fn new(program: &str) -> HttpClient {
        HttpClient {
            user_agent: format!("psl-{program}/{VERSION}"),
            resolver: Resolver::default(),
            silence: None,
            #[cfg(feature = "tls")]
            trust: None,
        }
    }

    /// Adds `https://`, verified against these certificates.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_trust(self, trust: tls::Trust) -> HttpClient {
        HttpClient { trust: Some(trust), ..self }
    }

    /// For bodies that arrive in parts during the whole timeout, with pauses of at most `silence`.
    #[must_use]
    pub fn for_streams(self, silence: Duration) -> HttpClient {
        HttpClient { silence: Some(silence), ..self }
    }

    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Sends a GET with these headers and reads the head of the response.
    pub fn get(&self, url: &Url, headers: Headers, timeouts: Timeouts) -> Result<HttpResponse> {
        self.send(Agent::get, url, headers, timeouts)
    }

    /// Sends a DELETE with these headers and reads the head of the response.
    pub fn delete(&self, url: &Url, headers: Headers, timeouts: Timeouts) -> Result<HttpResponse> {
        self.send(Agent::delete, url, headers, timeouts)
    }

    /// Tries the addresses of the host in turn until one connects, each with its share of the time
    /// that is left. After a connect no other address is tried: the request may have taken effect.
    #[expect(clippy::disallowed_methods, reason = "the edge that waits for the network")]
    fn send(
        &self,
        method: BeginRequest,
        url: &Url,
        headers: Headers,
        timeouts: Timeouts,
    ) -> Result<HttpResponse> {
        let start = Instant::now();
        let addresses = self.resolver.resolve(&url.host, timeouts.reach)?;
        let mut error = HttpError::unreachable(url);
        for (ip, untried) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
            let left = |timeout: Duration| timeout.saturating_sub(start.elapsed());
            let timeouts = Timeouts {
                reach: left(timeouts.reach) / untried,
                whole: left(timeouts.whole),
                ..timeouts
            };
            match self.send_to(*ip, method, url, headers, timeouts) {
                // A refusal tells more than an address family that this machine does not have.
                Err(HttpError::Refused) => error = HttpError::Refused,
                Err(HttpError::Unreachable) => {}
                result => return result,
            }
        }
        Err(error)
    }

    fn send_to(
        &self,
        ip: IpAddr,
        method: BeginRequest,
        url: &Url,
        headers: Headers,
        timeouts: Timeouts,
    ) -> Result<HttpResponse> {
        let resolver = FixedAddress(SocketAddr::new(ip, url.port));
        let agent = Agent::with_parts(self.config(timeouts), self.connector(), resolver);
        let mut request = method(&agent, url.to_request());
        for (name, value) in headers.iter().chain(&[("connection", "close")]) {
            request = request.header(*name, *value);
        }
        Ok(HttpResponse::from(request.call()?))
    }

    #[cfg(feature = "tls")]
    fn connector(&self) -> impl Connector {
        Connector::<()>::chain(TcpConnector::default(), tls::TlsConnector(self.trust.clone()))
    }

    #[cfg(not(feature = "tls"))]
    fn connector(&self) -> impl Connector {
        TcpConnector::default()
    }

    fn config(&self, timeouts: Timeouts) -> Config {
        // Zero would mean "no bound" to some of the library's timeouts.
        let bounded = |timeout: Duration| timeout.clamp(Duration::from_millis(1), LONGEST);
        let reach = bounded(timeouts.reach);
        let body = if self.silence.is_some() { timeouts.whole } else { timeouts.answer };
        Config::builder()
            .user_agent(&self.user_agent)
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .max_response_header_size(LARGEST_HEAD)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .max_idle_connections(0)
            .timeout_connect(Some(reach))
            .timeout_send_request(Some(reach))
            .timeout_recv_response(Some(bounded(timeouts.answer)))
            .timeout_recv_body(Some(bounded(body)))
            .timeout_per_read(self.silence)
            .timeout_global(Some(bounded(timeouts.whole).max(reach + MARGIN)))
            .build()
    }
}

impl From<http::Response<Body>> for HttpResponse {
    fn from(response: http::Response<Body>) -> HttpResponse {
        let header = |name| response.headers().get(name).map(HeaderValue::as_bytes);
        let status = response.status().as_u16();
        let is_ours = header("server") == Some(b"psl");
        let retry_after = header("retry-after").and_then(seconds);
        #[cfg(feature = "gzip")]
        let is_gzip =
            header("content-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip"));
        let body = response.into_body().into_reader();
        #[cfg(feature = "gzip")]
        if is_gzip {
            let body = Box::new(gunzip::Gunzip::new(body));
            return HttpResponse { status, is_ours, retry_after, body };
        }
        HttpResponse { status, is_ours, retry_after, body: Box::new(body) }
    }
}

impl HttpResponse {
    /// The body; an error if it has more than `most` bytes, is incomplete or late.
    pub fn text(self, most: u64) -> Result<String> {
        let mut text = Vec::new();
        self.body.take(most + 1).read_to_end(&mut text)?;
        if text.len() as u64 > most {
            return Err(HttpError::Malformed(format!("a body of more than {most} bytes")));
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// An address that has been resolved: the library's own resolver would start a thread.
#[derive(Debug)]
struct FixedAddress(SocketAddr);

impl UreqResolver for FixedAddress {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, Error> {
        let mut found = self.empty();
        found.push(self.0);
        Ok(found)
    }
}

/// A number of seconds; one that is too large becomes the largest.
fn seconds(digits: &[u8]) -> Option<Duration> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let append =
        |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(Duration::from_secs(digits.iter().fold(0, append)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_of_seconds() {
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

    /// Closed at once, so no server listens on it.
    fn free_port() -> u16 {
        TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn a_refusal_outweighs_the_error_of_the_other_address_family() {
        for host in ["localhost", "127.0.0.1"] {
            let failure = HttpClient::new("test")
                .get(&url(host, free_port()), &[], Timeouts::of(Duration::from_secs(20)))
                .err();
            assert_eq!(failure, Some(HttpError::Refused), "{host}");
        }
    }

    /// The response to one request, and the request that the server read.
    fn exchange(
        response: impl AsRef<[u8]> + Send + 'static,
        call: impl Fn(&HttpClient, &Url) -> Result<HttpResponse>,
    ) -> (HttpResponse, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap();
            stream.write_all(response.as_ref()).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        });
        let response = call(&HttpClient::new("test"), &url("localhost", port)).unwrap();
        (response, server.join().unwrap())
    }

    #[test]
    fn the_longest_timeout_does_not_panic() {
        let response = "HTTP/1.1 423 Locked\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno";
        let (reply, request) =
            exchange(response, |client, url| client.get(url, &[], Timeouts::of(Duration::MAX)));
        assert_eq!((reply.status, reply.retry_after), (423, Some(Duration::from_secs(7))));
        assert_eq!(reply.text(2), Ok("no".to_owned()));
        assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
    }

    #[cfg(feature = "gzip")]
    #[test]
    fn gzip_bodies_are_decompressed() {
        let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01\x05\0\xfa\xffhellosum?\x05\0\0\0";
        let cut = &gzip[..gzip.len() - 1];
        for (coding, body, expected) in [
            ("Content-Encoding: gzip", &gzip[..], Ok("hello".to_owned())),
            ("content-encoding: GZip", gzip, Ok("hello".to_owned())),
            ("Content-Encoding: identity", b"hello", Ok("hello".to_owned())),
            // The body has the announced length.
            ("Content-Encoding: gzip", cut, Err(HttpError::Closed)),
            (
                "Content-Encoding: gzip",
                b"hello",
                Err(HttpError::Other("invalid gzip data: no gzip header".to_owned())),
            ),
        ] {
            let head =
                format!("HTTP/1.1 200 OK\r\n{coding}\r\nContent-Length: {}\r\n\r\n", body.len());
            let timeouts = Timeouts::of(Duration::from_secs(20));
            let (reply, _) = exchange([head.as_bytes(), body].concat(), |client, url| {
                client.get(url, &[], timeouts)
            });
            assert_eq!(reply.text(100), expected, "{coding}, {} bytes", body.len());
        }
    }

    #[test]
    fn a_delete_has_no_body() {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let timeouts = Timeouts::of(Duration::from_secs(20));
        let (reply, request) =
            exchange(response, |client, url| client.delete(url, &[("x-y", "z")], timeouts));
        assert_eq!(reply.status, 200);
        let lower = request.to_lowercase();
        assert!(
            request.starts_with("DELETE / HTTP/1.1\r\n") && lower.contains("\r\nx-y: z\r\n"),
            "{request}"
        );
        assert!(
            !lower.contains("content-length") && !lower.contains("transfer-encoding"),
            "{request}"
        );
    }

    #[test]
    fn the_server_header_marks_responses_of_this_project() {
        for (response, expected) in [
            ("HTTP/1.1 200 OK\r\nServer: psl\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 423 Locked\r\nserver: psl\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nServer: envoy\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nServer: pslx\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nVia: psl\r\nContent-Length: 0\r\n\r\n", false),
        ] {
            let timeouts = Timeouts::of(Duration::from_secs(20));
            let (reply, _) = exchange(response, |client, url| client.get(url, &[], timeouts));
            assert_eq!(reply.is_ours, expected, "{response}");
        }
    }
}
