//! Mutexes and condition variables without poisoning.
//!
//! The release build aborts on a panic, so a thread cannot leave a mutex poisoned.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn wait<'m, T>(changed: &Condvar, guard: MutexGuard<'m, T>) -> MutexGuard<'m, T> {
    changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

pub fn wait_while<'m, T>(
    changed: &Condvar,
    guard: MutexGuard<'m, T>,
    condition: impl FnMut(&mut T) -> bool,
) -> MutexGuard<'m, T> {
    changed.wait_while(guard, condition).unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a notification, `timeout` at most.
pub fn wait_timeout<'m, T>(
    changed: &Condvar,
    guard: MutexGuard<'m, T>,
    timeout: Duration,
) -> MutexGuard<'m, T> {
    changed.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0
}
