//! Pure decisions: plain data and the time go in, plain data comes out. No clock, no files, no threads.

pub mod limit;
