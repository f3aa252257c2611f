//! Init's settings, and their values once they are checked.
//!
//! Does not know where arguments and variables come from.

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

use crate::core::wait::{AtBound, Rules};

const HOST: Setting = Setting::flag("--host", "HOST")
    .env(&["PSL_LOCK_HOST"])
    .default("localhost")
    .help("host of the lock");
const PORT: Setting = Setting::flag("--port", "PORT")
    .env(&["PSL_LOCK_PORT"])
    .default("8888")
    .help("port of the lock");
const DURATION: Setting = Setting::flag("--duration", "DURATION")
    .env(&["PSL_LOCK_DURATION"])
    .help("lease duration to request; 0: the lock's default");
const PAUSE: Setting = Setting::flag("--pause", "DURATION")
    .env(&["PSL_LOCK_CHECK_PERIOD"])
    .default("1s")
    .help("pause between two attempts");
const ATTEMPT_TIMEOUT: Setting = Setting::flag("--attempt-timeout", "DURATION")
    .env(&["PSL_LOCK_CHECK_TIMEOUT"])
    .default("1s")
    .help("time limit of an attempt");
const HOLDER: Setting = Setting::flag("--holder", "ID")
    .env(&["PSL_HOLDER"])
    .default("HOSTNAME.RANDOM")
    .help("unique name of this pod");
const READY: Setting = Setting::flag("--ready", "PORT")
    .env(&["PSL_READY"])
    .help("tcp:PORT or http:PORT/PATH: ends the lease once ready");
const WAIT: Setting = Setting::flag("--wait", "DURATION")
    .env(&["PSL_WAIT"])
    .default("30s")
    .help("time that a lock may park a request");
const NODE: Setting = Setting::flag("--node", "NAME")
    .env(&["PSL_NODE_NAME"])
    .help("node of this pod; other nodes' locks answer 421");
const MAX_WAIT: Setting = Setting::flag("--max-wait", "DURATION")
    .env(&["PSL_MAX_WAIT"])
    .default("0")
    .help("limit of the whole wait; 0: none");
const UNREACHABLE_WAIT: Setting = Setting::flag("--unreachable-wait", "DURATION")
    .env(&["PSL_UNREACHABLE_WAIT"])
    .default("0")
    .help("limit without an answer; 0: none");
const ON_TIMEOUT: Setting = Setting::flag("--on-timeout", "ACTION")
    .env(&["PSL_ON_TIMEOUT"])
    .default("start")
    .help("start or fail at either limit");

/// In 1.0 the flag set the lease's duration; users of other tools expect a time limit. Either guess
/// would be wrong for half of the users.
const TIMEOUT: Setting = Setting::removed(
    "--timeout",
    "unknown flag: use --duration (PSL_LOCK_DURATION) for the lease, as --timeout in 1.0, or \
     --attempt-timeout (PSL_LOCK_CHECK_TIMEOUT) for an attempt",
);

pub const PROGRAM: Program = Program {
    name: "init",
    purpose: "Waits until the node's lock grants a lease, then exits so that the pod can start.",
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
        (DONE, "lease granted, or limit reached with --on-timeout start"),
        (FAILED, "limit reached with --on-timeout fail"),
        (BAD_CONFIGURATION, "bad configuration"),
        (130, "stopped by SIGINT"),
        (143, "stopped by SIGTERM"),
    ],
    notes: "Durations are whole seconds, or such as 500ms, 1.5s, 1m30s, 2h.\n\
            init also writes its result to /dev/termination-log if that file exists.\n",
};

/// The longest name of a node in Kubernetes.
const LONGEST_HOST_NAME: usize = 253;

/// All but the unreserved characters (RFC 3986, 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The URLs of the requests to the lock.
#[derive(Clone, Debug)]
pub struct LockUrls {
    root: Url,
    duration: Option<String>,
    holder: Box<str>,
    ready: Option<Ready>,
    node: Option<NodeName>,
}

impl LockUrls {
    /// Requests a lease; the lock may park the request for `wait`.
    pub fn lease(&self, wait: Duration) -> Url {
        let wait = if wait.is_zero() { None } else { Some(duration_text(wait)) };
        self.with(&[
            ("duration", self.duration.clone()),
            ("holder", Some(self.holder.to_string())),
            ("ready", self.ready.as_ref().map(Ready::to_request)),
            ("wait", wait),
            ("node", self.node.as_ref().map(NodeName::to_string)),
        ])
    }

    /// The holder's place in the queue, or its lease, for DELETE.
    pub fn holder(&self) -> Url {
        self.with(&[
            ("holder", Some(self.holder.to_string())),
            ("node", self.node.as_ref().map(NodeName::to_string)),
        ])
    }

    fn with(&self, parameters: &[(&str, Option<String>)]) -> Url {
        let mut query = Vec::new();
        for (name, value) in parameters {
            if let Some(value) = value {
                query.push(format!("{name}={}", utf8_percent_encode(value, ESCAPED)));
            }
        }
        self.root.join(&format!("/?{}", query.join("&")))
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    /// The lock's address, for the log.
    pub lock: Url,
    pub urls: LockUrls,
    /// The lock's host is this pod itself, unless the pod is on the host network.
    pub is_loopback: bool,
    pub holder: Box<str>,
    pub rules: Rules,
}

impl Config {
    /// Reads the settings. An invalid value becomes an error in `input`, and its default is used.
    pub fn take(input: &mut Input, default_holder: impl FnOnce() -> Box<str>) -> Config {
        let second = Duration::from_secs(1);
        let limit = |wait: Option<Duration>| wait.filter(|wait| !wait.is_zero());
        let host = input.value(&HOST, Host::parse);
        let host = host.unwrap_or_else(|| Host::Name("localhost".to_owned()));
        let port = input.value(&PORT, parse_port).unwrap_or(8888);
        let is_loopback = host.is_loopback();
        let lock = Url::root(HTTP, host, port);
        let holder = input.value(&HOLDER, parse_holder).unwrap_or_else(default_holder);
        let urls = LockUrls {
            root: lock.clone(),
            duration: limit(input.value(&DURATION, duration::parse)).map(duration_text),
            holder: holder.clone(),
            ready: input.value(&READY, parse_ready),
            node: input.value(&NODE, NodeName::parse),
        };
        let attempt_timeout = input.value(&ATTEMPT_TIMEOUT, duration::parse_nonzero);
        let rules = Rules {
            pause: input.value(&PAUSE, duration::parse_period).unwrap_or(second),
            wait: input.value(&WAIT, duration::parse).unwrap_or(second * 30),
            attempt_timeout: attempt_timeout.unwrap_or(second),
            max_wait: limit(input.value(&MAX_WAIT, duration::parse)),
            unreachable_wait: limit(input.value(&UNREACHABLE_WAIT, duration::parse)),
            at_bound: input.value(&ON_TIMEOUT, parse_at_bound).unwrap_or(AtBound::Start),
        };
        Config { lock, urls, is_loopback, holder, rules }
    }
}

/// The default holder differs in each run, because pods share a host name on the host network and
/// in StatefulSets of different namespaces.
pub fn random_holder(host_name: &str, bits: u64) -> Box<str> {
    let host_name: String = host_name
        .chars()
        .filter(|c| c.is_ascii_graphic() && *c != '$')
        .take(LONGEST_HOST_NAME)
        .collect();
    format!("{host_name}.{bits:016x}").into()
}

/// Kubernetes replaces only `$(NAME)`, and only if the container defines that variable above. Any
/// other reference stays as it is, and all pods would be one holder with one lease.
fn parse_holder(text: &str) -> Result<Box<str>, &'static str> {
    if text.contains('$') {
        return Err(
            "a name without $. Write $(NAME) and define the variable NAME above this one, because \
             Kubernetes replaces no other reference",
        );
    }
    holder::parse(text)
}

/// A path may contain any other `$`.
fn parse_ready(text: &str) -> Result<Ready, &'static str> {
    if text.contains("$(") {
        return Err(
            "a port and path without $(. Kubernetes has not replaced $(NAME): define the variable \
             NAME above this one",
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

/// Whole seconds if possible, because a lock of 1.x reads no other form.
fn duration_text(duration: Duration) -> String {
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
        let config = Config::take(&mut input, || random_holder("web-0", 1));
        input.finish().map(|()| config)
    }

    fn lease_url(config: &Config) -> String {
        config.urls.lease(config.rules.wait).to_request()
    }

    /// The query with the default settings.
    const DEFAULTS: &str = "holder=web-0.0000000000000001&wait=30";

    #[test]
    fn defaults() {
        let config = take(&[], &[]).unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(lease_url(&config), format!("http://localhost:8888/?{DEFAULTS}"));
        assert_eq!(
            config.urls.holder().to_request(),
            "http://localhost:8888/?holder=web-0.0000000000000001"
        );
        assert_eq!(config.lock.to_request(), "http://localhost:8888/", "the log shows no query");
        assert!(config.is_loopback);
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
    fn settings_form_the_request() {
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
            let url = lease_url(&take(arguments, variables).unwrap());
            assert_eq!(url, format!("{root}?{query}"), "{arguments:?} {variables:?}");
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
            (&["--node", "node-1.example"], &[], "holder=h&node=node-1.example"),
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
            // The first value counts, so these serve as defaults.
            let variables: Vec<_> =
                variables.iter().copied().chain([("PSL_HOLDER", "h"), ("PSL_WAIT", "0")]).collect();
            let url = lease_url(&take(arguments, &variables).unwrap());
            assert_eq!(
                url,
                format!("http://localhost:8888/?{expected}"),
                "{arguments:?} {variables:?}"
            );
        }
    }

    #[test]
    fn delete_names_only_holder_and_node() {
        for (arguments, expected) in [
            (&["--holder=a/b"][..], "holder=a%2Fb"),
            (
                &["--holder=a", "--node=n", "--duration=5", "--ready=tcp:1", "--wait=1"],
                "holder=a&node=n",
            ),
        ] {
            let config = take(arguments, &[("PSL_LOCK_HOST", "lock")]).unwrap();
            assert_eq!(config.urls.holder().to_request(), format!("http://lock:8888/?{expected}"));
        }
    }

    #[test]
    fn the_wait_of_a_request_may_be_shorter() {
        let urls = take(&["--holder=h", "--node=n", "--wait=10"], &[]).unwrap().urls;
        for (millis, expected) in [
            (10_000, "holder=h&wait=10&node=n"),
            (2_000, "holder=h&wait=2&node=n"),
            (2_250, "holder=h&wait=2.25s&node=n"),
            (1, "holder=h&wait=1ms&node=n"),
            (0, "holder=h&node=n"),
        ] {
            let url = urls.lease(Duration::from_millis(millis)).to_request();
            assert_eq!(url, format!("http://localhost:8888/?{expected}"));
        }
    }

    #[test]
    fn random_holders_are_valid() {
        let long = "n".repeat(1000);
        for (host_name, bits, expected) in [
            ("web-0", 0x0123_4567_89ab_cdef, "web-0.0123456789abcdef"),
            ("web-0\n", 1, "web-0.0000000000000001"),
            ("a b\u{1b}ü\0c$", u64::MAX, "abc.ffffffffffffffff"),
            ("", 0, ".0000000000000000"),
            (&long, 0, &format!("{}.0000000000000000", &long[..253])),
        ] {
            let holder = random_holder(host_name, bits);
            assert_eq!(&*holder, expected);
            assert_eq!(parse_holder(&holder), Ok(holder));
        }
    }

    #[test]
    fn settings_form_the_rules() {
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
    fn loopback_hosts() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST", true),
            ("127.0.0.9", true),
            ("::1", true),
            ("10.0.0.1", false),
            ("lock", false),
        ] {
            assert_eq!(take(&["--host", host], &[]).unwrap().is_loopback, expected, "{host}");
        }
    }

    #[test]
    fn an_invalid_value_is_an_error_with_its_setting() {
        let long = "n".repeat(LONGEST_HOST_NAME + 1);
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
                let errors = take(&[&format!("{flag}={value}")], &[]).expect_err(value);
                assert!(
                    errors.len() == 1 && errors[0].starts_with(&format!("{flag} (PSL_")),
                    "{flag} {value}: {errors:?}"
                );
            }
        }
    }

    #[test]
    fn timeout_of_1_0_names_its_successors() {
        let errors = take(&["--timeout", "5", "--port", "1"], &[]).unwrap_err();
        assert!(
            errors.len() == 1
                && errors[0].contains("--duration")
                && errors[0].contains("--attempt-timeout"),
            "{errors:?}"
        );
    }

    #[test]
    fn help_lists_every_setting_but_the_removed_one() {
        let help = PROGRAM.help();
        assert_eq!(PROGRAM.listed().count(), 14);
        assert!(PROGRAM.listed().all(|s| s.names().all(|name| help.contains(name))));
        assert!(!help.contains("--timeout"), "{help}");
    }
}
