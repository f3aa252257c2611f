//! Accepts connections for the servers of this crate and gives each to a thread. Can refuse
//! connections and take them again on the same port, and can end a connection in each of the ways
//! that TCP and TLS have. Does not know the protocol above.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ServerConfig, ServerConnection, Stream};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// A listening server; ended, with all its connections, on drop.
pub(crate) struct Listener {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    socket: Socket,
    stop: AtomicBool,
    refuse: AtomicBool,
    accepted: AtomicUsize,
    /// A second handle of each open connection, by which the server ends it.
    open: Mutex<HashMap<usize, TcpStream>>,
}

/// A TCP stream, or TLS over one.
pub(crate) trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// How a connection ends.
pub(crate) enum End {
    Close,
    /// As `Close`, but without TLS's `close_notify`.
    Cut,
    /// Silently, when the other side or the server ends.
    Hold,
    Reset,
}

pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// The number of connections that were accepted before.
    pub(crate) number: usize,
    shared: Arc<Shared>,
}

impl Listener {
    pub(crate) fn start(
        address: SocketAddr,
        serve: impl Fn(Accepted) + Send + Sync + 'static,
    ) -> Listener {
        let chosen = bound(address);
        let address = chosen.local_addr().unwrap().as_socket().unwrap();
        // A socket that is shut down loses a port that the system chose, and keeps a port that was
        // asked for.
        let socket = bound(address);
        drop(chosen);
        socket.listen(1024).unwrap();
        socket.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            socket,
            stop: AtomicBool::new(false),
            refuse: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let (handler, serve) = (Arc::clone(&shared), Arc::new(serve));
        std::thread::spawn(move || accept_until_stopped(&handler, &serve));
        Listener { shared, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of accepted connections.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Refuses connections and ends the open ones, or listens again. The port stays bound
    /// meanwhile.
    pub(crate) fn refuse(&self, refuse: bool) {
        if self.shared.refuse.swap(refuse, Ordering::SeqCst) == refuse {
            return;
        }
        if refuse {
            // A listening socket that is shut down is only bound: the kernel refuses connections.
            self.shared.socket.shutdown(Shutdown::Both).unwrap();
            self.shared.end_all();
        } else {
            self.shared.socket.listen(1024).unwrap();
        }
    }
}

fn bound(address: SocketAddr) -> Socket {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap_or_else(|error| panic!("cannot bind {address}: {error}"));
    socket
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Fails if the socket refuses connections already.
        let _ = self.shared.socket.shutdown(Shutdown::Both);
        self.shared.end_all();
    }
}

impl Shared {
    fn end_all(&self) {
        for stream in self.open.lock().unwrap().values() {
            // Fails if the other side has ended the connection.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept_until_stopped(
    shared: &Arc<Shared>,
    serve: &Arc<impl Fn(Accepted) + Send + Sync + 'static>,
) {
    let pause = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while !shared.stop.load(Ordering::SeqCst) {
        if shared.refuse.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let mut polled = [PollFd::new(&shared.socket, PollFlags::IN)];
        // An interrupted poll is a short one.
        let _ = poll(&mut polled, Some(&pause));
        let Ok((socket, peer)) = shared.socket.accept() else { continue };
        let stream = TcpStream::from(socket);
        let (Ok(()), Ok(handle)) = (stream.set_nonblocking(false), stream.try_clone()) else {
            continue;
        };
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        shared.open.lock().unwrap().insert(number, handle);
        let accepted = Accepted {
            stream,
            peer: peer.as_socket().expect("a TCP connection"),
            number,
            shared: Arc::clone(shared),
        };
        let serve = Arc::clone(serve);
        std::thread::spawn(move || serve(accepted));
    }
}

impl Accepted {
    /// Speaks to the peer, over TLS if configured, and ends the connection as `speak` says.
    pub(crate) fn serve(
        mut self,
        tls: Option<Arc<ServerConfig>>,
        speak: impl FnOnce(&mut dyn Wire, SocketAddr) -> io::Result<End>,
    ) {
        let end = match tls {
            None => speak(&mut self.stream, self.peer),
            Some(config) => {
                let mut tls = ServerConnection::new(config).unwrap();
                let end = speak(&mut Stream::new(&mut tls, &mut self.stream), self.peer);
                if matches!(end, Ok(End::Close)) {
                    tls.send_close_notify();
                    // Fails if the client has closed the connection.
                    let _ = tls.write_tls(&mut self.stream);
                }
                end
            }
        };
        match end {
            Ok(End::Hold) => self.hold(),
            Ok(End::Reset) => self.reset(),
            // A client that closes the connection, or fails the handshake, is the usual end.
            Ok(End::Close | End::Cut) | Err(_) => self.finish(),
        }
    }

    /// Ends the connection by a reset.
    pub(crate) fn reset(self) {
        // Without lingering, and without the second handle (see the drop), the close is a reset.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Ends the connection and lets the other side receive all bytes. With bytes unread, the close
    /// would be a reset.
    pub(crate) fn finish(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let deadline = Instant::now() + Duration::from_secs(1);
        let _ = self.stream.set_read_timeout(Some(Duration::from_millis(200)));
        let mut buffer = [0; 4096];
        while self.stream.read(&mut buffer).is_ok_and(|read| read > 0) && Instant::now() < deadline
        {
        }
    }

    /// Sends no byte until the other side, or the end of the server, ends the connection.
    pub(crate) fn hold(mut self) {
        let _ = self.stream.set_read_timeout(None);
        let mut buffer = [0; 4096];
        while self.stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.shared.open.lock().unwrap().remove(&self.number);
    }
}
