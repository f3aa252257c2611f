//! One name asked of the name servers: A and AAAA side by side, each judged apart.
//!
//! A plan in time: tells which query is due at which server, takes messages, and tells the result for the
//! name. Time is an argument; this module sends no message.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::MOST_ADDRESSES;
use super::conf::Conf;
use super::message::{Family, Query, Reply, Said, Trouble};
use crate::address::canonical;
use crate::duration::Compact;

/// How long the exchange waits for the other family after the first addresses: the 50 ms of RFC 8305,
/// section 3, doubled for a name server on a busy node.
const GRACE: Duration = Duration::from_millis(100);

/// Queries to two servers, or two to one, are at least this far apart.
const SHORTEST_STEP: Duration = Duration::from_millis(100);

/// One name's queries.
#[derive(Debug)]
pub struct Exchange {
    name: String,
    servers: Vec<Server>,
    questions: Vec<Question>,
    /// Rounds of queries so far; each round repeats all open queries.
    sent: usize,
    most_sent: usize,
    step: Duration,
    timeout: Duration,
    last_sent: Instant,
    /// When the first addresses came.
    found_at: Option<Instant>,
}

#[derive(Debug)]
struct Server {
    ip: IpAddr,
    /// Why it could not answer, the last time.
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Question {
    query: Query,
    /// The answer, and the server that it came from.
    said: Option<(Said, IpAddr)>,
    /// For each server, whether its answer is outstanding.
    owed: Vec<bool>,
}

/// The result for one name.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// IPv4 first, then IPv6, each in the server's order.
    Found(Vec<IpAddr>),
    Missing(Missing),
}

/// No address: the servers' answers in words, and the consequence for the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub name: String,
    pub words: String,
    pub kind: Kind,
}

/// A later variant weighs more in a report on several names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// No such name, or no address for it: the next search domain may have one.
    NotThere,
    /// The same of one family, and the servers have failed to answer for the other: the same follows.
    HalfNotThere,
    /// The name has records, an alias for instance, but no address: the search ends.
    NoAddress,
    /// A server could not answer (SERVFAIL): the next search domain is asked.
    ServerFailure,
    /// No server was willing to answer: the search domains end, the name itself is asked.
    Refusal,
    /// No answer in time: as for a refusal.
    Silence,
}

impl Exchange {
    /// Plans the queries for a name. They are spread over `patience`, so that the last server is
    /// still asked in time. `None` for a name that no query can hold.
    pub fn new(
        name: &str,
        conf: &Conf,
        patience: Duration,
        ids: (u16, u16),
        now: Instant,
    ) -> Option<Exchange> {
        let families = [(Family::V4, ids.0), (Family::V6, ids.1)];
        let wanted = if conf.no_aaaa { &families[..1] } else { &families[..] };
        let question = |(family, id): &(Family, u16)| {
            let query = Query::new(name, *family, *id)?;
            Some(Question { query, said: None, owed: vec![false; conf.servers.len()] })
        };
        let most_sent = conf.servers.len() * conf.attempts;
        Some(Exchange {
            name: name.to_owned(),
            servers: conf
                .servers
                .iter()
                .map(|server| Server { ip: canonical(server.ip()), trouble: None })
                .collect(),
            questions: wanted.iter().map(question).collect::<Option<_>>()?,
            sent: 0,
            most_sent,
            step: (patience / most_sent as u32).max(SHORTEST_STEP).min(conf.timeout),
            timeout: conf.timeout,
            last_sent: now,
            found_at: None,
        })
    }

    /// The server to ask now, if one is due. [`Exchange::owed_by`] has the open queries.
    /// The answer of a server that was asked before counts until the end.
    pub fn due(&mut self, now: Instant) -> Option<usize> {
        // Every server that was asked this query has failed.
        let is_stuck = self.open().any(|question| !question.owed.contains(&true));
        if self.is_sent() || !(is_stuck || now >= self.last_sent + self.step) {
            return None;
        }
        let server = self.sent % self.servers.len();
        self.sent += 1;
        self.last_sent = now;
        for question in self.questions.iter_mut().filter(|question| question.said.is_none()) {
            question.owed[server] = true;
        }
        Some(server)
    }

    fn open(&self) -> impl Iterator<Item = &Question> {
        self.questions.iter().filter(|question| question.said.is_none())
    }

    /// No query is due any more: all attempts are used, or addresses have come.
    fn is_sent(&self) -> bool {
        self.sent == self.most_sent || self.found_at.is_some()
    }

    /// The queries that this server has not answered.
    pub fn owed_by(&self, server: usize) -> impl Iterator<Item = &Query> {
        self.open().filter(move |question| question.owed[server]).map(|question| &question.query)
    }

    /// Takes a message of this server. Returns the family if its answer has to be asked for over TCP.
    pub fn take(&mut self, server: usize, bytes: &[u8], now: Instant) -> Option<Family> {
        let ip = self.servers[server].ip;
        for question in self
            .questions
            .iter_mut()
            .filter(|question| question.said.is_none() && question.owed[server])
        {
            let family = question.query.family;
            match question.query.judge(bytes) {
                Reply::Foreign => continue,
                Reply::Truncated => return Some(family),
                Reply::Failed(trouble) => self.fail(server, Some(family), trouble),
                Reply::Final(said) => {
                    if matches!(said, Said::Addresses(_)) {
                        self.found_at.get_or_insert(now);
                    }
                    question.said = Some((said, ip));
                }
            }
            return None;
        }
        None
    }

    /// This server does not answer the query for this family, or any query.
    pub fn fail(&mut self, server: usize, family: Option<Family>, trouble: Trouble) {
        for question in &mut self.questions {
            question.owed[server] &= family.is_some_and(|family| family != question.query.family);
        }
        self.servers[server].trouble = Some(trouble);
    }

    /// When to look again, unless a message comes before.
    pub fn wake_at(&self) -> Instant {
        match self.found_at {
            Some(at) => at + GRACE,
            None if !self.is_sent() => self.last_sent + self.step,
            // After the answer for one family, the wait for the other is shorter.
            None if self.questions.iter().any(|question| question.said.is_some()) => {
                self.last_sent + self.step
            }
            None => self.last_sent + self.timeout,
        }
    }

    /// The result, once no later message can change it.
    pub fn outcome(&self, now: Instant) -> Option<Outcome> {
        let is_owed = |question: &Question| question.owed.contains(&true) && now < self.wake_at();
        if self.open().any(|question| !self.is_sent() || is_owed(question)) {
            return None;
        }
        if self.found_at.is_some() {
            return Some(Outcome::Found(self.found()));
        }
        Some(Outcome::Missing(
            self.missing(self.step * self.sent.saturating_sub(1) as u32 + self.timeout),
        ))
    }

    fn found(&self) -> Vec<IpAddr> {
        let of =
            |family| {
                let said = self
                    .questions
                    .iter()
                    .filter(move |q| q.query.family == family)
                    .filter_map(|q| q.said.as_ref());
                said.flat_map(|(said, _)| {
                    if let Said::Addresses(addresses) = said { &addresses[..] } else { &[] }
                })
                .copied()
            };
        let (mut found, v6): (Vec<_>, Vec<_>) =
            (of(Family::V4).collect(), of(Family::V6).collect());
        // Some addresses of each family, if there are more than a caller tries.
        found.truncate(MOST_ADDRESSES - v6.len().min(MOST_ADDRESSES / 2));
        for ip in v6 {
            if found.len() < MOST_ADDRESSES && !found.contains(&ip) {
                found.push(ip);
            }
        }
        found
    }

    /// The servers' answers so far, in words; the others have been silent for `within`.
    pub fn missing(&self, within: Duration) -> Missing {
        let mut words = self.said();
        let is_answered = !words.is_empty();
        let is_failure = |server: &Server| server.trouble == Some(Trouble::SERVFAIL);
        let kind = match self.questions.iter().filter_map(|question| question.said.as_ref()).next()
        {
            _ if self.has_said(&Said::NoAddress) => Kind::NoAddress,
            Some(_) if self.open().next().is_some() => Kind::HalfNotThere,
            Some(_) => Kind::NotThere,
            None if self.servers.iter().any(is_failure) => Kind::ServerFailure,
            None if self.questions.iter().any(|question| question.owed.contains(&true)) => {
                Kind::Silence
            }
            None => Kind::Refusal,
        };
        let open: Vec<&Question> = self.open().collect();
        for (at, server) in self.servers.iter().enumerate().filter(|_| !open.is_empty()) {
            let family =
                if is_answered { format!("{} ", open[0].query.family) } else { String::new() };
            if open.iter().any(|question| question.owed[at]) {
                words.push(format!(
                    "no {family}answer from {} within {}",
                    server.ip,
                    Compact(within)
                ));
            } else if let Some(trouble) = &server.trouble {
                words.push(trouble.of(server.ip));
            }
        }
        if words.is_empty() {
            words.push(format!("no time left for a query to {}", self.servers[0].ip));
        }
        Missing { name: self.name.clone(), words: words.join(", "), kind }
    }

    fn has_said(&self, wanted: &Said) -> bool {
        self.questions
            .iter()
            .any(|question| question.said.as_ref().is_some_and(|(said, _)| said == wanted))
    }

    /// The answers in words, each once.
    fn said(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for question in &self.questions {
            let text = match &question.said {
                Some((Said::NoName, server)) => format!("NXDOMAIN from {server}"),
                Some((Said::NoAddress | Said::NoData, server)) => {
                    format!("no {} record from {server}", question.query.family)
                }
                _ => continue,
            };
            if !words.contains(&text) {
                words.push(text);
            }
        }
        words
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to begin somewhere")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const IDS: (u16, u16) = (7, 8);

    fn exchange(conf: &str, now: Instant) -> Exchange {
        let conf = Conf::parse(conf, String::new, |_| 0, 53);
        Exchange::new("lock.example", &conf, SECOND, IDS, now).unwrap()
    }

    /// The server's message to the query for this family; of code 0 with this address, where it has a last byte.
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

    /// Answers at once to what one server is asked, by code and last byte for A and AAAA; `None` is silence.
    type Answers = (Answer, Answer);
    type Answer = Option<(u8, Option<u8>)>;

    /// Plays the exchange with servers that always answer this; the outcome, when it came, and whom it asked.
    fn play(conf: &str, servers: &[Answers]) -> (Outcome, Duration, Vec<usize>) {
        let start = Instant::now();
        let (mut exchange, mut now, mut asked) = (exchange(conf, start), start, Vec::new());
        loop {
            if let Some(outcome) = exchange.outcome(now) {
                return (outcome, now - start, asked);
            }
            let Some(server) = exchange.due(now) else {
                now = exchange.wake_at();
                continue;
            };
            asked.push(server);
            for (family, answer) in
                [(Family::V4, servers[server].0), (Family::V6, servers[server].1)]
            {
                if let Some((code, last)) = answer {
                    assert_eq!(exchange.take(server, &message(family, code, last), now), None);
                }
            }
        }
    }

    fn found(texts: &[&str]) -> Outcome {
        Outcome::Found(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn the_families_are_judged_apart() {
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
            let (outcome, took, asked) = play(ONE, &[answers]);
            assert_eq!(
                (outcome, took.as_millis(), &asked[..]),
                (found(expected), after, &[0][..]),
                "{answers:?}"
            );
        }
    }

    #[test]
    fn without_an_address_the_words_are_the_servers() {
        let both = |code| (Some((code, None)), Some((code, None)));
        let silent = (None, None);
        for (conf, servers, kind, words, after, asked) in [
            (ONE, &[both(3)][..], Kind::NotThere, "NXDOMAIN from 10.0.0.1", 0, &[0][..]),
            (
                ONE,
                &[both(0)],
                Kind::NotThere,
                "no A record from 10.0.0.1, no AAAA record from 10.0.0.1",
                0,
                &[0],
            ),
            (ONE, &[both(2)], Kind::ServerFailure, "SERVFAIL from 10.0.0.1", 0, &[0, 0]),
            (ONE, &[both(5)], Kind::Refusal, "REFUSED from 10.0.0.1", 0, &[0, 0]),
            (ONE, &[both(1)], Kind::Refusal, "FORMERR from 10.0.0.1", 0, &[0, 0]),
            (ONE, &[both(4)], Kind::Refusal, "NOTIMP from 10.0.0.1", 0, &[0, 0]),
            (ONE, &[both(9)], Kind::Refusal, "code 9 from 10.0.0.1", 0, &[0, 0]),
            (ONE, &[silent], Kind::Silence, "no answer from 10.0.0.1 within 5.5s", 5500, &[0, 0]),
            // The first server has said enough.
            (TWO, &[both(3), both(0)], Kind::NotThere, "NXDOMAIN from 10.0.0.1", 0, &[0]),
            (TWO, &[both(5), both(3)], Kind::NotThere, "NXDOMAIN from 10.0.0.2", 0, &[0, 1]),
            (TWO, &[silent, both(3)], Kind::NotThere, "NXDOMAIN from 10.0.0.2", 250, &[0, 1]),
            (
                TWO,
                &[both(2), silent],
                Kind::ServerFailure,
                "SERVFAIL from 10.0.0.1, no answer from 10.0.0.2 within 5.75s",
                5500,
                &[0, 1, 0, 1],
            ),
            // One family alone is silent: not as long as if both were.
            (
                ONE,
                &[(Some((3, None)), None)],
                Kind::HalfNotThere,
                "NXDOMAIN from 10.0.0.1, no AAAA answer from 10.0.0.1 within 5.5s",
                1000,
                &[0, 0],
            ),
        ] {
            let (outcome, took, was_asked) = play(conf, servers);
            let expected =
                Missing { name: "lock.example".to_owned(), words: words.to_owned(), kind };
            assert_eq!(outcome, Outcome::Missing(expected), "{servers:?}");
            assert_eq!((took.as_millis(), &was_asked[..]), (after, asked), "{words}");
        }
    }

    #[test]
    fn a_later_server_leaves_the_first_its_time() {
        let start = Instant::now();
        let mut exchange = exchange(TWO, start);
        assert_eq!(exchange.due(start), Some(0));
        assert_eq!(exchange.due(start), None);
        let later = exchange.wake_at();
        assert_eq!((later - start, exchange.due(later)), (Duration::from_millis(250), Some(1)));
        exchange.take(0, &message(Family::V4, 0, Some(1)), later);
        exchange.take(0, &message(Family::V6, 3, None), later);
        assert_eq!(exchange.outcome(later), Some(found(&["10.0.0.1"])));
    }

    #[test]
    fn a_server_that_refuses_the_connection_is_followed_by_the_next() {
        let start = Instant::now();
        let mut exchange = exchange(TWO, start);
        for server in 0..4 {
            assert_eq!(exchange.due(start), Some(server % 2));
            exchange.fail(server % 2, None, Trouble::Unreachable("connection refused".to_owned()));
        }
        let words = "no answer from 10.0.0.1: connection refused, no answer from 10.0.0.2: connection refused";
        let expected = Missing {
            name: "lock.example".to_owned(),
            words: words.to_owned(),
            kind: Kind::Refusal,
        };
        assert_eq!(exchange.outcome(start), Some(Outcome::Missing(expected)));
    }

    #[test]
    fn foreign_messages_change_nothing() {
        let start = Instant::now();
        let mut exchange = exchange(ONE, start);
        assert_eq!(exchange.due(start), Some(0));
        let mut wrong = message(Family::V4, 0, Some(1));
        wrong[1] ^= 1;
        assert_eq!((exchange.take(0, &wrong, start), exchange.outcome(start)), (None, None));
        assert_eq!(exchange.owed_by(0).count(), 2);
        let mut cut = message(Family::V6, 0, None);
        cut[2] |= 2;
        assert_eq!(exchange.take(0, &cut, start), Some(Family::V6));
        assert_eq!(exchange.owed_by(0).count(), 2, "the answer is still to come");
    }

    #[test]
    fn the_words_before_the_end() {
        let start = Instant::now();
        let mut exchange = exchange(TWO, start);
        assert_eq!(exchange.missing(SECOND).words, "no time left for a query to 10.0.0.1");
        assert_eq!((exchange.due(start), exchange.due(start + SECOND)), (Some(0), Some(1)));
        let silent = "no answer from 10.0.0.1 within 1s, no answer from 10.0.0.2 within 1s";
        assert_eq!(exchange.missing(SECOND).words, silent);
        assert_eq!(exchange.take(0, &message(Family::V4, 3, None), start), None);
        let one = "NXDOMAIN from 10.0.0.1, no AAAA answer from 10.0.0.1 within 1s, no AAAA answer from 10.0.0.2 within 1s";
        assert_eq!(exchange.missing(SECOND).words, one);
    }

    fn answers() -> impl proptest::strategy::Strategy<Value = Answers> {
        use proptest::prelude::*;
        let one = || proptest::option::of((0..7u8, proptest::option::of(1..9u8)));
        (one(), one()).prop_map(|(a, b)| {
            // Records come with code 0 alone.
            let plain =
                |answer: Answer| answer.map(|(code, last)| (code, last.filter(|_| code == 0)));
            (plain(a), plain(b))
        })
    }

    proptest::proptest! {
        #[test]
        fn every_exchange_ends(servers in proptest::collection::vec(answers(), 1..=3), attempts in 1..=5usize) {
            let lines: String = (1..=servers.len()).map(|n| format!("nameserver 10.0.0.{n}\n")).collect();
            let (outcome, took, asked) = play(&format!("{lines}options attempts:{attempts}\n"), &servers);
            assert!(asked.len() <= servers.len() * attempts, "{asked:?}");
            assert!(took <= Duration::from_millis(100) * 14 + Duration::from_secs(6), "{took:?}");
            // For each family the first answer that counts is the answer.
            let first = |of: &dyn Fn(&Answers) -> Answer| {
                asked.iter().filter_map(|server| of(&servers[*server])).find(|(code, _)| matches!(code, 0 | 3))
            };
            let answers = [first(&|answers| answers.0), first(&|answers| answers.1)];
            let is_there = answers.iter().any(|answer| matches!(answer, Some((0, Some(_)))));
            match outcome {
                Outcome::Found(addresses) => assert!(!addresses.is_empty() && is_there),
                Outcome::Missing(missing) => assert!(!missing.words.is_empty() && !is_there, "{missing:?}"),
            }
            // A family that no server has answered was asked of each.
            let are_answered = answers.iter().all(Option::is_some);
            assert!(is_there || are_answered || asked.len() == servers.len() * attempts, "{asked:?}");
        }
    }
}
