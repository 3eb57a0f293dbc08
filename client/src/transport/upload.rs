//! An update's bytes, over one connection or several.

use super::{ANSWER_TIME, Failure, Held, Transport, direct::Sending, read_receipt};
use crate::{
    Error,
    retry::{Backoff, Hitch, Retry},
};
use bytes::Bytes;
use testudo_proto::{
    Receipt, UploadHeader, UploadPart, framing,
    stream::{self, Carrier},
};
use testudo_protocol::Reason;
use tokio::time::{Instant, timeout_at};

/// One update on its way.
pub(crate) struct Upload {
    /// Its header; the offset is set anew for every stream.
    pub(crate) header: UploadHeader,
    /// All its bytes.
    pub(crate) payload: Bytes,
    /// Payload bytes per message.
    pub(crate) chunk_bytes: usize,
    /// When the round stops taking updates.
    pub(crate) deadline: Instant,
}

impl Upload {
    /// Sends until the server has recorded everything. A lost connection is resumed where the server says it broke;
    /// what is already recorded is not sent again.
    ///
    /// # Errors
    /// [`Error::Rejected`]; [`Error::ServerMisbehaved`] for a receipt of something else;
    /// [`Error::GaveUp`] when the round's time is over.
    pub(crate) async fn send(&self, transport: &Transport, retry: &Retry) -> Result<Receipt, Error> {
        let mut backoff = Backoff::new(retry, Some(retry.extended(self.deadline)));
        let mut offset = 0;
        loop {
            match self.stream(transport, retry, offset).await {
                Ok(receipt) => return Ok(receipt),
                Err(Failure::Final(error)) if !can_resume(&error) => return Err(error),
                Err(Failure::Final(error)) => backoff.pause(resumable(error)).await?,
                Err(Failure::Hitch(hitch)) => backoff.pause(hitch).await?,
            }
            offset = loop {
                match transport.upload_status(&self.header.place, self.header.digest).await {
                    Ok(Held::Receipt(receipt)) => return Ok(receipt),
                    Ok(Held::Bytes(held)) => break held,
                    Err(Failure::Final(error)) => return Err(error),
                    Err(Failure::Hitch(hitch)) => backoff.pause(hitch).await?,
                }
            };
            let total = self.payload.len() as u64;
            if offset > total {
                return Err(Error::ServerMisbehaved(format!("it holds {offset} bytes of an update of {total}")));
            }
            tracing::info!(offset, total, "resuming the upload");
        }
    }

    /// One stream from an offset on.
    async fn stream(&self, transport: &Transport, retry: &Retry, offset: u64) -> Result<Receipt, Failure> {
        let header = UploadHeader { offset, ..self.header.clone() };
        let rest = self.payload.slice(offset as usize..);
        transport.count_up(rest.len() as u64);
        let pieces = std::iter::once(stream::message(&UploadPart::Header(Box::new(header)).to_wire()))
            .chain(framing::chunks(rest, self.chunk_bytes).flat_map(|chunk| Carrier::Update.pieces(chunk)));
        // The server decides what is late; this bound only ends a wait for a server that says nothing.
        let limit = retry.extended(self.deadline) + ANSWER_TIME;
        let mut stub = transport.stub_over(Sending::new(transport.channel.clone(), pieces));
        match timeout_at(limit, stub.upload(tokio_stream::empty())).await {
            Ok(Ok(response)) => {
                read_receipt(response.into_inner(), &self.header.place, self.header.digest).map_err(Failure::Final)
            }
            Ok(Err(status)) => Err(transport.failure(&status)),
            Err(_) => Err(Failure::Hitch(Hitch::new("no receipt before the round's end"))),
        }
    }
}

/// Refusals that are about one stream, not about the update.
fn can_resume(error: &Error) -> bool {
    matches!(error.reason(), Some(Reason::WrongOffset | Reason::TooSlow | Reason::TakenOver))
}

fn resumable(error: Error) -> Hitch {
    let detail = error.to_string();
    match error {
        Error::Rejected(reject) => Hitch { reject: Some(reject), ..Hitch::new(detail) },
        _ => Hitch::new(detail),
    }
}
