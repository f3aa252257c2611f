//! An application for a lock: a port that refuses connections until the application is ready. Does
//! not know the protocol or the clients of the port.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

/// An application that is not ready. It has bound its port, so that no other program can answer
/// there.
pub struct Application {
    socket: Socket,
    address: SocketAddr,
}

impl Application {
    #[track_caller]
    pub fn starting(address: impl Into<IpAddr>) -> Application {
        let address = SocketAddr::new(address.into(), 0);
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket
            .bind(&address.into())
            .unwrap_or_else(|error| panic!("cannot bind {address}: {error}"));
        let address = socket.local_addr().unwrap().as_socket().expect("an address with a port");
        Application { socket, address }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The value for `--ready` and `?ready=`.
    pub fn ready(&self) -> String {
        format!("tcp:{}", self.port())
    }

    /// Another handle, for another process that opens the port.
    pub fn socket(&self) -> OwnedFd {
        self.socket.try_clone().unwrap().into()
    }

    /// Lets the kernel accept connections, even if no one calls accept on the listener.
    pub fn open(self) -> TcpListener {
        self.socket.listen(16).unwrap();
        self.socket.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpStream};

    #[test]
    fn an_application_refuses_until_it_opens() {
        let application = Application::starting(Ipv4Addr::new(127, 0, 3, 1));
        let address = application.address;
        assert_eq!(address.ip(), Ipv4Addr::new(127, 0, 3, 1));
        assert_eq!(
            TcpStream::connect(address).unwrap_err().kind(),
            std::io::ErrorKind::ConnectionRefused
        );
        let _open = application.open();
        TcpStream::connect(address).unwrap();
    }
}
