//! Calls to the server, and which of their failures another try may mend.

mod direct;
pub(crate) mod download;
pub(crate) mod upload;

use crate::{
    Error,
    error::cut,
    retry::{Backoff, Hitch, Retry},
};
use bytes::Bytes;
use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use testudo_proto::{Place, Receipt, framing, from_status, retry_delay, v1};
use testudo_protocol::{Digest, Reason, Reject};
use tokio::time::{Instant, timeout};
use tonic::{Code, Response, Status, body::Body, client::GrpcService, codegen::StdError, transport::Channel};
use v1::federation_client::FederationClient;

/// Longest wait for the answer of a short call, and for the next piece of a stream.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Why a call gave no result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another try may help.
    Hitch(Hitch),
    /// None will.
    Final(Error),
}

/// What the server holds of an upload.
#[derive(Debug)]
pub(crate) enum Held {
    /// This many bytes.
    Bytes(u64),
    /// Everything, recorded.
    Receipt(Receipt),
}

/// One connection; clones share it.
#[derive(Clone)]
pub(crate) struct Transport {
    channel: Channel,
    url: String,
    traffic: Arc<Counters>,
}

/// Payload bytes, counted as long as the client lives.
#[derive(Debug, Default)]
struct Counters {
    up: AtomicU64,
    down: AtomicU64,
}

impl Transport {
    /// Calls over a channel; the address is for messages.
    pub(crate) fn new(channel: Channel, url: String) -> Self {
        Self { channel, url, traffic: Arc::default() }
    }

    /// Where the calls go.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Counts bytes that are sent.
    pub(crate) fn count_up(&self, bytes: u64) {
        self.traffic.up.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that came.
    pub(crate) fn count_down(&self, bytes: u64) {
        self.traffic.down.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes sent and received so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.traffic.up.load(Ordering::Relaxed), self.traffic.down.load(Ordering::Relaxed))
    }

    /// One step of a masked round, held open at the server until the step ends.
    pub(crate) async fn exchange(
        &self,
        request: v1::ExchangeRequest,
        held: Duration,
    ) -> Result<v1::ExchangeResponse, Failure> {
        self.count_up(request.message.len() as u64);
        let response = self.unary(held + ANSWER_TIME, self.stub().exchange(request)).await?;
        self.count_down(response.reply.len() as u64);
        Ok(response)
    }

    /// Offers the client for the next round.
    pub(crate) async fn check_in(&self, request: v1::CheckInRequest) -> Result<v1::CheckInResponse, Failure> {
        let held = Duration::from_millis(u64::from(request.wait_ms));
        self.unary(held + ANSWER_TIME, self.stub().check_in(request)).await
    }

    /// What the server holds of an upload.
    pub(crate) async fn upload_status(&self, place: &Place, digest: Digest) -> Result<Held, Failure> {
        let request =
            v1::UploadStatusRequest { place: Some(place.to_wire()), digest: Bytes::copy_from_slice(digest.as_bytes()) };
        let response = self.unary(ANSWER_TIME, self.stub().upload_status(request)).await?;
        match response.receipt {
            Some(receipt) => read_receipt(receipt, place, digest).map(Held::Receipt).map_err(Failure::Final),
            None => Ok(Held::Bytes(response.offset)),
        }
    }

    /// Leaves a round, with one call.
    pub(crate) async fn withdraw_once(&self, place: &Place) -> Result<(), Failure> {
        let request = v1::WithdrawRequest { place: Some(place.to_wire()) };
        self.unary(ANSWER_TIME, self.stub().withdraw(request)).await.map(|_| ())
    }

    /// Leaves a round, with as many calls as it takes before the deadline.
    pub(crate) async fn withdraw(&self, place: &Place, retry: &Retry, deadline: Instant) -> Result<(), Error> {
        let mut backoff = Backoff::new(retry, Some(deadline));
        loop {
            match self.withdraw_once(place).await {
                Ok(()) => return Ok(()),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Hitch(hitch)) => backoff.pause(hitch).await?,
            }
        }
    }

    fn stub(&self) -> FederationClient<Channel> {
        self.stub_over(self.channel.clone())
    }

    /// Calls over something that changes bodies on their way to the channel or back.
    fn stub_over<S: GrpcService<Body, ResponseBody = Body, Error: Into<StdError>>>(
        &self,
        service: S,
    ) -> FederationClient<S> {
        FederationClient::new(service).max_decoding_message_size(framing::MESSAGE_BYTES.max(framing::REPLY_BYTES))
    }

    async fn unary<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failure(&status)),
            Err(_) => Err(Failure::Hitch(Hitch::new(format!("no answer within {} s", limit.as_secs())))),
        }
    }

    /// Sorts a status into what another try may mend and what not.
    fn failure(&self, status: &Status) -> Failure {
        if let Some(reject) = from_status(status) {
            return match reject.retry_after.or((reject.reason == Reason::Overloaded).then_some(Duration::ZERO)) {
                Some(wait) => Failure::Hitch(Hitch { detail: reject.to_string(), wait, reject: Some(reject) }),
                None => Failure::Final(Error::Rejected(reject)),
            };
        }
        match status.code() {
            // What faults, restarts, lost connections and proxies in between look like.
            Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::Cancelled
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::ResourceExhausted => Failure::Hitch(Hitch {
                detail: describe(status),
                wait: retry_delay(status).unwrap_or_default(),
                reject: None,
            }),
            Code::Unimplemented => Failure::Final(Error::Connect {
                url: self.url.clone(),
                detail: "what answers there does not speak testudo.v1".into(),
            }),
            Code::Unauthenticated => Failure::Final(Error::Identity(format!(
                "the server does not know this client: {}; give a certificate with Identity::from_pem_files",
                cut(status.message())
            ))),
            _ => Failure::Final(Error::ServerMisbehaved(format!("it answered without a reason: {}", describe(status)))),
        }
    }
}

/// Reads a receipt and holds it against what was sent.
fn read_receipt(receipt: v1::UploadReceipt, place: &Place, digest: Digest) -> Result<Receipt, Error> {
    let receipt = Receipt::from_wire(receipt).map_err(|reject| unreadable("a receipt", &reject))?;
    if receipt.task != place.task || receipt.round != place.round || receipt.digest != digest {
        return Err(Error::ServerMisbehaved(format!(
            "its receipt is for task {} round {} digest {:?}, but task {} round {} digest {digest:?} was sent",
            receipt.task, receipt.round, receipt.digest, place.task, place.round
        )));
    }
    Ok(receipt)
}

/// A message that no honest server of this version writes.
pub(crate) fn unreadable(what: &str, reject: &Reject) -> Error {
    Error::ServerMisbehaved(format!("it sent {what} that cannot be read: {}", cut(&reject.detail)))
}

/// A status with its causes: tonic keeps "connection refused" in the source alone.
fn describe(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    text.push_str(&causes(status.source()));
    cut(&text)
}

/// A chain of causes as text, each after ": ".
pub(crate) fn causes(mut cause: Option<&(dyn std::error::Error + 'static)>) -> String {
    let mut text = String::new();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}
