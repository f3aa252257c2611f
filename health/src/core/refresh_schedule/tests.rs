use super::*;
use crate::core::verdict::Standing;

const PERIODS: Periods = Periods { fail: Duration::from_secs(10), pass: Duration::from_secs(60) };

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "only differences to it count")]
    Instant::now()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn identity(name: &str) -> Arc<DaemonSetId> {
    Arc::new(DaemonSetId::new("ns", name, &format!("uid-{name}")))
}

fn waiting(count: usize) -> Vec<DaemonSetStatus> {
    let status =
        |number| DaemonSetStatus { id: identity(&format!("d{number}")), standing: Standing::NoPod };
    (0..count).map(status).collect()
}

fn listed(at: Instant) -> RefreshSchedule {
    let mut schedule = RefreshSchedule::new(PERIODS, at);
    assert_eq!(schedule.poll(&[], at, 0.5), Task::ReadAll);
    schedule.finish_list(BTreeSet::new(), at, 0.5);
    schedule
}

#[test]
fn the_list_is_read_at_the_start_and_then_rarely() {
    let at = start();
    let mut schedule = listed(at);
    let hour = seconds(3600.0);
    assert_eq!(schedule.poll(&[], at, 0.5), Task::WaitUntil(at + hour));
    assert_eq!(
        schedule.poll(&[], at + hour - Duration::from_nanos(1), 0.5),
        Task::WaitUntil(at + hour)
    );
    assert_eq!(schedule.poll(&[], at + hour, 0.5), Task::ReadAll);
}

#[test]
fn an_unknown_owner_is_read_at_once_and_only_once() {
    let at = start();
    let mut schedule = listed(at);
    schedule.add_unknown_owner(identity("a"));
    schedule.add_unknown_owner(identity("a"));
    let Task::ReadOne(one) = schedule.poll(&[], at, 0.5) else { panic!("{schedule:?}") };
    assert_eq!(one, identity("a"));
    schedule.finish_read(&one, true);
    assert!(matches!(schedule.poll(&[], at, 0.5), Task::WaitUntil(_)));
    schedule.add_unknown_owner(identity("b"));
    let Task::ReadOne(one) = schedule.poll(&[], at, 0.5) else { panic!("{schedule:?}") };
    schedule.finish_read(&one, false);
    schedule.add_unknown_owner(identity("b"));
    assert!(
        matches!(schedule.poll(&[], at, 0.5), Task::WaitUntil(_)),
        "the owner of an orphan does not come back"
    );
}

#[test]
fn many_unknown_owners_are_one_list_but_not_twice_in_a_row() {
    let at = start();
    let mut schedule = listed(at);
    let unknown = || (0..9).map(|number| identity(&format!("d{number}")));
    unknown().for_each(|owner| schedule.add_unknown_owner(owner));
    assert!(matches!(schedule.poll(&[], at, 0.5), Task::ReadOne(_)), "the list is fresh");
    assert_eq!(schedule.poll(&[], at + PERIODS.fail, 0.5), Task::ReadAll);
    schedule.finish_list(unknown().collect(), at + PERIODS.fail, 0.5);
    assert!(
        matches!(schedule.poll(&[], at + PERIODS.fail, 0.5), Task::ReadOne(_)),
        "owners missing from the list are read"
    );
}

#[test]
fn waiting_daemonsets_are_read_every_minute() {
    let at = start();
    for (chance, first, next) in [(0.0, 20.0, 20.0), (0.5, 35.0, 35.0), (0.999_999, 50.0, 50.0)] {
        let mut schedule = listed(at);
        let two = waiting(2);
        schedule.set_waiting(&two, at, chance);
        let Task::WaitUntil(until) = schedule.poll(&two, at, chance) else {
            panic!("{schedule:?}")
        };
        assert!((until - at).as_secs_f64() - first < 0.01, "{chance}");
        for name in ["d0", "d1"] {
            let Task::ReadOne(one) = schedule.poll(&two, until, chance) else {
                panic!("{schedule:?}")
            };
            assert_eq!(one.name(), name);
            schedule.finish_read(&one, true);
        }
        let Task::WaitUntil(again) = schedule.poll(&two, until, chance) else {
            panic!("{schedule:?}")
        };
        assert!((again - until).as_secs_f64() - next < 0.01, "{chance}");
        schedule.set_waiting(&[], until, chance);
        let Task::WaitUntil(rarely) = schedule.poll(&[], until, chance) else {
            panic!("{schedule:?}")
        };
        assert!(rarely - at >= seconds(1800.0));
    }
}

#[test]
fn a_daemonset_that_waits_long_after_the_last_list_is_read_soon() {
    let at = start();
    let mut schedule = listed(at);
    let later = at + seconds(600.0);
    schedule.set_waiting(&waiting(1), later, 0.5);
    assert_eq!(schedule.poll(&waiting(1), later, 0.5), Task::WaitUntil(later + seconds(7.5)));
}

#[test]
fn a_flapping_daemonset_is_not_read_more_often() {
    let at = start();
    let mut schedule = listed(at);
    let later = at + seconds(600.0);
    let one = waiting(1);
    schedule.set_waiting(&one, later, 0.5);
    let read_at = later + seconds(7.5);
    let Task::ReadOne(asked) = schedule.poll(&one, read_at, 0.5) else { panic!("{schedule:?}") };
    schedule.finish_read(&asked, true);
    schedule.set_waiting(&[], read_at + seconds(1.0), 0.5);
    let again = read_at + seconds(10.0);
    schedule.set_waiting(&one, again, 0.5);
    assert_eq!(schedule.poll(&one, again, 0.5), Task::WaitUntil(read_at + seconds(35.0)));
    schedule.set_waiting(&[], again, 0.5);
    schedule.set_waiting(&waiting(2), again, 0.5);
    assert_eq!(
        schedule.poll(&one, again, 0.5),
        Task::WaitUntil(again + seconds(7.5)),
        "another DaemonSet has not been read"
    );
    schedule.set_waiting(&[], again, 0.5);
    let much_later = again + seconds(100.0);
    schedule.set_waiting(&one, much_later, 0.5);
    assert_eq!(
        schedule.poll(&one, much_later, 0.5),
        Task::WaitUntil(much_later + seconds(7.5)),
        "the minute is over"
    );
}

#[test]
fn many_waiting_daemonsets_are_one_list() {
    let at = start();
    let mut schedule = listed(at);
    schedule.set_waiting(&waiting(9), at, 0.5);
    assert_eq!(schedule.poll(&waiting(9), at + seconds(60.0), 0.5), Task::ReadAll);
    schedule.finish_list(BTreeSet::new(), at + seconds(60.0), 0.5);
    assert_eq!(
        schedule.poll(&waiting(9), at + seconds(60.0), 0.5),
        Task::WaitUntil(at + seconds(95.0))
    );
}

#[test]
fn a_failed_list_is_retried_even_if_no_daemonset_waits_any_more() {
    let at = start();
    let mut schedule = listed(at);
    let (many, later) = (waiting(9), at + seconds(600.0));
    schedule.set_waiting(&many, later, 0.5);
    let due = later + seconds(7.5);
    assert_eq!(schedule.poll(&many, due, 0.5), Task::ReadAll);
    schedule.fail(Duration::ZERO, due, 1.0);
    schedule.set_waiting(&[], due, 0.5);
    assert_eq!(
        schedule.poll(&[], due + seconds(10.0), 0.5),
        Task::ReadAll,
        "otherwise the error would stay for an hour"
    );
}

#[test]
fn pauses_after_failures_are_random_and_grow() {
    let at = start();
    let mut schedule = RefreshSchedule::new(PERIODS, at);
    for (chance, retry_after, expected) in
        [(0.0, 0.0, 1.0), (0.0, 0.0, 2.0), (1.0, 0.0, 30.0), (1.0, 0.0, 30.0), (0.0, 40.0, 40.0)]
    {
        schedule.fail(seconds(retry_after), at, chance);
        let until = at + seconds(expected);
        assert_eq!(schedule.poll(&[], at, chance), Task::WaitUntil(until));
        assert_eq!(schedule.poll(&[], until, chance), Task::ReadAll);
    }
    schedule.finish_list(BTreeSet::new(), at, 0.5);
    schedule.fail(Duration::ZERO, at, 1.0);
    assert_eq!(
        schedule.poll(&[], at, 0.5),
        Task::WaitUntil(at + seconds(10.0)),
        "a success resets the count"
    );
}

#[test]
fn the_longest_periods_do_not_panic() {
    let at = start();
    let mut schedule =
        RefreshSchedule::new(Periods { fail: Duration::MAX, pass: Duration::MAX }, at);
    schedule.fail(Duration::MAX, at, 1.0);
    schedule.finish_list(BTreeSet::new(), at, 1.0);
    schedule.set_waiting(&waiting(1), at, 1.0);
    assert!(matches!(schedule.poll(&waiting(1), at, 1.0), Task::WaitUntil(_)));
}
