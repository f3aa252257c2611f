//! The failures of a request, in the phrases that a user would search for.

use std::fmt;
use std::io::{self, ErrorKind};

use ureq::{Error, Timeout};

use super::url::Url;
use crate::resolve::ResolveError;
use crate::text::one_line;

/// A request without a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    Resolve(ResolveError),
    Refused,
    /// The connect timed out, or no route leads to the host.
    Unreachable,
    /// The same for `https://`, which connects with a TLS handshake.
    #[cfg(feature = "tls")]
    UnreachableTls,
    /// Connected, but the whole response did not arrive before the timeout.
    Timeout,
    /// The connection was closed or reset before the whole response had arrived.
    Closed,
    /// A certificate was not accepted, or the TLS handshake failed.
    Tls(String),
    /// The response is not HTTP, or is too large.
    Malformed(String),
    /// Anything else, such as a shortage of descriptors.
    Other(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Resolve(error) => error.fmt(f),
            HttpError::Refused => f.write_str("connection refused"),
            HttpError::Unreachable => f.write_str("connection timed out, or no route to host"),
            #[cfg(feature = "tls")]
            HttpError::UnreachableTls => {
                f.write_str("connection timed out (connect or TLS handshake), or no route to host")
            }
            HttpError::Timeout => f.write_str("response timed out: no complete response in time"),
            HttpError::Closed => f.write_str("connection closed before the complete response"),
            HttpError::Malformed(reason) => write!(f, "malformed HTTP response: {reason}"),
            HttpError::Tls(reason) | HttpError::Other(reason) => f.write_str(reason),
        }
    }
}

impl HttpError {
    #[cfg(feature = "tls")]
    pub(super) fn unreachable(url: &Url) -> HttpError {
        if url.scheme == "https" { HttpError::UnreachableTls } else { HttpError::Unreachable }
    }

    #[cfg(not(feature = "tls"))]
    pub(super) fn unreachable(_url: &Url) -> HttpError {
        HttpError::Unreachable
    }
}

impl From<ResolveError> for HttpError {
    fn from(error: ResolveError) -> HttpError {
        HttpError::Resolve(error)
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> HttpError {
        match error {
            Error::Timeout(Timeout::Connect) => HttpError::Unreachable,
            Error::Timeout(_) => HttpError::Timeout,
            Error::Io(error) => of_io(&error),
            Error::Tls(reason) => HttpError::Tls(format!("TLS handshake failed: {reason}")),
            Error::Protocol(_) | Error::Http(_) | Error::LargeResponseHeader(..) => {
                HttpError::Malformed(one_line(&error.to_string()))
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

fn of_io(error: &io::Error) -> HttpError {
    const ETIMEDOUT: i32 = 110;
    #[cfg(feature = "tls")]
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return HttpError::Tls(super::tls::describe(error));
    }
    // The library's own timeouts have no error number: the kernel has given up connecting.
    if error.raw_os_error() == Some(ETIMEDOUT) {
        return HttpError::Unreachable;
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => HttpError::Refused,
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        // Connecting to `::1` on a machine without IPv6.
        | ErrorKind::AddrNotAvailable => HttpError::Unreachable,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => HttpError::Timeout,
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => HttpError::Closed,
        _ => HttpError::Other(one_line(&error.to_string())),
    }
}
