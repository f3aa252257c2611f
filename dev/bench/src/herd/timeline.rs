//! The states of the pods of one run over time, in the node's seconds, and the figures that follow.
//! Knows neither
//! processes nor the clock.

use std::time::Duration;

use crate::table::quantile;

/// A state lasts until the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// Its init asks the lock.
    Waiting,
    /// The kubelet's latency, or the back-off after a kill.
    Idle,
    Starting,
    /// A start that the probe killed.
    Killed,
    Ready,
}

#[derive(Clone, Debug, Default)]
pub struct Pod {
    began: Vec<(PodState, Duration)>,
    /// The CPU time of killed starts.
    wasted: Duration,
}

impl Pod {
    pub fn begins(&mut self, doing: PodState, at: Duration) {
        self.began.push((doing, at));
    }

    /// The probe kills the current start, which has used this CPU time.
    pub fn killed(&mut self, at: Duration, spent: Duration) {
        if let Some((doing, _)) = self.began.last_mut() {
            *doing = PodState::Killed;
        }
        self.wasted += spent;
        self.begins(PodState::Idle, at);
    }

    pub fn ready(&self) -> Option<Duration> {
        self.began.iter().find(|(doing, _)| *doing == PodState::Ready).map(|(_, at)| *at)
    }

    pub fn kills(&self) -> usize {
        self.began.iter().filter(|(doing, _)| *doing == PodState::Killed).count()
    }

    /// The states with begin and end; the last one ends at `end`.
    pub fn spans(&self, end: Duration) -> impl Iterator<Item = (PodState, Duration, Duration)> {
        let ends = self.began.iter().skip(1).map(|(_, at)| *at).chain([end]);
        self.began.iter().zip(ends).map(|((doing, from), to)| (*doing, *from, to.max(*from)))
    }
}

#[derive(Clone, Debug)]
pub struct RunResult {
    pub pods: Vec<Pod>,
    pub cut_off: Duration,
}

impl RunResult {
    /// Until the last application is ready; `None` if one is not.
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

    /// The quantile of the time from the pod's arrival to ready. An application that is not ready
    /// waits until the cut-off.
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
    pub fn of(begins: &[(PodState, u64)]) -> Pod {
        let mut pod = Pod::default();
        begins.iter().for_each(|(doing, at)| pod.begins(*doing, Duration::from_secs(*at)));
        pod
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PodState::{Idle, Killed, Ready, Starting, Waiting};

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
        let mut result = RunResult { pods: (1..=20).map(ready).collect(), cut_off: s(50) };
        assert_eq!((result.took(), result.left(), result.lasted()), (Some(s(20)), 0, s(20)));
        assert_eq!((result.wait(0.5), result.wait(0.95)), (s(10), s(19)));
        assert_eq!((result.kills(), result.wasted()), (0, s(0)));
        for spent in [3, 4] {
            let mut killed = Pod::of(&[(Starting, 0)]);
            killed.killed(s(4), s(spent));
            result.pods[spent as usize] = killed;
        }
        assert_eq!((result.took(), result.left(), result.lasted()), (None, 2, s(50)));
        assert_eq!((result.wait(0.95), result.wait(0.9)), (s(50), s(20)));
        assert_eq!((result.kills(), result.wasted()), (2, s(7)));
    }
}
