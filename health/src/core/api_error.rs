//! An error of the API server in words. The file does not know HTTP or JSON.

use std::time::Duration;

use psl::text::one_line;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The cause and the next step, for all clients.
    pub cause: String,
    /// The server's own message on one line. It may name objects, so only loopback clients see it.
    pub details: Option<String>,
    /// The `Retry-After` of the response.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    pub fn new(cause: impl Into<String>) -> ApiError {
        ApiError { cause: cause.into(), details: None, retry_after: None }
    }

    /// Double quotes become single quotes, which need no escapes in logs.
    #[must_use]
    pub fn with_details(self, details: Option<String>) -> ApiError {
        ApiError { details: details.map(|text| one_line(&text.replace('"', "'"))), ..self }
    }

    /// The cause with the server's message, for the log and for loopback clients.
    pub fn full_text(&self) -> String {
        match &self.details {
            Some(details) => format!("{}: {details}", self.cause),
            None => self.cause.clone(),
        }
    }

    pub fn text_for(&self, is_local: bool) -> String {
        if is_local { self.full_text() } else { self.cause.clone() }
    }
}
