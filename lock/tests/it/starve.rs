//! Honest clients get their leases beside hostile ones that wait for a lease too, and no slot stays
//! free while a client waits.

use std::thread;
use std::time::Duration;

use testkit::attack::Attack;
use testkit::attack::waiters::{ATTACKS, HONEST, SETTINGS, Setting};
use testkit::program::Program;
use testkit::skip;

/// Without other load the honest clients are served within it; with other load the attack goes on
/// until they are, or until `MOST`.
const LENGTH: Duration = Duration::from_secs(5);
const MOST: Duration = Duration::from_secs(60);

/// Readings of `/state` that may show a free slot while a client waits, as a share and a few more:
/// an honest client counts as waiting from before it connects.
const IDLE: f64 = 0.1;
const IDLE_READINGS: f64 = 3.0;

/// Attacks that run side by side, each on a lock of its own.
const AT_ONCE: usize = 4;

fn served_beside_all(setting: &'static Setting, hostile: u8) {
    for attacks in ATTACKS.chunks(AT_ONCE) {
        let runs = attacks
            .iter()
            .map(|attack| thread::spawn(move || served_beside(setting, attack, hostile)));
        let runs: Vec<_> = runs.collect();
        let failed: Vec<_> = runs.into_iter().filter_map(|run| run.join().unwrap().err()).collect();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }
}

fn served_beside(
    setting: &Setting,
    (name, attack): &(&str, Attack),
    hostile: u8,
) -> Result<(), String> {
    let mut lock = match setting.start(Program::new(env!("CARGO_BIN_EXE_lock"))) {
        Ok(lock) => lock,
        Err(why) => {
            skip(&format!("{name}, {}: {why}", setting.name));
            return Ok(());
        }
    };
    let met = setting.endure(lock.addr(), *attack, hostile, LENGTH, MOST);
    let found = format!(
        "{name}, {hostile} hostile, {}: {} of {HONEST} served, the last after {:?}; {} of {} readings idle; peak {} KiB; {}",
        setting.name,
        met.served.len(),
        met.served.last(),
        met.idle,
        met.samples,
        lock.memory_peak_kib(),
        met.attack
    );
    eprintln!("{found}");
    let is_alive = lock.try_wait().is_none() && lock.get("/livez").status == 200;
    let is_fair = met.served.len() == HONEST
        && met.samples > 0
        && met.idle as f64 <= IDLE_READINGS + IDLE * met.samples as f64;
    if is_alive && is_fair { Ok(()) } else { Err(found) }
}

#[test]
fn with_one_slot_beside_one_address() {
    served_beside_all(&SETTINGS[0], 1);
}

#[test]
fn with_one_slot_beside_eight_addresses() {
    served_beside_all(&SETTINGS[0], 8);
}

#[test]
fn with_eight_slots() {
    served_beside_all(&SETTINGS[1], 8);
}

#[test]
fn with_slots_that_follow_the_node() {
    served_beside_all(&SETTINGS[2], 8);
}

#[test]
fn with_the_floor_of_the_pressure_gate() {
    served_beside_all(&SETTINGS[3], 8);
}
