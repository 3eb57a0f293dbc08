//! The client against a scripted server on real sockets.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod fake;
mod misbehaviour;
mod noise;
mod proxy;
mod resuming;
mod rounds;
mod running;
mod tls;
