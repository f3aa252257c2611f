//! The settings of `health` and their validation. The file reads no other file: a file may change
//! while the program runs, so its content is no configuration error.

mod settings;

use std::cell::Cell;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use psl::address::{self, Host, has_name_syntax, is_dns_label, is_subdomain};
use psl::client::url::{HTTP, HTTPS, Url};
use psl::protocol::node::NodeName;
use psl::settings::{Input, Setting};
use psl::{duration, logging};

use crate::core::boot::BootCheckMode;
use crate::core::filter::{Filter, Label};
use crate::core::load::LoadSettings;
pub use settings::PROGRAM;
use settings::*;

const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const SERVICE_ACCOUNT_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

const DEFAULT_PORT: u16 = 9999;
const DEFAULT_FAIL_PERIOD: Duration = Duration::from_secs(10);
const DEFAULT_PASS_PERIOD: Duration = Duration::from_secs(60);
const DEFAULT_BOOT_GRACE: Duration = Duration::from_secs(300);
const DEFAULT_STALE_AFTER: Duration = Duration::from_secs(300);
const DEFAULT_LOAD_THRESHOLD: u8 = 80;
const DEFAULT_LOAD_PERIOD: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `None` means all addresses.
    pub host: Option<Host>,
    pub port: u16,
    /// `None` if neither DaemonSets nor node conditions nor the load count.
    pub cluster: Option<ClusterConfig>,
    pub logging: logging::LogConfig,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    pub node: NodeName,
    pub server: ApiServer,
    /// `None` if DaemonSets do not count.
    pub filter: Option<Filter>,
    pub fail_period: Duration,
    pub pass_period: Duration,
    pub latch: bool,
    pub conditions: bool,
    pub boot_check: BootCheckMode,
    pub boot_grace: Duration,
    pub stale_after: Duration,
    /// `None` if the load does not count.
    pub load: Option<LoadSettings>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    pub url: Url,
    /// Verifies the server's certificate. Unused with `http://`.
    pub ca_file: PathBuf,
    pub token_file: Option<PathBuf>,
}

/// Reads every setting. `Err` holds all errors, one line each.
pub fn read(mut input: Input) -> Result<Config, Vec<String>> {
    let host = input.value(&HOST, Host::parse);
    let port = input.value(&PORT, address::parse_port).unwrap_or(DEFAULT_PORT);
    let cluster = cluster(&mut input);
    let logging = logging::LogConfig::take(&mut input);
    input.finish()?;
    let cluster = cluster.map_err(|error| vec![error])?;
    Ok(Config { host, port, cluster, logging })
}

/// `Ok(None)` if no check is enabled. `Err` if a required setting is missing, so that a gap in the
/// validation never means an open gate.
fn cluster(input: &mut Input) -> Result<Option<ClusterConfig>, String> {
    let node = node_name(input);
    let daemonsets = input.switch(&ENABLED).unwrap_or(true);
    let conditions = input.switch(&CONDITIONS);
    let stale_after =
        input.value(&STALE_AFTER, duration::parse_nonzero).unwrap_or(DEFAULT_STALE_AFTER);
    let load = load(input, stale_after);
    let needs_server = daemonsets || conditions == Some(true) || load.is_some();
    let (is_in_cluster, server) = server(input, needs_server);
    // Conditions count if an API server is configured.
    let conditions = conditions.unwrap_or(needs_server || server.is_some());
    let filter = filter(input);
    let fail_period = period(input, &FAIL_PERIOD, DEFAULT_FAIL_PERIOD);
    let pass_period = period(input, &PASS_PERIOD, DEFAULT_PASS_PERIOD);
    let latch = input.value(&LATCH, parse_latch).unwrap_or(false);
    let boot_check = boot_check(input, is_in_cluster);
    let boot_grace =
        input.value(&BOOT_GRACE, duration::parse_nonzero).unwrap_or(DEFAULT_BOOT_GRACE);
    if !needs_server && !conditions {
        return Ok(None);
    }
    let (Some(node), Some(server)) = (node, server) else {
        return Err(format!("{} and {}: both are required", NODE_NAME.name(), BASE_URL.name()));
    };
    let filter = daemonsets.then_some(filter);
    Ok(Some(ClusterConfig {
        node,
        server,
        filter,
        fail_period,
        pass_period,
        latch,
        conditions,
        boot_check,
        boot_grace,
        stale_after,
        load,
    }))
}

fn node_name(input: &mut Input) -> Option<NodeName> {
    let node = optional(input, &NODE_NAME, NodeName::parse);
    if node.is_none() {
        input.reject(format!("{}: required; {}", NODE_NAME.name(), NODE_NAME.purpose()));
    }
    node.flatten()
}

/// `Some(None)` if the value is invalid, which is an error already.
fn optional<T, E: ToString>(
    input: &mut Input,
    setting: &Setting,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Option<Option<T>> {
    let is_present = Cell::new(false);
    let value = input.value(setting, |text| {
        is_present.set(true);
        parse(text)
    });
    is_present.get().then_some(value)
}

fn period(input: &mut Input, setting: &Setting, default: Duration) -> Duration {
    input.value(setting, duration::parse_period).unwrap_or(default)
}

fn load(input: &mut Input, stale_after: Duration) -> Option<LoadSettings> {
    let is_enabled = input.switch(&LOAD_ENABLED).unwrap_or(false);
    let threshold = input.value(&LOAD_THRESHOLD, parse_percent).unwrap_or(DEFAULT_LOAD_THRESHOLD);
    let period = period(input, &LOAD_PERIOD, DEFAULT_LOAD_PERIOD);
    is_enabled.then_some(LoadSettings { threshold, period, stale_after })
}

fn parse_percent(text: &str) -> Result<u8, &'static str> {
    address::whole_number(text)
        .filter(|number| *number <= 100)
        .ok_or("a whole number of percent, 0 to 100")
}

fn parse_latch(text: &str) -> Result<bool, &'static str> {
    match text {
        "boot" => Ok(true),
        "off" => Ok(false),
        _ => Err("boot, off"),
    }
}

/// Outside of a pod, health may run on another machine than the node.
fn boot_check(input: &mut Input, is_in_cluster: bool) -> BootCheckMode {
    let mode = input.value(&BOOT_CHECK, |text| match text {
        "on" => Ok(BootCheckMode::On),
        "off" => Ok(BootCheckMode::Off),
        "auto" => Ok(BootCheckMode::Auto),
        _ => Err("on, off, auto"),
    });
    match mode.unwrap_or(BootCheckMode::Auto) {
        BootCheckMode::Auto if !is_in_cluster => BootCheckMode::Off,
        mode => mode,
    }
}

/// The API server, and whether it was found by the variables of a pod.
fn server(input: &mut Input, is_required: bool) -> (bool, Option<ApiServer>) {
    let base_url = optional(input, &BASE_URL, parse_base_url);
    let is_in_cluster = base_url.is_none();
    let ca_file = input.value(&CA_FILE, parse_path).unwrap_or_else(|| SERVICE_ACCOUNT_CA.into());
    let token_file = input.value(&TOKEN_FILE, parse_path);
    let Some(url) = base_url.unwrap_or_else(|| in_cluster_url(input, is_required)) else {
        return (is_in_cluster, None);
    };
    let is_plain = url.scheme == HTTP.0;
    if is_plain && token_file.is_some() && !url.host.is_loopback() {
        input.reject(format!(
            "{}: not with {url}, the token would be sent unencrypted; use https://, or http:// to \
             the loopback",
            TOKEN_FILE.name()
        ));
    }
    // Plain HTTP means a proxy with its own credentials; it must not see the service account's
    // token.
    let token_file = token_file.or_else(|| (!is_plain).then(|| SERVICE_ACCOUNT_TOKEN.into()));
    (is_in_cluster, Some(ApiServer { url, ca_file, token_file }))
}

fn in_cluster_url(input: &mut Input, is_required: bool) -> Option<Url> {
    let host = optional(input, &SERVICE_HOST, Host::parse);
    let port = optional(input, &SERVICE_PORT, parse_nonzero_port);
    if is_required && (host.is_none() || port.is_none()) {
        input.reject(format!(
            "{}: no API server; set it, or run in a pod, where Kubernetes sets {} and {}, or set \
             {}=false",
            BASE_URL.name(),
            SERVICE_HOST.name(),
            SERVICE_PORT.name(),
            ENABLED.name()
        ));
    }
    let text = format!("https://{}:{}", host??, port??);
    match Url::parse(&text, &[HTTPS]) {
        Ok(url) => Some(url),
        Err(accepted) => {
            input.reject(format!("{}: {accepted}", SERVICE_HOST.name()));
            None
        }
    }
}

fn filter(input: &mut Input) -> Filter {
    let namespace = input.value(&NAMESPACE, parse_namespace);
    let host_network = input.switch(&HOST_NETWORK).unwrap_or(false);
    let include = input.list(&INCLUDE, parse_label);
    let exclude = input.list(&EXCLUDE, parse_label);
    if !include.is_empty() && !exclude.is_empty() {
        let (include, exclude) = (INCLUDE.name(), EXCLUDE.name());
        input.reject(format!("{include} and {exclude}: set one of them, not both"));
    }
    // A label has one value, so no DaemonSet would count and the gate would always be open.
    for (at, a) in include.iter().enumerate() {
        let other = include[at..].iter().find(|b| a.key == b.key && a.value != b.value);
        if let Some(b) = other {
            input.reject(format!("{}: no DaemonSet has both {a} and {b}", INCLUDE.name()));
            break;
        }
    }
    Filter { namespace, host_network, include, exclude }
}

fn parse_base_url(text: &str) -> Result<Url, String> {
    if text.contains('?') {
        return Err("an address without a query (?…)".to_owned());
    }
    Url::parse(text, &[HTTP, HTTPS])
}

fn parse_nonzero_port(text: &str) -> Result<u16, &'static str> {
    address::whole_number(text).filter(|port| *port > 0).ok_or("a port, 1 to 65535")
}

fn parse_path(text: &str) -> Result<PathBuf, Infallible> {
    Ok(PathBuf::from(text))
}

fn parse_namespace(text: &str) -> Result<String, &'static str> {
    let accepted = "the name of a namespace: at most 63 lower-case letters, digits and -, \
                    beginning and ending with a letter or digit";
    if is_dns_label(text) { Ok(text.to_owned()) } else { Err(accepted) }
}

/// `key:value` as the Go generations wrote it; neither a key nor a value contains a colon.
pub fn parse_label(text: &str) -> Result<Label, &'static str> {
    let accepted = "KEY:VALUE of a Kubernetes label: the key [PREFIX/]NAME, the value empty or a \
                    NAME; a NAME has at most 63 letters, digits, -, _ and ., beginning and ending \
                    with a letter or digit";
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
    has_name_syntax(text, 63, |b| b.is_ascii_alphanumeric(), |b| matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests;
