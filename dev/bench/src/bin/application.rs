//! An application of the herd: burns CPU time, waits in between as for a disk, and then opens its
//! port.
//!
//! `application MICROSECONDS_OF_CPU THREADS MICROSECONDS_OF_WAITING`. Its standard input is the
//! socket, bound but not yet
//! listening. It writes `ready` to standard output, and ends when the reader closes that.
#![allow(clippy::disallowed_methods, reason = "a start takes real time")]

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{ClockId, clock_gettime};
use socket2::Socket;

/// CPU time and waits alternate, as in a start that reads a disk.
const SLICES: u32 = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u64> =
        env::args().skip(1).map(|number| number.parse()).collect::<Result<_, _>>()?;
    let [cpu, threads, waiting] = numbers[..] else {
        return Err("three numbers are needed".into());
    };
    let threads = usize::try_from(threads)?.max(1);
    let (cpu, waiting) =
        (Duration::from_micros(cpu / threads as u64), Duration::from_micros(waiting));
    // No thread ends before the others, because the CPU time of an ended thread cannot be read from
    // outside.
    let all = Barrier::new(threads);
    let work = || {
        for _ in 0..SLICES {
            burn(cpu / SLICES);
            thread::sleep(waiting / SLICES);
        }
        all.wait();
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    Socket::from(io::stdin().as_fd().try_clone_to_owned()?).listen(16)?;
    io::stdout().write_all(b"ready\n")?;
    // Without requested events, poll reports only the close of the other end.
    poll(&mut [PollFd::new(&io::stdout(), PollFlags::empty())], None)?;
    Ok(())
}

/// By the thread's CPU clock.
fn burn(cpu: Duration) {
    let until = spent() + cpu;
    while spent() < until {
        (0..10_000).for_each(|number| {
            black_box(number);
        });
    }
}

fn spent() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.cast_unsigned(), u32::try_from(spent.tv_nsec).unwrap_or_default())
}
