//! One call of the API server: a request, or all pages of a list, with credentials and time limits.

use std::time::{Duration, Instant};

use psl::client::{HttpClient, HttpError, HttpResponse, Timeouts};
use psl::duration::Compact;
use serde::de::DeserializeOwned;

use super::credentials::Credentials;
use super::error;
use super::json::{ApiObject, read_list, read_one};
use super::request::ApiRequest;
use crate::config::ApiServer;
use crate::core::api_error::ApiError;
use crate::core::newest_version::{NewestVersion, ReadFrom};

/// Resolving the name, connecting, the TLS handshake and sending.
const REACH: Duration = Duration::from_secs(10);
/// The head of a response, and then its body: a list of 60 MB arrives with 2 MB a second.
const ANSWER: Duration = Duration::from_secs(30);
/// A single request, watches excepted.
const WHOLE: Duration = Duration::from_secs(60);
/// All pages of a list, restarts included.
const LIST: Duration = Duration::from_secs(180);
/// The time after which the client ends a watch that the server should have ended.
const OVERTIME: Duration = Duration::from_secs(60);

/// Pages have 500 objects. Without a bound, a server whose pages form a circle would be asked
/// without a pause for as long as a list may take.
const MOST_PAGES: usize = 1000;
/// The restarts of a list whose pages expire.
const MOST_RESTARTS: usize = 3;

/// The body of an error has some hundred bytes; a longer one is not read.
const LARGEST_ERROR: u64 = 16 * 1024;

/// The result of reading one page.
enum PageResult {
    Last { version: String },
    Next { token: String },
    Expired,
}

/// Takes each item of a list, or `None` when the list begins or begins again.
pub type OnItem<'f, T> = dyn FnMut(Option<T>) + 'f;

/// Takes the status of each response, or `None` if there was no response.
pub type OnResponse = Box<dyn Fn(Option<u16>) + Send + Sync>;

pub struct Transport {
    pub server: ApiServer,
    pub client: HttpClient,
    pub on_response: OnResponse,
}

pub struct Call<'a> {
    transport: &'a Transport,
    credentials: Credentials,
    deadline: Instant,
}

impl<'a> Call<'a> {
    #[expect(clippy::disallowed_methods, reason = "the edge that bounds a list's time")]
    pub fn new(transport: &'a Transport) -> Result<Call<'a>, ApiError> {
        let credentials = Credentials::read(&transport.client, &transport.server)?;
        Ok(Call { transport, credentials, deadline: Instant::now() + LIST })
    }

    #[expect(clippy::disallowed_methods, reason = "the edge that bounds a list's time")]
    pub fn get(&self, request: &ApiRequest, target: &str) -> Result<HttpResponse, ApiError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let details = format!(": the list took longer than {}", Compact(LIST));
            return Err(request.error("timeout", &details));
        }
        let timeouts = Timeouts { reach: REACH, answer: ANSWER, whole: WHOLE }.at_most(left);
        let encoding = Some(("accept-encoding", "gzip"));
        self.send(&self.credentials.client, request, target, encoding, timeouts)
    }

    /// The response of a server whose cache has reached the newest known version. If the cache has
    /// not, the store answers.
    pub fn get_from(
        &self,
        request: &ApiRequest,
        newest: &NewestVersion,
    ) -> Result<HttpResponse, ApiError> {
        let from = newest.read_from();
        let response = self.get(request, &request.list_target(from))?;
        match (from, response.status) {
            (ReadFrom::NotOlderThan(_), 410) => {}
            (ReadFrom::NotOlderThan(_), 504) => {
                let HttpResponse { status, retry_after, .. } = response;
                let body = response.text(LARGEST_ERROR).unwrap_or_default();
                // Servers before 1.19 send the message without the reason.
                let is_behind = body.contains("ResourceVersionTooLarge")
                    || body.contains("Too large resource version");
                if !is_behind {
                    let server = &self.transport.server;
                    return Err(error::refused(request, server, status, retry_after, &body));
                }
            }
            _ => return Ok(response),
        }
        self.get(request, &request.list_target(ReadFrom::Store))
    }

    pub fn stream(
        &self,
        request: &ApiRequest,
        length: Duration,
        silence: Duration,
    ) -> Result<HttpResponse, ApiError> {
        let timeouts = Timeouts { reach: REACH, answer: ANSWER, whole: length + OVERTIME };
        let client = self.credentials.client.clone().for_streams(silence);
        self.send(&client, request, &request.target(), None, timeouts)
    }

    fn send(
        &self,
        client: &HttpClient,
        request: &ApiRequest,
        target: &str,
        encoding: Option<(&str, &str)>,
        timeouts: Timeouts,
    ) -> Result<HttpResponse, ApiError> {
        let token = self.credentials.authorization.as_deref();
        let mut headers = vec![("accept", "application/json")];
        headers.extend(token.map(|token| ("authorization", token)));
        headers.extend(encoding);
        let url = self.transport.server.url.join(target);
        let response: Result<HttpResponse, HttpError> = client.get(&url, &headers, timeouts);
        (self.transport.on_response)(response.as_ref().ok().map(|response| response.status));
        response.map_err(|error| error::no_response(request, &self.transport.server, &error))
    }

    /// Reads the object of a response.
    pub fn read<T: DeserializeOwned>(
        &self,
        request: &ApiRequest,
        response: HttpResponse,
    ) -> Result<T, ApiError> {
        if response.status != 200 {
            return Err(self.refused(request, response));
        }
        read_one(response.body).map_err(|e| error::unreadable(&request.object, None, e))
    }

    /// Reads a list in as many pages as the server makes, and returns its version. If pages expire,
    /// the list begins again: the rest that the server offers is of another state, so an object
    /// could be missing.
    pub fn list<T: ApiObject>(
        &self,
        request: &ApiRequest,
        newest: &NewestVersion,
        on_item: &mut OnItem<T>,
    ) -> Result<String, ApiError> {
        for _ in 0..=MOST_RESTARTS {
            on_item(None);
            let mut response = self.get_from(request, newest)?;
            let mut pages = 1;
            loop {
                match self.page(request, response, on_item)? {
                    PageResult::Last { version } => return Ok(version),
                    PageResult::Next { .. } if pages == MOST_PAGES => {
                        let details = format!(": more than {MOST_PAGES} pages");
                        return Err(request.error("limit exceeded", &details));
                    }
                    PageResult::Next { token } => {
                        response = self.get(request, &request.next_page(&token)?)?;
                        pages += 1;
                    }
                    PageResult::Expired => break,
                }
            }
        }
        let details = format!(" (410): {} times before the last page", MOST_RESTARTS + 1);
        Err(request.error("list expired", &details))
    }

    fn page<T: ApiObject>(
        &self,
        request: &ApiRequest,
        response: HttpResponse,
        on_item: &mut OnItem<T>,
    ) -> Result<PageResult, ApiError> {
        match response.status {
            200 => {}
            410 => return Ok(PageResult::Expired),
            _ => return Err(self.refused(request, response)),
        }
        let mut last = None;
        let page = read_list(response.body, &mut |item: T| {
            last = Some(item.title());
            on_item(Some(item));
        });
        match page {
            Ok(page) => Ok(match page.token {
                Some(token) => PageResult::Next { token },
                None => PageResult::Last { version: page.version },
            }),
            Err(e) => Err(error::unreadable(&request.object, last.as_deref(), e)),
        }
    }

    pub fn refused(&self, request: &ApiRequest, response: HttpResponse) -> ApiError {
        let HttpResponse { status, retry_after, .. } = response;
        // Without a readable body the status is enough.
        let body = response.text(LARGEST_ERROR).unwrap_or_default();
        error::refused(request, &self.transport.server, status, retry_after, &body)
    }
}
