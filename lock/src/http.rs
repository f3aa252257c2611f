//! The routes of lock: parses requests and hands them to the lock. Makes no decision.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use log::debug;
use percent_encoding::percent_decode_str;
use psl::protocol::holder;
use psl::protocol::node::NodeName;
use psl::protocol::ready::Ready;
use psl::server::{HandlerResult, Method, Request, RequestPeer, Response, Route, dispatch};
use psl::text::quoted;
use psl::{duration, sync};

use crate::config::Rules;
use crate::core::lock::Mode;
use crate::core::outcome::{Grant, Kind, LeaseRequest, Outcome, ReleaseEffect};
use crate::prober::Prober;
use crate::shared::Shared;
use crate::{metrics, responses, state};

pub struct Service {
    rules: Rules,
    shared: Arc<Shared>,
    prober: Prober,
    is_shadow: bool,
    /// Locked while `/state` is rendered, so that only one copy of the state exists at a time.
    rendering: Mutex<()>,
}

/// The error text of a parameter.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidParameter(String);

impl Service {
    pub fn new(rules: Rules, mode: Mode, shared: Arc<Shared>) -> Service {
        let prober = Prober::new(Arc::clone(&shared), rules.node_addresses.clone());
        let is_shadow = mode == Mode::Shadow;
        Service { rules, shared, prober, is_shadow, rendering: Mutex::default() }
    }

    pub fn answer(&self, request: &Request, client: &RequestPeer, now: Instant) -> HandlerResult {
        let root = |request: &Request| self.root(request, client, now);
        let metrics = |_: &Request| self.metrics(now).into();
        let state = |request: &Request| self.state(request, now).into();
        let get = &[Method::Get];
        let all = &[Method::Get, Method::Post, Method::Delete];
        let routes = [
            Route { path: "/", methods: all, answer: &root },
            Route { path: "/metrics", methods: get, answer: &metrics },
            Route { path: "/state", methods: get, answer: &state },
        ];
        dispatch(request, &routes)
    }

    fn metrics(&self, now: Instant) -> Response {
        let view = self.shared.with(now, |lock| lock.view(now, 0));
        metrics::render(&view, now)
    }

    fn state(&self, request: &Request, now: Instant) -> Response {
        let _one_at_a_time = sync::lock(&self.rendering);
        let view = self.shared.with(now, |lock| lock.view(now, state::LISTED));
        state::render(&view, &self.rules, request.peer.is_loopback(), now)
    }

    fn root(&self, request: &Request, client: &RequestPeer, now: Instant) -> HandlerResult {
        let is_release = request.method == Method::Delete;
        match parse(request) {
            Ok(parsed) if is_release => self.release(&parsed, request, client, now).into(),
            Ok(parsed) => self.lease(parsed, request, client, now),
            Err(InvalidParameter(reason)) => {
                if !is_release {
                    self.shared.with(now, |lock| lock.count(Kind::Invalid));
                }
                Response::error(400, "invalid_parameter", &reason, request.json).into()
            }
        }
    }

    fn lease(
        &self,
        parsed: LeaseRequest,
        request: &Request,
        client: &RequestPeer,
        now: Instant,
    ) -> HandlerResult {
        let needs_baseline = || self.shared.with(now, |lock| lock.needs_baseline(&parsed, now));
        let baseline = self.prober.baseline(&parsed, || needs_baseline() && client.begin_wait());
        let parsed = LeaseRequest { baseline, ..parsed };
        let can_park = parsed.wait.is_some() && !self.is_shadow;
        let connection = if can_park { client.park() } else { None };
        let Some(outcome) = self.shared.request(&parsed, connection, request.json, now) else {
            return HandlerResult::Parked;
        };
        if matches!(outcome.kind(), Kind::Granted | Kind::AlreadyGranted) && client.begin_wait() {
            self.shared.wait_for_file();
        }
        responses::log(&outcome, &parsed);
        let mut response = responses::answer(&outcome, parsed.baseline, request.json);
        if self.is_shadow {
            response = response.with_header("PSL-Mode", "shadow");
        }
        let result = HandlerResult::from(response);
        let Outcome::Granted(grant) = outcome else { return result };
        let shared = Arc::clone(&self.shared);
        result.or_else(move || undo(&shared, &grant))
    }

    fn release(
        &self,
        parsed: &LeaseRequest,
        request: &Request,
        client: &RequestPeer,
        now: Instant,
    ) -> Response {
        let Some(holder) = parsed.holder.as_deref() else {
            let reason = "holder: missing; DELETE takes ?holder=ID";
            return Response::error(400, "invalid_parameter", reason, request.json);
        };
        let effect = self.shared.with(now, |lock| lock.release(holder, parsed.address, now));
        if effect != ReleaseEffect::Nothing && client.begin_wait() {
            self.shared.wait_for_file();
        }
        debug!(holder, peer:% = parsed.address; "released: {}", effect.name());
        responses::release_response(effect, request.json)
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock after a failed write")]
fn undo(shared: &Shared, grant: &Grant) {
    let now = Instant::now();
    shared.with(now, |lock| lock.undo(grant.lease, grant.arrival, now));
}

/// Reads the known parameters and ignores the others.
pub fn parse(request: &Request) -> Result<LeaseRequest, InvalidParameter> {
    let (mut holder, mut duration, mut ready, mut wait, mut node) = Default::default();
    for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = percent_decode_str(name).decode_utf8_lossy();
        match name.as_ref() {
            "holder" => set(&mut holder, &name, value, holder::parse)?,
            "duration" => set(&mut duration, &name, value, duration::parse)?,
            "ready" => set(&mut ready, &name, value, Ready::parse)?,
            "wait" => set(&mut wait, &name, value, duration::parse)?,
            "node" => set(&mut node, &name, value, NodeName::parse)?,
            _ => {}
        }
    }
    // Without time or without a holder, a request does not wait.
    let wait = wait.filter(|wait| !wait.is_zero() && holder.is_some());
    let (address, holder) = (request.peer, holder.map(Arc::from));
    Ok(LeaseRequest { address, holder, duration, ready, baseline: None, wait, node })
}

fn set<T, E: Display>(
    into: &mut Option<T>,
    name: &str,
    value: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<(), InvalidParameter> {
    if into.is_some() {
        return Err(InvalidParameter(format!("{name}: given twice, accepted once")));
    }
    let text: Cow<str> = percent_decode_str(value).decode_utf8_lossy();
    let error = |accepted| {
        let text = quoted(&text);
        InvalidParameter(format!("{name}: {text} is not accepted; accepted: {accepted}"))
    };
    *into = Some(parse(&text).map_err(error)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn parse(query: &str) -> Result<LeaseRequest, InvalidParameter> {
        super::parse(&Request { query, ..Request::default() })
    }

    #[test]
    fn known_parameters_are_read_and_others_ignored() {
        let request =
            parse("?x=1&holder=a%2Fb&duration=1m30s&&ready=tcp:80&wait=9&node=n-1&nodes=").unwrap();
        assert_eq!(request.holder.as_deref(), Some("a/b"));
        assert_eq!((request.duration, request.wait), (Some(90 * SECOND), Some(9 * SECOND)));
        assert_eq!(request.ready, Ready::parse("tcp:80").ok());
        assert_eq!((request.node, request.baseline), (NodeName::parse("n-1").ok(), None));
        let nothing = parse("").unwrap();
        assert_eq!(
            (nothing.holder, nothing.duration, nothing.wait, nothing.ready),
            (None, None, None, None)
        );
        assert_eq!(parse("duration=0").unwrap().duration, Some(Duration::ZERO));
    }

    #[test]
    fn only_a_holder_waits() {
        for query in ["wait=9", "holder=a&wait=0", "holder=a"] {
            assert_eq!(parse(query).unwrap().wait, None, "{query}");
        }
        assert_eq!(parse("wait=9&holder=a").unwrap().wait, Some(9 * SECOND));
    }

    #[test]
    fn an_invalid_parameter_is_named() {
        for (query, part) in [
            ("holder=", "holder: "),
            ("holder", "holder: "),
            ("holder=a%20b", "holder: "),
            ("holder=a&holder=a", "holder: given twice, accepted once"),
            ("h%6Flder=a&holder=b", "holder: given twice"),
            ("duration=-1", "duration: "),
            ("duration=1&duration=1", "duration: given twice"),
            ("wait=soon", "wait: \"soon\" is not accepted"),
            ("ready=80", "ready: "),
            ("node=", "node: "),
        ] {
            let Err(InvalidParameter(why)) = parse(query) else { panic!("{query}") };
            assert!(why.contains(part), "{query}: {why}");
        }
        assert!(parse(&format!("holder={}", "a".repeat(512))).is_ok());
        assert!(parse(&format!("holder={}", "a".repeat(513))).is_err());
        assert!(parse(&format!("node={}", "a".repeat(254))).is_err());
    }
}
