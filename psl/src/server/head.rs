//! Turns the bytes of a head into a request, or into the response that refuses it.
//!
//! Pure: follows RFC 9110 and 9112 as far as a server without request bodies needs them.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr};

use httparse::{Error, Header, Status};
use tiny_http::Method;

use super::response::Response;

/// The bytes of a head with its request line. A longer head gets 431, a longer request line 414.
pub(super) const LARGEST: usize = 8 * 1024;

/// Header lines; browsers and proxies send some thirty.
const MOST_HEADERS: usize = 64;

/// A request without a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'b> {
    pub method: Method,
    /// Still percent-encoded, without query, scheme and host.
    pub path: &'b str,
    /// Still percent-encoded, without its question mark.
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

#[derive(Debug, PartialEq, Eq)]
pub enum ParsedHead<'b> {
    Partial,
    Complete {
        request: Request<'b>,
        /// The bytes of the head.
        length: usize,
        /// The client has not asked to close.
        keep_alive: bool,
    },
    /// The server sends this response and closes.
    Refused(Response),
}

/// Parses the bytes of a client, at most 8 KiB of them.
pub fn parse(bytes: &[u8], peer: IpAddr) -> ParsedHead<'_> {
    let bytes = &bytes[..bytes.len().min(LARGEST)];
    let mut headers = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut raw = httparse::Request::new(&mut []);
    match raw.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(Status::Complete(length)) => match request(&raw, &bytes[..length], peer) {
            Ok((request, keep_alive)) => ParsedHead::Complete { request, length, keep_alive },
            Err((status, kind, text)) => {
                let json = prefers_json(raw.headers);
                ParsedHead::Refused(Response::error(status, kind, text, json))
            }
        },
        Ok(Status::Partial) if bytes.len() < LARGEST => ParsedHead::Partial,
        Ok(Status::Partial) => ParsedHead::Refused(too_large(&raw)),
        Err(error) => ParsedHead::Refused(unparsable(error)),
    }
}

/// Status, kind and text of the response that refuses a request.
type Rejection = (u16, &'static str, &'static str);

const fn malformed(text: &'static str) -> Rejection {
    (400, "malformed_request", text)
}

/// The request of a complete head, and whether the connection may continue after it.
fn request<'b>(
    raw: &httparse::Request<'_, 'b>,
    head: &[u8],
    peer: IpAddr,
) -> Result<(Request<'b>, bool), Rejection> {
    let headers: &[Header] = raw.headers;
    // A lone line feed or carriage return can make one request look like two.
    if has_bare_line_end(head) {
        return Err(malformed("a line that does not end with CR LF"));
    }
    let (Some(method), Some(target), Some(version)) = (raw.method, raw.path, raw.version) else {
        return Err(malformed("no request line"));
    };
    let Ok(method) = method.parse::<Method>() else {
        return Err(malformed("a method of other characters than letters"));
    };
    check_host(headers, version)?;
    check_body(headers, version)?;
    if values(headers, "expect").any(|v| !v.eq_ignore_ascii_case(b"100-continue")) {
        let text = "the only expectation known is 100-continue";
        return Err((417, "expectation_failed", text));
    }
    let Some((path, query)) = path_and_query(target, &method) else {
        return Err(malformed(
            "not a valid request target: send a path without a fragment, and % as %25 (RFC 9112, 3.2)",
        ));
    };
    let request = Request { method, path, query, peer, json: prefers_json(headers) };
    // HTTP/1.0 closes by default, and clients that ask for keep-alive also speak 1.1.
    let close = list_items(headers, "connection").any(|v| v.eq_ignore_ascii_case(b"close"));
    Ok((request, version == 1 && !close))
}

fn check_host(headers: &[Header], version: u8) -> Result<(), Rejection> {
    let hosts = values(headers, "host").count();
    if hosts > 1 || (version == 1 && hosts == 0) {
        return Err(malformed("HTTP/1.1 asks for exactly one Host header"));
    }
    match values(headers, "host").all(is_host) {
        true => Ok(()),
        false => Err(malformed("a Host header that is no host")),
    }
}

/// No request has a body. An announced body is refused unread; its length only has to be a number
/// (RFC 9112, 6.3).
fn check_body(headers: &[Header], version: u8) -> Result<(), Rejection> {
    const REFUSED: Rejection = (413, "body_refused", "no request here has a body");
    let is_chunked = values(headers, "transfer-encoding").count() > 0;
    let mut lengths = list_items(headers, "content-length");
    let Some(first) = lengths.next() else {
        return match (is_chunked, version) {
            (false, _) => Ok(()),
            (true, 0) => Err(malformed("HTTP/1.0 has no Transfer-Encoding")),
            (true, _) => Err(REFUSED),
        };
    };
    if is_chunked {
        return Err(malformed("Content-Length and Transfer-Encoding exclude each other"));
    }
    let is_number = !first.is_empty() && first.iter().all(u8::is_ascii_digit);
    if !is_number || lengths.any(|other| other != first) {
        return Err(malformed("Content-Length is one whole number"));
    }
    if first.iter().all(|digit| *digit == b'0') { Ok(()) } else { Err(REFUSED) }
}

/// The characters of an authority without user and password (RFC 9112, 3.2).
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\\"<>^`{|}".contains(byte))
}

/// Path and query of a request target in origin form, or in absolute form, as for proxies (RFC
/// 9112, 3.2). `None` for the other forms except `OPTIONS *`, and for a fragment, which clients
/// never send.
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

/// A percent sign without two hexadecimal digits after it (RFC 3986, 2.1).
fn has_bad_escape(target: &str) -> bool {
    let mut escapes = target.as_bytes().split(|byte| *byte == b'%').skip(1);
    escapes
        .any(|rest| !matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()))
}

fn prefers_json(headers: &[Header]) -> bool {
    list_items(headers, "accept").any(|range| {
        let mut parts = range.split(|b| *b == b';').map(<[u8]>::trim_ascii);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"application/json"))
            && !parts.any(|part| matches!(part, b"q=0" | b"q=0.0" | b"q=0.00" | b"q=0.000"))
    })
}

fn values<'h>(headers: &'h [Header<'h>], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.trim_ascii())
}

/// The comma-separated items of all headers of this name.
fn list_items<'h>(headers: &'h [Header<'h>], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    values(headers, name).flat_map(|v| v.split(|b| *b == b',')).map(<[u8]>::trim_ascii)
}

/// A head ends with a line feed, so no carriage return is its last byte.
fn has_bare_line_end(head: &[u8]) -> bool {
    let mut last = 0;
    head.iter().any(|byte| (*byte == b'\n') != (std::mem::replace(&mut last, *byte) == b'\r'))
}

fn too_large(raw: &httparse::Request) -> Response {
    let (status, kind, text) = match raw.version {
        None => (414, "target_too_long", "the request line has more than 8 KiB"),
        Some(_) => (431, "head_too_large", "the head has more than 8 KiB"),
    };
    Response::error(status, kind, text, false)
}

fn unparsable(error: Error) -> Response {
    let invalid = format!("not an HTTP request: {error}");
    let (status, kind, text) = match error {
        Error::TooManyHeaders => (431, "head_too_large", "the head has more than 64 lines"),
        Error::Version => (505, "version_not_supported", "HTTP/1.1 and HTTP/1.0 are spoken here"),
        _ => (400, "malformed_request", &*invalid),
    };
    Response::error(status, kind, text, false)
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
            ParsedHead::Complete { request, length, keep_alive } => (request, length, keep_alive),
            other => panic!("{head:?}: {other:?}"),
        }
    }

    fn status(head: &[u8]) -> u16 {
        match parse(head, PEER) {
            ParsedHead::Partial => 0,
            ParsedHead::Complete { .. } => 200,
            ParsedHead::Refused(response) => response.status(),
        }
    }

    #[test]
    fn requests_are_parsed() {
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
    fn invalid_targets_are_refused() {
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
    fn keep_alive_follows_version_and_connection_header() {
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
    fn accept_selects_json() {
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
    fn invalid_heads_get_their_status() {
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
    fn a_head_is_partial_until_its_last_byte() {
        let head = get("Accept: application/json\r\n");
        for cut in 0..head.len() {
            assert_eq!(parse(&head.as_bytes()[..cut], PEER), ParsedHead::Partial, "{cut}");
        }
        assert_eq!(complete(&head).1, head.len());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            parse(&bytes, PEER);
        }

        #[test]
        fn no_mutated_request_panics(at in 0usize..60, byte: u8) {
            let mut head = get("Content-Length: 0\r\nConnection: close\r\n").into_bytes();
            let at = at % head.len();
            head[at] = byte;
            parse(&head, PEER);
        }
    }
}
