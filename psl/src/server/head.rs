//! Bytes to a request, or to the reason why they are none.
//!
//! Pure: knows RFC 9110 and 9112 as far as a server without bodies needs them; knows no socket.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr};

use httparse::{Error, Header, Status};
use tiny_http::Method;

use super::response::Response;

/// Bytes of a head, request line included; a longer one gets 431, or 414 where the line is to blame.
pub(super) const LARGEST: usize = 8 * 1024;

/// Header lines; browsers and proxies send some thirty.
const MOST_HEADERS: usize = 64;

/// A request without a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'b> {
    /// As it was sent.
    pub method: Method,
    /// As it was sent, without query, scheme and host.
    pub path: &'b str,
    /// As it was sent, without its question mark; still percent-encoded.
    pub query: &'b str,
    /// The client's address; an IPv4 address is never in IPv6 form.
    pub peer: IpAddr,
    /// `Accept` names `application/json`.
    pub json: bool,
}

impl Default for Request<'_> {
    fn default() -> Self {
        let peer = Ipv4Addr::LOCALHOST.into();
        Request { method: Method::Get, path: "/", query: "", peer, json: false }
    }
}

/// The meaning of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'b> {
    /// No end of a head yet.
    Partial,
    /// A request of this length, and whether the connection may go on after it.
    Complete {
        /// The request.
        request: Request<'b>,
        /// Bytes of its head.
        length: usize,
        /// Neither side has asked to close.
        keep_alive: bool,
    },
    /// Answered and closed.
    Refused(Response),
}

/// Parses the bytes that have come from a peer; at most 8 KiB of them are looked at.
pub fn parse(bytes: &[u8], peer: IpAddr) -> Parsed<'_> {
    let seen = &bytes[..bytes.len().min(LARGEST)];
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut raw = httparse::Request::new(&mut []);
    match raw.parse_with_uninit_headers(seen, &mut headers) {
        Ok(Status::Complete(length)) => {
            whole(&raw, &seen[..length], peer).unwrap_or_else(Parsed::Refused)
        }
        Ok(Status::Partial) if seen.len() < LARGEST => Parsed::Partial,
        Ok(Status::Partial) => Parsed::Refused(too_large(&raw)),
        Err(error) => Parsed::Refused(unparsable(error)),
    }
}

fn whole<'b>(
    raw: &httparse::Request<'_, 'b>,
    head: &[u8],
    peer: IpAddr,
) -> Result<Parsed<'b>, Response> {
    let headers: &[Header] = raw.headers;
    let json = prefers_json(headers);
    let refusal = |(status, kind, why): Refusal| Response::error(status, kind, why, json);
    let malformed = |why| Err(refusal((400, "malformed_request", why)));
    // A lone line feed or carriage return is how one request is made to look like two.
    if has_bare_line_end(head) {
        return malformed("a line that does not end with CR LF");
    }
    let (Some(method), Some(target), Some(version)) = (raw.method, raw.path, raw.version) else {
        return malformed("no request line");
    };
    let Ok(method) = method.parse::<Method>() else {
        return malformed("a method of other characters than letters");
    };
    let hosts = values(headers, "host").count();
    if hosts > 1 || (version == 1 && hosts == 0) {
        return malformed("HTTP/1.1 asks for exactly one Host header");
    }
    if !values(headers, "host").all(is_host) {
        return malformed("a Host header that is no host");
    }
    body(headers, version).map_err(refusal)?;
    if values(headers, "expect").any(|v| !v.eq_ignore_ascii_case(b"100-continue")) {
        return Err(refusal((
            417,
            "expectation_failed",
            "the only expectation known is 100-continue",
        )));
    }
    let Some((path, query)) = path_and_query(target, &method) else {
        return malformed(
            "not a valid request target: send a path without a fragment, and % as %25 (RFC 9112, 3.2)",
        );
    };
    let request = Request { method, path, query, peer, json };
    // HTTP/1.0 closes unless asked not to, and clients that ask speak 1.1 as well.
    let keep_alive = version == 1 && !has_token(headers, "connection", "close");
    Ok(Parsed::Complete { request, length: head.len(), keep_alive })
}

type Refusal = (u16, &'static str, &'static str);

/// No request here has a body. One that is announced is refused unread; how long it claims to be
/// is of no interest beyond being a number (RFC 9112, 6.3).
fn body(headers: &[Header], version: u8) -> Result<(), Refusal> {
    let mut lengths = values(headers, "content-length")
        .flat_map(|v| v.split(|b| *b == b',').map(<[u8]>::trim_ascii));
    let coded = values(headers, "transfer-encoding").count() > 0;
    let Some(first) = lengths.next() else {
        return match (coded, version) {
            (false, _) => Ok(()),
            (true, 0) => Err((400, "malformed_request", "HTTP/1.0 has no Transfer-Encoding")),
            (true, _) => Err((413, "body_refused", "no request here has a body")),
        };
    };
    if coded {
        return Err((
            400,
            "malformed_request",
            "Content-Length and Transfer-Encoding exclude each other",
        ));
    }
    if first.is_empty()
        || !first.iter().all(u8::is_ascii_digit)
        || lengths.any(|other| other != first)
    {
        return Err((400, "malformed_request", "Content-Length is one whole number"));
    }
    match first.iter().all(|digit| *digit == b'0') {
        true => Ok(()),
        false => Err((413, "body_refused", "no request here has a body")),
    }
}

/// What can stand in an authority without user and password (RFC 9112, 3.2).
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\\"<>^`{|}".contains(byte))
}

/// Path and query of a request target in origin form, or in the absolute form that is sent to proxies
/// (RFC 9112, 3.2). `None` for the other forms, except `OPTIONS *`, and for a fragment, which is never sent.
fn path_and_query<'t>(target: &'t str, method: &Method) -> Option<(&'t str, &'t str)> {
    if !target.is_ascii() || target.contains('#') || has_bad_escape(target) {
        return None;
    }
    let is_origin = target.starts_with('/') || (target == "*" && *method == Method::Options);
    let target = if is_origin { target } else { without_authority(target)? };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some((if path.is_empty() { "/" } else { path }, query))
}

fn without_authority(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    (is_http && !authority.is_empty() && is_host(authority.as_bytes())).then_some(target)
}

/// A percent sign that is not followed by two hexadecimal digits (RFC 3986, 2.1).
fn has_bad_escape(target: &str) -> bool {
    let is_hex = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    target
        .as_bytes()
        .split(|byte| *byte == b'%')
        .skip(1)
        .any(|rest| !is_hex(rest.first()) || !is_hex(rest.get(1)))
}

fn prefers_json(headers: &[Header]) -> bool {
    values(headers, "accept").flat_map(|v| v.split(|b| *b == b',')).any(|range| {
        let mut parts = range.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"application/json"));
        named
            && !parts
                .any(|parameter| matches!(parameter, b"q=0" | b"q=0.0" | b"q=0.00" | b"q=0.000"))
    })
}

fn values<'h>(headers: &'h [Header<'h>], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.trim_ascii())
}

fn has_token(headers: &[Header], name: &str, token: &str) -> bool {
    values(headers, name)
        .flat_map(|v| v.split(|b| *b == b','))
        .any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// A head ends with a line feed, so that no carriage return is the last byte.
fn has_bare_line_end(head: &[u8]) -> bool {
    let mut last = 0;
    head.iter().any(|byte| (*byte == b'\n') != (std::mem::replace(&mut last, *byte) == b'\r'))
}

fn too_large(raw: &httparse::Request) -> Response {
    match raw.version {
        None => {
            Response::error(414, "target_too_long", "the request line has more than 8 KiB", false)
        }
        Some(_) => Response::error(431, "head_too_large", "the head has more than 8 KiB", false),
    }
}

fn unparsable(error: Error) -> Response {
    match error {
        Error::TooManyHeaders => {
            Response::error(431, "head_too_large", "the head has more than 64 lines", false)
        }
        Error::Version => Response::error(
            505,
            "version_not_supported",
            "HTTP/1.1 and HTTP/1.0 are spoken here",
            false,
        ),
        error => Response::error(
            400,
            "malformed_request",
            &format!("not an HTTP request: {error}"),
            false,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn get(lines: &str) -> String {
        format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
    }

    #[track_caller]
    fn complete(head: &str) -> (Request<'_>, usize, bool) {
        match parse(head.as_bytes(), PEER) {
            Parsed::Complete { request, length, keep_alive } => (request, length, keep_alive),
            other => panic!("{head:?}: {other:?}"),
        }
    }

    fn status(head: &[u8]) -> u16 {
        match parse(head, PEER) {
            Parsed::Partial => 0,
            Parsed::Complete { .. } => 200,
            Parsed::Refused(answer) => answer.status(),
        }
    }

    #[test]
    fn requests() {
        let (request, length, keep_alive) =
            complete("GET /?duration=5&x=%20 HTTP/1.1\r\nHost: h\r\n\r\nGET /next");
        assert_eq!((request.path, request.query), ("/", "duration=5&x=%20"));
        assert_eq!(
            (length, keep_alive, request.json, request.method),
            (44, true, false, Method::Get)
        );
        for (target, path, query) in [
            ("/a?b?c", "/a", "b?c"),
            ("/a?", "/a", ""),
            ("http://h/a?b", "/a", "b"),
            ("HTTPS://h:1?b", "/", "b"),
            ("http://h", "/", ""),
            ("http://[fd00::1]:80/?b", "/", "b"),
            ("/?a=http://x/", "/", "a=http://x/"),
            ("/%2f%41?%25", "/%2f%41", "%25"),
            ("//h/a", "//h/a", ""),
            ("/http://x/", "/http://x/", ""),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            let (request, ..) = complete(&head);
            assert_eq!((request.path, request.query), (path, query), "{target}");
        }
    }

    #[test]
    fn targets_that_are_no_path_are_refused() {
        let refused = [
            "/#x",
            "/#",
            "/a#f",
            "/?holder=a#b",
            "#",
            "http://h/#x",
            "http://h#x",
            "http://h?#",
            "?duration=1",
            "a",
            "livez",
            "h:80",
            "*",
            "*/",
            "ftp://h/",
            "ws://h/",
            "http:/h",
            "http:h",
            "http://",
            "http:///",
            "http:///?duration=1",
            "http://?a",
            "http://u@h/",
            "http://u:p@h/",
            "http://h\\/",
            "x/http://h/",
            "/%",
            "/%4",
            "/%zz",
            "/?holder=%",
            "/?holder=%4",
            "/?holder=%g0",
            "/?holder=a%",
            "/?a=%%41",
            "/\u{fc}",
            "/?holder=\u{fc}",
            "\u{ff0f}",
        ];
        for target in refused {
            for method in ["GET", "POST", "DELETE", "CONNECT"] {
                assert_eq!(
                    status(format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()),
                    400,
                    "{target}"
                );
            }
        }
        assert_eq!(complete("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").0.path, "*");
        for byte in (0..0x20).chain([0x7f]) {
            let head = [b"GET /?holder=a", &[byte][..], b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
            assert!(matches!(status(&head), 400 | 505), "{byte:#x}");
        }
    }

    #[test]
    fn keep_alive() {
        for (head, expected) in [
            (get(""), true),
            (get("Connection: close\r\n"), false),
            (get("Connection: x, CLOSE\r\n"), false),
            (get("Connection: keep-alive\r\n"), true),
            ("GET / HTTP/1.0\r\n\r\n".to_owned(), false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(), false),
        ] {
            assert_eq!(complete(&head).2, expected, "{head}");
        }
    }

    #[test]
    fn accept() {
        for (accept, expected) in [
            ("application/json", true),
            ("text/html, Application/JSON;q=0.5", true),
            ("application/json;q=0", false),
            ("application/jsonx", false),
            ("*/*", false),
        ] {
            assert_eq!(
                complete(&get(&format!("Accept: {accept}\r\n"))).0.json,
                expected,
                "{accept}"
            );
        }
    }

    #[test]
    fn statuses() {
        let long = "x".repeat(60_000);
        let many: String = (0..65).map(|n| format!("a{n}: b\r\n")).collect();
        let cases: &[(&str, String, u16)] = &[
            ("nothing", String::new(), 0),
            ("half a line", "GET / HT".to_owned(), 0),
            ("an empty line first", "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 200),
            ("length zero", get("Content-Length: 0\r\n"), 200),
            ("equal lengths of zero", get("Content-Length: 0, 0\r\n"), 200),
            ("expectation without a body", get("Expect: 100-continue\r\n"), 200),
            ("a body", get("Content-Length: 5\r\n"), 413),
            ("a huge body", get("Content-Length: 99999999999\r\n"), 413),
            (
                "a body of more than 64 bits",
                get("Content-Length: 99999999999999999999999999\r\n"),
                413,
            ),
            (
                "a body after 100-continue",
                get("Content-Length: 5\r\nExpect: 100-continue\r\n"),
                413,
            ),
            ("chunks", get("Transfer-Encoding: chunked\r\n"), 413),
            ("conflicting lengths", get("Content-Length: 0\r\nContent-Length: 5\r\n"), 400),
            ("a negative length", get("Content-Length: -1\r\n"), 400),
            ("a signed length", get("Content-Length: +1\r\n"), 400),
            ("no length", get("Content-Length:\r\n"), 400),
            ("length and chunks", get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400),
            (
                "chunks in 1.0",
                "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                400,
            ),
            ("another expectation", get("Expect: tea\r\n"), 417),
            ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("two hosts", get("Host: i\r\n"), 400),
            ("an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), 200),
            ("an address as host", "GET / HTTP/1.1\r\nHost: [fd00::1]:80\r\n\r\n".to_owned(), 200),
            ("two words as host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400),
            ("a path as host", "GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n".to_owned(), 400),
            ("folded header", get("a: b\r\n c\r\n"), 400),
            ("space before the colon", get("a : b\r\n"), 400),
            ("bare line feeds", "GET / HTTP/1.1\nHost: h\n\n".to_owned(), 400),
            ("one bare line feed", "GET / HTTP/1.1\r\nHost: h\n\r\n".to_owned(), 400),
            ("bare carriage return", get("a: b\rc\r\n"), 400),
            ("TLS hello", "\u{16}\u{3}\u{1}\u{2}".to_owned(), 400),
            ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
            ("HTTP/0.9", "GET /\r\n".to_owned(), 400),
            ("another version", "GET / HTTP/1.2\r\n\r\n".to_owned(), 505),
            ("NUL in the path", "GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 400),
            ("encoded NUL", "GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), 200),
            ("a long path", format!("GET /{long} HTTP/1.1\r\n"), 414),
            ("a long header", get(&format!("a: {long}\r\n")), 431),
            ("many headers", get(&many), 431),
        ];
        for (name, head, expected) in cases {
            assert_eq!(status(head.as_bytes()), *expected, "{name}");
        }
        assert!(matches!(status(b"GET /\xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n"), 200 | 400));
    }

    #[test]
    fn however_the_bytes_are_cut_the_request_is_the_same() {
        let head = get("Accept: application/json\r\n");
        for cut in 0..head.len() {
            assert_eq!(parse(&head.as_bytes()[..cut], PEER), Parsed::Partial, "{cut}");
        }
        assert_eq!(complete(&head).1, head.len());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            parse(&bytes, PEER);
        }

        #[test]
        fn a_mutated_request_is_read_or_refused(at in 0usize..60, byte: u8) {
            let mut head = get("Content-Length: 0\r\nConnection: close\r\n").into_bytes();
            let at = at % head.len();
            head[at] = byte;
            parse(&head, PEER);
        }
    }
}
