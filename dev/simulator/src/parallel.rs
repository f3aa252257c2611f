//! Runs a function over a slice on several threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The results in the order of the slice.
pub fn map<T: Sync, R: Send>(
    threads: usize,
    things: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some((at, thing)) = claim(&next, things) {
            done.push((at, work(thing)));
        }
        done
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(worker)).collect();
        // A panic of a worker ends this thread too.
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_else(|why| std::panic::resume_unwind(why)))
            .collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

fn claim<'a, T>(next: &AtomicUsize, things: &'a [T]) -> Option<(usize, &'a T)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    Some((at, things.get(at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_and_in_its_place() {
        let things: Vec<usize> = (0..1000).collect();
        for threads in [0, 1, 3] {
            assert_eq!(
                map(threads, &things, |thing| thing * 2),
                (0..1000).map(|n| n * 2).collect::<Vec<_>>()
            );
        }
        assert!(map(2, &[] as &[u8], |_| ()).is_empty());
    }
}
