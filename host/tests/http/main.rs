//! The data port through real sockets, in front of a broker that does as it is told.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests talk to their own other processes, and to people"
)]

mod connections;
mod crowd;
mod doubles;
mod harness;
mod problems;
mod records;
mod shutdown;
