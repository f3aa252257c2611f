//! Programs of the shell, watched from outside.

use std::time::Duration;

use super::*;

fn shell(script: &str) -> Program {
    Program::at("/bin/sh").args(["-c", script])
}

#[test]
fn a_finished_program_has_its_output_and_command() {
    let script = "echo out $A; echo err >&2; printf half; exit 3";
    let finished = shell(script).env("A", "b c").run(CEILING).expect_code(3);
    assert_eq!(finished.stdout, "out b c\nhalf\n");
    assert_eq!(finished.stderr, "err\n");
    let shown = finished.to_string();
    for part in ["A=\"b c\" /bin/sh -c", "exit code 3", "out b c", "err"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn the_environment_is_empty() {
    let finished = shell("env | grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=; true")
        .env("A", "b")
        .run(CEILING);
    assert_eq!(finished.stdout, "A=b\n");
}

#[test]
fn lines_arrive_at_once_and_marks_skip_older_lines() {
    let mut running = shell("echo one >&2; echo one; exec sleep 60").start();
    running.wait_for_text("one", CEILING);
    crate::eventually("both lines", CEILING, || {
        (running.count(|line| line == "one") == 2).then_some(())
    });
    let mark = running.mark();
    let older = running.find_after(mark, &|line: &str| line == "one", Duration::from_millis(50));
    assert_eq!(older, None);
}

#[test]
fn ports_are_read_from_the_log() {
    for (line, port) in [
        ("level=info msg=listening address=127.0.0.1:8888", 8888),
        ("level=info msg=\"listening\" address=\"[::]:1234\" other=1", 1234),
        ("ts=x address=[::1]:7 msg=listening", 7),
    ] {
        let mut running = shell("echo \"$LINE\" >&2; exec sleep 60").env("LINE", line).start();
        assert_eq!(running.port(), port, "{line}");
    }
}

#[test]
fn a_signal_ends_a_program_and_is_reported() {
    let mut running = shell("echo up; exec sleep 60").start();
    running.wait_for_text("up", CEILING);
    running.signal("TERM");
    let finished = running.wait(CEILING);
    assert_eq!((finished.code, finished.signal), (None, Some(15)));
}

#[test]
fn a_running_program_has_its_measurements() {
    let mut running =
        shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo up; exec sleep 60").start();
    running.wait_for_text("up", CEILING);
    assert!(running.cpu_time() > Duration::ZERO);
    assert!(running.memory_peak_kib() > 0 && running.memory_kib() > 0);
    assert_eq!(running.threads(), 1);
    assert!(running.descriptors() >= 3);
    assert_eq!(running.try_wait(), None);
}

#[test]
fn a_dropped_program_is_killed() {
    let running = shell("exec sleep 60").start();
    let pid = running.pid();
    drop(running);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
#[should_panic(expected = "no such line within")]
fn waiting_for_a_line_stops_when_the_program_ends() {
    shell("echo other").start().wait_for(|line| line == "this", Duration::from_secs(3600));
}

#[test]
#[should_panic(expected = "no binary at")]
fn a_missing_file_is_named() {
    Program::new("/nowhere/no-such-program");
}

#[test]
fn the_static_binary_of_the_same_name_is_run() {
    let dir = crate::scratch::Scratch::new();
    let file = dir.file("lock", "");
    let taken = |static_dir| Program::of(file.to_str().unwrap(), static_dir).file().to_path_buf();
    assert_eq!(taken(None), file);
    let other = crate::scratch::Scratch::new();
    let of_other = other.file("lock", "");
    assert_eq!(taken(Some(other.path().to_path_buf())), of_other);
}

#[test]
fn as_pid_1_makes_the_program_process_1() {
    let program =
        match shell("trap 'exit 7' TERM; echo pid $$; while :; do sleep 0.05; done").as_pid_1() {
            Ok(program) => program,
            Err(why) => return crate::skip(&why),
        };
    let mut running = program.env("PATH", "/usr/bin:/bin").start();
    assert_eq!(running.wait_for_text("pid", CEILING), "pid 1");
    running.signal("TERM");
    running.wait(CEILING).expect_code(7);
}

#[test]
fn seeing_mounts_a_directory_over_another() {
    let directory = crate::scratch::Scratch::new();
    directory.file("cpu", "of the test");
    let program = match Program::at("/bin/cat")
        .arg("/proc/pressure/cpu")
        .seeing(directory.path(), "/proc/pressure")
    {
        Ok(program) => program,
        Err(why) => {
            return crate::skip(&format!("a directory in the place of another one: {why}"));
        }
    };
    assert_eq!(program.run(CEILING).expect_code(0).stdout.trim_end(), "of the test");
}
