//! The status behind its mutex: threads that follow the cluster write it, HTTP requests read it.

use std::sync::{Arc, Mutex};

use psl::sync;

use crate::core::status::Status;
use crate::core::verdict::Verdict;

#[derive(Debug)]
pub struct StatusCell(Mutex<Status>);

impl StatusCell {
    pub fn new(status: Status) -> StatusCell {
        StatusCell(Mutex::new(status))
    }

    /// A copy, so that no thread waits while an answer is written.
    pub fn snapshot(&self) -> Status {
        self.update(|status| status.clone())
    }

    pub fn verdict(&self) -> Option<Arc<Verdict>> {
        self.update(|status| status.api.as_ref()?.verdict.clone())
    }

    pub fn update<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut sync::lock(&self.0))
    }
}
