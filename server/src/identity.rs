//! The server's own long-lived key: it signs what masked rounds announce, and clients pin it.

use std::{fs, io, io::Write as _, path::Path};
use testudo_protocol::secagg::SigningKey;
use zeroize::Zeroizing;

/// The file's name in the data directory.
const FILE: &str = "identity.key";
/// Longest such file.
const BYTES: u64 = 4096;

/// Reads the key, or makes one where there is none.
pub(crate) fn load_or_create(directory: &Path) -> Result<SigningKey, String> {
    let path = directory.join(FILE);
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    match fs::metadata(&path) {
        Ok(found) if found.len() > BYTES => return Err(fail(&"is not a key; restore it from a backup")),
        Ok(found) => {
            check_private(&found).map_err(|error| fail(&error))?;
            let text = Zeroizing::new(fs::read_to_string(&path).map_err(|error| fail(&error))?);
            return SigningKey::from_text(text.trim()).map_err(|error| fail(&error));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fail(&error)),
    }
    let key = random();
    // Written beside and renamed, so that a crash leaves a whole key or none.
    let mut file = tempfile::Builder::new().prefix(".identity").tempfile_in(directory).map_err(|error| fail(&error))?;
    file.write_all(key.to_text().as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.as_file().sync_all())
        .map_err(|error| fail(&error))?;
    file.persist_noclobber(&path).map_err(|error| fail(&error.error))?;
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| fail(&error))?;
    Ok(key)
}

/// Whoever can read the key can speak for the server.
#[cfg(unix)]
fn check_private(found: &fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(format!("others may read it (mode {mode:o}); make it 600")) }
}

#[cfg(not(unix))]
fn check_private(_: &fs::Metadata) -> Result<(), String> {
    Ok(())
}

/// A key that is gone with the process.
pub(crate) fn random() -> SigningKey {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).expect("the operating system has randomness");
    SigningKey::from_bytes(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let key = load_or_create(directory.path()).unwrap();
        assert_eq!(load_or_create(directory.path()).unwrap().verifying_key(), key.verifying_key());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0);
            fs::set_permissions(directory.path().join(FILE), fs::Permissions::from_mode(0o640)).unwrap();
            assert!(load_or_create(directory.path()).unwrap_err().contains("make it 600"));
            fs::set_permissions(directory.path().join(FILE), fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::write(directory.path().join(FILE), "not a key").unwrap();
        assert!(load_or_create(directory.path()).unwrap_err().contains(FILE));
    }
}
