//! Name servers for tests, and programs with their own `resolv.conf`. Port 53 and the mount need
//! root; the error of a machine without them is the reason to skip a test.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::program::Program;
use crate::scratch::Scratch;

/// The program with this `/etc/resolv.conf`, which other programs do not see. Its process number
/// stays its own.
pub fn with_resolv_conf(contents: &str, program: Program) -> Result<Program, String> {
    with_file("/etc/resolv.conf", contents, program)
}

/// The same with `/etc/hosts`.
pub fn with_hosts(contents: &str, program: Program) -> Result<Program, String> {
    with_file("/etc/hosts", contents, program)
}

fn with_file(target: &str, contents: &str, program: Program) -> Result<Program, String> {
    let dir = Scratch::new();
    let file = dir.file("mounted", contents);
    Ok(program.seeing(&file, target)?.keeping(dir))
}

/// A name server on its own loopback address, over UDP and TCP; ends on drop.
pub struct Dns {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    queries: Mutex<Vec<String>>,
}

/// The server's reaction to a question.
pub enum Reaction {
    /// No answer; over TCP it closes the connection.
    Silence,
    /// It sends these messages one after the other.
    Send(Vec<Vec<u8>>),
}

type Script = dyn Fn(&Question<'_>) -> Reaction + Send + Sync;

/// Receives every question and never answers.
pub fn silent_dns() -> Result<Dns, String> {
    Dns::scripted(|_| Reaction::Silence)
}

/// Answers with the addresses of these names, after this delay, and with NXDOMAIN for all other
/// names. A name may have several addresses, of either family.
pub fn answering_dns(names: &[(&str, &str)], delay: Duration) -> Result<Dns, String> {
    let mut known: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for (name, address) in names {
        let address = address.parse().unwrap_or_else(|_| panic!("not an IP address: {address}"));
        known.entry(name.to_lowercase()).or_default().push(address);
    }
    Dns::scripted(move |question| {
        thread::sleep(delay);
        let addresses = known.get(&question.name);
        // NXDOMAIN only if the name has no address of either family.
        let code = if addresses.is_none() { NXDOMAIN } else { 0 };
        Reaction::Send(vec![question.answer(code, addresses.map_or(&[], |addresses| addresses))])
    })
}

impl Dns {
    /// A server on port 53 that follows this script. Each question has its own thread, so that
    /// delays do not add up.
    pub fn scripted(
        script: impl Fn(&Question<'_>) -> Reaction + Send + Sync + 'static,
    ) -> Result<Dns, String> {
        let script: Arc<Script> = Arc::new(script);
        let mut last = String::new();
        // Several tests, and processes of tests, take addresses at the same time.
        for number in 1..=200 {
            let address = SocketAddr::from(([127, 0, 53, number], 53));
            match Dns::start(address, &script) {
                Ok(dns) => return Ok(dns),
                Err(error) => last = format!("cannot bind {address}: {error}"),
            }
        }
        Err(last)
    }

    /// The same at this address; port 0 is any free port.
    pub fn scripted_at(
        address: SocketAddr,
        script: impl Fn(&Question<'_>) -> Reaction + Send + Sync + 'static,
    ) -> io::Result<Dns> {
        let script: Arc<Script> = Arc::new(script);
        Dns::start(address, &script)
    }

    fn start(address: SocketAddr, script: &Arc<Script>) -> io::Result<Dns> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let socket = UdpSocket::bind(address)?;
        // The time by which the threads may outlive their server.
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        let (of_udp, of_tcp) =
            ((Arc::clone(&shared), Arc::clone(script)), (Arc::clone(&shared), Arc::clone(script)));
        thread::spawn(move || serve_udp(&socket, &of_udp.0, &of_udp.1));
        thread::spawn(move || serve_tcp(&listener, &of_tcp.0, &of_tcp.1));
        Ok(Dns { address, shared })
    }

    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The names asked for so far, in lower case.
    pub fn queries(&self) -> Vec<String> {
        self.shared.queries.lock().unwrap().clone()
    }

    /// A `resolv.conf` that names this server alone.
    pub fn resolv_conf(&self) -> String {
        format!("nameserver {}\n", self.ip())
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

fn serve_udp(socket: &UdpSocket, shared: &Shared, script: &Arc<Script>) {
    let mut packet = [0; 1500];
    while !shared.stop.load(Ordering::SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
        let packet = packet[..length].to_vec();
        // A stopped server does not answer.
        let Some(question) =
            Question::parse(&packet, false).filter(|_| !shared.stop.load(Ordering::SeqCst))
        else {
            continue;
        };
        shared.queries.lock().unwrap().push(question.name);
        let (Ok(socket), script) = (socket.try_clone(), Arc::clone(script)) else { continue };
        thread::spawn(move || {
            let Some(question) = Question::parse(&packet, false) else { return };
            if let Reaction::Send(messages) = script(&question) {
                // It fails if the client has closed its socket.
                messages.iter().for_each(|message| drop(socket.send_to(message, from)));
            }
        });
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>, script: &Arc<Script>) {
    while !shared.stop.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => {
                let (shared, script) = (Arc::clone(shared), Arc::clone(script));
                // A client may close its connection at any time.
                thread::spawn(move || drop(serve_connection(stream, &shared, &*script)));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn serve_connection(mut stream: TcpStream, shared: &Shared, script: &Script) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut packet)?;
        let Some(question) = Question::parse(&packet, true) else { return Ok(()) };
        shared.queries.lock().unwrap().push(question.name.clone());
        let Reaction::Send(messages) = script(&question) else { return Ok(()) };
        for message in messages {
            stream.write_all(&(message.len() as u16).to_be_bytes())?;
            stream.write_all(&message)?;
        }
    }
}

/// A question of RFC 1035, with the packet up to its end.
pub struct Question<'a> {
    /// In lower case, without the final dot.
    pub name: String,
    /// [`A`], [`AAAA`] or another.
    pub kind: u16,
    pub is_over_tcp: bool,
    packet: &'a [u8],
}

const HEAD: usize = 12;
pub const A: u16 = 1;
pub const AAAA: u16 = 28;
pub const SERVFAIL: u8 = 2;
pub const NXDOMAIN: u8 = 3;
pub const REFUSED: u8 = 5;

impl Question<'_> {
    fn parse(packet: &[u8], is_over_tcp: bool) -> Option<Question<'_>> {
        let (mut labels, mut at) = (Vec::new(), HEAD);
        loop {
            let length = usize::from(*packet.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_lowercase());
            at += length;
        }
        let kind = u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?);
        Some(Question { name: labels.join("."), kind, is_over_tcp, packet: packet.get(..at + 4)? })
    }

    /// An answer with this code and with the addresses of the question's kind.
    pub fn answer(&self, code: u8, addresses: &[IpAddr]) -> Vec<u8> {
        let records: Vec<(u16, Vec<u8>)> = addresses
            .iter()
            .filter_map(|address| match (address, self.kind) {
                (IpAddr::V4(ip), A) => Some((A, ip.octets().to_vec())),
                (IpAddr::V6(ip), AAAA) => Some((AAAA, ip.octets().to_vec())),
                _ => None,
            })
            .collect();
        self.records(code, &records)
    }

    /// An answer with this code and these records of the question's name: kind and data.
    pub fn records(&self, code: u8, records: &[(u16, Vec<u8>)]) -> Vec<u8> {
        // An answer, recursion desired and available.
        let flags: u16 = 0x8180 | u16::from(code);
        let mut bytes = self.packet[..2].to_vec();
        for number in [flags, 1, records.len() as u16, 0, 0] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&self.packet[HEAD..]);
        for (kind, data) in records {
            // A pointer to the question's name behind the head; class IN, one second to live.
            bytes.extend_from_slice(&[0xc0, HEAD as u8]);
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&[0, 1, 0, 0, 0, 1, 0, data.len() as u8]);
            bytes.extend_from_slice(data);
        }
        bytes
    }
}

/// The answer with the truncation bit.
pub fn truncated(mut answer: Vec<u8>) -> Vec<u8> {
    answer[2] |= 2;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CEILING, skip};

    /// Asks the C library, through a program that each system has.
    fn look_up(dns: &Dns, name: &str, family: &str) -> Result<Program, String> {
        let program = Program::at("/usr/bin/getent").args([family, name]);
        with_resolv_conf(&format!("{}options timeout:1 attempts:1\n", dns.resolv_conf()), program)
    }

    #[test]
    fn names_resolve_with_a_private_resolv_conf() {
        let names = [("one.test", "10.1.2.3"), ("one.test", "fd00::7"), ("two.test", "10.9.9.9")];
        let dns = match answering_dns(&names, Duration::from_millis(20)) {
            Ok(dns) => dns,
            Err(why) => return skip(&why),
        };
        for (name, family, expected) in [
            ("one.test", "ahostsv4", Some("10.1.2.3")),
            ("one.test", "ahostsv6", Some("fd00::7")),
            ("Two.Test", "ahostsv4", Some("10.9.9.9")),
            ("none.test", "ahostsv4", None),
        ] {
            let program = match look_up(&dns, name, family) {
                Ok(program) => program,
                Err(why) => return skip(&why),
            };
            let finished = program.run(CEILING);
            let first = finished.stdout.split_whitespace().next();
            assert_eq!(first, expected, "{name}: {finished}");
        }
        assert!(dns.queries().contains(&"none.test".to_string()), "{:?}", dns.queries());
    }

    #[test]
    fn a_silent_server_receives_the_question() {
        let dns = match silent_dns() {
            Ok(dns) => dns,
            Err(why) => return skip(&why),
        };
        let program = match look_up(&dns, "one.test", "ahostsv4") {
            Ok(program) => program,
            Err(why) => return skip(&why),
        };
        let finished = program.run(CEILING);
        assert!(
            finished.code != Some(0) && finished.took > Duration::from_millis(900),
            "{finished}"
        );
        assert!(dns.queries().contains(&"one.test".to_string()));
    }

    #[test]
    fn mounting_keeps_the_process_number() {
        let program = Program::at("/bin/sh").args(["-c", "echo $$; cat /etc/resolv.conf"]);
        let program = match with_resolv_conf("# only mine\n", program) {
            Ok(program) => program,
            Err(why) => return skip(&why),
        };
        let mut running = program.env("PATH", "/usr/bin:/bin").start();
        running.wait_for_text("# only mine", CEILING);
        assert_eq!(running.lines()[0], running.pid().to_string());
    }
}
