//! Writing a payload part by part.

use super::{Held, Spool, SpoolError, Store, is_full, key};
use crate::store::Body;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, path::Path};

/// Writes one payload. Long chunks are kept as they came and handed to the store together, without copying.
///
/// Dropping a writer loses what was gathered since the last part; [`Writer::flush`] first keeps it.
#[derive(Debug)]
pub struct Writer {
    spool: Spool,
    key: String,
    parts: Vec<(u64, u64)>,
    written: u64,
    gathered: Vec<Bytes>,
    /// Short chunks since the last long one.
    tail: BytesMut,
    gathered_bytes: u64,
}

impl Writer {
    pub(super) fn new(spool: Spool, key: String, held: Held) -> Self {
        let written = held.position();
        Self { spool, key, parts: held.parts, written, gathered: Vec::new(), tail: BytesMut::new(), gathered_bytes: 0 }
    }

    /// Bytes of the payload so far: written and gathered.
    pub fn position(&self) -> u64 {
        self.written + self.gathered_bytes
    }

    /// The parts written so far.
    pub fn held(&self) -> Held {
        Held { parts: self.parts.clone() }
    }

    /// Takes the next chunk; writes a part once enough is gathered.
    ///
    /// # Errors
    /// [`SpoolError::Full`] if no room is left, other [`SpoolError`]s if the store fails. The chunk stays gathered, so
    /// [`Writer::flush`] may be tried again.
    pub async fn append(&mut self, chunk: Bytes) -> Result<(), SpoolError> {
        if chunk.is_empty() {
            return Ok(());
        }
        self.gathered_bytes += chunk.len() as u64;
        if chunk.len() < self.spool.short_bytes {
            self.tail.extend_from_slice(&chunk);
        } else {
            self.end_tail();
            self.gathered.push(chunk);
        }
        if self.tail.len() >= self.spool.short_bytes {
            self.end_tail();
        }
        let entries = self.gathered_bytes - self.tail.len() as u64;
        if entries < self.spool.part_bytes {
            return Ok(());
        }
        self.flush().await
    }

    /// Writes what is gathered as a part, however short: after a lost connection the upload then goes on here.
    ///
    /// # Errors
    /// Those of [`Writer::append`].
    pub async fn flush(&mut self) -> Result<(), SpoolError> {
        self.end_tail();
        if self.gathered.is_empty() {
            return Ok(());
        }
        let path = key::part(&self.key, self.written)?;
        let payload = PutPayload::from_iter(self.gathered.iter().cloned());
        self.spool.put(&path, payload).await.map_err(|error| match error {
            object_store::Error::AlreadyExists { .. } => {
                let what = "there already: another upload writes under the same key";
                SpoolError::Part { key: self.key.clone(), offset: self.written, what }
            }
            error => failed(error),
        })?;
        self.parts.push((self.written, self.gathered_bytes));
        self.written += self.gathered_bytes;
        self.gathered.clear();
        self.gathered_bytes = 0;
        Ok(())
    }

    /// Ends the payload. On a durable spool a payload of at most `inline_limit` bytes of which nothing was written yet
    /// becomes [`Body::Inline`]; everything else is durable (as far as the spool is) when this returns.
    ///
    /// # Errors
    /// Those of [`Writer::append`].
    pub async fn finish(mut self, inline_limit: u64) -> Result<Body, SpoolError> {
        self.end_tail();
        if self.spool.is_durable() && self.parts.is_empty() && self.gathered_bytes <= inline_limit {
            return Ok(Body::Inline(joined(self.gathered)));
        }
        self.flush().await?;
        Ok(Body::Parts { key: self.key, parts: self.parts })
    }
}

impl Writer {
    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.gathered.push(self.tail.split().freeze());
        }
    }
}

impl Spool {
    fn objects(&self) -> &dyn ObjectStore {
        match &self.store {
            Store::Memory(store) => &**store,
            Store::Local(local) => local.objects(),
        }
    }

    async fn put(&self, path: &Path, payload: PutPayload) -> object_store::Result<()> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.objects().put_opts(path, payload, options).await.map(|_| ())
    }

    pub(super) async fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>, SpoolError> {
        self.objects().list(Some(prefix)).try_collect().await.map_err(failed)
    }

    pub(super) async fn delete_object(&self, path: &Path) -> Result<(), SpoolError> {
        match self.objects().delete(path).await {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

/// One chunk stays as it is; several, small by the caller's limit, are copied together.
fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1 {
        return chunks.remove(0);
    }
    let mut bytes = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
    bytes.freeze()
}

pub(super) fn failed(error: object_store::Error) -> SpoolError {
    if is_full(&error) {
        return SpoolError::Full { detail: error.to_string() };
    }
    SpoolError::Backend(error.to_string())
}
