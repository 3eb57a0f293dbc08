//! Whole masked rounds: real parties, the real machine, and whoever lies in between.
#![allow(clippy::unwrap_used, reason = "a round that does not run fails the test")]

mod clients;
mod dropouts;
mod forger;
mod harness;
mod servers;
mod statements;
