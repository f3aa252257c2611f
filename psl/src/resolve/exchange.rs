//! The queries for one name: A and AAAA in parallel, each with its own result.
//!
//! A schedule: returns the query that is due and its server, takes messages, and returns the
//! result. Time is an argument; this module sends no message.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::MOST_ADDRESSES;
use super::conf::ResolvConf;
use super::message::{DnsAnswer, Family, MessageVerdict, Query, ServerError};
use crate::duration::Compact;

/// The wait for the other family after the first addresses: the 50 ms of RFC 8305, section 3,
/// doubled for a name server on a busy node.
const OTHER_FAMILY_WAIT: Duration = Duration::from_millis(100);

/// The shortest time between queries to two servers, or two queries to one.
const SHORTEST_STEP: Duration = Duration::from_millis(100);

/// The queries for one name.
#[derive(Debug)]
pub struct Exchange {
    name: String,
    servers: Vec<NameServer>,
    queries: Vec<FamilyQuery>,
    /// Rounds so far; each round repeats all open queries to one server.
    sent: usize,
    most_sent: usize,
    step: Duration,
    timeout: Duration,
    last_sent: Instant,
    /// The arrival of the first addresses.
    found_at: Option<Instant>,
}

#[derive(Debug)]
struct NameServer {
    ip: IpAddr,
    last_error: Option<ServerError>,
}

#[derive(Debug)]
struct FamilyQuery {
    query: Query,
    answer: Option<(DnsAnswer, IpAddr)>,
    /// For each server: it was queried and has not answered.
    is_pending: Vec<bool>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum LookupResult {
    /// IPv4 first, then IPv6, each in the server's order.
    Found(Vec<IpAddr>),
    Failed(LookupFailure),
}

/// A name without an address, the reason in the servers' terms, and its effect on the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupFailure {
    pub name: String,
    pub reason: String,
    pub kind: FailureKind,
}

/// In ascending importance: the report on several names shows the most important one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureKind {
    /// The name, or its address, does not exist: the next search domain may have one.
    NotFound,
    /// The same for one family; the servers have failed for the other one. The effect is the same.
    PartlyNotFound,
    /// The name has records, such as an alias, but no address: the search ends.
    NoAddress,
    /// A server failed (SERVFAIL): the next search domain is queried.
    ServerFailure,
    /// All servers refused: the search domains end, the name itself is queried.
    Refused,
    /// No answer before the timeout: the effect is that of a refusal.
    Silent,
}

impl Exchange {
    /// Spreads the queries over the timeout, so that also the last server is queried in time.
    /// `None` if no query can hold the name.
    pub fn new(
        name: &str,
        conf: &ResolvConf,
        timeout: Duration,
        ids: (u16, u16),
        now: Instant,
    ) -> Option<Exchange> {
        let mut queries = Vec::new();
        for (family, id) in [(Family::V4, ids.0), (Family::V6, ids.1)] {
            if family == Family::V4 || !conf.no_aaaa {
                let query = Query::new(name, family, id)?;
                let is_pending = vec![false; conf.servers.len()];
                queries.push(FamilyQuery { query, answer: None, is_pending });
            }
        }
        let server = |ip: IpAddr| NameServer { ip: ip.to_canonical(), last_error: None };
        let most_sent = conf.servers.len() * conf.attempts;
        Some(Exchange {
            name: name.to_owned(),
            servers: conf.servers.iter().map(|address| server(address.ip())).collect(),
            queries,
            sent: 0,
            most_sent,
            step: (timeout / most_sent as u32).max(SHORTEST_STEP).min(conf.timeout),
            timeout: conf.timeout,
            last_sent: now,
            found_at: None,
        })
    }

    /// The server to query now, if one is due; [`Exchange::pending_at`] returns the queries.
    /// Answers of the servers before it still count.
    pub fn next_server(&mut self, now: Instant) -> Option<usize> {
        // Every server that has received this query has failed.
        let has_failed = self.open().any(|query| !query.is_pending.contains(&true));
        if self.is_sent() || !(has_failed || now >= self.last_sent + self.step) {
            return None;
        }
        let server = self.sent % self.servers.len();
        self.sent += 1;
        self.last_sent = now;
        for query in self.queries.iter_mut().filter(|query| query.answer.is_none()) {
            query.is_pending[server] = true;
        }
        Some(server)
    }

    fn open(&self) -> impl Iterator<Item = &FamilyQuery> {
        self.queries.iter().filter(|query| query.answer.is_none())
    }

    fn answers(&self) -> impl Iterator<Item = &DnsAnswer> {
        self.queries.iter().filter_map(|query| query.answer.as_ref()).map(|(answer, _)| answer)
    }

    /// No further query is due: all attempts are used, or addresses have arrived.
    fn is_sent(&self) -> bool {
        self.sent == self.most_sent || self.found_at.is_some()
    }

    /// The queries that this server has not answered.
    pub fn pending_at(&self, server: usize) -> impl Iterator<Item = &Query> {
        self.open().filter(move |query| query.is_pending[server]).map(|query| &query.query)
    }

    /// Takes a message of this server. Returns a family whose answer has to be requested over TCP.
    pub fn receive(&mut self, server: usize, bytes: &[u8], now: Instant) -> Option<Family> {
        let ip = self.servers[server].ip;
        for query in &mut self.queries {
            if query.answer.is_some() || !query.is_pending[server] {
                continue;
            }
            let family = query.query.family;
            match query.query.judge(bytes) {
                MessageVerdict::Foreign => continue,
                MessageVerdict::Truncated => return Some(family),
                MessageVerdict::Failed(error) => self.fail(server, Some(family), error),
                MessageVerdict::Final(answer) => {
                    if matches!(answer, DnsAnswer::Addresses(_)) {
                        self.found_at.get_or_insert(now);
                    }
                    query.answer = Some((answer, ip));
                }
            }
            return None;
        }
        None
    }

    /// This server does not answer the query for this family, or any query.
    pub fn fail(&mut self, server: usize, family: Option<Family>, error: ServerError) {
        for query in &mut self.queries {
            query.is_pending[server] &= family.is_some_and(|family| family != query.query.family);
        }
        self.servers[server].last_error = Some(error);
    }

    /// The next deadline, unless a message arrives before.
    pub fn poll_at(&self) -> Instant {
        match self.found_at {
            Some(at) => at + OTHER_FAMILY_WAIT,
            None if !self.is_sent() => self.last_sent + self.step,
            // After the answer for one family, the wait for the other one is shorter.
            None if self.answers().next().is_some() => self.last_sent + self.step,
            None => self.last_sent + self.timeout,
        }
    }

    /// The result, once no later message can change it.
    pub fn result(&self, now: Instant) -> Option<LookupResult> {
        let is_waiting =
            |query: &FamilyQuery| query.is_pending.contains(&true) && now < self.poll_at();
        if self.open().any(|query| !self.is_sent() || is_waiting(query)) {
            return None;
        }
        if self.found_at.is_some() {
            return Some(LookupResult::Found(self.found()));
        }
        let within = self.step * self.sent.saturating_sub(1) as u32 + self.timeout;
        Some(LookupResult::Failed(self.failure(within)))
    }

    fn found(&self) -> Vec<IpAddr> {
        let (mut found, mut v6) = (Vec::new(), Vec::new());
        for query in &self.queries {
            if let Some((DnsAnswer::Addresses(addresses), _)) = &query.answer {
                let family = if query.query.family == Family::V4 { &mut found } else { &mut v6 };
                family.extend_from_slice(addresses);
            }
        }
        // With too many addresses, each family has a share.
        found.truncate(MOST_ADDRESSES - v6.len().min(MOST_ADDRESSES / 2));
        for ip in v6 {
            if found.len() < MOST_ADDRESSES && !found.contains(&ip) {
                found.push(ip);
            }
        }
        found
    }

    /// The failure so far; the other servers have been silent for `within`.
    pub fn failure(&self, within: Duration) -> LookupFailure {
        let mut reasons = self.answer_texts();
        if let Some(open) = self.open().next() {
            let family =
                if reasons.is_empty() { String::new() } else { format!("{} ", open.query.family) };
            for (at, NameServer { ip, last_error }) in self.servers.iter().enumerate() {
                if self.pending_at(at).next().is_some() {
                    reasons.push(format!("no {family}answer from {ip} within {}", Compact(within)));
                } else if let Some(error) = last_error {
                    reasons.push(error.describe(*ip));
                }
            }
        }
        if reasons.is_empty() {
            reasons.push(format!("no time left for a query to {}", self.servers[0].ip));
        }
        let reason = reasons.join(", ");
        LookupFailure { name: self.name.clone(), reason, kind: self.failure_kind() }
    }

    fn failure_kind(&self) -> FailureKind {
        let has_failed = |server: &NameServer| server.last_error == Some(ServerError::SERVFAIL);
        match self.answers().next() {
            _ if self.answers().any(|answer| *answer == DnsAnswer::NoAddress) => {
                FailureKind::NoAddress
            }
            Some(_) if self.open().next().is_some() => FailureKind::PartlyNotFound,
            Some(_) => FailureKind::NotFound,
            None if self.servers.iter().any(has_failed) => FailureKind::ServerFailure,
            None if self.queries.iter().any(|query| query.is_pending.contains(&true)) => {
                FailureKind::Silent
            }
            None => FailureKind::Refused,
        }
    }

    /// The answers without an address, each once.
    fn answer_texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for query in &self.queries {
            let text = match &query.answer {
                Some((DnsAnswer::NoName, server)) => format!("NXDOMAIN from {server}"),
                Some((DnsAnswer::NoAddress | DnsAnswer::NoData, server)) => {
                    format!("no {} record from {server}", query.query.family)
                }
                Some((DnsAnswer::Addresses(_), _)) | None => continue,
            };
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const IDS: (u16, u16) = (7, 8);

    fn exchange(conf: &str, now: Instant) -> Exchange {
        let conf = ResolvConf::parse(conf, String::new, |_| 0, 53);
        Exchange::new("lock.example", &conf, SECOND, IDS, now).unwrap()
    }

    /// A server's message for this family: a response code, and an address with this last byte.
    fn message(family: Family, code: u8, last: Option<u8>) -> Vec<u8> {
        let id = if family == Family::V4 { IDS.0 } else { IDS.1 };
        let mut bytes = Query::new("lock.example", family, id).unwrap().bytes().unwrap();
        (bytes[2], bytes[3], bytes[7]) = (0x81, 0x80 | code, u8::from(last.is_some()));
        if let Some(last) = last {
            let data = if family == Family::V4 {
                vec![10, 0, 0, last]
            } else {
                [vec![0xfd; 15], vec![last]].concat()
            };
            bytes.extend_from_slice(&[
                0xc0,
                12,
                0,
                if family == Family::V4 { 1 } else { 28 },
                0,
                1,
                0,
                0,
                0,
                5,
                0,
            ]);
            bytes.push(data.len() as u8);
            bytes.extend_from_slice(&data);
        }
        bytes
    }

    const ONE: &str = "nameserver 10.0.0.1\n";
    const TWO: &str = "nameserver 10.0.0.1\nnameserver 10.0.0.2\n";

    /// One server's immediate answers to A and AAAA: code and last byte; `None` is silence.
    type ServerScript = (ScriptedAnswer, ScriptedAnswer);
    type ScriptedAnswer = Option<(u8, Option<u8>)>;

    /// Runs an exchange with scripted servers. Returns the result, its time and the queried
    /// servers.
    fn play(conf: &str, servers: &[ServerScript]) -> (LookupResult, Duration, Vec<usize>) {
        let start = Instant::now();
        let (mut exchange, mut now, mut queried) = (exchange(conf, start), start, Vec::new());
        loop {
            if let Some(outcome) = exchange.result(now) {
                return (outcome, now - start, queried);
            }
            let Some(server) = exchange.next_server(now) else {
                now = exchange.poll_at();
                continue;
            };
            queried.push(server);
            for (family, answer) in
                [(Family::V4, servers[server].0), (Family::V6, servers[server].1)]
            {
                if let Some((code, last)) = answer {
                    assert_eq!(exchange.receive(server, &message(family, code, last), now), None);
                }
            }
        }
    }

    fn found(texts: &[&str]) -> LookupResult {
        LookupResult::Found(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn each_family_has_its_own_result() {
        let (good, other) = (Some((0, Some(1))), Some((0, Some(2))));
        for (answers, expected, after) in [
            ((good, other), &["10.0.0.1", "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fd02"][..], 0),
            ((good, Some((3, None))), &["10.0.0.1"], 0),
            ((good, Some((0, None))), &["10.0.0.1"], 0),
            ((good, Some((2, None))), &["10.0.0.1"], 0),
            ((good, Some((4, None))), &["10.0.0.1"], 0),
            ((good, None), &["10.0.0.1"], 100),
            ((Some((3, None)), other), &["fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fd02"], 0),
            ((Some((2, None)), other), &["fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fd02"], 0),
            ((None, other), &["fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fd02"], 100),
        ] {
            let (outcome, took, queried) = play(ONE, &[answers]);
            assert_eq!(
                (outcome, took.as_millis(), &queried[..]),
                (found(expected), after, &[0][..]),
                "{answers:?}"
            );
        }
    }

    #[test]
    fn failures_quote_the_servers() {
        let both = |code| (Some((code, None)), Some((code, None)));
        let silent = (None, None);
        for (conf, servers, kind, reason, after, expected_queries) in [
            (ONE, &[both(3)][..], FailureKind::NotFound, "NXDOMAIN from 10.0.0.1", 0, &[0][..]),
            (
                ONE,
                &[both(0)],
                FailureKind::NotFound,
                "no A record from 10.0.0.1, no AAAA record from 10.0.0.1",
                0,
                &[0],
            ),
            (ONE, &[both(2)], FailureKind::ServerFailure, "SERVFAIL from 10.0.0.1", 0, &[0, 0]),
            (ONE, &[both(5)], FailureKind::Refused, "REFUSED from 10.0.0.1", 0, &[0, 0]),
            (ONE, &[both(1)], FailureKind::Refused, "FORMERR from 10.0.0.1", 0, &[0, 0]),
            (ONE, &[both(4)], FailureKind::Refused, "NOTIMP from 10.0.0.1", 0, &[0, 0]),
            (ONE, &[both(9)], FailureKind::Refused, "code 9 from 10.0.0.1", 0, &[0, 0]),
            (
                ONE,
                &[silent],
                FailureKind::Silent,
                "no answer from 10.0.0.1 within 5.5s",
                5500,
                &[0, 0],
            ),
            // The answer of the first server suffices.
            (TWO, &[both(3), both(0)], FailureKind::NotFound, "NXDOMAIN from 10.0.0.1", 0, &[0]),
            (TWO, &[both(5), both(3)], FailureKind::NotFound, "NXDOMAIN from 10.0.0.2", 0, &[0, 1]),
            (
                TWO,
                &[silent, both(3)],
                FailureKind::NotFound,
                "NXDOMAIN from 10.0.0.2",
                250,
                &[0, 1],
            ),
            (
                TWO,
                &[both(2), silent],
                FailureKind::ServerFailure,
                "SERVFAIL from 10.0.0.1, no answer from 10.0.0.2 within 5.75s",
                5500,
                &[0, 1, 0, 1],
            ),
            // If only one family is silent, the wait is shorter.
            (
                ONE,
                &[(Some((3, None)), None)],
                FailureKind::PartlyNotFound,
                "NXDOMAIN from 10.0.0.1, no AAAA answer from 10.0.0.1 within 5.5s",
                1000,
                &[0, 0],
            ),
        ] {
            let (outcome, took, servers_queried) = play(conf, servers);
            let expected =
                LookupFailure { name: "lock.example".to_owned(), reason: reason.to_owned(), kind };
            assert_eq!(outcome, LookupResult::Failed(expected), "{servers:?}");
            assert_eq!(
                (took.as_millis(), &servers_queried[..]),
                (after, expected_queries),
                "{reason}"
            );
        }
    }

    #[test]
    fn the_first_server_may_answer_after_the_second_is_queried() {
        let start = Instant::now();
        let mut exchange = exchange(TWO, start);
        assert_eq!(exchange.next_server(start), Some(0));
        assert_eq!(exchange.next_server(start), None);
        let later = exchange.poll_at();
        assert_eq!(
            (later - start, exchange.next_server(later)),
            (Duration::from_millis(250), Some(1))
        );
        exchange.receive(0, &message(Family::V4, 0, Some(1)), later);
        exchange.receive(0, &message(Family::V6, 3, None), later);
        assert_eq!(exchange.result(later), Some(found(&["10.0.0.1"])));
    }

    #[test]
    fn after_a_refused_connection_the_next_server_is_queried() {
        let start = Instant::now();
        let mut exchange = exchange(TWO, start);
        for server in 0..4 {
            assert_eq!(exchange.next_server(start), Some(server % 2));
            exchange.fail(
                server % 2,
                None,
                ServerError::Unreachable("connection refused".to_owned()),
            );
        }
        let reason = "no answer from 10.0.0.1: connection refused, no answer from 10.0.0.2: connection refused";
        let expected = LookupFailure {
            name: "lock.example".to_owned(),
            reason: reason.to_owned(),
            kind: FailureKind::Refused,
        };
        assert_eq!(exchange.result(start), Some(LookupResult::Failed(expected)));
    }

    #[test]
    fn foreign_messages_change_nothing() {
        let start = Instant::now();
        let mut exchange = exchange(ONE, start);
        assert_eq!(exchange.next_server(start), Some(0));
        let mut wrong = message(Family::V4, 0, Some(1));
        wrong[1] ^= 1;
        assert_eq!((exchange.receive(0, &wrong, start), exchange.result(start)), (None, None));
        assert_eq!(exchange.pending_at(0).count(), 2);
        let mut cut = message(Family::V6, 0, None);
        cut[2] |= 2;
        assert_eq!(exchange.receive(0, &cut, start), Some(Family::V6));
        assert_eq!(exchange.pending_at(0).count(), 2, "the answer over TCP is pending");
    }

    #[test]
    fn failures_before_the_end() {
        let start = Instant::now();
        let mut exchange = exchange(TWO, start);
        assert_eq!(exchange.failure(SECOND).reason, "no time left for a query to 10.0.0.1");
        assert_eq!(
            (exchange.next_server(start), exchange.next_server(start + SECOND)),
            (Some(0), Some(1))
        );
        let silent = "no answer from 10.0.0.1 within 1s, no answer from 10.0.0.2 within 1s";
        assert_eq!(exchange.failure(SECOND).reason, silent);
        assert_eq!(exchange.receive(0, &message(Family::V4, 3, None), start), None);
        let one = "NXDOMAIN from 10.0.0.1, no AAAA answer from 10.0.0.1 within 1s, no AAAA answer from 10.0.0.2 within 1s";
        assert_eq!(exchange.failure(SECOND).reason, one);
    }

    fn answers() -> impl proptest::strategy::Strategy<Value = ServerScript> {
        use proptest::prelude::*;
        let one = || proptest::option::of((0..7u8, proptest::option::of(1..9u8)));
        (one(), one()).prop_map(|(a, b)| {
            // Only code 0 comes with records.
            let plain = |answer: ScriptedAnswer| {
                answer.map(|(code, last)| (code, last.filter(|_| code == 0)))
            };
            (plain(a), plain(b))
        })
    }

    proptest::proptest! {
        #[test]
        fn every_exchange_ends(servers in proptest::collection::vec(answers(), 1..=3), attempts in 1..=5usize) {
            let lines: String = (1..=servers.len()).map(|n| format!("nameserver 10.0.0.{n}\n")).collect();
            let (outcome, took, queried) = play(&format!("{lines}options attempts:{attempts}\n"), &servers);
            assert!(queried.len() <= servers.len() * attempts, "{queried:?}");
            assert!(took <= Duration::from_millis(100) * 14 + Duration::from_secs(6), "{took:?}");
            // For each family, the first answer without an error counts.
            let first = |of: &dyn Fn(&ServerScript) -> ScriptedAnswer| {
                queried.iter().filter_map(|server| of(&servers[*server])).find(|(code, _)| matches!(code, 0 | 3))
            };
            let answers = [first(&|answers| answers.0), first(&|answers| answers.1)];
            let is_found = answers.iter().any(|answer| matches!(answer, Some((0, Some(_)))));
            match outcome {
                LookupResult::Found(addresses) => assert!(!addresses.is_empty() && is_found),
                LookupResult::Failed(failure) => assert!(!failure.reason.is_empty() && !is_found, "{failure:?}"),
            }
            // Without an answer for a family, every server was queried.
            let is_answered = answers.iter().all(Option::is_some);
            assert!(is_found || is_answered || queried.len() == servers.len() * attempts, "{queried:?}");
        }
    }
}
