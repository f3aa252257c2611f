//! What has become of the pods of one run, in the node's seconds: what each did when, and the figures that follow.
//!
//! Knows neither processes nor the clock.

use std::time::Duration;

use crate::table::quantile;

/// What a pod is doing. A state lasts until the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Its init asks the lock.
    Waiting,
    /// The kubelet takes its time, or the back-off after a kill lasts.
    Idle,
    Starting,
    /// A start that its probe has ended.
    Killed,
    Ready,
}

/// One pod's morning.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    began: Vec<(Doing, Duration)>,
    /// What its killed starts took of the processors.
    wasted: Duration,
}

impl Pod {
    pub fn begins(&mut self, doing: Doing, at: Duration) {
        self.began.push((doing, at));
    }

    /// The start that is under way was in vain, after so much of a processor; the pod idles from then on.
    pub fn killed(&mut self, at: Duration, spent: Duration) {
        if let Some((doing, _)) = self.began.last_mut() {
            *doing = Doing::Killed;
        }
        self.wasted += spent;
        self.begins(Doing::Idle, at);
    }

    pub fn ready(&self) -> Option<Duration> {
        self.began.iter().find(|(doing, _)| *doing == Doing::Ready).map(|(_, at)| *at)
    }

    pub fn kills(&self) -> usize {
        self.began.iter().filter(|(doing, _)| *doing == Doing::Killed).count()
    }

    /// What it did, from when to when; the last of it until `end`.
    pub fn spans(&self, end: Duration) -> impl Iterator<Item = (Doing, Duration, Duration)> {
        let ends = self.began.iter().skip(1).map(|(_, at)| *at).chain([end]);
        self.began.iter().zip(ends).map(|((doing, from), to)| (*doing, *from, to.max(*from)))
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Morning {
    pub pods: Vec<Pod>,
    /// When it was broken off at the latest.
    pub cut_off: Duration,
}

impl Morning {
    /// Until the last application is ready; nothing where one is not.
    pub fn took(&self) -> Option<Duration> {
        let ready: Option<Vec<_>> = self.pods.iter().map(Pod::ready).collect();
        ready?.into_iter().max()
    }

    /// The whole time, or the cut-off.
    pub fn lasted(&self) -> Duration {
        self.took().unwrap_or(self.cut_off)
    }

    pub fn left(&self) -> usize {
        self.pods.iter().filter(|pod| pod.ready().is_none()).count()
    }

    /// What this share of the applications did not wait longer than, from the pod's arrival to ready. Those that are
    /// still not ready have waited until the cut-off.
    pub fn wait(&self, share: f64) -> Duration {
        let mut waits: Vec<_> =
            self.pods.iter().map(|pod| pod.ready().unwrap_or(self.cut_off)).collect();
        waits.sort_unstable();
        quantile(&waits, share)
    }

    pub fn kills(&self) -> usize {
        self.pods.iter().map(Pod::kills).sum()
    }

    pub fn wasted(&self) -> Duration {
        self.pods.iter().map(|pod| pod.wasted).sum()
    }
}

#[cfg(test)]
impl Pod {
    /// What it did, each from so many seconds on.
    pub fn of(begins: &[(Doing, u64)]) -> Pod {
        let mut pod = Pod::default();
        begins.iter().for_each(|(doing, at)| pod.begins(*doing, Duration::from_secs(*at)));
        pod
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Doing::{Idle, Killed, Ready, Starting, Waiting};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_pod_that_is_killed_once() {
        let mut pod = Pod::of(&[(Waiting, 0), (Idle, 2), (Starting, 3)]);
        pod.killed(s(7), s(1));
        assert_eq!((pod.ready(), pod.kills(), pod.wasted), (None, 1, s(1)));
        pod.begins(Starting, s(8));
        let all: Vec<_> = pod.spans(s(9)).collect();
        assert_eq!(
            all,
            [
                (Waiting, s(0), s(2)),
                (Idle, s(2), s(3)),
                (Killed, s(3), s(7)),
                (Idle, s(7), s(8)),
                (Starting, s(8), s(9))
            ]
        );
        pod.begins(Ready, s(10));
        assert_eq!(pod.ready(), Some(s(10)));
        assert_eq!(
            pod.spans(s(9)).last(),
            Some((Ready, s(10), s(10))),
            "an end before the last beginning"
        );
    }

    #[test]
    fn figures() {
        let ready = |at| Pod::of(&[(Starting, 0), (Ready, at)]);
        let mut morning = Morning { pods: (1..=20).map(ready).collect(), cut_off: s(50) };
        assert_eq!((morning.took(), morning.left(), morning.lasted()), (Some(s(20)), 0, s(20)));
        assert_eq!((morning.wait(0.5), morning.wait(0.95)), (s(10), s(19)));
        assert_eq!((morning.kills(), morning.wasted()), (0, s(0)));
        for spent in [3, 4] {
            let mut killed = Pod::of(&[(Starting, 0)]);
            killed.killed(s(4), s(spent));
            morning.pods[spent as usize] = killed;
        }
        assert_eq!((morning.took(), morning.left(), morning.lasted()), (None, 2, s(50)));
        assert_eq!((morning.wait(0.95), morning.wait(0.9)), (s(50), s(20)));
        assert_eq!((morning.kills(), morning.wasted()), (2, s(7)));
    }
}
