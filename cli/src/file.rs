//! Files of the operator: read within limits, written as a whole or not at all.

use crate::exit::{Exit, Failure};
use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// Opens a regular file and says how long it is.
///
/// # Errors
/// Names the file: not there, not readable, or not a regular file.
pub(crate) fn open(path: &Path) -> Result<(File, u64), Failure> {
    let failed = |error: io::Error| unreadable(path, &error);
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        let what = format!("cannot read {}", path.display());
        return Err(Failure::new(Exit::Usage, what, "it is not a regular file").next("give the path of a file"));
    }
    Ok((file, metadata.len()))
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// As [`open`], and when the file is longer.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let (file, length) = open(path)?;
    if length > limit {
        let why = format!("it is {length} bytes long, more than the limit of {limit}");
        return Err(Failure::new(Exit::Usage, format!("cannot read {}", path.display()), why));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // The file may grow meanwhile.
    file.take(limit).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    Ok(bytes)
}

/// Reads a whole UTF-8 file of at most `limit` bytes.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, Failure> {
    String::from_utf8(read(path, limit)?).map_err(|error| {
        let why = format!("byte {} is not UTF-8", error.utf8_error().valid_up_to());
        Failure::new(Exit::Config, format!("cannot read {}", path.display()), why).next("save the file as UTF-8 text")
    })
}

/// A file that appears under its name only once it is complete.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    file: NamedTempFile,
    overwrite: bool,
}

impl Draft {
    /// Begins a file beside its final place.
    ///
    /// # Errors
    /// When there is such a file already and `overwrite` is false, or the folder cannot be written.
    pub(crate) fn begin(path: &Path, overwrite: bool) -> Result<Self, Failure> {
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = NamedTempFile::new_in(folder).map_err(|error| unwritable(path, &error))?;
        Ok(Self { path: path.to_path_buf(), file, overwrite })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When the disk refuses them.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(|error| unwritable(&self.path, &error))
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// When the disk refuses, or another file has taken the name.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Self { path, file, overwrite } = self;
        file.as_file().sync_all().map_err(|error| unwritable(&path, &error))?;
        readable_by_all(&file).map_err(|error| unwritable(&path, &error))?;
        let named = if overwrite { file.persist(&path) } else { file.persist_noclobber(&path) };
        match named {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Err(exists(&path)),
            Err(error) => Err(unwritable(&path, &error.error)),
        }
    }
}

/// Writes a whole file.
///
/// # Errors
/// As [`Draft`].
pub(crate) fn write(path: &Path, bytes: &[u8], overwrite: bool) -> Result<(), Failure> {
    let mut draft = Draft::begin(path, overwrite)?;
    draft.write(bytes)?;
    draft.finish()
}

/// Writes a whole file that its owner alone may read. It must not exist.
///
/// # Errors
/// When there is such a file already, or the disk refuses.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    // What may be written over is not for this kind of file: there may be no other copy of it.
    let keep = |failure: Failure| match failure.exit {
        Exit::Conflict => failure.next("choose another name"),
        _ => failure,
    };
    let mut draft = Draft::begin(path, false).map_err(keep)?;
    draft.write(bytes)?;
    // Temporary files are private, and this one stays so.
    let Draft { path, file, .. } = draft;
    file.as_file().sync_all().map_err(|error| unwritable(&path, &error))?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Err(keep(exists(&path))),
        Err(error) => Err(unwritable(&path, &error.error)),
    }
}

/// Whether others than its owner may read a file, where the system tells.
#[cfg(unix)]
pub(crate) fn is_shared(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Whether others than its owner may read a file, where the system tells.
#[cfg(not(unix))]
pub(crate) fn is_shared(_path: &Path) -> bool {
    false
}

/// Temporary files are private; what was asked for by name is an ordinary file.
#[cfg(unix)]
fn readable_by_all(file: &NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable_by_all(_file: &NamedTempFile) -> io::Result<()> {
    Ok(())
}

fn exists(path: &Path) -> Failure {
    Failure::new(Exit::Conflict, format!("cannot write {}", path.display()), "it is already there")
        .next("choose another name, or add --force to overwrite it")
}

/// Why a file cannot be read, with the exit code that goes with it.
fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(exit_of(error), format!("cannot read {}", path.display()), error.to_string())
}

/// Why a file cannot be written, with the exit code that goes with it.
pub(crate) fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(exit_of(error), format!("cannot write {}", path.display()), error.to_string())
}

fn exit_of(error: &io::Error) -> Exit {
    match error.kind() {
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_never_overwritten_unless_asked_and_never_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write(&path, b"one", false).unwrap();
        assert_eq!(write(&path, b"two", false).unwrap_err().exit, Exit::Conflict);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        let mut draft = Draft::begin(&path, true).unwrap();
        draft.write(b"half").unwrap();
        drop(draft);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write(&path, b"two", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn reading_respects_the_limit_and_the_kind_of_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, [0xff; 10]).unwrap();
        assert_eq!(read(&path, 10).unwrap().len(), 10);
        assert!(read(&path, 9).unwrap_err().why.contains("limit of 9"));
        assert!(read_text(&path, 10).unwrap_err().why.contains("UTF-8"));
        assert_eq!(read(folder.path(), 10).unwrap_err().exit, Exit::Usage);
        assert_eq!(read(&folder.path().join("none"), 10).unwrap_err().exit, Exit::NotFound);
    }
}
