//! The remedies for a herd, one line each.

use std::time::Duration;

use Lease::{Fixed, UntilReady};
use Trouble::{Calm, LostAnswers, Restart};

/// Without a gate all pods start at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Remedy {
    /// The row of the table. The name of the picture is made of it.
    pub name: &'static str,
    pub gate: Option<Gate>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    pub slots: Slots,
    pub lease: Lease,
    pub trouble: Trouble,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slots {
    /// The value of `--locks`.
    Input(&'static str),
    ACore(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lease {
    /// A multiple of the kubelet's latency and a start alone.
    Fixed(f64),
    UntilReady,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    Calm,
    /// One answer of twenty is lost.
    LostAnswers,
    /// The lock is killed and started again when half of the applications are ready.
    Restart,
}

const ONE: Slots = Slots::Input("1");

pub const NONE: Remedy = Remedy { name: "none", gate: None };
pub const READY: Remedy = gate("ready, one a core", Slots::ACore(1), UntilReady, Calm);
/// Remedies with a goal relative to `READY`.
pub const LOST: Remedy =
    gate("ready, one a core, 5 % of answers lost", Slots::ACore(1), UntilReady, LostAnswers);
pub const RESTARTED: Remedy =
    gate("ready, one a core, lock restarted", Slots::ACore(1), UntilReady, Restart);
const GUESSED: Remedy = gate("guessed well, one a core", Slots::ACore(1), Fixed(WELL), Calm);
pub const READY_ONE: Remedy = gate("ready, one slot", ONE, UntilReady, Calm);
pub const AUTO: Remedy = gate("ready, auto", Slots::Input("auto"), UntilReady, Calm);
pub const READY_TWO: Remedy = gate("ready, two a core", Slots::ACore(2), UntilReady, Calm);

/// The remedies of the first herd.
pub const ALL: &[Remedy] = &[
    NONE,
    gate("too short, one slot", ONE, Fixed(SHORT), Calm),
    gate("too short, one a core", Slots::ACore(1), Fixed(SHORT), Calm),
    gate("too short, two a core", Slots::ACore(2), Fixed(SHORT), Calm),
    gate("guessed well, one slot", ONE, Fixed(WELL), Calm),
    GUESSED,
    gate("guessed well, two a core", Slots::ACore(2), Fixed(WELL), Calm),
    gate("too long, one slot", ONE, Fixed(LONG), Calm),
    gate("too long, one a core", Slots::ACore(1), Fixed(LONG), Calm),
    gate("too long, two a core", Slots::ACore(2), Fixed(LONG), Calm),
    READY_ONE,
    READY,
    READY_TWO,
    AUTO,
    LOST,
    RESTARTED,
];

/// The remedies of the herds with a disk or threads.
pub const SOME: &[Remedy] = &[NONE, GUESSED, READY_ONE, READY, READY_TWO, AUTO];

/// The remedies of the herd without latency.
pub const FEW: &[Remedy] = &[NONE, READY, READY_TWO];

pub const SHORT: f64 = 1.0 / 3.0;
pub const WELL: f64 = 1.0;
pub const LONG: f64 = 2.0;
pub const MOST: u32 = 10;

const fn gate(name: &'static str, slots: Slots, lease: Lease, trouble: Trouble) -> Remedy {
    Remedy { name, gate: Some(Gate { slots, lease, trouble }) }
}

impl Remedy {
    pub fn title(&self) -> String {
        self.gate.map_or_else(|| "no lock".to_owned(), |_| format!("lock: {}", self.name))
    }

    /// The name of a file.
    pub fn slug(&self) -> String {
        let words =
            self.name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-")
    }
}

impl Slots {
    /// The value of `--locks`. No percentage, because this program may be bound to a few cores of
    /// the machine.
    pub fn argument(self, cores: usize) -> String {
        match self {
            Slots::Input(slots) => slots.to_owned(),
            Slots::ACore(slots) => (slots * cores).to_string(),
        }
    }
}

impl Lease {
    /// The duration that init asks for. A lease that ends at ready needs a bound: a killed
    /// application keeps its slot
    /// through the back-off.
    pub fn duration(self, turn: Duration) -> Duration {
        match self {
            Fixed(times) => turn.mul_f64(times),
            UntilReady => turn * MOST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_make_files_that_differ() {
        let mut slugs: Vec<_> = ALL.iter().map(Remedy::slug).collect();
        assert!(slugs.contains(&"ready-one-a-core-5-of-answers-lost".to_owned()), "{slugs:?}");
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), ALL.len());
        assert_eq!(
            [NONE, READY].map(|remedy| remedy.title()),
            ["no lock", "lock: ready, one a core"]
        );
    }

    #[test]
    fn some_are_among_all() {
        assert!(SOME.iter().chain(FEW).all(|remedy| ALL.contains(remedy)));
    }

    #[test]
    fn what_lock_and_init_are_told() {
        assert_eq!(
            [ONE, Slots::ACore(1), Slots::ACore(2)].map(|slots| slots.argument(4)),
            ["1", "4", "8"]
        );
        let turn = Duration::from_millis(1800);
        assert_eq!(Lease::Fixed(2.5).duration(turn), Duration::from_millis(4500));
        assert_eq!(Lease::UntilReady.duration(turn), Duration::from_secs(18));
    }
}
