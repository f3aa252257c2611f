//! The table of settings, and what they say once they are checked.
//!
//! Parsed once into types that need no further doubt. Does not know where arguments and variables
//! come from, nor what is done with the values.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use psl::address::{Host, whole_number};
use psl::args::{Given, Program, Setting, Takes};
use psl::duration;
use psl::end::{BAD_CONFIGURATION, DONE, FAILED};
use psl::logging;
use psl::url::{HTTP, Url};

use crate::wait::{AtBound, Rules};

const HOST: Setting = Setting {
    flag: Some("--host"),
    variables: &["PSL_LOCK_HOST"],
    value: "HOST",
    takes: Takes::Value,
    default: "localhost",
    meaning: "where the lock listens: a Service's name, the node's address, or localhost on the host network",
};

const PORT: Setting = Setting {
    flag: Some("--port"),
    variables: &["PSL_LOCK_PORT"],
    value: "PORT",
    takes: Takes::Value,
    default: "8888",
    meaning: "the lock's port. `tcp://…`, which Kubernetes injects for a Service named `psl-lock`, counts as unset",
};

const DURATION: Setting = Setting {
    flag: Some("--duration"),
    variables: &["PSL_LOCK_DURATION"],
    value: "DURATION",
    takes: Takes::Value,
    default: "none",
    meaning: "how long a lease to ask for; none, or 0, leaves it to the lock",
};

const PAUSE: Setting = Setting {
    flag: Some("--pause"),
    variables: &["PSL_LOCK_CHECK_PERIOD"],
    value: "DURATION",
    takes: Takes::Value,
    default: "1s",
    meaning: "pause between two attempts, more than zero. A `Retry-After` lengthens it, to 30 s at most; then up to 20 % are added at random",
};

const ATTEMPT_TIMEOUT: Setting = Setting {
    flag: Some("--attempt-timeout"),
    variables: &["PSL_LOCK_CHECK_TIMEOUT"],
    value: "DURATION",
    takes: Takes::Value,
    default: "1s",
    meaning: "bound of one attempt, more than zero: for looking up the name, connecting and sending together, and once more for the answer",
};

/// In 1.0 it was what `--duration` is now, elsewhere it would be a bound: a guess would be wrong
/// for half of its users.
const TIMEOUT: Setting = Setting {
    flag: Some("--timeout"),
    variables: &[],
    value: "",
    takes: Takes::Gone,
    default: "",
    meaning: "no such flag here: 1.0's --timeout is --duration (PSL_LOCK_DURATION), and the bound of one attempt is --attempt-timeout (PSL_LOCK_CHECK_TIMEOUT)",
};

const NODE: Setting = Setting {
    flag: Some("--node"),
    variables: &["PSL_NODE_NAME"],
    value: "NAME",
    takes: Takes::Value,
    default: "none",
    meaning: "the node that this pod runs on; a lock that serves another one says so (421)",
};

const MAX_WAIT: Setting = Setting {
    flag: Some("--max-wait"),
    variables: &["PSL_MAX_WAIT"],
    value: "DURATION",
    takes: Takes::Value,
    default: "0 (for ever; the manifests ship 8m)",
    meaning: "how long to wait in all; an attempt under way is cut short",
};

const UNREACHABLE_WAIT: Setting = Setting {
    flag: Some("--unreachable-wait"),
    variables: &["PSL_UNREACHABLE_WAIT"],
    value: "DURATION",
    takes: Takes::Value,
    default: "0 (for ever; the manifests ship 2m)",
    meaning: "how long to wait while no lock answers at all; any answer of a lock starts it anew",
};

const ON_TIMEOUT: Setting = Setting {
    flag: Some("--on-timeout"),
    variables: &["PSL_ON_TIMEOUT"],
    value: "WHAT",
    takes: Takes::Value,
    default: "start",
    meaning: "what to do at either bound: `start` (exit code 0, and the log says so) or `fail` (exit code 1). Both bounds are lengthened by up to 25 % at random, so that pods which came together do not all start together",
};

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

/// The checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The lock, with what is asked of it as its query.
    pub lock: Url,
    /// The lock's host is this pod itself, unless it is on the host network.
    pub loopback: bool,
    /// One attempt's time, see the table.
    pub attempt_timeout: Duration,
    /// When to ask again and when to stop.
    pub rules: Rules,
}

impl Config {
    /// Takes the settings out of what was given; where one is a mistake its default stands in, and
    /// `given` remembers the mistake.
    pub fn take(given: &mut Given) -> Config {
        let host = given.value(&HOST, Host::parse).unwrap_or_else(|| Host::Name("localhost".to_owned()));
        let port = given.value(&PORT, parse_port).flatten().unwrap_or(8888);
        let duration = given.value(&DURATION, duration::parse).filter(|d| !d.is_zero());
        let pause = given.value(&PAUSE, duration::parse_nonzero).unwrap_or(Duration::from_secs(1));
        let attempt_timeout = given.value(&ATTEMPT_TIMEOUT, duration::parse_nonzero).unwrap_or(Duration::from_secs(1));
        let node = given.value(&NODE, parse_node);
        let max_wait = given.value(&MAX_WAIT, duration::parse).filter(|d| !d.is_zero());
        let unreachable_wait = given.value(&UNREACHABLE_WAIT, duration::parse).filter(|d| !d.is_zero());
        let at_bound = given.value(&ON_TIMEOUT, parse_at_bound).unwrap_or(AtBound::Start);
        Config {
            loopback: host.is_loopback(),
            lock: Url::root(HTTP, host, port).join(&path_and_query(duration, node.as_deref())),
            attempt_timeout,
            rules: Rules { pause, max_wait, unreachable_wait, at_bound },
        }
    }
}

/// `Some(None)` for what counts as unset.
fn parse_port(text: &str) -> Result<Option<u16>, &'static str> {
    if text.starts_with("tcp://") {
        return Ok(None);
    }
    whole_number(text).filter(|port| *port > 0).map(Some).ok_or("a port from 1 to 65535")
}

fn parse_node(text: &str) -> Result<String, &'static str> {
    let fits = text.len() <= LONGEST_NODE && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    if fits {
        Ok(text.to_owned())
    } else {
        Err("a node's name, at most 253 bytes, without spaces and control characters")
    }
}

fn parse_at_bound(text: &str) -> Result<AtBound, &'static str> {
    match text {
        "start" => Ok(AtBound::Start),
        "fail" => Ok(AtBound::Fail),
        _ => Err("start or fail"),
    }
}

fn path_and_query(duration: Option<Duration>, node: Option<&str>) -> String {
    let duration = duration.map(|d| format!("duration={}", sent(d)));
    let node = node.map(|name| format!("node={}", utf8_percent_encode(name, ESCAPED)));
    let query: Vec<_> = duration.into_iter().chain(node).collect();
    if query.is_empty() { "/".to_owned() } else { format!("/?{}", query.join("&")) }
}

/// Whole seconds where it is whole: a lock of 1.x reads nothing else.
fn sent(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => duration.as_secs().to_string(),
        _ => duration::Text(duration).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn take(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let variables: Vec<(String, String)> = variables.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let lookup = move |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, v)| OsString::from(v));
        let mut given =
            Given::read(&PROGRAM, arguments.iter().map(OsString::from).collect(), lookup).expect("not asked for help");
        let config = Config::take(&mut given);
        given.finish().map(|()| config)
    }

    #[test]
    fn defaults() {
        let config = take(&[], &[]).unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(config.lock.to_request(), "http://localhost:8888/");
        assert_eq!((config.loopback, config.attempt_timeout), (true, second));
        assert_eq!(
            config.rules,
            Rules { pause: second, max_wait: None, unreachable_wait: None, at_bound: AtBound::Start }
        );
    }

    #[test]
    fn what_is_asked() {
        for (arguments, variables, expected) in [
            (&["--host", "lock.psl.svc", "-port=80"][..], &[][..], "http://lock.psl.svc:80/"),
            (&["--host=fd00::1"], &[], "http://[fd00::1]:8888/"),
            (&[], &[("PSL_LOCK_HOST", "[::1]"), ("PSL_LOCK_PORT", "1")], "http://[::1]:1/"),
            (&[], &[("PSL_LOCK_PORT", "tcp://10.0.0.1:8080")], "http://localhost:8888/"),
            (&["--duration", "20"], &[], "http://localhost:8888/?duration=20"),
            (&["--duration", "1m30s"], &[], "http://localhost:8888/?duration=90"),
            (&["--duration", "1500ms"], &[], "http://localhost:8888/?duration=1.5s"),
            (&["--duration", "18446744073709551615"], &[], "http://localhost:8888/?duration=18446744073709551615"),
            (&["--duration", "0"], &[("PSL_LOCK_DURATION", "5s")], "http://localhost:8888/"),
            (
                &[],
                &[("PSL_LOCK_DURATION", "5s"), ("PSL_NODE_NAME", "n-1.example")],
                "http://localhost:8888/?duration=5&node=n-1.example",
            ),
            (&["--node", "a&b=c#%ü"], &[], "http://localhost:8888/?node=a%26b%3Dc%23%25%C3%BC"),
        ] {
            assert_eq!(take(arguments, variables).unwrap().lock.to_request(), expected, "{arguments:?} {variables:?}");
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
        assert_eq!(config.attempt_timeout, seconds(2));
        let pause = Duration::from_millis(500);
        assert_eq!(
            config.rules,
            Rules { pause, max_wait: None, unreachable_wait: Some(seconds(120)), at_bound: AtBound::Fail }
        );
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
            ("--port", &["0", "65536", "x", "+1", "udp://1:1"]),
            ("--duration", &["1.5", "1d", "99999999999999999999"]),
            ("--pause", &["0", "0s", "x"]),
            ("--attempt-timeout", &["0", "x"]),
            ("--node", &["a b", "a\n", &long]),
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
            mistakes.len() == 1 && mistakes[0].contains("--duration") && mistakes[0].contains("--attempt-timeout"),
            "{mistakes:?}"
        );
    }

    #[test]
    fn help_lists_every_setting_but_those_that_are_gone() {
        let help = PROGRAM.help();
        assert_eq!(PROGRAM.listed().count(), 11);
        assert!(PROGRAM.listed().all(|s| s.variables.iter().all(|v| help.contains(v))));
        assert!(!help.contains("--timeout"), "{help}");
    }
}
