//! Writes lines to stderr on a thread of its own, so that the program never waits for the reader.
//!
//! A write to stderr blocks for ever if the pipe behind it is full. While the writer thread is
//! blocked, lines wait in a short queue; lines that do not fit are counted and dropped.
//! Does not know the content of the lines.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use crate::sync;
use crate::thread::spawn;

/// Lines that wait while stderr is blocked: some 50 kB.
const LONGEST_QUEUE: usize = 256;

const STACK: usize = 32 * 1024;

/// The time for the last lines of a program that a signal ends.
pub const SIGNAL_FLUSH: Duration = Duration::from_millis(50);

/// The time for the last lines of a program that ends by itself: a busy node must not lose its
/// error.
pub const EXIT_FLUSH: Duration = Duration::from_secs(2);

/// The queue of this process, after the first call of [`writer`].
static QUEUE: OnceLock<Arc<LineQueue>> = OnceLock::new();

#[derive(Default)]
struct LineQueue {
    lines: Mutex<PendingLines>,
    changed: Condvar,
}

#[derive(Default)]
struct PendingLines {
    waiting: VecDeque<Vec<u8>>,
    dropped: usize,
    is_writing: bool,
}

/// A writer; each call passes one line, or several complete ones. `notice` formats the line that
/// reports the number of dropped lines.
pub fn writer(notice: fn(usize) -> String) -> Box<dyn Write + Send> {
    let queue = QUEUE.get_or_init(Arc::default);
    let thread_queue = Arc::clone(queue);
    match spawn("log", STACK, move || thread_queue.write(io::stderr(), notice)) {
        Ok(()) => Box::new(QueueWriter(Arc::clone(queue))),
        // Without the thread, a log that may block is better than none.
        Err(_) => Box::new(io::stderr()),
    }
}

/// Waits until all lines are written, `timeout` at most.
pub fn flush(timeout: Duration) {
    if let Some(queue) = QUEUE.get() {
        queue.flush(timeout);
    }
}

struct QueueWriter(Arc<LineQueue>);

impl Write for QueueWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LineQueue {
    fn push(&self, line: &[u8]) {
        let mut lines = sync::lock(&self.lines);
        if lines.waiting.len() < LONGEST_QUEUE {
            lines.waiting.push_back(line.to_vec());
        } else {
            lines.dropped += 1;
        }
        self.changed.notify_all();
    }

    fn write(&self, mut to: impl Write, notice: fn(usize) -> String) -> ! {
        loop {
            let mut lines = sync::lock(&self.lines);
            lines.is_writing = false;
            self.changed.notify_all();
            let mut lines =
                sync::wait_while(&self.changed, lines, |lines| lines.waiting.is_empty());
            let batch = std::mem::take(&mut lines.waiting);
            let dropped = std::mem::take(&mut lines.dropped);
            lines.is_writing = true;
            drop(lines);
            // A closed stderr does not end the program.
            for line in batch {
                let _ = to.write_all(&line);
            }
            if dropped > 0 {
                let _ = to.write_all(notice(dropped).as_bytes());
            }
        }
    }

    fn flush(&self, timeout: Duration) {
        let is_busy = |lines: &mut PendingLines| lines.is_writing || !lines.waiting.is_empty();
        drop(self.changed.wait_timeout_while(sync::lock(&self.lines), timeout, is_busy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A full pipe; each message on the channel lets one line through.
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
    fn logging_never_blocks_and_counts_dropped_lines() {
        let queue = Arc::new(LineQueue::default());
        let ((go, wait), (out, written)) = (mpsc::channel(), mpsc::channel());
        let writing = Arc::clone(&queue);
        std::thread::spawn(move || {
            writing.write(Blocked(wait, out), |lines| format!("{lines} dropped"))
        });
        queue.push(b"first\n");
        // Before the thread has taken the first line, that line would count as waiting.
        while !sync::lock(&queue.lines).is_writing {
            std::thread::yield_now();
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
        assert_eq!(sync::lock(&queue.lines).waiting.len(), 0);
        let notice = String::from_utf8(written.recv().unwrap()).unwrap();
        assert!(notice.ends_with(" dropped"), "{notice}");
    }

    #[test]
    fn flush_waits_for_the_writer() {
        let queue = Arc::new(LineQueue::default());
        let writing = Arc::clone(&queue);
        std::thread::spawn(move || writing.write(io::sink(), |_| String::new()));
        queue.push(b"x\n");
        queue.flush(Duration::from_secs(20));
        let lines = sync::lock(&queue.lines);
        assert!(lines.waiting.is_empty() && !lines.is_writing);
    }
}
