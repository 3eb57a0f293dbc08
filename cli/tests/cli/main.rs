//! The built binary, from outside: exit codes, output and files.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod aggregate;
mod common;
mod general;
mod hostile;
mod server;
mod simulate;
