//! The routes of lock: parses requests and hands them to the lock. Decides nothing.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use log::debug;
use percent_encoding::percent_decode_str;
use psl::duration;
use psl::protocol::holder;
use psl::protocol::ready::Ready;
use psl::server::{Client, HandlerResult, Method, Request, Response, Route, dispatch};
use psl::sync;
use psl::text::quoted;

use crate::config::Rules;
use crate::core::lock::Mode;
use crate::core::outcome::{Grant, Kind, LeaseRequest, Outcome};
use crate::core::scheduler::Released;
use crate::prober::Prober;
use crate::responses;
use crate::shared::Shared;
use crate::view;

/// The handler of requests.
pub struct Service {
    rules: Rules,
    shared: Arc<Shared>,
    prober: Prober,
    is_shadow: bool,
    /// Held while `/state` is rendered, so that only one copy of the state exists at a time.
    rendering: Mutex<()>,
}

/// A parameter that is not understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Invalid(String);

impl Service {
    /// Answers from this state by these rules.
    pub fn new(rules: Rules, mode: Mode, shared: Arc<Shared>) -> Service {
        let prober = Prober::new(Arc::clone(&shared), rules.node_addresses.clone());
        Service {
            rules,
            shared,
            prober,
            is_shadow: mode == Mode::Shadow,
            rendering: Mutex::default(),
        }
    }

    /// The answer to a request that came now.
    pub fn answer(&self, request: &Request, client: &Client, now: Instant) -> HandlerResult {
        let get = &[Method::Get];
        let root = &[Method::Get, Method::Post, Method::Delete];
        dispatch(
            request,
            &[
                Route {
                    path: "/",
                    methods: root,
                    answer: &|request| self.root(request, client, now),
                },
                Route { path: "/metrics", methods: get, answer: &|_| self.metrics(now).into() },
                Route {
                    path: "/state",
                    methods: get,
                    answer: &|request| self.state(request, now).into(),
                },
            ],
        )
    }

    fn metrics(&self, now: Instant) -> Response {
        let view = self.shared.with(now, |lock| lock.view(now, 0));
        view::metrics(&view, now)
    }

    fn state(&self, request: &Request, now: Instant) -> Response {
        let _one_at_a_time = sync::lock(&self.rendering);
        let view = self.shared.with(now, |lock| lock.view(now, view::LISTED));
        view::state(&view, &self.rules, request.peer.is_loopback(), now)
    }

    fn root(&self, request: &Request, client: &Client, now: Instant) -> HandlerResult {
        let is_question = request.method != Method::Delete;
        match ask(request) {
            Ok(ask) if is_question => self.lease(ask, request, client, now),
            Ok(ask) => self.release(&ask, request, client, now).into(),
            Err(Invalid(why)) => {
                if is_question {
                    self.shared.with(now, |lock| lock.count(Kind::Invalid));
                }
                Response::error(400, "invalid_parameter", &why, request.json).into()
            }
        }
    }

    fn lease(
        &self,
        ask: LeaseRequest,
        request: &Request,
        client: &Client,
        now: Instant,
    ) -> HandlerResult {
        let needs_baseline = || self.shared.with(now, |lock| lock.needs_baseline(&ask, now));
        let baseline = self.prober.baseline(&ask, || needs_baseline() && client.may_wait());
        let ask = LeaseRequest { baseline, ..ask };
        let waits = ask.wait.is_some() && !self.is_shadow;
        if let Some(parked) = waits.then(|| client.park()).flatten() {
            self.shared.park(ask, parked, request.json, now);
            return HandlerResult::parked();
        }
        let outcome = self.shared.request(&ask, now);
        if matches!(outcome.kind(), Kind::Granted | Kind::Again) && client.may_wait() {
            self.shared.wait_for_file();
        }
        responses::log(&outcome, &ask);
        let mut answer = responses::answer(&outcome, ask.baseline, request.json);
        if self.is_shadow {
            answer = answer.with_header("PSL-Mode", "shadow");
        }
        let reply = HandlerResult::from(answer);
        let Outcome::Granted(grant) = outcome else { return reply };
        let shared = Arc::clone(&self.shared);
        reply.or_else(move || undo(&shared, &grant))
    }

    fn release(
        &self,
        ask: &LeaseRequest,
        request: &Request,
        client: &Client,
        now: Instant,
    ) -> Response {
        let Some(holder) = ask.holder.as_deref() else {
            let why = "holder: missing; DELETE takes ?holder=ID";
            return Response::error(400, "invalid_parameter", why, request.json);
        };
        let released = self.shared.with(now, |lock| lock.release(holder, ask.address, now));
        if released != Released::Nothing && client.may_wait() {
            self.shared.wait_for_file();
        }
        debug!(holder, peer:% = ask.address; "released: {}", released.name());
        responses::released(released, request.json)
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock after a failed write")]
fn undo(shared: &Shared, grant: &Grant) {
    let now = Instant::now();
    shared.with(now, |lock| lock.undo(grant.lease, grant.undo, now));
}

/// Reads the parameters that are known and ignores the others.
pub fn ask(request: &Request) -> Result<LeaseRequest, Invalid> {
    let address = request.peer;
    let mut ask = LeaseRequest {
        address,
        holder: None,
        duration: None,
        ready: None,
        baseline: None,
        wait: None,
        node: None,
    };
    for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = percent_decode_str(name).decode_utf8_lossy();
        let parse_duration = |text: &str| duration::parse(text).map_err(|e| e.to_string());
        match name.as_ref() {
            "holder" => {
                once(&mut ask.holder, &name, value, |text| {
                    holder::parse(text).map(Arc::from).map_err(str::to_owned)
                })?;
            }
            "duration" => once(&mut ask.duration, &name, value, parse_duration)?,
            "ready" => once(&mut ask.ready, &name, value, |text| {
                Ready::parse(text).map_err(str::to_owned)
            })?,
            "wait" => once(&mut ask.wait, &name, value, parse_duration)?,
            "node" => once(&mut ask.node, &name, value, |text| match text.len() {
                1..=253 => Ok(text.into()),
                _ => Err("the name of a node".to_owned()),
            })?,
            _ => {}
        }
    }
    // Without time or without a holder, a request does not wait.
    ask.wait = ask.wait.filter(|wait| !wait.is_zero() && ask.holder.is_some());
    Ok(ask)
}

fn once<T>(
    into: &mut Option<T>,
    name: &str,
    value: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<(), Invalid> {
    if into.is_some() {
        return Err(Invalid(format!("{name}: given twice, accepted once")));
    }
    let text: Cow<str> = percent_decode_str(value).decode_utf8_lossy();
    let refused = |accepted| {
        Invalid(format!("{name}: {} is not accepted; accepted: {accepted}", quoted(&text)))
    };
    *into = Some(parse(&text).map_err(refused)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn parse(query: &str) -> Result<LeaseRequest, Invalid> {
        ask(&Request { query, ..Request::default() })
    }

    #[test]
    fn known_parameters_are_read_and_others_ignored() {
        let request =
            parse("?x=1&holder=a%2Fb&duration=1m30s&&ready=tcp:80&wait=9&node=n-1&nodes=").unwrap();
        assert_eq!(request.holder.as_deref(), Some("a/b"));
        assert_eq!((request.duration, request.wait), (Some(90 * SECOND), Some(9 * SECOND)));
        assert_eq!(request.ready, Ready::parse("tcp:80").ok());
        assert_eq!((request.node.as_deref(), request.baseline), (Some("n-1"), None));
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
            let Err(Invalid(why)) = parse(query) else { panic!("{query}") };
            assert!(why.contains(part), "{query}: {why}");
        }
        assert!(parse(&format!("holder={}", "a".repeat(512))).is_ok());
        assert!(parse(&format!("holder={}", "a".repeat(513))).is_err());
        assert!(parse(&format!("node={}", "a".repeat(254))).is_err());
    }
}
