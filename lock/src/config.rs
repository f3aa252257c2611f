//! The settings of `lock`: their table, and the parsed values.
//!
//! Knows the form of each value, not how the program uses it. A new setting is a constant, an entry
//! of [`PROGRAM`], and a field of [`Config`].

mod locks;

use std::convert::Infallible;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use psl::address::{Host, parse_port, whole_number};
use psl::client::tls::{self, Trust};
use psl::client::url::{HTTP, HTTPS, TCP, Url};
use psl::duration::{self, Compact, parse_nonzero, parse_period};
use psl::logging::{LOG, LOG_FORMAT, LogConfig};
use psl::process::{BAD_CONFIGURATION, DONE, FAILED};
use psl::protocol::node::NodeName;
use psl::settings::{Input, Program, Setting};

use crate::core::lease::SHORTEST_PAUSE;
use crate::core::lock::{Mode, Settings};
use crate::core::pressure::PressureLimits;
use crate::core::scheduler::Durations;

pub use locks::{Locks, MOST_SLOTS};

/// A longer list is probably a mistake. Each endpoint costs a thread for the length of a round.
const MOST_CHECKS: usize = 32;

const HOST: Setting = Setting::flag("--host", "HOST")
    .env(&["PSL_BIND_HOST"])
    .default("all addresses")
    .help("address to bind");
const PORT: Setting = Setting::flag("--port", "PORT")
    .env(&["PSL_BIND_PORT"])
    .default("8888")
    .help("port to bind; 0 = any free port");
const LOCKS: Setting = Setting::flag("--locks", "N")
    .env(&["PSL_PARALLEL_LOCKS"])
    .default("1")
    .help("leases at once: N, 50%, auto, auto:MAX");
const TIMEOUT: Setting = Setting::flag("--timeout", "DURATION")
    .env(&["PSL_LOCK_DURATION"])
    .default("10s")
    .help("lease duration unless requested");
const MAX_DURATION: Setting = Setting::flag("--max-duration", "DURATION")
    .env(&["PSL_MAX_LOCK_DURATION"])
    .default("10m")
    .help("longest lease; more is cut to it");
const CHECK: Setting = Setting::flag("--check", "URL")
    .env(&["PSL_HC_ENDPOINTS"])
    .list()
    .help("http, https, tcp endpoints that must be up (max 32)");
const HC_ENABLED: Setting = Setting::variable(&["PSL_HC_ENABLED"], "BOOL")
    .default("true if endpoints are set")
    .help("false = ignore the endpoints");
const FAIL_HC: Setting = Setting::flag("--failHc", "DURATION")
    .env(&["PSL_HC_PERIOD_FAIL"])
    .default("10s")
    .help("pause after a failed round of checks");
const PASS_HC: Setting = Setting::flag("--passHc", "DURATION")
    .env(&["PSL_HC_PERIOD_PASS"])
    .default("60s")
    .help("pause after a passed round of checks");
const HC_TIMEOUT: Setting = Setting::flag("--hc-timeout", "DURATION")
    .env(&["PSL_HC_TIMEOUT"])
    .default("5s")
    .help("time limit of one check, lookup included");
const MAX_HOLD: Setting = Setting::flag("--max-hold", "DURATION")
    .env(&["PSL_HC_MAX_HOLD"])
    .default("0 (never)")
    .help("ignore checks that fail this long");
const CA_FILE: Setting = Setting::flag("--ca-file", "FILE")
    .env(&["PSL_CA_FILE"])
    .default("system bundle")
    .help("CA certificates of https checks");
const NODE: Setting = Setting::flag("--node", "NAME")
    .env(&["PSL_NODE_NAME"])
    .help("name of this node; requests for another node get 421");
const NODE_IP: Setting = Setting::flag("--node-ip", "ADDRESS")
    .env(&["PSL_NODE_IP"])
    .list()
    .help("addresses of this node, whose ports are never probed");
const STATE_FILE: Setting = Setting::flag("--state-file", "FILE")
    .env(&["PSL_STATE_FILE"])
    .help("file that keeps leases and queue over a restart");
const READY_PERIOD: Setting = Setting::flag("--ready-period", "DURATION")
    .env(&["PSL_READY_PERIOD"])
    .default("500ms")
    .help("longest pause between port probes");
const MODE: Setting = Setting::flag("--mode", "MODE")
    .env(&["PSL_MODE"])
    .default("enforce")
    .help("enforce, or shadow: measure, never block");
const CPU_PRESSURE: Setting = Setting::flag("--cpu-pressure", "PERCENT")
    .env(&["PSL_CPU_PRESSURE"])
    .default("0 (off)")
    .help("no start above this CPU pressure");
const IO_PRESSURE: Setting = Setting::flag("--io-pressure", "PERCENT")
    .env(&["PSL_IO_PRESSURE"])
    .default("0 (off)")
    .help("no start above this disk pressure");
const MEMORY_PRESSURE: Setting = Setting::flag("--memory-pressure", "PERCENT")
    .env(&["PSL_MEMORY_PRESSURE"])
    .default("0 (off)")
    .help("likewise for memory");
const GATE_FLOOR: Setting = Setting::flag("--gate-floor", "DURATION")
    .env(&["PSL_GATE_FLOOR"])
    .default("60s")
    .help("one start per this time at any pressure");
/// The variable of every TLS client.
const SSL_CERT_FILE: Setting =
    Setting::variable(&["SSL_CERT_FILE"], "FILE").help("CA certificates if --ca-file is not set");

pub const PROGRAM: Program = Program {
    name: "lock",
    purpose: "Lets a bounded number of pods on a node start at a time.",
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
    notes: "Requests: GET or POST / requests a lease (?holder=, ?duration=, ?ready=, ?wait=, \
        ?node=);\n\
        DELETE /?holder= ends the lease or the wait; GET /livez, /readyz, /metrics, /state.\n\
        Durations are whole seconds or 500ms, 1.5s, 1m30s, 2h; above zero unless 0 is named \
        above.\n",
};

#[derive(Clone, Debug)]
pub struct Config {
    /// `None` for all addresses.
    pub host: Option<Host>,
    pub port: u16,
    pub locks: Locks,
    pub rules: Rules,
    pub checks: Checks,
    pub state_file: Option<PathBuf>,
    /// The longest pause between two probes of a port.
    pub ready_period: Duration,
    pub mode: Mode,
    pub pressure: PressureLimits,
    pub logging: LogConfig,
}

/// The rules for a single request.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The duration of a request that names none.
    pub default: Duration,
    pub longest: Duration,
    /// The node that this lock serves.
    pub node: Option<NodeName>,
    /// Known addresses of that node.
    pub node_addresses: Vec<IpAddr>,
}

/// The endpoints that must be up before any start.
#[derive(Clone, Debug)]
pub struct Checks {
    pub endpoints: Vec<Url>,
    pub pause_failed: Duration,
    pub pause_passed: Duration,
    /// The time limit of one check.
    pub timeout: Duration,
    /// Starts begin after checks have failed for this long; `None` for never.
    pub max_hold: Option<Duration>,
    /// The CA file, if an endpoint is `https://`.
    pub ca_file: Option<PathBuf>,
}

impl Config {
    /// The settings of the pure lock on a node with this number of cores.
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
            node: self.rules.node.clone(),
            endpoints: self.checks.endpoints.iter().map(ToString::to_string).collect(),
            max_hold: self.checks.max_hold,
            most_parked,
        }
    }

    /// Checks everything and reports all errors together.
    pub fn from(mut input: Input) -> Result<Config, Vec<String>> {
        let config = Config {
            host: input.value(&HOST, Host::parse).filter(|host| !is_unspecified_v6(host)),
            port: input.value(&PORT, parse_port).unwrap_or(8888),
            locks: input.value(&LOCKS, Locks::parse).unwrap_or(Locks::Count(1)),
            rules: rules(&mut input),
            checks: checks(&mut input),
            state_file: input.value(&STATE_FILE, parse_path),
            ready_period: input
                .value(&READY_PERIOD, parse_ready_period)
                .unwrap_or(Duration::from_millis(500)),
            mode: input.value(&MODE, parse_mode).unwrap_or(Mode::Enforce),
            pressure: pressure(&mut input),
            logging: LogConfig::take(&mut input),
        };
        input.finish().map(|()| config)
    }
}

/// `::` means all addresses of both families.
fn is_unspecified_v6(host: &Host) -> bool {
    matches!(host, Host::Ip(ip) if ip.is_ipv6() && ip.is_unspecified())
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
    // The default of ten seconds is not set by the user, so a shorter bound is no error.
    let default = default.unwrap_or(Duration::from_secs(10).min(longest));
    let node = input.value(&NODE, NodeName::parse);
    Rules { default, longest, node, node_addresses: input.list(&NODE_IP, parse_ip) }
}

fn pressure(input: &mut Input) -> PressureLimits {
    // In the order of the resources.
    let thresholds = [&CPU_PRESSURE, &IO_PRESSURE, &MEMORY_PRESSURE]
        .map(|setting| input.value(setting, parse_percent).and_then(NonZeroU8::new));
    let floor = input.value(&GATE_FLOOR, parse_period).unwrap_or(Duration::from_secs(60));
    PressureLimits { thresholds, floor }
}

fn checks(input: &mut Input) -> Checks {
    let endpoints = endpoints(input);
    let ca_file = input.value(&CA_FILE, parse_path);
    let bundle = input.value(&SSL_CERT_FILE, parse_path);
    let needs_ca = endpoints.iter().any(|url| url.scheme == HTTPS.0);
    Checks {
        endpoints,
        pause_failed: input.value(&FAIL_HC, parse_period).unwrap_or(Duration::from_secs(10)),
        pause_passed: input.value(&PASS_HC, parse_period).unwrap_or(Duration::from_secs(60)),
        timeout: input.value(&HC_TIMEOUT, parse_nonzero).unwrap_or(Duration::from_secs(5)),
        max_hold: input.value(&MAX_HOLD, duration::parse).filter(|hold| !hold.is_zero()),
        ca_file: if needs_ca { readable_ca(input, ca_file, bundle) } else { None },
    }
}

fn endpoints(input: &mut Input) -> Vec<Url> {
    let endpoints = input.list(&CHECK, |text| Url::parse(text, &[HTTP, HTTPS, TCP]));
    let enabled = input.switch(&HC_ENABLED);
    let (name, count) = (CHECK.name(), endpoints.len());
    if enabled == Some(true) && count == 0 {
        let switch = HC_ENABLED.name();
        input.reject(format!("{switch}: true is not accepted without an endpoint in {name}"));
    }
    if count > MOST_CHECKS {
        input.reject(format!(
            "{name}: {count} endpoints are not accepted; accepted: up to {MOST_CHECKS}"
        ));
    }
    // Answers and metrics show no queries, so two endpoints that differ in their queries alone
    // would look the same.
    let mut shown: Vec<String> = endpoints.iter().map(Url::to_string).collect();
    shown.sort_unstable();
    for pair in shown.windows(2).filter(|pair| pair[0] == pair[1]) {
        input.reject(format!("{name}: {} is given twice, accepted once", pair[0]));
    }
    if enabled == Some(false) { Vec::new() } else { endpoints }
}

/// Reads the file once, so that a wrong file is an error at start and not a check that fails.
fn readable_ca(
    input: &mut Input,
    ca_file: Option<PathBuf>,
    bundle: Option<PathBuf>,
) -> Option<PathBuf> {
    let name = CA_FILE.name();
    let Some(file) = ca_file.or_else(|| tls::default_file(bundle)) else {
        input.reject(format!(
            "{name}: required for https:// checks: no CA bundle on this system; \
             set it or SSL_CERT_FILE"
        ));
        return None;
    };
    if let Err(error) = Trust::read(&file) {
        input.reject(format!("{name}: {error}"));
        return None;
    }
    Some(file)
}

fn parse_path(text: &str) -> Result<PathBuf, Infallible> {
    Ok(text.into())
}

fn parse_mode(text: &str) -> Result<Mode, &'static str> {
    match text {
        "enforce" => Ok(Mode::Enforce),
        "shadow" => Ok(Mode::Shadow),
        _ => Err("enforce or shadow"),
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
mod tests;
