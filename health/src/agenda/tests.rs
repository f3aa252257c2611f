use super::*;
use crate::verdict::{Standing, Waiting};

const PERIODS: Periods = Periods { fail: Duration::from_secs(10), pass: Duration::from_secs(60) };

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "only differences to it count")]
    Instant::now()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn identity(name: &str) -> Arc<Identity> {
    Arc::new(Identity::new("ns", name, &format!("uid-{name}")))
}

fn waiting(count: usize) -> Vec<Judged> {
    let judged = |number| Judged {
        set: identity(&format!("d{number}")),
        standing: Standing::Waiting(Waiting::NoPod),
    };
    (0..count).map(judged).collect()
}

fn listed(at: Instant) -> Agenda {
    let mut agenda = Agenda::new(PERIODS, at);
    assert_eq!(agenda.next(&[], at, 0.5), Task::All);
    agenda.has_all(BTreeSet::new(), at, 0.5);
    agenda
}

#[test]
fn all_at_the_start_and_then_rarely() {
    let at = start();
    let mut agenda = listed(at);
    let hour = seconds(3600.0);
    assert_eq!(agenda.next(&[], at, 0.5), Task::Wait(at + hour));
    assert_eq!(agenda.next(&[], at + hour - Duration::from_nanos(1), 0.5), Task::Wait(at + hour));
    assert_eq!(agenda.next(&[], at + hour, 0.5), Task::All);
}

#[test]
fn an_unknown_owner_is_asked_for_at_once_and_not_again() {
    let at = start();
    let mut agenda = listed(at);
    agenda.is_unknown(identity("a"));
    agenda.is_unknown(identity("a"));
    let Task::One(one) = agenda.next(&[], at, 0.5) else { panic!("{agenda:?}") };
    assert_eq!(one, identity("a"));
    agenda.has_one(&one, true);
    assert!(matches!(agenda.next(&[], at, 0.5), Task::Wait(_)));
    agenda.is_unknown(identity("b"));
    let Task::One(one) = agenda.next(&[], at, 0.5) else { panic!("{agenda:?}") };
    agenda.has_one(&one, false);
    agenda.is_unknown(identity("b"));
    assert!(
        matches!(agenda.next(&[], at, 0.5), Task::Wait(_)),
        "an orphan's owner does not come back"
    );
}

#[test]
fn many_unknown_owners_are_one_list_but_not_twice_in_a_row() {
    let at = start();
    let mut agenda = listed(at);
    let unknown = || (0..9).map(|number| identity(&format!("d{number}")));
    unknown().for_each(|owner| agenda.is_unknown(owner));
    assert!(matches!(agenda.next(&[], at, 0.5), Task::One(_)), "the list is fresh");
    assert_eq!(agenda.next(&[], at + PERIODS.fail, 0.5), Task::All);
    agenda.has_all(unknown().collect(), at + PERIODS.fail, 0.5);
    assert!(
        matches!(agenda.next(&[], at + PERIODS.fail, 0.5), Task::One(_)),
        "what the list lacks is asked for"
    );
}

#[test]
fn those_that_are_waited_for_are_looked_at_within_every_minute() {
    let at = start();
    for (chance, first, next) in [(0.0, 20.0, 20.0), (0.5, 35.0, 35.0), (0.999_999, 50.0, 50.0)] {
        let mut agenda = listed(at);
        let two = waiting(2);
        agenda.waits(&two, at, chance);
        let Task::Wait(until) = agenda.next(&two, at, chance) else { panic!("{agenda:?}") };
        assert!((until - at).as_secs_f64() - first < 0.01, "{chance}");
        for name in ["d0", "d1"] {
            let Task::One(one) = agenda.next(&two, until, chance) else { panic!("{agenda:?}") };
            assert_eq!(one.name(), name);
            agenda.has_one(&one, true);
        }
        let Task::Wait(again) = agenda.next(&two, until, chance) else { panic!("{agenda:?}") };
        assert!((again - until).as_secs_f64() - next < 0.01, "{chance}");
        agenda.waits(&[], until, chance);
        let Task::Wait(rarely) = agenda.next(&[], until, chance) else { panic!("{agenda:?}") };
        assert!(rarely - at >= seconds(1800.0));
    }
}

#[test]
fn who_waits_long_after_the_last_list_is_looked_at_soon() {
    let at = start();
    let mut agenda = listed(at);
    let later = at + seconds(600.0);
    agenda.waits(&waiting(1), later, 0.5);
    assert_eq!(agenda.next(&waiting(1), later, 0.5), Task::Wait(later + seconds(7.5)));
}

#[test]
fn one_that_is_waited_for_now_and_then_is_not_asked_for_more_often() {
    let at = start();
    let mut agenda = listed(at);
    let later = at + seconds(600.0);
    let one = waiting(1);
    agenda.waits(&one, later, 0.5);
    let looked = later + seconds(7.5);
    let Task::One(asked) = agenda.next(&one, looked, 0.5) else { panic!("{agenda:?}") };
    agenda.has_one(&asked, true);
    agenda.waits(&[], looked + seconds(1.0), 0.5);
    let again = looked + seconds(10.0);
    agenda.waits(&one, again, 0.5);
    assert_eq!(agenda.next(&one, again, 0.5), Task::Wait(looked + seconds(35.0)));
    agenda.waits(&[], again, 0.5);
    agenda.waits(&waiting(2), again, 0.5);
    assert_eq!(
        agenda.next(&one, again, 0.5),
        Task::Wait(again + seconds(7.5)),
        "of another one nothing is known"
    );
    agenda.waits(&[], again, 0.5);
    let much_later = again + seconds(100.0);
    agenda.waits(&one, much_later, 0.5);
    assert_eq!(
        agenda.next(&one, much_later, 0.5),
        Task::Wait(much_later + seconds(7.5)),
        "a minute is over"
    );
}

#[test]
fn many_that_are_waited_for_are_one_list() {
    let at = start();
    let mut agenda = listed(at);
    agenda.waits(&waiting(9), at, 0.5);
    assert_eq!(agenda.next(&waiting(9), at + seconds(60.0), 0.5), Task::All);
    agenda.has_all(BTreeSet::new(), at + seconds(60.0), 0.5);
    assert_eq!(agenda.next(&waiting(9), at + seconds(60.0), 0.5), Task::Wait(at + seconds(95.0)));
}

#[test]
fn a_list_that_fails_is_asked_for_again_though_nobody_is_waited_for_any_more() {
    let at = start();
    let mut agenda = listed(at);
    let (many, later) = (waiting(9), at + seconds(600.0));
    agenda.waits(&many, later, 0.5);
    let due = later + seconds(7.5);
    assert_eq!(agenda.next(&many, due, 0.5), Task::All);
    agenda.has_failed(Duration::ZERO, due, 1.0);
    agenda.waits(&[], due, 0.5);
    assert_eq!(
        agenda.next(&[], due + seconds(10.0), 0.5),
        Task::All,
        "or it would count as failing for an hour"
    );
}

#[test]
fn failures_are_spread_and_grow() {
    let at = start();
    let mut agenda = Agenda::new(PERIODS, at);
    for (chance, retry_after, expected) in
        [(0.0, 0.0, 1.0), (0.0, 0.0, 2.0), (1.0, 0.0, 30.0), (1.0, 0.0, 30.0), (0.0, 40.0, 40.0)]
    {
        agenda.has_failed(seconds(retry_after), at, chance);
        let until = at + seconds(expected);
        assert_eq!(agenda.next(&[], at, chance), Task::Wait(until));
        assert_eq!(agenda.next(&[], until, chance), Task::All);
    }
    agenda.has_all(BTreeSet::new(), at, 0.5);
    agenda.has_failed(Duration::ZERO, at, 1.0);
    assert_eq!(agenda.next(&[], at, 0.5), Task::Wait(at + seconds(10.0)), "a success begins anew");
}

#[test]
fn endless_periods_are_no_panic() {
    let at = start();
    let mut agenda = Agenda::new(Periods { fail: Duration::MAX, pass: Duration::MAX }, at);
    agenda.has_failed(Duration::MAX, at, 1.0);
    agenda.has_all(BTreeSet::new(), at, 1.0);
    agenda.waits(&waiting(1), at, 1.0);
    assert!(matches!(agenda.next(&waiting(1), at, 1.0), Task::Wait(_)));
}
