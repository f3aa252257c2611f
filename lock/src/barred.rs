//! Addresses that are never probed: those of the node, of lock itself and of gateways.
//!
//! A probe goes to the address that a request came from. If that address is the node's (a host port
//! shows the bridge's gateway, a masquerade the node's own address), any pod could make lock send
//! requests to ports of the node that the pod itself cannot reach.
//!
//! Loopback addresses are probed: a client there shares lock's network namespace, and reaches these
//! ports itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use psl::server::listen::is_local;

use crate::file::read;

/// The routes of lock's own network namespace (proc(5), `/proc/net/route`).
const ROUTES_V4: &str = "/proc/net/route";
const ROUTES_V6: &str = "/proc/net/ipv6_route";

/// 500 routes. A pod has a handful; a node may have thousands, but its default route comes first.
const LARGEST: u64 = 64 * 1024;

/// The reason why no port of this address is probed; `None` if probes are allowed. `node` has the
/// node's addresses from the settings.
pub fn bar_reason(address: IpAddr, node: &[IpAddr]) -> Option<&'static str> {
    if node.contains(&address) {
        Some("an address of the node")
    } else if address.is_loopback() {
        None
    } else if is_link_local(address) {
        Some("a link-local address")
    } else if is_local(address) {
        Some("an address of this lock")
    } else if is_gateway(address) {
        Some("a gateway")
    } else {
        None
    }
}

/// No pod may reach a link-local address through lock: a cloud serves its metadata there.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// A missing file has no routes.
fn is_gateway(address: IpAddr) -> bool {
    let (file, gateway): (_, fn(&str) -> Option<IpAddr>) =
        if address.is_ipv4() { (ROUTES_V4, gateway_v4) } else { (ROUTES_V6, gateway_v6) };
    let routes = read(Path::new(file), LARGEST).unwrap_or_default();
    routes.lines().any(|line| gateway(line) == Some(address))
}

/// The third column of `/proc/net/route`: an address in network byte order, printed as one number.
fn gateway_v4(line: &str) -> Option<IpAddr> {
    let number = u32::from_str_radix(line.split_whitespace().nth(2)?, 16).ok()?;
    let gateway = Ipv4Addr::from(number.to_ne_bytes());
    (!gateway.is_unspecified()).then(|| gateway.into())
}

/// The fifth column of `/proc/net/ipv6_route`: the 32 digits of the next hop.
fn gateway_v6(line: &str) -> Option<IpAddr> {
    let digits = line.split_whitespace().nth(4).filter(|digits| digits.len() == 32)?;
    let gateway = Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?);
    (!gateway.is_unspecified()).then(|| gateway.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn by_the_address_alone() {
        let node = [ip("10.0.0.7"), ip("fd00::7")];
        for (address, expected) in [
            ("127.0.0.1", None),
            ("127.8.9.10", None),
            ("::1", None),
            ("169.254.169.254", Some("a link-local address")),
            ("fe80::1", Some("a link-local address")),
            ("10.0.0.7", Some("an address of the node")),
            ("fd00::7", Some("an address of the node")),
            ("0.0.0.0", Some("an address of this lock")),
            // An address for benchmarks (RFC 2544) is neither this machine's nor a gateway's.
            ("198.19.77.77", None),
        ] {
            assert_eq!(bar_reason(ip(address), &node), expected, "{address}");
        }
    }

    #[test]
    fn own_addresses() {
        match testkit::own_address() {
            Some(address) => {
                assert_eq!(bar_reason(address, &[]), Some("an address of this lock"), "{address}");
            }
            None => testkit::skip("an address of this machine is barred: it has the loopback only"),
        }
    }

    #[test]
    fn gateways() {
        let number = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let route = format!(
            "eth0\t00000000\t{}\t0003\t0\t0\t0\t00000000\t0\t0\t0",
            number([10, 244, 1, 1])
        );
        assert_eq!(gateway_v4(&route), Some(ip("10.244.1.1")));
        for line in [
            "eth0\t0001F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
            "Iface\tDestination\tGateway \tFlags",
            "",
            "a b",
        ] {
            assert_eq!(gateway_v4(line), None, "{line}");
        }
        let zeros = "0".repeat(32);
        let route = format!(
            "{zeros} 00 {zeros} 00 fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth0"
        );
        assert_eq!(gateway_v6(&route), Some(ip("fd00::1")));
        for line in [
            format!("{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo"),
            String::new(),
        ] {
            assert_eq!(gateway_v6(&line), None, "{line}");
        }
    }
}
