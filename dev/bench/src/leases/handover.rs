//! How long a slot that has become free stays empty while 500 holders are parked: from the look that
//! finds an application's port open, or from a `DELETE`, to the next holder's 200.
//!
//! The 500 come from one address, which has a lease: the next holder, at an address without one, is
//! before all of them.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use testkit::application::Application;
use testkit::http::{Connection, Request, connect_from};
use testkit::program::{Program, Running};
use testkit::{CEILING, eventually};

use super::Goal;
use crate::Options;
use crate::table::{Table, millis, quantile};

/// All of them end within one `wait` of the crowd.
const ROUNDS: usize = 100;

/// Holders that are parked behind the next one, and their address.
const CROWD: usize = 500;
const CROWD_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 6, 1));

/// What a lease lasts, and up to so many milliseconds more: its port is looked at each 20 ms, and
/// must not always open just before that.
const LEASE: Duration = Duration::from_millis(100);
const MORE: usize = 20;

/// The address that reads the queue.
const WATCHER: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 1);

/// How a lease ends; handed back is when that began, and the moment that counts.
type End = fn(&mut Holder, SocketAddr) -> io::Result<(Instant, Instant)>;

/// A holder at an address of its own.
struct Holder {
    name: String,
    address: IpAddr,
    application: Option<Application>,
}

pub fn run(options: &Options) -> Result<(String, Vec<Goal>), String> {
    let text = format!(
        "\n### Hand-over\n\n\
         - one slot that changes hands, the next holder parked and {CROWD} holders of another address behind it, which has the other slot; {ROUNDS} leases of {LEASE:?} and up to \
         {MORE} ms more; until the next holder has read its 200\n\
         - the look: from when the application has accepted lock's connection, and from when it opened its port, which is \
         looked at each tenth of the lease's age, at least each 20 ms\n\n",
    );
    let mut table = Table::new(["from", "median ms", "p90 ms", "p99 ms", "max ms"]);
    let (mut threads, mut peak) = (0, 0);
    let mut goals = Vec::new();
    let ends: [(_, _, End); 2] =
        [("successful look", "open port", opened), ("DELETE", "", given_back)];
    for (name, before, end) in ends {
        let (mut from_end, mut from_before, lock) =
            handovers(options, end).map_err(|e| format!("hand-over: {e}"))?;
        (threads, peak) = (threads.max(lock.threads()), peak.max(lock.memory_peak_kib()));
        for (name, taken) in [(name, &mut from_end), (before, &mut from_before)] {
            taken.sort_unstable();
            if !name.is_empty() {
                let cells = [0.5, 0.9, 0.99, 1.0].map(|share| millis(quantile(taken, share)));
                table.row(std::iter::once(name.to_owned()).chain(cells));
            }
        }
        let what = if name == "DELETE" {
            "hand-over from DELETE, p99"
        } else {
            "hand-over from the successful look, p99"
        };
        let measured = quantile(&from_end, 0.99).as_secs_f64() * 1000.0;
        goals.push(Goal { what, unit: " ms", measured, goal: 1.0, broken: 10.0 });
    }
    let threads = threads as f64;
    goals.push(Goal {
        what: "threads with 500 parked",
        unit: "",
        measured: threads,
        goal: 12.0,
        broken: 24.0,
    });
    let what = "peak memory with 500 parked";
    goals.push(Goal { what, unit: " KiB", measured: peak as f64, goal: 2560.0, broken: 3584.0 });
    Ok((text + &table.text(), goals))
}

/// How long each took from its end, and from what led to it; and the lock.
fn handovers(options: &Options, end: End) -> io::Result<(Vec<Duration>, Vec<Duration>, Running)> {
    let mut lock =
        Program::at(&options.lock).args(["--host=127.0.0.1", "--port=0", "--locks=2"]).start();
    let address = lock.addr();
    let mut holder = Holder::new(0);
    holder.ask(address)?.reply().and_then(|reply| expect(reply.status))?;
    let _crowd =
        (0..=CROWD).map(|number| stand(address, number)).collect::<io::Result<Vec<_>>>()?;
    let (mut from_end, mut from_before) = (Vec::new(), Vec::new());
    for number in 1..=ROUNDS {
        let next = Holder::new(number);
        let mut asking = next.ask(address)?;
        eventually("the next holder is parked", CEILING, || {
            is_next(address, &next.name).then_some(())
        });
        let waits =
            thread::spawn(move || asking.reply().map(|reply| (reply.status, Instant::now())));
        thread::sleep(LEASE + Duration::from_millis((number * 7 % MORE) as u64));
        let (before, ended) = end(&mut holder, address)?;
        let (status, granted) =
            waits.join().map_err(|_| io::Error::other("who waited has failed"))??;
        expect(status)?;
        from_end.push(granted.saturating_duration_since(ended));
        from_before.push(granted.saturating_duration_since(before));
        holder = next;
    }
    Ok((from_end, from_before, lock))
}

/// One of the crowd gets the second slot and keeps it, the others wait.
fn stand(lock: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let mut stream = connect_from(Some(CROWD_ADDRESS), lock, CEILING)?;
    let target = format!("/?holder=bench/crowd-{number}/uid&duration=10m&wait=30");
    stream.write_all(&Request::get(&target).bytes("lock"))?;
    Ok(stream)
}

fn opened(holder: &mut Holder, _: SocketAddr) -> io::Result<(Instant, Instant)> {
    let application =
        holder.application.take().ok_or_else(|| io::Error::other("it is open already"))?;
    let before = Instant::now();
    application.open().accept()?;
    Ok((before, Instant::now()))
}

fn given_back(holder: &mut Holder, lock: SocketAddr) -> io::Result<(Instant, Instant)> {
    let before = Instant::now();
    let delete = Request::delete(&format!("/?holder={}", holder.name)).from(holder.address);
    expect(delete.send(lock, CEILING)?.status)?;
    Ok((before, before))
}

fn expect(status: u16) -> io::Result<()> {
    match status {
        200 => Ok(()),
        status => Err(io::Error::other(format!("status {status}, expected 200"))),
    }
}

fn is_next(lock: SocketAddr, holder: &str) -> bool {
    let state = Request::get("/state").from(WATCHER).send(lock, CEILING);
    let next = state.map(|state| state.json()["queue"][0].clone()).unwrap_or_default();
    next["held"] == true && next["holder"] == holder
}

impl Holder {
    fn new(number: usize) -> Holder {
        let [.., last] = number.to_be_bytes();
        let address = Ipv4Addr::new(127, 0, 8, last);
        let name = format!("bench/pod-{number}/uid");
        Holder { name, address: address.into(), application: Some(Application::starting(address)) }
    }

    fn ask(&self, lock: SocketAddr) -> io::Result<Connection> {
        let mut connection = Connection::open(lock, Some(self.address), CEILING)?;
        let ready =
            self.application.as_ref().map(|application| format!("&ready={}", application.ready()));
        let target =
            format!("/?holder={}&duration=60s&wait=30s{}", self.name, ready.unwrap_or_default());
        connection.write(&Request::get(&target).bytes("lock"))?;
        Ok(connection)
    }
}
