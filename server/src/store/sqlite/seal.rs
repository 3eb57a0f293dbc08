//! The key that seals noise seeds: beside the database, never in it.
//!
//! Whoever has a seed can subtract its round's noise, and deleted rows live on in logs and backups. So the database
//! holds ciphertext alone. The key lies in a file of its own; it is drawn anew at every start that finds no sealed seed:
//! of rounds that are closing, and of correlated runs whose task has not ended. What copies of the database hold from
//! before such a start stays sealed for ever. A run keeps the key for as long as its task lives, months perhaps, and the
//! key then opens every seed that was sealed in that time, also those deleted since: whoever has such a copy and this file
//! can subtract the noise of all those rounds.

use super::super::StoreError;
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};
use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};
use testudo_protocol::TaskName;
use zeroize::Zeroizing;

/// The file's name, in the ledger's directory.
const FILE: &str = "noise.key";
const NONCE_BYTES: usize = 24;

/// Where a sealed seed lies: moved elsewhere it does not open.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// Of one round's noise.
    Round(&'a TaskName, u64),
    /// Of a correlated run's noise.
    Run(&'a TaskName),
}

impl Place<'_> {
    /// Table, column, task and round.
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Round(task, round) => format!("testudo round.noise_seed {task} {round}").into_bytes(),
            Self::Run(task) => format!("testudo plan.run_seed {task}").into_bytes(),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Round(task, round) => write!(f, "the noise seed of round {round} of task {task}"),
            Self::Run(task) => write!(f, "the noise seed of task {task}"),
        }
    }
}

/// Seals seeds, each for its place alone.
pub(super) struct Sealer {
    key: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// With a key that is gone with the process.
    pub(super) fn in_memory() -> Result<Self, StoreError> {
        Ok(Self { key: draw()? })
    }

    /// With the key in a directory; with a new one if `fresh` or if there is none.
    pub(super) fn open(directory: &Path, fresh: bool) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let failed = |error: io::Error| StoreError::Backend(format!("cannot use {}: {error}", path.display()));
        if !fresh {
            match fs::read(&path).map(Zeroizing::new) {
                Ok(bytes) => {
                    let key = <[u8; 32]>::try_from(&bytes[..]).map_err(|_| {
                        StoreError::Backend(format!("{} is damaged: it is not 32 bytes long", path.display()))
                    })?;
                    return Ok(Self { key: Zeroizing::new(key) });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let key = draw()?;
        replace(&path, &key[..]).map_err(failed)?;
        Ok(Self { key })
    }

    /// Nonce, ciphertext and tag.
    pub(super) fn seal(&self, place: Place<'_>, seed: &[u8; 32]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(no_randomness)?;
        let payload = Payload { msg: seed, aad: &place.bytes() };
        let sealed = XChaCha20Poly1305::new((&*self.key).into()).encrypt((&nonce).into(), payload);
        let sealed = sealed.map_err(|_| StoreError::Backend("cannot seal a noise seed".into()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// A fresh seed from the operating system, sealed for its place.
    pub(super) fn seal_fresh(&self, place: Place<'_>) -> Result<Vec<u8>, StoreError> {
        self.seal(place, &*draw()?)
    }

    /// The seed, if it was sealed for this place with this key.
    pub(super) fn open_seed(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        let lost = || StoreError::KeyLost { what: place.to_string() };
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(lost)?;
        let payload = Payload { msg: sealed, aad: &place.bytes() };
        let seed = XChaCha20Poly1305::new((&*self.key).into()).decrypt(nonce.into(), payload).map_err(|_| lost())?;
        let seed = Zeroizing::new(seed);
        let mut opened = Zeroizing::new([0; 32]);
        if seed.len() != opened.len() {
            return Err(lost());
        }
        opened.copy_from_slice(&seed);
        Ok(opened)
    }

    /// Whether the seed could be opened; `KeyLost` if not.
    pub(super) fn check(&self, place: Place<'_>, sealed: &[u8]) -> Result<(), StoreError> {
        self.open_seed(place, sealed).map(drop)
    }
}

/// Writes a file for its owner alone, whole or not at all, durable before this returns.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new: PathBuf = path.with_file_name(name);
    let mut options = File::options();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn draw() -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut key[..]).map_err(no_randomness)?;
    Ok(key)
}

fn no_randomness(error: getrandom::Error) -> StoreError {
    StoreError::Backend(format!("the operating system gives no randomness: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_opens_for_its_round_and_with_its_key_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (task, other) = (TaskName::new("a").unwrap(), TaskName::new("b").unwrap());
        let sealer = Sealer::open(directory.path(), false).unwrap();
        let sealed = sealer.seal(Place::Round(&task, 1), &[7; 32]).unwrap();
        assert_eq!(sealed.len(), 72);
        sealer.check(Place::Round(&task, 1), &sealed).unwrap();
        assert_eq!(*sealer.open_seed(Place::Round(&task, 1), &sealed).unwrap(), [7; 32]);
        for place in [Place::Round(&task, 2), Place::Round(&other, 1), Place::Run(&task)] {
            assert!(sealer.open_seed(place, &sealed).is_err() && sealer.check(place, &sealed).is_err());
        }
        for place in [0, 30, 71] {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(sealer.open_seed(Place::Round(&task, 1), &changed).is_err());
        }
        assert!(sealer.open_seed(Place::Round(&task, 1), &sealed[..10]).is_err());
        let again = Sealer::open(directory.path(), false).unwrap();
        assert_eq!(*again.open_seed(Place::Round(&task, 1), &sealed).unwrap(), [7; 32]);
        let fresh = Sealer::open(directory.path(), true).unwrap();
        let error = fresh.open_seed(Place::Round(&task, 1), &sealed).unwrap_err().to_string();
        assert!(error.contains("another key"), "{error}");
        assert_eq!(format!("{fresh:?}"), "Sealer { .. }");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_the_key() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        Sealer::open(directory.path(), true).unwrap();
        let mode = fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(directory.path().join(FILE), b"short").unwrap();
        assert!(Sealer::open(directory.path(), false).unwrap_err().to_string().contains("damaged"));
    }
}
