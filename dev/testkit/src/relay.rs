//! A relay between a client and a server: forwards each request from another address, and cuts some
//! of the answers. One request a connection. Of HTTP it knows only the target and the status.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::CEILING;
use crate::http::connect_from;
use crate::listening::{Accepted, Listener};
use crate::scripted::read_request;

/// A running relay; ends on drop.
pub struct Relay {
    listening: Listener,
    route: Arc<Route>,
}

/// Chooses the address for the decoded pairs of a query.
type From = dyn Fn(&[(String, String)]) -> IpAddr + Send + Sync;

struct Route {
    server: SocketAddr,
    from: Box<From>,
    cut_each: usize,
    answers: AtomicUsize,
    cut: Mutex<Vec<u16>>,
}

impl Relay {
    /// Forwards to this server, from the address that `from` chooses for a request's query. It cuts
    /// each `cut_each`th answer in its middle.
    pub fn start(
        server: SocketAddr,
        cut_each: usize,
        from: impl Fn(&[(String, String)]) -> IpAddr + Send + Sync + 'static,
    ) -> Relay {
        let route = Route {
            server,
            from: Box::new(from),
            cut_each,
            answers: AtomicUsize::new(0),
            cut: Mutex::default(),
        };
        let route = Arc::new(route);
        let handler = Arc::clone(&route);
        let listening = Listener::start((Ipv4Addr::LOCALHOST, 0).into(), move |accepted| {
            handler.pass(accepted);
        });
        Relay { listening, route }
    }

    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The statuses of the answers that were cut.
    pub fn cut(&self) -> Vec<u16> {
        self.route.cut.lock().unwrap().clone()
    }
}

impl Route {
    /// A client or a server that closes its connection ends only that connection.
    fn pass(&self, mut accepted: Accepted) {
        let Ok(request) = read_request(&mut accepted.stream, accepted.peer) else { return };
        let from = (self.from)(&request.query());
        let Ok(mut server) = connect_from(Some(from), self.server, CEILING) else { return };
        let (Ok(mut client), Ok(of_server)) = (accepted.stream.try_clone(), server.try_clone())
        else {
            return;
        };
        // If a parked client hangs up, the relay hangs up to the server as well.
        std::thread::spawn(move || {
            while client.read(&mut [0; 512]).is_ok_and(|read| read > 0) {}
            let _ = of_server.shutdown(Shutdown::Write);
        });
        let mut answer = Vec::new();
        if server.write_all(&request.raw).is_err()
            || server.read_to_end(&mut answer).is_err()
            || answer.is_empty()
        {
            return;
        }
        let number = self.answers.fetch_add(1, Ordering::SeqCst) + 1;
        if number.is_multiple_of(self.cut_each) {
            self.cut.lock().unwrap().push(status(&answer));
            answer.truncate(answer.len() / 2);
        }
        // Both fail if the client has closed its connection meanwhile.
        let _ = accepted.stream.write_all(&answer);
        let _ = accepted.stream.shutdown(Shutdown::Both);
    }
}

fn status(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Request;
    use crate::scripted::{Behaviour, Server};

    #[test]
    fn each_third_answer_is_cut_and_the_source_address_is_chosen() {
        let server = Server::start(Behaviour::status(423, "Locked"));
        let relay = Relay::start(server.addr(), 3, |query| {
            assert_eq!(query, [("holder".to_owned(), "a/b".to_owned())]);
            Ipv4Addr::new(127, 0, 3, 2).into()
        });
        let whole: Vec<bool> = (0..6)
            .map(|_| Request::get("/?holder=a%2Fb").send(relay.address(), CEILING))
            .map(|reply| reply.is_ok_and(|reply| reply.status == 423 && reply.body == "Locked"))
            .collect();
        assert_eq!(whole, [true, true, false, true, true, false]);
        assert_eq!(relay.cut(), [423, 423]);
        let asked = server.requests();
        assert!(
            asked.len() == 6
                && asked.iter().all(|seen| seen.from.ip() == Ipv4Addr::new(127, 0, 3, 2)),
            "{asked:?}"
        );
    }
}
