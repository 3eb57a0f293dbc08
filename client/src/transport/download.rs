//! The model's bytes, from one connection or several.

use super::{ANSWER_TIME, Failure, Transport, direct::Receiving};
use crate::{
    Error,
    retry::{Backoff, Hitch},
};
use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use testudo_proto::{
    stream::{Carrier, Piece},
    v1,
};
use testudo_protocol::{Digest, Model, ModelError, ModelReader, TaskName};
use tokio::time::timeout;

/// One model file on its way.
struct Download {
    reader: ModelReader,
    /// Why it is no model, if it is not: told once the bytes are known to be the announced ones.
    broken: Option<ModelError>,
    position: u64,
    hash: Sha256,
    length: u64,
}

/// The model whose file has a digest and a length (which the caller has held against its limits); its parameters go
/// to `memory`. A lost connection is resumed where it broke.
///
/// # Errors
/// [`Error::Model`] for a file that is no model; [`Error::ServerMisbehaved`] for other bytes than announced;
/// [`Error::Rejected`]; what [`Backoff::pause`] gives up with.
pub(crate) async fn download(
    transport: &Transport,
    task: &TaskName,
    digest: Digest,
    length: u64,
    memory: Vec<f32>,
    backoff: &mut Backoff,
) -> Result<Model, Error> {
    let reader = ModelReader::new(length, memory)?;
    let mut download = Download { reader, broken: None, position: 0, hash: Sha256::new(), length };
    while download.position < length {
        let before = download.position;
        let result = download.stream(transport, task, digest).await;
        if download.position > before {
            backoff.succeeded();
        }
        match result {
            Ok(()) if download.position == length => {}
            Ok(()) => backoff.pause(Hitch::new("the model's stream ended early")).await?,
            Err(Failure::Hitch(hitch)) => backoff.pause(hitch).await?,
            Err(Failure::Final(error)) => return Err(error),
        }
    }
    let found = Digest(download.hash.finalize().into());
    if found != digest {
        return Err(Error::ServerMisbehaved(format!("it announced the model {digest:?} and sent {found:?}")));
    }
    match download.broken {
        Some(error) => Err(error.into()),
        None => Ok(download.reader.finish()?),
    }
}

impl Download {
    /// Reads one stream from where the last one broke.
    async fn stream(&mut self, transport: &Transport, task: &TaskName, digest: Digest) -> Result<(), Failure> {
        let request = v1::DownloadModelRequest {
            task: task.to_string(),
            model_digest: Bytes::copy_from_slice(digest.as_bytes()),
            offset: self.position,
        };
        let receiving = Receiving::new(transport.channel.clone());
        let mut stub = transport.stub_over(receiving.clone());
        let mut refused = transport.unary(ANSWER_TIME, stub.download_model(request)).await?;
        let Some(mut stream) = receiving.body(Carrier::Model) else {
            // What is left to the codec has no model in it.
            let ended = timeout(ANSWER_TIME, refused.message()).await;
            return match ended {
                Ok(Err(status)) => Err(transport.failure(&status)),
                _ => Err(Failure::Hitch(Hitch::new("an answer without a model"))),
            };
        };
        loop {
            let chunk = match timeout(ANSWER_TIME, stream.next()).await {
                Ok(Ok(Some(Piece::Chunk(chunk)))) => chunk,
                Ok(Ok(Some(Piece::Message(message)))) => chunk_of(message).map_err(Failure::Final)?,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(status)) => return Err(transport.failure(&status)),
                Err(_) => return Err(Failure::Hitch(Hitch::new("the model's stream stands still"))),
            };
            if chunk.is_empty() {
                return Err(Failure::Final(Error::ServerMisbehaved("it sent an empty chunk of the model".into())));
            }
            if self.position + chunk.len() as u64 > self.length {
                return Err(Failure::Final(Error::ServerMisbehaved(format!(
                    "it announced a model of {} bytes and sends more",
                    self.length
                ))));
            }
            transport.count_down(chunk.len() as u64);
            self.hash.update(&chunk);
            self.position += chunk.len() as u64;
            if self.broken.is_none() {
                self.broken = self.reader.feed(&chunk).err();
            }
        }
    }
}

/// A chunk in a message of another form than usual.
fn chunk_of(message: Bytes) -> Result<Bytes, Error> {
    let chunk = v1::Chunk::decode(message);
    chunk.map(|chunk| chunk.data).map_err(|error| Error::ServerMisbehaved(format!("it sent no chunk: {error}")))
}
