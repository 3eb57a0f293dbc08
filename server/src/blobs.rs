//! Content-addressed, immutable blobs: models and the states of server optimisers.
//!
//! A blob lies under `blob/sha256/<first 2 hexadecimal digits>/<other 62>`. Writing it twice is harmless, and reading
//! it proves that it is what was asked for. On the local file system a returned [`Blobs::put`] is durable: file and
//! directories are fsynced before the blob gets its name, so there is never half a blob.

use crate::spool::{durable, is_full};
use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt as _, local::LocalFileSystem, memory::InMemory, path::Path};
use std::{fmt, sync::Arc};
use testudo_protocol::Digest;

/// Hashing more than this leaves the async runtime's threads, bytes.
const BLOCKING_BYTES: usize = 1 << 20;

/// Why a blob could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// There is no such blob.
    #[error("blob {0} not found")]
    NotFound(Digest),
    /// The stored bytes are not the blob's.
    #[error("blob {digest} is damaged: its bytes have the digest {found}; restore it from a backup")]
    Damaged {
        /// Which blob.
        digest: Digest,
        /// SHA-256 of what is stored in its place.
        found: Digest,
    },
    /// No room is left; nothing was written.
    #[error("the blob store is full: {detail}; free some space on it")]
    Full {
        /// What the store said.
        detail: String,
    },
    /// The store failed otherwise.
    #[error("blobs: {0}")]
    Backend(String),
}

/// Where blobs lie. Clones share one store.
#[derive(Clone)]
pub struct Blobs {
    objects: Arc<dyn ObjectStore>,
    location: String,
}

impl Blobs {
    /// Blobs that are gone with the process.
    pub fn memory() -> Self {
        Self { objects: Arc::new(InMemory::new()), location: "memory".into() }
    }

    /// Blobs in a directory, created for its owner alone if it is not there.
    ///
    /// # Errors
    /// [`BlobError::Backend`] if the directory cannot be created or opened.
    pub fn local(directory: &std::path::Path) -> Result<Self, BlobError> {
        let objects: LocalFileSystem = durable(directory).map_err(BlobError::Backend)?;
        Ok(Self { objects: Arc::new(objects), location: format!("{} (fsync)", directory.display()) })
    }

    /// What it is, for `doctor`.
    pub fn describe(&self) -> String {
        self.location.clone()
    }

    /// Stores bytes under their digest. A blob that is there with the same length is not written again.
    ///
    /// # Errors
    /// [`BlobError::Full`] if no room is left, [`BlobError::Backend`] if the store fails.
    pub async fn put(&self, bytes: Bytes) -> Result<Digest, BlobError> {
        let digest = digest_of(&bytes).await?;
        self.put_as(digest, bytes).await
    }

    /// Stores bytes whose digest the caller has just computed.
    pub(crate) async fn put_as(&self, digest: Digest, bytes: Bytes) -> Result<Digest, BlobError> {
        let path = path(&digest);
        match self.objects.head(&path).await {
            Ok(found) if found.size == bytes.len() as u64 => return Ok(digest),
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
        self.objects.put(&path, bytes.into()).await.map_err(failed)?;
        Ok(digest)
    }

    /// The blob, checked against its digest.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], [`BlobError::Damaged`] if the bytes have another digest, [`BlobError::Backend`] if
    /// the store fails.
    pub async fn get(&self, digest: &Digest) -> Result<Bytes, BlobError> {
        let bytes = match self.objects.get(&path(digest)).await {
            Ok(found) => found.bytes().await.map_err(failed)?,
            Err(object_store::Error::NotFound { .. }) => return Err(BlobError::NotFound(*digest)),
            Err(error) => return Err(failed(error)),
        };
        let found = digest_of(&bytes).await?;
        if found != *digest {
            return Err(BlobError::Damaged { digest: *digest, found });
        }
        Ok(bytes)
    }

    /// Deletes the blob; one that is not there is fine.
    ///
    /// # Errors
    /// [`BlobError::Backend`] if the store fails.
    pub async fn delete(&self, digest: &Digest) -> Result<(), BlobError> {
        match self.objects.delete(&path(digest)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blobs({})", self.location)
    }
}

fn path(digest: &Digest) -> Path {
    let digits = digest.to_string();
    let (first, rest) = digits.split_at(2);
    Path::from_iter(["blob", "sha256", first, rest])
}

async fn digest_of(bytes: &Bytes) -> Result<Digest, BlobError> {
    if bytes.len() <= BLOCKING_BYTES {
        return Ok(Digest::of(bytes));
    }
    let bytes = bytes.clone();
    let digest = tokio::task::spawn_blocking(move || Digest::of(&bytes));
    digest.await.map_err(|error| BlobError::Backend(error.to_string()))
}

fn failed(error: object_store::Error) -> BlobError {
    if is_full(&error) {
        return BlobError::Full { detail: error.to_string() };
    }
    BlobError::Backend(error.to_string())
}

#[cfg(test)]
mod tests;
