//! The thread that measures the node's CPU usage.

use std::time::Duration;

use log::{info, warn};
use psl::duration::with_jitter;
use psl::random;

use super::follower::{Follower, JITTER, now};
use crate::core::api_error::ApiError;
use crate::core::quantity::Quantity;

/// The pause while the node's capacity is not known yet.
const UNTIL_NODE: Duration = Duration::from_secs(1);

impl Follower {
    pub(super) fn measure_load(&self) {
        let Some(settings) = &self.config.load else { return };
        let mut last_error = None;
        loop {
            let capacity = self.lock().view.node().map(|node| node.cpus);
            let mut pause = settings.period;
            match capacity {
                Some(capacity) => last_error = self.measure_once(capacity, last_error),
                // The node itself is missing, which is an error of another source.
                None => pause = pause.min(UNTIL_NODE),
            }
            self.pause(with_jitter(pause, JITTER, random::fraction()), None);
        }
    }

    /// Returns the error, if the measurement fails.
    fn measure_once(
        &self,
        capacity: Option<Quantity>,
        last_error: Option<String>,
    ) -> Option<String> {
        let usage = match capacity {
            Some(capacity) => self.api.cpus_in_use().map(|used| (used, capacity)),
            None => Err(ApiError::new("unexpected response: node has no CPU capacity")),
        };
        let error = usage.as_ref().err().map(ApiError::full_text);
        self.status.update(|status| match (&mut status.load, usage) {
            (Some(load), Ok((used, capacity))) => load.record(used, capacity, now()),
            (Some(load), Err(error)) => load.fail(error),
            (None, _) => {}
        });
        if error != last_error {
            match &error {
                Some(why) => warn!(why; "node CPU usage is unknown"),
                None => info!("node CPU usage is known again"),
            }
        }
        self.update(|_| ());
        error
    }
}
