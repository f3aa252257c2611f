//! A herd of real inits at a real lock: each gets one lease, in the order of arrival, and never
//! more at a time than slots, even if answers are lost or the lock is killed meanwhile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::application::Application;
use testkit::http::Request;
use testkit::program::{Program, Running, field};
use testkit::relay::Relay;
use testkit::scratch::Scratch;
use testkit::{CEILING, eventually};

use crate::shell;

const PODS: usize = 20;
const SLOTS: usize = 2;

/// The bound for the whole herd, which takes four seconds without faults.
const THROUGH: Duration = Duration::from_secs(50);

/// The time between two readings of the lock's state.
const EVERY: Duration = Duration::from_millis(20);

/// The test's own address, so that it uses no connection of the herd's quota.
const WATCHER: Ipv4Addr = Ipv4Addr::new(127, 0, 4, 1);

fn holder(pod: usize) -> String {
    format!("herd/pod-{pod:02}/uid")
}

fn pod(holder: &str) -> usize {
    let number = holder.strip_prefix("herd/pod-").and_then(|rest| rest.strip_suffix("/uid"));
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("holder outside of the herd: {holder:?}"))
}

/// The time from the end of init to the application's open port, 100 to 600 ms, the same in each
/// run.
fn start_times() -> impl Iterator<Item = Duration> {
    let step = |x: &u64| {
        Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    std::iter::successors(Some(7), step)
        .skip(1)
        .map(|x| Duration::from_millis(100 + (x >> 33) % 501))
}

/// The holders and the waiters in the lock's state; `None` while the lock is down.
fn look(lock: SocketAddr) -> Option<(Vec<usize>, Vec<usize>)> {
    let state = Request::get("/state").from(WATCHER).send(lock, CEILING).ok()?.json();
    let pods = |list: &str| {
        let entries = state[list].as_array().unwrap_or_else(|| panic!("no {list} in {state}"));
        entries.iter().map(|entry| pod(entry["holder"].as_str().unwrap())).collect::<Vec<_>>()
    };
    let (leases, queue) = (pods("leases"), pods("queue"));
    assert!(leases.len() <= SLOTS && state["slots_in_use"] == leases.len(), "{state}");
    Some((leases, queue))
}

/// The times of the applications: an init ends after its lease has begun, and a port opens before
/// the lease ends.
#[derive(Default)]
struct Starts {
    under_way: usize,
    most_at_a_time: usize,
    is_open: [bool; PODS],
}

/// Whether this state of the lock is allowed after the earlier ones.
#[derive(Default)]
struct Watch {
    last_served: Option<usize>,
    /// Waiters may lose their connections; a connected waiter gets the free slot.
    is_absence_expected: bool,
}

impl Watch {
    /// Waiters came after all served pods, except waiters without a connection while a slot is
    /// free.
    fn look(&mut self, lock: SocketAddr) {
        let Some((leases, queue)) = look(lock) else { return };
        self.last_served = self.last_served.max(leases.iter().max().copied());
        let overtaken = queue.iter().filter(|waiting| Some(**waiting) < self.last_served).count();
        assert!(
            self.is_absence_expected || overtaken <= SLOTS - leases.len(),
            "{queue:?} wait, {leases:?} run, {:?} was served",
            self.last_served
        );
    }
}

struct Herd {
    starts: Arc<Mutex<Starts>>,
    pods: Vec<JoinHandle<TcpListener>>,
    watcher: JoinHandle<()>,
    is_over: Arc<AtomicBool>,
}

impl Herd {
    /// Starts one pod after the other, each when the one before is in the queue. `ask` is the
    /// address for their requests, `lock` the lock itself.
    #[track_caller]
    fn start(
        init: &Program,
        ask: SocketAddr,
        lock: SocketAddr,
        address: impl Fn(usize) -> IpAddr,
        watch: Watch,
    ) -> Herd {
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let watcher = thread::spawn(move || {
            let mut watch = watch;
            while !until.load(Ordering::SeqCst) {
                watch.look(lock);
                thread::sleep(EVERY);
            }
        });
        let starts = Arc::<Mutex<Starts>>::default();
        let begin = |(number, takes): (usize, Duration)| {
            let application = Application::starting(address(number));
            let (host, port) = (ask.ip().to_string(), ask.port().to_string());
            let init = init.clone().args([
                "--host",
                &host,
                "--port",
                &port,
                "--duration=60s",
                "--pause=500ms",
            ]);
            let init =
                init.args(["--max-wait=45s", "--on-timeout=fail", "--ready", &application.ready()]);
            let running = init.args(["--holder", &holder(number)]).start();
            let starts_of_all = Arc::clone(&starts);
            let thread = thread::spawn(move || {
                go_through(number, running, application, takes, &starts_of_all)
            });
            let has_come = || {
                let is_known = look(lock).is_some_and(|(leases, queue)| {
                    leases.iter().chain(&queue).any(|pod| *pod == number)
                });
                (is_known || thread.is_finished()).then_some(())
            };
            eventually(&format!("pod {number} in the queue"), CEILING, has_come);
            thread
        };
        let pods = (0..PODS).zip(start_times()).map(begin).collect();
        Herd { starts, pods, watcher, is_over }
    }

    /// Waits until each pod has started and no lease is active.
    #[track_caller]
    fn finish(self, lock: SocketAddr) {
        let open: Vec<_> =
            self.pods.into_iter().map(|pod| pod.join().expect("a pod that gets through")).collect();
        eventually("the last leases end", CEILING, || {
            look(lock).filter(|(leases, _)| leases.is_empty())
        });
        drop(open);
        self.is_over.store(true, Ordering::SeqCst);
        self.watcher.join().expect("at most two leases, and the order of arrival, at each look");
        let most = self.starts.lock().unwrap().most_at_a_time;
        assert_eq!(most, SLOTS, "applications that were starting at the same time");
    }
}

/// Waits from the end of init to the start of the application, and returns its open port.
fn go_through(
    number: usize,
    init: Running,
    application: Application,
    takes: Duration,
    starts: &Mutex<Starts>,
) -> TcpListener {
    init.wait(THROUGH).expect_code(0);
    {
        let mut starts = starts.lock().unwrap();
        starts.under_way += 1;
        starts.most_at_a_time = starts.most_at_a_time.max(starts.under_way);
    }
    thread::sleep(takes);
    {
        let mut starts = starts.lock().unwrap();
        starts.under_way -= 1;
        starts.is_open[number] = true;
    }
    application.open()
}

/// The holders of these lines of a lock's log, in their order.
fn holders(lines: &[String], fits: impl Fn(&str) -> bool) -> Vec<usize> {
    let of = lines.iter().filter(|line| field(line, "msg").is_some_and(|msg| fits(&msg)));
    of.map(|line| pod(&field(line, "holder").unwrap())).collect()
}

fn granted(lines: &[String]) -> Vec<usize> {
    holders(lines, |msg| msg == "lock acquired")
}

/// Lines of leases of the same moment may come in either order.
#[track_caller]
fn in_order_of_arrival(granted: &[usize], same_moment: usize) {
    let is_in_place =
        granted.iter().enumerate().all(|(place, pod)| place.abs_diff(*pod) < same_moment);
    assert!(is_in_place, "granted in this order: {granted:?}");
}

fn all_pods() -> Vec<usize> {
    (0..PODS).collect()
}

fn sorted(mut pods: Vec<usize>) -> Vec<usize> {
    pods.sort_unstable();
    pods
}

/// One run of a lock to the end of the herd: each pod has one lease, which its port has ended.
#[track_caller]
fn check_the_whole(lock: &Running, address: SocketAddr, again: usize) {
    let lines = lock.lines();
    let order = granted(&lines);
    // A waiter whose answer was cut returns after half a second, in which other waiters get a slot.
    in_order_of_arrival(&order, if again == 0 { SLOTS } else { 3 * SLOTS });
    assert_eq!(sorted(order), all_pods(), "{lock}");
    let by_port = |line: &&String| field(line, "how").is_some_and(|how| how == "ready");
    let ended: Vec<_> = lines.iter().filter(by_port).cloned().collect();
    assert_eq!(sorted(holders(&ended, |msg| msg == "lease ended")), all_pods(), "{lock}");
    assert_eq!(holders(&lines, |msg| msg == "lease ended").len(), PODS, "{lock}");
    let metrics = Request::get("/metrics").send(address, CEILING).unwrap().body;
    for (sample, expected) in [
        ("psl_lock_requests_total{result=\"granted\"}", PODS),
        ("psl_lock_requests_total{result=\"again\"}", again),
        ("psl_lock_ended_total{how=\"ready\"}", PODS),
        ("psl_lock_ended_total{how=\"released\"}", 0),
        ("psl_lock_ended_total{how=\"expired\"}", 0),
        ("psl_lock_wait_seconds_count", PODS),
        ("psl_lock_held_seconds_count", PODS),
        ("psl_lock_slots_in_use", 0),
        ("psl_lock_queue_length", 0),
    ] {
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.trim().parse::<usize>().ok());
        assert_eq!(value, Some(expected), "{sample}\n{metrics}\n{lock}");
    }
}

fn lock_at(lock: &Program, port: u16) -> Program {
    lock.clone().args([
        "--host",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--locks",
        &SLOTS.to_string(),
    ])
}

#[test]
fn each_pod_gets_one_lease_in_order_of_arrival() {
    let (Some(lock), Some(init)) = (shell::program("lock"), shell::program("init")) else { return };
    let mut lock = lock_at(&lock, 0).start();
    let address = lock.addr();
    Herd::start(&init, address, address, |_| Ipv4Addr::LOCALHOST.into(), Watch::default())
        .finish(address);
    check_the_whole(&lock, address, 0);
}

#[test]
fn a_lost_grant_is_repeated() {
    let (Some(lock), Some(init)) = (shell::program("lock"), shell::program("init")) else { return };
    let mut lock = lock_at(&lock, 0).start();
    let address = lock.addr();
    let own_address = |pod: usize| Ipv4Addr::new(127, 0, 5, 1 + u8::try_from(pod).unwrap()).into();
    let relay = Relay::start(address, 3, move |query| {
        let (_, holder) = query.iter().find(|(name, _)| name == "holder").expect("a holder");
        own_address(pod(holder))
    });
    let watch = Watch { is_absence_expected: true, ..Watch::default() };
    Herd::start(&init, relay.address(), address, own_address, watch).finish(address);
    let cut = relay.cut().into_iter().filter(|status| *status == 200).count();
    assert!(cut >= PODS / 4, "too few answers were cut: {:?}", relay.cut());
    check_the_whole(&lock, address, cut);
}

#[test]
fn a_killed_lock_resumes_from_its_state_file() {
    let (Some(lock), Some(init)) = (shell::program("lock"), shell::program("init")) else { return };
    let scratch = Scratch::new();
    let lock = lock
        .env("PSL_LOG", "debug")
        .args(["--state-file", scratch.join("state").to_str().unwrap()]);
    let mut running = lock_at(&lock, 0).start();
    let address = running.addr();
    let watch = Watch { is_absence_expected: true, ..Watch::default() };
    let herd = Herd::start(&init, address, address, |_| Ipv4Addr::LOCALHOST.into(), watch);
    let mut lines = Vec::new();
    for at in [6, 13] {
        let lines_so_far = || [lines.as_slice(), &running.lines()].concat();
        let deadline = Instant::now() + CEILING;
        while granted(&lines_so_far()).len() < at {
            assert!(
                Instant::now() < deadline,
                "not {at} grants within {CEILING:?}: {:#?}",
                lines_so_far()
            );
            thread::sleep(EVERY);
        }
        running.signal("KILL");
        lines.extend(running.wait(CEILING).lines());
        running = lock_at(&lock, address.port()).start();
        assert_eq!(running.addr(), address);
        keeps_what_was_granted(&lines, address, &herd);
    }
    herd.finish(address);
    lines.extend(running.lines());
    let order = granted(&lines);
    // A slot that is free after a restart goes to the first waiter that returns, and the others
    // keep their order.
    let overtakes = |(at, pod): (usize, &usize)| {
        order[at..].iter().filter(|later| *later < pod).count() >= SLOTS
    };
    let overtakers = order.iter().enumerate().filter(|it| overtakes(*it)).count();
    assert!(overtakers <= 2 * SLOTS, "granted in this order: {order:?}");
    let known = |msg: &str| matches!(msg, "lock acquired" | "lock acquired already");
    let mut all = sorted(holders(&lines, known));
    all.dedup();
    // A lock that is killed between its state file and its log line has granted a lease that it did
    // not log.
    assert_eq!(all, all_pods(), "{running}");
    let mut once = sorted(order);
    once.dedup();
    assert_eq!(once.len(), granted(&lines).len(), "a holder was granted twice: {lines:#?}");
    assert!(once.len() >= PODS - 2 * SLOTS, "{once:?}");
    assert_eq!(
        lines.iter().filter(|line| line.contains("state restored")).count(),
        2,
        "{lines:#?}"
    );
}

/// A holder that is not ready keeps its lease when the lock is killed.
#[track_caller]
fn keeps_what_was_granted(lines: &[String], lock: SocketAddr, herd: &Herd) {
    let (leases, queue) = look(lock).expect("the state of a lock that listens");
    let starts = herd.starts.lock().unwrap();
    let lost =
        granted(lines).into_iter().filter(|pod| !starts.is_open[*pod] && !leases.contains(pod));
    assert_eq!(lost.collect::<Vec<_>>(), [0; 0], "leases {leases:?}, line {queue:?}");
}
