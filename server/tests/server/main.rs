//! The server from outside: real sockets, real clients, and calls no honest client would make.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

mod adaptive;
mod budget;
mod correlated;
mod distributed;
mod encodings;
mod faults;
mod hostile;
mod limits;
mod local;
mod masked;
mod participation;
mod private;
mod restarts;
mod rounds;
mod sampled;
mod store;
mod tls;
