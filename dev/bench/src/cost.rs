//! The cost of the programs on a node: bytes, starts, memory, and the CPU time and latency of a
//! request.
//!
//! A scene runs one program and returns its figures. If there is a peer, such as an older build,
//! each run measures both
//! binaries, one after the other. Flags and variables are those that all generations of the
//! programs understand.

mod server;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testkit::http::Request;
use testkit::large::Large;
use testkit::scratch::Scratch;
use testkit::scripted::{self, Behaviour};
use testkit::{CEILING, budget};

use crate::Options;
use crate::goal::Goal;
use crate::health::{Scene as Cluster, recorded};
use crate::machine;
use crate::results::Section;
use crate::table::{Table, median, spread};
use crate::waiters::Waiters;
use server::{Server, Settings, check_failures, millis};

/// Enough for a spread.
const RUNS: usize = 5;

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

const PEAK: &str = "peak memory, KiB";

/// Binaries to measure beside ours, and the directory of our images.
#[derive(Default)]
pub struct Peers {
    pub lock: Option<PathBuf>,
    pub init: Option<PathBuf>,
    pub health: Option<PathBuf>,
    pub images: Option<PathBuf>,
}

type Figures = Vec<(&'static str, f64)>;
type Measure<'a> = Box<dyn FnMut(&Path) -> Result<Figures, String> + 'a>;

/// The two binaries of one program.
struct Pair {
    ours: PathBuf,
    peer: Option<PathBuf>,
}

struct Scene<'a> {
    name: String,
    pair: &'a Pair,
    measure: Measure<'a>,
}

/// All runs of one figure. `peer` is empty if the peer cannot be measured.
struct Runs {
    scene: String,
    figure: &'static str,
    ours: Vec<f64>,
    peer: Vec<f64>,
}

#[derive(Default)]
struct Measured {
    runs: Vec<Runs>,
    /// Scenes in which our binary failed.
    failures: Vec<String>,
    /// Scenes in which a peer failed.
    notes: Vec<String>,
}

pub fn run(options: &Options) -> Result<Section, String> {
    let (files, peers) = (Scratch::new(), &options.peers);
    let lock = pair(&files, "lock", &options.lock, peers.lock.as_deref())?;
    let init = pair(&files, "init", &options.init, peers.init.as_deref())?;
    let health = pair(&files, "health", &options.health, peers.health.as_deref())?;
    let images = peers.images.as_deref();
    let mut scenes = Vec::new();
    for (name, pair) in [("lock", &lock), ("init", &init), ("health", &health)] {
        let image = images.map(|images| images.join(format!("psl-{name}-amd64.tar")));
        scenes.push(scene(name, pair, move |file| bytes(file, image.as_deref())));
    }
    scenes.extend(lock_scenes(&lock));
    scenes.push(scene("init, slot free", &init, init_runs));
    scenes.push(scene("init, waiting", &init, init_waits));
    scenes.extend(health_scenes(&health));
    let runs = options.rounds.unwrap_or(RUNS);
    let measured = measure(&mut scenes, runs);
    let goals = measured.goals();
    let mut text = machine::described("cost", &options.lock);
    text += &format!("- {runs} runs of each; medians, with least and most if they differ\n");
    text += "- a start: to the first answer (health also: to the verdict), its CPU time until then; memory of lock and \
             health at rest, of init while it waits; requests: one second each, keep-alive and a new connection each\n\n";
    text += &measured.table();
    text += "\n### Budgets\n\n";
    text.extend(goals.iter().map(Goal::line));
    text.extend(measured.notes.iter().chain(&measured.failures).map(|line| format!("- {line}\n")));
    let failures = measured.failures.iter().map(|failure| format!("cost, {failure}"));
    let broken = goals.iter().filter_map(|goal| goal.broken("cost")).chain(failures).collect();
    Ok(Section { title: "Costs", text, broken })
}

/// Copies both binaries: the resident share of a file depends on how the kernel caches it, and one
/// binary differed by 7 %
/// between a fresh build and a copy.
fn pair(files: &Scratch, name: &str, ours: &Path, peer: Option<&Path>) -> Result<Pair, String> {
    let copied = |owner: &str, file: &Path| {
        let to = files.join(&format!("{name}-{owner}"));
        fs::copy(file, &to).map_err(|e| format!("cannot copy {}: {e}", file.display()))?;
        Ok::<_, String>(to)
    };
    Ok(Pair {
        ours: copied("ours", ours)?,
        peer: peer.map(|file| copied("peer", file)).transpose()?,
    })
}

fn scene<'a>(
    name: impl Into<String>,
    pair: &'a Pair,
    measure: impl FnMut(&Path) -> Result<Figures, String> + 'a,
) -> Scene<'a> {
    Scene { name: name.into(), pair, measure: Box::new(measure) }
}

/// The first binary changes from run to run, so that neither always has the warmer machine. A peer
/// that fails once is
/// not measured again.
fn measure(scenes: &mut [Scene], runs: usize) -> Measured {
    let mut measured = Measured::default();
    for run in 0..runs {
        for scene in &mut *scenes {
            let peer = scene.pair.peer.as_deref().filter(|_| !measured.has_note(&scene.name));
            let mut from_peer = None;
            if run % 2 == 1 {
                from_peer = peer.map(&mut scene.measure);
            }
            let ours = (scene.measure)(&scene.pair.ours);
            if run % 2 == 0 {
                from_peer = peer.map(&mut scene.measure);
            }
            measured.take(&scene.name, run, ours, from_peer);
        }
    }
    measured
}

impl Measured {
    fn take(
        &mut self,
        scene: &str,
        run: usize,
        ours: Result<Figures, String>,
        peer: Option<Result<Figures, String>>,
    ) {
        let ours = match ours {
            Ok(ours) => ours,
            Err(error) => return self.failures.push(format!("{scene}, run {}: {error}", run + 1)),
        };
        let peer = match peer {
            Some(Err(error)) => {
                self.notes.push(format!("{scene}: the peer cannot be measured: {error}"));
                Figures::new()
            }
            peer => peer.and_then(Result::ok).unwrap_or_default(),
        };
        for (figure, value) in ours {
            let runs = self.runs_of(scene, figure);
            runs.ours.push(value);
            runs.peer.extend(peer.iter().find(|(name, _)| *name == figure).map(|(_, value)| value));
        }
    }

    fn runs_of(&mut self, scene: &str, figure: &'static str) -> &mut Runs {
        let found = self.runs.iter().position(|runs| runs.scene == scene && runs.figure == figure);
        let place = found.unwrap_or(self.runs.len());
        if found.is_none() {
            self.runs.push(Runs { scene: scene.to_owned(), figure, ours: vec![], peer: vec![] });
        }
        &mut self.runs[place]
    }

    fn has_note(&self, scene: &str) -> bool {
        self.notes.iter().any(|note| note.starts_with(&format!("{scene}: ")))
    }

    /// A row for each figure. The ratio is ours by the peer's of the same run.
    fn table(&self) -> String {
        let mut table = Table::new(["", "figure", "ours", "peer", "ratio"]);
        for Runs { scene, figure, ours, peer } in &self.runs {
            let is_paired = !peer.is_empty() && peer.len() == ours.len();
            let ratios: Vec<_> = ours.iter().zip(peer).map(|(ours, peer)| ours / peer).collect();
            let [peer, ratio] = match is_paired {
                true => [spread(peer), spread(&ratios)],
                false => [String::new(), String::new()],
            };
            table.row([scene.clone(), (*figure).to_owned(), spread(ours), peer, ratio]);
        }
        table.text()
    }

    /// NaN, which no goal accepts, if our binary was not measured.
    fn median(&self, scene: &str, figure: &str) -> f64 {
        let found = self.runs.iter().find(|runs| runs.scene == scene && runs.figure == figure);
        found.map_or(f64::NAN, |runs| median(&runs.ours))
    }

    /// The size of a file is exact. Peak memory misses its budget widely or not at all.
    fn goals(&self) -> Vec<Goal> {
        let bytes = budget::BYTES.iter().map(|(name, budget)| {
            let (measured, goal) = (self.median(name, "binary, bytes"), *budget as f64);
            Goal { what: name, unit: " bytes", measured, goal, broken: goal + 1.0 }
        });
        let peaks = [
            ("peak memory of lock, idle", "lock, idle", 2048.0),
            ("peak memory of lock, 1000 waiters", "lock, 1000 waiters", 4096.0),
            ("peak memory of init", "init, waiting", 1536.0),
            ("peak memory of health, 1000 DaemonSets, TLS", "health, 1000 DaemonSets, TLS", 4096.0),
        ];
        let peaks = peaks.map(|(what, scene, goal)| {
            let measured = self.median(scene, PEAK);
            Goal { what, unit: " KiB", measured, goal, broken: goal * 1.5 }
        });
        bytes.chain(peaks).collect()
    }
}

/// A peer has no image here.
fn bytes(file: &Path, image: Option<&Path>) -> Result<Figures, String> {
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

fn lock_scenes(lock: &Pair) -> Vec<Scene<'_>> {
    let mut scenes = vec![scene("lock, idle", lock, lock_idle)];
    for callers in CALLERS {
        let name = format!("lock, {callers} callers");
        scenes.push(scene(name, lock, move |file| start_lock(file)?.requests(200, QUERY, callers)));
    }
    for waiters in WAITERS {
        let name = format!("lock, {waiters} waiters");
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

fn health_scenes(health: &Pair) -> Vec<Scene<'_>> {
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

    fn pair_of(peer: bool) -> Pair {
        Pair { ours: "ours".into(), peer: peer.then(|| "peer".into()) }
    }

    #[test]
    fn runs_are_paired_in_turn() {
        let pair = pair_of(true);
        let mut order = Vec::new();
        let both = |file: &Path| {
            order.push(file.to_owned());
            Ok(vec![("ms", order.len() as f64)])
        };
        let measured = measure(&mut [scene("a", &pair, both)], 2);
        assert_eq!(measured.runs[0].ours, [1.0, 4.0]);
        assert_eq!(measured.runs[0].peer, [2.0, 3.0]);
        let table = measured.table();
        assert!(table.contains("2.50 (1.00–4.00) |"), "{table}");
        assert!(table.contains("0.92 (0.50–1.33) |"), "{table}");
    }

    #[test]
    fn a_peer_that_fails_is_noted_once_and_ours_is_a_failure() {
        let pair = pair_of(true);
        let fails = |name: &'static str| {
            move |file: &Path| match file == Path::new(name) {
                true => Err("status 404".to_owned()),
                false => Ok(vec![("ms", 1.0)]),
            }
        };
        let measured = measure(&mut [scene("a", &pair, fails("peer"))], 3);
        assert_eq!(measured.notes, ["a: the peer cannot be measured: status 404"]);
        assert_eq!((measured.runs[0].ours.len(), measured.runs[0].peer.len()), (3, 0));
        let measured = measure(&mut [scene("a", &pair, fails("ours"))], 2);
        assert_eq!(measured.failures, ["a, run 1: status 404", "a, run 2: status 404"]);
    }

    #[test]
    fn a_figure_without_a_measurement_breaks_its_goal() {
        let broken = |measured: &Measured| {
            measured.goals().iter().filter_map(|goal| goal.broken("cost")).count()
        };
        let mut measured = Measured::default();
        assert_eq!(broken(&measured), 7);
        measured.take("lock, idle", 0, Ok(vec![(PEAK, 2048.0)]), None);
        assert_eq!(broken(&measured), 6);
    }

    #[test]
    fn scenes_of_lock_and_health_have_different_names() {
        let pair = pair_of(false);
        let scenes = lock_scenes(&pair).into_iter().chain(health_scenes(&pair));
        let mut names: Vec<_> = scenes.map(|scene| scene.name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = bytes(Path::new("/bin/sh"), Some(Path::new("/no/image.tar"))).unwrap_err();
        assert!(error.starts_with("gzip -9 of /no/image.tar: "), "{error}");
        assert_eq!(init_runs(Path::new("/bin/true")).map(|figures| figures.len()), Ok(1));
        assert!(init_runs(Path::new("/bin/false")).is_err());
    }
}
