//! Whole masked rounds: real parties, the real machine, and whoever lies in between.
#![allow(clippy::unwrap_used, reason = "a round that does not run fails the test")]

mod clients;
mod dropouts;
mod encodings;
mod forger;
mod harness;
mod leaks;
mod regressions;
mod rosters;
mod servers;
mod statements;
mod statistics;
mod sums;
mod transcript;
