//! Waiting holders: one thread plays them all, each at an address of its own, and each as init
//! behaves. A holder asks
//! with `wait`, pauses for `Retry-After` and up to a fifth more, asks again at once if its request
//! was parked for all of
//! its `wait`, and after a second if the connection ended without an answer. A lock without
//! `Retry-After` is asked each
//! second.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::retry_on_intr;
use testkit::CEILING;
use testkit::http::{Request, connect_from};

/// The pause of init between two requests, and the most that chance adds, as a share of it.
const PAUSE: Duration = Duration::from_secs(1);
pub const JITTER: f64 = 0.2;

/// The time for which the lock may park a request (`--wait`).
pub const WAIT: Duration = Duration::from_secs(30);

/// If leases end: the age at which a holder gives its lease back and a new holder takes its place.
const LEASE: Duration = Duration::from_secs(1);

/// The longest wait for an event before the thread reads the clock.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

pub struct Waiters {
    lock: SocketAddr,
    /// Whether leases end.
    moves: bool,
    poll: OwnedFd,
    holders: Vec<Holder>,
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    chance: u64,
    pub counts: Counts,
}

#[derive(Default)]
struct Holder {
    /// Counts the holders in this place.
    generation: usize,
    has_lease: bool,
    asking: Option<Asking>,
}

struct Asking {
    stream: TcpStream,
    since: Instant,
    answer: Vec<u8>,
}

/// The counts since the last reset.
#[derive(Default)]
pub struct Counts {
    pub asked: usize,
    pub answers: usize,
    pub granted: usize,
    pub failures: usize,
    pub first_failure: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Response {
    status: u16,
    retry_after: Duration,
}

impl Waiters {
    /// The holders come one by one within `arrival`.
    pub fn new(
        lock: SocketAddr,
        count: usize,
        arrival: Duration,
        moves: bool,
    ) -> io::Result<Waiters> {
        let begin = Instant::now();
        let arrives =
            |number: usize| Reverse((begin + arrival * number as u32 / count as u32, number));
        Ok(Waiters {
            lock,
            moves,
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            holders: (0..count).map(|_| Holder::default()).collect(),
            due: (0..count).map(arrives).collect(),
            chance: 1,
            counts: Counts::default(),
        })
    }

    pub fn play(&mut self, until: Instant) -> io::Result<()> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        while Instant::now() < until {
            while let Some(Reverse((at, number))) = self.due.peek().copied()
                && at <= Instant::now()
            {
                self.due.pop();
                self.ask(number)?;
            }
            retry_on_intr(|| epoll::wait(&self.poll, spare_capacity(&mut events), Some(&TICK)))?;
            for event in events.drain(..) {
                self.read_answer(event.data.u64() as usize);
            }
        }
        Ok(())
    }

    /// Asks for a lease, or gives it back.
    fn ask(&mut self, number: usize) -> io::Result<()> {
        let since = Instant::now();
        let mut stream = connect_from(Some(address(number)), self.lock, CEILING)?;
        stream.write_all(&self.request(number).bytes("lock"))?;
        stream.set_nonblocking(true)?;
        epoll::add(
            &self.poll,
            &stream,
            epoll::EventData::new_u64(number as u64),
            epoll::EventFlags::IN,
        )?;
        self.counts.asked += 1;
        self.holders[number].asking = Some(Asking { stream, since, answer: Vec::new() });
        Ok(())
    }

    fn request(&self, number: usize) -> Request {
        let Holder { generation, has_lease, .. } = self.holders[number];
        let holder = format!("bench/pod-{number}/uid-{generation}");
        match has_lease {
            true => Request::delete(&format!("/?holder={holder}")),
            false => Request::get(&format!(
                "/?duration=60s&holder={holder}&ready=tcp:9&wait={}",
                WAIT.as_secs()
            )),
        }
    }

    /// Reads the available bytes. The answer ends with the connection.
    fn read_answer(&mut self, number: usize) {
        let Some(asking) = &mut self.holders[number].asking else { return };
        let mut bytes = [0; 1024];
        let error = loop {
            match asking.stream.read(&mut bytes) {
                Ok(0) => break None,
                Ok(count) => asking.answer.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => break Some(error.to_string()),
            }
        };
        let took = asking.since.elapsed();
        let response = parse_response(&asking.answer)
            .ok_or_else(|| error.unwrap_or_else(|| "no whole answer".to_owned()));
        self.holders[number].asking = None;
        let pause = match response {
            Ok(response) => self.respond(number, &response, took),
            Err(why) => {
                self.counts.failures += 1;
                self.counts.first_failure.get_or_insert(why);
                self.lengthened(PAUSE)
            }
        };
        self.due.push(Reverse((Instant::now() + pause, number)));
    }

    /// The pause before the next request.
    fn respond(&mut self, number: usize, response: &Response, took: Duration) -> Duration {
        self.counts.answers += 1;
        let holder = &mut self.holders[number];
        if holder.has_lease {
            *holder = Holder { generation: holder.generation + 1, ..Holder::default() };
            return Duration::ZERO;
        }
        if response.status == 200 {
            self.counts.granted += 1;
            holder.has_lease = self.moves;
            return LEASE;
        }
        match response.retry_after <= PAUSE || took >= WAIT {
            true => self.lengthened(PAUSE).saturating_sub(took),
            false => self.lengthened(response.retry_after),
        }
    }

    fn lengthened(&mut self, pause: Duration) -> Duration {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        pause.mul_f64(1.0 + JITTER * (self.chance >> 33) as f64 / f64::from(1_u32 << 31))
    }
}

fn address(number: usize) -> IpAddr {
    let [.., high, low] = (number + 1).to_be_bytes();
    Ipv4Addr::new(127, 6, high, low).into()
}

/// `None` if the answer is not whole, or has another status than 200 and 423.
fn parse_response(answer: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let number_after = |name: &str| -> Option<u64> {
        let rest = head.split_once(name)?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    match number_after("HTTP/1.1 ")? {
        200 => Some(Response { status: 200, retry_after: Duration::ZERO }),
        // The Go generations send no `Retry-After`.
        423 => Some(Response {
            status: 423,
            retry_after: Duration::from_secs(number_after("Retry-After: ").unwrap_or(0)),
        }),
        _ => None,
    }
    .filter(|_| number_after("Content-Length: ").is_some_and(|length| length == body.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let locked = "HTTP/1.1 423 Locked\r\nRetry-After: 7\r\nContent-Length: 27\r\n\r\nLocked\nall slots are taken\n";
        let parse = |answer: &str| parse_response(answer.as_bytes());
        let expected = Response { status: 423, retry_after: Duration::from_secs(7) };
        assert_eq!(parse(locked), Some(expected));
        assert_eq!(
            parse("HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nLock acquired\n")
                .map(|response| response.status),
            Some(200)
        );
        for broken in
            ["", &locked[..40], &locked[..locked.len() - 1], &locked.replace("423", "400")]
        {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn pauses_are_those_of_init() {
        let mut line =
            Waiters::new(SocketAddr::from(([127, 0, 0, 1], 1)), 1, Duration::ZERO, true).unwrap();
        let refused = |seconds| Response { status: 423, retry_after: Duration::from_secs(seconds) };
        for seconds in [1, 10] {
            assert_eq!(
                line.respond(0, &refused(seconds), WAIT),
                Duration::ZERO,
                "the answer was the pause"
            );
        }
        let far = line.respond(0, &refused(10), Duration::from_millis(1));
        assert!((10.0..12.0).contains(&far.as_secs_f64()), "{far:?}");
        assert_eq!(line.counts.answers, 3);
        let granted = Response { status: 200, ..refused(0) };
        assert_eq!(line.respond(0, &granted, Duration::ZERO), LEASE);
        assert_eq!(
            line.respond(0, &granted, Duration::ZERO),
            Duration::ZERO,
            "the next holder comes at once"
        );
        assert_eq!((line.holders[0].generation, line.counts.granted), (1, 1));
    }
}
