//! Leases and queue outlive the process: killed at any moment, and with files of all kinds, on the
//! real binary.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::http::{Connection, Request, get};
use testkit::program::{Program, Running, field};
use testkit::scratch::{Scratch, Volume};
use testkit::{CEILING, eventually, skip};

use crate::support::{holders, state};

const SLOTS: usize = 3;

/// Clients that keep a lease.
const KEEPERS: usize = 2;

/// Both clocks of a restart, and milliseconds in JSON.
const RESOLUTION: f64 = 0.003;

fn program(file: &Path) -> Program {
    of(Program::new(env!("CARGO_BIN_EXE_lock")), file)
}

fn of(program: Program, file: &Path) -> Program {
    let fixed = ["--host=127.0.0.1", "--port=0", "--max-duration=2h", "--locks=3", "--state-file"];
    program.args(fixed).arg(file)
}

fn kill(mut lock: Running) {
    lock.signal("KILL");
    lock.wait(CEILING);
}

/// `None` if the lock ends before the whole answer has arrived.
fn ask(address: SocketAddr, method: &str, query: &str) -> Option<(u16, Value)> {
    let request = Request::new(method, &format!("/?{query}")).header("Accept", "application/json");
    let reply = request.send(address, CEILING).ok()?;
    Some((reply.status, reply.json()))
}

/// Waits until the content of the file fits.
fn written(file: &Path, fits: impl Fn(&Value) -> bool) -> Value {
    eventually("the state file", CEILING, || {
        let text = fs::read_to_string(file).ok()?;
        // It is replaced by a rename: whenever it is read it is whole.
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"));
        Some(value).filter(&fits)
    })
}

/// The last answer to a holder, with its time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    /// It has a lease that ends then at the latest.
    Lease(Instant),
    /// The holder has released its lease.
    Nothing,
}

/// Asks until the lock is gone; each time with another name, and nearly all leases are given back.
fn keep_asking(
    address: SocketAddr,
    asker: usize,
    round: usize,
    known: &Mutex<BTreeMap<String, Known>>,
) {
    for number in 0.. {
        let holder = format!("r{round}-a{asker}-{number}");
        loop {
            let Some((status, response)) =
                ask(address, "GET", &format!("holder={holder}&duration=1h&wait=5ms"))
            else {
                return;
            };
            if status == 200 {
                let left = Duration::from_secs_f64(
                    response["expires_in_seconds"].as_f64().unwrap() + RESOLUTION,
                );
                known.lock().unwrap().insert(holder.clone(), Known::Lease(Instant::now() + left));
                break;
            }
        }
        // Two of the slots are kept in the end, and the third goes round.
        if asker < KEEPERS && number == asker {
            continue;
        }
        // Without an answer, the request may have been handled or not.
        known.lock().unwrap().remove(&holder);
        if ask(address, "DELETE", &format!("holder={holder}")).is_none() {
            return;
        }
        known.lock().unwrap().insert(holder, Known::Nothing);
    }
}

#[test]
fn a_lock_killed_at_any_moment_keeps_leases_and_releases() {
    let directory = Scratch::new();
    let file = directory.join("state.json");
    let known: Mutex<BTreeMap<String, Known>> = Mutex::default();
    let (mut leases, mut releases) = (0, 0);
    for round in 0..30 {
        let mut lock = program(&file).start();
        let address = lock.addr();
        let answers: Vec<(String, Known)> =
            known.lock().unwrap().iter().map(|(name, it)| (name.clone(), *it)).collect();
        let listed = state(address);
        let count = listed["slots_in_use"].as_u64().unwrap() as usize;
        let expected = answers.iter().filter(|(_, it)| *it != Known::Nothing).count();
        // One whose 200 or whose end was not heard of may be there as well.
        assert!((expected..=SLOTS).contains(&count), "round {round}: {expected} known, {listed}");
        let there = holders(&listed["leases"]);
        for (holder, it) in &answers {
            if *it == Known::Nothing {
                assert!(
                    !there.contains(holder),
                    "round {round}: {holder} was given back: {listed}"
                );
                releases += 1;
                continue;
            }
            let Known::Lease(end) = it else { unreachable!() };
            let asked = Instant::now();
            let (status, response) =
                ask(address, "GET", &format!("holder={holder}&duration=2h")).expect("an answer");
            assert_eq!(status, 200, "round {round}: {holder}: {response}; {lock}");
            assert!(
                response["reason"].as_str().unwrap().starts_with("lease already held"),
                "{round}: {response}"
            );
            let (left, most) =
                (response["expires_in_seconds"].as_f64().unwrap(), end.duration_since(asked));
            assert!(
                left <= most.as_secs_f64() + RESOLUTION,
                "round {round}: {holder} has {left}, had {most:?}"
            );
            leases += 1;
        }
        // All of them end, the unknown ones too, so that there is something to ask for.
        for holder in there.into_iter().chain(holders(&listed["queue"])) {
            assert_eq!(
                ask(address, "DELETE", &format!("holder={holder}")).expect("an answer").0,
                200
            );
        }
        known.lock().unwrap().clear();
        thread::scope(|scope| {
            for asker in 0..4 {
                let known = &known;
                scope.spawn(move || keep_asking(address, asker, round, known));
            }
            thread::sleep(Duration::from_micros(1_700 * round as u64));
            kill(lock);
        });
    }
    eprintln!(
        "30 kills: {leases} leases and {releases} releases were known before them, and after"
    );
    assert!(
        leases >= 15 && releases >= 15,
        "too few to mean anything: {leases} leases, {releases} releases"
    );
}

#[test]
fn a_restart_keeps_deadlines() {
    let directory = Scratch::new();
    let file = directory.join("state.json");
    let mut lock = program(&file).start();
    let address = lock.addr();
    let before = Instant::now();
    assert_eq!(ask(address, "GET", "holder=a&duration=1h").expect("an answer").0, 200);
    let after = Instant::now();
    assert_eq!(ask(address, "GET", "holder=short&duration=300ms").expect("an answer").0, 200);
    assert_eq!(ask(address, "GET", "duration=2h").expect("an answer").0, 200);
    for _ in 0..5 {
        kill(lock);
        lock = program(&file).start();
        let address = lock.addr();
        let asked = Instant::now();
        let (status, response) = ask(address, "GET", "holder=a").expect("an answer");
        assert_eq!(status, 200);
        let left = response["expires_in_seconds"].as_f64().expect("a number");
        // A restart adds no time, and loses at most a pause between two readings of the clocks.
        let most = 3600.0 - (asked - after).as_secs_f64() + RESOLUTION;
        let least = 3600.0 - before.elapsed().as_secs_f64() - 0.5;
        assert!((least..=most).contains(&left), "{left} is not within {least} and {most}");
    }
    let address = lock.addr();
    eventually("the short one to end", CEILING, || {
        (state(address)["slots_in_use"] == 2).then_some(())
    });
    // A lease without a holder keeps its slot.
    let leases = state(address)["leases"].clone();
    assert!(leases.as_array().unwrap().iter().any(|lease| lease["holder"].is_null()), "{leases}");
    // One that ended while there was no process is not there any more.
    assert_eq!(ask(address, "GET", "holder=short&duration=50ms").expect("an answer").0, 200);
    kill(lock);
    thread::sleep(Duration::from_millis(60));
    let mut lock = program(&file).start();
    assert_eq!(state(lock.addr())["slots_in_use"], 2);
    assert_eq!(ask(lock.addr(), "GET", "holder=other").expect("an answer").0, 200);
}

#[test]
fn the_queue_keeps_its_order() {
    let directory = Scratch::new();
    let file = directory.join("state.json");
    let mut lock = program(&file).start();
    for holder in ["a", "b", "c"] {
        assert_eq!(
            ask(lock.addr(), "GET", &format!("holder={holder}&duration=1h")).expect("an answer").0,
            200
        );
    }
    let mut line: Vec<String> = ["z", "x", "y", "w", "v", "q", "r"].map(str::to_owned).to_vec();
    for holder in &line {
        assert_eq!(ask(lock.addr(), "GET", &format!("holder={holder}")).expect("an answer").0, 423);
    }
    // A refusal does not wait for the file.
    written(&file, |value| {
        value["queue"].as_array().is_some_and(|queue| queue.len() == line.len())
    });
    kill(lock);
    let mut lock = program(&file).start();
    let address = lock.addr();
    assert_eq!(holders(&state(address)["queue"]), line);
    let (_, response) = ask(address, "GET", "holder=y").expect("an answer");
    assert_eq!(response["position"], 3, "{response}");
    // A holder that has left the queue stays out of it, and a new holder is the last.
    assert_eq!(ask(address, "DELETE", "holder=x").expect("an answer").0, 200);
    assert_eq!(ask(address, "GET", "holder=new").expect("an answer").0, 423);
    line.remove(1);
    line.push("new".to_owned());
    written(&file, |value| {
        value["queue"].as_array().is_some_and(|queue| queue.iter().any(|it| it["holder"] == "new"))
    });
    kill(lock);
    let mut lock = program(&file).start();
    let address = lock.addr();
    assert_eq!(holders(&state(address)["queue"]), line);
    assert_eq!(ask(address, "DELETE", "holder=a").expect("an answer").0, 200);
    assert_eq!(
        ask(address, "GET", "holder=y").expect("an answer").0,
        200,
        "the slot is kept for no absent waiter"
    );
}

#[test]
fn a_repeated_request_does_not_write_the_state_file() {
    let directory = Scratch::new();
    let file = directory.join("state.json");
    let mut lock = program(&file).start();
    let address = lock.addr();
    for holder in ["a", "b", "c"] {
        assert_eq!(get(address, &format!("/?holder={holder}&duration=1h")).status, 200);
    }
    assert_eq!(get(address, "/?holder=waiting").status, 423);
    written(&file, |value| value["queue"][0]["holder"] == "waiting");
    let identity = |file: &Path| {
        let it = fs::metadata(file).expect("a state file");
        (it.ino(), it.mtime(), it.mtime_nsec(), it.ctime_nsec())
    };
    let before = identity(&file);
    for _ in 0..20 {
        for holder in ["a", "b", "c"] {
            assert_eq!(get(address, &format!("/?holder={holder}&duration=2h")).status, 200);
        }
        assert_eq!(get(address, "/?holder=waiting&wait=5ms").status, 423);
        assert_eq!(get(address, "/").status, 423);
        assert_eq!(get(address, "/?duration=0").status, 423);
        assert_eq!(Request::delete("/?holder=unknown").send(address, CEILING).unwrap().status, 404);
        get(address, "/state");
        get(address, "/metrics");
    }
    assert_eq!(identity(&file), before);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no other file is left");
    assert_eq!(Request::delete("/?holder=a").send(address, CEILING).unwrap().status, 200);
    assert_ne!(identity(&file), before, "but a release does");
}

/// A file as a lock of this boot writes it, with three leases and two places.
fn real_file(directory: &Scratch) -> (PathBuf, String) {
    let file = directory.join("real.json");
    let mut lock = program(&file).start();
    let address = lock.addr();
    for query in ["holder=a&duration=1h", "holder=b%22%5c&duration=1h&ready=tcp:1", "duration=1h"] {
        assert_eq!(get(address, &format!("/?{query}")).status, 200);
    }
    for holder in ["c", "d"] {
        assert_eq!(get(address, &format!("/?holder={holder}")).status, 423);
    }
    kill(lock);
    let text = fs::read_to_string(&file).expect("a state file");
    (file, text)
}

/// Starts empty, logs the reason in one line, serves, and writes a file that the next process can
/// read.
#[track_caller]
fn starts_empty(what: &str, file: &Path, level: &str, words: &str) {
    let mut lock = program(file).start();
    let address = lock.addr();
    let line = lock.wait_for_text("starting empty", CEILING);
    assert_eq!(field(&line, "level").as_deref(), Some(level), "{what}: {line}");
    assert_eq!(field(&line, "file").as_deref(), file.to_str(), "{what}: {line}");
    assert!(line.contains(words) && line.len() < 1024, "{what}: {line}");
    let listed = state(address);
    assert_eq!(
        (listed["slots_in_use"].as_u64(), listed["queue_length"].as_u64()),
        (Some(0), Some(0)),
        "{what}: {listed}"
    );
    let statuses = [(); 4].map(|()| get(address, "/?duration=1h").status);
    assert_eq!(statuses, [200, 200, 200, 423], "{what}");
}

/// As [`starts_empty`], and the next process restores the file of that process.
#[track_caller]
fn starts_anew(what: &str, file: &Path, level: &str, words: &str) {
    starts_empty(what, file, level, words);
    let mut lock = program(file).start();
    assert_eq!(state(lock.addr())["slots_in_use"], 3, "{what}");
    lock.wait_for(|line| line.contains("state restored") && line.contains("leases=3"), CEILING);
}

#[test]
fn a_file_that_ends_too_early() {
    let directory = Scratch::new();
    let (real, text) = real_file(&directory);
    let mut whole = program(&real).start();
    assert_eq!(state(whole.addr())["slots_in_use"], 3, "the whole one is good");
    drop(whole);
    let file = directory.join("state.json");
    let step = text.len() / 22;
    let ends = (0..text.len()).step_by(step).chain([1, text.len() - 2, text.len() - 1]);
    for end in ends {
        fs::write(&file, &text[..end]).unwrap();
        starts_empty(
            &format!("{end} of {} bytes", text.len()),
            &file,
            "warn",
            "truncated, or not a state file",
        );
    }
}

#[test]
fn a_file_that_is_not_of_this_program_this_version_or_this_boot() {
    let directory = Scratch::new();
    let (_, text) = real_file(&directory);
    let value: Value = serde_json::from_str(&text).unwrap();
    let with = |key: &str, new: Value| {
        let mut value = value.clone();
        value[key] = new;
        value.to_string()
    };
    let not_ours = "truncated, or not a state file";
    let boot = "01234567-89ab-cdef-0123-456789abcdef";
    let garbage: Vec<u8> =
        (0..1024 * 1024_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let long_word = format!("{{\"version\": \"{}\"}}", "x".repeat(1024 * 1024));
    let ours_then_much = format!("{text}{}", "x".repeat(1024 * 1024));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("an empty object", b"{}".to_vec(), not_ours),
        ("a list", b"[1,2,3]".to_vec(), not_ours),
        ("null", b"null".to_vec(), not_ours),
        (
            "a kubeconfig",
            br#"{"apiVersion":"v1","kind":"Config","version":"v1"}"#.to_vec(),
            not_ours,
        ),
        ("a version alone", br#"{"version":1}"#.to_vec(), not_ours),
        (
            "a future version",
            with("version", json!(2)).into(),
            "version 2, this program reads version 1",
        ),
        (
            "a far version",
            br#"{"version":18446744073709551615,"x":[]}"#.to_vec(),
            "has version 18446744073709551615",
        ),
        ("a negative version", with("version", json!(-1)).into(), not_ours),
        (
            "before the last reboot",
            with("boot", json!(boot)).into(),
            "written before the last reboot",
        ),
        ("no boot", with("boot", json!("")).into(), "written before the last reboot"),
        ("leases of another kind", with("leases", json!([{"holder": 1}])).into(), not_ours),
        ("a lease from nowhere", text.replace("127.0.0.1", "nowhere").into(), not_ours),
        ("bytes", garbage, "cannot read"),
        ("only zeros", vec![0; 1024 * 1024], not_ours),
        ("brackets", vec![b'['; 1024 * 1024], not_ours),
        ("a long word", long_word.into(), not_ours),
        ("more than there may be", ours_then_much.into(), not_ours),
    ];
    for (number, (what, bytes, words)) in cases.into_iter().enumerate() {
        let file = directory.file(&format!("{number}.json"), bytes);
        starts_anew(what, &file, "warn", words);
    }
    starts_anew("no file", &directory.join("none.json"), "info", "no state file yet");
}

#[test]
fn a_file_with_unusual_content_stops_no_start() {
    let directory = Scratch::new();
    let (_, text) = real_file(&directory);
    let real: Value = serde_json::from_str(&text).unwrap();
    let lease =
        real["leases"].as_array().unwrap().iter().find(|lease| lease["holder"] == "a").unwrap();
    let lease = |change: Value| {
        let mut lease = lease.clone();
        lease.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        lease
    };
    let now = lease(json!({}))["since"].as_u64().unwrap();
    let days = |days: u64| now + days * 24 * 3600 * 1_000_000_000;
    for (what, leases, slots) in [
        ("an end beyond the clock", vec![lease(json!({"deadline": u64::MAX}))], 1),
        (
            "a clock that was days ahead",
            vec![lease(json!({"since": days(3), "deadline": days(4)}))],
            1,
        ),
        ("a duration of days", vec![lease(json!({"deadline": days(4)}))], 1),
        ("an end in the past", vec![lease(json!({"deadline": 1}))], 0),
        ("a beginning in the future", vec![lease(json!({"since": u64::MAX}))], 1),
        ("the same holder twice", vec![lease(json!({})), lease(json!({"address": "10.0.0.1"}))], 1),
        ("an invalid holder", vec![lease(json!({"holder": "a b\n"}))], 0),
        ("an invalid port", vec![lease(json!({"ready": "tcp:0", "look": "watched"}))], 1),
        (
            "more leases than slots",
            (0..9).map(|n| lease(json!({"holder": n.to_string()}))).collect(),
            9,
        ),
        ("a field of tomorrow", vec![lease(json!({"new": [1, 2]}))], 1),
    ] {
        let mut value = real.clone();
        value["leases"] = Value::Array(leases);
        let file = directory.file("state.json", value.to_string());
        let mut lock = program(&file).start();
        let address = lock.addr();
        let listed = state(address);
        assert_eq!(listed["slots_in_use"], slots, "{what}: {listed}");
        for lease in listed["leases"].as_array().unwrap() {
            assert!(
                lease["remaining_seconds"].as_f64().unwrap() <= 7200.0,
                "{what}: at most --max-duration: {listed}"
            );
        }
        let said = format!(
            "more leases restored than slots: no start until {} of them have ended",
            slots.max(3) - 2
        );
        assert_eq!(
            lock.count(|line| line.contains(&said)),
            usize::from(slots > SLOTS),
            "{what}: {lock}"
        );
        let free = SLOTS.saturating_sub(slots);
        // The first waiters are those of the file.
        let statuses: Vec<u16> = ["c", "d", "new", "newer"]
            .map(|holder| get(address, &format!("/?holder={holder}&duration=1h")).status)
            .into_iter()
            .collect();
        assert_eq!(
            statuses.iter().filter(|status| **status == 200).count(),
            free.min(4),
            "{what}: {statuses:?}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_or_written_stops_no_start() {
    let directory = Scratch::new();
    fs::create_dir(directory.join("directory")).unwrap();
    directory.file("file", "");
    for (what, path, read) in [
        ("a directory that is not there", "none/state.json", "no state file yet"),
        ("a directory in its place", "directory", "cannot read the state file"),
        ("a file in the place of its directory", "file/state.json", "cannot read the state file"),
    ] {
        let mut lock = program(&directory.join(path)).start();
        let address = lock.addr();
        lock.wait_for_text(read, CEILING);
        let line = lock.wait_for_text("a restart may let too many pods start", CEILING);
        assert_eq!(field(&line, "level").as_deref(), Some("warn"), "{what}: {line}");
        assert!(
            field(&line, "reason")
                .is_some_and(|reason| reason.starts_with("cannot write the file: ")),
            "{what}: {line}"
        );
        let statuses = [(); 4].map(|()| get(address, "/?duration=1h").status);
        assert_eq!(statuses, [200, 200, 200, 423], "{what}");
        assert_eq!(
            lock.count(|line| line.contains("a restart may let too many pods start")),
            1,
            "{what}: {lock}"
        );
    }
    // Once the file can be written, this is logged and the file is complete.
    let mut lock = program(&directory.join("late/state.json")).start();
    let address = lock.addr();
    lock.wait_for_text("a restart may let too many pods start", CEILING);
    assert_eq!(get(address, "/?holder=a&duration=1h").status, 200);
    fs::create_dir(directory.join("late")).unwrap();
    assert_eq!(get(address, "/?holder=b&duration=1h").status, 200);
    lock.wait_for_text("state file is complete again", CEILING);
    let value = written(&directory.join("late/state.json"), |_| true);
    assert_eq!(holders(&value["leases"]), ["a", "b"]);
}

#[test]
fn lock_starts_without_the_right_to_read_or_write_the_file() {
    let directory = Scratch::new();
    let place = directory.join("place");
    fs::create_dir(&place).unwrap();
    let file = place.join("state.json");
    fs::write(&file, "{}").unwrap();
    let mode =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&file, 0o000);
    mode(&place, 0o555);
    // Root may read and write every file, so another user runs the lock.
    let built = Program::new(env!("CARGO_BIN_EXE_lock"));
    let copy = directory.join("lock");
    fs::copy(built.file(), &copy).unwrap();
    let mut program = of(Program::at(copy), &file);
    if fs::write(&file, "{}").is_ok() {
        let setpriv = Path::new("/usr/bin/setpriv");
        if !setpriv.is_file() {
            return skip(
                "a state file without the right to it: this is root, and there is no /usr/bin/setpriv",
            );
        }
        let words = ["--reuid=65532", "--regid=65532", "--clear-groups", "--"];
        program = program.under([setpriv.as_os_str()].into_iter().chain(words.map(AsRef::as_ref)));
    }
    let mut lock = program.start();
    let address = lock.addr();
    let line = lock.wait_for_text("cannot read the state file", CEILING);
    assert!(line.contains("Permission denied"), "{line}");
    lock.wait_for(|line| line.contains("cannot write the file: Permission denied"), CEILING);
    let statuses = [(); 4].map(|()| get(address, "/?duration=1h").status);
    assert_eq!(statuses, [200, 200, 200, 423]);
    mode(&place, 0o777);
    mode(&file, 0o666);
    assert_eq!(get(address, "/?holder=a").status, 423);
    lock.wait_for_text("state file is complete again", CEILING);
}

#[test]
fn a_full_volume_stops_no_start() {
    let volume = match Volume::new(32 * 1024) {
        Ok(volume) => volume,
        Err(why) => return skip(&format!("a state file on a full volume: {why}")),
    };
    let file = volume.join("state.json");
    let mut lock = program(&file).start();
    let address = lock.addr();
    assert_eq!(get(address, "/?holder=a&duration=1h").status, 200);
    written(&file, |value| value["leases"][0]["holder"] == "a");
    // Fills the volume to the last page.
    let rest = volume.join("rest");
    let error = fs::write(&rest, vec![0; 64 * 1024]).expect_err("a volume with an end");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(get(address, "/?holder=b&duration=1h").status, 200);
    let line = lock.wait_for_text("a restart may let too many pods start", CEILING);
    assert!(line.contains("cannot write the file: No space left on device"), "{line}");
    let before = fs::read_to_string(&file).expect("the old file");
    assert!(serde_json::from_str::<Value>(&before).is_ok(), "the old file is whole: {before}");
    fs::remove_file(&rest).unwrap();
    assert_eq!(get(address, "/?holder=c&duration=1h").status, 200);
    lock.wait_for_text("state file is complete again", CEILING);
    kill(lock);
    let mut lock = program(&file).start();
    let leases = state(lock.addr())["leases"].clone();
    assert_eq!(holders(&leases), ["a", "b", "c"]);
}

#[test]
fn a_pipe_in_place_of_the_state_file_does_not_block_the_start() {
    let directory = Scratch::new();
    let pipe = directory.join("state.json");
    if !Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()) {
        return skip("a pipe for a state file: there is no mkfifo");
    }
    let mut lock = program(&pipe).start();
    let address = lock.addr();
    lock.wait_for_text("starting empty", CEILING);
    assert_eq!(get(address, "/?holder=a&duration=1h").status, 200);
}

#[test]
fn a_disk_that_hangs_delays_answers_by_a_second_at_most() {
    let directory = Scratch::new();
    let file = directory.join("state.json");
    let mut lock = program(&file).start();
    let address = lock.addr();
    written(&file, |_| true);
    // The new file is a pipe without a reader: opening it does not return.
    let pipe = directory.join("state.json.new");
    let made = Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        return skip("a state file on a disk that hangs: there is no mkfifo");
    }
    let first = get(address, "/?holder=a&duration=1h");
    assert_eq!(first.status, 200);
    assert!(first.took < Duration::from_secs(5), "{:?}", first.took);
    lock.wait_for_text("answers no longer wait for it", CEILING);
    let second = get(address, "/?holder=b&duration=1h");
    assert_eq!(second.status, 200);
    assert!(
        second.took < Duration::from_millis(900),
        "{:?}: it waits for the file again",
        second.took
    );
    for target in ["/state", "/metrics", "/livez"] {
        assert_eq!(get(address, target).status, 200);
    }
    let sent = Instant::now();
    lock.signal("TERM");
    lock.wait(CEILING).expect_code(0);
    assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
}

#[test]
fn a_shorter_longest_lease_cuts_those_of_before() {
    let directory = Scratch::new();
    let file = directory.join("state.json");
    let mut lock = program(&file).start();
    assert_eq!(get(lock.addr(), "/?holder=a&duration=2h").status, 200);
    kill(lock);
    let program = Program::new(env!("CARGO_BIN_EXE_lock")).args([
        "--host=127.0.0.1",
        "--port=0",
        "--max-duration=10s",
    ]);
    let mut lock = program.arg("--state-file").arg(&file).start();
    let left = state(lock.addr())["leases"][0]["remaining_seconds"].as_f64().expect("a lease");
    assert!((0.0..=10.0).contains(&left), "{left}");
}

/// A new file is written into a pipe that has no reader: opening it does not return. `None` if the
/// machine cannot make one.
fn hang(file: &Path) -> Option<()> {
    let pipe = file.with_extension("json.new");
    let is_made = Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success());
    if !is_made {
        skip("a state file on a disk that hangs: there is no mkfifo");
    }
    is_made.then_some(())
}

/// Requests that wait for the state file leave a thread to accept the next one.
#[test]
fn clients_that_wait_for_a_slow_disk_do_not_block_others() {
    const LEASES: usize = 12;
    let round = || {
        let directory = Scratch::new();
        let file = directory.join("state.json");
        let program = Program::new(env!("CARGO_BIN_EXE_lock")).args([
            "--host=127.0.0.1",
            "--port=0",
            "--locks=12",
        ]);
        let mut lock = program.arg("--state-file").arg(&file).start();
        let address = lock.addr();
        for n in 0..LEASES {
            assert_eq!(get(address, &format!("/?holder=a{n}&duration=5m")).status, 200);
        }
        written(&file, |state| {
            state["leases"].as_array().is_some_and(|leases| leases.len() == LEASES)
        });
        hang(&file)?;
        let releases: Vec<_> = (0..LEASES)
            .map(|n| {
                let mut connection =
                    Connection::open(address, None, CEILING).expect("a connection");
                let request = Request::delete(&format!("/?holder=a{n}"));
                connection.write(&request.bytes("lock")).expect("a request that is sent");
                connection
            })
            .collect();
        eventually("the leases to end", CEILING, || {
            (state(address)["slots_in_use"] == 0).then_some(())
        });
        // All of them wait for a second at most.
        releases[0].stream().set_nonblocking(true).expect("a socket");
        Some(releases[0].stream().peek(&mut [0]).is_err())
    };
    let rounds: Vec<_> = (0..5).map_while(|_| round()).collect();
    // On a busy machine the second may be over.
    assert!(rounds.is_empty() || rounds.contains(&true), "{rounds:?}");
}

/// Two clients hang up at the same time: the one that has the lease, and the one that would get it
/// next.
#[test]
fn an_undone_lease_does_not_go_to_a_waiter_that_has_hung_up() {
    let directory = Scratch::new();
    let file = directory.join("state.json");
    let program = Program::new(env!("CARGO_BIN_EXE_lock")).args([
        "--host=127.0.0.1",
        "--port=0",
        "--max-duration=2h",
    ]);
    let mut lock = program.arg("--state-file").arg(&file).start();
    let address = lock.addr();
    assert_eq!(get(address, "/?holder=a&duration=1h").status, 200);
    written(&file, |state| state["leases"].as_array().is_some_and(|leases| leases.len() == 1));
    let park = |holder: &str| {
        let mut connection = Connection::open(address, None, CEILING).expect("a connection");
        let request = Request::get(&format!("/?holder={holder}&duration=1h&wait=30s"));
        connection.write(&request.bytes("lock")).expect("a request that is sent");
        let is_queued = || {
            state(address)["queue"]
                .as_array()?
                .iter()
                .any(|it| it["holder"] == holder)
                .then_some(())
        };
        eventually("a place", CEILING, is_queued);
        connection
    };
    let (first, second) = (park("first"), park("second"));
    // The grant waits for the file.
    let Some(()) = hang(&file) else { return };
    let mut release = Connection::open(address, None, CEILING).expect("a connection");
    release.write(&Request::delete("/?holder=a").bytes("lock")).expect("a request that is sent");
    eventually("the grant", CEILING, || {
        (state(address)["leases"][0]["holder"] == "first").then_some(())
    });
    lock.stop();
    first.reset();
    second.reset();
    lock.signal("CONT");
    eventually("a free slot", CEILING, || {
        (get(address, "/?duration=0").status == 200).then_some(())
    });
}
