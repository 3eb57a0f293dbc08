//! The server: gRPC services, storage, task drivers and telemetry.
//!
//! [`Server::start`] opens the storage a [`Config`] names, takes up every task and listens. One update's way:
//! `grpc/upload.rs` → [`spool`] → one [`store`] transaction → receipt → the task's driver (`task/driver.rs`), which
//! owns the round's [`testudo_engine::Engine`] and runs its jobs on the pool.

// Tests inside share the helpers of those outside, which know this crate by its name.
#[cfg(test)]
extern crate self as testudo_server;

pub mod blobs;
pub mod config;
pub mod spool;
pub mod statement;
pub mod store;
pub mod telemetry;

mod accept;
mod access;
mod checks;
mod clock;
mod grpc;
mod identity;
mod memory;
mod pool;
mod rate;
mod registry;
mod server;
mod task;
mod tls;
mod web;

pub use checks::{Check, CheckState, checks};
pub use config::{Config, ConfigError};
pub use server::{Server, StartError};
pub use tls::TlsError;
