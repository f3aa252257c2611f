//! The status behind its mutex: threads that follow the cluster write it, HTTP requests read it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use psl::sync;

use crate::core::api_error::ApiError;
use crate::core::load::Load;
use crate::core::status::{Source, Status};
use crate::core::verdict::Verdict;

#[derive(Debug)]
pub struct StatusCell(Mutex<Status>);

impl StatusCell {
    pub fn new(status: Status) -> StatusCell {
        StatusCell(Mutex::new(status))
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        sync::lock(&self.0)
    }

    /// A copy, so that no thread waits while an answer is written.
    pub fn snapshot(&self) -> Status {
        self.lock().clone()
    }

    pub fn verdict(&self) -> Option<Arc<Verdict>> {
        self.lock().api.as_ref()?.verdict.clone()
    }

    pub fn set_verdict(&self, verdict: Verdict) {
        if let Some(api) = &mut self.lock().api {
            api.verdict = Some(Arc::new(verdict));
        }
    }

    /// See [`Status::source_succeeded`].
    pub fn source_succeeded(&self, source: Source, now: Instant) -> bool {
        self.lock().source_succeeded(source, now)
    }

    /// See [`Status::source_failed`].
    pub fn source_failed(&self, source: Source, error: ApiError, now: Instant) -> bool {
        self.lock().source_failed(source, error, now)
    }

    pub fn update_load(&self, change: impl FnOnce(&mut Load)) {
        if let Some(load) = &mut self.lock().load {
            change(load);
        }
    }

    /// Counts a response by its status, or a request without a response.
    pub fn count_response(&self, status: Option<u16>) {
        *self.lock().requests.entry(status).or_default() += 1;
    }

    pub fn count_reconnect(&self) {
        self.lock().reconnects += 1;
    }
}
