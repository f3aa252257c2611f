//! The listening socket, and the check whether an address belongs to this network namespace.
//!
//! The standard library's listener cannot do two things. One socket has to serve both address
//! families also if the node sets `net.ipv6.bindv6only`. And the socket buffers need a bound: the
//! kernel counts them to the container and grows them to megabytes each, so a client that sends
//! without end, or never reads, could fill the container's memory.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::address::Host;
use crate::resolve::Resolver;

/// Connections that wait to be accepted: the pods of a node that connect at the same instant.
const BACKLOG: i32 = 256;

/// The buffer for each direction of a connection; the kernel doubles it for its bookkeeping. A
/// request has at most 8 KiB, and a larger response is written in pieces.
const BUFFER: usize = 16 * 1024;

/// The time for resolving the name in `--host`.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens on the host's first address, or on all addresses of both families (of IPv4 only if IPv6
/// is disabled). `Err` names the address.
pub fn bind(host: Option<&Host>, port: u16) -> Result<TcpListener, String> {
    let any_v6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let address = match host {
        None => any_v6,
        Some(host) => {
            let found = Resolver::default().resolve(host, RESOLVE_TIMEOUT);
            let found = found.map_err(|e| format!("cannot bind {host}:{port}: {e}"))?;
            found.first().copied().unwrap_or(any_v6)
        }
    };
    let mut address = SocketAddr::new(address, port);
    let mut listener = listen(address);
    if host.is_none() && listener.as_ref().is_err_and(is_without_v6) {
        address = (Ipv4Addr::UNSPECIFIED, port).into();
        listener = listen(address);
    }
    listener.map_err(|error| format!("cannot bind {address}: {error}"))
}

/// `true` if the kernel binds a socket to the address, which it does for local addresses only
/// (ip(7)), unless `ip_nonlocal_bind` is set. With that setting an address counts as local if the
/// kernel uses it as the source of packets to itself; this excludes further addresses of the same
/// subnet. If the kernel's result is unclear, the address counts as local.
pub fn is_local(address: IpAddr) -> bool {
    // Documentation addresses are on no interface (RFC 5737, RFC 3849).
    let foreign: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    can_bind(address)
        && (!can_bind(foreign) || source_for(address).map_or(true, |source| source == address))
}

fn can_bind(address: IpAddr) -> bool {
    let socket = SocketAddr::new(address, 0);
    let bound = udp_socket(address).and_then(|udp| udp.bind(&socket.into()));
    bound.err().is_none_or(|error| error.kind() != io::ErrorKind::AddrNotAvailable)
}

/// The source address of datagrams to this address; sends none.
fn source_for(address: IpAddr) -> io::Result<IpAddr> {
    let socket = udp_socket(address)?;
    socket.connect(&SocketAddr::new(address, 9).into())?;
    let source = socket.local_addr()?.as_socket().map(|source| source.ip());
    source.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn udp_socket(address: IpAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(SocketAddr::new(address, 0)), Type::DGRAM, None)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restarted container must get its port although old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted connections inherit the three options (tcp(7)). Each response is one write, so
    // Nagle's algorithm would only delay it.
    socket.set_tcp_nodelay(true)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// EAFNOSUPPORT: the kernel has no IPv6. EADDRNOTAVAIL: IPv6 is disabled.
fn is_without_v6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn without_a_host_both_families_are_served() {
        let listener = bind(None, 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        if listener.local_addr().unwrap().is_ipv6() {
            assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok());
        }
    }

    #[test]
    fn with_a_host_only_its_address_is_served() {
        let listener = bind(Some(&Host::Ip(Ipv4Addr::LOCALHOST.into())), 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        assert!(TcpStream::connect((Ipv4Addr::new(127, 0, 0, 2), port)).is_err());
    }

    #[test]
    fn errors_name_the_address() {
        let taken = bind(Some(&Host::Ip(Ipv4Addr::LOCALHOST.into())), 0).unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(Some(&Host::Ip(address.ip())), address.port()).unwrap_err();
        assert!(error.starts_with(&format!("cannot bind {address}: ")), "{error}");
        let error = bind(Some(&Host::Name("no-such-host.invalid".to_owned())), 1).unwrap_err();
        assert!(error.starts_with("cannot bind no-such-host.invalid:1: "), "{error}");
    }
}
