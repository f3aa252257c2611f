//! The termination message, in a `/dev` mounted for the test.

use std::path::Path;

use testkit::program::Program;
use testkit::scratch::Scratch;
use testkit::scripted::{Behaviour, Server};

use crate::{CEILING, init_at, wait_for_reason};

/// Mounts the file as `/dev/termination-log`, as the kubelet does. `Err` if mounting fails.
fn with_termination_log(file: &Path, program: Program) -> Result<Program, String> {
    let script = "mount -t tmpfs none /dev && : >/dev/termination-log && mount --bind \"$0\" /dev/termination-log && exec \"$@\"";
    let prefix = [
        "unshare".as_ref(),
        "--mount".as_ref(),
        "--".as_ref(),
        "/bin/sh".as_ref(),
        "-c".as_ref(),
        script.as_ref(),
        file.as_os_str(),
    ];
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let probe = Program::at("/bin/true").under(prefix).env("PATH", path).run(CEILING);
    match probe.code {
        Some(0) => Ok(program.under(prefix).env("PATH", path)),
        _ => Err(format!("cannot mount a /dev for the test: {}", probe.stderr.trim())),
    }
}

#[test]
fn each_ending_writes_its_message() {
    let server = Server::start(Behaviour::Refuse);
    let held = Server::start(Behaviour::status(423, "Locked"));
    let free = Server::start(Behaviour::ok("Lock acquired"));
    let late = Server::start(Behaviour::Sequence(vec![
        Behaviour::status(423, "Locked"),
        Behaviour::ok("Lock acquired"),
    ]));
    for (server, arguments, signal, code, start, end) in [
        (&free, &[][..], None, 0, "lock acquired after ", "s"),
        (&late, &[], None, 0, "lock acquired after ", "s; before that: 423 Locked"),
        (
            &server,
            &["--max-wait=200ms"],
            None,
            0,
            "started without the lock after ",
            "s (--max-wait); last reason: connection refused",
        ),
        (
            &server,
            &["--unreachable-wait=200ms", "--on-timeout=fail"],
            None,
            1,
            "gave up waiting for the lock after ",
            "s (--unreachable-wait); last reason: connection refused",
        ),
        (
            &held,
            &[],
            Some("TERM"),
            143,
            "stopped by SIGTERM after ",
            "s without the lock; last reason: 423 Locked",
        ),
        (
            &held,
            &[],
            Some("INT"),
            130,
            "stopped by SIGINT after ",
            "s without the lock; last reason: 423 Locked",
        ),
    ] {
        let dir = Scratch::new();
        let file = dir.file(
            "termination-log",
            "an older message that is longer than the new one: ".repeat(5).as_str(),
        );
        let mut running = match with_termination_log(&file, init_at(server).args(arguments)) {
            Ok(program) => program.start(),
            Err(why) => return testkit::skip(&why),
        };
        if let Some(signal) = signal {
            wait_for_reason(&mut running, "423 Locked");
            running.signal(signal);
        }
        let finished = running.wait(CEILING).expect_code(code);
        let message = std::fs::read_to_string(&file).unwrap();
        assert!(
            message.starts_with(start) && message.ends_with(end) && message.lines().count() == 1,
            "{message:?}\n{finished}"
        );
    }
}

#[test]
fn without_the_file_no_message_is_written() {
    let server = Server::start(Behaviour::ok("Lock acquired"));
    if Path::new("/dev/termination-log").exists() {
        return testkit::skip("this machine has a /dev/termination-log of its own");
    }
    let finished = init_at(&server).run(CEILING).expect_code(0);
    assert!(!Path::new("/dev/termination-log").exists(), "{finished}");
}
