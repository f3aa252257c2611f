//! Stands between a client and a server: passes each request on, from an address of choice, and cuts some of the
//! answers. One request a connection. Knows HTTP so far as to find a request's target and an answer's status.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::CEILING;
use crate::http::{connect_from, find_bytes, split_target};
use crate::listening::{Accepted, Listening};

/// A running relay; ends on drop.
pub struct Relay {
    listening: Listening,
    way: Arc<Way>,
}

/// Finds the address for a query's pairs, which are decoded.
type From = dyn Fn(&[(String, String)]) -> IpAddr + Send + Sync;

struct Way {
    server: SocketAddr,
    from: Box<From>,
    cut_each: usize,
    answers: AtomicUsize,
    cut: Mutex<Vec<u16>>,
}

impl Relay {
    /// To this server, from the address that `from` finds for a request's query. Of each so many answers the last is
    /// cut in its middle.
    pub fn start(
        server: SocketAddr,
        cut_each: usize,
        from: impl Fn(&[(String, String)]) -> IpAddr + Send + Sync + 'static,
    ) -> Relay {
        let way = Way {
            server,
            from: Box::new(from),
            cut_each,
            answers: AtomicUsize::new(0),
            cut: Mutex::default(),
        };
        let way = Arc::new(way);
        let of_server = Arc::clone(&way);
        let listening = Listening::start((Ipv4Addr::LOCALHOST, 0).into(), move |accepted| {
            of_server.pass(accepted);
        });
        Relay { listening, way }
    }

    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The statuses of the answers that were cut.
    pub fn cut(&self) -> Vec<u16> {
        self.way.cut.lock().unwrap().clone()
    }
}

impl Way {
    /// A client or a server that breaks off ends the connection, and nothing else.
    fn pass(&self, mut accepted: Accepted) {
        let Some(request) = head(&mut accepted.stream) else { return };
        let from = (self.from)(&split_target(&target(&request)).1);
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
        if server.write_all(&request).is_err()
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
        // Who has hung up in the meantime gets nothing.
        let _ = accepted.stream.write_all(&answer);
        let _ = accepted.stream.shutdown(Shutdown::Both);
    }
}

/// All that comes up to the empty line; nothing where the client ends before.
fn head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while find_bytes(&head, b"\r\n\r\n").is_none() {
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => head.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
    }
    Some(head)
}

fn target(request: &[u8]) -> String {
    String::from_utf8_lossy(request).split(' ').nth(1).unwrap_or_default().to_owned()
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
    fn passes_on_from_an_address_of_choice_and_cuts_each_third_answer() {
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
