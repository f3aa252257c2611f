//! What lock costs: to start, at rest, with callers, and while holders wait for it.

use std::path::Path;
use std::time::{Duration, Instant};

use testkit::CEILING;
use testkit::http::Request;

use super::pairs::{Column, Found, Pair, Scene, Whose};
use super::server::{
    FIRST_ANSWER, START_CPU, Server, Settings, UNSEEN, enough_answered, micros, millis,
};
use crate::table::median;
use crate::waiters::Waiters;

pub const ASKING: Column = Column { name: "a waiter's question, CPU", unit: "µs" };
pub const METRICS: Column = Column { name: "/metrics CPU", unit: "µs" };

/// A run's start is the median of so many.
const STARTS: usize = 10;

pub const CALLERS: [usize; 3] = [1, 16, 48];
pub const WAITERS: [usize; 3] = [1, 100, 1000];

/// Asked for without a slot being taken.
const PROBE: &str = "/?duration=0";

/// Takes the slot for longer than a scene lasts. In seconds, which all generations read.
const TAKE: &str = "/?duration=600";

/// Refused while it is taken.
const REFUSED: &str = "/?duration=1";

/// A thousand come within a second.
const ARRIVAL: Duration = Duration::from_millis(1);

/// Until all have been told when to come back.
const SETTLED: Duration = Duration::from_millis(500);

/// How often the metrics are asked for.
const SCRAPES: u32 = 20;

pub fn scenes(pair: &Pair) -> Vec<Scene<'_>> {
    let mut scenes = vec![Scene {
        row: "lock, idle".to_owned(),
        pair,
        measure: Box::new(|file: &Path, _: Whose, found: &mut Found| idle(file, found)),
    }];
    scenes.extend(CALLERS.map(|count| Scene {
        row: callers_row(count),
        pair,
        measure: Box::new(move |file, _, found| start(file)?.requests(200, PROBE, count, found)),
    }));
    scenes.extend(WAITERS.map(|count| Scene {
        row: waiters_row(count),
        pair,
        measure: Box::new(move |file, _, found| waiting(file, count, found)),
    }));
    scenes
}

pub fn callers_row(count: usize) -> String {
    format!("lock, {count} caller{}", if count == 1 { "" } else { "s" })
}

pub fn waiters_row(count: usize) -> String {
    format!("lock, {count} waiter{}", if count == 1 { "" } else { "s" })
}

/// One slot and no endpoints to check, in all generations.
fn start(file: &Path) -> Result<Server, String> {
    Server::start(file, &Settings { flags: vec![], variables: vec![] }, PROBE)
}

fn idle(file: &Path, found: &mut Found) -> Result<(), String> {
    let (mut taken, mut cpu) = (Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..STARTS {
        let mut server = start(file)?;
        taken.push(millis(server.first_answer));
        cpu.push(millis(server.spent_in_all()?));
        last = Some(server);
    }
    found.add(FIRST_ANSWER, median(&taken));
    found.add(START_CPU, median(&cpu));
    last.map_or(Ok(()), |mut server| server.memory_at_rest(found))
}

/// The slot is taken, and nobody gets it.
fn waiting(file: &Path, count: usize, found: &mut Found) -> Result<(), String> {
    let mut server = start(file)?;
    server.ask(&Request::get(TAKE), 200)?;
    let failed = |e: std::io::Error| format!("the line: {e}");
    let mut waiters =
        Waiters::new(server.address(), count, ARRIVAL * count as u32, false).map_err(failed)?;
    let (played, cpu) =
        server.spent(|| waiters.play(Instant::now() + ARRIVAL * count as u32 + SETTLED))?;
    played.map_err(failed)?;
    let seen = &waiters.seen;
    enough_answered(seen.asked, seen.failures, seen.first_failure.clone())?;
    found.add_seen(ASKING, micros(cpu) / seen.asked as f64, UNSEEN);
    // Before any load, which brings threads of its own.
    server.memory(found)?;
    server.requests(423, REFUSED, 16, found)?;
    scrapes(&mut server, found)
}

fn scrapes(server: &mut Server, found: &mut Found) -> Result<(), String> {
    let (address, request) = (server.address(), Request::get("/metrics"));
    let (replies, cpu) = server.spent(|| {
        (0..SCRAPES).map(|_| request.send(address, CEILING)).collect::<Result<Vec<_>, _>>()
    })?;
    match replies {
        Ok(replies)
            if replies
                .iter()
                .all(|reply| reply.status == 200 && reply.body.contains("# TYPE ")) =>
        {
            found.add_seen(METRICS, micros(cpu) / f64::from(SCRAPES), UNSEEN);
        }
        Ok(_) => found.lacks(METRICS, "it has no metrics"),
        Err(why) => found.lacks(METRICS, why.to_string()),
    }
    Ok(())
}
