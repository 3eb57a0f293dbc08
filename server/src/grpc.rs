//! The gRPC services, one group of calls per file.

mod admin;
mod budget;
mod download;
mod federation;
mod status;
mod upload;

pub(crate) use admin::{AdminService, warnings};
pub(crate) use federation::FederationService;
