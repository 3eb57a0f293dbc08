//! `testudo.v1.Federation`: check-in, transfers, withdrawal.

use super::{download, status, upload};
use crate::{
    access::{Peer, check_client},
    registry::Registry,
    task::Services,
};
use std::time::Duration;
use testudo_proto::{
    Answer, Place, round_verdict_to_wire,
    v1::{
        CheckInRequest, CheckInResponse, DownloadModelRequest, ExchangeRequest, ExchangeResponse, UploadReceipt,
        UploadRequest, UploadStatusRequest, UploadStatusResponse, WithdrawRequest, WithdrawResponse,
        federation_server::Federation,
    },
};
use testudo_protocol::{ClientId, Reason, Reject, TaskName, limits, secagg::Message};
use tonic::{Request, Response, Status, Streaming};

/// How long an exchange waits at least.
const LEAST_WAIT: Duration = Duration::from_millis(200);
/// Verdicts on earlier updates in one answer.
const VERDICTS: usize = 16;

/// What clients call.
#[derive(Debug, Clone)]
pub(crate) struct FederationService {
    pub(crate) registry: Registry,
}

#[tonic::async_trait]
impl Federation for FederationService {
    async fn check_in(&self, request: Request<CheckInRequest>) -> Result<Response<CheckInResponse>, Status> {
        let Services { check_ins, store, metrics, .. } = &self.registry.services;
        let limited = |reject| {
            metrics.rate_limited.inc();
            status::rejected(reject)
        };
        // Every connection has a peer; a call without one is refused below.
        let connection = request.extensions().get::<Peer>().map(|peer| peer.check_ins.clone()).unwrap_or_default();
        check_ins.over(&connection).map_err(limited)?;
        let message = request.get_ref();
        let task = task_name(&message.task).map_err(status::rejected)?;
        let client = client_id(&message.client).map_err(status::rejected)?;
        check_client(&request, &client).map_err(status::rejected)?;
        let handle = self.registry.get(&task).map_err(status::rejected)?;
        let wait = Duration::from_millis(u64::from(message.wait_ms).min(limits::CHECK_IN_WAIT_MS));
        let party = (task.clone(), client.clone());
        check_ins.of(&party).map_err(limited)?;
        let answer = handle.check_in(client.clone(), wait).await.map_err(status::rejected)?;
        if let Answer::Assignment(assignment) = &answer {
            check_ins.seated(&connection, &party, assignment.nonce);
        }
        let verdicts =
            store.verdicts_after(&task, &client, message.verdicts_after, VERDICTS).await.map_err(status::store)?;
        let verdicts = verdicts.iter().map(|(round, verdict)| round_verdict_to_wire(*round, verdict)).collect();
        Ok(Response::new(answer.to_wire(verdicts)))
    }

    type DownloadModelStream = download::ChunkStream;

    async fn download_model(
        &self,
        request: Request<DownloadModelRequest>,
    ) -> Result<Response<Self::DownloadModelStream>, Status> {
        download::model(&self.registry, request.into_inner()).await
    }

    async fn upload_status(
        &self,
        request: Request<UploadStatusRequest>,
    ) -> Result<Response<UploadStatusResponse>, Status> {
        let place = Place::from_wire(request.get_ref().place.clone()).map_err(status::rejected)?;
        check_client(&request, &place.client).map_err(status::rejected)?;
        upload::progress(&self.registry, place, &request.get_ref().digest).await.map(Response::new)
    }

    async fn upload(&self, request: Request<Streaming<UploadRequest>>) -> Result<Response<UploadReceipt>, Status> {
        upload::receive(&self.registry, request).await.map(Response::new)
    }

    async fn exchange(&self, request: Request<ExchangeRequest>) -> Result<Response<ExchangeResponse>, Status> {
        let message = request.get_ref();
        let place = Place::from_wire(message.place.clone()).map_err(status::rejected)?;
        check_client(&request, &place.client).map_err(status::rejected)?;
        let wait = Duration::from_millis(u64::from(message.wait_ms).min(limits::CHECK_IN_WAIT_MS));
        let step = Message::from_bytes(&message.message).map_err(|error| {
            status::rejected(Reject::new(Reason::Malformed, format!("a message of a masked round: {error}")))
        })?;
        let handle = self.registry.get(&place.task).map_err(status::rejected)?;
        let answer = handle.exchange(place, step).await.map_err(status::rejected)?;
        // A refusal comes at once, even to who does not wait for the step's end.
        let reply = match tokio::time::timeout(wait.max(LEAST_WAIT), answer).await {
            Ok(Ok(reply)) => reply.map_err(status::rejected)?.to_bytes(),
            // The driver is being loaded again, or a newer call took the place of this one.
            Ok(Err(_)) => {
                return Err(status::rejected(Reject::retry(Reason::TakenOver, "ask again", LEAST_WAIT)));
            }
            // The message is taken; its answer depends on the others.
            Err(_) => Vec::new(),
        };
        Ok(Response::new(ExchangeResponse { reply: reply.into() }))
    }

    async fn withdraw(&self, request: Request<WithdrawRequest>) -> Result<Response<WithdrawResponse>, Status> {
        let place = Place::from_wire(request.get_ref().place.clone()).map_err(status::rejected)?;
        check_client(&request, &place.client).map_err(status::rejected)?;
        let handle = self.registry.get(&place.task).map_err(status::rejected)?;
        handle.withdraw(place).await.map_err(status::rejected)?;
        Ok(Response::new(WithdrawResponse {}))
    }
}

pub(super) fn task_name(text: &str) -> Result<TaskName, Reject> {
    TaskName::new(text).map_err(|error| Reject::new(Reason::Malformed, error.to_string()))
}

fn client_id(text: &str) -> Result<ClientId, Reject> {
    ClientId::new(text).map_err(|error| Reject::new(Reason::Malformed, error.to_string()))
}
