//! Errors of requests in words: the standard phrase, the object, and the next step.
//!
//! The server's message is separate, because it may name objects that not all clients may see.

use std::io;
use std::time::Duration;

use psl::client::HttpError;
use psl::text::one_line;
use serde_json::error::Category;

use super::json_bounds::LimitExceeded;
use super::objects::StatusObject;
use super::request::ApiRequest;
use crate::config::ApiServer;
use crate::core::api_error::ApiError;

/// There was no response.
pub fn no_response(request: &ApiRequest, server: &ApiServer, error: &HttpError) -> ApiError {
    let verified_by = match error {
        HttpError::Tls(_) => format!(" (CA file {})", server.ca_file.display()),
        _ => String::new(),
    };
    request.error(&error.to_string(), &format!(" at {}{verified_by}", server.url))
}

/// The response has this status and body.
pub fn refused(
    request: &ApiRequest,
    server: &ApiServer,
    status: u16,
    retry_after: Option<Duration>,
    body: &str,
) -> ApiError {
    let error = of_status(request, server, status);
    ApiError { retry_after, ..error.with_details(StatusObject::message(body)) }
}

pub fn of_status(request: &ApiRequest, server: &ApiServer, status: u16) -> ApiError {
    let (phrase, details) = match status {
        401 => match &server.token_file {
            Some(file) => ("unauthorized", format!(": token in {} not accepted", file.display())),
            None => ("unauthorized", ": no token sent, set --token-file".to_owned()),
        },
        403 => {
            let permission = &request.permission;
            return ApiError::new(format!(
                "permission denied: {permission} (403), add it to the role of health"
            ));
        }
        404 if request.path.starts_with("/api/v1/nodes/") => {
            ("not found", ", check --node-name".to_owned())
        }
        404 => ("not found", format!(", {} has no {}", server.url, request.path)),
        410 => ("resource version expired", String::new()),
        429 => ("too many requests", ", retrying later".to_owned()),
        300..=399 => ("redirect not followed", ", check --baseUrl".to_owned()),
        500..=599 => ("API server error", String::new()),
        _ => ("unexpected response", ", check --baseUrl".to_owned()),
    };
    request.error(phrase, &format!(" ({status}){details}"))
}

/// The body could not be read to its end. The parser's message may quote the body, so it is a
/// detail. So is the last complete item: the invalid one is next to it.
pub fn unreadable(object: &str, last_item: Option<&str>, error: serde_json::Error) -> ApiError {
    let last_item = last_item.map(|item| format!("after {}", one_line(item)));
    let text = error.to_string();
    match error.classify() {
        Category::Io => {
            let error = io::Error::from(error);
            let limit = error.get_ref().and_then(|inner| inner.downcast_ref::<LimitExceeded>());
            match limit {
                Some(limit) => ApiError::new(format!("limit exceeded: {object}: {limit}"))
                    .with_details(last_item),
                None => ApiError::new(format!("{}: {object}", HttpError::from(error))),
            }
        }
        Category::Eof => ApiError::new(format!("incomplete JSON: {object}")),
        Category::Syntax => {
            ApiError::new(format!("invalid JSON: {object}")).with_details(Some(text))
        }
        Category::Data => {
            let details = match last_item {
                Some(last_item) => format!("{text}, {last_item}"),
                None => text,
            };
            ApiError::new(format!("unexpected JSON: {object}")).with_details(Some(details))
        }
    }
}
