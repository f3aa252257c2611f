//! How much of the processors' time nobody used, by the kernel's own account in `/proc/stat`.
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
        let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("cannot read {path}: {e}"));
        let allowed = allowed(&read("/proc/self/status")?);
        Ok(ticks(&read("/proc/stat")?, &allowed))
    }

    /// The share that was idle since an earlier moment; none where no tick has passed.
    pub fn idle_since(self, earlier: Ticks) -> f64 {
        let idle = self.idle.saturating_sub(earlier.idle) as f64;
        idle / self.all.saturating_sub(earlier.all).max(1) as f64
    }
}

/// The numbers in the list of a process's status, such as `0-1,4`.
fn allowed(status: &str) -> Vec<usize> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
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
    let ours = lines.filter(|(number, _)| number.parse().is_ok_and(|number| allowed.contains(&number)));
    ours.fold(Ticks { idle: 0, all: 0 }, |sum, (_, counts)| {
        let counts: Vec<u64> = counts.split_whitespace().filter_map(|count| count.parse().ok()).take(8).collect();
        let idle: u64 = counts.iter().skip(3).take(2).sum();
        Ticks { idle: sum.idle + idle, all: sum.all + counts.iter().sum::<u64>() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_processors() {
        let of = |list: &str| allowed(&format!("Name:\tx\nCpus_allowed_list:\t{list}\nMems_allowed:\t1\n"));
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
    fn this_machine_tells() {
        assert!(Ticks::now().unwrap().all > 0);
    }
}
