//! The settings of `health`: fragments become values that cannot be wrong, or mistakes that say
//! what is accepted.
//!
//! Reads no file: what a file holds may change while the program runs, so it is no mistake at start.

use std::cell::Cell;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use psl::address::{self, Host, is_dns_label, is_framed, is_subdomain};
use psl::client::url::{HTTP, HTTPS, Url};
use psl::process::{BAD_CONFIGURATION, DONE, FAILED};
use psl::protocol::node::NodeName;
use psl::settings::{Input, Program, Setting};
use psl::{duration, logging};

use crate::boot::Check;
use crate::load;
use crate::verdict::{Filter, Label};

const HOST: Setting = Setting::flag("--host", "HOST")
    .env(&["PSL_BIND_HOST"])
    .default("all addresses, both families")
    .help("address to bind");

const PORT: Setting = Setting::flag("--port", "PORT")
    .env(&["PSL_BIND_PORT"])
    .default("9999")
    .help("port to bind (0 = any free one; the chosen one is in the `listening` log line)");

const NODE_NAME: Setting = Setting::flag("--node-name", "NAME")
    .env(&["PSL_NODE_NAME", "NODE_NAME"])
    .default("required")
    .help("the node that this instance speaks for");

const BASE_URL: Setting = Setting::flag("--baseUrl", "URL").env(&["PSL_K8S_API_URL"]).default("in-cluster").help("the API server as seen from outside a cluster, e.g. a `kubectl proxy` at `http://127.0.0.1:8001`");

const CA_FILE: Setting = Setting::flag("--ca-file", "FILE").env(&["PSL_K8S_CA_FILE"]).default("the service account's").help("CA certificates (PEM) that an `https://` API server is verified against; read anew for each request");

const TOKEN_FILE: Setting = Setting::flag("--token-file", "FILE")
    .env(&["PSL_K8S_TOKEN_FILE"])
    .default("the service account's; none with an `http://` API server")
    .help("token sent to the API server; read anew for each request");

const ENABLED: Setting = Setting::variable(&["PSL_HC_DAEMONSET_ENABLED"], "BOOL").default("true").help("whether DaemonSets count. If false, health needs an API server only for `--conditions` or node load, and without an API server it always answers 200");

const NAMESPACE: Setting = Setting::flag("--namespace", "NAME")
    .env(&["PSL_HC_DAEMONSET_NAMESPACE"])
    .default("all")
    .help("only DaemonSets of this namespace");

const HOST_NETWORK: Setting = Setting::flag("--hostNet", "BOOL")
    .env(&["PSL_HC_DAEMONSET_HOST_NETWORK"])
    .switch()
    .default("false")
    .help("only DaemonSets with `spec.template.spec.hostNetwork: true`");

const INCLUDE: Setting = Setting::flag("--in", "KEY:VALUE")
    .env(&["PSL_HC_DAEMONSET_INCLUDE_LABELS"])
    .list()
    .help("only DaemonSets that have all of these labels");

const EXCLUDE: Setting = Setting::flag("--ex", "KEY:VALUE")
    .env(&["PSL_HC_DAEMONSET_EXCLUDE_LABELS"])
    .list()
    .help("not the DaemonSets that have any of these labels; both lists at once is a mistake");

const FAIL_PERIOD: Setting = Setting::flag("--failHc", "DURATION").env(&["PSL_HC_DAEMONSET_PERIOD_FAIL"]).default("10s").help("at least 100ms: pause after the API failed, drawn from up to three times this; where polling is used, pause while the node is not healthy, up to 20 % longer at random; health reads each DaemonSet that it waits for again after 2 to 5 times this");

const PASS_PERIOD: Setting = Setting::flag("--passHc", "DURATION").env(&["PSL_HC_DAEMONSET_PERIOD_PASS"]).default("60s").help("at least 100ms: where polling is used, pause while the node is healthy, up to 20 % longer at random; all DaemonSets are listed anew after 30 to 90 times this");

const LATCH: Setting = Setting::flag("--latch", "WHEN").env(&["PSL_LATCH"]).default("off").help("`boot`: once healthy in this boot, DaemonSets no longer close the gate (rolling updates); a restart of health forgets it");

const CONDITIONS: Setting = Setting::flag("--conditions", "BOOL").env(&["PSL_HC_NODE_CONDITIONS"]).switch().default("true").help("node conditions count, also without DaemonSets: Ready, no MemoryPressure, DiskPressure, PIDPressure, NetworkUnavailable");

const BOOT_CHECK: Setting = Setting::flag("--boot-check", "WHEN").env(&["PSL_BOOT_CHECK"]).default("auto").help("whether readiness must be of this boot: `on`, `off`; `auto`: on where the API's boot ID of this node has ever equalled this machine's, off with `--baseUrl`");

const BOOT_GRACE: Setting = Setting::flag("--boot-grace", "DURATION")
    .env(&["PSL_BOOT_GRACE"])
    .default("5m")
    .help("after this much uptime old readiness is believed after all");

const STALE_AFTER: Setting = Setting::flag("--stale-after", "DURATION")
    .env(&["PSL_STALE_AFTER"])
    .default("5m")
    .help("how long the last verdict stands while the API fails");

const LOAD_ENABLED: Setting = Setting::variable(&["PSL_HC_NODELOAD_ENABLED"], "BOOL").default("false").help("whether the node's CPU counts, as `metrics.k8s.io` tells it; the role must then allow `get` on `nodes.metrics.k8s.io`");

const LOAD_THRESHOLD: Setting = Setting::variable(&["PSL_HC_NODELOAD_CPU_THRESHOLD"], "PERCENT").default("80").help("percent of the node's capacity, 0 to 100; at or above it is unhealthy, until ten points below");

const LOAD_PERIOD: Setting = Setting::variable(&["PSL_HC_NODELOAD_PERIOD"], "DURATION").default("10s").help("pause between two looks at it, at least 100ms; a metrics server that is missing closes the gate for the first such period only");

/// Kubernetes sets these two in every container; they are no settings of this program's table.
const SERVICE_HOST: Setting = Setting::variable(&["KUBERNETES_SERVICE_HOST"], "HOST")
    .default("set by Kubernetes")
    .help("where the API server is, seen from a pod");

const SERVICE_PORT: Setting = Setting::variable(&["KUBERNETES_SERVICE_PORT"], "PORT")
    .default("set by Kubernetes")
    .help("its port");

/// `health`, its settings in the order of the README.
pub const PROGRAM: Program = Program {
    name: "health",
    purpose: "Tells a lock whether its node and the DaemonSets on it are up: 200 or 412.",
    settings: &[
        HOST,
        PORT,
        NODE_NAME,
        BASE_URL,
        CA_FILE,
        TOKEN_FILE,
        ENABLED,
        NAMESPACE,
        HOST_NETWORK,
        INCLUDE,
        EXCLUDE,
        FAIL_PERIOD,
        PASS_PERIOD,
        LATCH,
        CONDITIONS,
        BOOT_CHECK,
        BOOT_GRACE,
        STALE_AFTER,
        LOAD_ENABLED,
        LOAD_THRESHOLD,
        LOAD_PERIOD,
        logging::LOG_FORMAT,
        logging::LOG,
    ],
    exit_codes: &[
        (DONE, "ended by SIGTERM or SIGINT"),
        (FAILED, "cannot serve, e.g. cannot bind its port"),
        (BAD_CONFIGURATION, "bad configuration"),
    ],
    notes: "In a pod the API server is found by KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, its CA and the\n\
            token under /var/run/secrets/kubernetes.io/serviceaccount.\n",
};

const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const SERVICE_ACCOUNT_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

const DEFAULT_PORT: u16 = 9999;
const DEFAULT_FAIL_PERIOD: Duration = Duration::from_secs(10);
const DEFAULT_PASS_PERIOD: Duration = Duration::from_secs(60);
const DEFAULT_BOOT_GRACE: Duration = Duration::from_secs(300);
const DEFAULT_STALE_AFTER: Duration = Duration::from_secs(300);
const DEFAULT_LOAD_THRESHOLD: u8 = 80;
const DEFAULT_LOAD_PERIOD: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Nothing means all addresses.
    pub host: Option<Host>,
    /// 0 means any free one.
    pub port: u16,
    /// Nothing where nothing of it counts.
    pub cluster: Option<Cluster>,
    /// How to log.
    pub logging: logging::LogConfig,
}

/// What counts, whom to ask for it, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// The node that this instance speaks for.
    pub node: NodeName,
    /// Whom to ask.
    pub server: Server,
    /// Which DaemonSets count; nothing where none do.
    pub filter: Option<Filter>,
    /// Pause after a failure, and the measure of others while the node is not healthy.
    pub fail_period: Duration,
    /// The measure of pauses once it is.
    pub pass_period: Duration,
    /// Whether DaemonSets count only until they have once been ready.
    pub latch: bool,
    /// Whether the node's conditions count.
    pub conditions: bool,
    /// Whether readiness must be of this boot.
    pub boot_check: Check,
    /// Up to which uptime.
    pub boot_grace: Duration,
    /// How long the last verdict stands while the API fails.
    pub stale_after: Duration,
    /// Nothing where the node's load does not count.
    pub load: Option<load::Settings>,
}

/// An API server and how it and we prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub url: Url,
    /// What its certificate is verified against; of no use with `http://`.
    pub ca_file: PathBuf,
    /// Nothing where no token is to be sent.
    pub token_file: Option<PathBuf>,
}

/// Takes every setting. `Err` holds all mistakes, one line each.
pub fn read(mut input: Input) -> Result<Config, Vec<String>> {
    let host = input.value(&HOST, Host::parse);
    let port = input.value(&PORT, address::parse_port).unwrap_or(DEFAULT_PORT);
    let node = required(&mut input, &NODE_NAME, NodeName::parse);
    let enabled = input.switch(&ENABLED).unwrap_or(true);
    let conditions = input.switch(&CONDITIONS);
    let stale_after =
        input.value(&STALE_AFTER, duration::parse_nonzero).unwrap_or(DEFAULT_STALE_AFTER);
    let load = load(&mut input, stale_after);
    let is_asked = enabled || conditions == Some(true) || load.is_some();
    let (is_in_cluster, server) = server(&mut input, is_asked);
    // Conditions count if an API server is configured.
    let conditions = conditions.unwrap_or(is_asked || server.is_some());
    let is_needed = is_asked || conditions;
    let filter = filter(&mut input);
    let fail_period =
        input.value(&FAIL_PERIOD, duration::parse_period).unwrap_or(DEFAULT_FAIL_PERIOD);
    let pass_period =
        input.value(&PASS_PERIOD, duration::parse_period).unwrap_or(DEFAULT_PASS_PERIOD);
    let latch = input.value(&LATCH, latch).unwrap_or(false);
    let boot_check = input.value(&BOOT_CHECK, boot_check).unwrap_or(Check::Auto);
    let boot_grace =
        input.value(&BOOT_GRACE, duration::parse_nonzero).unwrap_or(DEFAULT_BOOT_GRACE);
    let logging = logging::LogConfig::take(&mut input);
    input.finish()?;
    let cluster = match (node, server) {
        _ if !is_needed => None,
        (Some(node), Some(server)) => Some(Cluster {
            node,
            server,
            filter: enabled.then_some(filter),
            fail_period,
            pass_period,
            latch,
            conditions,
            // Whoever asks from elsewhere need not be on the node at all.
            boot_check: if boot_check == Check::Auto && !is_in_cluster {
                Check::Off
            } else {
                boot_check
            },
            boot_grace,
            stale_after,
            load,
        }),
        // Whatever is missing has been complained of above; an open gate must never come of a gap in that.
        _ => {
            return Err(vec![format!(
                "{}, {}: both are needed",
                NODE_NAME.name(),
                BASE_URL.name()
            )]);
        }
    };
    Ok(Config { host, port, cluster, logging })
}

fn load(input: &mut Input, stale_after: Duration) -> Option<load::Settings> {
    let enabled = input.switch(&LOAD_ENABLED).unwrap_or(false);
    let threshold = input.value(&LOAD_THRESHOLD, percent).unwrap_or(DEFAULT_LOAD_THRESHOLD);
    let period = input.value(&LOAD_PERIOD, duration::parse_period).unwrap_or(DEFAULT_LOAD_PERIOD);
    enabled.then_some(load::Settings { threshold, period, stale_after })
}

fn percent(text: &str) -> Result<u8, &'static str> {
    address::whole_number(text)
        .filter(|number| *number <= 100)
        .ok_or("a whole number of percent, 0 to 100")
}

fn latch(text: &str) -> Result<bool, &'static str> {
    match text {
        "boot" => Ok(true),
        "off" => Ok(false),
        _ => Err("boot, off"),
    }
}

fn boot_check(text: &str) -> Result<Check, &'static str> {
    match text {
        "on" => Ok(Check::On),
        "off" => Ok(Check::Off),
        "auto" => Ok(Check::Auto),
        _ => Err("on, off, auto"),
    }
}

fn required<T>(
    input: &mut Input,
    setting: &Setting,
    parse: fn(&str) -> Result<T, &'static str>,
) -> Option<T> {
    let (is_given, value) = whether_given(input, setting, parse);
    if !is_given {
        input.reject(format!("{}: required; {}", setting.name(), setting.purpose()));
    }
    value
}

/// A value that is a mistake is given all the same: one complaint about it is enough.
fn whether_given<T, E: ToString>(
    input: &mut Input,
    setting: &Setting,
    parse: impl Fn(&str) -> Result<T, E>,
) -> (bool, Option<T>) {
    let is_given = Cell::new(false);
    let value = input.value(setting, |text| {
        is_given.set(true);
        parse(text)
    });
    (is_given.get(), value)
}

/// Also says whether it is the cluster's own, as seen from a pod.
fn server(input: &mut Input, is_needed: bool) -> (bool, Option<Server>) {
    let (has_base, base) = whether_given(input, &BASE_URL, base_url);
    let ca_file = input.value(&CA_FILE, file).unwrap_or_else(|| SERVICE_ACCOUNT_CA.into());
    let token_file = input.value(&TOKEN_FILE, file);
    let Some(url) = (if has_base { base } else { in_cluster(input, is_needed) }) else {
        return (!has_base, None);
    };
    let is_plain = url.scheme == HTTP.0;
    if is_plain && token_file.is_some() && !url.host.is_loopback() {
        input.reject(format!(
            "{}: not with {url}, where the token would travel in the clear; accepted with https://, or with http:// to this \
             machine's loopback",
            TOKEN_FILE.name()
        ));
    }
    // Plain HTTP means a proxy with credentials of its own; the service account's would be shown to whoever listens.
    let token_file = token_file.or_else(|| (!is_plain).then(|| SERVICE_ACCOUNT_TOKEN.into()));
    (!has_base, Some(Server { url, ca_file, token_file }))
}

fn in_cluster(input: &mut Input, is_needed: bool) -> Option<Url> {
    let (has_host, host) = whether_given(input, &SERVICE_HOST, Host::parse);
    let (has_port, port) = whether_given(input, &SERVICE_PORT, nonzero_port);
    if is_needed && (!has_host || !has_port) {
        input.reject(format!(
            "{}: no API server; set it, or run in a pod, where Kubernetes sets {} and {}, or set {}=false",
            BASE_URL.name(),
            SERVICE_HOST.name(),
            SERVICE_PORT.name(),
            ENABLED.name()
        ));
    }
    let text = format!("https://{}:{}", host?, port?);
    Url::parse(&text, &[HTTPS])
        .map_err(|accepted| input.reject(format!("{}: {accepted}", SERVICE_HOST.name())))
        .ok()
}

fn filter(input: &mut Input) -> Filter {
    let namespace = input.value(&NAMESPACE, namespace);
    let host_network = input.switch(&HOST_NETWORK).unwrap_or(false);
    let include = input.list(&INCLUDE, label);
    let exclude = input.list(&EXCLUDE, label);
    if !include.is_empty() && !exclude.is_empty() {
        input.reject(format!(
            "{} and {}: one or the other, not both",
            INCLUDE.name(),
            EXCLUDE.name()
        ));
    }
    // A label has one value, so no DaemonSet would count and the gate would stand open for ever.
    let differs = |a: &Label| include.iter().find(|b| a.key == b.key && a.value != b.value);
    if let Some((a, b)) = include.iter().find_map(|a| Some((a, differs(a)?))) {
        input.reject(format!("{}: {a} and {b} together; no DaemonSet has both", INCLUDE.name()));
    }
    Filter { namespace, host_network, include, exclude }
}

fn base_url(text: &str) -> Result<Url, String> {
    if text.contains('?') {
        return Err("an address without a query (?…)".to_owned());
    }
    Url::parse(text, &[HTTP, HTTPS])
}

fn nonzero_port(text: &str) -> Result<u16, &'static str> {
    address::whole_number(text).filter(|port| *port > 0).ok_or("a port, 1 to 65535")
}

fn file(text: &str) -> Result<PathBuf, Infallible> {
    Ok(PathBuf::from(text))
}

fn namespace(text: &str) -> Result<String, &'static str> {
    let accepted = "a namespace's name: at most 63 lower-case letters, digits and -, beginning and ending with a letter or digit";
    if is_dns_label(text) { Ok(text.to_owned()) } else { Err(accepted) }
}

/// `key:value` as the Go generations wrote it; neither a key nor a value can hold a colon.
pub fn label(text: &str) -> Result<Label, &'static str> {
    let accepted = "KEY:VALUE of a Kubernetes label: the key [PREFIX/]NAME, the value empty or a NAME; a NAME has at most 63 letters, \
                    digits, -, _ and ., beginning and ending with a letter or digit";
    let (key, value) = text.split_once(':').ok_or(accepted)?;
    let is_key = match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label_name(name),
        None => is_label_name(key),
    };
    let is_value = value.is_empty() || is_label_name(value);
    if is_key && is_value {
        Ok(Label { key: key.to_owned(), value: value.to_owned() })
    } else {
        Err(accepted)
    }
}

fn is_label_name(text: &str) -> bool {
    is_framed(text, 63, |b| b.is_ascii_alphanumeric(), |b| matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests;
