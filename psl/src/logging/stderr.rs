//! Lines to stderr, without ever waiting for whoever reads it.
//!
//! Where nobody empties the pipe behind stderr a write blocks for good, and a program that waits
//! for its own log has become the outage. So a thread of its own writes; what comes while it is
//! blocked waits in a short queue, and what does not fit there is counted and dropped.
//! Does not know what a line says.

use crate::sync;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Duration;

/// Lines that wait while stderr is blocked: some 50 kB.
const LONGEST_QUEUE: usize = 256;

const STACK: usize = 32 * 1024;

/// What a program that is told to end gives its last lines.
pub const LAST_PATIENCE: Duration = Duration::from_millis(50);

/// What a program that ends by itself gives them: why it failed should not be lost to a busy node.
pub const END_PATIENCE: Duration = Duration::from_secs(2);

/// The queue of this process, once [`writer`] has been called.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

#[derive(Default)]
struct Queue {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    dropped: usize,
    is_writing: bool,
}

/// Where a logger writes: each call is one line, or several whole ones.
/// `notice` says how many lines were dropped, in the form of the others.
pub fn writer(notice: fn(usize) -> String) -> Box<dyn Write + Send> {
    let queue = QUEUE.get_or_init(Arc::default);
    let writing = Arc::clone(queue);
    match thread::Builder::new()
        .name("log".to_owned())
        .stack_size(STACK)
        .spawn(move || writing.write(io::stderr(), notice))
    {
        Ok(_) => Box::new(Inlet(Arc::clone(queue))),
        // Without a thread a log that may block is still better than none.
        Err(_) => Box::new(io::stderr()),
    }
}

/// Waits until everything is written, but not for longer than this.
pub fn flush(patience: Duration) {
    if let Some(queue) = QUEUE.get() {
        queue.flush(patience);
    }
}

struct Inlet(Arc<Queue>);

impl Write for Inlet {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn push(&self, line: &[u8]) {
        let mut lines = self.lines();
        if lines.waiting.len() < LONGEST_QUEUE {
            lines.waiting.push_back(line.to_vec());
        } else {
            lines.dropped += 1;
        }
        self.changed.notify_all();
    }

    fn write(&self, mut to: impl Write, notice: fn(usize) -> String) -> ! {
        loop {
            let mut lines = self.lines();
            lines.is_writing = false;
            self.changed.notify_all();
            let empty = |lines: &mut Lines| lines.waiting.is_empty();
            let mut lines = sync::wait_while(&self.changed, lines, empty);
            let batch = std::mem::take(&mut lines.waiting);
            let dropped = std::mem::take(&mut lines.dropped);
            lines.is_writing = true;
            drop(lines);
            // A stderr that is closed is nobody's fault, and no reason to end.
            for line in batch {
                let _ = to.write_all(&line);
            }
            if dropped > 0 {
                let _ = to.write_all(notice(dropped).as_bytes());
            }
        }
    }

    fn flush(&self, patience: Duration) {
        let busy = |lines: &mut Lines| lines.is_writing || !lines.waiting.is_empty();
        // In either case there is nothing left to do: all is written, or time is up.
        drop(self.changed.wait_timeout_while(self.lines(), patience, busy));
    }

    /// No code that holds this lock can panic half-way through a change.
    fn lines(&self) -> MutexGuard<'_, Lines> {
        sync::lock(&self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A pipe that is full until it is told to go on.
    struct Blocked(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Blocked {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(line.to_vec()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_never_waits_and_what_was_dropped_is_counted() {
        let queue = Arc::new(Queue::default());
        let ((go, wait), (out, written)) = (mpsc::channel(), mpsc::channel());
        let writing = Arc::clone(&queue);
        thread::spawn(move || {
            writing.write(Blocked(wait, out), |lines| format!("{lines} dropped"))
        });
        queue.push(b"first\n");
        // Until the thread has taken the first line it would count as one that waits.
        while !queue.lines().is_writing {
            thread::yield_now();
        }
        for _ in 0..LONGEST_QUEUE + 7 {
            queue.push(b"x\n");
        }
        queue.flush(Duration::from_millis(1));
        for _ in 0..LONGEST_QUEUE + 2 {
            go.send(()).unwrap();
        }
        let lines: Vec<Vec<u8>> = (0..LONGEST_QUEUE + 1).map(|_| written.recv().unwrap()).collect();
        assert_eq!(lines[0], b"first\n");
        drop(go);
        assert_eq!(queue.lines().waiting.len(), 0);
        let notice = String::from_utf8(written.recv().unwrap()).unwrap();
        assert!(notice.ends_with(" dropped"), "{notice}");
    }

    #[test]
    fn flush_waits_for_what_can_be_written() {
        let queue = Arc::new(Queue::default());
        let writing = Arc::clone(&queue);
        thread::spawn(move || writing.write(io::sink(), |_| String::new()));
        queue.push(b"x\n");
        queue.flush(Duration::from_secs(20));
        let lines = queue.lines();
        assert!(lines.waiting.is_empty() && !lines.is_writing);
    }
}
