//! The scenes of each program.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testkit::CEILING;
use testkit::http::Request;
use testkit::large::Large;
use testkit::scripted::{self, Behaviour};

use super::server::{Server, Settings, check_failures, millis};
use super::{Figures, PEAK, Pair, Scene, scene};
use crate::health::{Scene as Cluster, recorded};
use crate::table::median;
use crate::waiters::Waiters;

/// A start takes some milliseconds: a run has the median of this many.
const STARTS: usize = 10;

/// One run of init takes some milliseconds: a run has the median of this many.
const INITS: usize = 50;

const CALLERS: [usize; 3] = [1, 16, 48];
const WAITERS: [usize; 3] = [1, 100, 1000];
const DAEMONSETS: [usize; 3] = [10, 100, 1000];
/// One DaemonSet of this many has a pod on the node.
const SETS_A_POD: usize = 4;

/// A thousand waiters come within a second.
const ARRIVAL: Duration = Duration::from_millis(1);

/// After this all waiters have been refused once.
const SETTLED: Duration = Duration::from_millis(500);

/// Asks for a slot without taking it.
const QUERY: &str = "/?duration=0";

/// Takes the slot for longer than a scene lasts, in seconds, which all generations read.
const TAKE: &str = "/?duration=600";

/// Refused while the slot is taken.
const REFUSED: &str = "/?duration=1";

/// A peer has no image here.
pub fn bytes(file: &Path, image: Option<&Path>) -> Result<Figures, String> {
    let bytes = fs::metadata(file).map_err(|e| format!("{}: {e}", file.display()))?.len();
    let mut figures =
        vec![("binary, bytes", bytes as f64), ("binary, gzip -9, bytes", compressed(file)?)];
    if let Some(image) = image {
        figures.push(("image, gzip -9, bytes", compressed(image)?));
    }
    Ok(figures)
}

/// By the tool whose sizes `scripts/build.sh` prints.
fn compressed(file: &Path) -> Result<f64, String> {
    let failed = |error: String| format!("gzip -9 of {}: {error}", file.display());
    let input = File::open(file).map_err(|e| failed(e.to_string()))?;
    let output = Command::new("gzip").arg("-9").stdin(input).stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| failed(e.to_string()))?;
    match output.status.success() {
        true => Ok(output.stdout.len() as f64),
        false => Err(failed(output.status.to_string())),
    }
}

pub fn lock_scenes(lock: &Pair) -> Vec<Scene<'_>> {
    let mut scenes = vec![scene("lock, idle", lock, lock_idle)];
    for callers in CALLERS {
        let name = format!("lock, callers: {callers}");
        scenes.push(scene(name, lock, move |file| start_lock(file)?.requests(200, QUERY, callers)));
    }
    for waiters in WAITERS {
        let name = format!("lock, waiters: {waiters}");
        scenes.push(scene(name, lock, move |file| lock_waiters(file, waiters)));
    }
    scenes
}

/// One slot and no endpoints, in all generations.
fn start_lock(file: &Path) -> Result<Server, String> {
    Server::start(file, &Settings::default(), QUERY)
}

fn lock_idle(file: &Path) -> Result<Figures, String> {
    let (mut starts, mut cpu, mut figures) = (Vec::new(), Vec::new(), Figures::new());
    for _ in 0..STARTS {
        let mut server = start_lock(file)?;
        starts.push(millis(server.first_answer));
        cpu.push(millis(server.start_cpu()?));
        figures = server.memory_at_rest()?;
    }
    figures.extend([("start, ms", median(&starts)), ("start CPU, ms", median(&cpu))]);
    Ok(figures)
}

fn lock_waiters(file: &Path, count: usize) -> Result<Figures, String> {
    let mut server = start_lock(file)?;
    server.ask(&Request::get(TAKE), 200)?;
    let arrival = ARRIVAL * count as u32;
    let failed = |e: std::io::Error| format!("the waiters: {e}");
    let mut waiters = Waiters::new(server.address(), count, arrival, false).map_err(failed)?;
    waiters.play(Instant::now() + arrival + SETTLED).map_err(failed)?;
    let counts = &waiters.counts;
    check_failures(counts.asked, counts.failures, counts.first_failure.as_deref())?;
    let mut figures = server.memory()?;
    figures.extend(server.requests(423, REFUSED, 16)?);
    Ok(figures)
}

pub fn init_scenes(init: &Pair) -> [Scene<'_>; 2] {
    [scene("init, slot free", init, init_runs), scene("init, waiting", init, init_waits)]
}

fn init_settings(port: u16) -> Settings {
    let port = port.to_string();
    Settings {
        flags: ["--host", "127.0.0.1", "--port", &port].map(str::to_owned).to_vec(),
        variables: vec![("PSL_LOCK_HOST", "127.0.0.1".to_owned()), ("PSL_LOCK_PORT", port)],
    }
}

fn init_runs(file: &Path) -> Result<Figures, String> {
    let lock = scripted::Server::start(Behaviour::ok("Lock acquired\n"));
    let settings = init_settings(lock.port());
    let form = init_form(file, &settings)?;
    let mut command = Command::new(file);
    command.env_clear().envs(settings.variables.iter().cloned()).args(settings.flags_of(form));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut taken = Vec::new();
    for _ in 0..INITS {
        let begin = Instant::now();
        let status = command.status().map_err(|e| e.to_string())?;
        taken.push(millis(begin.elapsed()));
        if !status.success() {
            return Err(format!("the slot is free, and init ends with {status}"));
        }
    }
    Ok(vec![("run, ms", median(&taken))])
}

/// The form of its settings in which init gets a free slot.
fn init_form(file: &Path, settings: &Settings) -> Result<usize, String> {
    let ended = settings.forms(file).map(|program| program.run(CEILING));
    let accepted = ended.iter().position(|ended| ended.code == Some(0));
    accepted.ok_or_else(|| format!("the slot is free, and init fails: {}", ended[0]))
}

fn init_waits(file: &Path) -> Result<Figures, String> {
    let free = scripted::Server::start(Behaviour::ok("Lock acquired\n"));
    let form = init_form(file, &init_settings(free.port()))?;
    let lock = scripted::Server::start(Behaviour::status(423, "Locked\n"));
    let mut init = init_settings(lock.port()).forms(file)[form].start();
    testkit::eventually("init's first request", CEILING, || {
        (!lock.requests().is_empty()).then_some(())
    });
    thread::sleep(Duration::from_millis(200));
    if let Some(code) = init.try_wait() {
        return Err(format!("init ends with {code} while it should wait"));
    }
    Ok(vec![
        ("resident memory, KiB", init.memory_kib() as f64),
        (PEAK, init.memory_peak_kib() as f64),
    ])
}

pub fn health_scenes(health: &Pair) -> Vec<Scene<'_>> {
    let sizes = DAEMONSETS.iter().flat_map(|count| [(*count, false), (*count, true)]);
    let scene_of = |(count, tls): (usize, bool)| {
        let mut cluster = None;
        let name = format!("health, {count} DaemonSets{}", if tls { ", TLS" } else { "" });
        scene(name, health, move |file| {
            let large =
                || Large::sized(&recorded().join("scale"), count, count / SETS_A_POD).all_ready();
            health_verdict(file, cluster.get_or_insert_with(|| Cluster::of(large(), tls)), tls)
        })
    };
    sizes.map(scene_of).collect()
}

fn health_verdict(file: &Path, cluster: &Cluster, tls: bool) -> Result<Figures, String> {
    let url = cluster.api.url();
    let mut variables = vec![("PSL_K8S_API_URL", url.clone())];
    variables.extend(["PSL_NODE_NAME", "NODE_NAME"].map(|name| (name, "node-big".to_owned())));
    if tls {
        // Variables alone: a generation without these flags would not start.
        let names = ["PSL_K8S_CA_FILE", "PSL_K8S_TOKEN_FILE"];
        let files = cluster.credentials().map(|file| file.display().to_string());
        variables.extend(names.into_iter().zip(files));
    }
    let settings = Settings { flags: vec!["--baseUrl".to_owned(), url], variables };
    let mut server = Server::start(file, &settings, "/")?;
    let mut figures = vec![("start, ms", millis(server.first_answer))];
    figures.push(("until ready, ms", millis(server.until("/", 200)?)));
    figures.push(("CPU until ready, ms", millis(server.start_cpu()?)));
    figures.extend(server.memory_at_rest()?);
    // TLS to the API server makes no difference to the clients of health.
    if !tls {
        figures.extend(server.requests(200, "/", 16)?);
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let error = bytes(Path::new("/bin/sh"), Some(Path::new("/no/image.tar"))).unwrap_err();
        assert!(error.starts_with("gzip -9 of /no/image.tar: "), "{error}");
        assert_eq!(init_runs(Path::new("/bin/true")).map(|figures| figures.len()), Ok(1));
        assert!(init_runs(Path::new("/bin/false")).is_err());
    }
}
