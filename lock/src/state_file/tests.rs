//! Restarts with state files of all kinds.

use super::*;
use crate::core::lease::ProbeResult;
use crate::core::outcome::LeaseRequest;
use crate::core::outcome::Placement;
use crate::core::queue::{GRACE, MOST_WAITERS, Waiter};
use crate::core::scheduler::Durations;
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn state_file() -> StateFile {
    StateFile::of_boot(PathBuf::from("/nowhere"), "this-boot")
}

fn rules() -> Rules {
    Rules { default: 10 * SECOND, longest: 3600 * SECOND, node: None, node_addresses: Vec::new() }
}

fn scheduler(slots: usize) -> Scheduler {
    let durations = Durations { default: 10 * SECOND, longest: 3600 * SECOND, probe_pause: SECOND };
    Scheduler::new(slots, 64, durations)
}

fn ask(
    scheduler: &mut Scheduler,
    holder: &str,
    ready: Option<(&str, ProbeResult)>,
    now: Instant,
) -> Placement {
    let request = LeaseRequest {
        holder: Some(holder.into()),
        address: "10.0.0.1".parse().unwrap(),
        duration: None,
        ready: ready.map(|(ready, _)| Ready::parse(ready).unwrap()),
        baseline: ready.map(|(_, baseline)| baseline),
        wait: None,
        node: None,
    };
    scheduler.request(&request, None, true, now)
}

fn written(state_file: &StateFile, scheduler: &Scheduler, clocks: Clocks) -> (String, bool) {
    let mut bytes = Vec::new();
    let is_complete = state_file.serialise(&Snapshot::of(scheduler), clocks, &mut bytes);
    (String::from_utf8(bytes).unwrap(), is_complete)
}

/// The same moment of both clocks.
fn clocks(instant: Instant, boot: Duration) -> Clocks {
    Clocks { before: instant, boot, after: instant }
}

#[test]
fn a_written_file_is_read_back() {
    let start = Clocks::now();
    let mut old = scheduler(3);
    ask(&mut old, "a", None, start.after);
    for (holder, baseline) in [("watched\"\\", ProbeResult::Closed), ("open", ProbeResult::Open)] {
        ask(&mut old, holder, Some(("http:80/a?b=c", baseline)), start.after);
    }
    for waiter in ["b", "c"] {
        ask(&mut old, waiter, None, start.after);
    }
    let (text, is_complete) = written(&state_file(), &old, start);
    assert!(is_complete);
    let mut new = scheduler(3);
    let later = clocks(start.after + 3 * SECOND, start.boot + 3 * SECOND);
    restore(&state_file().parse(&text).unwrap(), later, &mut new, &rules());
    let of = |scheduler: &Scheduler| -> Vec<_> {
        scheduler
            .leases()
            .iter()
            .map(|lease| (lease.holder.clone(), lease.deadline, lease.since))
            .collect()
    };
    assert_eq!(of(&new), of(&old));
    let watches = new.leases().iter().map(|lease| lease.watch.as_ref().map(|watch| watch.state));
    let watches: Vec<_> = watches.collect();
    assert_eq!(watches, [None, Some(WatchState::DueAt(later.before)), Some(WatchState::Ignored)]);
    let waiters = |scheduler: &Scheduler| -> Vec<_> {
        scheduler
            .queue()
            .waiters()
            .iter()
            .map(|waiter| (waiter.holder.clone(), waiter.arrival.since))
            .collect()
    };
    assert_eq!(waiters(&new), waiters(&old));
    assert!(!new.queue().waiters().iter().any(Waiter::is_parked));
    assert_eq!(
        new.queue().poll_at(),
        Some(later.before + GRACE),
        "the clients are away, and come back"
    );
}

#[test]
fn a_stored_port_without_a_baseline_probe_ends_no_lease() {
    let now = Clocks::now();
    let mut old = scheduler(1);
    ask(&mut old, "a", Some(("tcp:1", ProbeResult::Closed)), now.after);
    let (text, _) = written(&state_file(), &old, now);
    for (look, is_watched) in [("watched", true), ("open", false), ("first", false)] {
        let text = text.replace("\"look\":\"watched\"", &format!("\"look\":\"{look}\""));
        let mut new = scheduler(1);
        restore(&state_file().parse(&text).unwrap(), now, &mut new, &rules());
        assert_eq!(
            new.leases().iter().map(Lease::is_watched).collect::<Vec<_>>(),
            [is_watched],
            "{look}"
        );
    }
}

#[test]
fn a_restored_lease_is_cut_to_the_longest_and_not_probed_at_a_barred_address() {
    let now = Clocks::now();
    let mut old = scheduler(9);
    ask(&mut old, "a", Some(("tcp:1", ProbeResult::Closed)), now.after);
    let (text, _) = written(&state_file(), &old, now);
    let lease = |since: Duration, lasts: Duration, rules: &Rules| {
        let mut written = state_file().parse(&text).unwrap();
        let nanos = |at: Duration| u64::try_from(at.as_nanos()).unwrap();
        written.leases[0].since = nanos(now.boot + since);
        written.leases[0].deadline = nanos(now.boot + since + lasts);
        let mut new = scheduler(9);
        restore(&written, clocks(now.after + 10 * SECOND, now.boot + 10 * SECOND), &mut new, rules);
        let left = |lease: &Lease| (lease.deadline - now.after - 10 * SECOND, lease.is_watched());
        new.leases().iter().next().map(left)
    };
    let (hour, day) = (3600 * SECOND, 24 * 3600 * SECOND);
    assert_eq!(
        lease(Duration::ZERO, 20 * SECOND, &rules()),
        Some((10 * SECOND, true)),
        "as it was"
    );
    assert_eq!(
        lease(Duration::ZERO, day, &rules()),
        Some((hour - 10 * SECOND, true)),
        "from its grant on"
    );
    assert_eq!(lease(3 * day, day, &rules()), Some((hour, true)), "a clock that was days ahead");
    let shorter = Rules { longest: 10 * SECOND, ..rules() };
    assert_eq!(lease(Duration::ZERO, day, &shorter), None, "over by now");
    let node = Rules { node_addresses: vec!["10.0.0.1".parse().unwrap()], ..rules() };
    assert_eq!(lease(Duration::ZERO, 20 * SECOND, &node), Some((10 * SECOND, false)));
}

#[test]
fn a_file_that_is_not_this_boots_state_is_refused_with_a_reason() {
    let now = Clocks::now();
    let mut old = scheduler(1);
    ask(&mut old, "a", Some(("tcp:1", ProbeResult::Closed)), now.after);
    ask(&mut old, "b", None, now.after);
    let (text, _) = written(&state_file(), &old, now);
    assert!(state_file().parse(&text).is_ok());
    for end in 0..text.len() {
        assert!(state_file().parse(&text[..end]).is_err(), "{}", &text[..end]);
    }
    for (text, part) in [
        (
            text.replace("\"version\":1", "\"version\":2"),
            "file has version 2, this program reads version 1",
        ),
        (text.replace("this-boot", "that-boot"), "before the last reboot"),
        (format!("{text}{text}"), "truncated, or not a state file"),
        ("{\"version\":1}".to_owned(), "truncated, or not a state file"),
        ("[]".to_owned(), "truncated, or not a state file"),
        ("\0".repeat(1000), "truncated, or not a state file"),
    ] {
        let why = state_file().parse(&text).err().unwrap_or_else(|| panic!("{text}"));
        assert!(why.contains(part), "{why}");
    }
    let nowhere = StateFile::of_boot(PathBuf::from("/nowhere"), "");
    assert!(nowhere.parse(&text.replace("this-boot", "")).is_err(), "an unknown boot is no boot");
}

#[test]
fn two_files_have_room_in_a_volume_of_a_mebibyte() {
    let now = Clocks::now();
    let mut old = scheduler(4096);
    let name = |n: usize| format!("{n:0>8}{}", "\"".repeat(504));
    let ready = format!("http:1/{}", "x".repeat(255));
    for n in 0..4096 + MOST_WAITERS {
        ask(&mut old, &name(n), Some((&ready, ProbeResult::Closed)), now.after);
    }
    let (text, is_complete) = written(&state_file(), &old, now);
    assert!(!is_complete && text.len() <= LARGEST, "{}", text.len());
    assert!(state_file().parse(&text).is_ok_and(|written| written.leases.len() > 200));

    let mut usual = scheduler(1000);
    let name = |n: usize| {
        format!(
            "some-namespace/some-deployment-7c9fd5c8b5-{n:0>5}/7c1e6b0a-5f3d-4e7b-9a51-0f6f0c5f0a5a"
        )
    };
    for n in 0..1000 + MOST_WAITERS {
        ask(&mut usual, &name(n), None, now.after);
    }
    let (text, is_complete) = written(&state_file(), &usual, now);
    assert!(is_complete, "{}", text.len());
}

proptest! {
    /// Whatever time passes between writing and reading, and in either between the two clocks.
    #[test]
    fn no_lease_lives_longer_than_it_would_have(
        slept in 0u64..20_000, ran in 0u64..20_000, wrote in 0u64..50, read in 0u64..50,
    ) {
        let milli = Duration::from_millis;
        let zero = Clocks::now().before + 100 * SECOND;
        let mut old = scheduler(1);
        ask(&mut old, "a", None, zero);
        let (boot, after) = (1000 * SECOND, zero + milli(wrote));
        let (text, _) = written(&state_file(), &old, Clocks { before: zero, boot, after });
        // Sleep is counted by the boot's clock alone.
        let before = zero + milli(ran);
        let later = Clocks { before, boot: boot + milli(ran + slept + read), after: before + milli(read) };
        let mut new = scheduler(1);
        restore(&state_file().parse(&text).unwrap(), later, &mut new, &rules());
        let left = new.leases().iter().next().map(|lease| lease.deadline - later.after);
        let due = (10 * SECOND).checked_sub(milli(ran + slept + read));
        prop_assert!(left.unwrap_or_default() <= due.unwrap_or_default(), "{:?} of {:?}", left, due);
    }
}
