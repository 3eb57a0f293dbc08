//! A server that answers from a script and keeps what it is sent.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use testudo_client::{Client, ClientBuilder, Identity, Model, Reason, Reject, Retry, TaskName, Tensor, Verdict};
use testudo_proto::{
    Answer, Assignment, EndedWhy, Masking, NotNowWhy, UploadHeader, UploadPart, round_verdict_to_wire, to_status, v1,
};
use testudo_protocol::Nonce;
use tokio::net::TcpListener;
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use v1::federation_server::{Federation, FederationServer};

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// Answers to check-ins in order; afterwards the task has ended.
    pub(crate) answers: VecDeque<Result<v1::CheckInResponse, Status>>,
    /// Bytes sent as the model.
    pub(crate) file: Vec<u8>,
    /// What uploads are refused with, in order, before any is taken.
    pub(crate) refusals: VecDeque<Status>,
    /// Changed in every receipt.
    pub(crate) spoil_receipt: bool,
    pub(crate) check_ins: Vec<(Instant, v1::CheckInRequest)>,
    pub(crate) download_offsets: Vec<u64>,
    pub(crate) upload_offsets: Vec<u64>,
    pub(crate) status_calls: usize,
    pub(crate) withdrawn: Vec<u64>,
    pub(crate) header: Option<UploadHeader>,
    pub(crate) held: Vec<u8>,
    pub(crate) receipt: Option<v1::UploadReceipt>,
    /// Which stream may still add to `held`.
    stream: u64,
}

impl Fake {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn with_model(model: &Model) -> Self {
        let fake = Self::default();
        fake.state().file = model.to_safetensors();
        fake
    }

    pub(crate) fn then(self, answer: Answer) -> Self {
        self.then_with(answer, &[])
    }

    pub(crate) fn then_with(self, answer: Answer, verdicts: &[(u64, Verdict)]) -> Self {
        let verdicts = verdicts.iter().map(|(round, verdict)| round_verdict_to_wire(*round, verdict)).collect();
        self.state().answers.push_back(Ok(answer.to_wire(verdicts)));
        self
    }

    pub(crate) fn then_fail(self, status: Status) -> Self {
        self.state().answers.push_back(Err(status));
        self
    }

    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.serve_on(listener);
        address
    }

    pub(crate) fn serve_on(&self, listener: TcpListener) {
        let service = FederationServer::new(self.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    }

    /// Waits until something has become true of the state; a minute without it is a failure rather than a hang.
    pub(crate) async fn until(&self, what: impl Fn(&State) -> bool) {
        for _ in 0..12_000 {
            if what(&self.state()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the server was never told");
    }

    fn begin(&self, header: UploadHeader) -> Result<u64, Status> {
        let mut state = self.state();
        state.upload_offsets.push(header.offset);
        if let Some(refusal) = state.refusals.pop_front() {
            return Err(refusal);
        }
        if state.held.len() as u64 != header.offset {
            return Err(to_status(&Reject::new(Reason::WrongOffset, format!("holds {}", state.held.len()))));
        }
        state.header = Some(header);
        state.stream += 1;
        Ok(state.stream)
    }

    fn finish(&self) -> Result<v1::UploadReceipt, Status> {
        let mut state = self.state();
        let header = state.header.clone().unwrap();
        if state.held.len() as u64 != header.total_bytes {
            return Err(to_status(&Reject::new(Reason::Truncated, format!("holds {}", state.held.len()))));
        }
        let round = header.place.round + u64::from(state.spoil_receipt);
        let receipt = v1::UploadReceipt {
            task: header.place.task.to_string(),
            round,
            digest: header.digest.as_bytes().to_vec().into(),
            num_examples: header.num_examples.unsigned_abs(),
            received_at_ms: 77,
        };
        state.receipt = Some(receipt.clone());
        Ok(receipt)
    }
}

#[tonic::async_trait]
impl Federation for Fake {
    async fn check_in(&self, request: Request<v1::CheckInRequest>) -> Result<Response<v1::CheckInResponse>, Status> {
        let mut state = self.state();
        state.check_ins.push((Instant::now(), request.into_inner()));
        let ended = Answer::Ended { why: EndedWhy::Finished }.to_wire(Vec::new());
        state.answers.pop_front().unwrap_or(Ok(ended)).map(Response::new)
    }

    type DownloadModelStream = std::pin::Pin<Box<dyn Stream<Item = Result<v1::Chunk, Status>> + Send>>;

    async fn download_model(
        &self,
        request: Request<v1::DownloadModelRequest>,
    ) -> Result<Response<Self::DownloadModelStream>, Status> {
        let offset = request.into_inner().offset;
        let mut state = self.state();
        state.download_offsets.push(offset);
        let rest = state.file[offset as usize..].to_vec();
        let chunks: Vec<_> = rest.chunks(16 << 10).map(|data| Ok(v1::Chunk { data: data.to_vec().into() })).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }

    async fn upload_status(
        &self,
        request: Request<v1::UploadStatusRequest>,
    ) -> Result<Response<v1::UploadStatusResponse>, Status> {
        let digest = request.into_inner().digest;
        let mut state = self.state();
        state.status_calls += 1;
        let known = state.header.as_ref().is_some_and(|header| header.digest.as_bytes()[..] == digest[..]);
        let offset = if known { state.held.len() as u64 } else { 0 };
        let receipt = state.receipt.clone().filter(|receipt| receipt.digest == digest);
        Ok(Response::new(v1::UploadStatusResponse { offset, receipt }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadReceipt>, Status> {
        let mut stream = request.into_inner();
        let first = stream.message().await?.ok_or_else(|| Status::invalid_argument("empty"))?;
        let Ok(UploadPart::Header(header)) = UploadPart::from_wire(first) else {
            return Err(Status::invalid_argument("no header"));
        };
        let mine = self.begin(*header)?;
        while let Some(message) = stream.message().await? {
            let Ok(UploadPart::Chunk(chunk)) = UploadPart::from_wire(message) else {
                return Err(Status::invalid_argument("no chunk"));
            };
            let mut state = self.state();
            if state.stream != mine {
                return Err(Status::aborted("another stream took over"));
            }
            state.held.extend_from_slice(&chunk);
        }
        self.finish().map(Response::new)
    }

    async fn exchange(&self, _: Request<v1::ExchangeRequest>) -> Result<Response<v1::ExchangeResponse>, Status> {
        Err(Status::unimplemented("this server knows no masks"))
    }

    async fn withdraw(&self, request: Request<v1::WithdrawRequest>) -> Result<Response<v1::WithdrawResponse>, Status> {
        self.state().withdrawn.push(request.into_inner().place.unwrap().round);
        Ok(Response::new(v1::WithdrawResponse {}))
    }
}

/// A model of two tensors with this many coordinates.
pub(crate) fn model(coordinates: u64) -> Model {
    let tensors = vec![
        Tensor { name: "weight".into(), shape: vec![coordinates - 1] },
        Tensor { name: "bias".into(), shape: vec![1] },
    ];
    Model::new(tensors, (0..coordinates).map(|i| i as f32 * 0.5).collect()).unwrap()
}

pub(crate) fn assigned(round: u64, model: &Model) -> Assignment {
    Assignment {
        task: TaskName::new("task").unwrap(),
        round,
        nonce: Nonce([round as u8; 16]),
        model_digest: model.digest(),
        model_bytes: model.to_safetensors().len() as u64,
        layout: model.layout().clone(),
        time_left: Duration::from_secs(60),
        chunk_bytes: 16 << 10,
        max_examples: 1000,
        rule: "mean".into(),
        masking: Masking::None,
        group_size: 1,
        encodings: Vec::new(),
        announcement: bytes::Bytes::new(),
        own_noise: None,
    }
}

pub(crate) fn assignment(round: u64, model: &Model) -> Answer {
    Answer::Assignment(Box::new(assigned(round, model)))
}

pub(crate) fn not_now(milliseconds: u64) -> Answer {
    Answer::not_now(Duration::from_millis(milliseconds), NotNowWhy::Filling)
}

pub(crate) fn builder(address: SocketAddr) -> ClientBuilder {
    Client::builder(format!("http://{address}"))
        .identity(Identity::named("device-7").unwrap())
        .retry(Retry::default().first(Duration::from_millis(5)).longest(Duration::from_millis(20)))
}

pub(crate) async fn client(address: SocketAddr) -> Client {
    builder(address).connect().await.unwrap()
}
