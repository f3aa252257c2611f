//! The time and the CPU with which health follows the Kubernetes API of a large cluster: from the
//! last byte of an answer
//! or event to the verdict in `/metrics`.
//!
//! The API server replays recordings in this process, over TLS. It prepares an answer before the
//! measured time begins.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use testkit::CEILING;
use testkit::api::{Api, TOKEN};
use testkit::http::Request;
use testkit::large::{Large, ON_NODE, SETS};
use testkit::program::{Program, Running};
use testkit::scratch::Scratch;
use testkit::tls::Authority;

use crate::Options;
use crate::goal::Goal;
use crate::machine;
use crate::results::Section;
use crate::table::{Table, quantile};

const STARTS: usize = 5;
/// Events whose verdict is polled for.
const SEEN: usize = 50;
/// Events whose CPU is measured; no client asks health meanwhile.
const ALONE: usize = 100;

const DAEMONSETS: &str = "/apis/apps/v1/daemonsets";
const PODS: &str = "/api/v1/pods";
const NODE: &str = "/api/v1/nodes/node-big";

/// The pause between two reads of the verdict.
const LOOK: Duration = Duration::from_millis(1);
/// The work of an event is done if health uses no CPU for this long.
const QUIET: Duration = Duration::from_millis(10);

pub struct Scene {
    pub api: Api,
    large: Large,
    authority: Authority,
    files: Scratch,
}

#[derive(Default)]
struct Measured {
    from_list: Vec<Duration>,
    from_event: Vec<Duration>,
    cpu_of_start: Vec<Duration>,
    cpu_of_event: Vec<Duration>,
    peak_kib: u64,
}

pub fn run(options: &Options) -> Result<Section, String> {
    let mut text = machine::described("health", &options.health);
    text += &format!(
        "- {SETS} DaemonSets, {ON_NODE} pods of theirs on the node, each as large as recorded ones; a replaying API server \
         with TLS on the same cores; the verdict is looked for in `/metrics` each {LOOK:?}\n\
         - {STARTS} starts; {SEEN} events (a pod becomes ready, or ceases to be) to the verdict; {ALONE} more whose CPU is \
         that of all of health's threads until they rest, without a client\n\n",
    );
    let mut measured = measure(options)?;
    text += &measured.table().text();
    text += "\n### Goals\n\n";
    let goals = measured.goals();
    text.extend(goals.iter().map(Goal::line));
    let broken = goals.iter().filter_map(|goal| goal.broken("health")).collect();
    Ok(Section { title: "Health", text, broken })
}

/// The recorded objects.
pub fn recorded() -> PathBuf {
    testkit::root().join("health/tests/data")
}

fn measure(options: &Options) -> Result<Measured, String> {
    let mut measured = Measured::default();
    let mut last = None;
    for _ in 0..STARTS {
        // The API server of the last start would go on to send events.
        drop(last.take());
        let scene = Scene::of(Large::of(&recorded().join("scale")), true);
        let mut health = scene.start(&options.health);
        let waiting = first_verdict(&scene, &mut health, &mut measured)?;
        measured.peak_kib = measured.peak_kib.max(health.memory_peak_kib());
        last = Some((health, scene, waiting));
    }
    let (mut health, mut scene, waiting) = last.ok_or("health was never started")?;
    testkit::eventually("two watches", CEILING, || (scene.api.watches() == 2).then_some(()));
    for number in 0..SEEN {
        let (sent, expected) = scene.change(number, waiting);
        let seen = wait_for_verdict(health.addr(), expected)?;
        measured.from_event.push(seen.saturating_duration_since(sent));
    }
    for number in 0..ALONE {
        let before = at_rest(&health);
        let (_, expected) = scene.change(number, waiting);
        measured.cpu_of_event.push(at_rest(&health).saturating_sub(before));
        wait_for_verdict(health.addr(), expected)?;
    }
    measured.peak_kib = measured.peak_kib.max(health.memory_peak_kib());
    Ok(measured)
}

/// The number of DaemonSets that health waits for.
fn first_verdict(
    scene: &Scene,
    health: &mut Running,
    measured: &mut Measured,
) -> Result<usize, String> {
    let address = health.addr();
    let end = Instant::now() + 3 * CEILING;
    let waiting = loop {
        if count(address, "ready") == Some(ON_NODE) {
            break count(address, "waiting");
        }
        if Instant::now() > end {
            return Err(format!("no first verdict\n{health}"));
        }
        thread::sleep(LOOK);
    };
    let seen = Instant::now();
    let sent = [DAEMONSETS, PODS, NODE].iter().filter_map(|path| scene.api.last_sent(path)).max();
    let sent = sent.ok_or("nothing was ever sent")?;
    measured.from_list.push(seen.saturating_duration_since(sent));
    measured.cpu_of_start.push(health.cpu_time());
    waiting.ok_or_else(|| format!("no verdict\n{health}"))
}

/// The moment at which health waits for this many DaemonSets.
fn wait_for_verdict(address: SocketAddr, waiting: usize) -> Result<Instant, String> {
    let end = Instant::now() + CEILING;
    while count(address, "waiting") != Some(waiting) {
        if Instant::now() > end {
            return Err(format!(
                "the verdict never came to {waiting} DaemonSets that are waited for"
            ));
        }
        thread::sleep(LOOK);
    }
    Ok(Instant::now())
}

/// The number of DaemonSets with this verdict; `None` without an answer.
fn count(address: SocketAddr, verdict: &str) -> Option<usize> {
    let metrics = Request::get("/metrics").send(address, CEILING).ok()?;
    let start = format!("psl_daemonsets{{verdict=\"{verdict}\"}} ");
    metrics.body.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
}

/// The CPU time of all threads, once they are idle.
fn at_rest(health: &Running) -> Duration {
    loop {
        let before = health.threads_time();
        thread::sleep(QUIET);
        if health.threads_time() == before {
            return before;
        }
    }
}

impl Scene {
    /// With TLS and a token, or plain and open as behind `kubectl proxy`.
    pub fn of(large: Large, tls: bool) -> Scene {
        let (authority, files) = (Authority::new(), Scratch::new());
        let answers = recorded().join("answers");
        let api = match tls {
            true => Api::start_tls(answers, &authority.issue(&["127.0.0.1"])),
            false => Api::start(answers),
        };
        api.open(!tls);
        files.file("token", TOKEN);
        api.set(DAEMONSETS, large.daemonsets.clone());
        api.set(PODS, large.pods.clone());
        api.set(NODE, large.node.clone());
        Scene { api, large, authority, files }
    }

    /// The files of the CA certificate and the token.
    pub fn credentials(&self) -> [PathBuf; 2] {
        [self.authority.file().to_path_buf(), self.files.join("token")]
    }

    /// The periods are so long that health lists no object again during the measurement.
    fn start(&self, health: &Path) -> Running {
        let health = Program::at(health).args([
            "--host=127.0.0.1",
            "--port=0",
            "--failHc=1h",
            "--passHc=1h",
        ]);
        let health =
            health.args(["--node-name=node-big", "--baseUrl", &self.api.url(), "--ca-file"]);
        let [ca, token] = self.credentials();
        health.arg(ca).arg("--token-file").arg(token).start()
    }

    /// Changes the readiness of one pod after the other. Returns the time of the event and the
    /// number of DaemonSets that
    /// health waits for then.
    fn change(&mut self, number: usize, waiting: usize) -> (Instant, usize) {
        let is_ready = number % 2 == 1;
        self.large.pod_ready(number / 2 % ON_NODE, is_ready);
        let before = Instant::now();
        self.api.set(PODS, self.large.pods.clone());
        let sent = || self.api.last_sent(PODS).filter(|sent| *sent > before);
        let end = before + CEILING;
        loop {
            match sent() {
                Some(sent) => return (sent, waiting + usize::from(!is_ready)),
                None => assert!(Instant::now() < end, "the event was never sent"),
            }
            thread::yield_now();
        }
    }
}

impl Measured {
    fn table(&mut self) -> Table {
        let mut table = Table::new(["", "n", "median ms", "p90 ms", "max ms"]);
        for (name, taken) in [
            ("last byte of the lists → verdict", &mut self.from_list),
            ("event → verdict", &mut self.from_event),
            ("CPU from the start to the first verdict", &mut self.cpu_of_start),
            ("CPU of an event", &mut self.cpu_of_event),
        ] {
            taken.sort_unstable();
            let cells =
                [0.5, 0.9, 1.0].map(|share| format!("{:.2}", millis(quantile(taken, share))));
            table.row([name.to_owned(), taken.len().to_string()].into_iter().chain(cells));
        }
        table
    }

    /// Invariant: the durations are sorted.
    fn goals(&self) -> [Goal; 4] {
        let at_half = |taken: &[Duration]| {
            if taken.is_empty() { f64::NAN } else { millis(quantile(taken, 0.5)) }
        };
        [
            Goal::new(
                "from the last byte of the lists to the verdict",
                " ms",
                at_half(&self.from_list),
                1000.0,
                5000.0,
            ),
            Goal::new(
                "from an event to the verdict",
                " ms",
                at_half(&self.from_event),
                1000.0,
                5000.0,
            ),
            Goal::new("CPU of an event", " ms", at_half(&self.cpu_of_event), 1.0, 5.0),
            Goal::new("peak memory", " KiB", self.peak_kib as f64, 4096.0, 6144.0),
        ]
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_broken() {
        let all = |measured: &Measured| {
            measured.goals().iter().filter_map(|goal| goal.broken("health")).count()
        };
        assert_eq!(all(&Measured::default()), 3);
        let taken = || vec![Duration::from_micros(900)];
        let (from_list, from_event, cpu_of_event) = (taken(), taken(), taken());
        let measured =
            Measured { from_list, from_event, cpu_of_event, peak_kib: 4096, ..Measured::default() };
        assert_eq!(all(&measured), 0);
        assert_eq!(all(&Measured { peak_kib: 6144, ..measured }), 1);
    }

    #[test]
    fn a_verdict_is_read_from_the_metrics() {
        let server = testkit::scripted::Server::start(testkit::scripted::Behaviour::ok(
            "psl_daemonsets{verdict=\"ready\"} 250\npsl_daemonsets{verdict=\"waiting\"} 7\n",
        ));
        assert_eq!(
            (count(server.addr(), "waiting"), count(server.addr(), "ready")),
            (Some(7), Some(250))
        );
        assert_eq!(count(server.addr(), "other"), None);
    }
}
