//! An answer, and its bytes as `tiny_http` prints them.
//!
//! Does not know what was asked.

use std::io::empty;

use tiny_http::{HTTPVersion, Header, Response, StatusCode};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// A status, headers and a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// An answer, and what to do where it cannot be sent.
pub enum Reply {
    /// It is sent at once.
    Now {
        /// The answer.
        answer: Answer,
        /// Runs if the answer cannot be sent, or is not read.
        unsent: Option<Box<dyn FnOnce()>>,
    },
    /// The connection is parked, and answered later.
    Parked,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        Reply::Now { answer, unsent: None }
    }
}

impl Reply {
    /// Runs this where the client has gone before it could have the answer.
    #[must_use]
    pub fn or_else(self, unsent: impl FnOnce() + 'static) -> Reply {
        match self {
            Reply::Now { answer, .. } => Reply::Now { answer, unsent: Some(Box::new(unsent)) },
            Reply::Parked => Reply::Parked,
        }
    }

    /// Neither answers nor closes: [`super::Client::park`] has taken the connection.
    pub fn parked() -> Reply {
        Reply::Parked
    }
}

/// What the connection has to say about an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    /// The connection ends with this answer.
    pub close: bool,
    /// The answer to HEAD has no body (RFC 9110, 9.3.2).
    pub without_body: bool,
}

impl Answer {
    /// A text for people.
    pub fn text(status: u16, body: impl Into<String>) -> Answer {
        Answer::of(status, TEXT, body)
    }

    /// JSON, already written.
    pub fn json(status: u16, body: impl Into<String>) -> Answer {
        Answer::of(status, JSON, body)
    }

    /// Any other type.
    pub fn of(status: u16, content_type: &'static str, body: impl Into<String>) -> Answer {
        let headers = vec![("Content-Type", content_type.to_owned()), ("Cache-Control", "no-store".to_owned())];
        Answer { status, headers, body: body.into() }
    }

    /// A refusal: what kind for machines, what about it for people.
    pub fn error(status: u16, kind: &str, value: &str, json: bool) -> Answer {
        if json {
            return Answer::json(status, serde_json::json!({ "kind": kind, "value": value }).to_string());
        }
        Answer::text(status, format!("{value}\n"))
    }

    /// One more header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    /// The whole answer, to be sent with one write. The head is put before the body in the body's own memory: a thread that
    /// waits for a core, or for a slow client, holds one copy of it.
    pub(super) fn into_bytes(self, framing: Framing) -> Vec<u8> {
        let server = [("Server", "psl".to_owned())];
        // A header that is not ASCII is left out; all of ours are.
        let headers = self.headers.iter().chain(&server).filter_map(|(n, v)| Header::from_bytes(*n, v.as_str()).ok());
        let response = Response::new(StatusCode(self.status), headers.collect(), empty(), Some(self.body.len()), None);
        let mut head = Vec::with_capacity(256);
        // Printing to memory does not fail. Chunks would only cost bytes: the length is known.
        let _ = response.with_chunked_threshold(usize::MAX).raw_print(&mut head, HTTPVersion(1, 1), &[], true, None);
        if framing.close {
            // The library keeps this header to itself; it goes behind the status line.
            let end = head.windows(2).position(|pair| pair == b"\r\n").map_or(0, |at| at + 2);
            head.splice(end..end, *b"Connection: close\r\n");
        }
        if framing.without_body {
            return head;
        }
        let mut bytes = self.body.into_bytes();
        bytes.reserve_exact(head.len());
        bytes.splice(0..0, head);
        bytes.shrink_to_fit();
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(answer: &Answer, close: bool, without_body: bool) -> String {
        String::from_utf8(answer.clone().into_bytes(Framing { close, without_body })).unwrap()
    }

    #[test]
    fn bytes() {
        let text = printed(&Answer::text(423, "Locked\n").with_header("Retry-After", "7"), false, false);
        assert!(text.starts_with("HTTP/1.1 423 Locked\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nLocked\n"), "{text}");
        for header in
            ["Content-Type: text/plain; charset=utf-8", "Content-Length: 7", "Retry-After: 7", "Server: psl", "Date: "]
        {
            assert!(text.contains(&format!("\r\n{header}")), "{header} in {text}");
        }
        assert!(!text.contains("Connection"), "{text}");
    }

    #[test]
    fn closing_and_head() {
        let text = printed(&Answer::text(405, "no\n"), true, true);
        assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n"), "{text}");
        assert!(text.contains("Content-Length: 3\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_large_answer_is_not_chunked() {
        let text = printed(&Answer::text(200, "x".repeat(100_000)), false, false);
        assert!(text.contains("Content-Length: 100000\r\n") && !text.contains("chunked"));
    }

    #[test]
    fn errors_are_text_or_json() {
        assert_eq!(Answer::error(400, "a", "b \"c\"", false).body(), "b \"c\"\n");
        assert_eq!(Answer::error(400, "a", "b \"c\"", true).body(), r#"{"kind":"a","value":"b \"c\""}"#);
    }
}
