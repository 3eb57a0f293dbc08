//! Models on their way to clients and operators, in chunks from any offset.

use super::{federation::task_name, status};
use crate::{accept::answer_with, registry::Registry};
use bytes::Bytes;
use futures::Stream;
use std::pin::Pin;
use testudo_proto::{
    digest_from_wire, framing,
    stream::Carrier,
    v1::{Chunk, DownloadModelRequest},
};
use testudo_protocol::{Reason, Reject};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

/// Chunks of one file.
pub(super) type ChunkStream = Pin<Box<dyn Stream<Item = Result<Chunk, Status>> + Send>>;

/// The task's current model from an offset on, past the codec: the same bytes go to every client without a copy.
pub(super) async fn model(registry: &Registry, request: DownloadModelRequest) -> Result<Response<ChunkStream>, Status> {
    let task = task_name(&request.task).map_err(status::rejected)?;
    let digest = digest_from_wire(&request.model_digest, "model_digest").map_err(status::rejected)?;
    let handle = registry.get(&task).map_err(status::rejected)?;
    let model = handle.model().await.map_err(status::rejected)?;
    if model.digest != digest {
        let detail = format!("model {} is no longer the task's current one; check in again", digest.short());
        return Err(status::rejected(Reject::new(Reason::WrongModel, detail)));
    }
    if request.offset > model.file.len() as u64 {
        let detail = format!("offset {} in a model of {} bytes", request.offset, model.file.len());
        return Err(status::rejected(Reject::new(Reason::WrongOffset, detail)));
    }
    let rest = model.file.slice(request.offset as usize..);
    // Who loads the model of a secret sample was drawn into it.
    if handle.spec.cohort.sample.is_none() {
        registry.services.metrics.download_bytes.inc_by(rest.len() as u64);
    }
    let mut response = Response::new(Box::pin(tokio_stream::empty()) as ChunkStream);
    answer_with(response.extensions_mut(), pieces(rest, registry));
    Ok(response)
}

/// A file as the pieces of its messages. A reader that stands still does not keep an old model in memory.
fn pieces(file: Bytes, registry: &Registry) -> mpsc::Receiver<Bytes> {
    let limits = &registry.services.config.limits;
    let (chunk_bytes, idle) = (limits.chunk_bytes, limits.upload_idle());
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        for piece in framing::chunks(file, chunk_bytes).flat_map(|chunk| Carrier::Model.pieces(chunk)) {
            if sender.send_timeout(piece, idle).await.is_err() {
                // Dropped without a last word: the length tells the reader that the file is not whole.
                return;
            }
        }
    });
    receiver
}

/// A file in chunks. A reader that stands still does not keep an old model in memory.
pub(super) fn chunks(file: Bytes, registry: &Registry) -> ChunkStream {
    let limits = &registry.services.config.limits;
    let (chunk_bytes, idle) = (limits.chunk_bytes, limits.upload_idle());
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        for data in framing::chunks(file, chunk_bytes) {
            if sender.send_timeout(Ok(Chunk { data }), idle).await.is_err() {
                // Dropped without a last word: the length tells the reader that the file is not whole.
                return;
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}
