//! The readiness port of an application, in `?ready=` and in settings.
//!
//! The host is the address of the client that sent the request. Does not know how a port is probed.

use std::fmt;

use crate::address::whole_number;

/// The accepted form, for error messages and `--help`.
pub const ACCEPTED: &str = "tcp:PORT, http:PORT or http:PORT/PATH: a port from 1 to 65535 without leading zeros, and a path of at most 256 characters of a URL, its query included, without #";

/// Bytes of a path and its query; RFC 3986, 3.3 and 3.4, lists the bytes that it may have.
const LONGEST_PATH: usize = 256;

/// A port that accepts a connection, or answers 2xx, after the application has started.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ready {
    port: u16,
    path: Option<Box<str>>,
}

impl Ready {
    /// Reads `tcp:5432`, `http:8080` (the path is `/`), `http:8080/healthz?full=1`.
    /// `Err` is the accepted form.
    pub fn parse(text: &str) -> Result<Ready, &'static str> {
        match text.split_once(':') {
            Some(("tcp", port)) => Ok(Ready { port: parse_port(port)?, path: None }),
            Some(("http", rest)) => {
                let (port, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                Ok(Ready { port: parse_port(port)?, path: Some(parse_path(path)?) })
            }
            _ => Err(ACCEPTED),
        }
    }

    /// 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The form that [`Ready::parse`] reads back, with the query, which may be secret: for requests
    /// and the state file, never for logs.
    pub fn to_request(&self) -> String {
        match self.path() {
            Some(path) => format!("http:{}{path}", self.port),
            None => self.to_string(),
        }
    }

    /// The path and query of an HTTP probe; `None` for TCP.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }
}

/// Without the query, which may be secret: for logs and responses.
impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path().and_then(|path| path.split('?').next()) {
            Some(path) => write!(f, "http:{}{path}", self.port),
            None => write!(f, "tcp:{}", self.port),
        }
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    // Without leading zeros a port has one form, so logs show it as it was requested.
    whole_number(text).filter(|port| *port > 0 && !text.starts_with('0')).ok_or(ACCEPTED)
}

fn parse_path(text: &str) -> Result<Box<str>, &'static str> {
    let fits = text.len() <= LONGEST_PATH
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&b));
    match text {
        "" => Ok("/".into()),
        path if fits => Ok(path.into()),
        _ => Err(ACCEPTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn readiness_ports_are_parsed() {
        let longest = format!("http:1/{}", "x".repeat(LONGEST_PATH - 1));
        for (text, port, path, shown) in [
            ("tcp:5432", 5432, None, "tcp:5432"),
            ("tcp:1", 1, None, "tcp:1"),
            ("tcp:65535", 65535, None, "tcp:65535"),
            ("http:8080", 8080, Some("/"), "http:8080/"),
            ("http:8080/", 8080, Some("/"), "http:8080/"),
            ("http:8080/healthz", 8080, Some("/healthz"), "http:8080/healthz"),
            ("http:1/a:2/b?c=d&e=%20", 1, Some("/a:2/b?c=d&e=%20"), "http:1/a:2/b?c=d&e=%20"),
            ("http:1//", 1, Some("//"), "http:1//"),
            (&longest, 1, Some(&longest[6..]), &longest),
        ] {
            let ready = Ready::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(
                (ready.port(), ready.path(), ready.to_request().as_str()),
                (port, path, shown),
                "{text}"
            );
            assert_eq!(ready.to_string(), shown.split('?').next().unwrap_or_default(), "{text}");
        }
    }

    #[test]
    fn invalid_readiness_ports_are_refused() {
        let too_long = format!("http:1/{}", "x".repeat(LONGEST_PATH));
        for text in [
            "",
            ":",
            "8080",
            "tcp",
            "tcp:",
            "tcp:0",
            "tcp:65536",
            "tcp:99999999999999999999",
            "tcp:+1",
            "tcp:-1",
            "tcp:01",
            "tcp: 1",
            "tcp:1 ",
            "tcp:1/",
            "tcp:1/x",
            "tcp://h:1",
            "tcp:h:1",
            "TCP:1",
            "https:1/",
            "http:",
            "http:/",
            "http:/x",
            "http:0/",
            "http:x",
            "http:1?x",
            "http:1x/",
            "http:1/#",
            "http:1/a b",
            "http:1/ü",
            "http:1/\r\nX: y",
            "http:1/\u{7f}",
            "http://h:1/",
            "http://1/",
            &too_long,
        ] {
            assert_eq!(Ready::parse(text), Err(ACCEPTED), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn to_request_is_parsed_back(port in 1..=u16::MAX, path in proptest::option::of("/[A-Za-z0-9._~!$&'()*+,;=:@/?%-]{0,255}")) {
            let ready = Ready { port, path: path.map(Box::from) };
            prop_assert_eq!(Ready::parse(&ready.to_request()), Ok(ready));
        }

        #[test]
        fn any_text_is_refused_or_within_the_bounds(text in "(tcp|http|.{0,3})(:|.)?[0-9+]{0,7}.{0,300}") {
            if let Ok(ready) = Ready::parse(&text) {
                prop_assert!(ready.port() > 0 && ready.path().is_none_or(|p| p.starts_with('/') && p.len() <= LONGEST_PATH));
                prop_assert!(!ready.to_string().contains('?'));
                prop_assert_eq!(Ready::parse(&ready.to_request()), Ok(ready));
            }
        }
    }
}
