//! How much of the processors' time nobody used, and how much was used by others than this program and its children, by
//! the kernel's own account in `/proc/stat` and `/proc/self/stat`.
//!
//! Counts only the processors that this process may run on, so that a run tied to two of many cores is told of two.

use std::fs;

/// Since the machine was booted, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    pub fn now() -> Result<Ticks, String> {
        let read =
            |path: &str| fs::read_to_string(path).map_err(|e| format!("cannot read {path}: {e}"));
        let allowed = allowed(&read("/proc/self/status")?);
        Ok(ticks(&read("/proc/stat")?, &allowed))
    }

    /// The share that was idle since an earlier moment; none where no tick has passed.
    pub fn idle_since(self, earlier: Ticks) -> f64 {
        let idle = self.idle.saturating_sub(earlier.idle) as f64;
        idle / self.all.saturating_sub(earlier.all).max(1) as f64
    }

    /// The share that others than us used, or the hypervisor gave to its other guests, where we have used so many.
    pub fn others_since(self, earlier: Ticks, own: u64) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        let others = all.saturating_sub(self.idle.saturating_sub(earlier.idle)).saturating_sub(own);
        others as f64 / all.max(1) as f64
    }
}

/// What this process and those of its children have used that have ended, in the kernel's ticks.
pub fn own() -> Result<u64, String> {
    let stat = fs::read_to_string("/proc/self/stat")
        .map_err(|e| format!("cannot read /proc/self/stat: {e}"))?;
    own_ticks(&stat).ok_or_else(|| "/proc/self/stat has no time of this process".to_owned())
}

/// Fields 14 to 17, counted from the end of the name, which may hold anything.
fn own_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = stat
        .rsplit_once(") ")?
        .1
        .split(' ')
        .skip(11)
        .map_while(|ticks| ticks.parse().ok())
        .collect();
    fields.get(..4).map(|ticks| ticks.iter().sum())
}

/// The numbers in the list of a process's status, such as `0-1,4`.
fn allowed(status: &str) -> Vec<usize> {
    let list =
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

/// Of each processor's line `cpuN user nice system idle iowait irq softirq steal …`; what follows steal is part of user
/// and nice already.
fn ticks(stat: &str, allowed: &[usize]) -> Ticks {
    let lines = stat.lines().filter_map(|line| line.strip_prefix("cpu")?.split_once(' '));
    let ours =
        lines.filter(|(number, _)| number.parse().is_ok_and(|number| allowed.contains(&number)));
    ours.fold(Ticks { idle: 0, all: 0 }, |sum, (_, counts)| {
        let counts: Vec<u64> =
            counts.split_whitespace().filter_map(|count| count.parse().ok()).take(8).collect();
        let idle: u64 = counts.iter().skip(3).take(2).sum();
        Ticks { idle: sum.idle + idle, all: sum.all + counts.iter().sum::<u64>() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_processors() {
        let of = |list: &str| {
            allowed(&format!("Name:\tx\nCpus_allowed_list:\t{list}\nMems_allowed:\t1\n"))
        };
        assert_eq!(of("0-1,4"), [0, 1, 4]);
        assert_eq!(of("7"), [7]);
        assert_eq!(allowed("Name:\tx\n"), [0; 0]);
    }

    #[test]
    fn idle_and_waiting_for_a_disk_are_both_idle() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 40 5 6 7 8 1 2\ncpu1 1 0 0 10 0 0 0 0 0 0\ncpu10 5 5 5 5 5 5 5 5\nintr 1\n";
        let first = ticks(stat, &[0]);
        assert_eq!(first, Ticks { idle: 45, all: 72 });
        let both = ticks(stat, &[0, 1]);
        assert_eq!(both, Ticks { idle: 55, all: 83 });
        assert!((Ticks { idle: 85, all: 143 }.idle_since(both) - 0.5).abs() < 1e-9);
        assert!(both.idle_since(both).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_ours_is_of_others() {
        let (earlier, now) = (Ticks { idle: 100, all: 1000 }, Ticks { idle: 150, all: 1200 });
        assert!((now.others_since(earlier, 110) - 0.2).abs() < 1e-9);
        assert!(now.others_since(earlier, 151).abs() < 1e-9, "ticks are coarse");
        assert!(earlier.others_since(earlier, 0).abs() < 1e-9);
    }

    #[test]
    fn the_time_of_this_process_and_its_children() {
        let stat = "1 (a b) c) S 1 1 1 0 -1 4194560 0 0 0 0 11 12 13 14 20 0 1 0 1 1 1";
        assert_eq!(own_ticks(stat), Some(50));
        assert_eq!(own_ticks("1 (a) S 1"), None);
    }

    #[test]
    fn this_machine_tells() {
        assert!(Ticks::now().unwrap().all > 0);
        own().unwrap();
    }
}
