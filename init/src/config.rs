//! The table of settings, and what they say once they are checked.
//!
//! Parsed once into types that need no further doubt. Does not know where arguments and variables
//! come from, nor what is done with the values.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use psl::address::{Host, whole_number};
use psl::client::url::{HTTP, Url};
use psl::duration;
use psl::logging;
use psl::process::{BAD_CONFIGURATION, DONE, FAILED};
use psl::protocol::holder;
use psl::protocol::node::NodeName;
use psl::protocol::ready::Ready;
use psl::settings::{Input, Program, Setting};

use crate::wait::{AtBound, Rules};

const HOST: Setting = Setting::flag("--host", "HOST").env(&["PSL_LOCK_HOST"]).default("localhost").help("where the lock listens: a Service's name, the node's address, or localhost on the host network");

const PORT: Setting = Setting::flag("--port", "PORT").env(&["PSL_LOCK_PORT"]).default("8888").help("the lock's port. In the variable a URL, such as `tcp://…` or `udp://…`, counts as unset: Kubernetes sets it for a Service named `psl-lock`");

const DURATION: Setting = Setting::flag("--duration", "DURATION")
    .env(&["PSL_LOCK_DURATION"])
    .help("how long a lease to ask for; none, or 0, leaves it to the lock");

const PAUSE: Setting = Setting::flag("--pause", "DURATION").env(&["PSL_LOCK_CHECK_PERIOD"]).default("1s").help("pause between two attempts, at least 100ms. A `Retry-After` lengthens it, to 30 s at most; then up to 20 % are added at random");

const ATTEMPT_TIMEOUT: Setting = Setting::flag("--attempt-timeout", "DURATION").env(&["PSL_LOCK_CHECK_TIMEOUT"]).default("1s").help("bound of one attempt, more than zero: for looking up the name, connecting and sending together, and once more for the answer");

/// In 1.0 it was what `--duration` is now, elsewhere it would be a bound: a guess would be wrong
/// for half of its users.
const TIMEOUT: Setting = Setting::removed(
    "--timeout",
    "no such flag here: 1.0's --timeout is --duration (PSL_LOCK_DURATION), and the bound of one attempt is --attempt-timeout (PSL_LOCK_CHECK_TIMEOUT)",
);

const HOLDER: Setting = Setting::flag("--holder", "ID").env(&["PSL_HOLDER"]).default("host name, a dot, 64 random bits").help("name of the requester, 1 to 512 visible ASCII characters without `$`. A later request with the same name keeps the lease, or the place in the queue. The manifests pass `$(POD_NAMESPACE)/$(POD_NAME)/$(POD_UID)`, which outlives a restart of this container");

const READY: Setting = Setting::flag("--ready", "PORT").env(&["PSL_READY"]).help("`tcp:PORT` or `http:PORT/PATH` of this pod: as soon as it accepts, or answers 2xx, the lock ends the lease; the duration is then only the upper bound");

const WAIT: Setting = Setting::flag("--wait", "DURATION").env(&["PSL_WAIT"]).default("30s").help("how long the lock may hold the request until a slot is free; 0 asks for an answer at once. An attempt may take this much longer, 30 s at most");

const NODE: Setting = Setting::flag("--node", "NAME")
    .env(&["PSL_NODE_NAME"])
    .help("the node that this pod runs on; a lock that serves another one says so (421)");

const MAX_WAIT: Setting = Setting::flag("--max-wait", "DURATION").env(&["PSL_MAX_WAIT"]).default("0 (for ever; the manifests ship 8m)").help("how long to wait in all. The bound cuts an attempt short; near the bound init asks the lock for an earlier answer");

const UNREACHABLE_WAIT: Setting = Setting::flag("--unreachable-wait", "DURATION").env(&["PSL_UNREACHABLE_WAIT"]).default("0 (for ever; the manifests ship 2m)").help("how long to wait while no lock answers, from the first request without an answer. Each answer of a lock resets this time, and the pause after an answer does not count. A request under way gets its whole time-out, `--wait` included");

const ON_TIMEOUT: Setting = Setting::flag("--on-timeout", "WHAT").env(&["PSL_ON_TIMEOUT"]).default("start").help("what to do at either bound: `start` (exit code 0, and the log says so) or `fail` (exit code 1). Both bounds are lengthened by up to 25 % at random, so that pods which came together do not all start together");

/// What `--help` lists.
pub const PROGRAM: Program = Program {
    name: "init",
    purpose: "Waits until the node's lock grants a lease, then ends, so that the pod's containers start.",
    settings: &[
        HOST,
        PORT,
        DURATION,
        PAUSE,
        ATTEMPT_TIMEOUT,
        HOLDER,
        READY,
        WAIT,
        NODE,
        MAX_WAIT,
        UNREACHABLE_WAIT,
        ON_TIMEOUT,
        logging::LOG_FORMAT,
        logging::LOG,
        TIMEOUT,
    ],
    exit_codes: &[
        (DONE, "the lease was granted, or a bound was reached under `--on-timeout start`"),
        (FAILED, "a bound was reached under `--on-timeout fail`"),
        (BAD_CONFIGURATION, "bad configuration"),
        (130, "ended by SIGINT"),
        (143, "ended by SIGTERM"),
    ],
    notes: "Durations are whole seconds, or such as 500ms, 1.5s, 1m30s, 2h.\nHow it ended, how long it waited and why also go to /dev/termination-log where that can be written.\n",
};

/// The longest name that Kubernetes gives a node.
const LONGEST_NODE: usize = 253;

/// What a query's value may hold as it is (RFC 3986, 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The requests to a lock, ready to be sent.
#[derive(Clone, Debug)]
pub struct Question {
    lock: Url,
    duration: Option<String>,
    holder: Box<str>,
    ready: Option<Ready>,
    node: Option<NodeName>,
}

impl Question {
    /// For a lease; the lock may park the request for this long.
    pub fn for_lease(&self, wait: Duration) -> Url {
        self.with(&[
            ("duration", self.duration.clone()),
            ("holder", Some(self.holder.to_string())),
            ("ready", self.ready.as_ref().map(Ready::to_request)),
            ("wait", Some(wait).filter(|wait| !wait.is_zero()).map(sent)),
            ("node", self.node.as_ref().map(NodeName::to_string)),
        ])
    }

    /// The place in the queue, or the lease, that is to be given up.
    pub fn of_place(&self) -> Url {
        self.with(&[
            ("holder", Some(self.holder.to_string())),
            ("node", self.node.as_ref().map(NodeName::to_string)),
        ])
    }

    fn with(&self, parameters: &[(&str, Option<String>)]) -> Url {
        self.lock.join(&path_and_query(parameters))
    }
}

/// The checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The lock, for the log.
    pub lock: Url,
    /// The requests to it.
    pub question: Question,
    /// The lock's host is this pod itself, unless it is on the host network.
    pub loopback: bool,
    /// Who asks, for the log.
    pub holder: Box<str>,
    /// When to ask again and when to stop.
    pub rules: Rules,
}

impl Config {
    /// Takes the settings out of what was given; where one is a mistake its default stands in, and
    /// `input` remembers the mistake. `drawn` is who asks where nobody says it.
    pub fn take(input: &mut Input, drawn: impl FnOnce() -> Box<str>) -> Config {
        let host =
            input.value(&HOST, Host::parse).unwrap_or_else(|| Host::Name("localhost".to_owned()));
        let port = input.value(&PORT, parse_port).unwrap_or(8888);
        let duration = input.value(&DURATION, duration::parse).filter(|d| !d.is_zero());
        let pause = input.value(&PAUSE, duration::parse_period).unwrap_or(Duration::from_secs(1));
        let attempt_timeout = input
            .value(&ATTEMPT_TIMEOUT, duration::parse_nonzero)
            .unwrap_or(Duration::from_secs(1));
        let holder = input.value(&HOLDER, parse_holder).unwrap_or_else(drawn);
        let ready = input.value(&READY, parse_ready);
        let wait = input.value(&WAIT, duration::parse).unwrap_or(Duration::from_secs(30));
        let node = input.value(&NODE, NodeName::parse);
        let max_wait = input.value(&MAX_WAIT, duration::parse).filter(|d| !d.is_zero());
        let unreachable_wait =
            input.value(&UNREACHABLE_WAIT, duration::parse).filter(|d| !d.is_zero());
        let at_bound = input.value(&ON_TIMEOUT, parse_at_bound).unwrap_or(AtBound::Start);
        let loopback = host.is_loopback();
        let lock = Url::root(HTTP, host, port);
        let duration = duration.map(sent);
        Config {
            question: Question {
                lock: lock.clone(),
                duration,
                holder: holder.clone(),
                ready,
                node,
            },
            lock,
            loopback,
            holder,
            rules: Rules { pause, wait, attempt_timeout, max_wait, unreachable_wait, at_bound },
        }
    }
}

/// Who asks where nobody says it: another one in each run, also on nodes and in StatefulSets where
/// pods share a host name.
pub fn drawn_holder(host_name: &str, bits: u64) -> Box<str> {
    let host_name: String = host_name
        .chars()
        .filter(|c| c.is_ascii_graphic() && *c != '$')
        .take(LONGEST_NODE)
        .collect();
    format!("{host_name}.{bits:016x}").into()
}

/// Kubernetes replaces `$(NAME)` alone, and only if the container defines that variable above the one
/// that refers to it. Any other reference, such as `$NAME` or `${NAME}`, stays as it is, and all pods
/// would be one holder with one lease.
fn parse_holder(text: &str) -> Result<Box<str>, &'static str> {
    if text.contains('$') {
        return Err(
            "a name without $. Write $(NAME) and define the variable NAME above this one: Kubernetes replaces neither $NAME nor ${NAME}, nor a variable that is defined below or not at all",
        );
    }
    holder::parse(text)
}

/// As above for `$(`; a path may hold any other `$`.
fn parse_ready(text: &str) -> Result<Ready, &'static str> {
    if text.contains("$(") {
        return Err(
            "a port and path without $(. Kubernetes has not replaced $(NAME): define the variable NAME above this one",
        );
    }
    Ready::parse(text)
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    whole_number(text).filter(|port| *port > 0).ok_or("a port from 1 to 65535")
}

fn parse_at_bound(text: &str) -> Result<AtBound, &'static str> {
    match text {
        "start" => Ok(AtBound::Start),
        "fail" => Ok(AtBound::Fail),
        _ => Err("start or fail"),
    }
}

/// The root, with those of these parameters that have a value.
fn path_and_query(parameters: &[(&str, Option<String>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    let query: Vec<_> = given
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ESCAPED)))
        .collect();
    format!("/?{}", query.join("&"))
}

/// Whole seconds where it is whole: a lock of 1.x reads nothing else.
fn sent(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => duration.as_secs().to_string(),
        _ => duration::Compact(duration).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn take(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let lookup = move |name: &str| {
            variables.iter().find(|(n, _)| n == name).map(|(_, v)| OsString::from(v))
        };
        let mut input =
            Input::read(&PROGRAM, arguments.iter().map(OsString::from).collect(), lookup)
                .expect("not asked for help");
        let config = Config::take(&mut input, || drawn_holder("web-0", 1));
        input.finish().map(|()| config)
    }

    fn asked(config: &Config) -> String {
        config.question.for_lease(config.rules.wait).to_request()
    }

    /// The query of a wait that asks for the defaults.
    const DEFAULTS: &str = "holder=web-0.0000000000000001&wait=30";

    #[test]
    fn defaults() {
        let config = take(&[], &[]).unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(asked(&config), format!("http://localhost:8888/?{DEFAULTS}"));
        assert_eq!(
            config.question.of_place().to_request(),
            "http://localhost:8888/?holder=web-0.0000000000000001"
        );
        assert_eq!(config.lock.to_request(), "http://localhost:8888/", "the log shows no query");
        assert!(config.loopback);
        let expected = Rules {
            pause: second,
            wait: second * 30,
            attempt_timeout: second,
            max_wait: None,
            unreachable_wait: None,
            at_bound: AtBound::Start,
        };
        assert_eq!(config.rules, expected);
    }

    #[test]
    fn what_is_asked() {
        for (arguments, variables, root, query) in [
            (
                &["--host", "lock.psl.svc", "-port=80"][..],
                &[][..],
                "http://lock.psl.svc:80/",
                DEFAULTS,
            ),
            (&["--host=fd00::1"], &[], "http://[fd00::1]:8888/", DEFAULTS),
            (
                &[],
                &[("PSL_LOCK_HOST", "[::1]"), ("PSL_LOCK_PORT", "1")],
                "http://[::1]:1/",
                DEFAULTS,
            ),
            (&[], &[("PSL_LOCK_PORT", "tcp://10.0.0.1:8080")], "http://localhost:8888/", DEFAULTS),
            (&[], &[("PSL_LOCK_PORT", "udp://10.0.0.1:53")], "http://localhost:8888/", DEFAULTS),
        ] {
            let asked = asked(&take(arguments, variables).unwrap());
            assert_eq!(asked, format!("{root}?{query}"), "{arguments:?} {variables:?}");
        }
        for (arguments, variables, expected) in [
            (&["--duration", "20"][..], &[][..], "duration=20&holder=h"),
            (&["--duration", "1m30s"], &[], "duration=90&holder=h"),
            (&["--duration", "1500ms"], &[], "duration=1.5s&holder=h"),
            (
                &["--duration", "18446744073709551615"],
                &[],
                "duration=18446744073709551615&holder=h",
            ),
            (&["--duration", "0"], &[("PSL_LOCK_DURATION", "5s")], "holder=h"),
            (
                &[],
                &[("PSL_LOCK_DURATION", "5s"), ("PSL_NODE_NAME", "n-1.example")],
                "duration=5&holder=h&node=n-1.example",
            ),
            (&["--node", "a&b=c#%ü"], &[], "holder=h&node=a%26b%3Dc%23%25%C3%BC"),
            (&["--holder", "shop/web-0/1-2_3~4.5"], &[], "holder=shop%2Fweb-0%2F1-2_3~4.5"),
            (&["--holder", "a&node=b#%+?"], &[], "holder=a%26node%3Db%23%25%2B%3F"),
            (&[], &[("PSL_HOLDER", "from-a-variable")], "holder=from-a-variable"),
            (&["--ready", "tcp:5432"], &[], "holder=h&ready=tcp%3A5432"),
            (&["--ready", "http:80"], &[], "holder=h&ready=http%3A80%2F"),
            (
                &[],
                &[("PSL_READY", "http:8080/healthz?a=b&c")],
                "holder=h&ready=http%3A8080%2Fhealthz%3Fa%3Db%26c",
            ),
            (&["--wait", "2m"], &[("PSL_WAIT", "5")], "holder=h&wait=120"),
            (&["--wait=250ms"], &[], "holder=h&wait=250ms"),
            (&[], &[("PSL_WAIT", "5s")], "holder=h&wait=5"),
            (
                &["--node=n", "--wait=1", "--ready=tcp:1", "--holder=x", "--duration=2"],
                &[],
                "duration=2&holder=x&ready=tcp%3A1&wait=1&node=n",
            ),
        ] {
            // What is first counts, so that these are defaults: a flag wins, and of two variables the given one.
            let variables: Vec<_> =
                variables.iter().copied().chain([("PSL_HOLDER", "h"), ("PSL_WAIT", "0")]).collect();
            let asked = asked(&take(arguments, &variables).unwrap());
            assert_eq!(
                asked,
                format!("http://localhost:8888/?{expected}"),
                "{arguments:?} {variables:?}"
            );
        }
    }

    #[test]
    fn the_place_that_is_given_up() {
        for (arguments, expected) in [
            (&["--holder=a/b"][..], "holder=a%2Fb"),
            (
                &["--holder=a", "--node=n&", "--duration=5", "--ready=tcp:1", "--wait=1"],
                "holder=a&node=n%26",
            ),
        ] {
            let config = take(arguments, &[("PSL_LOCK_HOST", "lock")]).unwrap();
            assert_eq!(
                config.question.of_place().to_request(),
                format!("http://lock:8888/?{expected}")
            );
        }
    }

    #[test]
    fn a_question_asks_for_the_wait_that_it_is_given() {
        let question = take(&["--holder=h", "--node=n", "--wait=10"], &[]).unwrap().question;
        for (millis, expected) in [
            (10_000, "holder=h&wait=10&node=n"),
            (2_000, "holder=h&wait=2&node=n"),
            (2_250, "holder=h&wait=2.25s&node=n"),
            (1, "holder=h&wait=1ms&node=n"),
            (0, "holder=h&node=n"),
        ] {
            let asked = question.for_lease(Duration::from_millis(millis)).to_request();
            assert_eq!(asked, format!("http://localhost:8888/?{expected}"));
        }
    }

    #[test]
    fn drawn_holders() {
        let long = "n".repeat(1000);
        for (host_name, bits, expected) in [
            ("web-0", 0x0123_4567_89ab_cdef, "web-0.0123456789abcdef"),
            ("web-0\n", 1, "web-0.0000000000000001"),
            ("a b\u{1b}ü\0c$", u64::MAX, "abc.ffffffffffffffff"),
            ("", 0, ".0000000000000000"),
            (&long, 0, &format!("{}.0000000000000000", &long[..253])),
        ] {
            let drawn = drawn_holder(host_name, bits);
            assert_eq!(&*drawn, expected);
            assert_eq!(parse_holder(&drawn), Ok(drawn), "a lock takes it");
        }
    }

    #[test]
    fn rules() {
        let variables = [
            ("PSL_LOCK_CHECK_PERIOD", "3"),
            ("PSL_LOCK_CHECK_TIMEOUT", "2s"),
            ("PSL_MAX_WAIT", "8m"),
            ("PSL_UNREACHABLE_WAIT", "2m"),
            ("PSL_ON_TIMEOUT", "fail"),
        ];
        let seconds = |s| Duration::from_secs(s);
        let config = take(&["--max-wait", "0", "--pause", "500ms"], &variables).unwrap();
        let expected = Rules {
            pause: Duration::from_millis(500),
            wait: seconds(30),
            attempt_timeout: seconds(2),
            max_wait: None,
            unreachable_wait: Some(seconds(120)),
            at_bound: AtBound::Fail,
        };
        assert_eq!(config.rules, expected);
    }

    #[test]
    fn loopback() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST", true),
            ("127.0.0.9", true),
            ("::1", true),
            ("10.0.0.1", false),
            ("lock", false),
        ] {
            assert_eq!(take(&["--host", host], &[]).unwrap().loopback, expected, "{host}");
        }
    }

    #[test]
    fn mistakes() {
        let long = "n".repeat(LONGEST_NODE + 1);
        for (flag, values) in [
            ("--host", &["a b", "http://x", "256.1.1.1"][..]),
            ("--port", &["0", "65536", "x", "+1", "udp://1:1", "tcp://1:1"]),
            ("--duration", &["1.5", "1d", "99999999999999999999"]),
            ("--pause", &["0", "0s", "x"]),
            ("--attempt-timeout", &["0", "x"]),
            ("--holder", &["a b", "ü", &"h".repeat(513)]),
            (
                "--holder",
                &[
                    "$(POD_NAMESPACE)/$(POD_NAME)",
                    "shop/$POD_UID",
                    "${POD_UID}",
                    "$$(POD_UID)",
                    "a$",
                    "$",
                    "$POD_UID b",
                ],
            ),
            (
                "--ready",
                &[
                    "5432",
                    "tcp:0",
                    "http:80x",
                    "http://h:80/",
                    "http:80/a b",
                    "http:80/$(P)",
                    "tcp:$(P)",
                ],
            ),
            ("--wait", &["-1", "1.5", "x"]),
            ("--node", &["a b", "a\n", &long, "$(NODE_NAME)", "$NODE", "${NODE}"]),
            ("--max-wait", &["8 m", "x"]),
            ("--unreachable-wait", &["1.5", "x"]),
            ("--on-timeout", &["Start", "exit"]),
        ] {
            for value in values {
                let mistakes = take(&[&format!("{flag}={value}")], &[]).expect_err(value);
                assert!(
                    mistakes.len() == 1 && mistakes[0].starts_with(&format!("{flag} (PSL_")),
                    "{flag} {value}: {mistakes:?}"
                );
            }
        }
    }

    #[test]
    fn the_old_timeout_says_what_to_use() {
        let mistakes = take(&["--timeout", "5", "--port", "1"], &[]).unwrap_err();
        assert!(
            mistakes.len() == 1
                && mistakes[0].contains("--duration")
                && mistakes[0].contains("--attempt-timeout"),
            "{mistakes:?}"
        );
    }

    #[test]
    fn help_lists_every_setting_but_those_that_are_gone() {
        let help = PROGRAM.help();
        assert_eq!(PROGRAM.listed().count(), 14);
        assert!(PROGRAM.listed().all(|s| s.names().all(|name| help.contains(name))));
        assert!(!help.contains("--timeout"), "{help}");
    }
}
