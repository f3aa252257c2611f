//! Applications as sequences of waits and CPU use, drawn by mix. Knows neither the speed of cores
//! nor lock.

use crate::chance::Chance;

/// A part of a start, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// A wait for the disk or the network, without CPU.
    Wait(f64),
    /// This number of threads burns this much CPU each.
    Burn {
        threads: usize,
        /// CPU seconds of each thread.
        each: f64,
    },
}

impl Phase {
    /// Seconds, if each thread has a core.
    pub fn alone(self) -> f64 {
        match self {
            Phase::Wait(seconds) => seconds,
            Phase::Burn { each, .. } => each,
        }
    }

    pub fn work(self) -> f64 {
        match self {
            Phase::Wait(_) => 0.0,
            Phase::Burn { threads, each } => threads as f64 * each,
        }
    }

    /// Threads that are runnable.
    pub fn threads(self) -> usize {
        match self {
            Phase::Wait(_) => 0,
            Phase::Burn { threads, .. } => threads,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    /// The time of its init's first request.
    pub arrives: f64,
    /// From the grant to the start of the container: the kubelet, and the pull of the image.
    pub latency: f64,
    /// CPU seconds of kubelet, container runtime and runc: half before its init asks, and half
    /// between the grant and the
    /// start of the container.
    pub overhead: f64,
    /// From the start of the container to the open port.
    pub start: Vec<Phase>,
    /// Its first start hangs until it is killed.
    pub hangs: bool,
    /// It never gets ready, and has no second start.
    pub never: bool,
}

impl Application {
    /// CPU seconds of a start.
    pub fn work(&self) -> f64 {
        self.start.iter().map(|phase| phase.work()).sum()
    }

    /// Seconds from the grant to the open port on an idle node.
    pub fn alone(&self) -> f64 {
        self.latency
            + self.overhead / 2.0
            + self.start.iter().map(|phase| phase.alone()).sum::<f64>()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mix {
    /// 0.5 to 1.5 CPU s in one thread.
    Cpu,
    /// Every second application waits for half of its start.
    HalfIo,
    /// One, two or four threads of 0.5 to 1.5 CPU s each.
    Threads,
    /// Every second application has a thread for each core.
    Wide,
    /// Each start waits for 85 % of its time.
    IoHeavy,
    /// As `Cpu`; the first one hangs.
    Hang,
    /// As `Cpu`; the second one never gets ready.
    Never,
    /// As `Cpu`; every fourth image takes 45 to 75 s to pull.
    Pulls,
    /// The first half as `IoHeavy`; then two threads of 0.5 to 1.5 CPU s each.
    CheapFirst,
    /// The reverse of `CheapFirst`.
    DearFirst,
    /// Most starts use less than 0.6 CPU s in one thread, and a few up to 3.5.
    Tail,
    /// Of 0.5 to 1.5 s: four threads use 0.15 each, then a wait of 0.3, then one thread uses 0.6.
    SpinUp,
    /// As `Cpu`, while threads of other programs use half of the cores.
    Beside,
    /// As `Cpu`, beside three batch threads of low weight for each core.
    Batch,
    /// As `Cpu`, with the measured CPU of kubelet and container runtime for each start.
    Overhead,
    /// As `Cpu`; every fourth image takes 135 to 225 s to pull.
    LongPulls,
    /// As `Cpu`; each image takes 135 to 225 s to pull.
    AllPull,
    /// As `Cpu`, while the kernel's counters stand still.
    Frozen,
}

/// CPU seconds of kubelet, containerd and runc for each start, on a real node of two cores.
pub const OVERHEAD: f64 = 0.8;

/// A start that waits has this many waits, each followed by its share of the work.
const SLICES: usize = 4;

impl Mix {
    /// All mixes with their names, in the order of the tables.
    pub const ALL: [(Mix, &str); 18] = [
        (Mix::Cpu, "CPU only"),
        (Mix::HalfIo, "half I/O"),
        (Mix::Threads, "threads"),
        (Mix::Wide, "wide"),
        (Mix::IoHeavy, "I/O heavy"),
        (Mix::Hang, "one hangs"),
        (Mix::Never, "one never ready"),
        (Mix::Pulls, "image pulls"),
        (Mix::CheapFirst, "cheap, then dear"),
        (Mix::DearFirst, "dear, then cheap"),
        (Mix::Tail, "a long tail"),
        (Mix::SpinUp, "spin up"),
        (Mix::Beside, "half the node taken"),
        (Mix::Batch, "all taken at low weight"),
        (Mix::Overhead, "kubelet's CPU"),
        (Mix::LongPulls, "pulls of 3 min"),
        (Mix::AllPull, "all pull 3 min"),
        (Mix::Frozen, "frozen counters"),
    ];

    /// The number of mixes, from the first on, that have goals.
    pub const JUDGED: usize = 8;

    pub fn name(self) -> &'static str {
        Mix::ALL[self as usize].1
    }

    /// This many applications, which all arrive at zero. `latency` is the kubelet's, with up to 30
    /// % more or less.
    pub fn herd(self, count: usize, cores: usize, latency: f64, seed: u64) -> Vec<Application> {
        let mut chance = Chance::new(seed);
        let is_late = |nth| nth >= count / 2;
        (0..count)
            .map(|nth| self.application(nth, is_late(nth), cores, latency, &mut chance))
            .collect()
    }

    /// Threads of other programs that always use CPU.
    pub fn background(self, cores: usize) -> usize {
        if self == Mix::Beside { cores / 2 } else { 0 }
    }

    /// The same at low weight.
    pub fn batch(self, cores: usize) -> usize {
        if self == Mix::Batch { 3 * cores } else { 0 }
    }

    fn application(
        self,
        nth: usize,
        is_late: bool,
        cores: usize,
        latency: f64,
        chance: &mut Chance,
    ) -> Application {
        let seconds = chance.between(0.5, 1.5);
        let start = self.start(nth, is_late, cores, seconds, chance);
        let pull = match self {
            Mix::Pulls if nth % 4 == 1 => chance.between(45.0, 75.0),
            Mix::LongPulls if nth % 4 == 1 => chance.between(135.0, 225.0),
            Mix::AllPull => chance.between(135.0, 225.0),
            _ => 0.0,
        };
        let latency = if latency > 0.0 { latency * chance.between(0.7, 1.3) } else { 0.0 };
        Application {
            arrives: 0.0,
            latency: latency + pull,
            overhead: if self == Mix::Overhead { OVERHEAD } else { 0.0 },
            start,
            hangs: self == Mix::Hang && nth == 0,
            never: self == Mix::Never && nth == 1,
        }
    }

    fn start(
        self,
        nth: usize,
        is_late: bool,
        cores: usize,
        seconds: f64,
        chance: &mut Chance,
    ) -> Vec<Phase> {
        let is_second = nth % 2 == 1;
        match self {
            Mix::Threads => {
                vec![Phase::Burn { threads: [1, 2, 4][chance.below(3)], each: seconds }]
            }
            Mix::Wide if is_second => {
                vec![Phase::Burn { threads: cores, each: seconds / cores as f64 }]
            }
            Mix::HalfIo if is_second => waiting(0.5, seconds),
            Mix::IoHeavy => waiting(0.85, seconds),
            Mix::CheapFirst if is_late => vec![Phase::Burn { threads: 2, each: seconds }],
            Mix::DearFirst if !is_late => vec![Phase::Burn { threads: 2, each: seconds }],
            Mix::CheapFirst | Mix::DearFirst => waiting(0.85, seconds),
            Mix::Tail => vec![Phase::Burn {
                threads: 1,
                each: (0.3 / (1.0 - 0.94 * (seconds - 0.5))).min(3.5),
            }],
            Mix::SpinUp => vec![
                Phase::Burn { threads: 4, each: 0.15 * seconds },
                Phase::Wait(0.3 * seconds),
                Phase::Burn { threads: 1, each: 0.6 * seconds },
            ],
            _ => vec![Phase::Burn { threads: 1, each: seconds }],
        }
    }
}

/// A start in one thread whose waits take this share of it and alternate with its work.
pub fn waiting(share: f64, seconds: f64) -> Vec<Phase> {
    let slice = [
        Phase::Wait(seconds * share / SLICES as f64),
        Phase::Burn { threads: 1, each: seconds * (1.0 - share) / SLICES as f64 },
    ];
    slice.repeat(SLICES)
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrival {
    AtOnce,
    /// One after the other, at this rate a second and core.
    ACore(f64),
}

impl Arrival {
    /// Sets the arrivals, in the order of the herd.
    pub fn set(self, herd: &mut [Application], cores: usize) {
        for (nth, application) in herd.iter_mut().enumerate() {
            application.arrives = match self {
                Arrival::AtOnce => 0.0,
                Arrival::ACore(rate) => nth as f64 / rate / cores as f64,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_costs_and_how_long_it_takes() {
        let start = vec![
            Phase::Wait(2.0),
            Phase::Burn { threads: 4, each: 0.5 },
            Phase::Burn { threads: 1, each: 1.0 },
        ];
        let application = Application {
            arrives: 9.0,
            latency: 0.75,
            overhead: 0.0,
            start,
            hangs: false,
            never: false,
        };
        assert_eq!((application.work(), application.alone()), (3.0, 4.25));
        assert_eq!(
            application.start.iter().map(|phase| phase.threads()).collect::<Vec<_>>(),
            [0, 4, 1]
        );
    }

    #[test]
    fn mixes_are_what_they_are_called() {
        for (at, (mix, name)) in Mix::ALL.into_iter().enumerate() {
            assert_eq!((mix as usize, mix.name()), (at, name));
            let herd = mix.herd(40, 8, 1.0, 3);
            assert_eq!(herd, mix.herd(40, 8, 1.0, 3), "{name}: the same seed, the same herd");
            assert_ne!(herd, mix.herd(40, 8, 1.0, 4), "{name}");
            assert_eq!(
                herd.iter().filter(|it| it.hangs).count(),
                usize::from(mix == Mix::Hang),
                "{name}"
            );
            assert_eq!(
                herd.iter().filter(|it| it.never).count(),
                usize::from(mix == Mix::Never),
                "{name}"
            );
            let pulls = match mix {
                Mix::Pulls | Mix::LongPulls => 10,
                Mix::AllPull => 40,
                _ => 0,
            };
            assert_eq!(herd.iter().filter(|it| it.latency > 40.0).count(), pulls, "{name}");
            assert_eq!(mix.background(8), if mix == Mix::Beside { 4 } else { 0 }, "{name}");
            assert_eq!(mix.batch(8), if mix == Mix::Batch { 24 } else { 0 }, "{name}");
            let wide = herd.iter().filter(|it| it.start[0].threads() == 8).count();
            assert_eq!(wide, if mix == Mix::Wide { 20 } else { 0 }, "{name}");
        }
        let share = |mix: Mix| {
            let herd = mix.herd(1000, 2, 0.0, 1);
            herd.iter().map(Application::work).sum::<f64>()
                / herd.iter().map(Application::alone).sum::<f64>()
        };
        for (mix, wanted) in [
            (Mix::Cpu, 1.0),
            (Mix::HalfIo, 0.75),
            (Mix::IoHeavy, 0.15),
            (Mix::Threads, 7.0 / 3.0),
            (Mix::CheapFirst, 1.075),
            (Mix::DearFirst, 1.075),
            (Mix::Tail, 1.0),
            (Mix::SpinUp, 1.2 / 1.05),
        ] {
            assert!((share(mix) / wanted - 1.0).abs() < 0.05, "{mix:?}: {}", share(mix));
        }
        let half = |mix: Mix, late: bool| {
            mix.herd(40, 8, 0.0, 3).into_iter().skip(if late { 20 } else { 0 }).take(20)
        };
        for (mix, late) in [(Mix::CheapFirst, true), (Mix::DearFirst, false)] {
            assert!(half(mix, late).all(|it| it.start[0].threads() == 2), "{mix:?}");
            assert!(half(mix, !late).all(|it| it.start[0].threads() == 0), "{mix:?}");
        }
        let tail: Vec<f64> =
            Mix::Tail.herd(1000, 8, 0.0, 3).iter().map(Application::work).collect();
        assert!(tail.iter().all(|work| (0.3..=3.5).contains(work)));
        assert!(
            tail.iter().filter(|work| **work < 0.6).count() > 500
                && tail.iter().filter(|work| **work > 2.0).count() > 50
        );
    }

    #[test]
    fn arrivals() {
        let mut herd = Mix::Cpu.herd(5, 2, 0.0, 1);
        let mut times = |arrival: Arrival| {
            arrival.set(&mut herd, 2);
            herd.iter().map(|application| application.arrives).collect::<Vec<_>>()
        };
        assert_eq!(times(Arrival::ACore(2.0)), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(times(Arrival::AtOnce), [0.0; 5]);
    }
}
