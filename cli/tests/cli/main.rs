//! The built binary, from outside: exit codes, output and files.

mod aggregate;
mod common;
mod general;
mod hostile;
mod server;
