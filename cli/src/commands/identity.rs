//! `testudo identity`: the long-lived keys that sign in masked rounds, and certificates for them.

use crate::{
    exit::{Exit, Failure},
    file,
    format::clean,
    output::Output,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};
use testudo_client::{Certificate, ClientId, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

/// Largest key file, bytes.
const KEY_BYTES: u64 = 4096;

/// `testudo identity`.
#[derive(Debug, Args)]
pub(crate) struct Identity {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes a signing key: a client's, or an enrolment authority's
    #[command(after_help = "Only its owner may read the file. Give the public key to the enrolment authority.

Examples:
  testudo identity new device-7.key
  testudo identity new authority.key --json")]
    New {
        /// The file; it must not exist yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Shows the public half of a signing key
    #[command(after_help = "Examples:
  testudo identity show device-7.key")]
    Show {
        /// The signing key
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Certifies a client's name and public key, as the enrolment authority
    #[command(
        after_help = "Run it where the authority's key is, which should not be the server: a server that enrols \
clients can invent them.
Certify one key per client, and one client per device.

Examples:
  testudo identity certify --authority-key authority.key --client device-7 --public-key HEX --out device-7.json
  testudo join --task digits --name device-7 --signing-key device-7.key --certificate device-7.json"
    )]
    Certify {
        /// The authority's signing key
        #[arg(long, value_name = "FILE")]
        authority_key: PathBuf,
        /// The client's name
        #[arg(long, value_name = "CLIENT")]
        client: ClientId,
        /// The client's public key, 64 hexadecimal digits
        #[arg(long, value_name = "HEX", value_parser = public_key)]
        public_key: VerifyingKey,
        /// Where the certificate goes
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Replace the file if it is there
        #[arg(long)]
        force: bool,
    },
}

impl Identity {
    /// Runs the verb.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub(crate) async fn run(self, output: &Output) -> Result<(), Failure> {
        match self.verb {
            Verb::New { file } => new(&file, output),
            Verb::Show { file } => show(&file, output),
            Verb::Certify { authority_key, client, public_key, out, force } => {
                certify(&authority_key, client, public_key, (&out, force), output)
            }
        }
    }
}

/// A public key that can be one.
///
/// # Errors
/// What is wrong with the text, with what would be right.
pub(crate) fn public_key(text: &str) -> Result<VerifyingKey, String> {
    let key: VerifyingKey = text.parse().map_err(|_| {
        let length = text.chars().count();
        format!(
            "{length} characters, but an Ed25519 public key is 64 hexadecimal digits; `testudo identity show` prints it"
        )
    })?;
    key.check().map_err(|_| "these 64 digits are no Ed25519 public key; copy it again".to_string())?;
    Ok(key)
}

/// Reads a signing key. Tells nothing of its content.
///
/// # Errors
/// A file that cannot be read or is no key.
pub(crate) fn read_key(path: &Path) -> Result<SigningKey, Failure> {
    let text = Zeroizing::new(file::read_text(path, KEY_BYTES)?);
    SigningKey::from_text(&text).map_err(|error| {
        Failure::new(Exit::Authentication, format!("cannot use the key {}", path.display()), error.to_string())
            .next("`testudo identity new FILE` makes one")
    })
}

fn new(path: &Path, output: &Output) -> Result<(), Failure> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| Failure::new(Exit::Internal, "cannot make a key", format!("no randomness: {error}")))?;
    let key = SigningKey::from_bytes(&bytes);
    let mut text = Zeroizing::new(Vec::with_capacity(256));
    text.extend_from_slice(key.to_text().as_bytes());
    text.push(b'\n');
    file::write_private(path, &text)?;
    described(path, &key, output)
}

fn show(path: &Path, output: &Output) -> Result<(), Failure> {
    let key = read_key(path)?;
    if file::is_shared(path) {
        output.note(&format!("warning: others may read {0}; `chmod 600 {0}` mends it", path.display()));
    }
    described(path, &key, output)
}

fn described(path: &Path, key: &SigningKey, output: &Output) -> Result<(), Failure> {
    let (file, public) = (path.display().to_string(), key.verifying_key());
    let object = json!({ "file": file, "public_key": public.to_string() });
    output.result(object, |_| format!("{public}  {}", clean(&file)))
}

fn certify(
    authority: &Path,
    client: ClientId,
    key: VerifyingKey,
    (out, force): (&Path, bool),
    output: &Output,
) -> Result<(), Failure> {
    let authority = read_key(authority)?;
    let name = client.to_string();
    if key == authority.verifying_key() {
        let why = "--public-key is the authority's own key";
        return Err(Failure::new(Exit::Usage, format!("cannot certify {name}"), why)
            .next("give the client's: `testudo identity show` prints it"));
    }
    let certificate = Certificate::issue(&authority, client, key)
        .map_err(|error| Failure::new(Exit::Usage, format!("cannot certify {name}"), error.to_string()))?;
    let mut text = serde_json::to_vec(&certificate)
        .map_err(|error| Failure::new(Exit::Internal, format!("cannot certify {name}"), error.to_string()))?;
    text.push(b'\n');
    file::write(out, &text, force)?;
    let (file, public) = (out.display().to_string(), authority.verifying_key());
    let object = json!({
        "file": file, "client": name, "public_key": key.to_string(), "authority": public.to_string(),
    });
    output.result(object, |_| format!("{} certifies {name} for {key}\nauthority {public}", clean(&file)))
}
