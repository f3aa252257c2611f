//! Threads with a name and a bounded stack.

use std::thread;

/// Starts a thread with this name and this many bytes of stack.
pub fn spawn(name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(stack);
    match thread.spawn(body) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("cannot start a thread ({name}): {error}")),
    }
}
