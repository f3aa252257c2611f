//! The value of `--locks`: a number of slots, a share of the cores, or a limit that follows the
//! node.

use std::fmt;

use psl::address::whole_number;

use crate::core::lock::Slots;

/// The most leases that may be active at the same time.
pub const MOST_SLOTS: usize = 4096;

/// The upper bound of `auto` for each core, unless the setting names one.
const MOST_A_CORE: usize = 16;

/// The value of `--locks`. The number of slots depends on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locks {
    Count(usize),
    /// Percent of the node's online cores.
    Percent(usize),
    /// The limit follows the node, up to this number.
    Auto(Option<usize>),
}

impl fmt::Display for Locks {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Locks::Count(count) => write!(f, "{count}"),
            Locks::Percent(percent) => write!(f, "{percent}%"),
            Locks::Auto(None) => write!(f, "auto"),
            Locks::Auto(Some(most)) => write!(f, "auto:{most}"),
        }
    }
}

impl Locks {
    pub(super) fn parse(text: &str) -> Result<Locks, &'static str> {
        let count = |text: &str| whole_number(text).filter(|n| (1..=MOST_SLOTS).contains(n));
        let locks = if text == "auto" {
            Some(Locks::Auto(None))
        } else if let Some(most) = text.strip_prefix("auto:") {
            count(most).map(|most| Locks::Auto(Some(most)))
        } else if let Some(share) = text.strip_suffix('%') {
            whole_number(share).filter(|p| (1..=MOST_SLOTS * 100).contains(p)).map(Locks::Percent)
        } else {
            count(text).map(Locks::Count)
        };
        locks.ok_or(
            "1 to 4096, a share of the node's cores such as 50% (1% to 409600%), auto, or auto:MAX \
             with MAX from 1 to 4096",
        )
    }

    /// The slots on a node with this number of cores. A share is rounded down; at least 1, at most
    /// 4096.
    pub fn slots(self, cores: usize) -> Slots {
        match self {
            Locks::Count(count) => Slots::Fixed(count),
            Locks::Percent(percent) => {
                Slots::Fixed((cores.saturating_mul(percent) / 100).clamp(1, MOST_SLOTS))
            }
            Locks::Auto(most) => {
                let most = most.unwrap_or(cores.saturating_mul(MOST_A_CORE)).clamp(1, MOST_SLOTS);
                Slots::Auto { cores: cores.max(1), most }
            }
        }
    }
}
