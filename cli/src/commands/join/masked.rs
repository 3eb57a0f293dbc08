//! What this client insists on in masked rounds, and what it signs with.

use crate::{
    commands::identity,
    exit::{Exit, Failure},
    file,
};
use clap::Args;
use std::{path::PathBuf, sync::Arc};
use testudo_client::{Certificate, ClientBuilder, FileAnswers, Identity, Policy, VerifyingKey};

/// Largest certificate file, bytes.
const CERTIFICATE_BYTES: u64 = 4096;

/// Options of `testudo join` for masked rounds.
#[derive(Debug, Args)]
#[command(next_help_heading = "Masked rounds")]
pub(super) struct Options {
    /// Leave every round that would show this client's update on its own
    #[arg(long)]
    require_masking: bool,
    /// Smallest group to be summed in; 16 in masked rounds unless told. Above 1 it needs masking
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    min_group: Option<u32>,
    /// The key that must sign masked rounds, 64 hexadecimal digits; unless told, the first one seen counts. `testudo task
    /// show` prints it
    #[arg(long, value_name = "HEX", value_parser = identity::public_key)]
    server_key: Option<VerifyingKey>,
    /// The enrolment authority that must vouch for everybody in the group, 64 hexadecimal digits
    #[arg(long, value_name = "HEX", value_parser = identity::public_key)]
    authority: Option<VerifyingKey>,
    /// Take part although the operator accepted a weaker guarantee than the product offers
    #[arg(long)]
    allow_weak_guarantee: bool,
    /// Where answers are remembered, so that no round is answered twice after a restart; keep it apart from backups.
    /// Memory unless told
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// The key that signs what this client says in masked rounds (`testudo identity new`); a new one unless told
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
    /// The enrolment authority's certificate for that key (`testudo identity certify`)
    #[arg(long, value_name = "FILE", requires = "signing_key")]
    certificate: Option<PathBuf>,
}

impl Options {
    /// The policy with what was insisted on.
    pub(super) fn policy(&self, mut policy: Policy) -> Policy {
        if self.require_masking {
            policy = policy.require_masking();
        }
        if let Some(clients) = self.min_group {
            policy = policy.min_group(clients);
        }
        if let Some(key) = self.server_key {
            policy = policy.server_key(key);
        }
        if let Some(key) = self.authority {
            policy = policy.authority(key);
        }
        if self.allow_weak_guarantee {
            policy = policy.allow_weak_guarantee();
        }
        policy
    }

    /// The identity with its signing key and certificate.
    ///
    /// # Errors
    /// Files that cannot be read, a certificate for someone or something else.
    pub(super) fn identity(&self, identity: Identity) -> Result<Identity, Failure> {
        let Some(path) = &self.signing_key else { return Ok(identity) };
        let key = identity::read_key(path)?;
        let Some(path) = &self.certificate else { return Ok(identity.signing_key(key)) };
        let refused = |why: String, next: &str| {
            Failure::new(Exit::Authentication, format!("cannot use --certificate {}", path.display()), why).next(next)
        };
        let text = file::read_text(path, CERTIFICATE_BYTES)?;
        let certificate: Certificate = serde_json::from_str(&text)
            .map_err(|error| refused(error.to_string(), "give the file that `testudo identity certify` wrote"))?;
        if let Some(authority) = self.authority
            && certificate.verify(&authority).is_err()
        {
            let why = format!("it is not signed by --authority {authority}");
            return Err(refused(why, "ask the authority to certify this key, or give the authority that did"));
        }
        identity.certified(key, certificate).map_err(|error| {
            refused(error.to_string(), "give this client's own certificate; --name must be the name it was issued for")
        })
    }

    /// The connection with its memory of answers.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub(super) fn remember(&self, builder: ClientBuilder) -> Result<ClientBuilder, Failure> {
        let Some(path) = &self.answers else { return Ok(builder) };
        let answers = FileAnswers::open(path).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot use --answers {}", path.display()), error.to_string()).next(
                "give a file of its own that this client alone writes; a new one may only replace it in new tasks",
            )
        })?;
        Ok(builder.answers(Arc::new(answers)))
    }
}
