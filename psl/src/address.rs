//! Hosts, ports and Kubernetes names in settings, requests and logs.
//!
//! Does not resolve names.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The accepted form of a host, for error messages.
const HOST_ACCEPTED: &str =
    "a host name, an IPv4 address, or an IPv6 address with or without brackets";

/// The accepted form of a server's port, for error messages.
const PORT_ACCEPTED: &str = "a port, 0 to 65535";

/// The longest DNS name (RFC 1035, 2.3.4), without its final dot.
const LONGEST_NAME: usize = 253;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Never an IPv4 address in IPv6 form.
    Ip(IpAddr),
    /// A name that is not resolved yet: letters, digits, `.`, `-`, `_`.
    Name(String),
}

impl Host {
    /// Reads `web-0.example`, `10.0.0.1`, `fd00::1`, `[fd00::1]`.
    pub fn parse(text: &str) -> Result<Host, &'static str> {
        if let Some(inner) = text.strip_prefix('[') {
            let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            return address
                .map(|ip| Host::Ip(IpAddr::from(ip).to_canonical()))
                .ok_or(HOST_ACCEPTED);
        }
        match text.parse::<IpAddr>() {
            Ok(ip) => Ok(Host::Ip(ip.to_canonical())),
            Err(_) if is_name(text) => Ok(Host::Name(text.to_owned())),
            Err(_) => Err(HOST_ACCEPTED),
        }
    }

    /// `localhost` is the loopback address without a lookup (RFC 6761, 6.3).
    pub fn is_localhost(&self) -> bool {
        match self {
            Host::Ip(_) => false,
            Host::Name(name) => {
                name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case("localhost")
            }
        }
    }

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

/// The last label has a character that is no digit: `256.1.1.1` is a malformed address, not a name.
fn is_name(text: &str) -> bool {
    let labels = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
    };
    let last = labels.rsplit('.').next().unwrap_or_default();
    labels.len() <= LONGEST_NAME
        && labels.split('.').all(is_label)
        && !last.bytes().all(|b| b.is_ascii_digit())
}

/// The name of a namespace (RFC 1123).
pub fn is_dns_label(text: &str) -> bool {
    has_name_syntax(text, 63, is_lower_alphanumeric, |b| b == b'-')
}

/// The names of most objects in Kubernetes ("Object Names and IDs").
pub fn is_subdomain(text: &str) -> bool {
    let is_label = |label| has_name_syntax(label, 253, is_lower_alphanumeric, |b| b == b'-');
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_lower_alphanumeric(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// The syntax of all names in Kubernetes: `anywhere` selects the characters that may also be the
/// first and the last one, `inside` the additional characters between them.
pub fn has_name_syntax(
    text: &str,
    most: usize,
    anywhere: impl Fn(u8) -> bool,
    inside: impl Fn(u8) -> bool,
) -> bool {
    let [first, .., last] = text.as_bytes() else {
        return text.len() == 1 && text.bytes().all(anywhere);
    };
    text.len() <= most
        && anywhere(*first)
        && anywhere(*last)
        && text.bytes().all(|b| anywhere(b) || inside(b))
}

/// The port of a server; 0 means any free port.
pub fn parse_port(text: &str) -> Result<u16, &'static str> {
    whole_number(text).ok_or(PORT_ACCEPTED)
}

/// Reads digits only: `str::parse` also accepts a plus sign.
pub fn whole_number<N: std::str::FromStr>(text: &str) -> Option<N> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_parsed() {
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
    fn invalid_hosts_are_refused() {
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
    fn ports_are_digits_up_to_65535() {
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
