//! One run with real processes: for each pod its init, the kubelet's latency, the application, the
//! start-up probe that
//! kills a late start, and the back-off. A thread for each pod plays the kubelet.
//!
//! As on a node, a restart of the application does not run init again. Simpler than on a node: all
//! pods come at once, and
//! the probe has no period.

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
use super::timeline::{Pod, PodState, RunResult};

/// From a lock's end to its next start, as measured for the first restart of a container.
pub const LOCK_AWAY: Duration = Duration::from_millis(1_500);

/// The default of init.
const PAUSE: Duration = Duration::from_secs(1);

/// init refuses a shorter `--pause`.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// The relay loses one answer of this many.
const LOST: usize = 20;

const STACK: usize = 128 * 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    pub cpu: Duration,
    pub waiting: Duration,
    pub threads: usize,
}

/// A node, its pods and the remedy. All times are the node's.
#[derive(Clone)]
pub struct Node {
    pub starts: Vec<Start>,
    pub gate: Option<Gate>,
    pub cores: usize,
    /// The length of a start alone on the node.
    pub start: Duration,
    pub latency: Duration,
    /// The start-up probe kills an application that is not ready after this time.
    pub deadline: Duration,
    pub cut_off: Duration,
    pub scale: Scale,
    pub lock: PathBuf,
    pub init: PathBuf,
}

/// The lock, which may be restarted.
struct Guard {
    program: Program,
    running: Running,
    address: SocketAddr,
    relay: Option<Relay>,
    lease: Lease,
    trouble: Trouble,
    /// The directory of the state file.
    _scratch: Scratch,
}

/// A process that is killed on drop.
struct Process(Child);

struct Run<'a> {
    node: &'a Node,
    /// The lock's address, and the lease that the inits ask for.
    asked: Option<(SocketAddr, Lease)>,
    application: PathBuf,
    begin: Instant,
}

impl Node {
    pub fn run(&self) -> Result<RunResult, String> {
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
            // Ready applications run until all are ready.
            let (pods, _processes): (Vec<_>, Vec<_>) =
                pods.collect::<Result<Vec<_>, String>>()?.into_iter().unzip();
            end?;
            Ok(RunResult { pods, cut_off: self.cut_off })
        })
    }

    /// Up to an eighth more or less, the same for a pod in each run: a kubelet starts one pod after
    /// the other.
    fn latency(&self, pod: usize) -> Duration {
        let spread = (pod * 7 % 11) as u32;
        self.latency * (35 + spread) / 40
    }
}

/// The pause before this restart; 0 is the first start. As measured on a kubelet, the first restart
/// comes at once, the
/// second after ten seconds, and each later one after twice the time, five minutes at most.
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

    /// As the kubelet restarts a crashed container.
    fn restart(&mut self, away: Duration) {
        self.running.signal("KILL");
        thread::sleep(away);
        self.running =
            self.program.clone().args(["--port", &self.address.port().to_string()]).start();
        // Waits until the lock listens.
        self.running.port();
    }
}

impl Run<'_> {
    /// Returns when all applications are ready, or at the cut-off.
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

    /// Returns the application if it is ready.
    fn pod(
        &self,
        number: usize,
        at: &Application,
        news: &Sender<()>,
    ) -> Result<(Pod, Option<Process>), String> {
        let mut pod = Pod::default();
        if let Some((lock, lease)) = self.asked {
            pod.begins(PodState::Waiting, self.now());
            let through =
                self.init(number, lock, lease, at).map_err(|e| format!("an init: {e}"))?;
            if !through {
                return Ok((pod, None));
            }
        }
        for restart in 0.. {
            pod.begins(PodState::Idle, self.now());
            if !self.rest(self.node.latency(number) + back_off(restart)) {
                break;
            }
            pod.begins(PodState::Starting, self.now());
            let mut process =
                self.application(number, at).map_err(|e| format!("an application: {e}"))?;
            let deadline = Instant::now() + self.node.scale.here(self.node.deadline);
            if process
                .has_output_by(deadline.min(self.end()))
                .map_err(|e| format!("an application's output: {e}"))?
            {
                pod.begins(PodState::Ready, self.now());
                process.read_ready()?;
                // After the cut-off the receiver is gone.
                let _ = news.send(());
                return Ok((pod, Some(process)));
            }
            if self.is_over() {
                break;
            }
            let late = self.now();
            let spent = threads_time(process.0.id().cast_signed())
                .map_err(|e| format!("an application's time: {e}"))?;
            // A killed thread needs a time slice to end, which takes a while on a full node.
            drop(process);
            pod.killed(late, self.node.scale.on_the_node(spent));
        }
        Ok((pod, None))
    }

    /// Runs a pod's init. `false` if the cut-off came first.
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
        // init ends by itself if this program is killed.
        command.args(["--max-wait=1h", "--unreachable-wait=1m"]);
        command.args(["--duration", &here(lease.duration(self.node.latency + self.node.start))]);
        if lease == Lease::UntilReady {
            command.args(["--ready", &at.ready()]);
        }
        let mut init = Process::start(command.stdin(Stdio::null()))?;
        // init writes no output, so this waits for its end.
        if !init.has_output_by(self.end())? {
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

    /// `false` if the cut-off came first.
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

    /// Whether the process has written output, or ended, by then.
    fn has_output_by(&self, until: Instant) -> io::Result<bool> {
        let output = self.0.stdout.as_ref().ok_or_else(|| io::Error::other("it has no output"))?;
        is_readable(output, until)
    }

    fn read_ready(&mut self) -> Result<(), String> {
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
        // Both fail only if the process has ended.
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
        assert!(ready.has_output_by(Instant::now() + CEILING).unwrap());
        ready.read_ready().unwrap();
        let silent = start("exec /bin/sleep 60");
        assert!(!silent.has_output_by(Instant::now() + soon).unwrap());
        let mut over = start("exit 0");
        assert!(over.has_output_by(Instant::now() + CEILING).unwrap());
        over.read_ready().unwrap_err();
    }
}
