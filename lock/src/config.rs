//! The settings of `lock`: their table, and what they parse to.
//!
//! Knows how a value is written, not what the program does with it.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use psl::address::{Host, parse_port, whole_number};
use psl::client::tls::{self, Trust};
use psl::client::url::{HTTP, HTTPS, TCP, Url};
use psl::duration::{self, Compact, parse_nonzero, parse_period};
use psl::logging::{self, LOG, LOG_FORMAT};
use psl::process::{BAD_CONFIGURATION, DONE, FAILED};
use psl::protocol::node::NodeName;
use psl::settings::{Input, Program, Setting};

use crate::core::lease::SHORTEST_PAUSE;
use crate::core::lock::{Mode, Settings, Slots};
use crate::core::pressure::Limits;
use crate::core::scheduler::Durations;

/// The most leases that may be active at the same time.
pub const MOST_SLOTS: usize = 4096;

/// The upper bound of `auto` for each core, unless the setting names one.
const MOST_A_CORE: usize = 16;

/// More endpoints than this are rather a mistake than a start order; each costs a thread for the
/// length of a round.
const MOST_CHECKS: usize = 32;

const HOST: Setting = Setting::flag("--host", "HOST")
    .env(&["PSL_BIND_HOST"])
    .default("all addresses, both families")
    .help("address to bind");
const PORT: Setting = Setting::flag("--port", "PORT")
    .env(&["PSL_BIND_PORT"])
    .default("8888")
    .help("port to bind (0 = any free one; the chosen one is in the `listening` log line)");
const LOCKS: Setting = Setting::flag("--locks", "N").env(&["PSL_PARALLEL_LOCKS"]).default("1").help("leases that may be active at the same time: 1 to 4096; a share of the node's online cores (`50%`, `200%`; rounded down, at least 1); or a limit that follows the node (`auto`: at most 16 for each core that is online at start, and 4096; `auto:MAX`: at most MAX)");
const TIMEOUT: Setting = Setting::flag("--timeout", "DURATION")
    .env(&["PSL_LOCK_DURATION"])
    .default("10s")
    .help("duration of a lease when the request names none");
const MAX_DURATION: Setting = Setting::flag("--max-duration", "DURATION")
    .env(&["PSL_MAX_LOCK_DURATION"])
    .default("10m")
    .help("the longest lease; a request for more gets this much, and the answer says so");
const CHECK: Setting = Setting::flag("--check", "URL").env(&["PSL_HC_ENDPOINTS"]).list().help("`http://`, `https://`, `tcp://host:port` endpoints that must all be up before any start; 32 at most");
const HC_ENABLED: Setting = Setting::variable(&["PSL_HC_ENABLED"], "BOOL")
    .default("true where endpoints are given")
    .help("`false` ignores the endpoints; `true` without any is a mistake");
const FAIL_HC: Setting = Setting::flag("--failHc", "DURATION").env(&["PSL_HC_PERIOD_FAIL"]).default("10s").help("pause after a failed round of checks, at least 100ms; until a first round has passed, the pause begins with half a second and doubles up to this");
const PASS_HC: Setting = Setting::flag("--passHc", "DURATION")
    .env(&["PSL_HC_PERIOD_PASS"])
    .default("60s")
    .help("pause after a passed round of checks, at least 100ms");
const HC_TIMEOUT: Setting = Setting::flag("--hc-timeout", "DURATION")
    .env(&["PSL_HC_TIMEOUT"])
    .default("5s")
    .help("one check's time, from name look-up to the last byte");
const MAX_HOLD: Setting = Setting::flag("--max-hold", "DURATION").env(&["PSL_HC_MAX_HOLD"]).default("0 (never)").help("after checks have failed this long without a break, starts go on, still one slot each, until a round passes; with 0 starts wait for ever");
const CA_FILE: Setting = Setting::flag("--ca-file", "FILE")
    .env(&["PSL_CA_FILE"])
    .default("`SSL_CERT_FILE`, else the system's bundle")
    .help("CA certificates (PEM) for `https://` checks");
const NODE: Setting = Setting::flag("--node", "NAME")
    .env(&["PSL_NODE_NAME"])
    .help("the node that this lock serves; a request with another `?node=` gets 421");
const NODE_IP: Setting = Setting::flag("--node-ip", "ADDRESS").env(&["PSL_NODE_IP"]).list().help("addresses of the node; lock probes no `ready` port there. lock finds the addresses of its own network namespace and of gateways itself");
const STATE_FILE: Setting = Setting::flag("--state-file", "FILE").env(&["PSL_STATE_FILE"]).help("keeps leases and queue over a restart of the container; best in a memory-backed volume. A file of another boot is not used");
const READY_PERIOD: Setting = Setting::flag("--ready-period", "DURATION").env(&["PSL_READY_PERIOD"]).default("500ms").help("the longest pause between two probes of a lease's `ready` port, at least 20ms; the first ones come sooner");
const MODE: Setting = Setting::flag("--mode", "MODE").env(&["PSL_MODE"]).default("enforce").help("`enforce`; `shadow`: every request is granted at once, and metrics, `/state` and the log say which starts would have waited, and for how long");
const CPU_PRESSURE: Setting = Setting::flag("--cpu-pressure", "PERCENT").env(&["PSL_CPU_PRESSURE"]).default("0 (off)").help("no start begins above this percentage of `some avg10` in `/proc/pressure/cpu`, until it is ten points lower, or half of it if that is more; up to 100");
const IO_PRESSURE: Setting = Setting::flag("--io-pressure", "PERCENT")
    .env(&["PSL_IO_PRESSURE"])
    .default("0 (off)")
    .help("the same of `/proc/pressure/io`");
const MEMORY_PRESSURE: Setting = Setting::flag("--memory-pressure", "PERCENT")
    .env(&["PSL_MEMORY_PRESSURE"])
    .default("0 (off)")
    .help("the same of `/proc/pressure/memory`");
const GATE_FLOOR: Setting = Setting::flag("--gate-floor", "DURATION")
    .env(&["PSL_GATE_FLOOR"])
    .default("60s")
    .help("however high the pressure, one start in this time, at least 100ms");
/// Not a setting of ours, but every TLS client's; read where `--ca-file` is not given.
const SSL_CERT_FILE: Setting = Setting::variable(&["SSL_CERT_FILE"], "FILE")
    .help("CA certificates (PEM) where `--ca-file` is not given");

/// What `--help` says.
pub const PROGRAM: Program = Program {
    name: "lock",
    purpose: "Lets N callers of a node through at a time, each for a limited while.",
    settings: &[
        HOST,
        PORT,
        LOCKS,
        TIMEOUT,
        MAX_DURATION,
        CHECK,
        HC_ENABLED,
        FAIL_HC,
        PASS_HC,
        HC_TIMEOUT,
        MAX_HOLD,
        CA_FILE,
        NODE,
        NODE_IP,
        STATE_FILE,
        READY_PERIOD,
        MODE,
        CPU_PRESSURE,
        IO_PRESSURE,
        MEMORY_PRESSURE,
        GATE_FLOOR,
        SSL_CERT_FILE,
        LOG_FORMAT,
        LOG,
    ],
    exit_codes: &[
        (DONE, "ended by SIGTERM or SIGINT"),
        (FAILED, "failed at run time, such as a port that is taken"),
        (BAD_CONFIGURATION, "bad configuration"),
    ],
    notes: "Requests: GET or POST / takes a lease (?holder=, ?duration=, ?ready=, ?wait=, ?node=); DELETE /?holder= gives it\n\
        or the place in the queue back; GET /livez, /readyz, /metrics, /state.\n\
        Durations are whole seconds or 500ms, 1.5s, 1m30s, 2h; more than zero unless 0 is named above.\n",
};

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Nothing for all addresses.
    pub host: Option<Host>,
    /// 0 for any free one.
    pub port: u16,
    /// As given; how many slots that is depends on the node.
    pub locks: Locks,
    /// The rules for requests.
    pub rules: Rules,
    /// What must be up.
    pub checks: Checks,
    /// Keeps leases and queue over a restart of the process.
    pub state_file: Option<PathBuf>,
    /// The longest pause between two probes of a port.
    pub ready_period: Duration,
    /// Whether starts wait.
    pub mode: Mode,
    /// How much pressure is too much.
    pub pressure: Limits,
    /// How to log.
    pub logging: logging::LogConfig,
}

/// The rules for a single request.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The duration of a request that names none.
    pub default: Duration,
    /// The longest lease.
    pub longest: Duration,
    /// The node that this lock serves.
    pub node: Option<NodeName>,
    /// Known addresses of that node.
    pub node_addresses: Vec<IpAddr>,
}

/// The endpoints that must be up before any start.
#[derive(Clone, Debug)]
pub struct Checks {
    /// In the order in which they were given.
    pub endpoints: Vec<Url>,
    /// Pause after a failed round.
    pub pause_failed: Duration,
    /// Pause after a passed round.
    pub pause_passed: Duration,
    /// One check's time.
    pub timeout: Duration,
    /// Starts go on after checks have failed for this long; `None` if they wait for ever.
    pub max_hold: Option<Duration>,
    /// The CA file for `https://`, where there is such an endpoint.
    pub ca_file: Option<PathBuf>,
}

/// A number of slots, a share of the node's cores in percent, or a limit that follows the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locks {
    /// This number.
    Count(usize),
    /// Percent of the node's online cores.
    Percent(usize),
    /// The limit follows the node, up to this number.
    Auto(Option<usize>),
}

impl fmt::Display for Locks {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Locks::Count(count) => write!(f, "{count}"),
            Locks::Percent(percent) => write!(f, "{percent}%"),
            Locks::Auto(None) => write!(f, "auto"),
            Locks::Auto(Some(most)) => write!(f, "auto:{most}"),
        }
    }
}

impl Locks {
    fn parse(text: &str) -> Result<Locks, &'static str> {
        let accepted = "1 to 4096, a share of the node's cores such as 50% (1% to 409600%), auto, or auto:MAX with MAX from 1 to 4096";
        let count = |text: &str| whole_number(text).filter(|n| (1..=MOST_SLOTS).contains(n));
        let locks = if text == "auto" {
            Some(Locks::Auto(None))
        } else if let Some(most) = text.strip_prefix("auto:") {
            count(most).map(|most| Locks::Auto(Some(most)))
        } else if let Some(share) = text.strip_suffix('%') {
            whole_number(share).filter(|p| (1..=MOST_SLOTS * 100).contains(p)).map(Locks::Percent)
        } else {
            count(text).map(Locks::Count)
        };
        locks.ok_or(accepted)
    }

    /// The slots on a node with so many cores: a share is rounded down; at least 1, at most 4096.
    pub fn slots(self, cores: usize) -> Slots {
        match self {
            Locks::Count(count) => Slots::Fixed(count),
            Locks::Percent(percent) => {
                Slots::Fixed((cores.saturating_mul(percent) / 100).clamp(1, MOST_SLOTS))
            }
            Locks::Auto(most) => {
                let most = most.unwrap_or(cores.saturating_mul(MOST_A_CORE)).clamp(1, MOST_SLOTS);
                Slots::Auto { cores: cores.max(1), most }
            }
        }
    }
}

impl Config {
    /// The settings of the pure lock on a node with this number of cores. `most_parked` bounds the parked waiters.
    pub fn settings(&self, cores: usize, most_parked: usize) -> Settings {
        Settings {
            slots: self.locks.slots(cores),
            mode: self.mode,
            durations: Durations {
                default: self.rules.default,
                longest: self.rules.longest,
                probe_pause: self.ready_period,
            },
            pressure: self.pressure,
            node: self.rules.node.as_ref().map(NodeName::to_string),
            endpoints: self.checks.endpoints.iter().map(ToString::to_string).collect(),
            max_hold: self.checks.max_hold,
            most_parked,
        }
    }

    /// Checks everything and reports all mistakes together.
    pub fn from(mut input: Input) -> Result<Config, Vec<String>> {
        let config = Config {
            host: input.value(&HOST, Host::parse).filter(|host| !is_unspecified_v6(host)),
            port: input.value(&PORT, parse_port).unwrap_or(8888),
            locks: input.value(&LOCKS, Locks::parse).unwrap_or(Locks::Count(1)),
            rules: rules(&mut input),
            checks: checks(&mut input),
            state_file: input.value(&STATE_FILE, |text| Ok::<_, fmt::Error>(PathBuf::from(text))),
            ready_period: input
                .value(&READY_PERIOD, parse_ready_period)
                .unwrap_or(Duration::from_millis(500)),
            mode: input.value(&MODE, parse_mode).unwrap_or(Mode::Enforce),
            pressure: pressure(&mut input),
            logging: logging::LogConfig::take(&mut input),
        };
        input.finish().map(|()| config)
    }
}

/// `::` asks for all addresses, which are both families.
fn is_unspecified_v6(host: &Host) -> bool {
    matches!(host, Host::Ip(ip) if ip.is_ipv6() && ip.is_unspecified())
}

fn parse_mode(text: &str) -> Result<Mode, &'static str> {
    match text {
        "enforce" => Ok(Mode::Enforce),
        "shadow" => Ok(Mode::Shadow),
        _ => Err("enforce or shadow"),
    }
}

fn rules(input: &mut Input) -> Rules {
    let default = input.value(&TIMEOUT, parse_nonzero);
    let longest = input.value(&MAX_DURATION, parse_nonzero).unwrap_or(Duration::from_secs(600));
    if let Some(default) = default.filter(|default| *default > longest) {
        let (default, longest) = (Compact(default), Compact(longest));
        input.reject(format!(
            "{}: {default} is not accepted; accepted: up to {}, which is {longest}",
            TIMEOUT.name(),
            MAX_DURATION.name()
        ));
    }
    // The ten seconds are no setting, so a shorter bound is no mistake.
    let default = default.unwrap_or(Duration::from_secs(10).min(longest));
    let node = input.value(&NODE, NodeName::parse);
    Rules { default, longest, node, node_addresses: input.list(&NODE_IP, parse_ip) }
}

fn pressure(input: &mut Input) -> Limits {
    // In the order of the resources.
    let thresholds = [&CPU_PRESSURE, &IO_PRESSURE, &MEMORY_PRESSURE]
        .map(|setting| input.value(setting, parse_percent).and_then(NonZeroU8::new));
    let floor = input.value(&GATE_FLOOR, parse_period).unwrap_or(Duration::from_secs(60));
    Limits { thresholds, floor }
}

fn checks(input: &mut Input) -> Checks {
    let endpoints = input.list(&CHECK, |text| Url::parse(text, &[HTTP, HTTPS, TCP]));
    let enabled = input.switch(&HC_ENABLED);
    let ca_file = input.value(&CA_FILE, |text| Ok::<_, fmt::Error>(PathBuf::from(text)));
    let bundle = input.value(&SSL_CERT_FILE, |text| Ok::<_, fmt::Error>(PathBuf::from(text)));
    if enabled == Some(true) && endpoints.is_empty() {
        input.reject(format!(
            "{}: true is not accepted without an endpoint in {}",
            HC_ENABLED.name(),
            CHECK.name()
        ));
    }
    if endpoints.len() > MOST_CHECKS {
        input.reject(format!(
            "{}: {} endpoints are not accepted; accepted: up to {MOST_CHECKS}",
            CHECK.name(),
            endpoints.len()
        ));
    }
    // Two that differ in their queries alone could not be told apart in answers and metrics.
    let mut shown: Vec<String> = endpoints.iter().map(Url::to_string).collect();
    shown.sort_unstable();
    for pair in shown.windows(2).filter(|pair| pair[0] == pair[1]) {
        input.reject(format!("{}: {} is given twice, accepted once", CHECK.name(), pair[0]));
    }
    let endpoints = if enabled == Some(false) { Vec::new() } else { endpoints };
    let needs_ca = endpoints.iter().any(|url| url.scheme == HTTPS.0);
    Checks {
        endpoints,
        pause_failed: input.value(&FAIL_HC, parse_period).unwrap_or(Duration::from_secs(10)),
        pause_passed: input.value(&PASS_HC, parse_period).unwrap_or(Duration::from_secs(60)),
        timeout: input.value(&HC_TIMEOUT, parse_nonzero).unwrap_or(Duration::from_secs(5)),
        max_hold: input.value(&MAX_HOLD, duration::parse).filter(|hold| !hold.is_zero()),
        ca_file: if needs_ca { trusted(input, ca_file, bundle) } else { None },
    }
}

/// The file is read once here, so that a wrong one shows at start and not as a check that fails.
fn trusted(
    input: &mut Input,
    ca_file: Option<PathBuf>,
    bundle: Option<PathBuf>,
) -> Option<PathBuf> {
    let Some(file) = ca_file.or_else(|| tls::default_file(bundle)) else {
        input.reject(format!(
            "{}: needed for https:// checks; set it, or SSL_CERT_FILE: there is no system bundle here",
            CA_FILE.name()
        ));
        return None;
    };
    match Trust::read(&file) {
        Ok(_) => Some(file),
        Err(error) => {
            input.reject(format!("{}: {error}", CA_FILE.name()));
            None
        }
    }
}

fn parse_ready_period(text: &str) -> Result<Duration, &'static str> {
    let period = parse_nonzero(text)?;
    if period < SHORTEST_PAUSE { Err("a duration of at least 20ms") } else { Ok(period) }
}

fn parse_percent(text: &str) -> Result<u8, &'static str> {
    whole_number(text).filter(|percent| *percent <= 100).ok_or("a whole percentage, 0 (off) to 100")
}

fn parse_ip(text: &str) -> Result<IpAddr, &'static str> {
    match Host::parse(text) {
        Ok(Host::Ip(address)) => Ok(address),
        _ => Err("an IPv4 or IPv6 address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn config(variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let lookup = move |name: &str| {
            variables.iter().find(|(n, _)| n == name).map(|(_, v)| OsString::from(v))
        };
        Config::from(Input::read(&PROGRAM, Vec::new(), lookup).map_err(|text| vec![text])?)
    }

    #[test]
    fn defaults() {
        let config = config(&[]).unwrap();
        assert_eq!((config.host, config.port, config.locks), (None, 8888, Locks::Count(1)));
        assert_eq!(
            (config.rules.default, config.rules.longest),
            (Duration::from_secs(10), Duration::from_secs(600))
        );
        let checks = config.checks;
        assert_eq!(
            (checks.endpoints.len(), checks.max_hold, checks.timeout),
            (0, None, Duration::from_secs(5))
        );
        assert_eq!(
            (checks.pause_failed, checks.pause_passed),
            (Duration::from_secs(10), Duration::from_secs(60))
        );
    }

    #[test]
    fn slots() {
        for (text, cores, expected) in [
            ("1", 8, Some(1)),
            ("4096", 8, Some(4096)),
            ("50%", 8, Some(4)),
            ("50%", 1, Some(1)),
            ("200%", 3, Some(6)),
            ("33%", 4, Some(1)),
            ("409600%", 64, Some(4096)),
            ("0", 8, None),
            ("4097", 8, None),
            ("0%", 8, None),
            ("-1", 8, None),
            ("1.5", 8, None),
            ("%", 8, None),
            ("auto:", 8, None),
            ("auto:0", 8, None),
            ("auto:4097", 8, None),
            ("auto:50%", 8, None),
            ("Auto", 8, None),
            ("99999999999999999999", 8, None),
        ] {
            let slots = Locks::parse(text).ok().map(|locks| locks.slots(cores));
            assert_eq!(slots, expected.map(Slots::Fixed), "{text} on {cores}");
        }
    }

    #[test]
    fn slots_that_follow_the_node() {
        for (text, cores, most) in [
            ("auto", 8, 128),
            ("auto", 1, 16),
            ("auto", 300, 4096),
            ("auto:1", 8, 1),
            ("auto:4096", 2, 4096),
        ] {
            let locks = Locks::parse(text).unwrap();
            assert_eq!(locks.slots(cores), Slots::Auto { cores, most }, "{text} on {cores}");
            assert_eq!(locks.to_string(), text);
        }
    }

    #[test]
    fn the_switch_of_2x() {
        let both = |enabled| {
            config(&[("PSL_HC_ENABLED", enabled), ("PSL_HC_ENDPOINTS", "tcp://h:1,http://h")])
        };
        assert_eq!(both("true").unwrap().checks.endpoints.len(), 2);
        assert_eq!(both("false").unwrap().checks.endpoints.len(), 0);
        let mistakes = config(&[("PSL_HC_ENABLED", "true")]).unwrap_err();
        assert_eq!(
            mistakes,
            [
                "PSL_HC_ENABLED: true is not accepted without an endpoint in --check (PSL_HC_ENDPOINTS)"
            ]
        );
    }

    #[test]
    fn all_mistakes_together() {
        let mistakes = config(&[
            ("PSL_BIND_PORT", "http"),
            ("PSL_LOCK_DURATION", "-5"),
            ("PSL_MAX_LOCK_DURATION", "0"),
            ("PSL_HC_ENDPOINTS", "http://user:secret@h/,ftp://h"),
            ("PSL_HC_PERIOD_FAIL", "0s"),
            ("PSL_NODE_NAME", "a b"),
            ("PSL_NODE_IP", "10.0.0.1,node-a"),
            ("PSL_LOG", "loud"),
        ])
        .unwrap_err();
        assert_eq!(mistakes.len(), 9, "{mistakes:#?}");
        assert!(!mistakes.join("\n").contains("secret"), "{mistakes:#?}");
    }

    #[test]
    fn pressure_is_off_unless_asked_for() {
        let off = config(&[("PSL_CPU_PRESSURE", "0")]).unwrap().pressure;
        assert_eq!((off.is_on(), off.floor), (false, Duration::from_secs(60)));
        let on = config(&[
            ("PSL_IO_PRESSURE", "100"),
            ("PSL_MEMORY_PRESSURE", "1"),
            ("PSL_GATE_FLOOR", "5m"),
        ])
        .unwrap();
        assert_eq!(on.pressure.thresholds, [None, NonZeroU8::new(100), NonZeroU8::new(1)]);
        assert_eq!(on.pressure.floor, Duration::from_secs(300));
        for (name, value) in [
            ("PSL_CPU_PRESSURE", "101"),
            ("PSL_CPU_PRESSURE", "80%"),
            ("PSL_IO_PRESSURE", "-1"),
            ("PSL_IO_PRESSURE", "0.5"),
            ("PSL_MEMORY_PRESSURE", "257"),
            ("PSL_GATE_FLOOR", "0"),
            ("PSL_MODE", "Shadow"),
        ] {
            let mistakes = config(&[(name, value)]).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].contains(name), "{mistakes:?}");
        }
    }

    #[test]
    fn endpoints_that_look_the_same_are_a_mistake() {
        let mistakes = config(&[("PSL_HC_ENDPOINTS", "http://h/a?x=1,http://h/b,http://h/a?x=2")])
            .unwrap_err();
        assert_eq!(
            mistakes,
            ["--check (PSL_HC_ENDPOINTS): http://h:80/a is given twice, accepted once"]
        );
    }

    #[test]
    fn a_default_above_the_longest_is_a_mistake() {
        let mistakes = config(&[("PSL_LOCK_DURATION", "15m")]).unwrap_err();
        assert_eq!(
            mistakes,
            [
                "--timeout (PSL_LOCK_DURATION): 15m is not accepted; accepted: up to --max-duration (PSL_MAX_LOCK_DURATION), which is 10m"
            ]
        );
        assert!(config(&[("PSL_LOCK_DURATION", "15m"), ("PSL_MAX_LOCK_DURATION", "15m")]).is_ok());
        let shorter = config(&[("PSL_MAX_LOCK_DURATION", "5s")]).unwrap();
        assert_eq!(shorter.rules.default, Duration::from_secs(5));
    }

    #[test]
    fn a_ca_file_that_is_none_is_a_mistake_only_where_it_is_needed() {
        let file = ("PSL_CA_FILE", "/no/such/file");
        assert!(config(&[file, ("PSL_HC_ENDPOINTS", "http://h")]).is_ok());
        let mistakes = config(&[file, ("PSL_HC_ENDPOINTS", "https://h")]).unwrap_err();
        assert!(
            mistakes[0].starts_with("--ca-file (PSL_CA_FILE): CA file /no/such/file: "),
            "{mistakes:?}"
        );
    }
}
