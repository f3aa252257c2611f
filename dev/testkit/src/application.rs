//! An application as a lock sees it: a port that refuses connections until the application is ready. Does not know what
//! the port is for, nor who looks at it.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

/// Not ready yet. The port is its own from the start, so that nobody else can answer there.
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

    /// What `--ready` and `?ready=` take.
    pub fn ready(&self) -> String {
        format!("tcp:{}", self.port())
    }

    /// Another handle, for a process of its own that is to open the port.
    pub fn socket(&self) -> OwnedFd {
        self.socket.try_clone().unwrap().into()
    }

    /// From now on the kernel accepts connections, whether anybody asks the listener for them or not.
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
    fn refuses_until_it_is_open() {
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
