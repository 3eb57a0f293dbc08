//! A client for models that many clients cannot hold at once: it reads the model from the wire and forgets it.

use super::fleet::{Log, TENSOR};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use testudo_client::Channel;
use testudo_proto::{
    Answer, Assignment, Place, UploadHeader, UploadPart, framing, layout_to_wire,
    v1::{self, federation_client::FederationClient},
};
use testudo_protocol::{ClientId, Digest, TaskName, limits};
use tokio::sync::Semaphore;

/// Clients that transfer at the same time: each holds about two chunks.
const TRANSFERS: usize = 32;

/// Lets few clients transfer at the same time.
pub(super) fn gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(TRANSFERS))
}

/// One client on a connection that others may share.
#[derive(Debug)]
pub(super) struct LeanClient {
    pub(super) name: ClientId,
    pub(super) task: TaskName,
    pub(super) channel: Channel,
    pub(super) payload: Bytes,
    pub(super) digest: Digest,
    pub(super) gate: Arc<Semaphore>,
}

impl LeanClient {
    /// Takes part until the task ends or a call fails.
    pub(super) async fn take_part(self, log: &Log) {
        loop {
            let assignment = match self.check_in().await {
                Ok(Some(assignment)) => assignment,
                Ok(None) => return,
                Err(error) => return log.failed(&format!("{}: {error}", self.name)),
            };
            let round = assignment.round;
            let Ok(_permit) = self.gate.acquire().await else { return };
            log.given(round);
            let bytes = assignment.model_bytes;
            let sent = match self.download(&assignment).await {
                Ok(()) => self.upload(assignment).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(()) => {
                    log.moved(self.payload.len() as u64, bytes);
                    log.sent(round);
                }
                Err(error) => return log.failed(&format!("{}, round {round}: {error}", self.name)),
            }
        }
    }

    fn stub(&self) -> FederationClient<Channel> {
        FederationClient::new(self.channel.clone()).max_decoding_message_size(framing::MESSAGE_BYTES)
    }

    async fn check_in(&self) -> Result<Option<Assignment>, String> {
        loop {
            let request = v1::CheckInRequest {
                task: self.task.to_string(),
                client: self.name.to_string(),
                wait_ms: limits::CHECK_IN_WAIT_MS as u32,
                // This client does not look at verdicts.
                verdicts_after: u64::MAX,
            };
            let response = self.stub().check_in(request).await.map_err(|status| status.to_string())?.into_inner();
            match Answer::from_wire(response.answer).map_err(|reject| reject.to_string())? {
                Answer::Ended { .. } => return Ok(None),
                Answer::NotNow { retry_after, .. } => {
                    tokio::time::sleep(retry_after.max(Duration::from_millis(20))).await;
                }
                Answer::Assignment(assignment) => return Ok(Some(*assignment)),
            }
        }
    }

    async fn download(&self, assignment: &Assignment) -> Result<(), String> {
        let request = v1::DownloadModelRequest {
            task: self.task.to_string(),
            model_digest: Bytes::copy_from_slice(assignment.model_digest.as_bytes()),
            offset: 0,
        };
        let refused = |status: tonic::Status| status.to_string();
        let mut stream = self.stub().download_model(request).await.map_err(refused)?.into_inner();
        let mut bytes = 0;
        while let Some(chunk) = stream.message().await.map_err(refused)? {
            bytes += chunk.data.len() as u64;
        }
        match bytes == assignment.model_bytes {
            true => Ok(()),
            false => Err(format!("a model of {bytes} bytes instead of {}", assignment.model_bytes)),
        }
    }

    async fn upload(&self, assignment: Assignment) -> Result<(), String> {
        if assignment.layout.bytes() != self.payload.len() as u64 {
            return Err(format!("the task's model is not one tensor {TENSOR:?} of this dimension"));
        }
        let place = Place {
            task: assignment.task,
            round: assignment.round,
            client: self.name.clone(),
            nonce: assignment.nonce,
        };
        let header = UploadHeader {
            encoding: testudo_protocol::Encoding::F32,
            place,
            model_digest: assignment.model_digest,
            digest: self.digest,
            total_bytes: self.payload.len() as u64,
            offset: 0,
            num_examples: 1,
            tensors: layout_to_wire(&assignment.layout),
        };
        let parts = std::iter::once(UploadPart::Header(Box::new(header)))
            .chain(framing::chunks(self.payload.clone(), assignment.chunk_bytes).map(UploadPart::Chunk))
            .map(UploadPart::to_wire);
        let sent = self.stub().upload(tokio_stream::iter(parts)).await;
        sent.map(|_| ()).map_err(|status| status.to_string())
    }
}
