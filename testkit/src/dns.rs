//! Name servers for tests, and a program that sees a `resolv.conf` of its own. Both need root; where they cannot be
//! had, the error says why, so that a test can say what it skips. Knows A and AAAA questions and nothing else.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::program::{Program, root_tool};
use crate::scratch::Scratch;

/// The program with this as its `/etc/resolv.conf`; nobody else sees it. Its process number stays its own.
pub fn with_resolv_conf(contents: &str, program: Program) -> Result<Program, String> {
    let (unshare, mount) = (root_tool("unshare")?, root_tool("mount")?);
    let dir = Scratch::new();
    let file = dir.file("resolv.conf", contents);
    let script = "\"$0\" --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    let prefix = [
        unshare.as_os_str(),
        "--mount".as_ref(),
        "--".as_ref(),
        "/bin/sh".as_ref(),
        "-c".as_ref(),
        script.as_ref(),
        mount.as_os_str(),
        file.as_os_str(),
    ];
    let probe = Program::at("/bin/true").under(prefix).run(crate::CEILING);
    match probe.code {
        Some(0) => Ok(program.under(prefix).keeping(dir)),
        _ => Err(format!("cannot mount over /etc/resolv.conf: {}", probe.stderr.trim())),
    }
}

/// A name server on port 53 of an address of its own on loopback; ends on drop.
pub struct Dns {
    ip: Ipv4Addr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    queries: Mutex<Vec<String>>,
}

/// Hears every question and never answers.
pub fn silent_dns() -> Result<Dns, String> {
    Dns::start(|_| None)
}

/// Answers with these names' addresses (of either family, a name may have several) this much later, with "no such
/// name" for all others.
pub fn answering_dns(names: &[(&str, &str)], delay: Duration) -> Result<Dns, String> {
    let mut known: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for (name, address) in names {
        let address = address.parse().unwrap_or_else(|_| panic!("not an IP address: {address}"));
        known.entry(name.to_lowercase()).or_default().push(address);
    }
    Dns::start(move |question| {
        std::thread::sleep(delay);
        Some(answer(question, &known))
    })
}

impl Dns {
    fn start(reply: impl Fn(&Question<'_>) -> Option<Vec<u8>> + Send + Sync + 'static) -> Result<Dns, String> {
        let (ip, socket) = bind()?;
        // How long the thread may outlive its server.
        socket.set_read_timeout(Some(Duration::from_millis(50))).map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared::default());
        let (of_thread, reply) = (Arc::clone(&shared), Arc::new(reply));
        std::thread::spawn(move || serve(&socket, &of_thread, &reply));
        Ok(Dns { ip, shared })
    }

    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// The names asked for so far, in lower case.
    pub fn queries(&self) -> Vec<String> {
        self.shared.queries.lock().unwrap().clone()
    }

    /// A `resolv.conf` that names this server alone.
    pub fn resolv_conf(&self) -> String {
        format!("nameserver {}\n", self.ip)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

/// The first free address; several tests, and processes of tests, may each want one at the same time.
fn bind() -> Result<(Ipv4Addr, UdpSocket), String> {
    let mut last = String::new();
    for number in 1..=200 {
        let ip = Ipv4Addr::new(127, 0, 53, number);
        match UdpSocket::bind((ip, 53)) {
            Ok(socket) => return Ok((ip, socket)),
            Err(error) => last = format!("cannot bind {ip}:53: {error}"),
        }
    }
    Err(last)
}

fn serve(
    socket: &UdpSocket,
    shared: &Shared,
    reply: &Arc<impl Fn(&Question<'_>) -> Option<Vec<u8>> + Send + Sync + 'static>,
) {
    let mut packet = [0; 1500];
    while !shared.stop.load(Ordering::SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
        let packet = packet[..length].to_vec();
        let Some(question) = Question::parse(&packet) else { continue };
        shared.queries.lock().unwrap().push(question.name);
        let (Ok(socket), reply) = (socket.try_clone(), Arc::clone(reply)) else { continue };
        // Each in its own thread, so that one question's delay is not added to the next one's.
        std::thread::spawn(move || send(&socket, from, &packet, &*reply));
    }
}

fn send(socket: &UdpSocket, to: SocketAddr, packet: &[u8], reply: &dyn Fn(&Question<'_>) -> Option<Vec<u8>>) {
    if let Some(bytes) = Question::parse(packet).and_then(|question| reply(&question)) {
        // Who has asked may have given up.
        let _ = socket.send_to(&bytes, to);
    }
}

/// A question as RFC 1035 writes it, with the packet up to its end.
struct Question<'a> {
    name: String,
    kind: u16,
    packet: &'a [u8],
}

const HEAD: usize = 12;
const A: u16 = 1;
const AAAA: u16 = 28;

impl Question<'_> {
    fn parse(packet: &[u8]) -> Option<Question<'_>> {
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
        Some(Question { name: labels.join("."), kind, packet: packet.get(..at + 4)? })
    }
}

fn answer(question: &Question<'_>, known: &HashMap<String, Vec<IpAddr>>) -> Vec<u8> {
    let addresses = known.get(&question.name);
    let records: Vec<Vec<u8>> = addresses
        .into_iter()
        .flatten()
        .filter_map(|address| match (address, question.kind) {
            (IpAddr::V4(ip), A) => Some(ip.octets().to_vec()),
            (IpAddr::V6(ip), AAAA) => Some(ip.octets().to_vec()),
            _ => None,
        })
        .collect();
    // An answer, recursion available; "no such name" only where the name has no address of either family.
    let flags: u16 = 0x8180 | if addresses.is_none() { 3 } else { 0 };
    let mut bytes = question.packet[..2].to_vec();
    for number in [flags, 1, records.len() as u16, 0, 0] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(&question.packet[HEAD..]);
    for record in records {
        // The name is that of the question, one byte after the head; class IN, one second to live.
        bytes.extend_from_slice(&[0xc0, HEAD as u8]);
        bytes.extend_from_slice(&question.kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 1, 0, 0, 0, 1, 0, record.len() as u8]);
        bytes.extend_from_slice(&record);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CEILING, skip};

    /// Asks the C library through a program that is always there.
    fn look_up(dns: &Dns, name: &str, family: &str) -> Result<Program, String> {
        let program = Program::at("/usr/bin/getent").args([family, name]);
        with_resolv_conf(&format!("{}options timeout:1 attempts:1\n", dns.resolv_conf()), program)
    }

    #[test]
    fn names_are_answered_in_a_world_of_its_own() {
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
    fn silence_is_heard_but_not_answered() {
        let dns = match silent_dns() {
            Ok(dns) => dns,
            Err(why) => return skip(&why),
        };
        let program = match look_up(&dns, "one.test", "ahostsv4") {
            Ok(program) => program,
            Err(why) => return skip(&why),
        };
        let finished = program.run(CEILING);
        assert!(finished.code != Some(0) && finished.took > Duration::from_millis(900), "{finished}");
        assert!(dns.queries().contains(&"one.test".to_string()));
    }

    #[test]
    fn the_process_number_stays_the_program_s() {
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
