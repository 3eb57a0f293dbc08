//! Payload bytes of updates, on an object store.
//!
//! The payload of an update lies in consecutive *parts*, objects named `<key>/<offset, 12 digits>`. A part is never
//! changed after it was written, and a part that is there is there as a whole, so an interrupted upload goes on where
//! the last part ends: after a lost connection, and on a durable spool after a restart of the server.
//!
//! Durability on the local file system: a part is written to a staging file, which is fsynced; it gets its name by a
//! hard link; then the directory is fsynced, and so is every directory made on the way down, up to and including the
//! first that was there before (`object_store` 0.14, `LocalFileSystem::with_fsync`). Deletions are not fsynced: what
//! comes back after a crash is swept at the next start.
//!
//! Only one [`Writer`] may write under a key at a time; a part that is already there is not replaced.

use crate::store::Body;
use bytes::Bytes;
use object_store::{local::LocalFileSystem, memory::InMemory};
use std::{fmt, io, ops::Range, path::Path, sync::Arc};

mod key;
mod local;
mod memory;
mod read;
#[cfg(test)]
mod tests;
mod writer;

pub use writer::Writer;

/// Each chunk of its own would keep its receive buffer and cost an entry; shorter ones are copied together.
const SHORT_BYTES: usize = 64 << 10;
/// Gathered bytes that make a part on the local file system.
pub const PART_BYTES: u64 = 4 << 20;

/// Why the spool failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// No room is left; the bytes were not written.
    #[error("the spool is full: {detail}; free some space on it")]
    Full {
        /// What the store said.
        detail: String,
    },
    /// The text cannot be a key or a prefix.
    #[error(
        "{key:?} is not a spool key: use 1 to 8 segments of a-z, 0-9, '.', '_' and '-' (each 1 to 128 characters, beginning with a letter or digit) joined by '/'"
    )]
    Key {
        /// The text, cut to 80 characters.
        key: String,
    },
    /// The range is not inside the payload.
    #[error("bytes {}..{} are not inside a payload of {length} bytes", range.start, range.end)]
    Range {
        /// The range asked for.
        range: Range<u64>,
        /// Length of the payload, bytes.
        length: u64,
    },
    /// A part is missing, shorter than recorded, or in the way of another.
    #[error("part at {offset} of {key} is {what}")]
    Part {
        /// Key of the payload.
        key: String,
        /// The part's first byte in the payload.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The payload would be longer than a key can number.
    #[error("a payload of more than {} bytes does not fit the spool", key::LARGEST)]
    TooLong,
    /// The store failed otherwise.
    #[error("spool: {0}")]
    Backend(String),
}

/// Parts of an upload that are already there, without gaps from offset 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    parts: Vec<(u64, u64)>,
}

impl Held {
    /// Nothing is there yet.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Offset and length of each part, bytes.
    pub fn parts(&self) -> &[(u64, u64)] {
        &self.parts
    }

    /// Bytes held: where the upload goes on.
    pub fn position(&self) -> u64 {
        self.parts.last().map_or(0, |(offset, length)| offset + length)
    }

    /// The held parts as the body of an update, to read them again (for example to hash them before going on).
    pub fn body(&self, key: &str) -> Body {
        Body::Parts { key: key.to_owned(), parts: self.parts.clone() }
    }
}

/// Where payloads lie. Clones share one store.
#[derive(Clone)]
pub struct Spool {
    store: Store,
    part_bytes: u64,
    /// Chunks below this are copied together before they count as one, bytes.
    short_bytes: usize,
}

#[derive(Clone)]
enum Store {
    Memory(Arc<InMemory>),
    Local(Arc<local::Local>),
}

impl Spool {
    /// A spool that is gone with the process. Every chunk but a short one is a part of its own, so that
    /// nothing is copied together.
    pub fn memory() -> Self {
        Self { store: Store::Memory(Arc::new(InMemory::new())), part_bytes: 1, short_bytes: SHORT_BYTES }
    }

    /// A spool in a directory, created for its owner alone if it is not there. Written parts survive a crash.
    ///
    /// # Errors
    /// [`SpoolError::Backend`] if the directory cannot be created or opened.
    pub fn local(directory: &Path) -> Result<Self, SpoolError> {
        Ok(Self {
            store: Store::Local(Arc::new(local::Local::open(directory)?)),
            part_bytes: PART_BYTES,
            short_bytes: SHORT_BYTES,
        })
    }

    /// Whether what was written survives the process.
    pub fn is_durable(&self) -> bool {
        matches!(self.store, Store::Local(_))
    }

    /// What it is, for `doctor`: for example `memory (durability per round)`.
    pub fn describe(&self) -> String {
        match &self.store {
            Store::Memory(_) => "memory (durability per round)".into(),
            Store::Local(local) => {
                format!("{} (parts of {} MiB, fsync)", local.root().display(), self.part_bytes >> 20)
            }
        }
    }

    /// Starts or goes on with a payload. `held` is what [`Spool::held`] found, or [`Held::nothing`] for a fresh key.
    ///
    /// # Errors
    /// [`SpoolError::Key`] if the key is not one.
    pub fn writer(&self, key: String, held: Held) -> Result<Writer, SpoolError> {
        key::check(&key)?;
        Ok(Writer::new(self.clone(), key, held))
    }

    /// The parts that are there under a key. Whatever does not follow without a gap is deleted.
    ///
    /// # Errors
    /// [`SpoolError`] if the key is not one, or the store fails.
    pub async fn held(&self, key: &str) -> Result<Held, SpoolError> {
        let prefix = key::check(key)?;
        let mut found = self.list(&prefix).await?;
        found.sort_by(|left, right| left.location.cmp(&right.location));
        let mut held = Held::nothing();
        for object in found {
            let offset = key::offset(key, object.location.as_ref());
            if offset == Some(held.position()) && object.size > 0 {
                held.parts.push((held.position(), object.size));
                continue;
            }
            self.delete_object(&object.location).await?;
        }
        Ok(held)
    }

    /// A range of a payload, as one segment for each part it touches. On a memory spool nothing is copied.
    ///
    /// # Errors
    /// [`SpoolError::Range`] for a range that is not inside the payload; [`SpoolError::Part`] where a part is missing
    /// or too short.
    pub async fn read(&self, body: &Body, range: Range<u64>) -> Result<Vec<Bytes>, SpoolError> {
        if matches!(self.store, Store::Memory(_)) || matches!(body, Body::Inline(_)) {
            return self.segments(body, range);
        }
        let (spool, body) = (self.clone(), body.clone());
        let read = tokio::task::spawn_blocking(move || spool.segments(&body, range));
        read.await.map_err(|error| SpoolError::Backend(error.to_string()))?
    }

    /// As [`Spool::read`], for threads that may block: those of a job, not those of the async runtime.
    ///
    /// # Errors
    /// Those of [`Spool::read`].
    pub fn segments(&self, body: &Body, range: Range<u64>) -> Result<Vec<Bytes>, SpoolError> {
        let mut segments = Vec::new();
        read::visit(body, range, |source| {
            segments.push(match source {
                read::Source::Inline(bytes) => bytes,
                read::Source::Part { key, offset, range } => match &self.store {
                    Store::Memory(store) => memory::get(store, key, offset, range)?,
                    Store::Local(local) => {
                        let mut bytes = vec![0; (range.end - range.start) as usize];
                        local.read(key, offset, range.start, &mut bytes)?;
                        bytes.into()
                    }
                },
            });
            Ok(())
        })?;
        Ok(segments)
    }

    /// Deletes everything under a prefix, such as `<task>/<round>` of an ended round. A prefix ends at a `/`: `a/1`
    /// does not cover `a/10`.
    ///
    /// # Errors
    /// [`SpoolError`] if the prefix is not one, or the store fails; deleting again is fine.
    pub async fn delete(&self, prefix: &str) -> Result<(), SpoolError> {
        let checked = key::check(prefix.strip_suffix('/').unwrap_or(prefix))?;
        match &self.store {
            Store::Memory(store) => memory::delete(store, &checked).await,
            Store::Local(local) => local.clone().delete(checked).await,
        }
    }

    /// Deletes everything that lies under none of the live prefixes: leftovers of rounds that ended while the server
    /// was down. Call it before any upload starts.
    ///
    /// # Errors
    /// [`SpoolError`] if a prefix is not one (nothing is deleted then), or the store fails.
    pub async fn sweep(&self, live: &[String]) -> Result<(), SpoolError> {
        let live: Result<Vec<_>, _> =
            live.iter().map(|prefix| key::check(prefix.strip_suffix('/').unwrap_or(prefix))).collect();
        let live = live?;
        match &self.store {
            Store::Memory(store) => memory::sweep(store, &live).await,
            Store::Local(local) => local.clone().sweep(live).await,
        }
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spool({})", self.describe())
    }
}

/// Creates a directory that only its owner may enter, with its parents.
pub(crate) fn create_private(directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// A local object store whose writes are durable, in a directory created for its owner alone.
pub(crate) fn durable(directory: &Path) -> Result<LocalFileSystem, String> {
    let failed = |error: &dyn fmt::Display| format!("cannot use directory {}: {error}", directory.display());
    create_private(directory).map_err(|error| failed(&error))?;
    Ok(LocalFileSystem::new_with_prefix(directory).map_err(|error| failed(&error))?.with_fsync(true))
}

/// Whether an error, or what caused it, says that no room is left.
pub(crate) fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        cause = error.source();
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                return true;
            }
            // The source of a wrapping I/O error is that of the error inside, not the error inside.
            cause = error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
        }
    }
    false
}
