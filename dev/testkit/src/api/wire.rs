//! Puts an answer on the wire, framed as by a real server, or spoilt by a fault. Does not know
//! where the answer comes from.

use std::io::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::lists::BigList;
use super::recordings::Recording;
use super::{Fault, Role};
use crate::http::find;
use crate::listening::{End, Wire};
use crate::scripted::{Seen, reason};

/// A real server compresses longer answers, quickly rather than well.
const SHORTEST_COMPRESSED: usize = 128 * 1024;

pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) chunked: bool,
    pub(super) body: Body,
}

pub(super) enum Body {
    Bytes(Vec<u8>),
    /// These items of a list.
    Big(Arc<BigList>, Range<usize>),
    /// The events from now on, for this role.
    Watch(Role),
}

impl Body {
    pub(super) fn json(value: &Value) -> Body {
        Body::Bytes(serde_json::to_vec(value).unwrap())
    }
}

impl Response {
    pub(super) fn of(recording: &Recording) -> Response {
        let headers = recording.headers.iter();
        let headers = headers.filter(|(name, _)| !name.eq_ignore_ascii_case("transfer-encoding"));
        Response {
            status: recording.status,
            headers: headers.cloned().collect(),
            chunked: find(&recording.headers, "transfer-encoding").is_some(),
            body: Body::Bytes(recording.body.clone().into_bytes()),
        }
    }

    fn is_chunked_for(&self, request: &Seen) -> bool {
        let is_chunked = self.chunked || matches!(self.body, Body::Big(..));
        is_chunked && request.version != "HTTP/1.0"
    }
}

/// Puts an answer with its fault on the wire. `None` if the connection goes on.
pub(super) fn put(
    wire: &mut dyn Wire,
    request: &Seen,
    response: Response,
    fault: Option<Fault>,
) -> io::Result<Option<End>> {
    if let Some(fault) = &fault
        && let Some(end) = fault.end(wire)?
    {
        return Ok(Some(end));
    }
    let is_last = is_last(request);
    let is_cut = matches!(fault, Some(Fault::Cut));
    let is_half = is_cut || matches!(fault, Some(Fault::HalfJson));
    let chunked = response.is_chunked_for(request);
    let pause = fault.as_ref().and_then(Fault::pause);
    let mut head = head(&response, is_last);
    let mut out = Out { wire, pause, chunked };
    match response.body {
        Body::Bytes(bytes) => {
            let bytes = encoded(bytes, request, &fault, chunked, &mut head);
            let sent = if is_half { &bytes[..bytes.len() / 2] } else { &bytes[..] };
            let announced = if is_cut { bytes.len() } else { sent.len() };
            out.send_head(head, Some(announced))?;
            // As often as not a real server's chunk ends in the middle of a word.
            sent.chunks(4096).try_for_each(|piece| out.piece(piece))?;
        }
        Body::Big(big, range) => {
            out.send_head(head, None)?;
            big.send(&mut out, range, is_half)?;
        }
        // Only a watch with a fault comes here, and such a fault has ended the connection above.
        Body::Watch(_) => return Ok(Some(End::Close)),
    }
    if is_cut {
        return Ok(Some(End::Cut));
    }
    let end = out.finish()?;
    Ok(is_last.then_some(end))
}

/// Whether the client wants no further answer on the connection.
fn is_last(request: &Seen) -> bool {
    request.version == "HTTP/1.0"
        || request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// The body as this client gets it; adds its encoding to the head.
fn encoded(
    bytes: Vec<u8>,
    request: &Seen,
    fault: &Option<Fault>,
    chunked: bool,
    head: &mut String,
) -> Vec<u8> {
    let agent = request.header("user-agent").unwrap_or_default();
    let is_person = ["curl", "Mozilla"].iter().any(|start| agent.starts_with(start));
    // A fault's body need not be JSON.
    let bytes = match is_person || matches!(fault, Some(Fault::Status(..))) {
        true => bytes,
        false => compact(bytes),
    };
    let accepts = request.header("accept-encoding").is_some_and(|value| value.contains("gzip"));
    if !accepts || !chunked || bytes.len() <= SHORTEST_COMPRESSED {
        return bytes;
    }
    head.push_str("Content-Encoding: gzip\r\n");
    compressed(&bytes)
}

/// The bytes as a real server compresses them.
pub fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(4));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// JSON without the space between its words.
fn compact(mut json: Vec<u8>) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    json.retain(|byte| {
        let was_in_string = in_string;
        if *byte == b'"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && *byte == b'\\' && !escaped;
        was_in_string || !byte.is_ascii_whitespace()
    });
    json
}

/// The head without the framing and the empty line.
pub(super) fn head(response: &Response, is_last: bool) -> String {
    let mut head = format!("HTTP/1.1 {} {}\r\n", response.status, reason(response.status));
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if is_last {
        head.push_str("Connection: close\r\n");
    }
    head
}

/// The wire with its framing and its pace.
pub(super) struct Out<'a> {
    pub(super) wire: &'a mut dyn Wire,
    pub(super) pause: Option<Duration>,
    pub(super) chunked: bool,
}

impl Out<'_> {
    fn send_head(&mut self, mut head: String, length: Option<usize>) -> io::Result<()> {
        head.push_str(&match (self.chunked, length) {
            (true, _) => "Transfer-Encoding: chunked\r\n\r\n".to_string(),
            (false, Some(length)) => format!("Content-Length: {length}\r\n\r\n"),
            (false, None) => "\r\n".to_string(),
        });
        self.send(head.as_bytes())
    }

    pub(super) fn piece(&mut self, piece: &[u8]) -> io::Result<()> {
        if !self.chunked || piece.is_empty() {
            return self.send(piece);
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        self.send(&chunk)
    }

    /// Ends the answer as agreed.
    pub(super) fn finish(&mut self) -> io::Result<End> {
        if self.chunked {
            self.send(b"0\r\n\r\n")?;
        }
        Ok(End::Close)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(pause) = self.pause else {
            self.wire.write_all(bytes)?;
            return self.wire.flush();
        };
        for byte in bytes {
            self.wire.write_all(&[*byte])?;
            self.wire.flush()?;
            std::thread::sleep(pause);
        }
        Ok(())
    }
}
