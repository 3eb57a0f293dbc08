//! The model's bytes, from one connection or several.

use super::{ANSWER_TIME, Failure, Transport};
use crate::{
    Error,
    retry::{Backoff, Hitch},
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use testudo_proto::v1;
use testudo_protocol::{Digest, TaskName};
use tokio::time::timeout;

/// Most bytes reserved on the announced length alone; the rest as it comes.
const RESERVE_BYTES: u64 = 16 << 20;

/// One model file on its way.
struct Download {
    bytes: Vec<u8>,
    hash: Sha256,
    length: u64,
}

/// The file with a digest and a length (which the caller has held against its limits). A lost connection is resumed
/// where it broke.
///
/// # Errors
/// [`Error::ServerMisbehaved`] for other bytes than announced; [`Error::Rejected`]; what [`Backoff::pause`] gives up
/// with.
pub(crate) async fn download(
    transport: &Transport,
    task: &TaskName,
    digest: Digest,
    length: u64,
    backoff: &mut Backoff,
) -> Result<Vec<u8>, Error> {
    let mut download =
        Download { bytes: Vec::with_capacity(length.min(RESERVE_BYTES) as usize), hash: Sha256::new(), length };
    while (download.bytes.len() as u64) < length {
        let before = download.bytes.len();
        let result = download.stream(transport, task, digest).await;
        if download.bytes.len() > before {
            backoff.succeeded();
        }
        match result {
            Ok(()) if download.bytes.len() as u64 == length => {}
            Ok(()) => backoff.pause(Hitch::new("the model's stream ended early")).await?,
            Err(Failure::Hitch(hitch)) => backoff.pause(hitch).await?,
            Err(Failure::Final(error)) => return Err(error),
        }
    }
    let found = Digest(download.hash.finalize().into());
    if found != digest {
        return Err(Error::ServerMisbehaved(format!("it announced the model {digest:?} and sent {found:?}")));
    }
    Ok(download.bytes)
}

impl Download {
    /// Reads one stream from where the last one broke.
    async fn stream(&mut self, transport: &Transport, task: &TaskName, digest: Digest) -> Result<(), Failure> {
        let request = v1::DownloadModelRequest {
            task: task.to_string(),
            model_digest: Bytes::copy_from_slice(digest.as_bytes()),
            offset: self.bytes.len() as u64,
        };
        let mut stub = transport.stub();
        let mut stream = transport.unary(ANSWER_TIME, stub.download_model(request)).await?;
        loop {
            let chunk = match timeout(ANSWER_TIME, stream.message()).await {
                Ok(Ok(Some(chunk))) => chunk.data,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(status)) => return Err(transport.failure(&status)),
                Err(_) => return Err(Failure::Hitch(Hitch::new("the model's stream stands still"))),
            };
            if chunk.is_empty() {
                return Err(Failure::Final(Error::ServerMisbehaved("it sent an empty chunk of the model".into())));
            }
            if self.bytes.len() as u64 + chunk.len() as u64 > self.length {
                return Err(Failure::Final(Error::ServerMisbehaved(format!(
                    "it announced a model of {} bytes and sends more",
                    self.length
                ))));
            }
            self.hash.update(&chunk);
            self.bytes.extend_from_slice(&chunk);
        }
    }
}
