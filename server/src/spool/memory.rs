//! The memory arm: parts as reference-counted bytes.

use super::{SpoolError, key, writer};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::{ObjectStore as _, ObjectStoreExt as _, memory::InMemory, path::Path};
use std::ops::Range;

/// A range of a part, sharing its memory.
pub(super) fn get(store: &InMemory, name: &str, offset: u64, range: Range<u64>) -> Result<Bytes, SpoolError> {
    let part = |what| SpoolError::Part { key: name.to_owned(), offset, what };
    let path = key::part(name, offset)?;
    let length = range.end - range.start;
    let found = store.get_range(&path, range).now_or_never().expect("memory never waits");
    match found {
        Ok(bytes) if bytes.len() as u64 == length => Ok(bytes),
        Ok(_) | Err(object_store::Error::Generic { .. }) => Err(part("shorter than recorded")),
        Err(object_store::Error::NotFound { .. }) => Err(part("missing")),
        Err(error) => Err(writer::failed(error)),
    }
}

pub(super) async fn delete(store: &InMemory, prefix: &Path) -> Result<(), SpoolError> {
    sweep_where(store, Some(prefix), |_| true).await
}

pub(super) async fn sweep(store: &InMemory, live: &[Path]) -> Result<(), SpoolError> {
    sweep_where(store, None, |path| !live.iter().any(|prefix| path.prefix_matches(prefix))).await
}

async fn sweep_where(store: &InMemory, prefix: Option<&Path>, dead: impl Fn(&Path) -> bool) -> Result<(), SpoolError> {
    let found: Vec<_> = store.list(prefix).try_collect().await.map_err(writer::failed)?;
    let dead: Vec<_> = found.into_iter().map(|object| object.location).filter(|path| dead(path)).map(Ok).collect();
    let deleted = store.delete_stream(futures::stream::iter(dead).boxed());
    deleted.try_for_each(|_| async { Ok(()) }).await.map_err(writer::failed)
}
