//! What has to start: applications as sequences of waiting and burning, drawn by mix.

use crate::chance::Chance;

/// A part of a start, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Nothing is burnt: the disk, the network, an image that is pulled.
    Wait(f64),
    /// So many threads burn so much CPU each.
    Burn {
        /// At once.
        threads: u32,
        /// CPU seconds of each.
        each: f64,
    },
}

/// One application.
#[derive(Clone, Debug)]
pub struct Application {
    /// When its init asks first.
    pub arrives: f64,
    /// From its grant to the start of its container.
    pub latency: f64,
    /// From there to its open port.
    pub start: Vec<Phase>,
    /// Its first start hangs until it is killed.
    pub hangs: bool,
    /// It never gets ready, and burns nothing after its start.
    pub never: bool,
}

impl Application {
    /// CPU seconds of a start.
    pub fn work(&self) -> f64 {
        self.start
            .iter()
            .map(|p| match p {
                Phase::Wait(_) => 0.0,
                Phase::Burn { threads, each } => f64::from(*threads) * each,
            })
            .sum()
    }
}

/// What a herd is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// 0.5 to 1.5 CPU s in one thread.
    Cpu,
    /// Every second one waits for half of its start.
    HalfIo,
    /// One, two or four threads of 0.5 to 1.5 CPU s each.
    Threads,
    /// Every second one burns in as many threads as there are cores.
    Wide,
    /// Nine tenths of each start are waiting.
    IoHeavy,
    /// As `Cpu`; the first one hangs.
    Hang,
    /// As `Cpu`; the second one never gets ready.
    Never,
    /// As `Cpu`, after images that take a minute, more or less.
    Pulls,
}

impl Mix {
    /// All of them.
    pub const ALL: [(Mix, &str); 8] = [
        (Mix::Cpu, "CPU only"),
        (Mix::HalfIo, "half I/O"),
        (Mix::Threads, "threads"),
        (Mix::Wide, "wide"),
        (Mix::IoHeavy, "I/O heavy"),
        (Mix::Hang, "one hangs"),
        (Mix::Never, "one never ready"),
        (Mix::Pulls, "image pulls"),
    ];

    /// One application of it.
    pub fn draw(self, nth: usize, cores: usize, latency: f64, chance: &mut Chance) -> Application {
        let s = chance.between(0.5, 1.5);
        let one = |each| vec![Phase::Burn { threads: 1, each }];
        let waits = |share: f64, total: f64| {
            let slices = 4;
            let mut phases = Vec::new();
            for _ in 0..slices {
                phases.push(Phase::Wait(total * share / slices as f64));
                phases.push(Phase::Burn { threads: 1, each: total * (1.0 - share) / slices as f64 });
            }
            phases
        };
        let mut pull = 0.0;
        let start = match self {
            Mix::Cpu | Mix::Hang | Mix::Never => one(s),
            Mix::HalfIo if nth % 2 == 0 => one(s),
            Mix::HalfIo => waits(0.5, s),
            Mix::Threads => {
                let threads = [1, 2, 4][chance.below(3)];
                vec![Phase::Burn { threads, each: s }]
            }
            Mix::Wide if nth % 2 == 0 => one(s),
            Mix::Wide => vec![Phase::Burn { threads: cores as u32, each: s / cores as f64 }],
            Mix::IoHeavy => waits(0.85, s),
            Mix::Pulls => {
                if nth % 4 == 1 {
                    pull = chance.between(45.0, 75.0);
                }
                one(s)
            }
        };
        let latency = if latency > 0.0 { latency * chance.between(0.7, 1.3) } else { 0.0 };
        Application {
            arrives: 0.0,
            latency: latency + pull,
            start,
            hangs: self == Mix::Hang && nth == 0,
            never: self == Mix::Never && nth == 1,
        }
    }

    /// A whole herd.
    pub fn herd(self, count: usize, cores: usize, latency: f64, seed: u64) -> Vec<Application> {
        let mut chance = Chance::new(seed);
        (0..count).map(|nth| self.draw(nth, cores, latency, &mut chance)).collect()
    }
}
