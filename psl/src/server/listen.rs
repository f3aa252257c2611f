//! Opens the listening socket, and tells whether an address belongs to this network namespace.
//!
//! What the standard library's listener cannot do is why another crate is here: one socket for
//! both address families also where the node sets `net.ipv6.bindv6only`, and buffers that keep a
//! client that sends without end, or never reads, from filling the container's memory: the kernel
//! counts socket buffers to the container, and grows them to megabytes each unless told otherwise.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::address::Host;
use crate::resolve::Resolver;

/// Connections that wait to be accepted: a node's pods that ask in the same instant.
const BACKLOG: i32 = 256;

/// Of each direction of each connection; the kernel doubles it for its own bookkeeping. A request
/// is at most 8 KiB, and a larger answer is written in pieces.
const BUFFER: usize = 16 * 1024;

/// How long the name in `--host` may take to resolve.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens on the host's first address, or on all addresses of both families (of IPv4 alone where
/// IPv6 is off). `Err` names the address.
pub fn bind(host: Option<&Host>, port: u16) -> Result<TcpListener, String> {
    let any_v6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let address = match host {
        None => any_v6,
        Some(host) => {
            let found = Resolver::default().resolve(host, PATIENCE);
            *found
                .map_err(|e| format!("cannot bind {host}:{port}: {e}"))?
                .first()
                .unwrap_or(&any_v6)
        }
    };
    let socket = listen(SocketAddr::new(address, port)).map_err(|e| (address, e));
    let socket = match (socket, host) {
        (Err((_, error)), None) if is_without_v6(&error) => {
            let address = IpAddr::from(Ipv4Addr::UNSPECIFIED);
            listen(SocketAddr::new(address, port)).map_err(|e| (address, e))
        }
        (socket, _) => socket,
    };
    socket.map_err(|(address, error)| {
        format!("cannot bind {}: {error}", SocketAddr::new(address, port))
    })
}

/// Whether this address belongs to this network namespace: the kernel binds a socket to no other address (ip(7)), unless
/// `ip_nonlocal_bind` is set. With it an address counts as local if the kernel would reach it from itself, which leaves out
/// further addresses of the same subnet. If the kernel's answer is unclear, the address counts as local.
pub fn is_local(address: IpAddr) -> bool {
    // Documentation addresses are on no interface (RFC 5737, RFC 3849).
    let foreign: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    can_bind(address)
        && (!can_bind(foreign) || source(address).map_or(true, |source| source == address))
}

fn can_bind(address: IpAddr) -> bool {
    let bound =
        datagrams(address).and_then(|socket| socket.bind(&SocketAddr::new(address, 0).into()));
    bound.err().is_none_or(|error| error.kind() != io::ErrorKind::AddrNotAvailable)
}

/// Where datagrams to this address would come from; none is sent.
fn source(address: IpAddr) -> io::Result<IpAddr> {
    let socket = datagrams(address)?;
    socket.connect(&SocketAddr::new(address, 9).into())?;
    let source = socket.local_addr()?.as_socket().map(|source| source.ip());
    source.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn datagrams(address: IpAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(SocketAddr::new(address, 0)), Type::DGRAM, None)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restarted container must get its port back although old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted connections inherit all three (tcp(7)). Each answer is one write, so that nothing is
    // gained by holding a small one back.
    socket.set_tcp_nodelay(true)?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// EAFNOSUPPORT where the kernel has no IPv6, EADDRNOTAVAIL where it is switched off.
fn is_without_v6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn all_addresses_are_both_families() {
        let listener = bind(None, 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        if listener.local_addr().unwrap().is_ipv6() {
            assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok());
        }
    }

    #[test]
    fn one_address_is_that_one_alone() {
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
