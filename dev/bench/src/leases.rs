//! What waiting costs: a herd of real inits, a long line of holders, the hand-over from one to the next.
//!
//! Each is a file, which measures and says what it found; here they become a section. Goals are
//! compared by the median; since whoever measures shares the cores with what is measured, only a
//! wide miss is a broken promise.

mod handover;
mod herd;
mod line;

use crate::Options;
use crate::goal::Goal;
use crate::machine;
use crate::results::Section;

pub fn run(options: &Options) -> Result<Section, String> {
    let mut text = machine::described("leases", &options.lock);
    let mut goals = Vec::new();
    for part in [herd::run, line::run, handover::run] {
        let (words, met) = part(options)?;
        text += &words;
        goals.extend(met);
    }
    text += "\n### Goals\n\n";
    text.extend(goals.iter().map(Goal::line));
    let broken = goals.iter().filter_map(|goal| goal.broken("leases")).collect();
    Ok(Section { title: "Leases", text, broken, figures: Vec::new() })
}
