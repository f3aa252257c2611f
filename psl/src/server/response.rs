//! A response, and the bytes of its head.
//!
//! Does not know the request.

use std::fmt::{Display, Write as _};
use std::io::IoSlice;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use httpdate::HttpDate;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tiny_http::StatusCode;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    content_type: &'static str,
    /// The lines in addition to those of every response.
    headers: String,
    body: String,
}

pub enum HandlerResult {
    Now {
        response: Response,
        /// Runs if the response cannot be sent, or is not read.
        unsent: Option<Box<dyn FnOnce()>>,
    },
    /// [`super::RequestPeer::park`] has taken the connection; its response comes later.
    Parked,
}

impl From<Response> for HandlerResult {
    fn from(response: Response) -> HandlerResult {
        HandlerResult::Now { response, unsent: None }
    }
}

impl HandlerResult {
    /// Runs `unsent` if the client closes before it has read the response.
    #[must_use]
    pub fn or_else(self, unsent: impl FnOnce() + 'static) -> HandlerResult {
        match self {
            HandlerResult::Now { response, .. } => {
                HandlerResult::Now { response, unsent: Some(Box::new(unsent)) }
            }
            HandlerResult::Parked => HandlerResult::Parked,
        }
    }
}

/// The properties of a response that depend on its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    pub close: bool,
    /// The response to HEAD has no body (RFC 9110, 9.3.2).
    pub without_body: bool,
}

/// The memory for the heads of a worker's responses.
#[derive(Default)]
pub(super) struct HeadWriter {
    text: String,
    /// The lines that all responses of a second share.
    common: String,
    common_until: Option<Instant>,
}

impl Response {
    pub fn text(status: u16, body: impl Into<String>) -> Response {
        Response::of(status, "text/plain; charset=utf-8", body)
    }

    pub fn json(status: u16, body: impl Into<String>) -> Response {
        Response::of(status, "application/json", body)
    }

    pub fn of(status: u16, content_type: &'static str, body: impl Into<String>) -> Response {
        Response { status, content_type, headers: String::new(), body: body.into() }
    }

    /// An error: its kind for machines, its text for people.
    pub fn error(status: u16, kind: &str, value: &str, json: bool) -> Response {
        match json {
            true => {
                let body = serde_json::json!({ "kind": kind, "value": value });
                Response::json(status, body.to_string())
            }
            false => Response::text(status, format!("{value}\n")),
        }
    }

    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Display) -> Response {
        // Writing to memory does not fail.
        let _ = write!(self.headers, "{name}: {value}\r\n");
        self
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    pub fn body(&self) -> &str {
        &self.body
    }

    /// The value of a header of [`Response::with_header`].
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(n, _)| *n == name).map(|(_, value)| value)
    }
}

impl HeadWriter {
    /// The bytes before the body, and the body.
    pub(super) fn write<'a>(
        &'a mut self,
        response: &'a Response,
        framing: Framing,
        now: Instant,
    ) -> [&'a [u8]; 2] {
        if self.common_until.is_none_or(|until| now >= until) {
            self.set_date(now);
        }
        let HeadWriter { text, common, .. } = self;
        let Response { status, content_type, headers, body } = response;
        text.clear();
        // Writing to memory does not fail.
        let _ = write!(text, "HTTP/1.1 {status} ");
        let reason = StatusCode(*status).default_reason_phrase();
        let end = if framing.close { "\r\nConnection: close\r\n" } else { "\r\n" };
        for part in [reason, end, headers, common, content_type] {
            text.push_str(part);
        }
        let _ = write!(text, "\r\nContent-Length: {}\r\n\r\n", body.len());
        [text.as_bytes(), if framing.without_body { b"" } else { body.as_bytes() }]
    }

    /// A date has whole seconds, so all responses of a second share the line.
    #[expect(clippy::disallowed_methods, reason = "the edge that dates responses")]
    fn set_date(&mut self, now: Instant) {
        let date = SystemTime::now();
        let http = HttpDate::from(date);
        self.common =
            format!("Date: {http}\r\nServer: psl\r\nCache-Control: no-store\r\nContent-Type: ");
        let since = date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let rest = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
        self.common_until = now.checked_add(rest);
    }
}

/// Sends once and leaves the unsent rest in `parts`; `true` if all is sent. Head and body are not
/// copied together, so a large response is in memory once.
pub(super) fn send(
    stream: &TcpStream,
    parts: &mut &mut [IoSlice],
    flags: SendFlags,
) -> Result<bool, Errno> {
    let mut control = SendAncillaryBuffer::default();
    let sent = match sendmsg(stream, parts, &mut control, flags | SendFlags::NOSIGNAL) {
        // When a stopped process continues, its waits are interrupted (signal(7)).
        Err(Errno::INTR) => 0,
        sent => sent?,
    };
    IoSlice::advance_slices(parts, sent);
    Ok(parts.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(response: &Response, close: bool, without_body: bool) -> String {
        #[expect(clippy::disallowed_methods, reason = "any instant serves")]
        let now = Instant::now();
        let parts =
            HeadWriter::default().write(response, Framing { close, without_body }, now).concat();
        String::from_utf8(parts).unwrap()
    }

    #[test]
    fn responses_have_their_headers() {
        let response = Response::text(423, "Locked\n").with_header("Retry-After", "7");
        assert_eq!((response.header("Retry-After"), response.header("Allow")), (Some("7"), None));
        let text = printed(&response, false, false);
        assert!(text.starts_with("HTTP/1.1 423 Locked\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nLocked\n"), "{text}");
        for header in [
            "Content-Type: text/plain; charset=utf-8",
            "Content-Length: 7",
            "Retry-After: 7",
            "Server: psl",
            "Date: ",
        ] {
            assert!(text.contains(&format!("\r\n{header}")), "{header} in {text}");
        }
        assert!(!text.contains("Connection"), "{text}");
    }

    #[test]
    fn close_header_and_no_body_for_head() {
        let text = printed(&Response::text(405, "no\n"), true, true);
        assert!(
            text.starts_with("HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n"),
            "{text}"
        );
        assert!(text.contains("Content-Length: 3\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_large_response_is_not_chunked() {
        let text = printed(&Response::text(200, "x".repeat(100_000)), false, false);
        assert!(text.contains("Content-Length: 100000\r\n") && !text.contains("chunked"));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the date is that of the clock")]
    fn the_date_changes_each_second() {
        let (mut head, response) = (HeadWriter::default(), Response::text(200, ""));
        let framing = Framing { close: false, without_body: false };
        let mut date = |now| {
            let text = String::from_utf8(head.write(&response, framing, now).concat()).unwrap();
            let date =
                text.lines().find_map(|line| line.strip_prefix("Date: ")).unwrap().to_owned();
            (httpdate::parse_http_date(&date).unwrap(), head.common_until.unwrap())
        };
        let (before, now) = (SystemTime::now() - Duration::from_secs(1), Instant::now());
        let (first, until) = date(now);
        assert!(before < first && first <= SystemTime::now());
        assert!(now < until && until <= now + Duration::from_secs(1));
        assert_eq!(date(until - Duration::from_nanos(1)).0, first);
        // The two clocks are read one after the other.
        std::thread::sleep(
            until.saturating_duration_since(Instant::now()) + Duration::from_millis(100),
        );
        let (next, later) = date(Instant::now());
        assert!(next > first && later > until, "{next:?} after {first:?}");
    }

    #[test]
    fn errors_are_text_or_json() {
        assert_eq!(Response::error(400, "a", "b \"c\"", false).body(), "b \"c\"\n");
        assert_eq!(
            Response::error(400, "a", "b \"c\"", true).body(),
            r#"{"kind":"a","value":"b \"c\""}"#
        );
    }
}
