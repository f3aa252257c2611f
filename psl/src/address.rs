//! Hosts and addresses as users write them and as logs show them.
//!
//! Does not resolve names.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What is accepted as a host, for error messages.
pub const HOST_ACCEPTED: &str =
    "a host name, an IPv4 address, or an IPv6 address with or without brackets";

/// What is accepted as a port of a server, where 0 asks for any free one.
pub const PORT_ACCEPTED: &str = "a port, 0 to 65535";

/// The longest name that DNS can hold (RFC 1035, 2.3.4), without its final dot.
const LONGEST_NAME: usize = 253;

/// An address, or a name that is still to be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address; never an IPv4 address in IPv6 form.
    Ip(IpAddr),
    /// A name of letters, digits, `.`, `-`, `_`.
    Name(String),
}

impl Host {
    /// Reads `web-0.example`, `10.0.0.1`, `fd00::1`, `[fd00::1]`.
    pub fn parse(text: &str) -> Result<Host, &'static str> {
        if let Some(inner) = text.strip_prefix('[') {
            let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            return address.map(|ip| Host::Ip(canonical(ip.into()))).ok_or(HOST_ACCEPTED);
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Host::Ip(canonical(ip)));
        }
        if is_name(text) { Ok(Host::Name(text.to_owned())) } else { Err(HOST_ACCEPTED) }
    }
}

impl Host {
    /// The name that is the loopback's by itself (RFC 6761, 6.3).
    pub fn is_localhost(&self) -> bool {
        matches!(self, Host::Name(name) if name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case("localhost"))
    }

    /// This machine, or this pod, alone.
    pub fn is_loopback(&self) -> bool {
        self.is_localhost() || matches!(self, Host::Ip(ip) if ip.is_loopback())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Host::Ip(ip) => ip.fmt(f),
            Host::Name(name) => f.write_str(name),
        }
    }
}

/// Labels of 1 to 63 characters, and not all digits at the end: `256.1.1.1` is a broken address,
/// not a name.
fn is_name(text: &str) -> bool {
    let labels = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
    };
    let ends_in_digits =
        labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    labels.len() <= LONGEST_NAME && labels.split('.').all(is_label) && !ends_in_digits
}

/// A label of letters and digits, with dashes inside: the name of a namespace (RFC 1123).
pub fn is_dns_label(text: &str) -> bool {
    is_framed(text, 63, is_lower_alphanumeric, |b| b == b'-')
}

/// The names of most objects in Kubernetes ("Object Names and IDs").
pub fn is_subdomain(text: &str) -> bool {
    let is_part = |part| is_framed(part, 253, is_lower_alphanumeric, |b| b == b'-');
    text.len() <= 253 && text.split('.').all(is_part)
}

fn is_lower_alphanumeric(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// The rule of all names in Kubernetes: some characters may stand anywhere, some only inside.
pub fn is_framed(
    text: &str,
    most: usize,
    anywhere: impl Fn(u8) -> bool,
    inside: impl Fn(u8) -> bool,
) -> bool {
    let ends_well = |b: Option<&u8>| b.is_some_and(|b| anywhere(*b));
    let bytes = text.as_bytes();
    bytes.len() <= most
        && ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.iter().all(|b| anywhere(*b) || inside(*b))
}

/// `::ffff:a.b.c.d` is a.b.c.d: a dual-stack socket shows IPv4 clients in that form.
pub fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// A socket's address with [`canonical`] applied.
pub fn canonical_socket(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical(address.ip()), address.port())
}

/// A port of a server; 0 asks for any free one.
pub fn parse_port(text: &str) -> Result<u16, &'static str> {
    whole_number(text).ok_or(PORT_ACCEPTED)
}

/// Digits alone: Rust's own parser would take a plus sign too.
pub fn whole_number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, expected) in [
            ("localhost", "localhost"),
            ("lock.psl.svc.", "lock.psl.svc."),
            ("a_b-c.1a", "a_b-c.1a"),
            ("10.0.0.1", "10.0.0.1"),
            ("fd00::1", "[fd00::1]"),
            ("[fd00::1]", "[fd00::1]"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("[::ffff:10.0.0.1]", "10.0.0.1"),
        ] {
            assert_eq!(Host::parse(text).map(|h| h.to_string()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn not_hosts() {
        let (long, longer) =
            (format!("{}.example", "a".repeat(64)), format!("{}bc", "a.".repeat(126)));
        assert_eq!((longer.len(), Host::parse(&longer[1..]).is_err()), (254, true));
        assert!(
            Host::parse(&longer[..253]).is_ok()
                && Host::parse(&format!("{}.", &longer[..253])).is_ok()
        );
        for text in [
            "",
            ".",
            "a..b",
            "-a",
            "a b",
            "256.1.1.1",
            "1.2.3",
            "[10.0.0.1]",
            "[fd00::1",
            "fd00::1]",
            "a/b",
            "a:80",
            "u@h",
            "ü",
            &long,
            &longer,
        ] {
            assert!(Host::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports() {
        for (text, expected) in [
            ("0", Some(0)),
            ("8888", Some(8888)),
            ("65535", Some(65535)),
            ("65536", None),
            ("+1", None),
            ("-1", None),
            ("", None),
            ("tcp://10.0.0.1:8888", None),
        ] {
            assert_eq!(parse_port(text).ok(), expected, "{text}");
        }
    }
}
