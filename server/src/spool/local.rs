//! The local arm: parts as files, read where they lie.

use super::{SpoolError, durable, key};
use object_store::{local::LocalFileSystem, path::Path};
use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    sync::Arc,
};

/// A directory of parts.
pub(super) struct Local {
    objects: LocalFileSystem,
    root: PathBuf,
}

impl Local {
    pub(super) fn open(directory: &std::path::Path) -> Result<Self, SpoolError> {
        let objects = durable(directory).map_err(SpoolError::Backend)?;
        let root = fs::canonicalize(directory).map_err(|error| failed(directory, &error))?;
        Ok(Self { objects, root })
    }

    pub(super) fn objects(&self) -> &LocalFileSystem {
        &self.objects
    }

    pub(super) fn root(&self) -> &std::path::Path {
        &self.root
    }

    /// Fills a buffer from a position in a part. Opening the file anew each time costs a few microseconds, little
    /// beside the reading; a cache of open files would need a limit and an owner.
    pub(super) fn read(&self, name: &str, offset: u64, position: u64, into: &mut [u8]) -> Result<(), SpoolError> {
        let part = |what| SpoolError::Part { key: name.to_owned(), offset, what };
        let path = self.path(&key::part(name, offset)?);
        let read = File::open(&path).and_then(|file| read_exact_at(&file, into, position));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => part("missing"),
            io::ErrorKind::UnexpectedEof => part("shorter than recorded"),
            _ => failed(&path, &error),
        })
    }

    /// Deletes a directory with all that is in it, staging files of a crash included.
    pub(super) async fn delete(self: Arc<Self>, prefix: Path) -> Result<(), SpoolError> {
        blocking(move || remove(&self.path(&prefix))).await
    }

    pub(super) async fn sweep(self: Arc<Self>, live: Vec<Path>) -> Result<(), SpoolError> {
        blocking(move || {
            let live: Vec<PathBuf> = live.iter().map(|prefix| self.path(prefix)).collect();
            sweep(&self.root, &live)
        })
        .await
    }

    /// Only checked keys come here, so every segment is a plain name.
    fn path(&self, location: &Path) -> PathBuf {
        self.root.join(location.as_ref())
    }
}

/// Deletes every entry that neither lies on the way to a live directory nor is one.
fn sweep(directory: &std::path::Path, live: &[PathBuf]) -> Result<(), SpoolError> {
    for entry in fs::read_dir(directory).map_err(|error| failed(directory, &error))? {
        let path = entry.map_err(|error| failed(directory, &error))?.path();
        if live.contains(&path) {
            continue;
        }
        if live.iter().any(|live| live.starts_with(&path)) {
            sweep(&path, live)?;
            continue;
        }
        remove(&path)?;
    }
    Ok(())
}

fn remove(path: &std::path::Path) -> Result<(), SpoolError> {
    // `symlink_metadata`: a link is removed itself, never followed.
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, &error)),
        _ => Ok(()),
    }
}

async fn blocking(work: impl FnOnce() -> Result<(), SpoolError> + Send + 'static) -> Result<(), SpoolError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| SpoolError::Backend(error.to_string()))?
}

fn failed(path: &std::path::Path, error: &io::Error) -> SpoolError {
    SpoolError::Backend(format!("{}: {error}", path.display()))
}

#[cfg(unix)]
fn read_exact_at(file: &File, into: &mut [u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, position)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &File, into: &mut [u8], position: u64) -> io::Result<()> {
    use std::io::{Read as _, Seek as _};
    file.seek(io::SeekFrom::Start(position))?;
    file.read_exact(into)
}
