//! `resolv.conf(5)`, read as glibc reads it: lines of any length, any number of search domains.
//!
//! Takes text and opens no file. Ignores the variables `LOCALDOMAIN` and `RES_OPTIONS`: the
//! settings of these programs are `PSL_…`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// glibc's MAXNS; further `nameserver` lines are ignored.
const MOST_SERVERS: usize = 3;

/// glibc's bounds of `ndots`, `timeout` in seconds, and `attempts`.
const MOST_NDOTS: usize = 15;
const MOST_TIMEOUT: usize = 30;
const MOST_ATTEMPTS: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<SocketAddr>,
    /// No line names a server; `servers` holds glibc's default, this machine.
    pub is_default: bool,
    /// The search domains, separated by white space. One text, because the list may be very long.
    search: String,
    /// A name with this many dots is queried before its combinations with the search domains.
    pub ndots: usize,
    pub timeout: Duration,
    pub attempts: usize,
    /// Begin with a random server.
    pub rotate: bool,
    /// The option `use-vc`: queries over TCP alone.
    pub use_tcp: bool,
    /// Query IPv4 addresses only.
    pub no_aaaa: bool,
    /// Query a name without a dot in the search domains only.
    pub no_tld_query: bool,
}

impl ResolvConf {
    /// Reads the file's text. `hostname` gives the search domain if no line does; `interface_index`
    /// maps the name of a network interface to its number; `port` is that of all servers.
    pub fn parse(
        text: &str,
        hostname: impl Fn() -> String,
        interface_index: impl Fn(&str) -> u32,
        port: u16,
    ) -> ResolvConf {
        let mut conf = ResolvConf::empty();
        // A keyword begins its line, and white space follows it: a comment has neither form.
        for (keyword, rest) in text.lines().filter_map(|line| line.split_once([' ', '\t'])) {
            let mut words = rest.split_ascii_whitespace();
            match (keyword, words.clone().next()) {
                ("nameserver", Some(word)) if conf.servers.len() < MOST_SERVERS => {
                    conf.servers.extend(server(word, &interface_index, port));
                }
                // The last of these two lines counts; one without a domain is ignored.
                ("search", Some(_)) => conf.search = rest.to_owned(),
                ("domain", Some(domain)) => conf.search = domain.to_owned(),
                ("options", _) => words.by_ref().for_each(|word| conf.set(word)),
                _ => {}
            }
        }
        if conf.search.is_empty() {
            let hostname = hostname();
            conf.search = hostname.split_once('.').unwrap_or_default().1.to_owned();
        }
        if conf.servers.is_empty() {
            conf.is_default = true;
            conf.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        }
        conf
    }

    /// glibc's defaults, without a server.
    fn empty() -> ResolvConf {
        ResolvConf {
            servers: Vec::new(),
            is_default: false,
            search: String::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            use_tcp: false,
            no_aaaa: false,
            no_tld_query: false,
        }
    }

    /// One word of an `options` line; an unknown word is ignored.
    fn set(&mut self, word: &str) {
        let number =
            |name: &str, most| word.strip_prefix(name).map(|text| leading_number(text).min(most));
        if let Some(ndots) = number("ndots:", MOST_NDOTS) {
            self.ndots = ndots;
        } else if let Some(seconds) = number("timeout:", MOST_TIMEOUT) {
            // Zero means one second, as in glibc.
            self.timeout = Duration::from_secs(seconds.max(1) as u64);
        } else if let Some(attempts) = number("attempts:", MOST_ATTEMPTS) {
            // Zero means one; glibc then queries no server.
            self.attempts = attempts.max(1);
        }
        self.rotate |= word.starts_with("rotate");
        self.use_tcp |= word.starts_with("use-vc");
        self.no_aaaa |= word.starts_with("no-aaaa");
        self.no_tld_query |= word.starts_with("no-tld-query") || word.starts_with("no_tld_query");
    }

    /// The first search domain from this byte of the list on, and the byte after it. Counting a
    /// long list from its start for each domain would exceed every timeout.
    pub fn domain(&self, from: usize) -> Option<(&str, usize)> {
        let rest = self.search.get(from..)?;
        let domain = rest.split_ascii_whitespace().next()?;
        let start = from + rest.len() - rest.trim_ascii_start().len();
        Some((domain, start + domain.len()))
    }
}

/// Reads a number like `atoi(3)`, which glibc uses: no digits are zero.
fn leading_number(text: &str) -> usize {
    let digits = text.bytes().take_while(u8::is_ascii_digit);
    digits.fold(0, |sum: usize, digit| {
        sum.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
    })
}

/// Reads an address. A link-local IPv6 address may name its interface.
fn server(word: &str, interface_index: impl Fn(&str) -> u32, port: u16) -> Option<SocketAddr> {
    if let Some((address, interface)) = word.split_once('%') {
        let index = interface.parse().unwrap_or_else(|_| interface_index(interface));
        return Some(SocketAddrV6::new(address.parse::<Ipv6Addr>().ok()?, port, 0, index).into());
    }
    word.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ResolvConf {
        ResolvConf::parse(text, String::new, |_| 7, 53)
    }

    fn servers(text: &str) -> Vec<String> {
        parse(text).servers.iter().map(ToString::to_string).collect()
    }

    fn domains(conf: &ResolvConf) -> Vec<&str> {
        std::iter::successors(conf.domain(0), |(_, end)| conf.domain(*end))
            .map(|(domain, _)| domain)
            .collect()
    }

    #[test]
    fn name_servers_are_parsed() {
        for (text, expected) in [
            ("", &["127.0.0.1:53"][..]),
            ("nameserver\nnameserver x\nnameserver 10.0.0.256\n", &["127.0.0.1:53"]),
            ("nameserver 10.0.0.1", &["10.0.0.1:53"]),
            ("nameserver\t 10.0.0.1 \t # x\r\n", &["10.0.0.1:53"]),
            (
                "# nameserver 10.0.0.1\n;nameserver 10.0.0.2\n nameserver 10.0.0.3\n",
                &["127.0.0.1:53"],
            ),
            ("#nameserver 10.0.0.1\nNameserver 10.0.0.2\nnameserver10.0.0.3\n", &["127.0.0.1:53"]),
            (
                "nameserver fd00::a\nnameserver fe80::1%eth0\nnameserver fe80::1%3\n",
                &["[fd00::a]:53", "[fe80::1%7]:53", "[fe80::1%3]:53"],
            ),
            (
                "nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n",
                &["10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53"],
            ),
            ("nameserver ::ffff:10.0.0.1\n", &["10.0.0.1:53"]),
        ] {
            assert_eq!(servers(text), expected, "{text}");
            assert_eq!(parse(text).is_default, expected == ["127.0.0.1:53"], "{text}");
        }
    }

    #[test]
    fn search_domains_are_parsed() {
        for (text, expected) in [
            ("", &[][..]),
            ("search a.example b.example\n", &["a.example", "b.example"]),
            ("search a\nsearch b c\n", &["b", "c"]),
            ("domain a\nsearch b c\n", &["b", "c"]),
            ("search b c\ndomain a d\n", &["a"]),
            ("search a\nsearch \nsearch\n", &["a"]),
            ("search\ta \t b\t", &["a", "b"]),
            ("search .\n", &["."]),
            ("searcha\n search b\n", &[]),
        ] {
            assert_eq!(domains(&parse(text)), expected, "{text}");
        }
        let many: Vec<String> = (0..32).map(|n| format!("{n}.{}", "a.".repeat(1022))).collect();
        assert_eq!(domains(&parse(&format!("search {}\n", many.join(" ")))), many);
        for (hostname, text, expected) in [
            ("web-0\n", "", &[][..]),
            ("web-0.web.example\n", "", &["web.example"]),
            ("web-0.web.example", "search b", &["b"]),
        ] {
            assert_eq!(
                domains(&ResolvConf::parse(text, || hostname.to_owned(), |_| 0, 53)),
                expected,
                "{hostname}"
            );
        }
    }

    #[test]
    fn options_are_parsed() {
        let read = |text: &str| {
            let conf = parse(text);
            (conf.ndots, conf.timeout.as_secs(), conf.attempts)
        };
        for (text, expected) in [
            ("", (1, 5, 2)),
            ("options ndots:5 timeout:2 attempts:3\n", (5, 2, 3)),
            ("options\tndots:5\noptions timeout:2\n", (5, 2, 2)),
            ("options ndots:0 timeout:0 attempts:0\n", (0, 1, 1)),
            ("options ndots:99 timeout:99 attempts:99\n", (15, 30, 5)),
            ("options ndots:x timeout: attempts:4x\n", (0, 1, 4)),
            ("options ndots:99999999999999999999999\n", (15, 5, 2)),
            ("options ndots: 5 edns0 trust-ad inet6 single-request debug unheard-of\n", (0, 5, 2)),
            ("#options ndots:5\noption ndots:5\n", (1, 5, 2)),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        let conf = parse("options rotate use-vc no-aaaa no-tld-query\n");
        assert!(conf.rotate && conf.use_tcp && conf.no_aaaa && conf.no_tld_query);
    }
}
