//! What is tried against the herd: a table, one line for each remedy.

use std::time::Duration;

use Lease::{Fixed, UntilReady};
use Trouble::{Calm, LostAnswers, Restart};

/// A way for a node's pods to start. Without a gate they all start at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Remedy {
    /// As in the table; the name of its picture is made of it.
    pub name: &'static str,
    pub gate: Option<Gate>,
}

/// A lock, and an init in front of each application.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    pub slots: Slots,
    pub lease: Lease,
    pub trouble: Trouble,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slots {
    /// As `--locks` takes it.
    Input(&'static str),
    ACore(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lease {
    /// So many times what the kubelet and a start alone take together.
    Fixed(f64),
    /// Ends when the application's port answers.
    UntilReady,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    Calm,
    /// Of twenty answers one is lost on its way.
    LostAnswers,
    /// The lock is killed and started again when half of the applications are ready.
    Restart,
}

const ONE: Slots = Slots::Input("1");

pub const NONE: Remedy = Remedy { name: "none", gate: None };
/// What the goal is about.
pub const READY: Remedy = gate("ready, one a core", Slots::ACore(1), UntilReady, Calm);
/// What is to cost little beside it.
pub const LOST: Remedy =
    gate("ready, one a core, 5 % of answers lost", Slots::ACore(1), UntilReady, LostAnswers);
pub const RESTARTED: Remedy =
    gate("ready, one a core, lock restarted", Slots::ACore(1), UntilReady, Restart);
const GUESSED: Remedy = gate("guessed well, one a core", Slots::ACore(1), Fixed(WELL), Calm);
pub const READY_ONE: Remedy = gate("ready, one slot", ONE, UntilReady, Calm);
/// Nobody has to guess anything.
pub const AUTO: Remedy = gate("ready, auto", Slots::Input("auto"), UntilReady, Calm);
pub const READY_TWO: Remedy = gate("ready, two a core", Slots::ACore(2), UntilReady, Calm);

/// Every remedy, for the herd that is looked at closely.
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

/// Those between which herds of other applications differ.
pub const SOME: &[Remedy] = &[NONE, GUESSED, READY_ONE, READY, READY_TWO, AUTO];

/// What is left where the kubelet takes no time, and one slot leaves all cores but one idle.
pub const FEW: &[Remedy] = &[NONE, READY, READY_TWO];

pub const SHORT: f64 = 1.0 / 3.0;
pub const WELL: f64 = 1.0;
pub const LONG: f64 = 2.0;
pub const MOST: u32 = 10;

const fn gate(name: &'static str, slots: Slots, lease: Lease, trouble: Trouble) -> Remedy {
    Remedy { name, gate: Some(Gate { slots, lease, trouble }) }
}

impl Remedy {
    /// Of its picture.
    pub fn title(&self) -> String {
        self.gate.map_or_else(|| "no lock".to_owned(), |_| format!("lock: {}", self.name))
    }

    /// For the name of a file.
    pub fn slug(&self) -> String {
        let words =
            self.name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-")
    }
}

impl Slots {
    /// What `--locks` is given. Not a share of the cores, for this program may be tied to a few of the machine's.
    pub fn argument(self, cores: usize) -> String {
        match self {
            Slots::Input(slots) => slots.to_owned(),
            Slots::ACore(slots) => (slots * cores).to_string(),
        }
    }
}

impl Lease {
    /// What init asks for. The upper bound of a lease that ends at ready is generous, and yet one: an application that is
    /// killed holds its slot through the back-off.
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
