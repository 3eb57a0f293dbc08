//! The built binary, from outside: exit codes, output and files.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod aggregate;
mod budget;
mod common;
mod general;
mod hostile;
mod privacy;
mod server;
mod simulate;
