//! A node's morning with real processes: each pod's init, the kubelet's latency, the application, the start-up probe
//! that kills what is late, and the back-off. A thread for each pod plays the kubelet.
//!
//! As on a node, init is not run again when an application is restarted. Simpler than on a node: all pods come at
//! once, and the probe learns at once that an application is ready.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use testkit::application::Application;
use testkit::program::{Program, Running, threads_time};
use testkit::relay::Relay;
use testkit::scratch::Scratch;

use super::remedy::{Gate, Lease, Trouble};
use super::settings::Scale;
use super::timeline::{Doing, Morning, Pod};

/// From a lock's end to its next start: what was seen of the first restart of a container.
pub const LOCK_AWAY: Duration = Duration::from_millis(1_500);

/// init's own default.
const PAUSE: Duration = Duration::from_secs(1);

/// init refuses a shorter `--pause`.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// One of so many answers is lost, where some are.
const LOST: usize = 20;

const STACK: usize = 128 * 1024;

/// What an application's start is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    pub cpu: Duration,
    pub waiting: Duration,
    pub threads: usize,
}

/// A node, its pods and what is tried. All times are the node's.
#[derive(Clone)]
pub struct Node {
    pub starts: Vec<Start>,
    pub gate: Option<Gate>,
    pub cores: usize,
    /// What a start takes alone on the node.
    pub start: Duration,
    pub latency: Duration,
    /// An application that is not ready so long after its start is killed.
    pub deadline: Duration,
    pub cut_off: Duration,
    pub scale: Scale,
    pub lock: PathBuf,
    pub init: PathBuf,
}

/// A lock that runs, perhaps not always.
struct Guard {
    program: Program,
    running: Running,
    address: SocketAddr,
    relay: Option<Relay>,
    lease: Lease,
    trouble: Trouble,
    /// Where its state file is.
    _scratch: Scratch,
}

/// Ended on drop, also where the run is broken off.
struct Process(Child);

/// What the pods of a run share.
struct Run<'a> {
    node: &'a Node,
    /// Where the inits ask, and for which lease.
    asked: Option<(SocketAddr, Lease)>,
    application: PathBuf,
    begin: Instant,
}

impl Node {
    pub fn morning(&self) -> Result<Morning, String> {
        let mut guard = self.gate.map(|gate| Guard::start(self, gate));
        let applications: Vec<_> =
            self.starts.iter().map(|_| Application::starting(Ipv4Addr::LOCALHOST)).collect();
        let application =
            std::env::current_exe().map_err(|e| format!("where this program is: {e}"))?;
        let run = Run {
            node: self,
            asked: guard.as_ref().map(|guard| (guard.asked(), guard.lease)),
            application: application.with_file_name("application"),
            begin: Instant::now(),
        };
        thread::scope(|scope| {
            let (ready, news) = channel();
            let mut pods = Vec::new();
            for (number, application) in applications.iter().enumerate() {
                let (run, ready) = (&run, ready.clone());
                let pod = move || run.pod(number, application, &ready);
                let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, pod);
                pods.push(thread.map_err(|e| format!("a thread for a pod: {e}"))?);
            }
            drop(ready);
            let end = run.watch(&news, guard.as_mut());
            let pods = pods
                .into_iter()
                .map(|pod| pod.join().map_err(|_| "a thread of a pod has failed".to_owned())?);
            // Those that are ready run until all are.
            let (pods, _processes): (Vec<_>, Vec<_>) =
                pods.collect::<Result<Vec<_>, String>>()?.into_iter().unzip();
            end?;
            Ok(Morning { pods, cut_off: self.cut_off })
        })
    }

    /// Up to an eighth more or less, the same for a pod in each run: a kubelet takes care of one after the other.
    fn latency(&self, pod: usize) -> Duration {
        let spread = (pod * 7 % 11) as u32;
        self.latency * (35 + spread) / 40
    }
}

/// Before the restart of this number; 0 is the first start. As was seen of the kubelet the first restart comes at once,
/// the second after ten seconds, and each later one after twice the time, five minutes at most.
pub fn back_off(restart: u32) -> Duration {
    const FIRST: u64 = 10;
    const MOST: u64 = 300;
    match restart {
        0 | 1 => Duration::ZERO,
        later => Duration::from_secs(FIRST.saturating_mul(1 << (later - 2).min(10)).min(MOST)),
    }
}

impl Guard {
    fn start(node: &Node, gate: Gate) -> Guard {
        let scratch = Scratch::new();
        let program = Program::at(&node.lock).args([
            "--host=127.0.0.1",
            "--locks",
            &gate.slots.argument(node.cores),
        ]);
        let program = match gate.trouble {
            Trouble::Restart => program.arg("--state-file").arg(scratch.join("state")),
            Trouble::Calm | Trouble::LostAnswers => program,
        };
        let mut running = program.clone().arg("--port=0").start();
        let address = running.addr();
        let through = |_: &[(String, String)]| Ipv4Addr::LOCALHOST.into();
        let relay =
            (gate.trouble == Trouble::LostAnswers).then(|| Relay::start(address, LOST, through));
        Guard {
            program,
            running,
            address,
            relay,
            lease: gate.lease,
            trouble: gate.trouble,
            _scratch: scratch,
        }
    }

    fn asked(&self) -> SocketAddr {
        self.relay.as_ref().map_or(self.address, Relay::address)
    }

    /// As the kubelet does with a container that has crashed.
    fn restart(&mut self, away: Duration) {
        self.running.signal("KILL");
        thread::sleep(away);
        self.running =
            self.program.clone().args(["--port", &self.address.port().to_string()]).start();
        // Asked for nothing but that it listens.
        self.running.port();
    }
}

impl Run<'_> {
    /// Until all are ready, or it is cut off.
    fn watch(&self, news: &Receiver<()>, mut guard: Option<&mut Guard>) -> Result<(), String> {
        let all = self.node.starts.len();
        for ready in 1..=all {
            let left = self.end().saturating_duration_since(Instant::now());
            if news.recv_timeout(left).is_err() {
                break;
            }
            if let Some(guard) =
                guard.as_mut().filter(|guard| guard.trouble == Trouble::Restart && ready == all / 2)
            {
                guard.restart(self.node.scale.here(LOCK_AWAY));
            }
        }
        let has_ended = guard.and_then(|guard| guard.running.try_wait());
        has_ended.map_or(Ok(()), |code| Err(format!("the lock has ended with {code}")))
    }

    /// One pod's morning, and its application if that is ready.
    fn pod(
        &self,
        number: usize,
        at: &Application,
        news: &Sender<()>,
    ) -> Result<(Pod, Option<Process>), String> {
        let mut pod = Pod::default();
        if let Some((lock, lease)) = self.asked {
            pod.begins(Doing::Waiting, self.now());
            let through =
                self.init(number, lock, lease, at).map_err(|e| format!("an init: {e}"))?;
            if !through {
                return Ok((pod, None));
            }
        }
        for restart in 0.. {
            pod.begins(Doing::Idle, self.now());
            if !self.rest(self.node.latency(number) + back_off(restart)) {
                break;
            }
            pod.begins(Doing::Starting, self.now());
            let mut process =
                self.application(number, at).map_err(|e| format!("an application: {e}"))?;
            let deadline = Instant::now() + self.node.scale.here(self.node.deadline);
            if process
                .has_told(deadline.min(self.end()))
                .map_err(|e| format!("an application's output: {e}"))?
            {
                pod.begins(Doing::Ready, self.now());
                process.said_ready()?;
                // Nobody listens any more once the run was cut off.
                let _ = news.send(());
                return Ok((pod, Some(process)));
            }
            if self.is_over() {
                break;
            }
            let late = self.now();
            let spent = threads_time(process.0.id().cast_signed())
                .map_err(|e| format!("an application's time: {e}"))?;
            // A thread has to have a turn to die, so on a full node that takes a while.
            drop(process);
            pod.killed(late, self.node.scale.on_the_node(spent));
        }
        Ok((pod, None))
    }

    /// Runs a pod's init; false where the run was cut off before it was let through.
    fn init(
        &self,
        number: usize,
        lock: SocketAddr,
        lease: Lease,
        at: &Application,
    ) -> io::Result<bool> {
        let here = |duration| format!("{}ms", self.node.scale.here(duration).as_millis());
        let mut command = Command::new(&self.node.init);
        command.args(["--host=127.0.0.1", "--port", &lock.port().to_string()]);
        let pause = format!("{}ms", self.node.scale.here(PAUSE).max(SHORTEST_PAUSE).as_millis());
        command.args(["--holder", &format!("bench/pod-{number:03}/uid"), "--pause", &pause]);
        command.args(["--wait=30s", "--on-timeout=fail"]);
        // So that it ends even where this program is killed and cannot end it.
        command.args(["--max-wait=1h", "--unreachable-wait=1m"]);
        command.args(["--duration", &here(lease.duration(self.node.latency + self.node.start))]);
        if lease == Lease::UntilReady {
            command.args(["--ready", &at.ready()]);
        }
        let mut init = Process::start(command.stdin(Stdio::null()))?;
        // It writes nothing there, so that what is told is its end.
        if !init.has_told(self.end())? {
            return Ok(false);
        }
        let status = init.0.wait()?;
        if status.success() {
            Ok(true)
        } else {
            Err(io::Error::other(format!("it did not get through: {status}")))
        }
    }

    fn application(&self, number: usize, at: &Application) -> io::Result<Process> {
        let Start { cpu, waiting, threads } = self.node.starts[number];
        let here = |duration| self.node.scale.here(duration).as_micros().to_string();
        let mut command = Command::new(&self.application);
        Process::start(
            command.args([here(cpu), threads.to_string(), here(waiting)]).stdin(at.socket()),
        )
    }

    /// False where the run is cut off before that.
    fn rest(&self, on_the_node: Duration) -> bool {
        let left = self.end().saturating_duration_since(Instant::now());
        thread::sleep(self.node.scale.here(on_the_node).min(left));
        !self.is_over()
    }

    fn now(&self) -> Duration {
        self.node.scale.on_the_node(self.begin.elapsed())
    }

    fn end(&self) -> Instant {
        self.begin + self.node.scale.here(self.node.cut_off)
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end()
    }
}

impl Process {
    fn start(command: &mut Command) -> io::Result<Process> {
        command.env_clear().stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map(Process)
    }

    /// Whether it has written to its output, or ended, by then.
    fn has_told(&self, until: Instant) -> io::Result<bool> {
        let output = self.0.stdout.as_ref().ok_or_else(|| io::Error::other("it has no output"))?;
        is_readable(output, until)
    }

    fn said_ready(&mut self) -> Result<(), String> {
        let mut byte = [0];
        let read = self.0.stdout.as_mut().map_or(Ok(0), |output| output.read(&mut byte));
        match read {
            Ok(1) => Ok(()),
            _ => Err("an application ended before it was ready".to_owned()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for one that has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_readable(pipe: &ChildStdout, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::CEILING;

    #[test]
    fn the_back_off_doubles_up_to_five_minutes() {
        let seconds = |restart| back_off(restart).as_secs();
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, 7, 100].map(seconds),
            [0, 0, 10, 20, 40, 80, 160, 300, 300]
        );
    }

    #[test]
    fn a_process_tells_by_a_byte_or_by_its_end() {
        let soon = Duration::from_millis(20);
        let start =
            |script: &str| Process::start(Command::new("/bin/sh").args(["-c", script])).unwrap();
        let mut ready = start("echo ready; exec /bin/sleep 60");
        assert!(ready.has_told(Instant::now() + CEILING).unwrap());
        ready.said_ready().unwrap();
        let silent = start("exec /bin/sleep 60");
        assert!(!silent.has_told(Instant::now() + soon).unwrap());
        let mut over = start("exit 0");
        assert!(over.has_told(Instant::now() + CEILING).unwrap());
        over.said_ready().unwrap_err();
    }
}
